/*
 * file - whole reads and writes on file descriptors, and one mapping of errno to our codes.
 *
 * EINTR and short transfers are handled here and nowhere else. Threads: all functions may be called from any
 * thread.
 */
#ifndef KB_COMMON_BASE_FILE_H
#define KB_COMMON_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* An int descriptor that closes at the end of its scope; -1 is none: KB_AUTO_FD int fd = open(...); */
#define KB_AUTO_FD __attribute__((cleanup(kb_fd_close_at)))
void kb_fd_close_at(int *fd);
/* close(2) whose error counts (a write may fail as late as that); *fd is -1 afterwards in any case. */
kb_code kb_fd_close(int *fd, const char *path, kb_error *err) KB_CHECK;

/*
 * Makes the error for a failed system call: "cannot <verb> '<path>': <errno text>", with a hint where the
 * user can act. Codes: ENOENT KB_ERR_NOT_FOUND; EEXIST KB_ERR_EXISTS; ENOSPC, EDQUOT KB_STORAGE_FULL; EROFS,
 * EACCES, EPERM KB_STORAGE_ACCESS_DENIED (the text has uid and gid); ESTALE, EINTR, EAGAIN
 * KB_TEMPORARY_FAILURE, retryable; EMFILE, ENFILE, ENOMEM KB_TEMPORARY_FAILURE; all else KB_STORAGE_IO_ERROR.
 * Returns the code.
 */
kb_code kb_file_fail(kb_error *err, int errno_value, const char *verb, const char *path);

/*
 * Reads a regular file (or what behaves like one) of at most max_bytes. *ret_data is owned and followed by a
 * NUL. Fails with KB_ERR_TOO_LARGE beyond the limit, else as kb_file_fail.
 */
kb_code kb_file_read(const char *path, size_t max_bytes, uint8_t **ret_data, size_t *ret_len,
                     kb_error *err) KB_CHECK;
/* Writes a file anew (O_CREAT | O_TRUNC, mode 0666 less umask), without fsync: not for backups. */
kb_code kb_file_write(const char *path, const void *data, size_t len, kb_error *err) KB_CHECK;

/* All len bytes or an error; `path` is for the text only. */
kb_code kb_write_all(int fd, const void *data, size_t len, const char *path, kb_error *err) KB_CHECK;
kb_code kb_pwrite_all(int fd, const void *data, size_t len, uint64_t offset, const char *path,
                      kb_error *err) KB_CHECK;
/* Exactly len bytes; KB_ERR_END when the file ends before. */
kb_code kb_pread_all(int fd, void *to, size_t len, uint64_t offset, const char *path, kb_error *err) KB_CHECK;
/* fsync(2) with EINTR handled. */
kb_code kb_fsync(int fd, const char *path, kb_error *err) KB_CHECK;
/* Makes names in a directory durable. */
kb_code kb_dir_fsync(const char *path, kb_error *err) KB_CHECK;

#endif

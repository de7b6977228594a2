#include "common/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"

void kb_fd_close_at(int *fd)
{
    if (*fd < 0)
        return;
    int errno_before = errno;
    (void)close(*fd);
    errno = errno_before;
    *fd = -1;
}

kb_code kb_fd_close(int *fd, const char *path, kb_error *err)
{
    int closing = *fd;
    *fd = -1;
    /* After EINTR Linux has closed the descriptor; a second close could hit somebody else's. */
    if (closing < 0 || close(closing) == 0 || errno == EINTR)
        return KB_OK;
    return kb_file_fail(err, errno, "close", path);
}

kb_code kb_file_fail(kb_error *err, int errno_value, const char *verb, const char *path)
{
    const char *why = kb_errno_text(errno_value);
    switch (errno_value) {
    case ENOENT:
        return kb_fail(err, KB_ERR_NOT_FOUND, "cannot %s '%s': %s", verb, path, why);
    case EEXIST:
        return kb_fail(err, KB_ERR_EXISTS, "cannot %s '%s': %s", verb, path, why);
    case ENOSPC:
    case EDQUOT:
        return kb_fail(err, KB_STORAGE_FULL, "cannot %s '%s': %s; hint: free space or raise the quota", verb,
                       path, why);
    case EROFS:
        return kb_fail(err, KB_STORAGE_ACCESS_DENIED, "cannot %s '%s': %s; hint: mount it writable", verb,
                       path, why);
    case EACCES:
    case EPERM:
        return kb_fail(err, KB_STORAGE_ACCESS_DENIED,
                       "cannot %s '%s': %s; hint: give uid %u, gid %u access to it (Kubernetes: fsGroup)",
                       verb, path, why, (unsigned)geteuid(), (unsigned)getegid());
    case ESTALE:
    case EINTR:
    case EAGAIN:
        return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "cannot %s '%s': %s", verb, path, why);
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return kb_fail(err, KB_TEMPORARY_FAILURE, "cannot %s '%s': %s", verb, path, why);
    default:
        return kb_fail(err, KB_STORAGE_IO_ERROR, "cannot %s '%s': %s", verb, path, why);
    }
}

/* Reads until the end or until `capacity` is full. */
static kb_code read_up_to(int fd, uint8_t *to, size_t capacity, const char *path, size_t *ret_len,
                          kb_error *err)
{
    size_t len = 0;
    while (len < capacity) {
        ssize_t got = read(fd, to + len, capacity - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return kb_file_fail(err, errno, "read", path);
        if (got == 0)
            break;
        len += (size_t)got;
    }
    *ret_len = len;
    return KB_OK;
}

/* Reads what is left of fd; the size told by fstat is only a first guess, for it is 0 in /proc and on pipes.
 */
static kb_code read_whole(int fd, size_t max_bytes, const char *path, uint8_t **ret_data, size_t *ret_len,
                          kb_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return kb_file_fail(err, errno, "stat", path);
    size_t capacity = 4096;
    if (S_ISREG(st.st_mode) && st.st_size >= (off_t)capacity)
        capacity = (uint64_t)st.st_size < max_bytes ? (size_t)st.st_size + 1 : max_bytes;
    KB_AUTOFREE uint8_t *data = NULL;
    size_t len = 0;
    for (;;) {
        if (capacity > max_bytes)
            capacity = max_bytes;
        /* One byte more shows that there is more than the limit; one more for the NUL. */
        uint8_t *moved = realloc(data, capacity + 2);
        if (moved == NULL)
            return kb_file_fail(err, ENOMEM, "read", path);
        data = moved;
        size_t got = 0;
        if (read_up_to(fd, data + len, capacity + 1 - len, path, &got, err) != KB_OK)
            return err->code;
        len += got;
        if (len <= capacity)
            break;
        if (capacity == max_bytes)
            return kb_fail(err, KB_ERR_TOO_LARGE, "'%s' is larger than %zu bytes", path, max_bytes);
        capacity *= 2;
    }
    data[len] = '\0';
    *ret_data = KB_TAKE(data);
    *ret_len = len;
    return KB_OK;
}

kb_code kb_file_read(const char *path, size_t max_bytes, uint8_t **ret_data, size_t *ret_len, kb_error *err)
{
    KB_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return kb_file_fail(err, errno, "open", path);
    return read_whole(fd, max_bytes, path, ret_data, ret_len, err);
}

kb_code kb_file_write(const char *path, const void *data, size_t len, kb_error *err)
{
    KB_AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return kb_file_fail(err, errno, "create", path);
    if (kb_write_all(fd, data, len, path, err) != KB_OK)
        return err->code;
    return kb_fd_close(&fd, path, err);
}

kb_code kb_write_all(int fd, const void *data, size_t len, const char *path, kb_error *err)
{
    const uint8_t *at = data;
    while (len > 0) {
        ssize_t written = write(fd, at, len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return kb_file_fail(err, written < 0 ? errno : EIO, "write", path);
        at += written;
        len -= (size_t)written;
    }
    return KB_OK;
}

kb_code kb_pwrite_all(int fd, const void *data, size_t len, uint64_t offset, const char *path, kb_error *err)
{
    const uint8_t *at = data;
    while (len > 0) {
        ssize_t written = pwrite(fd, at, len, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return kb_file_fail(err, written < 0 ? errno : EIO, "write", path);
        at += written;
        len -= (size_t)written;
        offset += (uint64_t)written;
    }
    return KB_OK;
}

kb_code kb_pread_all(int fd, void *to, size_t len, uint64_t offset, const char *path, kb_error *err)
{
    uint8_t *at = to;
    while (len > 0) {
        ssize_t got = pread(fd, at, len, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return kb_file_fail(err, errno, "read", path);
        if (got == 0)
            return kb_fail(err, KB_ERR_END, "'%s' ends at %llu, %zu bytes before what is read", path,
                           (unsigned long long)offset, len);
        at += got;
        len -= (size_t)got;
        offset += (uint64_t)got;
    }
    return KB_OK;
}

kb_code kb_fsync(int fd, const char *path, kb_error *err)
{
    while (fsync(fd) != 0) {
        if (errno != EINTR)
            return kb_file_fail(err, errno, "fsync", path);
    }
    return KB_OK;
}

kb_code kb_dir_fsync(const char *path, kb_error *err)
{
    KB_AUTO_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return kb_file_fail(err, errno, "open", path);
    return kb_fsync(fd, path, err);
}

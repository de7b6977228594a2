/*
 * fs_temp - one object on its way into a directory: a hidden file that is written, synced and given its name.
 *
 * The name is given in a way that refuses one that is taken, and after any failure the files themselves are
 * asked whether it was given (a lost NFS reply). Threads: a kb_fs_temp belongs to one thread at a time.
 */
#ifndef KB_WORKER_STORAGE_FS_TEMP_H
#define KB_WORKER_STORAGE_FS_TEMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/storage/fs_root.h"

/* How a file gets its final name; settled once per store by kb_fs_probe. */
typedef enum kb_fs_naming {
    KB_FS_LINK,             /* link(2) */
    KB_FS_RENAME_NOREPLACE, /* renameat2(2) */
    KB_FS_LOOK_AND_RENAME,  /* two writers can race */
} kb_fs_naming;

typedef struct kb_fs_temp kb_fs_temp;

/* kb_file_fail for paths in a store: a link on the way is KB_ERR_FORMAT. */
kb_code kb_fs_fail(kb_error *err, int errno_value, const char *verb, const char *path);

/* Whether a file name is one of ours for unpublished data. */
bool kb_fs_is_temp_name(const char *name);

/* Makes the hidden file beside its place, and the directories above. attempt_hex: 32 digits. A leftover of
 * the same attempt and key is removed first. */
kb_code kb_fs_temp_new(kb_fs_root *root, kb_fs_naming naming, const char *key, const char *attempt_hex,
                       kb_fs_temp **ret_temp, kb_error *err) KB_CHECK;
kb_code kb_fs_temp_write(kb_fs_temp *temp, const void *data, size_t len, uint64_t offset,
                         kb_error *err) KB_CHECK;
/*
 * Syncs, names, syncs the directory. KB_ERR_EXISTS: the name is another file's, and durable; KB_FENCED: the
 * hidden file is gone. `failpoint` (may be NULL) drops the success of the naming step.
 */
kb_code kb_fs_temp_publish(kb_fs_temp *temp, const char *failpoint, kb_error *err) KB_CHECK;
/* Removes the hidden file when it was not published. NULL is fine. */
void kb_fs_temp_free(kb_fs_temp *owned_temp);
void kb_fs_temp_free_at(kb_fs_temp **at);

/* The time by the clock that stamps files here (an NFS server's, say): that of a hidden file just made. */
kb_code kb_fs_now(kb_fs_root *root, int64_t *ret_now_ms, kb_error *err) KB_CHECK;

/* Finds out with hidden files in the root, removed again, whether one can write there, and how to name. */
kb_code kb_fs_probe(kb_fs_root *root, kb_fs_naming *ret_naming, kb_error *err) KB_CHECK;

#endif

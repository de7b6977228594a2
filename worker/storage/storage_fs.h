/*
 * storage_fs - a directory as a store (a PVC, a local disk, NFS).
 *
 * The key is the path below the root, unescaped. Every path is resolved beneath the root without following
 * links, and only regular files are read. An object is written to ".{name}.{attempt}.tmp" beside its place,
 * synced, and then linked to its name (link(2), which refuses a name that is taken;
 * renameat2(RENAME_NOREPLACE) where there are no hard links; look-then-rename where there is neither, see
 * conditional_put). Then the directory is synced, and its own name in every directory up to the root, once
 * per process. Files whose names begin with '.' are never listed, nor in the root anything that does, nor
 * "lost+found" there; a topic's directory may begin with '.'. Modes are 0777 and 0666 less the umask. System
 * calls that fail with ESTALE are retried a few times from the name on, except in the middle of an upload,
 * whose error is then retryable. Capabilities are probed in the writing modes only. Threads: as storage.h.
 */
#ifndef KB_WORKER_STORAGE_STORAGE_FS_H
#define KB_WORKER_STORAGE_STORAGE_FS_H

#include "worker/storage/storage.h"

typedef enum kb_fs_mode {
    KB_FS_READ,   /* the directory must exist; writing is refused with KB_STORAGE_ACCESS_DENIED */
    KB_FS_WRITE,  /* the directory must exist and be writable */
    KB_FS_CREATE, /* the same, but its last component is created when only that is missing */
} kb_fs_mode;

/*
 * Opens a directory. In the writing modes a hidden probe file is made, linked and removed again, which finds
 * a read-only or full file system before any work and settles how objects are published. Fails with
 * KB_BACKUP_NOT_FOUND (no such directory), KB_STORAGE_ACCESS_DENIED, KB_STORAGE_FULL, KB_CONFIG_INVALID (not
 * a directory, or an empty path), or as kb_file_fail.
 */
kb_code kb_storage_open_filesystem(const char *path, kb_fs_mode mode, kb_storage **ret_storage,
                                   kb_error *err) KB_CHECK;

#endif

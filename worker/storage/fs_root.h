/*
 * fs_root - paths beneath a directory, resolved without following any link.
 *
 * openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS) where the kernel has it, else part by part with O_NOFOLLOW;
 * both refuse the same paths. Results are 0 or a descriptor, and -errno on failure: ELOOP for a link on the
 * way. Directories made for writing, and their names in their parents, are durable before anything is written
 * into them. Threads: all functions may be called from any thread.
 */
#ifndef KB_WORKER_STORAGE_FS_ROOT_H
#define KB_WORKER_STORAGE_FS_ROOT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/base/map.h"

typedef struct kb_fs_root {
    int fd;
    char *path;             /* owned; for messages */
    atomic_bool no_openat2; /* this kernel or its sandbox lacks it */
    pthread_mutex_t lock;   /* of `durable`, and of making and removing directories */
    kb_map *durable;        /* directories whose names, and all above, are known to be on the disk */
} kb_fs_root;

/* fd is consumed, path copied. */
void kb_fs_root_init(kb_fs_root *root, int owned_fd, const char *path);
void kb_fs_root_done(kb_fs_root *root);

/* Opens a path beneath the root ("" is the root itself). */
int kb_fs_root_open(kb_fs_root *root, const char *path, int flags);
/* Opens the directory that holds a key for reading; *ret_name is the key's last part, borrowed from it. */
int kb_fs_root_open_parent(kb_fs_root *root, const char *key, const char **ret_name);
/* The same for writing: missing directories are made, and all are durable on return. */
int kb_fs_root_make_parent(kb_fs_root *root, const char *key, const char **ret_name);
/* Removes the directories above a key that have become empty, upwards; failures mean nothing. */
void kb_fs_root_trim(kb_fs_root *root, const char *key);

#endif

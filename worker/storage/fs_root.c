#include "worker/storage/fs_root.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"

/* Somebody else may remove an empty directory between our making and opening it. */
#define KB_MAKE_TRIES 8
#define KB_DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

void kb_fs_root_init(kb_fs_root *root, int owned_fd, const char *path)
{
    root->fd = owned_fd;
    root->path = kb_strdup(path);
    atomic_init(&root->no_openat2, false);
    pthread_mutex_init(&root->lock, NULL);
    root->durable = kb_map_new(NULL);
}

void kb_fs_root_done(kb_fs_root *root)
{
    close(root->fd);
    free(root->path);
    pthread_mutex_destroy(&root->lock);
    kb_map_free(root->durable);
}

/* open(2) that reports as we do and does not see signals. */
static int open_at(int dir, const char *name, int flags)
{
    int fd;
    do
        fd = openat(dir, name, flags | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    return fd >= 0 ? fd : -errno;
}

static int open_with_openat2(int dir, const char *path, int flags)
{
    struct open_how how = {
        /* Without O_NOFOLLOW a link at the end gives ELOOP like any other, and not ENOTDIR. */
        .flags = ((unsigned)flags & ~(unsigned)O_NOFOLLOW) | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };
    long fd;
    do
        fd = syscall(SYS_openat2, dir, path, &how, sizeof how);
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return fd >= 0 ? (int)fd : -errno;
}

/* O_NOFOLLOW together with O_DIRECTORY calls a link "not a directory"; absence must not be read out of that.
 */
static int refine_not_dir(int dir, const char *name, int result)
{
    struct stat st;
    if (result == -ENOTDIR && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
        return -ELOOP;
    return result;
}

static int open_part(int dir, const char *part, int flags)
{
    return refine_not_dir(dir, part, open_at(dir, part, flags | O_NOFOLLOW));
}

static int open_by_parts(int root_fd, const char *path, int flags)
{
    KB_AUTO_FD int dir = -1;
    int at = root_fd;
    for (const char *part = path;;) {
        size_t len = strcspn(part, "/");
        KB_AUTOFREE char *name = kb_strndup(part, len);
        if (part[len] == '\0')
            return open_part(at, name, flags);
        int next = open_part(at, name, O_PATH | O_DIRECTORY);
        if (next < 0)
            return next;
        kb_fd_close_at(&dir);
        dir = next;
        at = next;
        part += len + 1;
    }
}

int kb_fs_root_open(kb_fs_root *root, const char *path, int flags)
{
    if (path[0] == '\0')
        return open_at(root->fd, ".", flags);
    if (!atomic_load_explicit(&root->no_openat2, memory_order_relaxed)) {
        int fd = open_with_openat2(root->fd, path, flags);
        if (fd == -EXDEV)
            return -ELOOP;
        /* Old sandboxes answer EPERM for calls they do not know. */
        if (fd != -ENOSYS && fd != -EPERM)
            return fd;
        if (fd == -ENOSYS)
            atomic_store_explicit(&root->no_openat2, true, memory_order_relaxed);
    }
    return open_by_parts(root->fd, path, flags);
}

/* "a/b" of "a/b/c", "" of "c"; owned. */
static char *parent_of(const char *key, const char **ret_name)
{
    const char *slash = strrchr(key, '/');
    *ret_name = slash == NULL ? key : slash + 1;
    return slash == NULL ? kb_strdup("") : kb_strndup(key, (size_t)(slash - key));
}

int kb_fs_root_open_parent(kb_fs_root *root, const char *key, const char **ret_name)
{
    KB_AUTOFREE char *parent = parent_of(key, ret_name);
    return kb_fs_root_open(root, parent, KB_DIR_FLAGS);
}

static int sync_dir(int dir)
{
    int result;
    do
        result = fsync(dir);
    while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : -errno;
}

/* Opens `name` in `dir`; *missing is set when it was not there and had to be made. */
static int open_or_make(int dir, const char *name, bool *missing)
{
    for (int tries = 0; tries < KB_MAKE_TRIES; tries++) {
        int fd = open_part(dir, name, KB_DIR_FLAGS);
        if (fd != -ENOENT)
            return fd;
        *missing = true;
        if (mkdirat(dir, name, 0777) != 0 && errno != EEXIST)
            return -errno;
    }
    return -ENOENT;
}

/*
 * Walks to `path`, making what is missing and syncing the parent of whatever is not known to be durable. A
 * directory that is already there counts as unknown as well: whoever made it may have died before its sync.
 */
static int make_dirs_locked(kb_fs_root *root, const char *path)
{
    KB_AUTO_FD int dir = open_at(root->fd, ".", KB_DIR_FLAGS);
    for (const char *part = path; dir >= 0 && part[0] != '\0';) {
        size_t len = strcspn(part, "/");
        KB_AUTOFREE char *name = kb_strndup(part, len);
        size_t known_len = (size_t)(part - path) + len;
        bool unknown = !kb_map_has(root->durable, path, known_len);
        KB_AUTO_FD int next = open_or_make(dir, name, &unknown);
        if (next < 0)
            return next;
        int synced = unknown ? sync_dir(dir) : 0;
        if (synced != 0)
            return synced;
        kb_map_put(root->durable, path, known_len, root);
        int above = dir;
        dir = next;
        next = above;
        part += part[len] == '/' ? len + 1 : len;
    }
    int result = dir;
    dir = -1;
    return result;
}

int kb_fs_root_make_parent(kb_fs_root *root, const char *key, const char **ret_name)
{
    KB_AUTOFREE char *parent = parent_of(key, ret_name);
    pthread_mutex_lock(&root->lock);
    bool durable = parent[0] == '\0' || kb_map_has(root->durable, parent, strlen(parent));
    pthread_mutex_unlock(&root->lock);
    if (durable) {
        int fd = kb_fs_root_open(root, parent, KB_DIR_FLAGS);
        if (fd != -ENOENT)
            return fd;
    }
    pthread_mutex_lock(&root->lock);
    int fd = make_dirs_locked(root, parent);
    pthread_mutex_unlock(&root->lock);
    return fd;
}

void kb_fs_root_trim(kb_fs_root *root, const char *key)
{
    KB_AUTOFREE char *path = kb_strdup(key);
    pthread_mutex_lock(&root->lock);
    for (;;) {
        const char *name = NULL;
        KB_AUTOFREE char *dir_path = parent_of(path, &name);
        if (dir_path[0] == '\0')
            break;
        KB_AUTO_FD int above = kb_fs_root_open_parent(root, dir_path, &name);
        if (above < 0 || unlinkat(above, name, AT_REMOVEDIR) != 0)
            break;
        kb_map_remove(root->durable, dir_path, strlen(dir_path));
        free(path);
        path = KB_TAKE(dir_path);
    }
    pthread_mutex_unlock(&root->lock);
}

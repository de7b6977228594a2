#include "worker/storage/fs_temp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/bytes.h"
#include "common/base/crypto.h"
#include "common/base/encode.h"
#include "common/base/failpoint.h"
#include "common/base/file.h"
#include "common/base/mem.h"

#define KB_NAME_MAX 255
#define KB_ATTEMPT_DIGITS 32
#define KB_TEMP_SUFFIX ".tmp"
/* '.', '.', the attempt and the suffix around a name. */
#define KB_TEMP_EXTRA (2 + KB_ATTEMPT_DIGITS + sizeof KB_TEMP_SUFFIX - 1)
/* What stands for the cut end of a long name: '~' and the start of its hash. */
#define KB_CUT_HASH_BYTES 8
#define KB_CUT_EXTRA (1 + 2 * KB_CUT_HASH_BYTES)
#define KB_CREATE_TRIES 8
#define KB_NAMING_TRIES 4
#define KB_PROBE_PREFIX ".kb-probe."
#define KB_PROBE_STALE_SECS 60

struct kb_fs_temp {
    kb_fs_root *root; /* borrowed */
    kb_fs_naming naming;
    char *path;      /* owned; of the object, for messages */
    char *name;      /* owned; last part of the key */
    char *temp_name; /* owned */
    int dir;
    int fd;
    bool has_temp_name; /* the hidden name still has to be removed */
};

kb_code kb_fs_fail(kb_error *err, int errno_value, const char *verb, const char *path)
{
    if (errno_value == ELOOP)
        return kb_fail(err, KB_ERR_FORMAT, "cannot %s '%s': it is, or lies behind, a symbolic link", verb,
                       path);
    return kb_file_fail(err, errno_value, verb, path);
}

/* kb_fs_fail for steps where nothing is looked up: a missing directory is a failure, not an answer. */
static kb_code write_fail(kb_error *err, int errno_value, const char *verb, const char *path)
{
    kb_code code = kb_fs_fail(err, errno_value, verb, path);
    if (code == KB_ERR_NOT_FOUND)
        return kb_wrap_as(err, KB_STORAGE_IO_ERROR, "its directory was removed");
    if (code == KB_ERR_EXISTS)
        return kb_wrap_as(err, KB_STORAGE_IO_ERROR, "its hidden name is taken");
    return code;
}

/* ---- names ---- */

bool kb_fs_is_temp_name(const char *name)
{
    size_t len = strlen(name);
    if (len <= KB_TEMP_EXTRA || name[0] != '.' || name[len - KB_TEMP_EXTRA + 1] != '.')
        return false;
    const char *attempt = name + (len - KB_TEMP_EXTRA + 2);
    return strspn(attempt, "0123456789abcdef") == KB_ATTEMPT_DIGITS &&
           strcmp(attempt + KB_ATTEMPT_DIGITS, KB_TEMP_SUFFIX) == 0;
}

/* ".{name}.{attempt}.tmp", the name cut between two characters and completed by its hash when it is too long.
 */
static char *temp_name_of(const char *name, const char *attempt_hex)
{
    size_t len = strlen(name);
    if (len + KB_TEMP_EXTRA <= KB_NAME_MAX)
        return kb_asprintf(".%s.%s" KB_TEMP_SUFFIX, name, attempt_hex);
    size_t keep = KB_NAME_MAX - KB_TEMP_EXTRA - KB_CUT_EXTRA;
    while (keep > 0 && ((unsigned char)name[keep] & 0xc0) == 0x80)
        keep--;
    uint8_t hash[KB_SHA256_SIZE];
    char hex[2 * KB_CUT_HASH_BYTES + 1];
    kb_sha256(name, len, hash);
    kb_hex_encode(hash, KB_CUT_HASH_BYTES, hex);
    return kb_asprintf(".%.*s~%s.%s" KB_TEMP_SUFFIX, (int)keep, name, hex, attempt_hex);
}

/* ---- the hidden file ---- */

static int create_file(int dir, const char *name)
{
    int fd;
    do
        fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    while (fd < 0 && errno == EINTR);
    return fd >= 0 ? fd : -errno;
}

/* Opens the directory and makes the file; again when the directory is removed in between as an empty one. */
static int open_temp(kb_fs_temp *temp, const char *key)
{
    int result = -ENOENT;
    for (int tries = 0; tries < KB_CREATE_TRIES; tries++) {
        const char *name = NULL;
        kb_fd_close_at(&temp->dir);
        result = kb_fs_root_make_parent(temp->root, key, &name);
        if (result < 0)
            return result;
        temp->dir = result;
        result = create_file(temp->dir, temp->temp_name);
        if (result == -EEXIST && unlinkat(temp->dir, temp->temp_name, 0) != 0 && errno != ENOENT)
            return -errno;
        if (result != -ENOENT && result != -EEXIST)
            break;
    }
    return result;
}

kb_code kb_fs_temp_new(kb_fs_root *root, kb_fs_naming naming, const char *key, const char *attempt_hex,
                       kb_fs_temp **ret_temp, kb_error *err)
{
    KB_CLEANUP(kb_fs_temp_free_at) kb_fs_temp *temp = kb_calloc(1, sizeof *temp);
    const char *slash = strrchr(key, '/');
    temp->root = root;
    temp->naming = naming;
    temp->path = kb_asprintf("%s/%s", root->path, key);
    temp->name = kb_strdup(slash == NULL ? key : slash + 1);
    temp->temp_name = temp_name_of(temp->name, attempt_hex);
    temp->dir = -1;
    temp->fd = -1;
    int fd = open_temp(temp, key);
    if (fd < 0)
        return write_fail(err, -fd, "create", temp->path);
    temp->fd = fd;
    temp->has_temp_name = true;
    *ret_temp = KB_TAKE(temp);
    return KB_OK;
}

kb_code kb_fs_temp_write(kb_fs_temp *temp, const void *data, size_t len, uint64_t offset, kb_error *err)
{
    return kb_pwrite_all(temp->fd, data, len, offset, temp->path, err);
}

void kb_fs_temp_free(kb_fs_temp *owned_temp)
{
    if (owned_temp == NULL)
        return;
    if (owned_temp->has_temp_name)
        (void)unlinkat(owned_temp->dir, owned_temp->temp_name, 0);
    kb_fd_close_at(&owned_temp->fd);
    kb_fd_close_at(&owned_temp->dir);
    free(owned_temp->path);
    free(owned_temp->name);
    free(owned_temp->temp_name);
    free(owned_temp);
}

void kb_fs_temp_free_at(kb_fs_temp **at)
{
    kb_fs_temp_free(*at);
    *at = NULL;
}

/* ---- naming ---- */

static int look_and_rename(int dir, const char *from, const char *to)
{
    struct stat st;
    if (fstatat(dir, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return EEXIST;
    if (errno != ENOENT || renameat(dir, from, dir, to) != 0)
        return errno;
    return 0;
}

/* 0 or errno. */
static int give_name(kb_fs_naming naming, int dir, const char *from, const char *to)
{
    switch (naming) {
    case KB_FS_LINK:
        return linkat(dir, from, dir, to, 0) == 0 ? 0 : errno;
    case KB_FS_RENAME_NOREPLACE:
        return renameat2(dir, from, dir, to, RENAME_NOREPLACE) == 0 ? 0 : errno;
    case KB_FS_LOOK_AND_RENAME:
    default:
        return look_and_rename(dir, from, to);
    }
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/*
 * What the naming step came to: 0 = the name is this file's; EEXIST = another's; ENOENT = the hidden file was
 * removed by another attempt; else the step's own errno. An error reply proves nothing (NFS repeats a request
 * whose reply was lost, and then finds its own work), so the files are asked.
 */
static int settle(const kb_fs_temp *temp, int step_errno)
{
    struct stat mine;
    struct stat there;
    int unknown = step_errno != 0 ? step_errno : EIO;
    if (fstat(temp->fd, &mine) != 0)
        return unknown;
    if (fstatat(temp->dir, temp->name, &there, AT_SYMLINK_NOFOLLOW) == 0)
        return is_same_file(&mine, &there) ? 0 : EEXIST;
    if (temp->naming == KB_FS_LINK && mine.st_nlink == 2)
        return 0;
    if (errno == ENOENT && mine.st_nlink == 0)
        return ENOENT;
    return unknown;
}

static int name_once(kb_fs_temp *temp, const char *failpoint)
{
    int result = give_name(temp->naming, temp->dir, temp->temp_name, temp->name);
    if (result == 0 && failpoint != NULL) {
        KB_AUTO_ERROR(injected);
        if (KB_FAILPOINT(failpoint, &injected) != KB_OK)
            result = EIO;
    }
    /* A rename without a condition may have been overtaken by another. */
    if (result != 0 || temp->naming == KB_FS_LOOK_AND_RENAME)
        result = settle(temp, result);
    return result;
}

/* Whether the same call may succeed at once. */
static bool is_passing(int number)
{
    return number == EINTR || number == EAGAIN || number == ESTALE;
}

static int name_it(kb_fs_temp *temp, const char *failpoint)
{
    int result = 0;
    for (int tries = 0; tries < KB_NAMING_TRIES; tries++) {
        result = name_once(temp, failpoint);
        if (!is_passing(result))
            break;
    }
    return result;
}

kb_code kb_fs_temp_publish(kb_fs_temp *temp, const char *failpoint, kb_error *err)
{
    kb_code code = kb_fsync(temp->fd, temp->path, err);
    if (code != KB_OK)
        return code;
    int result = name_it(temp, failpoint);
    if (result == ENOENT)
        return kb_fail(err, KB_FENCED,
                       "cannot publish '%s': another attempt has removed its unpublished data", temp->path);
    if (result != 0 && result != EEXIST)
        return write_fail(err, result, "publish", temp->path);
    /* After a rename there is nothing to unlink; a hidden name that stays is invisible and swept later. */
    if (temp->naming == KB_FS_LINK || result == EEXIST)
        (void)unlinkat(temp->dir, temp->temp_name, 0);
    temp->has_temp_name = false;
    /* On EEXIST too: whoever counts on the object that is there must not outlive it. */
    code = kb_fsync(temp->dir, temp->path, err);
    if (code != KB_OK || result == 0)
        return code;
    return kb_fail(err, KB_ERR_EXISTS, "'%s' exists already", temp->path);
}

/* ---- the probe ---- */

typedef struct probe {
    int dir;
    char *names[3]; /* owned; hidden names in the root */
} probe;

static void probe_done(probe *p)
{
    for (size_t i = 0; i < KB_ARRAY_LEN(p->names); i++) {
        if (p->names[i] != NULL)
            (void)unlinkat(p->dir, p->names[i], 0);
        free(p->names[i]);
    }
}

/* Whether the step is missing here, as opposed to failing now. */
static bool is_lacking(int number)
{
    return number == EPERM || number == EACCES || number == ENOSYS || number == EOPNOTSUPP ||
           number == EINVAL || number == EMLINK;
}

/* 0 = hard links work as they should, -1 = they do not, else errno. */
static int try_link(const probe *p)
{
    int result = give_name(KB_FS_LINK, p->dir, p->names[0], p->names[1]);
    if (result != 0)
        return is_lacking(result) ? -1 : result;
    struct stat a;
    struct stat b;
    if (fstatat(p->dir, p->names[0], &a, AT_SYMLINK_NOFOLLOW) != 0 ||
        fstatat(p->dir, p->names[1], &b, AT_SYMLINK_NOFOLLOW) != 0)
        return errno;
    bool good = is_same_file(&a, &b) && a.st_nlink == 2 &&
                give_name(KB_FS_LINK, p->dir, p->names[0], p->names[1]) == EEXIST;
    if (unlinkat(p->dir, p->names[1], 0) != 0)
        return errno;
    return good ? 0 : -1;
}

/* The same for renameat2. */
static int try_rename_noreplace(const probe *p)
{
    KB_AUTO_FD int taken = create_file(p->dir, p->names[1]);
    if (taken < 0)
        return -taken;
    if (give_name(KB_FS_RENAME_NOREPLACE, p->dir, p->names[0], p->names[1]) != EEXIST)
        return -1;
    int result = give_name(KB_FS_RENAME_NOREPLACE, p->dir, p->names[0], p->names[2]);
    if (result != 0)
        return is_lacking(result) ? -1 : result;
    return 0;
}

/* Removes what probes left that were killed; ages by the store's own clock. Failures mean nothing. */
static void sweep_probes(int root_fd, time_t now)
{
    int fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        kb_fd_close_at(&fd);
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        struct stat st;
        if (strncmp(entry->d_name, KB_PROBE_PREFIX, sizeof KB_PROBE_PREFIX - 1) == 0 &&
            fstatat(root_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            now - st.st_mtime > KB_PROBE_STALE_SECS)
            (void)unlinkat(root_fd, entry->d_name, 0);
    }
    closedir(dir);
}

/* Names the hidden files and makes the first. */
static kb_code probe_begin(kb_fs_root *root, probe *p, int *ret_fd, kb_error *err)
{
    uint8_t random[8];
    char hex[2 * sizeof random + 1];
    if (kb_random_bytes(random, sizeof random, err) != KB_OK)
        return err->code;
    kb_hex_encode(random, sizeof random, hex);
    p->dir = root->fd;
    for (size_t i = 0; i < KB_ARRAY_LEN(p->names); i++)
        p->names[i] = kb_asprintf(KB_PROBE_PREFIX "%s.%zu", hex, i);
    int fd = create_file(p->dir, p->names[0]);
    if (fd < 0)
        return write_fail(err, -fd, "create a file in", root->path);
    *ret_fd = fd;
    return KB_OK;
}

kb_code kb_fs_now(kb_fs_root *root, int64_t *ret_now_ms, kb_error *err)
{
    KB_CLEANUP(probe_done) probe p = {.dir = root->fd};
    KB_AUTO_FD int fd = -1;
    kb_code code = probe_begin(root, &p, &fd, err);
    if (code != KB_OK)
        return code;
    struct stat st;
    if (fstat(fd, &st) != 0)
        return write_fail(err, errno, "look at a file in", root->path);
    *ret_now_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
    return KB_OK;
}

kb_code kb_fs_probe(kb_fs_root *root, kb_fs_naming *ret_naming, kb_error *err)
{
    KB_CLEANUP(probe_done) probe p = {.dir = root->fd};
    KB_AUTO_FD int fd = -1;
    if (probe_begin(root, &p, &fd, err) != KB_OK)
        return err->code;
    struct stat st;
    if (fstat(fd, &st) == 0)
        sweep_probes(p.dir, st.st_mtime);
    kb_fs_naming naming = KB_FS_LINK;
    int result = try_link(&p);
    if (result < 0) {
        naming = KB_FS_RENAME_NOREPLACE;
        result = try_rename_noreplace(&p);
    }
    if (result < 0) {
        naming = KB_FS_LOOK_AND_RENAME;
        result = 0;
    }
    if (result != 0)
        return write_fail(err, result, "name a file in", root->path);
    *ret_naming = naming;
    return KB_OK;
}

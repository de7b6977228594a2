#include "worker/storage/storage_fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/encode.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "worker/storage/fs_list.h"
#include "worker/storage/fs_root.h"
#include "worker/storage/fs_temp.h"
#include "worker/storage/storage_driver.h"

#define KB_ATTEMPT_BYTES 16
/* A stale NFS handle is cured by looking the name up again; more tries mean something else is wrong. */
#define KB_STALE_TRIES 4

typedef struct fs_store {
    kb_fs_root root;
    kb_fs_mode mode;
    kb_fs_naming naming;
} fs_store;

typedef struct fs_upload {
    kb_fs_temp *temp; /* owned */
    uint64_t at;
} fs_upload;

/* ---- common parts ---- */

static kb_code fail_at(const fs_store *fs, const char *key, int number, const char *verb, kb_error *err)
{
    KB_AUTOFREE char *path = kb_asprintf("%s/%s", fs->root.path, key);
    /* A file where a directory should be, or a name no file can have: there is no such object, for certain.
     */
    if (number == ENOTDIR || number == ENAMETOOLONG)
        number = ENOENT;
    return kb_fs_fail(err, number, verb, path);
}

static bool is_worth_a_try(kb_code code, const kb_error *err, int *tries)
{
    return code == KB_TEMPORARY_FAILURE && err->retryable && ++*tries < KB_STALE_TRIES;
}

static kb_code check_writable(const fs_store *fs, kb_error *err)
{
    if (fs->mode == KB_FS_READ)
        return kb_fail(err, KB_STORAGE_ACCESS_DENIED, "'%s' was opened for reading only", fs->root.path);
    return KB_OK;
}

static kb_code fail_not_regular(const fs_store *fs, const char *key, const struct stat *st, kb_error *err)
{
    return kb_fail(err, KB_ERR_FORMAT, "'%s/%s' is %s, not a regular file", fs->root.path, key,
                   S_ISLNK(st->st_mode)    ? "a symbolic link"
                   : S_ISDIR(st->st_mode)  ? "a directory"
                   : S_ISFIFO(st->st_mode) ? "a named pipe"
                                           : "a device or socket");
}

/* What the name is, looked at without opening it: opening a device or a pipe can have effects. */
static kb_code stat_regular(const fs_store *fs, int dir, const char *name, const char *key, struct stat *st,
                            kb_error *err)
{
    if (fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW) != 0)
        return fail_at(fs, key, errno, "look at", err);
    return S_ISREG(st->st_mode) ? KB_OK : fail_not_regular(fs, key, st, err);
}

static kb_code open_regular(fs_store *fs, const char *key, int *ret_fd, uint64_t *ret_size, kb_error *err)
{
    const char *name = NULL;
    struct stat st;
    KB_AUTO_FD int dir = kb_fs_root_open_parent(&fs->root, key, &name);
    if (dir < 0)
        return fail_at(fs, key, -dir, "open", err);
    kb_code code = stat_regular(fs, dir, name, key, &st, err);
    if (code != KB_OK)
        return code;
    KB_AUTO_FD int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return fail_at(fs, key, errno, "open", err);
    if (fstat(fd, &st) != 0)
        return fail_at(fs, key, errno, "look at", err);
    if (!S_ISREG(st.st_mode))
        return fail_not_regular(fs, key, &st, err);
    *ret_fd = fd;
    fd = -1;
    *ret_size = (uint64_t)st.st_size;
    return KB_OK;
}

static kb_code read_exactly(const fs_store *fs, int fd, const char *key, uint64_t offset, void *to,
                            size_t len, kb_error *err)
{
    KB_AUTOFREE char *path = kb_asprintf("%s/%s", fs->root.path, key);
    kb_code code = kb_pread_all(fd, to, len, offset, path, err);
    return code == KB_ERR_END ? kb_wrap_as(err, KB_ERR_FORMAT, "it became shorter") : code;
}

/* ---- reading ---- */

static kb_code get_now(fs_store *fs, const char *key, size_t max_bytes, kb_blob *ret_blob, kb_error *err)
{
    KB_AUTO_FD int fd = -1;
    uint64_t size = 0;
    kb_code code = open_regular(fs, key, &fd, &size, err);
    if (code != KB_OK)
        return code;
    if (size > max_bytes)
        return kb_fail(err, KB_ERR_TOO_LARGE, "'%s/%s' has %llu bytes, more than %zu", fs->root.path, key,
                       (unsigned long long)size, max_bytes);
    KB_AUTO_BLOB(blob);
    blob.len = (size_t)size;
    blob.data = kb_try_malloc(blob.len + 1);
    if (blob.data == NULL)
        return fail_at(fs, key, ENOMEM, "read", err);
    code = read_exactly(fs, fd, key, 0, blob.data, blob.len, err);
    if (code != KB_OK)
        return code;
    blob.data[blob.len] = '\0';
    *ret_blob = blob;
    blob = (kb_blob)KB_BLOB_INIT;
    return KB_OK;
}

static kb_code fs_get(void *state, const char *key, size_t max_bytes, kb_blob *ret_blob, kb_error *err)
{
    int tries = 0;
    kb_code code;
    do
        code = get_now(state, key, max_bytes, ret_blob, err);
    while (is_worth_a_try(code, err, &tries));
    return code;
}

static kb_code get_range_now(fs_store *fs, const char *key, uint64_t offset, void *to, size_t len,
                             kb_error *err)
{
    KB_AUTO_FD int fd = -1;
    uint64_t size = 0;
    kb_code code = open_regular(fs, key, &fd, &size, err);
    if (code != KB_OK)
        return code;
    if (offset > size || len > size - offset)
        return kb_fail(err, KB_ERR_FORMAT, "'%s/%s' has %llu bytes, and %zu from %llu on were wanted",
                       fs->root.path, key, (unsigned long long)size, len, (unsigned long long)offset);
    return read_exactly(fs, fd, key, offset, to, len, err);
}

static kb_code fs_get_range(void *state, const char *key, uint64_t offset, void *to, size_t len,
                            kb_error *err)
{
    int tries = 0;
    kb_code code;
    do
        code = get_range_now(state, key, offset, to, len, err);
    while (is_worth_a_try(code, err, &tries));
    return code;
}

static kb_code head_now(fs_store *fs, const char *key, kb_object_info *ret_info, kb_error *err)
{
    const char *name = NULL;
    struct stat st;
    KB_AUTO_FD int dir = kb_fs_root_open_parent(&fs->root, key, &name);
    if (dir < 0)
        return fail_at(fs, key, -dir, "look at", err);
    kb_code code = stat_regular(fs, dir, name, key, &st, err);
    if (code != KB_OK)
        return code;
    ret_info->size_bytes = (uint64_t)st.st_size;
    ret_info->mtime_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
    return KB_OK;
}

static kb_code fs_head(void *state, const char *key, kb_object_info *ret_info, kb_error *err)
{
    int tries = 0;
    kb_code code;
    do
        code = head_now(state, key, ret_info, err);
    while (is_worth_a_try(code, err, &tries));
    return code;
}

static kb_code fs_list_page(void *state, const kb_list_options *options, kb_list_page *ret_page,
                            kb_error *err)
{
    fs_store *fs = state;
    int tries = 0;
    kb_code code;
    do
        code = kb_fs_list_page(&fs->root, options, ret_page, err);
    while (is_worth_a_try(code, err, &tries));
    return code;
}

static kb_code fs_is_case_sensitive(void *state, const char *backup_id, bool *ret_sensitive, kb_error *err)
{
    fs_store *fs = state;
    struct stat st;
    KB_AUTO_FD int dir = kb_fs_root_open(&fs->root, backup_id, O_RDONLY | O_DIRECTORY);
    if (dir < 0)
        return fail_at(fs, backup_id, -dir, "open", err);
    if (fstatat(dir, "journal", &st, AT_SYMLINK_NOFOLLOW) != 0)
        return fail_at(fs, backup_id, errno, "find the journal of", err);
    bool found = fstatat(dir, "JOURNAL", &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!found && errno != ENOENT)
        return fail_at(fs, backup_id, errno, "look into", err);
    *ret_sensitive = !found;
    return KB_OK;
}

/* ---- writing ---- */

static kb_code put_now(fs_store *fs, const char *key, kb_view bytes, kb_error *err)
{
    uint8_t attempt[KB_ATTEMPT_BYTES];
    char hex[2 * KB_ATTEMPT_BYTES + 1];
    kb_code code = kb_random_bytes(attempt, sizeof attempt, err);
    if (code != KB_OK)
        return code;
    kb_hex_encode(attempt, sizeof attempt, hex);
    KB_CLEANUP(kb_fs_temp_free_at) kb_fs_temp *temp = NULL;
    code = kb_fs_temp_new(&fs->root, fs->naming, key, hex, &temp, err);
    if (code == KB_OK)
        code = kb_fs_temp_write(temp, bytes.data, bytes.len, 0, err);
    if (code == KB_OK)
        code = kb_fs_temp_publish(temp, NULL, err);
    return code;
}

static kb_code fs_put_if_absent(void *state, const char *key, kb_view bytes, kb_error *err)
{
    int tries = 0;
    kb_code code = check_writable(state, err);
    if (code != KB_OK)
        return code;
    do
        code = put_now(state, key, bytes, err);
    while (is_worth_a_try(code, err, &tries));
    return code;
}

static kb_code fs_confirm(void *state, const char *key, kb_error *err)
{
    fs_store *fs = state;
    const char *name = NULL;
    struct stat st;
    kb_code code = check_writable(fs, err);
    if (code != KB_OK)
        return code;
    kb_object_info info;
    code = fs_head(fs, key, &info, err);
    if (code != KB_OK)
        return code;
    KB_AUTO_FD int dir = kb_fs_root_make_parent(&fs->root, key, &name);
    if (dir < 0)
        return fail_at(fs, key, -dir, "open", err);
    code = stat_regular(fs, dir, name, key, &st, err);
    return code != KB_OK ? code : kb_fsync(dir, fs->root.path, err);
}

static kb_code fs_remove(void *state, const char *key, kb_error *err)
{
    fs_store *fs = state;
    const char *name = NULL;
    struct stat st;
    kb_code code = check_writable(fs, err);
    if (code != KB_OK)
        return code;
    KB_AUTO_FD int dir = kb_fs_root_open_parent(&fs->root, key, &name);
    if (dir < 0)
        return fail_at(fs, key, -dir, "remove", err);
    code = stat_regular(fs, dir, name, key, &st, err);
    if (code != KB_OK)
        return code;
    if (unlinkat(dir, name, 0) != 0)
        return fail_at(fs, key, errno, "remove", err);
    /* Removals are ordered as well: a manifest must not come back when its segments are gone. */
    code = kb_fsync(dir, fs->root.path, err);
    if (code == KB_OK)
        kb_fs_root_trim(&fs->root, key);
    return code;
}

/* Keys of one folder in a row share its sync: removals must be durable, but have no order among themselves.
 */
typedef struct removal {
    fs_store *fs;
    char *folder;         /* owned; of `dir` */
    const char *last_key; /* removed from it and not yet synced; NULL = none */
    int dir;
} removal;

static void removal_done(removal *r)
{
    kb_fd_close_at(&r->dir);
    free(r->folder);
}

static kb_code removal_settle(removal *r, kb_error *err)
{
    if (r->last_key == NULL)
        return KB_OK;
    kb_code code = kb_fsync(r->dir, r->fs->root.path, err);
    if (code == KB_OK)
        kb_fs_root_trim(&r->fs->root, r->last_key);
    r->last_key = NULL;
    return code;
}

static kb_code removal_enter(removal *r, const char *key, const char **ret_name, kb_error *err)
{
    const char *slash = strrchr(key, '/');
    KB_AUTOFREE char *folder = kb_strndup(key, slash != NULL ? (size_t)(slash - key) : 0);
    *ret_name = slash != NULL ? slash + 1 : key;
    if (r->dir >= 0 && strcmp(folder, r->folder) == 0)
        return KB_OK;
    kb_code code = removal_settle(r, err);
    if (code != KB_OK)
        return code;
    kb_fd_close_at(&r->dir);
    int dir = kb_fs_root_open_parent(&r->fs->root, key, ret_name);
    if (dir < 0)
        return fail_at(r->fs, key, -dir, "remove", err);
    r->dir = dir;
    free(r->folder);
    r->folder = KB_TAKE(folder);
    return KB_OK;
}

static kb_code remove_next(removal *r, const char *key, kb_error *err)
{
    const char *name = NULL;
    struct stat st;
    kb_code code = removal_enter(r, key, &name, err);
    if (code == KB_OK)
        code = stat_regular(r->fs, r->dir, name, key, &st, err);
    if (code != KB_OK)
        return code;
    if (unlinkat(r->dir, name, 0) != 0)
        return fail_at(r->fs, key, errno, "remove", err);
    r->last_key = key;
    return KB_OK;
}

static kb_code fs_remove_many(void *state, const char *const *keys, size_t count, kb_remove_outcome *outcomes,
                              kb_error *err)
{
    kb_code code = check_writable(state, err);
    if (code != KB_OK)
        return code;
    KB_CLEANUP(removal_done) removal r = {.fs = state, .dir = -1};
    for (size_t i = 0; i < count; i++) {
        KB_AUTO_ERROR(refused);
        code = remove_next(&r, keys[i], &refused);
        if (code == KB_OK) {
            outcomes[i] = KB_REMOVE_GONE;
        } else if (code == KB_ERR_NOT_FOUND) {
            outcomes[i] = KB_REMOVE_ABSENT;
        } else if (code == KB_STORAGE_ACCESS_DENIED) {
            outcomes[i] = KB_REMOVE_HELD;
        } else {
            kb_error_move(err, &refused);
            return code;
        }
    }
    return removal_settle(&r, err);
}

static kb_code fs_now(void *state, int64_t *ret_now_ms, kb_error *err)
{
    fs_store *fs = state;
    if (fs->mode != KB_FS_READ)
        return kb_fs_now(&fs->root, ret_now_ms, err);
    *ret_now_ms = kb_clock_wall_ms();
    return KB_OK;
}

static kb_code fs_list_leftovers(void *state, const char *prefix, kb_leftover_fn fn, void *ctx, kb_error *err)
{
    fs_store *fs = state;
    return kb_fs_leftovers(&fs->root, prefix, fn, ctx, err);
}

static kb_code fs_abort_leftover(void *state, const kb_leftover *leftover, kb_error *err)
{
    fs_store *fs = state;
    const char *name = NULL;
    kb_code code = check_writable(fs, err);
    if (code != KB_OK)
        return code;
    KB_AUTO_FD int dir = kb_fs_root_open_parent(&fs->root, leftover->key, &name);
    if (dir == -ENOENT)
        return KB_OK;
    if (dir < 0)
        return fail_at(fs, leftover->key, -dir, "remove", err);
    if (!kb_fs_is_temp_name(name))
        return kb_fail(err, KB_ERR_INTERNAL, "'%s' is no unfinished upload", leftover->key);
    if (unlinkat(dir, name, 0) != 0 && errno != ENOENT)
        return fail_at(fs, leftover->key, errno, "remove", err);
    kb_fs_root_trim(&fs->root, leftover->key);
    return KB_OK;
}

static kb_code fs_abort_leftovers(void *state, const char *prefix, size_t *ret_count, kb_error *err)
{
    fs_store *fs = state;
    kb_code code = check_writable(fs, err);
    return code != KB_OK ? code : kb_fs_sweep(&fs->root, prefix, ret_count, err);
}

/* ---- uploads ---- */

static kb_code fs_upload_begin(void *state, const char *key, const char *attempt_id_hex, void **ret_upload,
                               kb_error *err)
{
    fs_store *fs = state;
    kb_fs_temp *temp = NULL;
    int tries = 0;
    kb_code code = check_writable(fs, err);
    if (code != KB_OK)
        return code;
    do
        code = kb_fs_temp_new(&fs->root, fs->naming, key, attempt_id_hex, &temp, err);
    while (is_worth_a_try(code, err, &tries));
    if (code != KB_OK)
        return code;
    fs_upload *upload = kb_malloc(sizeof *upload);
    *upload = (fs_upload){temp, KB_UPLOAD_HEAD_BYTES};
    *ret_upload = upload;
    return KB_OK;
}

static kb_code fs_upload_append(void *upload_ptr, const void *data, size_t len, kb_error *err)
{
    fs_upload *upload = upload_ptr;
    kb_code code = kb_fs_temp_write(upload->temp, data, len, upload->at, err);
    if (code == KB_OK)
        upload->at += len;
    return code;
}

static kb_code fs_upload_complete(void *upload_ptr, const uint8_t head[KB_UPLOAD_HEAD_BYTES], kb_error *err)
{
    fs_upload *upload = upload_ptr;
    kb_code code = kb_fs_temp_write(upload->temp, head, KB_UPLOAD_HEAD_BYTES, 0, err);
    return code != KB_OK ? code : kb_fs_temp_publish(upload->temp, "segment.sent_no_reply", err);
}

static void fs_upload_free(void *owned_upload)
{
    fs_upload *upload = owned_upload;
    kb_fs_temp_free(upload->temp);
    free(upload);
}

/* ---- opening ---- */

static void fs_free(void *owned_state)
{
    fs_store *fs = owned_state;
    kb_fs_root_done(&fs->root);
    free(fs);
}

static const kb_storage_driver driver = {
    .name = "filesystem",
    .free_state = fs_free,
    .put_if_absent = fs_put_if_absent,
    .get = fs_get,
    .get_range = fs_get_range,
    .head = fs_head,
    .remove = fs_remove,
    .list_page = fs_list_page,
    .upload_begin = fs_upload_begin,
    .upload_append = fs_upload_append,
    .upload_complete = fs_upload_complete,
    .upload_free = fs_upload_free,
    .abort_leftovers = fs_abort_leftovers,
    .confirm = fs_confirm,
    .remove_many = fs_remove_many,
    .now = fs_now,
    .list_leftovers = fs_list_leftovers,
    .abort_leftover = fs_abort_leftover,
    .is_case_sensitive = fs_is_case_sensitive,
};

/* Makes the last component and its name durable. */
static kb_code make_root(const char *path, kb_error *err)
{
    if (mkdir(path, 0777) != 0 && errno != EEXIST) {
        if (errno == ENOENT)
            return kb_fail(err, KB_CONFIG_INVALID,
                           "cannot create '%s': the directory above it does not exist; hint: check the path "
                           "and that the volume is mounted",
                           path);
        return kb_file_fail(err, errno, "create", path);
    }
    KB_AUTOFREE char *inside = kb_asprintf("%s/..", path);
    return kb_dir_fsync(inside, err);
}

static kb_code open_root(const char *path, kb_fs_mode mode, int *ret_fd, kb_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && mode == KB_FS_CREATE) {
        kb_code code = make_root(path, err);
        if (code != KB_OK)
            return code;
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (fd >= 0) {
        *ret_fd = fd;
        return KB_OK;
    }
    if (errno == ENOENT)
        return kb_fail(err, KB_BACKUP_NOT_FOUND,
                       "there is no directory '%s'; hint: check the path and that the volume is mounted",
                       path);
    if (errno == ENOTDIR)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "'%s' is not a directory; hint: give one as the storage's path", path);
    return kb_file_fail(err, errno, "open", path);
}

kb_code kb_storage_open_filesystem(const char *path, kb_fs_mode mode, kb_storage **ret_storage, kb_error *err)
{
    if (path[0] == '\0')
        return kb_fail(err, KB_CONFIG_INVALID, "the path of the storage is empty");
    int fd = -1;
    kb_code code = open_root(path, mode, &fd, err);
    if (code != KB_OK)
        return code;
    fs_store *fs = kb_calloc(1, sizeof *fs);
    kb_fs_root_init(&fs->root, fd, path);
    fs->mode = mode;
    if (mode != KB_FS_READ)
        code = kb_fs_probe(&fs->root, &fs->naming, err);
    if (code != KB_OK) {
        fs_free(fs);
        return code;
    }
    kb_storage_caps caps = {.conditional_put = fs->naming != KB_FS_LOOK_AND_RENAME};
    *ret_storage = kb_storage_new(&driver, fs, &caps, path);
    return KB_OK;
}

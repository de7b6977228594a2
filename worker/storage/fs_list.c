#include "worker/storage/fs_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "worker/storage/fs_temp.h"

#define KB_PAGE_DEFAULT 10000
/* Ours are five levels deep; a descriptor is open per level. */
#define KB_DEPTH_MAX 64
#define KB_DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)

/* ---- one directory ---- */

/* An open directory and its path as the start of keys ("" or "a/b/"). */
typedef struct level {
    int fd;
    const char *key_start;
    const char *only; /* names (a directory's with '/') must begin with it */
    unsigned depth;
} level;

typedef struct scan {
    DIR *dir;
    const level *level;
} scan;

static void scan_done(scan *s)
{
    if (s->dir != NULL)
        closedir(s->dir);
}

static kb_code fail_at(const kb_fs_root *root, const char *key, int number, const char *verb, kb_error *err)
{
    KB_AUTOFREE char *path = kb_asprintf("%s/%s", root->path, key);
    return kb_fs_fail(err, number, verb, path);
}

static kb_code scan_open(const kb_fs_root *root, const level *at, scan *ret_scan, kb_error *err)
{
    int fd = openat(at->fd, ".", KB_DIR_FLAGS | O_CLOEXEC);
    /* The directory is open already, so it was removed since: as good as empty. */
    if (fd < 0 && errno == ENOENT) {
        *ret_scan = (scan){NULL, at};
        return KB_OK;
    }
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        int number = errno;
        kb_fd_close_at(&fd);
        return fail_at(root, at->key_start, number, "list", err);
    }
    *ret_scan = (scan){dir, at};
    return KB_OK;
}

/* A directory that was removed or replaced since it was read. */
static bool is_gone(int number)
{
    return number == ENOENT || number == ENOTDIR || number == ELOOP;
}

/* DT_REG, DT_DIR, or DT_UNKNOWN for what does not count. */
static unsigned char type_of(int dir, const struct dirent *entry)
{
    if (entry->d_type == DT_REG || entry->d_type == DT_DIR)
        return entry->d_type;
    struct stat st;
    if (entry->d_type != DT_UNKNOWN || fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return DT_UNKNOWN;
    return S_ISREG(st.st_mode) ? DT_REG : S_ISDIR(st.st_mode) ? DT_DIR : DT_UNKNOWN;
}

/* The next entry that is a file or directory. KB_ERR_END (without a text) after the last. */
static kb_code scan_next(const kb_fs_root *root, scan *s, const char **ret_name, unsigned char *ret_type,
                         kb_error *err)
{
    while (s->dir != NULL) {
        errno = 0;
        const struct dirent *entry = readdir(s->dir);
        if (entry == NULL && errno == ENOENT)
            break;
        if (entry == NULL && errno != 0)
            return fail_at(root, s->level->key_start, errno, "list", err);
        if (entry == NULL)
            break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        *ret_type = type_of(dirfd(s->dir), entry);
        *ret_name = entry->d_name;
        if (*ret_type != DT_UNKNOWN)
            return KB_OK;
    }
    return KB_ERR_END;
}

/* ---- names in order ---- */

/* The smallest names of a directory, up to a limit; a directory's ends with '/'. */
typedef struct names {
    char **at; /* owned */
    size_t count;
    size_t capacity;
    size_t limit;
    bool truncated;
} names;

static void names_done(names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->at[i]);
    free(n->at);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_cut(names *n)
{
    if (n->count > 1)
        qsort(n->at, n->count, sizeof *n->at, compare_names);
    if (n->count <= n->limit)
        return;
    for (size_t i = n->limit; i < n->count; i++)
        free(n->at[i]);
    n->count = n->limit;
    n->truncated = true;
}

/* Cutting at twice the limit keeps both the memory and the sorting in proportion. */
static void names_add(names *n, char *owned_name)
{
    if (n->count == 2 * n->limit)
        names_cut(n);
    n->at = kb_grow(n->at, n->count, &n->capacity, sizeof *n->at);
    n->at[n->count++] = owned_name;
}

/* ---- the walk ---- */

typedef struct walk {
    kb_fs_root *root;
    bool by_folder;
    size_t max_entries;
    const char *after; /* the page holds only keys above it; "" at the start */
    kb_list_page page;
    size_t capacity;
} walk;

static void walk_done(walk *w)
{
    kb_list_page_done(&w->page);
}

static bool has_start(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static bool is_full(const walk *w)
{
    return w->page.count == w->max_entries;
}

static bool is_hidden(const level *at, const char *name, unsigned char type)
{
    bool in_root = at->key_start[0] == '\0';
    return (name[0] == '.' && (in_root || type == DT_REG)) || (in_root && strcmp(name, "lost+found") == 0);
}

/* Whether anything at or below this name comes after what was listed. Names too long for a key are not keys.
 */
static bool is_ahead(const walk *w, const level *at, const char *name)
{
    KB_AUTOFREE char *key = kb_asprintf("%s%s", at->key_start, name);
    if (!has_start(name, at->only) || strlen(key) > KB_STORAGE_KEY_MAX)
        return false;
    bool is_open_dir = !w->by_folder && key[strlen(key) - 1] == '/' && has_start(w->after, key);
    return is_open_dir || strcmp(key, w->after) > 0;
}

/* The next names above `last`. */
static kb_code collect(walk *w, const level *at, const char *last, names *n, kb_error *err)
{
    KB_CLEANUP(scan_done) scan s = {NULL, NULL};
    kb_code code = scan_open(w->root, at, &s, err);
    while (code == KB_OK) {
        const char *entry = "";
        unsigned char type = DT_UNKNOWN;
        code = scan_next(w->root, &s, &entry, &type, err);
        if (code != KB_OK || is_hidden(at, entry, type))
            continue;
        KB_AUTOFREE char *name = kb_asprintf("%s%s", entry, type == DT_DIR ? "/" : "");
        if (strcmp(name, last) > 0 && is_ahead(w, at, name))
            names_add(n, KB_TAKE(name));
    }
    if (code != KB_ERR_END)
        return code;
    names_cut(n);
    return KB_OK;
}

static void add_entry(walk *w, const char *key, const struct stat *st)
{
    w->page.entries = kb_grow(w->page.entries, w->page.count, &w->capacity, sizeof *w->page.entries);
    kb_list_entry *entry = &w->page.entries[w->page.count++];
    *entry = (kb_list_entry){.key = kb_strdup(key), .is_folder = st == NULL};
    if (st == NULL)
        return;
    entry->info.size_bytes = (uint64_t)st->st_size;
    entry->info.mtime_ms = (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;
}

static kb_code add_file(walk *w, const level *at, const char *name, const char *key, kb_error *err)
{
    struct stat st;
    if (fstatat(at->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (S_ISREG(st.st_mode))
            add_entry(w, key, &st);
        return KB_OK;
    }
    return errno == ENOENT ? KB_OK : fail_at(w->root, key, errno, "look at", err);
}

static kb_code walk_level(walk *w, const level *at, kb_error *err);

static kb_code walk_into(walk *w, const level *at, const char *name, const char *key, kb_error *err)
{
    if (at->depth == KB_DEPTH_MAX)
        return kb_fail(err, KB_ERR_FORMAT, "'%s/%s' lies deeper than %d directories", w->root->path, key,
                       KB_DEPTH_MAX);
    KB_AUTOFREE char *plain = kb_strndup(name, strlen(name) - 1);
    KB_AUTO_FD int fd = openat(at->fd, plain, KB_DIR_FLAGS | O_CLOEXEC);
    if (fd < 0)
        return is_gone(errno) ? KB_OK : fail_at(w->root, key, errno, "open", err);
    level below = {.fd = fd, .key_start = key, .only = "", .depth = at->depth + 1};
    return walk_level(w, &below, err);
}

static kb_code visit(walk *w, const level *at, const char *name, kb_error *err)
{
    KB_AUTOFREE char *key = kb_asprintf("%s%s", at->key_start, name);
    if (name[strlen(name) - 1] != '/')
        return add_file(w, at, name, key, err);
    if (!w->by_folder)
        return walk_into(w, at, name, key, err);
    add_entry(w, key, NULL);
    return KB_OK;
}

/* All of a directory, in rounds of as many names as still fit the page. */
static kb_code walk_level(walk *w, const level *at, kb_error *err)
{
    KB_AUTOFREE char *last = kb_strdup("");
    bool more = true;
    while (more && !is_full(w)) {
        KB_CLEANUP(names_done) names n = {.limit = w->max_entries - w->page.count};
        kb_code code = collect(w, at, last, &n, err);
        for (size_t i = 0; code == KB_OK && i < n.count && !is_full(w); i++)
            code = visit(w, at, n.at[i], err);
        if (code != KB_OK)
            return code;
        more = n.truncated;
        if (more) {
            free(last);
            last = KB_TAKE(n.at[n.count - 1]);
            n.count--;
        }
    }
    return KB_OK;
}

/* "a/b/" of the prefix "a/b/c", "" of "c"; owned. */
static char *folder_of(const char *prefix)
{
    const char *slash = strrchr(prefix, '/');
    return kb_strndup(prefix, slash == NULL ? 0 : (size_t)(slash - prefix) + 1);
}

/* Opens a folder as folder_of names it; -1 when there is none. */
static kb_code open_folder(kb_fs_root *root, const char *folder, int *ret_fd, kb_error *err)
{
    size_t len = strlen(folder);
    KB_AUTOFREE char *path = kb_strndup(folder, len > 0 ? len - 1 : 0);
    int fd = kb_fs_root_open(root, path, KB_DIR_FLAGS);
    if (fd == -ENOENT || fd == -ENOTDIR || fd == -ENAMETOOLONG)
        fd = -1;
    else if (fd < 0)
        return fail_at(root, path, -fd, "list", err);
    *ret_fd = fd;
    return KB_OK;
}

kb_code kb_fs_list_page(kb_fs_root *root, const kb_list_options *options, kb_list_page *ret_page,
                        kb_error *err)
{
    KB_AUTO_FD int fd = -1;
    KB_AUTOFREE char *start = folder_of(options->prefix);
    kb_code code = open_folder(root, start, &fd, err);
    if (code != KB_OK)
        return code;
    size_t max = options->max_entries > 0 ? options->max_entries : KB_PAGE_DEFAULT;
    KB_CLEANUP(walk_done)
    walk w = {.root = root, .by_folder = options->by_folder, .max_entries = max, .after = ""};
    if (options->after != NULL)
        w.after = options->after;
    level top = {.fd = fd, .key_start = start, .only = options->prefix + strlen(start)};
    if (fd >= 0)
        code = walk_level(&w, &top, err);
    if (code != KB_OK)
        return code;
    if (fd >= 0 && is_full(&w))
        w.page.next = kb_strdup(w.page.entries[w.page.count - 1].key);
    *ret_page = w.page;
    w.page = (kb_list_page)KB_LIST_PAGE_INIT;
    return KB_OK;
}

/* ---- hidden files of uploads ---- */

/* Removes them, or tells them when there is a callback. */
typedef struct sweep {
    kb_fs_root *root;
    kb_leftover_fn fn;
    void *ctx;
    size_t count; /* removed */
} sweep;

static kb_code sweep_level(sweep *sw, const level *at, kb_error *err);

static kb_code tell_leftover(const sweep *sw, const level *at, const char *name, const char *key,
                             kb_error *err)
{
    struct stat st;
    if (fstatat(at->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? KB_OK : fail_at(sw->root, key, errno, "look at", err);
    const kb_leftover leftover = {
        .key = key,
        .token = "",
        .began_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000,
        .size_bytes = (uint64_t)st.st_size,
    };
    return sw->fn(sw->ctx, &leftover, err);
}

static kb_code sweep_file(sweep *sw, const level *at, const char *name, const char *key, kb_error *err)
{
    if (!kb_fs_is_temp_name(name))
        return KB_OK;
    if (sw->fn != NULL)
        return tell_leftover(sw, at, name, key, err);
    if (unlinkat(at->fd, name, 0) == 0)
        sw->count++;
    else if (errno != ENOENT)
        return fail_at(sw->root, key, errno, "remove", err);
    return KB_OK;
}

static kb_code sweep_entry(sweep *sw, const level *at, const char *name, unsigned char type, kb_error *err)
{
    KB_AUTOFREE char *key = kb_asprintf("%s%s%s", at->key_start, name, type == DT_DIR ? "/" : "");
    if (type == DT_REG)
        return sweep_file(sw, at, name, key, err);
    if (at->depth == KB_DEPTH_MAX)
        return KB_OK;
    KB_AUTO_FD int fd = openat(at->fd, name, KB_DIR_FLAGS | O_CLOEXEC);
    if (fd < 0)
        return is_gone(errno) ? KB_OK : fail_at(sw->root, key, errno, "open", err);
    level below = {.fd = fd, .key_start = key, .only = "", .depth = at->depth + 1};
    return sweep_level(sw, &below, err);
}

static kb_code sweep_level(sweep *sw, const level *at, kb_error *err)
{
    KB_CLEANUP(scan_done) scan s = {NULL, NULL};
    kb_code code = scan_open(sw->root, at, &s, err);
    while (code == KB_OK) {
        const char *name = "";
        unsigned char type = DT_UNKNOWN;
        code = scan_next(sw->root, &s, &name, &type, err);
        if (code == KB_OK)
            code = sweep_entry(sw, at, name, type, err);
    }
    return code == KB_ERR_END ? KB_OK : code;
}

static kb_code sweep_prefix(sweep *sw, const char *prefix, kb_error *err)
{
    KB_AUTO_FD int fd = -1;
    KB_AUTOFREE char *start = folder_of(prefix);
    kb_code code = open_folder(sw->root, start, &fd, err);
    if (code != KB_OK || fd < 0)
        return code;
    level top = {.fd = fd, .key_start = start, .only = ""};
    return sweep_level(sw, &top, err);
}

kb_code kb_fs_sweep(kb_fs_root *root, const char *prefix, size_t *ret_count, kb_error *err)
{
    sweep sw = {.root = root};
    kb_code code = sweep_prefix(&sw, prefix, err);
    *ret_count += sw.count;
    return code;
}

kb_code kb_fs_leftovers(kb_fs_root *root, const char *prefix, kb_leftover_fn fn, void *ctx, kb_error *err)
{
    sweep sw = {.root = root, .fn = fn, .ctx = ctx};
    return sweep_prefix(&sw, prefix, err);
}

#include "worker/storage/storage_fs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/failpoint.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "common/testing/temp_dir.h"
#include "worker/tests/conformance_storage.h"

#define ATTEMPT "00112233445566778899aabbccddeeff"
#define NOBODY 65534

typedef struct fixture {
    char *dir;  /* holds the root and things beside it */
    char *root; /* dir/root */
    kb_storage *storage;
} fixture;

static int setup(void **state)
{
    KB_AUTO_ERROR(err);
    fixture *f = kb_calloc(1, sizeof *f);
    f->dir = kb_temp_dir_new();
    f->root = kb_temp_path(f->dir, "root");
    if (kb_storage_open_filesystem(f->root, KB_FS_CREATE, &f->storage, &err) != KB_OK)
        return -1;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    kb_storage_free(f->storage);
    kb_temp_dir_free(f->dir);
    free(f->root);
    free(f);
    return 0;
}

static void put(kb_storage *s, const char *key, const char *text)
{
    KB_AUTO_ERROR(err);
    if (kb_storage_put_if_absent(s, key, kb_view_of(text, strlen(text)), &err) != KB_OK)
        fail_msg("put %s: %s", key, kb_error_text(&err));
}

/* A file made behind the store's back; folders on the way must exist. */
static void make_file(const fixture *f, const char *name, const char *text)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *path = kb_temp_path(f->root, name);
    assert_int_equal(kb_file_write(path, text, strlen(text), &err), KB_OK);
}

static void make_dir(const fixture *f, const char *name)
{
    KB_AUTOFREE char *path = kb_temp_path(f->root, name);
    assert_int_equal(mkdir(path, 0777), 0);
}

static bool is_there(const char *dir, const char *name)
{
    KB_AUTOFREE char *path = kb_temp_path(dir, name);
    struct stat st;
    return lstat(path, &st) == 0;
}

/* Everything below a directory, hidden files and folders included. */
static size_t count_files(const char *dir)
{
    KB_AUTOFREE char *command = kb_asprintf("find '%s' -mindepth 1 | wc -l", dir);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t count = 9999;
    assert_int_equal(fscanf(pipe, "%zu", &count), 1);
    pclose(pipe);
    return count;
}

static kb_code join_key(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    (void)err;
    kb_strbuf_appendf(ctx, "%s ", entry->key);
    return KB_OK;
}

static void assert_lists(kb_storage *s, const char *prefix, const char *expected)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(all, 1 << 20);
    if (kb_storage_list(s, prefix, join_key, &all, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    assert_string_equal(kb_strbuf_view(&all), expected);
}

/* ---- opening ---- */

static void open_filesystem_of_a_bad_path_names_it(void **state)
{
    fixture *f = *state;
    KB_AUTOFREE char *missing = kb_temp_path(f->dir, "missing");
    KB_AUTOFREE char *deeper = kb_temp_path(f->dir, "missing/more");
    KB_AUTOFREE char *file = kb_temp_path(f->root, "file");
    make_file(f, "file", "x");
    const struct {
        const char *path;
        kb_fs_mode mode;
        kb_code code;
    } table[] = {
        {missing, KB_FS_READ, KB_BACKUP_NOT_FOUND}, {missing, KB_FS_WRITE, KB_BACKUP_NOT_FOUND},
        {deeper, KB_FS_CREATE, KB_CONFIG_INVALID},  {deeper, KB_FS_READ, KB_BACKUP_NOT_FOUND},
        {file, KB_FS_READ, KB_CONFIG_INVALID},      {file, KB_FS_CREATE, KB_CONFIG_INVALID},
        {"", KB_FS_READ, KB_CONFIG_INVALID},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        KB_AUTO_ERROR(err);
        kb_storage *s = NULL;
        assert_int_equal(kb_storage_open_filesystem(table[i].path, table[i].mode, &s, &err), table[i].code);
        assert_null(s);
        assert_non_null(strstr(kb_error_text(&err), table[i].path));
    }
    assert_false(is_there(f->dir, "missing"));
}

static void open_filesystem_leaves_nothing_behind(void **state)
{
    fixture *f = *state;
    assert_int_equal(count_files(f->root), 0);
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *slashed = kb_asprintf("%s/second///", f->dir);
    KB_CLEANUP(kb_storage_free_at) kb_storage *s = NULL;
    assert_int_equal(kb_storage_open_filesystem(slashed, KB_FS_CREATE, &s, &err), KB_OK);
    assert_true(kb_storage_caps_view(s)->conditional_put);
    assert_string_equal(kb_storage_describe(s), slashed);
    assert_int_equal(count_files(slashed), 0);
}

static void open_filesystem_sweeps_old_probes(void **state)
{
    fixture *f = *state;
    make_file(f, ".kb-probe.0011.0", "");
    make_file(f, ".kb-probe.2233.0", "");
    make_file(f, ".kb-other", "");
    KB_AUTOFREE char *old = kb_temp_path(f->root, ".kb-probe.0011.0");
    struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    assert_int_equal(utimensat(AT_FDCWD, old, times, 0), 0);
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_storage_free_at) kb_storage *s = NULL;
    assert_int_equal(kb_storage_open_filesystem(f->root, KB_FS_WRITE, &s, &err), KB_OK);
    assert_false(is_there(f->root, ".kb-probe.0011.0"));
    assert_true(is_there(f->root, ".kb-probe.2233.0"));
    assert_true(is_there(f->root, ".kb-other"));
}

static void open_filesystem_without_write_permission_is_denied(void **state)
{
    fixture *f = *state;
    KB_AUTO_ERROR(err);
    kb_storage *s = NULL;
    bool is_root = geteuid() == 0;
    assert_int_equal(chmod(f->dir, 0755), 0);
    assert_int_equal(chmod(f->root, is_root ? 0755 : 0555), 0);
    if (is_root)
        assert_int_equal(seteuid(NOBODY), 0);
    kb_code written = kb_storage_open_filesystem(f->root, KB_FS_WRITE, &s, &err);
    if (is_root)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(chmod(f->root, 0755), 0);
    assert_int_equal(written, KB_STORAGE_ACCESS_DENIED);
    assert_non_null(strstr(kb_error_text(&err), f->root));
    assert_non_null(strstr(kb_error_text(&err), "hint:"));
}

static void a_store_opened_for_reading_refuses_to_write(void **state)
{
    fixture *f = *state;
    KB_AUTO_ERROR(err);
    put(f->storage, "a", "1");
    KB_CLEANUP(kb_storage_free_at) kb_storage *s = NULL;
    kb_upload *upload = NULL;
    KB_AUTO_BLOB(blob);
    assert_int_equal(kb_storage_open_filesystem(f->root, KB_FS_READ, &s, &err), KB_OK);
    assert_int_equal(kb_storage_get(s, "a", 10, &blob, &err), KB_OK);
    assert_int_equal(kb_storage_put_if_absent(s, "b", kb_view_of("1", 1), &err), KB_STORAGE_ACCESS_DENIED);
    assert_int_equal(kb_storage_remove(s, "a", &err), KB_STORAGE_ACCESS_DENIED);
    assert_int_equal(kb_upload_begin(s, "b", ATTEMPT, &upload, &err), KB_STORAGE_ACCESS_DENIED);
    assert_int_equal(kb_storage_abort_leftovers(s, "", NULL, &err), KB_STORAGE_ACCESS_DENIED);
    assert_int_equal(kb_storage_confirm(s, "a", &err), KB_STORAGE_ACCESS_DENIED);
    assert_int_equal(count_files(f->root), 1);
}

/* ---- what is not a regular file beneath the root ---- */

static void make_traps(const fixture *f)
{
    KB_AUTOFREE char *secret = kb_temp_path(f->dir, "secret");
    KB_AUTOFREE char *outside = kb_temp_path(f->dir, "outside");
    KB_AUTO_ERROR(err);
    assert_int_equal(kb_file_write(secret, "secret", 6, &err), KB_OK);
    assert_int_equal(mkdir(outside, 0777), 0);
    KB_AUTOFREE char *inner = kb_temp_path(outside, "o");
    assert_int_equal(kb_file_write(inner, "secret", 6, &err), KB_OK);
    put(f->storage, "B/real/o", "real");
    const char *const links[][2] = {{"../../secret", "B/link"},
                                    {"/etc/passwd", "B/absolute"},
                                    {"../../outside", "B/away"},
                                    {"real", "B/alias"},
                                    {"real/o", "B/inside"},
                                    {"nowhere", "B/dangling"},
                                    {".", "B/self"}};
    for (size_t i = 0; i < KB_ARRAY_LEN(links); i++) {
        KB_AUTOFREE char *path = kb_temp_path(f->root, links[i][1]);
        assert_int_equal(symlink(links[i][0], path), 0);
    }
    KB_AUTOFREE char *pipe = kb_temp_path(f->root, "B/pipe");
    assert_int_equal(mkfifo(pipe, 0666), 0);
}

static void reads_through_links_and_of_pipes_are_refused(void **state)
{
    static const char *const keys[] = {"B/link",     "B/absolute",    "B/away/o", "B/alias/o", "B/inside",
                                       "B/dangling", "B/self/real/o", "B/pipe",   "B/real",    "B/away"};
    fixture *f = *state;
    make_traps(f);
    for (size_t i = 0; i < KB_ARRAY_LEN(keys); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_BLOB(blob);
        kb_object_info info;
        char byte;
        assert_int_equal(kb_storage_get(f->storage, keys[i], 10000, &blob, &err), KB_ERR_FORMAT);
        assert_non_null(strstr(kb_error_text(&err), keys[i]));
        assert_int_equal(kb_storage_get_range(f->storage, keys[i], 0, &byte, 1, &err), KB_ERR_FORMAT);
        assert_int_equal(kb_storage_head(f->storage, keys[i], &info, &err), KB_ERR_FORMAT);
        assert_int_equal(kb_storage_remove(f->storage, keys[i], &err), KB_ERR_FORMAT);
    }
    assert_lists(f->storage, "", "B/real/o ");
}

static void writes_through_links_are_refused(void **state)
{
    static const struct {
        const char *key;
        kb_code code;
    } table[] = {{"B/away/new", KB_ERR_FORMAT},
                 {"B/away/deep/new", KB_ERR_FORMAT},
                 {"B/alias/new", KB_ERR_FORMAT},
                 {"B/dangling/new", KB_ERR_FORMAT},
                 {"B/link", KB_ERR_EXISTS},
                 {"B/dangling", KB_ERR_EXISTS},
                 {"B/pipe", KB_ERR_EXISTS},
                 {"B/real", KB_ERR_EXISTS},
                 {"B/real/o/new", KB_STORAGE_IO_ERROR}};
    fixture *f = *state;
    make_traps(f);
    KB_AUTOFREE char *outside = kb_temp_path(f->dir, "outside");
    size_t before = count_files(f->root);
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        KB_AUTO_ERROR(err);
        kb_code code = kb_storage_put_if_absent(f->storage, table[i].key, kb_view_of("x", 1), &err);
        if (code != table[i].code)
            fail_msg("%s: %d %s", table[i].key, code, kb_error_text(&err));
    }
    assert_int_equal(count_files(f->root), before);
    assert_int_equal(count_files(outside), 1);
    assert_false(is_there(f->root, "B/nowhere"));
}

static void a_hard_link_is_a_regular_file(void **state)
{
    fixture *f = *state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BLOB(blob);
    put(f->storage, "B/a", "1");
    KB_AUTOFREE char *a = kb_temp_path(f->root, "B/a");
    KB_AUTOFREE char *b = kb_temp_path(f->root, "B/b");
    assert_int_equal(link(a, b), 0);
    assert_int_equal(kb_storage_get(f->storage, "B/b", 10, &blob, &err), KB_OK);
    assert_int_equal(kb_storage_put_if_absent(f->storage, "B/b", kb_view_of("1", 1), &err), KB_ERR_EXISTS);
}

/* ---- names ---- */

static void hidden_names_are_not_listed(void **state)
{
    fixture *f = *state;
    put(f->storage, "B/topics/...a/o", "1");
    make_file(f, "B/topics/...a/.o.bin." ATTEMPT ".tmp", "torn");
    make_file(f, "B/topics/.nfs0001", "x");
    make_file(f, ".DS_Store", "x");
    make_dir(f, ".snapshot");
    make_file(f, ".snapshot/o", "x");
    make_dir(f, "lost+found");
    make_file(f, "lost+found/o", "x");
    assert_lists(f->storage, "", "B/topics/...a/o ");
}

static void abort_leftovers_removes_only_hidden_files_of_uploads(void **state)
{
    fixture *f = *state;
    KB_AUTO_ERROR(err);
    size_t count = 0;
    put(f->storage, "B/topics/t/o", "1");
    make_file(f, "B/topics/t/.o.bin." ATTEMPT ".tmp", "torn");
    make_file(f, "B/.manifest.json." ATTEMPT ".tmp", "torn");
    make_file(f, "B/topics/t/.o.bin.0011.tmp", "kept");
    make_file(f, "B/topics/t/o." ATTEMPT ".tmp", "kept");
    make_file(f, "B/topics/t/.." ATTEMPT ".tmp", "kept");
    assert_int_equal(kb_storage_abort_leftovers(f->storage, "B/", &count, &err), KB_OK);
    assert_int_equal(count, 2);
    assert_int_equal(count_files(f->root), 7);
}

static void the_longest_names_can_be_written(void **state)
{
    static const size_t lengths[] = {217, 218, 230, 255};
    fixture *f = *state;
    for (size_t i = 0; i < KB_ARRAY_LEN(lengths); i++) {
        for (int is_utf8 = 0; is_utf8 < 2; is_utf8++) {
            char name[256] = {0};
            for (size_t at = 0; at < lengths[i]; at++)
                name[at] = (char)(is_utf8 ? (at % 2 == 0 ? 0xc3 : 0xa4) : 'n');
            KB_AUTOFREE char *key = kb_asprintf("B/%.*s", (int)lengths[i], name);
            put(f->storage, key, "1");
        }
    }
    KB_AUTO_ERROR(err);
    KB_AUTO_BLOB(blob);
    char name[257] = {0};
    memset(name, 'n', 256);
    assert_int_equal(kb_storage_put_if_absent(f->storage, name, kb_view_of("1", 1), &err),
                     KB_STORAGE_IO_ERROR);
    assert_int_equal(kb_storage_get(f->storage, name, 10, &blob, &err), KB_ERR_NOT_FOUND);
    assert_int_equal(count_files(f->root), 9);
}

static void is_case_sensitive_without_a_proof_is_false(void **state)
{
    fixture *f = *state;
    KB_AUTO_ERROR(err);
    bool sensitive = true;
    assert_int_equal(kb_storage_is_case_sensitive(f->storage, "B", &sensitive, &err), KB_ERR_NOT_FOUND);
    put(f->storage, "B/journal/00000000.json", "{}");
    make_dir(f, "B/JOURNAL");
    assert_int_equal(kb_storage_is_case_sensitive(f->storage, "B", &sensitive, &err), KB_OK);
    assert_false(sensitive);
}

static void remove_takes_empty_folders_with_it(void **state)
{
    fixture *f = *state;
    KB_AUTO_ERROR(err);
    put(f->storage, "B/topics/t/a", "1");
    put(f->storage, "B/other", "1");
    assert_int_equal(kb_storage_remove(f->storage, "B/topics/t/a", &err), KB_OK);
    assert_false(is_there(f->root, "B/topics"));
    assert_true(is_there(f->root, "B"));
    put(f->storage, "B/topics/t/a", "2");
    assert_int_equal(kb_storage_remove(f->storage, "B/topics/t/a", &err), KB_OK);
    assert_int_equal(kb_storage_remove(f->storage, "B/other", &err), KB_OK);
    assert_int_equal(count_files(f->root), 0);
}

static void list_of_a_bottomless_tree_is_refused(void **state)
{
    fixture *f = *state;
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(key, 1000);
    for (int i = 0; i < 70; i++)
        kb_strbuf_appends(&key, "d/");
    kb_strbuf_appends(&key, "o");
    put(f->storage, kb_strbuf_view(&key), "1");
    KB_AUTO_STRBUF(all, 1 << 20);
    assert_int_equal(kb_storage_list(f->storage, "", join_key, &all, &err), KB_ERR_FORMAT);
}

static void a_second_upload_of_an_attempt_aborts_the_first(void **state)
{
    fixture *f = *state;
    KB_AUTO_ERROR(err);
    uint8_t head[KB_UPLOAD_HEAD_BYTES] = {1};
    KB_CLEANUP(kb_upload_free_at) kb_upload *first = NULL;
    KB_CLEANUP(kb_upload_free_at) kb_upload *second = NULL;
    assert_int_equal(kb_upload_begin(f->storage, "B/o", ATTEMPT, &first, &err), KB_OK);
    assert_int_equal(kb_upload_begin(f->storage, "B/o", ATTEMPT, &second, &err), KB_OK);
    assert_int_equal(kb_upload_append(first, "1", 1, &err), KB_OK);
    assert_int_equal(kb_upload_append(second, "22", 2, &err), KB_OK);
    assert_true(is_there(f->root, "B/.o." ATTEMPT ".tmp"));
    assert_int_equal(kb_upload_complete(second, head, &err), KB_OK);
    assert_int_equal(kb_upload_complete(first, head, &err), KB_ERR_EXISTS);
    assert_int_equal(count_files(f->root), 2);
}

#ifdef KB_FAILPOINTS
static void a_dropped_reply_is_resolved_by_the_driver(void **state)
{
    fixture *f = *state;
    KB_AUTO_ERROR(err);
    uint8_t head[KB_UPLOAD_HEAD_BYTES] = {1};
    KB_CLEANUP(kb_upload_free_at) kb_upload *upload = NULL;
    assert_int_equal(kb_failpoint_configure("segment.sent_no_reply:error,journal.sent_no_reply:error", &err),
                     KB_OK);
    assert_int_equal(kb_upload_begin(f->storage, "B/o", ATTEMPT, &upload, &err), KB_OK);
    assert_int_equal(kb_upload_complete(upload, head, &err), KB_OK);
    kb_put_outcome outcome = KB_PUT_OTHER;
    kb_put_once_options options = {.max_stored_bytes = 10, .failpoint = "journal.sent_no_reply"};
    assert_int_equal(
        kb_storage_put_once(f->storage, "B/j", kb_view_of("1", 1), &options, &outcome, NULL, &err), KB_OK);
    assert_int_equal(outcome, KB_PUT_IDENTICAL);
    assert_lists(f->storage, "", "B/j B/o ");
    assert_int_equal(count_files(f->root), 3);
    assert_int_equal(kb_failpoint_configure("", &err), KB_OK);
}
#endif

/* ---- a disk that is full or read-only ---- */

/* Mounts a small tmpfs over the root in a mount namespace of this process. */
static bool mount_small_disk(const fixture *f)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", f->root, "tmpfs", 0, "size=256k") != 0) {
        print_message("SKIPPED: a full and a read-only disk need root and mount(2): %s\n", strerror(errno));
        return false;
    }
    return true;
}

static void assert_upload_fails(kb_storage *s, size_t len, kb_code expected)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE uint8_t *data = kb_calloc(1, len);
    KB_CLEANUP(kb_upload_free_at) kb_upload *upload = NULL;
    kb_code code = kb_upload_begin(s, "B/topics/t/large", ATTEMPT, &upload, &err);
    if (code == KB_OK)
        code = kb_upload_append(upload, data, len, &err);
    assert_int_equal(code, expected);
    assert_non_null(strstr(kb_error_text(&err), "B/topics/t/large"));
}

static int check_small_disk(const fixture *f)
{
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_storage_free_at) kb_storage *s = NULL;
    assert_int_equal(kb_storage_open_filesystem(f->root, KB_FS_WRITE, &s, &err), KB_OK);
    put(s, "B/topics/t/small", "1");
    assert_upload_fails(s, 1 << 20, KB_STORAGE_FULL);
    assert_lists(s, "", "B/topics/t/small ");
    put(s, "B/topics/t/after", "there is room again");
    assert_int_equal(count_files(f->root), 5);
    assert_int_equal(mount(NULL, f->root, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    assert_upload_fails(s, 1, KB_STORAGE_ACCESS_DENIED);
    assert_int_equal(kb_storage_remove(s, "B/topics/t/small", &err), KB_STORAGE_ACCESS_DENIED);
    kb_storage *second = NULL;
    assert_int_equal(kb_storage_open_filesystem(f->root, KB_FS_WRITE, &second, &err),
                     KB_STORAGE_ACCESS_DENIED);
    assert_non_null(strstr(kb_error_text(&err), f->root));
    assert_lists(s, "", "B/topics/t/after B/topics/t/small ");
    return 0;
}

static void a_full_or_read_only_disk_is_named_and_tears_nothing(void **state)
{
    fixture *f = *state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(mount_small_disk(f) ? check_small_disk(f) : 77);
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- the suite of all drivers ---- */

static int suite_setup(void **state)
{
    void *made = NULL;
    if (setup(&made) != 0)
        return -1;
    /* The suite sees only the store; its directory is found again by the store's name. */
    fixture *f = made;
    *state = f->storage;
    free(f->root);
    free(f->dir);
    free(f);
    return 0;
}

static int suite_teardown(void **state)
{
    kb_storage *s = *state;
    char *dir = kb_strndup(kb_storage_describe(s), strlen(kb_storage_describe(s)) - strlen("/root"));
    kb_storage_free(s);
    kb_temp_dir_free(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(open_filesystem_of_a_bad_path_names_it, setup, teardown),
        cmocka_unit_test_setup_teardown(open_filesystem_leaves_nothing_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(open_filesystem_sweeps_old_probes, setup, teardown),
        cmocka_unit_test_setup_teardown(open_filesystem_without_write_permission_is_denied, setup, teardown),
        cmocka_unit_test_setup_teardown(a_store_opened_for_reading_refuses_to_write, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_through_links_and_of_pipes_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_through_links_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_hard_link_is_a_regular_file, setup, teardown),
        cmocka_unit_test_setup_teardown(hidden_names_are_not_listed, setup, teardown),
        cmocka_unit_test_setup_teardown(abort_leftovers_removes_only_hidden_files_of_uploads, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_longest_names_can_be_written, setup, teardown),
        cmocka_unit_test_setup_teardown(is_case_sensitive_without_a_proof_is_false, setup, teardown),
        cmocka_unit_test_setup_teardown(remove_takes_empty_folders_with_it, setup, teardown),
        cmocka_unit_test_setup_teardown(list_of_a_bottomless_tree_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_upload_of_an_attempt_aborts_the_first, setup, teardown),
#ifdef KB_FAILPOINTS
        cmocka_unit_test_setup_teardown(a_dropped_reply_is_resolved_by_the_driver, setup, teardown),
#endif
        cmocka_unit_test_setup_teardown(a_full_or_read_only_disk_is_named_and_tears_nothing, setup, teardown),
    };
    int failed = cmocka_run_group_tests_name("storage_fs", tests, NULL, NULL);
    return failed + kb_conformance_storage("storage_fs conformance", suite_setup, suite_teardown);
}

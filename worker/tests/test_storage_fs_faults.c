/*
 * The directory store on kernels that lack calls and on disks that fail: this program's own versions of the
 * system calls come before libc's, and fail, shorten or drop replies as the tests say.
 */
#include "worker/storage/storage_fs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "common/testing/temp_dir.h"
#include "worker/tests/conformance_storage.h"

#define ATTEMPT "00112233445566778899aabbccddeeff"

/* ---- faults ---- */

typedef struct fault {
    const char *call; /* NULL: none */
    int number;       /* errno */
    unsigned skip;    /* calls that succeed before */
    unsigned times;   /* calls that fail then */
    bool after;       /* the call is done, and its reply lost */
} fault;

static fault faults[4];
static size_t max_transfer = SIZE_MAX;
static unsigned interrupt_every; /* every nth read or write fails with EINTR */
static unsigned transfer_count;
/* Names of the calls that change or sync something, in order; NULL data when not wanted. */
static kb_strbuf *trace;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void clear_faults(void)
{
    memset(faults, 0, sizeof faults);
    max_transfer = SIZE_MAX;
    interrupt_every = 0;
    trace = NULL;
}

static void set_fault(size_t at, const char *call, int number, unsigned skip, unsigned times, bool after)
{
    faults[at] = (fault){call, number, skip, times, after};
}

/* The errno for this call, 0 when it shall work. *ret_after: do it first. */
static int take_fault(const char *call, bool *ret_after)
{
    int number = 0;
    pthread_mutex_lock(&lock);
    if (trace != NULL && strcmp(call, "openat2") != 0)
        kb_strbuf_appendf(trace, "%s ", call);
    for (size_t i = 0; i < KB_ARRAY_LEN(faults) && number == 0; i++) {
        fault *f = &faults[i];
        if (f->call == NULL || strcmp(f->call, call) != 0 || f->times == 0)
            continue;
        if (f->skip > 0) {
            f->skip--;
            continue;
        }
        f->times--;
        number = f->number;
        *ret_after = f->after;
    }
    pthread_mutex_unlock(&lock);
    return number;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (real == NULL) { \
        void *found = dlsym(RTLD_NEXT, name); \
        memcpy(&real, &found, sizeof real); \
    }

/* The rest of a replaced call that returns int. */
#define ANSWER(call, expression) \
    do { \
        bool after = false; \
        int number = take_fault(call, &after); \
        int result = number == 0 || after ? (expression) : -1; \
        if (number == 0) \
            return result; \
        errno = number; \
        return -1; \
    } while (0)

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    REAL(int, "linkat", int, const char *, int, const char *, int)
    ANSWER("link", real(from_dir, from, to_dir, to, flags));
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned)
    ANSWER("rename2", real(from_dir, from, to_dir, to, flags));
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    REAL(int, "renameat", int, const char *, int, const char *)
    ANSWER("rename", real(from_dir, from, to_dir, to));
}

int unlinkat(int dir, const char *name, int flags)
{
    REAL(int, "unlinkat", int, const char *, int)
    ANSWER("unlink", real(dir, name, flags));
}

int mkdirat(int dir, const char *name, mode_t mode)
{
    REAL(int, "mkdirat", int, const char *, mode_t)
    ANSWER("mkdir", real(dir, name, mode));
}

int fsync(int fd)
{
    REAL(int, "fsync", int)
    struct stat st;
    bool is_dir = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    ANSWER(is_dir ? "syncdir" : "sync", real(fd));
}

int openat(int dir, const char *name, int flags, ...)
{
    REAL(int, "openat", int, const char *, int, ...)
    mode_t mode = 0;
    if ((flags & O_CREAT) == 0)
        return real(dir, name, flags);
    va_list args;
    va_start(args, flags);
    mode = va_arg(args, mode_t);
    va_end(args);
    ANSWER("create", real(dir, name, flags, mode));
}

static bool is_interrupted(void)
{
    pthread_mutex_lock(&lock);
    bool interrupted = interrupt_every > 0 && ++transfer_count % interrupt_every == 0;
    pthread_mutex_unlock(&lock);
    return interrupted;
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t)
    bool after = false;
    int number = is_interrupted() ? EINTR : take_fault("write", &after);
    if (number == 0)
        return real(fd, data, len < max_transfer ? len : max_transfer, offset);
    errno = number;
    return -1;
}

ssize_t pread(int fd, void *data, size_t len, off_t offset)
{
    REAL(ssize_t, "pread", int, void *, size_t, off_t)
    bool after = false;
    int number = is_interrupted() ? EINTR : take_fault("read", &after);
    if (number == 0)
        return real(fd, data, len < max_transfer ? len : max_transfer, offset);
    errno = number;
    return -1;
}

/* Only openat2 goes through syscall() here. */
long syscall(long call, ...)
{
    REAL(long, "syscall", long, ...)
    va_list args;
    va_start(args, call);
    long a = va_arg(args, long);
    long b = va_arg(args, long);
    long c = va_arg(args, long);
    long d = va_arg(args, long);
    va_end(args);
    bool after = false;
    int number = call == SYS_openat2 ? take_fault("openat2", &after) : 0;
    if (number != 0) {
        errno = number;
        return -1;
    }
    return real(call, a, b, c, d);
}

/* ---- fixture ---- */

static int open_store(void **state)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *dir = kb_temp_dir_new();
    kb_storage *storage = NULL;
    if (kb_storage_open_filesystem(dir, KB_FS_WRITE, &storage, &err) != KB_OK) {
        print_error("%s\n", kb_error_text(&err));
        return -1;
    }
    *state = storage;
    return 0;
}

static int setup(void **state)
{
    clear_faults();
    return open_store(state);
}

static int setup_without_openat2(void **state)
{
    clear_faults();
    set_fault(0, "openat2", ENOSYS, 0, UINT32_MAX, false);
    return open_store(state);
}

static int setup_in_old_sandbox(void **state)
{
    clear_faults();
    set_fault(0, "openat2", EPERM, 0, UINT32_MAX, false);
    return open_store(state);
}

static int setup_without_links(void **state)
{
    clear_faults();
    set_fault(0, "link", EPERM, 0, UINT32_MAX, false);
    return open_store(state);
}

static int setup_without_links_and_rename2(void **state)
{
    clear_faults();
    set_fault(0, "link", EOPNOTSUPP, 0, UINT32_MAX, false);
    set_fault(1, "rename2", EINVAL, 0, UINT32_MAX, false);
    return open_store(state);
}

static int teardown(void **state)
{
    clear_faults();
    kb_storage *storage = *state;
    char *dir = kb_strdup(kb_storage_describe(storage));
    kb_storage_free(storage);
    kb_temp_dir_free(dir);
    return 0;
}

static kb_code put_code(kb_storage *s, const char *key, const char *text, kb_error *err)
{
    return kb_storage_put_if_absent(s, key, kb_view_of(text, strlen(text)), err);
}

static void put(kb_storage *s, const char *key, const char *text)
{
    KB_AUTO_ERROR(err);
    if (put_code(s, key, text, &err) != KB_OK)
        fail_msg("put %s: %s", key, kb_error_text(&err));
}

static void assert_holds(kb_storage *s, const char *key, const char *text)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_BLOB(blob);
    if (kb_storage_get(s, key, 1 << 20, &blob, &err) != KB_OK)
        fail_msg("get %s: %s", key, kb_error_text(&err));
    assert_string_equal((const char *)blob.data, text);
}

static kb_code upload_code(kb_storage *s, const char *key, kb_error *err)
{
    uint8_t head[KB_UPLOAD_HEAD_BYTES + 1] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef";
    KB_CLEANUP(kb_upload_free_at) kb_upload *upload = NULL;
    kb_code code = kb_upload_begin(s, key, ATTEMPT, &upload, err);
    if (code == KB_OK)
        code = kb_upload_append(upload, "body", 4, err);
    return code == KB_OK ? kb_upload_complete(upload, head, err) : code;
}

/* No object, no hidden file: nothing that is not a directory. */
static void assert_no_files(kb_storage *s)
{
    KB_AUTOFREE char *command = kb_asprintf("find '%s' -type f | grep -c .", kb_storage_describe(s));
    FILE *pipe = popen(command, "r");
    int count = -1;
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%d", &count), 1);
    pclose(pipe);
    assert_int_equal(count, 0);
}

/* ---- how names are given ---- */

static void a_lost_reply_of_the_naming_step_is_resolved(void **state)
{
    static const int numbers[] = {EEXIST, ENOENT, EIO, ESTALE, ETIMEDOUT, EINTR};
    kb_storage *s = *state;
    for (size_t i = 0; i < KB_ARRAY_LEN(numbers); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTOFREE char *a = kb_asprintf("B/put-%zu", i);
        KB_AUTOFREE char *b = kb_asprintf("B/upload-%zu", i);
        set_fault(2, "link", numbers[i], 0, 1, true);
        put(s, a, "1");
        assert_holds(s, a, "1");
        set_fault(2, "link", numbers[i], 0, 1, true);
        if (upload_code(s, b, &err) != KB_OK)
            fail_msg("%s", kb_error_text(&err));
        assert_holds(s, b, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefbody");
    }
    KB_AUTO_ERROR(err);
    size_t left = 9;
    assert_int_equal(kb_storage_abort_leftovers(s, "", &left, &err), KB_OK);
    assert_int_equal(left, 0);
}

static void a_passing_failure_of_the_naming_step_is_tried_again(void **state)
{
    KB_AUTO_ERROR(err);
    set_fault(0, "link", EINTR, 0, 3, false);
    assert_int_equal(upload_code(*state, "B/a", &err), KB_OK);
    set_fault(0, "link", ESTALE, 0, UINT32_MAX, false);
    assert_int_equal(upload_code(*state, "B/b", &err), KB_TEMPORARY_FAILURE);
    assert_true(err.retryable);
    assert_int_equal(kb_storage_remove(*state, "B/a", &err), KB_OK);
    assert_no_files(*state);
}

static void a_lost_reply_of_a_rename_is_resolved(void **state)
{
    static const int numbers[] = {EEXIST, ENOENT, EIO};
    for (size_t i = 0; i < KB_ARRAY_LEN(numbers); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTOFREE char *key = kb_asprintf("B/o-%zu", i);
        set_fault(2, "rename2", numbers[i], 0, 1, true);
        set_fault(3, "rename", numbers[i], 0, 1, true);
        put(*state, key, "1");
        assert_int_equal(put_code(*state, key, "1", &err), KB_ERR_EXISTS);
    }
}

static void the_way_of_naming_decides_the_capability(void **state)
{
    assert_true(kb_storage_caps_view(*state)->conditional_put);
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_storage_free_at) kb_storage *second = NULL;
    set_fault(0, "link", ENOSYS, 0, UINT32_MAX, false);
    assert_int_equal(kb_storage_open_filesystem(kb_storage_describe(*state), KB_FS_WRITE, &second, &err),
                     KB_OK);
    assert_true(kb_storage_caps_view(second)->conditional_put);
    set_fault(1, "rename2", EINVAL, 0, UINT32_MAX, false);
    KB_CLEANUP(kb_storage_free_at) kb_storage *third = NULL;
    assert_int_equal(kb_storage_open_filesystem(kb_storage_describe(*state), KB_FS_WRITE, &third, &err),
                     KB_OK);
    assert_false(kb_storage_caps_view(third)->conditional_put);
    assert_no_files(*state);
}

/* ---- failing steps ---- */

static void a_failing_step_is_named_and_leaves_nothing(void **state)
{
    static const struct {
        const char *call;
        int number;
        kb_code code;
    } table[] = {
        {"mkdir", ENOSPC, KB_STORAGE_FULL},          {"mkdir", EROFS, KB_STORAGE_ACCESS_DENIED},
        {"create", ENOSPC, KB_STORAGE_FULL},         {"create", EDQUOT, KB_STORAGE_FULL},
        {"create", EROFS, KB_STORAGE_ACCESS_DENIED}, {"create", EACCES, KB_STORAGE_ACCESS_DENIED},
        {"create", EIO, KB_STORAGE_IO_ERROR},        {"create", EMFILE, KB_TEMPORARY_FAILURE},
        {"write", ENOSPC, KB_STORAGE_FULL},          {"write", EDQUOT, KB_STORAGE_FULL},
        {"write", EIO, KB_STORAGE_IO_ERROR},         {"write", EFBIG, KB_STORAGE_IO_ERROR},
        {"sync", ENOSPC, KB_STORAGE_FULL},           {"sync", EDQUOT, KB_STORAGE_FULL},
        {"sync", EIO, KB_STORAGE_IO_ERROR},          {"link", ENOSPC, KB_STORAGE_FULL},
        {"link", EROFS, KB_STORAGE_ACCESS_DENIED},   {"link", EIO, KB_STORAGE_IO_ERROR},
        {"link", EPERM, KB_STORAGE_ACCESS_DENIED},
    };
    kb_storage *s = *state;
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTOFREE char *key = kb_asprintf("B/topics/t%zu/o", i);
        KB_AUTOFREE char *other = kb_asprintf("B/topics/u%zu/o", i);
        set_fault(0, table[i].call, table[i].number, 0, 1, false);
        assert_int_equal(put_code(s, key, "text", &err), table[i].code);
        assert_non_null(strstr(kb_error_text(&err), key));
        set_fault(0, table[i].call, table[i].number, 0, 1, false);
        assert_int_equal(upload_code(s, other, &err), table[i].code);
        assert_non_null(strstr(kb_error_text(&err), other));
        assert_no_files(s);
    }
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        KB_AUTOFREE char *key = kb_asprintf("B/topics/t%zu/o", i);
        put(s, key, "text");
    }
}

static void a_directory_that_cannot_be_synced_is_an_error(void **state)
{
    kb_storage *s = *state;
    KB_AUTO_ERROR(err);
    put(s, "B/a", "1");
    set_fault(0, "syncdir", EIO, 0, 1, false);
    assert_int_equal(put_code(s, "B/b", "1", &err), KB_STORAGE_IO_ERROR);
    /* What lies there is not known to be durable, and finding it must sync again before saying so. */
    KB_AUTO_STRBUF(calls, 1000);
    trace = &calls;
    assert_int_equal(put_code(s, "B/b", "1", &err), KB_ERR_EXISTS);
    assert_string_equal(kb_strbuf_view(&calls), "create write sync link unlink syncdir ");
    set_fault(0, "syncdir", EIO, 0, 1, false);
    assert_int_equal(put_code(s, "B/b", "1", &err), KB_STORAGE_IO_ERROR);
}

static void a_hidden_file_that_cannot_be_removed_does_no_harm(void **state)
{
    kb_storage *s = *state;
    KB_AUTO_ERROR(err);
    size_t left = 0;
    set_fault(0, "unlink", EIO, 0, 1, false);
    put(s, "B/a", "1");
    assert_holds(s, "B/a", "1");
    assert_int_equal(kb_storage_abort_leftovers(s, "B/", &left, &err), KB_OK);
    assert_int_equal(left, 1);
    assert_holds(s, "B/a", "1");
}

static void a_stale_handle_is_tried_again(void **state)
{
    static const char *const calls[] = {"create", "write", "sync", "link", "mkdir", "syncdir"};
    kb_storage *s = *state;
    for (size_t i = 0; i < KB_ARRAY_LEN(calls); i++) {
        KB_AUTOFREE char *key = kb_asprintf("B/%s/o", calls[i]);
        set_fault(0, calls[i], ESTALE, 0, 2, false);
        put(s, key, "1");
        set_fault(0, "read", ESTALE, 0, 2, false);
        assert_holds(s, key, "1");
    }
    KB_AUTO_ERROR(err);
    KB_AUTO_BLOB(blob);
    set_fault(0, "read", ESTALE, 0, UINT32_MAX, false);
    assert_int_equal(kb_storage_get(s, "B/link/o", 10, &blob, &err), KB_TEMPORARY_FAILURE);
    assert_true(err.retryable);
    set_fault(0, "write", ESTALE, 0, UINT32_MAX, false);
    assert_int_equal(put_code(s, "B/more/o", "1", &err), KB_TEMPORARY_FAILURE);
    assert_true(err.retryable);
}

static void a_read_error_is_never_absence(void **state)
{
    kb_storage *s = *state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BLOB(blob);
    char byte;
    put(s, "B/a", "1");
    set_fault(0, "read", EIO, 0, UINT32_MAX, false);
    assert_int_equal(kb_storage_get(s, "B/a", 10, &blob, &err), KB_STORAGE_IO_ERROR);
    assert_int_equal(kb_storage_get_range(s, "B/a", 0, &byte, 1, &err), KB_STORAGE_IO_ERROR);
    assert_non_null(strstr(kb_error_text(&err), "B/a"));
    static const int numbers[] = {EIO, EACCES, EMFILE, ESTALE};
    for (size_t i = 0; i < KB_ARRAY_LEN(numbers); i++) {
        kb_object_info info;
        set_fault(0, "openat2", numbers[i], 0, UINT32_MAX, false);
        assert_int_not_equal(kb_storage_head(s, "B/a", &info, &err), KB_ERR_NOT_FOUND);
        kb_list_page page = KB_LIST_PAGE_INIT;
        kb_list_options options = {.prefix = "B/"};
        assert_int_not_equal(kb_storage_list_page(s, &options, &page, &err), KB_OK);
    }
}

/* ---- order of the steps ---- */

static void everything_is_synced_in_the_order_that_a_power_cut_needs(void **state)
{
    kb_storage *s = *state;
    KB_AUTO_STRBUF(calls, 1000);
    trace = &calls;
    put(s, "B/t/a", "1");
    assert_string_equal(kb_strbuf_view(&calls),
                        "mkdir syncdir mkdir syncdir create write sync link unlink syncdir ");
    kb_strbuf_clear(&calls);
    put(s, "B/t/b", "1");
    assert_string_equal(kb_strbuf_view(&calls), "create write sync link unlink syncdir ");
    kb_strbuf_clear(&calls);
    KB_AUTO_ERROR(err);
    assert_int_equal(upload_code(s, "B/t/c", &err), KB_OK);
    assert_string_equal(kb_strbuf_view(&calls), "create write write sync link unlink syncdir ");
    kb_strbuf_clear(&calls);
    assert_int_equal(kb_storage_remove(s, "B/t/c", &err), KB_OK);
    assert_true(strncmp(kb_strbuf_view(&calls), "unlink syncdir ", 15) == 0);
}

static void directories_of_an_earlier_process_are_synced_once(void **state)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(calls, 1000);
    put(*state, "B/t/a", "1");
    KB_CLEANUP(kb_storage_free_at) kb_storage *next = NULL;
    assert_int_equal(kb_storage_open_filesystem(kb_storage_describe(*state), KB_FS_WRITE, &next, &err),
                     KB_OK);
    trace = &calls;
    assert_int_equal(kb_storage_confirm(next, "B/t/a", &err), KB_OK);
    assert_string_equal(kb_strbuf_view(&calls), "syncdir syncdir syncdir ");
    kb_strbuf_clear(&calls);
    put(next, "B/t/b", "1");
    assert_string_equal(kb_strbuf_view(&calls), "create write sync link unlink syncdir ");
}

static void a_directory_removed_by_others_is_made_and_synced_again(void **state)
{
    kb_storage *s = *state;
    KB_AUTO_STRBUF(calls, 1000);
    put(s, "B/t/a", "1");
    KB_AUTOFREE char *command = kb_asprintf("rm -r '%s/B'", kb_storage_describe(s));
    assert_int_equal(system(command), 0);
    trace = &calls;
    put(s, "B/t/a", "2");
    assert_string_equal(kb_strbuf_view(&calls),
                        "mkdir syncdir mkdir syncdir create write sync link unlink syncdir ");
}

/* ---- short and interrupted transfers ---- */

static void short_and_interrupted_transfers_give_the_same_bytes(void **state)
{
    kb_storage *s = *state;
    KB_AUTO_ERROR(err);
    size_t len = 70001;
    KB_AUTOFREE char *data = kb_malloc(len);
    for (size_t i = 0; i < len; i++)
        data[i] = (char)(i * 31 % 251);
    max_transfer = 13;
    interrupt_every = 3;
    set_fault(0, "sync", EINTR, 0, 2, false);
    set_fault(1, "syncdir", EINTR, 0, 2, false);
    set_fault(2, "create", EINTR, 0, 2, false);
    set_fault(3, "openat2", EINTR, 0, 2, false);
    assert_int_equal(kb_storage_put_if_absent(s, "B/t/o", kb_view_of(data, len), &err), KB_OK);
    KB_AUTO_BLOB(blob);
    assert_int_equal(kb_storage_get(s, "B/t/o", len, &blob, &err), KB_OK);
    assert_int_equal(blob.len, len);
    assert_memory_equal(blob.data, data, len);
    KB_AUTOFREE char *part = kb_malloc(50000);
    assert_int_equal(kb_storage_get_range(s, "B/t/o", 20001, part, 50000, &err), KB_OK);
    assert_memory_equal(part, data + 20001, 50000);
}

/* ---- links with and without openat2 ---- */

static void links_are_refused_in_the_same_way(void **state)
{
    kb_storage *s = *state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BLOB(blob);
    put(s, "B/real/o", "1");
    KB_AUTOFREE char *folder = kb_asprintf("%s/B/folder", kb_storage_describe(s));
    KB_AUTOFREE char *file = kb_asprintf("%s/B/file", kb_storage_describe(s));
    assert_int_equal(symlink("real", folder), 0);
    assert_int_equal(symlink("real/o", file), 0);
    static const struct {
        const char *key;
        kb_code code;
    } table[] = {{"B/folder/o", KB_ERR_FORMAT},     {"B/folder/x/o", KB_ERR_FORMAT},
                 {"B/file", KB_ERR_FORMAT},         {"B/file/o", KB_ERR_FORMAT},
                 {"B/real/o/x", KB_ERR_NOT_FOUND},  {"B/none/o", KB_ERR_NOT_FOUND},
                 {"B/real/o/x/y", KB_ERR_NOT_FOUND}};
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++)
        assert_int_equal(kb_storage_get(s, table[i].key, 10, &blob, &err), table[i].code);
    assert_int_equal(put_code(s, "B/folder/new", "1", &err), KB_ERR_FORMAT);
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define CASE_WITH(test, with) cmocka_unit_test_setup_teardown(test, with, teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_lost_reply_of_the_naming_step_is_resolved),
        CASE(a_passing_failure_of_the_naming_step_is_tried_again),
        CASE_WITH(a_lost_reply_of_a_rename_is_resolved, setup_without_links),
        CASE_WITH(a_lost_reply_of_a_rename_is_resolved, setup_without_links_and_rename2),
        CASE(the_way_of_naming_decides_the_capability),
        CASE(a_failing_step_is_named_and_leaves_nothing),
        CASE(a_directory_that_cannot_be_synced_is_an_error),
        CASE(a_hidden_file_that_cannot_be_removed_does_no_harm),
        CASE(a_stale_handle_is_tried_again),
        CASE(a_read_error_is_never_absence),
        CASE(everything_is_synced_in_the_order_that_a_power_cut_needs),
        CASE(directories_of_an_earlier_process_are_synced_once),
        CASE(a_directory_removed_by_others_is_made_and_synced_again),
        CASE(short_and_interrupted_transfers_give_the_same_bytes),
        CASE(links_are_refused_in_the_same_way),
        CASE_WITH(links_are_refused_in_the_same_way, setup_without_openat2),
        CASE_WITH(links_are_refused_in_the_same_way, setup_in_old_sandbox),
    };
    int failed = cmocka_run_group_tests_name("storage_fs faults", tests, NULL, NULL);
    failed += kb_conformance_storage("conformance without openat2", setup_without_openat2, teardown);
    failed += kb_conformance_storage("conformance without links", setup_without_links, teardown);
    failed += kb_conformance_storage("conformance without links and renameat2",
                                     setup_without_links_and_rename2, teardown);
    return failed;
}

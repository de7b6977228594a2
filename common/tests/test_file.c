#include "common/base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/testing/temp_dir.h"

static int set_up(void **state)
{
    *state = kb_temp_dir_new();
    return 0;
}

static int tear_down(void **state)
{
    kb_temp_dir_free(*state);
    return 0;
}

static void kb_file_read_written_file_gives_the_same(void **state)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 8192, 100000};
    KB_AUTOFREE char *path = kb_temp_path(*state, "f");
    for (size_t i = 0; i < KB_ARRAY_LEN(sizes); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTOFREE uint8_t *written = kb_malloc(sizes[i]);
        KB_AUTOFREE uint8_t *data = NULL;
        size_t len = 99;
        memset(written, (int)i + 'a', sizes[i]);
        assert_int_equal(kb_file_write(path, written, sizes[i], &err), KB_OK);
        assert_int_equal(kb_file_read(path, 100000, &data, &len, &err), KB_OK);
        assert_int_equal(len, sizes[i]);
        assert_memory_equal(data, written, len);
        assert_int_equal(data[len], 0);
    }
}

static void kb_file_read_limit_decides_by_one_byte(void **state)
{
    static const size_t sizes[] = {0, 10, 4096, 10000};
    KB_AUTOFREE char *path = kb_temp_path(*state, "f");
    for (size_t i = 0; i < KB_ARRAY_LEN(sizes); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTOFREE uint8_t *written = kb_calloc(1, sizes[i] + 1);
        KB_AUTOFREE uint8_t *data = NULL;
        size_t len = 99;
        assert_int_equal(kb_file_write(path, written, sizes[i] + 1, &err), KB_OK);
        assert_int_equal(kb_file_read(path, sizes[i], &data, &len, &err), KB_ERR_TOO_LARGE);
        assert_null(data);
        assert_int_equal(len, 99);
        assert_int_equal(kb_file_read(path, sizes[i] + 1, &data, &len, &err), KB_OK);
    }
}

static void kb_file_read_proc_file_gives_all(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTOFREE uint8_t *data = NULL;
    size_t len = 0;
    assert_int_equal(kb_file_read("/proc/self/status", 1 << 20, &data, &len, &err), KB_OK);
    assert_true(len > 0);
}

static void kb_file_read_absent_is_not_found(void **state)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *path = kb_temp_path(*state, "absent");
    KB_AUTOFREE uint8_t *data = NULL;
    size_t len = 0;
    assert_int_equal(kb_file_read(path, 10, &data, &len, &err), KB_ERR_NOT_FOUND);
    assert_non_null(strstr(kb_error_text(&err), path));
}

static void kb_file_read_directory_is_an_error(void **state)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE uint8_t *data = NULL;
    size_t len = 0;
    assert_int_equal(kb_file_read(*state, 10, &data, &len, &err), KB_STORAGE_IO_ERROR);
}

static void kb_pwrite_all_then_pread_all_gives_the_same(void **state)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *path = kb_temp_path(*state, "f");
    KB_AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    uint8_t back[5];
    assert_int_equal(kb_pwrite_all(fd, "hello", 5, 100, path, &err), KB_OK);
    assert_int_equal(kb_pread_all(fd, back, 5, 100, path, &err), KB_OK);
    assert_memory_equal(back, "hello", 5);
    assert_int_equal(kb_pread_all(fd, back, 5, 101, path, &err), KB_ERR_END);
    assert_int_equal(kb_pread_all(fd, back, 0, 1000, path, &err), KB_OK);
    assert_int_equal(kb_fsync(fd, path, &err), KB_OK);
    assert_int_equal(kb_fd_close(&fd, path, &err), KB_OK);
    assert_int_equal(fd, -1);
    assert_int_equal(kb_dir_fsync(*state, &err), KB_OK);
}

static void kb_file_write_full_device_is_storage_full(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    assert_int_equal(kb_file_write("/dev/full", "x", 1, &err), KB_STORAGE_FULL);
    assert_string_equal(
        kb_error_text(&err),
        "cannot write '/dev/full': No space left on device; hint: free space or raise the quota");
}

static void kb_write_all_bad_descriptor_is_io_error(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    assert_int_equal(kb_write_all(-1, "x", 1, "p", &err), KB_STORAGE_IO_ERROR);
    assert_int_equal(kb_pread_all(-1, &(char){0}, 1, 0, "p", &err), KB_STORAGE_IO_ERROR);
    assert_int_equal(kb_fsync(-1, "p", &err), KB_STORAGE_IO_ERROR);
}

static void kb_file_fail_cases_map_errno(void **state)
{
    (void)state;
    static const struct {
        int number;
        kb_code code;
        bool retryable;
        const char *hint;
    } cases[] = {
        {ENOENT, KB_ERR_NOT_FOUND, false, NULL},
        {EEXIST, KB_ERR_EXISTS, false, NULL},
        {ENOSPC, KB_STORAGE_FULL, false, "hint:"},
        {EDQUOT, KB_STORAGE_FULL, false, "hint:"},
        {EROFS, KB_STORAGE_ACCESS_DENIED, false, "hint:"},
        {EACCES, KB_STORAGE_ACCESS_DENIED, false, "hint: give uid "},
        {EPERM, KB_STORAGE_ACCESS_DENIED, false, "gid "},
        {EIO, KB_STORAGE_IO_ERROR, false, NULL},
        {ESTALE, KB_TEMPORARY_FAILURE, true, NULL},
        {EINTR, KB_TEMPORARY_FAILURE, true, NULL},
        {EAGAIN, KB_TEMPORARY_FAILURE, true, NULL},
        {EMFILE, KB_TEMPORARY_FAILURE, false, NULL},
        {ENOTDIR, KB_STORAGE_IO_ERROR, false, NULL},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        assert_int_equal(kb_file_fail(&err, cases[i].number, "open", "/x/y"), cases[i].code);
        assert_int_equal(err.retryable, cases[i].retryable);
        assert_non_null(strstr(kb_error_text(&err), "cannot open '/x/y': "));
        assert_non_null(strstr(kb_error_text(&err), kb_errno_text(cases[i].number)));
        if (cases[i].hint != NULL)
            assert_non_null(strstr(kb_error_text(&err), cases[i].hint));
    }
}

static void kb_fd_close_at_twice_closes_once(void **state)
{
    (void)state;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int number = fd;
    assert_true(fd >= 0);
    kb_fd_close_at(&fd);
    kb_fd_close_at(&fd);
    assert_int_equal(fd, -1);
    assert_int_equal(fcntl(number, F_GETFD), -1);
}

#define FILE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(kb_file_read_written_file_gives_the_same),
        FILE_TEST(kb_file_read_limit_decides_by_one_byte),
        FILE_TEST(kb_file_read_proc_file_gives_all),
        FILE_TEST(kb_file_read_absent_is_not_found),
        FILE_TEST(kb_file_read_directory_is_an_error),
        FILE_TEST(kb_pwrite_all_then_pread_all_gives_the_same),
        FILE_TEST(kb_file_write_full_device_is_storage_full),
        FILE_TEST(kb_write_all_bad_descriptor_is_io_error),
        FILE_TEST(kb_file_fail_cases_map_errno),
        FILE_TEST(kb_fd_close_at_twice_closes_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "worker/report/report_file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/testing/temp_dir.h"

static int setup(void **state)
{
    *state = kb_temp_dir_new();
    return 0;
}

static int teardown(void **state)
{
    kb_log_set_fd(2);
    kb_temp_dir_free(*state);
    return 0;
}

static char *content_of(const char *path)
{
    KB_AUTO_ERROR(err);
    uint8_t *data = NULL;
    size_t len = 0;
    assert_int_equal(kb_file_read(path, 1 << 20, &data, &len, &err), KB_OK);
    return (char *)data;
}

static bool write_text(kb_report_file *file, const char *text)
{
    return kb_report_file_write(file, text, strlen(text));
}

static void write_any_length_replaces_the_whole_in_place(void **state)
{
    static const char *const TEXTS[] = {"{\"a\":1}", "{\"longer\":12345}", "{}", "{\"b\":2}"};
    KB_AUTOFREE char *path = kb_temp_path(*state, "termination-log");
    kb_report_file *file = kb_report_file_new(path);
    struct stat first = {0};
    for (size_t i = 0; i < KB_ARRAY_LEN(TEXTS); i++) {
        assert_true(write_text(file, TEXTS[i]));
        KB_AUTOFREE char *content = content_of(path);
        assert_string_equal(content, TEXTS[i]);
        struct stat info;
        assert_int_equal(stat(path, &info), 0);
        /* The file is a mount: it may be neither replaced nor removed. */
        if (i > 0)
            assert_int_equal(info.st_ino, first.st_ino);
        first = info;
    }
    kb_report_file_free(file);
}

static void write_over_a_foreign_large_file_leaves_only_the_report(void **state)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *path = kb_temp_path(*state, "termination-log");
    KB_AUTOFREE char *old = kb_calloc(1, 100000);
    memset(old, 'x', 99999);
    assert_int_equal(kb_file_write(path, old, 99999, &err), KB_OK);
    kb_report_file *file = kb_report_file_new(path);
    assert_true(write_text(file, "{}"));
    KB_AUTOFREE char *content = content_of(path);
    assert_string_equal(content, "{}");
    kb_report_file_free(file);
}

static void write_without_a_path_does_nothing(void **state)
{
    (void)state;
    kb_report_file *file = kb_report_file_new(NULL);
    assert_true(write_text(file, "{}"));
    kb_report_file_free(file);
    kb_report_file_free(NULL);
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at++)
        count++;
    return count;
}

static void write_failure_is_one_warning_and_heals(void **state)
{
    KB_AUTOFREE char *log_path = kb_temp_path(*state, "log");
    KB_AUTO_FD int log_fd = open(log_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    kb_log_set_fd(log_fd);
    KB_AUTOFREE char *dir = kb_temp_path(*state, "later");
    KB_AUTOFREE char *path = kb_temp_path(dir, "termination-log");
    kb_report_file *file = kb_report_file_new(path);
    for (int i = 0; i < 3; i++)
        assert_false(write_text(file, "{}"));
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_true(write_text(file, "{\"now\":1}"));
    KB_AUTOFREE char *content = content_of(path);
    assert_string_equal(content, "{\"now\":1}");
    KB_AUTOFREE char *log = content_of(log_path);
    assert_int_equal(count_of(log, "level=warn"), 1);
    assert_int_equal(count_of(log, path), 1);
    kb_report_file_free(file);
}

static void write_to_things_that_are_no_files_fails_without_blocking(void **state)
{
    KB_AUTOFREE char *log_path = kb_temp_path(*state, "log");
    KB_AUTO_FD int log_fd = open(log_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    kb_log_set_fd(log_fd);
    KB_AUTOFREE char *fifo = kb_temp_path(*state, "fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    const char *const paths[] = {fifo, *state, "/dev/full"};
    for (size_t i = 0; i < KB_ARRAY_LEN(paths); i++) {
        kb_report_file *file = kb_report_file_new(paths[i]);
        assert_false(write_text(file, "{}"));
        kb_report_file_free(file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(write_any_length_replaces_the_whole_in_place, setup, teardown),
        cmocka_unit_test_setup_teardown(write_over_a_foreign_large_file_leaves_only_the_report, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(write_without_a_path_does_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(write_failure_is_one_warning_and_heals, setup, teardown),
        cmocka_unit_test_setup_teardown(write_to_things_that_are_no_files_fails_without_blocking, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

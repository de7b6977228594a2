#include "common/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/encode.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/testing/temp_dir.h"

#define TS "ts=2025-01-01T00:00:00.000Z "
#define JSON_TS "{\"ts\":\"2025-01-01T00:00:00.000Z\","

typedef struct fixture {
    char *dir;
    char *path;
    int fd;
    int64_t boot_ms;
    char *text; /* what read_log gave last */
    kb_clock clock;
} fixture;

static int64_t fake_boot_ms(void *ctx)
{
    return ((fixture *)ctx)->boot_ms;
}

static int64_t fake_wall_ms(void *ctx)
{
    (void)ctx;
    return 1735689600000;
}

static int set_up(void **state)
{
    fixture *f = kb_calloc(1, sizeof *f);
    f->dir = kb_temp_dir_new();
    f->path = kb_temp_path(f->dir, "log");
    f->fd = open(f->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    f->boot_ms = 1000;
    f->clock = (kb_clock){fake_boot_ms, fake_wall_ms, f};
    kb_log_set_fd(f->fd);
    kb_log_set_clock(&f->clock);
    *state = f;
    return f->fd >= 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    kb_log_flush();
    kb_log_set_clock(kb_clock_system());
    kb_log_set_fd(STDERR_FILENO);
    kb_log_set_format(KB_LOG_LOGFMT);
    kb_log_set_level(KB_LOG_INFO);
    kb_log_set_field("command", NULL);
    kb_log_set_field("job", NULL);
    kb_fd_close_at(&f->fd);
    kb_temp_dir_free(f->dir);
    free(f->path);
    free(f->text);
    free(f);
    return 0;
}

/* What was logged since the last call. */
static const char *read_log(fixture *f)
{
    KB_AUTO_ERROR(err);
    uint8_t *data = NULL;
    size_t len = 0;
    assert_int_equal(kb_file_read(f->path, 1 << 24, &data, &len, &err), KB_OK);
    assert_int_equal(ftruncate(f->fd, 0), 0);
    free(f->text);
    f->text = (char *)data;
    return f->text;
}

static void kb_log_logfmt_writes_all_kinds(void **state)
{
    fixture *f = *state;
    KB_AUTO_ERROR(err);
    (void)kb_fail(&err, KB_ERR_FORMAT, "no brace");
    kb_log(KB_LOG_INFO, "segment published", KB_STR("topic", "orders"), KB_INT("partition", 3),
           KB_BOOL("sealed", true), KB_STR("absent", NULL), KB_STR("empty", ""), KB_STRN("key", "a b", 3),
           KB_ERRTEXT(&err));
    assert_string_equal(read_log(f),
                        TS "level=info msg=\"segment published\" topic=orders partition=3 sealed=true "
                           "empty=\"\" key=\"a b\" err=\"no brace\"\n");
}

static void kb_log_no_fields_writes_a_line(void **state)
{
    fixture *f = *state;
    kb_log(KB_LOG_WARN, "done");
    assert_string_equal(read_log(f), TS "level=warn msg=done\n");
}

static void kb_log_json_is_one_object(void **state)
{
    fixture *f = *state;
    kb_log_set_format(KB_LOG_JSON);
    kb_log(KB_LOG_ERROR, "a \"b\"", KB_STR("topic", "x\n"), KB_INT("n", INT64_MIN), KB_BOOL("no", false));
    assert_string_equal(read_log(f), JSON_TS "\"level\":\"error\",\"msg\":\"a \\\"b\\\"\",\"topic\":\"x\\n\","
                                             "\"n\":-9223372036854775808,\"no\":false}\n");
}

static void kb_log_hostile_text_is_escaped(void **state)
{
    static const struct {
        const char *text;
        const char *logfmt;
        const char *json;
    } cases[] = {
        {"plain", "plain", "\"plain\""},
        {"a=b", "\"a=b\"", "\"a=b\""},
        {"C:\\x", "\"C:\\\\x\"", "\"C:\\\\x\""},
        {"x\nlevel=error", "\"x\\nlevel=error\"", "\"x\\nlevel=error\""},
        {"\r\t", "\"\\r\\t\"", "\"\\r\\t\""},
        {"\x1b[31m", "\"\\u001b[31m\"", "\"\\u001b[31m\""},
        {"\x7f", "\"\\u007f\"", "\"\\u007f\""},
        {"\xc2\x9b"
         "31m",
         "\"\\u009b31m\"", "\"\\u009b31m\""},
        {"\xe2\x80\xae", "\"\\u202e\"", "\"\\u202e\""},
        {"gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\"", "\"gr\xc3\xbc\xc3\x9f\""},
        {"\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\"", "\"\xf0\x9f\x98\x80\""},
        {"bad\xff", "\"bad\\xff\"", "\"bad\\ufffd\""},
        {"cut\xe2\x82", "\"cut\\xe2\\x82\"", "\"cut\\ufffd\\ufffd\""},
    };
    fixture *f = *state;
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTOFREE char *logfmt = kb_asprintf(TS "level=info msg=m k=%s\n", cases[i].logfmt);
        KB_AUTOFREE char *json =
            kb_asprintf(JSON_TS "\"level\":\"info\",\"msg\":\"m\",\"k\":%s}\n", cases[i].json);
        kb_log_set_format(KB_LOG_LOGFMT);
        kb_log(KB_LOG_INFO, "m", KB_STR("k", cases[i].text));
        assert_string_equal(read_log(f), logfmt);
        kb_log_set_format(KB_LOG_JSON);
        kb_log(KB_LOG_INFO, "m", KB_STR("k", cases[i].text));
        assert_string_equal(read_log(f), json);
    }
}

static void kb_log_text_with_nul_is_escaped(void **state)
{
    fixture *f = *state;
    kb_log(KB_LOG_INFO, "m", KB_STRN("k", "a\0b", 3));
    assert_string_equal(read_log(f), TS "level=info msg=m k=\"a\\u0000b\"\n");
}

static void kb_log_long_text_is_cut_between_characters(void **state)
{
    fixture *f = *state;
    KB_AUTOFREE char *text = kb_malloc(30001);
    for (size_t i = 0; i < 30000; i += 3)
        memcpy(text + i, "\xe2\x82\xac", 3);
    text[30000] = '\0';
    kb_log(KB_LOG_INFO, "m", KB_STR("k", text));
    const char *line = read_log(f);
    assert_true(kb_utf8_valid(line, strlen(line)));
    assert_null(strstr(line, "\\x"));
    assert_non_null(strstr(line, " cut_bytes=21810\n"));
}

static int evaluated_count;

static int evaluate(void)
{
    return ++evaluated_count;
}

static void kb_log_level_off_evaluates_nothing(void **state)
{
    fixture *f = *state;
    kb_log(KB_LOG_DEBUG, "hidden", KB_INT("n", evaluate()));
    assert_int_equal(evaluated_count, 0);
    assert_string_equal(read_log(f), "");
    kb_log_set_level(KB_LOG_TRACE);
    kb_log(KB_LOG_DEBUG, "shown", KB_INT("n", evaluate()));
    assert_string_equal(read_log(f), TS "level=debug msg=shown n=1\n");
    kb_log_set_level(KB_LOG_ERROR);
    kb_log(KB_LOG_WARN, "hidden");
    assert_string_equal(read_log(f), "");
}

static void kb_log_set_field_appears_in_each_line(void **state)
{
    fixture *f = *state;
    kb_log_set_field("command", "restore");
    kb_log_set_field("job", "nightly");
    kb_log_set_field("command", "backup");
    kb_log(KB_LOG_INFO, "m", KB_INT("n", 1));
    assert_string_equal(read_log(f), TS "level=info msg=m command=backup job=nightly n=1\n");
    kb_log_set_field("command", NULL);
    kb_log(KB_LOG_INFO, "m");
    assert_string_equal(read_log(f), TS "level=info msg=m job=nightly\n");
}

static void warn_throttled(int broker)
{
    kb_log_limited(KB_LOG_WARN, "throttled", KB_INT("broker", broker));
}

static void kb_log_limited_equal_lines_are_counted(void **state)
{
    fixture *f = *state;
    warn_throttled(1);
    warn_throttled(1);
    warn_throttled(2);
    f->boot_ms += 59999;
    warn_throttled(1);
    assert_string_equal(read_log(f),
                        TS "level=warn msg=throttled broker=1\n" TS "level=warn msg=throttled broker=2\n");
    f->boot_ms += 1;
    warn_throttled(1);
    warn_throttled(2);
    warn_throttled(2);
    assert_string_equal(read_log(f), TS "level=warn msg=throttled broker=1 repeated=2\n" TS
                                        "level=warn msg=throttled broker=2\n");
    kb_log_flush();
    assert_string_equal(read_log(f), TS "level=warn msg=throttled broker=2 repeated=1\n");
    kb_log_flush();
    assert_string_equal(read_log(f), "");
}

static void kb_log_limited_many_different_lines_are_all_written(void **state)
{
    fixture *f = *state;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 300; i++)
            warn_throttled(i);
        f->boot_ms += 60000;
    }
    const char *text = read_log(f);
    size_t line_count = 0;
    for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++)
        line_count++;
    assert_int_equal(line_count, 600);
}

static void kb_log_closed_descriptor_is_ignored(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    kb_log_set_fd(ends[1]);
    assert_int_equal(close(ends[0]), 0);
    kb_log(KB_LOG_INFO, "reader gone"); /* SIGPIPE would end the test */
    assert_int_equal(close(ends[1]), 0);
    kb_log(KB_LOG_INFO, "closed");
}

static void kb_log_full_pipe_drops_and_says_so(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    KB_AUTOFREE char *filler = kb_calloc(1, 65536);
    assert_int_equal(write(ends[1], filler, 65536), 65536);
    kb_log_set_fd(ends[1]);
    kb_log(KB_LOG_INFO, "lost");
    kb_log(KB_LOG_INFO, "lost too");
    assert_int_equal(read(ends[0], filler, 65536), 65536);
    kb_log(KB_LOG_INFO, "seen");
    kb_log(KB_LOG_INFO, "again");
    ssize_t len = read(ends[0], filler, 65535);
    assert_true(len > 0);
    filler[len] = '\0';
    assert_string_equal(filler, TS "level=info msg=seen dropped_lines=2\n" TS "level=info msg=again\n");
    assert_int_equal(close(ends[0]), 0);
    assert_int_equal(close(ends[1]), 0);
}

static void kb_log_any_keeps_errno(void **state)
{
    (void)state;
    kb_log_set_fd(-1);
    errno = ENOSPC;
    kb_log(KB_LOG_INFO, "m");
    assert_int_equal(errno, ENOSPC);
}

static void *log_many(void *ctx)
{
    for (int i = 0; i < 500; i++) {
        kb_log(KB_LOG_INFO, "parallel", KB_INT("thread", *(int *)ctx), KB_INT("n", i));
        kb_log_limited(KB_LOG_WARN, "limited");
    }
    return NULL;
}

static void kb_log_from_threads_keeps_lines_whole(void **state)
{
    fixture *f = *state;
    pthread_t threads[4];
    int ids[4] = {0, 1, 2, 3};
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, &ids[i]), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    kb_log_flush();
    const char *at = read_log(f);
    size_t line_count = 0;
    for (; *at != '\0'; at = strchr(at, '\n') + 1, line_count++)
        assert_memory_equal(at, TS "level=", strlen(TS "level="));
    assert_int_equal(line_count, 2000 + 1 + 1);
}

static void kb_log_level_parse_cases_match(void **state)
{
    (void)state;
    kb_log_level level = KB_LOG_INFO;
    kb_log_format format = KB_LOG_LOGFMT;
    assert_true(kb_log_level_parse("trace", &level));
    assert_int_equal(level, KB_LOG_TRACE);
    assert_true(kb_log_level_parse("error", &level));
    assert_int_equal(level, KB_LOG_ERROR);
    assert_false(kb_log_level_parse("ERROR", &level));
    assert_false(kb_log_level_parse("", &level));
    assert_true(kb_log_format_parse("json", &format));
    assert_int_equal(format, KB_LOG_JSON);
    assert_true(kb_log_format_parse("text", &format));
    assert_int_equal(format, KB_LOG_LOGFMT);
    assert_false(kb_log_format_parse("xml", &format));
}

#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(kb_log_logfmt_writes_all_kinds),
        LOG_TEST(kb_log_no_fields_writes_a_line),
        LOG_TEST(kb_log_json_is_one_object),
        LOG_TEST(kb_log_hostile_text_is_escaped),
        LOG_TEST(kb_log_text_with_nul_is_escaped),
        LOG_TEST(kb_log_long_text_is_cut_between_characters),
        LOG_TEST(kb_log_level_off_evaluates_nothing),
        LOG_TEST(kb_log_set_field_appears_in_each_line),
        LOG_TEST(kb_log_limited_equal_lines_are_counted),
        LOG_TEST(kb_log_limited_many_different_lines_are_all_written),
        LOG_TEST(kb_log_closed_descriptor_is_ignored),
        LOG_TEST(kb_log_full_pipe_drops_and_says_so),
        LOG_TEST(kb_log_any_keeps_errno),
        LOG_TEST(kb_log_from_threads_keeps_lines_whole),
        LOG_TEST(kb_log_level_parse_cases_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "worker/report/reporter.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/failpoint.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/testing/temp_dir.h"

/* Real time that the thread gets to do what it was woken for. */
#define KB_PATIENCE_MS 10000

typedef struct fixture {
    char *dir;
    char *path;
    char *log_path;
    int log_fd;
    _Atomic int64_t now_ms;
    kb_clock clock;
    kb_progress *progress;
    kb_report_file *file;
    kb_reporter *reporter;
} fixture;

static int64_t fake_now(void *ctx)
{
    return ((fixture *)ctx)->now_ms;
}

static int setup(void **state)
{
    fixture *f = kb_calloc(1, sizeof *f);
    f->dir = kb_temp_dir_new();
    f->path = kb_temp_path(f->dir, "report");
    f->log_path = kb_temp_path(f->dir, "log");
    f->log_fd = open(f->log_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    kb_log_set_fd(f->log_fd);
    f->clock = (kb_clock){fake_now, fake_now, f};
    f->progress = kb_progress_new(&(kb_progress_options){.operation = "backup", .clock = &f->clock});
    f->file = kb_report_file_new(f->path);
    KB_AUTO_ERROR(err);
    const kb_reporter_options options = {.progress = f->progress, .file = f->file, .clock = &f->clock};
    assert_int_equal(kb_reporter_start(&options, &f->reporter, &err), KB_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    kb_reporter_stop(f->reporter);
    kb_report_file_free(f->file);
    kb_progress_free(f->progress);
    kb_log_set_fd(2);
    close(f->log_fd);
    kb_temp_dir_free(f->dir);
    free(f->path);
    free(f->log_path);
    free(f);
    return 0;
}

static bool file_has(const char *path, const char *part)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE uint8_t *data = NULL;
    size_t len = 0;
    return kb_file_read(path, 1 << 20, &data, &len, &err) == KB_OK &&
           strstr((const char *)data, part) != NULL;
}

/* Wakes the thread until the file says so. */
static void assert_soon(fixture *f, const char *path, const char *part)
{
    for (int i = 0; i < KB_PATIENCE_MS; i++) {
        if (file_has(path, part))
            return;
        kb_progress_wake(f->progress);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    fail_msg("'%s' never came", part);
}

static void start_writes_the_first_report_at_once(void **state)
{
    fixture *f = *state;
    assert_true(file_has(f->path, "\"state\":\"Starting\""));
}

static void change_of_state_is_written_without_time_passing(void **state)
{
    fixture *f = *state;
    kb_progress_set_state(f->progress, KB_RUN_WAITING_FOR_LOCK);
    assert_soon(f, f->path, "\"state\":\"WaitingForLock\"");
    kb_progress_set_state(f->progress, KB_RUN_RUNNING);
    assert_soon(f, f->path, "\"state\":\"Running\"");
}

static void counts_are_written_every_ten_seconds_only(void **state)
{
    fixture *f = *state;
    kb_progress_set_state(f->progress, KB_RUN_RUNNING);
    assert_soon(f, f->path, "\"state\":\"Running\"");
    kb_progress_add_records(f->progress, 4711, 1);
    f->now_ms = KB_REPORTER_REFRESH_MS - 1;
    for (int i = 0; i < 20; i++) {
        kb_progress_wake(f->progress);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    assert_false(file_has(f->path, "4711"));
    f->now_ms = KB_REPORTER_REFRESH_MS;
    assert_soon(f, f->path, "\"recordsProcessed\":4711");
}

static void progress_line_is_logged_every_thirty_seconds(void **state)
{
    fixture *f = *state;
    kb_progress_add_records(f->progress, 42, 1);
    f->now_ms = KB_REPORTER_LOG_MS - 1;
    kb_progress_wake(f->progress);
    assert_false(file_has(f->log_path, "42 records"));
    f->now_ms = KB_REPORTER_LOG_MS;
    assert_soon(f, f->log_path, "42 records");
    assert_true(file_has(f->log_path, "event=progress"));
    assert_true(file_has(f->log_path, "level=info"));
}

static void stop_writes_the_end_and_sets_the_gauges(void **state)
{
    fixture *f = *state;
    kb_metrics *metrics = kb_metrics_new();
    kb_run_metrics *run = kb_run_metrics_new(metrics, &(kb_run_metrics_options){.kind = KB_RUN_KIND_BACKUP});
    kb_reporter_set_metrics(f->reporter, run);
    kb_progress_finish(f->progress, KB_RUN_SUCCEEDED, 0, NULL, NULL);
    kb_reporter_stop(KB_TAKE(f->reporter));
    assert_true(file_has(f->path, "\"state\":\"Succeeded\",\"exitCode\":0"));
    assert_true(kb_metric_get(run->progress_percent) == 100);
    kb_run_metrics_free(run);
    kb_metrics_free(metrics);
}

static void progress_answers_the_report_of_this_moment(void **state)
{
    fixture *f = *state;
    kb_progress_add_records(f->progress, 99, 1);
    KB_AUTO_STRBUF(body, 1 << 16);
    assert_int_equal(kb_reporter_progress(f->progress, &body), 200);
    assert_non_null(strstr(kb_strbuf_view(&body), "\"recordsProcessed\":99"));
}

#ifdef KB_FAILPOINTS
static void stop_failpoint_leaves_the_report_before(void **state)
{
    fixture *f = *state;
    KB_AUTO_ERROR(err);
    kb_progress_set_state(f->progress, KB_RUN_FINISHING);
    assert_soon(f, f->path, "\"state\":\"Finishing\"");
    assert_int_equal(kb_failpoint_configure("report.before_write:error", &err), KB_OK);
    kb_reporter_stop(KB_TAKE(f->reporter));
    assert_true(file_has(f->path, "\"state\":\"Finishing\""));
    assert_true(file_has(f->log_path, "level=warn"));
    assert_int_equal(kb_failpoint_configure("", &err), KB_OK);
}
#endif

#define KB_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        KB_TEST(start_writes_the_first_report_at_once),
        KB_TEST(change_of_state_is_written_without_time_passing),
        KB_TEST(counts_are_written_every_ten_seconds_only),
        KB_TEST(progress_line_is_logged_every_thirty_seconds),
        KB_TEST(stop_writes_the_end_and_sets_the_gauges),
        KB_TEST(progress_answers_the_report_of_this_moment),
#ifdef KB_FAILPOINTS
        KB_TEST(stop_failpoint_leaves_the_report_before),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "worker/report/progress.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "common/base/mem.h"

#define KB_TEST_WALL_MS 1735689600000LL /* 2025-01-01T00:00:00Z */

typedef struct fixture {
    _Atomic int64_t now_ms;
    kb_clock clock;
    kb_progress *progress;
} fixture;

static int64_t fake_boot(void *ctx)
{
    return ((fixture *)ctx)->now_ms;
}

static int64_t fake_wall(void *ctx)
{
    return KB_TEST_WALL_MS + ((fixture *)ctx)->now_ms;
}

static fixture *fixture_new(const char *operation)
{
    fixture *f = kb_calloc(1, sizeof *f);
    f->clock = (kb_clock){fake_boot, fake_wall, f};
    f->progress = kb_progress_new(&(kb_progress_options){.operation = operation,
                                                         .worker_version = "1.2.3",
                                                         .job_name = "job",
                                                         .job_uid = "uid",
                                                         .clock = &f->clock});
    return f;
}

static int setup(void **state)
{
    *state = fixture_new("backup");
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    kb_progress_free(f->progress);
    free(f);
    return 0;
}

static kb_progress_counts counts_of(fixture *f)
{
    kb_progress_counts counts;
    kb_progress_read(f->progress, &counts);
    return counts;
}

static json_t *report_of(fixture *f)
{
    KB_AUTO_RUN_REPORT(report);
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(text, KB_RUN_REPORT_MAX_BYTES);
    kb_progress_snapshot(f->progress, &report);
    assert_int_equal(kb_run_report_encode(&report, &text, &err), KB_OK);
    json_t *root = json_loads(kb_strbuf_view(&text), 0, NULL);
    assert_non_null(root);
    return root;
}

static const char *text_at(const json_t *root, const char *name)
{
    const char *text = json_string_value(json_object_get(root, name));
    return text != NULL ? text : "(absent)";
}

static int64_t number_at(const json_t *root, const char *name)
{
    json_t *value = json_object_get(root, name);
    return json_is_integer(value) ? json_integer_value(value) : INT64_MIN;
}

static void snapshot_new_run_is_starting_with_zero_counts(void **state)
{
    json_t *root = report_of(*state);
    assert_int_equal(number_at(root, "version"), 1);
    assert_string_equal(text_at(root, "operation"), "backup");
    assert_string_equal(text_at(root, "workerVersion"), "1.2.3");
    assert_string_equal(text_at(root, "jobUid"), "uid");
    assert_null(json_object_get(root, "podName"));
    assert_string_equal(text_at(root, "state"), "Starting");
    assert_string_equal(text_at(root, "startTime"), "2025-01-01T00:00:00Z");
    static const char *const ZEROS[] = {"percent", "recordsProcessed", "bytesProcessed", "segmentsCompleted",
                                        "gaps",    "gapOffsets",       "newBytes",       "skippedTopics"};
    for (size_t i = 0; i < KB_ARRAY_LEN(ZEROS); i++)
        assert_int_equal(number_at(root, ZEROS[i]), 0);
    static const char *const ABSENT[] = {"exitCode",       "reason",         "message",  "completionTime",
                                         "etaSeconds",     "partitionsDone", "firstGap", "findings",
                                         "resumedRecords", "truncated"};
    for (size_t i = 0; i < KB_ARRAY_LEN(ABSENT); i++)
        assert_null(json_object_get(root, ABSENT[i]));
    json_decref(root);
}

static void snapshot_restore_has_its_own_counts(void **state)
{
    (void)state;
    fixture *f = fixture_new("restore");
    json_t *root = report_of(f);
    assert_int_equal(number_at(root, "resumedRecords"), 0);
    assert_int_equal(number_at(root, "filteredRecords"), 0);
    assert_null(json_object_get(root, "segmentsCompleted"));
    assert_null(json_object_get(root, "gaps"));
    json_decref(root);
    void *at = f;
    teardown(&at);
}

static void percent_falls_never_and_is_100_only_when_done(void **state)
{
    fixture *f = *state;
    static const struct {
        int64_t total;
        int64_t add;
        int32_t percent;
    } STEPS[] = {
        {0, 0, 0},       {200, 0, 0},     {200, 50, 25}, {1000, 0, 25},
        {1000, 249, 29}, {1000, 700, 99}, {1000, 1, 99}, {1000, 500, 99},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(STEPS); i++) {
        kb_progress_set_work(f->progress, STEPS[i].total);
        kb_progress_add_work(f->progress, STEPS[i].add);
        assert_int_equal(counts_of(f).percent, STEPS[i].percent);
    }
    kb_progress_finish(f->progress, KB_RUN_SUCCEEDED, 0, NULL, NULL);
    assert_int_equal(counts_of(f).percent, 100);
}

static void percent_of_an_end_that_is_not_done_stays(void **state)
{
    static const struct {
        kb_run_state end;
        int32_t percent;
    } CASES[] = {{KB_RUN_SUCCEEDED, 100},
                 {KB_RUN_DONE_WITH_FINDINGS, 100},
                 {KB_RUN_FAILED, 40},
                 {KB_RUN_INTERRUPTED, 40}};
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        fixture *f = fixture_new("backup");
        kb_progress_set_totals(f->progress, 1, 5);
        kb_progress_partition_done(f->progress);
        kb_progress_partition_done(f->progress);
        kb_progress_finish(f->progress, CASES[i].end, 0, NULL, NULL);
        assert_int_equal(counts_of(f).percent, CASES[i].percent);
        void *at = f;
        teardown(&at);
    }
}

static void rates_follow_the_window_and_ignore_what_was_found(void **state)
{
    fixture *f = *state;
    f->now_ms = 5000;
    kb_progress_set_work(f->progress, 10000);
    kb_progress_add_found(f->progress, 4000, 400000);
    kb_progress_add_work_found(f->progress, 4000);
    kb_progress_set_state(f->progress, KB_RUN_RUNNING);
    for (int second = 0; second < 60; second++) {
        f->now_ms += 1000;
        /* 100 records a second in the first half, 10 in the second. */
        int64_t n = second < 30 ? 100 : 10;
        kb_progress_add_records(f->progress, n, n * 50);
        kb_progress_add_work(f->progress, n);
        kb_progress_sample(f->progress);
        if (second == 29) {
            kb_progress_counts counts = counts_of(f);
            assert_int_equal(counts.records, 7000);
            assert_int_equal(counts.records_per_second, 100);
            assert_int_equal(counts.bytes_per_second, 5000);
            assert_in_range(counts.eta_seconds, 30, 31);
        }
    }
    kb_progress_counts counts = counts_of(f);
    assert_int_equal(counts.records_per_second, 10);
    assert_in_range(counts.eta_seconds, 270, 271);
    f->now_ms += 120000;
    kb_progress_sample(f->progress);
    counts = counts_of(f);
    assert_int_equal(counts.records_per_second, 0);
    assert_int_equal(counts.eta_seconds, -1);
    kb_progress_finish(f->progress, KB_RUN_FAILED, 75, "KafkaUnreachable", "gone");
    counts = counts_of(f);
    assert_int_equal(counts.records_per_second, 3300 / 180);
    assert_int_equal(counts.eta_seconds, -1);
}

static void rates_extreme_counts_do_not_overflow(void **state)
{
    fixture *f = *state;
    kb_progress_set_work(f->progress, INT64_MAX);
    f->now_ms = 1;
    kb_progress_add_records(f->progress, INT64_MAX / 2, INT64_MAX / 2);
    kb_progress_add_work(f->progress, 1);
    kb_progress_counts counts = counts_of(f);
    assert_true(counts.records_per_second > 0);
    assert_int_equal(counts.eta_seconds, -1);
    json_t *root = report_of(f);
    json_decref(root);
}

static void finish_is_kept(void **state)
{
    fixture *f = *state;
    uint64_t changes = kb_progress_changes(f->progress);
    f->now_ms = 61000;
    kb_progress_set_waiting(f->progress, "lock of %s", "other");
    kb_progress_finish(f->progress, KB_RUN_FAILED, 65, "BackupCorrupt", "segment x");
    kb_progress_finish(f->progress, KB_RUN_SUCCEEDED, 0, NULL, NULL);
    kb_progress_set_state(f->progress, KB_RUN_RUNNING);
    assert_int_equal(kb_progress_changes(f->progress), changes + 1);
    json_t *root = report_of(f);
    assert_string_equal(text_at(root, "state"), "Failed");
    assert_int_equal(number_at(root, "exitCode"), 65);
    assert_string_equal(text_at(root, "reason"), "BackupCorrupt");
    assert_string_equal(text_at(root, "message"), "segment x");
    assert_string_equal(text_at(root, "completionTime"), "2025-01-01T00:01:01Z");
    assert_null(json_object_get(root, "waitingFor"));
    json_decref(root);
}

static void idle_counts_from_the_last_news(void **state)
{
    fixture *f = *state;
    f->now_ms = 10000;
    assert_int_equal(kb_progress_idle_ms(f->progress), 10000);
    kb_progress_add_records(f->progress, 1, 1);
    assert_int_equal(kb_progress_idle_ms(f->progress), 0);
    f->now_ms = 12500;
    assert_int_equal(kb_progress_idle_ms(f->progress), 2500);
    kb_progress_touch(f->progress);
    assert_int_equal(kb_progress_idle_ms(f->progress), 0);
    assert_int_equal(kb_progress_last_ms(f->progress), KB_TEST_WALL_MS + 12500);
    json_t *root = report_of(f);
    assert_string_equal(text_at(root, "lastProgressTime"), "2025-01-01T00:00:12Z");
    json_decref(root);
}

static void findings_are_reported_once_per_reason_in_order(void **state)
{
    fixture *f = *state;
    kb_finding first;
    assert_false(kb_progress_has_findings(f->progress));
    assert_false(kb_progress_first_finding(f->progress, &first));
    kb_progress_add_check(f->progress, "retention", "warn", "%d segments", 3);
    kb_progress_add_finding(f->progress, KB_FINDING_TOPICS_SKIPPED, "secret", -1, "not authorized");
    kb_progress_add_finding(f->progress, KB_FINDING_RETENTION_GAP, "orders", 2, "[%d, %d)", 5, 9);
    kb_progress_add_finding(f->progress, KB_FINDING_RETENTION_GAP, "orders", 3, "[1, 2)");
    kb_progress_add_check(f->progress, "target", "refuse", "not empty");
    assert_true(kb_progress_first_finding(f->progress, &first));
    assert_int_equal(first, KB_FINDING_RETENTION_GAP);
    json_t *root = report_of(f);
    static const struct {
        const char *check, *result, *detail;
    } ROWS[] = {
        {"target", "refuse", "not empty"},
        {"RetentionGap", "found", "orders/2: [5, 9) (and 1 more)"},
        {"TopicsSkipped", "found", "secret: not authorized"},
        {"retention", "warn", "3 segments"},
    };
    json_t *list = json_object_get(root, "findings");
    assert_int_equal(json_array_size(list), KB_ARRAY_LEN(ROWS));
    for (size_t i = 0; i < KB_ARRAY_LEN(ROWS); i++) {
        json_t *row = json_array_get(list, i);
        assert_string_equal(text_at(row, "check"), ROWS[i].check);
        assert_string_equal(text_at(row, "result"), ROWS[i].result);
        assert_string_equal(text_at(row, "detail"), ROWS[i].detail);
    }
    json_decref(root);
}

static void findings_of_thousands_of_partitions_stay_bounded(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 5000; i++) {
        kb_progress_add_finding(f->progress, KB_FINDING_DISCONTINUITY, "t", i, "%0500d", i);
        kb_progress_add_check(f->progress, "check", i % 2 == 0 ? "refuse" : "warn", "%0500d", i);
    }
    json_t *root = report_of(f);
    assert_true(json_array_size(json_object_get(root, "findings")) <= 10);
    assert_true(json_is_true(json_object_get(root, "truncated")));
    json_decref(root);
}

static void gaps_and_skipped_topics_are_counted_beyond_their_lists(void **state)
{
    fixture *f = *state;
    kb_progress_add_gap(f->progress, "orders", 1, 10, 15);
    kb_progress_add_gap(f->progress, "orders", 2, 0, 100);
    for (int i = 0; i < 7; i++)
        kb_progress_skip_topic(f->progress, "skipped");
    kb_progress_add_discontinuity(f->progress);
    json_t *root = report_of(f);
    assert_int_equal(number_at(root, "gaps"), 2);
    assert_int_equal(number_at(root, "gapOffsets"), 105);
    json_t *gap = json_object_get(root, "firstGap");
    assert_int_equal(number_at(gap, "partition"), 1);
    assert_int_equal(number_at(gap, "start"), 10);
    assert_int_equal(number_at(gap, "end"), 15);
    assert_int_equal(number_at(root, "skippedTopics"), 7);
    assert_int_equal(json_array_size(json_object_get(root, "skippedNames")), 5);
    assert_int_equal(number_at(root, "discontinuities"), 1);
    json_decref(root);
}

static void facts_can_be_set_and_taken_back(void **state)
{
    fixture *f = *state;
    kb_progress_set_text(f->progress, KB_REPORT_BACKUP_ID, "b-1");
    kb_progress_set_number(f->progress, KB_REPORT_LSO_LAG, 12);
    kb_progress_set_flag(f->progress, KB_REPORT_CONDITIONAL_PUT, true);
    kb_progress_set_time(f->progress, KB_REPORT_SNAPSHOT_TIME, KB_TEST_WALL_MS);
    kb_progress_set_waiting(f->progress, "%s", "the lock");
    kb_progress_add_held_topic(f->progress, "orders");
    json_t *root = report_of(f);
    assert_string_equal(text_at(root, "backupId"), "b-1");
    assert_int_equal(number_at(root, "lsoLag"), 12);
    assert_true(json_is_true(json_object_get(root, "conditionalPut")));
    assert_string_equal(text_at(root, "snapshotTime"), "2025-01-01T00:00:00Z");
    assert_string_equal(text_at(root, "waitingFor"), "the lock");
    assert_int_equal(json_array_size(json_object_get(root, "heldTopics")), 1);
    json_decref(root);
    kb_progress_set_waiting(f->progress, NULL);
    kb_progress_clear_held_topics(f->progress);
    kb_progress_unset(f->progress, KB_REPORT_LSO_LAG);
    root = report_of(f);
    assert_null(json_object_get(root, "waitingFor"));
    assert_null(json_object_get(root, "heldTopics"));
    assert_null(json_object_get(root, "lsoLag"));
    json_decref(root);
}

#define HAMMER_ROUNDS 5000

static void *hammer(void *arg)
{
    kb_progress *progress = arg;
    for (int i = 0; i < HAMMER_ROUNDS; i++) {
        kb_progress_add_records(progress, 1, 10);
        kb_progress_add_work(progress, 1);
        kb_progress_add_segment(progress);
        if (i % 100 == 0)
            kb_progress_add_finding(progress, KB_FINDING_RETENTION_GAP, "t", i, "x");
    }
    return NULL;
}

static void counts_from_many_threads_lose_nothing(void **state)
{
    fixture *f = *state;
    kb_progress_set_work(f->progress, 4 * HAMMER_ROUNDS);
    pthread_t threads[4];
    for (size_t i = 0; i < KB_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, f->progress), 0);
    int32_t last = 0;
    for (int i = 0; i < 200; i++) {
        f->now_ms += 1000;
        kb_progress_sample(f->progress);
        int32_t percent = counts_of(f).percent;
        assert_true(percent >= last && percent < 100);
        last = percent;
        json_decref(report_of(f));
    }
    for (size_t i = 0; i < KB_ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    kb_progress_counts counts = counts_of(f);
    assert_int_equal(counts.records, 4 * HAMMER_ROUNDS);
    assert_int_equal(counts.bytes, 40 * HAMMER_ROUNDS);
    assert_int_equal(counts.segments, 4 * HAMMER_ROUNDS);
    assert_int_equal(counts.percent, 99);
}

static void wait_change_ends_by_change_wake_or_time(void **state)
{
    fixture *f = *state;
    uint64_t seen = kb_progress_changes(f->progress);
    assert_int_equal(kb_progress_wait_change(f->progress, seen, 1), seen);
    kb_progress_wake(f->progress);
    assert_int_equal(kb_progress_wait_change(f->progress, seen, 600000), seen);
    kb_progress_set_state(f->progress, KB_RUN_PREFLIGHT);
    kb_progress_set_state(f->progress, KB_RUN_PREFLIGHT);
    assert_int_equal(kb_progress_wait_change(f->progress, seen, 600000), seen + 1);
}

static void begin_cycle_counts_anew_and_keeps_what_stays_true(void **state)
{
    fixture *f = *state;
    kb_progress_set_text(f->progress, KB_REPORT_LINEAGE, "line");
    kb_progress_set_text(f->progress, KB_REPORT_BASE, "line-20250101-000000");
    kb_progress_set_work(f->progress, 10);
    kb_progress_add_work(f->progress, 10);
    kb_progress_add_records(f->progress, 5, 50);
    kb_progress_add_found(f->progress, 1, 1);
    kb_progress_add_segment(f->progress);
    kb_progress_add_gap(f->progress, "t", 0, 1, 2);
    kb_progress_add_finding(f->progress, KB_FINDING_RETENTION_GAP, "t", 0, "gone");
    kb_progress_add_check(f->progress, "check", "warn", "text");
    assert_int_equal(counts_of(f).records, 6);
    kb_progress_begin_cycle(f->progress);
    kb_progress_counts counts = counts_of(f);
    assert_int_equal(counts.records, 0);
    assert_int_equal(counts.segments, 0);
    assert_int_equal(counts.gaps, 0);
    assert_int_equal(counts.work_total, 0);
    assert_int_equal(counts.percent, 0);
    assert_false(kb_progress_has_findings(f->progress));
    assert_int_equal(kb_progress_state(f->progress), KB_RUN_PREFLIGHT);
    json_t *root = report_of(f);
    assert_string_equal(text_at(root, "lineage"), "line");
    assert_null(json_object_get(root, "base"));
    json_decref(root);
    kb_progress_finish(f->progress, KB_RUN_INTERRUPTED, 143, "Interrupted", "stopped");
    kb_progress_begin_cycle(f->progress);
    assert_int_equal(kb_progress_state(f->progress), KB_RUN_INTERRUPTED);
}

#define KB_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        KB_TEST(snapshot_new_run_is_starting_with_zero_counts),
        KB_TEST(snapshot_restore_has_its_own_counts),
        KB_TEST(percent_falls_never_and_is_100_only_when_done),
        KB_TEST(percent_of_an_end_that_is_not_done_stays),
        KB_TEST(rates_follow_the_window_and_ignore_what_was_found),
        KB_TEST(rates_extreme_counts_do_not_overflow),
        KB_TEST(finish_is_kept),
        KB_TEST(idle_counts_from_the_last_news),
        KB_TEST(findings_are_reported_once_per_reason_in_order),
        KB_TEST(findings_of_thousands_of_partitions_stay_bounded),
        KB_TEST(gaps_and_skipped_topics_are_counted_beyond_their_lists),
        KB_TEST(facts_can_be_set_and_taken_back),
        KB_TEST(counts_from_many_threads_lose_nothing),
        KB_TEST(begin_cycle_counts_anew_and_keeps_what_stays_true),
        KB_TEST(wait_change_ends_by_change_wake_or_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "worker/report/run_metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"

typedef struct fixture {
    kb_metrics *metrics;
    kb_run_metrics *run;
} fixture;

static void *fixture_new(kb_run_kind kind)
{
    static const char *const COMMANDS[] = {"backup", "restore", "validate"};
    fixture *f = kb_calloc(1, sizeof *f);
    f->metrics = kb_metrics_new();
    f->run = kb_run_metrics_new(f->metrics, &(kb_run_metrics_options){.kind = kind,
                                                                      .command = COMMANDS[kind],
                                                                      .version = "1.2.3",
                                                                      .backup_id = "b\"1",
                                                                      .restore_id = "r1",
                                                                      .algorithm = "zstd",
                                                                      .backend = "filesystem",
                                                                      .max_partition_labels = 2});
    return f;
}

static void fixture_free(fixture *f)
{
    kb_run_metrics_free(f->run);
    kb_metrics_free(f->metrics);
    free(f);
}

static char *text_of(fixture *f)
{
    KB_AUTO_STRBUF(out, 1 << 20);
    kb_metrics_render(f->metrics, &out);
    return kb_strbuf_take(&out);
}

static void assert_line(fixture *f, const char *line)
{
    KB_AUTOFREE char *text = text_of(f);
    KB_AUTOFREE char *whole = kb_asprintf("\n%s\n", line);
    if (strstr(text, whole) == NULL)
        fail_msg("not there: %s", line);
}

#define KB_B 1u
#define KB_R 2u
#define KB_V 4u

/* The table of worker.md, section 13: name, type, labels, and the commands whose series these are. */
static const struct {
    const char *name;
    const char *type;
    const char *labels;
    unsigned kinds;
} TABLE[] = {
    {"kafka_backup_records_total", "counter", "{backup_id=\"b\\\"1\"} 0", KB_B},
    {"kafka_backup_bytes_total", "counter", "{backup_id=\"b\\\"1\"} 0", KB_B},
    {"kafka_backup_uncompressed_bytes_total", "counter", "{backup_id=\"b\\\"1\",algorithm=\"zstd\"} 0", KB_B},
    {"kafka_backup_compressed_bytes_total", "counter", "{backup_id=\"b\\\"1\",algorithm=\"zstd\"} 0", KB_B},
    {"kafka_backup_segments_total", "counter", "{backup_id=\"b\\\"1\"} 0", KB_B},
    {"kafka_backup_segments_reused_total", "counter", "{backup_id=\"b\\\"1\"} 0", KB_B},
    {"kafka_backup_segments_adopted_total", "counter", "{backup_id=\"b\\\"1\"} 0", KB_B},
    {"kafka_backup_lag_records_sum", "gauge", "{backup_id=\"b\\\"1\"} 0", KB_B},
    {"kafka_backup_snapshot_records_target", "gauge", "{backup_id=\"b\\\"1\"} 0", KB_B},
    {"kafka_backup_snapshot_records_remaining", "gauge", "{backup_id=\"b\\\"1\"} 0", KB_B},
    {"kafka_backup_lso_lag", "gauge", "{backup_id=\"b\\\"1\"} 0", KB_B},
    {"kafka_backup_offset_gaps_total", "counter", "{backup_id=\"b\\\"1\"} 0", KB_B},
    {"kafka_backup_offsets_skipped_total", "counter", "{backup_id=\"b\\\"1\"} 0", KB_B},
    {"kafka_backup_discontinuities_total", "counter", "{backup_id=\"b\\\"1\"} 0", KB_B},
    {"kafka_backup_topics_skipped_total", "counter", "{backup_id=\"b\\\"1\"} 0", KB_B},
    {"kafka_backup_journal_age_seconds", "gauge", "{backup_id=\"b\\\"1\"} 0", KB_B},
    {"kafka_backup_progress_percent", "gauge", "{backup_id=\"b\\\"1\"} 0", KB_B},
    {"kafka_backup_errors_total", "counter", "{backup_id=\"b\\\"1\",error_type=\"kafka_transient\"} 0",
     KB_B | KB_R | KB_V},
    {"kafka_backup_retries_total", "counter", "{backup_id=\"b\\\"1\",operation=\"fetch\"} 0",
     KB_B | KB_R | KB_V},
    {"kafka_backup_storage_write_latency_seconds", "histogram",
     "_bucket{backend=\"filesystem\",operation=\"put_if_absent\",le=\"2.5\"} 0", KB_B | KB_R | KB_V},
    {"kafka_backup_storage_read_latency_seconds", "histogram",
     "_count{backend=\"filesystem\",operation=\"get_range\"} 0", KB_B | KB_R | KB_V},
    {"kafka_backup_storage_write_bytes_total", "counter", "{backend=\"filesystem\"} 0", KB_B | KB_R | KB_V},
    {"kafka_backup_storage_read_bytes_total", "counter", "{backend=\"filesystem\"} 0", KB_B | KB_R | KB_V},
    {"kafka_backup_storage_errors_total", "counter", "{backend=\"filesystem\",error_type=\"filesystem\"} 0",
     KB_B | KB_R | KB_V},
    {"kafka_backup_circuit_open", "gauge", "{endpoint=\"kafka-admin\"} 0", KB_B | KB_R},
    {"kafka_restore_records_total", "counter", "{restore_id=\"r1\",backup_id=\"b\\\"1\"} 0", KB_R},
    {"kafka_restore_bytes_total", "counter", "{restore_id=\"r1\",backup_id=\"b\\\"1\"} 0", KB_R},
    {"kafka_restore_records_resumed_total", "counter", "{restore_id=\"r1\",backup_id=\"b\\\"1\"} 0", KB_R},
    {"kafka_restore_progress_percent", "gauge", "{restore_id=\"r1\",backup_id=\"b\\\"1\"} 0", KB_R},
    {"kafka_restore_eta_seconds", "gauge", "{restore_id=\"r1\",backup_id=\"b\\\"1\"} 0", KB_R},
    {"kafka_backup_worker_build_info", "gauge", "{version=\"1.2.3\"} 1", KB_B | KB_R | KB_V},
    {"kafka_backup_memory_budget_bytes", "gauge", " 0", KB_B | KB_R | KB_V},
};

static void new_every_series_of_the_command_is_there_with_zero(void **state)
{
    (void)state;
    for (int kind = KB_RUN_KIND_BACKUP; kind <= KB_RUN_KIND_VALIDATE; kind++) {
        fixture *f = fixture_new((kb_run_kind)kind);
        KB_AUTOFREE char *text = text_of(f);
        for (size_t i = 0; i < KB_ARRAY_LEN(TABLE); i++) {
            KB_AUTOFREE char *line = kb_asprintf("\n%s%s\n", TABLE[i].name, TABLE[i].labels);
            KB_AUTOFREE char *type = kb_asprintf("# TYPE %s %s\n", TABLE[i].name, TABLE[i].type);
            bool expected = (TABLE[i].kinds & (1u << kind)) != 0;
            if ((strstr(text, line) != NULL) != expected || (strstr(text, type) != NULL) != expected)
                fail_msg("%s of command %d", TABLE[i].name, kind);
        }
        fixture_free(f);
    }
    fixture *f = fixture_new(KB_RUN_KIND_VALIDATE);
    assert_line(f, "kafka_backup_run_exit_code{command=\"validate\"} 0");
    fixture_free(f);
}

static void update_each_helper_reaches_its_series(void **state)
{
    (void)state;
    fixture *f = fixture_new(KB_RUN_KIND_BACKUP);
    kb_run_metrics_add_records(f->run, 5, 50);
    kb_run_metrics_add_segment(f->run, 1000, 100);
    kb_run_metrics_set_snapshot(f->run, 900, 300);
    kb_run_metrics_add_error(f->run, KB_CLASS_STORE_TRANSIENT);
    kb_run_metrics_add_retry(f->run, KB_RETRY_STORAGE_WRITE);
    kb_run_metrics_store_op(f->run, KB_STORE_OP_PUT, 300000, 4096);
    kb_run_metrics_store_op(f->run, KB_STORE_OP_GET_RANGE, 20000, 17);
    kb_run_metrics_store_error(f->run, KB_CLASS_FILESYSTEM);
    kb_metric_set(kb_run_metrics_circuit(f->run, "s3.example"), 1);
    kb_metric_set(f->run->exit_code, 3);
    static const char *const LINES[] = {
        "kafka_backup_records_total{backup_id=\"b\\\"1\"} 5",
        "kafka_backup_bytes_total{backup_id=\"b\\\"1\"} 50",
        "kafka_backup_segments_total{backup_id=\"b\\\"1\"} 1",
        "kafka_backup_uncompressed_bytes_total{backup_id=\"b\\\"1\",algorithm=\"zstd\"} 1000",
        "kafka_backup_compressed_bytes_total{backup_id=\"b\\\"1\",algorithm=\"zstd\"} 100",
        "kafka_backup_snapshot_records_target{backup_id=\"b\\\"1\"} 900",
        "kafka_backup_snapshot_records_remaining{backup_id=\"b\\\"1\"} 300",
        "kafka_backup_errors_total{backup_id=\"b\\\"1\",error_type=\"store_transient\"} 1",
        "kafka_backup_retries_total{backup_id=\"b\\\"1\",operation=\"storage_write\"} 1",
        "kafka_backup_storage_write_latency_seconds_bucket{backend=\"filesystem\",operation=\"put\",le=\"0."
        "25\"} 0",
        "kafka_backup_storage_write_latency_seconds_bucket{backend=\"filesystem\",operation=\"put\",le=\"0."
        "5\"} 1",
        "kafka_backup_storage_write_bytes_total{backend=\"filesystem\"} 4096",
        "kafka_backup_storage_read_bytes_total{backend=\"filesystem\"} 17",
        "kafka_backup_storage_errors_total{backend=\"filesystem\",error_type=\"filesystem\"} 1",
        "kafka_backup_circuit_open{endpoint=\"s3.example\"} 1",
        "kafka_backup_run_exit_code{command=\"backup\"} 3",
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(LINES); i++)
        assert_line(f, LINES[i]);
    /* Those of another command count without being shown. */
    kb_run_metrics_add_restored(f->run, 1, 1);
    kb_run_metrics_store_error(f->run, KB_CLASS_KAFKA_FENCED);
    KB_AUTOFREE char *text = text_of(f);
    assert_null(strstr(text, "kafka_restore_"));
    assert_null(strstr(text, "storage_errors_total{backend=\"filesystem\",error_type=\"kafka"));
    fixture_free(f);
}

static void set_lag_shows_the_largest_and_the_sum_of_all(void **state)
{
    (void)state;
    fixture *f = fixture_new(KB_RUN_KIND_BACKUP);
    const kb_partition_lag lags[] = {{"a", 0, 3}, {"a", 1, 100}, {"b", 2147483647, 50}, {"c", 0, 7}};
    kb_run_metrics_set_lag(f->run, lags, KB_ARRAY_LEN(lags));
    assert_line(f, "kafka_backup_lag_records_sum{backup_id=\"b\\\"1\"} 160");
    assert_line(f, "kafka_backup_lag_records{topic=\"a\",partition=\"1\",backup_id=\"b\\\"1\"} 100");
    assert_line(f, "kafka_backup_lag_records{topic=\"b\",partition=\"2147483647\",backup_id=\"b\\\"1\"} 50");
    KB_AUTOFREE char *text = text_of(f);
    assert_null(strstr(text, "topic=\"c\""));
    kb_run_metrics_set_lag(f->run, NULL, 0);
    assert_line(f, "kafka_backup_lag_records_sum{backup_id=\"b\\\"1\"} 0");
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_every_series_of_the_command_is_there_with_zero),
        cmocka_unit_test(update_each_helper_reaches_its_series),
        cmocka_unit_test(set_lag_shows_the_largest_and_the_sum_of_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

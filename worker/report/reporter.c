#include "worker/report/reporter.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define KB_REPORTER_TICK_MS 1000

struct kb_reporter {
    kb_progress *progress;
    kb_report_file *file;
    kb_report_status *status;
    const kb_clock *clock;
    _Atomic(kb_run_metrics *) metrics;
    atomic_bool stopping;
    pthread_t thread;
    /* The reporter's thread only, and start and stop while there is none. */
    uint64_t changes_written;
    int64_t written_ms;
    int64_t logged_ms;
    kb_strbuf last; /* the report as it was written */
};

/* False when the report cannot be made, which is logged. */
static bool encode(kb_progress *progress, kb_strbuf *out)
{
    KB_AUTO_RUN_REPORT(report);
    KB_AUTO_ERROR(err);
    kb_progress_snapshot(progress, &report);
    if (kb_run_report_encode(&report, out, &err) == KB_OK)
        return true;
    kb_log_limited(KB_LOG_WARN, "the run report cannot be made", KB_ERRTEXT(&err));
    return false;
}

int kb_reporter_progress(void *progress, kb_strbuf *body)
{
    if (!encode(progress, body)) {
        kb_strbuf_clear(body);
        kb_strbuf_appends(body, "{}");
    }
    return 200;
}

static void write_report(kb_reporter *reporter)
{
    reporter->written_ms = kb_clock_now_boot_ms(reporter->clock);
    if (reporter->file == NULL && reporter->status == NULL)
        return;
    KB_AUTO_STRBUF(text, KB_RUN_REPORT_MAX_BYTES);
    if (!encode(reporter->progress, &text))
        return;
    kb_report_status_offer(reporter->status, kb_strbuf_view(&text), text.len);
    if (reporter->file == NULL)
        return;
    if (text.len == reporter->last.len &&
        memcmp(kb_strbuf_view(&text), kb_strbuf_view(&reporter->last), text.len) == 0)
        return;
    kb_strbuf_clear(&reporter->last);
    if (kb_report_file_write(reporter->file, kb_strbuf_view(&text), text.len))
        kb_strbuf_append(&reporter->last, kb_strbuf_view(&text), text.len);
}

static void set_gauges(kb_reporter *reporter, const kb_progress_counts *counts)
{
    kb_run_metrics *metrics = atomic_load(&reporter->metrics);
    if (metrics == NULL)
        return;
    /* The pair that belongs to another command is not shown. */
    kb_metric_set(metrics->progress_percent, counts->percent);
    kb_metric_set(metrics->restore_percent, counts->percent);
    kb_metric_set(metrics->restore_eta, counts->eta_seconds > 0 ? (double)counts->eta_seconds : 0);
}

static void log_progress(kb_reporter *reporter, const kb_progress_counts *counts)
{
    KB_AUTO_STRBUF(text, 512);
    kb_strbuf_appendf(&text,
                      "%s: %" PRId32 " %%, %" PRId64 " records (%" PRId64 "/s), %" PRId64 " bytes (%" PRId64
                      "/s), %" PRId64 " partitions done",
                      kb_run_state_name(kb_progress_state(reporter->progress)), counts->percent,
                      counts->records, counts->records_per_second, counts->bytes, counts->bytes_per_second,
                      counts->partitions_done);
    if (counts->eta_seconds > 0)
        kb_strbuf_appendf(&text, ", about %" PRId64 " s left", counts->eta_seconds);
    kb_log(KB_LOG_INFO, kb_strbuf_view(&text), KB_STR("event", "progress"));
}

static void tick(kb_reporter *reporter, uint64_t changes)
{
    kb_progress_counts counts;
    kb_progress_sample(reporter->progress);
    kb_progress_read(reporter->progress, &counts);
    set_gauges(reporter, &counts);
    int64_t now = kb_clock_now_boot_ms(reporter->clock);
    if (changes != reporter->changes_written || now - reporter->written_ms >= KB_REPORTER_REFRESH_MS) {
        reporter->changes_written = changes;
        write_report(reporter);
    }
    if (now - reporter->logged_ms >= KB_REPORTER_LOG_MS) {
        reporter->logged_ms = now;
        log_progress(reporter, &counts);
    }
}

static void *run(void *arg)
{
    kb_reporter *reporter = arg;
    while (!atomic_load(&reporter->stopping)) {
        uint64_t changes =
            kb_progress_wait_change(reporter->progress, reporter->changes_written, KB_REPORTER_TICK_MS);
        if (!atomic_load(&reporter->stopping))
            tick(reporter, changes);
    }
    return NULL;
}

static void reporter_free(kb_reporter *reporter)
{
    kb_strbuf_done(&reporter->last);
    free(reporter);
}

kb_code kb_reporter_start(const kb_reporter_options *options, kb_reporter **ret_reporter, kb_error *err)
{
    kb_reporter *reporter = kb_calloc(1, sizeof *reporter);
    reporter->progress = options->progress;
    reporter->file = options->file;
    reporter->status = options->status;
    reporter->clock = options->clock != NULL ? options->clock : kb_clock_system();
    atomic_store(&reporter->metrics, options->metrics);
    kb_strbuf_init(&reporter->last, KB_RUN_REPORT_MAX_BYTES);
    reporter->changes_written = kb_progress_changes(reporter->progress);
    reporter->logged_ms = kb_clock_now_boot_ms(reporter->clock);
    write_report(reporter);
    int rc = pthread_create(&reporter->thread, NULL, run, reporter);
    if (rc != 0) {
        reporter_free(reporter);
        return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "cannot start the report thread: %s",
                                 kb_errno_text(rc));
    }
    *ret_reporter = reporter;
    return KB_OK;
}

void kb_reporter_set_metrics(kb_reporter *reporter, kb_run_metrics *metrics)
{
    atomic_store(&reporter->metrics, metrics);
}

void kb_reporter_stop(kb_reporter *owned_reporter)
{
    if (owned_reporter == NULL)
        return;
    atomic_store(&owned_reporter->stopping, true);
    kb_progress_wake(owned_reporter->progress);
    pthread_join(owned_reporter->thread, NULL);
    kb_progress_counts counts;
    kb_progress_read(owned_reporter->progress, &counts);
    set_gauges(owned_reporter, &counts);
    KB_AUTO_ERROR(err);
    if (KB_FAILPOINT("report.before_write", &err) == KB_OK)
        write_report(owned_reporter);
    else
        kb_log(KB_LOG_WARN, "the last report cannot be written", KB_ERRTEXT(&err));
    reporter_free(owned_reporter);
}

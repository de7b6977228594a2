/*
 * reporter - the thread that tells the world how a run goes.
 *
 * Once per second it samples the rates; at every change of state, and at most every 10 s in between when the
 * report has changed, it rewrites the termination message; every 30 s it logs a progress line. The same
 * report is what /progress answers. kb_reporter_stop writes the last report, so it is called after
 * kb_progress_finish.
 * Threads: start and stop from one thread; kb_reporter_progress from any.
 */
#ifndef KB_WORKER_REPORT_REPORTER_H
#define KB_WORKER_REPORT_REPORTER_H

#include "common/base/error.h"
#include "common/base/strbuf.h"
#include "worker/report/progress.h"
#include "worker/report/report_file.h"
#include "worker/report/report_status.h"
#include "worker/report/run_metrics.h"

#define KB_REPORTER_REFRESH_MS 10000
#define KB_REPORTER_LOG_MS 30000

typedef struct kb_reporter kb_reporter;

typedef struct kb_reporter_options {
    kb_progress *progress;    /* outlives the reporter, as do the others */
    kb_report_file *file;     /* NULL = none */
    kb_report_status *status; /* NULL = none */
    kb_run_metrics *metrics;  /* NULL = none; gets percent and eta */
    const kb_clock *clock;    /* NULL = the machine's */
} kb_reporter_options;

/* Writes the first report and starts the thread. KB_TEMPORARY_FAILURE when there is no thread to be had. */
kb_code kb_reporter_start(const kb_reporter_options *options, kb_reporter **ret_reporter,
                          kb_error *err) KB_CHECK;
/* From now on percent and eta go to these metrics too; they come into being after the reporter. */
void kb_reporter_set_metrics(kb_reporter *reporter, kb_run_metrics *metrics);
/* Ends the thread, writes the last report (failpoint report.before_write) and frees. NULL is fine. */
void kb_reporter_stop(kb_reporter *owned_reporter);

/* The report of this moment as JSON; a kb_httpd_fn whose ctx is the kb_progress. Returns 200. */
int kb_reporter_progress(void *progress, kb_strbuf *body);

#endif

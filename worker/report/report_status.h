/*
 * report_status - the report as `status.run` of the custom resource, by server-side apply (worker.md, 14).
 *
 * A thread of its own writes the newest report: at the start, then when it changed at most every 10 s (slower
 * when the server asks for it) and at least every 30 s, and at the end with 3 tries in 10 s. Before each
 * write it looks whose object that is: another UID, or none, ends writing for good. A server that refuses the
 * content is not asked again. Nothing that happens here changes how a run ends. Threads: offer from one
 * thread; start and stop from one thread.
 */
#ifndef KB_WORKER_REPORT_REPORT_STATUS_H
#define KB_WORKER_REPORT_REPORT_STATUS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/net/kube_access.h"

#define KB_STATUS_CHANGED_MS 10000
#define KB_STATUS_ALIVE_MS 30000
#define KB_STATUS_LAST_MS 10000

typedef struct kb_report_status kb_report_status;

/* Texts are copied. */
typedef struct kb_report_status_options {
    kb_kube_access *owned_access; /* taken, also when the start fails */
    const char *kind, *plural, *name_space, *name;
    const char *uid;    /* of the object */
    int64_t changed_ms; /* 0 = KB_STATUS_CHANGED_MS; for tests */
    int64_t last_ms;    /* 0 = KB_STATUS_LAST_MS */
} kb_report_status_options;

/*
 * Starts the thread. KB_CONFIG_INVALID when kind, namespace or name cannot be those of an object of ours;
 * KB_TEMPORARY_FAILURE when there is no thread to be had.
 */
kb_code kb_report_status_start(const kb_report_status_options *options, kb_report_status **ret_status,
                               kb_error *err) KB_CHECK;
/* The newest report (JSON, copied). Never waits. NULL is fine. */
void kb_report_status_offer(kb_report_status *status, const char *text, size_t len);
/* Writes what was offered last, unless that is there already, and frees. NULL is fine. */
void kb_report_status_stop(kb_report_status *owned_status);

#endif

#include "operator/jobs/job_outcome.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/contract/exit_codes.h"
#include "common/contract/run_report.h"
#include "common/data/json_tree.h"
#include "operator/ctrl/conditions.h"
#include "operator/jobs/object_names.h"

#define KB_REPORT_DEPTH_MAX 16
#define KB_MESSAGE_MAX 900
#define KB_LOG_TAIL_BYTES 500
#define KB_EXIT_KILLED 137

/* ---- facts ---- */

bool kb_job_is_complete(const json_t *job)
{
    return kb_condition_is(kb_tree_at(job, "status", "conditions", NULL), "Complete", KB_TRUE);
}

bool kb_job_is_failed(const json_t *job)
{
    return kb_condition_is(kb_tree_at(job, "status", "conditions", NULL), "Failed", KB_TRUE);
}

bool kb_job_is_finished(const json_t *job)
{
    return kb_job_is_complete(job) || kb_job_is_failed(job);
}

json_t *kb_job_pods(const json_t *job, const json_t *all_pods)
{
    json_t *pods = kb_tree_array();
    for (size_t i = 0; i < json_array_size(all_pods); i++)
        if (kb_is_controlled_by(json_array_get(all_pods, i), job))
            kb_tree_add(pods, json_incref(json_array_get(all_pods, i)));
    return pods;
}

static const json_t *worker_status(const json_t *pod)
{
    const json_t *statuses = kb_tree_at(pod, "status", "containerStatuses", NULL);
    for (size_t i = 0; i < json_array_size(statuses); i++) {
        const json_t *status = json_array_get(statuses, i);
        if (strcmp(kb_tree_text_or_empty(status, "name", NULL), "worker") == 0)
            return status;
    }
    return NULL;
}

bool kb_job_has_started(const json_t *pods)
{
    for (size_t i = 0; i < json_array_size(pods); i++) {
        const json_t *state = kb_tree_at(worker_status(json_array_get(pods, i)), "state", NULL);
        if (kb_tree_at(state, "running", NULL) != NULL || kb_tree_at(state, "terminated", NULL) != NULL)
            return true;
    }
    return false;
}

int64_t kb_job_attempts(const json_t *job)
{
    return kb_tree_i64(0, job, "status", "failed", NULL) + kb_tree_i64(0, job, "status", "active", NULL);
}

int64_t kb_job_end_ms(const json_t *job)
{
    int64_t ms = 0;
    if (kb_tree_time(&ms, job, "status", "completionTime", NULL))
        return ms;
    const json_t *failed = kb_condition_find(kb_tree_at(job, "status", "conditions", NULL), "Failed");
    return kb_tree_time(&ms, failed, "lastTransitionTime", NULL) ? ms : 0;
}

/* The end of the newest worker container, NULL without one. */
static const json_t *newest_end(const json_t *pods)
{
    const json_t *newest = NULL;
    int64_t newest_ms = 0;
    for (size_t i = 0; i < json_array_size(pods); i++) {
        const json_t *end = kb_tree_at(worker_status(json_array_get(pods, i)), "state", "terminated", NULL);
        int64_t ms = 0;
        if (end == NULL)
            continue;
        (void)!kb_tree_time(&ms, end, "finishedAt", NULL);
        if (newest == NULL || ms >= newest_ms) {
            newest = end;
            newest_ms = ms;
        }
    }
    return newest;
}

bool kb_job_last_exit_code(const json_t *pods, int *ret_code)
{
    const json_t *end = newest_end(pods);
    if (!json_is_integer(kb_tree_at(end, "exitCode", NULL)))
        return false;
    *ret_code = (int)kb_tree_i64(0, end, "exitCode", NULL);
    return true;
}

static const char *running_container(const json_t *pod)
{
    const json_t *statuses = kb_tree_at(pod, "status", "containerStatuses", NULL);
    for (size_t i = 0; i < json_array_size(statuses); i++)
        if (kb_tree_at(json_array_get(statuses, i), "state", "running", NULL) != NULL)
            return kb_tree_text(json_array_get(statuses, i), "name", NULL);
    return NULL;
}

const char *kb_job_lingering_container(const json_t *pods, int64_t since_ms)
{
    for (size_t i = 0; i < json_array_size(pods); i++) {
        const json_t *pod = json_array_get(pods, i);
        int64_t ms = 0;
        if (kb_tree_time(&ms, worker_status(pod), "state", "terminated", "finishedAt", NULL) &&
            ms < since_ms && running_container(pod) != NULL)
            return running_container(pod);
    }
    return NULL;
}

const json_t *kb_run_of_job(const json_t *run, const char *job_uid)
{
    bool is_ours = job_uid != NULL && *job_uid != '\0' &&
                   strcmp(kb_tree_text_or_empty(run, "jobUid", NULL), job_uid) == 0 &&
                   kb_tree_i64(0, run, "version", NULL) == KB_RUN_REPORT_VERSION;
    return is_ours ? run : NULL;
}

const char *kb_exit_code_reason(int exit_code, bool is_oom)
{
    switch (exit_code) {
    case KB_EXIT_OK:
        return "ReportMissing";
    case KB_EXIT_USAGE:
        return "UsageError";
    case KB_EXIT_DATA:
        return "BadData";
    case KB_EXIT_TEMPORARY:
        return "TemporaryFailure";
    case KB_EXIT_ACCESS:
        return "AccessDenied";
    case KB_EXIT_CONFIG:
        return "Refused";
    case KB_EXIT_SIGINT:
    case KB_EXIT_SIGTERM:
        return "Interrupted";
    default:
        return exit_code == KB_EXIT_KILLED && is_oom ? "OutOfMemory" : "WorkerCrashed";
    }
}

/* ---- reports ---- */

static bool is_within_depth(const json_t *value, int depth)
{
    if (depth == 0)
        return false;
    for (size_t i = 0; i < json_array_size(value); i++)
        if (!is_within_depth(json_array_get(value, i), depth - 1))
            return false;
    if (!json_is_object(value))
        return true;
    union {
        const json_t *in;
        json_t *out;
    } object = {.in = value};
    const char *name;
    json_t *member;
    json_object_foreach(object.out, name, member) if (!is_within_depth(member, depth - 1)) return false;
    return true;
}

/* The report in a termination message, NULL when it is none of this Job. Owned. */
static json_t *report_of(const char *message, const char *job_uid)
{
    if (message == NULL || strlen(message) > KB_RUN_REPORT_MAX_BYTES)
        return NULL;
    json_t *report = json_loads(message, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(report) && is_within_depth(report, KB_REPORT_DEPTH_MAX) &&
        kb_run_of_job(report, job_uid) != NULL)
        return report;
    json_decref(report);
    return NULL;
}

/* Whether a report ended, with this exit code. */
static bool agrees(const json_t *report, int exit_code)
{
    return report != NULL && kb_tree_i64(-1, report, "exitCode", NULL) == exit_code;
}

static bool has_state(const json_t *report, kb_run_state state)
{
    return strcmp(kb_tree_text_or_empty(report, "state", NULL), kb_run_state_name(state)) == 0;
}

static bool is_done(const json_t *report)
{
    return agrees(report, KB_EXIT_OK) &&
           (has_state(report, KB_RUN_SUCCEEDED) || has_state(report, KB_RUN_DONE_WITH_FINDINGS));
}

/* The last bytes of a log that took the place of a report. Owned. */
static char *log_tail(const char *text)
{
    if (text == NULL)
        return kb_strdup("");
    size_t len = strlen(text);
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
        len--;
    size_t from = len > KB_LOG_TAIL_BYTES ? len - KB_LOG_TAIL_BYTES : 0;
    KB_AUTOFREE char *tail = kb_strndup(text + from, len - from);
    return kb_status_text(tail, KB_LOG_TAIL_BYTES);
}

/* ---- outcome ---- */

static void set(kb_job_outcome *o, kb_outcome outcome, const char *reason, const char *message)
{
    free(o->reason);
    free(o->message);
    o->outcome = outcome;
    o->reason = kb_status_text(reason, 64);
    o->message = kb_status_text(message, KB_MESSAGE_MAX);
}

static void set_report(kb_job_outcome *o, const json_t *report)
{
    json_decref(o->report);
    o->report = kb_tree_copy(report);
}

/* The run ended with code 0: what it did is in the report that agrees. */
static void decide_done(kb_job_outcome *o, const json_t *message, const json_t *run)
{
    const json_t *report = is_done(message) ? message : is_done(run) ? run : NULL;
    if (report == NULL) {
        o->is_mismatch = true;
        set(o, KB_OUTCOME_UNREPORTED, "ReportMissing",
            "the Job completed and left no report that could be read; numbers and findings are unknown");
        return;
    }
    set_report(o, report);
    if (has_state(report, KB_RUN_SUCCEEDED)) {
        set(o, KB_OUTCOME_SUCCESS, "", "");
        return;
    }
    const char *reason = kb_tree_text(report, "reason", NULL);
    set(o, KB_OUTCOME_FINDINGS, reason != NULL ? reason : "CompletedWithFindings",
        kb_tree_text_or_empty(report, "message", NULL));
}

static void decide_by_code(kb_job_outcome *o, int code, bool is_oom, const json_t *report, const char *tail)
{
    o->has_exit_code = true;
    o->exit_code = code;
    const char *reason = kb_tree_text(report, "reason", NULL);
    if (agrees(report, code) && reason != NULL) {
        set_report(o, report);
        bool is_locked = code == KB_EXIT_TEMPORARY && strcmp(reason, "BackupLocked") == 0;
        set(o, is_locked ? KB_OUTCOME_LOCKED : KB_OUTCOME_FAILURE, reason,
            kb_tree_text_or_empty(report, "message", NULL));
        return;
    }
    o->is_mismatch = report != NULL && kb_tree_at(report, "exitCode", NULL) != NULL;
    KB_AUTOFREE char *message =
        kb_asprintf("the worker ended with exit code %d%s%s%s", code, is_oom ? " (out of memory)" : "",
                    *tail != '\0' ? ": " : "", tail);
    set(o, KB_OUTCOME_FAILURE, kb_exit_code_reason(code, is_oom), message);
}

/* Nothing of the worker is left: the Job's own condition is all there is. */
static void decide_by_condition(kb_job_outcome *o, const json_t *job)
{
    const json_t *failed = kb_condition_find(kb_tree_at(job, "status", "conditions", NULL), "Failed");
    const char *reason = kb_tree_text_or_empty(failed, "reason", NULL);
    const char *text = kb_tree_text_or_empty(failed, "message", NULL);
    KB_AUTOFREE char *message = kb_asprintf("%s; attempts: %lld", *text != '\0' ? text : "the Job failed",
                                            (long long)kb_job_attempts(job));
    if (strcmp(reason, "DeadlineExceeded") == 0)
        set(o, KB_OUTCOME_FAILURE, "DeadlineExceeded", message);
    else if (strcmp(reason, "BackoffLimitExceeded") == 0)
        set(o, KB_OUTCOME_FAILURE, "RetriesExhausted", message);
    else
        set(o, KB_OUTCOME_FAILURE, "OutcomeUnknown", message);
}

static bool is_deadline(const json_t *job)
{
    const json_t *failed = kb_condition_find(kb_tree_at(job, "status", "conditions", NULL), "Failed");
    return strcmp(kb_tree_text_or_empty(failed, "reason", NULL), "DeadlineExceeded") == 0;
}

/* What is known of the worker's end: the newest container, else the code we noted, else status.run. */
static bool find_code(const json_t *job, const json_t *pods, const json_t *run, int *ret_code)
{
    if (kb_job_last_exit_code(pods, ret_code))
        return true;
    const char *noted = kb_tree_text(job, "metadata", "annotations", KB_NOTE_END_MESSAGE, NULL);
    int64_t number = 0;
    if (noted != NULL && kb_parse_i64(noted, &number) && number >= 0 && number <= 255) {
        *ret_code = (int)number;
        return true;
    }
    number = kb_tree_i64(0, run, "exitCode", NULL);
    *ret_code = (int)number;
    return number > 0 && number <= 255;
}

static void decide_failed(kb_job_outcome *o, const json_t *job, const json_t *pods, const json_t *message,
                          const json_t *run)
{
    const char *ended_for = kb_tree_text_or_empty(job, "metadata", "annotations", KB_NOTE_END_REASON, NULL);
    bool ended_by_us = strcmp(ended_for, KB_END_BY_EXIT_CODE) == 0;
    if (*ended_for != '\0' && !ended_by_us) {
        set(o, KB_OUTCOME_FAILURE, ended_for,
            kb_tree_text_or_empty(job, "metadata", "annotations", KB_NOTE_END_MESSAGE, NULL));
        return;
    }
    int code = 0;
    bool has_code = find_code(job, pods, run, &code);
    if (ended_by_us && has_code && code == KB_EXIT_OK) {
        decide_done(o, message, run);
        return;
    }
    if (!has_code || code == KB_EXIT_OK || (is_deadline(job) && !ended_by_us)) {
        decide_by_condition(o, job);
        return;
    }
    const json_t *end = newest_end(pods);
    bool is_oom = strcmp(kb_tree_text_or_empty(end, "reason", NULL), "OOMKilled") == 0;
    KB_AUTOFREE char *tail = message == NULL ? log_tail(kb_tree_text(end, "message", NULL)) : kb_strdup("");
    decide_by_code(o, code, is_oom, agrees(message, code) ? message : run != NULL ? run : message, tail);
}

static void set_times(kb_job_outcome *o, const json_t *job)
{
    if (!kb_tree_time(&o->start_ms, job, "status", "startTime", NULL))
        (void)!kb_tree_time(&o->start_ms, job, "metadata", "creationTimestamp", NULL);
    o->end_ms = kb_job_end_ms(job);
}

void kb_job_outcome_of(const json_t *job, const json_t *pods, const json_t *run, kb_job_outcome *ret_outcome)
{
    *ret_outcome = (kb_job_outcome){0};
    const char *uid = kb_tree_text_or_empty(job, "metadata", "uid", NULL);
    run = kb_run_of_job(run, uid);
    KB_AUTO_TREE(message);
    message = report_of(kb_tree_text(newest_end(pods), "message", NULL), uid);
    set_times(ret_outcome, job);
    if (!kb_job_is_complete(job)) {
        decide_failed(ret_outcome, job, pods, message, run);
        return;
    }
    ret_outcome->has_exit_code = true;
    decide_done(ret_outcome, message, run);
}

void kb_job_outcome_of_gone(const char *job_uid, const json_t *run, bool was_deletion_seen,
                            kb_job_outcome *ret_outcome)
{
    *ret_outcome = (kb_job_outcome){0};
    run = kb_run_of_job(run, job_uid);
    (void)!kb_tree_time(&ret_outcome->start_ms, run, "startTime", NULL);
    (void)!kb_tree_time(&ret_outcome->end_ms, run, "completionTime", NULL);
    if (is_done(run)) {
        decide_done(ret_outcome, NULL, run);
        return;
    }
    int64_t code = kb_tree_i64(0, run, "exitCode", NULL);
    /* A run that was interrupted would have gone on: what ended it is that the Job went. */
    if (code > 0 && code <= 255 && has_state(run, KB_RUN_FAILED)) {
        decide_by_code(ret_outcome, (int)code, false, run, "");
        return;
    }
    const char *state = kb_tree_text(run, "state", NULL);
    KB_AUTOFREE char *message =
        kb_asprintf("the Job %s; its last state was %s", was_deletion_seen ? "was deleted" : "is gone",
                    state != NULL ? state : "not known");
    set(ret_outcome, KB_OUTCOME_FAILURE, was_deletion_seen ? "JobDeleted" : "OutcomeUnknown", message);
}

void kb_job_outcome_done(kb_job_outcome *outcome)
{
    free(outcome->reason);
    free(outcome->message);
    json_decref(outcome->report);
    *outcome = (kb_job_outcome){0};
}

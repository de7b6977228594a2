/*
 * job_outcome - what became of a Job (operator.md, section 6).
 *
 * Sources in the order of trust: the exit code of container `worker`, its termination message, status.run. A
 * report counts only when it is JSON within the limits, of a known version, and of this Job. Nothing here
 * believes a report against the exit code. Threads: pure.
 */
#ifndef KB_OPERATOR_JOBS_JOB_OUTCOME_H
#define KB_OPERATOR_JOBS_JOB_OUTCOME_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum kb_outcome {
    KB_OUTCOME_SUCCESS,
    KB_OUTCOME_FINDINGS,   /* done, and something was left out: reason is the first finding */
    KB_OUTCOME_UNREPORTED, /* done; numbers and findings are unknown: reason ReportMissing */
    KB_OUTCOME_LOCKED,     /* another run holds the lineage: nothing was done, nothing failed */
    KB_OUTCOME_FAILURE
} kb_outcome;

typedef struct kb_job_outcome {
    kb_outcome outcome;
    char *reason;   /* owned; "" on plain success */
    char *message;  /* owned */
    json_t *report; /* owned; the report that counts, NULL = none */
    bool has_exit_code;
    int exit_code;
    bool is_mismatch; /* a report that disagrees with the exit code, or a Job without one: Event
                         ReportMismatch */
    int64_t start_ms; /* 0 = unknown */
    int64_t end_ms;   /* 0 = unknown */
} kb_job_outcome;

/* A finished Job. pods: array of its pods; run: status.run of the CR (NULL = none). */
void kb_job_outcome_of(const json_t *job, const json_t *pods, const json_t *run, kb_job_outcome *ret_outcome);
/* A Job that does not exist any more. */
void kb_job_outcome_of_gone(const char *job_uid, const json_t *run, bool was_deletion_seen,
                            kb_job_outcome *ret_outcome);
void kb_job_outcome_done(kb_job_outcome *outcome);

/* ---- facts about a Job ---- */

bool kb_job_is_complete(const json_t *job);
bool kb_job_is_failed(const json_t *job);
/* Complete or failed. */
bool kb_job_is_finished(const json_t *job);
/* The pods (new array, references) that belong to a Job by owner UID. */
json_t *kb_job_pods(const json_t *job, const json_t *all_pods) __attribute__((returns_nonnull));
/* Whether the container `worker` of any pod is running or has ended. */
bool kb_job_has_started(const json_t *pods);
/* Failed and active pods. */
int64_t kb_job_attempts(const json_t *job);
/* When a finished Job ended, 0 = unknown. */
int64_t kb_job_end_ms(const json_t *job);
/* The exit code of the newest ended worker; false without one. */
bool kb_job_last_exit_code(const json_t *pods, int *ret_code) __attribute__((warn_unused_result));
/*
 * The name of a container that keeps a pod alive after its worker ended before since_ms (wall clock); NULL
 * when there is none. Borrowed from pods.
 */
const char *kb_job_lingering_container(const json_t *pods, int64_t since_ms);
/* status.run when it is a report of the Job with this UID, else NULL. Borrowed. */
const json_t *kb_run_of_job(const json_t *run, const char *job_uid);
/* The reason of an exit code without a report ("AccessDenied"). Static. */
const char *kb_exit_code_reason(int exit_code, bool is_oom);

/* END reasons of KB_NOTE_END_REASON besides StartDeadlineExceeded; the message is the exit code. */
#define KB_END_BY_EXIT_CODE "WorkerEnded"

#endif

/*
 * pass - one decision in the making: what was observed, the status and ledger that come of it, the plan.
 *
 * kb_pass_begin copies our part of the status (all but `run`, which is the worker's); deciding changes the
 * copy; kb_pass_end puts it into the plan only when it differs from what is there (I7). Effects that record
 * the past go into `plan`, those that start something into `later`, which follows them (I1, I2). Threads: one
 * pass, one thread; pure.
 */
#ifndef KB_OPERATOR_RECONCILE_PASS_H
#define KB_OPERATOR_RECONCILE_PASS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "operator/ctrl/conditions.h"
#include "operator/jobs/job_builder.h"
#include "operator/jobs/job_outcome.h"
#include "operator/jobs/ledger.h"
#include "operator/model/settings.h"
#include "operator/model/validation.h"
#include "operator/reconcile/plan.h"
#include "operator/reconcile/snapshot.h"

/* What a decision is made from, besides the snapshot. */
typedef struct kb_surroundings {
    int64_t now_ms; /* wall clock */
    const kb_capabilities *caps;
    const kb_settings *settings;
} kb_surroundings;

/* Why nothing may be started; reason NULL = nothing is in the way. */
typedef struct kb_gate {
    const char *reason; /* static */
    char *message;      /* owned */
    bool is_stalled;    /* needs a person */
    bool is_paused;
    int64_t look_again_ms; /* 0: when something changes */
} kb_gate;

typedef struct kb_pass {
    const kb_snapshot *snapshot;
    int64_t now_ms;
    const kb_capabilities *caps;
    const kb_settings *settings;
    kb_plan *plan;
    kb_plan later;
    const json_t *object;
    const char *name, *namespace, *uid;
    int64_t generation;
    kb_spec spec;
    kb_spec_problem problem;
    kb_ledger ledger;
    const json_t *old_status; /* with run; may be NULL */
    const json_t *run;        /* status.run; not yet checked for its Job */
    json_t *status;           /* ours, being changed */
    json_t *conditions;       /* of status */
    kb_gate gate;
    const char
        *waiting_reason;   /* why an unfinished Job does not start; NULL = it runs, or nothing is known */
    char *waiting_message; /* owned */
} kb_pass;

void kb_pass_begin(kb_pass *pass, const kb_snapshot *snapshot, const kb_surroundings *around, kb_plan *plan);
/* Writes ledger and status into the plan if they changed, then what is `later`. */
void kb_pass_end(kb_pass *pass);
void kb_pass_done(kb_pass *pass);

/* Deletion: true when the object is being deleted; then nothing but legacy finalizers is touched. */
bool kb_pass_is_deleted(kb_pass *pass);
/* Pause, namespace, spec, account (operator.md 3.1, gate): fills pass->gate. */
void kb_pass_check_gate(kb_pass *pass);
void kb_pass_refuse(kb_pass *pass, const char *reason, bool is_stalled, char *owned_message);
/* The refusals of the server in the pass before: PermissionDenied and the like, into the gate. */
void kb_pass_note_fault(kb_pass *pass);

void kb_pass_condition(kb_pass *pass, const char *type, kb_truth status, const char *reason, const char *fmt,
                       ...) __attribute__((format(printf, 5, 6)));
/* The old condition of a type as it was, if there was one. */
void kb_pass_keep_condition(kb_pass *pass, const char *type);
/* Suspended, Stalled: the same for all kinds; emits Events on flips. */
void kb_pass_common_conditions(kb_pass *pass, bool is_suspended);

/* ---- Jobs of the object ---- */

/* The command of a Job: first argument of its container; "" when unknown. Borrowed. */
const char *kb_pass_command_of(const json_t *job);
bool kb_pass_is_recorded(const json_t *job);
/* The oldest Job that has not ended and is not being deleted; NULL without one. Borrowed. */
const json_t *kb_pass_unfinished(const kb_pass *pass);
/* The Job of a name; NULL when there is none. Borrowed. */
const json_t *kb_pass_job_named(const kb_pass *pass, const char *name);
/* status.activeJob and the condition Progressing of an unfinished Job (NULL: none), clocks that end it. */
void kb_pass_watch_job(kb_pass *pass, const json_t *job, bool has_start_deadline, const char *created_event);
/* Everything that has to exist before a Job, then the Job, into `later`. config is borrowed. */
void kb_pass_add_job(kb_pass *pass, const kb_pod_input *pod, const kb_run_config *config, const char *name);
/* The ConfigMap of offset snapshots, and the right to write to this one, into `later`. */
void kb_pass_add_snapshot_map(kb_pass *pass, const char *map, const char *account);
/* Only what has to exist. */
void kb_pass_add_prerequisites(kb_pass *pass, const kb_pod_input *pod, const kb_run_config *config);

#endif

#include "operator/reconcile/bounded.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/jobs/object_names.h"

#define KB_RESOLVE_AGAIN_MS 600000

typedef struct kb_bounded_pass {
    const kb_bounded_kind *kind;
    kb_pass *pass;
    char *job_name; /* owned */
    const json_t *job;
    kb_resolved resolved;
} kb_bounded_pass;

void kb_bounded_copy_number(json_t *status, const char *to, const json_t *report, const char *from,
                            int64_t max)
{
    int64_t number = kb_tree_i64(-1, report, from, NULL);
    if (number >= 0 && number <= max)
        kb_tree_set_i64(status, to, number);
}

/* ---- conditions ---- */

/* Complete, Failed and Ready say one thing. */
static void set_state(kb_pass *pass, kb_truth complete, bool is_failed, const char *reason,
                      const char *message)
{
    kb_pass_condition(pass, "Complete", complete, reason, "%s", message);
    kb_pass_condition(pass, "Ready", complete, reason, "%s", message);
    if (is_failed)
        kb_pass_condition(pass, "Failed", KB_TRUE, reason, "%s", message);
    else
        kb_pass_condition(pass, "Failed", KB_FALSE, "NotFailed", "%s", "");
}

/* The end: nothing follows it, ever. */
static void finish(kb_bounded_pass *b, bool is_good, const char *reason, const char *message, int64_t end_ms)
{
    kb_pass *pass = b->pass;
    json_object_del(pass->status, "activeJob");
    kb_tree_set_text(pass->status, "phase", is_good ? "Completed" : "Failed");
    if (kb_tree_at(pass->status, "completionTime", NULL) == NULL)
        kb_tree_set_time(pass->status, "completionTime", end_ms > 0 ? end_ms : pass->now_ms);
    if (!is_good && kb_tree_at(pass->status, "lastFailureTime", NULL) == NULL)
        kb_tree_set_time(pass->status, "lastFailureTime", end_ms > 0 ? end_ms : pass->now_ms);
    kb_pass_condition(pass, "Progressing", KB_FALSE, "Finished", "%s", "");
    kb_pass_common_conditions(pass, false);
    if (is_good) {
        kb_pass_condition(pass, "Stalled", KB_FALSE, "Progressing", "%s", "");
        set_state(pass, KB_TRUE, false, reason, message);
    } else {
        kb_pass_condition(pass, "Stalled", KB_TRUE, reason, "%s", message);
        set_state(pass, KB_FALSE, true, reason, message);
    }
    kb_ledger_set(&pass->ledger.outcome, is_good ? "success" : "failure");
    kb_ledger_set(&pass->ledger.reason, reason);
    pass->ledger.is_set = true;
}

/* ---- recorded before ---- */

static bool is_terminal(const kb_pass *pass)
{
    const json_t *old = kb_tree_at(pass->old_status, "conditions", NULL);
    return kb_condition_is(old, "Complete", KB_TRUE) || kb_condition_is(old, "Failed", KB_TRUE);
}

/* The ledger knows the outcome. A status that was lost is made again from it and from what the worker wrote.
 */
static void keep_done(kb_bounded_pass *b)
{
    kb_pass *pass = b->pass;
    if (b->job != NULL && kb_job_is_finished(b->job) && !kb_pass_is_recorded(b->job))
        kb_plan_add(pass->plan, KB_EFFECT_MARK_RECORDED, b->job_name,
                    kb_tree_text(b->job, "metadata", "uid", NULL), NULL);
    if (is_terminal(pass)) {
        /* Also the generation that it speaks of stays: nothing was decided on a newer one. */
        json_decref(pass->status);
        pass->status = kb_tree_copy(pass->old_status);
        json_object_del(pass->status, "run");
        return;
    }
    bool is_good = strcmp(pass->ledger.outcome, "success") == 0;
    const char *known = pass->ledger.reason != NULL ? pass->ledger.reason
                        : is_good                   ? b->kind->completed_reason
                                                    : "OutcomeUnknown";
    KB_AUTOFREE char *reason = kb_strdup(known);
    if (b->kind->collect != NULL)
        b->kind->collect(pass, pass->run, is_good);
    finish(b, is_good, reason, "the status was lost and made again from what was recorded", 0);
}

/* ---- the end of the run ---- */

static const char *reason_of(const kb_bounded_pass *b, const kb_job_outcome *o)
{
    if (o->outcome == KB_OUTCOME_SUCCESS)
        return b->kind->completed_reason;
    if (o->outcome == KB_OUTCOME_FINDINGS)
        return b->kind->findings_reason;
    return o->reason;
}

static void conclude(kb_bounded_pass *b, const kb_job_outcome *o, const char *uid)
{
    kb_pass *pass = b->pass;
    bool is_good = o->outcome != KB_OUTCOME_FAILURE && o->outcome != KB_OUTCOME_LOCKED;
    if (kb_tree_at(pass->status, "startTime", NULL) == NULL)
        kb_tree_set_time(pass->status, "startTime", o->start_ms > 0 ? o->start_ms : pass->now_ms);
    const json_t *report = o->report != NULL ? o->report : is_good ? NULL : kb_run_of_job(pass->run, uid);
    if (b->kind->collect != NULL)
        b->kind->collect(pass, report, is_good);
    KB_AUTOFREE char *message = o->outcome == KB_OUTCOME_FINDINGS
                                    ? kb_asprintf("%s: %s", o->reason, o->message)
                                    : kb_strdup(o->message);
    finish(b, is_good, reason_of(b, o), message, o->end_ms);
    if (b->job != NULL)
        kb_plan_add(pass->plan, KB_EFFECT_MARK_RECORDED, b->job_name, uid, NULL);
    if (is_good)
        kb_plan_event(pass->plan, false,
                      o->outcome == KB_OUTCOME_SUCCESS ? b->kind->succeeded_event : b->kind->done_event, uid,
                      "Job %s", b->job_name);
    else
        kb_plan_event(pass->plan, true, b->kind->failed_event, uid, "%s: %s", o->reason, o->message);
    if (o->outcome == KB_OUTCOME_FINDINGS)
        kb_plan_event(pass->plan, true, "CompletedWithFindings", uid, "%s", message);
    if (strcmp(o->reason, "JobDeleted") == 0 || strcmp(o->reason, "OutcomeUnknown") == 0)
        kb_plan_event(pass->plan, true, o->reason, uid, "Job %s: %s", b->job_name, o->message);
    if (o->is_mismatch)
        kb_plan_event(pass->plan, true, "ReportMismatch", uid,
                      "Job %s: exit code and report disagree, or there is no report", b->job_name);
    kb_effect *effect = kb_plan_add(pass->plan, KB_EFFECT_OBSERVE, NULL, NULL, NULL);
    effect->reason = kb_strdup(is_good ? "success" : "failure");
    effect->number = o->start_ms > 0 && o->end_ms > o->start_ms ? (o->end_ms - o->start_ms) / 1000 : -1;
}

static void conclude_finished(kb_bounded_pass *b)
{
    KB_AUTO_TREE(pods);
    pods = kb_job_pods(b->job, b->pass->snapshot->pods);
    kb_job_outcome outcome;
    kb_job_outcome_of(b->job, pods, b->pass->run, &outcome);
    conclude(b, &outcome, kb_tree_text_or_empty(b->job, "metadata", "uid", NULL));
    kb_job_outcome_done(&outcome);
}

static void conclude_lost(kb_bounded_pass *b)
{
    const char *uid = kb_tree_text(b->pass->old_status, "activeJob", "uid", NULL);
    kb_job_outcome outcome;
    b->job = NULL;
    kb_job_outcome_of_gone(uid != NULL ? uid : kb_tree_text_or_empty(b->pass->run, "jobUid", NULL),
                           b->pass->run, b->pass->snapshot->was_deletion_seen, &outcome);
    (void)!kb_tree_time(&outcome.start_ms, b->pass->old_status, "startTime", NULL);
    conclude(b, &outcome, uid != NULL ? uid : b->pass->uid);
    kb_job_outcome_done(&outcome);
}

/* ---- running ---- */

static void watch(kb_bounded_pass *b)
{
    kb_pass *pass = b->pass;
    KB_AUTO_TREE(pods);
    pods = kb_job_pods(b->job, pass->snapshot->pods);
    bool has_started = kb_job_has_started(pods);
    int64_t created = pass->now_ms;
    (void)!kb_tree_time(&created, b->job, "metadata", "creationTimestamp", NULL);
    if (kb_tree_at(pass->status, "startTime", NULL) == NULL)
        kb_tree_set_time(pass->status, "startTime", created);
    kb_pass_watch_job(pass, b->job, false, b->kind->job_created_event);
    kb_pass_common_conditions(pass, false);
    kb_tree_set_text(pass->status, "phase", has_started ? "Running" : "Pending");
    if (pass->waiting_reason != NULL)
        set_state(pass, KB_FALSE, false, pass->waiting_reason, pass->waiting_message);
    else
        set_state(pass, KB_FALSE, false, "Running", has_started ? "" : "waiting for the pod to start");
}

/* ---- starting ---- */

static void wait_with(kb_bounded_pass *b, const char *reason, const char *message)
{
    kb_pass *pass = b->pass;
    kb_pass_condition(pass, "Progressing", KB_FALSE, "Idle", "%s", "");
    kb_pass_common_conditions(pass, false);
    bool is_invalid = pass->gate.reason != NULL && pass->gate.is_stalled;
    kb_tree_set_text(pass->status, "phase", is_invalid ? "Failed" : "Pending");
    if (!pass->gate.is_paused || kb_condition_find(pass->conditions, "Complete") == NULL)
        set_state(pass, KB_FALSE, false, reason, message);
}

/* A run that writes to a ConfigMap needs a token, which workers that share the operator's account have not.
 */
static const char *account_of(const kb_bounded_pass *b)
{
    const kb_pass *pass = b->pass;
    bool needs_token = b->resolved.snapshot_map != NULL && pass->spec.run.service_account_name == NULL;
    return needs_token ? pass->settings->account
                       : kb_worker_account(&pass->spec, pass->settings, pass->namespace);
}

static void start(kb_bounded_pass *b)
{
    kb_pass *pass = b->pass;
    kb_render_input render = {
        .object = pass->object,
        .spec = &pass->spec,
        .kafka = b->resolved.kafka,
        .storage = b->resolved.storage,
        .settings = pass->settings,
        .account_notes = pass->snapshot->account_notes,
        .backup_id = b->resolved.backup_id,
        .snapshot_map = b->resolved.snapshot_map,
    };
    kb_run_config config = {0};
    KB_AUTO_ERROR(err);
    if (kb_run_config_make(&render, &config, &err) != KB_OK) {
        kb_pass_refuse(pass, "InvalidSpec", true, kb_strdup(kb_error_text(&err)));
        wait_with(b, pass->gate.reason, pass->gate.message);
        return;
    }
    kb_pod_input pod = {
        .render = &render,
        .command = b->kind->command(&pass->spec),
        .account = account_of(b),
        .config_map = config.name,
        .config_sha256 = config.sha256,
    };
    kb_pass_note_fault(pass);
    if (pass->gate.reason != NULL)
        wait_with(b, pass->gate.reason, pass->gate.message);
    else
        wait_with(b, "NotStarted", "");
    if (b->resolved.snapshot_map != NULL)
        kb_pass_add_snapshot_map(pass, b->resolved.snapshot_map, pod.account);
    kb_pass_add_job(pass, &pod, &config, b->job_name);
    kb_run_config_done(&config);
}

static void try_to_start(kb_bounded_pass *b)
{
    kb_pass *pass = b->pass;
    kb_pass_check_gate(pass);
    if (pass->gate.reason != NULL) {
        wait_with(b, pass->gate.reason, pass->gate.message);
        return;
    }
    b->kind->resolve(pass, &b->resolved);
    if (b->resolved.reason != NULL) {
        kb_plan_requeue(pass->plan, KB_RESOLVE_AGAIN_MS);
        wait_with(b, b->resolved.reason, b->resolved.message);
        return;
    }
    json_object_del(pass->status, "resolvedFrom");
    kb_tree_set_text(pass->status, "resolvedFrom", b->resolved.from);
    start(b);
}

static void decide(kb_bounded_pass *b)
{
    kb_pass *pass = b->pass;
    b->job = kb_pass_job_named(pass, b->job_name);
    bool has_outcome = pass->ledger.is_set && pass->ledger.outcome != NULL;
    bool is_going = b->job != NULL && kb_tree_at(b->job, "metadata", "deletionTimestamp", NULL) != NULL &&
                    !kb_job_is_finished(b->job);
    bool was_started = kb_tree_at(pass->old_status, "startTime", NULL) != NULL;
    if (b->kind->describe != NULL)
        b->kind->describe(pass);
    if (b->job != NULL && kb_job_is_finished(b->job) && !kb_pass_is_recorded(b->job) && !is_terminal(pass))
        conclude_finished(b);
    else if (has_outcome)
        keep_done(b);
    else if (is_going || (was_started && b->job == NULL && pass->snapshot->is_active_job_gone))
        conclude_lost(b);
    else if (b->job != NULL && !kb_job_is_finished(b->job))
        watch(b);
    else if (b->job != NULL)
        conclude_finished(b);
    else if (was_started)
        kb_plan_requeue(pass->plan, 5000); /* the server was not asked yet whether the Job is there */
    else
        try_to_start(b);
}

void kb_decide_bounded(const kb_bounded_kind *kind, const kb_snapshot *snapshot,
                       const kb_surroundings *around, kb_plan *plan)
{
    kb_pass pass;
    kb_pass_begin(&pass, snapshot, around, plan);
    const char *operation = NULL;
    if (snapshot->kind == KB_KIND_OFFSET_ROLLBACK)
        operation = kb_spec_operation_word(pass.spec.rollback.operation);
    kb_bounded_pass b = {
        .kind = kind,
        .pass = &pass,
        .job_name = kb_name_bounded_job(snapshot->kind, pass.name, operation),
    };
    if (!kb_pass_is_deleted(&pass)) {
        decide(&b);
        kb_pass_end(&pass);
    }
    kb_resolved_done(&b.resolved);
    free(b.job_name);
    kb_pass_done(&pass);
}

#include "operator/reconcile/backup.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/jobs/cronjob_builder.h"
#include "operator/jobs/object_names.h"
#include "operator/reconcile/history.h"
#include "operator/reconcile/triggers.h"

#define KB_SLOT_MARGIN_SECS 15
#define KB_SLOTS_AT_ONCE 200
#define KB_DRIFT_SECS 60
#define KB_CONFIG_MAP_AGE_MS 600000
#define KB_MISSED_REASON "ScheduleMissed"

typedef struct kb_backup_pass {
    kb_pass *pass;
    kb_fold fold;
    kb_schedule schedule; /* when spec.schedule is set and the spec is usable */
    bool has_schedule;
    bool is_missed; /* a slot was missed in this pass */
    const json_t *unfinished;
    bool starts_job; /* this pass starts one */
    kb_render_input render;
    kb_run_config config;
    bool has_config;
} kb_backup_pass;

static const kb_backup_spec *spec_of(const kb_backup_pass *b)
{
    return &b->pass->spec.backup;
}

/* ---- what would run ---- */

static void prepare(kb_backup_pass *b)
{
    kb_pass *pass = b->pass;
    b->render = (kb_render_input){
        .object = pass->object,
        .spec = &pass->spec,
        .kafka = &pass->spec.backup.kafka,
        .storage = &pass->spec.backup.storage,
        .settings = pass->settings,
        .account_notes = pass->snapshot->account_notes,
    };
    KB_AUTO_ERROR(err);
    b->has_config = kb_run_config_make(&b->render, &b->config, &err) == KB_OK;
    if (!b->has_config)
        kb_pass_refuse(pass, "InvalidSpec", true, kb_strdup(kb_error_text(&err)));
}

static kb_pod_input pod_of(const kb_backup_pass *b, const char *command)
{
    return (kb_pod_input){
        .render = &b->render,
        .command = command,
        .account = kb_worker_account(&b->pass->spec, b->pass->settings, b->pass->namespace),
        .config_map = b->config.name,
        .config_sha256 = b->config.sha256,
    };
}

static void start_job(kb_backup_pass *b, const char *command, const char *name, const char *trigger)
{
    char stamp[KB_STAMP_SIZE];
    kb_name_stamp(b->pass->now_ms / 1000, stamp);
    kb_pod_input pod = pod_of(b, command);
    if (strcmp(command, "backup") == 0)
        pod.stamp = stamp;
    pod.trigger = trigger;
    kb_pass_add_job(b->pass, &pod, &b->config, name);
    b->starts_job = true;
}

/* ---- schedule ---- */

static const char *cron_text(const json_t *cron_job, const char *name)
{
    return kb_tree_text_or_empty(cron_job, "spec", name, NULL);
}

static void apply_cron_job(kb_backup_pass *b)
{
    kb_pass *pass = b->pass;
    const json_t *old = pass->snapshot->cron_job;
    kb_pod_input pod = pod_of(b, "backup");
    kb_pass_add_prerequisites(pass, &pod, &b->config);
    KB_AUTO_TREE(cron_job);
    cron_job = kb_cron_job_object(&pod, pass->caps, &b->schedule, spec_of(b)->suspend);
    bool is_same =
        strcmp(kb_tree_text_or_empty(old, "metadata", "annotations", KB_NOTE_DIGEST, NULL),
               kb_tree_text_or_empty(cron_job, "metadata", "annotations", KB_NOTE_DIGEST, NULL)) == 0;
    bool is_untouched =
        pass->snapshot->applied_generation >= 0 &&
        pass->snapshot->applied_generation == kb_tree_i64(-2, old, "metadata", "generation", NULL);
    if (old != NULL && is_same && is_untouched)
        return;
    bool is_news = old == NULL || strcmp(cron_text(old, "schedule"), cron_text(cron_job, "schedule")) != 0 ||
                   strcmp(cron_text(old, "timeZone"), cron_text(cron_job, "timeZone")) != 0;
    const char *zone = cron_text(cron_job, "timeZone");
    kb_plan_add(&pass->later, KB_EFFECT_CRON_JOB, kb_tree_text(cron_job, "metadata", "name", NULL),
                kb_tree_text(old, "metadata", "uid", NULL), json_incref(cron_job));
    if (is_news)
        kb_plan_event(&pass->later, false, "BackupScheduled", b->schedule.expression, "schedule \"%s\"%s%s",
                      b->schedule.expression, *zone != '\0' ? " in " : "", zone);
}

/* The CronJob of a schedule that was removed goes once its Jobs are recorded. */
static void retire_cron_job(kb_backup_pass *b)
{
    kb_pass *pass = b->pass;
    const json_t *old = pass->snapshot->cron_job;
    if (old == NULL)
        return;
    const char *name = kb_tree_text(old, "metadata", "name", NULL);
    const char *uid = kb_tree_text(old, "metadata", "uid", NULL);
    if (!kb_tree_bool(false, old, "spec", "suspend", NULL)) {
        kb_plan_add(&pass->later, KB_EFFECT_SUSPEND_CRON_JOB, name, uid, NULL);
        return;
    }
    for (size_t i = 0; i < json_array_size(pass->snapshot->jobs); i++) {
        const json_t *job = json_array_get(pass->snapshot->jobs, i);
        if (kb_is_controlled_by(job, old) && !(kb_job_is_finished(job) && kb_pass_is_recorded(job)))
            return;
    }
    kb_plan_add(&pass->later, KB_EFFECT_DELETE_CRON_JOB, name, uid, NULL);
}

/* ---- slots ---- */

static int64_t start_secs(const json_t *job)
{
    int64_t ms = 0;
    if (!kb_tree_time(&ms, job, "status", "startTime", NULL))
        (void)!kb_tree_time(&ms, job, "metadata", "creationTimestamp", NULL);
    return ms / 1000;
}

static bool slot_of(const kb_pass *pass, const json_t *job, int64_t *ret_slot)
{
    KB_AUTOFREE char *cron_job = kb_name_cron_job(pass->name);
    return kb_name_slot(kb_tree_text_or_empty(job, "metadata", "name", NULL), cron_job, ret_slot);
}

typedef enum kb_slot_fate {
    KB_SLOT_RAN,
    KB_SLOT_SKIPPED,
    KB_SLOT_LATE,
    KB_SLOT_PASSED,
    KB_SLOT_MISSED
} kb_slot_fate;

/* What became of a slot that is over: a Job of that minute, a Job of the schedule active over it, or nothing.
 */
static kb_slot_fate fate_of(const kb_pass *pass, int64_t slot)
{
    bool is_overlapped = false, is_followed = false;
    for (size_t i = 0; i < json_array_size(pass->snapshot->jobs); i++) {
        const json_t *job = json_array_get(pass->snapshot->jobs, i);
        int64_t other = 0;
        if (!slot_of(pass, job, &other))
            continue;
        if (other == slot)
            return KB_SLOT_RAN;
        is_followed = is_followed || other > slot;
        bool is_over = kb_job_is_finished(job) && kb_job_end_ms(job) / 1000 <= slot;
        is_overlapped = is_overlapped || (start_secs(job) <= slot && other < slot && !is_over);
    }
    int64_t last_ms = 0;
    if (kb_tree_time(&last_ms, pass->snapshot->cron_job, "status", "lastScheduleTime", NULL) &&
        last_ms / 1000 >= slot)
        return is_overlapped ? KB_SLOT_SKIPPED : KB_SLOT_PASSED;
    if (is_overlapped)
        return KB_SLOT_SKIPPED;
    if (is_followed || pass->now_ms / 1000 > slot + KB_STARTING_DEADLINE_SECS)
        return KB_SLOT_MISSED;
    return KB_SLOT_LATE;
}

static void note_skipped(kb_pass *pass, int64_t slot)
{
    KB_AUTOFREE char *id = kb_name_backup_id(pass->name, slot);
    kb_history_count(pass->status, "skipped", 1);
    kb_plan_event(pass->plan, false, "BackupSkippedOverlap", id,
                  "the slot of %s was skipped: the run before it was still active", id);
}

static void note_missed(kb_backup_pass *b, int64_t slot, int missed)
{
    kb_pass *pass = b->pass;
    KB_AUTOFREE char *id = kb_name_backup_id(pass->name, slot);
    b->is_missed = true;
    kb_plan_event(pass->plan, true, KB_MISSED_REASON, id, "no Job started within %d s after the slot of %s%s",
                  KB_STARTING_DEADLINE_SECS, id, missed > 1 ? ", nor for slots before it" : "");
}

/*
 * nextScheduledTime is the first slot that is not accounted for: it stays on a slot until that slot's Job is
 * there, or it is known why there is none.
 */
static void account_slots(kb_backup_pass *b)
{
    kb_pass *pass = b->pass;
    int64_t now = pass->now_ms / 1000, ms = 0;
    bool is_known = kb_tree_time(&ms, pass->old_status, "nextScheduledTime", NULL) &&
                    kb_tree_i64(0, pass->old_status, "observedGeneration", NULL) == pass->generation;
    int64_t slot = is_known ? ms / 1000 : kb_cron_next(&b->schedule.cron, b->schedule.zone, now);
    int missed = 0;
    int64_t last_missed = 0;
    for (int i = 0; slot >= 0 && slot <= now; i++) {
        kb_slot_fate fate = fate_of(pass, slot);
        if (fate == KB_SLOT_LATE || (fate != KB_SLOT_RAN && now < slot + KB_SLOT_MARGIN_SECS))
            break;
        if (fate == KB_SLOT_RAN)
            kb_tree_set_time(pass->status, "lastScheduleTime", slot * 1000);
        if (fate == KB_SLOT_SKIPPED)
            note_skipped(pass, slot);
        if (fate == KB_SLOT_MISSED) {
            missed++;
            last_missed = slot;
        }
        /* After a long outage the rest is not looked at one by one. */
        slot = kb_cron_next(&b->schedule.cron, b->schedule.zone, i < KB_SLOTS_AT_ONCE ? slot : now);
    }
    if (missed > 0)
        note_missed(b, last_missed, missed);
    if (slot < 0) {
        json_object_del(pass->status, "nextScheduledTime");
        return;
    }
    kb_tree_set_time(pass->status, "nextScheduledTime", slot * 1000);
    int64_t due =
        slot + KB_SLOT_MARGIN_SECS > now ? slot + KB_SLOT_MARGIN_SECS : slot + KB_STARTING_DEADLINE_SECS + 1;
    kb_plan_requeue(pass->plan, (due - now) * 1000);
}

/* Before 1.25 the controller's zone is not documented: its first firing is compared with what we expect. */
static void check_drift(kb_backup_pass *b)
{
    kb_pass *pass = b->pass;
    if (pass->caps->has_time_zone_field)
        return;
    for (size_t i = 0; i < json_array_size(pass->snapshot->jobs); i++) {
        const json_t *job = json_array_get(pass->snapshot->jobs, i);
        const char *generation =
            kb_tree_text_or_empty(job, "metadata", "annotations", KB_NOTE_GENERATION, NULL);
        KB_AUTOFREE char *own = kb_asprintf("%lld", (long long)pass->generation);
        int64_t slot = 0;
        if (!slot_of(pass, job, &slot) || strcmp(generation, own) != 0)
            continue;
        int64_t expected = kb_cron_next(&b->schedule.cron, b->schedule.zone, slot - KB_DRIFT_SECS - 1);
        if (expected >= 0 && expected <= slot + KB_DRIFT_SECS)
            continue;
        kb_pass_refuse(pass, "ScheduleDrift", true,
                       kb_asprintf("Job %s started at a time that the schedule does not name; does the "
                                   "controller manager of this cluster run in UTC?",
                                   kb_tree_text_or_empty(job, "metadata", "name", NULL)));
    }
}

/* ---- one-shot and prune ---- */

static bool is_one_shot_due(const kb_backup_pass *b)
{
    const kb_pass *pass = b->pass;
    const kb_backup_spec *spec = spec_of(b);
    if (spec->schedule != NULL || spec->suspend)
        return false;
    KB_AUTOFREE char *name = kb_name_one_shot_job(pass->name, pass->generation);
    if (kb_pass_job_named(pass, name) != NULL)
        return false;
    const kb_ledger *ledger = &pass->ledger;
    KB_AUTOFREE char *hash = kb_spec_data_hash(spec);
    if (ledger->config != NULL && strcmp(ledger->config, hash) == 0) {
        /* It ran and succeeded; what failed since was asked for by a trigger, or by a newer form of the spec.
         */
        return false;
    }
    return ledger->generation < pass->generation;
}

static void maybe_prune(kb_backup_pass *b)
{
    kb_pass *pass = b->pass;
    KB_AUTOFREE char *hash = kb_spec_retention_hash(spec_of(b));
    bool is_pruned = pass->ledger.retention != NULL && strcmp(pass->ledger.retention, hash) == 0;
    bool has_backup =
        pass->ledger.backup_id != NULL || kb_tree_text(pass->status, "lastBackupId", NULL) != NULL;
    if (*hash == '\0' || is_pruned || !has_backup)
        return;
    KB_AUTOFREE char *name = kb_name_prune_job(pass->name, hash);
    const json_t *old = kb_pass_job_named(pass, name);
    if (old == NULL)
        start_job(b, "prune", name, NULL);
    else if (kb_job_is_finished(old) && kb_pass_is_recorded(old))
        kb_plan_add(&pass->later, KB_EFFECT_DELETE_JOB, name, kb_tree_text(old, "metadata", "uid", NULL),
                    NULL);
}

static void start_due_run(kb_backup_pass *b, bool one_shot_due)
{
    kb_pass *pass = b->pass;
    if (b->unfinished != NULL)
        return;
    const char *value = kb_triggers_next(pass);
    if (one_shot_due) {
        KB_AUTOFREE char *name = kb_name_one_shot_job(pass->name, pass->generation);
        start_job(b, "backup", name, NULL);
    } else if (value != NULL) {
        KB_AUTOFREE char *name = kb_name_trigger_job(pass->name, value);
        start_job(b, "backup", name, value);
    } else {
        maybe_prune(b);
    }
}

/* ---- run configurations that nothing refers to ---- */

static bool is_config_map_used(const kb_backup_pass *b, const char *name)
{
    const kb_pass *pass = b->pass;
    if (b->has_config && strcmp(b->config.name, name) == 0)
        return true;
    const json_t *holders[] = {kb_tree_at(pass->snapshot->cron_job, "spec", "jobTemplate", NULL), NULL};
    for (size_t i = 0; i <= json_array_size(pass->snapshot->jobs); i++) {
        const json_t *job = i == 0 ? holders[0] : json_array_get(pass->snapshot->jobs, i - 1);
        if (i > 0 && kb_job_is_finished(job))
            continue;
        const json_t *volumes = kb_tree_at(job, "spec", "template", "spec", "volumes", NULL);
        for (size_t k = 0; k < json_array_size(volumes); k++)
            if (strcmp(kb_tree_text_or_empty(json_array_get(volumes, k), "configMap", "name", NULL), name) ==
                0)
                return true;
    }
    return false;
}

static void collect_config_maps(kb_backup_pass *b)
{
    kb_pass *pass = b->pass;
    for (size_t i = 0; i < json_array_size(pass->snapshot->config_maps); i++) {
        const json_t *map = json_array_get(pass->snapshot->config_maps, i);
        const char *name = kb_tree_text_or_empty(map, "metadata", "name", NULL);
        int64_t created = 0;
        if (!kb_is_controlled_by(map, pass->object) ||
            !kb_tree_time(&created, map, "metadata", "creationTimestamp", NULL) ||
            pass->now_ms - created < KB_CONFIG_MAP_AGE_MS || is_config_map_used(b, name))
            continue;
        kb_plan_add(&pass->later, KB_EFFECT_DELETE_CONFIG_MAP, name,
                    kb_tree_text(map, "metadata", "uid", NULL), NULL);
    }
}

/* ---- conditions ---- */

static void ready_by_history(kb_backup_pass *b)
{
    kb_pass *pass = b->pass;
    const json_t *newest = kb_history_newest(pass->status);
    const char *outcome = kb_tree_text_or_empty(newest, "outcome", NULL);
    const char *reason = kb_tree_text_or_empty(newest, "reason", NULL);
    bool is_scheduled = spec_of(b)->schedule != NULL;
    const json_t *old = kb_tree_at(pass->old_status, "conditions", NULL);
    if (strcmp(outcome, "failure") == 0) {
        const char *message = b->fold.happened ? b->fold.owned_message : "the last run failed";
        if (!b->fold.happened && strcmp(kb_condition_reason(old, "Ready"), reason) == 0)
            kb_pass_keep_condition(pass, "Ready");
        else
            kb_pass_condition(pass, "Ready", KB_FALSE, *reason != '\0' ? reason : "OutcomeUnknown", "%s",
                              message);
    } else if (b->unfinished != NULL) {
        kb_pass_condition(pass, "Ready", KB_TRUE, "BackupRunning", "%s", "");
    } else if (*outcome != '\0') {
        bool has_findings = *reason != '\0' && strcmp(reason, "ReportMissing") != 0;
        kb_pass_condition(
            pass, "Ready", KB_TRUE, has_findings ? "BackupCompletedWithFindings" : "BackupCompleted", "%s%s",
            kb_tree_text_or_empty(newest, "backupId", NULL),
            has_findings ? ": something was left out, see PointInTimeRecoverable and Events" : "");
    } else if (spec_of(b)->suspend) {
        kb_pass_condition(pass, "Ready", KB_TRUE, "Suspended", "%s", "");
    } else if (is_scheduled) {
        kb_pass_condition(pass, "Ready", KB_TRUE, "BackupScheduled", "%s", "");
    } else {
        kb_pass_condition(pass, "Ready", KB_FALSE, "NotStarted", "%s", "the first run has not started");
    }
}

static void set_ready(kb_backup_pass *b)
{
    kb_pass *pass = b->pass;
    const json_t *old = kb_tree_at(pass->old_status, "conditions", NULL);
    bool was_missed = strcmp(kb_condition_reason(old, "Ready"), KB_MISSED_REASON) == 0;
    if (pass->gate.is_paused && !b->fold.happened && kb_condition_find(pass->conditions, "Ready") != NULL)
        kb_pass_keep_condition(pass, "Ready");
    else if (pass->gate.reason != NULL && !pass->gate.is_paused)
        kb_pass_condition(pass, "Ready", KB_FALSE, pass->gate.reason, "%s", pass->gate.message);
    else if (pass->waiting_reason != NULL)
        kb_pass_condition(pass, "Ready", KB_FALSE, pass->waiting_reason, "%s", pass->waiting_message);
    else if (b->is_missed)
        kb_pass_condition(pass, "Ready", KB_FALSE, KB_MISSED_REASON,
                          "no Job started within %d s after a slot", KB_STARTING_DEADLINE_SECS);
    else if (was_missed && !b->fold.happened && b->has_schedule)
        kb_pass_keep_condition(pass, "Ready");
    else
        ready_by_history(b);
}

static void set_phase(kb_backup_pass *b)
{
    kb_pass *pass = b->pass;
    const char *outcome = kb_tree_text_or_empty(kb_history_newest(pass->status), "outcome", NULL);
    KB_AUTO_TREE(pods);
    pods = kb_job_pods(b->unfinished, pass->snapshot->pods);
    const char *phase = "Pending";
    if (pass->gate.reason != NULL && pass->gate.is_stalled)
        phase = "Failed";
    else if (b->unfinished != NULL && kb_job_has_started(pods))
        phase = "Running";
    else if (strcmp(outcome, "success") == 0)
        phase = "Completed";
    else if (*outcome != '\0')
        phase = "Failed";
    kb_tree_set_text(pass->status, "phase", phase);
}

static void set_conditions(kb_backup_pass *b)
{
    kb_pass *pass = b->pass;
    int64_t slot = 0;
    bool is_slot = b->unfinished != NULL && slot_of(pass, b->unfinished, &slot);
    if (b->unfinished == NULL) {
        bool has_run = kb_history_newest(pass->status) != NULL;
        kb_pass_condition(pass, "Progressing", KB_FALSE, has_run ? "Finished" : "Idle", "%s", "");
    }
    bool is_prune = strcmp(kb_pass_command_of(b->unfinished), "prune") == 0;
    kb_pass_watch_job(pass, b->unfinished, is_slot, is_prune ? "PruneJobCreated" : "BackupJobCreated");
    kb_pass_common_conditions(pass, spec_of(b)->suspend);
    set_ready(b);
    if (kb_condition_find(pass->conditions, "PointInTimeRecoverable") == NULL)
        kb_pass_condition(pass, "PointInTimeRecoverable", KB_FALSE, "NoBackup", "%s", "");
    else
        kb_pass_keep_condition(pass, "PointInTimeRecoverable");
    set_phase(b);
}

/* ---- all of it ---- */

static void read_schedule(kb_backup_pass *b)
{
    kb_pass *pass = b->pass;
    if (spec_of(b)->schedule == NULL || pass->gate.reason != NULL)
        return;
    kb_schedule_read(spec_of(b), pass->caps, &b->schedule);
    b->has_schedule = b->schedule.reason == NULL;
    if (b->schedule.reason != NULL) {
        kb_pass_refuse(pass, b->schedule.reason, true, kb_strdup(b->schedule.message));
        return;
    }
    if (pass->snapshot->is_cron_job_foreign) {
        KB_AUTOFREE char *name = kb_name_cron_job(pass->name);
        kb_pass_refuse(
            pass, "AdoptionRefused", true,
            kb_asprintf("CronJob %s exists and belongs to something else; remove or rename it", name));
    }
}

static void note_unused(kb_pass *pass)
{
    KB_AUTOFREE char *unused = kb_spec_unused_blocks(&pass->spec);
    if (unused == NULL || kb_tree_i64(0, pass->old_status, "observedGeneration", NULL) == pass->generation)
        return;
    KB_AUTOFREE char *cause = kb_asprintf("%lld", (long long)pass->generation);
    kb_plan_event(pass->plan, true, "UnusedField", cause, "not used with this storageType: %s", unused);
}

static void act(kb_backup_pass *b, bool one_shot_due)
{
    kb_pass *pass = b->pass;
    if (pass->gate.is_paused) {
        const json_t *cron_job = pass->snapshot->cron_job;
        if (cron_job != NULL && !kb_tree_bool(false, cron_job, "spec", "suspend", NULL))
            kb_plan_add(&pass->later, KB_EFFECT_SUSPEND_CRON_JOB,
                        kb_tree_text(cron_job, "metadata", "name", NULL),
                        kb_tree_text(cron_job, "metadata", "uid", NULL), NULL);
        return;
    }
    if (b->has_schedule)
        apply_cron_job(b);
    else if (spec_of(b)->schedule == NULL)
        retire_cron_job(b);
    start_due_run(b, one_shot_due);
    collect_config_maps(b);
}

/* Whether the refusal is the server's of the pass before: then all is tried again, to see whether it holds.
 */
static bool is_tried_anyway(const kb_pass *pass)
{
    return pass->snapshot->last_fault != KB_KUBE_FINE;
}

static void decide(kb_backup_pass *b)
{
    kb_pass *pass = b->pass;
    kb_history_fold(pass, &b->fold);
    kb_triggers_confirm(pass);
    b->unfinished = kb_pass_unfinished(pass);
    kb_pass_check_gate(pass);
    read_schedule(b);
    if (pass->gate.reason == NULL)
        prepare(b);
    bool may_act = pass->gate.reason == NULL || pass->gate.is_paused;
    kb_pass_note_fault(pass);
    bool one_shot_due = is_one_shot_due(b);
    kb_triggers_note(pass, one_shot_due);
    if (b->has_schedule && !spec_of(b)->suspend && !pass->gate.is_paused) {
        check_drift(b);
        account_slots(b);
    } else {
        json_object_del(pass->status, "nextScheduledTime");
    }
    set_conditions(b);
    note_unused(pass);
    if (may_act && (pass->gate.reason == NULL || pass->gate.is_paused || is_tried_anyway(pass) ||
                    strcmp(pass->gate.reason, "ScheduleDrift") == 0))
        act(b, one_shot_due);
}

void kb_decide_backup(const kb_snapshot *snapshot, const kb_surroundings *around, kb_plan *plan)
{
    kb_pass pass;
    kb_pass_begin(&pass, snapshot, around, plan);
    kb_backup_pass b = {.pass = &pass};
    if (!kb_pass_is_deleted(&pass)) {
        decide(&b);
        kb_pass_end(&pass);
    }
    kb_fold_done(&b.fold);
    kb_schedule_done(&b.schedule);
    kb_run_config_done(&b.config);
    kb_pass_done(&pass);
}

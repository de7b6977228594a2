#include "operator/reconcile/history.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/contract/exit_codes.h"
#include "common/data/json_tree.h"
#include "operator/jobs/object_names.h"

#define KB_CATALOG_MAX 10
#define KB_COUNT_MAX 9007199254740991LL

/* ---- the list ---- */

static json_t *history_of(json_t *status)
{
    json_t *history = json_object_get(status, "backupHistory");
    if (!json_is_array(history)) {
        history = kb_tree_array();
        kb_tree_set(status, "backupHistory", history);
    }
    return history;
}

const json_t *kb_history_newest(const json_t *status)
{
    return json_array_get(kb_tree_at(status, "backupHistory", NULL), 0);
}

json_t *kb_history_find(const json_t *status, const char *backup_id)
{
    const json_t *history = kb_tree_at(status, "backupHistory", NULL);
    for (size_t i = 0; backup_id != NULL && i < json_array_size(history); i++) {
        json_t *entry = json_array_get(history, i);
        if (strcmp(kb_tree_text_or_empty(entry, "backupId", NULL), backup_id) == 0)
            return entry;
    }
    return NULL;
}

static int64_t entry_time(const json_t *entry)
{
    int64_t ms = 0;
    if (!kb_tree_time(&ms, entry, "completionTime", NULL))
        (void)!kb_tree_time(&ms, entry, "startTime", NULL);
    return ms;
}

/* Newest first; what falls off the end is forgotten. */
static void insert(json_t *status, json_t *owned_entry)
{
    json_t *history = history_of(status);
    int64_t time = entry_time(owned_entry);
    size_t at = 0;
    while (at < json_array_size(history) && entry_time(json_array_get(history, at)) > time)
        at++;
    if (json_array_insert_new(history, at, owned_entry) != 0)
        kb_out_of_memory();
    while (json_array_size(history) > KB_HISTORY_MAX)
        json_array_remove(history, json_array_size(history) - 1);
}

void kb_history_count(json_t *status, const char *name, int64_t number)
{
    json_t *totals = json_object_get(status, "totals");
    if (!json_is_object(totals)) {
        totals = kb_tree_object();
        kb_tree_set(status, "totals", totals);
    }
    int64_t old = kb_tree_i64(0, totals, name, NULL);
    kb_tree_set_i64(totals, name, number > KB_COUNT_MAX - old ? KB_COUNT_MAX : old + number);
}

/* A number of a report, only when it is one that can be. */
static bool report_number(const json_t *report, const char *name, int64_t *ret_number)
{
    *ret_number = kb_tree_i64(-1, report, name, NULL);
    return *ret_number >= 0 && *ret_number <= KB_COUNT_MAX;
}

static void copy_number(json_t *to, const char *to_name, const json_t *report, const char *name)
{
    int64_t number = 0;
    if (report_number(report, name, &number))
        kb_tree_set_i64(to, to_name, number);
}

static void copy_time(json_t *to, const char *to_name, const json_t *report, const char *name)
{
    int64_t ms = 0;
    if (kb_tree_time(&ms, report, name, NULL))
        kb_tree_set_time(to, to_name, ms);
}

char *kb_history_backup_id(const kb_pass *pass, const json_t *job, const json_t *report)
{
    KB_AUTOFREE char *cron_job = kb_name_cron_job(pass->name);
    const char *job_name = kb_tree_text_or_empty(job, "metadata", "name", NULL);
    int64_t slot = 0;
    if (kb_name_slot(job_name, cron_job, &slot))
        return kb_name_backup_id(pass->name, slot);
    const char *stamp = kb_tree_text(job, "metadata", "annotations", KB_NOTE_STAMP, NULL);
    if (stamp != NULL)
        return kb_asprintf("%s-%s", pass->name, stamp);
    const char *id = kb_tree_text(report, "backupId", NULL);
    return id != NULL && *id != '\0' ? kb_status_text(id, 253) : NULL;
}

/* ---- what a success says ---- */

static void note_recovery_window(kb_pass *pass, const json_t *report)
{
    copy_number(pass->status, "retainedBackups", report, "retained");
    copy_number(pass->status, "heldBackups", report, "held");
    copy_time(pass->status, "earliestRecoverableTime", report, "earliestTime");
    copy_time(pass->status, "latestRecoverableTime", report, "latestTime");
}

/* The first of the findings that make a point in time unreachable; NULL without one. */
static const char *gap_reason(const json_t *report, const char *reason)
{
    static const char *const gaps[] = {"RetentionGap", "Discontinuity", "TopicsSkipped"};
    const json_t *findings = kb_tree_at(report, "findings", NULL);
    for (size_t g = 0; g < KB_ARRAY_LEN(gaps); g++) {
        if (reason != NULL && strcmp(reason, gaps[g]) == 0)
            return gaps[g];
        for (size_t i = 0; i < json_array_size(findings); i++)
            if (strcmp(kb_tree_text_or_empty(json_array_get(findings, i), "check", NULL), gaps[g]) == 0)
                return gaps[g];
    }
    return NULL;
}

static void note_recoverable(kb_pass *pass, const char *gap, bool is_unreported, const char *message)
{
    if (is_unreported)
        kb_pass_condition(pass, "PointInTimeRecoverable", KB_UNKNOWN, "ReportMissing", "%s", message);
    else if (gap != NULL)
        kb_pass_condition(pass, "PointInTimeRecoverable", KB_FALSE, gap, "%s", message);
    else
        kb_pass_condition(pass, "PointInTimeRecoverable", KB_TRUE, "NoGaps", "%s", "");
}

static void note_last_backup(kb_pass *pass, const char *id, const json_t *report)
{
    static const char *const numbers[] = {"lastBackupSize", "lastBackupRecords"};
    if (id == NULL)
        return;
    kb_tree_set_text(pass->status, "lastBackupId", id);
    kb_ledger_set(&pass->ledger.backup_id, id);
    size_t len = strlen(id);
    int64_t ms = 0;
    KB_AUTO_ERROR(err);
    if (len >= KB_STAMP_SIZE &&
        kb_stamp_parse(id + len - (KB_STAMP_SIZE - 1), KB_STAMP_SIZE - 1, &ms, &err) == KB_OK)
        kb_tree_set_time(pass->status, "lastBackupTime", ms);
    for (size_t i = 0; i < KB_ARRAY_LEN(numbers); i++)
        json_object_del(pass->status, numbers[i]);
    copy_number(pass->status, "lastBackupSize", report, "bytesProcessed");
    copy_number(pass->status, "lastBackupRecords", report, "recordsProcessed");
}

static void count_success(kb_pass *pass, const json_t *report)
{
    int64_t number = 0;
    kb_history_count(pass->status, "succeeded", 1);
    if (report_number(report, "recordsProcessed", &number))
        kb_history_count(pass->status, "records", number);
    if (report_number(report, "bytesProcessed", &number))
        kb_history_count(pass->status, "bytes", number);
}

/* ---- events ---- */

static void pruned_events(kb_pass *pass, const json_t *report, const char *cause)
{
    int64_t number = 0;
    if (report_number(report, "pruned", &number) && number > 0)
        kb_plan_event(pass->plan, false, "BackupsPruned", cause, "%lld backups removed", (long long)number);
    if (report_number(report, "held", &number) && number > 0)
        kb_plan_event(pass->plan, true, "RetentionHeld", cause,
                      "%lld backups are kept by a lock of the store", (long long)number);
    const char *problem = kb_tree_text(report, "pruneError", NULL);
    if (problem != NULL)
        kb_plan_event(pass->plan, true, "PruneFailed", cause, "%s", problem);
}

static void outcome_events(kb_pass *pass, const kb_job_outcome *o, const char *job, const char *cause)
{
    if (o->outcome == KB_OUTCOME_FAILURE) {
        bool is_gone = strcmp(o->reason, "JobDeleted") == 0 || strcmp(o->reason, "OutcomeUnknown") == 0;
        if (is_gone)
            kb_plan_event(pass->plan, true, o->reason, cause, "Job %s: %s", job, o->message);
        kb_plan_event(pass->plan, true, "BackupFailed", cause, "%s: %s", o->reason, o->message);
    } else {
        kb_plan_event(pass->plan, false, "BackupSucceeded", cause, "Job %s", job);
    }
    if (o->outcome == KB_OUTCOME_FINDINGS) {
        bool is_gap = strcmp(o->reason, "RetentionGap") == 0;
        kb_plan_event(pass->plan, true, is_gap ? "RetentionGapDetected" : "CompletedWithFindings", cause,
                      "%s: %s", o->reason, o->message);
    }
    if (o->is_mismatch)
        kb_plan_event(pass->plan, true, "ReportMismatch", cause,
                      "Job %s: exit code %d and report disagree: %s", job, o->exit_code, o->message);
}

/* ---- catalog ---- */

/* A failure that the store says is complete, or a success whose numbers were not known. */
static void correct_entry(kb_pass *pass, json_t *entry, const json_t *row)
{
    const char *id = kb_tree_text_or_empty(row, "backupId", NULL);
    bool was_failure = strcmp(kb_tree_text_or_empty(entry, "outcome", NULL), "failure") == 0;
    bool was_unreported = strcmp(kb_tree_text_or_empty(entry, "reason", NULL), "ReportMissing") == 0;
    if (!was_failure && !was_unreported)
        return;
    const char *reason = kb_tree_text(row, "reason", NULL);
    kb_tree_set_text(entry, "outcome", "success");
    json_object_del(entry, "reason");
    kb_tree_set_text(entry, "reason", reason);
    copy_number(entry, "size", row, "size");
    copy_number(entry, "records", row, "records");
    int64_t number = 0;
    if (was_failure)
        kb_history_count(pass->status, "succeeded", 1);
    if (report_number(row, "records", &number))
        kb_history_count(pass->status, "records", number);
    if (report_number(row, "size", &number))
        kb_history_count(pass->status, "bytes", number);
    if (was_failure)
        kb_plan_event(pass->plan, false, "BackupFoundInStore", id, "backup %s is complete in the store", id);
    if (was_unreported && strcmp(kb_tree_text_or_empty(pass->status, "lastBackupId", NULL), id) == 0) {
        copy_number(pass->status, "lastBackupSize", row, "size");
        copy_number(pass->status, "lastBackupRecords", row, "records");
        const char *gap = gap_reason(NULL, reason);
        KB_AUTOFREE char *message = kb_asprintf("backup %s", id);
        note_recoverable(pass, gap, false, message);
    }
}

static void insert_found(kb_pass *pass, const json_t *row)
{
    const char *id = kb_tree_text_or_empty(row, "backupId", NULL);
    const json_t *history = kb_tree_at(pass->status, "backupHistory", NULL);
    size_t count = json_array_size(history);
    if (count >= KB_HISTORY_MAX && entry_time(row) <= entry_time(json_array_get(history, count - 1)))
        return;
    json_t *entry = kb_tree_object();
    kb_tree_set_text(entry, "backupId", id);
    copy_time(entry, "startTime", row, "startTime");
    copy_time(entry, "completionTime", row, "completionTime");
    copy_number(entry, "size", row, "size");
    copy_number(entry, "records", row, "records");
    kb_tree_set_text(entry, "outcome", "success");
    kb_tree_set_text(entry, "reason", kb_tree_text(row, "reason", NULL));
    insert(pass->status, entry);
    kb_plan_event(pass->plan, false, "BackupFoundInStore", id, "backup %s is complete in the store", id);
}

static bool catalog_has(const json_t *catalog, const char *id)
{
    for (size_t i = 0; i < json_array_size(catalog); i++)
        if (strcmp(kb_tree_text_or_empty(json_array_get(catalog, i), "backupId", NULL), id) == 0)
            return true;
    return false;
}

/* Without retention nothing of ours removes a backup: one that a whole catalog does not name is missing. */
static void drop_missing(kb_pass *pass, const json_t *report, const json_t *catalog)
{
    const kb_spec_retention *retention = &pass->spec.backup.retention;
    bool is_whole =
        json_array_size(catalog) < KB_CATALOG_MAX && !kb_tree_bool(false, report, "truncated", NULL);
    if (!is_whole || json_array_size(catalog) == 0 || retention->backups.is_set ||
        retention->max_age_days.is_set)
        return;
    json_t *history = history_of(pass->status);
    for (size_t i = json_array_size(history); i-- > 0;) {
        const json_t *entry = json_array_get(history, i);
        const char *id = kb_tree_text_or_empty(entry, "backupId", NULL);
        if (strcmp(kb_tree_text_or_empty(entry, "outcome", NULL), "success") != 0 || catalog_has(catalog, id))
            continue;
        kb_plan_event(pass->plan, true, "BackupMissing", id, "backup %s is not in the store any more", id);
        json_array_remove(history, i);
    }
}

static void apply_catalog(kb_pass *pass, const json_t *report)
{
    const json_t *catalog = kb_tree_at(report, "catalog", NULL);
    for (size_t i = json_array_size(catalog); i-- > 0;) {
        const json_t *row = json_array_get(catalog, i);
        const char *id = kb_tree_text(row, "backupId", NULL);
        if (id == NULL || i >= KB_CATALOG_MAX)
            continue;
        json_t *entry = kb_history_find(pass->status, id);
        if (entry != NULL)
            correct_entry(pass, entry, row);
        else
            insert_found(pass, row);
    }
    drop_missing(pass, report, catalog);
}

/* ---- folding ---- */

static void mark_recorded(kb_pass *pass, const json_t *job)
{
    if (job != NULL)
        kb_plan_add(pass->plan, KB_EFFECT_MARK_RECORDED, kb_tree_text(job, "metadata", "name", NULL),
                    kb_tree_text(job, "metadata", "uid", NULL), NULL);
}

static json_t *new_entry(const kb_pass *pass, const char *id, const kb_job_outcome *o)
{
    json_t *entry = kb_tree_object();
    kb_tree_set_text(entry, "backupId", id);
    if (o->start_ms > 0)
        kb_tree_set_time(entry, "startTime", o->start_ms);
    kb_tree_set_time(entry, "completionTime", o->end_ms > 0 ? o->end_ms : pass->now_ms);
    kb_tree_set_text(entry, "outcome", o->outcome == KB_OUTCOME_FAILURE ? "failure" : "success");
    if (*o->reason != '\0')
        kb_tree_set_text(entry, "reason", o->reason);
    if (o->outcome != KB_OUTCOME_FAILURE) {
        copy_number(entry, "size", o->report, "bytesProcessed");
        copy_number(entry, "records", o->report, "recordsProcessed");
    }
    return entry;
}

static void note_success(kb_pass *pass, const json_t *job, const char *id, const kb_job_outcome *o)
{
    count_success(pass, o->report);
    note_last_backup(pass, id, o->report);
    note_recovery_window(pass, o->report);
    const char *gap = o->outcome == KB_OUTCOME_FINDINGS ? gap_reason(o->report, o->reason) : NULL;
    note_recoverable(pass, gap, o->outcome == KB_OUTCOME_UNREPORTED, o->message);
    const json_t *notes = kb_tree_at(job, "metadata", "annotations", NULL);
    if (kb_tree_text(notes, KB_NOTE_SPEC_HASH, NULL) != NULL)
        kb_ledger_set(&pass->ledger.config, kb_tree_text(notes, KB_NOTE_SPEC_HASH, NULL));
    /* A backup prunes by the retention that it ran with. */
    if (kb_tree_text(notes, KB_NOTE_RETENTION, NULL) != NULL)
        kb_ledger_set(&pass->ledger.retention, kb_tree_text(notes, KB_NOTE_RETENTION, NULL));
}

static int64_t generation_of(const json_t *job)
{
    const char *text = kb_tree_text(job, "metadata", "annotations", KB_NOTE_GENERATION, NULL);
    return text != NULL ? (int64_t)strtoll(text, NULL, 10) : 0;
}

static void observe(kb_pass *pass, const kb_job_outcome *o)
{
    kb_effect *effect = kb_plan_add(pass->plan, KB_EFFECT_OBSERVE, NULL, NULL, NULL);
    effect->reason = kb_strdup(o->outcome == KB_OUTCOME_FAILURE ? "failure" : "success");
    effect->number = o->start_ms > 0 && o->end_ms > o->start_ms ? (o->end_ms - o->start_ms) / 1000 : -1;
}

/* A run whose id is not known is known by its times. */
static bool has_equal(const json_t *status, const json_t *entry)
{
    const json_t *history = kb_tree_at(status, "backupHistory", NULL);
    for (size_t i = 0; i < json_array_size(history); i++)
        if (kb_tree_text(entry, "backupId", NULL) == NULL && json_equal(json_array_get(history, i), entry))
            return true;
    return false;
}

/* The generation in the name of a one-shot Job; 0 for any other. */
static int64_t generation_of_name(const kb_pass *pass, const char *name)
{
    const char *suffix = strrchr(name, '-');
    int64_t generation = 0;
    if (suffix == NULL || suffix[1] != 'g' || !kb_parse_i64(suffix + 2, &generation))
        return 0;
    KB_AUTOFREE char *expected = kb_name_one_shot_job(pass->name, generation);
    return strcmp(expected, name) == 0 ? generation : 0;
}

/* A backup that ended; job NULL: it is gone, and `name` and `uid` are what is left. */
static void fold_backup(kb_pass *pass, const json_t *job, const char *name, const char *uid,
                        const kb_job_outcome *o, kb_fold *fold)
{
    KB_AUTO_TREE(stand_in);
    if (job == NULL) {
        stand_in = kb_tree_object();
        kb_tree_set(stand_in, "metadata", kb_tree_object());
        kb_tree_set_text(json_object_get(stand_in, "metadata"), "name", name);
    }
    const json_t *report = o->report != NULL ? o->report : kb_run_of_job(pass->run, uid);
    KB_AUTOFREE char *id = kb_history_backup_id(pass, job != NULL ? job : stand_in, report);
    mark_recorded(pass, job);
    KB_AUTO_TREE(entry);
    entry = new_entry(pass, id, o);
    if (kb_history_find(pass->status, id) != NULL || has_equal(pass->status, entry))
        return;
    insert(pass->status, json_incref(entry));
    /* A Job that was deleted is not made again. */
    int64_t generation = job != NULL ? generation_of(job) : generation_of_name(pass, name);
    if (generation > 0)
        pass->ledger.generation = generation;
    kb_ledger_set(&pass->ledger.outcome, o->outcome == KB_OUTCOME_FAILURE ? "failure" : "success");
    if (o->outcome == KB_OUTCOME_FAILURE) {
        kb_history_count(pass->status, "failed", 1);
        kb_tree_set_time(pass->status, "lastFailureTime", o->end_ms > 0 ? o->end_ms : pass->now_ms);
    } else {
        note_success(pass, job, id, o);
    }
    apply_catalog(pass, o->report);
    outcome_events(pass, o, name, uid);
    pruned_events(pass, o->report, uid);
    observe(pass, o);
    kb_fold_done(fold);
    fold->happened = true;
    fold->is_good = o->outcome != KB_OUTCOME_FAILURE;
    fold->owned_reason = kb_strdup(o->reason);
    fold->owned_message = kb_strdup(o->message);
    fold->reason = fold->owned_reason;
}

static void fold_prune(kb_pass *pass, const json_t *job, const kb_job_outcome *o)
{
    const char *uid = kb_tree_text_or_empty(job, "metadata", "uid", NULL);
    mark_recorded(pass, job);
    kb_ledger_set(&pass->ledger.retention,
                  kb_tree_text_or_empty(job, "metadata", "annotations", KB_NOTE_RETENTION, NULL));
    note_recovery_window(pass, o->report);
    apply_catalog(pass, o->report);
    pruned_events(pass, o->report, uid);
    if (o->outcome == KB_OUTCOME_FAILURE || o->outcome == KB_OUTCOME_LOCKED)
        kb_plan_event(pass->plan, true, "PruneFailed", uid, "%s: %s", o->reason, o->message);
}

/* A slot whose run met another one: nothing was done, nothing failed. A run that somebody asked for did fail.
 */
static bool is_skipped_slot(const kb_pass *pass, const json_t *job, const kb_job_outcome *o)
{
    KB_AUTOFREE char *cron_job = kb_name_cron_job(pass->name);
    int64_t slot = 0;
    return o->outcome == KB_OUTCOME_LOCKED &&
           kb_name_slot(kb_tree_text_or_empty(job, "metadata", "name", NULL), cron_job, &slot);
}

static void fold_job(kb_pass *pass, const json_t *job, kb_fold *fold)
{
    KB_AUTO_TREE(pods);
    pods = kb_job_pods(job, pass->snapshot->pods);
    kb_job_outcome outcome;
    kb_job_outcome_of(job, pods, pass->run, &outcome);
    const char *name = kb_tree_text_or_empty(job, "metadata", "name", NULL);
    const char *uid = kb_tree_text_or_empty(job, "metadata", "uid", NULL);
    if (strcmp(kb_pass_command_of(job), "prune") == 0) {
        fold_prune(pass, job, &outcome);
    } else if (is_skipped_slot(pass, job, &outcome)) {
        mark_recorded(pass, job);
        kb_history_count(pass->status, "skipped", 1);
        kb_plan_event(pass->plan, false, "BackupSkippedOverlap", name, "Job %s: %s", name, outcome.message);
    } else {
        if (outcome.outcome == KB_OUTCOME_LOCKED)
            outcome.outcome = KB_OUTCOME_FAILURE;
        fold_backup(pass, job, name, uid, &outcome, fold);
    }
    kb_job_outcome_done(&outcome);
}

/* status.activeJob names a Job that is not there any more and was not recorded. */
static void fold_gone(kb_pass *pass, kb_fold *fold)
{
    const json_t *active = kb_tree_at(pass->old_status, "activeJob", NULL);
    const char *uid = kb_tree_text(active, "uid", NULL);
    const char *name = kb_tree_text_or_empty(active, "name", NULL);
    if (uid == NULL || !pass->snapshot->is_active_job_gone)
        return;
    kb_job_outcome outcome;
    kb_job_outcome_of_gone(uid, pass->run, pass->snapshot->was_deletion_seen, &outcome);
    (void)!kb_tree_time(&outcome.start_ms, active, "startTime", NULL);
    const json_t *run = kb_run_of_job(pass->run, uid);
    KB_AUTOFREE char *retention = kb_spec_retention_hash(&pass->spec.backup);
    KB_AUTOFREE char *prune_job = kb_name_prune_job(pass->name, retention);
    bool is_prune =
        strcmp(kb_tree_text_or_empty(run, "operation", NULL), "prune") == 0 || strcmp(name, prune_job) == 0;
    if (is_prune) {
        kb_ledger_set(&pass->ledger.retention, retention);
        kb_plan_event(pass->plan, true, "PruneFailed", uid, "%s: %s", outcome.reason, outcome.message);
    } else {
        if (outcome.outcome == KB_OUTCOME_LOCKED)
            outcome.outcome = KB_OUTCOME_FAILURE;
        fold_backup(pass, NULL, name, uid, &outcome, fold);
    }
    kb_job_outcome_done(&outcome);
}

static int by_end(const void *a, const void *b)
{
    int64_t x = kb_job_end_ms(*(const json_t *const *)a), y = kb_job_end_ms(*(const json_t *const *)b);
    return x < y ? -1 : x > y;
}

void kb_history_fold(kb_pass *pass, kb_fold *ret_fold)
{
    *ret_fold = (kb_fold){0};
    size_t count = json_array_size(pass->snapshot->jobs), ended = 0;
    KB_AUTOFREE const json_t **jobs = kb_calloc(count + 1, sizeof *jobs);
    for (size_t i = 0; i < count; i++) {
        const json_t *job = json_array_get(pass->snapshot->jobs, i);
        if (kb_job_is_finished(job) && !kb_pass_is_recorded(job))
            jobs[ended++] = job;
    }
    qsort(jobs, ended, sizeof *jobs, by_end);
    fold_gone(pass, ret_fold);
    for (size_t i = 0; i < ended; i++)
        fold_job(pass, jobs[i], ret_fold);
}

void kb_fold_done(kb_fold *fold)
{
    free(fold->owned_reason);
    free(fold->owned_message);
    *fold = (kb_fold){0};
}

#include "worker/cmd/retention_run.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/catalog/backup_record.h"
#include "worker/catalog/layout.h"
#include "worker/catalog/lineage.h"

/* A file system's clock and its users' clocks may differ a little, and a hand may be quick. */
#define KB_FS_GRACE_MIN_MS INT64_C(120000)
#define KB_CATALOG_ROWS 10

/* ---- prune ---- */

static int64_t grace_ms(const kb_worker_config *config)
{
    int64_t grace = config->retention.grace_secs * 1000;
    bool is_too_short = config->storage.backend == KB_CONFIG_FILESYSTEM && grace < KB_FS_GRACE_MIN_MS;
    return is_too_short ? KB_FS_GRACE_MIN_MS : grace;
}

static void count_result(kb_run_context *run, const kb_prune_result *result)
{
    kb_progress_set_number(run->progress, KB_REPORT_HELD, result->held);
    kb_progress_set_number(run->progress, KB_REPORT_HIDDEN, result->hidden);
    kb_progress_set_number(run->progress, KB_REPORT_PRUNED, (int64_t)result->deleted.count);
    kb_progress_set_number(run->progress, KB_REPORT_RECLAIMED_BYTES, result->reclaimed_bytes);
    kb_progress_touch(run->progress);
    if (run->run_metrics == NULL)
        return;
    kb_metric_add(run->run_metrics->prune_backups, result->deleted.count);
    kb_metric_add(run->run_metrics->prune_bytes, (uint64_t)result->reclaimed_bytes);
    kb_metric_add(run->run_metrics->prune_held, (uint64_t)result->held);
}

static void log_rows(const char *event, const kb_prune_rows *rows)
{
    for (size_t i = 0; i < rows->count; i++)
        kb_log(KB_LOG_INFO, event, KB_STR("backup", rows->rows[i].backup_id),
               KB_STR("why", rows->rows[i].why));
}

static void log_result(const kb_prune_result *result)
{
    log_rows("closed an abandoned backup", &result->closed);
    log_rows("marked a backup for removal", &result->marked);
    log_rows("removed a backup", &result->deleted);
    if (result->held > 0)
        kb_log(KB_LOG_WARN, "the store refuses to remove objects; the next prune tries again",
               KB_INT("backups", result->held));
}

kb_code kb_retention_prune(kb_run_context *run, kb_storage *storage, const char *lineage, bool dry_run,
                           kb_prune_result *result, kb_error *err)
{
    const kb_config_retention *retention = &run->config->retention;
    kb_holder holder KB_CLEANUP(kb_holder_done) = {0};
    kb_holder_init(&holder, run->env.job_name, run->env.job_uid, run->env.pod_name);
    const kb_prune_options options = {
        .storage = storage,
        .lineage = lineage,
        .policy = {.has_backups = retention->backups.is_set,
                   .backups = retention->backups.value,
                   .has_max_age_days = retention->max_age_days.is_set,
                   .max_age_days = retention->max_age_days.value},
        .grace_ms = grace_ms(run->config),
        .dry_run = dry_run,
        .holder = &holder,
        .stop = run->stop,
    };
    kb_code code = kb_prune_run(&options, result, err);
    if (dry_run)
        return code;
    count_result(run, result);
    log_result(result);
    return code;
}

/* ---- the catalog of the report ---- */

static kb_code read_summary(kb_storage *storage, const char *backup_id, kb_backup **ret_backup,
                            kb_backup_totals *ret_totals, kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_backup_json_key(backup_id);
    kb_object_source *source KB_CLEANUP(kb_object_source_free_at) = NULL;
    kb_code code = kb_object_source_open(storage, key, KB_BACKUP_JSON_MAX_BYTES, &source, err);
    return code == KB_OK ? kb_backup_record_read_summary(source, backup_id, ret_backup, ret_totals, err)
                         : code;
}

static void add_catalog_row(kb_run_context *run, const kb_backup *backup, const kb_backup_totals *totals)
{
    const kb_report_catalog_row row = {
        .backup_id = backup->backup_id,
        .start_ms = backup->created_at,
        .completion_ms = backup->completed_at,
        .size_bytes = totals->stored_bytes,
        .record_count = totals->records,
        .reason = backup->finding_count > 0 ? backup->findings[0].reason : NULL,
    };
    kb_progress_add_catalog(run->progress, &row);
}

/* is_row: shown in the list; the oldest one is read for its time alone. */
static void report_backup(kb_run_context *run, kb_storage *storage, const char *backup_id, bool is_row,
                          bool is_newest, bool is_oldest)
{
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    KB_AUTO_ERROR(err);
    kb_backup_totals totals;
    if (read_summary(storage, backup_id, &backup, &totals, &err) != KB_OK) {
        kb_log(KB_LOG_WARN, "a backup cannot be read", KB_STR("backup", backup_id), KB_ERRTEXT(&err));
        return;
    }
    if (is_row)
        add_catalog_row(run, backup, &totals);
    if (is_newest)
        kb_progress_set_time(run->progress, KB_REPORT_LATEST_TIME, backup->cut_time);
    if (is_oldest)
        kb_progress_set_time(run->progress, KB_REPORT_EARLIEST_TIME, backup->cut_time);
}

void kb_retention_report(kb_run_context *run, kb_storage *storage, const char *lineage)
{
    KB_CLEANUP(kb_lineage_members_done) kb_lineage_members members = {0};
    KB_AUTO_ERROR(err);
    if (kb_lineage_scan(storage, lineage, &members, &err) != KB_OK) {
        kb_log(KB_LOG_WARN, "the backups of the lineage cannot be listed for the report", KB_ERRTEXT(&err));
        return;
    }
    KB_AUTOFREE const char **ids = kb_calloc(members.count + 1, sizeof *ids);
    size_t count = 0;
    for (size_t i = 0; i < members.count; i++)
        if (members.items[i].state == KB_CATALOG_COMPLETE && !members.items[i].marked)
            ids[count++] = members.items[i].backup_id;
    kb_progress_clear_catalog(run->progress);
    kb_progress_set_number(run->progress, KB_REPORT_RETAINED, (int64_t)count);
    for (size_t i = 0; i < count; i++) {
        bool is_oldest = i == count - 1;
        if (i < KB_CATALOG_ROWS || is_oldest)
            report_backup(run, storage, ids[i], i < KB_CATALOG_ROWS, i == 0, is_oldest);
    }
}

void kb_retention_after_backup(kb_run_context *run, kb_storage *storage, const char *lineage)
{
    if (lineage == NULL)
        return;
    KB_CLEANUP(kb_prune_result_done) kb_prune_result result = {0};
    KB_AUTO_ERROR(err);
    kb_progress_unset(run->progress, KB_REPORT_PRUNE_ERROR);
    if (run->config->retention.block.is_given &&
        kb_retention_prune(run, storage, lineage, false, &result, &err) != KB_OK) {
        kb_log(KB_LOG_WARN, "the backup is complete, but old ones could not be pruned", KB_ERRTEXT(&err));
        kb_progress_set_text(run->progress, KB_REPORT_PRUNE_ERROR, kb_error_text(&err));
    }
    kb_retention_report(run, storage, lineage);
}

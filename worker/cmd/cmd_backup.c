#include "worker/cmd/cmd_backup.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/contract/version.h"
#include "common/data/json_write.h"
#include "worker/backup/backup.h"
#include "worker/backup/identity.h"
#include "worker/catalog/layout.h"
#include "worker/catalog/lineage.h"
#include "worker/cmd/retention_run.h"
#include "worker/cmd/text_backup.h"

#define KB_SUMMARY_MAX_BYTES 65536
/* Ids have seconds, so backups of a series are at least so far apart. */
#define KB_SERIES_PAUSE_MS 1000

/* What the questions of identity are asked about. */
typedef struct id_source {
    kb_storage *storage;
    const char *lineage; /* NULL = none */
    const char *job_uid; /* may be NULL */
    bool is_series;      /* of many backups by one Job: what it has completed is done with */
} id_source;

/* A backup of that id has begun when its journal or its manifest exists. */
static kb_code is_used(void *ctx, const char *id, bool *ret_used, kb_error *err)
{
    const id_source *source = ctx;
    KB_AUTOFREE char *journal = kb_layout_journal_key(id, 0);
    KB_AUTOFREE char *manifest = kb_layout_manifest_key(id);
    const char *const keys[] = {journal, manifest};
    for (size_t i = 0; i < KB_ARRAY_LEN(keys); i++) {
        kb_object_info info;
        kb_code code = kb_storage_head(source->storage, keys[i], &info, err);
        if (code == KB_OK) {
            *ret_used = true;
            return KB_OK;
        }
        if (code != KB_ERR_NOT_FOUND)
            return code;
        kb_error_done(err);
    }
    *ret_used = false;
    return KB_OK;
}

/* An open backup of the lineage is this Job's when it wrote the last entry, a complete one when it began it:
 * retries of a pod keep the Job. */
static kb_code find_own(void *ctx, char **ret_id, kb_error *err)
{
    const id_source *source = ctx;
    *ret_id = NULL;
    if (source->lineage == NULL || source->job_uid == NULL || source->job_uid[0] == '\0')
        return KB_OK;
    const kb_holder self = {.job_uid = (char *)(uintptr_t)source->job_uid};
    KB_CLEANUP(kb_lineage_members_done) kb_lineage_members members = {0};
    if (kb_lineage_scan(source->storage, source->lineage, &members, err) != KB_OK)
        return err->code;
    for (size_t i = 0; i < members.count; i++) {
        kb_lineage_member *member = &members.items[i];
        bool is_member = member->confirmed;
        KB_AUTO_ERROR(unreadable); /* then it is not ours to finish */
        if (member->marked || member->state == KB_CATALOG_CLOSED ||
            (source->is_series && member->state == KB_CATALOG_COMPLETE))
            continue;
        if (!is_member &&
            kb_lineage_confirm(source->storage, source->lineage, member, &is_member, &unreadable) != KB_OK)
            continue;
        if (!is_member || !kb_holder_is_same_job(&member->holder, &self))
            continue;
        *ret_id = kb_strdup(member->backup_id);
        return KB_OK;
    }
    return KB_OK;
}

/* "{lineage}-{stamp}", or what is configured. Owned. */
static char *id_template(const kb_worker_config *config)
{
    const char *lineage = kb_worker_config_lineage(config);
    return lineage != NULL ? kb_lineage_backup_id(lineage, "{stamp}") : kb_strdup(config->backup_id);
}

static kb_code make_id(const kb_run_context *run, kb_storage *storage, char **ret_id, kb_error *err)
{
    KB_AUTOFREE char *template = id_template(run->config);
    bool is_series = run->config->backup.continuous;
    id_source source = {storage, kb_worker_config_lineage(run->config), run->env.job_uid, is_series};
    kb_identity_options options = {
        .backup_id = template,
        .stamp = is_series ? NULL : run->env.stamp,
        .job_name = is_series ? NULL : run->env.job_name,
        .cron_job = run->config->resource.cron_job,
        .now_ms = kb_clock_wall_ms(),
        .is_used = is_used,
        .find_own = find_own,
        .ctx = &source,
    };
    return kb_identity_make(&options, ret_id, err);
}

static kb_code print_text(const kb_backup *backup, const kb_backup_totals *totals, kb_error *err)
{
    KB_AUTO_STRBUF(out, KB_SUMMARY_MAX_BYTES);
    kb_strbuf_appendf(&out, "backup %s is complete\n", backup->backup_id);
    kb_strbuf_appendf(&out, "topics %" PRId64 ", partitions %" PRId64 ", segments %" PRId64 "\n",
                      totals->topics, totals->partitions, totals->segments);
    kb_strbuf_appendf(&out, "records %" PRId64 ", bytes %" PRId64 ", stored bytes %" PRId64 "\n",
                      totals->records, totals->raw_bytes, totals->stored_bytes);
    if (totals->gaps > 0)
        kb_strbuf_appendf(&out, "gaps %" PRId64 " with %" PRId64 " offsets\n", totals->gaps,
                          totals->gap_offsets);
    for (size_t i = 0; i < backup->finding_count; i++) {
        kb_strbuf_appends(&out, "finding ");
        kb_text_finding(&out, &backup->findings[i]);
        kb_strbuf_appends(&out, "\n");
    }
    if (kb_strbuf_check(&out, "the summary", err) != KB_OK)
        return err->code;
    kb_run_print(kb_strbuf_view(&out), out.len);
    return KB_OK;
}

static void print_json(const kb_backup *backup, const kb_backup_totals *totals)
{
    KB_AUTO_STRBUF(out, KB_SUMMARY_MAX_BYTES);
    char sha256[2 * KB_SHA256_SIZE + 1];
    kb_hex_encode(backup->manifest_sha256, KB_SHA256_SIZE, sha256);
    kb_strbuf_appendf(&out,
                      "{\n  \"backupId\": \"%s\",\n  \"topics\": %" PRId64 ",\n  \"partitions\": %" PRId64
                      ",\n  \"segments\": %" PRId64 ",\n  \"records\": %" PRId64 ",\n  \"rawBytes\": %" PRId64
                      ",\n  \"storedBytes\": %" PRId64 ",\n  \"gaps\": %" PRId64
                      ",\n  \"gapOffsets\": %" PRId64
                      ",\n  \"findings\": %zu,\n  \"manifestSha256\": \"%s\"\n}\n",
                      backup->backup_id, totals->topics, totals->partitions, totals->segments,
                      totals->records, totals->raw_bytes, totals->stored_bytes, totals->gaps,
                      totals->gap_offsets, backup->finding_count, sha256);
    kb_run_print(kb_strbuf_view(&out), out.len);
}

static kb_code print_summary(const kb_run_context *run, const kb_backup *backup, kb_error *err)
{
    kb_backup_totals totals;
    if (kb_backup_totals_of(backup, &totals, err) != KB_OK)
        return err->code;
    char sha256[2 * KB_SHA256_SIZE + 1];
    kb_hex_encode(backup->manifest_sha256, KB_SHA256_SIZE, sha256);
    kb_progress_set_text(run->progress, KB_REPORT_MANIFEST_SHA256, sha256);
    if (run->flags->format == KB_OUTPUT_TEXT)
        return print_text(backup, &totals, err);
    print_json(backup, &totals);
    return KB_OK;
}

/* The owner of a backup: the resource that it is made for. Owned by the caller. */
static char *owner_of(const kb_worker_config *config)
{
    const kb_config_resource *resource = &config->resource;
    if (!resource->block.is_given || resource->name == NULL)
        return kb_strdup("manual");
    return kb_asprintf("%s/%s", resource->namespace != NULL ? resource->namespace : "", resource->name);
}

/* Slots have no seconds; ids that are made at a run's start always have. */
static kb_code wait_for_share(const kb_run_context *run, const char *id, kb_error *err)
{
    const char *lineage = kb_worker_config_lineage(run->config);
    int64_t slot_ms = 0;
    if (lineage == NULL || !kb_lineage_parse_id(lineage, id, &slot_ms) || slot_ms % 60000 != 0)
        return KB_OK;
    KB_AUTOFREE char *owner = owner_of(run->config);
    int64_t delay_ms = kb_identity_start_delay_ms(
        owner, lineage, slot_ms, run->config->limits.start_jitter_secs * 1000, kb_clock_wall_ms());
    if (delay_ms == 0)
        return KB_OK;
    kb_log(KB_LOG_INFO, "waiting for this schedule's share of the start jitter",
           KB_INT("seconds", delay_ms / 1000));
    kb_progress_set_waiting(run->progress, "this schedule's share of limits.start_jitter_secs");
    bool stopped = kb_stop_wait(run->stop, delay_ms);
    kb_progress_set_waiting(run->progress, NULL);
    return stopped ? kb_fail_retryable(err, KB_INTERRUPTED, "stopped before the backup was begun") : KB_OK;
}

static kb_code run_backup(kb_run_context *run, kb_storage *storage, const char *id, kb_error *err)
{
    KB_CLEANUP(kb_run_kafka_done) kb_run_kafka kafka = {0};
    KB_AUTOFREE char *owner = owner_of(run->config);
    if (kb_run_context_kafka(run, &run->config->source, &kafka, err) != KB_OK)
        return err->code;
    kb_backup_settings settings = {
        .config = run->config,
        .kafka = &kafka.options,
        .storage = storage,
        .backup_id = id,
        .lineage = kb_worker_config_lineage(run->config),
        .only_news = run->config->backup.continuous,
        .full = run->flags->full || !run->config->backup.incremental,
        .adopt_lineage = run->flags->adopt_lineage,
        .generator = KB_WORKER_GENERATOR,
        .owner = owner,
        .memory_bytes = run->memory_bytes,
        .threads = run->threads,
        .stop = run->stop,
        .progress = run->progress,
        .metrics = run->run_metrics,
    };
    kb_holder_init(&settings.holder, run->env.job_name, run->env.job_uid, run->env.pod_name);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_code code = kb_backup_run(&settings, &backup, err);
    kb_holder_done(&settings.holder);
    if (code != KB_OK)
        return code;
    if (backup == NULL) {
        kb_log(KB_LOG_INFO, "there is nothing new, no backup was made");
        return KB_OK;
    }
    if (print_summary(run, backup, err) != KB_OK)
        return err->code;
    kb_retention_after_backup(run, storage, kb_run_context_lineage(run));
    return KB_OK;
}

/* ---- a series (backup.continuous) ---- */

static kb_code one_of_series(kb_run_context *run, kb_storage *storage, kb_error *err)
{
    KB_AUTOFREE char *id = NULL;
    if (make_id(run, storage, &id, err) != KB_OK)
        return err->code;
    kb_log_set_field("backup", id);
    kb_progress_set_text(run->progress, KB_REPORT_BACKUP_ID, id);
    return run_backup(run, storage, id, err);
}

/* Complete backups one after the other until the run is stopped, or one fails. */
static kb_code run_series(kb_run_context *run, kb_storage *storage, kb_error *err)
{
    int64_t interval_ms = run->config->backup.cycle_interval_secs * 1000;
    for (;;) {
        int64_t due_ms = kb_clock_boot_ms() + interval_ms;
        kb_progress_begin_cycle(run->progress);
        if (one_of_series(run, storage, err) != KB_OK)
            return err->code;
        int64_t left_ms = due_ms - kb_clock_boot_ms();
        kb_progress_set_waiting(run->progress, "the next backup of the series");
        if (kb_stop_wait(run->stop, left_ms > KB_SERIES_PAUSE_MS ? left_ms : KB_SERIES_PAUSE_MS))
            return kb_fail_retryable(err, KB_INTERRUPTED, "stopped between two backups of the series");
    }
}

kb_code kb_cmd_backup(kb_run_context *run, kb_error *err)
{
    KB_CLEANUP(kb_storage_free_at) kb_storage *storage = NULL;
    KB_AUTOFREE char *id = NULL;
    bool is_series = run->config->backup.continuous;
    if (kb_run_context_storage(run, KB_FS_CREATE, &storage, err) != KB_OK ||
        (!is_series && make_id(run, storage, &id, err) != KB_OK))
        return err->code;
    const char *label = is_series ? kb_worker_config_lineage(run->config) : id;
    if (kb_run_context_observe(run, KB_RUN_KIND_BACKUP, label, NULL, err) != KB_OK)
        return err->code;
    if (is_series)
        return run_series(run, storage, err);
    if (wait_for_share(run, id, err) != KB_OK)
        return err->code;
    return run_backup(run, storage, id, err);
}

#include "worker/cmd/cmd_backup.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/contract/version.h"
#include "common/data/json_write.h"
#include "worker/backup/backup.h"
#include "worker/backup/identity.h"
#include "worker/catalog/layout.h"
#include "worker/cmd/retention_run.h"
#include "worker/cmd/text_backup.h"

#define KB_SUMMARY_MAX_BYTES 65536

/* A backup of that id has begun when its journal or its manifest exists. */
static kb_code is_used(void *ctx, const char *id, bool *ret_used, kb_error *err)
{
    KB_AUTOFREE char *journal = kb_layout_journal_key(id, 0);
    KB_AUTOFREE char *manifest = kb_layout_manifest_key(id);
    const char *const keys[] = {journal, manifest};
    for (size_t i = 0; i < KB_ARRAY_LEN(keys); i++) {
        kb_object_info info;
        kb_code code = kb_storage_head(ctx, keys[i], &info, err);
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

static kb_code make_id(const kb_run_context *run, kb_storage *storage, char **ret_id, kb_error *err)
{
    kb_identity_options options = {
        .backup_id = run->config->backup_id,
        .stamp = run->env.stamp,
        .job_name = run->env.job_name,
        .cron_job = run->config->resource.cron_job,
        .now_ms = kb_clock_wall_ms(),
        .is_used = is_used,
        .ctx = storage,
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

static kb_code run_backup(kb_run_context *run, kb_storage *storage, const char *id, kb_error *err)
{
    KB_CLEANUP(kb_run_kafka_done) kb_run_kafka kafka = {0};
    if (kb_run_context_kafka(run, &run->config->source, &kafka, err) != KB_OK)
        return err->code;
    kb_backup_settings settings = {
        .config = run->config,
        .kafka = &kafka.options,
        .storage = storage,
        .backup_id = id,
        .generator = KB_WORKER_GENERATOR,
        .owner = "manual",
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
    if (code != KB_OK || print_summary(run, backup, err) != KB_OK)
        return err->code;
    kb_retention_after_backup(run, storage, kb_run_context_lineage(run));
    return KB_OK;
}

kb_code kb_cmd_backup(kb_run_context *run, kb_error *err)
{
    KB_CLEANUP(kb_storage_free_at) kb_storage *storage = NULL;
    KB_AUTOFREE char *id = NULL;
    if (kb_run_context_storage(run, KB_FS_CREATE, &storage, err) != KB_OK ||
        make_id(run, storage, &id, err) != KB_OK ||
        kb_run_context_observe(run, KB_RUN_KIND_BACKUP, id, NULL, err) != KB_OK)
        return err->code;
    return run_backup(run, storage, id, err);
}

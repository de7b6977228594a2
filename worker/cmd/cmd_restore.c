#include "worker/cmd/cmd_restore.h"

#include <inttypes.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/json_write.h"
#include "worker/restore/restore.h"

#define KB_SUMMARY_MAX_BYTES 65536

static kb_code print_text(const kb_restore_summary *summary, kb_error *err)
{
    KB_AUTO_STRBUF(out, KB_SUMMARY_MAX_BYTES);
    if (summary->dry_run)
        kb_strbuf_appendf(&out, "restore %s of backup %s could be run\n", summary->restore_id,
                          summary->backup_id);
    else
        kb_strbuf_appendf(&out, "restore %s of backup %s is complete\n", summary->restore_id,
                          summary->backup_id);
    kb_strbuf_appendf(&out, "topics %" PRId64 ", partitions %" PRId64 "\n", summary->topics,
                      summary->partitions);
    if (!summary->dry_run)
        kb_strbuf_appendf(&out, "records %" PRId64 ", of these found on the target %" PRId64 "\n",
                          summary->records, summary->resumed);
    if (kb_strbuf_check(&out, "the summary", err) != KB_OK)
        return err->code;
    kb_run_print(kb_strbuf_view(&out), out.len);
    return KB_OK;
}

static kb_code print_json(const kb_restore_summary *summary, kb_error *err)
{
    KB_AUTO_STRBUF(out, KB_SUMMARY_MAX_BYTES);
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *w = kb_json_writer_new(KB_JSON_PRETTY, &out);
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "restoreId", summary->restore_id);
    kb_json_field_text(w, "backupId", summary->backup_id);
    kb_json_field_bool(w, "dryRun", summary->dry_run);
    kb_json_field_i64(w, "attempt", summary->attempt);
    kb_json_field_i64(w, "topics", summary->topics);
    kb_json_field_i64(w, "partitions", summary->partitions);
    kb_json_field_i64(w, "records", summary->records);
    kb_json_field_i64(w, "resumedRecords", summary->resumed);
    kb_json_put_end_object(w);
    if (kb_json_writer_finish(w, err) != KB_OK)
        return err->code;
    kb_strbuf_appendc(&out, '\n');
    kb_run_print(kb_strbuf_view(&out), out.len);
    return KB_OK;
}

static kb_code on_identified(void *ctx, const char *restore_id, kb_run_metrics **ret_metrics, kb_error *err)
{
    kb_run_context *run = ctx;
    kb_code code = kb_run_context_observe(run, KB_RUN_KIND_RESTORE, run->config->backup_id, restore_id, err);
    *ret_metrics = run->run_metrics;
    return code;
}

/* A store that cannot be written is enough for a restore, but for its fence. */
static kb_code open_storage(kb_run_context *run, kb_storage **ret_storage, kb_error *err)
{
    kb_code code = kb_run_context_storage(run, KB_FS_WRITE, ret_storage, err);
    if (code != KB_STORAGE_ACCESS_DENIED)
        return code;
    kb_error_done(err);
    return kb_run_context_storage(run, KB_FS_READ, ret_storage, err);
}

static kb_breaker *make_breaker(const kb_worker_config *config)
{
    const kb_config_circuit_breaker *from = &config->circuit_breaker;
    kb_breaker_options options = {
        .failure_threshold = (unsigned)from->failure_threshold,
        .reset_timeout_ms = from->reset_timeout_secs * 1000,
        .success_threshold = (unsigned)from->success_threshold,
    };
    return from->enabled ? kb_breaker_new(&options) : NULL;
}

static kb_code run_restore(kb_run_context *run, const kb_kafka_options *kafka, kb_storage *storage,
                           kb_breaker *breaker, kb_error *err)
{
    const kb_flags *flags = run->flags;
    kb_holder holder;
    kb_holder_init(&holder, run->env.job_name, run->env.job_uid, run->env.pod_name);
    kb_restore_settings settings = {
        .config = run->config,
        .kafka = kafka,
        .storage = storage,
        .backup_id = run->config->backup_id,
        .open = {.allow_pruned = flags->allow_pruned,
                 .from_manifest = flags->from_manifest,
                 .from_backup_json = flags->from_backup_json,
                 .allow_overlap = flags->overlap_skip},
        .dry_run = flags->dry_run || run->config->restore.dry_run,
        .holder = &holder,
        .memory_bytes = run->memory_bytes,
        .stop = run->stop,
        .breaker = breaker,
        .progress = run->progress,
        .on_identified = on_identified,
        .ctx = run,
    };
    KB_CLEANUP(kb_restore_summary_done) kb_restore_summary summary = {0};
    kb_code code = kb_restore_run(&settings, &summary, err);
    kb_holder_done(&holder);
    if (code != KB_OK)
        return code;
    return flags->format == KB_OUTPUT_TEXT ? print_text(&summary, err) : print_json(&summary, err);
}

kb_code kb_cmd_restore(kb_run_context *run, kb_error *err)
{
    KB_CLEANUP(kb_run_kafka_done) kb_run_kafka kafka = {0};
    KB_CLEANUP(kb_storage_free_at) kb_storage *storage = NULL;
    kb_code code = kb_run_context_kafka(run, &run->config->target, &kafka, err);
    if (code == KB_OK)
        code = open_storage(run, &storage, err);
    if (code == KB_OK)
        code = kb_run_context_find_backup(run, storage, err);
    if (code == KB_OK) {
        kb_breaker *breaker = make_breaker(run->config);
        code = run_restore(run, &kafka.options, storage, breaker, err);
        if (breaker != NULL)
            kb_breaker_free(breaker);
    }
    if (run->reporter != NULL)
        return code;
    /* The restore has no id yet, but its end is reported like any other. */
    KB_AUTO_ERROR(ignored);
    if (kb_run_context_observe(run, KB_RUN_KIND_RESTORE, run->config->backup_id, "", &ignored) != KB_OK)
        kb_log(KB_LOG_WARN, "the end of the run cannot be reported", KB_ERRTEXT(&ignored));
    return code;
}

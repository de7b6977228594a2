#include "worker/cmd/cmd_prune.h"

#include <inttypes.h>

#include "common/base/mem.h"
#include "common/data/json_write.h"
#include "worker/cmd/retention_run.h"
#include "worker/cmd/text_table.h"

#define KB_PRUNE_TEXT_MAX_BYTES ((size_t)1 << 30)

static const kb_text_column COLUMNS[] = {
    {"ACTION", KB_TEXT_LEFT}, {"BACKUP ID", KB_TEXT_LEFT}, {"WHY", KB_TEXT_LEFT}};

static void add_rows(kb_text_table *table, const char *action, const kb_prune_rows *rows)
{
    for (size_t i = 0; i < rows->count; i++) {
        kb_text_table_add(table, action);
        kb_text_table_add(table, rows->rows[i].backup_id);
        kb_text_table_add(table, rows->rows[i].why);
    }
}

void kb_prune_text(const kb_prune_result *result, bool dry_run, kb_strbuf *out)
{
    KB_CLEANUP(kb_text_table_free_at)
    kb_text_table *table = kb_text_table_new(COLUMNS, KB_ARRAY_LEN(COLUMNS));
    add_rows(table, "close", &result->closed);
    add_rows(table, "mark", &result->marked);
    add_rows(table, "delete", &result->deleted);
    add_rows(table, "keep", &result->kept);
    if (result->closed.count + result->marked.count + result->deleted.count + result->kept.count > 0)
        kb_text_table_print(table, out);
    for (size_t i = 0; i < result->object_count && dry_run; i++) {
        kb_strbuf_append(out, "remove ", 7);
        kb_text_escape(out, result->objects[i]);
        kb_strbuf_appendc(out, '\n');
    }
    kb_strbuf_appendf(out,
                      "%s%zu objects, %" PRId64 " segments, %" PRId64 " orphans, %" PRId64
                      " bytes; held %" PRId32 ", hidden %" PRId32 "\n",
                      dry_run ? "would remove " : "removed ", result->object_count, result->segments,
                      result->orphans, result->reclaimed_bytes, result->held, result->hidden);
}

static void put_rows(kb_json_writer *json, const char *name, const kb_prune_rows *rows)
{
    kb_json_put_name(json, name);
    kb_json_put_begin_array(json);
    for (size_t i = 0; i < rows->count; i++) {
        kb_json_put_begin_object(json);
        kb_text_json_field(json, "backupId", rows->rows[i].backup_id);
        kb_json_field_text(json, "why", rows->rows[i].why);
        kb_json_put_end_object(json);
    }
    kb_json_put_end_array(json);
}

static void put_ids(kb_json_writer *json, const char *name, const kb_prune_rows *rows)
{
    kb_json_put_name(json, name);
    kb_json_put_begin_array(json);
    for (size_t i = 0; i < rows->count; i++)
        kb_json_put_text(json, rows->rows[i].backup_id);
    kb_json_put_end_array(json);
}

static void put_objects(kb_json_writer *json, const kb_prune_result *result)
{
    kb_json_put_name(json, "objects");
    kb_json_put_begin_array(json);
    for (size_t i = 0; i < result->object_count; i++)
        kb_json_put_text(json, result->objects[i]);
    kb_json_put_end_array(json);
}

kb_code kb_prune_json(const kb_prune_result *result, bool dry_run, kb_strbuf *out, kb_error *err)
{
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *json = kb_json_writer_new(KB_JSON_PRETTY, out);
    kb_json_put_begin_object(json);
    put_rows(json, "kept", &result->kept);
    put_ids(json, "closed", &result->closed);
    put_ids(json, "marked", &result->marked);
    put_ids(json, "deleted", &result->deleted);
    kb_json_field_i64(json, "segments", result->segments);
    kb_json_field_i64(json, "reclaimedBytes", result->reclaimed_bytes);
    kb_json_field_i64(json, "hidden", result->hidden);
    kb_json_field_i64(json, "held", result->held);
    kb_json_field_i64(json, "orphans", result->orphans);
    put_objects(json, result);
    kb_json_field_bool(json, "dryRun", dry_run);
    kb_json_put_end_object(json);
    if (kb_json_writer_finish(json, err) != KB_OK)
        return err->code;
    kb_strbuf_appendc(out, '\n');
    return kb_strbuf_check(out, "the result of prune", err);
}

static kb_code print(const kb_run_context *run, const kb_prune_result *result, kb_error *err)
{
    KB_AUTO_STRBUF(out, KB_PRUNE_TEXT_MAX_BYTES);
    if (run->flags->format == KB_OUTPUT_TEXT)
        kb_prune_text(result, run->flags->dry_run, &out);
    else if (kb_prune_json(result, run->flags->dry_run, &out, err) != KB_OK)
        return err->code;
    if (kb_strbuf_check(&out, "the result of prune", err) != KB_OK)
        return err->code;
    kb_run_print(kb_strbuf_view(&out), out.len);
    return KB_OK;
}

kb_code kb_cmd_prune(kb_run_context *run, kb_error *err)
{
    KB_CLEANUP(kb_storage_free_at) kb_storage *storage = NULL;
    KB_CLEANUP(kb_prune_result_done) kb_prune_result result = {0};
    const char *lineage = kb_run_context_lineage(run);
    if (lineage == NULL)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "prune needs the name of a lineage; hint: lineage in the file, or -b LINEAGE");
    kb_fs_mode mode = run->flags->dry_run ? KB_FS_READ : KB_FS_WRITE;
    if (kb_run_context_storage(run, mode, &storage, err) != KB_OK ||
        kb_run_context_observe(run, KB_RUN_KIND_PRUNE, NULL, NULL, err) != KB_OK)
        return err->code;
    kb_progress_set_state(run->progress, KB_RUN_RUNNING);
    kb_code code = kb_retention_prune(run, storage, lineage, run->flags->dry_run, &result, err);
    if (code != KB_OK)
        return code;
    kb_retention_report(run, storage, lineage);
    if (run->flags->strict && result.held > 0)
        kb_progress_add_finding(run->progress, KB_FINDING_RETENTION_HELD, NULL, -1,
                                "the store refused to remove objects of %" PRId32 " backups", result.held);
    return print(run, &result, err);
}

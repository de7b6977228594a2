#include "worker/cmd/cmd_validate.h"

#include <inttypes.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/contract/exit_codes.h"
#include "common/data/json_write.h"
#include "worker/cmd/text_backup.h"
#include "worker/cmd/text_table.h"

#define KB_VALIDATE_MAX_BYTES ((size_t)1 << 30)

/* ---- walking over gaps ---- */

typedef void (*gap_fn)(void *ctx, const kb_topic_entry *topic, const kb_partition_entry *partition,
                       const kb_gap *gap);

static void walk_partition_gaps(const kb_topic_entry *topic, const kb_partition_entry *partition, gap_fn fn,
                                void *ctx)
{
    for (size_t g = 0; g < partition->gap_count; g++)
        fn(ctx, topic, partition, &partition->gaps[g]);
}

static void walk_gaps(const kb_backup *backup, gap_fn fn, void *ctx)
{
    for (size_t t = 0; backup != NULL && t < backup->topic_count; t++)
        for (size_t p = 0; p < backup->topics[t].listed_count; p++)
            walk_partition_gaps(&backup->topics[t], &backup->topics[t].partitions[p], fn, ctx);
}

/* ---- text ---- */

static bool has_findings(const kb_validate_result *result)
{
    const kb_backup *backup = result->backup;
    return backup != NULL &&
           (result->totals.gaps > 0 || backup->skipped_count > 0 || backup->finding_count > 0);
}

static const char *verdict(const kb_validate_result *result)
{
    if (!kb_validate_is_valid(result))
        return "NOT VALID";
    return has_findings(result) ? "valid, with findings" : "valid";
}

static void text_gap(void *ctx, const kb_topic_entry *topic, const kb_partition_entry *partition,
                     const kb_gap *gap)
{
    kb_strbuf *out = ctx;
    kb_strbuf_appends(out, "gap       ");
    kb_text_gap(out, topic, partition, gap);
    kb_strbuf_appendc(out, '\n');
}

static void text_checked(const kb_validate_result *result, kb_strbuf *out)
{
    kb_strbuf_appends(out, "checked   index, presence and size of every object");
    if (result->is_deep && result->sample.parts > 1)
        kb_strbuf_appendf(out, "; part %" PRIu32 " of %" PRIu32 " read whole", result->sample.index,
                          result->sample.parts);
    else if (result->is_deep)
        kb_strbuf_appends(out, "; every byte read");
    if (result->is_deep)
        kb_strbuf_appendf(out, " (%" PRId64 " segments, %" PRId64 " records)", result->deep.segments,
                          result->deep.records);
    kb_strbuf_appendc(out, '\n');
}

static void text_findings(const kb_backup *backup, kb_strbuf *out)
{
    for (size_t i = 0; i < backup->skipped_count; i++) {
        kb_strbuf_appends(out, "skipped   ");
        kb_text_skipped(out, &backup->skipped[i]);
        kb_strbuf_appendc(out, '\n');
    }
    for (size_t i = 0; i < backup->finding_count; i++) {
        kb_strbuf_appends(out, "finding   ");
        kb_text_finding(out, &backup->findings[i]);
        kb_strbuf_appendc(out, '\n');
    }
}

static void text_problems(const kb_problem_list *problems, kb_strbuf *out)
{
    for (size_t i = 0; i < problems->count; i++) {
        const kb_object_problem *problem = &problems->items[i];
        kb_strbuf_appends(out, "problem   ");
        kb_text_escape(out, problem->key);
        kb_strbuf_appendf(out, ": %s: ", kb_object_fault_name(problem->fault));
        kb_text_escape(out, problem->detail);
        kb_strbuf_appendc(out, '\n');
    }
    if (problems->total > problems->count)
        kb_strbuf_appendf(out, "problem   and %" PRIu64 " more\n", problems->total - problems->count);
}

kb_code kb_validate_text(const kb_validate_result *result, kb_strbuf *out, kb_error *err)
{
    kb_strbuf_appends(out, "backup    ");
    kb_text_escape(out, result->backup_id);
    kb_strbuf_appendf(out, ": %s\nstate     %s\n", verdict(result), kb_catalog_state_name(result->state));
    if (result->backup != NULL) {
        text_checked(result, out);
        kb_strbuf_appendf(out,
                          "content   %" PRId64 " topics, %" PRId64 " partitions, %" PRId64
                          " segments, %" PRId64 " records, %" PRId64 " bytes stored\n",
                          result->totals.topics, result->totals.partitions, result->totals.segments,
                          result->totals.records, result->totals.stored_bytes);
        if (result->orphans.count > 0)
            kb_strbuf_appendf(out,
                              "orphans   %" PRId64 " objects of %" PRId64 " bytes that it does not list\n",
                              result->orphans.count, result->orphans.bytes);
        walk_gaps(result->backup, text_gap, out);
        text_findings(result->backup, out);
    }
    text_problems(&result->problems, out);
    return kb_strbuf_check(out, "the result", err);
}

/* ---- JSON ---- */

static void json_gap(void *ctx, const kb_topic_entry *topic, const kb_partition_entry *partition,
                     const kb_gap *gap)
{
    kb_json_writer *json = ctx;
    kb_json_put_begin_object(json);
    kb_json_field_text(json, "topic", topic->name);
    kb_json_field_i64(json, "partition", partition->partition);
    kb_json_field_i64(json, "start", gap->start);
    kb_json_field_i64(json, "end", gap->end);
    kb_json_put_end_object(json);
}

static void json_skipped(kb_json_writer *json, const kb_backup *backup)
{
    kb_json_put_name(json, "skippedTopics");
    kb_json_put_begin_array(json);
    for (size_t i = 0; backup != NULL && i < backup->skipped_count; i++) {
        kb_json_put_begin_object(json);
        kb_text_json_field(json, "name", backup->skipped[i].name);
        kb_text_json_field(json, "reason", backup->skipped[i].reason);
        kb_json_put_end_object(json);
    }
    kb_json_put_end_array(json);
}

static void json_problems(kb_json_writer *json, const kb_problem_list *problems)
{
    kb_json_put_name(json, "problems");
    kb_json_put_begin_array(json);
    for (size_t i = 0; i < problems->count; i++) {
        kb_json_put_begin_object(json);
        kb_text_json_field(json, "key", problems->items[i].key);
        kb_json_field_text(json, "reason", kb_object_fault_name(problems->items[i].fault));
        kb_text_json_field(json, "detail", problems->items[i].detail);
        kb_json_put_end_object(json);
    }
    kb_json_put_end_array(json);
    kb_json_field_u64(json, "problemCount", problems->total);
}

static void json_sample(kb_json_writer *json, const kb_validate_result *result)
{
    if (!result->is_deep || result->sample.parts == 0)
        return;
    KB_AUTOFREE char *text = kb_asprintf("%" PRIu32 "/%" PRIu32, result->sample.index, result->sample.parts);
    kb_json_field_text(json, "sample", text);
}

kb_code kb_validate_json(const kb_validate_result *result, kb_strbuf *out, kb_error *err)
{
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *json = kb_json_writer_new(KB_JSON_PRETTY, out);
    kb_json_put_begin_object(json);
    kb_text_json_field(json, "backupId", result->backup_id);
    kb_json_field_bool(json, "valid", kb_validate_is_valid(result));
    kb_json_field_bool(json, "deep", result->is_deep);
    json_sample(json, result);
    kb_json_field_text(json, "state", kb_catalog_state_name(result->state));
    kb_json_field_i64(json, "topics", result->totals.topics);
    kb_json_field_i64(json, "segments", result->totals.segments);
    kb_json_field_i64(json, "records", result->totals.records);
    kb_json_field_i64(json, "bytes", result->totals.stored_bytes);
    kb_json_put_name(json, "gaps");
    kb_json_put_begin_array(json);
    walk_gaps(result->backup, json_gap, json);
    kb_json_put_end_array(json);
    json_skipped(json, result->backup);
    kb_json_field_i64(json, "orphans", result->orphans.count);
    json_problems(json, &result->problems);
    kb_json_field_i64(json, "durationMs", result->duration_ms);
    kb_json_put_end_object(json);
    if (kb_json_writer_finish(json, err) != KB_OK)
        return err->code;
    kb_strbuf_appendc(out, '\n');
    return kb_strbuf_check(out, "the result", err);
}

/* ---- the run ---- */

static void report_gap(void *ctx, const kb_topic_entry *topic, const kb_partition_entry *partition,
                       const kb_gap *gap)
{
    kb_progress_add_gap(ctx, topic->name, partition->partition, gap->start, gap->end);
}

static void report_findings(const kb_backup *backup, kb_progress *progress)
{
    for (size_t i = 0; i < backup->finding_count; i++) {
        const kb_finding_entry *entry = &backup->findings[i];
        kb_finding finding;
        if (kb_finding_parse(entry->reason, &finding))
            kb_progress_add_finding(progress, finding, entry->topic, entry->partition, "%s",
                                    entry->detail != NULL ? entry->detail : "");
    }
}

void kb_validate_report(const kb_validate_result *result, kb_progress *progress)
{
    const kb_backup *backup = result->backup;
    if (backup == NULL)
        return;
    walk_gaps(backup, report_gap, progress);
    for (size_t i = 0; i < backup->skipped_count; i++)
        kb_progress_skip_topic(progress, backup->skipped[i].name);
    report_findings(backup, progress);
    /* A foreign backup has no findings of its own, and a newer writer may name some that we do not know. */
    if (result->totals.gaps > 0 && !kb_progress_has_findings(progress))
        kb_progress_add_finding(progress, KB_FINDING_RETENTION_GAP, NULL, -1,
                                "%" PRId64 " gaps with %" PRId64 " offsets", result->totals.gaps,
                                result->totals.gap_offsets);
    if (backup->skipped_count > 0 && !kb_progress_has_findings(progress))
        kb_progress_add_finding(progress, KB_FINDING_TOPICS_SKIPPED, NULL, -1, "%zu topics",
                                backup->skipped_count);
}

static kb_code print_result(const kb_run_context *run, const kb_validate_result *result, kb_error *err)
{
    KB_AUTO_STRBUF(out, KB_VALIDATE_MAX_BYTES);
    kb_code code = run->flags->format == KB_OUTPUT_TEXT ? kb_validate_text(result, &out, err)
                                                        : kb_validate_json(result, &out, err);
    if (code == KB_OK)
        kb_run_print(kb_strbuf_view(&out), out.len);
    return code;
}

static kb_code judge(const kb_validate_result *result, kb_error *err)
{
    if (kb_validate_is_valid(result))
        return KB_OK;
    const kb_object_problem *first = &result->problems.items[0];
    return kb_fail(err, KB_BACKUP_CORRUPT,
                   "backup '%s' is not valid: %" PRIu64 " problem%s, first '%s': %s: %s; hint: restore from "
                   "another copy or an older backup, and make a new one",
                   result->backup_id, result->problems.total, result->problems.total == 1 ? "" : "s",
                   first->key, kb_object_fault_name(first->fault), first->detail);
}

static kb_validate_settings settings_of(const kb_run_context *run, kb_storage *storage)
{
    const kb_flags *flags = run->flags;
    return (kb_validate_settings){
        .storage = storage,
        .backup_id = run->config->backup_id,
        .open = {.allow_pruned = flags->allow_pruned,
                 .from_manifest = flags->from_manifest,
                 .from_backup_json = flags->from_backup_json,
                 .allow_overlap = flags->overlap_skip},
        .deep = flags->deep || flags->sample_parts > 0,
        .sample = {flags->sample_index, flags->sample_parts},
        .threads = run->threads,
        .memory_bytes = run->memory_bytes,
        .stop = run->stop,
        .progress = run->progress,
        .metrics = run->run_metrics,
    };
}

kb_code kb_cmd_validate(kb_run_context *run, kb_error *err)
{
    KB_CLEANUP(kb_storage_free_at) kb_storage *storage = NULL;
    KB_CLEANUP(kb_validate_result_done) kb_validate_result result = {0};
    if (kb_run_context_storage(run, KB_FS_READ, &storage, err) != KB_OK ||
        kb_run_context_find_backup(run, storage, err) != KB_OK ||
        kb_run_context_observe(run, KB_RUN_KIND_VALIDATE, run->config->backup_id, NULL, err) != KB_OK)
        return err->code;
    kb_progress_set_state(run->progress, KB_RUN_RUNNING);
    kb_validate_settings settings = settings_of(run, storage);
    if (kb_validate_run(&settings, &result, err) != KB_OK)
        return err->code;
    for (size_t i = 0; result.backup != NULL && i < result.backup->warning_count; i++)
        kb_log(KB_LOG_WARN, "tolerated in the index", KB_STR("err", result.backup->warnings[i]));
    kb_validate_report(&result, run->progress);
    if (print_result(run, &result, err) != KB_OK)
        return err->code;
    return judge(&result, err);
}

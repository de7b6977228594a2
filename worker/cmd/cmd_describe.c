#include "worker/cmd/cmd_describe.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/cmd/text_backup.h"
#include "worker/cmd/text_table.h"

#define KB_DESCRIBE_MAX_BYTES ((size_t)1 << 30)

static void put_field(kb_strbuf *out, const char *name, const char *text)
{
    kb_strbuf_appendf(out, "%-12s ", name);
    kb_text_escape(out, text);
    kb_strbuf_appendc(out, '\n');
}

static void put_time(kb_strbuf *out, const char *name, int64_t ms)
{
    char text[KB_TEXT_SIZE_MAX + 2];
    kb_text_time(ms, text);
    put_field(out, name, text);
}

/* Fields that a manifest alone does not have. */
static void put_own_fields(const kb_backup *backup, kb_strbuf *out)
{
    KB_AUTOFREE char *base =
        backup->base != NULL ? kb_asprintf("%s (depth %" PRId32 ")", backup->base, backup->depth) : NULL;
    const kb_backup_content *content = &backup->content;
    KB_AUTOFREE char *header = content->source_cluster_header != NULL
                                   ? kb_asprintf(", x-source-cluster '%s'", content->source_cluster_header)
                                   : kb_strdup("");
    KB_AUTOFREE char *text = kb_asprintf("%s, %s offset headers%s", content->isolation,
                                         content->offset_headers ? "with" : "without", header);
    put_field(out, "Lineage", backup->lineage);
    put_field(out, "Owner", backup->owner);
    put_field(out, "Base", base);
    put_time(out, "Snapshot", backup->cut_time);
    put_time(out, "Completed", backup->completed_at);
    put_field(out, "Generator", backup->generator);
    put_field(out, "Content", text);
}

static void put_totals(const kb_backup *backup, const kb_backup_totals *totals, kb_strbuf *out)
{
    char raw[KB_TEXT_SIZE_MAX];
    char stored[KB_TEXT_SIZE_MAX];
    kb_text_bytes(totals->raw_bytes, raw);
    kb_text_bytes(totals->stored_bytes, stored);
    kb_strbuf_appendf(out, "%-12s %" PRId64 " in %" PRId64 " topics, %" PRId64 " partitions\n", "Records",
                      totals->records, totals->topics, totals->partitions);
    kb_strbuf_appendf(out, "%-12s %" PRId64 ", %" PRId64 " of other backups\n", "Segments", totals->segments,
                      totals->reused_segments);
    kb_strbuf_appendf(out, "%-12s %s raw (%" PRId64 " bytes), %s stored (%" PRId64 " bytes)\n", "Size", raw,
                      totals->raw_bytes, stored, totals->stored_bytes);
    kb_strbuf_appendf(out, "%-12s %" PRId64 ", %" PRId64 " offsets\n", "Gaps", totals->gaps,
                      totals->gap_offsets);
    if (totals->has_timestamps) {
        put_time(out, "First time", totals->min_timestamp);
        put_time(out, "Last time", totals->max_timestamp);
    }
    if (backup->groups != NULL)
        kb_strbuf_appendf(out, "%-12s %" PRId64 "%s\n", "Groups", backup->groups->count,
                          backup->groups->complete ? "" : ", not complete");
}

static const kb_text_column COLUMNS[] = {
    {"TOPIC", KB_TEXT_LEFT},    {"STATE", KB_TEXT_LEFT},  {"PARTITIONS", KB_TEXT_RIGHT},
    {"RECORDS", KB_TEXT_RIGHT}, {"RAW", KB_TEXT_RIGHT},   {"STORED", KB_TEXT_RIGHT},
    {"GAPS", KB_TEXT_RIGHT},    {"DIGEST", KB_TEXT_LEFT},
};

static void add_topic(kb_text_table *table, const kb_backup *backup, const kb_topic_entry *topic)
{
    int64_t records = 0;
    int64_t raw_bytes = 0;
    int64_t stored_bytes = 0;
    int64_t gaps = 0;
    kb_digest digest = KB_DIGEST_ZERO;
    for (size_t p = 0; p < topic->listed_count; p++) {
        const kb_partition_entry *partition = &topic->partitions[p];
        records += partition->records;
        gaps += (int64_t)partition->gap_count;
        kb_digest_add(&digest, &partition->digest);
        for (size_t s = 0; s < partition->segment_count; s++) {
            raw_bytes += partition->segments[s].raw_bytes;
            stored_bytes += partition->segments[s].bytes;
        }
    }
    char hex[KB_DIGEST_HEX_SIZE];
    kb_digest_hex(&digest, hex);
    int64_t partitions = topic->partition_count >= 0 ? topic->partition_count : (int64_t)topic->listed_count;
    kb_text_table_add(table, topic->name);
    kb_text_table_add(table, backup->foreign ? NULL : kb_topic_state_name(topic->state));
    kb_text_table_add_i64(table, partitions);
    kb_text_table_add_i64(table, records);
    kb_text_table_add_bytes(table, raw_bytes);
    kb_text_table_add_bytes(table, stored_bytes);
    kb_text_table_add_i64(table, gaps);
    kb_text_table_add(table, backup->foreign ? NULL : hex);
}

static void put_topics(const kb_backup *backup, kb_strbuf *out)
{
    KB_CLEANUP(kb_text_table_free_at)
    kb_text_table *table = kb_text_table_new(COLUMNS, KB_ARRAY_LEN(COLUMNS));
    for (size_t t = 0; t < backup->topic_count; t++)
        add_topic(table, backup, &backup->topics[t]);
    kb_strbuf_appendc(out, '\n');
    kb_text_table_print(table, out);
}

static void put_partition_gaps(const kb_topic_entry *topic, const kb_partition_entry *partition,
                               kb_strbuf *out)
{
    for (size_t g = 0; g < partition->gap_count; g++) {
        kb_strbuf_appends(out, "  ");
        kb_text_gap(out, topic, partition, &partition->gaps[g]);
        kb_strbuf_appendc(out, '\n');
    }
}

static void put_gaps(const kb_backup *backup, kb_strbuf *out)
{
    kb_strbuf_appends(out, "\nGaps\n");
    for (size_t t = 0; t < backup->topic_count; t++)
        for (size_t p = 0; p < backup->topics[t].listed_count; p++)
            put_partition_gaps(&backup->topics[t], &backup->topics[t].partitions[p], out);
}

static void put_findings(const kb_backup *backup, kb_strbuf *out)
{
    if (backup->skipped_count > 0)
        kb_strbuf_appends(out, "\nSkipped topics\n");
    for (size_t i = 0; i < backup->skipped_count; i++) {
        kb_strbuf_appends(out, "  ");
        kb_text_skipped(out, &backup->skipped[i]);
        kb_strbuf_appendc(out, '\n');
    }
    if (backup->finding_count > 0)
        kb_strbuf_appends(out, "\nFindings\n");
    for (size_t i = 0; i < backup->finding_count; i++) {
        kb_strbuf_appends(out, "  ");
        kb_text_finding(out, &backup->findings[i]);
        kb_strbuf_appendc(out, '\n');
    }
}

kb_code kb_describe_text(const kb_backup *backup, kb_catalog_state state, kb_strbuf *out, kb_error *err)
{
    kb_backup_totals totals;
    if (kb_backup_totals_of(backup, &totals, err) != KB_OK)
        return err->code;
    put_field(out, "Backup", backup->backup_id);
    put_field(out, "State", kb_catalog_state_name(state));
    put_time(out, "Created", backup->created_at);
    if (!backup->foreign)
        put_own_fields(backup, out);
    put_field(out, "Cluster", backup->cluster_id);
    put_field(out, "Compression", backup->compression);
    put_totals(backup, &totals, out);
    if (backup->topic_count > 0)
        put_topics(backup, out);
    if (totals.gaps > 0)
        put_gaps(backup, out);
    put_findings(backup, out);
    return kb_strbuf_check(out, "the description", err);
}

static kb_code print_text(const kb_backup *backup, kb_catalog_state state, kb_error *err)
{
    KB_AUTO_STRBUF(out, KB_DESCRIBE_MAX_BYTES);
    if (kb_describe_text(backup, state, &out, err) != KB_OK)
        return err->code;
    kb_run_print(kb_strbuf_view(&out), out.len);
    return KB_OK;
}

/* The stored bytes; the backup read from them has passed its checks. */
static kb_code print_json(kb_storage *storage, const kb_backup *backup, kb_catalog_state state, kb_error *err)
{
    KB_AUTOFREE char *text = NULL;
    size_t len = 0;
    kb_catalog_state read_as = backup->foreign ? KB_CATALOG_FOREIGN : state;
    if (kb_catalog_read_index(storage, backup->backup_id, read_as, &text, &len, err) != KB_OK)
        return err->code;
    kb_run_print(text, len);
    kb_run_print("\n", 1);
    return KB_OK;
}

kb_code kb_cmd_describe(kb_run_context *run, kb_error *err)
{
    KB_CLEANUP(kb_storage_free_at) kb_storage *storage = NULL;
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    const kb_flags *flags = run->flags;
    kb_catalog_open_options options = {
        .allow_pruned = flags->allow_pruned,
        .from_manifest = flags->from_manifest,
        .from_backup_json = flags->from_backup_json,
        .allow_overlap = flags->overlap_skip,
    };
    kb_catalog_state state;
    if (kb_run_context_storage(run, KB_FS_READ, &storage, err) != KB_OK ||
        kb_run_context_find_backup(run, storage, err) != KB_OK ||
        kb_catalog_open(storage, run->config->backup_id, &options, &backup, &state, err) != KB_OK)
        return err->code;
    for (size_t i = 0; i < backup->warning_count; i++)
        kb_log(KB_LOG_WARN, "tolerated in the index", KB_STR("backup", backup->backup_id),
               KB_STR("err", backup->warnings[i]));
    return flags->format == KB_OUTPUT_TEXT ? print_text(backup, state, err)
                                           : print_json(storage, backup, state, err);
}

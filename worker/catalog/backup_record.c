#include "worker/catalog/backup_record.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/catalog/catalog_json.h"
#include "worker/catalog/json_fields.h"
#include "worker/catalog/key_check.h"
#include "worker/catalog/layout.h"
#include "worker/catalog/manifest.h"

/* ---- writing ---- */

static void put_partition(kb_json_writer *w, const kb_backup *backup, const kb_partition_entry *partition)
{
    kb_json_put_begin_object(w);
    kb_json_field_i64(w, "partition", partition->partition);
    kb_json_field_i64(w, "logStart", partition->log_start);
    kb_json_field_i64(w, "highWatermark", partition->high_watermark);
    kb_json_field_i64(w, "cut", partition->cut);
    kb_json_field_i64(w, "from", partition->from);
    kb_json_field_i64(w, "to", partition->to);
    kb_json_field_i64(w, "records", partition->records);
    kb_put_digest(w, "digest", &partition->digest);
    kb_json_put_name(w, "gaps");
    kb_put_gaps(w, partition->gaps, partition->gap_count);
    kb_json_put_name(w, "segments");
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < partition->segment_count; i++)
        kb_put_segment(w, backup, &partition->segments[i]);
    kb_json_put_end_array(w);
    kb_json_put_name(w, "probes");
    kb_put_probes(w, partition->probes, partition->probe_count);
    kb_json_put_end_object(w);
}

static void put_topic(kb_json_writer *w, const kb_backup *backup, const kb_topic_entry *topic)
{
    kb_json_put_begin_object(w);
    kb_put_topic_head(w, topic);
    kb_json_field_text(w, "state", kb_topic_state_name(topic->state));
    kb_json_field_text(w, "timestampType", topic->timestamp_type);
    kb_json_field_i64(w, "maxRecordBytes", topic->max_record_bytes);
    kb_json_put_name(w, "partitions");
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < topic->listed_count; i++)
        put_partition(w, backup, &topic->partitions[i]);
    kb_json_put_end_array(w);
    kb_json_put_end_object(w);
}

static void put_head(kb_json_writer *w, const kb_backup *backup)
{
    kb_json_field_i64(w, "formatVersion", KB_BACKUP_FORMAT_VERSION);
    kb_json_field_i64(w, "minReader", KB_BACKUP_MIN_READER);
    kb_json_field_text(w, "generator", backup->generator);
    kb_json_field_text(w, "backupId", backup->backup_id);
    kb_json_field_text(w, "lineage", backup->lineage != NULL ? backup->lineage : "");
    kb_json_field_text(w, "owner", backup->owner);
    kb_json_field_i64(w, "createdAt", backup->created_at);
    kb_json_field_i64(w, "snapshotTime", backup->cut_time);
    kb_json_field_i64(w, "completedAt", backup->completed_at);
    kb_json_field_text(w, "clusterId", backup->cluster_id);
    kb_json_field_text(w, "base", backup->base);
    kb_json_field_i64(w, "depth", backup->depth);
    kb_json_put_name(w, "uses");
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < backup->use_count; i++)
        kb_json_put_text(w, backup->uses[i]);
    kb_json_put_end_array(w);
    kb_json_put_name(w, "content");
    kb_put_content(w, &backup->content);
    kb_json_field_text(w, "compression", backup->compression);
    kb_json_field_bool(w, "conditionalPut", backup->conditional_put);
}

static void put_body(kb_json_writer *w, const kb_backup *backup, const kb_backup_totals *totals)
{
    kb_json_put_name(w, "totals");
    kb_put_totals(w, totals);
    kb_json_put_name(w, "skippedTopics");
    kb_put_skipped(w, backup->skipped, backup->skipped_count);
    kb_json_put_name(w, "findings");
    kb_put_findings(w, backup->findings, backup->finding_count);
    kb_json_put_name(w, "groups");
    kb_put_groups(w, backup->groups);
    kb_json_put_name(w, "topics");
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < backup->topic_count; i++)
        put_topic(w, backup, &backup->topics[i]);
    kb_json_put_end_array(w);
}

kb_code kb_backup_record_write(const kb_backup *backup, kb_strbuf *out, kb_error *err)
{
    static const uint8_t no_hash[KB_SHA256_SIZE] = {0};
    uint8_t manifest_sha256[KB_SHA256_SIZE];
    int64_t manifest_size = 0;
    kb_backup_totals totals;
    kb_code code = kb_backup_totals_of(backup, &totals, err);
    if (code == KB_OK)
        code = kb_manifest_hash(backup, manifest_sha256, &manifest_size, err);
    if (code != KB_OK)
        return code;
    size_t begin = out->len;
    kb_json_writer *w KB_CLEANUP(kb_json_writer_free_at) = kb_json_writer_new(KB_JSON_PRETTY, out);
    kb_json_put_begin_object(w);
    put_head(w, backup);
    put_body(w, backup, &totals);
    kb_json_put_name(w, "manifest");
    kb_json_put_begin_object(w);
    kb_put_hash(w, "sha256", manifest_sha256);
    kb_json_field_i64(w, "size", manifest_size);
    kb_json_put_end_object(w);
    kb_put_hash(w, "sha256", no_hash);
    kb_json_put_end_object(w);
    code = kb_json_writer_finish(w, err);
    return code == KB_OK ? kb_self_hash_write(out->data + begin, out->len - begin, err) : code;
}

/* ---- reading ---- */

/* What stands in the file beside the backup itself. */
typedef struct record_state {
    kb_backup *backup;
    const char *backup_id;
    kb_backup_totals totals;
    size_t declared_uses;
    size_t partition_count;
    size_t segment_count;
    bool has_names;
} record_state;

static kb_code read_min_reader(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    kb_backup *backup = target;
    (void)ctx;
    kb_code code = kb_json_get_i32(reader, &backup->min_reader, err);
    if (code == KB_OK && (backup->min_reader < 1 || backup->min_reader > KB_BACKUP_FORMAT_VERSION))
        return kb_json_fail(reader, err, "the backup needs a newer reader (minReader %d, this one is %d)",
                            (int)backup->min_reader, KB_BACKUP_FORMAT_VERSION);
    return code;
}

static kb_code read_backup_id(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)target;
    const record_state *state = ctx;
    kb_view id;
    kb_code code = kb_json_get_string(reader, &id, err);
    if (code == KB_OK && !kb_json_is(id, state->backup_id))
        return kb_json_fail(reader, err, "it is the backup.json of another backup than '%s'",
                            state->backup_id);
    return code;
}

static kb_code read_use(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    record_state *state = ctx;
    KB_AUTOFREE char *id = NULL;
    kb_code code = kb_json_get_text(reader, &id, err);
    if (code == KB_OK)
        code = kb_layout_check_id(id, err);
    if (code == KB_CONFIG_INVALID || (code == KB_OK && strcmp(id, state->backup_id) == 0))
        return kb_json_fail(reader, err, "'%s' is not the id of another backup", id);
    if (code != KB_OK)
        return code;
    (void)kb_backup_add_use(target, id);
    state->declared_uses++;
    return KB_OK;
}

static kb_code read_uses(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    return kb_elements_read(reader, read_use, target, ctx, err);
}

static kb_code read_totals(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)target;
    record_state *state = ctx;
    return kb_read_totals(reader, &state->totals, err);
}

/* The partition with the sums as the file states them. */
typedef struct partition_state {
    kb_partition_entry entry; /* first: shared readers take the whole for it */
    int64_t records;
    kb_digest digest;
} partition_state;

static void partition_state_done(partition_state *state)
{
    kb_partition_entry_done(&state->entry);
}

static kb_code read_segments(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    const record_state *state = ctx;
    return kb_read_partition_segments(reader, target, state->backup, err);
}

#define AT(member) offsetof(partition_state, member)
static const kb_field partition_fields[] = {
    {"partition", KB_FIELD_COUNT32, KB_FIELD_REQUIRED, AT(entry.partition), NULL},
    {"logStart", KB_FIELD_I64, KB_FIELD_REQUIRED, AT(entry.log_start), NULL},
    {"highWatermark", KB_FIELD_I64, KB_FIELD_REQUIRED, AT(entry.high_watermark), NULL},
    {"cut", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(entry.cut), NULL},
    {"from", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(entry.from), NULL},
    {"to", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(entry.to), NULL},
    {"records", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(records), NULL},
    {"digest", KB_FIELD_DIGEST, KB_FIELD_REQUIRED, AT(digest), NULL},
    {"gaps", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, kb_read_partition_gaps},
    {"segments", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_segments},
    {"probes", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, kb_read_partition_probes},
};
#undef AT

static kb_code check_partition(kb_json_reader *reader, record_state *state, const partition_state *read,
                               kb_error *err)
{
    const kb_partition_entry *partition = &read->entry;
    if (partition->records != read->records)
        return kb_json_fail(reader, err, "records is %lld, but the segments have %lld",
                            (long long)read->records, (long long)partition->records);
    if (!kb_digest_is_equal(&partition->digest, &read->digest))
        return kb_json_fail(reader, err, "digest is not the sum of the segments' digests");
    state->segment_count += partition->segment_count;
    if (++state->partition_count > KB_CATALOG_PARTITIONS_MAX)
        return kb_json_fail(reader, err, "more than %d partitions", KB_CATALOG_PARTITIONS_MAX);
    if (state->segment_count > KB_CATALOG_SEGMENTS_MAX)
        return kb_json_fail(reader, err, "more than %d segments", KB_CATALOG_SEGMENTS_MAX);
    for (size_t i = 0; i < partition->segment_count && !state->has_names; i++)
        state->has_names = partition->segments[i].name != NULL;
    kb_code code = kb_partition_check_tiling(partition, err);
    return code == KB_OK ? KB_OK : kb_fields_locate(reader, err);
}

static kb_code read_partition(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    partition_state read KB_CLEANUP(partition_state_done) = {.entry = {.reuse_up_to = -1}};
    kb_code code =
        kb_fields_read(reader, partition_fields, KB_ARRAY_LEN(partition_fields), &read, ctx, NULL, err);
    if (code == KB_OK)
        code = check_partition(reader, ctx, &read, err);
    if (code != KB_OK)
        return code;
    read.entry.done = true;
    return kb_settle_partition(reader, target, &read.entry, err);
}

static kb_code read_partitions(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    return kb_elements_read(reader, read_partition, target, ctx, err);
}

static kb_code read_state(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    kb_topic_entry *topic = target;
    KB_AUTOFREE char *text = NULL;
    kb_code code = kb_json_get_text(reader, &text, err);
    if (code == KB_OK && !kb_topic_state_parse(text, &topic->state))
        return kb_json_fail(reader, err, "unknown topic state '%s'", text);
    return code;
}

#define AT(member) offsetof(kb_topic_entry, member)
static const kb_field topic_fields[] = {
    {"name", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(name), NULL},
    {"topicId", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED | KB_FIELD_NULLABLE, 0, kb_read_topic_id},
    {"partitionCount", KB_FIELD_COUNT32, KB_FIELD_REQUIRED, AT(partition_count), NULL},
    {"replicationFactor", KB_FIELD_I32, KB_FIELD_REQUIRED, AT(replication_factor), NULL},
    {"configs", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, kb_read_topic_configs},
    {"state", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_state},
    {"timestampType", KB_FIELD_TEXT, KB_FIELD_REQUIRED | KB_FIELD_NULLABLE, AT(timestamp_type), NULL},
    {"maxRecordBytes", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(max_record_bytes), NULL},
    {"partitions", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_partitions},
};
#undef AT

static kb_code read_topic(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    kb_topic_entry topic KB_CLEANUP(kb_topic_entry_done) = {0};
    kb_code code = kb_fields_read(reader, topic_fields, KB_ARRAY_LEN(topic_fields), &topic, ctx, NULL, err);
    return code == KB_OK ? kb_settle_topic(reader, target, &topic, err) : code;
}

static kb_code read_topics(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    return kb_elements_read(reader, read_topic, target, ctx, err);
}

#define AT(member) offsetof(kb_backup, member)
static const kb_field manifest_fields[] = {
    {"sha256", KB_FIELD_SHA256, KB_FIELD_REQUIRED, AT(manifest_sha256), NULL},
    {"size", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(manifest_size), NULL},
};

static kb_code read_manifest(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    kb_backup *backup = target;
    backup->has_manifest_hash = true;
    return kb_fields_read(reader, manifest_fields, KB_ARRAY_LEN(manifest_fields), target, ctx, NULL, err);
}

static const kb_field record_fields[] = {
    {"formatVersion", KB_FIELD_COUNT32, KB_FIELD_REQUIRED, AT(format_version), NULL},
    {"minReader", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_min_reader},
    {"generator", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(generator), NULL},
    {"backupId", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_backup_id},
    {"lineage", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(lineage), NULL},
    {"owner", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(owner), NULL},
    {"createdAt", KB_FIELD_I64, KB_FIELD_REQUIRED, AT(created_at), NULL},
    {"snapshotTime", KB_FIELD_I64, KB_FIELD_REQUIRED, AT(cut_time), NULL},
    {"completedAt", KB_FIELD_I64, KB_FIELD_REQUIRED, AT(completed_at), NULL},
    {"clusterId", KB_FIELD_TEXT, KB_FIELD_REQUIRED | KB_FIELD_NULLABLE, AT(cluster_id), NULL},
    {"base", KB_FIELD_TEXT, KB_FIELD_REQUIRED | KB_FIELD_NULLABLE, AT(base), NULL},
    {"depth", KB_FIELD_COUNT32, KB_FIELD_REQUIRED, AT(depth), NULL},
    {"uses", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_uses},
    {"content", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, kb_read_backup_content},
    {"compression", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(compression), NULL},
    {"conditionalPut", KB_FIELD_BOOL, KB_FIELD_REQUIRED, AT(conditional_put), NULL},
    {"totals", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_totals},
    {"skippedTopics", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, kb_read_backup_skipped},
    {"findings", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, kb_read_backup_findings},
    {"groups", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED | KB_FIELD_NULLABLE, 0, kb_read_backup_groups},
    {"topics", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_topics},
    {"manifest", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_manifest},
};
#undef AT

static kb_code check_record(const record_state *state, kb_error *err)
{
    kb_backup *backup = state->backup;
    if (backup->use_count != state->declared_uses)
        return kb_fail(err, KB_ERR_FORMAT,
                       "'uses' does not name exactly the backups whose segments are listed");
    if ((backup->base == NULL) != (backup->depth == 0))
        return kb_fail(err, KB_ERR_FORMAT, "'base' and 'depth' contradict each other");
    kb_codec codec;
    if (!kb_codec_parse(backup->compression, &codec))
        return kb_fail(err, KB_ERR_FORMAT, "unknown compression '%s'", backup->compression);
    kb_backup_totals totals;
    kb_code code = kb_backup_totals_of(backup, &totals, err);
    if (code != KB_OK)
        return code;
    if (!kb_totals_equal(&totals, &state->totals))
        return kb_fail(err, KB_ERR_FORMAT, "'totals' are not those of the topics");
    return state->has_names ? kb_backup_check_keys(backup, err) : KB_OK;
}

static kb_code read_record(kb_json_reader *reader, record_state *state, kb_error *err)
{
    kb_code code =
        kb_fields_read(reader, record_fields, KB_ARRAY_LEN(record_fields), state->backup, state, NULL, err);
    if (code == KB_OK)
        code = kb_json_end(reader, err);
    return code == KB_OK ? check_record(state, err) : code;
}

kb_code kb_backup_record_read_source(kb_object_source *source, const char *backup_id, kb_backup **ret_backup,
                                     kb_error *err)
{
    if (kb_object_source_size(source) > KB_BACKUP_JSON_MAX_BYTES)
        return kb_fail(err, KB_ERR_TOO_LARGE, "backup.json is larger than %zu bytes",
                       KB_BACKUP_JSON_MAX_BYTES);
    KB_AUTO_BACKUP kb_backup *backup = kb_backup_new(backup_id);
    record_state state = {.backup = backup, .backup_id = backup_id};
    kb_json_reader *reader KB_CLEANUP(kb_json_reader_free_at) =
        kb_json_reader_new_source(kb_object_source_next, source, NULL);
    kb_code code = read_record(reader, &state, err);
    if (code == KB_OK)
        code = kb_object_source_check_self_hash(source, err);
    if (code != KB_OK)
        return code;
    if (backup->lineage[0] == '\0')
        kb_text_set(&backup->lineage, NULL);
    *ret_backup = KB_TAKE(backup);
    return KB_OK;
}

kb_code kb_backup_record_read(const void *data, size_t len, const char *backup_id, kb_backup **ret_backup,
                              kb_error *err)
{
    kb_object_source *source KB_CLEANUP(kb_object_source_free_at) =
        kb_object_source_of(kb_view_of(data, len));
    return kb_backup_record_read_source(source, backup_id, ret_backup, err);
}

/* Ends the reading of the summary: everything it needs stands before. */
static kb_code stop_at_topics(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)target;
    record_state *state = ctx;
    if (state->totals.topics < 0)
        return kb_json_skip(reader, err);
    return KB_ERR_END;
}

kb_code kb_backup_record_read_summary(kb_object_source *source, const char *backup_id, kb_backup **ret_backup,
                                      kb_backup_totals *ret_totals, kb_error *err)
{
    kb_field fields[KB_ARRAY_LEN(record_fields)];
    memcpy(fields, record_fields, sizeof fields);
    for (size_t i = 0; i < KB_ARRAY_LEN(fields); i++)
        if (strcmp(fields[i].name, "topics") == 0)
            fields[i].read = stop_at_topics;
    KB_AUTO_BACKUP kb_backup *backup = kb_backup_new(backup_id);
    record_state state = {.backup = backup, .backup_id = backup_id, .totals = {.topics = -1}};
    kb_json_reader *reader KB_CLEANUP(kb_json_reader_free_at) =
        kb_json_reader_new_source(kb_object_source_next, source, NULL);
    kb_code code = kb_fields_read(reader, fields, KB_ARRAY_LEN(fields), backup, &state, NULL, err);
    if (code != KB_OK && code != KB_ERR_END)
        return code;
    if (state.totals.topics < 0 || backup->owner == NULL || backup->lineage == NULL)
        return kb_fail(err, KB_ERR_FORMAT, "it is no whole backup.json");
    if (backup->lineage[0] == '\0')
        kb_text_set(&backup->lineage, NULL);
    *ret_totals = state.totals;
    *ret_backup = KB_TAKE(backup);
    return KB_OK;
}

#include "worker/catalog/catalog_json.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/encode.h"
#include "common/base/mem.h"
#include "worker/catalog/json_fields.h"
#include "worker/catalog/layout.h"

#define GAP_REASON "offset_out_of_range"
/* Beyond what a broker has, or a run of the greatest size can find. */
#define CONFIGS_MAX 1000
#define FINDINGS_MAX 400000

/* ---- writing ---- */

void kb_put_hash(kb_json_writer *w, const char *name, const uint8_t hash[KB_SHA256_SIZE])
{
    char hex[2 * KB_SHA256_SIZE + 1];
    kb_hex_encode(hash, KB_SHA256_SIZE, hex);
    kb_json_field_text(w, name, hex);
}

void kb_put_digest(kb_json_writer *w, const char *name, const kb_digest *digest)
{
    char hex[KB_DIGEST_HEX_SIZE];
    kb_digest_hex(digest, hex);
    kb_json_field_text(w, name, hex);
}

void kb_put_segment(kb_json_writer *w, const kb_backup *backup, const kb_segment_entry *segment)
{
    kb_json_put_begin_object(w);
    if (segment->owner != KB_OWNER_SELF)
        kb_json_field_text(w, "in", backup->uses[segment->owner]);
    if (segment->name != NULL)
        kb_json_field_text(w, "file", segment->name);
    kb_json_field_i64(w, "start", segment->start);
    kb_json_field_i64(w, "end", segment->end);
    kb_json_field_i64(w, "from", segment->from);
    kb_json_field_i64(w, "to", segment->to);
    kb_json_field_i64(w, "count", segment->count);
    kb_json_field_i64(w, "minTs", segment->min_ts);
    kb_json_field_i64(w, "maxTs", segment->max_ts);
    kb_json_field_i64(w, "rawBytes", segment->raw_bytes);
    kb_json_field_i64(w, "bytes", segment->bytes);
    kb_json_field_text(w, "codec", kb_codec_name((kb_codec)segment->codec));
    kb_put_digest(w, "digest", &segment->digest);
    kb_put_hash(w, "sha256", segment->sha256);
    kb_json_put_end_object(w);
}

void kb_put_gaps(kb_json_writer *w, const kb_gap *gaps, size_t count)
{
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < count; i++) {
        kb_json_put_begin_object(w);
        kb_json_field_i64(w, "start", gaps[i].start);
        kb_json_field_i64(w, "end", gaps[i].end);
        kb_json_field_text(w, "reason", GAP_REASON);
        kb_json_field_i64(w, "detectedAt", gaps[i].detected_at);
        kb_json_put_end_object(w);
    }
    kb_json_put_end_array(w);
}

void kb_put_probes(kb_json_writer *w, const kb_probe *probes, size_t count)
{
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < count; i++) {
        kb_json_put_begin_object(w);
        kb_json_field_i64(w, "offset", probes[i].offset);
        kb_put_hash(w, "sha256", probes[i].sha256);
        kb_json_put_end_object(w);
    }
    kb_json_put_end_array(w);
}

void kb_put_findings(kb_json_writer *w, const kb_finding_entry *findings, size_t count)
{
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < count; i++) {
        kb_json_put_begin_object(w);
        kb_json_field_text(w, "reason", findings[i].reason);
        kb_json_field_text(w, "topic", findings[i].topic);
        if (findings[i].partition >= 0)
            kb_json_field_i64(w, "partition", findings[i].partition);
        else
            kb_json_field_null(w, "partition");
        kb_json_field_text(w, "detail", findings[i].detail);
        kb_json_put_end_object(w);
    }
    kb_json_put_end_array(w);
}

void kb_put_skipped(kb_json_writer *w, const kb_skipped_topic *skipped, size_t count)
{
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < count; i++) {
        kb_json_put_begin_object(w);
        kb_json_field_text(w, "name", skipped[i].name);
        kb_json_field_text(w, "reason", skipped[i].reason);
        kb_json_put_end_object(w);
    }
    kb_json_put_end_array(w);
}

void kb_put_groups(kb_json_writer *w, const kb_groups_ref *groups)
{
    if (groups == NULL) {
        kb_json_put_null(w);
        return;
    }
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "key", groups->key);
    kb_put_hash(w, "sha256", groups->sha256);
    kb_json_field_i64(w, "count", groups->count);
    kb_json_field_bool(w, "complete", groups->complete);
    kb_json_put_end_object(w);
}

void kb_put_content(kb_json_writer *w, const kb_backup_content *content)
{
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "isolation", content->isolation);
    kb_json_field_bool(w, "offsetHeaders", content->offset_headers);
    kb_json_field_text(w, "sourceClusterHeader", content->source_cluster_header);
    kb_json_put_end_object(w);
}

void kb_put_totals(kb_json_writer *w, const kb_backup_totals *totals)
{
    kb_json_put_begin_object(w);
    kb_json_field_i64(w, "topics", totals->topics);
    kb_json_field_i64(w, "partitions", totals->partitions);
    kb_json_field_i64(w, "segments", totals->segments);
    kb_json_field_i64(w, "reusedSegments", totals->reused_segments);
    kb_json_field_i64(w, "records", totals->records);
    kb_json_field_i64(w, "rawBytes", totals->raw_bytes);
    kb_json_field_i64(w, "storedBytes", totals->stored_bytes);
    kb_json_field_i64(w, "reusedBytes", totals->reused_bytes);
    kb_json_field_i64(w, "gaps", totals->gaps);
    kb_json_field_i64(w, "gapOffsets", totals->gap_offsets);
    if (totals->has_timestamps) {
        kb_json_field_i64(w, "minTimestamp", totals->min_timestamp);
        kb_json_field_i64(w, "maxTimestamp", totals->max_timestamp);
    } else {
        kb_json_field_null(w, "minTimestamp");
        kb_json_field_null(w, "maxTimestamp");
    }
    kb_json_put_end_object(w);
}

void kb_put_topic_head(kb_json_writer *w, const kb_topic_entry *topic)
{
    char id[KB_BASE64_TEXT_SIZE(KB_TOPIC_ID_SIZE)];
    (void)kb_base64url_encode(topic->topic_id, sizeof topic->topic_id, id);
    kb_json_field_text(w, "name", topic->name);
    kb_json_field_text(w, "topicId", topic->has_topic_id ? id : NULL);
    kb_json_field_i64(w, "partitionCount", topic->partition_count);
    kb_json_field_i64(w, "replicationFactor", topic->replication_factor);
    kb_json_put_name(w, "configs");
    kb_json_put_begin_object(w);
    for (size_t i = 0; i < topic->config_count; i++)
        kb_json_field_text(w, topic->configs[i].name, topic->configs[i].value);
    kb_json_put_end_object(w);
}

/* ---- reading ---- */

/* A segment as the JSON has it. */
typedef struct read_segment_state {
    kb_segment_entry entry;
    char *owner;
    char *codec;
} read_segment_state;

static void segment_state_done(read_segment_state *state)
{
    kb_segment_entry_done(&state->entry);
    free(state->owner);
    free(state->codec);
}

#define AT(member) offsetof(read_segment_state, member)
static const kb_field segment_fields[] = {
    {"in", KB_FIELD_TEXT, 0, AT(owner), NULL},
    {"file", KB_FIELD_TEXT, 0, AT(entry.name), NULL},
    {"start", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(entry.start), NULL},
    {"end", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(entry.end), NULL},
    {"from", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(entry.from), NULL},
    {"to", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(entry.to), NULL},
    {"count", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(entry.count), NULL},
    {"minTs", KB_FIELD_I64, KB_FIELD_REQUIRED, AT(entry.min_ts), NULL},
    {"maxTs", KB_FIELD_I64, KB_FIELD_REQUIRED, AT(entry.max_ts), NULL},
    {"rawBytes", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(entry.raw_bytes), NULL},
    {"bytes", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(entry.bytes), NULL},
    {"codec", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(codec), NULL},
    {"digest", KB_FIELD_DIGEST, KB_FIELD_REQUIRED, AT(entry.digest), NULL},
    {"sha256", KB_FIELD_SHA256, KB_FIELD_REQUIRED, AT(entry.sha256), NULL},
};
#undef AT

/* A file name of its own: one part of a key, not hidden. */
static bool is_file_name(const char *name)
{
    if (name[0] == '\0' || name[0] == '.' || strlen(name) > 255)
        return false;
    for (const char *c = name; *c != '\0'; c++)
        if (*c == '/' || *c == '\\' || (unsigned char)*c < 0x20 || *c == 0x7f)
            return false;
    return true;
}

static kb_code finish_segment(kb_json_reader *reader, kb_backup *backup, read_segment_state *state,
                              kb_error *err)
{
    kb_codec codec = KB_CODEC_NONE;
    if (!kb_codec_parse(state->codec, &codec))
        return kb_json_fail(reader, err, "unknown codec '%s'", state->codec);
    state->entry.codec = (uint8_t)codec;
    state->entry.has_hashes = true;
    state->entry.owner = KB_OWNER_SELF;
    if (state->entry.name != NULL && !is_file_name(state->entry.name))
        return kb_json_fail(reader, err, "'%s' is no file name of a segment", state->entry.name);
    if (state->owner == NULL)
        return KB_OK;
    kb_code code = kb_layout_check_id(state->owner, err);
    if (code != KB_OK)
        return kb_json_fail(reader, err, "'%s' is no backup id", state->owner);
    if (strcmp(state->owner, backup->backup_id) != 0)
        state->entry.owner = kb_backup_add_use(backup, state->owner);
    return KB_OK;
}

static kb_code read_segment(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    kb_partition_entry *partition = target;
    read_segment_state state KB_CLEANUP(segment_state_done) = {.owner = NULL};
    kb_code code =
        kb_fields_read(reader, segment_fields, KB_ARRAY_LEN(segment_fields), &state, NULL, NULL, err);
    if (code == KB_OK)
        code = finish_segment(reader, ctx, &state, err);
    if (code != KB_OK)
        return code;
    if (partition->segment_count > 0 &&
        partition->segments[partition->segment_count - 1].start >= state.entry.start)
        return kb_json_fail(reader, err, "segments do not ascend");
    code = kb_partition_add_segment(partition, &state.entry, err);
    return code == KB_OK ? KB_OK : kb_fields_locate(reader, err);
}

kb_code kb_read_partition_segments(kb_json_reader *reader, void *partition, void *backup, kb_error *err)
{
    return kb_elements_read(reader, read_segment, partition, backup, err);
}

static const kb_field gap_fields[] = {
    {"start", KB_FIELD_COUNT, KB_FIELD_REQUIRED, offsetof(kb_gap, start), NULL},
    {"end", KB_FIELD_COUNT, KB_FIELD_REQUIRED, offsetof(kb_gap, end), NULL},
    {"detectedAt", KB_FIELD_I64, KB_FIELD_REQUIRED, offsetof(kb_gap, detected_at), NULL},
};

static kb_code read_gap(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    kb_partition_entry *partition = target;
    kb_gap gap = {0};
    kb_code code = kb_fields_read(reader, gap_fields, KB_ARRAY_LEN(gap_fields), &gap, NULL, NULL, err);
    if (code != KB_OK)
        return code;
    if (partition->gap_count > 0 && partition->gaps[partition->gap_count - 1].start >= gap.start)
        return kb_json_fail(reader, err, "gaps do not ascend");
    code = kb_partition_add_gap(partition, gap, err);
    return code == KB_OK ? KB_OK : kb_fields_locate(reader, err);
}

kb_code kb_read_partition_gaps(kb_json_reader *reader, void *partition, void *backup, kb_error *err)
{
    return kb_elements_read(reader, read_gap, partition, backup, err);
}

static const kb_field probe_fields[] = {
    {"offset", KB_FIELD_COUNT, KB_FIELD_REQUIRED, offsetof(kb_probe, offset), NULL},
    {"sha256", KB_FIELD_SHA256, KB_FIELD_REQUIRED, offsetof(kb_probe, sha256), NULL},
};

static kb_code read_probe(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    kb_probe probe = {0};
    kb_code code = kb_fields_read(reader, probe_fields, KB_ARRAY_LEN(probe_fields), &probe, NULL, NULL, err);
    if (code == KB_OK)
        kb_partition_add_probe(target, &probe);
    return code;
}

kb_code kb_read_partition_probes(kb_json_reader *reader, void *partition, void *backup, kb_error *err)
{
    return kb_elements_read(reader, read_probe, partition, backup, err);
}

static void finding_done(kb_finding_entry *finding)
{
    free(finding->reason);
    free(finding->topic);
    free(finding->detail);
}

static const kb_field finding_fields[] = {
    {"reason", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(kb_finding_entry, reason), NULL},
    {"topic", KB_FIELD_TEXT, KB_FIELD_NULLABLE, offsetof(kb_finding_entry, topic), NULL},
    {"partition", KB_FIELD_COUNT32, KB_FIELD_NULLABLE, offsetof(kb_finding_entry, partition), NULL},
    {"detail", KB_FIELD_TEXT, KB_FIELD_NULLABLE, offsetof(kb_finding_entry, detail), NULL},
};

static kb_code read_finding(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    kb_finding_entry finding KB_CLEANUP(finding_done) = {.partition = -1};
    kb_code code =
        kb_fields_read(reader, finding_fields, KB_ARRAY_LEN(finding_fields), &finding, NULL, NULL, err);
    if (code == KB_OK && ((kb_backup *)target)->finding_count == FINDINGS_MAX)
        return kb_json_fail(reader, err, "more than %d findings", FINDINGS_MAX);
    if (code == KB_OK)
        kb_backup_add_finding(target, finding.reason, finding.topic, finding.partition, finding.detail);
    return code;
}

kb_code kb_read_backup_findings(kb_json_reader *reader, void *backup, void *ctx, kb_error *err)
{
    return kb_elements_read(reader, read_finding, backup, ctx, err);
}

static void skipped_done(kb_skipped_topic *skipped)
{
    free(skipped->name);
    free(skipped->reason);
}

static const kb_field skipped_fields[] = {
    {"name", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(kb_skipped_topic, name), NULL},
    {"reason", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(kb_skipped_topic, reason), NULL},
};

static kb_code read_skipped(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    kb_skipped_topic skipped KB_CLEANUP(skipped_done) = {NULL, NULL};
    kb_code code =
        kb_fields_read(reader, skipped_fields, KB_ARRAY_LEN(skipped_fields), &skipped, NULL, NULL, err);
    if (code == KB_OK && ((kb_backup *)target)->skipped_count == KB_CATALOG_TOPICS_MAX)
        return kb_json_fail(reader, err, "more than %d skipped topics", KB_CATALOG_TOPICS_MAX);
    if (code == KB_OK)
        kb_backup_add_skipped(target, skipped.name, skipped.reason);
    return code;
}

kb_code kb_read_backup_skipped(kb_json_reader *reader, void *backup, void *ctx, kb_error *err)
{
    return kb_elements_read(reader, read_skipped, backup, ctx, err);
}

static void groups_done(kb_groups_ref *groups)
{
    free(groups->key);
}

static const kb_field groups_fields[] = {
    {"key", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(kb_groups_ref, key), NULL},
    {"sha256", KB_FIELD_SHA256, KB_FIELD_REQUIRED, offsetof(kb_groups_ref, sha256), NULL},
    {"count", KB_FIELD_COUNT, KB_FIELD_REQUIRED, offsetof(kb_groups_ref, count), NULL},
    {"complete", KB_FIELD_BOOL, KB_FIELD_REQUIRED, offsetof(kb_groups_ref, complete), NULL},
};

kb_code kb_read_backup_groups(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    kb_backup *backup = target;
    kb_groups_ref groups KB_CLEANUP(groups_done) = {.key = NULL};
    kb_code code =
        kb_fields_read(reader, groups_fields, KB_ARRAY_LEN(groups_fields), &groups, NULL, NULL, err);
    if (code != KB_OK)
        return code;
    KB_AUTOFREE char *key = kb_layout_groups_key(backup->backup_id);
    if (strcmp(key, groups.key) != 0)
        return kb_json_fail(reader, err, "the group snapshot's key is '%s' instead of '%s'", groups.key, key);
    kb_backup_set_groups(backup, groups.key, groups.sha256, groups.count, groups.complete);
    return KB_OK;
}

static const kb_field content_fields[] = {
    {"isolation", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(kb_backup_content, isolation), NULL},
    {"offsetHeaders", KB_FIELD_BOOL, KB_FIELD_REQUIRED, offsetof(kb_backup_content, offset_headers), NULL},
    {"sourceClusterHeader", KB_FIELD_TEXT, KB_FIELD_NULLABLE,
     offsetof(kb_backup_content, source_cluster_header), NULL},
};

kb_code kb_read_backup_content(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    kb_backup *backup = target;
    return kb_fields_read(reader, content_fields, KB_ARRAY_LEN(content_fields), &backup->content, NULL, NULL,
                          err);
}

kb_code kb_read_topic_id(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    kb_topic_entry *topic = target;
    kb_view text;
    kb_code code = kb_json_get_string(reader, &text, err);
    if (code != KB_OK)
        return code;
    uint8_t id[KB_BASE64_DATA_SIZE(KB_BASE64_TEXT_SIZE(KB_TOPIC_ID_SIZE))];
    size_t len = 0;
    if (text.len < KB_BASE64_TEXT_SIZE(KB_TOPIC_ID_SIZE)) {
        KB_AUTO_ERROR(ignored);
        if (kb_base64url_decode((const char *)text.data, text.len, id, &len, &ignored) != KB_OK)
            len = 0;
    }
    if (len != KB_TOPIC_ID_SIZE)
        return kb_json_fail(reader, err, "not a topic id");
    memcpy(topic->topic_id, id, KB_TOPIC_ID_SIZE);
    topic->has_topic_id = true;
    return KB_OK;
}

kb_code kb_read_topic_configs(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    kb_code code = kb_json_begin_object(reader, err);
    if (code != KB_OK)
        return code;
    kb_view name;
    while ((code = kb_json_next_name(reader, &name, err)) == KB_OK) {
        if (((kb_topic_entry *)target)->config_count == CONFIGS_MAX)
            return kb_json_fail(reader, err, "more than %d configs of a topic", CONFIGS_MAX);
        KB_AUTOFREE char *key = kb_strndup((const char *)name.data, name.len);
        KB_AUTOFREE char *value = NULL;
        bool is_null = false;
        code = kb_json_take_null(reader, &is_null, err);
        if (code == KB_OK && !is_null)
            code = kb_json_get_text(reader, &value, err);
        if (code != KB_OK)
            return code;
        kb_topic_set_config(target, key, value);
    }
    return code == KB_ERR_END ? KB_OK : code;
}

#define AT(member) offsetof(kb_backup_totals, member)
static const kb_field totals_fields[] = {
    {"topics", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(topics), NULL},
    {"partitions", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(partitions), NULL},
    {"segments", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(segments), NULL},
    {"reusedSegments", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(reused_segments), NULL},
    {"records", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(records), NULL},
    {"rawBytes", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(raw_bytes), NULL},
    {"storedBytes", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(stored_bytes), NULL},
    {"reusedBytes", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(reused_bytes), NULL},
    {"gaps", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(gaps), NULL},
    {"gapOffsets", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(gap_offsets), NULL},
    {"minTimestamp", KB_FIELD_COUNT, KB_FIELD_REQUIRED | KB_FIELD_NULLABLE, AT(min_timestamp), NULL},
    {"maxTimestamp", KB_FIELD_COUNT, KB_FIELD_REQUIRED | KB_FIELD_NULLABLE, AT(max_timestamp), NULL},
};
#undef AT

kb_code kb_read_totals(kb_json_reader *reader, kb_backup_totals *totals, kb_error *err)
{
    /* -1 stays where a null stands; a number is not negative. */
    *totals = (kb_backup_totals){.min_timestamp = -1, .max_timestamp = -1};
    kb_code code =
        kb_fields_read(reader, totals_fields, KB_ARRAY_LEN(totals_fields), totals, NULL, NULL, err);
    if (code != KB_OK)
        return code;
    if ((totals->min_timestamp < 0) != (totals->max_timestamp < 0))
        return kb_json_fail(reader, err, "only one of minTimestamp and maxTimestamp is null");
    totals->has_timestamps = totals->min_timestamp >= 0;
    if (!totals->has_timestamps) {
        totals->min_timestamp = 0;
        totals->max_timestamp = 0;
    }
    return KB_OK;
}

bool kb_totals_equal(const kb_backup_totals *a, const kb_backup_totals *b)
{
    return a->topics == b->topics && a->partitions == b->partitions && a->segments == b->segments &&
           a->reused_segments == b->reused_segments && a->records == b->records &&
           a->raw_bytes == b->raw_bytes && a->stored_bytes == b->stored_bytes &&
           a->reused_bytes == b->reused_bytes && a->gaps == b->gaps && a->gap_offsets == b->gap_offsets &&
           a->has_timestamps == b->has_timestamps && a->min_timestamp == b->min_timestamp &&
           a->max_timestamp == b->max_timestamp;
}

/* ---- topics and partitions that move into their place once their name is known ---- */

kb_code kb_settle_partition(kb_json_reader *reader, kb_topic_entry *topic, kb_partition_entry *partition,
                            kb_error *err)
{
    const kb_partition_entry *last =
        topic->listed_count > 0 ? &topic->partitions[topic->listed_count - 1] : NULL;
    if (last != NULL && last->partition >= partition->partition)
        return kb_json_fail(reader, err, "partitions do not ascend, or stand there twice");
    if (topic->listed_count == KB_CATALOG_PARTITIONS_MAX)
        return kb_json_fail(reader, err, "more than %d partitions", KB_CATALOG_PARTITIONS_MAX);
    *kb_topic_append_partition(topic) = *partition;
    *partition = (kb_partition_entry){0};
    return KB_OK;
}

kb_code kb_settle_topic(kb_json_reader *reader, kb_backup *backup, kb_topic_entry *topic, kb_error *err)
{
    if (!kb_layout_is_topic_name(kb_view_of(topic->name, strlen(topic->name))))
        return kb_json_fail(reader, err, "'%s' is no topic name", topic->name);
    if (backup->topic_count == KB_CATALOG_TOPICS_MAX)
        return kb_json_fail(reader, err, "more than %d topics", KB_CATALOG_TOPICS_MAX);
    if (backup->topic_count > 0 && strcmp(backup->topics[backup->topic_count - 1].name, topic->name) >= 0)
        return kb_json_fail(reader, err, "topics do not ascend, or stand there twice");
    *kb_backup_append_topic(backup) = *topic;
    *topic = (kb_topic_entry){0};
    return KB_OK;
}

#include "worker/catalog/manifest.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_write.h"
#include "worker/catalog/json_fields.h"
#include "worker/catalog/key_check.h"
#include "worker/catalog/layout.h"

#define GAP_REASON "offset_out_of_range"

/* ---- writing ---- */

static void put_segment(kb_json_writer *w, const kb_backup *backup, const kb_topic_entry *topic,
                        const kb_partition_entry *partition, const kb_segment_entry *segment)
{
    KB_AUTOFREE char *key = kb_segment_key(backup, topic, partition, segment);
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "key", key);
    kb_json_field_i64(w, "start_offset", segment->start);
    kb_json_field_i64(w, "end_offset", segment->end);
    kb_json_field_i64(w, "start_timestamp", segment->min_ts);
    kb_json_field_i64(w, "end_timestamp", segment->max_ts);
    kb_json_field_i64(w, "record_count", segment->count);
    kb_json_field_i64(w, "uncompressed_size", segment->raw_bytes);
    kb_json_field_i64(w, "compressed_size", segment->bytes);
    kb_json_put_end_object(w);
}

/* The other reader knows gaps as an optional field and leaves it out when there are none. */
static void put_gaps(kb_json_writer *w, const kb_partition_entry *partition)
{
    if (partition->gap_count == 0)
        return;
    kb_json_put_name(w, "gaps");
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < partition->gap_count; i++) {
        const kb_gap *gap = &partition->gaps[i];
        kb_json_put_begin_object(w);
        kb_json_field_i64(w, "start_offset", gap->start);
        kb_json_field_i64(w, "end_offset", gap->end);
        kb_json_field_text(w, "reason", GAP_REASON);
        kb_json_field_i64(w, "detected_at", gap->detected_at);
        kb_json_put_end_object(w);
    }
    kb_json_put_end_array(w);
}

static void put_partition(kb_json_writer *w, const kb_backup *backup, const kb_topic_entry *topic,
                          const kb_partition_entry *partition)
{
    if (partition->segment_count == 0 && partition->gap_count == 0)
        return;
    kb_json_put_begin_object(w);
    kb_json_field_i64(w, "partition_id", partition->partition);
    kb_json_put_name(w, "segments");
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < partition->segment_count; i++)
        put_segment(w, backup, topic, partition, &partition->segments[i]);
    kb_json_put_end_array(w);
    put_gaps(w, partition);
    kb_json_put_end_object(w);
}

static void put_topic(kb_json_writer *w, const kb_backup *backup, const kb_topic_entry *topic)
{
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "name", topic->name);
    if (topic->partition_count >= 0)
        kb_json_field_i64(w, "original_partition_count", topic->partition_count);
    else
        kb_json_field_null(w, "original_partition_count");
    kb_json_put_name(w, "partitions");
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < topic->listed_count; i++)
        put_partition(w, backup, topic, &topic->partitions[i]);
    kb_json_put_end_array(w);
    kb_json_put_end_object(w);
}

static void put_manifest(kb_json_writer *w, const kb_backup *backup)
{
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "backup_id", backup->backup_id);
    kb_json_field_i64(w, "created_at", backup->created_at);
    kb_json_field_text(w, "source_cluster_id", backup->cluster_id);
    kb_json_put_name(w, "source_brokers");
    kb_json_put_begin_array(w);
    kb_json_put_end_array(w);
    kb_json_field_text(w, "compression", backup->compression != NULL ? backup->compression : "");
    kb_json_put_name(w, "topics");
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < backup->topic_count; i++)
        put_topic(w, backup, &backup->topics[i]);
    kb_json_put_end_array(w);
    kb_json_put_end_object(w);
}

kb_code kb_manifest_write(const kb_backup *backup, kb_strbuf *out, kb_error *err)
{
    kb_json_writer *w KB_CLEANUP(kb_json_writer_free_at) = kb_json_writer_new(KB_JSON_PRETTY, out);
    put_manifest(w, backup);
    return kb_json_writer_finish(w, err);
}

typedef struct hash_sink {
    kb_sha256_ctx *sha256;
    int64_t size;
} hash_sink;

static kb_code hash_part(void *ctx, kb_view part, kb_error *err)
{
    hash_sink *sink = ctx;
    kb_sha256_update(sink->sha256, part.data, part.len);
    sink->size += (int64_t)part.len;
    if (sink->size > (int64_t)KB_MANIFEST_MAX_BYTES)
        return kb_fail(err, KB_ERR_TOO_LARGE, "manifest.json would pass its limit of %zu bytes",
                       KB_MANIFEST_MAX_BYTES);
    return KB_OK;
}

kb_code kb_manifest_hash(const kb_backup *backup, uint8_t ret_sha256[KB_SHA256_SIZE], int64_t *ret_size,
                         kb_error *err)
{
    kb_sha256_ctx *sha256 KB_CLEANUP(kb_sha256_free_at) = kb_sha256_new();
    hash_sink sink = {sha256, 0};
    kb_json_writer *w KB_CLEANUP(kb_json_writer_free_at) =
        kb_json_writer_new_sink(KB_JSON_PRETTY, hash_part, &sink);
    put_manifest(w, backup);
    kb_code code = kb_json_writer_finish(w, err);
    if (code != KB_OK)
        return code;
    kb_sha256_final(sha256, ret_sha256);
    *ret_size = sink.size;
    return KB_OK;
}

/* ---- reading ---- */

typedef struct manifest_reader {
    const kb_manifest_read_options *options;
    kb_backup *backup;
    size_t partition_count;
    size_t segment_count;
    size_t gap_count;
} manifest_reader;

/* A segment as the manifest has it. */
typedef struct manifest_segment {
    kb_segment_entry entry;
    char *key;
} manifest_segment;

static void segment_done_at(manifest_segment *segment)
{
    kb_segment_entry_done(&segment->entry);
    free(segment->key);
}

static kb_code read_key(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    manifest_segment *segment = target;
    const manifest_reader *m = ctx;
    kb_view key;
    kb_code code = kb_json_get_string(reader, &key, err);
    if (code != KB_OK)
        return code;
    code = kb_layout_check_manifest_key(key, m->options->backup_id, m->options->uses, m->options->use_count,
                                        err);
    if (code != KB_OK)
        return kb_fields_locate(reader, err);
    segment->key = kb_strndup((const char *)key.data, key.len);
    return KB_OK;
}

/* Sets owner, codec and name from the key; a standard key needs no name. */
static void place_segment(manifest_reader *m, const char *topic, int32_t partition, manifest_segment *segment)
{
    kb_segment_entry *entry = &segment->entry;
    size_t id_len = strcspn(segment->key, "/");
    KB_AUTOFREE char *owner = kb_strndup(segment->key, id_len);
    entry->owner =
        strcmp(owner, m->backup->backup_id) == 0 ? KB_OWNER_SELF : kb_backup_add_use(m->backup, owner);
    KB_AUTOFREE char *folder = kb_layout_partition_prefix(owner, topic, partition);
    size_t folder_len = strlen(folder);
    const char *file = segment->key + folder_len;
    if (strncmp(segment->key, folder, folder_len) != 0 || strchr(file, '/') != NULL) {
        entry->name = KB_TAKE(segment->key);
        return;
    }
    for (kb_codec codec = KB_CODEC_NONE; codec <= KB_CODEC_LZ4; codec++) {
        const char *extension = kb_layout_extension(kb_codec_name(codec));
        KB_AUTOFREE char *standard = kb_layout_segment_file(entry->start, extension);
        if (strcmp(standard, file) == 0) {
            entry->codec = (uint8_t)codec;
            return;
        }
    }
    entry->name = kb_strdup(file);
}

static const kb_field segment_fields[] = {
    {"key", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_key},
    {"start_offset", KB_FIELD_COUNT, KB_FIELD_REQUIRED, offsetof(manifest_segment, entry.start), NULL},
    {"end_offset", KB_FIELD_COUNT, KB_FIELD_REQUIRED, offsetof(manifest_segment, entry.end), NULL},
    {"start_timestamp", KB_FIELD_I64, KB_FIELD_REQUIRED, offsetof(manifest_segment, entry.min_ts), NULL},
    {"end_timestamp", KB_FIELD_I64, KB_FIELD_REQUIRED, offsetof(manifest_segment, entry.max_ts), NULL},
    {"record_count", KB_FIELD_COUNT, KB_FIELD_REQUIRED, offsetof(manifest_segment, entry.count), NULL},
    {"uncompressed_size", KB_FIELD_COUNT, 0, offsetof(manifest_segment, entry.raw_bytes), NULL},
    {"compressed_size", KB_FIELD_COUNT, 0, offsetof(manifest_segment, entry.bytes), NULL},
};

/* Number and topic may follow the segments, so names are settled later: until then `name` is the whole key.
 */
static kb_code read_segment(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    manifest_reader *m = ctx;
    kb_partition_entry *partition = target;
    if (m->segment_count == KB_CATALOG_SEGMENTS_MAX)
        return kb_json_fail(reader, err, "more than %d segments", KB_CATALOG_SEGMENTS_MAX);
    m->segment_count++;
    manifest_segment segment KB_CLEANUP(segment_done_at) = {.entry = {.owner = KB_OWNER_SELF}};
    kb_code code =
        kb_fields_read(reader, segment_fields, KB_ARRAY_LEN(segment_fields), &segment, m, NULL, err);
    if (code != KB_OK)
        return code;
    kb_segment_entry *entry = &segment.entry;
    if (entry->end == INT64_MAX)
        return kb_json_fail(reader, err, "end_offset is beyond every Kafka offset");
    entry->from = entry->start;
    entry->to = entry->end + 1;
    entry->name = KB_TAKE(segment.key);
    code = kb_partition_append_segment(partition, entry, err);
    return code == KB_OK ? KB_OK : kb_fields_locate(reader, err);
}

static kb_code read_segments(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    return kb_elements_read(reader, read_segment, target, ctx, err);
}

typedef struct manifest_gap {
    kb_gap gap;
    char *reason;
} manifest_gap;

static void gap_done_at(manifest_gap *gap)
{
    free(gap->reason);
}

static const kb_field gap_fields[] = {
    {"start_offset", KB_FIELD_COUNT, KB_FIELD_REQUIRED, offsetof(manifest_gap, gap.start), NULL},
    {"end_offset", KB_FIELD_COUNT, KB_FIELD_REQUIRED, offsetof(manifest_gap, gap.end), NULL},
    {"reason", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(manifest_gap, reason), NULL},
    {"detected_at", KB_FIELD_I64, KB_FIELD_REQUIRED, offsetof(manifest_gap, gap.detected_at), NULL},
};

static kb_code read_gap(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    manifest_reader *m = ctx;
    if (m->gap_count == KB_CATALOG_SEGMENTS_MAX)
        return kb_json_fail(reader, err, "more than %d gaps", KB_CATALOG_SEGMENTS_MAX);
    m->gap_count++;
    manifest_gap gap KB_CLEANUP(gap_done_at) = {.reason = NULL};
    kb_code code = kb_fields_read(reader, gap_fields, KB_ARRAY_LEN(gap_fields), &gap, NULL, NULL, err);
    if (code != KB_OK)
        return code;
    if (gap.gap.start == gap.gap.end)
        return KB_OK;
    code = kb_partition_append_gap(target, gap.gap, err);
    if (code != KB_OK)
        return kb_fields_locate(reader, err);
    if (strcmp(gap.reason, GAP_REASON) != 0)
        kb_backup_add_warning(m->backup, "gap [%" PRId64 ", %" PRId64 ") has the unknown reason '%s'",
                              gap.gap.start, gap.gap.end, gap.reason);
    return KB_OK;
}

static kb_code read_gaps(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    return kb_elements_read(reader, read_gap, target, ctx, err);
}

static const kb_field partition_fields[] = {
    {"partition_id", KB_FIELD_COUNT32, KB_FIELD_REQUIRED, offsetof(kb_partition_entry, partition), NULL},
    {"segments", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_segments},
    {"gaps", KB_FIELD_CUSTOM, 0, 0, read_gaps},
};

/* What a manifest tells of a range: from the first to the last thing listed. */
static void cover(kb_partition_entry *partition)
{
    int64_t from = INT64_MAX;
    int64_t to = 0;
    for (size_t i = 0; i < partition->segment_count; i++) {
        const kb_segment_entry *segment = &partition->segments[i];
        from = segment->start < from ? segment->start : from;
        to = segment->to > to ? segment->to : to;
    }
    for (size_t i = 0; i < partition->gap_count; i++) {
        from = partition->gaps[i].start < from ? partition->gaps[i].start : from;
        to = partition->gaps[i].end > to ? partition->gaps[i].end : to;
    }
    partition->from = from == INT64_MAX ? 0 : from;
    partition->to = to;
    partition->cut = to;
    partition->log_start = -1;
    partition->high_watermark = -1;
    partition->done = true;
}

static bool has_overlap(const kb_partition_entry *partition, int64_t *ret_start)
{
    int64_t end = -1;
    for (size_t i = 0; i < partition->segment_count; i++) {
        const kb_segment_entry *segment = &partition->segments[i];
        *ret_start = segment->start;
        if (segment->start <= end)
            return true;
        end = segment->end;
    }
    return false;
}

/* Once the topic's name is known; `done` says that it has happened. */
static kb_code finish_partition(kb_json_reader *reader, manifest_reader *m, const char *topic,
                                kb_partition_entry *partition, kb_error *err)
{
    if (partition->done)
        return KB_OK;
    kb_partition_sort(partition);
    int64_t start = 0;
    if (has_overlap(partition, &start)) {
        if (!m->options->allow_overlap)
            return kb_json_fail(reader, err,
                                "segments of partition %" PRId32 " overlap at offset %" PRId64
                                " (hint: a backup that was made twice under one id is restored with "
                                "--overlap skip)",
                                partition->partition, start);
        m->backup->has_overlap = true;
    }
    for (size_t i = 0; i < partition->segment_count; i++) {
        kb_segment_entry *entry = &partition->segments[i];
        manifest_segment segment = {.entry = *entry, .key = entry->name};
        segment.entry.name = NULL;
        place_segment(m, topic, partition->partition, &segment);
        *entry = segment.entry;
        free(segment.key);
    }
    cover(partition);
    return KB_OK;
}

static kb_code read_partition(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    manifest_reader *m = ctx;
    kb_topic_entry *topic = target;
    if (m->partition_count == KB_CATALOG_PARTITIONS_MAX)
        return kb_json_fail(reader, err, "more than %d partitions", KB_CATALOG_PARTITIONS_MAX);
    m->partition_count++;
    kb_partition_entry *partition = kb_topic_append_partition(topic);
    kb_code code =
        kb_fields_read(reader, partition_fields, KB_ARRAY_LEN(partition_fields), partition, m, NULL, err);
    if (code == KB_OK && topic->name != NULL)
        code = finish_partition(reader, m, topic->name, partition, err);
    return code;
}

static kb_code read_partitions(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    return kb_elements_read(reader, read_partition, target, ctx, err);
}

static const kb_field topic_fields[] = {
    {"name", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(kb_topic_entry, name), NULL},
    {"original_partition_count", KB_FIELD_COUNT32, KB_FIELD_NULLABLE,
     offsetof(kb_topic_entry, partition_count), NULL},
    {"partitions", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_partitions},
};

static kb_code read_topic(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    kb_backup *backup = target;
    manifest_reader *m = ctx;
    if (backup->topic_count == KB_CATALOG_TOPICS_MAX)
        return kb_json_fail(reader, err, "more than %d topics", KB_CATALOG_TOPICS_MAX);
    kb_topic_entry *topic = kb_backup_append_topic(backup);
    topic->max_record_bytes = -1;
    kb_code code = kb_fields_read(reader, topic_fields, KB_ARRAY_LEN(topic_fields), topic, m, NULL, err);
    if (code != KB_OK)
        return code;
    if (topic->name[0] == '\0')
        return kb_json_fail(reader, err, "a topic has an empty name");
    for (size_t i = 0; i < topic->listed_count; i++) {
        code = finish_partition(reader, m, topic->name, &topic->partitions[i], err);
        if (code != KB_OK)
            return code;
    }
    code = kb_topic_sort(topic, err);
    return code == KB_OK ? KB_OK : kb_fields_locate(reader, err);
}

static kb_code read_topics(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    return kb_elements_read(reader, read_topic, target, ctx, err);
}

static const kb_field manifest_fields[] = {
    {"backup_id", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(kb_backup, backup_id), NULL},
    {"created_at", KB_FIELD_I64, KB_FIELD_REQUIRED, offsetof(kb_backup, created_at), NULL},
    {"source_cluster_id", KB_FIELD_TEXT, KB_FIELD_NULLABLE, offsetof(kb_backup, cluster_id), NULL},
    {"compression", KB_FIELD_TEXT, KB_FIELD_NULLABLE, offsetof(kb_backup, compression), NULL},
    {"topics", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_topics},
};

static kb_code read_manifest(kb_json_reader *reader, manifest_reader *m, kb_error *err)
{
    kb_backup *backup = m->backup;
    kb_code code =
        kb_fields_read(reader, manifest_fields, KB_ARRAY_LEN(manifest_fields), backup, m, NULL, err);
    if (code == KB_OK)
        code = kb_json_end(reader, err);
    if (code != KB_OK)
        return code;
    if (strcmp(backup->backup_id, m->options->backup_id) != 0)
        return kb_fail(err, KB_ERR_FORMAT, "it is the manifest of backup '%s'", backup->backup_id);
    if (backup->compression == NULL)
        kb_text_set(&backup->compression, "");
    code = kb_backup_sort(backup, err);
    if (code == KB_OK)
        code = kb_backup_check_keys(backup, err);
    if (code != KB_OK)
        return code;
    kb_backup_totals totals;
    return kb_backup_totals_of(backup, &totals, err);
}

kb_code kb_manifest_read_source(kb_object_source *source, const kb_manifest_read_options *options,
                                kb_backup **ret_backup, kb_error *err)
{
    if (kb_object_source_size(source) > KB_MANIFEST_MAX_BYTES)
        return kb_fail(err, KB_ERR_TOO_LARGE, "manifest.json is larger than %zu bytes",
                       KB_MANIFEST_MAX_BYTES);
    KB_AUTO_BACKUP kb_backup *backup = kb_backup_new(options->backup_id);
    backup->foreign = true;
    backup->conditional_put = false;
    for (size_t i = 0; i < options->use_count; i++)
        (void)kb_backup_add_use(backup, options->uses[i]);
    manifest_reader m = {.options = options, .backup = backup};
    kb_json_reader *reader KB_CLEANUP(kb_json_reader_free_at) =
        kb_json_reader_new_source(kb_object_source_next, source, NULL);
    kb_code code = read_manifest(reader, &m, err);
    if (code != KB_OK)
        return code;
    *ret_backup = KB_TAKE(backup);
    return KB_OK;
}

kb_code kb_manifest_read(const void *data, size_t len, const kb_manifest_read_options *options,
                         kb_backup **ret_backup, kb_error *err)
{
    kb_object_source *source KB_CLEANUP(kb_object_source_free_at) =
        kb_object_source_of(kb_view_of(data, len));
    return kb_manifest_read_source(source, options, ret_backup, err);
}

#include "worker/catalog/model.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/contract/exit_codes.h"
#include "worker/catalog/layout.h"

/* ---- life ---- */

kb_backup *kb_backup_new(const char *backup_id)
{
    kb_backup *backup = kb_calloc(1, sizeof *backup);
    backup->format_version = KB_BACKUP_FORMAT_VERSION;
    backup->min_reader = KB_BACKUP_MIN_READER;
    backup->backup_id = kb_strdup(backup_id);
    backup->conditional_put = true;
    return backup;
}

void kb_segment_entry_done(kb_segment_entry *segment)
{
    free(segment->name);
    segment->name = NULL;
}

void kb_partition_entry_done(kb_partition_entry *partition)
{
    for (size_t i = 0; i < partition->segment_count; i++)
        kb_segment_entry_done(&partition->segments[i]);
    free(partition->segments);
    free(partition->gaps);
    free(partition->probes);
    *partition = (kb_partition_entry){0};
}

void kb_topic_entry_done(kb_topic_entry *topic)
{
    for (size_t i = 0; i < topic->listed_count; i++)
        kb_partition_entry_done(&topic->partitions[i]);
    for (size_t i = 0; i < topic->config_count; i++) {
        free(topic->configs[i].name);
        free(topic->configs[i].value);
    }
    free(topic->partitions);
    free(topic->configs);
    free(topic->timestamp_type);
    free(topic->name);
    *topic = (kb_topic_entry){0};
}

static void free_texts(char **owned_texts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(owned_texts[i]);
    free(owned_texts);
}

static void free_groups(kb_groups_ref *owned_groups)
{
    if (owned_groups == NULL)
        return;
    free(owned_groups->key);
    free(owned_groups);
}

static void free_lists(kb_backup *backup)
{
    for (size_t i = 0; i < backup->topic_count; i++)
        kb_topic_entry_done(&backup->topics[i]);
    free(backup->topics);
    for (size_t i = 0; i < backup->skipped_count; i++) {
        free(backup->skipped[i].name);
        free(backup->skipped[i].reason);
    }
    free(backup->skipped);
    for (size_t i = 0; i < backup->finding_count; i++) {
        free(backup->findings[i].reason);
        free(backup->findings[i].topic);
        free(backup->findings[i].detail);
    }
    free(backup->findings);
    kb_map_free(backup->finding_keys);
    free_texts(backup->uses, backup->use_count);
    free_texts(backup->warnings, backup->warning_count);
}

void kb_backup_free(kb_backup *owned_backup)
{
    if (owned_backup == NULL)
        return;
    free_lists(owned_backup);
    free_groups(owned_backup->groups);
    free(owned_backup->generator);
    free(owned_backup->backup_id);
    free(owned_backup->lineage);
    free(owned_backup->owner);
    free(owned_backup->cluster_id);
    free(owned_backup->base);
    free(owned_backup->content.isolation);
    free(owned_backup->content.source_cluster_header);
    free(owned_backup->compression);
    free(owned_backup);
}

void kb_backup_free_at(kb_backup **at)
{
    kb_backup_free(*at);
    *at = NULL;
}

void kb_text_set(char **owned_text, const char *text)
{
    char *copy = kb_strdup_opt(text);
    free(*owned_text);
    *owned_text = copy;
}

/* ---- topics ---- */

/* Makes a hole of one element at `at` in an array of count elements; the caller counts. */
static void *insert_hole(void *owned_array, size_t count, size_t *capacity, size_t size, size_t at)
{
    char *array = kb_grow(owned_array, count, capacity, size);
    memmove(array + (at + 1) * size, array + at * size, (count - at) * size);
    memset(array + at * size, 0, size);
    return array;
}

/* The position of the first topic that is not below name. */
static size_t topic_position(const kb_backup *backup, const char *name)
{
    size_t low = 0;
    size_t high = backup->topic_count;
    if (high > 0 && strcmp(backup->topics[high - 1].name, name) < 0)
        return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(backup->topics[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

kb_topic_entry *kb_backup_find_topic(const kb_backup *backup, const char *name)
{
    size_t at = topic_position(backup, name);
    if (at == backup->topic_count || strcmp(backup->topics[at].name, name) != 0)
        return NULL;
    return &backup->topics[at];
}

kb_topic_entry *kb_backup_add_topic(kb_backup *backup, const char *name)
{
    size_t at = topic_position(backup, name);
    if (at < backup->topic_count && strcmp(backup->topics[at].name, name) == 0)
        return &backup->topics[at];
    backup->topics =
        insert_hole(backup->topics, backup->topic_count, &backup->topic_capacity, sizeof *backup->topics, at);
    backup->topic_count++;
    kb_topic_entry *topic = &backup->topics[at];
    topic->name = kb_strdup(name);
    topic->partition_count = -1;
    topic->replication_factor = -1;
    return topic;
}

void kb_topic_set_config(kb_topic_entry *topic, const char *name, const char *value)
{
    size_t at = 0;
    while (at < topic->config_count && strcmp(topic->configs[at].name, name) < 0)
        at++;
    if (at == topic->config_count || strcmp(topic->configs[at].name, name) != 0) {
        topic->configs = insert_hole(topic->configs, topic->config_count, &topic->config_capacity,
                                     sizeof *topic->configs, at);
        topic->config_count++;
        topic->configs[at].name = kb_strdup(name);
    }
    kb_text_set(&topic->configs[at].value, value);
}

const char *kb_topic_config(const kb_topic_entry *topic, const char *name)
{
    for (size_t i = 0; i < topic->config_count; i++)
        if (strcmp(topic->configs[i].name, name) == 0)
            return topic->configs[i].value;
    return NULL;
}

static const char *const topic_state_names[KB_TOPIC_STATE_COUNT] = {
    [KB_TOPIC_OK] = "ok",
    [KB_TOPIC_DELETED] = "deleted",
    [KB_TOPIC_RECREATED] = "recreated",
    [KB_TOPIC_UNAUTHORIZED] = "unauthorized",
    [KB_TOPIC_FAILED] = "failed",
};

const char *kb_topic_state_name(kb_topic_state state)
{
    return (unsigned)state < KB_TOPIC_STATE_COUNT ? topic_state_names[state] : "unknown";
}

bool kb_topic_state_parse(const char *text, kb_topic_state *ret_state)
{
    for (int i = 0; i < KB_TOPIC_STATE_COUNT; i++)
        if (strcmp(topic_state_names[i], text) == 0) {
            *ret_state = (kb_topic_state)i;
            return true;
        }
    return false;
}

/* ---- partitions ---- */

static size_t partition_position(const kb_topic_entry *topic, int32_t partition)
{
    size_t low = 0;
    size_t high = topic->listed_count;
    if (high > 0 && topic->partitions[high - 1].partition < partition)
        return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (topic->partitions[middle].partition < partition)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

kb_partition_entry *kb_topic_find_partition(const kb_topic_entry *topic, int32_t partition)
{
    size_t at = partition_position(topic, partition);
    if (at == topic->listed_count || topic->partitions[at].partition != partition)
        return NULL;
    return &topic->partitions[at];
}

kb_partition_entry *kb_topic_add_partition(kb_topic_entry *topic, int32_t partition)
{
    size_t at = partition_position(topic, partition);
    if (at < topic->listed_count && topic->partitions[at].partition == partition)
        return &topic->partitions[at];
    topic->partitions = insert_hole(topic->partitions, topic->listed_count, &topic->partition_capacity,
                                    sizeof *topic->partitions, at);
    topic->listed_count++;
    kb_partition_entry *entry = &topic->partitions[at];
    entry->partition = partition;
    entry->reuse_up_to = -1;
    return entry;
}

kb_partition_entry *kb_backup_find_partition(const kb_backup *backup, const char *topic, int32_t partition)
{
    const kb_topic_entry *entry = kb_backup_find_topic(backup, topic);
    return entry == NULL ? NULL : kb_topic_find_partition(entry, partition);
}

/* ---- segments ---- */

static kb_code to_i64(uint64_t value, const char *what, int64_t *ret_value, kb_error *err)
{
    if (value > INT64_MAX)
        return kb_fail(err, KB_ERR_FORMAT, "%s is beyond the range of the format", what);
    *ret_value = (int64_t)value;
    return KB_OK;
}

kb_code kb_segment_entry_from_info(const kb_segment_info *info, kb_segment_entry *ret_segment, kb_error *err)
{
    kb_segment_entry entry = {
        .start = info->start,
        .end = info->end,
        .from = info->from,
        .to = info->to,
        .min_ts = info->min_timestamp,
        .max_ts = info->max_timestamp,
        .owner = KB_OWNER_SELF,
        .codec = (uint8_t)info->codec,
        .has_hashes = true,
        .digest = info->digest,
    };
    memcpy(entry.sha256, info->sha256, sizeof entry.sha256);
    kb_code code = to_i64(info->count, "record count", &entry.count, err);
    if (code == KB_OK)
        code = to_i64(info->raw_bytes, "raw size", &entry.raw_bytes, err);
    if (code == KB_OK)
        code = to_i64(info->bytes, "object size", &entry.bytes, err);
    if (code == KB_OK)
        *ret_segment = entry;
    return code;
}

kb_code kb_segment_entry_check(const kb_segment_entry *s, kb_error *err)
{
    if (s->start < 0)
        return kb_fail(err, KB_ERR_FORMAT, "segment start %lld is negative", (long long)s->start);
    if (s->start > s->end || s->end == INT64_MAX)
        return kb_fail(err, KB_ERR_FORMAT, "segment start %lld lies above its end %lld", (long long)s->start,
                       (long long)s->end);
    if (s->from < 0 || s->from > s->start || s->to <= s->end)
        return kb_fail(err, KB_ERR_FORMAT, "segment %lld-%lld claims [%lld, %lld), which does not contain it",
                       (long long)s->start, (long long)s->end, (long long)s->from, (long long)s->to);
    if (s->count < 0 || s->count - 1 > s->end - s->start)
        return kb_fail(err, KB_ERR_FORMAT, "segment %lld-%lld cannot hold %lld records", (long long)s->start,
                       (long long)s->end, (long long)s->count);
    if (s->raw_bytes < 0 || s->bytes < 0)
        return kb_fail(err, KB_ERR_FORMAT, "segment %lld-%lld has a negative size", (long long)s->start,
                       (long long)s->end);
    return KB_OK;
}

/* The position of the first segment whose start lies above `start`: equal starts keep their order. */
static size_t segment_position(const kb_partition_entry *partition, int64_t start)
{
    size_t low = 0;
    size_t high = partition->segment_count;
    if (high > 0 && partition->segments[high - 1].start <= start)
        return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (partition->segments[middle].start <= start)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static kb_code fail_overlap(const kb_segment_entry *a, const kb_segment_entry *b, kb_error *err)
{
    return kb_fail(err, KB_ERR_FORMAT, "segments %lld-%lld and %lld-%lld overlap", (long long)a->start,
                   (long long)a->end, (long long)b->start, (long long)b->end);
}

static kb_code insert_segment(kb_partition_entry *partition, kb_segment_entry *segment, size_t at,
                              kb_error *err)
{
    int64_t records = 0;
    if (__builtin_add_overflow(partition->records, segment->count, &records))
        return kb_fail(err, KB_ERR_FORMAT, "the sum of records overflows");
    partition->records = records;
    if (segment->has_hashes)
        kb_digest_add(&partition->digest, &segment->digest);
    partition->segments = insert_hole(partition->segments, partition->segment_count,
                                      &partition->segment_capacity, sizeof *partition->segments, at);
    partition->segment_count++;
    partition->segments[at] = *segment;
    segment->name = NULL;
    return KB_OK;
}

kb_code kb_partition_add_segment(kb_partition_entry *partition, kb_segment_entry *segment, kb_error *err)
{
    kb_code code = kb_segment_entry_check(segment, err);
    if (code != KB_OK)
        return code;
    size_t at = segment_position(partition, segment->start);
    if (at > 0 && partition->segments[at - 1].end >= segment->start)
        return fail_overlap(&partition->segments[at - 1], segment, err);
    if (at < partition->segment_count && partition->segments[at].start <= segment->end)
        return fail_overlap(segment, &partition->segments[at], err);
    return insert_segment(partition, segment, at, err);
}

void kb_partition_clear_segments(kb_partition_entry *partition)
{
    for (size_t i = 0; i < partition->segment_count; i++)
        kb_segment_entry_done(&partition->segments[i]);
    partition->segment_count = 0;
    partition->records = 0;
    partition->digest = (kb_digest)KB_DIGEST_ZERO;
}

static kb_code check_gap(kb_gap gap, kb_error *err)
{
    if (gap.start < 0 || gap.start >= gap.end)
        return kb_fail(err, KB_ERR_FORMAT, "gap [%lld, %lld) is empty or negative", (long long)gap.start,
                       (long long)gap.end);
    return KB_OK;
}

static void insert_gap(kb_partition_entry *partition, kb_gap gap, size_t at)
{
    partition->gaps = insert_hole(partition->gaps, partition->gap_count, &partition->gap_capacity,
                                  sizeof *partition->gaps, at);
    partition->gap_count++;
    partition->gaps[at] = gap;
}

kb_code kb_partition_add_gap(kb_partition_entry *partition, kb_gap gap, kb_error *err)
{
    kb_code code = check_gap(gap, err);
    if (code != KB_OK)
        return code;
    size_t at = partition->gap_count;
    while (at > 0 && partition->gaps[at - 1].start > gap.start)
        at--;
    const kb_gap *before = at > 0 ? &partition->gaps[at - 1] : NULL;
    const kb_gap *after = at < partition->gap_count ? &partition->gaps[at] : NULL;
    if (before != NULL && before->start == gap.start && before->end == gap.end)
        return KB_OK;
    if ((before != NULL && before->end > gap.start) || (after != NULL && after->start < gap.end))
        return kb_fail(err, KB_ERR_FORMAT, "gap [%lld, %lld) overlaps another gap", (long long)gap.start,
                       (long long)gap.end);
    insert_gap(partition, gap, at);
    return KB_OK;
}

void kb_partition_add_probe(kb_partition_entry *partition, const kb_probe *probe)
{
    size_t at = 0;
    while (at < partition->probe_count && partition->probes[at].offset > probe->offset)
        at++;
    if (at < partition->probe_count && partition->probes[at].offset == probe->offset) {
        partition->probes[at] = *probe;
        return;
    }
    if (at >= KB_PROBES_MAX)
        return;
    partition->probes = insert_hole(partition->probes, partition->probe_count, &partition->probe_capacity,
                                    sizeof *partition->probes, at);
    partition->probes[at] = *probe;
    if (partition->probe_count < KB_PROBES_MAX)
        partition->probe_count++;
}

/* ---- in any order, then sorted ---- */

kb_topic_entry *kb_backup_append_topic(kb_backup *backup)
{
    backup->topics =
        kb_grow(backup->topics, backup->topic_count, &backup->topic_capacity, sizeof *backup->topics);
    kb_topic_entry *topic = &backup->topics[backup->topic_count++];
    *topic = (kb_topic_entry){.partition_count = -1, .replication_factor = -1};
    return topic;
}

kb_partition_entry *kb_topic_append_partition(kb_topic_entry *topic)
{
    topic->partitions = kb_grow(topic->partitions, topic->listed_count, &topic->partition_capacity,
                                sizeof *topic->partitions);
    kb_partition_entry *partition = &topic->partitions[topic->listed_count++];
    *partition = (kb_partition_entry){.reuse_up_to = -1};
    return partition;
}

kb_code kb_partition_append_segment(kb_partition_entry *partition, kb_segment_entry *segment, kb_error *err)
{
    kb_code code = kb_segment_entry_check(segment, err);
    return code == KB_OK ? insert_segment(partition, segment, partition->segment_count, err) : code;
}

kb_code kb_partition_append_gap(kb_partition_entry *partition, kb_gap gap, kb_error *err)
{
    kb_code code = check_gap(gap, err);
    if (code == KB_OK)
        insert_gap(partition, gap, partition->gap_count);
    return code;
}

static int compare_i64(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b ? 1 : 0;
}

static int compare_segments(const void *a, const void *b)
{
    const kb_segment_entry *left = a;
    const kb_segment_entry *right = b;
    int order = compare_i64(left->start, right->start);
    return order != 0 ? order : compare_i64(left->end, right->end);
}

static int compare_gaps(const void *a, const void *b)
{
    const kb_gap *left = a;
    const kb_gap *right = b;
    int order = compare_i64(left->start, right->start);
    return order != 0 ? order : compare_i64(left->end, right->end);
}

static int compare_partitions(const void *a, const void *b)
{
    return compare_i64(((const kb_partition_entry *)a)->partition,
                       ((const kb_partition_entry *)b)->partition);
}

static int compare_topics(const void *a, const void *b)
{
    return strcmp(((const kb_topic_entry *)a)->name, ((const kb_topic_entry *)b)->name);
}

static void sort(void *array, size_t count, size_t size, int (*compare)(const void *, const void *))
{
    if (count > 1)
        qsort(array, count, size, compare);
}

void kb_partition_sort(kb_partition_entry *partition)
{
    sort(partition->segments, partition->segment_count, sizeof *partition->segments, compare_segments);
    sort(partition->gaps, partition->gap_count, sizeof *partition->gaps, compare_gaps);
}

kb_code kb_topic_sort(kb_topic_entry *topic, kb_error *err)
{
    sort(topic->partitions, topic->listed_count, sizeof *topic->partitions, compare_partitions);
    for (size_t i = 1; i < topic->listed_count; i++)
        if (topic->partitions[i - 1].partition == topic->partitions[i].partition)
            return kb_fail(err, KB_ERR_FORMAT, "partition %d of topic '%s' stands there twice",
                           (int)topic->partitions[i].partition, topic->name);
    return KB_OK;
}

kb_code kb_backup_sort(kb_backup *backup, kb_error *err)
{
    sort(backup->topics, backup->topic_count, sizeof *backup->topics, compare_topics);
    for (size_t i = 1; i < backup->topic_count; i++)
        if (compare_topics(&backup->topics[i - 1], &backup->topics[i]) == 0)
            return kb_fail(err, KB_ERR_FORMAT, "topic '%s' stands there twice", backup->topics[i].name);
    return KB_OK;
}

/* ---- owners and keys ---- */

int32_t kb_backup_add_use(kb_backup *backup, const char *backup_id)
{
    for (size_t i = 0; i < backup->use_count; i++)
        if (strcmp(backup->uses[i], backup_id) == 0)
            return (int32_t)i;
    backup->uses = kb_grow(backup->uses, backup->use_count, &backup->use_capacity, sizeof *backup->uses);
    backup->uses[backup->use_count] = kb_strdup(backup_id);
    return (int32_t)backup->use_count++;
}

const char *kb_segment_owner(const kb_backup *backup, const kb_segment_entry *segment)
{
    return segment->owner == KB_OWNER_SELF ? backup->backup_id : backup->uses[segment->owner];
}

char *kb_segment_key(const kb_backup *backup, const kb_topic_entry *topic,
                     const kb_partition_entry *partition, const kb_segment_entry *segment)
{
    if (segment->name != NULL && strchr(segment->name, '/') != NULL)
        return kb_strdup(segment->name);
    const char *owner = kb_segment_owner(backup, segment);
    if (segment->name != NULL)
        return kb_layout_segment_key(owner, topic->name, partition->partition, segment->name);
    const char *extension = kb_layout_extension(kb_codec_name((kb_codec)segment->codec));
    KB_AUTOFREE char *file = kb_layout_segment_file(segment->start, extension);
    return kb_layout_segment_key(owner, topic->name, partition->partition, file);
}

/* ---- lists of the backup ---- */

void kb_backup_add_skipped(kb_backup *backup, const char *name, const char *reason)
{
    size_t at = backup->skipped_count;
    while (at > 0 && strcmp(backup->skipped[at - 1].name, name) > 0)
        at--;
    backup->skipped = insert_hole(backup->skipped, backup->skipped_count, &backup->skipped_capacity,
                                  sizeof *backup->skipped, at);
    backup->skipped_count++;
    backup->skipped[at].name = kb_strdup(name);
    backup->skipped[at].reason = kb_strdup(reason);
}

/* The enum is in the order in which a run with several of them is named (worker.md, 2). */
static int finding_rank(const char *reason)
{
    kb_finding finding = 0;
    return kb_finding_parse(reason, &finding) ? (int)finding : INT_MAX;
}

/* One text for each different finding: NULL and "" differ. */
static char *finding_key(const char *reason, const char *topic, int32_t partition, const char *detail,
                         size_t *ret_len)
{
    char *key =
        kb_asprintf("%s\n%d\n%s%s\n%s%s", reason, (int)partition, topic != NULL ? "=" : "",
                    topic != NULL ? topic : "", detail != NULL ? "=" : "", detail != NULL ? detail : "");
    *ret_len = strlen(key);
    return key;
}

void kb_backup_add_finding(kb_backup *backup, const char *reason, const char *topic, int32_t partition,
                           const char *detail)
{
    size_t key_len = 0;
    KB_AUTOFREE char *key = finding_key(reason, topic, partition, detail, &key_len);
    if (backup->finding_keys == NULL)
        backup->finding_keys = kb_map_new(NULL);
    if (kb_map_has(backup->finding_keys, key, key_len))
        return;
    kb_map_put(backup->finding_keys, key, key_len, backup);
    size_t at = backup->finding_count;
    while (at > 0 && finding_rank(backup->findings[at - 1].reason) > finding_rank(reason))
        at--;
    backup->findings = insert_hole(backup->findings, backup->finding_count, &backup->finding_capacity,
                                   sizeof *backup->findings, at);
    backup->finding_count++;
    backup->findings[at] = (kb_finding_entry){
        .reason = kb_strdup(reason),
        .topic = kb_strdup_opt(topic),
        .partition = partition,
        .detail = kb_strdup_opt(detail),
    };
}

void kb_backup_set_groups(kb_backup *backup, const char *key, const uint8_t sha256[KB_SHA256_SIZE],
                          int64_t count, bool complete)
{
    kb_groups_ref *groups = kb_calloc(1, sizeof *groups);
    groups->key = kb_strdup(key);
    memcpy(groups->sha256, sha256, KB_SHA256_SIZE);
    groups->count = count;
    groups->complete = complete;
    free_groups(backup->groups);
    backup->groups = groups;
}

void kb_backup_add_warning(kb_backup *backup, const char *fmt, ...)
{
    if (backup->warning_count == KB_WARNINGS_MAX)
        return;
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    if (vasprintf(&text, fmt, args) < 0)
        kb_out_of_memory();
    va_end(args);
    backup->warnings =
        kb_grow(backup->warnings, backup->warning_count, &backup->warning_capacity, sizeof *backup->warnings);
    backup->warnings[backup->warning_count++] = text;
}

/* ---- sums and tiling ---- */

static bool add_to(int64_t *sum, int64_t value)
{
    return !__builtin_add_overflow(*sum, value, sum);
}

static void add_time(kb_backup_totals *totals, int64_t time)
{
    if (time < 0)
        return;
    if (!totals->has_timestamps || time < totals->min_timestamp)
        totals->min_timestamp = time;
    if (!totals->has_timestamps || time > totals->max_timestamp)
        totals->max_timestamp = time;
    totals->has_timestamps = true;
}

static bool add_partition_totals(kb_backup_totals *totals, const kb_partition_entry *partition)
{
    bool fits = true;
    for (size_t i = 0; i < partition->segment_count; i++) {
        const kb_segment_entry *segment = &partition->segments[i];
        bool is_reused = segment->owner != KB_OWNER_SELF;
        totals->segments++;
        totals->reused_segments += is_reused ? 1 : 0;
        fits = fits && add_to(&totals->records, segment->count) &&
               add_to(&totals->raw_bytes, segment->raw_bytes) &&
               add_to(&totals->stored_bytes, segment->bytes) &&
               add_to(&totals->reused_bytes, is_reused ? segment->bytes : 0);
        add_time(totals, segment->min_ts);
        add_time(totals, segment->max_ts);
    }
    for (size_t i = 0; i < partition->gap_count; i++) {
        totals->gaps++;
        fits = fits && add_to(&totals->gap_offsets, partition->gaps[i].end - partition->gaps[i].start);
    }
    return fits;
}

kb_code kb_backup_totals_of(const kb_backup *backup, kb_backup_totals *ret_totals, kb_error *err)
{
    kb_backup_totals totals = {.topics = (int64_t)backup->topic_count};
    for (size_t t = 0; t < backup->topic_count; t++) {
        const kb_topic_entry *topic = &backup->topics[t];
        totals.partitions += (int64_t)topic->listed_count;
        for (size_t p = 0; p < topic->listed_count; p++)
            if (!add_partition_totals(&totals, &topic->partitions[p]))
                return kb_fail(err, KB_ERR_FORMAT, "the sums over topic '%s' overflow", topic->name);
    }
    *ret_totals = totals;
    return KB_OK;
}

/* Passes over the gaps that join at `at` and end up to `limit`; returns where the last of them ends. */
static int64_t skip_gaps(const kb_partition_entry *partition, size_t *next_gap, int64_t at, int64_t limit)
{
    while (*next_gap < partition->gap_count && partition->gaps[*next_gap].start == at &&
           partition->gaps[*next_gap].end <= limit)
        at = partition->gaps[(*next_gap)++].end;
    return at;
}

int64_t kb_partition_joined(const kb_partition_entry *partition)
{
    int64_t at = partition->reuse_up_to >= 0 ? partition->reuse_up_to : partition->from;
    if (partition->segment_count > 0)
        at = partition->segments[partition->segment_count - 1].to;
    if (partition->gap_count > 0 && partition->gaps[partition->gap_count - 1].end > at)
        at = partition->gaps[partition->gap_count - 1].end;
    return at;
}

kb_code kb_partition_check_tiling(const kb_partition_entry *partition, kb_error *err)
{
    int64_t at = partition->reuse_up_to >= 0 ? partition->reuse_up_to : partition->from;
    size_t next_gap = 0;
    for (size_t i = 0; i < partition->segment_count; i++) {
        const kb_segment_entry *segment = &partition->segments[i];
        at = skip_gaps(partition, &next_gap, at, segment->from);
        if (segment->from != at)
            return kb_fail(err, KB_ERR_FORMAT,
                           "segment %lld-%lld continues from %lld, but what lies before it ends at %lld",
                           (long long)segment->start, (long long)segment->end, (long long)segment->from,
                           (long long)at);
        at = segment->to;
    }
    at = skip_gaps(partition, &next_gap, at, partition->to);
    if (next_gap < partition->gap_count)
        return kb_fail(err, KB_ERR_FORMAT, "gap [%lld, %lld) does not join what lies around it",
                       (long long)partition->gaps[next_gap].start, (long long)partition->gaps[next_gap].end);
    if (at > partition->to || partition->from > partition->to || partition->to > partition->cut)
        return kb_fail(
            err, KB_ERR_FORMAT, "covered range [%lld, %lld) does not fit segments to %lld, cut %lld",
            (long long)partition->from, (long long)partition->to, (long long)at, (long long)partition->cut);
    return KB_OK;
}

#include "worker/catalog/journal_replay.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "worker/catalog/catalog_json.h"
#include "worker/catalog/json_fields.h"
#include "worker/catalog/layout.h"
#include "worker/catalog/object_source.h"

/* ---- an entry as it was read ---- */

/* News of a partition; the lists are in `lists`, which is first: shared readers take the whole for it. */
typedef struct read_partition {
    kb_partition_entry lists;
    char *topic;
    int32_t partition;
    int64_t position;
    int64_t cut;
    int64_t cut_time;
    int64_t reuse_up_to;
    int64_t max_record_bytes;
    bool done;
} read_partition;

typedef struct read_event {
    char *topic;
    kb_topic_state state;
} read_event;

typedef struct read_entry {
    kb_entry_head head; /* its holder is owned */
    int64_t seq;
    char *backup_id;
    kb_backup *plan;  /* NULL = none */
    kb_backup *extra; /* findings, groups, ids of `in` */
    read_partition *partitions;
    size_t partition_count;
    size_t partition_capacity;
    read_event *events;
    size_t event_count;
    size_t event_capacity;
    bool has_totals;
    kb_backup_totals totals;
    char *generator;
    bool conditional_put;
} read_entry;

static void read_entry_done(read_entry *entry)
{
    kb_holder_done(&entry->head.holder);
    free(entry->backup_id);
    kb_backup_free(entry->plan);
    kb_backup_free(entry->extra);
    for (size_t i = 0; i < entry->partition_count; i++) {
        kb_partition_entry_done(&entry->partitions[i].lists);
        free(entry->partitions[i].topic);
    }
    free(entry->partitions);
    for (size_t i = 0; i < entry->event_count; i++)
        free(entry->events[i].topic);
    free(entry->events);
    free(entry->generator);
}

/* ---- reading: head ---- */

static kb_code read_version(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)target;
    (void)ctx;
    int64_t version = 0;
    kb_code code = kb_json_get_i64(reader, &version, err);
    if (code == KB_OK && version != KB_BACKUP_FORMAT_VERSION)
        return kb_json_fail(reader, err, "the entry needs a newer reader (formatVersion %" PRId64 ")",
                            version);
    return code;
}

static kb_code read_kind(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    read_entry *entry = target;
    kb_view text;
    kb_code code = kb_json_get_string(reader, &text, err);
    if (code != KB_OK)
        return code;
    for (int kind = 0; kind < KB_ENTRY_KIND_COUNT; kind++)
        if (kb_json_is(text, kb_entry_kind_name((kb_entry_kind)kind))) {
            entry->head.kind = (kb_entry_kind)kind;
            return KB_OK;
        }
    return kb_json_fail(reader, err, "an entry of this kind needs a newer reader");
}

static kb_code read_attempt_id(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    read_entry *entry = target;
    kb_view text;
    kb_code code = kb_json_get_string(reader, &text, err);
    if (code != KB_OK)
        return code;
    if (text.len != 2 * KB_ATTEMPT_ID_SIZE)
        return kb_json_fail(reader, err, "an attempt id has 32 hexadecimal digits");
    code = kb_hex_decode((const char *)text.data, text.len, entry->head.attempt_id, err);
    return code == KB_OK ? KB_OK : kb_fields_locate(reader, err);
}

static kb_code read_time(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    read_entry *entry = target;
    kb_view text;
    kb_code code = kb_json_get_string(reader, &text, err);
    if (code != KB_OK)
        return code;
    code = kb_rfc3339_parse((const char *)text.data, text.len, &entry->head.time_ms, err);
    return code == KB_OK ? KB_OK : kb_fields_locate(reader, err);
}

static kb_code read_prev(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    read_entry *entry = target;
    kb_view text;
    kb_code code = kb_json_get_string(reader, &text, err);
    if (code != KB_OK || text.len == 0)
        return code;
    if (text.len != 2 * KB_SHA256_SIZE)
        return kb_json_fail(reader, err, "a hash has 64 hexadecimal digits");
    entry->head.has_prev = true;
    code = kb_hex_decode((const char *)text.data, text.len, entry->head.prev_sha256, err);
    return code == KB_OK ? KB_OK : kb_fields_locate(reader, err);
}

#define AT(member) offsetof(kb_holder, member)
static const kb_field holder_fields[] = {
    {"jobName", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(job_name), NULL},
    {"jobUid", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(job_uid), NULL},
    {"podName", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(pod_name), NULL},
    {"host", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(host), NULL},
    {"bootId", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(boot_id), NULL},
    {"pid", KB_FIELD_I64, KB_FIELD_REQUIRED, AT(pid), NULL},
    {"pidStart", KB_FIELD_I64, KB_FIELD_REQUIRED, AT(pid_start), NULL},
    {"pidNamespace", KB_FIELD_I64, 0, AT(pid_namespace), NULL},
};
#undef AT

static kb_code read_holder(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    read_entry *entry = target;
    return kb_fields_read(reader, holder_fields, KB_ARRAY_LEN(holder_fields), &entry->head.holder, ctx, NULL,
                          err);
}

/* ---- reading: plan ---- */

static kb_code read_reuse(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    kb_partition_entry *partition = target;
    return kb_json_get_i64_range(reader, 0, INT64_MAX, &partition->reuse_up_to, err);
}

#define AT(member) offsetof(kb_partition_entry, member)
static const kb_field plan_partition_fields[] = {
    {"partition", KB_FIELD_COUNT32, KB_FIELD_REQUIRED, AT(partition), NULL},
    {"logStart", KB_FIELD_I64, KB_FIELD_REQUIRED, AT(log_start), NULL},
    {"highWatermark", KB_FIELD_I64, KB_FIELD_REQUIRED, AT(high_watermark), NULL},
    {"cut", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(cut), NULL},
    {"from", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(from), NULL},
    {"reuseUpTo", KB_FIELD_CUSTOM, KB_FIELD_NULLABLE, 0, read_reuse},
};
#undef AT

static kb_code read_plan_partition(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    kb_partition_entry partition = {.reuse_up_to = -1};
    kb_code code = kb_fields_read(reader, plan_partition_fields, KB_ARRAY_LEN(plan_partition_fields),
                                  &partition, ctx, NULL, err);
    if (code != KB_OK)
        return code;
    partition.to = partition.reuse_up_to >= 0 ? partition.reuse_up_to : partition.from;
    if (partition.from > partition.to || partition.to > partition.cut)
        return kb_json_fail(reader, err, "a partition begins at %" PRId64 ", beyond its cut %" PRId64,
                            partition.to, partition.cut);
    return kb_settle_partition(reader, target, &partition, err);
}

static kb_code read_plan_partitions(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    return kb_elements_read(reader, read_plan_partition, target, ctx, err);
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
static const kb_field plan_topic_fields[] = {
    {"name", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(name), NULL},
    {"topicId", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED | KB_FIELD_NULLABLE, 0, kb_read_topic_id},
    {"partitionCount", KB_FIELD_COUNT32, KB_FIELD_REQUIRED, AT(partition_count), NULL},
    {"replicationFactor", KB_FIELD_I32, KB_FIELD_REQUIRED, AT(replication_factor), NULL},
    {"configs", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, kb_read_topic_configs},
    {"state", KB_FIELD_CUSTOM, 0, 0, read_state},
    {"timestampType", KB_FIELD_TEXT, KB_FIELD_NULLABLE, AT(timestamp_type), NULL},
    {"partitions", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_plan_partitions},
};
#undef AT

static kb_code read_plan_topic(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    kb_topic_entry topic KB_CLEANUP(kb_topic_entry_done) = {0};
    kb_code code =
        kb_fields_read(reader, plan_topic_fields, KB_ARRAY_LEN(plan_topic_fields), &topic, ctx, NULL, err);
    return code == KB_OK ? kb_settle_topic(reader, target, &topic, err) : code;
}

static kb_code read_plan_topics(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    return kb_elements_read(reader, read_plan_topic, target, ctx, err);
}

#define AT(member) offsetof(kb_backup, member)
static const kb_field plan_fields[] = {
    {"lineage", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(lineage), NULL},
    {"owner", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(owner), NULL},
    {"clusterId", KB_FIELD_TEXT, KB_FIELD_REQUIRED | KB_FIELD_NULLABLE, AT(cluster_id), NULL},
    {"createdAt", KB_FIELD_I64, KB_FIELD_REQUIRED, AT(created_at), NULL},
    {"base", KB_FIELD_TEXT, KB_FIELD_REQUIRED | KB_FIELD_NULLABLE, AT(base), NULL},
    {"depth", KB_FIELD_COUNT32, 0, AT(depth), NULL},
    {"content", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, kb_read_backup_content},
    {"codec", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(compression), NULL},
    {"level", KB_FIELD_I32, KB_FIELD_REQUIRED, AT(level), NULL},
    {"cutTime", KB_FIELD_I64, KB_FIELD_REQUIRED, AT(cut_time), NULL},
    {"skippedTopics", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, kb_read_backup_skipped},
    {"findings", KB_FIELD_CUSTOM, 0, 0, kb_read_backup_findings},
    {"topics", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_plan_topics},
};
#undef AT

static kb_code read_plan(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    read_entry *entry = target;
    const char *backup_id = ctx;
    entry->plan = kb_backup_new(backup_id);
    kb_code code =
        kb_fields_read(reader, plan_fields, KB_ARRAY_LEN(plan_fields), entry->plan, ctx, NULL, err);
    if (code != KB_OK)
        return code;
    kb_codec codec;
    if (!kb_codec_parse(entry->plan->compression, &codec))
        return kb_json_fail(reader, err, "unknown codec '%s'", entry->plan->compression);
    if (entry->plan->lineage[0] == '\0')
        kb_text_set(&entry->plan->lineage, NULL);
    return KB_OK;
}

/* ---- reading: progress and seal ---- */

static kb_code read_segments(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    const read_entry *entry = ctx;
    return kb_read_partition_segments(reader, target, entry->extra, err);
}

#define AT(member) offsetof(read_partition, member)
static const kb_field progress_fields[] = {
    {"topic", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(topic), NULL},
    {"partition", KB_FIELD_COUNT32, KB_FIELD_REQUIRED, AT(partition), NULL},
    {"position", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(position), NULL},
    {"cut", KB_FIELD_COUNT, 0, AT(cut), NULL},
    {"cutTime", KB_FIELD_COUNT, 0, AT(cut_time), NULL},
    {"reuseUpTo", KB_FIELD_COUNT, 0, AT(reuse_up_to), NULL},
    {"segments", KB_FIELD_CUSTOM, 0, 0, read_segments},
    {"gaps", KB_FIELD_CUSTOM, 0, 0, kb_read_partition_gaps},
    {"done", KB_FIELD_BOOL, 0, AT(done), NULL},
    {"probes", KB_FIELD_CUSTOM, 0, 0, kb_read_partition_probes},
    {"maxRecordBytes", KB_FIELD_COUNT, 0, AT(max_record_bytes), NULL},
};
#undef AT

static kb_code read_progress(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    read_entry *entry = target;
    if (entry->partition_count == KB_CATALOG_PARTITIONS_MAX)
        return kb_json_fail(reader, err, "more than %d partitions", KB_CATALOG_PARTITIONS_MAX);
    entry->partitions = kb_grow(entry->partitions, entry->partition_count, &entry->partition_capacity,
                                sizeof *entry->partitions);
    read_partition *partition = &entry->partitions[entry->partition_count++];
    *partition = (read_partition){.cut = -1, .reuse_up_to = -1, .lists = {.reuse_up_to = -1}};
    (void)ctx;
    return kb_fields_read(reader, progress_fields, KB_ARRAY_LEN(progress_fields), partition, entry, NULL,
                          err);
}

static kb_code read_partitions(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    return kb_elements_read(reader, read_progress, target, ctx, err);
}

typedef struct event_texts {
    char *topic;
    char *event;
} event_texts;

static void event_texts_done(event_texts *texts)
{
    free(texts->topic);
    free(texts->event);
}

static const kb_field event_fields[] = {
    {"topic", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(event_texts, topic), NULL},
    {"event", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(event_texts, event), NULL},
};

static kb_code read_one_event(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    read_entry *entry = target;
    event_texts texts KB_CLEANUP(event_texts_done) = {NULL, NULL};
    kb_code code = kb_fields_read(reader, event_fields, KB_ARRAY_LEN(event_fields), &texts, NULL, NULL, err);
    if (code != KB_OK)
        return code;
    kb_topic_state state = KB_TOPIC_OK;
    if (!kb_topic_state_parse(texts.event, &state))
        return kb_json_fail(reader, err, "unknown topic event '%s'", texts.event);
    entry->events = kb_grow(entry->events, entry->event_count, &entry->event_capacity, sizeof *entry->events);
    entry->events[entry->event_count++] = (read_event){KB_TAKE(texts.topic), state};
    return KB_OK;
}

static kb_code read_events(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    return kb_elements_read(reader, read_one_event, target, ctx, err);
}

static kb_code read_findings(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    read_entry *entry = target;
    return kb_read_backup_findings(reader, entry->extra, ctx, err);
}

static kb_code read_groups(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    read_entry *entry = target;
    return kb_read_backup_groups(reader, entry->extra, ctx, err);
}

static kb_code read_totals(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    read_entry *entry = target;
    entry->has_totals = true;
    return kb_read_totals(reader, &entry->totals, err);
}

#define AT(member) offsetof(read_entry, member)
static const kb_field entry_fields[] = {
    {"formatVersion", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_version},
    {"seq", KB_FIELD_COUNT, KB_FIELD_REQUIRED, AT(seq), NULL},
    {"kind", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_kind},
    {"backupId", KB_FIELD_TEXT, KB_FIELD_REQUIRED, AT(backup_id), NULL},
    {"attemptId", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_attempt_id},
    {"attempt", KB_FIELD_COUNT32, KB_FIELD_REQUIRED, AT(head.attempt), NULL},
    {"time", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_time},
    {"holder", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_holder},
    {"prevSha256", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_prev},
    {"plan", KB_FIELD_CUSTOM, 0, 0, read_plan},
    {"partitions", KB_FIELD_CUSTOM, 0, 0, read_partitions},
    {"topicEvents", KB_FIELD_CUSTOM, 0, 0, read_events},
    {"findings", KB_FIELD_CUSTOM, 0, 0, read_findings},
    {"groups", KB_FIELD_CUSTOM, 0, 0, read_groups},
    {"totals", KB_FIELD_CUSTOM, 0, 0, read_totals},
    {"generator", KB_FIELD_TEXT, 0, AT(generator), NULL},
    {"conditionalPut", KB_FIELD_BOOL, 0, AT(conditional_put), NULL},
};
#undef AT

static kb_code read_text(read_entry *entry, char *backup_id, const char *text, size_t len, kb_error *err)
{
    if (len > KB_JOURNAL_ENTRY_MAX_BYTES)
        return kb_fail(err, KB_ERR_TOO_LARGE, "a journal entry is larger than %zu bytes",
                       KB_JOURNAL_ENTRY_MAX_BYTES);
    kb_json_reader *reader KB_CLEANUP(kb_json_reader_free_at) =
        kb_json_reader_new(kb_view_of(text, len), NULL);
    kb_code code =
        kb_fields_read(reader, entry_fields, KB_ARRAY_LEN(entry_fields), entry, backup_id, NULL, err);
    if (code == KB_OK)
        code = kb_json_end(reader, err);
    return code == KB_OK ? kb_self_hash_check(text, len, err) : code;
}

/* ---- replay ---- */

void kb_replay_init(kb_replay *replay, const char *backup_id, const char *watched_job_uid)
{
    *replay = (kb_replay){
        .backup_id = kb_strdup(backup_id),
        .watched_job_uid = kb_strdup(watched_job_uid != NULL ? watched_job_uid : ""),
    };
}

void kb_replay_done(kb_replay *replay)
{
    free(replay->backup_id);
    free(replay->watched_job_uid);
    kb_backup_free(replay->backup);
    kb_holder_done(&replay->last.holder);
    *replay = (kb_replay){0};
}

/* Number, chain and who may write what. */
static kb_code check_place(const kb_replay *replay, const read_entry *entry, kb_error *err)
{
    const kb_entry_head *head = &entry->head;
    bool is_first = replay->next_seq == 0;
    if (entry->seq != replay->next_seq)
        return kb_fail(err, KB_ERR_FORMAT, "it has number %" PRId64, entry->seq);
    if (strcmp(entry->backup_id, replay->backup_id) != 0)
        return kb_fail(err, KB_ERR_FORMAT, "it is of backup '%s'", entry->backup_id);
    if (head->has_prev == is_first ||
        (!is_first && memcmp(head->prev_sha256, replay->last_sha256, KB_SHA256_SIZE) != 0))
        return kb_fail(err, KB_ERR_FORMAT, "its prevSha256 is not the hash of the entry before");
    if (!is_first && (replay->last.kind == KB_ENTRY_SEAL || replay->last.kind == KB_ENTRY_CLOSE))
        return kb_fail(err, KB_ERR_FORMAT, "nothing may follow a '%s' entry",
                       kb_entry_kind_name(replay->last.kind));
    if (is_first && head->kind != KB_ENTRY_OPEN)
        return kb_fail(err, KB_ERR_FORMAT, "the first entry is no 'open'");
    if (head->kind == KB_ENTRY_CLOSE)
        return KB_OK;
    if (head->kind == KB_ENTRY_OPEN) {
        if (head->attempt - 1 != (is_first ? 0 : replay->last.attempt))
            return kb_fail(err, KB_ERR_FORMAT, "attempt %" PRId32 " does not follow attempt %" PRId32,
                           head->attempt, replay->last.attempt);
        return KB_OK;
    }
    if (replay->last.kind == KB_ENTRY_RELEASE || head->attempt != replay->last.attempt ||
        memcmp(head->attempt_id, replay->last.attempt_id, KB_ATTEMPT_ID_SIZE) != 0)
        return kb_fail(err, KB_ERR_FORMAT, "it was written by an attempt that did not own the backup");
    return KB_OK;
}

static kb_code apply_open(kb_replay *replay, read_entry *entry, kb_error *err)
{
    if (entry->plan == NULL && replay->backup == NULL)
        return kb_fail(err, KB_ERR_FORMAT, "the first entry has no plan");
    if (entry->plan != NULL && replay->has_progress)
        return kb_fail(err, KB_ERR_FORMAT, "there is a new plan although progress exists");
    if (entry->plan != NULL) {
        kb_backup_free(replay->backup);
        replay->backup = KB_TAKE(entry->plan);
    }
    replay->open_time_ms = entry->head.time_ms;
    return KB_OK;
}

static kb_code apply_partition(kb_backup *backup, const kb_backup *extra, const read_partition *news,
                               kb_error *err)
{
    kb_topic_entry *topic = kb_backup_find_topic(backup, news->topic);
    kb_partition_entry *partition = kb_topic_find_partition(topic, news->partition);
    if (news->reuse_up_to >= 0) {
        kb_partition_clear_segments(partition);
        partition->reuse_up_to = news->reuse_up_to;
    }
    kb_code code = KB_OK;
    for (size_t i = 0; i < news->lists.gap_count && code == KB_OK; i++)
        code = kb_partition_add_gap(partition, news->lists.gaps[i], err);
    for (size_t i = 0; i < news->lists.segment_count && code == KB_OK; i++) {
        kb_segment_entry *segment = &news->lists.segments[i];
        if (segment->owner != KB_OWNER_SELF)
            segment->owner = kb_backup_add_use(backup, extra->uses[segment->owner]);
        code = kb_partition_add_segment(partition, segment, err);
    }
    for (size_t i = 0; i < news->lists.probe_count; i++)
        kb_partition_add_probe(partition, &news->lists.probes[i]);
    partition->to = news->position;
    partition->cut = news->cut >= 0 ? news->cut : partition->cut;
    partition->done = news->done;
    if (news->max_record_bytes > topic->max_record_bytes)
        topic->max_record_bytes = news->max_record_bytes;
    if (news->cut_time > backup->cut_time)
        backup->cut_time = news->cut_time;
    return code;
}

/* The news in the form that kb_news_check takes; all borrowed from the entry, the array is owned. */
static kb_partition_progress *borrow_news(const read_entry *entry)
{
    kb_partition_progress *news = kb_calloc(entry->partition_count + 1, sizeof *news);
    for (size_t i = 0; i < entry->partition_count; i++) {
        const read_partition *read = &entry->partitions[i];
        news[i] = (kb_partition_progress){
            .topic = read->topic,
            .partition = read->partition,
            .position = read->position,
            .cut = read->cut,
            .reuse_up_to = read->reuse_up_to,
            .segments = read->lists.segments,
            .segment_count = read->lists.segment_count,
            .gaps = read->lists.gaps,
            .gap_count = read->lists.gap_count,
        };
    }
    return news;
}

static void apply_extra(kb_backup *backup, const read_entry *entry)
{
    const kb_backup *extra = entry->extra;
    for (size_t i = 0; i < entry->event_count; i++) {
        kb_topic_entry *topic = kb_backup_find_topic(backup, entry->events[i].topic);
        topic->state = entry->events[i].state;
    }
    for (size_t i = 0; i < extra->finding_count; i++) {
        const kb_finding_entry *f = &extra->findings[i];
        kb_backup_add_finding(backup, f->reason, f->topic, f->partition, f->detail);
    }
    if (extra->groups != NULL)
        kb_backup_set_groups(backup, extra->groups->key, extra->groups->sha256, extra->groups->count,
                             extra->groups->complete);
}

static kb_code apply_progress(kb_replay *replay, const read_entry *entry, kb_error *err)
{
    KB_AUTOFREE kb_partition_progress *news = borrow_news(entry);
    const kb_journal_news all = {.partitions = news, .partition_count = entry->partition_count};
    kb_code code = kb_news_check(replay->backup, &all, err);
    if (code != KB_OK)
        return kb_wrap_as(err, KB_ERR_FORMAT, "it contradicts the entries before");
    for (size_t i = 0; i < entry->event_count; i++)
        if (kb_backup_find_topic(replay->backup, entry->events[i].topic) == NULL)
            return kb_fail(err, KB_ERR_FORMAT, "topic '%s' is not in the plan", entry->events[i].topic);
    for (size_t i = 0; i < entry->partition_count && code == KB_OK; i++)
        code = apply_partition(replay->backup, entry->extra, &entry->partitions[i], err);
    if (code != KB_OK)
        return code;
    apply_extra(replay->backup, entry);
    if (entry->partition_count > 0 || entry->event_count > 0 || entry->extra->finding_count > 0 ||
        entry->extra->groups != NULL)
        replay->has_progress = true;
    return KB_OK;
}

static kb_code apply_seal(kb_replay *replay, const read_entry *entry, kb_error *err)
{
    kb_backup_totals totals;
    kb_code code = kb_backup_totals_of(replay->backup, &totals, err);
    if (code != KB_OK)
        return code;
    if (!entry->has_totals || !kb_totals_equal(&totals, &entry->totals))
        return kb_fail(err, KB_ERR_FORMAT, "its totals are not those of the entries before");
    if (entry->generator == NULL)
        return kb_fail(err, KB_ERR_FORMAT, "it names no generator");
    kb_text_set(&replay->backup->generator, entry->generator);
    replay->backup->conditional_put = entry->conditional_put;
    replay->backup->completed_at = entry->head.time_ms;
    return KB_OK;
}

static kb_code apply(kb_replay *replay, read_entry *entry, kb_error *err)
{
    switch (entry->head.kind) {
    case KB_ENTRY_OPEN:
        return apply_open(replay, entry, err);
    case KB_ENTRY_PROGRESS:
        return apply_progress(replay, entry, err);
    case KB_ENTRY_SEAL:
        return apply_seal(replay, entry, err);
    case KB_ENTRY_RELEASE:
    case KB_ENTRY_CLOSE:
    case KB_ENTRY_KIND_COUNT:
        break;
    }
    return KB_OK;
}

static kb_code add_entry(kb_replay *replay, read_entry *entry, const char *text, size_t len, kb_error *err)
{
    kb_code code = read_text(entry, replay->backup_id, text, len, err);
    if (code == KB_OK)
        code = check_place(replay, entry, err);
    if (code == KB_OK)
        code = apply(replay, entry, err);
    if (code != KB_OK)
        return code;
    if (kb_holder_is_same_job(&entry->head.holder, &(kb_holder){.job_uid = replay->watched_job_uid}))
        replay->has_watched_job = true;
    kb_sha256(text, len, replay->last_sha256);
    kb_holder_done(&replay->last.holder);
    replay->last = entry->head;
    replay->last.seq = replay->next_seq++;
    entry->head.holder = (kb_holder){0};
    return KB_OK;
}

kb_code kb_replay_add(kb_replay *replay, const char *text, size_t len, kb_error *err)
{
    read_entry entry KB_CLEANUP(read_entry_done) = {.extra = kb_backup_new(replay->backup_id)};
    return add_entry(replay, &entry, text, len, err);
}

kb_code kb_entry_peek(const char *backup_id, const char *text, size_t len, kb_entry_kind *ret_kind,
                      kb_error *err)
{
    read_entry entry KB_CLEANUP(read_entry_done) = {.extra = kb_backup_new(backup_id)};
    kb_code code = read_text(&entry, entry.extra->backup_id, text, len, err);
    if (code == KB_OK)
        *ret_kind = entry.head.kind;
    return code;
}

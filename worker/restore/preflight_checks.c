#include "worker/restore/preflight_checks.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "worker/catalog/layout.h"
#include "worker/restore/stream.h"
#include "worker/restore/topics.h"

/* What our own bookkeeping headers take in a stored record. */
#define KB_OWN_BLOCK_BYTES 65

const char *kb_restore_topic_config(const kb_restore_topic *topic, const char *name)
{
    for (size_t i = 0; i < topic->config_count; i++)
        if (strcmp(topic->configs[i].name, name) == 0)
            return topic->configs[i].value;
    return NULL;
}

static int64_t config_number(const kb_restore_topic *topic, const char *name, int64_t otherwise)
{
    const char *text = kb_restore_topic_config(topic, name);
    int64_t number;
    return text != NULL && kb_parse_i64(text, &number) ? number : otherwise;
}

/* ---- the backup ---- */

static void check_object(kb_preflight *pf, const kb_restore_source *source, const kb_segment_entry *segment)
{
    KB_AUTOFREE char *key = kb_segment_key(pf->plan->backup, source->topic, source->partition, segment);
    KB_AUTO_ERROR(err);
    kb_object_info info;
    kb_code code = kb_storage_head(pf->settings->storage, key, &info, &err);
    if (code == KB_ERR_NOT_FOUND)
        kb_checks_refuse(pf->checks, KB_BACKUP_CORRUPT, "index", "segment '%s' is missing", key);
    else if (code == KB_ERR_FORMAT)
        kb_checks_refuse(pf->checks, KB_BACKUP_CORRUPT, "index", "segment '%s': %s", key,
                         kb_error_text(&err));
    else if (code != KB_OK)
        kb_checks_refuse_error(pf->checks, "index", &err);
    else if (segment->bytes > 0 && info.size_bytes != (uint64_t)segment->bytes)
        kb_checks_refuse(pf->checks, KB_BACKUP_CORRUPT, "index",
                         "segment '%s' has %" PRIu64 " bytes, the backup says %" PRId64, key, info.size_bytes,
                         segment->bytes);
}

static void check_gaps(kb_preflight *pf, const kb_restore_source *source)
{
    const kb_partition_entry *partition = source->partition;
    bool allowed = pf->settings->config->restore.allow_gaps;
    if (source->sure_records + source->maybe_records == 0)
        return;
    int64_t first = partition->segments[source->first_segment].start;
    int64_t last = partition->segments[source->last_segment].end;
    for (size_t i = 0; i < partition->gap_count; i++) {
        const kb_gap *gap = &partition->gaps[i];
        if (gap->end <= first) {
            if (source->first_segment == 0)
                kb_checks_warn(pf->checks, "gaps",
                               "%s/%" PRId32 ": the backup begins with a gap, offsets %" PRId64
                               " to %" PRId64,
                               source->topic->name, partition->partition, gap->start, gap->end - 1);
            continue;
        }
        if (gap->start > last)
            continue;
        if (allowed)
            kb_progress_add_finding(
                pf->settings->progress, KB_FINDING_RETENTION_GAP, source->topic->name, partition->partition,
                "offsets %" PRId64 " to %" PRId64 " were never backed up", gap->start, gap->end - 1);
        else
            kb_checks_refuse(pf->checks, KB_GAP_NOT_ALLOWED, "gaps",
                             "%s/%" PRId32 ": offsets %" PRId64 " to %" PRId64
                             " were never backed up; hint: set restore.allow_gaps to restore what is there",
                             source->topic->name, partition->partition, gap->start, gap->end - 1);
    }
}

static kb_code never_full(void *ctx, kb_error *err)
{
    (void)ctx;
    return kb_fail(err, KB_ERR_INTERNAL, "a stream that sends nothing has no memory left");
}

static kb_code unit_has_record(const kb_preflight *pf, const kb_restore_unit *unit, bool *ret_has,
                               kb_error *err)
{
    KB_CLEANUP(kb_parcels_free_at) kb_parcels *parcels = kb_parcels_new(0, NULL, NULL);
    kb_stream_options options = {
        .storage = pf->settings->storage,
        .plan = pf->plan,
        .unit = unit,
        .parcels = parcels,
        .ignore_timestamps = true,
        .on_full = never_full,
        .memory_bytes = pf->settings->memory_bytes / 4,
    };
    KB_CLEANUP(kb_stream_free_at) kb_stream *stream = kb_stream_new(&options);
    kb_stream_record record;
    return kb_stream_next(stream, &record, ret_has, err);
}

static void check_any_record(kb_preflight *pf)
{
    bool has = false;
    for (size_t i = 0; i < pf->plan->source_count && !has; i++)
        has = pf->plan->sources[i].sure_records > 0;
    for (size_t u = 0; u < pf->plan->unit_count && !has; u++) {
        KB_AUTO_ERROR(err);
        if (kb_restore_unit_records(pf->plan, &pf->plan->units[u]) == 0)
            continue;
        if (unit_has_record(pf, &pf->plan->units[u], &has, &err) != KB_OK) {
            kb_checks_refuse_error(pf->checks, "records", &err);
            return;
        }
    }
    if (has)
        return;
    if (pf->settings->config->restore.allow_empty_result)
        kb_checks_warn(pf->checks, "records", "No records found in time range: nothing will be restored");
    else
        kb_checks_refuse(pf->checks, KB_NO_RECORDS_IN_RANGE, "records",
                         "No records found in time range; hint: set restore.allow_empty_result if that is "
                         "what you expect");
}

static void check_source_topic(kb_preflight *pf, const kb_topic_entry *topic)
{
    const char *policy = kb_topic_config(topic, "cleanup.policy");
    if (topic->state != KB_TOPIC_OK)
        kb_checks_warn(pf->checks, "selection", "topic '%s' is not whole in the backup: %s", topic->name,
                       kb_topic_state_name(topic->state));
    if (!kb_window_is_open(&pf->plan->window) && policy != NULL && strstr(policy, "compact") != NULL)
        kb_checks_warn(pf->checks, "window",
                       "topic '%s' was compacted at the source: a time window over it is not exact",
                       topic->name);
}

void kb_preflight_check_backup(kb_preflight *pf)
{
    const kb_restore_plan *plan = pf->plan;
    if (plan->backup->foreign)
        kb_checks_warn(pf->checks, "index",
                       "backup '%s' was not made by this program: its completeness is not known, and "
                       "transaction markers or aborted records in it are restored as they are stored",
                       plan->backup->backup_id);
    for (size_t i = 0; i < plan->backup->warning_count; i++)
        kb_checks_warn(pf->checks, "index", "%s", plan->backup->warnings[i]);
    for (size_t s = 0; s < plan->source_count; s++) {
        const kb_restore_source *source = &plan->sources[s];
        for (size_t i = 0; i < source->partition->segment_count; i++)
            if (source->verdicts[i] != KB_WINDOW_NONE)
                check_object(pf, source, &source->partition->segments[i]);
        check_gaps(pf, source);
    }
    for (size_t t = 0; t < plan->topic_count; t++)
        for (size_t s = 0; s < plan->topics[t].source_count; s++)
            check_source_topic(pf, plan->topics[t].sources[s]);
    if (pf->checks->refused == 0)
        check_any_record(pf);
}

/* ---- the target topics ---- */

/* Offsets, times and segments of what a topic will receive. */
typedef struct time_span {
    bool is_known;
    int64_t min;
    int64_t max;
} time_span;

static time_span span_of(const kb_restore_plan *plan, size_t t)
{
    time_span span = {false, INT64_MAX, INT64_MIN};
    for (size_t s = 0; s < plan->source_count && !plan->backup->foreign; s++) {
        const kb_restore_source *source = &plan->sources[s];
        for (size_t i = 0; source->target_topic == t && i < source->partition->segment_count; i++) {
            const kb_segment_entry *segment = &source->partition->segments[i];
            if (source->verdicts[i] == KB_WINDOW_NONE || segment->max_ts < 0)
                continue;
            span.is_known = true;
            /* Records without a time are not held against any limit. */
            if (segment->min_ts >= 0 && segment->min_ts < span.min)
                span.min = segment->min_ts;
            if (segment->max_ts > span.max)
                span.max = segment->max_ts;
        }
    }
    if (plan->window.has_start && span.min < plan->window.start)
        span.min = plan->window.start;
    if (plan->window.has_end && span.max > plan->window.end)
        span.max = plan->window.end;
    return span;
}

static size_t segments_before(const kb_restore_plan *plan, size_t t, int64_t time_ms)
{
    size_t count = 0;
    for (size_t s = 0; s < plan->source_count; s++) {
        const kb_restore_source *source = &plan->sources[s];
        for (size_t i = 0; source->target_topic == t && i < source->partition->segment_count; i++)
            if (source->verdicts[i] != KB_WINDOW_NONE && source->partition->segments[i].max_ts < time_ms)
                count++;
    }
    return count;
}

static void check_size(kb_preflight *pf, size_t t)
{
    const kb_restore_topic *topic = &pf->plan->topics[t];
    const kb_target_topic *target = &pf->view.topics[t];
    int64_t limit = target->exists ? target->max_message_bytes
                                   : config_number(topic, "max.message.bytes", KB_CONFIG_NUMBER_UNKNOWN);
    if (topic->max_record_bytes < 0) {
        kb_checks_warn(pf->checks, "max.message.bytes",
                       "the size of the largest record of topic '%s' is not known", topic->name);
        return;
    }
    int64_t largest = topic->max_record_bytes;
    if (pf->plan->backup->content.offset_headers && pf->plan->strip_own_block)
        largest -= KB_OWN_BLOCK_BYTES;
    if (limit != KB_CONFIG_NUMBER_UNKNOWN && largest > limit)
        kb_checks_refuse(pf->checks, KB_CONFIG_INVALID, "max.message.bytes",
                         "topic '%s' takes at most %" PRId64 " bytes, the backup has a record of %" PRId64
                         "; hint: raise max.message.bytes of the topic",
                         topic->name, limit, largest);
}

static void refuse_time(kb_preflight *pf, size_t t, const char *config, int64_t time_ms, int64_t limit_ms)
{
    char text[KB_RFC3339_SIZE];
    kb_rfc3339_format(time_ms, text);
    kb_checks_refuse(pf->checks, KB_CONFIG_INVALID, "timestamps",
                     "topic '%s' would refuse a record of %s: its %s is %" PRId64
                     "; hint: raise it for the restore",
                     pf->plan->topics[t].name, text, config, limit_ms);
}

static bool is_limit(int64_t limit_ms)
{
    return limit_ms != KB_CONFIG_NUMBER_UNKNOWN && limit_ms >= 0;
}

static void check_times(kb_preflight *pf, size_t t, const time_span *span)
{
    const kb_target_topic *target = &pf->view.topics[t];
    const kb_restore_topic *topic = &pf->plan->topics[t];
    const char *type = kb_restore_topic_config(topic, "message.timestamp.type");
    bool log_append =
        target->exists ? target->log_append : type != NULL && strcmp(type, "LogAppendTime") == 0;
    if (log_append) {
        kb_checks_warn(pf->checks, "timestamps",
                       "topic '%s' sets its own timestamps (LogAppendTime): those of the backup are lost",
                       topic->name);
        return;
    }
    if (!span->is_known)
        return;
    kb_target_topic limits = *target;
    if (!target->exists) {
        limits.timestamp_before_ms =
            config_number(topic, "message.timestamp.before.max.ms", KB_CONFIG_NUMBER_UNKNOWN);
        limits.timestamp_after_ms =
            config_number(topic, "message.timestamp.after.max.ms", KB_CONFIG_NUMBER_UNKNOWN);
        limits.timestamp_difference_ms =
            config_number(topic, "message.timestamp.difference.max.ms", KB_CONFIG_NUMBER_UNKNOWN);
    }
    int64_t now_ms = kb_clock_wall_ms();
    if (is_limit(limits.timestamp_before_ms) && span->min < now_ms - limits.timestamp_before_ms)
        refuse_time(pf, t, "message.timestamp.before.max.ms", span->min, limits.timestamp_before_ms);
    if (is_limit(limits.timestamp_after_ms) && span->max > now_ms &&
        span->max - now_ms > limits.timestamp_after_ms)
        refuse_time(pf, t, "message.timestamp.after.max.ms", span->max, limits.timestamp_after_ms);
    if (is_limit(limits.timestamp_difference_ms) && span->min < now_ms - limits.timestamp_difference_ms)
        refuse_time(pf, t, "message.timestamp.difference.max.ms", span->min, limits.timestamp_difference_ms);
}

static void check_cleanup(kb_preflight *pf, size_t t, const time_span *span)
{
    const kb_target_topic *target = &pf->view.topics[t];
    const kb_restore_topic *topic = &pf->plan->topics[t];
    int64_t retention_ms = target->exists ? target->retention_ms
                                          : config_number(topic, "retention.ms", KB_CONFIG_NUMBER_UNKNOWN);
    int64_t now_ms = kb_clock_wall_ms();
    if (span->is_known && is_limit(retention_ms) && span->min < now_ms - retention_ms)
        kb_checks_warn(pf->checks, "retention",
                       "retention.ms of topic '%s' is %" PRId64 ": records of %zu segments of the backup are "
                       "older and will be removed by the broker",
                       topic->name, retention_ms, segments_before(pf->plan, t, now_ms - retention_ms));
    if (target->exists && target->is_compacted && !pf->decisions[t].is_ours)
        kb_checks_warn(pf->checks, "retention",
                       "topic '%s' is compacted: the broker will remove records of %zu segments that have a "
                       "later value",
                       topic->name, segments_before(pf->plan, t, INT64_MAX));
}

static void check_partitions(kb_preflight *pf, size_t t)
{
    const kb_target_topic *target = &pf->view.topics[t];
    const kb_restore_topic *topic = &pf->plan->topics[t];
    if (target->partition_count == topic->partition_count)
        return;
    bool allowed = pf->settings->config->restore.allow_partition_mismatch;
    if (allowed && target->partition_count > topic->partition_count)
        kb_checks_warn(pf->checks, "partitions",
                       "topic '%s' has %" PRId32 " partitions, %" PRId32 " of them are restored", topic->name,
                       target->partition_count, topic->partition_count);
    else
        kb_checks_refuse(pf->checks, KB_TARGET_MISMATCH, "partitions",
                         "topic '%s' has %" PRId32 " partitions, the restore needs %" PRId32, topic->name,
                         target->partition_count, topic->partition_count);
}

/* ---- source and target are one ---- */

static bool is_very_topic(const kb_backup *backup, const kb_target_topic *target)
{
    for (size_t i = 0; i < backup->topic_count && target->has_id; i++)
        if (backup->topics[i].has_topic_id &&
            memcmp(backup->topics[i].topic_id, target->id, KB_TOPIC_ID_SIZE) == 0)
            return true;
    return false;
}

static const kb_topic_entry *same_name(const kb_restore_topic *topic)
{
    for (size_t s = 0; s < topic->source_count; s++)
        if (strcmp(topic->sources[s]->name, topic->name) == 0)
            return topic->sources[s];
    return NULL;
}

static void check_not_source(kb_preflight *pf, size_t t)
{
    const kb_backup *backup = pf->plan->backup;
    const kb_target_topic *target = &pf->view.topics[t];
    const kb_restore_topic *topic = &pf->plan->topics[t];
    const kb_topic_decision *decision = &pf->decisions[t];
    if (target->exists && is_very_topic(backup, target)) {
        kb_checks_refuse(pf->checks, KB_SOURCE_IS_TARGET, "source",
                         "topic '%s' is the very topic that was backed up", topic->name);
        return;
    }
    const kb_topic_entry *source = same_name(topic);
    bool same_cluster = backup->cluster_id != NULL && pf->target_cluster_id != NULL &&
                        strcmp(backup->cluster_id, pf->target_cluster_id) == 0;
    if (source == NULL || !same_cluster || decision->is_resumed)
        return;
    if (!pf->settings->config->restore.allow_source_cluster) {
        kb_checks_refuse(pf->checks, KB_SOURCE_IS_TARGET, "source",
                         "topic '%s' would be restored into the cluster and under the name it was backed up "
                         "from; hint: use restore.topic_mapping, or restore.allow_source_cluster when the "
                         "topic is gone",
                         topic->name);
        return;
    }
    bool ids_known = target->has_id && source->has_topic_id;
    if (target->exists && (ids_known ? !decision->is_prefix : decision->has_records))
        kb_checks_refuse(pf->checks, KB_SOURCE_IS_TARGET, "source",
                         "topic '%s' of the source cluster holds records", topic->name);
}

static void check_access(kb_preflight *pf, size_t t)
{
    const kb_target_topic *target = &pf->view.topics[t];
    const char *name = pf->plan->topics[t].name;
    if (target->error_number != 0) {
        KB_AUTO_ERROR(err);
        (void)kb_kafka_fail(&err, target->error_number, NULL, "topic '%s'", name);
        kb_checks_refuse_error(pf->checks, "permissions", &err);
    }
    if (target->exists && !target->has_configs)
        kb_checks_warn(pf->checks, "permissions", "the configs of topic '%s' cannot be read: %s", name,
                       target->configs_error != NULL ? target->configs_error : "not told");
}

void kb_preflight_check_topics(kb_preflight *pf)
{
    for (size_t t = 0; t < pf->plan->topic_count; t++) {
        const kb_target_topic *target = &pf->view.topics[t];
        time_span span = span_of(pf->plan, t);
        check_access(pf, t);
        check_size(pf, t);
        check_times(pf, t, &span);
        check_cleanup(pf, t, &span);
        check_not_source(pf, t);
        if (target->exists)
            check_partitions(pf, t);
    }
}

/* ---- creation ---- */

static void check_new_topic(kb_preflight *pf, size_t t)
{
    const kb_restore_topic *topic = &pf->plan->topics[t];
    int64_t factor = topic->replication_factor > 0 ? topic->replication_factor : pf->view.default_replication;
    int64_t min_insync = config_number(topic, "min.insync.replicas", pf->view.default_min_insync);
    if (factor == KB_CONFIG_NUMBER_UNKNOWN)
        return;
    if (factor > pf->view.broker_count)
        kb_checks_refuse(pf->checks, KB_CONFIG_INVALID, "creation",
                         "topic '%s' would have %" PRId64
                         " replicas, the target cluster has %d brokers; hint: set "
                         "restore.default_replication_factor",
                         topic->name, factor, pf->view.broker_count);
    if (min_insync != KB_CONFIG_NUMBER_UNKNOWN && factor < min_insync)
        kb_checks_refuse(pf->checks, KB_CONFIG_INVALID, "creation",
                         "topic '%s' would have %" PRId64 " replicas and min.insync.replicas %" PRId64
                         ": nothing could be written; hint: set restore.config_overrides",
                         topic->name, factor, min_insync);
}

kb_code kb_preflight_check_creation(kb_preflight *pf, kb_error *err)
{
    size_t refused = pf->checks->refused;
    for (size_t t = 0; t < pf->plan->topic_count; t++) {
        if (pf->view.topics[t].exists || pf->view.topics[t].error_number != 0)
            continue;
        pf->decisions[t].create = true;
        if (!pf->settings->config->restore.create_topics) {
            kb_checks_refuse(pf->checks, KB_TOPIC_NOT_FOUND, "creation",
                             "Topic '%s' not found on the target; hint: set restore.create_topics",
                             pf->plan->topics[t].name);
            continue;
        }
        check_new_topic(pf, t);
    }
    /* What cannot be created anyway need not be asked for. */
    return refused == pf->checks->refused ? kb_restore_topics_validate(pf, err) : KB_OK;
}

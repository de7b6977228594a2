#include "worker/catalog/journal_entry.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "worker/catalog/catalog_json.h"
#include "worker/catalog/object_source.h"

static const char *const kind_names[KB_ENTRY_KIND_COUNT] = {
    [KB_ENTRY_OPEN] = "open", [KB_ENTRY_PROGRESS] = "progress", [KB_ENTRY_RELEASE] = "release",
    [KB_ENTRY_SEAL] = "seal", [KB_ENTRY_CLOSE] = "close",
};

const char *kb_entry_kind_name(kb_entry_kind kind)
{
    return (unsigned)kind < KB_ENTRY_KIND_COUNT ? kind_names[kind] : "unknown";
}

/* ---- whether news fit ---- */

bool kb_journal_news_is_empty(const kb_journal_news *news)
{
    return news->partition_count == 0 && news->topic_event_count == 0 && news->finding_count == 0 &&
           news->groups == NULL;
}

/* Where a claim that says `declared` begins in the row: at the join, when only emptiness lies between. */
static int64_t joined_start(int64_t join, int64_t declared, int64_t known_empty_to)
{
    return declared > join && declared <= known_empty_to ? join : declared;
}

/* What the segments and gaps of the news join to: the partition as it is, or what is reused of the base. */
static int64_t first_join(const kb_partition_entry *partition, const kb_partition_progress *news)
{
    return news->reuse_up_to >= 0 ? news->reuse_up_to : kb_partition_joined(partition);
}

static kb_code fail_join(const kb_partition_progress *news, const char *what, int64_t start, int64_t join,
                         kb_error *err)
{
    return kb_fail(err, KB_ERR_INTERNAL, "%s at %" PRId64 " of %s/%" PRId32 " does not join at %" PRId64,
                   what, start, news->topic, news->partition, join);
}

/* Walks over segments and gaps in their common order; *ret_join is where the last of them ends. */
static kb_code walk_joins(const kb_partition_entry *partition, const kb_partition_progress *news,
                          int64_t *ret_join, kb_error *err)
{
    int64_t join = first_join(partition, news);
    size_t s = 0;
    size_t g = 0;
    while (s < news->segment_count || g < news->gap_count) {
        bool is_gap = s == news->segment_count ||
                      (g < news->gap_count && news->gaps[g].start < news->segments[s].start);
        if (is_gap) {
            const kb_gap *gap = &news->gaps[g++];
            if (joined_start(join, gap->start, partition->to) != join || gap->end <= gap->start)
                return fail_join(news, "a gap", gap->start, join, err);
            join = gap->end;
            continue;
        }
        const kb_segment_entry *segment = &news->segments[s++];
        kb_code code = kb_segment_entry_check(segment, err);
        if (code != KB_OK)
            return kb_wrap_as(err, KB_ERR_INTERNAL, "news of %s/%" PRId32, news->topic, news->partition);
        if (joined_start(join, segment->from, partition->to) != join)
            return fail_join(news, "a segment", segment->from, join, err);
        join = segment->to;
    }
    *ret_join = join;
    return KB_OK;
}

static kb_code check_partition(const kb_backup *backup, const kb_partition_progress *news, kb_error *err)
{
    const kb_partition_entry *partition = kb_backup_find_partition(backup, news->topic, news->partition);
    if (partition == NULL)
        return kb_fail(err, KB_ERR_INTERNAL, "%s/%" PRId32 " is not in the plan", news->topic,
                       news->partition);
    if (news->cut >= 0 && news->cut < partition->cut)
        return kb_fail(err, KB_ERR_INTERNAL, "cut of %s/%" PRId32 " sinks from %" PRId64 " to %" PRId64,
                       news->topic, news->partition, partition->cut, news->cut);
    int64_t cut = news->cut >= 0 ? news->cut : partition->cut;
    int64_t join = 0;
    kb_code code = walk_joins(partition, news, &join, err);
    if (code != KB_OK)
        return code;
    int64_t least = news->reuse_up_to < 0 && partition->to > join ? partition->to : join;
    if (news->position < least || news->position > cut)
        return kb_fail(err, KB_ERR_INTERNAL,
                       "position %" PRId64 " of %s/%" PRId32 " lies outside of %" PRId64 " to %" PRId64,
                       news->position, news->topic, news->partition, least, cut);
    return KB_OK;
}

kb_code kb_news_check(const kb_backup *backup, const kb_journal_news *news, kb_error *err)
{
    kb_map *seen KB_CLEANUP(kb_map_free_at) = kb_map_new(NULL);
    for (size_t i = 0; i < news->partition_count; i++) {
        const kb_partition_progress *p = &news->partitions[i];
        KB_AUTOFREE char *name = kb_asprintf("%s/%" PRId32, p->topic, p->partition);
        if (kb_map_gets(seen, name) != NULL)
            return kb_fail(err, KB_ERR_INTERNAL, "news of %s stand there twice", name);
        kb_map_puts(seen, name, seen);
        kb_code code = check_partition(backup, p, err);
        if (code != KB_OK)
            return code;
    }
    for (size_t i = 0; i < news->topic_event_count; i++)
        if (kb_backup_find_topic(backup, news->topic_events[i].topic) == NULL)
            return kb_fail(err, KB_ERR_INTERNAL, "topic '%s' is not in the plan",
                           news->topic_events[i].topic);
    return KB_OK;
}

/* ---- encoding ---- */

static void put_holder(kb_json_writer *w, const kb_holder *holder)
{
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "jobName", holder->job_name);
    kb_json_field_text(w, "jobUid", holder->job_uid);
    kb_json_field_text(w, "podName", holder->pod_name);
    kb_json_field_text(w, "host", holder->host);
    kb_json_field_text(w, "bootId", holder->boot_id);
    kb_json_field_i64(w, "pid", holder->pid);
    kb_json_field_i64(w, "pidStart", holder->pid_start);
    kb_json_field_i64(w, "pidNamespace", holder->pid_namespace);
    kb_json_put_end_object(w);
}

static void put_head(kb_json_writer *w, const kb_entry_head *head, const char *backup_id)
{
    char attempt_id[2 * KB_ATTEMPT_ID_SIZE + 1];
    char time[KB_RFC3339_SIZE];
    kb_hex_encode(head->attempt_id, KB_ATTEMPT_ID_SIZE, attempt_id);
    kb_rfc3339_format(head->time_ms, time);
    kb_json_put_begin_object(w);
    kb_json_field_i64(w, "formatVersion", KB_BACKUP_FORMAT_VERSION);
    kb_json_field_i64(w, "seq", head->seq);
    kb_json_field_text(w, "kind", kb_entry_kind_name(head->kind));
    kb_json_field_text(w, "backupId", backup_id);
    kb_json_field_text(w, "attemptId", attempt_id);
    kb_json_field_i64(w, "attempt", head->attempt);
    kb_json_field_text(w, "time", time);
    kb_json_put_name(w, "holder");
    put_holder(w, &head->holder);
    if (head->has_prev)
        kb_put_hash(w, "prevSha256", head->prev_sha256);
    else
        kb_json_field_text(w, "prevSha256", "");
}

/* Ends the entry and fills in its hash. */
static kb_code finish(kb_json_writer *w, size_t begin, kb_strbuf *out, kb_error *err)
{
    static const uint8_t no_hash[KB_SHA256_SIZE] = {0};
    kb_put_hash(w, "sha256", no_hash);
    kb_json_put_end_object(w);
    kb_code code = kb_json_writer_finish(w, err);
    return code == KB_OK ? kb_self_hash_write(out->data + begin, out->len - begin, err) : code;
}

static void put_plan_partition(kb_json_writer *w, const kb_partition_entry *partition)
{
    kb_json_put_begin_object(w);
    kb_json_field_i64(w, "partition", partition->partition);
    kb_json_field_i64(w, "logStart", partition->log_start);
    kb_json_field_i64(w, "highWatermark", partition->high_watermark);
    kb_json_field_i64(w, "cut", partition->cut);
    kb_json_field_i64(w, "from", partition->from);
    if (partition->reuse_up_to >= 0)
        kb_json_field_i64(w, "reuseUpTo", partition->reuse_up_to);
    else
        kb_json_field_null(w, "reuseUpTo");
    kb_json_put_end_object(w);
}

static void put_plan_topic(kb_json_writer *w, const kb_topic_entry *topic)
{
    kb_json_put_begin_object(w);
    kb_put_topic_head(w, topic);
    if (topic->state != KB_TOPIC_OK)
        kb_json_field_text(w, "state", kb_topic_state_name(topic->state));
    kb_json_field_text(w, "timestampType", topic->timestamp_type);
    kb_json_put_name(w, "partitions");
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < topic->listed_count; i++)
        put_plan_partition(w, &topic->partitions[i]);
    kb_json_put_end_array(w);
    kb_json_put_end_object(w);
}

static void put_plan(kb_json_writer *w, const kb_backup *plan)
{
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "lineage", plan->lineage != NULL ? plan->lineage : "");
    kb_json_field_text(w, "owner", plan->owner);
    kb_json_field_text(w, "clusterId", plan->cluster_id);
    kb_json_field_i64(w, "createdAt", plan->created_at);
    kb_json_field_text(w, "base", plan->base);
    kb_json_field_i64(w, "depth", plan->depth);
    kb_json_put_name(w, "content");
    kb_put_content(w, &plan->content);
    kb_json_field_text(w, "codec", plan->compression);
    kb_json_field_i64(w, "level", plan->level);
    kb_json_field_i64(w, "cutTime", plan->cut_time);
    kb_json_put_name(w, "skippedTopics");
    kb_put_skipped(w, plan->skipped, plan->skipped_count);
    if (plan->finding_count > 0) {
        kb_json_put_name(w, "findings");
        kb_put_findings(w, plan->findings, plan->finding_count);
    }
    kb_json_put_name(w, "topics");
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < plan->topic_count; i++)
        put_plan_topic(w, &plan->topics[i]);
    kb_json_put_end_array(w);
    kb_json_put_end_object(w);
}

kb_code kb_entry_encode_open(const kb_entry_head *head, const char *backup_id, const kb_backup *plan,
                             kb_strbuf *out, kb_error *err)
{
    size_t begin = out->len;
    kb_json_writer *w KB_CLEANUP(kb_json_writer_free_at) = kb_json_writer_new(KB_JSON_COMPACT, out);
    put_head(w, head, backup_id);
    if (plan != NULL) {
        kb_json_put_name(w, "plan");
        put_plan(w, plan);
    }
    return finish(w, begin, out, err);
}

/* Segments and gaps with the starts that make them join; walk_joins has accepted them. */
static void put_joined(kb_json_writer *w, const kb_backup *backup, const kb_partition_entry *partition,
                       const kb_partition_progress *news)
{
    kb_json_put_name(w, "segments");
    kb_json_put_begin_array(w);
    int64_t join = first_join(partition, news);
    size_t g = 0;
    for (size_t s = 0; s < news->segment_count; s++) {
        for (; g < news->gap_count && news->gaps[g].start < news->segments[s].start; g++)
            join = news->gaps[g].end;
        kb_segment_entry segment = news->segments[s];
        segment.from = joined_start(join, segment.from, partition->to);
        kb_put_segment(w, backup, &segment);
        join = segment.to;
    }
    kb_json_put_end_array(w);
}

static void put_joined_gaps(kb_json_writer *w, const kb_partition_entry *partition,
                            const kb_partition_progress *news)
{
    int64_t join = first_join(partition, news);
    size_t s = 0;
    KB_AUTOFREE kb_gap *gaps = kb_calloc(news->gap_count, sizeof *gaps);
    for (size_t g = 0; g < news->gap_count; g++) {
        for (; s < news->segment_count && news->segments[s].start < news->gaps[g].start; s++)
            join = news->segments[s].to;
        gaps[g] = news->gaps[g];
        gaps[g].start = joined_start(join, gaps[g].start, partition->to);
        join = gaps[g].end;
    }
    kb_json_put_name(w, "gaps");
    kb_put_gaps(w, gaps, news->gap_count);
}

static void put_partition(kb_json_writer *w, const kb_backup *backup, const kb_partition_progress *news)
{
    const kb_partition_entry *partition = kb_backup_find_partition(backup, news->topic, news->partition);
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "topic", news->topic);
    kb_json_field_i64(w, "partition", news->partition);
    kb_json_field_i64(w, "position", news->position);
    if (news->cut >= 0 && news->cut != partition->cut)
        kb_json_field_i64(w, "cut", news->cut);
    if (news->cut_time > 0)
        kb_json_field_i64(w, "cutTime", news->cut_time);
    if (news->reuse_up_to >= 0)
        kb_json_field_i64(w, "reuseUpTo", news->reuse_up_to);
    put_joined(w, backup, partition, news);
    if (news->gap_count > 0)
        put_joined_gaps(w, partition, news);
    kb_json_field_bool(w, "done", news->done);
    if (news->probe_count > 0) {
        kb_json_put_name(w, "probes");
        kb_put_probes(w, news->probes, news->probe_count);
    }
    if (news->max_record_bytes > 0)
        kb_json_field_i64(w, "maxRecordBytes", news->max_record_bytes);
    kb_json_put_end_object(w);
}

static void put_events(kb_json_writer *w, const kb_journal_news *news)
{
    kb_json_put_name(w, "topicEvents");
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < news->topic_event_count; i++) {
        kb_json_put_begin_object(w);
        kb_json_field_text(w, "topic", news->topic_events[i].topic);
        kb_json_field_text(w, "event", kb_topic_state_name(news->topic_events[i].state));
        kb_json_put_end_object(w);
    }
    kb_json_put_end_array(w);
}

kb_code kb_entry_encode_progress(const kb_entry_head *head, const kb_backup *backup,
                                 const kb_journal_news *news, kb_strbuf *out, kb_error *err)
{
    size_t begin = out->len;
    kb_json_writer *w KB_CLEANUP(kb_json_writer_free_at) = kb_json_writer_new(KB_JSON_COMPACT, out);
    put_head(w, head, backup->backup_id);
    kb_json_put_name(w, "partitions");
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < news->partition_count; i++)
        put_partition(w, backup, &news->partitions[i]);
    kb_json_put_end_array(w);
    if (news->topic_event_count > 0)
        put_events(w, news);
    if (news->finding_count > 0) {
        kb_json_put_name(w, "findings");
        kb_put_findings(w, news->findings, news->finding_count);
    }
    if (news->groups != NULL) {
        kb_json_put_name(w, "groups");
        kb_put_groups(w, news->groups);
    }
    return finish(w, begin, out, err);
}

kb_code kb_entry_encode_release(const kb_entry_head *head, const char *backup_id, kb_strbuf *out,
                                kb_error *err)
{
    size_t begin = out->len;
    kb_json_writer *w KB_CLEANUP(kb_json_writer_free_at) = kb_json_writer_new(KB_JSON_COMPACT, out);
    put_head(w, head, backup_id);
    return finish(w, begin, out, err);
}

kb_code kb_entry_encode_close(const kb_entry_head *head, const char *backup_id, const char *reason,
                              kb_strbuf *out, kb_error *err)
{
    size_t begin = out->len;
    kb_json_writer *w KB_CLEANUP(kb_json_writer_free_at) = kb_json_writer_new(KB_JSON_COMPACT, out);
    put_head(w, head, backup_id);
    kb_json_field_text(w, "reason", reason);
    return finish(w, begin, out, err);
}

kb_code kb_entry_encode_seal(const kb_entry_head *head, const kb_backup *backup, const char *generator,
                             kb_strbuf *out, kb_error *err)
{
    kb_backup_totals totals;
    kb_code code = kb_backup_totals_of(backup, &totals, err);
    if (code != KB_OK)
        return code;
    size_t begin = out->len;
    kb_json_writer *w KB_CLEANUP(kb_json_writer_free_at) = kb_json_writer_new(KB_JSON_COMPACT, out);
    put_head(w, head, backup->backup_id);
    kb_json_put_name(w, "totals");
    kb_put_totals(w, &totals);
    kb_json_field_text(w, "generator", generator);
    kb_json_field_bool(w, "conditionalPut", backup->conditional_put);
    return finish(w, begin, out, err);
}

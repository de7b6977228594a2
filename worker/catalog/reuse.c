#include "worker/catalog/reuse.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

/* ---- which part ---- */

kb_reuse_range kb_reuse_range_of(const kb_partition_entry *base, int64_t log_start, int64_t up_to)
{
    kb_reuse_range range = {.from = up_to};
    while (range.first_segment < base->segment_count && base->segments[range.first_segment].end < log_start)
        range.first_segment++;
    range.end_segment = range.first_segment;
    while (range.end_segment < base->segment_count && base->segments[range.end_segment].start < up_to)
        range.end_segment++;
    while (range.first_gap < base->gap_count && base->gaps[range.first_gap].end <= log_start)
        range.first_gap++;
    range.end_gap = range.first_gap;
    while (range.end_gap < base->gap_count && base->gaps[range.end_gap].start < up_to)
        range.end_gap++;
    if (range.first_segment < range.end_segment)
        range.from = base->segments[range.first_segment].from;
    if (range.first_gap < range.end_gap && base->gaps[range.first_gap].start < range.from)
        range.from = base->gaps[range.first_gap].start;
    return range;
}

static bool is_small(const kb_segment_entry *segment, const kb_reuse_rules *rules)
{
    int64_t limit =
        rules->segment_max_bytes < KB_REUSE_SMALL_BYTES ? rules->segment_max_bytes : KB_REUSE_SMALL_BYTES;
    return segment->raw_bytes < limit &&
           (rules->segment_max_records == 0 || segment->count < rules->segment_max_records);
}

/* Where the small segments at the end of the range begin, if they are many; else the end. */
static int64_t small_tail(const kb_partition_entry *base, int64_t log_start, const kb_reuse_range *range,
                          const kb_reuse_rules *rules, int64_t up_to)
{
    size_t first = range->end_segment;
    int64_t joined = up_to;
    while (first > range->first_segment) {
        const kb_segment_entry *segment = &base->segments[first - 1];
        /* Only without a gap in between, and only what can still be read from its very beginning. */
        if (segment->to != joined || segment->from < log_start || !is_small(segment, rules))
            break;
        joined = segment->from;
        first--;
    }
    return range->end_segment - first >= KB_REUSE_SMALL_COUNT ? joined : up_to;
}

/* ---- verdicts ---- */

static const char *const verdict_names[KB_REUSE_VERDICT_COUNT] = {
    [KB_REUSE_PROBE] = "not decided",
    [KB_REUSE_CONTINUOUS] = "continuous",
    [KB_REUSE_NO_BASE] = "not in the base",
    [KB_REUSE_RECREATED] = "recreated",
    [KB_REUSE_TRUNCATED] = "truncated",
    [KB_REUSE_RETENTION_GAP] = "retention gap",
    [KB_REUSE_UNFINISHED] = "unfinished in the base",
    [KB_REUSE_COMPACTED] = "compacted",
    [KB_REUSE_NOT_COMPARED] = "nothing to compare",
    [KB_REUSE_MISSING] = "object missing",
    [KB_REUSE_DIVERGED] = "diverged",
    [KB_REUSE_UNPROVEN] = "not proven",
};

const char *kb_reuse_verdict_name(kb_reuse_verdict verdict)
{
    return (unsigned)verdict < KB_REUSE_VERDICT_COUNT ? verdict_names[verdict] : "unknown";
}

static bool has_other_id(const kb_topic_entry *topic, const kb_topic_entry *base)
{
    return topic->has_topic_id && base->has_topic_id &&
           memcmp(topic->topic_id, base->topic_id, KB_TOPIC_ID_SIZE) != 0;
}

/* A topic that was found re-created while it was planned was read in full then. */
static bool is_finished(const kb_topic_entry *base)
{
    return base->state == KB_TOPIC_OK || base->state == KB_TOPIC_RECREATED;
}

/* An unknown policy counts as compact. */
static bool was_compacted(const kb_topic_entry *base)
{
    const char *policy = kb_topic_config(base, "cleanup.policy");
    return policy == NULL || strstr(policy, "compact") != NULL;
}

kb_reuse_verdict kb_reuse_judge(const kb_reuse_facts *facts)
{
    const kb_partition_entry *base = facts->base;
    const kb_partition_entry *now = facts->partition;
    if (facts->base_topic == NULL)
        return KB_REUSE_NO_BASE;
    if (has_other_id(facts->topic, facts->base_topic))
        return KB_REUSE_RECREATED;
    if (base == NULL)
        return KB_REUSE_NO_BASE;
    if (now->cut < base->to)
        return KB_REUSE_TRUNCATED;
    if (now->log_start > base->to)
        return KB_REUSE_RETENTION_GAP;
    if (!is_finished(facts->base_topic))
        return KB_REUSE_UNFINISHED;
    if (facts->compacted || was_compacted(facts->base_topic))
        return KB_REUSE_COMPACTED;
    kb_reuse_range range = kb_reuse_range_of(base, now->log_start, kb_partition_joined(base));
    if (range.first_segment == range.end_segment || base->probe_count == 0)
        return KB_REUSE_NOT_COMPARED;
    return facts->objects_stand ? KB_REUSE_PROBE : KB_REUSE_MISSING;
}

kb_reuse_verdict kb_reuse_judge_probes(const kb_probe_answer *answers, size_t count)
{
    size_t equal = 0;
    for (size_t i = 0; i < count; i++) {
        switch (answers[i]) {
        case KB_PROBE_UNASKED:
            return KB_REUSE_PROBE;
        case KB_PROBE_DIFFERENT:
            return KB_REUSE_DIVERGED;
        case KB_PROBE_EQUAL:
            if (i == 0)
                return KB_REUSE_CONTINUOUS;
            equal++;
            break;
        case KB_PROBE_GONE:
            break;
        }
    }
    return equal > 0 ? KB_REUSE_CONTINUOUS : KB_REUSE_UNPROVEN;
}

/* ---- the plan ---- */

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t full_start(const kb_reuse_facts *facts, kb_reuse_verdict verdict, const kb_reuse_rules *rules)
{
    const kb_partition_entry *now = facts->partition;
    const kb_partition_entry *base = facts->base;
    int64_t start = rules->full_start >= 0 ? rules->full_start : now->log_start;
    bool same_topic = base != NULL && verdict != KB_REUSE_RECREATED && verdict != KB_REUSE_TRUNCATED;
    if (rules->keep_late_start && same_topic && base->from > base->log_start && base->from > start)
        start = base->from;
    return smaller(start, now->cut);
}

static kb_reuse_plan plan_reuse(const kb_reuse_facts *facts, const kb_reuse_rules *rules)
{
    const kb_partition_entry *base = facts->base;
    int64_t log_start = facts->partition->log_start;
    int64_t joined = kb_partition_joined(base);
    kb_reuse_range range = kb_reuse_range_of(base, log_start, joined);
    int64_t up_to = small_tail(base, log_start, &range, rules, joined);
    return (kb_reuse_plan){
        .from = range.from < up_to ? range.from : up_to,
        .position = up_to,
        .reuse_up_to = up_to,
        .has_news = facts->partition->cut > base->to,
    };
}

kb_reuse_plan kb_reuse_decide(const kb_reuse_facts *facts, kb_reuse_verdict verdict,
                              const kb_reuse_rules *rules)
{
    if (verdict == KB_REUSE_CONTINUOUS)
        return plan_reuse(facts, rules);
    const kb_partition_entry *now = facts->partition;
    int64_t from = full_start(facts, verdict, rules);
    /* Reading starts where the base ended and so finds the gap up to the log's start. */
    if (verdict == KB_REUSE_RETENTION_GAP)
        from = facts->base->to;
    bool adds_only = verdict == KB_REUSE_COMPACTED || verdict == KB_REUSE_NOT_COMPARED;
    return (kb_reuse_plan){
        .from = from,
        .position = from,
        .reuse_up_to = -1,
        .has_news = adds_only ? now->cut > facts->base->to : now->cut > from,
    };
}

int64_t kb_reuse_floor(const kb_partition_entry *partition, const kb_partition_entry *base)
{
    if (partition->reuse_up_to < 0 || base == NULL)
        return -1;
    int64_t joined = kb_partition_joined(base);
    return partition->reuse_up_to < joined && partition->to < joined ? joined : -1;
}

/* ---- the result ---- */

bool kb_reuse_is_unfilled(const kb_backup *backup)
{
    for (size_t t = 0; t < backup->topic_count; t++)
        for (size_t p = 0; p < backup->topics[t].listed_count; p++)
            if (backup->topics[t].partitions[p].reuse_up_to >= 0)
                return true;
    return false;
}

static kb_code find_base(const kb_backup *base, const kb_topic_entry *topic,
                         const kb_partition_entry *partition, const kb_partition_entry **ret_base,
                         kb_error *err)
{
    *ret_base = kb_backup_find_partition(base, topic->name, partition->partition);
    if (*ret_base != NULL)
        return KB_OK;
    return kb_fail(err, KB_ERR_FORMAT,
                   "the plan reuses segments of %s/%" PRId32 ", which the base '%s' does not have",
                   topic->name, partition->partition, base->backup_id);
}

/* Names of the base's owners to indexes of this backup's uses; -1 = not used yet. The last is the base
 * itself. */
static int32_t owner_in(kb_backup *backup, const kb_backup *base, int32_t *owners, int32_t owner)
{
    size_t at = owner == KB_OWNER_SELF ? base->use_count : (size_t)owner;
    if (owners[at] < 0)
        owners[at] = kb_backup_add_use(backup, owner == KB_OWNER_SELF ? base->backup_id : base->uses[owner]);
    return owners[at];
}

static kb_code fill_partition(kb_backup *backup, const kb_backup *base, const kb_partition_entry *from,
                              kb_partition_entry *to, int32_t *owners, kb_error *err)
{
    kb_reuse_range range = kb_reuse_range_of(from, to->log_start, to->reuse_up_to);
    for (size_t i = range.first_segment; i < range.end_segment; i++) {
        kb_segment_entry segment = from->segments[i];
        segment.name = kb_strdup_opt(segment.name);
        segment.owner = owner_in(backup, base, owners, segment.owner);
        if (kb_partition_append_segment(to, &segment, err) != KB_OK) {
            kb_segment_entry_done(&segment);
            return err->code;
        }
    }
    for (size_t i = range.first_gap; i < range.end_gap; i++)
        if (kb_partition_append_gap(to, from->gaps[i], err) != KB_OK)
            return err->code;
    kb_partition_sort(to);
    for (size_t i = 0; i < from->probe_count; i++)
        if (from->probes[i].offset < to->reuse_up_to)
            kb_partition_add_probe(to, &from->probes[i]);
    to->reuse_up_to = -1;
    return KB_OK;
}

kb_code kb_reuse_fill(kb_backup *backup, const kb_backup *base, kb_error *err)
{
    KB_AUTOFREE int32_t *owners = kb_calloc(base->use_count + 1, sizeof *owners);
    for (size_t i = 0; i <= base->use_count; i++)
        owners[i] = -1;
    for (size_t t = 0; t < backup->topic_count; t++) {
        kb_topic_entry *topic = &backup->topics[t];
        for (size_t p = 0; p < topic->listed_count; p++) {
            kb_partition_entry *partition = &topic->partitions[p];
            const kb_partition_entry *from = NULL;
            if (partition->reuse_up_to < 0)
                continue;
            if (find_base(base, topic, partition, &from, err) != KB_OK ||
                fill_partition(backup, base, from, partition, owners, err) != KB_OK)
                return err->code;
            const kb_topic_entry *base_topic = kb_backup_find_topic(base, topic->name);
            if (base_topic->max_record_bytes > topic->max_record_bytes)
                topic->max_record_bytes = base_topic->max_record_bytes;
        }
    }
    return KB_OK;
}

static kb_code visit_partition(const kb_partition_entry *partition, const kb_topic_entry *base_topic,
                               const kb_partition_entry *base, kb_reuse_fn fn, void *ctx, kb_error *err)
{
    kb_reuse_range range = kb_reuse_range_of(base, partition->log_start, partition->reuse_up_to);
    for (size_t i = range.first_segment; i < range.end_segment; i++) {
        kb_code code = fn(ctx, base_topic, base, &base->segments[i], err);
        if (code != KB_OK)
            return code;
    }
    return KB_OK;
}

kb_code kb_reuse_visit(const kb_backup *backup, const kb_backup *base, kb_reuse_fn fn, void *ctx,
                       kb_error *err)
{
    for (size_t t = 0; t < backup->topic_count; t++) {
        const kb_topic_entry *topic = &backup->topics[t];
        const kb_topic_entry *base_topic = kb_backup_find_topic(base, topic->name);
        for (size_t p = 0; p < topic->listed_count; p++) {
            const kb_partition_entry *from = NULL;
            if (topic->partitions[p].reuse_up_to < 0)
                continue;
            if (find_base(base, topic, &topic->partitions[p], &from, err) != KB_OK ||
                visit_partition(&topic->partitions[p], base_topic, from, fn, ctx, err) != KB_OK)
                return err->code;
        }
    }
    return KB_OK;
}

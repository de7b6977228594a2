#include "worker/backup/ledger_news.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "worker/catalog/reuse.h"

/* One partition of the entry while it is being folded. */
typedef struct news_part {
    kb_partition_progress progress;
    const kb_partition_entry *planned;
    int64_t reuse_floor;        /* as in a task */
    int64_t before;             /* position before this entry: the model moves on when the entry is durable */
    kb_segment_entry *segments; /* shallow copies: the events own what they point to */
    size_t segment_count, segment_capacity;
    kb_gap *gaps;
    size_t gap_count, gap_capacity;
    kb_probe *probes;
    size_t probe_count, probe_capacity;
} news_part;

struct kb_ledger_news {
    const kb_backup *base; /* borrowed while news are made; NULL = none */
    kb_journal_news view;
    news_part *parts;
    size_t part_count, part_capacity;
    kb_partition_progress *progress; /* built at the end from parts */
    kb_topic_event *topic_events;
    size_t topic_event_count, topic_event_capacity;
    kb_finding_entry *findings; /* reason and topic are borrowed, detail is owned */
    size_t finding_count, finding_capacity;
    bool *kept;
};

void kb_lost_topics_add(kb_lost_topics *lost, const char *topic, kb_topic_state state)
{
    lost->items = kb_grow(lost->items, lost->count, &lost->capacity, sizeof *lost->items);
    lost->items[lost->count++] = (kb_topic_event){topic, state};
}

void kb_lost_topics_done(kb_lost_topics *lost)
{
    free(lost->items);
    *lost = (kb_lost_topics){0};
}

void kb_ledger_event_done(kb_ledger_event *event)
{
    kb_segment_entry_done(&event->segment);
    free(event->detail);
    *event = (kb_ledger_event){0};
}

static void add_finding(kb_ledger_news *news, const char *reason, const char *topic, int32_t partition,
                        char *owned_detail)
{
    news->findings =
        kb_grow(news->findings, news->finding_count, &news->finding_capacity, sizeof *news->findings);
    news->findings[news->finding_count++] = (kb_finding_entry){
        .reason = (char *)(uintptr_t)reason,
        .topic = (char *)(uintptr_t)topic,
        .partition = partition,
        .detail = owned_detail,
    };
}

static void add_topic_event(kb_ledger_news *news, const char *topic, kb_topic_state state)
{
    news->topic_events = kb_grow(news->topic_events, news->topic_event_count, &news->topic_event_capacity,
                                 sizeof *news->topic_events);
    news->topic_events[news->topic_event_count++] = (kb_topic_event){topic, state};
}

/* The entry's index is kept in `index` as pointer value + 1, for NULL means absent. */
static news_part *part_of(kb_ledger_news *news, kb_map *index, const char *topic,
                          const kb_partition_entry *planned)
{
    const kb_partition_entry *base =
        news->base != NULL ? kb_backup_find_partition(news->base, topic, planned->partition) : NULL;
    KB_AUTOFREE char *name = kb_asprintf("%s/%" PRId32, topic, planned->partition);
    size_t known = (size_t)(uintptr_t)kb_map_gets(index, name);
    if (known > 0)
        return &news->parts[known - 1];
    news->parts = kb_grow(news->parts, news->part_count, &news->part_capacity, sizeof *news->parts);
    news->parts[news->part_count++] = (news_part){
        .planned = planned,
        .reuse_floor = kb_reuse_floor(planned, base),
        .before = planned->to,
        .progress = {.topic = topic,
                     .partition = planned->partition,
                     .position = planned->to,
                     .cut = -1,
                     .reuse_up_to = -1},
    };
    kb_map_puts(index, name, (void *)(uintptr_t)news->part_count);
    return &news->parts[news->part_count - 1];
}

static int64_t cut_of(const news_part *part)
{
    return part->progress.cut >= 0 ? part->progress.cut : part->planned->cut;
}

static void add_gap(news_part *part, int64_t start, int64_t end, int64_t time_ms)
{
    if (start >= end)
        return;
    part->gaps = kb_grow(part->gaps, part->gap_count, &part->gap_capacity, sizeof *part->gaps);
    part->gaps[part->gap_count++] = (kb_gap){start, end, time_ms};
}

static void add_segment(news_part *part, const kb_ledger_event *event)
{
    part->segments =
        kb_grow(part->segments, part->segment_count, &part->segment_capacity, sizeof *part->segments);
    part->segments[part->segment_count++] = event->segment;
    part->probes = kb_grow(part->probes, part->probe_count, &part->probe_capacity, sizeof *part->probes);
    part->probes[part->probe_count++] = event->probe;
    part->progress.position = event->segment.to;
    if (event->max_record_bytes > part->progress.max_record_bytes)
        part->progress.max_record_bytes = event->max_record_bytes;
}

/* The base gives what lies below up_to; what was read anew of it is void. */
static void take_from_base(news_part *part, int64_t up_to)
{
    part->segment_count = 0;
    part->gap_count = 0;
    part->progress.reuse_up_to = up_to;
    part->progress.position = up_to;
    part->reuse_floor = -1;
}

/* What is left up to the cut cannot be had any more. */
static void lose_rest(news_part *part, int64_t time_ms)
{
    int64_t cut = cut_of(part);
    if (part->progress.position < part->reuse_floor)
        take_from_base(part, part->reuse_floor);
    add_gap(part, part->progress.position, cut, time_ms);
    if (part->progress.position < cut)
        part->progress.position = cut;
    part->progress.done = true;
}

static void fold(kb_ledger_news *news, news_part *part, const kb_ledger_event *event)
{
    switch (event->kind) {
    case KB_LEDGER_SEGMENT:
        add_segment(part, event);
        break;
    case KB_LEDGER_GAP:
        add_gap(part, event->start, event->end, event->time_ms);
        part->progress.position = event->end;
        add_finding(news, kb_finding_name(KB_FINDING_RETENTION_GAP), event->topic, event->partition,
                    kb_asprintf("offsets %" PRId64 " to %" PRId64 " were removed before they could be read",
                                event->start, event->end));
        break;
    case KB_LEDGER_CUT:
        part->progress.cut = event->end;
        part->progress.cut_time = event->time_ms;
        break;
    case KB_LEDGER_DONE:
        part->progress.position = event->end;
        part->progress.done = true;
        break;
    case KB_LEDGER_LOST:
        lose_rest(part, event->time_ms);
        add_topic_event(news, event->topic, event->state);
        add_finding(news, event->reason, event->topic, event->partition, kb_strdup_opt(event->detail));
        break;
    case KB_LEDGER_FINDING:
        add_finding(news, event->reason, event->topic, event->partition, kb_strdup_opt(event->detail));
        break;
    case KB_LEDGER_REUSE:
        take_from_base(part, event->end);
        break;
    }
}

/* Segments of events before `at` that did not make it into the entry. */
static void unkeep_void(kb_ledger_news *news, const news_part *part, const kb_ledger_event *events, size_t at)
{
    if (part->progress.reuse_up_to < 0)
        return;
    for (size_t i = 0; i < at; i++)
        if (events[i].kind == KB_LEDGER_SEGMENT && events[i].partition == events[at].partition &&
            events[i].segment.from < part->progress.reuse_up_to &&
            strcmp(events[i].topic, events[at].topic) == 0)
            news->kept[i] = false;
}

static const kb_topic_event *find_lost(const kb_lost_topics *lost, const char *topic)
{
    for (size_t i = 0; i < lost->count; i++)
        if (strcmp(lost->items[i].topic, topic) == 0)
            return &lost->items[i];
    return NULL;
}

static kb_code fold_events(kb_ledger_news *news, const kb_backup *backup, const kb_ledger_event *events,
                           size_t count, const kb_lost_topics *lost, kb_map *index, kb_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const kb_partition_entry *planned =
            kb_backup_find_partition(backup, events[i].topic, events[i].partition);
        if (planned == NULL)
            return kb_fail(err, KB_ERR_INTERNAL, "%s/%" PRId32 " is not in the plan", events[i].topic,
                           events[i].partition);
        if (planned->done || find_lost(lost, events[i].topic) != NULL)
            continue;
        news_part *part = part_of(news, index, events[i].topic, planned);
        fold(news, part, &events[i]);
        if (events[i].kind == KB_LEDGER_REUSE || events[i].kind == KB_LEDGER_LOST)
            unkeep_void(news, part, events, i);
        news->kept[i] = true;
    }
    return KB_OK;
}

static void fold_lost_topics(kb_ledger_news *news, const kb_backup *backup, const kb_lost_topics *lost,
                             kb_map *index)
{
    int64_t now_ms = kb_clock_wall_ms();
    for (size_t i = 0; i < lost->count; i++) {
        const kb_topic_event *event = &lost->items[i];
        const kb_topic_entry *topic = kb_backup_find_topic(backup, event->topic);
        for (size_t p = 0; p < topic->listed_count; p++)
            if (!topic->partitions[p].done)
                lose_rest(part_of(news, index, event->topic, &topic->partitions[p]), now_ms);
        add_topic_event(news, event->topic, event->state);
        add_finding(
            news, kb_finding_name(KB_FINDING_DISCONTINUITY), event->topic, -1,
            kb_asprintf("the topic was %s while it was being read", kb_topic_state_name(event->state)));
    }
}

static void build_view(kb_ledger_news *news)
{
    news->progress = kb_calloc(news->part_count, sizeof *news->progress);
    for (size_t i = 0; i < news->part_count; i++) {
        news_part *part = &news->parts[i];
        part->progress.segments = part->segments;
        part->progress.segment_count = part->segment_count;
        part->progress.gaps = part->gaps;
        part->progress.gap_count = part->gap_count;
        part->progress.probes = part->probes;
        part->progress.probe_count = part->probe_count;
        news->progress[i] = part->progress;
    }
    news->view = (kb_journal_news){
        .partitions = news->progress,
        .partition_count = news->part_count,
        .topic_events = news->topic_events,
        .topic_event_count = news->topic_event_count,
        .findings = news->findings,
        .finding_count = news->finding_count,
    };
}

kb_code kb_ledger_news_make(const kb_backup *backup, const kb_backup *base, const kb_ledger_event *events,
                            size_t count, const kb_lost_topics *lost, kb_ledger_news **ret_news,
                            kb_error *err)
{
    KB_CLEANUP(kb_ledger_news_free_at) kb_ledger_news *news = kb_calloc(1, sizeof *news);
    news->base = base;
    KB_CLEANUP(kb_map_free_at) kb_map *index = kb_map_new(NULL);
    news->kept = kb_calloc(count, sizeof *news->kept);
    if (fold_events(news, backup, events, count, lost, index, err) != KB_OK)
        return err->code;
    fold_lost_topics(news, backup, lost, index);
    build_view(news);
    *ret_news = KB_TAKE(news);
    return KB_OK;
}

void kb_ledger_news_free(kb_ledger_news *owned_news)
{
    if (owned_news == NULL)
        return;
    for (size_t i = 0; i < owned_news->part_count; i++) {
        free(owned_news->parts[i].segments);
        free(owned_news->parts[i].gaps);
        free(owned_news->parts[i].probes);
    }
    for (size_t i = 0; i < owned_news->finding_count; i++)
        free(owned_news->findings[i].detail);
    free(owned_news->parts);
    free(owned_news->progress);
    free(owned_news->topic_events);
    free(owned_news->findings);
    free(owned_news->kept);
    free(owned_news);
}

void kb_ledger_news_free_at(kb_ledger_news **at)
{
    kb_ledger_news_free(*at);
    *at = NULL;
}

const kb_journal_news *kb_ledger_news_view(const kb_ledger_news *news)
{
    return &news->view;
}

bool kb_ledger_news_kept(const kb_ledger_news *news, size_t event_index)
{
    return news->kept[event_index];
}

int64_t kb_ledger_news_advance(const kb_ledger_news *news, size_t partition_index)
{
    const news_part *part = &news->parts[partition_index];
    return part->progress.position - part->before;
}

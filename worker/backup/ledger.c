#include "worker/backup/ledger.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "worker/backup/ledger_news.h"

#define KB_TICK_MS 200
#define KB_CHECK_DEADLINE_MS 120000
#define KB_TOPIC_GONE_MS 30000
#define KB_ENTRY_TRIES 5

struct kb_ledger {
    kb_ledger_options options;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct {
        kb_ledger_event *posted; /* in order of arrival */
        size_t posted_count, posted_capacity;
        uint64_t posted_total;    /* events ever posted */
        uint64_t journaled_total; /* of these, journaled */
        uint64_t urgent_total;    /* somebody waits for this many */
        bool want_fresh;
        bool at_end; /* flushed: nothing is read any more */
        bool ending;
        bool ended;
        kb_map *lost; /* names of topics whose rest is void */
    } locked;
};

static bool must_end(const kb_ledger *ledger)
{
    return kb_run_is_cancelled(ledger->options.control);
}

/* ---- the other threads' side ---- */

static uint64_t post(kb_ledger *ledger, kb_ledger_event *owned_event)
{
    ledger->locked.posted = kb_grow(ledger->locked.posted, ledger->locked.posted_count,
                                    &ledger->locked.posted_capacity, sizeof *ledger->locked.posted);
    ledger->locked.posted[ledger->locked.posted_count++] = *owned_event;
    *owned_event = (kb_ledger_event){0};
    return ++ledger->locked.posted_total;
}

void kb_ledger_post(kb_ledger *ledger, kb_ledger_event *owned_event)
{
    pthread_mutex_lock(&ledger->mutex);
    (void)post(ledger, owned_event);
    pthread_mutex_unlock(&ledger->mutex);
}

bool kb_ledger_post_and_wait(kb_ledger *ledger, kb_ledger_event *owned_event)
{
    pthread_mutex_lock(&ledger->mutex);
    uint64_t ticket = post(ledger, owned_event);
    if (ledger->locked.urgent_total < ticket)
        ledger->locked.urgent_total = ticket;
    pthread_cond_broadcast(&ledger->changed);
    while (ledger->locked.journaled_total < ticket && !ledger->locked.ended)
        pthread_cond_wait(&ledger->changed, &ledger->mutex);
    bool journaled = ledger->locked.journaled_total >= ticket;
    pthread_mutex_unlock(&ledger->mutex);
    return journaled;
}

bool kb_ledger_wait_fresh(kb_ledger *ledger)
{
    if (kb_journal_may_publish(ledger->options.journal))
        return true;
    pthread_mutex_lock(&ledger->mutex);
    while (!kb_journal_may_publish(ledger->options.journal) && !ledger->locked.ended) {
        ledger->locked.want_fresh = true;
        pthread_cond_broadcast(&ledger->changed);
        pthread_cond_wait(&ledger->changed, &ledger->mutex);
    }
    pthread_mutex_unlock(&ledger->mutex);
    return kb_journal_may_publish(ledger->options.journal);
}

void kb_ledger_flush(kb_ledger *ledger)
{
    pthread_mutex_lock(&ledger->mutex);
    ledger->locked.urgent_total = ledger->locked.posted_total;
    ledger->locked.at_end = true;
    pthread_cond_broadcast(&ledger->changed);
    pthread_mutex_unlock(&ledger->mutex);
}

bool kb_ledger_is_lost(kb_ledger *ledger, const char *topic)
{
    pthread_mutex_lock(&ledger->mutex);
    bool lost = kb_map_has(ledger->locked.lost, topic, strlen(topic));
    pthread_mutex_unlock(&ledger->mutex);
    return lost;
}

/* ---- the ledger's thread ---- */

typedef struct ledger_batch {
    kb_ledger_event *events;
    size_t count;
} ledger_batch;

static void batch_done(ledger_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        kb_ledger_event_done(&batch->events[i]);
    free(batch->events);
    *batch = (ledger_batch){0};
}

static void mark_lost(kb_ledger *ledger, const char *topic)
{
    static char mark;
    pthread_mutex_lock(&ledger->mutex);
    kb_map_put(ledger->locked.lost, topic, strlen(topic), &mark);
    pthread_mutex_unlock(&ledger->mutex);
}

/* The distinct topics of a batch that are not known to be lost; names are borrowed from the events. */
static size_t topics_of(kb_ledger *ledger, const ledger_batch *batch, const char ***ret_names)
{
    kb_map *seen = kb_map_new(NULL);
    const char **names = kb_calloc(batch->count, sizeof *names);
    size_t count = 0;
    for (size_t i = 0; i < batch->count; i++) {
        const char *topic = batch->events[i].topic;
        if (kb_map_has(seen, topic, strlen(topic)) || kb_ledger_is_lost(ledger, topic))
            continue;
        kb_map_put(seen, topic, strlen(topic), names);
        names[count++] = topic;
    }
    kb_map_free(seen);
    *ret_names = names;
    return count;
}

static kb_topic_state judge(const kb_topic_entry *planned, const kb_kafka_topic *found)
{
    if (found == NULL || found->error_number == KB_KAFKA_ERROR_UNKNOWN_TOPIC_OR_PARTITION)
        return KB_TOPIC_DELETED;
    if (found->error_number == 0 && planned->has_topic_id && found->has_id &&
        memcmp(planned->topic_id, found->id, KB_TOPIC_ID_SIZE) != 0)
        return KB_TOPIC_RECREATED;
    return KB_TOPIC_OK;
}

/* Asks the cluster whether the topics of the batch are still those of the plan. One request for all. */
static kb_code check_topics(kb_ledger *ledger, const ledger_batch *batch, kb_lost_topics *lost, kb_error *err)
{
    KB_AUTOFREE const char **names = NULL;
    size_t count = topics_of(ledger, batch, &names);
    if (count == 0)
        return KB_OK;
    kb_kafka_call call = {
        .deadline_ms = kb_clock_boot_ms() + KB_TOPIC_GONE_MS + KB_CHECK_DEADLINE_MS,
        .unknown_wait_ms = KB_TOPIC_GONE_MS,
    };
    kb_kafka_metadata metadata = {0};
    if (kb_kafka_admin_metadata(ledger->options.admin, names, count, &call, &metadata, err) != KB_OK)
        return kb_wrap(err, "comparing topic ids before a journal entry");
    const kb_backup *backup = kb_journal_backup(ledger->options.journal);
    for (size_t i = 0; i < count; i++) {
        const kb_topic_entry *planned = kb_backup_find_topic(backup, names[i]);
        kb_topic_state state = judge(planned, kb_kafka_metadata_find(&metadata, names[i]));
        if (state == KB_TOPIC_OK)
            continue;
        kb_log(KB_LOG_WARN, "topic is not the one of the plan any more; the rest of it becomes a gap",
               KB_STR("topic", names[i]), KB_STR("state", kb_topic_state_name(state)));
        mark_lost(ledger, names[i]);
        kb_lost_topics_add(lost, names[i], state);
    }
    kb_kafka_metadata_done(&metadata);
    return KB_OK;
}

static bool wait_before_retry(kb_ledger *ledger, int try)
{
    return kb_stop_wait(ledger->options.control->stop, 200LL << try) &&
           kb_stop_count(ledger->options.control->stop) > 1;
}

/* The same entry is sent until it is durable; the journal recognises its own. */
static kb_code write_entry(kb_ledger *ledger, const kb_journal_news *news, kb_error *err)
{
    for (int try = 0;; try++) {
        kb_code code = kb_journal_progress(ledger->options.journal, news, err);
        if (code == KB_OK || !err->retryable || try + 1 >= KB_ENTRY_TRIES || must_end(ledger))
            return code;
        kb_log_limited(KB_LOG_WARN, "journal entry failed, trying again", KB_ERRTEXT(err));
        if (wait_before_retry(ledger, try))
            return code;
        kb_error_done(err);
    }
}

static void count_segment(const kb_ledger *ledger, const kb_ledger_event *event)
{
    kb_progress *progress = ledger->options.progress;
    const kb_segment_entry *segment = &event->segment;
    kb_progress_add_records(progress, segment->count, segment->bytes);
    kb_progress_add_new_bytes(progress, segment->bytes);
    kb_progress_add_raw_bytes(progress, segment->raw_bytes);
    kb_progress_add_segment(progress);
    if (ledger->options.metrics == NULL)
        return;
    kb_run_metrics_add_records(ledger->options.metrics, (uint64_t)segment->count, event->payload_bytes);
    kb_run_metrics_add_segment(ledger->options.metrics, (uint64_t)segment->raw_bytes,
                               (uint64_t)segment->bytes);
}

static void count_gaps(const kb_ledger *ledger, const kb_partition_progress *part)
{
    for (size_t g = 0; g < part->gap_count; g++) {
        kb_progress_add_gap(ledger->options.progress, part->topic, part->partition, part->gaps[g].start,
                            part->gaps[g].end);
        if (ledger->options.metrics == NULL)
            continue;
        kb_metric_add(ledger->options.metrics->offset_gaps, 1);
        kb_metric_add(ledger->options.metrics->offsets_skipped,
                      (uint64_t)(part->gaps[g].end - part->gaps[g].start));
    }
}

static void count_finding(const kb_ledger *ledger, const kb_finding_entry *entry)
{
    kb_finding finding;
    if (!kb_finding_parse(entry->reason, &finding))
        return;
    kb_progress_add_finding(ledger->options.progress, finding, entry->topic, entry->partition, "%s",
                            entry->detail != NULL ? entry->detail : "");
    if (finding != KB_FINDING_DISCONTINUITY)
        return;
    kb_progress_add_discontinuity(ledger->options.progress);
    if (ledger->options.metrics != NULL)
        kb_metric_add(ledger->options.metrics->discontinuities, 1);
}

/* After the entry is durable, and only then: what the world may know. */
static void tell(kb_ledger *ledger, const ledger_batch *batch, const kb_ledger_news *news)
{
    const kb_journal_news *entry = kb_ledger_news_view(news);
    for (size_t i = 0; i < batch->count; i++)
        if (batch->events[i].kind == KB_LEDGER_SEGMENT && kb_ledger_news_kept(news, i))
            count_segment(ledger, &batch->events[i]);
    for (size_t p = 0; p < entry->partition_count; p++) {
        const kb_partition_progress *part = &entry->partitions[p];
        count_gaps(ledger, part);
        kb_progress_add_work(ledger->options.progress, kb_ledger_news_advance(news, p));
        if (!part->done)
            continue;
        kb_progress_partition_done(ledger->options.progress);
        if (ledger->options.on_settled != NULL)
            ledger->options.on_settled(ledger->options.ctx, part->topic, part->partition);
    }
    for (size_t f = 0; f < entry->finding_count; f++)
        count_finding(ledger, &entry->findings[f]);
    if (ledger->options.metrics != NULL)
        kb_metric_set(ledger->options.metrics->journal_age, 0);
}

/* Journals a batch; an empty one is a heartbeat. */
static kb_code journal_batch(kb_ledger *ledger, const ledger_batch *batch, kb_error *err)
{
    KB_CLEANUP(kb_lost_topics_done) kb_lost_topics lost = {0};
    if (check_topics(ledger, batch, &lost, err) != KB_OK)
        return err->code;
    KB_CLEANUP(kb_ledger_news_free_at) kb_ledger_news *news = NULL;
    const kb_backup *backup = kb_journal_backup(ledger->options.journal);
    if (kb_ledger_news_make(backup, ledger->options.base, batch->events, batch->count, &lost, &news, err) !=
        KB_OK)
        return err->code;
    if (write_entry(ledger, kb_ledger_news_view(news), err) != KB_OK)
        return err->code;
    tell(ledger, batch, news);
    return KB_OK;
}

static bool is_due_locked(const kb_ledger *ledger)
{
    bool has_news = ledger->locked.posted_count > 0;
    bool is_awaited = ledger->locked.urgent_total > ledger->locked.journaled_total;
    if (ledger->locked.want_fresh || (ledger->locked.ending && has_news))
        return true;
    /* The pace keeps a long run from filling the store; at the end it would be most of a short one. */
    if (ledger->locked.at_end && is_awaited)
        return true;
    int64_t interval_ms = is_awaited ? 0 : ledger->options.interval_ms;
    return kb_journal_due_in_ms(ledger->options.journal, interval_ms, has_news) <= 0;
}

static ledger_batch take_batch_locked(kb_ledger *ledger)
{
    ledger_batch batch = {ledger->locked.posted, ledger->locked.posted_count};
    ledger->locked.posted = NULL;
    ledger->locked.posted_count = 0;
    ledger->locked.posted_capacity = 0;
    return batch;
}

/* Waits until an entry is due. False when the thread shall end. */
static bool wait_due(kb_ledger *ledger, ledger_batch *ret_batch)
{
    pthread_mutex_lock(&ledger->mutex);
    while (!must_end(ledger) && !is_due_locked(ledger) && !ledger->locked.ending) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += KB_TICK_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_nsec -= 1000000000L;
            until.tv_sec++;
        }
        pthread_cond_timedwait(&ledger->changed, &ledger->mutex, &until);
    }
    bool go_on = !must_end(ledger) && is_due_locked(ledger);
    if (go_on)
        *ret_batch = take_batch_locked(ledger);
    pthread_mutex_unlock(&ledger->mutex);
    return go_on;
}

static void note_journaled(kb_ledger *ledger, size_t count)
{
    pthread_mutex_lock(&ledger->mutex);
    ledger->locked.journaled_total += count;
    ledger->locked.want_fresh = false;
    pthread_cond_broadcast(&ledger->changed);
    pthread_mutex_unlock(&ledger->mutex);
}

static void *run(void *arg)
{
    kb_ledger *ledger = arg;
    ledger_batch batch = {0};
    while (wait_due(ledger, &batch)) {
        KB_AUTO_ERROR(err);
        kb_code code = journal_batch(ledger, &batch, &err);
        size_t count = batch.count;
        batch_done(&batch);
        if (code != KB_OK) {
            kb_run_fail(ledger->options.control, &err);
            break;
        }
        note_journaled(ledger, count);
    }
    pthread_mutex_lock(&ledger->mutex);
    ledger->locked.ended = true;
    pthread_cond_broadcast(&ledger->changed);
    pthread_mutex_unlock(&ledger->mutex);
    return NULL;
}

static void ledger_free(kb_ledger *ledger)
{
    ledger_batch left = take_batch_locked(ledger);
    batch_done(&left);
    kb_map_free(ledger->locked.lost);
    pthread_cond_destroy(&ledger->changed);
    pthread_mutex_destroy(&ledger->mutex);
    free(ledger);
}

kb_code kb_ledger_start(const kb_ledger_options *options, kb_ledger **ret_ledger, kb_error *err)
{
    kb_ledger *ledger = kb_calloc(1, sizeof *ledger);
    ledger->options = *options;
    ledger->locked.lost = kb_map_new(NULL);
    pthread_mutex_init(&ledger->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&ledger->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int failed = pthread_create(&ledger->thread, NULL, run, ledger);
    if (failed != 0) {
        ledger_free(ledger);
        return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "no thread for the journal: %s",
                                 kb_errno_text(failed));
    }
    *ret_ledger = ledger;
    return KB_OK;
}

void kb_ledger_finish(kb_ledger *owned_ledger)
{
    if (owned_ledger == NULL)
        return;
    pthread_mutex_lock(&owned_ledger->mutex);
    owned_ledger->locked.ending = true;
    pthread_cond_broadcast(&owned_ledger->changed);
    pthread_mutex_unlock(&owned_ledger->mutex);
    pthread_join(owned_ledger->thread, NULL);
    ledger_free(owned_ledger);
}

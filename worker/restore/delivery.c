#include "worker/restore/delivery.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/mem.h"

#define KB_POLL_MS 100
#define KB_QUEUE_FULL_MS 2
#define KB_IDLE_SLICE_MS 50
#define KB_THROTTLE_LOOK_MS 1000
#define KB_BATCH_BYTES 1000000
#define KB_MESSAGE_BYTES_MIN 1000000
/* Room for what the batch adds to a record of the backup. */
#define KB_MESSAGE_MARGIN 65536

typedef struct topic_writer {
    kb_sink sink; /* first */
    kb_delivery *delivery;
    size_t topic;
    size_t units_left; /* under the delivery's mutex, as is is_open */
    bool is_open;
    kb_kafka_writer *writer;
    pthread_t thread;
    atomic_bool closing;
    atomic_bool has_failed;
    atomic_bool purge_wanted;
    bool is_purged; /* by the polling thread */
    int64_t looked_ms;
} topic_writer;

struct kb_delivery {
    kb_delivery_options options;
    pthread_mutex_t mutex; /* opening, closing, the graveyard */
    topic_writer *topics;
    kb_parcels **buried;
    size_t buried_count;
    size_t buried_capacity;
};

static const kb_sink_ops DELIVERY_OPS;

kb_writer_limits kb_writer_limits_of(const kb_restore_topic *topic, int64_t target_max_message_bytes)
{
    kb_writer_limits limits = {KB_BATCH_BYTES, KB_MESSAGE_BYTES_MIN};
    if (target_max_message_bytes > 0 && target_max_message_bytes < limits.batch_bytes)
        limits.batch_bytes = target_max_message_bytes;
    if (target_max_message_bytes > limits.max_message_bytes)
        limits.max_message_bytes = target_max_message_bytes;
    if (topic->max_record_bytes + KB_MESSAGE_MARGIN > limits.max_message_bytes)
        limits.max_message_bytes = topic->max_record_bytes + KB_MESSAGE_MARGIN;
    return limits;
}

/* ---- failing ---- */

static void fail_topic(topic_writer *tw, kb_error *err)
{
    kb_run_fail_partition(tw->delivery->options.control, err);
    atomic_store(&tw->has_failed, true);
    atomic_store(&tw->purge_wanted, true);
}

void kb_delivery_fail_topic(kb_delivery *delivery, size_t topic)
{
    /* What is queued may land: it is what the stream says. */
    atomic_store(&delivery->topics[topic].has_failed, true);
}

bool kb_delivery_has_failed(kb_delivery *delivery, size_t topic)
{
    return atomic_load_explicit(&delivery->topics[topic].has_failed, memory_order_relaxed);
}

/* ---- deliveries ---- */

static void check_delivery(topic_writer *tw, kb_target_state *target, const kb_kafka_delivery *delivery)
{
    KB_AUTO_ERROR(err);
    int64_t expected = target->start + target->landed.count + target->acked;
    if (delivery->code != KB_OK) {
        (void)kb_fail(&err, delivery->code, "writing to %s/%" PRId32 ": offset %" PRId64 ": %s",
                      target->topic, target->partition, expected, delivery->text);
        fail_topic(tw, &err);
        return;
    }
    if (delivery->offset >= 0 && delivery->offset != expected) {
        (void)kb_fail(&err, KB_TARGET_DIVERGED,
                      "%s/%" PRId32 ": record %" PRId64 " of the restore landed at offset %" PRId64
                      " instead of %" PRId64
                      ": somebody else writes to the topic, or it lost or repeated records",
                      target->topic, target->partition, target->landed.count + target->acked,
                      delivery->offset, expected);
        fail_topic(tw, &err);
        return;
    }
    if (KB_FAILPOINT("produce.acked_before_progress", &err) != KB_OK) {
        fail_topic(tw, &err);
        return;
    }
    target->acked++;
    if (delivery->offset >= 0)
        target->last_offset = delivery->offset;
}

static void on_delivered(void *owner, void *record_opaque, const kb_kafka_delivery *delivery)
{
    kb_target_state *target = owner;
    topic_writer *tw = (topic_writer *)target->sink;
    /* After the first failure nothing that comes proves anything. */
    if (!atomic_load_explicit(&tw->has_failed, memory_order_relaxed) || delivery->code == KB_OK)
        check_delivery(tw, target, delivery);
    kb_parcel_unref(record_opaque);
}

static void note_throttling(topic_writer *tw)
{
    int64_t now_ms = kb_clock_boot_ms();
    if (now_ms - tw->looked_ms < KB_THROTTLE_LOOK_MS)
        return;
    kb_kafka_state state = {0};
    kb_kafka_writer_state(tw->writer, &state);
    if (state.throttled_ms >= tw->looked_ms && state.throttled_ms > 0)
        kb_progress_touch(tw->delivery->options.progress);
    kb_kafka_state_done(&state);
    tw->looked_ms = now_ms;
}

static void *poll(void *arg)
{
    topic_writer *tw = arg;
    while (!atomic_load(&tw->closing)) {
        KB_AUTO_ERROR(err);
        if (kb_kafka_writer_poll(tw->writer, KB_POLL_MS, &err) != KB_OK) {
            if (!atomic_load(&tw->has_failed))
                fail_topic(tw, &err);
            /* The writer answers at once from now on; what it gave up still comes. */
            (void)kb_stop_wait(tw->delivery->options.control->stop, KB_QUEUE_FULL_MS);
        }
        if (atomic_load(&tw->purge_wanted) && !tw->is_purged) {
            tw->is_purged = true;
            kb_kafka_writer_purge(tw->writer);
        }
        note_throttling(tw);
    }
    return NULL;
}

/* ---- opening and closing ---- */

static kb_code make_targets(topic_writer *tw, kb_error *err)
{
    const kb_restore_plan *plan = tw->delivery->options.plan;
    const kb_restore_topic *topic = &plan->topics[tw->topic];
    for (int32_t p = 0; p < topic->partition_count; p++) {
        kb_target_state *state = &tw->delivery->options.targets[topic->first_target + (size_t)p];
        state->sink = &tw->sink;
        if (kb_kafka_writer_target(tw->writer, topic->name, p, state, &state->handle, err) != KB_OK)
            return err->code;
    }
    return KB_OK;
}

static kb_code open_writer(topic_writer *tw, kb_error *err)
{
    static const kb_kafka_writer_events events = {on_delivered};
    const kb_delivery_options *options = &tw->delivery->options;
    kb_writer_limits limits =
        kb_writer_limits_of(&options->plan->topics[tw->topic], options->max_message_bytes[tw->topic]);
    kb_kafka_writer_options writer = {
        .batch_records = options->batch_records,
        .batch_bytes = limits.batch_bytes,
        .queue_bytes = options->queue_bytes,
        .max_message_bytes = limits.max_message_bytes,
        .request_timeout_ms = options->request_timeout_ms,
    };
    if (kb_kafka_writer_new(options->kafka, &writer, &events, &tw->writer, err) != KB_OK)
        return err->code;
    if (make_targets(tw, err) != KB_OK)
        return err->code;
    int failed = pthread_create(&tw->thread, NULL, poll, tw);
    if (failed != 0)
        return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "no thread to be had: %s", kb_errno_text(failed));
    tw->is_open = true;
    return KB_OK;
}

static void close_writer(topic_writer *tw)
{
    if (tw->is_open) {
        atomic_store(&tw->closing, true);
        pthread_join(tw->thread, NULL);
        tw->is_open = false;
    }
    kb_kafka_writer_free(tw->writer);
    tw->writer = NULL;
}

kb_delivery *kb_delivery_new(const kb_delivery_options *options)
{
    const kb_restore_plan *plan = options->plan;
    kb_delivery *delivery = kb_calloc(1, sizeof *delivery);
    delivery->options = *options;
    delivery->topics = kb_calloc(plan->topic_count > 0 ? plan->topic_count : 1, sizeof *delivery->topics);
    for (size_t t = 0; t < plan->topic_count; t++) {
        delivery->topics[t].sink.ops = &DELIVERY_OPS;
        delivery->topics[t].delivery = delivery;
        delivery->topics[t].topic = t;
    }
    for (size_t u = 0; u < plan->unit_count; u++)
        delivery->topics[plan->units[u].topic].units_left++;
    pthread_mutex_init(&delivery->mutex, NULL);
    return delivery;
}

void kb_delivery_free(kb_delivery *owned_delivery)
{
    if (owned_delivery == NULL)
        return;
    for (size_t t = 0; t < owned_delivery->options.plan->topic_count; t++)
        close_writer(&owned_delivery->topics[t]);
    for (size_t i = 0; i < owned_delivery->buried_count; i++)
        kb_parcels_free(owned_delivery->buried[i]);
    free(owned_delivery->buried);
    free(owned_delivery->topics);
    pthread_mutex_destroy(&owned_delivery->mutex);
    free(owned_delivery);
}

kb_code kb_delivery_open(kb_delivery *delivery, size_t topic, kb_sink **ret_sink, kb_error *err)
{
    topic_writer *tw = &delivery->topics[topic];
    pthread_mutex_lock(&delivery->mutex);
    kb_code code = tw->is_open ? KB_OK : open_writer(tw, err);
    if (code != KB_OK)
        close_writer(tw);
    pthread_mutex_unlock(&delivery->mutex);
    if (code == KB_OK)
        *ret_sink = &tw->sink;
    return code;
}

void kb_delivery_unit_done(kb_delivery *delivery, size_t topic)
{
    pthread_mutex_lock(&delivery->mutex);
    topic_writer *tw = &delivery->topics[topic];
    if (--tw->units_left == 0)
        close_writer(tw);
    pthread_mutex_unlock(&delivery->mutex);
}

void kb_delivery_purge(kb_delivery *delivery)
{
    for (size_t t = 0; t < delivery->options.plan->topic_count; t++) {
        atomic_store(&delivery->topics[t].has_failed, true);
        atomic_store(&delivery->topics[t].purge_wanted, true);
    }
}

void kb_delivery_bury(kb_delivery *delivery, kb_parcels *owned_parcels)
{
    pthread_mutex_lock(&delivery->mutex);
    delivery->buried =
        kb_grow(delivery->buried, delivery->buried_count, &delivery->buried_capacity, sizeof(kb_parcels *));
    delivery->buried[delivery->buried_count++] = owned_parcels;
    pthread_mutex_unlock(&delivery->mutex);
}

void kb_delivery_state(kb_delivery *delivery, kb_kafka_state *ret_state)
{
    *ret_state = (kb_kafka_state){0};
    pthread_mutex_lock(&delivery->mutex);
    for (size_t t = 0; t < delivery->options.plan->topic_count && ret_state->last_error == NULL; t++) {
        kb_kafka_state_done(ret_state);
        *ret_state = (kb_kafka_state){0};
        if (delivery->topics[t].is_open)
            kb_kafka_writer_state(delivery->topics[t].writer, ret_state);
    }
    pthread_mutex_unlock(&delivery->mutex);
}

/* ---- the sink ---- */

/* Why a unit of this topic must not go on. */
static kb_code check_going(const topic_writer *tw, kb_error *err)
{
    if (kb_run_is_ending(tw->delivery->options.control))
        return kb_fail(err, KB_ERR_STOPPED, "stopped");
    if (atomic_load_explicit(&tw->has_failed, memory_order_relaxed))
        return kb_fail(err, KB_ERR_STOPPED, "the topic has failed");
    return KB_OK;
}

static kb_code sink_send(kb_sink *sink, kb_target_state *target, const kb_stream_record *record,
                         kb_error *err)
{
    topic_writer *tw = (topic_writer *)sink;
    while (kb_kafka_writer_send(target->handle, &record->out, record->parcel, err) != KB_OK) {
        if (err->code != KB_ERR_TOO_LARGE || !err->retryable)
            return err->code;
        kb_error_done(err);
        if (check_going(tw, err) != KB_OK)
            return err->code;
        (void)kb_stop_wait(tw->delivery->options.control->stop, KB_QUEUE_FULL_MS);
    }
    return KB_OK;
}

static kb_code sink_wait(kb_sink *sink, kb_error *err)
{
    return check_going((topic_writer *)sink, err);
}

static void sink_hurry(kb_sink *sink)
{
    kb_kafka_writer_nudge(((topic_writer *)sink)->writer);
}

static kb_code sink_finish(kb_sink *sink, kb_parcels *parcels, int64_t deadline_ms, kb_error *err)
{
    topic_writer *tw = (topic_writer *)sink;
    sink_hurry(sink);
    while (!kb_parcels_wait_idle(parcels, KB_IDLE_SLICE_MS)) {
        sink_hurry(sink);
        if (deadline_ms == 0 && check_going(tw, err) != KB_OK)
            return err->code;
        if (deadline_ms != 0 && kb_clock_boot_ms() >= deadline_ms)
            return kb_fail_retryable(err, KB_ERR_STOPPED, "records were not acknowledged in time");
    }
    return atomic_load(&tw->has_failed) ? kb_fail(err, KB_ERR_STOPPED, "the topic has failed") : KB_OK;
}

static void sink_landed(kb_sink *sink, int64_t records, int64_t bytes)
{
    topic_writer *tw = (topic_writer *)sink;
    const kb_delivery_options *options = &tw->delivery->options;
    /* After a failure some of these records were given up: the count on the target tells at the next run. */
    if (atomic_load(&tw->has_failed))
        return;
    kb_progress_add_records(options->progress, records, bytes);
    kb_progress_add_work(options->progress, records);
    if (options->metrics != NULL)
        kb_run_metrics_add_restored(options->metrics, (uint64_t)records, (uint64_t)bytes);
}

static const kb_sink_ops DELIVERY_OPS = {
    .send = sink_send,
    .wait = sink_wait,
    .hurry = sink_hurry,
    .finish = sink_finish,
    .landed = sink_landed,
};

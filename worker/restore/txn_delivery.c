#include "worker/restore/txn_delivery.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_txn.h"
#include "worker/restore/delivery.h"

#define KB_TXN_DEADLINE_MS 120000
#define KB_TXN_POLL_MS 20

typedef struct txn_writer {
    kb_sink sink; /* first */
    kb_txn_delivery *delivery;
    kb_kafka_writer *writer;
    char *id;
    pthread_t thread; /* takes over the id */
    kb_error error;   /* of taking over */
    bool is_open;     /* a transaction */
    int64_t began_ms;
    int64_t records, bytes;    /* of the open transaction */
    kb_target_state **touched; /* targets of the open transaction */
    size_t touched_count;
    size_t touched_capacity;
} txn_writer;

struct kb_txn_delivery {
    kb_txn_options options;
    char *group;
    char plan_sha256[2 * KB_SHA256_SIZE + 1];
    kb_run_control *control;
    kb_run_metrics *metrics;
    txn_writer writers[KB_TXN_IDS];
    pthread_mutex_t mutex; /* the graveyard */
    kb_parcels **buried;
    size_t buried_count;
    size_t buried_capacity;
};

static const kb_sink_ops TXN_OPS;

char *kb_txn_group(const char *restore_id)
{
    return kb_asprintf("kb-restore-%s", restore_id);
}

/* ---- making ---- */

static void on_delivered(void *owner, void *record_opaque, const kb_kafka_delivery *delivery)
{
    kb_target_state *target = owner;
    txn_writer *tw = (txn_writer *)target->sink;
    if (delivery->code == KB_OK) {
        target->acked++;
        if (delivery->offset >= 0)
            target->last_offset = delivery->offset;
    } else if (tw->error.code == KB_OK) {
        (void)kb_fail(&tw->error, delivery->code, "writing to %s/%" PRId32 ": %s", target->topic,
                      target->partition, delivery->text);
    }
    kb_parcel_unref(record_opaque);
}

/* One writer serves all topics, so the narrowest limit counts. */
static kb_writer_limits narrowest(const kb_txn_options *options)
{
    kb_writer_limits all = {INT64_MAX, 0};
    for (size_t t = 0; t < options->plan->topic_count; t++) {
        kb_writer_limits one = kb_writer_limits_of(&options->plan->topics[t], options->max_message_bytes[t]);
        all.batch_bytes = one.batch_bytes < all.batch_bytes ? one.batch_bytes : all.batch_bytes;
        all.max_message_bytes =
            one.max_message_bytes > all.max_message_bytes ? one.max_message_bytes : all.max_message_bytes;
    }
    return all;
}

static void *take_over(void *arg)
{
    static const kb_kafka_writer_events events = {on_delivered};
    txn_writer *tw = arg;
    const kb_txn_options *options = &tw->delivery->options;
    kb_writer_limits limits = narrowest(options);
    kb_kafka_writer_options writer = {
        .transactional_id = tw->id,
        .batch_records = options->batch_records,
        .batch_bytes = limits.batch_bytes,
        .queue_bytes = options->queue_bytes,
        .max_message_bytes = limits.max_message_bytes,
        .request_timeout_ms = options->request_timeout_ms,
    };
    if (kb_kafka_writer_new(options->kafka, &writer, &events, &tw->writer, &tw->error) == KB_OK &&
        kb_kafka_writer_txn_init(tw->writer, kb_clock_boot_ms() + KB_TXN_DEADLINE_MS, &tw->error) != KB_OK)
        (void)kb_wrap(&tw->error, "transactional id '%s'", tw->id);
    return NULL;
}

static kb_code take_over_all(kb_txn_delivery *delivery, kb_error *err)
{
    kb_code code = KB_OK;
    size_t started = 0;
    for (; started < KB_TXN_IDS && code == KB_OK; started++) {
        int failed =
            pthread_create(&delivery->writers[started].thread, NULL, take_over, &delivery->writers[started]);
        if (failed != 0) {
            code = kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "no thread to be had: %s",
                                     kb_errno_text(failed));
            break;
        }
    }
    for (size_t i = 0; i < started; i++) {
        pthread_join(delivery->writers[i].thread, NULL);
        if (code == KB_OK && delivery->writers[i].error.code != KB_OK) {
            kb_error_move(err, &delivery->writers[i].error);
            code = err->code;
        }
    }
    return code;
}

kb_code kb_txn_delivery_new(const kb_txn_options *options, size_t count, kb_txn_delivery **ret_delivery,
                            kb_error *err)
{
    kb_txn_delivery *delivery = kb_calloc(1, sizeof *delivery);
    delivery->options = *options;
    delivery->group = kb_txn_group(options->restore_id);
    kb_hex_encode(options->plan->sha256, KB_SHA256_SIZE, delivery->plan_sha256);
    pthread_mutex_init(&delivery->mutex, NULL);
    for (size_t i = 0; i < KB_TXN_IDS; i++) {
        txn_writer *tw = &delivery->writers[i];
        tw->sink.ops = &TXN_OPS;
        tw->delivery = delivery;
        tw->id = kb_asprintf("kb-%s-%zu", options->restore_id, i);
    }
    if (take_over_all(delivery, err) != KB_OK) {
        kb_txn_delivery_free(delivery);
        return err->code;
    }
    for (size_t i = count; i < KB_TXN_IDS; i++) {
        kb_kafka_writer_free(delivery->writers[i].writer);
        delivery->writers[i].writer = NULL;
    }
    *ret_delivery = delivery;
    return KB_OK;
}

void kb_txn_delivery_free(kb_txn_delivery *owned_delivery)
{
    if (owned_delivery == NULL)
        return;
    for (size_t i = 0; i < KB_TXN_IDS; i++) {
        txn_writer *tw = &owned_delivery->writers[i];
        kb_kafka_writer_free(tw->writer);
        kb_error_done(&tw->error);
        free(tw->touched);
        free(tw->id);
    }
    for (size_t i = 0; i < owned_delivery->buried_count; i++)
        kb_parcels_free(owned_delivery->buried[i]);
    free(owned_delivery->buried);
    free(owned_delivery->group);
    pthread_mutex_destroy(&owned_delivery->mutex);
    free(owned_delivery);
}

void kb_txn_delivery_begin(kb_txn_delivery *delivery, kb_run_control *control, kb_run_metrics *metrics)
{
    delivery->control = control;
    delivery->metrics = metrics;
}

kb_code kb_txn_delivery_open(kb_txn_delivery *delivery, size_t worker, const kb_restore_unit *unit,
                             kb_sink **ret_sink, kb_error *err)
{
    txn_writer *tw = &delivery->writers[worker];
    for (size_t i = 0; i < unit->target_count; i++) {
        kb_target_state *state = &delivery->options.targets[unit->first_target + i];
        if (state->sink == &tw->sink)
            continue; /* tried again */
        if (kb_kafka_writer_target(tw->writer, state->topic, state->partition, state, &state->handle, err) !=
            KB_OK)
            return err->code;
        state->sink = &tw->sink;
    }
    *ret_sink = &tw->sink;
    return KB_OK;
}

void kb_txn_delivery_bury(kb_txn_delivery *delivery, kb_parcels *owned_parcels)
{
    pthread_mutex_lock(&delivery->mutex);
    delivery->buried =
        kb_grow(delivery->buried, delivery->buried_count, &delivery->buried_capacity, sizeof(kb_parcels *));
    delivery->buried[delivery->buried_count++] = owned_parcels;
    pthread_mutex_unlock(&delivery->mutex);
}

/* ---- transactions ---- */

static void count_landed(txn_writer *tw)
{
    kb_txn_delivery *delivery = tw->delivery;
    kb_progress_add_records(delivery->options.progress, tw->records, tw->bytes);
    kb_progress_add_work(delivery->options.progress, tw->records);
    if (delivery->metrics != NULL)
        kb_run_metrics_add_restored(delivery->metrics, (uint64_t)tw->records, (uint64_t)tw->bytes);
}

static void forget(txn_writer *tw)
{
    tw->is_open = false;
    tw->records = 0;
    tw->bytes = 0;
    tw->touched_count = 0;
}

static kb_code send_progress(txn_writer *tw, int64_t deadline_ms, kb_error *err)
{
    KB_AUTOFREE kb_kafka_txn_offset *offsets = kb_calloc(tw->touched_count, sizeof *offsets);
    for (size_t i = 0; i < tw->touched_count; i++)
        offsets[i] = (kb_kafka_txn_offset){
            .topic = tw->touched[i]->topic,
            .partition = tw->touched[i]->partition,
            .offset = tw->touched[i]->sent,
            .metadata = tw->delivery->plan_sha256,
        };
    return kb_kafka_writer_txn_offsets(tw->writer, tw->delivery->group, offsets, tw->touched_count,
                                       deadline_ms, err);
}

/* Data first, then the count of it, then both become visible at once. */
static kb_code commit(txn_writer *tw, int64_t deadline_ms, kb_error *err)
{
    if (!tw->is_open)
        return KB_OK;
    kb_code code = kb_kafka_writer_flush(tw->writer, deadline_ms, NULL, err);
    if (code == KB_OK && tw->error.code != KB_OK) {
        kb_error_move(err, &tw->error);
        code = err->code;
    }
    if (code == KB_OK)
        code = send_progress(tw, deadline_ms, err);
    if (code == KB_OK)
        code = KB_FAILPOINT("produce.acked_before_progress", err);
    if (code == KB_OK)
        code = kb_kafka_writer_txn_commit(tw->writer, deadline_ms, err);
    if (code != KB_OK)
        return kb_wrap(err, "transactional id '%s'", tw->id);
    for (size_t i = 0; i < tw->touched_count; i++) {
        tw->touched[i]->committed = tw->touched[i]->sent;
        tw->touched[i]->in_transaction = false;
    }
    count_landed(tw);
    forget(tw);
    return KB_OK;
}

bool kb_txn_delivery_recover(kb_txn_delivery *delivery, size_t worker)
{
    txn_writer *tw = &delivery->writers[worker];
    KB_AUTO_ERROR(ignored);
    kb_error_done(&tw->error);
    bool was_open = tw->is_open;
    for (size_t i = 0; i < tw->touched_count; i++)
        tw->touched[i]->in_transaction = false;
    forget(tw);
    if (!was_open)
        return !kb_kafka_writer_needs_abort(tw->writer);
    int64_t deadline_ms = kb_clock_boot_ms() + KB_TXN_DEADLINE_MS;
    if (kb_kafka_writer_txn_abort(tw->writer, deadline_ms, &ignored) == KB_OK)
        return true;
    kb_log(KB_LOG_WARN, "a transaction could not be aborted; it ends by its time-out", KB_STR("id", tw->id),
           KB_ERRTEXT(&ignored));
    return false;
}

/* ---- the sink ---- */

static int64_t txn_deadline(void)
{
    return kb_clock_boot_ms() + KB_TXN_DEADLINE_MS;
}

static kb_code check_going(const txn_writer *tw, kb_error *err)
{
    if (tw->delivery->control != NULL && kb_run_is_ending(tw->delivery->control))
        return kb_fail(err, KB_ERR_STOPPED, "stopped");
    return KB_OK;
}

static kb_code txn_wait(kb_sink *sink, kb_error *err)
{
    txn_writer *tw = (txn_writer *)sink;
    if (check_going(tw, err) != KB_OK || kb_kafka_writer_poll(tw->writer, 0, err) != KB_OK)
        return err->code;
    if (tw->is_open && kb_clock_boot_ms() - tw->began_ms >= KB_TXN_MAX_AGE_MS)
        return commit(tw, txn_deadline(), err);
    return KB_OK;
}

static kb_code begin(txn_writer *tw, kb_error *err)
{
    if (tw->is_open)
        return KB_OK;
    if (kb_kafka_writer_txn_begin(tw->writer, err) != KB_OK)
        return err->code;
    tw->is_open = true;
    tw->began_ms = kb_clock_boot_ms();
    return KB_OK;
}

static void touch(txn_writer *tw, kb_target_state *target)
{
    target->sent = target->next + 1;
    if (target->in_transaction)
        return;
    target->in_transaction = true;
    tw->touched = kb_grow(tw->touched, tw->touched_count, &tw->touched_capacity, sizeof(kb_target_state *));
    tw->touched[tw->touched_count++] = target;
}

static kb_code txn_send(kb_sink *sink, kb_target_state *target, const kb_stream_record *record, kb_error *err)
{
    txn_writer *tw = (txn_writer *)sink;
    if (begin(tw, err) != KB_OK)
        return err->code;
    while (kb_kafka_writer_send(target->handle, &record->out, record->parcel, err) != KB_OK) {
        if (err->code != KB_ERR_TOO_LARGE || !err->retryable)
            return err->code;
        kb_error_done(err);
        if (check_going(tw, err) != KB_OK || kb_kafka_writer_poll(tw->writer, KB_TXN_POLL_MS, err) != KB_OK)
            return err->code;
    }
    touch(tw, target);
    tw->records++;
    tw->bytes += record->payload_bytes;
    if (tw->records >= KB_TXN_MAX_RECORDS || tw->bytes >= KB_TXN_MAX_BYTES)
        return commit(tw, txn_deadline(), err);
    return KB_OK;
}

static kb_code txn_finish(kb_sink *sink, kb_parcels *parcels, int64_t deadline_ms, kb_error *err)
{
    txn_writer *tw = (txn_writer *)sink;
    (void)parcels; /* a commit leaves nothing on its way */
    return commit(tw, deadline_ms != 0 ? deadline_ms : txn_deadline(), err);
}

static void txn_landed(kb_sink *sink, int64_t records, int64_t bytes)
{
    /* Acknowledged is not committed: counted there. */
    (void)sink;
    (void)records;
    (void)bytes;
}

static const kb_sink_ops TXN_OPS = {
    .send = txn_send,
    .wait = txn_wait,
    .finish = txn_finish,
    .landed = txn_landed,
};

#include "worker/kafka/kafka_writer.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_writer_private.h"

#define KB_BATCH_RECORDS 1000
#define KB_BATCH_BYTES 1000000
/*
 * The library's broker thread spins from the moment on when the oldest queued record has waited this long
 * while a request of its partition is on its way (an idempotent producer has one at a time). So it is longer
 * than a full queue takes, and whoever waits for the last records nudges.
 */
#define KB_LINGER_MS 500
#define KB_NUDGE_MS 20
#define KB_QUEUE_BYTES ((int64_t)32 << 20)
#define KB_MESSAGE_BYTES 1000000
#define KB_MESSAGE_BYTES_MAX 1000000000 /* of the library */
#define KB_PRODUCE_TIMEOUT_MS 30000
#define KB_TRANSACTION_TIMEOUT_MS 60000
/* The library keeps some hundred bytes for each record besides its content: small ones are limited by number.
 */
#define KB_QUEUE_RECORD_BYTES 256
#define KB_FLUSH_SLICE_MS 50
#define KB_RDKAFKA_ERRSTR_BYTES 512

/* ---- making and freeing ---- */

static int64_t or_default(int64_t value, int64_t default_value)
{
    return value > 0 ? value : default_value;
}

static char *number_text(int64_t value)
{
    enum { LIBRARY_MAX = 2147483647 };
    return kb_asprintf("%lld", (long long)(value < LIBRARY_MAX ? value : LIBRARY_MAX));
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque);

static kb_code handle_new(kb_kafka_writer *writer, const kb_kafka_options *options,
                          const kb_kafka_writer_options *wo, kb_error *err)
{
    int64_t message = or_default(wo->max_message_bytes, KB_MESSAGE_BYTES);
    message = message < KB_MESSAGE_BYTES_MAX ? message : KB_MESSAGE_BYTES_MAX;
    int64_t queue = or_default(wo->queue_bytes, KB_QUEUE_BYTES);
    queue = queue > message ? queue : message; /* else the largest record would never fit */
    int64_t transaction = or_default(wo->transaction_timeout_ms, KB_TRANSACTION_TIMEOUT_MS);
    int64_t wire = or_default(options->request_timeout_ms, KB_TRANSACTION_TIMEOUT_MS);
    writer->max_message_bytes = (size_t)message;
    kb_kafka_property properties[] = {
        {"enable.idempotence", kb_strdup("true")},
        {"enable.gapless.guarantee", kb_strdup("true")},
        {"acks", kb_strdup("-1")},
        {"max.in.flight.requests.per.connection", kb_strdup("5")},
        {"compression.codec", kb_strdup("none")},
        {"batch.num.messages", number_text(or_default(wo->batch_records, KB_BATCH_RECORDS))},
        {"batch.size", number_text(or_default(wo->batch_bytes, KB_BATCH_BYTES))},
        {"linger.ms", number_text(or_default(wo->linger_ms, KB_LINGER_MS))},
        {"message.max.bytes", number_text(message > 1000 ? message : 1000)},
        {"queue.buffering.max.kbytes", number_text(queue / 1024 + 1)},
        {"queue.buffering.max.messages", number_text(1000 + queue / KB_QUEUE_RECORD_BYTES)},
        {"request.timeout.ms", number_text(or_default(wo->request_timeout_ms, KB_PRODUCE_TIMEOUT_MS))},
        /* NULL leaves a setting as it is. The library takes no endless message time-out in transactions. */
        {"message.timeout.ms", wo->transactional_id == NULL ? kb_strdup("0") : NULL},
        {"transactional.id", kb_strdup_opt(wo->transactional_id)},
        {"transaction.timeout.ms", wo->transactional_id != NULL ? number_text(transaction) : NULL},
        {"socket.timeout.ms",
         wo->transactional_id != NULL ? number_text(wire < transaction ? wire : transaction) : NULL},
    };
    kb_kafka_handle_spec spec = {
        .type = RD_KAFKA_PRODUCER,
        .properties = properties,
        .property_count = KB_ARRAY_LEN(properties),
        .on_delivery = on_delivery,
        .user = writer,
    };
    kb_code code = kb_kafka_handle_new(options, &spec, &writer->handle, err);
    for (size_t i = 0; i < KB_ARRAY_LEN(properties); i++)
        free(properties[i].value);
    return code;
}

kb_code kb_kafka_writer_new(const kb_kafka_options *options, const kb_kafka_writer_options *writer_options,
                            const kb_kafka_writer_events *events, kb_kafka_writer **ret_writer, kb_error *err)
{
    KB_CLEANUP(kb_kafka_writer_free_at) kb_kafka_writer *writer = kb_calloc(1, sizeof *writer);
    writer->events = *events;
    writer->is_transactional = writer_options->transactional_id != NULL;
    kb_code code = handle_new(writer, options, writer_options, err);
    if (code != KB_OK)
        return kb_wrap(err, "making a Kafka writer");
    writer->rk = kb_kafka_handle_rk(writer->handle);
    *ret_writer = KB_TAKE(writer);
    return KB_OK;
}

void kb_kafka_writer_free(kb_kafka_writer *owned_writer)
{
    if (owned_writer == NULL)
        return;
    owned_writer->events.on_delivered = NULL;
    if (owned_writer->rk != NULL)
        (void)rd_kafka_purge(owned_writer->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    for (size_t i = 0; i < owned_writer->topic_count; i++)
        rd_kafka_topic_destroy(owned_writer->topics[i]->handle);
    kb_kafka_handle_free(owned_writer->handle);
    for (size_t i = 0; i < owned_writer->topic_count; i++) {
        writer_topic *topic = owned_writer->topics[i];
        for (size_t p = 0; p < topic->target_count; p++)
            free(topic->targets[p]);
        free(topic->targets);
        free(topic->name);
        free(topic);
    }
    free(owned_writer->topics);
    free(owned_writer->failure_text);
    free(owned_writer);
}

void kb_kafka_writer_free_at(kb_kafka_writer **at)
{
    kb_kafka_writer_free(*at);
}

static kb_code topic_of(kb_kafka_writer *writer, const char *name, writer_topic **ret_topic, kb_error *err)
{
    for (size_t i = 0; i < writer->topic_count; i++) {
        if (strcmp(writer->topics[i]->name, name) == 0) {
            *ret_topic = writer->topics[i];
            return KB_OK;
        }
    }
    writer_topic *topic = kb_calloc(1, sizeof *topic);
    rd_kafka_topic_conf_t *conf = rd_kafka_default_topic_conf_dup(writer->rk);
    rd_kafka_topic_conf_set_opaque(conf, topic);
    topic->handle = rd_kafka_topic_new(writer->rk, name, conf);
    if (topic->handle == NULL) {
        rd_kafka_topic_conf_destroy(conf);
        free(topic);
        return kb_kafka_fail(err, rd_kafka_last_error(), NULL, "writing to topic '%s'", name);
    }
    topic->name = kb_strdup(name);
    writer->topics =
        kb_grow(writer->topics, writer->topic_count, &writer->topic_capacity, sizeof(writer_topic *));
    writer->topics[writer->topic_count++] = topic;
    *ret_topic = topic;
    return KB_OK;
}

kb_code kb_kafka_writer_target(kb_kafka_writer *writer, const char *topic, int32_t partition, void *owner,
                               kb_kafka_target **ret_target, kb_error *err)
{
    enum { PARTITION_MAX = 1000000 };
    if (partition < 0 || partition >= PARTITION_MAX)
        return kb_fail(err, KB_ERR_INTERNAL, "writing to partition %d of '%s'", (int)partition, topic);
    writer_topic *in = NULL;
    kb_code code = topic_of(writer, topic, &in, err);
    if (code != KB_OK)
        return code;
    size_t index = (size_t)partition;
    if (index >= in->target_count) {
        in->targets = kb_realloc(in->targets, index + 1, sizeof(kb_kafka_target *));
        memset(in->targets + in->target_count, 0, (index + 1 - in->target_count) * sizeof(kb_kafka_target *));
        in->target_count = index + 1;
    }
    if (in->targets[index] != NULL)
        return kb_fail(err, KB_ERR_EXISTS, "%s/%d is a target of this writer already", topic, (int)partition);
    kb_kafka_target *target = kb_calloc(1, sizeof *target);
    *target = (kb_kafka_target){writer, in, partition, owner};
    in->targets[index] = target;
    *ret_target = target;
    return KB_OK;
}

/* ---- sending ---- */

kb_code kb_kafka_writer_failure(kb_kafka_writer *writer, kb_error *err)
{
    if (!atomic_load_explicit(&writer->has_failed, memory_order_acquire))
        return KB_OK;
    return kb_kafka_fail(err, writer->failure_number, writer->failure_text, "writing to Kafka");
}

static kb_code headers_new(const kb_out_record *record, rd_kafka_headers_t **ret_headers, kb_error *err)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(record->header_count);
    for (size_t i = 0; i < record->header_count; i++) {
        const kb_kafka_header *h = &record->headers[i];
        bool is_null = h->value_len < 0;
        const void *value = !is_null && h->value == NULL ? "" : h->value;
        rd_kafka_resp_err_t number = rd_kafka_header_add(headers, h->name, (ssize_t)h->name_len,
                                                         is_null ? NULL : value, is_null ? 0 : h->value_len);
        if (number != RD_KAFKA_RESP_ERR_NO_ERROR) {
            rd_kafka_headers_destroy(headers);
            return kb_kafka_fail(err, number, NULL, "header %zu", i);
        }
    }
    *ret_headers = headers;
    return KB_OK;
}

/* A pointer for the library, which tells null from empty by it, and takes it as not const. */
static rd_kafka_vu_t memory_of(rd_kafka_vtype_t type, const void *data, int32_t len)
{
    static char nothing[1];
    rd_kafka_vu_t made = {.vtype = type};
    if (len < 0)
        return made;
    made.u.mem.size = (size_t)len;
    made.u.mem.ptr = nothing;
    if (data != NULL)
        memcpy(&made.u.mem.ptr, &data, sizeof data);
    return made;
}

static kb_code send_failure(kb_kafka_target *target, rd_kafka_error_t *owned_error, kb_error *err)
{
    rd_kafka_resp_err_t number = rd_kafka_error_code(owned_error);
    KB_AUTOFREE char *text = kb_strdup(rd_kafka_error_string(owned_error));
    rd_kafka_error_destroy(owned_error);
    const char *topic = target->topic->name;
    int partition = (int)target->partition;
    if (number == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        return kb_fail_retryable(err, KB_ERR_TOO_LARGE, "%s/%d: the queue is full", topic, partition);
    kb_code code = kb_kafka_writer_failure(target->writer, err);
    return code != KB_OK ? code : kb_kafka_fail(err, number, text, "writing to %s/%d", topic, partition);
}

static kb_code check_record(const kb_kafka_target *target, const kb_out_record *record, kb_error *err)
{
    size_t key_len = record->key_len > 0 ? (size_t)record->key_len : 0;
    size_t value_len = record->value_len > 0 ? (size_t)record->value_len : 0;
    if (record->timestamp == 0)
        return kb_fail(
            err, KB_TIMESTAMP_ZERO,
            "%s/%d: a record with timestamp 0 cannot be written: the client library would write the "
            "present time",
            target->topic->name, (int)target->partition);
    if (key_len + value_len > target->writer->max_message_bytes)
        return kb_fail(err, KB_CONFIG_INVALID, "%s/%d: a record of %zu bytes is larger than %zu bytes",
                       target->topic->name, (int)target->partition, key_len + value_len,
                       target->writer->max_message_bytes);
    return KB_OK;
}

kb_code kb_kafka_writer_send(kb_kafka_target *target, const kb_out_record *record, void *record_opaque,
                             kb_error *err)
{
    kb_kafka_writer *writer = target->writer;
    rd_kafka_headers_t *headers = NULL;
    kb_code code = kb_kafka_writer_failure(writer, err);
    if (code == KB_OK && atomic_load_explicit(&writer->is_purged, memory_order_relaxed))
        code = kb_fail(err, KB_TEMPORARY_FAILURE, "writing to Kafka: the queue was purged");
    if (code == KB_OK)
        code = check_record(target, record, err);
    if (code == KB_OK && record->header_count > 0)
        code = headers_new(record, &headers, err);
    if (code != KB_OK)
        return code;
    rd_kafka_vu_t parts[8] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = target->topic->handle},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = target->partition},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = 0}, /* neither copied nor freed */
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = record_opaque},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = record->timestamp},
        memory_of(RD_KAFKA_VTYPE_KEY, record->key, record->key_len),
        memory_of(RD_KAFKA_VTYPE_VALUE, record->value, record->value_len),
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
    };
    atomic_fetch_add_explicit(&writer->undelivered, 1, memory_order_relaxed);
    rd_kafka_error_t *error = rd_kafka_produceva(writer->rk, parts, headers != NULL ? 8 : 7);
    if (error == NULL)
        return KB_OK;
    atomic_fetch_sub_explicit(&writer->undelivered, 1, memory_order_relaxed);
    if (headers != NULL)
        rd_kafka_headers_destroy(headers);
    return send_failure(target, error, err);
}

/* ---- deliveries ---- */

/* The first record that is lost ends the writer: what is queued behind it must not land. */
static void note_lost(kb_kafka_writer *writer, const kb_kafka_target *target,
                      const rd_kafka_message_t *message)
{
    if (writer->is_transactional || writer->is_purged || atomic_load(&writer->has_failed))
        return;
    writer->failure_number = message->err;
    writer->failure_text =
        kb_asprintf("%s/%d: a record of %zu bytes was refused: %s", target->topic->name,
                    (int)target->partition, message->len + message->key_len, rd_kafka_err2str(message->err));
    atomic_store_explicit(&writer->has_failed, true, memory_order_release);
    (void)rd_kafka_purge(writer->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_NON_BLOCKING);
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    (void)rk;
    kb_kafka_writer *writer = kb_kafka_handle_user(opaque);
    writer_topic *topic = rd_kafka_topic_opaque(message->rkt);
    kb_kafka_target *target = topic->targets[message->partition];
    kb_kafka_delivery delivery = {.code = KB_OK, .offset = -1, .text = ""};
    atomic_fetch_sub_explicit(&writer->undelivered, 1, memory_order_relaxed);
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        kb_kafka_handle_note_success(writer->handle);
        delivery.offset = message->offset >= 0 ? message->offset : -1;
    } else {
        note_lost(writer, target, message);
        delivery.code = kb_kafka_classify(message->err).code;
        delivery.error_number = message->err;
        /* Not rd_kafka_message_errstr: in a delivery that is the record's value. */
        delivery.text = rd_kafka_err2str(message->err);
    }
    if (writer->events.on_delivered != NULL)
        writer->events.on_delivered(target->owner, message->_private, &delivery);
}

/* The library's own fatal error, when no delivery has told it before. */
static void note_fatal(kb_kafka_writer *writer)
{
    char text[KB_RDKAFKA_ERRSTR_BYTES] = "";
    rd_kafka_resp_err_t number = rd_kafka_fatal_error(writer->rk, text, sizeof text);
    if (number == RD_KAFKA_RESP_ERR_NO_ERROR || atomic_load(&writer->has_failed))
        return;
    writer->failure_number = number;
    writer->failure_text = kb_strdup(text);
    atomic_store_explicit(&writer->has_failed, true, memory_order_release);
}

kb_code kb_kafka_writer_poll(kb_kafka_writer *writer, int timeout_ms, kb_error *err)
{
    if (atomic_exchange(&writer->is_nudged, false) && kb_kafka_writer_count(writer) > 0)
        (void)rd_kafka_flush(writer->rk, KB_NUDGE_MS);
    else
        (void)kb_kafka_handle_serve(writer->handle, timeout_ms);
    note_fatal(writer);
    kb_code code = kb_kafka_writer_failure(writer, err);
    /* What was on its way when the writer failed may have come back into the queue, never to be sent again.
     */
    if (code != KB_OK && kb_kafka_writer_count(writer) > 0)
        (void)rd_kafka_purge(writer->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_NON_BLOCKING);
    return code == KB_OK ? kb_kafka_handle_check(writer->handle, err) : code;
}

void kb_kafka_writer_nudge(kb_kafka_writer *writer)
{
    atomic_store(&writer->is_nudged, true);
    rd_kafka_queue_t *main_queue = rd_kafka_queue_get_main(writer->rk);
    rd_kafka_queue_yield(main_queue);
    rd_kafka_queue_destroy(main_queue);
}

kb_code kb_kafka_writer_flush(kb_kafka_writer *writer, int64_t deadline_ms, kb_stop *stop, kb_error *err)
{
    while (kb_kafka_writer_count(writer) > 0) {
        if (stop != NULL && kb_stop_requested(stop))
            return kb_fail(err, KB_ERR_STOPPED, "stopped while waiting for acknowledgements");
        if (kb_clock_boot_ms() >= deadline_ms) {
            kb_kafka_state state;
            kb_kafka_writer_state(writer, &state);
            kb_fail_retryable(err, KB_NO_PROGRESS, "%zu records were not acknowledged in time%s%s",
                              kb_kafka_writer_count(writer), state.last_error != NULL ? ": " : "",
                              state.last_error != NULL ? state.last_error : "");
            kb_kafka_state_done(&state);
            return KB_NO_PROGRESS;
        }
        /* Unlike a poll this does not wait for linger.ms. */
        (void)rd_kafka_flush(writer->rk, KB_FLUSH_SLICE_MS);
        kb_code code = kb_kafka_writer_poll(writer, 0, err);
        if (code != KB_OK)
            return code;
    }
    return KB_OK;
}

void kb_kafka_writer_purge(kb_kafka_writer *writer)
{
    writer->is_purged = true;
    (void)rd_kafka_purge(writer->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
}

size_t kb_kafka_writer_count(kb_kafka_writer *writer)
{
    return atomic_load_explicit(&writer->undelivered, memory_order_relaxed);
}

void kb_kafka_writer_state(kb_kafka_writer *writer, kb_kafka_state *ret_state)
{
    kb_kafka_handle_state(writer->handle, ret_state);
}

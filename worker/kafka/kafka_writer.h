/*
 * kafka_writer - produces records in order, exactly as given.
 *
 * Idempotent (enable.idempotence and enable.gapless.guarantee, acks -1, 5 requests in flight, no message
 * timeout) or transactional. Within one writer the records of a partition land in the order of
 * kb_kafka_writer_send, each at most once; the library retries by itself and never leaves one out: the first
 * record that a broker refuses for good ends the whole writer, so give topics that shall fail apart writers
 * of their own. Whether the offsets are the expected ones is the caller's check. The codec is `none`:
 * compressing again would cost more than all else, and a topic with a compression.type of its own is
 * compressed by its broker. Threads: kb_kafka_writer_send from any thread, for one target from one thread at
 * a time; kb_kafka_writer_poll, _flush and the txn functions (callbacks run there) from one thread at a time.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_WRITER_H
#define KB_WORKER_KAFKA_KAFKA_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/kafka/kafka_client.h"
#include "worker/kafka/kafka_record.h"

typedef struct kb_kafka_writer kb_kafka_writer;
/* One partition of one topic within a writer. */
typedef struct kb_kafka_target kb_kafka_target;

/* 0 and NULL mean the default. */
typedef struct kb_kafka_writer_options {
    const char *transactional_id;   /* NULL: idempotent */
    int64_t transaction_timeout_ms; /* 60000 */
    int64_t batch_records;          /* produce_batch_size: 1000 */
    int64_t batch_bytes;            /* 1000000; at most the smallest max.message.bytes of the targets */
    int64_t linger_ms;              /* how long a batch may wait to be full; 500 */
    int64_t queue_bytes;            /* of all targets together: 32 MiB */
    int64_t max_message_bytes;      /* largest record that may come: 1000000; the broker has its own limit */
    int64_t request_timeout_ms;     /* produce_timeout_ms: 30000 */
} kb_kafka_writer_options;

typedef struct kb_kafka_delivery {
    kb_code code; /* KB_OK: acknowledged by all in-sync replicas */
    int error_number;
    int64_t offset;   /* -1: acknowledged after a lost reply, the offset is not known */
    const char *text; /* borrowed until return; "" when code is KB_OK */
} kb_kafka_delivery;

typedef struct kb_kafka_writer_events {
    /* Once for every record that kb_kafka_writer_send took, in order within a target as long as all go well.
     */
    void (*on_delivered)(void *owner, void *record_opaque, const kb_kafka_delivery *delivery);
} kb_kafka_writer_events;

/* events are copied. */
kb_code kb_kafka_writer_new(const kb_kafka_options *options, const kb_kafka_writer_options *writer_options,
                            const kb_kafka_writer_events *events, kb_kafka_writer **ret_writer,
                            kb_error *err) KB_CHECK;
/* Purges what is queued (no callbacks any more) and disconnects; NULL is fine. Targets end with it. */
void kb_kafka_writer_free(kb_kafka_writer *owned_writer);
void kb_kafka_writer_free_at(kb_kafka_writer **at);

/* The target of topic and partition; owner comes with each delivery. Fails with KB_ERR_EXISTS for a second
 * one. */
kb_code kb_kafka_writer_target(kb_kafka_writer *writer, const char *topic, int32_t partition, void *owner,
                               kb_kafka_target **ret_target, kb_error *err) KB_CHECK;

/*
 * Queues a record. The value is borrowed until its delivery; key and headers are copied. Fails with
 * KB_ERR_TOO_LARGE and retryable set when the queue is full (poll, then try again with the same record),
 * KB_TIMESTAMP_ZERO for timestamp 0, 78 for a record above max_message_bytes, or with the fatal error of the
 * writer. After any failure but the first the target's stream must not be continued.
 */
kb_code kb_kafka_writer_send(kb_kafka_target *target, const kb_out_record *record, void *record_opaque,
                             kb_error *err) KB_CHECK;

/*
 * Waits up to timeout_ms for deliveries and dispatches them. Fails with the fatal error of the writer, or 77
 * when brokers refused us for KB_KAFKA_AUTH_TRIES * auth_retry_ms; callbacks ran before in both cases.
 */
kb_code kb_kafka_writer_poll(kb_kafka_writer *writer, int timeout_ms, kb_error *err) KB_CHECK;
/*
 * What is queued now goes out at once instead of waiting for linger_ms, and a waiting kb_kafka_writer_poll
 * sees to it. From any thread.
 */
void kb_kafka_writer_nudge(kb_kafka_writer *writer);
/* Polls until nothing is queued or the deadline (boot clock ms) comes: then KB_NO_PROGRESS, retryable. */
kb_code kb_kafka_writer_flush(kb_kafka_writer *writer, int64_t deadline_ms, kb_stop *stop,
                              kb_error *err) KB_CHECK;
/* Drops what is queued and gives up what is in flight (it may still land); poll gets their deliveries (75).
 */
void kb_kafka_writer_purge(kb_kafka_writer *writer);
/* Records whose delivery has not been dispatched. */
size_t kb_kafka_writer_count(kb_kafka_writer *writer);
void kb_kafka_writer_state(kb_kafka_writer *writer, kb_kafka_state *ret_state);

#endif

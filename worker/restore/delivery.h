/*
 * delivery - idempotent producing: one writer for each topic that is being restored, one thread that polls
 * it.
 *
 * A fatal error ends a writer, and with it the topic: other topics go on. Every delivery report that carries
 * an offset must say h + i for the i-th record of the stream; any other offset means that somebody else wrote
 * or that a record landed twice, and stops the topic with KB_TARGET_DIVERGED. A writer lives from the first
 * unit of its topic to the last. Threads: any.
 */
#ifndef KB_WORKER_RESTORE_DELIVERY_H
#define KB_WORKER_RESTORE_DELIVERY_H

#include "common/base/error.h"
#include "common/sync/run_control.h"
#include "worker/kafka/kafka_client.h"
#include "worker/report/progress.h"
#include "worker/report/run_metrics.h"
#include "worker/restore/plan.h"
#include "worker/restore/sink.h"

typedef struct kb_delivery kb_delivery;

typedef struct kb_delivery_options {
    const kb_kafka_options *kafka;
    const kb_restore_plan *plan;
    kb_target_state *targets;         /* of the plan, in its order */
    const int64_t *max_message_bytes; /* of each target topic; -1 = unknown */
    int64_t batch_records;
    int64_t request_timeout_ms;
    int64_t queue_bytes; /* of each writer */
    kb_run_control *control;
    kb_progress *progress;
    kb_run_metrics *metrics; /* may be NULL */
} kb_delivery_options;

kb_delivery *kb_delivery_new(const kb_delivery_options *options) __attribute__((returns_nonnull));
/* Ends all writers; whatever they hold is given up. NULL is fine. */
void kb_delivery_free(kb_delivery *owned_delivery);

/* The writer of a topic, made when it is first wanted. Borrowed until kb_delivery_unit_done. */
kb_code kb_delivery_open(kb_delivery *delivery, size_t topic, kb_sink **ret_sink, kb_error *err) KB_CHECK;
/* Nothing more is sent for the topic: its units stop. What is queued may land. */
void kb_delivery_fail_topic(kb_delivery *delivery, size_t topic);
bool kb_delivery_has_failed(kb_delivery *delivery, size_t topic);
/* To be called once for each unit, begun or not. */
void kb_delivery_unit_done(kb_delivery *delivery, size_t topic);
/* Gives up everything at once: another attempt has taken over. */
void kb_delivery_purge(kb_delivery *delivery);
/* Keeps memory that writers may still read until they are gone. */
void kb_delivery_bury(kb_delivery *delivery, kb_parcels *owned_parcels);
/* What one of the writers waits for; ret_state is for kb_kafka_state_done. */
void kb_delivery_state(kb_delivery *delivery, kb_kafka_state *ret_state);

/* What both kinds of delivery make of the limits of the target topic. */
typedef struct kb_writer_limits {
    int64_t batch_bytes;
    int64_t max_message_bytes;
} kb_writer_limits;
kb_writer_limits kb_writer_limits_of(const kb_restore_topic *topic, int64_t target_max_message_bytes);

#endif

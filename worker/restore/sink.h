/*
 * sink - where a unit sends its records: an idempotent writer shared by a topic, or a transactional one of
 * the worker thread.
 *
 * Both deliver each record at most once and in order; they differ in what "done" means: acknowledged, or
 * committed. Threads: a unit's thread; deliveries are dispatched by whoever polls.
 */
#ifndef KB_WORKER_RESTORE_SINK_H
#define KB_WORKER_RESTORE_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/kafka/kafka_writer.h"
#include "worker/restore/landed.h"
#include "worker/restore/parcel.h"
#include "worker/restore/plan.h"
#include "worker/restore/stream.h"

typedef struct kb_sink kb_sink;

/* One target partition of the plan; lives as long as the run. */
typedef struct kb_target_state {
    const char *topic;
    int32_t partition;
    bool log_append;  /* the target sets its own timestamps */
    int64_t start;    /* h: offset of the first restored record; idempotent delivery only */
    kb_landed landed; /* what earlier attempts left */
    int64_t next;     /* index of the next record of the stream; by the unit's thread */
    bool is_done;     /* all of the stream is on the target; by the unit's thread */
    kb_sink *sink;    /* that sends to it now */
    kb_kafka_target *handle;
    int64_t acked;       /* records acknowledged in this attempt; by the polling thread */
    int64_t last_offset; /* that was reported; -1: none */
    /* Transactional: index after the last record sent, and after the last committed one. */
    int64_t sent, committed;
    bool in_transaction; /* it is part of the open one */
} kb_target_state;

typedef struct kb_sink_ops {
    /* Hands a record over; waits for room. */
    kb_code (*send)(kb_sink *sink, kb_target_state *target, const kb_stream_record *record, kb_error *err);
    /* Waits a moment, for memory to be freed. Fails when this cannot happen any more. */
    kb_code (*wait)(kb_sink *sink, kb_error *err);
    /* What was sent shall not wait for more to come: a unit has no room left. May be NULL. */
    void (*hurry)(kb_sink *sink);
    /* Waits until everything of `parcels` is done, until the deadline (boot ms; 0 = none). */
    kb_code (*finish)(kb_sink *sink, kb_parcels *parcels, int64_t deadline_ms, kb_error *err);
    /* All of a parcel was acknowledged. */
    void (*landed)(kb_sink *sink, int64_t records, int64_t bytes);
} kb_sink_ops;

/* First member of every implementation. */
struct kb_sink {
    const kb_sink_ops *ops;
};

#endif

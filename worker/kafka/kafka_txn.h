/*
 * kafka_txn - transactions of a kafka_writer that was made with a transactional id.
 *
 * init once, which fences the id's former owner and aborts what it left open; then begin, send, offsets,
 * commit or abort, over and over. Each call retries by itself until its deadline (boot clock ms). Failures:
 * KB_FENCED (another producer took over the id: the end), KB_TEMPORARY_FAILURE with
 * kb_kafka_writer_needs_abort true (abort, then redo the transaction), anything else ends the writer.
 * Threads: the writer's polling thread.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_TXN_H
#define KB_WORKER_KAFKA_KAFKA_TXN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/kafka/kafka_writer.h"

typedef struct kb_kafka_txn_offset {
    const char *topic;
    int32_t partition;
    int64_t offset;       /* >= 0 */
    const char *metadata; /* NUL-terminated; NULL: none */
} kb_kafka_txn_offset;

kb_code kb_kafka_writer_txn_init(kb_kafka_writer *writer, int64_t deadline_ms, kb_error *err) KB_CHECK;
kb_code kb_kafka_writer_txn_begin(kb_kafka_writer *writer, kb_error *err) KB_CHECK;
/* Makes committed offsets of `group` part of the transaction; no consumer of the group needs to exist. */
kb_code kb_kafka_writer_txn_offsets(kb_kafka_writer *writer, const char *group,
                                    const kb_kafka_txn_offset *offsets, size_t count, int64_t deadline_ms,
                                    kb_error *err) KB_CHECK;
/* Flushes (deliveries are dispatched), then commits. */
kb_code kb_kafka_writer_txn_commit(kb_kafka_writer *writer, int64_t deadline_ms, kb_error *err) KB_CHECK;
/* Purges (deliveries with 75 are dispatched), then aborts. */
kb_code kb_kafka_writer_txn_abort(kb_kafka_writer *writer, int64_t deadline_ms, kb_error *err) KB_CHECK;
bool kb_kafka_writer_needs_abort(const kb_kafka_writer *writer);

#endif

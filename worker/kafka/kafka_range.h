/*
 * kafka_range - reads a piece of one partition in one call, for comparisons.
 *
 * Works on a reader that has no stream, so that many ranges in a row share its connections. Threads: the
 * reader's.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_RANGE_H
#define KB_WORKER_KAFKA_KAFKA_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/sync/wait.h"
#include "worker/kafka/kafka_reader.h"

typedef struct kb_kafka_range {
    const char *topic;
    int32_t partition;
    int64_t from;        /* >= 0 */
    int64_t to;          /* exclusive */
    int64_t deadline_ms; /* boot clock */
    kb_stop *stop;       /* may be NULL */
} kb_kafka_range;

/*
 * Reads the records of [from, to) and hands them to on_record, which returns false to end early. *ret_reached
 * (may be NULL) is the offset up to which everything was seen: >= to, the offset after the last record when
 * on_record ended it, or the end of the partition when that comes first. The reader must have no stream.
 * Fails with the stream's error (KB_ERR_NOT_FOUND for a position out of range), 75 KB_NO_PROGRESS at the
 * deadline, KB_ERR_STOPPED.
 */
kb_code kb_kafka_read_range(kb_kafka_reader *reader, const kb_kafka_range *range,
                            bool (*on_record)(void *ctx, const kb_source_record *record), void *ctx,
                            int64_t *ret_reached, kb_error *err) KB_CHECK;

#endif

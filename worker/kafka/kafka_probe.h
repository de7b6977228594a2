/*
 * kafka_probe - tells a partition that is silent from one whose rest was compacted away. For this folder
 * only.
 *
 * When the last batches below the end are gone, a broker answers a fetch there with nothing, and the library
 * says neither "record" nor "end". A fetch of this partition alone, from its leader, over a connection of its
 * own, cannot be empty for want of room in the answer, nor by throttling, nor for a replica that is
 * elsewhere: so answers without a record for a whole second are the proof. Where records may lie in tiered
 * storage, which can be slow to answer, or where this cannot be known, nothing is concluded: waiting is
 * better than losing.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_PROBE_H
#define KB_WORKER_KAFKA_KAFKA_PROBE_H

#include <stdint.h>

#include "common/base/error.h"
#include "worker/kafka/kafka_client.h"

typedef struct kb_kafka_probe {
    const kb_kafka_options *options;
    bool read_uncommitted;
    const char *topic;
    int32_t partition;
    int64_t position;
    int64_t deadline_ms; /* boot clock */
} kb_kafka_probe;

/*
 * *ret_end is the end of the partition (last stable offset, or high watermark) when nothing lies between
 * `position` and it; `position` when there may be something, or nothing could be learned until the deadline.
 */
kb_code kb_kafka_probe_end(const kb_kafka_probe *probe, int64_t *ret_end, kb_error *err) KB_CHECK;

#endif

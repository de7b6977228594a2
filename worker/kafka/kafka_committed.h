/*
 * kafka_committed - what a group has committed, read by a client handle of its own.
 *
 * The admin interface of the library (2.8) crashes when a coordinator is not available at the first try, as
 * on a cluster that never had a group; a handle that names the group does not. It never joins the group.
 * Threads: any.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_COMMITTED_H
#define KB_WORKER_KAFKA_KAFKA_COMMITTED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/kafka/kafka_admin.h"
#include "worker/kafka/kafka_client.h"

/* topic is borrowed; a partition may come once per call. */
typedef struct kb_kafka_group_offset {
    const char *topic;
    int32_t partition;
    int64_t offset;   /* out; -1: nothing committed, or an error */
    char *metadata;   /* in: NULL; out: owned by the caller, NULL without an offset */
    int error_number; /* out */
} kb_kafka_group_offset;

/*
 * stable: waits for transactions that are about to change the offsets; otherwise answers with what was there
 * before them. Transient errors are asked again until the deadline of the call; those of single partitions
 * that last are in the items.
 */
kb_code kb_kafka_committed(const kb_kafka_options *options, const char *group, bool stable,
                           kb_kafka_group_offset *offsets, size_t count, const kb_kafka_call *call,
                           kb_error *err) KB_CHECK;

#endif

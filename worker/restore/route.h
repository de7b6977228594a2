/*
 * route - which target partition a record goes to when a topic is repartitioned (pure).
 *
 * As Kafka's own clients do it: (murmur2(key, seed 0x9747b28c) AND 0x7fffffff) mod N; an empty key is hashed.
 * Records that have no key, or all with `automatic`, go to the partitions in turn, by a counter that runs
 * along the merged stream. Source: Kafka, org.apache.kafka.common.utils.Utils.murmur2.
 */
#ifndef KB_WORKER_RESTORE_ROUTE_H
#define KB_WORKER_RESTORE_ROUTE_H

#include <stddef.h>
#include <stdint.h>

#include "worker/restore/plan.h"

int32_t kb_murmur2(const void *key, size_t len);

typedef struct kb_route_state {
    uint64_t turn;
} kb_route_state;

/* Index of the target within the unit. key_len -1: no key. To be asked in the order of the stream. */
size_t kb_route_pick(kb_restore_route route, size_t target_count, const void *key, int32_t key_len,
                     kb_route_state *state);

#endif

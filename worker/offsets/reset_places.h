/*
 * reset_places - which partitions of which groups a reset is about, and what the cluster says of them.
 *
 * Threads: one at a time.
 */
#ifndef KB_WORKER_OFFSETS_RESET_PLACES_H
#define KB_WORKER_OFFSETS_RESET_PLACES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/contract/worker_config.h"
#include "worker/kafka/kafka_admin.h"
#include "worker/offsets/env.h"
#include "worker/offsets/group_result.h"

/* What a partition holds. */
typedef struct kb_place_bounds {
    int64_t log_start;
    int64_t end;     /* high watermark */
    int64_t at_time; /* first record at or after a time; -1 = none, or not asked */
    int error_number;
} kb_place_bounds;

typedef struct kb_places {
    kb_group_set set; /* one entry, its places are the partitions in order */
    kb_place_bounds *bounds;
} kb_places;
void kb_places_done(kb_places *places);
/* NULL when it is not among them. */
const kb_place_bounds *kb_places_find(const kb_places *places, const char *topic, int32_t partition);

/* Asks for the bounds of every partition in the set; with_time: of timestamp_ms too. */
kb_code kb_places_read(const kb_offsets_env *env, const kb_group_set *set, bool with_time,
                       int64_t timestamp_ms, kb_places *ret_places, kb_error *err) KB_CHECK;

/* Whether a topic is meant: by any glob, or because there are none. */
bool kb_places_is_meant(const kb_strings *topics, const char *topic);
/*
 * Adds all partitions of the topics that the globs mean to every group of the set. A literal name that does
 * not exist fails all groups.
 */
kb_code kb_places_of_topics(const kb_offsets_env *env, const kb_strings *topics, kb_group_set *set,
                            kb_group_results *results, kb_error *err) KB_CHECK;

#endif

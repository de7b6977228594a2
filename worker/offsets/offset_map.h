/*
 * offset_map - the export of a restore's offset map, in the form of the existing tool (storage-format, 5.2).
 *
 * Exact or absent: one element for each run start and one for each missing offset, pointing at the next
 * target; a partition that would need more than KB_OFFSET_MAP_DETAILS_MAX elements gets no details and null
 * targets. Threads: one at a time.
 */
#ifndef KB_WORKER_OFFSETS_OFFSET_MAP_H
#define KB_WORKER_OFFSETS_OFFSET_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/kafka/kafka_group_set.h"

#define KB_OFFSET_MAP_DETAILS_MAX 100000

typedef struct kb_offset_map_element {
    int64_t source;
    int64_t target;
    int64_t timestamp;
} kb_offset_map_element;

/* One target partition that has one source. */
typedef struct kb_offset_map_part {
    char *topic; /* owned; of the target */
    int32_t partition;
    bool has_records;
    int64_t source_first, source_last;
    int64_t target_first, target_last;
    int64_t first_timestamp, last_timestamp;
    bool is_folded; /* too many elements, or targets that are not consecutive: no details */
    kb_offset_map_element *elements;
    size_t count;
    size_t capacity;
} kb_offset_map_part;

typedef struct kb_offset_map {
    kb_offset_map_part *parts;
    size_t count;
    size_t capacity;
    size_t details_max; /* 0 = KB_OFFSET_MAP_DETAILS_MAX */
} kb_offset_map;

void kb_offset_map_done(kb_offset_map *map);
/* Begins a partition; valid until the next one. */
kb_offset_map_part *kb_offset_map_add(kb_offset_map *map, const char *topic, int32_t partition)
    __attribute__((returns_nonnull));
/* The next run of the partition that was begun last. */
void kb_offset_map_run(kb_offset_map *map, int64_t source_first, int64_t target_first, int64_t count,
                       int64_t first_timestamp, int64_t last_timestamp);

typedef struct kb_offset_map_about {
    const char *source_cluster_id; /* NULL = not known, as the other */
    const char *target_cluster_id;
    int64_t created_at;
    const kb_group_set *sources; /* committed source offsets, under the names of the target; may be NULL */
    const kb_group_set *targets; /* what they became; may be NULL */
} kb_offset_map_about;
/* The whole export. *ret_text is owned. */
kb_code kb_offset_map_encode(const kb_offset_map *map, const kb_offset_map_about *about, char **ret_text,
                             size_t *ret_len, kb_error *err) KB_CHECK;

#endif

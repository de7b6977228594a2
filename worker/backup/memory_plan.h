/*
 * memory_plan - how a backup divides its memory limit (pure; worker.md 12).
 *
 * Budget M = 80 % of the limit − 32 MiB. Shared: each encoder 8 MiB, each upload one part. Each open
 * partition: two parts, two frames (raw and compressed), a fetch queue. What M allows bounds the partitions
 * read at once.
 */
#ifndef KB_WORKER_BACKUP_MEMORY_PLAN_H
#define KB_WORKER_BACKUP_MEMORY_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

typedef struct kb_memory_request {
    uint64_t limit_bytes;
    uint64_t part_bytes; /* 0 for a filesystem */
    size_t encoders;
    size_t uploads;
    size_t max_partitions;
    bool whole_objects; /* a segment is held whole, in one part; else there are two */
} kb_memory_request;

typedef struct kb_memory_plan {
    uint64_t budget_bytes; /* M */
    uint64_t spare_bytes;  /* M less all that is promised below: for records larger than a frame */
    uint64_t part_bytes;   /* as asked for, or the smallest */
    size_t encoders;
    size_t uploads;
    size_t partitions;          /* read at the same time */
    size_t frames;              /* in the pool: two for each partition, one for each encoder */
    uint64_t fetch_queue_bytes; /* of each partition */
} kb_memory_plan;

/* Fails with KB_MEMORY_TOO_SMALL, naming the limit that would do. */
kb_code kb_memory_plan_make(const kb_memory_request *request, kb_memory_plan *ret_plan,
                            kb_error *err) KB_CHECK;

#endif

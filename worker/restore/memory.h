/*
 * memory - how a restore divides its memory limit (pure; worker.md 12).
 *
 * Budget M = 80 % of the limit - 32 MiB. Each unit that runs: a stored object of up to 32 MiB, decoded
 * records and what the client holds of them.
 */
#ifndef KB_WORKER_RESTORE_MEMORY_H
#define KB_WORKER_RESTORE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

typedef struct kb_restore_memory {
    uint64_t budget_bytes; /* M */
    size_t units;          /* at the same time */
    uint64_t held_bytes;   /* of a unit: for stored objects */
    int64_t on_way_bytes;  /* of a unit: decoded and not acknowledged */
    int64_t queue_bytes;   /* of a writer: what all units together may have queued */
    size_t max_area_bytes; /* a record that does not fit is refused */
} kb_restore_memory;

/* Fails with KB_MEMORY_TOO_SMALL, naming the limit that would do. */
kb_code kb_restore_memory_plan(uint64_t limit_bytes, size_t max_units, kb_restore_memory *ret_memory,
                               kb_error *err) KB_CHECK;

#endif

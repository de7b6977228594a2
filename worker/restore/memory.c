#include "worker/restore/memory.h"

#include <inttypes.h>

#define KB_MIB ((uint64_t)1 << 20)
#define KB_BASE_BYTES (32 * KB_MIB)
#define KB_HELD_BYTES (32 * KB_MIB)
#define KB_HELD_LEAST_BYTES (2 * KB_MIB)
#define KB_ON_WAY_BYTES (8 * KB_MIB)
#define KB_ON_WAY_LEAST_BYTES (2 * KB_MIB)
/* Two decoded frames: one that is read, one that is filled, and the indexes of the stored object. */
#define KB_FRAMES_BYTES (4 * KB_MIB)
/* A writer counts other bytes than we do: it never is what holds a unit up. */
#define KB_QUEUE_FACTOR 2

static uint64_t budget_of(uint64_t limit_bytes)
{
    uint64_t part = limit_bytes / 10 * 8;
    return part > KB_BASE_BYTES ? part - KB_BASE_BYTES : 0;
}

kb_code kb_restore_memory_plan(uint64_t limit_bytes, size_t max_units, kb_restore_memory *ret_memory,
                               kb_error *err)
{
    uint64_t budget = budget_of(limit_bytes);
    uint64_t least = KB_HELD_LEAST_BYTES + KB_ON_WAY_LEAST_BYTES + KB_FRAMES_BYTES;
    if (budget < least)
        return kb_fail(err, KB_MEMORY_TOO_SMALL,
                       "a memory limit of %" PRIu64 " bytes is too small for a restore: at least %" PRIu64
                       " are needed; hint: raise limits.memory_bytes or the limit of the container",
                       limit_bytes, (least + KB_BASE_BYTES) * 10 / 8 + 10);
    uint64_t unit = KB_HELD_BYTES + KB_ON_WAY_BYTES + KB_FRAMES_BYTES;
    kb_restore_memory memory = {
        .budget_bytes = budget,
        .held_bytes = KB_HELD_BYTES,
        .on_way_bytes = KB_ON_WAY_BYTES,
        .max_area_bytes = (size_t)budget,
    };
    if (budget < unit) {
        memory.units = 1;
        memory.on_way_bytes = KB_ON_WAY_LEAST_BYTES;
        memory.held_bytes = budget - KB_ON_WAY_LEAST_BYTES - KB_FRAMES_BYTES;
    } else {
        memory.units = budget / unit < max_units ? (size_t)(budget / unit) : max_units;
    }
    memory.queue_bytes = memory.on_way_bytes * KB_QUEUE_FACTOR * (int64_t)memory.units;
    *ret_memory = memory;
    return KB_OK;
}

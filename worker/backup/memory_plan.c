#include "worker/backup/memory_plan.h"

#define KB_MIB (1024ULL * 1024)
#define KB_FIXED_BYTES (32 * KB_MIB)
#define KB_ENCODER_BYTES (8 * KB_MIB)
#define KB_FRAMES_BYTES (2 * KB_MIB)
#define KB_FETCH_QUEUE_BYTES (4 * KB_MIB)
#define KB_SMALLEST_PART_BYTES (5 * KB_MIB)

static uint64_t shared_bytes(const kb_memory_request *r)
{
    return r->encoders * KB_ENCODER_BYTES + r->uploads * r->part_bytes;
}

static uint64_t partition_bytes(const kb_memory_request *r)
{
    return (r->whole_objects ? 1 : 2) * r->part_bytes + KB_FRAMES_BYTES + KB_FETCH_QUEUE_BYTES;
}

static size_t partitions_that_fit(const kb_memory_request *r, uint64_t budget)
{
    uint64_t shared = shared_bytes(r);
    if (budget <= shared)
        return 0;
    uint64_t fit = (budget - shared) / partition_bytes(r);
    return fit < r->max_partitions ? (size_t)fit : r->max_partitions;
}

static kb_memory_request smallest(const kb_memory_request *r)
{
    kb_memory_request small = *r;
    small.encoders = 1;
    small.uploads = 1;
    if (small.part_bytes > KB_SMALLEST_PART_BYTES)
        small.part_bytes = KB_SMALLEST_PART_BYTES;
    return small;
}

kb_code kb_memory_plan_make(const kb_memory_request *request, kb_memory_plan *ret_plan, kb_error *err)
{
    uint64_t usable = request->limit_bytes / 5 * 4;
    uint64_t budget = usable > KB_FIXED_BYTES ? usable - KB_FIXED_BYTES : 0;
    kb_memory_request r = *request;
    size_t partitions = partitions_that_fit(&r, budget);
    if (partitions == 0) {
        r = smallest(request);
        partitions = partitions_that_fit(&r, budget);
    }
    uint64_t needed = shared_bytes(&r) + partition_bytes(&r);
    if (partitions == 0) {
        uint64_t limit = (needed + KB_FIXED_BYTES) / 4 * 5 + 5;
        return kb_fail(
            err, KB_MEMORY_TOO_SMALL,
            "limits.memory_bytes: %llu bytes are too few, a backup needs at least %llu; hint: raise the "
            "memory limit",
            (unsigned long long)request->limit_bytes, (unsigned long long)limit);
    }
    *ret_plan = (kb_memory_plan){
        .budget_bytes = budget,
        .spare_bytes = budget - shared_bytes(&r) - partitions * partition_bytes(&r),
        .part_bytes = r.part_bytes,
        .encoders = r.encoders,
        .uploads = r.uploads,
        .partitions = partitions,
        .frames = 2 * partitions + r.encoders,
        .fetch_queue_bytes = KB_FETCH_QUEUE_BYTES,
    };
    return KB_OK;
}

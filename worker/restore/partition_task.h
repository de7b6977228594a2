/*
 * partition_task - restores one unit of the plan: a partition, a merge, or a repartitioned topic.
 *
 * Runs the unit's stream from its beginning. Records that earlier attempts landed are passed over, compared
 * with the samples of the target where there are some; all others are sent. The outcome is in the target
 * states. Threads: kb_unit_run by any number of threads, for different units; the context is shared.
 */
#ifndef KB_WORKER_RESTORE_PARTITION_TASK_H
#define KB_WORKER_RESTORE_PARTITION_TASK_H

#include "common/base/error.h"
#include "common/sync/ratelimit.h"
#include "common/sync/run_control.h"
#include "worker/report/progress.h"
#include "worker/report/run_metrics.h"
#include "worker/restore/fence.h"
#include "worker/restore/plan.h"
#include "worker/restore/sink.h"
#include "worker/storage/storage.h"

typedef struct kb_unit_context {
    kb_storage *storage;
    const kb_restore_plan *plan;
    kb_target_state *targets; /* of the plan, in its order */
    kb_run_control *control;
    kb_progress *progress;
    kb_run_metrics *metrics;            /* may be NULL */
    kb_fence *fence;                    /* NULL: none */
    kb_ratelimit_shared *records_limit; /* NULL: none */
    kb_ratelimit_shared *bytes_limit;   /* NULL: none */
    int64_t records_step;               /* how many records pass between two looks at the limits */
    int64_t bytes_step;
    uint64_t held_bytes; /* memory of one unit for stored objects */
    size_t max_area_bytes;
    int64_t max_on_way_bytes; /* of one unit: decoded, not acknowledged */
    int64_t grace_ms;         /* after a stop: for what is queued */
} kb_unit_context;

/* Where the unit's records go; asked when the first of them is to be sent. */
typedef struct kb_unit_sink {
    kb_code (*open)(void *ctx, size_t unit, kb_sink **ret_sink, kb_error *err);
    void *ctx;
    bool is_again; /* the unit was begun before in this run: what it found is counted already */
} kb_unit_sink;

/*
 * KB_OK: all of the unit is on the target. KB_ERR_STOPPED: stopped, or the topic has failed elsewhere.
 * *ret_left (owned, set in any case) is NULL, or memory that the writer may still read: it must outlive it.
 */
kb_code kb_unit_run(const kb_unit_context *context, size_t unit, const kb_unit_sink *sink,
                    kb_parcels **ret_left, kb_error *err) KB_CHECK;

#endif

/*
 * pipeline - all threads of the producing part of a restore, watched by the caller's thread.
 *
 * Worker threads take units in the order of the plan, as many at a time as max_concurrent_partitions and the
 * memory limit allow. When a unit fails for good the others of its topic stop, other topics go on.
 * Threads: called from one thread, which becomes the watchdog.
 */
#ifndef KB_WORKER_RESTORE_PIPELINE_H
#define KB_WORKER_RESTORE_PIPELINE_H

#include "common/base/error.h"
#include "worker/restore/fence.h"
#include "worker/restore/memory.h"
#include "worker/restore/plan.h"
#include "worker/restore/settings.h"
#include "worker/restore/sink.h"
#include "worker/restore/txn_delivery.h"

typedef struct kb_restore_work {
    const kb_restore_settings *settings;
    kb_run_metrics *metrics; /* may be NULL */
    const kb_restore_plan *plan;
    kb_target_state *targets;         /* of the plan, in its order */
    const int64_t *max_message_bytes; /* of each target topic; -1 = unknown */
    const char *restore_id;
    kb_fence *fence; /* NULL: none */
    kb_restore_memory memory;
    kb_txn_delivery *txn; /* transactional delivery; NULL: idempotent */
} kb_restore_work;

/*
 * Produces everything. The target states say what was done, whatever the result. Errors: KB_INTERRUPTED after
 * a stop, KB_FENCED, KB_NO_PROGRESS, or the first error of a unit (the units of other topics are finished
 * then).
 */
kb_code kb_restore_pipeline_run(const kb_restore_work *work, kb_error *err) KB_CHECK;

#endif

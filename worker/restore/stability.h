/*
 * stability - waits until nothing of an earlier attempt can land on the targets any more (worker.md 8.4).
 *
 * A partition is still when its in-sync replicas are enough and its end has not moved for a while: 5 s with a
 * single replica, else the configured window, at least the broker's replica.lag.time.max.ms + 15 s where that
 * can be read. Threads: one at a time.
 */
#ifndef KB_WORKER_RESTORE_STABILITY_H
#define KB_WORKER_RESTORE_STABILITY_H

#include "common/base/error.h"
#include "worker/restore/fence.h"
#include "worker/restore/preflight.h"

/* How long the end of the partitions of a topic has to stay where it is. */
int64_t kb_stability_window_ms(const kb_target_topic *topic, int64_t replica_lag_ms, int64_t configured_secs);

/*
 * Waits for all partitions of all target topics together; the view is that of the end. Fails with
 * KB_TEMPORARY_FAILURE when they are not still after limits.no_progress_secs, KB_FENCED, KB_ERR_STOPPED.
 */
kb_code kb_stability_wait(kb_preflight *preflight, kb_fence *fence, kb_error *err) KB_CHECK;

#endif

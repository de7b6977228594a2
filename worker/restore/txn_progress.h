/*
 * txn_progress - what earlier attempts of a transactional restore committed, and whether targets without such
 * progress are empty.
 *
 * The group kb-restore-{restore_id} holds, for each target partition, the number of records that are done and
 * the hash of the plan. Threads: one at a time.
 */
#ifndef KB_WORKER_RESTORE_TXN_PROGRESS_H
#define KB_WORKER_RESTORE_TXN_PROGRESS_H

#include "common/base/error.h"
#include "worker/restore/preflight.h"
#include "worker/restore/sink.h"

/*
 * Reads the counts of all targets into preflight->committed (-1: none). stable: waits for transactions that
 * are about to change them. Fails with KB_CONFIG_INVALID when they belong to another plan.
 */
kb_code kb_txn_progress_read(kb_preflight *preflight, const char *restore_id, bool stable,
                             kb_error *err) KB_CHECK;

/* The check of contents for transactional delivery: sets starts, is_prefix, has_records, purge; refusals go
 * to the checks. */
kb_code kb_txn_progress_check(kb_preflight *preflight, const char *restore_id, kb_error *err) KB_CHECK;

/*
 * Waits until readers of committed records see all that this attempt committed: a broker answers a commit
 * before it has written the markers (KIP-98). targets: of the plan, in its order. Fails with KB_NO_PROGRESS
 * after limits.no_progress_secs, naming the first partition that lags, or with KB_ERR_STOPPED.
 */
kb_code kb_txn_progress_settle(kb_preflight *preflight, const kb_target_state *targets,
                               kb_error *err) KB_CHECK;

#endif

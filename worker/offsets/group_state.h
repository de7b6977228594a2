/*
 * group_state - whether groups may be changed: they must have no members (worker.md 9, step 2).
 *
 * Threads: one at a time.
 */
#ifndef KB_WORKER_OFFSETS_GROUP_STATE_H
#define KB_WORKER_OFFSETS_GROUP_STATE_H

#include "common/base/error.h"
#include "worker/offsets/env.h"
#include "worker/offsets/group_result.h"

/* Why a group may not be changed now: KB_OK, KB_GROUP_ACTIVE, or KB_TEMPORARY_FAILURE when the listing it is
 * looked up in is not complete. Pure; info NULL = not listed. */
kb_code kb_group_state_verdict(const kb_group_info *info, bool listing_is_complete);

/*
 * Fails every group of the set (that has not failed yet) that is not empty, dead or unknown, with its
 * members; waits env->wait_for_empty_ms for them first. Fails itself when the cluster cannot be asked.
 */
kb_code kb_group_state_check(const kb_offsets_env *env, const kb_group_set *set, kb_group_results *results,
                             kb_error *err) KB_CHECK;

#endif

/*
 * reset - offset-reset: new offsets for groups by a strategy (worker.md 9).
 *
 * Order: groups and places, states, present offsets, plan, (dry run ends here), snapshot, commits, reading
 * back. Threads: one at a time.
 */
#ifndef KB_WORKER_OFFSETS_RESET_H
#define KB_WORKER_OFFSETS_RESET_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/contract/worker_config.h"
#include "worker/offsets/env.h"
#include "worker/offsets/group_change.h"
#include "worker/offsets/group_result.h"
#include "worker/offsets/reset_places.h"

typedef struct kb_reset_request {
    const kb_strings *groups;
    const kb_strings *topics; /* globs; none = all of the group */
    kb_config_offset_strategy strategy;
    int64_t timestamp_ms;
    int64_t offset;
    const kb_group_set *mapping; /* fromMapping: target offsets; else NULL */
    const kb_group_set *sources; /* headerBased: source offsets; NULL = what the groups have committed */
    const char *source_cluster;
    bool scan_all_partitions;
    const char *snapshot_id; /* NULL = none is made */
    bool dry_run;
} kb_reset_request;

/* The offset for a place by the strategies that need no reading and no mapping. Pure. *ret_moved: `offset`
 * lies outside of [log start, high watermark] and was moved into it. */
int64_t kb_reset_offset(kb_config_offset_strategy strategy, int64_t number, const kb_place_bounds *bounds,
                        bool *ret_moved);

/* What a reset did, or would do. */
typedef struct kb_reset_outcome {
    kb_group_change change;
    kb_group_results results;
} kb_reset_outcome;
void kb_reset_outcome_done(kb_reset_outcome *outcome);

/* The outcome is filled also when the command fails by groups. */
kb_code kb_offsets_reset(const kb_offsets_env *env, const kb_reset_request *request,
                         kb_reset_outcome *outcome, kb_error *err) KB_CHECK;

/* The rest of every such command, from the states on, for a plan that is made: of a restore, say. Fails the
 * run when a group failed. */
kb_code kb_offsets_apply(const kb_offsets_env *env, const char *snapshot_id, const kb_group_set *current,
                         kb_reset_outcome *outcome, kb_error *err) KB_CHECK;

#endif

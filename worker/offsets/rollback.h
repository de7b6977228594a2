/*
 * rollback - the other commands on offset snapshots: make one, put it back, compare it (worker.md 9).
 *
 * Threads: one at a time.
 */
#ifndef KB_WORKER_OFFSETS_ROLLBACK_H
#define KB_WORKER_OFFSETS_ROLLBACK_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/contract/worker_config.h"
#include "worker/offsets/env.h"
#include "worker/offsets/reset.h"

/* A place that is not as expected. Texts are borrowed from the sets compared. */
typedef struct kb_offset_difference {
    const char *group;
    const char *topic;
    int32_t partition;
    int64_t expected; /* KB_GROUP_NO_OFFSET = none */
    int64_t actual;
} kb_offset_difference;

typedef struct kb_offset_differences {
    kb_offset_difference *items;
    size_t count;
    size_t capacity;
} kb_offset_differences;
void kb_offset_differences_done(kb_offset_differences *differences);

/* Every stored place that is not as stored. strict: also what the groups have beyond the stored places. */
void kb_offsets_compare(const kb_group_set *stored, const kb_group_set *current, bool strict,
                        kb_offset_differences *ret_differences);
/* Every place that is neither as stored nor as planned: somebody has committed since. */
void kb_offsets_find_moved(const kb_offset_snapshot *snapshot, const kb_group_set *current,
                           kb_offset_differences *ret_differences);

/* What a command did; differences point into the other members. */
typedef struct kb_rollback_outcome {
    kb_offset_snapshot snapshot;
    kb_group_set current; /* before the command changed anything */
    kb_offset_differences differences;
    kb_reset_outcome reset;
    char *saved_id; /* rollback: where the present offsets were saved; NULL = nowhere */
} kb_rollback_outcome;
void kb_rollback_outcome_done(kb_rollback_outcome *outcome);

typedef struct kb_rollback_request {
    const char *snapshot_id;
    const kb_strings *groups; /* none = all of the snapshot */
    const kb_strings *topics; /* globs; none = all */
    const char *stamp;        /* of the snapshot of the present offsets */
    bool strict;
    bool dry_run;
} kb_rollback_request;

/* offset-snapshot: saves all that the groups have committed. */
kb_code kb_offsets_snapshot(const kb_offsets_env *env, const kb_rollback_request *request,
                            kb_rollback_outcome *outcome, kb_error *err) KB_CHECK;
/* offset-rollback: KB_OFFSETS_MOVED when somebody has committed since, unless env->force. */
kb_code kb_offsets_rollback(const kb_offsets_env *env, const kb_rollback_request *request,
                            kb_rollback_outcome *outcome, kb_error *err) KB_CHECK;
/* offset-verify: differences are a finding; with strict KB_VERIFICATION_FAILED. */
kb_code kb_offsets_verify(const kb_offsets_env *env, const kb_rollback_request *request,
                          kb_rollback_outcome *outcome, kb_error *err) KB_CHECK;
/* offset-delete: an absent snapshot is a finding. */
kb_code kb_offsets_delete(kb_snapshot_store *store, const char *snapshot_id, kb_progress *progress,
                          kb_error *err) KB_CHECK;

#endif

/*
 * group_change - commits planned offsets, group by group, and proves it by reading back (worker.md 9, steps 6
 * to 8).
 *
 * The snapshot is durable before the first commit; a rerun takes plan and old offsets from it. Threads: one
 * at a time.
 */
#ifndef KB_WORKER_OFFSETS_GROUP_CHANGE_H
#define KB_WORKER_OFFSETS_GROUP_CHANGE_H

#include <stdbool.h>

#include "common/base/error.h"
#include "worker/offsets/env.h"
#include "worker/offsets/group_result.h"

/* What is to be done with a place. Pure. */
typedef enum kb_change_verdict {
    KB_CHANGE_DONE,   /* it is as planned */
    KB_CHANGE_COMMIT, /* it is as it was when the plan was made */
    KB_CHANGE_MOVED   /* neither: somebody else has committed */
} kb_change_verdict;
kb_change_verdict kb_change_verdict_of(int64_t current, int64_t old, int64_t planned);

typedef struct kb_group_change {
    kb_group_set before; /* offsets of the planned places, KB_GROUP_NO_OFFSET where there is none */
    kb_group_set plan;   /* with the metadata to commit */
    bool is_rerun;       /* both are those of an earlier attempt */
} kb_group_change;
void kb_group_change_done(kb_group_change *change);

/* Sets before to what `current` has at the planned places. */
void kb_group_change_set_before(kb_group_change *change, const kb_group_set *current);
/*
 * An earlier attempt of the same run, by its snapshot: before and plan become its own. *ret_found says
 * whether there is one. KB_SNAPSHOT_EXISTS when the id is taken by another run.
 */
kb_code kb_group_change_find(const kb_offsets_env *env, const char *snapshot_id, kb_group_change *change,
                             bool *ret_found, kb_error *err) KB_CHECK;
/* Writes the snapshot with the plan. Does nothing without a store, or for a rerun. */
kb_code kb_group_change_save(const kb_offsets_env *env, const char *snapshot_id,
                             const kb_group_change *change, kb_error *err) KB_CHECK;
/* Writes a snapshot without a plan. */
kb_code kb_group_change_save_plain(const kb_offsets_env *env, const char *snapshot_id,
                                   const kb_group_set *groups, kb_error *err) KB_CHECK;
/*
 * Commits what is not as planned, of every group that has not failed. current: what the groups have now. A
 * place that somebody else moved fails its group unless env->force. Fails itself only when nothing can be
 * asked or the run is stopped.
 */
kb_code kb_group_change_commit(const kb_offsets_env *env, const kb_group_change *change,
                               const kb_group_set *current, kb_group_results *results,
                               kb_error *err) KB_CHECK;

/* Reads what the groups of a set have committed; their failures go to results. *ret_current is for
 * kb_group_set_done. */
kb_code kb_group_change_read(const kb_offsets_env *env, const kb_group_set *groups, kb_group_results *results,
                             kb_group_set *ret_current, kb_error *err) KB_CHECK;

#endif

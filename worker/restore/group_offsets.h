/*
 * group_offsets - the target offsets of groups after a restore, from their source offsets (worker.md 8.6).
 *
 * Computed from backup and plan alone, the same in every attempt: the stream of each partition is walked once
 * more. Segments without holes are passed over by their counts; only the others are decoded. Where a target
 * partition is fed by several sources, or is chosen for each record, the answer is its first record that the
 * group had not consumed in that record's source partition: at least once. Threads: one at a time.
 */
#ifndef KB_WORKER_RESTORE_GROUP_OFFSETS_H
#define KB_WORKER_RESTORE_GROUP_OFFSETS_H

#include "common/base/error.h"
#include "worker/kafka/kafka_group_set.h"
#include "worker/offsets/offset_map.h"
#include "worker/restore/plan.h"
#include "worker/restore/settings.h"
#include "worker/restore/target_view.h"

typedef struct kb_group_offsets {
    const kb_restore_settings *settings;
    const kb_restore_plan *plan;
    const int64_t *starts;       /* h of every target of the plan */
    const kb_target_view *view;  /* with the ends after the restore */
    const kb_group_set *sources; /* committed source offsets, under the names of the source */
    bool wants_map;
    /* Results; the caller frees them. */
    kb_group_set targets; /* the offsets to commit */
    kb_group_set renamed; /* source offsets under the names of the target, where there is one */
    kb_offset_map map;
    size_t beyond; /* offsets behind the cut: clamped to the end */
} kb_group_offsets;

/* Computes everything. Errors are those of the store and of the target's reader. */
kb_code kb_group_offsets_compute(kb_group_offsets *offsets, kb_error *err) KB_CHECK;
void kb_group_offsets_done(kb_group_offsets *offsets);

#endif

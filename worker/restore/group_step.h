/*
 * group_step - what a restore does about consumer groups (worker.md 8.6): source offsets of the backup, the
 * check that groups are idle, the snapshot before the first record, and the move after the last.
 *
 * Order of calls: prepare, check, save, move. Threads: one at a time.
 */
#ifndef KB_WORKER_RESTORE_GROUP_STEP_H
#define KB_WORKER_RESTORE_GROUP_STEP_H

#include <stdbool.h>

#include "common/base/error.h"
#include "worker/kafka/kafka_groups.h"
#include "worker/offsets/env.h"
#include "worker/offsets/group_result.h"
#include "worker/restore/checks.h"
#include "worker/restore/plan.h"
#include "worker/restore/settings.h"
#include "worker/restore/target_view.h"

typedef struct kb_group_step {
    /* Set by the caller; borrowed. */
    const kb_restore_settings *settings;
    const kb_restore_plan *plan;
    kb_kafka_admin *admin;
    kb_run_metrics *metrics; /* may be NULL */
    const char *restore_id;
    const char *cluster_id; /* may be NULL */
    bool can_write;         /* the store takes objects of this restore */
    /* Of the step. */
    bool moves;           /* offsets are to be moved */
    bool has_snapshot;    /* of the backup */
    kb_group_set names;   /* groups to move, without places */
    kb_group_set sources; /* source offsets of them, as committed at the source */
    kb_kafka_groups *groups;
    kb_snapshot_store *store;
    char *inputs;
    kb_offsets_env env;
} kb_group_step;

void kb_group_step_done(kb_group_step *step);
/* Reads the group snapshot of the backup when groups are to be moved. KB_CONFIG_INVALID for what cannot be
 * done, KB_BACKUP_CORRUPT for a snapshot that cannot be read. */
kb_code kb_group_step_prepare(kb_group_step *step, kb_error *err) KB_CHECK;
/* Refuses groups that have members. */
kb_code kb_group_step_check(kb_group_step *step, kb_checks *checks, kb_error *err) KB_CHECK;
/* Saves the offsets on target topics as rollback_snapshot_id, or finds what an earlier attempt saved. */
kb_code kb_group_step_save(kb_group_step *step, kb_error *err) KB_CHECK;
/*
 * Translates, exports and commits, when all topics are complete. starts, view: of the plan's targets. A group
 * without source offsets is a finding; one that cannot be moved fails the run.
 */
kb_code kb_group_step_move(kb_group_step *step, const int64_t *starts, const kb_target_view *view,
                           kb_error *err) KB_CHECK;

#endif

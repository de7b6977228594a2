/*
 * snapshot - committed offsets as they were before a change, and the change that was planned
 * (storage-format, 5.3 and 5.4).
 *
 * An offset of KB_GROUP_NO_OFFSET means that the group had none there, so a rollback removes it again.
 * Threads: pure.
 */
#ifndef KB_WORKER_OFFSETS_SNAPSHOT_H
#define KB_WORKER_OFFSETS_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "worker/kafka/kafka_group_set.h"

#define KB_OFFSET_SNAPSHOT_MAX_BYTES ((size_t)64 << 20)

typedef struct kb_offset_snapshot {
    char *id; /* owned, as all; NULL = not told */
    int64_t time_ms;
    char *cluster;
    char *cluster_id; /* NULL = not known */
    char *run_kind;
    char *job_uid;   /* "" = by hand */
    char *inputs;    /* hash of what the plan was made of; "" = not told */
    bool is_foreign; /* of the existing tool */
    bool has_plan;
    kb_group_set groups;
    kb_group_set plan; /* what the run was about to commit */
} kb_offset_snapshot;

void kb_offset_snapshot_done(kb_offset_snapshot *snapshot);

/* As stored, with its own hash. *ret_text is owned. */
kb_code kb_offset_snapshot_encode(const kb_offset_snapshot *snapshot, char **ret_text, size_t *ret_len,
                                  kb_error *err) KB_CHECK;
/* Reads one of ours (5.4). KB_ERR_FORMAT for anything else, a wrong hash included. */
kb_code kb_offset_snapshot_decode(kb_view text, kb_offset_snapshot *ret_snapshot, kb_error *err) KB_CHECK;
/* Reads one of the existing tool (5.3). Its offsets of -1 mean "unknown" and are left out. */
kb_code kb_offset_snapshot_decode_foreign(kb_view text, kb_offset_snapshot *ret_snapshot,
                                          kb_error *err) KB_CHECK;

/* Target offsets of `mapping_file`: { "groups": { group: { topic: { "0": 1000 } } } }. KB_ERR_FORMAT. */
kb_code kb_offset_mapping_decode(kb_view text, kb_group_set *ret_set, kb_error *err) KB_CHECK;

#endif

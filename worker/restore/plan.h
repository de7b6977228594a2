/*
 * plan - what a restore is to do, as a function of backup, configuration and target cluster (pure).
 *
 * Source partitions feed target partitions. Targets that share sources, or are fed by several of them, form a
 * unit, which one thread restores: a plain partition, a merge of several sources into one target, or a
 * repartitioned topic with all its partitions. Every partition of every target topic is in exactly one unit,
 * empty ones too. Nothing here depends on the state of the target, so every attempt makes the same plan; its
 * hash is the proof. Pointers into the backup are borrowed. Threads: immutable once made.
 */
#ifndef KB_WORKER_RESTORE_PLAN_H
#define KB_WORKER_RESTORE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/crypto.h"
#include "common/base/error.h"
#include "common/contract/worker_config.h"
#include "worker/catalog/model.h"
#include "worker/restore/checks.h"
#include "worker/restore/window.h"

typedef struct kb_restore_source {
    const kb_topic_entry *topic;
    const kb_partition_entry *partition;
    uint8_t *verdicts;     /* owned; a kb_window_verdict for each segment */
    int64_t sure_records;  /* in segments that are wholly inside the window */
    int64_t maybe_records; /* in segments that have to be looked at */
    size_t first_segment;  /* of those that are not wholly outside; both 0 when there is none */
    size_t last_segment;
    size_t target_topic;
    int32_t target_partition; /* -1: chosen for each record */
} kb_restore_source;

typedef enum kb_restore_route {
    KB_ROUTE_FIXED,    /* all to the one target */
    KB_ROUTE_MURMUR2,  /* by key */
    KB_ROUTE_AUTOMATIC /* in turn */
} kb_restore_route;

typedef struct kb_restore_topic {
    char *name; /* owned, as are the arrays */
    int32_t partition_count;
    int32_t replication_factor; /* -1: the broker's default */
    kb_restore_route route;
    kb_config_pair *configs; /* final overrides, sorted by name */
    size_t config_count;
    size_t config_capacity;
    const kb_topic_entry **sources; /* topics of the backup that feed it */
    size_t source_count;
    size_t source_capacity;
    int64_t max_record_bytes; /* greatest stored record; -1 = unknown */
    size_t first_target;      /* its partitions are targets[first_target + partition] */
} kb_restore_topic;

typedef struct kb_restore_target {
    size_t topic; /* index into topics */
    int32_t partition;
} kb_restore_target;

typedef struct kb_restore_unit {
    size_t topic;
    kb_restore_route route;
    size_t *sources; /* owned; indexes into sources, by source topic and partition */
    size_t source_count;
    size_t source_capacity;
    size_t first_target; /* index into targets */
    size_t target_count;
} kb_restore_unit;

typedef struct kb_restore_plan {
    const kb_backup *backup;
    kb_restore_window window;
    bool strip_own_block;
    bool add_restore_headers;
    bool zero_becomes_one;    /* timestamp_zero: one */
    kb_restore_topic *topics; /* by name, bytewise */
    size_t topic_count;
    size_t topic_capacity;
    kb_restore_source *sources;
    size_t source_count;
    size_t source_capacity;
    kb_restore_target *targets;
    size_t target_count;
    kb_restore_unit *units;
    size_t unit_count;
    size_t unit_capacity;
    uint8_t sha256[KB_SHA256_SIZE]; /* planSha256 */
} kb_restore_plan;

/*
 * Makes the plan. What the selection refuses (absent literal topics, illegal names, two sources onto one
 * target, ...) goes to checks; the plan is then made of the rest. Fails with KB_CONFIG_INVALID for a pattern
 * that is no pattern. target_cluster_id may be NULL. Owned by the caller.
 */
kb_code kb_restore_plan_make(const kb_backup *backup, const kb_worker_config *config,
                             const char *target_cluster_id, kb_checks *checks, kb_restore_plan **ret_plan,
                             kb_error *err) KB_CHECK;
void kb_restore_plan_free(kb_restore_plan *owned_plan);
void kb_restore_plan_free_at(kb_restore_plan **at);

/* The restore id of the configuration, or the default one; owned by the caller. KB_CONFIG_INVALID when it is
 * no id. */
kb_code kb_restore_id_of(const kb_worker_config *config, const kb_restore_plan *plan, char **ret_id,
                         kb_error *err) KB_CHECK;

/* Records that the unit's sources hold: those to be looked at included. */
int64_t kb_restore_unit_records(const kb_restore_plan *plan, const kb_restore_unit *unit);

#endif

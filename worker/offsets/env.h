/*
 * env - what the commands on committed offsets have around them; plain data, borrowed for the run.
 */
#ifndef KB_WORKER_OFFSETS_ENV_H
#define KB_WORKER_OFFSETS_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/sync/wait.h"
#include "worker/kafka/kafka_admin.h"
#include "worker/kafka/kafka_groups.h"
#include "worker/offsets/snapshot_store.h"
#include "worker/report/progress.h"
#include "worker/report/run_metrics.h"

/* Deadline of one call to the cluster: a few hundred round trips for each of 10,000 groups. */
#define KB_OFFSETS_CALL_MS 300000
/* An unknown topic may be one that was just created. */
#define KB_OFFSETS_UNKNOWN_MS 3000

typedef struct kb_offsets_env {
    kb_kafka_groups *groups;
    kb_kafka_admin *admin;
    const kb_kafka_options *kafka; /* for readers of records */
    kb_snapshot_store *store;      /* NULL: no snapshot is made */
    const char *cluster;           /* addresses as configured */
    const char *cluster_id;        /* may be NULL */
    const char *run_kind;          /* the command */
    const char *job_uid;           /* "" by hand */
    const char *inputs;            /* hash of what the plan is made of; tells reruns by hand */
    kb_stop *stop;
    kb_progress *progress;
    kb_run_metrics *metrics; /* may be NULL */
    size_t parallelism;
    int64_t wait_for_empty_ms;
    bool continue_on_error;
    bool force;
    bool is_part; /* of a restore: state and percent are the restore's */
} kb_offsets_env;

/* A call that may take KB_OFFSETS_CALL_MS from now. */
kb_kafka_call kb_offsets_call(const kb_offsets_env *env);
/* The same for many groups, parallelism at once. */
kb_groups_call kb_offsets_groups_call(const kb_offsets_env *env);

#endif

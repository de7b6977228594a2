/*
 * offset_run - what the commands on committed offsets have in common: cluster, store, results. Main thread.
 */
#ifndef KB_WORKER_CMD_OFFSET_RUN_H
#define KB_WORKER_CMD_OFFSET_RUN_H

#include "worker/cmd/run_context.h"
#include "worker/kafka/kafka_admin.h"
#include "worker/kafka/kafka_groups.h"
#include "worker/offsets/env.h"
#include "worker/offsets/reset.h"
#include "worker/offsets/rollback.h"

typedef struct kb_offset_run {
    kb_run_kafka kafka;
    kb_breaker *breaker;
    kb_kafka_cluster cluster;
    kb_kafka_admin *admin;
    kb_kafka_groups *groups;
    kb_storage *storage; /* of the snapshots, or a ConfigMap */
    kb_kube_access *access;
    kb_configmap *map;
    kb_snapshot_store *store;
    char *inputs;
    kb_offsets_env env;
} kb_offset_run;
void kb_offset_run_done(kb_offset_run *offsets);

/* Opens the store of snapshots. */
kb_code kb_offset_run_open_store(kb_run_context *run, kb_offset_run *offsets, kb_error *err) KB_CHECK;
/*
 * Observes the run, connects, opens the store (unless the command needs none) and fills env. extra: further
 * text that the plan is made of; may be NULL.
 */
kb_code kb_offset_run_open(kb_run_context *run, const char *extra, kb_offset_run *ret_offsets,
                           kb_error *err) KB_CHECK;

/* Prints the plan and the results of groups. saved_id: another snapshot that was made; may be NULL. */
kb_code kb_offset_run_print(const kb_run_context *run, const kb_reset_outcome *outcome, bool dry_run,
                            const char *saved_id, kb_error *err) KB_CHECK;

typedef kb_code (*kb_offset_command)(const kb_offsets_env *env, const kb_rollback_request *request,
                                     kb_rollback_outcome *outcome, kb_error *err);
/* A whole command on a snapshot. */
kb_code kb_offset_run_on_snapshot(kb_run_context *run, kb_offset_command command, kb_error *err) KB_CHECK;

#endif

/*
 * target_view - what the target cluster says of the topics that a plan wants to fill.
 *
 * One reading asks for metadata, configs and offsets of all of them, in few requests. Absent topics are an
 * answer. Threads: one at a time.
 */
#ifndef KB_WORKER_RESTORE_TARGET_VIEW_H
#define KB_WORKER_RESTORE_TARGET_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/sync/wait.h"
#include "worker/catalog/model.h"
#include "worker/kafka/kafka_admin.h"
#include "worker/restore/plan.h"

#define KB_CONFIG_NUMBER_UNKNOWN INT64_MIN

typedef struct kb_target_topic {
    bool exists;
    int error_number; /* other than "does not exist" */
    bool has_id;
    uint8_t id[KB_TOPIC_ID_SIZE];
    int32_t partition_count;
    int replica_count; /* the most of any partition */
    bool has_configs;  /* they could be read; otherwise configs_error tells why */
    char *configs_error;
    /* Effective values; KB_CONFIG_NUMBER_UNKNOWN when not told. */
    int64_t max_message_bytes, min_insync_replicas, retention_ms;
    int64_t timestamp_before_ms, timestamp_after_ms, timestamp_difference_ms;
    bool log_append;
    bool is_compacted;
    kb_config_pair *overrides; /* of the topic itself, by name; what the broker keeps secret has no value */
    size_t override_count;
    size_t override_capacity;
} kb_target_topic;

/* Of one target of the plan. */
typedef struct kb_target_offsets {
    int64_t log_start; /* -1: the partition does not exist, or offsets could not be read */
    int64_t end;       /* high watermark */
    int error_number;
    int isr_count;
} kb_target_offsets;

typedef struct kb_target_view {
    kb_target_topic *topics; /* as in the plan */
    size_t topic_count;
    kb_target_offsets *targets; /* as in the plan */
    int broker_count;
    int64_t replica_lag_ms;      /* of a broker; KB_CONFIG_NUMBER_UNKNOWN when it cannot be read */
    int64_t default_replication; /* likewise */
    int64_t default_min_insync;  /* likewise */
} kb_target_view;

void kb_target_view_done(kb_target_view *view);
/* Fails only when the cluster cannot be asked; what it says of single topics is in the view. */
kb_code kb_target_view_read(kb_kafka_admin *admin, const kb_restore_plan *plan, kb_stop *stop,
                            kb_target_view *ret_view, kb_error *err) KB_CHECK;
/* Reads metadata, log starts and ends anew; configs stay as they were read. */
kb_code kb_target_view_refresh(kb_kafka_admin *admin, const kb_restore_plan *plan, kb_stop *stop,
                               kb_target_view *view, kb_error *err) KB_CHECK;
/* NULL when the topic has no such override. */
const char *kb_target_override(const kb_target_topic *topic, const char *name);

/* Deadline and stop token of an admin call. */
kb_kafka_call kb_restore_call(kb_stop *stop);

#endif

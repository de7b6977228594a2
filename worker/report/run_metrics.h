/*
 * run_metrics - the series of worker.md, section 13, that belong to backup, restore, validate and prune.
 *
 * All series of the command exist with 0 from kb_run_metrics_new on; updates are inline and lock-free. Series
 * of another command are there as members but not shown, so that shared code (stores, clients) counts without
 * asking which command runs.
 * Threads: updates from any thread.
 */
#ifndef KB_WORKER_REPORT_RUN_METRICS_H
#define KB_WORKER_REPORT_RUN_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/obs/metrics.h"

typedef enum kb_run_kind {
    KB_RUN_KIND_BACKUP,
    KB_RUN_KIND_RESTORE,
    KB_RUN_KIND_VALIDATE,
    KB_RUN_KIND_PRUNE,
    KB_RUN_KIND_OFFSETS,
} kb_run_kind;

/* Classes of section 11: label error_type. */
typedef enum kb_error_class {
    KB_CLASS_KAFKA_TRANSIENT,
    KB_CLASS_KAFKA_PERMISSION,
    KB_CLASS_KAFKA_CONFIGURATION,
    KB_CLASS_KAFKA_FENCED,
    KB_CLASS_STORE_TRANSIENT,
    KB_CLASS_STORE_CREDENTIALS,
    KB_CLASS_STORE_PERMISSION,
    KB_CLASS_STORE_CONFIGURATION,
    KB_CLASS_STORE_CLOCK,
    KB_CLASS_FILESYSTEM,
    KB_CLASS_MEMORY,
    KB_CLASS_COUNT
} kb_error_class;

/* What was retried: label operation of kafka_backup_retries_total. */
typedef enum kb_retry_operation {
    KB_RETRY_FETCH,
    KB_RETRY_PRODUCE,
    KB_RETRY_METADATA,
    KB_RETRY_OFFSETS,
    KB_RETRY_TOPICS,
    KB_RETRY_CONFIGS,
    KB_RETRY_GROUPS,
    KB_RETRY_STORAGE_READ,
    KB_RETRY_STORAGE_WRITE,
    KB_RETRY_COUNT
} kb_retry_operation;

/* Label operation of the storage histograms; those from KB_STORE_OP_PUT on are writes. */
typedef enum kb_store_op {
    KB_STORE_OP_GET_RANGE,
    KB_STORE_OP_HEAD,
    KB_STORE_OP_LIST,
    KB_STORE_OP_PUT,
    KB_STORE_OP_PUT_IF_ABSENT,
    KB_STORE_OP_UPLOAD_PART,
    KB_STORE_OP_UPLOAD_COMPLETE,
    KB_STORE_OP_REMOVE,
    KB_STORE_OP_COUNT
} kb_store_op;

/* Label outcome of groups whose offsets were to be changed. */
typedef enum kb_group_outcome {
    KB_GROUP_OUTCOME_SUCCESS,
    KB_GROUP_OUTCOME_FAILURE,
    KB_GROUP_OUTCOME_COUNT
} kb_group_outcome;

typedef struct kb_run_metrics_options {
    kb_run_kind kind;
    const char *command; /* "backup", "restore", ...; texts are copied */
    const char *version;
    const char *backup_id;
    const char *lineage;           /* NULL = none */
    const char *restore_id;        /* restore only */
    const char *algorithm;         /* backup: zstd, lz4, none */
    const char *backend;           /* filesystem, ... */
    uint32_t max_partition_labels; /* metrics.max_partition_labels; 0 = no lag per partition */
} kb_run_metrics_options;

/* Members may be updated with the functions of metrics.h; the inline ones below cover the usual sets. */
typedef struct kb_run_metrics {
    kb_run_kind kind;
    /* backup */
    kb_metric *records, *bytes, *uncompressed_bytes, *compressed_bytes;
    kb_metric *segments, *segments_reused, *segments_adopted;
    kb_metric *lag_sum, *snapshot_target, *snapshot_remaining, *lso_lag;
    kb_metric *offset_gaps, *offsets_skipped, *discontinuities, *topics_skipped;
    kb_metric *journal_age, *progress_percent;
    /* backup, prune */
    kb_metric *prune_backups, *prune_bytes, *prune_held;
    /* restore */
    kb_metric *restore_records, *restore_bytes, *restore_resumed;
    kb_metric *restore_percent, *restore_eta;
    /* every command */
    kb_metric *errors[KB_CLASS_COUNT], *retries[KB_RETRY_COUNT];
    kb_metric *store_latency[KB_STORE_OP_COUNT], *store_errors[KB_CLASS_COUNT];
    kb_metric *store_read_bytes, *store_write_bytes;
    kb_metric *memory_budget, *exit_code;
    /* offset commands, restore; by kb_group_outcome */
    kb_metric *offsets_committed[KB_GROUP_OUTCOME_COUNT], *offset_groups[KB_GROUP_OUTCOME_COUNT];
    /* private */
    kb_metric_family *lag_family, *circuit_family;
    char *backup_id;
    uint32_t max_partition_labels;
    kb_metrics *hidden; /* registry of the series that are not shown */
} kb_run_metrics;

/* A partition's distance to the end, for kb_run_metrics_set_lag. */
typedef struct kb_partition_lag {
    const char *topic;
    int32_t partition;
    int64_t records;
} kb_partition_lag;

/* Registers everything in `metrics`, which must outlive the result. */
kb_run_metrics *kb_run_metrics_new(kb_metrics *metrics, const kb_run_metrics_options *options)
    __attribute__((returns_nonnull));
void kb_run_metrics_free(kb_run_metrics *owned_run);

/*
 * Sets kafka_backup_lag_records_sum to the sum and kafka_backup_lag_records to the max_partition_labels
 * largest. Costs O(n log n): call it per refresh, not per record.
 */
void kb_run_metrics_set_lag(kb_run_metrics *run, const kb_partition_lag *lags, size_t count);
/* The series of kafka_backup_circuit_open of an endpoint (store host, or "kafka-admin"), made with 0. */
kb_metric *kb_run_metrics_circuit(kb_run_metrics *run, const char *endpoint);

static inline bool kb_store_op_is_write(kb_store_op op)
{
    return op >= KB_STORE_OP_PUT;
}

/* Backup: records and their key + value bytes are in a segment that is durable. */
static inline void kb_run_metrics_add_records(kb_run_metrics *run, uint64_t records, uint64_t bytes)
{
    kb_metric_add(run->records, records);
    kb_metric_add(run->bytes, bytes);
}

/* Backup: a segment was written. */
static inline void kb_run_metrics_add_segment(kb_run_metrics *run, uint64_t uncompressed, uint64_t compressed)
{
    kb_metric_add(run->segments, 1);
    kb_metric_add(run->uncompressed_bytes, uncompressed);
    kb_metric_add(run->compressed_bytes, compressed);
}

/* Backup: offsets to read up to the cut, and those still missing. */
static inline void kb_run_metrics_set_snapshot(kb_run_metrics *run, int64_t target, int64_t remaining)
{
    kb_metric_set(run->snapshot_target, (double)target);
    kb_metric_set(run->snapshot_remaining, (double)remaining);
}

/* Restore: records that landed. */
static inline void kb_run_metrics_add_restored(kb_run_metrics *run, uint64_t records, uint64_t bytes)
{
    kb_metric_add(run->restore_records, records);
    kb_metric_add(run->restore_bytes, bytes);
}

/* What became of a group, and how many of its offsets were committed. */
static inline void kb_run_metrics_add_group(kb_run_metrics *run, kb_group_outcome outcome, uint64_t offsets)
{
    kb_metric_add(run->offset_groups[outcome], 1);
    kb_metric_add(run->offsets_committed[outcome], offsets);
}

static inline void kb_run_metrics_add_error(kb_run_metrics *run, kb_error_class class)
{
    kb_metric_add(run->errors[class], 1);
}

static inline void kb_run_metrics_add_retry(kb_run_metrics *run, kb_retry_operation operation)
{
    kb_metric_add(run->retries[operation], 1);
}

/* A storage operation that ended, well or not: its time, and the bytes of the body that were moved. */
static inline void kb_run_metrics_store_op(kb_run_metrics *run, kb_store_op op, int64_t micros,
                                           uint64_t bytes)
{
    kb_metric_observe(run->store_latency[op], (double)micros / 1e6);
    kb_metric_add(kb_store_op_is_write(op) ? run->store_write_bytes : run->store_read_bytes, bytes);
}

static inline void kb_run_metrics_store_error(kb_run_metrics *run, kb_error_class class)
{
    kb_metric_add(run->store_errors[class], 1);
}

#endif

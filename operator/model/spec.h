/*
 * spec - the decoded spec of each kind (crds.md, sections 2 to 6).
 *
 * One struct for each block, members in the order of the documents, named as there. A block has is_set: its
 * defaults are filled in either way. NULL texts are not given. Threads: immutable after reading.
 */
#ifndef KB_OPERATOR_MODEL_SPEC_H
#define KB_OPERATOR_MODEL_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/data/problems.h"
#include "common/data/schema.h"
#include "operator/model/kinds.h"
#include "operator/model/spec_table.h"

/* ---- 2.1 Kafka connection ---- */

typedef enum kb_spec_protocol {
    KB_SPEC_PLAINTEXT,
    KB_SPEC_SSL,
    KB_SPEC_SASL_PLAINTEXT,
    KB_SPEC_SASL_SSL
} kb_spec_protocol;

typedef struct kb_spec_tls {
    bool is_set;
    char *name, *ca_key /* "" = no CA of this Secret */, *cert_key, *key_key;
} kb_spec_tls;

typedef struct kb_spec_sasl {
    bool is_set;
    char *name, *mechanism, *username_key, *password_key;
} kb_spec_sasl;

typedef struct kb_spec_kafka {
    bool is_set;
    kb_strings bootstrap_servers;
    int security_protocol; /* kb_spec_protocol */
    kb_spec_tls tls;
    kb_spec_sasl sasl;
} kb_spec_kafka;

/* ---- 2.2 storage ---- */

typedef enum kb_spec_storage_type {
    KB_SPEC_STORAGE_NONE = -1,
    KB_SPEC_STORAGE_S3,
    KB_SPEC_STORAGE_AZURE,
    KB_SPEC_STORAGE_GCS,
    KB_SPEC_STORAGE_PVC,
    KB_SPEC_STORAGE_CONFIG_MAP,
    KB_SPEC_STORAGE_CONFIG_MAP_LOWER /* the same, spelled configmap */
} kb_spec_storage_type;

/* A Secret and up to three keys in it. */
typedef struct kb_spec_secret {
    bool is_set;
    char *name;
    char *keys[3];
} kb_spec_secret;

typedef struct kb_spec_s3 {
    bool is_set;
    char *bucket, *region, *prefix, *endpoint;
    int signature_version;      /* 0 = v4, 1 = v2 */
    kb_spec_secret credentials; /* access key, secret key */
} kb_spec_s3;

typedef struct kb_spec_azure {
    bool is_set;
    char *account_name, *container, *prefix, *endpoint;
    kb_spec_secret credentials;       /* account key */
    kb_spec_secret sas_token;         /* token */
    kb_spec_secret service_principal; /* client id, tenant id, client secret */
    kb_spec_secret connection_string; /* string */
    bool use_workload_identity;
} kb_spec_azure;

typedef struct kb_spec_gcs {
    bool is_set;
    char *bucket, *prefix;
    kb_spec_secret credentials; /* JSON */
} kb_spec_gcs;

typedef struct kb_spec_pvc {
    bool is_set;
    char *claim_name, *sub_path;
} kb_spec_pvc;

typedef struct kb_spec_config_map {
    bool is_set;
    char *name;
} kb_spec_config_map;

typedef struct kb_spec_storage {
    bool is_set;
    int type; /* kb_spec_storage_type */
    kb_spec_s3 s3;
    kb_spec_azure azure;
    kb_spec_gcs gcs;
    kb_spec_pvc pvc;
    kb_spec_config_map config_map;
} kb_spec_storage;

/* ---- 2.3 run block ---- */

typedef struct kb_spec_resources {
    bool is_set;
    json_t *requests, *limits;
} kb_spec_resources;

typedef struct kb_spec_job {
    bool is_set;
    int64_t backoff_limit, active_deadline_seconds, ttl_seconds_after_finished;
} kb_spec_job;

typedef struct kb_spec_pod_template {
    bool is_set;
    json_t *annotations, *labels, *node_selector, *tolerations;
} kb_spec_pod_template;

typedef struct kb_spec_logging {
    bool is_set;
    char *level, *format; /* NULL = not given */
} kb_spec_logging;

typedef struct kb_spec_run {
    kb_spec_resources resources;
    kb_spec_job job;
    kb_spec_pod_template pod_template;
    kb_spec_logging logging;
    json_t *env; /* list of {name, value} */
    char *service_account_name;
} kb_spec_run;

/* ---- 3 KafkaBackup ---- */

typedef struct kb_spec_retention {
    bool is_set;
    kb_opt_i64 backups, max_age_days;
} kb_spec_retention;

typedef struct kb_spec_rate_limit {
    bool is_set;
    kb_opt_i64 bytes_per_second, records_per_second;
} kb_spec_rate_limit;

typedef struct kb_spec_breaker {
    bool is_set;
    bool enabled;
    int64_t failure_threshold, reset_timeout_secs;
} kb_spec_breaker;

typedef enum kb_spec_compression {
    KB_SPEC_COMPRESSION_ZSTD,
    KB_SPEC_COMPRESSION_LZ4,
    KB_SPEC_COMPRESSION_NONE
} kb_spec_compression;

typedef struct kb_backup_spec {
    char *schedule, *time_zone;
    bool suspend;
    kb_spec_kafka kafka;
    kb_strings topics, exclude_topics;
    kb_spec_storage storage;
    int backup_mode; /* 0 = incremental, 1 = full */
    int compression; /* kb_spec_compression */
    int64_t compression_level;
    bool include_offset_headers;
    char *source_cluster_id;
    int64_t checkpoint_interval_secs;
    kb_spec_retention retention;
    kb_spec_rate_limit rate_limit;
    kb_spec_breaker circuit_breaker;
} kb_backup_spec;

/* ---- 4 KafkaRestore ---- */

typedef enum kb_spec_strategy {
    KB_SPEC_STRATEGY_EARLIEST,
    KB_SPEC_STRATEGY_LATEST,
    KB_SPEC_STRATEGY_TIMESTAMP,
    KB_SPEC_STRATEGY_OFFSET,
    KB_SPEC_STRATEGY_HEADER_BASED,
    KB_SPEC_STRATEGY_FROM_MAPPING /* KafkaOffsetReset only */
} kb_spec_strategy;

typedef struct kb_spec_pitr {
    bool is_set, enabled;
    kb_opt_i64 timestamp_ms;     /* field timestamp */
    kb_opt_i64 timestamp_millis; /* field timestampMillis */
} kb_spec_pitr;

typedef struct kb_spec_offset_reset {
    bool is_set, enabled;
    int strategy; /* kb_spec_strategy */
    kb_strings consumer_groups;
    char *source_cluster;
    kb_opt_i64 timestamp_ms, offset;
} kb_spec_offset_reset;

typedef struct kb_spec_snapshot {
    bool is_set, enabled;
    char *snapshot_id;
} kb_spec_snapshot;

typedef enum kb_spec_target_policy {
    KB_SPEC_TARGET_ABSENT_OR_EMPTY,
    KB_SPEC_TARGET_ABSENT,
    KB_SPEC_TARGET_APPEND
} kb_spec_target_policy;

typedef struct kb_spec_guards {
    bool is_set;
    int target_topics; /* kb_spec_target_policy */
    bool allow_source_cluster, allow_gaps, allow_empty_result;
} kb_spec_guards;

typedef struct kb_restore_spec {
    char *backup_id;
    kb_spec_kafka target;
    kb_spec_storage storage;
    kb_strings topics;
    kb_string_map topic_mapping;
    bool create_topics;
    kb_opt_i64 default_replication_factor;
    kb_spec_pitr pitr;
    bool include_original_offset_header;
    kb_spec_offset_reset offset_reset;
    kb_spec_snapshot rollback;
    int delivery; /* 0 = idempotent, 1 = transactional */
    kb_spec_guards guards;
} kb_restore_spec;

/* ---- 5 KafkaOffsetReset ---- */

typedef struct kb_spec_mapping {
    bool is_set;
    char *name, *key;
} kb_spec_mapping;

typedef struct kb_reset_spec {
    kb_spec_kafka kafka;
    kb_strings consumer_groups, topics;
    int strategy; /* kb_spec_strategy */
    kb_opt_i64 timestamp_ms, timestamp_millis, offset;
    char *source_cluster;
    bool scan_all_partitions;
    kb_spec_mapping mapping;
    bool create_snapshot;
    char *snapshot_id;
    int64_t parallelism;
    bool dry_run;
} kb_reset_spec;

/* ---- 6 KafkaOffsetRollback ---- */

typedef enum kb_spec_operation {
    KB_SPEC_OPERATION_SNAPSHOT,
    KB_SPEC_OPERATION_ROLLBACK,
    KB_SPEC_OPERATION_VERIFY,
    KB_SPEC_OPERATION_DELETE
} kb_spec_operation;

typedef struct kb_spec_verify {
    bool is_set, strict;
} kb_spec_verify;

typedef struct kb_rollback_spec {
    kb_spec_kafka kafka;
    int operation; /* kb_spec_operation */
    char *snapshot_id;
    kb_strings consumer_groups;
    kb_spec_storage storage;
    kb_spec_verify verify;
} kb_rollback_spec;

/* ---- all ---- */

typedef struct kb_spec {
    kb_kind kind; /* says which of the last four counts */
    kb_spec_run run;
    kb_backup_spec backup;
    kb_restore_spec restore;
    kb_reset_spec reset;
    kb_rollback_spec rollback;
} kb_spec;

/*
 * Reads the member spec of an object of this kind. What cannot be decoded is an error in problems (paths
 * begin with "spec"); *ret_spec is valid to use and free in any case.
 */
void kb_spec_read(kb_kind kind, const json_t *object, kb_problems *problems, kb_spec *ret_spec);
void kb_spec_done(kb_spec *spec);

/* The words of the documents. Static. */
const char *kb_spec_storage_word(int type);
const char *kb_spec_strategy_word(int strategy);
const char *kb_spec_operation_word(int operation);
const char *kb_spec_protocol_word(int protocol);
const char *kb_spec_compression_word(int compression);
const char *kb_spec_delivery_word(int delivery);

#endif

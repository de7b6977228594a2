/*
 * worker_config - the worker's configuration: file in, typed struct out (worker.md, sections 4 and 5).
 *
 * kb_worker_config_load reads strictly, reports every error of the file with its place, applies --path and -b
 * and checks what concerns several keys, the command, and the files that are named. The struct holds the
 * effective values: defaults filled in, secrets as kb_secret_source. kb_worker_config_check_supported refuses
 * by name what this version does not do (config_support.h). Everything is immutable after loading and may be
 * read by all threads.
 */
#ifndef KB_COMMON_CONTRACT_WORKER_CONFIG_H
#define KB_COMMON_CONTRACT_WORKER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/log.h"
#include "common/contract/run_env.h"
#include "common/data/problems.h"
#include "common/data/schema.h"

typedef enum kb_command {
    KB_COMMAND_BACKUP,
    KB_COMMAND_RESTORE,
    KB_COMMAND_OFFSET_RESET,
    KB_COMMAND_OFFSET_SNAPSHOT,
    KB_COMMAND_OFFSET_ROLLBACK,
    KB_COMMAND_OFFSET_VERIFY,
    KB_COMMAND_OFFSET_DELETE,
    KB_COMMAND_VALIDATE,
    KB_COMMAND_DESCRIBE,
    KB_COMMAND_LIST,
    KB_COMMAND_PRUNE,
    KB_COMMAND_COUNT
} kb_command;

/* "backup", "offset-reset" and so on. Static. */
const char *kb_command_name(kb_command command);
bool kb_command_parse(const char *name, kb_command *ret_command) KB_CHECK;

/* ---- Kafka blocks ---- */

typedef enum kb_config_protocol {
    KB_CONFIG_PLAINTEXT,
    KB_CONFIG_SSL,
    KB_CONFIG_SASL_PLAINTEXT,
    KB_CONFIG_SASL_SSL
} kb_config_protocol;

typedef enum kb_config_mechanism {
    KB_CONFIG_NO_SASL, /* not given */
    KB_CONFIG_PLAIN,
    KB_CONFIG_SCRAM_SHA_256,
    KB_CONFIG_SCRAM_SHA_512,
    KB_CONFIG_GSSAPI
} kb_config_mechanism;

typedef struct kb_config_security {
    kb_block block;
    int security_protocol;          /* kb_config_protocol */
    int sasl_mechanism;             /* kb_config_mechanism */
    kb_secret_source sasl_username; /* no secret, but may come from a file */
    kb_secret_source sasl_password;
    char *ssl_ca_location;          /* NULL = system trust store */
    char *ssl_certificate_location; /* together with the key, or neither */
    char *ssl_key_location;
    kb_secret_source ssl_key_password; /* by file only */
    bool ssl_client_auth_optional;
    char *sasl_kerberos_service_name; /* "kafka" */
    char *sasl_keytab_path;
    char *sasl_krb5_config_path;
} kb_config_security;

typedef struct kb_config_topics {
    kb_block block;
    kb_strings include, exclude;
} kb_config_topics;

typedef struct kb_config_connection {
    kb_block block;
    bool tcp_keepalive;
    int64_t keepalive_time_secs, keepalive_interval_secs;
    bool tcp_nodelay;
    int64_t connections_per_broker; /* clamped to 1..4 */
} kb_config_connection;

typedef struct kb_config_kafka {
    kb_block block;
    kb_strings bootstrap_servers; /* host:port each */
    kb_config_security security;
    kb_config_topics topics;
    kb_config_connection connection;
    char *client_id;
    char *client_rack; /* NULL = none */
} kb_config_kafka;

/* ---- storage ---- */

typedef enum kb_config_backend {
    KB_CONFIG_NO_STORAGE, /* no storage block */
    KB_CONFIG_FILESYSTEM,
    KB_CONFIG_S3,
    KB_CONFIG_AZURE,
    KB_CONFIG_GCS,
    KB_CONFIG_CONFIGMAP,
    KB_CONFIG_MEMORY /* never passes the load */
} kb_config_backend;

typedef enum kb_config_signature { KB_CONFIG_SIGNATURE_V4, KB_CONFIG_SIGNATURE_V2 } kb_config_signature;

typedef struct kb_config_s3 {
    char *bucket, *region, *endpoint, *prefix, *role_arn, *web_identity_token_file; /* NULL = not given */
    kb_secret_source access_key, secret_key, session_token;
    bool path_style;     /* unless given: true with an endpoint */
    bool has_path_style; /* given */
    bool allow_http;
    int signature_version; /* kb_config_signature */
    int64_t part_size_bytes;
    bool require_conditional_put;
} kb_config_s3;

typedef struct kb_config_azure {
    char *account_name, *container_name, *endpoint, *prefix, *federated_token_file;
    kb_secret_source account_key, sas_token, client_secret, connection_string, client_id, tenant_id;
    bool use_workload_identity, use_managed_identity, allow_http;
} kb_config_azure;

typedef struct kb_config_gcs {
    char *bucket, *service_account_path, *endpoint, *prefix;
    bool allow_http;
} kb_config_gcs;

typedef struct kb_config_storage {
    kb_block block;
    int backend;           /* kb_config_backend: which of the following counts */
    char *filesystem_path; /* key `path` */
    kb_config_s3 s3;
    kb_config_azure azure;
    kb_config_gcs gcs;
    char *configmap_name;      /* key `name` */
    char *configmap_namespace; /* key `namespace`; NULL = own */
    char *ca_file;
    int64_t segment_buffer_bytes, max_connections, request_timeout_secs;
} kb_config_storage;

/* ---- backup ---- */

typedef enum kb_config_compression {
    KB_CONFIG_COMPRESSION_NONE,
    KB_CONFIG_COMPRESSION_ZSTD,
    KB_CONFIG_COMPRESSION_LZ4
} kb_config_compression;

typedef enum kb_config_start { KB_CONFIG_EARLIEST, KB_CONFIG_LATEST, KB_CONFIG_SPECIFIC } kb_config_start;

typedef struct kb_config_start_entry {
    char *topic;
    int64_t partition; /* within int32 */
    int64_t offset;
} kb_config_start_entry;

typedef struct kb_config_start_offset {
    kb_config_start kind;
    /* SPECIFIC: one entry for each partition named; partitions that are not named start at the earliest. */
    kb_config_start_entry *entries;
    size_t count;
} kb_config_start_offset;

typedef enum kb_config_on_topic { KB_CONFIG_ON_TOPIC_FAIL, KB_CONFIG_ON_TOPIC_WARN } kb_config_on_topic;
typedef enum kb_config_compacted_end { KB_CONFIG_CAUGHT_UP, KB_CONFIG_CUT } kb_config_compacted_end;

typedef struct kb_config_backup {
    kb_block block;
    int64_t segment_max_bytes;
    kb_opt_i64 segment_max_records;
    int64_t segment_max_interval_ms;
    int compression; /* kb_config_compression */
    int64_t compression_level;
    kb_config_start_offset start_offset;
    bool continuous, include_internal_topics;
    kb_strings internal_topics;
    int64_t checkpoint_interval_secs;
    bool include_offset_headers;
    char *source_cluster_id; /* NULL = none */
    int64_t max_concurrent_partitions;
    bool consumer_group_snapshot;
    int64_t fetch_max_bytes;                     /* effective */
    bool incremental;                            /* unless given: true with a lineage */
    int on_missing_topic, on_unauthorized_topic; /* kb_config_on_topic */
    kb_opt_i64 rate_limit_bytes_per_sec, rate_limit_records_per_sec;
    int64_t cycle_interval_secs;
    bool verify_before_upload;
    int compacted_end; /* kb_config_compacted_end */
} kb_config_backup;

/* ---- restore ---- */

typedef enum kb_config_repartition { KB_CONFIG_MURMUR2, KB_CONFIG_AUTOMATIC } kb_config_repartition;

typedef struct kb_config_repartition_entry {
    kb_block block;
    char *target_topic;
    int strategy; /* kb_config_repartition */
    int64_t target_partitions;
} kb_config_repartition_entry;

typedef struct kb_config_repartitioning {
    kb_config_repartition_entry *items;
    size_t count;
} kb_config_repartitioning;

typedef enum kb_config_group_strategy {
    KB_CONFIG_GROUP_SKIP,
    KB_CONFIG_GROUP_HEADER_BASED,
    KB_CONFIG_GROUP_MANUAL,
    KB_CONFIG_GROUP_TIMESTAMP_BASED,
    KB_CONFIG_GROUP_CLUSTER_SCAN
} kb_config_group_strategy;

typedef enum kb_config_target_policy {
    KB_CONFIG_TARGET_EMPTY,
    KB_CONFIG_TARGET_ABSENT,
    KB_CONFIG_TARGET_APPEND
} kb_config_target_policy;

typedef enum kb_config_delivery { KB_CONFIG_IDEMPOTENT, KB_CONFIG_TRANSACTIONAL } kb_config_delivery;
typedef enum kb_config_timestamp_zero { KB_CONFIG_ZERO_REFUSE, KB_CONFIG_ZERO_ONE } kb_config_timestamp_zero;

typedef enum kb_config_offset_strategy {
    KB_CONFIG_OFFSET_NONE, /* not given */
    KB_CONFIG_OFFSET_EARLIEST,
    KB_CONFIG_OFFSET_LATEST,
    KB_CONFIG_OFFSET_TIMESTAMP,
    KB_CONFIG_OFFSET_OFFSET,
    KB_CONFIG_OFFSET_HEADER_BASED,
    KB_CONFIG_OFFSET_FROM_MAPPING
} kb_config_offset_strategy;

typedef struct kb_config_offset_reset {
    kb_block block;
    int strategy;            /* kb_config_offset_strategy, default HEADER_BASED */
    kb_opt_i64 timestamp_ms; /* key `timestamp`, RFC 3339 */
    kb_opt_i64 offset;
    char *source_cluster;
} kb_config_offset_reset;

typedef struct kb_config_restore {
    kb_block block;
    kb_opt_i64 time_window_start, time_window_end; /* ms, both inclusive */
    kb_i64s source_partitions;                     /* empty = all */
    kb_i64_map partition_mapping;
    kb_string_map topic_mapping;
    kb_config_repartitioning repartitioning;
    int consumer_group_strategy; /* kb_config_group_strategy */
    bool include_original_offset_header, strip_offset_headers, dry_run;
    kb_opt_i64 rate_limit_records_per_sec, rate_limit_bytes_per_sec;
    int64_t max_concurrent_partitions;
    int64_t produce_batch_size, produce_timeout_ms;
    int64_t produce_acks; /* as given; anything but -1 is raised to -1 and is a warning of the load */
    bool create_topics;
    kb_opt_i64 default_replication_factor;
    bool restore_configs;
    kb_string_map config_overrides;
    bool retention_hold, purge_topics;
    int target_policy; /* kb_config_target_policy */
    bool allow_source_cluster;
    int delivery; /* kb_config_delivery */
    bool allow_gaps, allow_empty_result, allow_merge, allow_partition_mismatch;
    kb_strings consumer_groups;
    bool auto_consumer_groups, reset_consumer_offsets;
    kb_config_offset_reset offset_reset;
    char *rollback_snapshot_id, *offset_report, *checkpoint_state; /* NULL = none */
    int timestamp_zero;                                            /* kb_config_timestamp_zero */
    char *restore_id;                                              /* NULL = derived */
    int64_t stability_window_secs;
} kb_config_restore;

/* ---- the rest ---- */

typedef enum kb_config_source_offsets {
    KB_CONFIG_SOURCE_OFFSETS_AUTO,
    KB_CONFIG_SOURCE_OFFSETS_SNAPSHOT,
    KB_CONFIG_SOURCE_OFFSETS_COMMITTED
} kb_config_source_offsets;

typedef struct kb_config_offsets {
    kb_block block;
    kb_strings groups, topics;
    int strategy;            /* kb_config_offset_strategy */
    kb_opt_i64 timestamp_ms; /* key `timestamp` (RFC 3339) or `timestamp_ms` */
    kb_opt_i64 offset;
    char *mapping_file;
    int source_offsets; /* kb_config_source_offsets */
    char *source_cluster;
    bool scan_all_partitions, create_snapshot;
    char *snapshot_id;
    kb_config_storage store;
    int64_t parallelism, wait_for_empty_secs;
    bool continue_on_error, force, strict, dry_run;
    kb_opt_i64 timestamp; /* not set after loading: see timestamp_ms */
} kb_config_offsets;

typedef struct kb_config_retention {
    kb_block block;
    kb_opt_i64 backups, max_age_days;
    int64_t grace_secs;
} kb_config_retention;

typedef struct kb_config_limits {
    kb_block block;
    int64_t memory_bytes, threads; /* unless given: what KB_MEMORY_LIMIT and the cgroup grant */
    int64_t no_progress_secs, shutdown_grace_secs, lock_wait_secs, start_jitter_secs;
} kb_config_limits;

typedef struct kb_config_circuit_breaker {
    kb_block block;
    bool enabled;
    int64_t failure_threshold, reset_timeout_secs, success_threshold;
} kb_config_circuit_breaker;

typedef struct kb_config_metrics {
    kb_block block;
    bool enabled;
    int64_t port;
    char *bind_address, *path;
    int64_t keep_alive_seconds, max_partition_labels;
} kb_config_metrics;

typedef struct kb_config_logging {
    kb_block block;
    int level;  /* kb_log_level; counts only when level_is_given */
    int format; /* kb_log_format */
    bool level_is_given;
} kb_config_logging;

typedef struct kb_config_resource {
    kb_block block;
    char *kind, *plural, *namespace, *name, *uid, *cron_job;
    kb_opt_i64 generation;
} kb_config_resource;

typedef struct kb_worker_config {
    kb_block block;
    int mode;        /* 0 = not given, else KB_COMMAND_BACKUP + 1 or KB_COMMAND_RESTORE + 1 */
    char *backup_id; /* may hold {stamp}; NULL = not given */
    char *lineage;   /* key `lineage` */
    int64_t config_version;
    kb_config_resource resource;
    char *trust_dir;
    int64_t findings_exit_code; /* 0 or 3 */
    kb_config_kafka source, target;
    kb_config_storage storage;
    kb_config_backup backup;
    kb_config_restore restore;
    kb_config_offsets offsets;
    kb_config_retention retention;
    kb_config_limits limits;
    kb_config_circuit_breaker circuit_breaker;
    kb_config_metrics metrics;
    kb_config_logging logging;
    kb_block offset_storage; /* no effect by itself; its presence means lineage = backup_id */

    char *file; /* name of the file, for messages; NULL without a file */
    kb_yaml_node
        *tree; /* the file without its scalars' secrets: places of keys. Use kb_worker_config_is_given */
} kb_worker_config;

typedef struct kb_config_options {
    const char *path; /* file, "-" = standard input, NULL = no file */
    kb_command command;
    bool allow_unknown, allow_unset_env;
    kb_get_env get_env; /* NULL = getenv */
    void *env_ctx;
    const char *storage_path;  /* --path; NULL = none. Replaces the storage block */
    const char *backup_id;     /* -b; NULL = none. Wins over the file */
    const char *config_sha256; /* KB_CONFIG_SHA256: the file must have it; NULL = not checked */
} kb_config_options;

/*
 * Reads the file and checks it for the command. Fails with KB_CONFIG_INVALID, the text being one line per
 * problem. notes (may be NULL, initialised by the caller) receives warnings and notes, to be logged one by
 * one. *ret_config is owned by the caller.
 */
kb_code kb_worker_config_load(const kb_config_options *options, kb_problems *notes,
                              kb_worker_config **ret_config, kb_error *err) KB_CHECK;
/* The same from memory, for tests and other front ends; file is its name in messages. */
kb_code kb_worker_config_parse(kb_view text, const char *file, const kb_config_options *options,
                               kb_problems *notes, kb_worker_config **ret_config, kb_error *err) KB_CHECK;
void kb_worker_config_free(kb_worker_config *owned_config);
/* For a cleanup attribute: frees *at. */
void kb_worker_config_free_at(kb_worker_config **at);

/*
 * The lineage of a backup: `lineage`, else `backup_id` where `offset_storage` is present or
 * `backup.continuous` is true, else NULL. Borrowed.
 */
const char *kb_worker_config_lineage(const kb_worker_config *config);

/* Whether a key stands in the file with a value ("restore.offset_report"). */
bool kb_worker_config_is_given(const kb_worker_config *config, const char *dotted_path);
/* The effective configuration as YAML, secrets as ***, appended to `to`. */
void kb_worker_config_print(const kb_worker_config *config, kb_strbuf *to);

/* Defaults in, and what it owns freed again; for storage blocks outside of a kb_worker_config. */
void kb_config_storage_init(kb_config_storage *storage);
void kb_config_storage_done(kb_config_storage *storage);

/* The address list for the client library: "host:port,host:port"; owned by the caller. */
char *kb_config_kafka_servers(const kb_config_kafka *kafka) __attribute__((returns_nonnull));

#endif

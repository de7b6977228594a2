#include "operator/model/spec.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"

#define KB_OFFSET_MAX 9007199254740991LL
#define KB_MILLIS_MAX 253402300799999LL
#define KB_JOB_SECONDS_MAX 2592000

#define TEXT(S, key, m, def) \
    {.name = (key), .type = KB_SPEC_TEXT, .at = offsetof(S, m), .default_text = (def)}
#define NEEDED(S, key, m) {.name = (key), .type = KB_SPEC_TEXT, .at = offsetof(S, m), .is_required = true}
#define BOOL(S, key, m, def) {.name = (key), .type = KB_SPEC_BOOL, .at = offsetof(S, m), .default_i64 = (def)}
#define I64(S, key, m, lo, hi, def) \
    {.name = (key), .type = KB_SPEC_I64, .at = offsetof(S, m), .default_i64 = (def), .min = (lo), .max = (hi)}
#define OPT(S, key, m, lo, hi) \
    {.name = (key), .type = KB_SPEC_OPT_I64, .at = offsetof(S, m), .min = (lo), .max = (hi)}
#define TIME(S, key, m) {.name = (key), .type = KB_SPEC_TIME, .at = offsetof(S, m)}
#define WORD(S, key, m, list, def) \
    {.name = (key), .type = KB_SPEC_WORD, .at = offsetof(S, m), .default_i64 = (def), .words = (list)}
#define NEEDED_WORD(S, key, m, list) \
    {.name = (key), \
     .type = KB_SPEC_WORD, \
     .at = offsetof(S, m), \
     .default_i64 = -1, \
     .is_required = true, \
     .words = (list)}
#define TEXTS(S, key, m, def) \
    {.name = (key), .type = KB_SPEC_TEXTS, .at = offsetof(S, m), .default_text = (def)}
#define TEXT_MAP(S, key, m) {.name = (key), .type = KB_SPEC_TEXT_MAP, .at = offsetof(S, m)}
#define TREE(S, key, m) {.name = (key), .type = KB_SPEC_TREE, .at = offsetof(S, m)}
#define BLOCK(S, key, m, table) \
    {.name = (key), .type = KB_SPEC_BLOCK, .at = offsetof(S, m), .block = &(table)}
#define NEEDED_BLOCK(S, key, m, table) \
    {.name = (key), .type = KB_SPEC_BLOCK, .at = offsetof(S, m), .is_required = true, .block = &(table)}
#define TABLE(name, rows) static const kb_spec_table name = {rows, KB_ARRAY_LEN(rows)}

static const char *const protocols[] = {"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL", NULL};
static const char *const storage_types[] = {"s3", "azure", "gcs", "pvc", "configMap", "configmap", NULL};
static const char *const signatures[] = {"v4", "v2", NULL};
static const char *const modes[] = {"incremental", "full", NULL};
static const char *const compressions[] = {"zstd", "lz4", "none", NULL};
static const char *const strategies[] = {"earliest",    "latest",      "timestamp", "offset",
                                         "headerBased", "fromMapping", NULL};
static const char *const deliveries[] = {"idempotent", "transactional", NULL};
static const char *const policies[] = {"absentOrEmpty", "absent", "append", NULL};
static const char *const operations[] = {"snapshot", "rollback", "verify", "delete", NULL};

static const kb_spec_field tls_fields[] = {
    NEEDED(kb_spec_tls, "name", name),
    TEXT(kb_spec_tls, "caKey", ca_key, "ca.crt"),
    TEXT(kb_spec_tls, "certKey", cert_key, "tls.crt"),
    TEXT(kb_spec_tls, "keyKey", key_key, "tls.key"),
};
TABLE(tls_table, tls_fields);

static const kb_spec_field sasl_fields[] = {
    NEEDED(kb_spec_sasl, "name", name),
    NEEDED(kb_spec_sasl, "mechanism", mechanism),
    TEXT(kb_spec_sasl, "usernameKey", username_key, "username"),
    TEXT(kb_spec_sasl, "passwordKey", password_key, "password"),
};
TABLE(sasl_table, sasl_fields);

static const kb_spec_field kafka_fields[] = {
    {.name = "bootstrapServers",
     .type = KB_SPEC_TEXTS,
     .at = offsetof(kb_spec_kafka, bootstrap_servers),
     .is_required = true},
    WORD(kb_spec_kafka, "securityProtocol", security_protocol, protocols, KB_SPEC_PLAINTEXT),
    BLOCK(kb_spec_kafka, "tlsSecret", tls, tls_table),
    BLOCK(kb_spec_kafka, "saslSecret", sasl, sasl_table),
};
TABLE(kafka_table, kafka_fields);

static const kb_spec_field s3_secret_fields[] = {
    NEEDED(kb_spec_secret, "name", name),
    TEXT(kb_spec_secret, "accessKeyKey", keys[0], "accessKey"),
    TEXT(kb_spec_secret, "secretKeyKey", keys[1], "secretKey"),
};
TABLE(s3_secret_table, s3_secret_fields);

static const kb_spec_field s3_fields[] = {
    NEEDED(kb_spec_s3, "bucket", bucket),
    TEXT(kb_spec_s3, "region", region, NULL),
    TEXT(kb_spec_s3, "prefix", prefix, ""),
    TEXT(kb_spec_s3, "endpoint", endpoint, ""),
    WORD(kb_spec_s3, "signatureVersion", signature_version, signatures, 0),
    BLOCK(kb_spec_s3, "credentialsSecret", credentials, s3_secret_table),
};
TABLE(s3_table, s3_fields);

static const kb_spec_field azure_key_fields[] = {
    NEEDED(kb_spec_secret, "name", name),
    TEXT(kb_spec_secret, "accountKeyKey", keys[0], "AZURE_STORAGE_KEY"),
};
TABLE(azure_key_table, azure_key_fields);
static const kb_spec_field azure_sas_fields[] = {
    NEEDED(kb_spec_secret, "name", name),
    TEXT(kb_spec_secret, "sasTokenKey", keys[0], "AZURE_SAS_TOKEN"),
};
TABLE(azure_sas_table, azure_sas_fields);
static const kb_spec_field azure_principal_fields[] = {
    NEEDED(kb_spec_secret, "name", name),
    TEXT(kb_spec_secret, "clientIdKey", keys[0], "AZURE_CLIENT_ID"),
    TEXT(kb_spec_secret, "tenantIdKey", keys[1], "AZURE_TENANT_ID"),
    TEXT(kb_spec_secret, "clientSecretKey", keys[2], "AZURE_CLIENT_SECRET"),
};
TABLE(azure_principal_table, azure_principal_fields);
static const kb_spec_field azure_string_fields[] = {
    NEEDED(kb_spec_secret, "name", name),
    TEXT(kb_spec_secret, "key", keys[0], "connectionString"),
};
TABLE(azure_string_table, azure_string_fields);

static const kb_spec_field azure_fields[] = {
    TEXT(kb_spec_azure, "accountName", account_name, NULL),
    NEEDED(kb_spec_azure, "container", container),
    TEXT(kb_spec_azure, "prefix", prefix, ""),
    TEXT(kb_spec_azure, "endpoint", endpoint, ""),
    BLOCK(kb_spec_azure, "credentialsSecret", credentials, azure_key_table),
    BLOCK(kb_spec_azure, "sasTokenSecret", sas_token, azure_sas_table),
    BLOCK(kb_spec_azure, "servicePrincipalSecret", service_principal, azure_principal_table),
    BLOCK(kb_spec_azure, "connectionStringSecret", connection_string, azure_string_table),
    BOOL(kb_spec_azure, "useWorkloadIdentity", use_workload_identity, false),
};
TABLE(azure_table, azure_fields);

static const kb_spec_field gcs_secret_fields[] = {
    NEEDED(kb_spec_secret, "name", name),
    TEXT(kb_spec_secret, "key", keys[0], "credentials.json"),
};
TABLE(gcs_secret_table, gcs_secret_fields);

static const kb_spec_field gcs_fields[] = {
    NEEDED(kb_spec_gcs, "bucket", bucket),
    TEXT(kb_spec_gcs, "prefix", prefix, ""),
    BLOCK(kb_spec_gcs, "credentialsSecret", credentials, gcs_secret_table),
};
TABLE(gcs_table, gcs_fields);

static const kb_spec_field pvc_fields[] = {
    NEEDED(kb_spec_pvc, "claimName", claim_name),
    TEXT(kb_spec_pvc, "subPath", sub_path, ""),
};
TABLE(pvc_table, pvc_fields);

static const kb_spec_field config_map_fields[] = {NEEDED(kb_spec_config_map, "name", name)};
TABLE(config_map_table, config_map_fields);

static const kb_spec_field storage_fields[] = {
    NEEDED_WORD(kb_spec_storage, "storageType", type, storage_types),
    BLOCK(kb_spec_storage, "s3", s3, s3_table),
    BLOCK(kb_spec_storage, "azure", azure, azure_table),
    BLOCK(kb_spec_storage, "gcs", gcs, gcs_table),
    BLOCK(kb_spec_storage, "pvc", pvc, pvc_table),
    BLOCK(kb_spec_storage, "configMap", config_map, config_map_table),
};
TABLE(storage_table, storage_fields);

static const kb_spec_field resources_fields[] = {
    TREE(kb_spec_resources, "requests", requests),
    TREE(kb_spec_resources, "limits", limits),
};
TABLE(resources_table, resources_fields);

#define JOB_FIELDS(deadline) \
    { \
        I64(kb_spec_job, "backoffLimit", backoff_limit, 0, 20, 3), \
        I64(kb_spec_job, "activeDeadlineSeconds", active_deadline_seconds, 60, KB_JOB_SECONDS_MAX, \
            deadline), \
        I64(kb_spec_job, "ttlSecondsAfterFinished", ttl_seconds_after_finished, 300, KB_JOB_SECONDS_MAX, \
            86400), \
    }
static const kb_spec_field long_job_fields[] = JOB_FIELDS(86400);
TABLE(long_job_table, long_job_fields);
static const kb_spec_field short_job_fields[] = JOB_FIELDS(3600);
TABLE(short_job_table, short_job_fields);

static const kb_spec_field pod_template_fields[] = {
    TREE(kb_spec_pod_template, "annotations", annotations),
    TREE(kb_spec_pod_template, "labels", labels),
    TREE(kb_spec_pod_template, "nodeSelector", node_selector),
    TREE(kb_spec_pod_template, "tolerations", tolerations),
};
TABLE(pod_template_table, pod_template_fields);

static const kb_spec_field logging_fields[] = {
    TEXT(kb_spec_logging, "level", level, NULL),
    TEXT(kb_spec_logging, "format", format, NULL),
};
TABLE(logging_table, logging_fields);

#define RUN_FIELDS(job_table) \
    BLOCK(kb_spec, "resources", run.resources, resources_table), BLOCK(kb_spec, "job", run.job, job_table), \
        BLOCK(kb_spec, "podTemplate", run.pod_template, pod_template_table), \
        BLOCK(kb_spec, "logging", run.logging, logging_table), TREE(kb_spec, "env", run.env), \
        TEXT(kb_spec, "serviceAccountName", run.service_account_name, NULL)

static const kb_spec_field retention_fields[] = {
    OPT(kb_spec_retention, "backups", backups, 1, 10000),
    OPT(kb_spec_retention, "maxAgeDays", max_age_days, 1, 36500),
};
TABLE(retention_table, retention_fields);

static const kb_spec_field rate_limit_fields[] = {
    OPT(kb_spec_rate_limit, "bytesPerSecond", bytes_per_second, 1024, 1000000000000),
    OPT(kb_spec_rate_limit, "recordsPerSecond", records_per_second, 1, 1000000000),
};
TABLE(rate_limit_table, rate_limit_fields);

static const kb_spec_field breaker_fields[] = {
    BOOL(kb_spec_breaker, "enabled", enabled, true),
    I64(kb_spec_breaker, "failureThreshold", failure_threshold, 1, 1000, 5),
    I64(kb_spec_breaker, "resetTimeoutSecs", reset_timeout_secs, 1, 3600, 60),
};
TABLE(breaker_table, breaker_fields);

static const kb_spec_field backup_fields[] = {
    TEXT(kb_spec, "schedule", backup.schedule, NULL),
    TEXT(kb_spec, "timeZone", backup.time_zone, NULL),
    BOOL(kb_spec, "suspend", backup.suspend, false),
    NEEDED_BLOCK(kb_spec, "kafkaCluster", backup.kafka, kafka_table),
    TEXTS(kb_spec, "topics", backup.topics, "*"),
    TEXTS(kb_spec, "excludeTopics", backup.exclude_topics, NULL),
    NEEDED_BLOCK(kb_spec, "storage", backup.storage, storage_table),
    WORD(kb_spec, "backupMode", backup.backup_mode, modes, 0),
    WORD(kb_spec, "compression", backup.compression, compressions, KB_SPEC_COMPRESSION_ZSTD),
    I64(kb_spec, "compressionLevel", backup.compression_level, 1, 22, 3),
    BOOL(kb_spec, "includeOffsetHeaders", backup.include_offset_headers, true),
    TEXT(kb_spec, "sourceClusterId", backup.source_cluster_id, NULL),
    I64(kb_spec, "checkpointIntervalSecs", backup.checkpoint_interval_secs, 5, 3600, 30),
    BLOCK(kb_spec, "retention", backup.retention, retention_table),
    BLOCK(kb_spec, "rateLimit", backup.rate_limit, rate_limit_table),
    BLOCK(kb_spec, "circuitBreaker", backup.circuit_breaker, breaker_table),
    RUN_FIELDS(long_job_table),
};

static const kb_spec_field pitr_fields[] = {
    BOOL(kb_spec_pitr, "enabled", enabled, true),
    TIME(kb_spec_pitr, "timestamp", timestamp_ms),
    OPT(kb_spec_pitr, "timestampMillis", timestamp_millis, 0, KB_MILLIS_MAX),
};
TABLE(pitr_table, pitr_fields);

static const kb_spec_field offset_reset_fields[] = {
    BOOL(kb_spec_offset_reset, "enabled", enabled, true),
    NEEDED_WORD(kb_spec_offset_reset, "strategy", strategy, strategies),
    TEXTS(kb_spec_offset_reset, "consumerGroups", consumer_groups, NULL),
    TEXT(kb_spec_offset_reset, "sourceCluster", source_cluster, NULL),
    TIME(kb_spec_offset_reset, "timestamp", timestamp_ms),
    OPT(kb_spec_offset_reset, "offset", offset, 0, KB_OFFSET_MAX),
};
TABLE(offset_reset_table, offset_reset_fields);

static const kb_spec_field snapshot_fields[] = {
    BOOL(kb_spec_snapshot, "enabled", enabled, true),
    TEXT(kb_spec_snapshot, "snapshotId", snapshot_id, NULL),
};
TABLE(snapshot_table, snapshot_fields);

static const kb_spec_field guards_fields[] = {
    WORD(kb_spec_guards, "targetTopics", target_topics, policies, KB_SPEC_TARGET_ABSENT_OR_EMPTY),
    BOOL(kb_spec_guards, "allowSourceCluster", allow_source_cluster, false),
    BOOL(kb_spec_guards, "allowGaps", allow_gaps, false),
    BOOL(kb_spec_guards, "allowEmptyResult", allow_empty_result, false),
};
TABLE(guards_table, guards_fields);

static const kb_spec_field restore_fields[] = {
    NEEDED(kb_spec, "backupId", restore.backup_id),
    BLOCK(kb_spec, "targetCluster", restore.target, kafka_table),
    BLOCK(kb_spec, "storage", restore.storage, storage_table),
    TEXTS(kb_spec, "topics", restore.topics, NULL),
    TEXT_MAP(kb_spec, "topicMapping", restore.topic_mapping),
    BOOL(kb_spec, "createTopics", restore.create_topics, true),
    OPT(kb_spec, "defaultReplicationFactor", restore.default_replication_factor, 1, 32),
    BLOCK(kb_spec, "pitr", restore.pitr, pitr_table),
    BOOL(kb_spec, "includeOriginalOffsetHeader", restore.include_original_offset_header, false),
    BLOCK(kb_spec, "offsetReset", restore.offset_reset, offset_reset_table),
    BLOCK(kb_spec, "rollback", restore.rollback, snapshot_table),
    WORD(kb_spec, "delivery", restore.delivery, deliveries, 0),
    BLOCK(kb_spec, "guards", restore.guards, guards_table),
    RUN_FIELDS(long_job_table),
};

static const kb_spec_field mapping_fields[] = {
    NEEDED(kb_spec_mapping, "name", name),
    TEXT(kb_spec_mapping, "key", key, "mapping.json"),
};
TABLE(mapping_table, mapping_fields);

static const kb_spec_field reset_fields[] = {
    BLOCK(kb_spec, "kafkaCluster", reset.kafka, kafka_table),
    TEXTS(kb_spec, "consumerGroups", reset.consumer_groups, NULL),
    TEXTS(kb_spec, "topics", reset.topics, NULL),
    NEEDED_WORD(kb_spec, "strategy", reset.strategy, strategies),
    TIME(kb_spec, "timestamp", reset.timestamp_ms),
    OPT(kb_spec, "timestampMillis", reset.timestamp_millis, 0, KB_MILLIS_MAX),
    OPT(kb_spec, "offset", reset.offset, 0, KB_OFFSET_MAX),
    TEXT(kb_spec, "sourceCluster", reset.source_cluster, NULL),
    BOOL(kb_spec, "scanAllPartitions", reset.scan_all_partitions, false),
    BLOCK(kb_spec, "mappingConfigMap", reset.mapping, mapping_table),
    BOOL(kb_spec, "createSnapshot", reset.create_snapshot, true),
    TEXT(kb_spec, "snapshotId", reset.snapshot_id, NULL),
    I64(kb_spec, "parallelism", reset.parallelism, 1, 100, 10),
    BOOL(kb_spec, "dryRun", reset.dry_run, false),
    RUN_FIELDS(short_job_table),
};

static const kb_spec_field verify_fields[] = {BOOL(kb_spec_verify, "strict", strict, false)};
TABLE(verify_table, verify_fields);

static const kb_spec_field rollback_fields[] = {
    BLOCK(kb_spec, "kafkaCluster", rollback.kafka, kafka_table),
    NEEDED_WORD(kb_spec, "operation", rollback.operation, operations),
    NEEDED(kb_spec, "snapshotId", rollback.snapshot_id),
    TEXTS(kb_spec, "consumerGroups", rollback.consumer_groups, NULL),
    BLOCK(kb_spec, "storage", rollback.storage, storage_table),
    BLOCK(kb_spec, "verify", rollback.verify, verify_table),
    RUN_FIELDS(short_job_table),
};

static const kb_spec_table tables[KB_KIND_COUNT] = {
    [KB_KIND_BACKUP] = {backup_fields, KB_ARRAY_LEN(backup_fields)},
    [KB_KIND_RESTORE] = {restore_fields, KB_ARRAY_LEN(restore_fields)},
    [KB_KIND_OFFSET_RESET] = {reset_fields, KB_ARRAY_LEN(reset_fields)},
    [KB_KIND_OFFSET_ROLLBACK] = {rollback_fields, KB_ARRAY_LEN(rollback_fields)},
};

void kb_spec_read(kb_kind kind, const json_t *object, kb_problems *problems, kb_spec *ret_spec)
{
    *ret_spec = (kb_spec){.kind = kind};
    const json_t *spec = kb_tree_at(object, "spec", NULL);
    if (!json_is_object(spec))
        kb_problems_add(problems, KB_SEVERITY_ERROR, 0, 0, "spec", "must be an object");
    kb_spec_table_read(&tables[kind], spec, "spec", problems, ret_spec);
}

void kb_spec_done(kb_spec *spec)
{
    kb_spec_table_done(&tables[spec->kind], spec);
    *spec = (kb_spec){.kind = spec->kind};
}

const char *kb_spec_storage_word(int type)
{
    if (type == KB_SPEC_STORAGE_CONFIG_MAP_LOWER)
        type = KB_SPEC_STORAGE_CONFIG_MAP;
    return type < 0 ? "" : storage_types[type];
}

const char *kb_spec_strategy_word(int strategy)
{
    return strategy < 0 ? "" : strategies[strategy];
}

const char *kb_spec_operation_word(int operation)
{
    return operation < 0 ? "" : operations[operation];
}

const char *kb_spec_protocol_word(int protocol)
{
    return protocols[protocol < 0 ? 0 : protocol];
}

const char *kb_spec_compression_word(int compression)
{
    return compressions[compression < 0 ? 0 : compression];
}

const char *kb_spec_delivery_word(int delivery)
{
    return deliveries[delivery < 0 ? 0 : delivery];
}

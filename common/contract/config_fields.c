#include "common/contract/config_fields.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/contract/config_values.h"
#include "common/contract/worker_config.h"

#define MIB (1024LL * 1024)
#define BYTES_MAX (1LL << 50)
#define MS_MAX (10LL * 366 * 86400 * 1000)
#define SECS_MAX (10LL * 366 * 86400)

/* One row each; S is the struct of the block, m its member, which has the name of the key unless `key` is
 * given. */
#define BOOL(S, m, def, text) \
    {.name = #m, .type = KB_FIELD_BOOL, .at = offsetof(S, m), .default_i64 = (def), .doc = (text)}
#define I64(S, m, def, lo, hi, text) \
    {.name = #m, \
     .type = KB_FIELD_I64, \
     .at = offsetof(S, m), \
     .default_i64 = (def), \
     .min = (lo), \
     .max = (hi), \
     .doc = (text)}
#define OPT(S, m, lo, hi, text) \
    {.name = #m, .type = KB_FIELD_OPT_I64, .at = offsetof(S, m), .min = (lo), .max = (hi), .doc = (text)}
#define STRING_KEY(S, key, m, def, how, text) \
    {.name = (key), \
     .type = KB_FIELD_STRING, \
     .at = offsetof(S, m), \
     .default_text = (def), \
     .flags = (how), \
     .doc = (text)}
#define STRING(S, m, def, how, text) STRING_KEY(S, #m, m, def, how, text)
#define ENUM(S, m, list, def, text) \
    {.name = #m, \
     .type = KB_FIELD_ENUM, \
     .at = offsetof(S, m), \
     .words = (list), \
     .default_i64 = (def), \
     .doc = (text)}
#define OF_TYPE(S, m, kind, text) {.name = #m, .type = (kind), .at = offsetof(S, m), .doc = (text)}
#define NUMBERS(S, m, kind, text) \
    {.name = #m, .type = (kind), .at = offsetof(S, m), .min = 0, .max = INT32_MAX, .doc = (text)}
#define CUSTOM(S, m, how, text) \
    {.name = #m, .type = KB_FIELD_CUSTOM, .at = offsetof(S, m), .custom = &(how), .doc = (text)}
#define BLOCK(S, m, table, how, text) \
    {.name = #m, \
     .type = KB_FIELD_BLOCK, \
     .at = offsetof(S, m), \
     .block = &(table), \
     .flags = (how), \
     .doc = (text)}
#define NO_EFFECT(key, text) {.name = (key), .type = KB_FIELD_NO_EFFECT, .doc = (text)}
#define REFUSED(key, text) {.name = (key), .type = KB_FIELD_REFUSED, .doc = (text)}
#define ENCRYPTION \
    REFUSED("encryption", \
            "there is no encryption by the client; hint: use the encryption at rest of the store")
#define SCHEMA(rows) {.fields = (rows), .field_count = KB_ARRAY_LEN(rows)}

/* ---- source, target ---- */

static const kb_enum_word protocol_words[] = {
    {"PLAINTEXT", KB_CONFIG_PLAINTEXT},
    {"SSL", KB_CONFIG_SSL},
    {"SASL_PLAINTEXT", KB_CONFIG_SASL_PLAINTEXT},
    {"SASL_SSL", KB_CONFIG_SASL_SSL},
    {NULL, 0},
};
static const kb_enum_word mechanism_words[] = {
    {"PLAIN", KB_CONFIG_PLAIN},
    {"SCRAM-SHA-256", KB_CONFIG_SCRAM_SHA_256},
    {"SCRAM-SHA256", KB_CONFIG_SCRAM_SHA_256},
    {"SCRAM-SHA-512", KB_CONFIG_SCRAM_SHA_512},
    {"SCRAM-SHA512", KB_CONFIG_SCRAM_SHA_512},
    {"GSSAPI", KB_CONFIG_GSSAPI},
    {NULL, 0},
};

#define S kb_config_security
static const kb_field security_fields[] = {
    ENUM(S, security_protocol, protocol_words, KB_CONFIG_PLAINTEXT, "How the brokers are spoken to."),
    ENUM(S, sasl_mechanism, mechanism_words, KB_CONFIG_NO_SASL,
         "Required under SASL_PLAINTEXT and SASL_SSL."),
    OF_TYPE(S, sasl_username, KB_FIELD_TEXT_FILE, "User of SASL."),
    OF_TYPE(S, sasl_password, KB_FIELD_SECRET, "Password of SASL."),
    STRING(S, ssl_ca_location, NULL, KB_FIELD_EMPTY_IS_UNSET,
           "CA certificates (PEM); the system's trust store without it."),
    STRING(S, ssl_certificate_location, NULL, KB_FIELD_EMPTY_IS_UNSET,
           "Client certificate (PEM), together with the key."),
    STRING(S, ssl_key_location, NULL, KB_FIELD_EMPTY_IS_UNSET, "Key of the client certificate (PEM)."),
    {.name = "ssl_key_password_file",
     .type = KB_FIELD_SECRET_FILE,
     .at = offsetof(S, ssl_key_password),
     .doc = "File with the password of the key."},
    BOOL(S, ssl_client_auth_optional, false, "No client certificate when both of its files are missing."),
    STRING(S, sasl_kerberos_service_name, "kafka", KB_FIELD_NOT_EMPTY,
           "Service name of the brokers (GSSAPI)."),
    STRING(S, sasl_keytab_path, NULL, KB_FIELD_EMPTY_IS_UNSET, "Keytab (GSSAPI)."),
    STRING(S, sasl_krb5_config_path, NULL, KB_FIELD_EMPTY_IS_UNSET, "krb5.conf (GSSAPI)."),
};
#undef S
static const kb_schema security_schema = SCHEMA(security_fields);

#define S kb_config_topics
static const kb_field topics_fields[] = {
    OF_TYPE(S, include, KB_FIELD_STRINGS, "Names or globs (*, ?); none = all. In restore also ~regex."),
    OF_TYPE(S, exclude, KB_FIELD_STRINGS, "Names or globs to leave out."),
};
#undef S
static const kb_schema topics_schema = SCHEMA(topics_fields);

#define S kb_config_connection
static const kb_field connection_fields[] = {
    BOOL(S, tcp_keepalive, true, "TCP keep-alive on broker connections."),
    I64(S, keepalive_time_secs, 60, 0, INT32_MAX, "Idle time before the first keep-alive probe."),
    I64(S, keepalive_interval_secs, 20, 0, INT32_MAX, "Time between keep-alive probes."),
    BOOL(S, tcp_nodelay, true, "Send small packets at once."),
    I64(S, connections_per_broker, 4, 0, INT32_MAX, "Client handles, clamped to 1-4."),
};
#undef S
static const kb_schema connection_schema = SCHEMA(connection_fields);

#define S kb_config_kafka
static const kb_field kafka_fields[] = {
    {.name = "bootstrap_servers",
     .type = KB_FIELD_STRINGS,
     .at = offsetof(S, bootstrap_servers),
     .flags = KB_FIELD_SERVERS,
     .doc = "Brokers as host:port; IPv6 as [::1]:9092. Required."},
    BLOCK(S, security, security_schema, 0, "Encryption and login."),
    BLOCK(S, topics, topics_schema, 0, "Which topics."),
    BLOCK(S, connection, connection_schema, 0, "TCP settings."),
    STRING(S, client_id, "kafka-backup", KB_FIELD_NOT_EMPTY, "Name shown in the brokers' logs and quotas."),
    STRING(S, client_rack, NULL, KB_FIELD_EMPTY_IS_UNSET,
           "Rack of this client: reads from the nearest replica."),
};
#undef S
static const kb_schema kafka_schema = SCHEMA(kafka_fields);

/* ---- storage ---- */

static const kb_enum_word backend_words[] = {
    {"filesystem", KB_CONFIG_FILESYSTEM},
    {"s3", KB_CONFIG_S3},
    {"azure", KB_CONFIG_AZURE},
    {"gcs", KB_CONFIG_GCS},
    {"configmap", KB_CONFIG_CONFIGMAP},
    {"memory", KB_CONFIG_MEMORY},
    {NULL, 0},
};
static const kb_enum_word signature_words[] = {
    {"v4", KB_CONFIG_SIGNATURE_V4},
    {"v2", KB_CONFIG_SIGNATURE_V2},
    {NULL, 0},
};

#define S kb_config_storage
#define TEXT_AT(key, m, text) STRING_KEY(S, key, m, NULL, KB_FIELD_EMPTY_IS_UNSET, text)
#define SECRET_AT(key, m, text) {.name = (key), .type = KB_FIELD_SECRET, .at = offsetof(S, m), .doc = (text)}
#define ID_AT(key, m, text) {.name = (key), .type = KB_FIELD_TEXT_FILE, .at = offsetof(S, m), .doc = (text)}
#define BOOL_AT(key, m, text) {.name = (key), .type = KB_FIELD_BOOL, .at = offsetof(S, m), .doc = (text)}

#define BACKEND_ROWS \
    ENUM(S, backend, backend_words, KB_CONFIG_NO_STORAGE, "Which kind of store. Required."), ENCRYPTION
#define COMMON_ROWS \
    TEXT_AT("ca_file", ca_file, "CA certificates of the store (PEM)."), \
        I64(S, segment_buffer_bytes, 32 * MIB, 1, BYTES_MAX, \
            "Memory for a segment where a store needs whole ones."), \
        I64(S, max_connections, 16, 1, 1024, "Connections to the store at once."), \
        I64(S, request_timeout_secs, 60, 1, SECS_MAX, "Longest time without a byte moved.")
#define FILESYSTEM_ROWS TEXT_AT("path", filesystem_path, "Directory. Required.")
#define S3_ROWS \
    TEXT_AT("bucket", s3.bucket, "Bucket. Required."), \
        TEXT_AT("region", s3.region, "Region; else from the environment, else us-east-1."), \
        TEXT_AT("endpoint", s3.endpoint, "URL of the store; none = AWS."), \
        SECRET_AT("access_key", s3.access_key, "Access key id."), \
        SECRET_AT("secret_key", s3.secret_key, "Secret access key."), \
        SECRET_AT("session_token", s3.session_token, "Session token."), \
        TEXT_AT("role_arn", s3.role_arn, "Role for web identity, with web_identity_token_file."), \
        TEXT_AT("web_identity_token_file", s3.web_identity_token_file, "Token file for web identity."), \
        TEXT_AT("prefix", s3.prefix, "Prefix of all keys."), \
        BOOL_AT("path_style", s3.path_style, \
                "Bucket in the path; true where there is an endpoint, else false."), \
        BOOL_AT("allow_http", s3.allow_http, "Allow an http:// endpoint."), \
        {.name = "signature_version", \
         .type = KB_FIELD_ENUM, \
         .at = offsetof(S, s3.signature_version), \
         .words = signature_words, \
         .doc = "v2 only for old stores."}, \
        {.name = "part_size_bytes", \
         .type = KB_FIELD_I64, \
         .at = offsetof(S, s3.part_size_bytes), \
         .default_i64 = 8 * MIB, \
         .min = 5 * MIB, \
         .max = 5LL * 1024 * MIB, \
         .doc = "Size of one part of an upload."}, \
        BOOL_AT("require_conditional_put", s3.require_conditional_put, \
                "Refuse stores without conditional put.")
#define AZURE_ROWS \
    TEXT_AT("account_name", azure.account_name, \
            "Storage account. Required unless a connection string names it."), \
        TEXT_AT("container_name", azure.container_name, "Container. Required."), \
        SECRET_AT("account_key", azure.account_key, "Key of the account."), \
        SECRET_AT("sas_token", azure.sas_token, "Shared access signature."), \
        SECRET_AT("client_secret", azure.client_secret, "Secret of a service principal."), \
        SECRET_AT("connection_string", azure.connection_string, "Connection string."), \
        ID_AT("client_id", azure.client_id, "Client id."), \
        ID_AT("tenant_id", azure.tenant_id, "Tenant id."), \
        BOOL_AT("use_workload_identity", azure.use_workload_identity, "Federated token of a pod."), \
        BOOL_AT("use_managed_identity", azure.use_managed_identity, "Identity of the machine."), \
        TEXT_AT("federated_token_file", azure.federated_token_file, "Token file for workload identity."), \
        TEXT_AT("endpoint", azure.endpoint, "URL of the account."), \
        BOOL_AT("allow_http", azure.allow_http, "Allow an http:// endpoint."), \
        TEXT_AT("prefix", azure.prefix, "Prefix of all keys.")
#define GCS_ROWS \
    TEXT_AT("bucket", gcs.bucket, "Bucket. Required."), \
        TEXT_AT("service_account_path", gcs.service_account_path, \
                "JSON file of a service or external account."), \
        TEXT_AT("endpoint", gcs.endpoint, "URL of the store."), \
        BOOL_AT("allow_http", gcs.allow_http, "Allow an http:// endpoint."), \
        TEXT_AT("prefix", gcs.prefix, "Prefix of all keys.")
#define CONFIGMAP_ROWS \
    STRING_KEY(S, "name", configmap_name, "offset-snapshots", KB_FIELD_NOT_EMPTY, "Name of the ConfigMap."), \
        TEXT_AT("namespace", configmap_namespace, "Its namespace; the own one without it.")

static const kb_field storage_fields[] = {BACKEND_ROWS, FILESYSTEM_ROWS, S3_ROWS,    AZURE_ROWS,
                                          GCS_ROWS,     CONFIGMAP_ROWS,  COMMON_ROWS};
static const kb_field filesystem_fields[] = {BACKEND_ROWS, FILESYSTEM_ROWS, COMMON_ROWS};
static const kb_field s3_fields[] = {BACKEND_ROWS, S3_ROWS, COMMON_ROWS};
static const kb_field azure_fields[] = {BACKEND_ROWS, AZURE_ROWS, COMMON_ROWS};
static const kb_field gcs_fields[] = {BACKEND_ROWS, GCS_ROWS, COMMON_ROWS};
static const kb_field configmap_fields[] = {BACKEND_ROWS, CONFIGMAP_ROWS, COMMON_ROWS};
#undef S
static const kb_schema filesystem_schema = SCHEMA(filesystem_fields);
static const kb_schema s3_schema = SCHEMA(s3_fields);
static const kb_schema azure_schema = SCHEMA(azure_fields);
static const kb_schema gcs_schema = SCHEMA(gcs_fields);
static const kb_schema configmap_schema = SCHEMA(configmap_fields);

const char *kb_config_backend_name(int backend)
{
    for (const kb_enum_word *word = backend_words; word->word != NULL; word++) {
        if (word->value == backend)
            return word->word;
    }
    return "";
}

static const kb_schema *schema_of_backend(int backend)
{
    switch ((kb_config_backend)backend) {
    case KB_CONFIG_FILESYSTEM:
        return &filesystem_schema;
    case KB_CONFIG_S3:
        return &s3_schema;
    case KB_CONFIG_AZURE:
        return &azure_schema;
    case KB_CONFIG_GCS:
        return &gcs_schema;
    case KB_CONFIG_CONFIGMAP:
        return &configmap_schema;
    case KB_CONFIG_NO_STORAGE:
    case KB_CONFIG_MEMORY:
        break;
    }
    return NULL;
}

static const kb_schema *choose_storage(kb_schema_reader *reader, const kb_yaml_node *node, const char *path)
{
    KB_AUTOFREE char *backend_path = kb_asprintf("%s.backend", path);
    const kb_yaml_node *value = kb_yaml_get(node, "backend");
    if (kb_yaml_is_null(value)) {
        kb_schema_problem(reader, node, backend_path,
                          "a backend is required: one of filesystem, s3, azure, gcs, configmap");
        return NULL;
    }
    for (const kb_enum_word *word = backend_words; word->word != NULL; word++) {
        if (value->kind != KB_YAML_SCALAR || strcmp(value->text, word->word) != 0)
            continue;
        if (word->value == KB_CONFIG_MEMORY)
            kb_schema_problem(reader, value, backend_path,
                              "backend memory is refused: a backup in memory is gone with the process");
        return schema_of_backend(word->value);
    }
    if (!value->has_error)
        kb_schema_problem(reader, value, backend_path,
                          "expected one of filesystem, s3, azure, gcs, configmap, got '%.60s'",
                          value->kind == KB_YAML_SCALAR ? value->text : "");
    return NULL;
}

static const kb_schema *chosen_storage(const void *block)
{
    return schema_of_backend(((const kb_config_storage *)block)->backend);
}

const kb_schema kb_config_storage_schema = {.fields = storage_fields,
                                            .field_count = KB_ARRAY_LEN(storage_fields),
                                            .choose = choose_storage,
                                            .chosen = chosen_storage};

/* ---- backup ---- */

static const kb_enum_word compression_words[] = {
    {"zstd", KB_CONFIG_COMPRESSION_ZSTD},
    {"lz4", KB_CONFIG_COMPRESSION_LZ4},
    {"none", KB_CONFIG_COMPRESSION_NONE},
    {NULL, 0},
};
static const kb_enum_word on_topic_words[] = {
    {"fail", KB_CONFIG_ON_TOPIC_FAIL},
    {"warn", KB_CONFIG_ON_TOPIC_WARN},
    {NULL, 0},
};
static const kb_enum_word compacted_end_words[] = {
    {"caught_up", KB_CONFIG_CAUGHT_UP},
    {"cut", KB_CONFIG_CUT},
    {NULL, 0},
};

#define S kb_config_backup
static const kb_field backup_fields[] = {
    I64(S, segment_max_bytes, 128 * MIB, 1, BYTES_MAX, "A segment closes at this size of its records."),
    OPT(S, segment_max_records, 1, INT64_MAX, "A segment closes at this number of records."),
    I64(S, segment_max_interval_ms, 60000, 0, MS_MAX, "A segment of 8 MiB or more closes at this age."),
    ENUM(S, compression, compression_words, KB_CONFIG_COMPRESSION_ZSTD, "Codec of segments."),
    I64(S, compression_level, 3, INT32_MIN, INT32_MAX, "zstd 1-22, lz4 1-12; ignored for none."),
    CUSTOM(S, start_offset, kb_config_start_offset_field,
           "earliest, latest, or a map of topic to partition to offset."),
    BOOL(S, continuous, false, "A series of incremental backups until stopped."),
    BOOL(S, include_internal_topics, false, "Back up topics that the broker calls internal."),
    OF_TYPE(S, internal_topics, KB_FIELD_STRINGS, "Of the internal topics only these; none = all."),
    I64(S, checkpoint_interval_secs, 5, 0, SECS_MAX, "Time between journal entries."),
    BOOL(S, include_offset_headers, true, "Store offset and time of each record in its headers, too."),
    STRING(S, source_cluster_id, NULL, KB_FIELD_EMPTY_IS_UNSET,
           "Name of the source cluster in those headers."),
    NO_EFFECT("stop_at_current_offsets", "Every run ends at the offsets it found."),
    I64(S, max_concurrent_partitions, 8, 1, 100000, "Partitions at once, fewer where memory is short."),
    BOOL(S, consumer_group_snapshot, false, "Store the committed offsets of consumer groups."),
    I64(S, fetch_max_bytes, 0, 1, INT32_MAX, "Largest fetch; default: segment_max_bytes, at most 16 MiB."),
    NO_EFFECT("sync_interval_secs", "Of the existing tool."),
    NO_EFFECT("poll_interval_ms", "Of the existing tool."),
    BOOL(S, incremental, false, "Reuse the segments of the lineage; default true with a lineage."),
    ENUM(S, on_missing_topic, on_topic_words, KB_CONFIG_ON_TOPIC_FAIL,
         "A topic named in include does not exist."),
    ENUM(S, on_unauthorized_topic, on_topic_words, KB_CONFIG_ON_TOPIC_FAIL, "A topic may not be read."),
    OPT(S, rate_limit_bytes_per_sec, 1, INT64_MAX, "Bytes of records per second, whole process."),
    OPT(S, rate_limit_records_per_sec, 1, INT64_MAX, "Records per second, whole process."),
    I64(S, cycle_interval_secs, 300, 0, SECS_MAX, "Time between the backups of continuous."),
    BOOL(S, verify_before_upload, true, "Decode each segment once more before it is published."),
    ENUM(S, compacted_end, compacted_end_words, KB_CONFIG_CAUGHT_UP,
         "Where reading of a compacted topic ends."),
    ENCRYPTION,
};
#undef S
static const kb_schema backup_schema = SCHEMA(backup_fields);

/* ---- restore ---- */

static const kb_enum_word group_strategy_words[] = {
    {"skip", KB_CONFIG_GROUP_SKIP},
    {"header-based", KB_CONFIG_GROUP_HEADER_BASED},
    {"manual", KB_CONFIG_GROUP_MANUAL},
    {"timestamp-based", KB_CONFIG_GROUP_TIMESTAMP_BASED},
    {"cluster-scan", KB_CONFIG_GROUP_CLUSTER_SCAN},
    {NULL, 0},
};
static const kb_enum_word target_policy_words[] = {
    {"empty", KB_CONFIG_TARGET_EMPTY},
    {"absent", KB_CONFIG_TARGET_ABSENT},
    {"append", KB_CONFIG_TARGET_APPEND},
    {NULL, 0},
};
static const kb_enum_word delivery_words[] = {
    {"idempotent", KB_CONFIG_IDEMPOTENT},
    {"transactional", KB_CONFIG_TRANSACTIONAL},
    {NULL, 0},
};
static const kb_enum_word timestamp_zero_words[] = {
    {"refuse", KB_CONFIG_ZERO_REFUSE},
    {"one", KB_CONFIG_ZERO_ONE},
    {NULL, 0},
};
static const kb_enum_word offset_strategy_words[] = {
    {"earliest", KB_CONFIG_OFFSET_EARLIEST},
    {"latest", KB_CONFIG_OFFSET_LATEST},
    {"timestamp", KB_CONFIG_OFFSET_TIMESTAMP},
    {"offset", KB_CONFIG_OFFSET_OFFSET},
    {"headerBased", KB_CONFIG_OFFSET_HEADER_BASED},
    {"fromMapping", KB_CONFIG_OFFSET_FROM_MAPPING},
    {NULL, 0},
};

#define S kb_config_offset_reset
static const kb_field offset_reset_fields[] = {
    ENUM(S, strategy, offset_strategy_words, KB_CONFIG_OFFSET_HEADER_BASED, "How the new offsets are found."),
    {.name = "timestamp",
     .type = KB_FIELD_CUSTOM,
     .at = offsetof(S, timestamp_ms),
     .custom = &kb_config_time_field,
     .doc = "For strategy timestamp, RFC 3339."},
    OPT(S, offset, 0, INT64_MAX, "For strategy offset."),
    STRING(S, source_cluster, NULL, KB_FIELD_EMPTY_IS_UNSET, "Source cluster the headers must name."),
};
#undef S
static const kb_schema offset_reset_schema = SCHEMA(offset_reset_fields);

#define S kb_config_restore
static const kb_field restore_fields[] = {
    OPT(S, time_window_start, INT64_MIN, INT64_MAX, "First time restored, ms since 1970."),
    OPT(S, time_window_end, INT64_MIN, INT64_MAX, "Last time restored, ms since 1970."),
    NUMBERS(S, source_partitions, KB_FIELD_I64S, "Only these partitions; none = all."),
    NUMBERS(S, partition_mapping, KB_FIELD_I64_MAP, "Source partition to target partition."),
    OF_TYPE(S, topic_mapping, KB_FIELD_STRING_MAP, "Source topic to target topic."),
    CUSTOM(S, repartitioning, kb_config_repartitioning_field,
           "Target topic to strategy and target_partitions."),
    ENUM(S, consumer_group_strategy, group_strategy_words, KB_CONFIG_GROUP_SKIP,
         "header-based adds the three restore headers; the others do nothing."),
    BOOL(S, include_original_offset_header, false, "Add the three restore headers."),
    BOOL(S, strip_offset_headers, true, "Remove the headers that the backup added."),
    BOOL(S, dry_run, false, "Only the checks."),
    OPT(S, rate_limit_records_per_sec, 1, INT64_MAX, "Records per second, whole process."),
    OPT(S, rate_limit_bytes_per_sec, 1, INT64_MAX, "Bytes of records per second, whole process."),
    I64(S, max_concurrent_partitions, 4, 1, 100000, "Partitions at once, across topics."),
    I64(S, produce_batch_size, 1000, 1, INT32_MAX, "Records per batch, also bounded by bytes."),
    I64(S, produce_timeout_ms, 30000, 1, INT32_MAX, "Timeout of one request."),
    I64(S, produce_acks, -1, -1, 1, "-1; others are raised to it."),
    BOOL(S, create_topics, false, "Create topics that are missing."),
    OPT(S, default_replication_factor, 1, INT16_MAX, "Of created topics; default: that of the backup."),
    BOOL(S, restore_configs, true, "Give created topics their configs of the backup."),
    OF_TYPE(S, config_overrides, KB_FIELD_STRING_MAP, "Topic configs that win over the backup's."),
    BOOL(S, retention_hold, true, "Keep created topics from deleting anything until the data is in."),
    BOOL(S, purge_topics, false, "Delete all records of the target first."),
    ENUM(S, target_policy, target_policy_words, KB_CONFIG_TARGET_EMPTY, "What a target topic must be."),
    BOOL(S, allow_source_cluster, false, "Allow the cluster the backup came from."),
    ENUM(S, delivery, delivery_words, KB_CONFIG_IDEMPOTENT, "How records are produced."),
    BOOL(S, allow_gaps, false, "Restore over gaps of the backup."),
    BOOL(S, allow_empty_result, false, "Nothing to restore is no error."),
    BOOL(S, allow_merge, false, "Several sources into one target partition."),
    BOOL(S, allow_partition_mismatch, false, "A target with more partitions."),
    OF_TYPE(S, consumer_groups, KB_FIELD_STRINGS, "Groups whose offsets are moved."),
    BOOL(S, auto_consumer_groups, false, "Move the offsets of all groups of the backup."),
    BOOL(S, reset_consumer_offsets, false, "Reset offsets as offset_reset says."),
    BLOCK(S, offset_reset, offset_reset_schema, KB_FIELD_IF_GIVEN, "Used by reset_consumer_offsets."),
    STRING(S, rollback_snapshot_id, NULL, KB_FIELD_EMPTY_IS_UNSET,
           "Save the groups' offsets first, under this id."),
    STRING(S, offset_report, NULL, KB_FIELD_EMPTY_IS_UNSET, "File for the offset mapping."),
    STRING(S, checkpoint_state, NULL, KB_FIELD_EMPTY_IS_UNSET,
           "File for the start offsets when the store is read-only."),
    ENUM(S, timestamp_zero, timestamp_zero_words, KB_CONFIG_ZERO_REFUSE, "What happens to a timestamp of 0."),
    STRING(S, restore_id, NULL, KB_FIELD_EMPTY_IS_UNSET, "Name of this restore, the same for each attempt."),
    I64(S, stability_window_secs, 45, 0, SECS_MAX, "Time without change before a resumed restore goes on."),
    NO_EFFECT("checkpoint_interval_secs", "Of the existing tool."),
    ENCRYPTION,
};
#undef S
static const kb_schema restore_schema = SCHEMA(restore_fields);

/* ---- the rest ---- */

static const kb_enum_word source_offsets_words[] = {
    {"auto", KB_CONFIG_SOURCE_OFFSETS_AUTO},
    {"snapshot", KB_CONFIG_SOURCE_OFFSETS_SNAPSHOT},
    {"committed", KB_CONFIG_SOURCE_OFFSETS_COMMITTED},
    {NULL, 0},
};

#define S kb_config_offsets
static const kb_field offsets_fields[] = {
    OF_TYPE(S, groups, KB_FIELD_STRINGS, "Groups, literal names."),
    OF_TYPE(S, topics, KB_FIELD_STRINGS, "Topics as globs; none = all of the group."),
    ENUM(S, strategy, offset_strategy_words, KB_CONFIG_OFFSET_NONE, "How the new offsets are found."),
    CUSTOM(S, timestamp, kb_config_time_field, "For strategy timestamp, RFC 3339."),
    OPT(S, timestamp_ms, INT64_MIN, INT64_MAX, "The same in ms since 1970."),
    OPT(S, offset, 0, INT64_MAX, "For strategy offset."),
    STRING(S, mapping_file, NULL, KB_FIELD_EMPTY_IS_UNSET, "For strategy fromMapping."),
    ENUM(S, source_offsets, source_offsets_words, KB_CONFIG_SOURCE_OFFSETS_AUTO,
         "For headerBased: where from."),
    STRING(S, source_cluster, NULL, KB_FIELD_EMPTY_IS_UNSET, "Source cluster the headers must name."),
    BOOL(S, scan_all_partitions, false, "Read all records where the search cannot decide."),
    BOOL(S, create_snapshot, true, "Save the present offsets first."),
    STRING(S, snapshot_id, NULL, KB_FIELD_EMPTY_IS_UNSET, "Name of the snapshot."),
    BLOCK(S, store, kb_config_storage_schema, KB_FIELD_IF_GIVEN, "Where snapshots are; default: storage."),
    I64(S, parallelism, 10, 1, 1000, "Groups at once."),
    I64(S, wait_for_empty_secs, 0, 0, SECS_MAX, "Wait for active groups."),
    BOOL(S, continue_on_error, false, "Go on with the other groups."),
    BOOL(S, force, false, "Overwrite offsets that somebody moved."),
    BOOL(S, strict, false, "Differences are errors."),
    BOOL(S, dry_run, false, "Only print the plan."),
};
#undef S
static const kb_schema offsets_schema = SCHEMA(offsets_fields);

#define S kb_config_retention
static const kb_field retention_fields[] = {
    OPT(S, backups, 1, INT32_MAX, "Backups to keep."),
    OPT(S, max_age_days, 1, 366000, "Days to keep backups."),
    I64(S, grace_secs, 86400, 1, SECS_MAX, "Time between marking and deleting."),
};
#undef S
static const kb_schema retention_schema = SCHEMA(retention_fields);

#define S kb_config_limits
static const kb_field limits_fields[] = {
    I64(S, memory_bytes, 0, 1, BYTES_MAX,
        "Memory of the process; default: KB_MEMORY_LIMIT, else the cgroup's."),
    I64(S, threads, 0, 1, 1024, "Encoder threads; default: CPUs of the cgroup."),
    I64(S, no_progress_secs, 600, 1, SECS_MAX, "End when nothing moved for so long."),
    I64(S, shutdown_grace_secs, 25, 0, SECS_MAX, "Time to finish after SIGTERM."),
    I64(S, lock_wait_secs, 3600, 0, SECS_MAX, "Wait for another run of the same backup."),
    I64(S, start_jitter_secs, 0, 0, SECS_MAX, "Spread the starts of scheduled runs."),
};
#undef S
static const kb_schema limits_schema = SCHEMA(limits_fields);

#define S kb_config_circuit_breaker
static const kb_field circuit_breaker_fields[] = {
    BOOL(S, enabled, true, "Pause calls to a store or broker that fails."),
    I64(S, failure_threshold, 5, 1, INT32_MAX, "Failures in a row that open it."),
    I64(S, reset_timeout_secs, 60, 1, SECS_MAX, "Time until a probe."),
    I64(S, success_threshold, 1, 1, INT32_MAX, "Probes that close it."),
};
#undef S
static const kb_schema circuit_breaker_schema = SCHEMA(circuit_breaker_fields);

#define S kb_config_metrics
static const kb_field metrics_fields[] = {
    BOOL(S, enabled, true, "Serve metrics, health and progress by HTTP."),
    I64(S, port, 8080, 0, 65535, "Port; 0 = any free one."),
    STRING(S, bind_address, "0.0.0.0", KB_FIELD_NOT_EMPTY, "Address."),
    STRING(S, path, "/metrics", KB_FIELD_NOT_EMPTY, "Path of the metrics."),
    I64(S, keep_alive_seconds, 0, 0, SECS_MAX, "Keep serving after the end."),
    I64(S, max_partition_labels, 100, 0, INT32_MAX, "Partitions with a series of their own; 0 = none."),
    NO_EFFECT("update_interval_ms", "Of the existing tool."),
};
#undef S
static const kb_schema metrics_schema = SCHEMA(metrics_fields);

static const kb_enum_word level_words[] = {
    {"error", KB_LOG_ERROR}, {"warn", KB_LOG_WARN},   {"info", KB_LOG_INFO},
    {"debug", KB_LOG_DEBUG}, {"trace", KB_LOG_TRACE}, {NULL, 0},
};
static const kb_enum_word format_words[] = {
    {"logfmt", KB_LOG_LOGFMT},
    {"text", KB_LOG_LOGFMT},
    {"json", KB_LOG_JSON},
    {NULL, 0},
};

#define S kb_config_logging
static const kb_field logging_fields[] = {
    ENUM(S, level, level_words, KB_LOG_INFO, "--log-level and KB_LOG_LEVEL win."),
    ENUM(S, format, format_words, KB_LOG_LOGFMT, "Form of log lines."),
};
#undef S
static const kb_schema logging_schema = SCHEMA(logging_fields);

#define S kb_config_resource
static const kb_field resource_fields[] = {
    TEXT_AT("kind", kind, "Kind of the resource whose status is reported."),
    TEXT_AT("plural", plural, "Its plural."),
    TEXT_AT("namespace", namespace, "Its namespace."),
    TEXT_AT("name", name, "Its name."),
    TEXT_AT("uid", uid, "Its uid."),
    OPT(S, generation, 0, INT64_MAX, "Its generation."),
    TEXT_AT("cronJob", cron_job, "Name of its CronJob."),
};
#undef S
static const kb_schema resource_schema = SCHEMA(resource_fields);

static const kb_field offset_storage_fields[] = {
    NO_EFFECT("backend", "Of the existing tool."),
    NO_EFFECT("db_path", "Of the existing tool."),
    NO_EFFECT("s3_key", "Of the existing tool."),
    NO_EFFECT("sync_interval_secs", "Of the existing tool."),
};
static const kb_schema offset_storage_schema = SCHEMA(offset_storage_fields);

static const kb_enum_word mode_words[] = {
    {"backup", KB_COMMAND_BACKUP + 1},
    {"restore", KB_COMMAND_RESTORE + 1},
    {NULL, 0},
};

#define S kb_worker_config
static const kb_field top_fields[] = {
    {.name = "configVersion",
     .type = KB_FIELD_I64,
     .at = offsetof(S, config_version),
     .default_i64 = 1,
     .min = 1,
     .max = INT64_MAX,
     .doc = "Version of this file's form."},
    ENUM(S, mode, mode_words, 0, "Must agree with the command."),
    STRING(S, backup_id, NULL, KB_FIELD_EMPTY_IS_UNSET,
           "Name of the backup; {stamp} becomes the time of the run."),
    STRING(S, lineage, NULL, KB_FIELD_EMPTY_IS_UNSET, "Name of a series of incremental backups."),
    BLOCK(S, resource, resource_schema, KB_FIELD_IF_GIVEN, "Written by the operator."),
    STRING(S, trust_dir, NULL, KB_FIELD_EMPTY_IS_UNSET,
           "Directory of more CA certificates, for Kafka and store."),
    I64(S, findings_exit_code, 3, 0, 3, "Exit code of a run that is done with findings: 3 or 0."),
    BLOCK(S, source, kafka_schema, KB_FIELD_IF_GIVEN, "The cluster that is backed up."),
    BLOCK(S, target, kafka_schema, KB_FIELD_IF_GIVEN, "The cluster that is restored to."),
    BLOCK(S, storage, kb_config_storage_schema, KB_FIELD_IF_GIVEN, "Where backups are."),
    BLOCK(S, backup, backup_schema, 0, "How a backup is made."),
    BLOCK(S, restore, restore_schema, 0, "How a restore is made."),
    BLOCK(S, offsets, offsets_schema, KB_FIELD_IF_GIVEN, "Settings of the offset commands."),
    BLOCK(S, retention, retention_schema, KB_FIELD_IF_GIVEN, "Which backups of a lineage are deleted."),
    BLOCK(S, limits, limits_schema, 0, "Memory, threads, times."),
    BLOCK(S, circuit_breaker, circuit_breaker_schema, 0, "When a store or broker keeps failing."),
    BLOCK(S, metrics, metrics_schema, 0, "The HTTP endpoint."),
    BLOCK(S, logging, logging_schema, 0, "Logs on standard error."),
    BLOCK(S, offset_storage, offset_storage_schema, 0,
          "Of the existing tool; its presence makes backup_id the lineage."),
    ENCRYPTION,
};
#undef S
const kb_schema kb_config_schema = SCHEMA(top_fields);

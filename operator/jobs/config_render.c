#include "operator/jobs/config_render.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/contract/config_fields.h"
#include "common/contract/names.h"
#include "common/data/json_tree.h"
#include "operator/jobs/object_names.h"

#define KB_SPEC_HASH_DIGITS 16
#define KB_RETENTION_HASH_DIGITS 8
#define KB_GRACE_MARGIN_SECS 10
#define KB_SNAPSHOT_ID_MAX 128

static const char default_aws_audience[] = "sts.amazonaws.com";
static const char default_azure_audience[] = "api://AzureADTokenExchange";

static json_t *strings_json(const kb_strings *strings)
{
    json_t *list = kb_tree_array();
    for (size_t i = 0; i < strings->count; i++)
        kb_tree_add_text(list, strings->items[i]);
    return list;
}

static void set_filled(json_t *object, const char *name, const char *text)
{
    if (text != NULL && *text != '\0')
        kb_tree_set_text(object, name, text);
}

static void set_opt(json_t *object, const char *name, kb_opt_i64 number)
{
    if (number.is_set)
        kb_tree_set_i64(object, name, number.value);
}

/* ---- Kafka ---- */

static json_t *kafka_json(const kb_spec_kafka *kafka)
{
    json_t *block = kb_tree_object();
    kb_tree_set(block, "bootstrap_servers", strings_json(&kafka->bootstrap_servers));
    json_t *security = kb_tree_object();
    kb_tree_set_text(security, "security_protocol", kb_spec_protocol_word(kafka->security_protocol));
    if (kafka->sasl.is_set) {
        kb_tree_set_text(security, "sasl_mechanism", kafka->sasl.mechanism);
        kb_tree_set_text(security, "sasl_username_file", KB_DIR_KAFKA "/" KB_FILE_USER);
        kb_tree_set_text(security, "sasl_password_file", KB_DIR_KAFKA "/" KB_FILE_PASSWORD);
    }
    if (kafka->tls.is_set) {
        if (kafka->tls.ca_key != NULL && *kafka->tls.ca_key != '\0')
            kb_tree_set_text(security, "ssl_ca_location", KB_DIR_KAFKA "/" KB_FILE_CA);
        kb_tree_set_text(security, "ssl_certificate_location", KB_DIR_KAFKA "/" KB_FILE_CERT);
        kb_tree_set_text(security, "ssl_key_location", KB_DIR_KAFKA "/" KB_FILE_KEY);
        kb_tree_set_bool(security, "ssl_client_auth_optional", true);
    }
    kb_tree_set(block, "security", security);
    return block;
}

/* ---- storage ---- */

static bool is_http(const char *endpoint)
{
    return endpoint != NULL && strncmp(endpoint, "http://", 7) == 0;
}

static void set_endpoint(json_t *block, const char *endpoint)
{
    set_filled(block, "endpoint", endpoint);
    if (is_http(endpoint))
        kb_tree_set_bool(block, "allow_http", true);
}

/* "a/b/" and "a/b" are the same place. */
static void set_prefix(json_t *block, const char *prefix)
{
    if (prefix == NULL)
        return;
    size_t len = strlen(prefix);
    while (len > 0 && prefix[len - 1] == '/')
        len--;
    KB_AUTOFREE char *trimmed = kb_strndup(prefix, len);
    set_filled(block, "prefix", trimmed);
}

static void fill_s3(json_t *block, const kb_spec_s3 *s3, const json_t *notes)
{
    kb_tree_set_text(block, "bucket", s3->bucket);
    set_filled(block, "region", s3->region);
    set_prefix(block, s3->prefix);
    set_endpoint(block, s3->endpoint);
    if (s3->endpoint != NULL && *s3->endpoint != '\0')
        kb_tree_set_bool(block, "path_style", true);
    kb_tree_set_text(block, "signature_version", s3->signature_version == 1 ? "v2" : "v4");
    const char *role = kb_tree_text(notes, KB_NOTE_AWS_ROLE, NULL);
    if (s3->credentials.is_set) {
        kb_tree_set_text(block, "access_key_file", KB_DIR_STORE "/access_key");
        kb_tree_set_text(block, "secret_key_file", KB_DIR_STORE "/secret_key");
    } else if (role != NULL) {
        kb_tree_set_text(block, "role_arn", role);
        kb_tree_set_text(block, "web_identity_token_file", KB_DIR_CLOUD "/" KB_FILE_TOKEN);
    }
}

static bool is_ambient_azure(const kb_spec_azure *azure)
{
    return !azure->credentials.is_set && !azure->sas_token.is_set && !azure->service_principal.is_set &&
           !azure->connection_string.is_set;
}

static void fill_azure(json_t *block, const kb_spec_azure *azure, const json_t *notes)
{
    set_filled(block, "account_name", azure->account_name);
    kb_tree_set_text(block, "container_name", azure->container);
    set_prefix(block, azure->prefix);
    set_endpoint(block, azure->endpoint);
    if (azure->credentials.is_set)
        kb_tree_set_text(block, "account_key_file", KB_DIR_STORE "/account_key");
    if (azure->sas_token.is_set)
        kb_tree_set_text(block, "sas_token_file", KB_DIR_STORE "/sas_token");
    if (azure->connection_string.is_set)
        kb_tree_set_text(block, "connection_string_file", KB_DIR_STORE "/connection_string");
    if (azure->service_principal.is_set) {
        kb_tree_set_text(block, "client_id_file", KB_DIR_STORE "/client_id");
        kb_tree_set_text(block, "tenant_id_file", KB_DIR_STORE "/tenant_id");
        kb_tree_set_text(block, "client_secret_file", KB_DIR_STORE "/client_secret");
    }
    const char *client = kb_tree_text(notes, KB_NOTE_AZURE_CLIENT, NULL);
    if (!is_ambient_azure(azure) || (!azure->use_workload_identity && client == NULL))
        return;
    kb_tree_set_bool(block, "use_workload_identity", true);
    set_filled(block, "client_id", client);
    set_filled(block, "tenant_id", kb_tree_text(notes, KB_NOTE_AZURE_TENANT, NULL));
    if (client != NULL)
        kb_tree_set_text(block, "federated_token_file", KB_DIR_CLOUD "/" KB_FILE_TOKEN);
}

static json_t *storage_json(const kb_spec_storage *storage, const json_t *notes)
{
    json_t *block = kb_tree_object();
    switch ((kb_spec_storage_type)storage->type) {
    case KB_SPEC_STORAGE_S3:
        kb_tree_set_text(block, "backend", "s3");
        fill_s3(block, &storage->s3, notes);
        break;
    case KB_SPEC_STORAGE_AZURE:
        kb_tree_set_text(block, "backend", "azure");
        fill_azure(block, &storage->azure, notes);
        break;
    case KB_SPEC_STORAGE_GCS:
        kb_tree_set_text(block, "backend", "gcs");
        kb_tree_set_text(block, "bucket", storage->gcs.bucket);
        set_prefix(block, storage->gcs.prefix);
        if (storage->gcs.credentials.is_set)
            kb_tree_set_text(block, "service_account_path", KB_DIR_STORE "/credentials.json");
        break;
    case KB_SPEC_STORAGE_PVC:
        kb_tree_set_text(block, "backend", "filesystem");
        kb_tree_set_text(block, "path", KB_DIR_DATA);
        break;
    case KB_SPEC_STORAGE_CONFIG_MAP:
    case KB_SPEC_STORAGE_CONFIG_MAP_LOWER:
        kb_tree_set_text(block, "backend", "configmap");
        kb_tree_set_text(block, "name", storage->config_map.name);
        break;
    case KB_SPEC_STORAGE_NONE:
        break;
    }
    return block;
}

bool kb_config_needs_cloud_token(const kb_render_input *input, const char **ret_audience)
{
    const kb_spec_storage *storage = input->storage;
    if (storage == NULL)
        return false;
    const json_t *notes = input->account_notes;
    if (storage->type == KB_SPEC_STORAGE_S3 && !storage->s3.credentials.is_set &&
        kb_tree_text(notes, KB_NOTE_AWS_ROLE, NULL) != NULL) {
        const char *audience = kb_tree_text(notes, KB_NOTE_AWS_AUDIENCE, NULL);
        *ret_audience = audience != NULL ? audience : default_aws_audience;
        return true;
    }
    if (storage->type == KB_SPEC_STORAGE_AZURE && is_ambient_azure(&storage->azure) &&
        kb_tree_text(notes, KB_NOTE_AZURE_CLIENT, NULL) != NULL) {
        *ret_audience = default_azure_audience;
        return true;
    }
    return false;
}

/* ---- KafkaBackup ---- */

static void fill_internal_topics(json_t *block, const kb_strings *topics)
{
    json_t *list = kb_tree_array();
    for (size_t i = 0; i < topics->count; i++)
        if (strncmp(topics->items[i], "__", 2) == 0 && strpbrk(topics->items[i], "*?") == NULL)
            kb_tree_add_text(list, topics->items[i]);
    if (json_array_size(list) > 0) {
        kb_tree_set_bool(block, "include_internal_topics", true);
        kb_tree_set(block, "internal_topics", json_incref(list));
    }
    json_decref(list);
}

static json_t *backup_json(const kb_backup_spec *backup)
{
    json_t *block = kb_tree_object();
    kb_tree_set_text(block, "compression", kb_spec_compression_word(backup->compression));
    if (backup->compression != KB_SPEC_COMPRESSION_NONE)
        kb_tree_set_i64(block, "compression_level", backup->compression_level);
    kb_tree_set_bool(block, "include_offset_headers", backup->include_offset_headers);
    set_filled(block, "source_cluster_id", backup->source_cluster_id);
    kb_tree_set_i64(block, "checkpoint_interval_secs", backup->checkpoint_interval_secs);
    kb_tree_set_bool(block, "incremental", backup->backup_mode == 0);
    kb_tree_set_bool(block, "consumer_group_snapshot", true);
    fill_internal_topics(block, &backup->topics);
    set_opt(block, "rate_limit_bytes_per_sec", backup->rate_limit.bytes_per_second);
    set_opt(block, "rate_limit_records_per_sec", backup->rate_limit.records_per_second);
    return block;
}

static json_t *retention_json(const kb_spec_retention *retention)
{
    json_t *block = kb_tree_object();
    set_opt(block, "backups", retention->backups);
    set_opt(block, "max_age_days", retention->max_age_days);
    return block;
}

static bool has_retention(const kb_spec_retention *retention)
{
    return retention->backups.is_set || retention->max_age_days.is_set;
}

static void fill_backup(json_t *root, const kb_render_input *input)
{
    const kb_backup_spec *backup = &input->spec->backup;
    kb_tree_set_text(root, "lineage", kb_tree_text(input->object, "metadata", "name", NULL));
    json_t *source = kafka_json(input->kafka);
    json_t *topics = kb_tree_object();
    kb_tree_set(topics, "include", strings_json(&backup->topics));
    if (backup->exclude_topics.count > 0)
        kb_tree_set(topics, "exclude", strings_json(&backup->exclude_topics));
    kb_tree_set(source, "topics", topics);
    kb_tree_set(root, "source", source);
    kb_tree_set(root, "backup", backup_json(backup));
    if (has_retention(&backup->retention))
        kb_tree_set(root, "retention", retention_json(&backup->retention));
    json_t *breaker = kb_tree_object();
    kb_tree_set_bool(breaker, "enabled", backup->circuit_breaker.enabled);
    kb_tree_set_i64(breaker, "failure_threshold", backup->circuit_breaker.failure_threshold);
    kb_tree_set_i64(breaker, "reset_timeout_secs", backup->circuit_breaker.reset_timeout_secs);
    kb_tree_set(root, "circuit_breaker", breaker);
}

/* ---- KafkaRestore ---- */

static json_t *map_json(const kb_string_map *map)
{
    json_t *object = kb_tree_object();
    for (size_t i = 0; i < map->count; i++)
        kb_tree_set_text(object, map->keys[i], map->values[i]);
    return object;
}

static void fill_offset_reset(json_t *block, const kb_spec_offset_reset *reset)
{
    kb_tree_set(block, "consumer_groups", strings_json(&reset->consumer_groups));
    kb_tree_set_bool(block, "reset_consumer_offsets", true);
    json_t *how = kb_tree_object();
    kb_tree_set_text(how, "strategy", kb_spec_strategy_word(reset->strategy));
    if (reset->timestamp_ms.is_set) {
        char text[KB_RFC3339_SIZE];
        kb_rfc3339_format(reset->timestamp_ms.value, text);
        kb_tree_set_text(how, "timestamp", text);
    }
    set_opt(how, "offset", reset->offset);
    set_filled(how, "source_cluster", reset->source_cluster);
    kb_tree_set(block, "offset_reset", how);
}

static json_t *restore_json(const kb_render_input *input)
{
    static const char *const policies[] = {"empty", "absent", "append"};
    const kb_restore_spec *restore = &input->spec->restore;
    json_t *block = kb_tree_object();
    if (restore->topic_mapping.count > 0)
        kb_tree_set(block, "topic_mapping", map_json(&restore->topic_mapping));
    kb_tree_set_bool(block, "create_topics", restore->create_topics);
    set_opt(block, "default_replication_factor", restore->default_replication_factor);
    if (restore->pitr.is_set && restore->pitr.enabled)
        set_opt(block, "time_window_end",
                restore->pitr.timestamp_ms.is_set ? restore->pitr.timestamp_ms
                                                  : restore->pitr.timestamp_millis);
    kb_tree_set_bool(block, "include_original_offset_header", restore->include_original_offset_header);
    kb_tree_set_text(block, "delivery", kb_spec_delivery_word(restore->delivery));
    kb_tree_set_text(block, "target_policy", policies[restore->guards.target_topics]);
    kb_tree_set_bool(block, "allow_source_cluster", restore->guards.allow_source_cluster);
    kb_tree_set_bool(block, "allow_gaps", restore->guards.allow_gaps);
    kb_tree_set_bool(block, "allow_empty_result", restore->guards.allow_empty_result);
    if (restore->offset_reset.is_set && restore->offset_reset.enabled)
        fill_offset_reset(block, &restore->offset_reset);
    if (restore->rollback.is_set && restore->rollback.enabled) {
        KB_AUTOFREE char *id =
            restore->rollback.snapshot_id != NULL
                ? kb_strdup(restore->rollback.snapshot_id)
                : kb_name_child(kb_tree_text_or_empty(input->object, "metadata", "name", NULL),
                                "-pre-restore", KB_SNAPSHOT_ID_MAX);
        kb_tree_set_text(block, "rollback_snapshot_id", id);
    }
    return block;
}

static void fill_restore(json_t *root, const kb_render_input *input)
{
    kb_tree_set_text(root, "backup_id", input->spec->restore.backup_id);
    json_t *target = kafka_json(input->kafka);
    if (input->spec->restore.topics.count > 0) {
        json_t *topics = kb_tree_object();
        kb_tree_set(topics, "include", strings_json(&input->spec->restore.topics));
        kb_tree_set(target, "topics", topics);
    }
    kb_tree_set(root, "target", target);
    kb_tree_set(root, "restore", restore_json(input));
}

/* ---- offset kinds ---- */

char *kb_reset_snapshot_id(const kb_reset_spec *reset, const char *name)
{
    return reset->snapshot_id != NULL ? kb_strdup(reset->snapshot_id)
                                      : kb_name_child(name, "-pre-reset", KB_SNAPSHOT_ID_MAX);
}

static void set_time(json_t *block, kb_opt_i64 timestamp, kb_opt_i64 millis)
{
    set_opt(block, "timestamp_ms", timestamp.is_set ? timestamp : millis);
}

static json_t *snapshot_map_json(const char *name)
{
    json_t *store = kb_tree_object();
    kb_tree_set_text(store, "backend", "configmap");
    kb_tree_set_text(store, "name", name);
    return store;
}

static void fill_reset(json_t *root, const kb_render_input *input)
{
    const kb_reset_spec *reset = &input->spec->reset;
    json_t *block = kb_tree_object();
    kb_tree_set(block, "groups", strings_json(&reset->consumer_groups));
    if (reset->topics.count > 0)
        kb_tree_set(block, "topics", strings_json(&reset->topics));
    kb_tree_set_text(block, "strategy", kb_spec_strategy_word(reset->strategy));
    if (reset->strategy == KB_SPEC_STRATEGY_TIMESTAMP)
        set_time(block, reset->timestamp_ms, reset->timestamp_millis);
    if (reset->strategy == KB_SPEC_STRATEGY_OFFSET)
        set_opt(block, "offset", reset->offset);
    set_filled(block, "source_cluster", reset->source_cluster);
    kb_tree_set_bool(block, "scan_all_partitions", reset->scan_all_partitions);
    if (reset->mapping.is_set)
        kb_tree_set_text(block, "mapping_file", KB_DIR_MAPPING "/" KB_FILE_MAPPING);
    kb_tree_set_bool(block, "create_snapshot", reset->create_snapshot);
    if (reset->create_snapshot) {
        KB_AUTOFREE char *id =
            kb_reset_snapshot_id(reset, kb_tree_text_or_empty(input->object, "metadata", "name", NULL));
        kb_tree_set_text(block, "snapshot_id", id);
    }
    kb_tree_set_i64(block, "parallelism", reset->parallelism);
    kb_tree_set_bool(block, "dry_run", reset->dry_run);
    if (input->snapshot_map != NULL)
        kb_tree_set(block, "store", snapshot_map_json(input->snapshot_map));
    kb_tree_set(root, "offsets", block);
    kb_tree_set(root, "target", kafka_json(input->kafka));
    set_filled(root, "backup_id", input->backup_id);
    if (input->storage != NULL)
        kb_tree_set(root, "storage", storage_json(input->storage, input->account_notes));
}

static void fill_rollback(json_t *root, const kb_render_input *input)
{
    const kb_rollback_spec *rollback = &input->spec->rollback;
    json_t *block = kb_tree_object();
    if (rollback->consumer_groups.count > 0)
        kb_tree_set(block, "groups", strings_json(&rollback->consumer_groups));
    kb_tree_set_text(block, "snapshot_id", rollback->snapshot_id);
    kb_tree_set_bool(block, "strict", rollback->verify.strict);
    kb_tree_set(
        block, "store",
        input->storage != NULL
            ? storage_json(input->storage, input->account_notes)
            : snapshot_map_json(input->snapshot_map != NULL ? input->snapshot_map : KB_DEFAULT_SNAPSHOT_MAP));
    kb_tree_set(root, "offsets", block);
    if (input->kafka != NULL)
        kb_tree_set(root, "target", kafka_json(input->kafka));
}

/* ---- all kinds ---- */

static bool sets_rust_log(const kb_spec_run *run)
{
    for (size_t i = 0; i < json_array_size(run->env); i++)
        if (strcmp(kb_tree_text_or_empty(json_array_get(run->env, i), "name", NULL), "RUST_LOG") == 0)
            return true;
    return false;
}

static void fill_always(json_t *root, const kb_render_input *input)
{
    const kb_kind_info *info = kb_kind_info_of(input->spec->kind);
    const json_t *meta = kb_tree_at(input->object, "metadata", NULL);
    const char *name = kb_tree_text_or_empty(meta, "name", NULL);
    kb_tree_set_i64(root, "configVersion", 1);
    json_t *resource = kb_tree_object();
    kb_tree_set_text(resource, "kind", info->kind);
    kb_tree_set_text(resource, "plural", info->plural);
    kb_tree_set_text(resource, "namespace", kb_tree_text(meta, "namespace", NULL));
    kb_tree_set_text(resource, "name", name);
    kb_tree_set_text(resource, "uid", kb_tree_text(meta, "uid", NULL));
    kb_tree_set_i64(resource, "generation", kb_tree_i64(0, meta, "generation", NULL));
    if (input->spec->kind == KB_KIND_BACKUP && input->spec->backup.schedule != NULL) {
        KB_AUTOFREE char *cron_job = kb_name_cron_job(name);
        kb_tree_set_text(resource, "cronJob", cron_job);
    }
    kb_tree_set(root, "resource", resource);
    kb_tree_set_i64(root, "findings_exit_code", 0);
    kb_tree_set_text(root, "trust_dir", KB_DIR_TRUST);
    json_t *limits = kb_tree_object();
    int64_t grace = input->settings->grace_seconds - KB_GRACE_MARGIN_SECS;
    kb_tree_set_i64(limits, "shutdown_grace_secs", grace > 1 ? grace : 1);
    kb_tree_set_i64(limits, "start_jitter_secs", input->settings->start_jitter_seconds);
    kb_tree_set(root, "limits", limits);
    const kb_spec_logging *logging = &input->spec->run.logging;
    json_t *log = kb_tree_object();
    const char *level = logging->level;
    if (level == NULL && !sets_rust_log(&input->spec->run))
        level = input->settings->log_level;
    set_filled(log, "level", level);
    set_filled(log, "format", logging->format != NULL ? logging->format : input->settings->log_format);
    if (json_object_size(log) > 0)
        kb_tree_set(root, "logging", json_incref(log));
    json_decref(log);
}

/* ---- checks ---- */

static json_t *escape(json_t *owned_value);

static json_t *escape_text(json_t *owned_text)
{
    const char *text = json_string_value(owned_text);
    if (strstr(text, "${") == NULL)
        return owned_text;
    KB_AUTO_STRBUF(escaped, 2 * strlen(text) + 1);
    for (; *text != '\0'; text++) {
        if (text[0] == '$' && text[1] == '{')
            kb_strbuf_appendc(&escaped, '$');
        kb_strbuf_appendc(&escaped, *text);
    }
    json_decref(owned_text);
    return kb_tree_string(kb_strbuf_view(&escaped));
}

static json_t *escape(json_t *owned_value)
{
    if (json_is_string(owned_value))
        return escape_text(owned_value);
    if (json_is_array(owned_value)) {
        for (size_t i = 0; i < json_array_size(owned_value); i++)
            json_array_set_new(owned_value, i, escape(json_incref(json_array_get(owned_value, i))));
    }
    const char *name;
    json_t *member;
    void *next;
    json_object_foreach_safe(owned_value, next, name, member)
        kb_tree_set(owned_value, name, escape(json_incref(member)));
    return owned_value;
}

static const kb_field *find_field(const kb_schema *schema, const char *name)
{
    static const char suffix[] = "_file";
    size_t len = strlen(name), cut = len;
    if (len > sizeof suffix - 1 && strcmp(name + len - (sizeof suffix - 1), suffix) == 0)
        cut = len - (sizeof suffix - 1);
    for (size_t i = 0; i < schema->field_count; i++) {
        const kb_field *field = &schema->fields[i];
        bool may_be_file = field->type == KB_FIELD_SECRET || field->type == KB_FIELD_TEXT_FILE;
        if (strcmp(field->name, name) == 0 ||
            (may_be_file && strlen(field->name) == cut && strncmp(field->name, name, cut) == 0))
            return field;
    }
    return NULL;
}

static kb_code check_keys(json_t *block, const kb_schema *schema, const char *path, kb_error *err)
{
    const char *name;
    json_t *member;
    json_object_foreach(block, name, member)
    {
        const kb_field *field = find_field(schema, name);
        if (field == NULL || field->type == KB_FIELD_REFUSED)
            return kb_fail(err, KB_ERR_INTERNAL, "the worker does not know the setting %s%s", path, name);
        if (field->type != KB_FIELD_BLOCK)
            continue;
        KB_AUTOFREE char *inner = kb_asprintf("%s%s.", path, name);
        kb_code code = check_keys(member, field->block, inner, err);
        if (code != KB_OK)
            return code;
    }
    return KB_OK;
}

static void fill_kind(json_t *root, const kb_render_input *input)
{
    kb_kind kind = input->spec->kind;
    if ((kind == KB_KIND_BACKUP || kind == KB_KIND_RESTORE) && input->storage != NULL)
        kb_tree_set(root, "storage", storage_json(input->storage, input->account_notes));
    if (kind == KB_KIND_BACKUP)
        fill_backup(root, input);
    else if (kind == KB_KIND_RESTORE)
        fill_restore(root, input);
    else if (kind == KB_KIND_OFFSET_RESET)
        fill_reset(root, input);
    else
        fill_rollback(root, input);
}

kb_code kb_config_render(const kb_render_input *input, char **ret_text, kb_error *err)
{
    KB_AUTO_TREE(root);
    root = kb_tree_object();
    fill_always(root, input);
    fill_kind(root, input);
    root = escape(root);
    kb_code code = check_keys(root, &kb_config_schema, "", err);
    if (code != KB_OK)
        return code;
    KB_AUTOFREE char *text = kb_tree_canonical(root);
    if (strlen(text) > KB_RUN_CONFIG_MAX_BYTES)
        return kb_fail(err, KB_ERR_TOO_LARGE, "the run configuration has %zu bytes, more than %u",
                       strlen(text), KB_RUN_CONFIG_MAX_BYTES);
    *ret_text = KB_TAKE(text);
    return KB_OK;
}

/* ---- hashes ---- */

char *kb_spec_location(const kb_spec_storage *storage)
{
    KB_AUTO_TREE(place);
    place = kb_tree_array();
    kb_tree_add_text(place, kb_spec_storage_word(storage->type));
    KB_AUTO_TREE(prefix);
    prefix = kb_tree_object();
    switch ((kb_spec_storage_type)storage->type) {
    case KB_SPEC_STORAGE_S3:
        kb_tree_add_text(place, storage->s3.endpoint);
        kb_tree_add_text(place, storage->s3.bucket);
        set_prefix(prefix, storage->s3.prefix);
        break;
    case KB_SPEC_STORAGE_AZURE:
        kb_tree_add_text(place, storage->azure.endpoint);
        kb_tree_add_text(place, storage->azure.account_name);
        kb_tree_add_text(place, storage->azure.container);
        set_prefix(prefix, storage->azure.prefix);
        break;
    case KB_SPEC_STORAGE_GCS:
        kb_tree_add_text(place, storage->gcs.bucket);
        set_prefix(prefix, storage->gcs.prefix);
        break;
    case KB_SPEC_STORAGE_PVC:
        kb_tree_add_text(place, storage->pvc.claim_name);
        set_prefix(prefix, storage->pvc.sub_path);
        break;
    case KB_SPEC_STORAGE_CONFIG_MAP:
    case KB_SPEC_STORAGE_CONFIG_MAP_LOWER:
        kb_tree_add_text(place, storage->config_map.name);
        break;
    case KB_SPEC_STORAGE_NONE:
        break;
    }
    kb_tree_add(place, json_incref(prefix));
    return kb_tree_canonical(place);
}

char *kb_spec_data_hash(const kb_backup_spec *backup)
{
    KB_AUTO_TREE(data);
    data = kb_tree_object();
    KB_AUTOFREE char *location = kb_spec_location(&backup->storage);
    kb_tree_set(data, "servers", strings_json(&backup->kafka.bootstrap_servers));
    kb_tree_set(data, "topics", strings_json(&backup->topics));
    kb_tree_set(data, "exclude", strings_json(&backup->exclude_topics));
    kb_tree_set_text(data, "location", location);
    kb_tree_set_i64(data, "mode", backup->backup_mode);
    kb_tree_set_text(data, "compression", kb_spec_compression_word(backup->compression));
    kb_tree_set_i64(data, "level", backup->compression_level);
    kb_tree_set_bool(data, "headers", backup->include_offset_headers);
    set_filled(data, "source", backup->source_cluster_id);
    KB_AUTOFREE char *text = kb_tree_canonical(data);
    return kb_tree_text_hash(text, KB_SPEC_HASH_DIGITS);
}

char *kb_spec_retention_hash(const kb_backup_spec *backup)
{
    if (!has_retention(&backup->retention))
        return kb_strdup("");
    KB_AUTO_TREE(block);
    block = retention_json(&backup->retention);
    KB_AUTOFREE char *text = kb_tree_canonical(block);
    return kb_tree_text_hash(text, KB_RETENTION_HASH_DIGITS);
}

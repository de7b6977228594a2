#include "common/contract/worker_config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "common/base/encode.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/contract/config_check.h"
#include "common/contract/config_fields.h"
#include "common/contract/config_location.h"
#include "common/data/schema_print.h"

#define KB_FETCH_DEFAULT_BYTES (16LL * 1024 * 1024)
#define KB_CONNECTIONS_MAX 4

/* ---- commands ---- */

static const char *const commands[KB_COMMAND_COUNT] = {
    [KB_COMMAND_BACKUP] = "backup",
    [KB_COMMAND_RESTORE] = "restore",
    [KB_COMMAND_OFFSET_RESET] = "offset-reset",
    [KB_COMMAND_OFFSET_SNAPSHOT] = "offset-snapshot",
    [KB_COMMAND_OFFSET_ROLLBACK] = "offset-rollback",
    [KB_COMMAND_OFFSET_VERIFY] = "offset-verify",
    [KB_COMMAND_OFFSET_DELETE] = "offset-delete",
    [KB_COMMAND_VALIDATE] = "validate",
    [KB_COMMAND_DESCRIBE] = "describe",
    [KB_COMMAND_LIST] = "list",
    [KB_COMMAND_PRUNE] = "prune",
};

const char *kb_command_name(kb_command command)
{
    bool is_known = command >= KB_COMMAND_BACKUP && command < KB_COMMAND_COUNT;
    return is_known ? commands[command] : "";
}

bool kb_command_parse(const char *name, kb_command *ret_command)
{
    for (size_t i = 0; i < KB_ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i], name) == 0) {
            *ret_command = (kb_command)i;
            return true;
        }
    }
    return false;
}

/* ---- life ---- */

static kb_worker_config *config_new(const char *file)
{
    kb_worker_config *config = kb_calloc(1, sizeof *config);
    kb_schema_init(&kb_config_schema, config);
    config->file = kb_strdup_opt(file);
    return config;
}

void kb_worker_config_free(kb_worker_config *owned_config)
{
    if (owned_config == NULL)
        return;
    kb_schema_done(&kb_config_schema, owned_config);
    kb_yaml_free(owned_config->tree);
    free(owned_config->file);
    free(owned_config);
}

void kb_worker_config_free_at(kb_worker_config **at)
{
    kb_worker_config_free(*at);
    *at = NULL;
}

void kb_config_storage_done(kb_config_storage *storage)
{
    kb_schema_done(&kb_config_storage_schema, storage);
    memset(storage, 0, sizeof *storage);
}

void kb_config_storage_init(kb_config_storage *storage)
{
    memset(storage, 0, sizeof *storage);
    kb_schema_init(&kb_config_storage_schema, storage);
}

/* ---- questions ---- */

bool kb_worker_config_is_given(const kb_worker_config *config, const char *dotted_path)
{
    const kb_yaml_node *node = kb_yaml_find(config->tree, dotted_path);
    return node != NULL && (node->has_error || !kb_yaml_is_null(node));
}

const char *kb_worker_config_lineage(const kb_worker_config *config)
{
    if (config->lineage != NULL)
        return config->lineage;
    bool is_series = config->offset_storage.is_given || config->backup.continuous;
    return is_series ? config->backup_id : NULL;
}

void kb_worker_config_print(const kb_worker_config *config, kb_strbuf *to)
{
    kb_schema_print(&kb_config_schema, config, 0, to);
}

char *kb_config_kafka_servers(const kb_config_kafka *kafka)
{
    size_t total = 1;
    for (size_t i = 0; i < kafka->bootstrap_servers.count; i++)
        total += strlen(kafka->bootstrap_servers.items[i]) + 1;
    KB_AUTO_STRBUF(servers, total);
    for (size_t i = 0; i < kafka->bootstrap_servers.count; i++)
        kb_strbuf_appendf(&servers, "%s%s", i > 0 ? "," : "", kafka->bootstrap_servers.items[i]);
    char *owned_servers = kb_strbuf_take(&servers);
    return owned_servers != NULL ? owned_servers : kb_strdup("");
}

/* ---- completing ---- */

static void complete_offsets(kb_worker_config *config, kb_problems *problems)
{
    kb_config_offsets *offsets = &config->offsets;
    if (!offsets->timestamp.is_set)
        return;
    if (offsets->timestamp_ms.is_set)
        kb_config_problem(config, problems, KB_SEVERITY_ERROR, "offsets.timestamp_ms",
                          "timestamp and timestamp_ms are both given; hint: remove one of them");
    offsets->timestamp_ms = offsets->timestamp;
    offsets->timestamp.is_set = false;
}

static void complete_storage(const kb_worker_config *config, kb_config_storage *storage, const char *path)
{
    kb_config_s3 *s3 = &storage->s3;
    /* A block without a line came from --path, whatever the file says. */
    if (storage->block.line > 0)
        s3->has_path_style = kb_worker_config_is_given(config, path);
    if (!s3->has_path_style)
        s3->path_style = s3->endpoint != NULL;
}

/* Defaults that depend on other values. */
static void complete(kb_worker_config *config, const kb_run_env *env, kb_problems *problems)
{
    kb_config_backup *backup = &config->backup;
    if (backup->fetch_max_bytes == 0)
        backup->fetch_max_bytes = backup->segment_max_bytes < KB_FETCH_DEFAULT_BYTES
                                      ? backup->segment_max_bytes
                                      : KB_FETCH_DEFAULT_BYTES;
    if (!kb_worker_config_is_given(config, "backup.incremental"))
        backup->incremental = kb_worker_config_lineage(config) != NULL;
    complete_storage(config, &config->storage, "storage.path_style");
    complete_storage(config, &config->offsets.store, "offsets.store.path_style");
    config->logging.level_is_given = kb_worker_config_is_given(config, "logging.level");
    if (config->limits.memory_bytes == 0)
        config->limits.memory_bytes = kb_run_env_memory_bytes(env, NULL);
    if (config->limits.threads == 0)
        config->limits.threads = kb_run_env_threads(NULL);
    kb_config_kafka *const blocks[] = {&config->source, &config->target};
    for (size_t i = 0; i < KB_ARRAY_LEN(blocks); i++) {
        int64_t *count = &blocks[i]->connection.connections_per_broker;
        *count = *count < 1 ? 1 : *count > KB_CONNECTIONS_MAX ? KB_CONNECTIONS_MAX : *count;
    }
    complete_offsets(config, problems);
}

static kb_code apply_flags(kb_worker_config *config, const kb_config_options *options, kb_error *err)
{
    if (options->backup_id != NULL) {
        free(config->backup_id);
        config->backup_id = kb_strdup(options->backup_id);
    }
    if (options->storage_path == NULL)
        return KB_OK;
    kb_config_storage storage;
    kb_config_storage_init(&storage);
    kb_code code = kb_config_storage_parse_path(options->storage_path, &storage, err);
    if (code != KB_OK) {
        kb_config_storage_done(&storage);
        return code;
    }
    kb_config_storage_done(&config->storage);
    config->storage = storage;
    return KB_OK;
}

/* ---- reading ---- */

static kb_code check_sha256(kb_view text, const char *file, const char *expected, kb_error *err)
{
    if (expected == NULL)
        return KB_OK;
    uint8_t hash[KB_SHA256_SIZE];
    char hex[2 * KB_SHA256_SIZE + 1];
    kb_sha256(text.data, text.len, hash);
    kb_hex_encode(hash, sizeof hash, hex);
    if (strcmp(hex, expected) == 0)
        return KB_OK;
    return kb_fail(err, KB_CONFIG_INVALID, "%s has the SHA-256 %s, KB_CONFIG_SHA256 expects %s",
                   file != NULL ? file : "the configuration", hex, expected);
}

static void hand_out_notes(const kb_problems *problems, kb_problems *notes)
{
    if (notes == NULL)
        return;
    if (notes->file == NULL)
        notes->file = kb_strdup_opt(problems->file);
    for (size_t i = 0; i < problems->count; i++) {
        const kb_problem *item = &problems->items[i];
        if (item->severity != KB_SEVERITY_ERROR)
            kb_problems_add(notes, item->severity, item->line, item->column, item->path, "%s", item->text);
    }
}

static kb_code read_tree(kb_worker_config *config, kb_view text, const kb_config_options *options,
                         kb_problems *problems)
{
    const kb_yaml_options yaml = {options->get_env, options->env_ctx, options->allow_unset_env};
    const kb_schema_options schema = {options->allow_unknown};
    kb_code code = kb_yaml_load(text, &yaml, problems, &config->tree);
    if (code != KB_OK)
        return code;
    kb_schema_read(&kb_config_schema, config->tree, "", &schema, problems, config);
    kb_schema_read_files(&kb_config_schema, config, config->tree, "", problems);
    return KB_OK;
}

static kb_code build(kb_worker_config *config, kb_view text, const kb_config_options *options,
                     const kb_run_env *env, kb_problems *problems, kb_error *err)
{
    /* Without a tree the list is not empty, and nothing else can be said about the file. */
    if (read_tree(config, text, options, problems) != KB_OK)
        return kb_problems_check(problems, KB_CONFIG_INVALID, err);
    kb_code code = apply_flags(config, options, err);
    if (code != KB_OK)
        return code;
    complete(config, env, problems);
    kb_config_check(config, options->command, problems);
    return kb_problems_check(problems, KB_CONFIG_INVALID, err);
}

kb_code kb_worker_config_parse(kb_view text, const char *file, const kb_config_options *options,
                               kb_problems *notes, kb_worker_config **ret_config, kb_error *err)
{
    kb_code code = check_sha256(text, file, options->config_sha256, err);
    if (code != KB_OK)
        return code;
    kb_run_env env;
    if ((code = kb_run_env_read(&env, options->get_env, options->env_ctx, err)) != KB_OK)
        return code;
    KB_CLEANUP(kb_worker_config_free_at) kb_worker_config *config = config_new(file);
    kb_problems problems;
    kb_problems_init(&problems, file);
    code = build(config, text, options, &env, &problems, err);
    hand_out_notes(&problems, notes);
    kb_problems_done(&problems);
    kb_run_env_done(&env);
    if (code == KB_OK)
        *ret_config = KB_TAKE(config);
    return code;
}

static kb_code read_standard_input(kb_strbuf *to, kb_error *err)
{
    char part[4096]; /* a page: the size of one read */
    for (;;) {
        ssize_t got = read(STDIN_FILENO, part, sizeof part);
        if (got == 0)
            return kb_strbuf_check(to, "the configuration", err);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return kb_file_fail(err, errno, "read", "standard input");
        kb_strbuf_append(to, part, (size_t)got);
        if (to->failed)
            return kb_strbuf_check(to, "the configuration", err);
    }
}

kb_code kb_worker_config_load(const kb_config_options *options, kb_problems *notes,
                              kb_worker_config **ret_config, kb_error *err)
{
    if (options->path == NULL)
        return kb_worker_config_parse(kb_view_of(NULL, 0), NULL, options, notes, ret_config, err);
    if (strcmp(options->path, "-") == 0) {
        KB_AUTO_STRBUF(text, KB_YAML_MAX_BYTES);
        if (read_standard_input(&text, err) != KB_OK)
            return kb_wrap_as(err, KB_CONFIG_INVALID, "configuration");
        return kb_worker_config_parse(kb_view_of(text.data, text.len), "standard input", options, notes,
                                      ret_config, err);
    }
    KB_AUTOFREE uint8_t *data = NULL;
    size_t len = 0;
    if (kb_file_read(options->path, KB_YAML_MAX_BYTES, &data, &len, err) != KB_OK)
        return kb_wrap_as(err, KB_CONFIG_INVALID, "configuration");
    kb_code code =
        kb_worker_config_parse(kb_view_of(data, len), options->path, options, notes, ret_config, err);
    kb_wipe(data, len);
    return code;
}

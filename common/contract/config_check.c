#include "common/contract/config_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/mem.h"
#include "common/contract/config_access.h"
#include "common/contract/names.h"

#define KB_STAMP_SAMPLE "20250101-000000"
#define KB_STAMP_LEN 15
#define KB_TOPIC_MAX_BYTES 249

typedef struct kb_check {
    const kb_worker_config *config;
    kb_problems *problems;
} kb_check;

void kb_config_problem(const kb_worker_config *config, kb_problems *problems, kb_severity severity,
                       const char *path, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, fmt);
    int len = vasprintf(&text, fmt, args);
    va_end(args);
    if (len < 0)
        kb_out_of_memory();
    const kb_yaml_node *node = kb_yaml_find(config->tree, path);
    KB_AUTOFREE char *around = kb_strdup(path);
    for (char *dot; node == NULL && (dot = strrchr(around, '.')) != NULL;) {
        *dot = '\0';
        node = kb_yaml_find(config->tree, around);
    }
    kb_problems_add(problems, severity, node != NULL ? node->line : 0, node != NULL ? node->column : 0, path,
                    "%s", text);
    free(text);
}

#define fail(check, path, ...) \
    kb_config_problem((check)->config, (check)->problems, KB_SEVERITY_ERROR, (path), __VA_ARGS__)
#define warn(check, path, ...) \
    kb_config_problem((check)->config, (check)->problems, KB_SEVERITY_WARNING, (path), __VA_ARGS__)

/* Whether a key that came out as "not given" is in the file after all, with an error of its own. */
static bool is_reported(const kb_check *check, const char *path)
{
    const kb_yaml_node *node = kb_yaml_find(check->config->tree, path);
    return node != NULL && (node->has_error || node->kind != KB_YAML_SCALAR);
}

/* ---- identity ---- */

static void check_lineage(const kb_check *check)
{
    const kb_worker_config *config = check->config;
    const char *problem = kb_name_new_id_problem(config->lineage, KB_NAME_BACKUP_ID_MAX - KB_STAMP_LEN - 1);
    if (problem != NULL)
        fail(check, "lineage", "'%.60s' is no name for a lineage: %s", config->lineage, problem);
    KB_AUTOFREE char *expected = kb_asprintf("%s-{stamp}", config->lineage);
    if (config->backup_id != NULL && strcmp(config->backup_id, expected) != 0)
        fail(check, "backup_id", "with a lineage expected '%.100s' or nothing; hint: remove backup_id",
             expected);
}

static void check_backup_identity(const kb_check *check)
{
    const kb_worker_config *config = check->config;
    if (config->retention.block.is_given && kb_worker_config_lineage(config) == NULL)
        fail(check, "retention", "only the backups of a lineage are pruned; hint: set lineage");
    if (config->lineage != NULL) {
        check_lineage(check);
        return;
    }
    if (config->backup_id == NULL) {
        if (!is_reported(check, "backup_id"))
            fail(check, "backup_id", "a backup needs a name; hint: -b ID, or backup_id: name-{stamp}");
        return;
    }
    KB_AUTOFREE char *id = kb_name_with_stamp(config->backup_id, KB_STAMP_SAMPLE);
    bool is_lineage = kb_worker_config_lineage(config) != NULL;
    size_t max = is_lineage ? KB_NAME_BACKUP_ID_MAX - KB_STAMP_LEN - 1 : KB_NAME_BACKUP_ID_MAX;
    const char *problem = kb_name_new_id_problem(id, max);
    if (problem != NULL)
        fail(check, "backup_id", "'%.60s' is no name for a backup: %s", config->backup_id, problem);
    else if (is_lineage && kb_name_has_stamp(config->backup_id))
        fail(check, "backup_id",
             "'%.60s' names a series of backups here, each of which gets a time of its own; hint: leave out "
             "{stamp}",
             config->backup_id);
}

static void check_read_identity(const kb_check *check, kb_command command)
{
    const char *id = check->config->backup_id;
    if (id == NULL) {
        if (!is_reported(check, "backup_id"))
            fail(check, "backup_id", "%s needs the name of a backup; hint: -b ID", kb_command_name(command));
        return;
    }
    const char *problem = kb_name_id_problem(id);
    if (problem != NULL)
        fail(check, "backup_id", "'%.60s' is no name of a backup: %s", id, problem);
}

static void check_identity(const kb_check *check, kb_command command)
{
    int mode = check->config->mode;
    bool needs_mode = command == KB_COMMAND_BACKUP || command == KB_COMMAND_RESTORE;
    if (needs_mode && mode != 0 && mode != (int)command + 1)
        fail(check, "mode", "the file is for %s, the command is %s", kb_command_name((kb_command)(mode - 1)),
             kb_command_name(command));
    if (check->config->config_version > 1)
        fail(check, "configVersion",
             "this version of the worker knows version 1 only; hint: use a newer worker");
    if (check->config->findings_exit_code != 0 && check->config->findings_exit_code != 3)
        fail(check, "findings_exit_code", "expected 0 or 3");
    if (command == KB_COMMAND_BACKUP)
        check_backup_identity(check);
    else if (command == KB_COMMAND_RESTORE || command == KB_COMMAND_VALIDATE ||
             command == KB_COMMAND_DESCRIBE)
        check_read_identity(check, command);
}

/* ---- what a command needs ---- */

static void check_needs(const kb_check *check, kb_command command)
{
    static const struct {
        bool source, target, storage;
    } needs[KB_COMMAND_COUNT] = {
        [KB_COMMAND_BACKUP] = {.source = true, .storage = true},
        [KB_COMMAND_RESTORE] = {.target = true, .storage = true},
        [KB_COMMAND_OFFSET_RESET] = {.target = true},
        [KB_COMMAND_OFFSET_SNAPSHOT] = {.target = true},
        [KB_COMMAND_OFFSET_ROLLBACK] = {.target = true},
        [KB_COMMAND_OFFSET_VERIFY] = {.target = true},
        [KB_COMMAND_VALIDATE] = {.storage = true},
        [KB_COMMAND_DESCRIBE] = {.storage = true},
        [KB_COMMAND_LIST] = {.storage = true},
        [KB_COMMAND_PRUNE] = {.storage = true},
    };
    const kb_worker_config *config = check->config;
    const char *name = kb_command_name(command);
    if (needs[command].source && !config->source.block.is_given)
        fail(check, "source", "%s needs the source cluster: source.bootstrap_servers", name);
    if (needs[command].target && !config->target.block.is_given)
        fail(check, "target", "%s needs the target cluster: target.bootstrap_servers", name);
    if (needs[command].storage && !config->storage.block.is_given)
        fail(check, "storage", "%s needs a store; hint: --path DIR, or a block storage", name);
}

/* ---- backup ---- */

static void check_patterns(const kb_check *check, const char *path, const kb_strings *patterns,
                           bool has_regex)
{
    for (size_t i = 0; i < patterns->count; i++) {
        const char *pattern = patterns->items[i];
        if (pattern[0] == '\0' || (pattern[0] == '~' && pattern[1] == '\0'))
            fail(check, path, "an empty pattern");
        else if (pattern[0] == '~' && !has_regex)
            fail(check, path, "'%.100s': regular expressions are for restore only; hint: use * and ?",
                 pattern);
    }
}

static void check_compression(const kb_check *check)
{
    const kb_config_backup *backup = &check->config->backup;
    long long level = (long long)backup->compression_level;
    if (backup->compression == KB_CONFIG_COMPRESSION_ZSTD && (level < 1 || level > 22))
        fail(check, "backup.compression_level", "expected an integer from 1 to 22 for zstd, got %lld", level);
    if (backup->compression == KB_CONFIG_COMPRESSION_LZ4 && (level < 1 || level > 12))
        fail(check, "backup.compression_level", "expected an integer from 1 to 12 for lz4, got %lld", level);
}

static void check_incremental(const kb_check *check)
{
    const kb_worker_config *config = check->config;
    if (config->backup.incremental && kb_worker_config_lineage(config) == NULL)
        fail(check, "backup.incremental",
             "only backups of a lineage are incremental; hint: give lineage: NAME");
}

static void check_backup(const kb_check *check)
{
    const kb_worker_config *config = check->config;
    const kb_yaml_node *stop = kb_yaml_find(config->tree, "backup.stop_at_current_offsets");
    check_compression(check);
    check_incremental(check);
    if (config->backup.continuous && stop != NULL && stop->text != NULL &&
        strncasecmp(stop->text, "true", 5) == 0)
        fail(check, "backup.continuous",
             "not together with stop_at_current_offsets; hint: remove one of the two");
    check_patterns(check, "source.topics.include", &config->source.topics.include, false);
    check_patterns(check, "source.topics.exclude", &config->source.topics.exclude, false);
    for (size_t i = 0; i < config->backup.internal_topics.count; i++) {
        if (config->backup.internal_topics.items[i][0] == '\0')
            fail(check, "backup.internal_topics", "an empty name");
    }
}

/* ---- restore ---- */

static void check_window(const kb_check *check)
{
    const kb_opt_i64 *start = &check->config->restore.time_window_start;
    const kb_opt_i64 *end = &check->config->restore.time_window_end;
    if (start->is_set && end->is_set && start->value > end->value)
        fail(check, "restore.time_window_start", "the time window starts (%lld) after its end (%lld)",
             (long long)start->value, (long long)end->value);
}

static bool is_topic_name(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t len = strlen(name);
    return len > 0 && len <= KB_TOPIC_MAX_BYTES && name[strspn(name, allowed)] == '\0' &&
           strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static void check_targets(const kb_check *check)
{
    static const char rule[] = "1 to 249 of letters, digits, '.', '_' and '-'";
    const kb_config_restore *restore = &check->config->restore;
    for (size_t i = 0; i < restore->topic_mapping.count; i++) {
        const char *name = restore->topic_mapping.values[i];
        if (!is_topic_name(name))
            fail(check, "restore.topic_mapping", "'%.100s' is no name for a topic; expected %s", name, rule);
    }
    for (size_t i = 0; i < restore->repartitioning.count; i++) {
        const char *name = restore->repartitioning.items[i].target_topic;
        if (!is_topic_name(name))
            fail(check, "restore.repartitioning", "'%.100s' is no name for a topic; expected %s", name, rule);
    }
}

static void check_restore_ids(const kb_check *check)
{
    const struct {
        const char *path;
        const char *id;
    } ids[] = {
        {"restore.restore_id", check->config->restore.restore_id},
        {"restore.rollback_snapshot_id", check->config->restore.rollback_snapshot_id},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(ids); i++) {
        const char *problem =
            ids[i].id != NULL ? kb_name_new_id_problem(ids[i].id, KB_NAME_SNAPSHOT_ID_MAX) : NULL;
        if (problem != NULL)
            fail(check, ids[i].path, "'%.60s' cannot be used as a name: %s", ids[i].id, problem);
    }
}

static void check_restore(const kb_check *check)
{
    const kb_config_restore *restore = &check->config->restore;
    check_window(check);
    check_targets(check);
    check_restore_ids(check);
    check_patterns(check, "target.topics.include", &check->config->target.topics.include, true);
    check_patterns(check, "target.topics.exclude", &check->config->target.topics.exclude, true);
    if (restore->target_policy == KB_CONFIG_TARGET_APPEND && restore->delivery != KB_CONFIG_TRANSACTIONAL)
        fail(check, "restore.target_policy", "append needs delivery: transactional");
    if (restore->target_policy == KB_CONFIG_TARGET_APPEND && restore->purge_topics)
        fail(check, "restore.purge_topics", "not together with target_policy: append");
    if (restore->produce_acks != -1)
        warn(check, "restore.produce_acks",
             "is raised to -1: a record counts only when all replicas have it");
    if (restore->consumer_group_strategy > KB_CONFIG_GROUP_HEADER_BASED)
        warn(check, "restore.consumer_group_strategy", "does the same as skip");
}

/* ---- the rest ---- */

static void check_offsets(const kb_check *check, kb_command command)
{
    const kb_config_offsets *offsets = &check->config->offsets;
    const char *problem = offsets->snapshot_id != NULL
                              ? kb_name_new_id_problem(offsets->snapshot_id, KB_NAME_SNAPSHOT_ID_MAX)
                              : NULL;
    if (problem != NULL)
        fail(check, "offsets.snapshot_id", "'%.60s' cannot be used as a name: %s", offsets->snapshot_id,
             problem);
    bool needs_id = command != KB_COMMAND_OFFSET_RESET || offsets->create_snapshot;
    if (needs_id && offsets->snapshot_id == NULL && !is_reported(check, "offsets.snapshot_id"))
        fail(check, "offsets.snapshot_id", "%s needs the name of a snapshot", kb_command_name(command));
    if (command == KB_COMMAND_OFFSET_RESET && offsets->strategy == KB_CONFIG_OFFSET_NONE &&
        !is_reported(check, "offsets.strategy"))
        fail(check, "offsets.strategy", "offset-reset needs a strategy");
    if (offsets->block.is_given && offsets->store.block.is_given)
        kb_config_check_storage(check->config, &offsets->store, "offsets.store", check->problems);
}

static void check_metrics(const kb_check *check)
{
    if (check->config->metrics.path[0] != '/')
        fail(check, "metrics.path", "expected a path that begins with '/'");
}

static bool is_offset_command(kb_command command)
{
    return command >= KB_COMMAND_OFFSET_RESET && command <= KB_COMMAND_OFFSET_DELETE;
}

void kb_config_check(const kb_worker_config *config, kb_command command, kb_problems *problems)
{
    const kb_check check = {config, problems};
    check_identity(&check, command);
    check_needs(&check, command);
    if (config->source.block.is_given)
        kb_config_check_kafka(config, &config->source, "source", problems);
    if (config->target.block.is_given)
        kb_config_check_kafka(config, &config->target, "target", problems);
    if (config->storage.block.is_given)
        kb_config_check_storage(config, &config->storage, "storage", problems);
    if (command == KB_COMMAND_BACKUP)
        check_backup(&check);
    if (command == KB_COMMAND_RESTORE)
        check_restore(&check);
    if (is_offset_command(command))
        check_offsets(&check, command);
    check_metrics(&check);
}

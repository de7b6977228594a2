#include "operator/model/resolve.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/data/json_tree.h"

#define KB_STAMP_CHARS (KB_STAMP_SIZE - 1)

static bool has_backup(const json_t *backup, const char *backup_id)
{
    const json_t *history = kb_tree_at(backup, "status", "backupHistory", NULL);
    for (size_t i = 0; i < json_array_size(history); i++)
        if (strcmp(kb_tree_text_or_empty(json_array_get(history, i), "backupId", NULL), backup_id) == 0)
            return true;
    return false;
}

/* Whether an id is that of a KafkaBackup by its form: the name, '-', a stamp. */
static bool is_named_after(const char *backup_id, const char *name)
{
    size_t len = strlen(name);
    KB_AUTO_ERROR(err);
    int64_t ms = 0;
    return strncmp(backup_id, name, len) == 0 && backup_id[len] == '-' &&
           strlen(backup_id + len + 1) == KB_STAMP_CHARS &&
           kb_stamp_parse(backup_id + len + 1, KB_STAMP_CHARS, &ms, &err) == KB_OK;
}

static const json_t *find_backup(const json_t *backups, const char *backup_id)
{
    const json_t *named = NULL;
    for (size_t i = 0; i < json_array_size(backups); i++) {
        const json_t *backup = json_array_get(backups, i);
        if (has_backup(backup, backup_id))
            return backup;
        if (is_named_after(backup_id, kb_tree_text_or_empty(backup, "metadata", "name", NULL)))
            named = backup;
    }
    return named;
}

/* Whether no topic can keep its name: literal names only, each of them mapped. */
static bool renames_every_topic(const kb_restore_spec *restore)
{
    for (size_t i = 0; i < restore->topics.count; i++) {
        const char *topic = restore->topics.items[i];
        const char *target = kb_string_map_get(&restore->topic_mapping, topic);
        if (strpbrk(topic, "*?") != NULL || target == NULL || strcmp(target, topic) == 0)
            return false;
    }
    return restore->topics.count > 0;
}

static void wait_for(kb_resolved *resolved, const char *reason, char *owned_message)
{
    resolved->reason = reason;
    resolved->message = owned_message;
}

static void resolve_target(const kb_restore_spec *restore, kb_resolved *resolved)
{
    bool may_use_source = restore->guards.allow_source_cluster || renames_every_topic(restore);
    if (!may_use_source || !resolved->has_source || !resolved->source.backup.kafka.is_set) {
        wait_for(
            resolved, "TargetClusterRequired",
            kb_strdup("set spec.targetCluster; to restore into the source cluster, rename every topic or "
                      "set spec.guards.allowSourceCluster"));
        return;
    }
    resolved->kafka = &resolved->source.backup.kafka;
}

void kb_resolve_restore(const kb_spec *spec, const json_t *backups, kb_resolved *ret_resolved)
{
    const kb_restore_spec *restore = &spec->restore;
    *ret_resolved = (kb_resolved){0};
    kb_resolved *resolved = ret_resolved;
    resolved->storage = restore->storage.is_set ? &restore->storage : NULL;
    resolved->kafka = restore->target.is_set ? &restore->target : NULL;
    if (resolved->storage != NULL && resolved->kafka != NULL)
        return;
    const json_t *backup = find_backup(backups, restore->backup_id != NULL ? restore->backup_id : "");
    if (backup != NULL) {
        kb_problems problems;
        kb_problems_init(&problems, NULL);
        kb_spec_read(KB_KIND_BACKUP, backup, &problems, &resolved->source);
        resolved->has_source = true;
        if (problems.error_count > 0)
            backup = NULL;
        kb_problems_done(&problems);
    }
    if (resolved->storage == NULL && backup == NULL) {
        wait_for(
            resolved, "StorageRequired",
            kb_asprintf("set spec.storage, or create the KafkaBackup that made it: no KafkaBackup of this "
                        "namespace has backup '%s' in its history or is named like it without "
                        "-YYYYMMDD-HHMMSS",
                        restore->backup_id));
        return;
    }
    if (resolved->storage == NULL)
        resolved->storage = &resolved->source.backup.storage;
    if (resolved->kafka == NULL)
        resolve_target(restore, resolved);
    if (backup != NULL)
        resolved->from =
            kb_asprintf("KafkaBackup/%s", kb_tree_text_or_empty(backup, "metadata", "name", NULL));
}

void kb_resolved_done(kb_resolved *resolved)
{
    free(resolved->message);
    free(resolved->from);
    if (resolved->has_source)
        kb_spec_done(&resolved->source);
    *resolved = (kb_resolved){0};
}

#include "operator/model/resolve.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"
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

/* ---- offset kinds ---- */

static const char ledger_note[] = "kafka.oso.sh/ledger";

/* The outcome that an object's own ledger records, "" without one. Owned. */
static char *recorded_outcome(const json_t *object)
{
    const char *text = kb_tree_text(object, "metadata", "annotations", ledger_note, NULL);
    KB_AUTO_TREE(ledger);
    ledger = text != NULL ? json_loads(text, 0, NULL) : NULL;
    bool is_own = strcmp(kb_tree_text_or_empty(ledger, "uid", NULL),
                         kb_tree_text_or_empty(object, "metadata", "uid", NULL)) == 0;
    return kb_strdup(is_own ? kb_tree_text_or_empty(ledger, "outcome", NULL) : "");
}

/* Whether the KafkaBackup behind a restore calls its cluster so. */
static bool is_of_cluster(const json_t *restore, const json_t *backups, const char *source_cluster)
{
    if (source_cluster == NULL || *source_cluster == '\0')
        return true;
    const json_t *backup = find_backup(backups, kb_tree_text_or_empty(restore, "spec", "backupId", NULL));
    return strcmp(kb_tree_text_or_empty(backup, "spec", "sourceClusterId", NULL), source_cluster) == 0;
}

/* Reads a restore and what it left out itself. */
static void take_restore(kb_resolved *resolved, const json_t *restore, const json_t *backups)
{
    kb_problems problems;
    kb_problems_init(&problems, NULL);
    kb_spec_read(KB_KIND_RESTORE, restore, &problems, &resolved->source);
    kb_problems_done(&problems);
    resolved->has_source = true;
    resolved->inner = kb_calloc(1, sizeof *resolved->inner);
    kb_resolve_restore(&resolved->source, backups, resolved->inner);
    resolved->kafka = resolved->inner->kafka;
    resolved->storage = resolved->inner->storage;
    resolved->backup_id = kb_strdup_opt(resolved->source.restore.backup_id);
    resolved->from = kb_asprintf("KafkaRestore/%s", kb_tree_text_or_empty(restore, "metadata", "name", NULL));
}

static bool has_same_cluster(const json_t *a, const json_t *b, const json_t *backups)
{
    kb_resolved x = {0}, y = {0};
    take_restore(&x, a, backups);
    take_restore(&y, b, backups);
    bool is_same = x.kafka != NULL && y.kafka != NULL &&
                   x.kafka->bootstrap_servers.count == y.kafka->bootstrap_servers.count;
    for (size_t i = 0; is_same && i < x.kafka->bootstrap_servers.count; i++)
        is_same = strcmp(x.kafka->bootstrap_servers.items[i], y.kafka->bootstrap_servers.items[i]) == 0;
    kb_resolved_done(&x);
    kb_resolved_done(&y);
    return is_same;
}

static bool is_newer(const json_t *a, const json_t *b)
{
    return strcmp(kb_tree_text_or_empty(a, "status", "completionTime", NULL),
                  kb_tree_text_or_empty(b, "status", "completionTime", NULL)) > 0;
}

#define KB_AMBIGUOUS_NAMES_MAX 5

static void resolve_by_restores(const kb_reset_spec *reset, const kb_resolve_peers *peers,
                                kb_resolved *resolved)
{
    const json_t *newest = NULL, *unfinished = NULL;
    bool is_ambiguous = false;
    size_t named = 0;
    KB_AUTO_STRBUF(names, 2048);
    for (size_t i = 0; i < json_array_size(peers->restores); i++) {
        const json_t *restore = json_array_get(peers->restores, i);
        KB_AUTOFREE char *outcome = recorded_outcome(restore);
        if (!is_of_cluster(restore, peers->backups, reset->source_cluster))
            continue;
        if (*outcome == '\0')
            unfinished = restore;
        if (strcmp(outcome, "success") != 0)
            continue;
        if (named++ < KB_AMBIGUOUS_NAMES_MAX)
            kb_strbuf_appendf(&names, "%s%s", names.len > 0 ? ", " : "",
                              kb_tree_text_or_empty(restore, "metadata", "name", NULL));
        is_ambiguous = is_ambiguous || (newest != NULL && !has_same_cluster(newest, restore, peers->backups));
        if (newest == NULL || is_newer(restore, newest))
            newest = restore;
    }
    if (is_ambiguous)
        wait_for(resolved, "KafkaClusterAmbiguous",
                 kb_asprintf("set spec.kafkaCluster: restores into different clusters succeeded: %s",
                             kb_strbuf_view(&names)));
    else if (newest != NULL)
        take_restore(resolved, newest, peers->backups);
    else if (unfinished != NULL)
        wait_for(resolved, "WaitingForRestore",
                 kb_asprintf("KafkaRestore %s has not ended",
                             kb_tree_text_or_empty(unfinished, "metadata", "name", NULL)));
    else
        wait_for(
            resolved, "KafkaClusterRequired",
            kb_strdup("set spec.kafkaCluster: no KafkaRestore of this namespace has succeeded whose cluster "
                      "could be taken"));
    if (resolved->reason == NULL && (resolved->kafka == NULL || resolved->storage == NULL))
        wait_for(resolved, "KafkaClusterRequired",
                 kb_asprintf("set spec.kafkaCluster: what %s went by is not there any more", resolved->from));
}

void kb_resolve_reset(const kb_spec *spec, const kb_resolve_peers *peers, kb_resolved *ret_resolved)
{
    const kb_reset_spec *reset = &spec->reset;
    *ret_resolved = (kb_resolved){0};
    if (reset->kafka.is_set)
        ret_resolved->kafka = &reset->kafka;
    else
        resolve_by_restores(reset, peers, ret_resolved);
    if (ret_resolved->reason == NULL && ret_resolved->storage == NULL && reset->create_snapshot)
        ret_resolved->snapshot_map = kb_strdup(KB_DEFAULT_SNAPSHOT_MAP);
}

static const json_t *find_by_snapshot(const json_t *objects, const char *field, const char *id)
{
    for (size_t i = 0; i < json_array_size(objects); i++)
        if (strcmp(kb_tree_text_or_empty(json_array_get(objects, i), "status", field, NULL), id) == 0)
            return json_array_get(objects, i);
    return NULL;
}

/* The rollback object that made the snapshot; the others only name it. */
static const json_t *find_maker(const json_t *rollbacks, const char *id)
{
    for (size_t i = 0; i < json_array_size(rollbacks); i++) {
        const json_t *rollback = json_array_get(rollbacks, i);
        if (strcmp(kb_tree_text_or_empty(rollback, "spec", "operation", NULL), "snapshot") == 0 &&
            strcmp(kb_tree_text_or_empty(rollback, "status", "snapshotId", NULL), id) == 0)
            return rollback;
    }
    return NULL;
}

/* The store of whatever made the snapshot. A maker that used the ConfigMap leaves storage NULL. */
static void find_store(const kb_rollback_spec *rollback, const kb_resolve_peers *peers, kb_resolved *resolved)
{
    const char *id = rollback->snapshot_id != NULL ? rollback->snapshot_id : "";
    const json_t *restore = find_by_snapshot(peers->restores, "rollbackSnapshotId", id);
    const json_t *reset = find_by_snapshot(peers->resets, "snapshotId", id);
    const json_t *maker = find_maker(peers->rollbacks, id);
    const char *from = kb_tree_text(reset, "status", "resolvedFrom", NULL);
    if (restore == NULL && from != NULL && strncmp(from, "KafkaRestore/", 13) == 0) {
        for (size_t i = 0; i < json_array_size(peers->restores); i++)
            if (strcmp(kb_tree_text_or_empty(json_array_get(peers->restores, i), "metadata", "name", NULL),
                       from + 13) == 0)
                restore = json_array_get(peers->restores, i);
    }
    if (restore != NULL) {
        take_restore(resolved, restore, peers->backups);
    } else if (maker != NULL) {
        kb_problems problems;
        kb_problems_init(&problems, NULL);
        kb_spec_read(KB_KIND_OFFSET_ROLLBACK, maker, &problems, &resolved->source);
        kb_problems_done(&problems);
        resolved->has_source = true;
        if (resolved->source.rollback.storage.is_set)
            resolved->storage = &resolved->source.rollback.storage;
        resolved->from =
            kb_asprintf("KafkaOffsetRollback/%s", kb_tree_text_or_empty(maker, "metadata", "name", NULL));
    }
}

void kb_resolve_rollback(const kb_spec *spec, const kb_resolve_peers *peers, kb_resolved *ret_resolved)
{
    const kb_rollback_spec *rollback = &spec->rollback;
    *ret_resolved = (kb_resolved){0};
    if (rollback->storage.is_set)
        ret_resolved->storage = &rollback->storage;
    else if (rollback->operation != KB_SPEC_OPERATION_SNAPSHOT)
        find_store(rollback, peers, ret_resolved);
    /* Only the store is taken from elsewhere: the cluster is the one that the object names. */
    ret_resolved->kafka = rollback->kafka.is_set ? &rollback->kafka : NULL;
    const kb_spec_storage *storage = ret_resolved->storage;
    if (storage != NULL && storage->type < KB_SPEC_STORAGE_CONFIG_MAP)
        return;
    ret_resolved->snapshot_map =
        kb_strdup(storage != NULL && storage->config_map.name != NULL ? storage->config_map.name
                                                                      : KB_DEFAULT_SNAPSHOT_MAP);
    ret_resolved->storage = NULL;
}

void kb_resolved_done(kb_resolved *resolved)
{
    free(resolved->message);
    free(resolved->from);
    free(resolved->backup_id);
    free(resolved->snapshot_map);
    if (resolved->inner != NULL)
        kb_resolved_done(resolved->inner);
    free(resolved->inner);
    if (resolved->has_source)
        kb_spec_done(&resolved->source);
    *resolved = (kb_resolved){0};
}

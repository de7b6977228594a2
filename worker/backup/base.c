#include "worker/backup/base.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/backup/stored.h"
#include "worker/catalog/catalog.h"
#include "worker/catalog/layout.h"
#include "worker/catalog/lineage.h"
#include "worker/catalog/reuse.h"

void kb_base_done(kb_base *base)
{
    kb_backup_free(base->backup);
    kb_map_free(base->stored);
    *base = (kb_base){NULL, NULL};
}

static bool is_same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool is_same_content(const kb_backup_content *a, const kb_backup_content *b)
{
    return is_same_text(a->isolation, b->isolation) && a->offset_headers == b->offset_headers &&
           is_same_text(a->source_cluster_header, b->source_cluster_header);
}

/* A damaged backup, or one that prune was faster with, is no base; everything else is an error. */
static bool may_pass_over(kb_code code)
{
    return code == KB_BACKUP_CORRUPT || code == KB_BACKUP_PRUNED || code == KB_BACKUP_NOT_FOUND;
}

static kb_code try_member(const char *backup_id, kb_storage *storage, kb_backup **ret_backup, kb_error *err)
{
    const kb_catalog_open_options options = {0};
    kb_catalog_state state = KB_CATALOG_FOREIGN;
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    KB_AUTO_ERROR(problem);
    kb_code code = kb_catalog_open(storage, backup_id, &options, &backup, &state, &problem);
    if (may_pass_over(code)) {
        kb_log(KB_LOG_WARN, "a backup of the lineage is no base", KB_STR("backup", backup_id),
               KB_ERRTEXT(&problem));
        return KB_OK;
    }
    if (code != KB_OK) {
        kb_error_move(err, &problem);
        return kb_wrap(err, "reading backup '%s' of the lineage", backup_id);
    }
    if (state == KB_CATALOG_COMPLETE)
        *ret_backup = KB_TAKE(backup);
    return KB_OK;
}

kb_code kb_base_select(kb_base *base, kb_storage *storage, const char *lineage,
                       const kb_backup_content *content, bool *ret_has_complete, kb_error *err)
{
    KB_CLEANUP(kb_lineage_members_done) kb_lineage_members members = {0};
    *ret_has_complete = false;
    if (kb_lineage_scan(storage, lineage, &members, err) != KB_OK)
        return err->code;
    for (size_t i = 0; i < members.count; i++) {
        KB_AUTO_BACKUP kb_backup *backup = NULL;
        if (members.items[i].state != KB_CATALOG_COMPLETE || members.items[i].marked)
            continue;
        if (try_member(members.items[i].backup_id, storage, &backup, err) != KB_OK)
            return err->code;
        if (backup == NULL || !is_same_text(backup->lineage, lineage))
            continue;
        *ret_has_complete = true;
        if (!is_same_content(&backup->content, content))
            continue;
        base->backup = KB_TAKE(backup);
        return KB_OK;
    }
    return KB_OK;
}

kb_code kb_base_open(kb_base *base, kb_storage *storage, const char *backup_id, kb_error *err)
{
    /* Prune leaves the base of an open backup alone, marked or not. */
    const kb_catalog_open_options options = {.allow_pruned = true};
    kb_catalog_state state = KB_CATALOG_FOREIGN;
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_code code = kb_catalog_open(storage, backup_id, &options, &backup, &state, err);
    if (code == KB_BACKUP_NOT_FOUND)
        return kb_wrap_as(err, KB_BACKUP_CORRUPT, "the base of the open backup");
    if (code != KB_OK)
        return kb_wrap(err, "reading the base of the open backup");
    kb_base_done(base);
    base->backup = KB_TAKE(backup);
    return KB_OK;
}

kb_code kb_base_list(kb_base *base, kb_storage *storage, kb_error *err)
{
    if (base->stored != NULL)
        return KB_OK;
    KB_CLEANUP(kb_map_free_at) kb_map *stored = kb_map_new(NULL);
    if (kb_stored_add_all(stored, storage, base->backup, err) != KB_OK)
        return kb_wrap(err, "listing the segments of base '%s'", base->backup->backup_id);
    base->stored = KB_TAKE(stored);
    return KB_OK;
}

bool kb_base_objects_stand(const kb_base *base, const kb_topic_entry *topic,
                           const kb_partition_entry *partition, int64_t log_start)
{
    kb_reuse_range range = kb_reuse_range_of(partition, log_start, kb_partition_joined(partition));
    for (size_t i = range.first_segment; i < range.end_segment; i++) {
        const kb_segment_entry *segment = &partition->segments[i];
        KB_AUTOFREE char *key = kb_segment_key(base->backup, topic, partition, segment);
        uint64_t size = kb_stored_size(base->stored, key);
        if (size == (uint64_t)segment->bytes)
            continue;
        kb_log(KB_LOG_WARN,
               "a segment of the base is missing or has another size; the partition is read anew",
               KB_STR("key", key), KB_INT("bytes", size), KB_INT("expected", segment->bytes));
        return false;
    }
    return true;
}

static kb_code is_there(kb_storage *storage, const char *key, bool *ret_there, kb_error *err)
{
    KB_AUTO_ERROR(head);
    kb_object_info info;
    kb_code code = kb_storage_head(storage, key, &info, &head);
    if (code != KB_OK && code != KB_ERR_NOT_FOUND) {
        kb_error_move(err, &head);
        return code;
    }
    *ret_there = code == KB_OK;
    return KB_OK;
}

kb_code kb_base_is_leaving(kb_storage *storage, const char *backup_id, bool *ret_leaving, kb_error *err)
{
    KB_AUTOFREE char *mark = kb_layout_pruned_key(backup_id);
    KB_AUTOFREE char *manifest = kb_layout_manifest_key(backup_id);
    bool is_marked = false, is_listed = false;
    if (is_there(storage, mark, &is_marked, err) != KB_OK ||
        is_there(storage, manifest, &is_listed, err) != KB_OK)
        return kb_wrap(err, "looking for the mark of base '%s'", backup_id);
    *ret_leaving = is_marked || !is_listed;
    return KB_OK;
}

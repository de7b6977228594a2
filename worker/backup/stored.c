#include "worker/backup/stored.h"

#include "common/base/mem.h"
#include "worker/catalog/layout.h"

/* Sizes fit a pointer; 0 is no size of a segment, so that NULL means "not listed". */
static kb_code note_size(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    (void)err;
    kb_map_puts(ctx, entry->key, (void *)(uintptr_t)entry->info.size_bytes);
    return KB_OK;
}

kb_code kb_stored_add(kb_map *stored, kb_storage *storage, const char *backup_id, kb_error *err)
{
    KB_AUTOFREE char *prefix = kb_layout_topics_prefix(backup_id);
    return kb_storage_list(storage, prefix, note_size, stored, err);
}

kb_code kb_stored_add_all(kb_map *stored, kb_storage *storage, const kb_backup *backup, kb_error *err)
{
    if (kb_stored_add(stored, storage, backup->backup_id, err) != KB_OK)
        return err->code;
    for (size_t i = 0; i < backup->use_count; i++)
        if (kb_stored_add(stored, storage, backup->uses[i], err) != KB_OK)
            return err->code;
    return KB_OK;
}

uint64_t kb_stored_size(const kb_map *stored, const char *key)
{
    return (uint64_t)(uintptr_t)kb_map_gets(stored, key);
}

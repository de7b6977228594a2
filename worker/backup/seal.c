#include "worker/backup/seal.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/base/map.h"
#include "common/base/mem.h"
#include "worker/catalog/catalog.h"
#include "worker/catalog/layout.h"

/* Sizes fit a pointer; 0 is no size of a segment, so that NULL means "not listed". */
static kb_code note_size(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    (void)err;
    kb_map_puts(ctx, entry->key, (void *)(uintptr_t)entry->info.size_bytes);
    return KB_OK;
}

static kb_code list_all(kb_storage *storage, const kb_backup *backup, kb_map *sizes, kb_error *err)
{
    KB_AUTOFREE char *own = kb_layout_topics_prefix(backup->backup_id);
    if (kb_storage_list(storage, own, note_size, sizes, err) != KB_OK)
        return err->code;
    for (size_t i = 0; i < backup->use_count; i++) {
        KB_AUTOFREE char *prefix = kb_layout_topics_prefix(backup->uses[i]);
        if (kb_storage_list(storage, prefix, note_size, sizes, err) != KB_OK)
            return err->code;
    }
    return KB_OK;
}

static kb_code check_partition(const kb_backup *backup, const kb_topic_entry *topic,
                               const kb_partition_entry *partition, const kb_map *sizes, kb_error *err)
{
    for (size_t i = 0; i < partition->segment_count; i++) {
        const kb_segment_entry *segment = &partition->segments[i];
        KB_AUTOFREE char *key = kb_segment_key(backup, topic, partition, segment);
        uint64_t size = (uint64_t)(uintptr_t)kb_map_gets(sizes, key);
        if (size == 0)
            return kb_fail(
                err, KB_BACKUP_CORRUPT,
                "segment '%s' was written but is missing in the store; hint: see who removes objects there",
                key);
        if (size != (uint64_t)segment->bytes)
            return kb_fail(err, KB_BACKUP_CORRUPT,
                           "segment '%s' has %" PRIu64 " bytes in the store, %" PRId64 " were written", key,
                           size, segment->bytes);
    }
    return KB_OK;
}

kb_code kb_seal_check_objects(kb_storage *storage, const kb_backup *backup, kb_error *err)
{
    KB_CLEANUP(kb_map_free_at) kb_map *sizes = kb_map_new(NULL);
    if (list_all(storage, backup, sizes, err) != KB_OK)
        return kb_wrap(err, "listing the segments before sealing");
    for (size_t t = 0; t < backup->topic_count; t++)
        for (size_t p = 0; p < backup->topics[t].listed_count; p++)
            if (check_partition(backup, &backup->topics[t], &backup->topics[t].partitions[p], sizes, err) !=
                KB_OK)
                return err->code;
    return KB_OK;
}

kb_code kb_seal_backup(kb_storage *storage, kb_journal *journal, const char *generator,
                       kb_backup **ret_backup, kb_error *err)
{
    if (kb_seal_check_objects(storage, kb_journal_backup(journal), err) != KB_OK ||
        kb_journal_seal(journal, generator, err) != KB_OK)
        return err->code;
    KB_AUTO_BACKUP kb_backup *backup = kb_journal_take_backup(journal);
    if (kb_catalog_publish(storage, &backup, err) != KB_OK)
        return err->code;
    *ret_backup = KB_TAKE(backup);
    return KB_OK;
}

#include "worker/backup/seal.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/base/map.h"
#include "common/base/mem.h"
#include "worker/backup/base.h"
#include "worker/backup/stored.h"
#include "worker/catalog/catalog.h"
#include "worker/catalog/reuse.h"

typedef struct object_check {
    const kb_backup *owner; /* of the lists that keys are made from */
    kb_map *stored;
} object_check;

static kb_code check_segment(void *ctx, const kb_topic_entry *topic, const kb_partition_entry *partition,
                             const kb_segment_entry *segment, kb_error *err)
{
    const object_check *check = ctx;
    KB_AUTOFREE char *key = kb_segment_key(check->owner, topic, partition, segment);
    uint64_t size = kb_stored_size(check->stored, key);
    if (size == 0)
        return kb_fail(
            err, KB_BACKUP_CORRUPT,
            "segment '%s' was written but is missing in the store; hint: see who removes objects there", key);
    if (size != (uint64_t)segment->bytes)
        return kb_fail(err, KB_BACKUP_CORRUPT,
                       "segment '%s' has %" PRIu64 " bytes in the store, %" PRId64 " were written", key, size,
                       segment->bytes);
    return KB_OK;
}

static kb_code check_own(object_check *check, const kb_backup *backup, kb_error *err)
{
    for (size_t t = 0; t < backup->topic_count; t++) {
        const kb_topic_entry *topic = &backup->topics[t];
        for (size_t p = 0; p < topic->listed_count; p++)
            for (size_t i = 0; i < topic->partitions[p].segment_count; i++)
                if (check_segment(check, topic, &topic->partitions[p], &topic->partitions[p].segments[i],
                                  err) != KB_OK)
                    return err->code;
    }
    return KB_OK;
}

kb_code kb_seal_check_objects(kb_storage *storage, const kb_backup *backup, const kb_backup *base,
                              kb_error *err)
{
    KB_CLEANUP(kb_map_free_at) kb_map *stored = kb_map_new(NULL);
    if (kb_stored_add_all(stored, storage, backup, err) != KB_OK ||
        (base != NULL && kb_stored_add_all(stored, storage, base, err) != KB_OK))
        return kb_wrap(err, "listing the segments before sealing");
    object_check own = {backup, stored};
    if (check_own(&own, backup, err) != KB_OK)
        return err->code;
    object_check reused = {base, stored};
    return base != NULL ? kb_reuse_visit(backup, base, check_segment, &reused, err) : KB_OK;
}

static kb_code publish(kb_storage *storage, kb_backup **backup, const kb_backup *base, kb_error *err)
{
    if (base != NULL && kb_reuse_fill(*backup, base, err) != KB_OK)
        return kb_wrap_as(err, KB_BACKUP_CORRUPT, "listing the segments that backup '%s' reuses",
                          (*backup)->backup_id);
    return kb_catalog_publish(storage, backup, err);
}

kb_code kb_seal_backup(kb_storage *storage, kb_journal *journal, const kb_backup *base, const char *generator,
                       kb_backup **ret_backup, kb_error *err)
{
    if (kb_seal_check_objects(storage, kb_journal_backup(journal), base, err) != KB_OK ||
        kb_journal_seal(journal, generator, err) != KB_OK)
        return err->code;
    KB_AUTO_BACKUP kb_backup *backup = kb_journal_take_backup(journal);
    if (publish(storage, &backup, base, err) != KB_OK)
        return err->code;
    *ret_backup = KB_TAKE(backup);
    return KB_OK;
}

kb_code kb_seal_finish(kb_storage *storage, kb_backup **backup, kb_error *err)
{
    KB_CLEANUP(kb_base_done) kb_base base = {NULL, NULL};
    if (kb_reuse_is_unfilled(*backup) && kb_base_open(&base, storage, (*backup)->base, err) != KB_OK)
        return err->code;
    return publish(storage, backup, base.backup, err);
}

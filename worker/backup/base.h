/*
 * base - the backup that an incremental one builds upon: choosing it, and the proof that its objects are
 * there (storage-format, 12).
 *
 * Threads: one at a time.
 */
#ifndef KB_WORKER_BACKUP_BASE_H
#define KB_WORKER_BACKUP_BASE_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/base/map.h"
#include "worker/catalog/model.h"
#include "worker/storage/storage.h"

typedef struct kb_base {
    kb_backup *backup; /* owned; NULL = none */
    kb_map *stored;    /* objects of it and of those that it uses; NULL until kb_base_list */
} kb_base;
void kb_base_done(kb_base *base);

/*
 * The newest complete, unmarked backup of the lineage whose records have the same content; base->backup stays
 * NULL when there is none. One that is damaged is passed over with a warning. *ret_has_complete says whether
 * the lineage has any complete backup at all.
 */
kb_code kb_base_select(kb_base *base, kb_storage *storage, const char *lineage,
                       const kb_backup_content *content, bool *ret_has_complete, kb_error *err) KB_CHECK;

/* The base that a plan names. KB_BACKUP_CORRUPT when it is not there or cannot be read. */
kb_code kb_base_open(kb_base *base, kb_storage *storage, const char *backup_id, kb_error *err) KB_CHECK;

/* Lists the objects, once. */
kb_code kb_base_list(kb_base *base, kb_storage *storage, kb_error *err) KB_CHECK;

/* Whether every segment of a partition of the base that ends at or above log_start is there with its size.
 * What is not is logged. After kb_base_list. */
bool kb_base_objects_stand(const kb_base *base, const kb_topic_entry *topic,
                           const kb_partition_entry *partition, int64_t log_start);

/* Whether prune has marked it, or has been through with it already. */
kb_code kb_base_is_leaving(kb_storage *storage, const char *backup_id, bool *ret_leaving,
                           kb_error *err) KB_CHECK;

#endif

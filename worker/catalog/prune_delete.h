/*
 * prune_delete - the deleting half of prune: one backup, or the orphans of one (storage-format, 14).
 *
 * Order is the safety: index before segments, segments before the journal, the mark last, so that after a
 * kill readers see "pruned" and the next prune finds the rest. A dry run lists and counts the same objects.
 * Threads: one deleter belongs to one thread.
 */
#ifndef KB_WORKER_CATALOG_PRUNE_DELETE_H
#define KB_WORKER_CATALOG_PRUNE_DELETE_H

#include "common/sync/wait.h"
#include "worker/catalog/prune.h"
#include "worker/storage/storage.h"

typedef struct kb_prune_deleter {
    kb_storage *storage; /* borrowed, like all here */
    bool dry_run;
    const kb_stop *stop;       /* NULL = none */
    int64_t orphans_before_ms; /* by the store's clock */
    const uint64_t *roots;     /* ascending hashes of the keys that stay */
    size_t root_count;
    kb_prune_result *result; /* objects and counts are added to it */
} kb_prune_deleter;

typedef struct kb_prune_deleted {
    bool index_gone; /* manifest.json or backup.json was there and is not any more */
    bool all_gone;   /* the mark too */
    bool was_held;
} kb_prune_deleted;

/* Deletes a marked backup as far as no root lists its segments. *deleted (start from {0}) is filled after an
 * error too. Fails as the store does, or with KB_ERR_STOPPED. */
kb_code kb_prune_delete_backup(kb_prune_deleter *deleter, const char *backup_id, kb_prune_deleted *deleted,
                               kb_error *err) KB_CHECK;
/* Of a complete backup: unlisted segments, journal entries from 1 on and unfinished uploads that are old. */
kb_code kb_prune_delete_orphans(kb_prune_deleter *deleter, const char *backup_id, kb_error *err) KB_CHECK;

#endif

/*
 * prune_mark - B/pruned.json, the mark of a backup that is on its way out (storage-format, 14).
 *
 * Whoever sees the object treats the backup as pruned; its age is the store's time of the object. Written
 * once, deleted last. Threads: no state.
 */
#ifndef KB_WORKER_CATALOG_PRUNE_MARK_H
#define KB_WORKER_CATALOG_PRUNE_MARK_H

#include <stdbool.h>

#include "worker/storage/storage.h"

typedef struct kb_prune_mark {
    char *reason;    /* "surplus", "expired", "abandoned" */
    char *marked_by; /* who wrote it, for people */
} kb_prune_mark;
void kb_prune_mark_done(kb_prune_mark *mark);

/* Marks a backup. *ret_was_marked says that a mark was there already, whoever made it: it stands. */
kb_code kb_prune_mark_write(kb_storage *storage, const char *backup_id, const kb_prune_mark *mark,
                            bool *ret_was_marked, kb_error *err) KB_CHECK;
/* KB_ERR_NOT_FOUND; KB_BACKUP_CORRUPT when it is no mark of this backup; or as the store does. */
kb_code kb_prune_mark_read(kb_storage *storage, const char *backup_id, kb_prune_mark *ret_mark,
                           kb_error *err) KB_CHECK;

#endif

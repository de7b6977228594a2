/*
 * prune - retention and clean-up of one lineage (storage-format, 14).
 *
 * Closes abandoned backups, marks what retention lets go, and deletes what was marked longer ago than the
 * grace: manifest.json, backup.json, the segments that no root lists, and when none is left the rest, the
 * mark last. Then orphans of complete backups that are older than a week. Each step is idempotent, so a
 * killed prune is finished by the next, and two may run at once. Nothing is written or deleted before the
 * whole lineage was understood. A dry run takes the same steps with the same eyes and leaves out the writes
 * and deletes alone. All ages are by the store's clock. Threads: one prune belongs to one thread.
 */
#ifndef KB_WORKER_CATALOG_PRUNE_H
#define KB_WORKER_CATALOG_PRUNE_H

#include "common/base/clock.h"
#include "common/sync/wait.h"
#include "worker/catalog/holder.h"
#include "worker/catalog/retention.h"
#include "worker/storage/storage.h"

/* An open backup that wrote nothing for so long is given up when there is a newer complete one. */
#define KB_PRUNE_ABANDONED_MS (INT64_C(7) * 86400000)
/* Orphans, journals of complete backups and unfinished uploads of that age go. */
#define KB_PRUNE_ORPHAN_MS (INT64_C(7) * 86400000)

typedef struct kb_prune_options {
    kb_storage *storage; /* borrowed */
    const char *lineage;
    kb_retention_policy policy;
    int64_t grace_ms; /* between mark and deletion */
    bool dry_run;
    const kb_holder *holder; /* who prunes */
    const kb_clock *clock;   /* of the `close` entry; NULL = system */
    const kb_stop *stop;     /* NULL = none */
} kb_prune_options;

typedef struct kb_prune_row {
    char *backup_id;
    char *why;
} kb_prune_row;

typedef struct kb_prune_rows {
    kb_prune_row *rows;
    size_t count;
    size_t capacity;
} kb_prune_rows;

/* What was done, or in a dry run would be. Start from {0}. */
typedef struct kb_prune_result {
    kb_prune_rows kept;    /* backups that are there afterwards, and why; newest first */
    kb_prune_rows closed;  /* abandoned backups */
    kb_prune_rows marked;  /* with the reason of the mark */
    kb_prune_rows deleted; /* backups whose index, or whose last object, is gone */
    char **objects;        /* keys of all removed objects, in order */
    size_t object_count;
    size_t object_capacity;
    int64_t segments; /* of deleted backups */
    int64_t orphans;  /* segments that no backup lists, and unfinished uploads */
    int64_t reclaimed_bytes;
    int32_t held;   /* backups of which the store refused to remove an object */
    int32_t hidden; /* backups of which a removal only added a marker */
} kb_prune_result;
void kb_prune_result_done(kb_prune_result *result);

/*
 * Prunes a lineage. *result tells how far it came, after an error too. Fails with KB_CONFIG_INVALID (policy),
 * KB_BACKUP_CORRUPT (an object that cannot be understood; nothing was deleted), KB_ERR_STOPPED, or as the
 * store does.
 */
kb_code kb_prune_run(const kb_prune_options *options, kb_prune_result *result, kb_error *err) KB_CHECK;

#endif

/*
 * lineage_lock - what a run owes to the other backups of its lineage before it begins (storage-format, 8 and
 * 12).
 *
 * The lineage must be ours; a live open backup of it is waited for, a sealed one is finished, a silent one is
 * passed over. This saves work and nothing else: two backups that begin at the same moment are both whole.
 * Threads: the caller's.
 */
#ifndef KB_WORKER_BACKUP_LINEAGE_LOCK_H
#define KB_WORKER_BACKUP_LINEAGE_LOCK_H

#include "common/base/error.h"
#include "worker/backup/settings.h"

typedef struct kb_lineage_lock {
    const kb_backup_settings *settings;
    bool require_conditional_put;
    int64_t lock_wait_ms;
    /* As in kb_journal_options; may be NULL. */
    void (*on_waiting)(void *ctx, const kb_holder *holder, const char *since_rfc3339);
    void *on_waiting_ctx;
} kb_lineage_lock;

/*
 * *ret_cluster_id (owned) is the cluster that the newest complete backup is of, NULL when unknown. Fails with
 * KB_FOREIGN_BACKUP (another owner, unless settings->adopt_lineage), KB_BACKUP_LOCKED naming holder and since
 * when, KB_ERR_STOPPED, or as the store does.
 */
kb_code kb_lineage_enter(const kb_lineage_lock *lock, char **ret_cluster_id, kb_error *err) KB_CHECK;

#endif

/*
 * restore - one restore from the index of a backup to verified topics, in the order of worker.md 8.1.
 *
 * Running it again goes on where the last attempt stopped, and a finished one writes nothing. Threads: called
 * from one thread; its own threads have ended when it returns.
 */
#ifndef KB_WORKER_RESTORE_RESTORE_H
#define KB_WORKER_RESTORE_RESTORE_H

#include "common/base/error.h"
#include "worker/restore/settings.h"

/* What came of it, for the command's output. Texts are owned. */
typedef struct kb_restore_summary {
    char *restore_id;
    char *backup_id;
    bool dry_run;
    uint32_t attempt; /* 0: the store cannot be written, there is no fence */
    int64_t topics;
    int64_t partitions;
    int64_t records; /* on the target, earlier attempts included */
    int64_t resumed; /* of these, found there */
} kb_restore_summary;

void kb_restore_summary_done(kb_restore_summary *summary);

/*
 * KB_OK: everything is on the target and verified (findings are in the progress), or, in a dry run, nothing
 * stands against it. Errors: the refusals of the preflight, KB_INTERRUPTED, KB_FENCED, KB_TARGET_DIVERGED and
 * those of store and brokers.
 */
kb_code kb_restore_run(const kb_restore_settings *settings, kb_restore_summary *ret_summary,
                       kb_error *err) KB_CHECK;

#endif

/*
 * validate - is a backup what it says it is?
 *
 * Always: hashes of backup.json and manifest.json, the rules for keys, every listed object present with its
 * size, segments and gaps covering each partition, the group snapshot's hash, orphans counted. Deep: every
 * byte of every segment, or of a sample. A foreign backup is judged by its manifest alone. What is wrong goes
 * into a list and the check goes on; when the index itself is damaged, the other of the two index objects
 * is used for the rest. Source: worker.md, 10. Threads: called by one.
 */
#ifndef KB_WORKER_VALIDATE_VALIDATE_H
#define KB_WORKER_VALIDATE_VALIDATE_H

#include "common/base/clock.h"
#include "common/sync/wait.h"
#include "worker/catalog/catalog.h"
#include "worker/report/progress.h"
#include "worker/report/run_metrics.h"
#include "worker/storage/storage.h"
#include "worker/validate/deep_check.h"
#include "worker/validate/presence.h"
#include "worker/validate/problem_list.h"

typedef struct kb_validate_settings {
    kb_storage *storage;
    const char *backup_id;
    kb_catalog_open_options open;
    bool deep;
    kb_sample sample; /* of the deep check */
    uint32_t threads;
    uint64_t memory_bytes; /* of the process: limits.memory_bytes */
    kb_stop *stop;         /* may be NULL, as the next three */
    kb_progress *progress;
    kb_run_metrics *metrics;
    const kb_clock *clock; /* NULL = the machine's */
} kb_validate_settings;

typedef struct kb_validate_result {
    char *backup_id;
    kb_backup *backup;      /* NULL when no index could be read */
    kb_catalog_state state; /* damaged when one of the index objects is */
    bool is_deep;
    kb_sample sample;
    kb_backup_totals totals; /* zeros without a backup */
    kb_deep_counts deep;
    kb_orphans orphans;
    kb_problem_list problems; /* sorted */
    int64_t duration_ms;
} kb_validate_result;
void kb_validate_result_done(kb_validate_result *result);

/*
 * KB_OK when the check came to its end, whatever it found. Fails with KB_BACKUP_NOT_FOUND,
 * KB_BACKUP_PRUNED, KB_ERR_STOPPED, KB_MEMORY_TOO_SMALL, or as the store does. *ret_result is then empty, but
 * may be given to kb_validate_result_done in any case.
 */
kb_code kb_validate_run(const kb_validate_settings *settings, kb_validate_result *ret_result,
                        kb_error *err) KB_CHECK;

/* No problem was found. */
bool kb_validate_is_valid(const kb_validate_result *result);

#endif

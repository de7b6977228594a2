/*
 * retention_run - prune as part of a run: by the configuration, into report and metrics.
 *
 * Shared by the command prune and by backup, where a failure of prune never fails the backup. Threads: the
 * main thread.
 */
#ifndef KB_WORKER_CMD_RETENTION_RUN_H
#define KB_WORKER_CMD_RETENTION_RUN_H

#include "worker/catalog/prune.h"
#include "worker/cmd/run_context.h"

/* Prunes a lineage by the `retention` of the configuration; held, hidden, pruned, reclaimedBytes and the
 * metrics of the run count it. *result (start from {0}) is filled after an error too. */
kb_code kb_retention_prune(kb_run_context *run, kb_storage *storage, const char *lineage, bool dry_run,
                           kb_prune_result *result, kb_error *err) KB_CHECK;
/* The report's catalog, retained, earliestTime and latestTime. What cannot be read is left out, with a
 * warning. */
void kb_retention_report(kb_run_context *run, kb_storage *storage, const char *lineage);
/*
 * After a complete backup of a lineage: prunes when `retention` is configured, then reports. A failure of
 * prune is a warning and pruneError. lineage NULL: nothing to do.
 */
void kb_retention_after_backup(kb_run_context *run, kb_storage *storage, const char *lineage);

#endif

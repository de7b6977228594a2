/*
 * backup - one run of the command `backup`, from the journal to the published manifest (worker.md 7).
 *
 * Finds out whether the backup is new, open, sealed or complete; plans or takes over and adopts; reads;
 * seals. Threads: called from one thread; starts its own and joins them.
 */
#ifndef KB_WORKER_BACKUP_BACKUP_H
#define KB_WORKER_BACKUP_BACKUP_H

#include "common/base/error.h"
#include "worker/backup/settings.h"

/*
 * KB_OK: the backup is complete; *ret_backup (owned) is what was published, its findings say whether
 * something was left out. All other ends are codes with a reason; running again continues where the code is
 * 75, 130 or 143.
 */
kb_code kb_backup_run(const kb_backup_settings *settings, kb_backup **ret_backup, kb_error *err) KB_CHECK;

#endif

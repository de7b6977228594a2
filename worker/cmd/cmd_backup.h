/* cmd_backup - the command `backup`: configuration in, one backup, its summary on standard output. Main
 * thread. */
#ifndef KB_WORKER_CMD_CMD_BACKUP_H
#define KB_WORKER_CMD_CMD_BACKUP_H

#include "worker/cmd/run_context.h"

kb_code kb_cmd_backup(kb_run_context *run, kb_error *err) KB_CHECK;

#endif

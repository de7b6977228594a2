/* cmd_restore - the command `restore`: configuration in, one restore, its summary on standard output. Main
 * thread. */
#ifndef KB_WORKER_CMD_CMD_RESTORE_H
#define KB_WORKER_CMD_CMD_RESTORE_H

#include "worker/cmd/run_context.h"

kb_code kb_cmd_restore(kb_run_context *run, kb_error *err) KB_CHECK;

#endif

/* cmd_offset_rollback - the command offset-rollback: puts saved offsets back (worker.md 9). Main thread. */
#ifndef KB_WORKER_CMD_CMD_OFFSET_ROLLBACK_H
#define KB_WORKER_CMD_CMD_OFFSET_ROLLBACK_H

#include "worker/cmd/run_context.h"

kb_code kb_cmd_offset_rollback(kb_run_context *run, kb_error *err) KB_CHECK;

#endif

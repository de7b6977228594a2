/* cmd_offset_reset - the command offset-reset: moves committed offsets of groups (worker.md 9). Main thread.
 */
#ifndef KB_WORKER_CMD_CMD_OFFSET_RESET_H
#define KB_WORKER_CMD_CMD_OFFSET_RESET_H

#include "worker/cmd/run_context.h"

kb_code kb_cmd_offset_reset(kb_run_context *run, kb_error *err) KB_CHECK;

#endif

/* cmd_offset_verify - the command offset-verify: compares saved offsets with the present ones (worker.md 9).
 * Main thread. */
#ifndef KB_WORKER_CMD_CMD_OFFSET_VERIFY_H
#define KB_WORKER_CMD_CMD_OFFSET_VERIFY_H

#include "worker/cmd/run_context.h"

kb_code kb_cmd_offset_verify(kb_run_context *run, kb_error *err) KB_CHECK;

#endif

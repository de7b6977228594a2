/* cmd_offset_snapshot - the command offset-snapshot: saves committed offsets of groups (worker.md 9). Main
 * thread. */
#ifndef KB_WORKER_CMD_CMD_OFFSET_SNAPSHOT_H
#define KB_WORKER_CMD_CMD_OFFSET_SNAPSHOT_H

#include "worker/cmd/run_context.h"

kb_code kb_cmd_offset_snapshot(kb_run_context *run, kb_error *err) KB_CHECK;

#endif

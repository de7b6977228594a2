/* cmd_offset_delete - the command offset-delete: removes a snapshot; needs no Kafka (worker.md 9). Main
 * thread. */
#ifndef KB_WORKER_CMD_CMD_OFFSET_DELETE_H
#define KB_WORKER_CMD_CMD_OFFSET_DELETE_H

#include "worker/cmd/run_context.h"

kb_code kb_cmd_offset_delete(kb_run_context *run, kb_error *err) KB_CHECK;

#endif

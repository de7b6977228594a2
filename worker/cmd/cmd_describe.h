/* cmd_describe - the command `describe`: one backup in full. Main thread. */
#ifndef KB_WORKER_CMD_CMD_DESCRIBE_H
#define KB_WORKER_CMD_CMD_DESCRIBE_H

#include "worker/catalog/catalog.h"
#include "worker/cmd/run_context.h"

/* -f json: the stored backup.json (manifest.json of a foreign backup) and a newline; else kb_describe_text.
 */
kb_code kb_cmd_describe(kb_run_context *run, kb_error *err) KB_CHECK;

/* A summary for people; KB_ERR_FORMAT when the sums overflow. */
kb_code kb_describe_text(const kb_backup *backup, kb_catalog_state state, kb_strbuf *out,
                         kb_error *err) KB_CHECK;

#endif

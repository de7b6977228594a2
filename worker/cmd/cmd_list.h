/* cmd_list - the command `list`: all backups of a store, newest first. Main thread. */
#ifndef KB_WORKER_CMD_CMD_LIST_H
#define KB_WORKER_CMD_CMD_LIST_H

#include "worker/catalog/catalog.h"
#include "worker/cmd/run_context.h"

kb_code kb_cmd_list(kb_run_context *run, kb_error *err) KB_CHECK;

/* The two forms of the result. No rows: nothing, and []. */
void kb_list_text(const kb_catalog_rows *rows, kb_strbuf *out);
kb_code kb_list_json(const kb_catalog_rows *rows, kb_strbuf *out, kb_error *err) KB_CHECK;

#endif

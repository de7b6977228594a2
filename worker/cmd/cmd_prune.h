/*
 * cmd_prune - the command `prune`: retention and clean-up of a lineage (worker.md 10).
 */
#ifndef KB_WORKER_CMD_CMD_PRUNE_H
#define KB_WORKER_CMD_CMD_PRUNE_H

#include "worker/catalog/prune.h"
#include "worker/cmd/run_context.h"

kb_code kb_cmd_prune(kb_run_context *run, kb_error *err) KB_CHECK;

/* The forms of the result on standard output. */
void kb_prune_text(const kb_prune_result *result, bool dry_run, kb_strbuf *out);
kb_code kb_prune_json(const kb_prune_result *result, bool dry_run, kb_strbuf *out, kb_error *err) KB_CHECK;

#endif

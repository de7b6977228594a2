/* cmd_validate - the command `validate`: checks one backup and prints what is wrong. Main thread. */
#ifndef KB_WORKER_CMD_CMD_VALIDATE_H
#define KB_WORKER_CMD_CMD_VALIDATE_H

#include "worker/cmd/run_context.h"
#include "worker/validate/validate.h"

/*
 * Prints the result and succeeds when the backup is valid; gaps, skipped topics and the findings of the
 * backup are then findings of this run. KB_BACKUP_CORRUPT when it is not.
 */
kb_code kb_cmd_validate(kb_run_context *run, kb_error *err) KB_CHECK;

/* The two forms of the result. */
kb_code kb_validate_text(const kb_validate_result *result, kb_strbuf *out, kb_error *err) KB_CHECK;
kb_code kb_validate_json(const kb_validate_result *result, kb_strbuf *out, kb_error *err) KB_CHECK;
/* Adds what was left out of a valid backup as findings. */
void kb_validate_report(const kb_validate_result *result, kb_progress *progress);

#endif

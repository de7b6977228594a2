/*
 * checks - the findings of a preflight: all of them are listed before any of them ends the run.
 *
 * A refusal carries the code that the run ends with; the first refusal decides it. Threads: one at a time.
 */
#ifndef KB_WORKER_RESTORE_CHECKS_H
#define KB_WORKER_RESTORE_CHECKS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"
#include "worker/report/progress.h"

typedef struct kb_check_row {
    const char *check; /* static */
    kb_code code;      /* KB_OK: a warning */
    char *text;        /* owned */
} kb_check_row;

typedef struct kb_checks {
    kb_check_row *rows;
    size_t count;
    size_t capacity;
    size_t refused;
} kb_checks;

void kb_checks_done(kb_checks *checks);
/* check is static text, the name of the check in the report. */
void kb_checks_warn(kb_checks *checks, const char *check, const char *fmt, ...) KB_PRINTF(3, 4);
void kb_checks_refuse(kb_checks *checks, kb_code code, const char *check, const char *fmt, ...)
    KB_PRINTF(4, 5);
/* Adds what a failed call said as a refusal with the error's code. */
void kb_checks_refuse_error(kb_checks *checks, const char *check, const kb_error *err);
/*
 * Logs all rows and puts them into the report, refusals first. With a refusal fails with the code of the
 * first and the texts of all.
 */
kb_code kb_checks_end(const kb_checks *checks, kb_progress *progress, kb_error *err) KB_CHECK;

#endif

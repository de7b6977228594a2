/*
 * report_file - the report as the container's termination message.
 *
 * The file is a mount that Kubernetes made, so it is rewritten in place, in one write that is valid JSON at
 * each moment. It is never the reason why a run ends otherwise: whatever fails becomes one warning.
 * Threads: one at a time.
 */
#ifndef KB_WORKER_REPORT_REPORT_FILE_H
#define KB_WORKER_REPORT_REPORT_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"

typedef struct kb_report_file kb_report_file;

/* path: termination_log of kb_run_env; copied. NULL: every write does nothing. */
kb_report_file *kb_report_file_new(const char *path) __attribute__((returns_nonnull));
void kb_report_file_free(kb_report_file *owned_file);
/* Replaces the content. A failure is logged as a warning the first time. False when it failed. */
bool kb_report_file_write(kb_report_file *file, const char *text, size_t len);

#endif

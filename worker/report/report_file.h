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

#define KB_TERMINATION_LOG_DEFAULT "/dev/termination-log"

typedef struct kb_report_file kb_report_file;

/*
 * Where the report goes: termination_log (KB_TERMINATION_LOG) when not empty, else the default when job_name
 * (KB_JOB_NAME) is not empty, else NULL. Borrowed from the arguments or static. Either may be NULL.
 */
const char *kb_report_file_path(const char *termination_log, const char *job_name);

/* path NULL: every write does nothing. The path is copied. */
kb_report_file *kb_report_file_new(const char *path) __attribute__((returns_nonnull));
void kb_report_file_free(kb_report_file *owned_file);
/* Replaces the content. A failure is logged as a warning the first time. False when it failed. */
bool kb_report_file_write(kb_report_file *file, const char *text, size_t len);

#endif

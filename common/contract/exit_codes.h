/*
 * exit_codes - how a run ends: exit codes, reasons and findings (worker.md, section 2).
 *
 * A reason is the CamelCase word of a final kb_code. Codes that are internal between modules should be given
 * a meaning before a run ends; those that slip through end it as the table in exit_codes.c says. Threads:
 * pure.
 */
#ifndef KB_COMMON_CONTRACT_EXIT_CODES_H
#define KB_COMMON_CONTRACT_EXIT_CODES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"

#define KB_EXIT_OK 0
#define KB_EXIT_FINDINGS 3
#define KB_EXIT_USAGE 64
#define KB_EXIT_DATA 65
#define KB_EXIT_TEMPORARY 75
#define KB_EXIT_ACCESS 77
#define KB_EXIT_CONFIG 78
#define KB_EXIT_SIGINT 130
#define KB_EXIT_SIGTERM 143

/* The exit code for a code. signal_number is used for KB_INTERRUPTED and KB_ERR_STOPPED: 130 for SIGINT, else
 * 143. */
int kb_exit_code(kb_code code, int signal_number);
/* The reason ("BackupCorrupt"), of internal codes that of the exit code; "" for KB_OK. Static. */
const char *kb_exit_reason(kb_code code);
/* The final code with this reason; false when there is none. */
bool kb_exit_reason_parse(const char *reason, kb_code *ret_code) KB_CHECK;

/* What a run can be done with, in the order in which the first one becomes the reason. */
typedef enum kb_finding {
    KB_FINDING_RETENTION_GAP,
    KB_FINDING_DISCONTINUITY,
    KB_FINDING_TOPICS_SKIPPED,
    KB_FINDING_GROUPS_INCOMPLETE,
    KB_FINDING_TIMESTAMP_CHANGED,
    KB_FINDING_DIFFERENCES_FOUND,
    KB_FINDING_SNAPSHOT_ABSENT,
    KB_FINDING_RETENTION_HELD,
    KB_FINDING_COUNT
} kb_finding;

/* "RetentionGap" and so on. Static. */
const char *kb_finding_name(kb_finding finding);
bool kb_finding_parse(const char *name, kb_finding *ret_finding) KB_CHECK;

#endif

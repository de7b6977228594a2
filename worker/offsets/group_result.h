/*
 * group_result - what became of each group of a command, and what that means for the run (worker.md 9).
 *
 * One failed group makes the command fail: 75 if running again can help one of them, else with their common
 * reason, or GroupsFailed. Threads: one at a time.
 */
#ifndef KB_WORKER_OFFSETS_GROUP_RESULT_H
#define KB_WORKER_OFFSETS_GROUP_RESULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/kafka/kafka_group_set.h"
#include "worker/report/progress.h"
#include "worker/report/run_metrics.h"

typedef struct kb_group_result {
    char *group; /* owned, as message */
    kb_code code;
    char *message;   /* NULL = none */
    int32_t changed; /* partitions whose offset was committed or removed by this run */
    int32_t planned; /* partitions that are to be changed */
    bool is_done;
} kb_group_result;

typedef struct kb_group_results {
    kb_group_result *items; /* in the order in which they were added */
    size_t count;
    size_t capacity;
    size_t last; /* where the next search begins */
} kb_group_results;

void kb_group_results_done(kb_group_results *results);
/* The result of a group, added when absent; valid until the next add. */
kb_group_result *kb_group_results_of(kb_group_results *results, const char *group)
    __attribute__((returns_nonnull));
/* The first failure of a group stays. */
void kb_group_result_fail(kb_group_result *result, kb_code code, const char *fmt, ...) KB_PRINTF(3, 4);
/* What an error number of Kafka means for a group. */
kb_code kb_group_error_code(int error_number);
/* Takes the errors of an entry and its places over. */
void kb_group_result_take(kb_group_result *result, const kb_group_entry *entry, const char *doing);
bool kb_group_result_is_ok(const kb_group_results *results, const char *group);
size_t kb_group_results_failed(const kb_group_results *results);
/* Puts rows and counts into the report, and what was changed into the metrics (may be NULL). */
void kb_group_results_tell(const kb_group_results *results, bool dry_run, kb_progress *progress,
                           kb_run_metrics *metrics);
/* The end of the command: KB_OK when no group failed. */
kb_code kb_group_results_end(const kb_group_results *results, kb_error *err) KB_CHECK;

#endif

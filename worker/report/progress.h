/*
 * progress - the live model of a run, from which every report is made.
 *
 * Pipelines count what is done (lock-free), control code sets states and facts; kb_progress_snapshot turns it
 * all into a kb_run_report at any moment. Percent never falls and is 100 only after a final state that means
 * done. A final state is kept: later states and counts change nothing in it. Every count is news: it moves
 * lastProgressTime and the idle time that no_progress_secs is measured by.
 * Threads: all functions from any thread.
 */
#ifndef KB_WORKER_REPORT_PROGRESS_H
#define KB_WORKER_REPORT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/contract/exit_codes.h"
#include "common/contract/run_report.h"

/* Rates are taken over this window. */
#define KB_PROGRESS_WINDOW_MS 30000

typedef struct kb_progress kb_progress;

typedef struct kb_progress_options {
    const char *operation; /* the command; texts are copied, NULL = leave out */
    const char *worker_version;
    const char *job_name;
    const char *job_uid;
    const char *pod_name;
    const kb_clock *clock; /* NULL = the machine's; borrowed */
} kb_progress_options;

/* State Starting, attempt 1, startTime now. */
kb_progress *kb_progress_new(const kb_progress_options *options) __attribute__((returns_nonnull));
void kb_progress_free(kb_progress *owned_progress);

/*
 * For a run that does one thing after the other (backup.continuous): counts, findings, gaps and what they are
 * measured by begin anew, ids, times and the catalog stay. State Preflight. Not after a final state.
 */
void kb_progress_begin_cycle(kb_progress *progress);

/* Moves to a state that is not final; wakes the reporter when it is a new one. Not after a final state. */
void kb_progress_set_state(kb_progress *progress, kb_run_state state);
kb_run_state kb_progress_state(kb_progress *progress);
/*
 * The end: final state, exit code, reason (of exit_codes.h, NULL = none) and message (NULL = none). Called
 * once, when the exit code is fixed; a second call changes nothing.
 */
void kb_progress_finish(kb_progress *progress, kb_run_state final_state, int exit_code, const char *reason,
                        const char *message);

/*
 * Facts of the report by field of run_report.h: ids, hashes, totals, flags, times. Fields that the model
 * keeps itself (state, percent, rates, the counters below, gaps, skipped topics, findings) are not set here.
 */
void kb_progress_set_text(kb_progress *progress, kb_report_field field, const char *text);
void kb_progress_set_number(kb_progress *progress, kb_report_field field, int64_t number);
void kb_progress_set_flag(kb_progress *progress, kb_report_field field, bool flag);
void kb_progress_set_time(kb_progress *progress, kb_report_field field, int64_t unix_ms);
void kb_progress_unset(kb_progress *progress, kb_report_field field);

/*
 * The work that percent and eta are measured by, in any one unit (backup: offsets up to the cut, restore:
 * records of the plan). A larger total later lowers the share but never the percent already shown.
 */
void kb_progress_set_work(kb_progress *progress, int64_t total);
void kb_progress_add_work(kb_progress *progress, int64_t done);
/* Work that was there already (reused segments, resumed records): done, but not part of any rate. */
void kb_progress_add_work_found(kb_progress *progress, int64_t done);

/* Counters of the report; call them per batch rather than per record. */
void kb_progress_add_records(kb_progress *progress, int64_t records, int64_t bytes);
/* The same for what was there already: counted, but not part of the rates. */
void kb_progress_add_found(kb_progress *progress, int64_t records, int64_t bytes);
void kb_progress_add_segment(kb_progress *progress);
void kb_progress_add_new_bytes(kb_progress *progress, int64_t bytes);
void kb_progress_add_raw_bytes(kb_progress *progress, int64_t bytes);
void kb_progress_add_resumed(kb_progress *progress, int64_t records);
void kb_progress_add_filtered(kb_progress *progress, int64_t records);
void kb_progress_add_discontinuity(kb_progress *progress);
/* Totals of the run; partitionsDone shows from then on. */
void kb_progress_set_totals(kb_progress *progress, int32_t topics, int32_t partitions);
void kb_progress_partition_done(kb_progress *progress);

/* A sign of life that counts nothing: a throttle notice, a heartbeat that found the store. */
void kb_progress_touch(kb_progress *progress);
/* Milliseconds (boot clock) since the last count or touch. */
int64_t kb_progress_idle_ms(kb_progress *progress);
/* Wall time of the last count or touch. */
int64_t kb_progress_last_ms(kb_progress *progress);

/* What the run waits for, shown as waitingFor; NULL = nothing. printf-like. */
void kb_progress_set_waiting(kb_progress *progress, const char *fmt, ...) KB_PRINTF(2, 3);

/* Offsets [start, end) of a partition are missing from the backup. Add the finding beside it. */
void kb_progress_add_gap(kb_progress *progress, const char *topic, int32_t partition, int64_t start,
                         int64_t end);
/* A topic was left out. Add the finding beside it. */
void kb_progress_skip_topic(kb_progress *progress, const char *topic);
/* A topic of the target whose configs are still held. */
void kb_progress_add_held_topic(kb_progress *progress, const char *topic);
void kb_progress_clear_held_topics(kb_progress *progress);
/* One row of the report's `catalog`; row's texts are copied. */
void kb_progress_add_catalog(kb_progress *progress, const kb_report_catalog_row *row);
/* Empties `catalog`. */
void kb_progress_clear_catalog(kb_progress *progress);
/* One row of the report's `topics`. */
void kb_progress_add_topic(kb_progress *progress, const char *topic, int64_t records);
/* One row of `groups`; status is success, failure, skipped or planned; message may be NULL. */
void kb_progress_add_group(kb_progress *progress, const char *group, const char *status,
                           int32_t partitions_reset, const char *message);
/* One row of `differences`. */
void kb_progress_add_difference(kb_progress *progress, const char *group, const char *topic,
                                int32_t partition, int64_t expected, int64_t actual);

/*
 * A finding of section 2 (result `found`). topic NULL = of the run, partition < 0 = of the topic; the detail
 * becomes "topic/partition: text". The first per reason is kept in the report's rows, further ones are
 * counted into that row's detail; kb_progress_has_findings and kb_progress_first_finding see them all.
 */
void kb_progress_add_finding(kb_progress *progress, kb_finding finding, const char *topic, int32_t partition,
                             const char *fmt, ...) KB_PRINTF(5, 6);
/* A finding of a preflight check; result is "refuse" or "warn". */
void kb_progress_add_check(kb_progress *progress, const char *check, const char *result, const char *fmt, ...)
    KB_PRINTF(4, 5);
bool kb_progress_has_findings(kb_progress *progress);
/* The first in the order of section 2. False when there is none. */
bool kb_progress_first_finding(kb_progress *progress, kb_finding *ret_finding);

/* Totals for the exit code, logs and tests. */
typedef struct kb_progress_counts {
    int64_t records;
    int64_t bytes;
    int64_t segments;
    int64_t partitions_done;
    int64_t gaps;
    int64_t gap_offsets;
    int64_t skipped_topics;
    int64_t discontinuities;
    int64_t work_done;
    int64_t work_total;
    int64_t records_per_second;
    int64_t bytes_per_second;
    int64_t eta_seconds; /* -1 = unknown */
    int32_t percent;
} kb_progress_counts;
void kb_progress_read(kb_progress *progress, kb_progress_counts *ret_counts);

/* Takes a sample for the rates; the reporter does so once per second. */
void kb_progress_sample(kb_progress *progress);
/* Fills an initialised report (old content is freed) with the state of this moment. */
void kb_progress_snapshot(kb_progress *progress, kb_run_report *report);

/* Number of changes of state so far. */
uint64_t kb_progress_changes(kb_progress *progress);
/* Waits until kb_progress_changes differs from seen, timeout_ms passed or somebody wakes it; one waiter. */
uint64_t kb_progress_wait_change(kb_progress *progress, uint64_t seen, int64_t timeout_ms);
/* Ends the present or else the next kb_progress_wait_change without a change of state. */
void kb_progress_wake(kb_progress *progress);

#endif

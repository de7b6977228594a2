/*
 * deep_check - reads segments whole and compares them with everything the backup says of them.
 *
 * Several threads, each with one reader and an equal share of the memory; a segment whose records need more
 * than a share is read at the end, alone, with all of it. A segment that is wrong is a problem and the check
 * goes on; a store that cannot be reached ends it. Threads: called by one, makes its own.
 */
#ifndef KB_WORKER_VALIDATE_DEEP_CHECK_H
#define KB_WORKER_VALIDATE_DEEP_CHECK_H

#include "common/sync/wait.h"
#include "worker/report/progress.h"
#include "worker/report/run_metrics.h"
#include "worker/storage/storage.h"
#include "worker/validate/object_table.h"
#include "worker/validate/problem_list.h"

/* The n-th of t parts by the hash of the key; parts 0 = all. */
typedef struct kb_sample {
    uint32_t index; /* 1 ... parts */
    uint32_t parts;
} kb_sample;

bool kb_sample_has(kb_sample sample, const char *key);

typedef struct kb_deep_options {
    kb_storage *storage;
    kb_sample sample;
    uint32_t threads;      /* at most; fewer when memory is short */
    uint64_t memory_bytes; /* for all threads together */
    kb_stop *stop;         /* may be NULL, as the next two */
    kb_progress *progress;
    kb_run_metrics *metrics;
} kb_deep_options;

typedef struct kb_deep_counts {
    int64_t segments; /* read, good or bad */
    int64_t records;  /* of the good ones */
    int64_t bytes;
} kb_deep_counts;

/*
 * Reads the objects that are present and in the sample; those found wrong become bad. Fails as the store
 * does, with KB_ERR_STOPPED, KB_MEMORY_TOO_SMALL (a record beyond memory_bytes) or KB_TEMPORARY_FAILURE.
 */
kb_code kb_deep_check(const kb_deep_options *options, kb_object_table *table, kb_problem_list *problems,
                      kb_deep_counts *ret_counts, kb_error *err) KB_CHECK;

#endif

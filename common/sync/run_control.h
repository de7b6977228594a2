/*
 * run_control - how the threads of one run end together: by the user's signal, by the first error that
 * concerns the whole run, or by being done.
 *
 * An error of one partition is kept aside: the other partitions finish, then the run ends with it. Threads:
 * any.
 */
#ifndef KB_COMMON_SYNC_RUN_CONTROL_H
#define KB_COMMON_SYNC_RUN_CONTROL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/base/error.h"
#include "common/sync/wait.h"

typedef struct kb_run_control {
    kb_stop *stop; /* borrowed */
    atomic_bool cancelled;
    pthread_mutex_t mutex;
    struct {
        kb_error run;       /* the first that ended the run */
        kb_error partition; /* the first that ended a partition */
    } locked;
} kb_run_control;

void kb_run_control_init(kb_run_control *control, kb_stop *stop);
void kb_run_control_done(kb_run_control *control);

/* Ends the run with *err, whose content is moved away; only the first counts. */
void kb_run_fail(kb_run_control *control, kb_error *err);
/* Notes that a partition failed for good; the content of *err is moved away, only the first counts. */
void kb_run_fail_partition(kb_run_control *control, kb_error *err);
/* True when the run was ended by kb_run_fail. */
static inline bool kb_run_is_cancelled(const kb_run_control *control)
{
    return atomic_load_explicit(&control->cancelled, memory_order_relaxed);
}
/* True when no more is to be read: cancelled, or the user asked to stop. */
static inline bool kb_run_is_ending(const kb_run_control *control)
{
    return kb_run_is_cancelled(control) || kb_stop_requested(control->stop);
}
/* The error to end with: the run's, else the partition's, else KB_OK. Moves it into *err. */
kb_code kb_run_take_error(kb_run_control *control, kb_error *err) KB_CHECK;

#endif

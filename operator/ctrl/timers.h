/*
 * timers - one alarm for each key, on the boot clock.
 *
 * Setting a key again keeps the earlier of the two moments: an alarm too many costs one pass, and that pass
 * sets the next one. A thread waits for the next moment and hands due keys to `fire`. Threads: any; fire runs
 * in the thread of the timers and must not block.
 */
#ifndef KB_OPERATOR_CTRL_TIMERS_H
#define KB_OPERATOR_CTRL_TIMERS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/error.h"

typedef struct kb_timers kb_timers;

typedef struct kb_timers_options {
    void (*fire)(void *ctx, const char *key); /* may set timers */
    void (*beat)(void *ctx);                  /* called at least once in 10 s; NULL: none */
    void *ctx;
    const kb_clock *clock; /* NULL: the system's; borrowed */
} kb_timers_options;

/* Without a thread: kb_timers_run_due does the work, which is what tests want. */
kb_timers *kb_timers_new(const kb_timers_options *options) __attribute__((returns_nonnull));
/* Starts the thread. */
kb_code kb_timers_start(kb_timers *timers, kb_error *err) KB_CHECK;
/* Ends the thread if there is one, and frees; what was set is forgotten. */
void kb_timers_free(kb_timers *owned_timers);

/* Fires `key` in delay_ms (negative counts as 0), unless it is set for earlier. */
void kb_timers_set(kb_timers *timers, const char *key, int64_t delay_ms);
void kb_timers_cancel(kb_timers *timers, const char *key);
/* Fires all that are due; milliseconds until the next, -1 when there is none. */
int64_t kb_timers_run_due(kb_timers *timers);
size_t kb_timers_count(kb_timers *timers);

#endif

/*
 * wait - the stop token and back-off with full jitter.
 *
 * One kb_stop is made in main and handed to whoever waits; it is set by a signal handler or by a part that
 * ends the run, and never unset. Waiting costs no polling. Threads: kb_stop any thread and, for kb_stop_set,
 * any signal handler; a kb_backoff belongs to one thread.
 */
#ifndef KB_COMMON_SYNC_WAIT_H
#define KB_COMMON_SYNC_WAIT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"

typedef struct kb_stop kb_stop;

/* Fails with KB_TEMPORARY_FAILURE when there are no descriptors left. */
kb_code kb_stop_new(kb_stop **ret_stop, kb_error *err) KB_CHECK;
/* Signals that kb_stop_on_signals routed to this token are ignored from now on. */
void kb_stop_free(kb_stop *owned_stop);
/* For a cleanup attribute: frees *at. */
void kb_stop_free_at(kb_stop **at);

/* Sets the token, async-signal-safe; reason is the signal's number or 0. Counts how often. */
void kb_stop_set(kb_stop *stop, int reason);
bool kb_stop_requested(const kb_stop *stop);
/* How often kb_stop_set was called: the second signal may mean "at once". */
unsigned kb_stop_count(const kb_stop *stop);
/* The reason of the first kb_stop_set (SIGINT, SIGTERM, ...), 0 when none. */
int kb_stop_reason(const kb_stop *stop);
/* Waits up to ms (negative: for ever). True when the token is set, at once when it already is. */
bool kb_stop_wait(kb_stop *stop, int64_t ms);
/* A descriptor that polls readable once the token is set; never read from it. Borrowed. */
int kb_stop_fd(const kb_stop *stop);
/* Routes SIGINT and SIGTERM to the token and ignores SIGPIPE; once, in main. */
kb_code kb_stop_on_signals(kb_stop *stop, kb_error *err) KB_CHECK;

/* A source of random numbers to inject: uniform over uint64. */
typedef uint64_t (*kb_random_fn)(void *ctx);
/* The machine's; ctx is not used. */
uint64_t kb_random_system(void *ctx);

/* Waiting times: uniform in [0, min(cap_ms, base_ms * 2^attempt)]. */
typedef struct kb_backoff {
    int64_t base_ms;
    int64_t cap_ms;
    unsigned attempt; /* calls of kb_backoff_next since the start or the last reset */
    kb_random_fn random;
    void *random_ctx;
} kb_backoff;

/* base_ms > 0, cap_ms >= base_ms; random NULL means kb_random_system. */
void kb_backoff_init(kb_backoff *backoff, int64_t base_ms, int64_t cap_ms, kb_random_fn random,
                     void *random_ctx);
/* How long to wait before the next attempt, in milliseconds. */
int64_t kb_backoff_next(kb_backoff *backoff);
/* After a success: the next wait starts small again. */
void kb_backoff_reset(kb_backoff *backoff);
/* Waits kb_backoff_next; true when the token stopped it. */
bool kb_backoff_wait(kb_backoff *backoff, kb_stop *stop);

#endif

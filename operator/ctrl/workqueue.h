/*
 * workqueue - the keys that wait for a reconcile thread, each at most once and never with two threads.
 *
 * A key ("kind/namespace/name") that is added while it waits is one entry; added while in work it is marked
 * dirty and comes back when that work is done. A failed key gets a back-off of its own (base * 2^n, capped at
 * 1000 s, reset by forget), and retries of all keys share a bucket (10/s, burst 100). The queue does not
 * sleep for a back-off: it tells how long, and timers add the key again. Threads: any.
 */
#ifndef KB_OPERATOR_CTRL_WORKQUEUE_H
#define KB_OPERATOR_CTRL_WORKQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/clock.h"

#define KB_WORKQUEUE_BASE_MS 5
#define KB_WORKQUEUE_CAP_MS 1000000

typedef struct kb_workqueue kb_workqueue;

typedef struct kb_workqueue_counts {
    size_t depth; /* keys waiting */
    size_t in_work;
    uint64_t added;   /* keys that were put in line */
    uint64_t retried; /* calls of kb_workqueue_retry_ms */
} kb_workqueue_counts;

/* clock NULL: the system's; borrowed. */
kb_workqueue *kb_workqueue_new(const kb_clock *clock) __attribute__((returns_nonnull));
/* No thread may use it any more. */
void kb_workqueue_free(kb_workqueue *owned_queue);

/* After kb_workqueue_close it does nothing. */
void kb_workqueue_add(kb_workqueue *queue, const char *key);
/* Waits at most timeout_ms. A key (owned by the caller, to be given back by done), or NULL: nothing came or
 * the queue is closed. */
char *kb_workqueue_take(kb_workqueue *queue, int64_t timeout_ms);
/* The work on a key has ended; if it is dirty it waits again. */
void kb_workqueue_done(kb_workqueue *queue, char *owned_key);

/*
 * A pass failed: milliseconds until the key is due again, counted as one more failure. base_ms:
 * KB_WORKQUEUE_BASE_MS, or larger for classes that ask for patience.
 */
int64_t kb_workqueue_retry_ms(kb_workqueue *queue, const char *key, int64_t base_ms);
/* A pass succeeded, or the object is gone. */
void kb_workqueue_forget(kb_workqueue *queue, const char *key);
/* Failures of a key in a row. */
unsigned kb_workqueue_failures(kb_workqueue *queue, const char *key);

/* Ends all waiting; keys that wait are dropped: the next start finds them again. */
void kb_workqueue_close(kb_workqueue *queue);
bool kb_workqueue_is_closed(kb_workqueue *queue);
/* Waits until no key is in work, at most timeout_ms. True when none is. */
bool kb_workqueue_wait_idle(kb_workqueue *queue, int64_t timeout_ms);
kb_workqueue_counts kb_workqueue_count(kb_workqueue *queue);

#endif

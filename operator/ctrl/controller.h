/*
 * controller - N threads that take keys, call the reconciler of their kind, and decide when a key comes back.
 *
 * After a success the key comes back when the reconciler asked for it; after a failure by the class of the
 * fault (operator.md section 2): conflicts at once for the first three, then like the rest; denied from 5 s;
 * invalid from 60 s; server faults with jitter; all by doubling, and within the retry bucket of the queue.
 * Every key that exists is also looked at every resync_ms, at a moment of the interval that its hash fixes.
 * A failed pass is logged here, once, with controller, namespace and name. Threads: register kinds before
 * start; the rest from any thread.
 */
#ifndef KB_OPERATOR_CTRL_CONTROLLER_H
#define KB_OPERATOR_CTRL_CONTROLLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/sync/wait.h"
#include "operator/ctrl/watchdog.h"
#include "operator/kube/kube_metrics.h"
#include "operator/kube/kube_types.h"

#define KB_CONTROLLER_RESYNC_MS 600000

typedef struct kb_controller kb_controller;

/* What a pass wants; the controller zeroes it before (requeue_ms: -1). */
typedef struct kb_reconcile_result {
    int64_t requeue_ms;  /* after a success: look again in so long; -1: when something happens */
    bool is_gone;        /* the object does not exist any more: back-off, timer and series are dropped */
    kb_kube_class fault; /* after a failure: its class (kb_kube_reply.fault) */
} kb_reconcile_result;

/* One pass over one object; several run at once, never two for the same object. */
typedef kb_code (*kb_reconcile_fn)(void *ctx, const char *name_space, const char *name,
                                   kb_reconcile_result *result, kb_error *err);

typedef struct kb_controller_options {
    size_t threads;           /* 0: 4 */
    int64_t resync_ms;        /* 0: KB_CONTROLLER_RESYNC_MS */
    kb_watchdog *watchdog;    /* NULL: none; borrowed */
    kb_kube_metrics *metrics; /* NULL: none; borrowed */
    const kb_clock *clock;    /* NULL: the system's; borrowed */
    kb_random_fn random;      /* NULL: the machine's; for the jitter */
    void *random_ctx;
} kb_controller_options;

kb_controller *kb_controller_new(const kb_controller_options *options) __attribute__((returns_nonnull));
/* kind: "KafkaBackup"; name of the controller in logs and metrics too. Copied. */
void kb_controller_add_kind(kb_controller *controller, const char *kind, kb_reconcile_fn reconcile,
                            void *ctx);
/* Starts timers and reconcile threads. Keys added before wait in the queue. */
kb_code kb_controller_start(kb_controller *controller, kb_error *err) KB_CHECK;

/* Something about this object changed. */
void kb_controller_enqueue(kb_controller *controller, const char *kind, const char *name_space,
                           const char *name);
/* The same in delay_ms, unless it is due earlier anyway. */
void kb_controller_enqueue_after(kb_controller *controller, const char *kind, const char *name_space,
                                 const char *name, int64_t delay_ms);
/* When a failed pass over this object will be repeated (wall clock ms), 0 when none is planned: for status.
 */
int64_t kb_controller_next_retry_ms(kb_controller *controller, const char *kind, const char *name_space,
                                    const char *name);

/* Takes no new keys and waits at most timeout_ms for those in work. False when some are still in work. */
bool kb_controller_stop(kb_controller *controller, int64_t timeout_ms);
/* After kb_controller_stop returned true. */
void kb_controller_free(kb_controller *owned_controller);

/* The delay before the next try: the rule above as a function of the queue's back-off; for tests. */
int64_t kb_controller_retry_base_ms(kb_kube_class fault, unsigned failures);

#endif

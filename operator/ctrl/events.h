/*
 * events - tells people what happened, as core/v1 Events beside the object.
 *
 * An Event's name is derived from the object's UID, the reason and the cause, so that a repeat patches the
 * count of the one that is there, also after a restart. A bounded queue and a thread with a limit of 5/s keep
 * Events from costing anything else: when the queue is full the oldest is dropped and counted; nothing
 * depends on an Event. Messages are cut to 1 KiB and cleaned of control characters. Threads: any.
 */
#ifndef KB_OPERATOR_CTRL_EVENTS_H
#define KB_OPERATOR_CTRL_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "operator/kube/kube_client.h"
#include "operator/kube/kube_metrics.h"

#define KB_EVENTS_QUEUE 1024
#define KB_EVENT_MESSAGE_MAX 1024

typedef struct kb_events kb_events;

typedef struct kb_events_options {
    kb_kube_client *client;   /* borrowed */
    const char *instance;     /* reportingInstance: the pod's name; copied, NULL: the host's */
    const kb_clock *clock;    /* NULL: the system's; borrowed */
    kb_kube_metrics *metrics; /* NULL: none; borrowed */
    double rate;              /* 0: 5 */
    void (*beat)(void *ctx);  /* called at least once in 10 s; NULL: none */
    void *ctx;
} kb_events_options;

/* Everything is copied. */
typedef struct kb_event {
    const kb_kube_resource *resource; /* of the object */
    const json_t *object;             /* its metadata: namespace, name, uid, resourceVersion */
    bool is_warning;
    const char *reason;  /* "BackupCompleted" */
    const char *message; /* for people */
    const char
        *cause; /* what makes two Events of one reason different (a Job's UID, a slot); NULL: nothing */
} kb_event;

kb_code kb_events_start(const kb_events_options *options, kb_events **ret_events, kb_error *err) KB_CHECK;
/* Queues one; never waits, never fails. */
void kb_events_emit(kb_events *events, const kb_event *event);
/* Sends what is queued for at most timeout_ms, then ends the thread and frees. */
void kb_events_stop(kb_events *owned_events, int64_t timeout_ms);

/* "<object's name, cut>.<16 hex digits>", a function of UID, reason and cause. Owned by the caller. */
char *kb_event_name(const char *object_name, const char *uid, const char *reason, const char *cause)
    __attribute__((returns_nonnull));

#endif

/*
 * plan - what a pass decided: effects in the order in which they are performed, and when to look again.
 *
 * Every effect is idempotent and carries what it was decided on (a UID, a resourceVersion, or a name that
 * follows from its purpose); the first one that fails ends the pass. Threads: belongs to one pass.
 */
#ifndef KB_OPERATOR_RECONCILE_PLAN_H
#define KB_OPERATOR_RECONCILE_PLAN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum kb_effect_kind {
    KB_EFFECT_CONFIG_MAP,        /* body: make the immutable ConfigMap exist */
    KB_EFFECT_ACCOUNT,           /* name: make the worker's ServiceAccount exist; body */
    KB_EFFECT_SNAPSHOT_MAP,      /* name: make the ConfigMap of offset snapshots exist; body */
    KB_EFFECT_ROLE,              /* name: make a Role exist; body */
    KB_EFFECT_BINDING,           /* name: make the RoleBinding of an account exist; body */
    KB_EFFECT_CRON_JOB,          /* body: apply */
    KB_EFFECT_SUSPEND_CRON_JOB,  /* name, uid: suspend = true */
    KB_EFFECT_DELETE_CRON_JOB,   /* name, uid */
    KB_EFFECT_CREATE_JOB,        /* body */
    KB_EFFECT_DELETE_JOB,        /* name, uid */
    KB_EFFECT_END_JOB,           /* name, uid, reason, message: activeDeadlineSeconds = 1 */
    KB_EFFECT_DELETE_CONFIG_MAP, /* name, uid */
    KB_EFFECT_LEDGER,            /* message: the annotation's value */
    KB_EFFECT_STATUS,            /* body: all of our fields of status */
    KB_EFFECT_MARK_RECORDED,     /* name, uid: annotation on a Job */
    KB_EFFECT_EVENT,             /* reason, message, is_warning, cause */
    KB_EFFECT_OBSERVE,           /* reason = outcome word, number = seconds: a finished run, for histograms */
    KB_EFFECT_FINALIZERS         /* removes those of the existing operator; names in body */
} kb_effect_kind;

typedef struct kb_effect {
    kb_effect_kind kind;
    char *name, *uid, *reason, *message, *cause; /* owned; NULL where not used */
    json_t *body;                                /* owned; NULL where not used */
    bool is_warning;
    int64_t number;
} kb_effect;

typedef struct kb_plan {
    kb_effect *effects; /* owned */
    size_t count, capacity;
    int64_t requeue_ms; /* -1: when something happens */
} kb_plan;

void kb_plan_init(kb_plan *plan);
void kb_plan_done(kb_plan *plan);
/* Looks again in so long, unless it is due earlier anyway. Negative counts as 0. */
void kb_plan_requeue(kb_plan *plan, int64_t delay_ms);
/* Adds one; texts are copied, body is taken. */
kb_effect *kb_plan_add(kb_plan *plan, kb_effect_kind kind, const char *name, const char *uid,
                       json_t *owned_body);
void kb_plan_event(kb_plan *plan, bool is_warning, const char *reason, const char *cause, const char *fmt,
                   ...) __attribute__((format(printf, 5, 6)));
/* The first effect of a kind, NULL without one. */
const kb_effect *kb_plan_find(const kb_plan *plan, kb_effect_kind kind);
/* "create-job" and so on. Static. */
const char *kb_effect_name(kb_effect_kind kind);

#endif

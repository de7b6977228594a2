#include "operator/reconcile/plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"

void kb_plan_init(kb_plan *plan)
{
    *plan = (kb_plan){.requeue_ms = -1};
}

void kb_plan_done(kb_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        kb_effect *effect = &plan->effects[i];
        free(effect->name);
        free(effect->uid);
        free(effect->reason);
        free(effect->message);
        free(effect->cause);
        json_decref(effect->body);
    }
    free(plan->effects);
    kb_plan_init(plan);
}

void kb_plan_requeue(kb_plan *plan, int64_t delay_ms)
{
    if (delay_ms < 0)
        delay_ms = 0;
    if (plan->requeue_ms < 0 || delay_ms < plan->requeue_ms)
        plan->requeue_ms = delay_ms;
}

kb_effect *kb_plan_add(kb_plan *plan, kb_effect_kind kind, const char *name, const char *uid,
                       json_t *owned_body)
{
    plan->effects = kb_grow(plan->effects, plan->count, &plan->capacity, sizeof *plan->effects);
    kb_effect *effect = &plan->effects[plan->count++];
    *effect =
        (kb_effect){.kind = kind, .name = kb_strdup_opt(name), .uid = kb_strdup_opt(uid), .body = owned_body};
    return effect;
}

void kb_plan_event(kb_plan *plan, bool is_warning, const char *reason, const char *cause, const char *fmt,
                   ...)
{
    kb_effect *effect = kb_plan_add(plan, KB_EFFECT_EVENT, NULL, NULL, NULL);
    effect->is_warning = is_warning;
    effect->reason = kb_strdup(reason);
    effect->cause = kb_strdup_opt(cause);
    va_list args;
    va_start(args, fmt);
    if (vasprintf(&effect->message, fmt, args) < 0)
        kb_out_of_memory();
    va_end(args);
}

const kb_effect *kb_plan_find(const kb_plan *plan, kb_effect_kind kind)
{
    for (size_t i = 0; i < plan->count; i++)
        if (plan->effects[i].kind == kind)
            return &plan->effects[i];
    return NULL;
}

const char *kb_effect_name(kb_effect_kind kind)
{
    static const char *const names[] = {
        [KB_EFFECT_CONFIG_MAP] = "config-map",
        [KB_EFFECT_ACCOUNT] = "account",
        [KB_EFFECT_SNAPSHOT_MAP] = "snapshot-map",
        [KB_EFFECT_ROLE] = "role",
        [KB_EFFECT_BINDING] = "binding",
        [KB_EFFECT_CRON_JOB] = "cron-job",
        [KB_EFFECT_SUSPEND_CRON_JOB] = "suspend-cron-job",
        [KB_EFFECT_DELETE_CRON_JOB] = "delete-cron-job",
        [KB_EFFECT_CREATE_JOB] = "create-job",
        [KB_EFFECT_DELETE_JOB] = "delete-job",
        [KB_EFFECT_END_JOB] = "end-job",
        [KB_EFFECT_DELETE_CONFIG_MAP] = "delete-config-map",
        [KB_EFFECT_LEDGER] = "ledger",
        [KB_EFFECT_STATUS] = "status",
        [KB_EFFECT_MARK_RECORDED] = "mark-recorded",
        [KB_EFFECT_EVENT] = "event",
        [KB_EFFECT_OBSERVE] = "observe",
        [KB_EFFECT_FINALIZERS] = "finalizers",
    };
    return names[kind];
}

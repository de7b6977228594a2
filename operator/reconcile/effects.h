/*
 * effects - carries a plan out, in its order; the first effect that fails ends it.
 *
 * Each write says what it was decided on: the resourceVersion of the CR (renewed by the replies of our own
 * writes), a UID, or a name that follows from its purpose. What the server answers goes back into the stores.
 * Failpoints: those of operator.md section 17. Threads: any; one plan at a time for one object.
 */
#ifndef KB_OPERATOR_RECONCILE_EFFECTS_H
#define KB_OPERATOR_RECONCILE_EFFECTS_H

#include "operator/reconcile/plan.h"
#include "operator/reconcile/runtime.h"

typedef struct kb_effects_result {
    kb_kube_class fault;      /* of the effect that failed */
    bool is_adoption_refused; /* a name that we need is held by something else; the error says which */
    int64_t requeue_ms;       /* something has to be waited for; -1: nothing */
} kb_effects_result;

/* only_telling: nothing but ledger, status and Events, to tell of a fault. */
kb_code kb_effects_perform(kb_runtime *runtime, const kb_snapshot *snapshot, const kb_plan *plan,
                           bool only_telling, kb_memory *memory, kb_effects_result *result,
                           kb_error *err) KB_CHECK;

#endif

#include "operator/reconcile/offset_rollback.h"

#include "operator/reconcile/bounded.h"

void kb_decide_offset_rollback(const kb_snapshot *snapshot, const kb_surroundings *around, kb_plan *plan)
{
    static const kb_bounded_kind kind = {
        .job_created_event = "RollbackJobCreated",
        .succeeded_event = "RollbackSucceeded",
        .failed_event = "RollbackFailed",
        .completed_reason = "RollbackCompleted",
    };
    kb_decide_bounded(&kind, snapshot, around, plan);
}

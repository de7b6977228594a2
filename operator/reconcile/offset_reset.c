#include "operator/reconcile/offset_reset.h"

#include "operator/reconcile/bounded.h"

void kb_decide_offset_reset(const kb_snapshot *snapshot, const kb_surroundings *around, kb_plan *plan)
{
    static const kb_bounded_kind kind = {
        .job_created_event = "ResetJobCreated",
        .succeeded_event = "ResetSucceeded",
        .failed_event = "ResetFailed",
        .completed_reason = "ResetCompleted",
    };
    kb_decide_bounded(&kind, snapshot, around, plan);
}

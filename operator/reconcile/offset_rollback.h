/*
 * offset_rollback - what to do about a KafkaOffsetRollback (operator.md, section 3.2). Pure. Threads: any.
 */
#ifndef KB_OPERATOR_RECONCILE_OFFSET_ROLLBACK_H
#define KB_OPERATOR_RECONCILE_OFFSET_ROLLBACK_H

#include "operator/reconcile/pass.h"

void kb_decide_offset_rollback(const kb_snapshot *snapshot, const kb_surroundings *around, kb_plan *plan);

#endif

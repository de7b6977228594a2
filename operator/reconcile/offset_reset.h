/*
 * offset_reset - what to do about a KafkaOffsetReset (operator.md, section 3.2). Pure. Threads: any.
 */
#ifndef KB_OPERATOR_RECONCILE_OFFSET_RESET_H
#define KB_OPERATOR_RECONCILE_OFFSET_RESET_H

#include "operator/reconcile/pass.h"

void kb_decide_offset_reset(const kb_snapshot *snapshot, const kb_surroundings *around, kb_plan *plan);

#endif

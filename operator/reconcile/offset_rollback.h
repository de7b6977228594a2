/*
 * offset_rollback - what to do about a KafkaOffsetRollback: the worker has no such command in this version,
 * so a valid object ends at once with the reason NotImplemented, in conditions and an Event. Pure. Threads:
 * any.
 */
#ifndef KB_OPERATOR_RECONCILE_OFFSET_ROLLBACK_H
#define KB_OPERATOR_RECONCILE_OFFSET_ROLLBACK_H

#include "operator/reconcile/pass.h"

void kb_decide_offset_rollback(const kb_snapshot *snapshot, const kb_surroundings *around, kb_plan *plan);

#endif

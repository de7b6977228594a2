/*
 * offset_reset - what to do about a KafkaOffsetReset: the worker has no such command in this version, so a
 * valid object ends at once with the reason NotImplemented, in conditions and an Event. Pure. Threads: any.
 */
#ifndef KB_OPERATOR_RECONCILE_OFFSET_RESET_H
#define KB_OPERATOR_RECONCILE_OFFSET_RESET_H

#include "operator/reconcile/pass.h"

void kb_decide_offset_reset(const kb_snapshot *snapshot, const kb_surroundings *around, kb_plan *plan);

#endif

/*
 * restore - what to do about a KafkaRestore (operator.md, section 3.2). Pure. Threads: any.
 */
#ifndef KB_OPERATOR_RECONCILE_RESTORE_H
#define KB_OPERATOR_RECONCILE_RESTORE_H

#include "operator/reconcile/pass.h"

void kb_decide_restore(const kb_snapshot *snapshot, const kb_surroundings *around, kb_plan *plan);

#endif

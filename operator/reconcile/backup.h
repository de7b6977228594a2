/*
 * backup - what to do about a KafkaBackup (operator.md, section 3.1).
 *
 * Pure: the same snapshot at the same time gives the same plan. Threads: any.
 */
#ifndef KB_OPERATOR_RECONCILE_BACKUP_H
#define KB_OPERATOR_RECONCILE_BACKUP_H

#include "operator/reconcile/pass.h"

void kb_decide_backup(const kb_snapshot *snapshot, const kb_surroundings *around, kb_plan *plan);

#endif

/*
 * triggers - runs asked for by the annotation kafka.oso.sh/trigger-backup (crds.md 3.2).
 *
 * A value waits in status.pendingTriggers until its Job is known to exist; only then it is the last one that
 * was handled (I4). What the Job is named follows from the value, so a pass that is repeated meets its own
 * Job. Threads: pure.
 */
#ifndef KB_OPERATOR_RECONCILE_TRIGGERS_H
#define KB_OPERATOR_RECONCILE_TRIGGERS_H

#include "operator/reconcile/pass.h"

#define KB_TRIGGERS_MAX 8
#define KB_TRIGGER_BYTES 256

/* Moves values whose Job exists from pendingTriggers to lastTriggerToken and the ledger. */
void kb_triggers_confirm(kb_pass *pass);
/*
 * Looks at the annotation: a new value is appended, a removed one forgotten. is_one_shot_due: a value present
 * at creation is satisfied by the run that starts anyway.
 */
void kb_triggers_note(kb_pass *pass, bool is_one_shot_due);
/* The value that waits longest; NULL when none does. Borrowed from the status. */
const char *kb_triggers_next(const kb_pass *pass);

#endif

/*
 * history - the runs of a KafkaBackup in its status, and what becomes of a Job that ended.
 *
 * Folding an outcome changes status and ledger of a pass and adds the Events and marks that follow (I2). The
 * catalog of a later worker, which saw the store, corrects what was concluded from Jobs alone. Threads: pure.
 */
#ifndef KB_OPERATOR_RECONCILE_HISTORY_H
#define KB_OPERATOR_RECONCILE_HISTORY_H

#include "operator/reconcile/pass.h"

#define KB_HISTORY_MAX 10

/* How the last run that was folded in this pass ended. */
typedef struct kb_fold {
    bool happened; /* a run was folded (a prune Job and a skipped slot are none) */
    bool is_good;
    const char *reason; /* static or of outcome.reason, kept in owned_reason */
    char *owned_reason, *owned_message;
} kb_fold;

/* All Jobs that ended and are not recorded, oldest first, and an active Job that is gone. */
void kb_history_fold(kb_pass *pass, kb_fold *ret_fold);
void kb_fold_done(kb_fold *fold);
/* The newest entry, NULL without one. Borrowed. */
const json_t *kb_history_newest(const json_t *status);
/* The entry of a backup, NULL without one. Borrowed. */
json_t *kb_history_find(const json_t *status, const char *backup_id);
/* The id of the backup that a Job makes: slot, else stamp, else its report; NULL when unknown. Owned. */
char *kb_history_backup_id(const kb_pass *pass, const json_t *job, const json_t *report);
/* Adds to a counter of status.totals. */
void kb_history_count(json_t *status, const char *name, int64_t number);

#endif

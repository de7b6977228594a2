/*
 * ledger - what must be known of a custom resource even if its status is gone (crds.md 3.2).
 *
 * Compact JSON of at most KB_LEDGER_MAX_BYTES in the annotation kafka.oso.sh/ledger. It counts only when its
 * uid is that of the object, so copies and restored objects start fresh. Threads: pure.
 */
#ifndef KB_OPERATOR_JOBS_LEDGER_H
#define KB_OPERATOR_JOBS_LEDGER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define KB_LEDGER_MAX_BYTES 512
#define KB_LEDGER_TRIGGER_DIGITS 16

typedef struct kb_ledger {
    bool is_set;        /* there is one, and it is this object's */
    int64_t generation; /* of the last run that is recorded; 0 = none */
    char *config;    /* kb_spec_data_hash of the last one that succeeded; NULL = none. All texts are owned */
    char *trigger;   /* hash of the last value of the trigger annotation that was handled */
    char *retention; /* kb_spec_retention_hash that the store was last pruned by */
    char *outcome;   /* "success", "failure" of the last run; bounded kinds: terminal */
    char *reason;    /* of that outcome */
    char *backup_id; /* last backup that succeeded */
} kb_ledger;

void kb_ledger_read(const json_t *object, kb_ledger *ret_ledger);
void kb_ledger_done(kb_ledger *ledger);
/* Replaces a text of the ledger; NULL removes it. */
void kb_ledger_set(char **text, const char *value);
/* The annotation's value for an object; owned by the caller. */
char *kb_ledger_text(const kb_ledger *ledger, const json_t *object) __attribute__((returns_nonnull));
/* The hash of a trigger's value; owned by the caller. */
char *kb_ledger_trigger_hash(const char *value) __attribute__((returns_nonnull));

#endif

/*
 * conditions - the list of conditions in a status, as metav1.Condition.
 *
 * lastTransitionTime moves only when `status` flips, so writing the same again changes nothing. Messages are
 * cut to KB_CONDITION_MESSAGE_MAX at a UTF-8 boundary and their control characters become blanks. Threads:
 * pure.
 */
#ifndef KB_OPERATOR_CTRL_CONDITIONS_H
#define KB_OPERATOR_CTRL_CONDITIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KB_CONDITION_MESSAGE_MAX 1024

typedef enum kb_truth { KB_TRUE, KB_FALSE, KB_UNKNOWN } kb_truth;

typedef struct kb_condition {
    const char *type; /* "Ready" */
    kb_truth status;
    const char *reason;  /* CamelCase, not empty */
    const char *message; /* NULL = "" */
} kb_condition;

/* Sets or adds one in a list (array). */
void kb_condition_set(json_t *conditions, const kb_condition *condition, int64_t generation, int64_t now_ms);
/* The one of a type (borrowed), NULL when absent. */
const json_t *kb_condition_find(const json_t *conditions, const char *type);
/* Whether it exists with this status. */
bool kb_condition_is(const json_t *conditions, const char *type, kb_truth status);
/* Its reason, "" when absent. Borrowed. */
const char *kb_condition_reason(const json_t *conditions, const char *type);

/* Text from outside as it may stand in a status: control characters out, at most max_bytes, whole UTF-8.
 * Owned by the caller. */
char *kb_status_text(const char *text, size_t max_bytes) __attribute__((returns_nonnull));

#endif

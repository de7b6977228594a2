/*
 * validation - the rules of the CRDs once more, for servers that do not evaluate CEL (before 1.25).
 *
 * The sentences are those of the CRDs, word for word (a test compares), so a user reads the same on every
 * server. Rules about updates (immutable fields) need the old object and are the server's alone. Threads:
 * pure.
 */
#ifndef KB_OPERATOR_MODEL_VALIDATION_H
#define KB_OPERATOR_MODEL_VALIDATION_H

#include <jansson.h>

#include "operator/model/spec.h"

typedef struct kb_spec_problem {
    const char *reason; /* InvalidSpec, UnsupportedField, NameTooLong; static; NULL = nothing is wrong */
    char *message;      /* owned; the field and what must be */
} kb_spec_problem;

/*
 * Reads the spec of an object and checks it. *ret_spec is valid to free in any case; *ret_problem says what
 * is wrong first, or nothing.
 */
void kb_spec_check(kb_kind kind, const json_t *object, kb_spec *ret_spec, kb_spec_problem *ret_problem);
void kb_spec_problem_done(kb_spec_problem *problem);

/*
 * The names of blocks in `storage` that are set and not used, joined by ", "; NULL when there are none. For
 * the Event UnusedField. Owned by the caller.
 */
char *kb_spec_unused_blocks(const kb_spec *spec);
/* The storage block of a kind that has one; NULL otherwise. */
const kb_spec_storage *kb_spec_storage_of(const kb_spec *spec);
/* The Kafka block (kafkaCluster, targetCluster). */
const kb_spec_kafka *kb_spec_kafka_of(const kb_spec *spec);

/* Every sentence that kb_spec_check can say of a rule, for the test; NULL-terminated, static. */
const char *const *kb_spec_rule_messages(void);

#endif

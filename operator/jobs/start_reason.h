/*
 * start_reason - why a pod does not start, in words a user can act on (operator.md, section 8).
 *
 * From the Pod, the Job and their Events; the operator has no right to look at a Secret. Threads: pure.
 */
#ifndef KB_OPERATOR_JOBS_START_REASON_H
#define KB_OPERATOR_JOBS_START_REASON_H

#include <jansson.h>

typedef struct kb_start_reason {
    const char *reason; /* SecretNotFound, ...; NULL = nothing is known. Static */
    char *message;      /* owned */
} kb_start_reason;

/* pods: array of the Job's pods; events: array of Events about them and the Job, any order. */
void kb_start_reason_of(const json_t *pods, const json_t *events, kb_start_reason *ret_reason);
void kb_start_reason_done(kb_start_reason *reason);

#endif

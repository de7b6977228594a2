/*
 * resolve - where a bounded kind gets what its spec leaves out (crds.md, section 7).
 *
 * Only objects of the same namespace count. As long as something is missing the object waits with a reason;
 * nothing has failed. Threads: pure.
 */
#ifndef KB_OPERATOR_MODEL_RESOLVE_H
#define KB_OPERATOR_MODEL_RESOLVE_H

#include <jansson.h>

#include "operator/model/spec.h"

typedef struct kb_resolved {
    const char *reason; /* what is waited for (StorageRequired, ...); NULL = complete. Static */
    char *message;      /* owned; with a reason */
    char *from;         /* owned; "KafkaBackup/name" when something was taken from it, else NULL */
    kb_spec source;     /* the spec it was taken from; keeps what the pointers below show */
    bool has_source;
    const kb_spec_kafka *kafka;     /* of the spec or of the source */
    const kb_spec_storage *storage; /* the same */
} kb_resolved;

/* backups: array of the KafkaBackups of the namespace (whole objects). *ret_resolved is always valid. */
void kb_resolve_restore(const kb_spec *spec, const json_t *backups, kb_resolved *ret_resolved);
void kb_resolved_done(kb_resolved *resolved);

#endif

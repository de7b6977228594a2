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
    const kb_spec_storage *storage; /* the same; NULL: none */
    char *backup_id;                /* owned; of the restore that an offset reset goes by, else NULL */
    char *snapshot_map;             /* owned; name of the ConfigMap that keeps snapshots, else NULL */
    struct kb_resolved *inner;      /* owned; what the source itself was resolved to */
} kb_resolved;

/* The objects of the namespace that may be referred to: arrays of whole objects. */
typedef struct kb_resolve_peers {
    const json_t *backups, *restores, *resets, *rollbacks;
} kb_resolve_peers;

/* Where snapshots go unless something else is named. */
#define KB_DEFAULT_SNAPSHOT_MAP "offset-snapshots"

/* backups: array of the KafkaBackups of the namespace (whole objects). *ret_resolved is always valid. */
void kb_resolve_restore(const kb_spec *spec, const json_t *backups, kb_resolved *ret_resolved);
/*
 * A KafkaOffsetReset: kafkaCluster, and for headerBased without one cluster, store and backup of the newest
 * restore that succeeded (of the source cluster, if one is named).
 */
void kb_resolve_reset(const kb_spec *spec, const kb_resolve_peers *peers, kb_resolved *ret_resolved);
/* A KafkaOffsetRollback: its store, else that of the object that made the snapshot, else the ConfigMap. */
void kb_resolve_rollback(const kb_spec *spec, const kb_resolve_peers *peers, kb_resolved *ret_resolved);
void kb_resolved_done(kb_resolved *resolved);

#endif

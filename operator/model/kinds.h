/*
 * kinds - the four kinds of custom resources and what is fixed about each (crds.md, table at the top).
 *
 * Threads: pure.
 */
#ifndef KB_OPERATOR_MODEL_KINDS_H
#define KB_OPERATOR_MODEL_KINDS_H

#include <stdbool.h>

#define KB_API_GROUP "kafka.oso.sh"
#define KB_API_VERSION "kafka.oso.sh/v1alpha1"

typedef enum kb_kind {
    KB_KIND_BACKUP,
    KB_KIND_RESTORE,
    KB_KIND_OFFSET_RESET,
    KB_KIND_OFFSET_ROLLBACK,
    KB_KIND_COUNT
} kb_kind;

typedef struct kb_kind_info {
    const char *kind;      /* "KafkaBackup" */
    const char *plural;    /* "kafkabackups" */
    const char *component; /* "backup": in names and labels */
    bool is_bounded;       /* one run, then terminal; else standing */
    int max_name_bytes;    /* of metadata.name */
} kb_kind_info;

/* Static. */
const kb_kind_info *kb_kind_info_of(kb_kind kind);
/* By "KafkaBackup" or "kafkabackups". */
bool kb_kind_parse(const char *kind_or_plural, kb_kind *ret_kind) __attribute__((warn_unused_result));

#endif

/*
 * topic_select - which topics of a cluster a backup takes (pure).
 *
 * Selected = matches any include (none given = all), no exclude, legal name. Internal topics stay out unless
 * asked for. What a literal include names and the cluster lacks, or what metadata refuses, is reported, never
 * dropped in silence.
 */
#ifndef KB_WORKER_BACKUP_TOPIC_SELECT_H
#define KB_WORKER_BACKUP_TOPIC_SELECT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"

/* What metadata said of one topic. Strings are borrowed. */
typedef struct kb_topic_seen {
    const char *name;
    bool internal;     /* flagged by the broker */
    bool unauthorized; /* metadata error 29 */
    bool missing;      /* metadata error 3 that outlived its retries */
    const char *error; /* text of any other metadata error, else NULL */
} kb_topic_seen;

typedef struct kb_topic_rules {
    const char *const *include;
    size_t include_count;
    const char *const *exclude;
    size_t exclude_count;
    bool include_internal;
    const char *const *internal; /* with include_internal: only these, when not empty */
    size_t internal_count;
    bool warn_missing; /* on_missing_topic: warn */
    bool warn_unauthorized;
} kb_topic_rules;

typedef struct kb_topic_skip {
    char *name;         /* owned */
    const char *reason; /* static: missing, unauthorized, illegal name */
} kb_topic_skip;

typedef struct kb_topic_selection {
    size_t *chosen; /* indexes into the seen array, by name bytewise */
    size_t chosen_count;
    kb_topic_skip *skipped;
    size_t skipped_count;
} kb_topic_selection;

/*
 * Errors: KB_CONFIG_INVALID (a `~regex`, or nothing selected), KB_TOPIC_NOT_FOUND (a literal include that is
 * not there), KB_KAFKA_ACCESS_DENIED, KB_KAFKA_UNREACHABLE (metadata keeps failing for a selected topic).
 * Each lists all names.
 */
kb_code kb_topic_select(const kb_topic_rules *rules, const kb_topic_seen *seen, size_t seen_count,
                        kb_topic_selection *ret_selection, kb_error *err) KB_CHECK;
/* Whether the patterns alone select the name. */
bool kb_topic_is_named(const kb_topic_rules *rules, const char *name);
void kb_topic_selection_done(kb_topic_selection *selection);

#endif

/*
 * topic_pattern - a pattern for topic names: a glob over the whole name, or `~` and a regular expression.
 *
 * Expressions are found anywhere in the name unless anchored by ^ and $. Known: literals, `.`, classes
 * `[a-z]` and `[^...]`, \d \w \s and their opposites, \ before punctuation, groups `(...)` and `(?:...)`,
 * `|`,
 * `*`, `+`, `?`, `{n}`, `{n,}`, `{n,m}`; a `?` after a quantifier changes nothing, for only "matches or not"
 * is asked. Matching takes time proportional to name length times pattern size, whatever the pattern.
 * Threads: immutable once made.
 */
#ifndef KB_WORKER_RESTORE_TOPIC_PATTERN_H
#define KB_WORKER_RESTORE_TOPIC_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"

typedef struct kb_topic_pattern kb_topic_pattern;

/* Owned by the caller. KB_CONFIG_INVALID when it cannot be understood or is too large. */
kb_code kb_topic_pattern_new(const char *text, kb_topic_pattern **ret_pattern, kb_error *err) KB_CHECK;
void kb_topic_pattern_free(kb_topic_pattern *owned_pattern);

bool kb_topic_pattern_match(const kb_topic_pattern *pattern, const char *name);
/* Whether it names one topic and nothing else. */
bool kb_topic_pattern_is_literal(const kb_topic_pattern *pattern);
const char *kb_topic_pattern_text(const kb_topic_pattern *pattern);

/* Several patterns; matching any counts. */
typedef struct kb_topic_patterns {
    kb_topic_pattern **items;
    size_t count;
} kb_topic_patterns;

kb_code kb_topic_patterns_init(kb_topic_patterns *patterns, char *const *texts, size_t count,
                               kb_error *err) KB_CHECK;
void kb_topic_patterns_done(kb_topic_patterns *patterns);
bool kb_topic_patterns_match(const kb_topic_patterns *patterns, const char *name);

#endif

/*
 * glob - shell-like patterns over whole names: `*` any run of characters, `?` one character, all else
 * literal. No brackets and no escapes: Kafka topic names hold none of these. Cost is at most pattern length ×
 * name length.
 */
#ifndef KB_COMMON_BASE_GLOB_H
#define KB_COMMON_BASE_GLOB_H

#include <stdbool.h>

bool kb_glob_match(const char *pattern, const char *name);
/* True when the pattern holds no wildcard and so names one thing. */
bool kb_glob_is_literal(const char *pattern);

#endif

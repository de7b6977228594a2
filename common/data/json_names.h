/*
 * json_names - the names seen in one JSON object, to find a duplicate.
 *
 * Names are not stored but hashed to 128 bits under a random key: equal names are always found, and two
 * different ones are taken for equal with a probability below 2^-80 even for a million names, in which case a
 * file is refused that need not be. Up to 16 names cost no allocation. Threads: one at a time.
 */
#ifndef KB_COMMON_DATA_JSON_NAMES_H
#define KB_COMMON_DATA_JSON_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"

#define KB_JSON_NAMES_INLINE 16

typedef struct kb_json_hash {
    uint64_t a; /* never 0 */
    uint64_t b;
} kb_json_hash;

/* Zeroed memory is an empty set. */
typedef struct kb_json_names {
    size_t count;
    kb_json_hash few[KB_JSON_NAMES_INLINE];
    kb_json_hash *table; /* owned; in use when slots > 0 */
    size_t slots;        /* a power of two */
    size_t allocated;
} kb_json_names;

typedef enum kb_json_added { KB_JSON_ADDED, KB_JSON_DUPLICATE, KB_JSON_NO_MEMORY } kb_json_added;

kb_json_added kb_json_names_add(kb_json_names *names, const uint64_t key[2], kb_view name);
/* Empties the set; keeps a small table for the next object. */
void kb_json_names_clear(kb_json_names *names);
void kb_json_names_done(kb_json_names *names);

#endif

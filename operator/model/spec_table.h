/*
 * spec_table - tables of fields by which the spec of a custom resource becomes a C struct.
 *
 * The API server has checked a stored object against the schema of its CRD and filled in the defaults, so
 * this reader is no second schema: it decodes, bounds numbers and words, applies the same defaults again for
 * objects that were stored before a default existed, and says by path what it cannot use. Fields that no
 * table names are ignored. Structs are zeroed before reading; texts are copies. Threads: pure.
 */
#ifndef KB_OPERATOR_MODEL_SPEC_TABLE_H
#define KB_OPERATOR_MODEL_SPEC_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/data/problems.h"
#include "common/data/schema.h"

typedef enum kb_spec_type {
    KB_SPEC_TEXT,     /* char *; default_text or NULL */
    KB_SPEC_BOOL,     /* bool; default_i64 */
    KB_SPEC_I64,      /* int64_t within min..max; default_i64 */
    KB_SPEC_OPT_I64,  /* kb_opt_i64 within min..max */
    KB_SPEC_TIME,     /* kb_opt_i64, ms since 1970, from RFC 3339 */
    KB_SPEC_WORD,     /* int, index in words; default_i64 (-1 = not given) */
    KB_SPEC_TEXTS,    /* kb_strings; default_text is its only item */
    KB_SPEC_TEXT_MAP, /* kb_string_map */
    KB_SPEC_TREE,     /* json_t *, one more reference; NULL = not given */
    KB_SPEC_BLOCK     /* a struct that begins with bool is_set; block. Read also when absent, for defaults */
} kb_spec_type;

typedef struct kb_spec_table kb_spec_table;

typedef struct kb_spec_field {
    const char *name;
    kb_spec_type type;
    size_t at;
    bool is_required;
    int64_t default_i64;
    const char *default_text;
    int64_t min, max;
    const char *const *words; /* ends with NULL */
    const kb_spec_table *block;
} kb_spec_field;

struct kb_spec_table {
    const kb_spec_field *fields;
    size_t count;
};

/* Reads object (NULL = absent) into a zeroed struct; what cannot be used is an error in problems. */
void kb_spec_table_read(const kb_spec_table *table, const json_t *object, const char *path,
                        kb_problems *problems, void *to);
/* Frees what the fields own. */
void kb_spec_table_done(const kb_spec_table *table, void *block);

#endif

/*
 * yaml_load - one YAML document into a tree of our own, under the rules of worker.md section 4.
 *
 * UTF-8 without NUL, bounded size and depth; no alias, anchor, merge key, second document; duplicate keys and
 * all tags but those of the core schema and "!specific" are errors. A BOM and CRLF are accepted. `${NAME}` is
 * expanded in scalar values after parsing, so a value can never change the document. The scalar types are not
 * resolved here: the reader of a field decides (schema.h). Only this module uses libyaml. Threads: pure.
 */
#ifndef KB_COMMON_DATA_YAML_LOAD_H
#define KB_COMMON_DATA_YAML_LOAD_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/data/problems.h"

#define KB_YAML_MAX_BYTES (1024u * 1024)
#define KB_YAML_MAX_DEPTH 32

typedef enum kb_yaml_kind { KB_YAML_SCALAR, KB_YAML_SEQUENCE, KB_YAML_MAP } kb_yaml_kind;

typedef struct kb_yaml_node kb_yaml_node;
struct kb_yaml_node {
    kb_yaml_kind kind;
    unsigned line, column; /* from 1, of the value; columns count characters */
    bool is_plain;         /* scalar without quotes and without an explicit !!str */
    bool is_specific;      /* tagged "!specific" */
    bool has_error;        /* reported already; the value is not known */
    char *text;            /* scalar, after expansion, no NUL inside; else NULL */
    size_t text_len;
    size_t count;          /* elements of a sequence, pairs of a map */
    kb_yaml_node **keys;   /* map: scalars */
    kb_yaml_node **values; /* sequence and map */
};

typedef struct kb_yaml_options {
    /* The value of an environment variable, NULL when unset. NULL function: getenv. */
    const char *(*get_env)(void *ctx, const char *name);
    void *env_ctx;
    bool allow_unset_env; /* an unset variable is "" and a warning instead of an error */
} kb_yaml_options;

/*
 * Reads text. An empty document gives an empty map. What is wrong goes to problems. A syntax error, or what
 * is as bad, ends the reading with KB_ERR_FORMAT and no tree; otherwise there is a tree, in which the second
 * of two equal keys is left out and values that could not be expanded have has_error, so that a caller goes
 * on to find the other errors and then asks kb_problems_check. The tree is owned by the caller.
 */
kb_code kb_yaml_load(kb_view text, const kb_yaml_options *options, kb_problems *problems,
                     kb_yaml_node **ret_root) KB_CHECK;
/* Frees the tree and wipes its scalars, which may be passwords. NULL is fine. */
void kb_yaml_free(kb_yaml_node *owned_node);
/* For a cleanup attribute: frees *at. */
void kb_yaml_free_at(kb_yaml_node **at);

/* The value of a key of a map, NULL when absent or when node is no map. */
kb_yaml_node *kb_yaml_get(const kb_yaml_node *node, const char *key);
/* The same along a dotted path ("backup.compression"). */
kb_yaml_node *kb_yaml_find(const kb_yaml_node *root, const char *dotted_path);
/* Whether the node is absent (NULL), or a plain empty, "null", "Null", "NULL" or "~" scalar: "not given". */
bool kb_yaml_is_null(const kb_yaml_node *node);

#endif

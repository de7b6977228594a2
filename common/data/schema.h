/*
 * schema - tables of fields that drive reading, checking and printing of a configuration.
 *
 * A block of the file is a C struct and a table of kb_field, one for each key: type, place in the struct,
 * default, range, words, secret or not, and its line of documentation. From the table follow the defaults,
 * the strict reading (unknown key, wrong type, out of range: all collected in kb_problems with line, column
 * and dotted path), the printed effective configuration with secrets as ***, the freeing and the reference
 * text. Tables are static constants. Threads: pure.
 */
#ifndef KB_COMMON_DATA_SCHEMA_H
#define KB_COMMON_DATA_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/secret.h"
#include "common/base/strbuf.h"
#include "common/data/problems.h"
#include "common/data/yaml_load.h"

/* ---- types of values in configuration structs; zeroed = not given ---- */

typedef struct kb_opt_i64 {
    bool is_set;
    int64_t value;
} kb_opt_i64;

typedef struct kb_strings {
    char **items; /* owned, each owned */
    size_t count;
} kb_strings;

typedef struct kb_i64s {
    int64_t *items; /* owned */
    size_t count;
} kb_i64s;

/* A map of texts in the order of the file. */
typedef struct kb_string_map {
    char **keys;
    char **values;
    size_t count;
} kb_string_map;

/* A map of numbers in the order of the file. */
typedef struct kb_i64_map {
    int64_t *keys;
    int64_t *values;
    size_t count;
} kb_i64_map;

/*
 * A secret given in the file, or by the path of a file (key with _file). With a path, `value` is what it held
 * when the configuration was loaded; kb_secret_source_read reads it again, as rotation needs it.
 */
typedef struct kb_secret_source {
    kb_secret *value; /* NULL = not given */
    char *file;       /* NULL = not by file */
} kb_secret_source;

/* Whether it is given, in either form. */
static inline bool kb_secret_source_is_given(const kb_secret_source *source)
{
    return source->value != NULL || source->file != NULL;
}
/*
 * The present value: the file anew (at most 64 KiB, one trailing newline removed), else a copy of value; NULL
 * when nothing was given. Fails with KB_CONFIG_INVALID naming the path. Owned by the caller.
 */
kb_code kb_secret_source_read(const kb_secret_source *source, kb_secret **ret_secret, kb_error *err) KB_CHECK;

/* The value of key, NULL when absent. */
const char *kb_string_map_get(const kb_string_map *map, const char *key);

/* ---- field tables ---- */

typedef enum kb_field_type {
    KB_FIELD_BOOL,        /* bool */
    KB_FIELD_I64,         /* int64_t, default_i64 */
    KB_FIELD_OPT_I64,     /* kb_opt_i64; not given unless in the file */
    KB_FIELD_STRING,      /* char *; default_text or NULL */
    KB_FIELD_SECRET,      /* kb_secret_source; the key with _file belongs to it */
    KB_FIELD_TEXT_FILE,   /* kb_secret_source; as SECRET, but the value is no secret when printed */
    KB_FIELD_SECRET_FILE, /* kb_secret_source; only the key with _file exists: the field's name ends in it */
    KB_FIELD_ENUM,        /* int; words, default_i64 */
    KB_FIELD_STRINGS,     /* kb_strings */
    KB_FIELD_I64S,        /* kb_i64s, each within the range */
    KB_FIELD_STRING_MAP,  /* kb_string_map */
    KB_FIELD_I64_MAP,     /* kb_i64_map, keys and values within the range */
    KB_FIELD_BLOCK,       /* a struct that begins with kb_block; block */
    KB_FIELD_CUSTOM,      /* custom */
    KB_FIELD_NO_EFFECT,   /* any value; gives a note, nothing is stored */
    KB_FIELD_REFUSED      /* known, and refused whatever the value; doc says why */
} kb_field_type;

typedef enum kb_field_flag {
    KB_FIELD_SERVERS = 1,        /* STRINGS: items with commas are split, empty parts dropped */
    KB_FIELD_NOT_EMPTY = 2,      /* STRING: "" is refused */
    KB_FIELD_EMPTY_IS_UNSET = 4, /* STRING: "" counts as not given */
    KB_FIELD_HIDDEN = 8,         /* left out of the printed configuration and of the reference */
    KB_FIELD_IF_GIVEN = 16       /* BLOCK: printed only when it is in the file */
} kb_field_flag;

/* One spelling of an enum value; the first one of a value is the one printed. */
typedef struct kb_enum_word {
    const char *word;
    int value;
} kb_enum_word;

/* First member of every block struct. */
typedef struct kb_block {
    bool is_given; /* the key is in the file and not null */
    unsigned line, column;
} kb_block;

typedef struct kb_schema kb_schema;
typedef struct kb_field kb_field;
typedef struct kb_schema_reader kb_schema_reader;
typedef struct kb_schema_printer kb_schema_printer;

/* For types that no table describes. */
typedef struct kb_field_custom {
    /* Reads node (never null) into *at; reports with kb_schema_problem. */
    void (*read)(kb_schema_reader *reader, const kb_field *field, const kb_yaml_node *node, const char *path,
                 void *at);
    /* Prints the value in the form "key: value\n" with kb_schema_print_*. */
    void (*print)(kb_schema_printer *printer, const kb_field *field, const void *at);
    void (*init)(void *at); /* sets the default of zeroed memory; may be NULL */
    void (*done)(void *at); /* may be NULL */
} kb_field_custom;

struct kb_field {
    const char *name;
    kb_field_type type;
    size_t at; /* offsetof in the struct of the block */
    int64_t default_i64;
    const char *default_text;
    int64_t min, max;          /* numbers; both 0 = 0 .. INT64_MAX */
    const kb_enum_word *words; /* ends with {NULL, 0} */
    const kb_schema *block;
    const kb_field_custom *custom;
    unsigned flags;
    const char *doc;
};

struct kb_schema {
    const kb_field *fields;
    size_t field_count;
    /*
     * A block whose keys depend on a value (storage): picks the table for the struct by the node, after which
     * reading goes on; NULL when the node is refused (reported by it). `fields` above then lists the fields
     * of all tables, for defaults and freeing. May be NULL itself.
     */
    const kb_schema *(*choose)(kb_schema_reader *reader, const kb_yaml_node *node, const char *path);
    const kb_schema *(*chosen)(
        const void *block); /* the same from the filled struct; NULL = nothing is set */
};

typedef struct kb_schema_options {
    bool allow_unknown; /* unknown keys are warnings */
} kb_schema_options;

/* Sets the defaults in zeroed memory. */
void kb_schema_init(const kb_schema *schema, void *block);
/* Frees what the fields own; the block may be zeroed and used again. */
void kb_schema_done(const kb_schema *schema, void *block);
/* Reads a map into an initialised block. What is wrong goes to problems; the block is valid to free always.
 */
void kb_schema_read(const kb_schema *schema, const kb_yaml_node *map, const char *path,
                    const kb_schema_options *options, kb_problems *problems, void *block);
/*
 * Reads the files that are named by keys with _file in a block that was read; what cannot be read is a
 * problem at the key. map is the block's node (NULL: no places).
 */
void kb_schema_read_files(const kb_schema *schema, void *block, const kb_yaml_node *map, const char *path,
                          kb_problems *problems);

/* ---- for custom fields ---- */

/* Reports an error at a node: "expected ..., got ...". */
void kb_schema_problem(kb_schema_reader *reader, const kb_yaml_node *node, const char *path, const char *fmt,
                       ...) KB_PRINTF(4, 5);
/* Readers of scalars by the rules of worker.md section 4; false after they reported. */
bool kb_schema_read_i64(kb_schema_reader *reader, const kb_yaml_node *node, const char *path, int64_t min,
                        int64_t max, int64_t *ret_value) KB_CHECK;
bool kb_schema_read_text(kb_schema_reader *reader, const kb_yaml_node *node, const char *path,
                         char **ret_text) KB_CHECK;
/* Reads a nested block whose struct the caller initialised. */
void kb_schema_read_block(kb_schema_reader *reader, const kb_schema *schema, const kb_yaml_node *node,
                          const char *path, void *block);
#endif

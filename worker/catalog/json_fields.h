/*
 * json_fields - decodes one JSON object by a table of its fields, for the files of the catalog.
 *
 * Each known field is read into the struct at its offset; unknown ones are passed over, missing required ones
 * are refused. Errors are those of json_read, with line and place. Threads: pure functions on a reader.
 */
#ifndef KB_WORKER_CATALOG_JSON_FIELDS_H
#define KB_WORKER_CATALOG_JSON_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/data/json_read.h"

typedef enum kb_field_type {
    KB_FIELD_I64,     /* int64_t */
    KB_FIELD_COUNT,   /* int64_t, not negative */
    KB_FIELD_I32,     /* int32_t */
    KB_FIELD_COUNT32, /* int32_t, not negative */
    KB_FIELD_BOOL,
    KB_FIELD_TEXT,   /* char *, owned; an older value is freed */
    KB_FIELD_SHA256, /* uint8_t[32] from 64 hex digits */
    KB_FIELD_DIGEST, /* kb_digest from 64 hex digits */
    KB_FIELD_CUSTOM, /* read(reader, target, ctx, err) with target = the whole struct */
} kb_field_type;

/* Takes one value. `target` is the struct of the table. */
typedef kb_code (*kb_field_read)(kb_json_reader *reader, void *target, void *ctx, kb_error *err);

#define KB_FIELD_REQUIRED 1u
#define KB_FIELD_NULLABLE 2u /* null leaves the struct as it is */

typedef struct kb_field {
    const char *name;
    kb_field_type type;
    unsigned flags;
    size_t offset;
    kb_field_read read;
} kb_field;

#define KB_FIELDS_MAX 32

/* Reads one object. Which fields stood there is in *ret_seen (bit i = table row i) when that is not NULL;
 * rows that were null count as seen. */
kb_code kb_fields_read(kb_json_reader *reader, const kb_field *fields, size_t field_count, void *target,
                       void *ctx, uint32_t *ret_seen, kb_error *err) KB_CHECK;
/* Reads an array and calls read for each element. */
kb_code kb_elements_read(kb_json_reader *reader, kb_field_read read, void *target, void *ctx,
                         kb_error *err) KB_CHECK;
/* Turns the KB_ERR_FORMAT of a function without reader into one with the reader's place; others stay. */
kb_code kb_fields_locate(kb_json_reader *reader, kb_error *err);

#endif

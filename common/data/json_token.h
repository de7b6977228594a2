/*
 * json_token - a strict pull parser for JSON: the next token, please.
 *
 * Made for the files of the storage format, whose limits (section 3.1) it enforces: UTF-8, bounded depth and
 * strings, no duplicate name in an object, no NUL in a string, integers only, nothing after the value. Input
 * is one memory view or a source of chunks; nothing is allocated per token and no tree is built. After an
 * error the reader stays failed. Error texts name line, byte and place: "line 7, byte 210, at
 * topics[3].partitions[0]: ...". Threads: a reader belongs to one thread at a time.
 */
#ifndef KB_COMMON_DATA_JSON_TOKEN_H
#define KB_COMMON_DATA_JSON_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"
#include "common/base/error.h"

/* Limits of storage-format.md 3.1, used where an option is 0. */
#define KB_JSON_MAX_DEPTH 16
#define KB_JSON_MAX_STRING_BYTES (64u * 1024)
#define KB_JSON_MAX_NAMES (256u * 1024)

typedef enum kb_json_type {
    KB_JSON_BEGIN_OBJECT,
    KB_JSON_END_OBJECT,
    KB_JSON_BEGIN_ARRAY,
    KB_JSON_END_ARRAY,
    KB_JSON_NAME,
    KB_JSON_STRING,
    KB_JSON_INTEGER,
    KB_JSON_TRUE,
    KB_JSON_FALSE,
    KB_JSON_NULL,
    KB_JSON_END /* the value is complete and nothing follows; also for every further call */
} kb_json_type;

typedef struct kb_json_token {
    kb_json_type type;
    kb_view text;       /* NAME, STRING: decoded, no NUL inside or behind; valid until the next call */
    bool is_negative;   /* INTEGER: the value is -magnitude or magnitude, within -2^63 .. 2^64-1 */
    uint64_t magnitude; /* INTEGER */
} kb_json_token;

/*
 * A source of input: *ret_chunk is the next part, valid until the next call; an empty one is the end. Its
 * error ends the reading and is passed on as it is.
 */
typedef kb_code (*kb_json_source)(void *ctx, kb_view *ret_chunk, kb_error *err);

typedef struct kb_json_options {
    size_t max_depth;        /* nesting of objects and arrays; at most 64 */
    size_t max_string_bytes; /* of one decoded string or name */
    size_t max_names;        /* in one object; its memory is 32 bytes for each */
} kb_json_options;

typedef struct kb_json_reader kb_json_reader;

/* A reader over text, which must outlive it. options may be NULL. Owned by the caller. */
kb_json_reader *kb_json_reader_new(kb_view text, const kb_json_options *options)
    __attribute__((returns_nonnull));
/* The same over a source of chunks. */
kb_json_reader *kb_json_reader_new_source(kb_json_source source, void *ctx, const kb_json_options *options)
    __attribute__((returns_nonnull));
void kb_json_reader_free(kb_json_reader *owned_reader);
/* For a cleanup attribute: frees *at. */
void kb_json_reader_free_at(kb_json_reader **at);

/* The next token. Fails with KB_ERR_FORMAT, with KB_ERR_TOO_LARGE beyond a limit, or as the source does. */
kb_code kb_json_next(kb_json_reader *reader, kb_json_token *ret_token, kb_error *err) KB_CHECK;
/* The type of the next token without taking it. */
kb_code kb_json_peek(kb_json_reader *reader, kb_json_type *ret_type, kb_error *err) KB_CHECK;

/* A decoder's own error at the present position: KB_ERR_FORMAT with place, then the text. */
kb_code kb_json_fail(kb_json_reader *reader, kb_error *err, const char *fmt, ...) KB_PRINTF(3, 4);

#endif

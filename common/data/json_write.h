/*
 * json_write - writes JSON token by token, pretty (the form of storage-format.md section 2) or compact.
 *
 * Pretty: two spaces per level, one element or field per line, ": " after names, no newline at the end, empty
 * containers as [] and {}. Strings keep non-ASCII and '/' as they are; control characters become \b \f \n \r
 * \t or \u00xx. The first failure (limit of the buffer, sink, text that is not UTF-8, wrong nesting) sticks
 * and is reported by kb_json_writer_finish, so that a caller writes at will and asks once. Threads: one at a
 * time.
 */
#ifndef KB_COMMON_DATA_JSON_WRITE_H
#define KB_COMMON_DATA_JSON_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/strbuf.h"

typedef enum kb_json_style { KB_JSON_PRETTY, KB_JSON_COMPACT } kb_json_style;

/* Takes a part of the text; called with about 64 KiB at a time and at the end. */
typedef kb_code (*kb_json_sink)(void *ctx, kb_view part, kb_error *err);

typedef struct kb_json_writer kb_json_writer;

/* Appends to `to` (borrowed, its maximum is the limit of the text). Owned by the caller. */
kb_json_writer *kb_json_writer_new(kb_json_style style, kb_strbuf *to) __attribute__((returns_nonnull));
/* Hands the text to a sink instead; memory stays bounded. */
kb_json_writer *kb_json_writer_new_sink(kb_json_style style, kb_json_sink sink, void *ctx)
    __attribute__((returns_nonnull));
void kb_json_writer_free(kb_json_writer *owned_writer);
/* For a cleanup attribute: frees *at. */
void kb_json_writer_free_at(kb_json_writer **at);
/* Fails with the first error, or KB_ERR_INTERNAL when the value is not complete; hands the rest to the sink.
 */
kb_code kb_json_writer_finish(kb_json_writer *writer, kb_error *err) KB_CHECK;

void kb_json_put_begin_object(kb_json_writer *writer);
void kb_json_put_end_object(kb_json_writer *writer);
void kb_json_put_begin_array(kb_json_writer *writer);
void kb_json_put_end_array(kb_json_writer *writer);
void kb_json_put_name(kb_json_writer *writer, const char *name);
void kb_json_put_name_view(kb_json_writer *writer, kb_view name);
void kb_json_put_text(kb_json_writer *writer, const char *text); /* NULL writes null */
void kb_json_put_view(kb_json_writer *writer, kb_view text);
void kb_json_put_i64(kb_json_writer *writer, int64_t value);
void kb_json_put_u64(kb_json_writer *writer, uint64_t value);
void kb_json_put_bool(kb_json_writer *writer, bool value);
void kb_json_put_null(kb_json_writer *writer);

/* Name and value in one call. */
void kb_json_field_text(kb_json_writer *writer, const char *name, const char *text); /* NULL writes null */
void kb_json_field_view(kb_json_writer *writer, const char *name, kb_view text);
void kb_json_field_i64(kb_json_writer *writer, const char *name, int64_t value);
void kb_json_field_u64(kb_json_writer *writer, const char *name, uint64_t value);
void kb_json_field_bool(kb_json_writer *writer, const char *name, bool value);
void kb_json_field_null(kb_json_writer *writer, const char *name);

#endif

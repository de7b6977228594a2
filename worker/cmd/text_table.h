/*
 * text_table - results for people: escaped names, sizes, times and aligned columns.
 *
 * Names and messages come from outside, so everything that goes to a terminal passes kb_text_escape: control
 * characters and broken UTF-8 are shown as \xNN and cannot move a cursor or forge a line. Threads: one at a
 * time.
 */
#ifndef KB_WORKER_CMD_TEXT_TABLE_H
#define KB_WORKER_CMD_TEXT_TABLE_H

#include <stdint.h>

#include "common/base/strbuf.h"
#include "common/data/json_write.h"

#define KB_TEXT_SIZE_MAX 24

/* Appends a text in which nothing but printable UTF-8 is left as it is. NULL appends "-". */
void kb_text_escape(kb_strbuf *out, const char *text);
/* A JSON field, null for NULL; a text that is no UTF-8, and so no JSON, is escaped as above. */
void kb_text_json_field(kb_json_writer *json, const char *name, const char *text);
/* "123 B", "12.3 MiB". */
void kb_text_bytes(int64_t bytes, char to[KB_TEXT_SIZE_MAX]);
/* RFC 3339; "-" for a time that is not known (0 and below). */
void kb_text_time(int64_t ms, char to[KB_TEXT_SIZE_MAX + 2]);

typedef enum kb_text_align { KB_TEXT_LEFT, KB_TEXT_RIGHT } kb_text_align;

typedef struct kb_text_column {
    const char *title;
    kb_text_align align;
} kb_text_column;

typedef struct kb_text_table kb_text_table;

/* columns is borrowed for the table's life. Owned by the caller. */
kb_text_table *kb_text_table_new(const kb_text_column *columns, size_t count)
    __attribute__((returns_nonnull));
void kb_text_table_free(kb_text_table *owned_table);
void kb_text_table_free_at(kb_text_table **at);
/* The next cell, row by row; texts are copied and escaped. */
void kb_text_table_add(kb_text_table *table, const char *text);
void kb_text_table_add_i64(kb_text_table *table, int64_t value);
void kb_text_table_add_bytes(kb_text_table *table, int64_t bytes);
/* The titles and all rows; columns are two spaces apart and as wide as their widest cell. */
void kb_text_table_print(const kb_text_table *table, kb_strbuf *out);

#endif

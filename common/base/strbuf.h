/*
 * strbuf - a growable buffer with a mandatory maximum and a sticky failure.
 *
 * Appending beyond the maximum marks the buffer failed and frees its content; later appends do nothing. So a
 * caller appends at will and asks once at the end. Content may hold any byte and is always followed by a NUL.
 */
#ifndef KB_COMMON_BASE_STRBUF_H
#define KB_COMMON_BASE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"

typedef struct kb_strbuf {
    char *data; /* owned; NULL or NUL-terminated */
    size_t len;
    size_t capacity;
    size_t max_bytes;
    bool failed;
} kb_strbuf;

#define KB_STRBUF_INIT(max) {NULL, 0, 0, (max), false}
#define KB_AUTO_STRBUF(name, max) \
    __attribute__((cleanup(kb_strbuf_done))) kb_strbuf name = KB_STRBUF_INIT(max)

void kb_strbuf_init(kb_strbuf *buf, size_t max_bytes);
void kb_strbuf_append(kb_strbuf *buf, const void *bytes, size_t len);
void kb_strbuf_appends(kb_strbuf *buf, const char *text);
void kb_strbuf_appendc(kb_strbuf *buf, char c);
void kb_strbuf_appendf(kb_strbuf *buf, const char *fmt, ...) KB_PRINTF(2, 3);
/* Empties the buffer and clears the failure; memory is kept. */
void kb_strbuf_clear(kb_strbuf *buf);
/* The content, "" when there is none. Borrowed until the next call. */
const char *kb_strbuf_view(const kb_strbuf *buf);
/* Fails with KB_ERR_TOO_LARGE when an append was refused; `what` names the content. */
kb_code kb_strbuf_check(const kb_strbuf *buf, const char *what, kb_error *err) KB_CHECK;
/* Gives the content away ("" when empty, NULL when failed) and leaves the buffer empty. */
char *kb_strbuf_take(kb_strbuf *buf);
void kb_strbuf_done(kb_strbuf *buf);

#endif

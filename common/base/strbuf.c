#include "common/base/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

void kb_strbuf_init(kb_strbuf *buf, size_t max_bytes)
{
    *buf = (kb_strbuf)KB_STRBUF_INIT(max_bytes);
}

static void mark_failed(kb_strbuf *buf)
{
    kb_strbuf_done(buf);
    buf->failed = true;
}

/* Makes room for `more` bytes and the NUL; false when the buffer is or becomes failed. */
static bool make_room(kb_strbuf *buf, size_t more)
{
    if (buf->failed)
        return false;
    if (more > buf->max_bytes || buf->len > buf->max_bytes - more) {
        mark_failed(buf);
        return false;
    }
    size_t needed = buf->len + more + 1;
    if (needed <= buf->capacity)
        return true;
    size_t wanted = buf->capacity > 0 ? buf->capacity * 2 : 64;
    while (wanted < needed)
        wanted *= 2;
    buf->data = kb_realloc(buf->data, wanted, 1);
    buf->capacity = wanted;
    return true;
}

void kb_strbuf_append(kb_strbuf *buf, const void *bytes, size_t len)
{
    if (!make_room(buf, len))
        return;
    if (len > 0)
        memcpy(buf->data + buf->len, bytes, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void kb_strbuf_appends(kb_strbuf *buf, const char *text)
{
    kb_strbuf_append(buf, text, strlen(text));
}

void kb_strbuf_appendc(kb_strbuf *buf, char c)
{
    kb_strbuf_append(buf, &c, 1);
}

void kb_strbuf_appendf(kb_strbuf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    int len = vasprintf(&text, fmt, args);
    va_end(args);
    if (len < 0)
        kb_out_of_memory();
    kb_strbuf_append(buf, text, (size_t)len);
    free(text);
}

void kb_strbuf_clear(kb_strbuf *buf)
{
    buf->len = 0;
    buf->failed = false;
    if (buf->data != NULL)
        buf->data[0] = '\0';
}

const char *kb_strbuf_view(const kb_strbuf *buf)
{
    return buf->data != NULL ? buf->data : "";
}

kb_code kb_strbuf_check(const kb_strbuf *buf, const char *what, kb_error *err)
{
    if (!buf->failed)
        return KB_OK;
    return kb_fail(err, KB_ERR_TOO_LARGE, "%s is larger than %zu bytes", what, buf->max_bytes);
}

char *kb_strbuf_take(kb_strbuf *buf)
{
    if (buf->failed)
        return NULL;
    char *data = buf->data != NULL ? buf->data : kb_strdup("");
    buf->data = NULL;
    kb_strbuf_done(buf);
    return data;
}

void kb_strbuf_done(kb_strbuf *buf)
{
    free(buf->data);
    *buf = (kb_strbuf)KB_STRBUF_INIT(buf->max_bytes);
}

#include "worker/segment/segment_body.h"

#include <stdlib.h>

#include "common/base/crc.h"
#include "common/base/mem.h"

void kb_body_start(kb_body *body, const kb_segment_source *source, const uint8_t *held, size_t range_bytes)
{
    body->source = *source;
    body->held = held;
    body->range_bytes = range_bytes;
    body->crc = 0;
    kb_body_seek(body, 0, source->size);
    body->window_len = 0;
}

void kb_body_seek(kb_body *body, uint64_t at, uint64_t end)
{
    body->at = at;
    body->end = end;
}

void kb_body_done(kb_body *body)
{
    free(body->window);
    *body = (kb_body){0};
}

/* Whether the window has the byte at body->at, and so a number of bytes from there. */
static size_t window_left(const kb_body *body)
{
    if (body->at < body->window_at || body->at >= body->window_at + body->window_len)
        return 0;
    uint64_t in_window = body->window_at + body->window_len - body->at;
    return in_window < kb_body_left(body) ? (size_t)in_window : (size_t)kb_body_left(body);
}

static kb_code window_reserve(kb_body *body, size_t needed, kb_error *err)
{
    if (needed <= body->window_capacity)
        return KB_OK;
    uint8_t *moved = realloc(body->window, needed);
    if (moved == NULL)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for %zu bytes of a segment", needed);
    body->window = moved;
    body->window_capacity = needed;
    return KB_OK;
}

/* Keeps the unread bytes of the window and fetches behind them. */
static kb_code window_fill(kb_body *body, size_t want, kb_error *err)
{
    size_t kept = window_left(body);
    size_t target = want > body->range_bytes ? want : body->range_bytes;
    if (target > kb_body_left(body))
        target = (size_t)kb_body_left(body);
    kb_code code = window_reserve(body, target, err);
    if (code != KB_OK)
        return code;
    if (kept > 0)
        memmove(body->window, body->window + (body->at - body->window_at), kept);
    body->window_at = body->at;
    body->window_len = kept;
    uint8_t *to = body->window + kept;
    code = body->source.get_range(body->source.ctx, body->at + kept, to, target - kept, err);
    if (code != KB_OK)
        return code;
    body->crc = kb_crc32(body->crc, to, target - kept);
    body->window_len = target;
    return KB_OK;
}

kb_code kb_body_peek(kb_body *body, size_t want, kb_view *ret_view, kb_error *err)
{
    uint64_t left = kb_body_left(body);
    if (left == 0) {
        *ret_view = kb_view_of(body->held, 0);
        return KB_OK;
    }
    if (body->held != NULL) {
        *ret_view = kb_view_of(body->held + body->at, (size_t)left);
        return KB_OK;
    }
    if (want > left)
        want = (size_t)left;
    if (window_left(body) < want || window_left(body) == 0) {
        kb_code code = window_fill(body, want, err);
        if (code != KB_OK)
            return code;
    }
    *ret_view = kb_view_of(body->window + (body->at - body->window_at), window_left(body));
    return KB_OK;
}

void kb_body_consume(kb_body *body, size_t len)
{
    body->at += len;
}

kb_code kb_body_pass(kb_body *body, uint64_t len, kb_error *err)
{
    if (len > kb_body_left(body))
        return kb_fail(err, KB_ERR_FORMAT, "ends %llu bytes too early",
                       (unsigned long long)(len - kb_body_left(body)));
    while (len > 0) {
        kb_view view;
        kb_code code = kb_body_peek(body, 1, &view, err);
        if (code != KB_OK)
            return code;
        size_t part = len < view.len ? (size_t)len : view.len;
        kb_body_consume(body, part);
        len -= part;
    }
    return KB_OK;
}

kb_code kb_body_copy(kb_body *body, uint64_t at, size_t len, uint8_t *to, kb_error *err)
{
    kb_body_seek(body, at, at + len);
    kb_view view;
    kb_code code = kb_body_peek(body, len, &view, err);
    if (code != KB_OK)
        return code;
    kb_put_bytes(to, view.data, len);
    return KB_OK;
}

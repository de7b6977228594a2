/*
 * segment_body - a part of an object as a stream of contiguous views, from memory or in ranges.
 *
 * With the whole object held, views point into it. Otherwise a window of range_bytes slides over the object
 * and grows only when more is asked for at once. Threads: one at a time.
 */
#ifndef KB_WORKER_SEGMENT_SEGMENT_BODY_H
#define KB_WORKER_SEGMENT_SEGMENT_BODY_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "worker/segment/segment_reader.h"

typedef struct kb_body {
    kb_segment_source source;
    const uint8_t *held; /* borrowed; the whole object, or NULL */
    uint64_t at;         /* position in the object of the next byte */
    uint64_t end;
    size_t range_bytes;
    uint8_t *window; /* owned; the object's bytes window_at ... + window_len */
    size_t window_capacity;
    size_t window_len;
    uint64_t window_at;
    uint32_t crc; /* of all bytes fetched since kb_body_start, when nothing was passed over */
} kb_body;

/* Keeps the window's memory. held may be NULL; range_bytes > 0. */
void kb_body_start(kb_body *body, const kb_segment_source *source, const uint8_t *held, size_t range_bytes);
/* Goes on at `at`, up to `end`. */
void kb_body_seek(kb_body *body, uint64_t at, uint64_t end);
void kb_body_done(kb_body *body);

static inline uint64_t kb_body_left(const kb_body *body)
{
    return body->end - body->at;
}

/*
 * A view of the next bytes: at least `want` of them, or all that are left; often more. Valid until the next
 * call. Fails as the source does and with KB_TEMPORARY_FAILURE when there is no memory.
 */
kb_code kb_body_peek(kb_body *body, size_t want, kb_view *ret_view, kb_error *err) KB_CHECK;
/* Moves on by len bytes, which peek has shown. */
void kb_body_consume(kb_body *body, size_t len);
/* Moves on by any number of bytes, reading them. Fails with KB_ERR_FORMAT when fewer are left. */
kb_code kb_body_pass(kb_body *body, uint64_t len, kb_error *err) KB_CHECK;
/* Goes to `at` and copies len bytes, which are there. */
kb_code kb_body_copy(kb_body *body, uint64_t at, size_t len, uint8_t *to, kb_error *err) KB_CHECK;

#endif

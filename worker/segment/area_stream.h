/*
 * area_stream - the record area of a segment as a stream of bytes, whatever codec its body has.
 *
 * Memory is bounded by the codec (zstd: the frame's window, at most 2^27; lz4: 320 KiB), not by what the body
 * says of itself. Errors: KB_ERR_FORMAT, and those of the body's source. Threads: one at a time.
 */
#ifndef KB_WORKER_SEGMENT_AREA_STREAM_H
#define KB_WORKER_SEGMENT_AREA_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/segment/segment_body.h"
#include "worker/segment/segment_format.h"

typedef struct kb_area_stream kb_area_stream;

kb_area_stream *kb_area_stream_new(void) __attribute__((returns_nonnull));
void kb_area_stream_free(kb_area_stream *owned_stream);

/*
 * Begins with the body that `body` (borrowed until the next start) stands before. raw_bytes: the size that
 * the area must not exceed, 0 when it is unknown.
 */
kb_code kb_area_stream_start(kb_area_stream *stream, kb_codec codec, kb_body *body, uint64_t raw_bytes,
                             kb_error *err) KB_CHECK;
/* The next bytes, at most capacity (> 0); *ret_len is 0 at the end only. */
kb_code kb_area_stream_read(kb_area_stream *stream, uint8_t *to, size_t capacity, size_t *ret_len,
                            kb_error *err) KB_CHECK;

/*
 * One frame of known length and content in one go, for segments with an index: `stored` must be a single zstd
 * frame whose head announces raw_len bytes, and `to` has room for them.
 */
kb_code kb_area_stream_unpack(kb_area_stream *stream, kb_view stored, uint8_t *to, size_t raw_len,
                              kb_error *err) KB_CHECK;
/* The check of that frame's head alone, so that nothing is allocated for a false one. */
kb_code kb_area_stream_check_frame(kb_view stored, size_t raw_len, kb_error *err) KB_CHECK;

#endif

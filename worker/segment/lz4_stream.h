/*
 * lz4_stream - decodes one LZ4 block piece by piece, in bounded memory.
 *
 * liblz4 wants a block and all of its output in memory at once, which for a segment may be a GiB. This
 * decoder keeps the last 64 KiB only. Every length is checked against the announced size before a byte is
 * written. Source: the LZ4 block format description. Threads: one at a time.
 */
#ifndef KB_WORKER_SEGMENT_LZ4_STREAM_H
#define KB_WORKER_SEGMENT_LZ4_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/segment/segment_body.h"

typedef struct kb_lz4_stream kb_lz4_stream;

kb_lz4_stream *kb_lz4_stream_new(void) __attribute__((returns_nonnull));
void kb_lz4_stream_free(kb_lz4_stream *owned_stream);
/* Begins a block that must give exactly plain_len bytes. */
void kb_lz4_stream_start(kb_lz4_stream *stream, uint64_t plain_len);
/*
 * Decodes the next bytes of the block that is the rest of `input`: capacity of them, or fewer at the end;
 * *ret_len is 0 when the block is complete. Fails with KB_ERR_FORMAT and as the input does.
 */
kb_code kb_lz4_stream_read(kb_lz4_stream *stream, kb_body *input, uint8_t *to, size_t capacity,
                           size_t *ret_len, kb_error *err) KB_CHECK;

#endif

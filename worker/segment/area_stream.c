#include "worker/segment/area_stream.h"

#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "common/base/mem.h"
#include "worker/segment/lz4_stream.h"
#include "worker/segment/zstd_frame.h"

#define SKIPPABLE_HEAD_BYTES 8u
#define LZ4_PREFIX_BYTES 4u
#define LZ4_AREA_MAX_BYTES (1u << 30)

struct kb_area_stream {
    kb_codec codec;
    kb_body *body;
    uint64_t raw_bytes; /* 0: unknown */
    uint64_t raw_done;
    bool is_in_frame;
    ZSTD_DCtx *zstd; /* made when first needed */
    kb_lz4_stream *lz4;
};

kb_area_stream *kb_area_stream_new(void)
{
    return kb_calloc(1, sizeof(kb_area_stream));
}

void kb_area_stream_free(kb_area_stream *owned_stream)
{
    if (owned_stream == NULL)
        return;
    ZSTD_freeDCtx(owned_stream->zstd);
    kb_lz4_stream_free(owned_stream->lz4);
    free(owned_stream);
}

static kb_code zstd_fail(kb_error *err, size_t result)
{
    if (ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory to decompress a zstd frame");
    return kb_fail(err, KB_ERR_FORMAT, "zstd frame is damaged: %s", ZSTD_getErrorName(result));
}

static kb_code need_zstd(kb_area_stream *stream, kb_error *err)
{
    if (stream->zstd != NULL)
        return KB_OK;
    stream->zstd = ZSTD_createDCtx();
    if (stream->zstd == NULL)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for zstd");
    size_t result = ZSTD_DCtx_setParameter(stream->zstd, ZSTD_d_windowLogMax, KB_ZSTD_WINDOW_LOG_MAX);
    return ZSTD_isError(result) ? zstd_fail(err, result) : KB_OK;
}

static kb_code start_lz4(kb_area_stream *stream, kb_error *err)
{
    uint64_t body_len = kb_body_left(stream->body);
    kb_view view;
    kb_code code = kb_body_peek(stream->body, LZ4_PREFIX_BYTES, &view, err);
    if (code != KB_OK)
        return code;
    if (body_len <= LZ4_PREFIX_BYTES)
        return kb_fail(err, KB_ERR_FORMAT, "lz4 body of %llu bytes", (unsigned long long)body_len);
    kb_cursor c = kb_cursor_of(view.data, LZ4_PREFIX_BYTES);
    uint32_t plain_len = kb_cursor_u32(&c);
    uint64_t block_len = body_len - LZ4_PREFIX_BYTES;
    if (plain_len > LZ4_AREA_MAX_BYTES || plain_len > 255 * block_len + 64)
        return kb_fail(err, KB_ERR_FORMAT, "lz4 block of %llu bytes cannot hold the %u bytes it states",
                       (unsigned long long)block_len, plain_len);
    if (stream->raw_bytes > 0 && plain_len != stream->raw_bytes)
        return kb_fail(err, KB_ERR_FORMAT, "lz4 block states %u bytes of records, the manifest %llu",
                       plain_len, (unsigned long long)stream->raw_bytes);
    kb_body_consume(stream->body, LZ4_PREFIX_BYTES);
    if (stream->lz4 == NULL)
        stream->lz4 = kb_lz4_stream_new();
    kb_lz4_stream_start(stream->lz4, plain_len);
    return KB_OK;
}

kb_code kb_area_stream_start(kb_area_stream *stream, kb_codec codec, kb_body *body, uint64_t raw_bytes,
                             kb_error *err)
{
    stream->codec = codec;
    stream->body = body;
    stream->raw_bytes = raw_bytes;
    stream->raw_done = 0;
    stream->is_in_frame = false;
    switch (codec) {
    case KB_CODEC_ZSTD:
        return need_zstd(stream, err);
    case KB_CODEC_LZ4:
        return start_lz4(stream, err);
    case KB_CODEC_NONE:
        break;
    }
    return KB_OK;
}

static kb_code read_plain(kb_area_stream *stream, uint8_t *to, size_t capacity, size_t *ret_len,
                          kb_error *err)
{
    size_t done = 0;
    while (done < capacity && kb_body_left(stream->body) > 0) {
        kb_view view;
        kb_code code = kb_body_peek(stream->body, 1, &view, err);
        if (code != KB_OK)
            return code;
        size_t part = view.len < capacity - done ? view.len : capacity - done;
        memcpy(to + done, view.data, part);
        kb_body_consume(stream->body, part);
        done += part;
    }
    *ret_len = done;
    return KB_OK;
}

/* Stands at the beginning of a frame: passes over a skippable one, or makes the decoder ready. */
static kb_code begin_frame(kb_area_stream *stream, kb_error *err)
{
    kb_view view;
    kb_code code = kb_body_peek(stream->body, KB_ZSTD_HEAD_MAX_BYTES, &view, err);
    if (code != KB_OK)
        return code;
    kb_zstd_head head;
    code = kb_zstd_head_decode(view.data, view.len, &head, err);
    if (code != KB_OK)
        return code;
    if (head.is_skippable)
        return kb_body_pass(stream->body, SKIPPABLE_HEAD_BYTES + (uint64_t)head.skippable_len, err);
    size_t result = ZSTD_DCtx_reset(stream->zstd, ZSTD_reset_session_only);
    if (ZSTD_isError(result))
        return zstd_fail(err, result);
    stream->is_in_frame = true;
    return KB_OK;
}

static kb_code feed_frame(kb_area_stream *stream, ZSTD_outBuffer *out, kb_error *err)
{
    kb_view view;
    kb_code code = kb_body_peek(stream->body, 1, &view, err);
    if (code != KB_OK)
        return code;
    ZSTD_inBuffer in = {view.data, view.len, 0};
    size_t out_before = out->pos;
    size_t result = ZSTD_decompressStream(stream->zstd, out, &in);
    if (ZSTD_isError(result))
        return zstd_fail(err, result);
    kb_body_consume(stream->body, in.pos);
    stream->is_in_frame = result != 0;
    if (stream->is_in_frame && in.pos == 0 && out->pos == out_before)
        return kb_fail(err, KB_ERR_FORMAT, "zstd frame is cut off");
    return KB_OK;
}

static kb_code read_zstd(kb_area_stream *stream, uint8_t *to, size_t capacity, size_t *ret_len, kb_error *err)
{
    ZSTD_outBuffer out = {to, capacity, 0};
    while (out.pos < capacity && (stream->is_in_frame || kb_body_left(stream->body) > 0)) {
        kb_code code = stream->is_in_frame ? feed_frame(stream, &out, err) : begin_frame(stream, err);
        if (code != KB_OK)
            return code;
    }
    *ret_len = out.pos;
    return KB_OK;
}

static kb_code read_codec(kb_area_stream *stream, uint8_t *to, size_t capacity, size_t *ret_len,
                          kb_error *err)
{
    switch (stream->codec) {
    case KB_CODEC_NONE:
        return read_plain(stream, to, capacity, ret_len, err);
    case KB_CODEC_ZSTD:
        return read_zstd(stream, to, capacity, ret_len, err);
    case KB_CODEC_LZ4:
        return kb_lz4_stream_read(stream->lz4, stream->body, to, capacity, ret_len, err);
    }
    return kb_fail(err, KB_ERR_INTERNAL, "codec %d", (int)stream->codec);
}

kb_code kb_area_stream_read(kb_area_stream *stream, uint8_t *to, size_t capacity, size_t *ret_len,
                            kb_error *err)
{
    /* One byte beyond the announced size is enough to know that there are too many. */
    if (stream->raw_bytes > 0 && capacity > stream->raw_bytes - stream->raw_done + 1)
        capacity = (size_t)(stream->raw_bytes - stream->raw_done + 1);
    size_t len = 0;
    kb_code code = read_codec(stream, to, capacity, &len, err);
    if (code != KB_OK)
        return code;
    stream->raw_done += len;
    if (stream->raw_bytes > 0 && stream->raw_done > stream->raw_bytes)
        return kb_fail(err, KB_ERR_FORMAT,
                       "decompresses to more than the %llu bytes of records it should have",
                       (unsigned long long)stream->raw_bytes);
    *ret_len = len;
    return KB_OK;
}

kb_code kb_area_stream_check_frame(kb_view stored, size_t raw_len, kb_error *err)
{
    kb_zstd_head head;
    kb_code code = kb_zstd_head_decode(stored.data, stored.len, &head, err);
    if (code != KB_OK)
        return code;
    if (head.is_skippable || !head.has_content_size || head.content_size != raw_len)
        return kb_fail(err, KB_ERR_FORMAT, "zstd frame does not announce the %zu bytes that the index states",
                       raw_len);
    if (ZSTD_findFrameCompressedSize(stored.data, stored.len) != stored.len)
        return kb_fail(err, KB_ERR_FORMAT, "zstd frame does not have the %zu bytes that the index states",
                       stored.len);
    return KB_OK;
}

kb_code kb_area_stream_unpack(kb_area_stream *stream, kb_view stored, uint8_t *to, size_t raw_len,
                              kb_error *err)
{
    kb_code code = need_zstd(stream, err);
    if (code != KB_OK)
        return code;
    size_t result = ZSTD_decompressDCtx(stream->zstd, to, raw_len, stored.data, stored.len);
    if (ZSTD_isError(result))
        return zstd_fail(err, result);
    if (result != raw_len)
        return kb_fail(err, KB_ERR_FORMAT, "zstd frame gives %zu bytes, the index states %zu", result,
                       raw_len);
    return KB_OK;
}

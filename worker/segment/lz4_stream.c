#include "worker/segment/lz4_stream.h"

#include <stdlib.h>

#include "common/base/mem.h"

/* An offset is 16 bits, so no match reaches further back. */
#define HISTORY_BYTES ((size_t)65536)
#define CHUNK_BYTES ((size_t)262144)
#define MIN_MATCH 4u
/* A length of 15 in the token goes on in further bytes, each up to 255. */
#define TOKEN_MORE 15u
#define BYTE_MORE 255u

typedef enum lz4_phase { LZ4_TOKEN, LZ4_LITERALS, LZ4_OFFSET, LZ4_MATCH, LZ4_ENDED } lz4_phase;

struct kb_lz4_stream {
    lz4_phase phase;
    uint64_t plain_left; /* not decoded yet */
    uint64_t literal_left;
    uint64_t match_left;
    size_t match_offset;
    uint8_t match_token;
    size_t out_at;  /* first byte of out that was not handed out */
    size_t out_len; /* bytes of history and output in out */
    uint8_t out[HISTORY_BYTES + CHUNK_BYTES];
};

kb_lz4_stream *kb_lz4_stream_new(void)
{
    return kb_calloc(1, sizeof(kb_lz4_stream));
}

void kb_lz4_stream_free(kb_lz4_stream *owned_stream)
{
    free(owned_stream);
}

void kb_lz4_stream_start(kb_lz4_stream *stream, uint64_t plain_len)
{
    stream->phase = LZ4_TOKEN;
    stream->plain_left = plain_len;
    stream->out_at = 0;
    stream->out_len = 0;
}

static kb_code take_byte(kb_body *input, uint8_t *ret_byte, kb_error *err)
{
    kb_view view;
    kb_code code = kb_body_peek(input, 1, &view, err);
    if (code != KB_OK)
        return code;
    if (view.len == 0)
        return kb_fail(err, KB_ERR_FORMAT, "lz4 block is cut off");
    *ret_byte = view.data[0];
    kb_body_consume(input, 1);
    return KB_OK;
}

/* The rest of a length whose first part was TOKEN_MORE; refused as soon as it exceeds what may come. */
static kb_code take_length(kb_lz4_stream *stream, kb_body *input, uint64_t *length, kb_error *err)
{
    uint8_t byte = BYTE_MORE;
    while (byte == BYTE_MORE) {
        kb_code code = take_byte(input, &byte, err);
        if (code != KB_OK)
            return code;
        *length += byte;
        if (*length > stream->plain_left)
            return kb_fail(err, KB_ERR_FORMAT, "lz4 block decodes to more than its stated size");
    }
    return KB_OK;
}

static kb_code begin_sequence(kb_lz4_stream *stream, kb_body *input, kb_error *err)
{
    uint8_t token;
    kb_code code = take_byte(input, &token, err);
    if (code != KB_OK)
        return code;
    stream->match_token = token & TOKEN_MORE;
    stream->literal_left = token >> 4;
    if (stream->literal_left == TOKEN_MORE)
        code = take_length(stream, input, &stream->literal_left, err);
    if (code != KB_OK)
        return code;
    if (stream->literal_left > stream->plain_left)
        return kb_fail(err, KB_ERR_FORMAT, "lz4 block decodes to more than its stated size");
    stream->phase = LZ4_LITERALS;
    return KB_OK;
}

static kb_code copy_literals(kb_lz4_stream *stream, kb_body *input, kb_error *err)
{
    while (stream->literal_left > 0 && stream->out_len < sizeof stream->out) {
        kb_view view;
        kb_code code = kb_body_peek(input, 1, &view, err);
        if (code != KB_OK)
            return code;
        if (view.len == 0)
            return kb_fail(err, KB_ERR_FORMAT, "lz4 block is cut off");
        size_t part = sizeof stream->out - stream->out_len;
        if (part > stream->literal_left)
            part = (size_t)stream->literal_left;
        if (part > view.len)
            part = view.len;
        memcpy(stream->out + stream->out_len, view.data, part);
        kb_body_consume(input, part);
        stream->out_len += part;
        stream->literal_left -= part;
        stream->plain_left -= part;
    }
    if (stream->literal_left > 0)
        return KB_OK;
    /* Only the last sequence has no match: the block ends with its literals. */
    stream->phase = kb_body_left(input) == 0 ? LZ4_ENDED : LZ4_OFFSET;
    if (stream->phase == LZ4_ENDED && stream->plain_left > 0)
        return kb_fail(err, KB_ERR_FORMAT, "lz4 block decodes to %llu bytes less than its stated size",
                       (unsigned long long)stream->plain_left);
    return KB_OK;
}

static kb_code begin_match(kb_lz4_stream *stream, kb_body *input, kb_error *err)
{
    uint8_t low;
    uint8_t high;
    kb_code code = take_byte(input, &low, err);
    if (code == KB_OK)
        code = take_byte(input, &high, err);
    if (code != KB_OK)
        return code;
    stream->match_offset = (size_t)low | (size_t)high << 8;
    /* The format forbids it; liblz4 up to 1.9 takes it and gives whatever its memory held. */
    if (stream->match_offset == 0)
        return kb_fail(err, KB_ERR_FORMAT, "lz4 block has a match of offset 0");
    if (stream->match_offset > stream->out_len)
        return kb_fail(err, KB_ERR_FORMAT, "lz4 block refers to bytes before its beginning");
    stream->match_left = stream->match_token;
    if (stream->match_token == TOKEN_MORE)
        code = take_length(stream, input, &stream->match_left, err);
    if (code != KB_OK)
        return code;
    stream->match_left += MIN_MATCH;
    if (stream->match_left > stream->plain_left)
        return kb_fail(err, KB_ERR_FORMAT, "lz4 block decodes to more than its stated size");
    stream->phase = LZ4_MATCH;
    return KB_OK;
}

static void copy_match(kb_lz4_stream *stream)
{
    size_t part = sizeof stream->out - stream->out_len;
    if (part > stream->match_left)
        part = (size_t)stream->match_left;
    uint8_t *to = stream->out + stream->out_len;
    const uint8_t *from = to - stream->match_offset;
    if (stream->match_offset >= part) {
        memcpy(to, from, part);
    } else {
        /* The copy overlaps itself on purpose: it repeats what it writes. */
        for (size_t i = 0; i < part; i++)
            to[i] = from[i];
    }
    stream->out_len += part;
    stream->match_left -= part;
    stream->plain_left -= part;
    if (stream->match_left == 0)
        stream->phase = LZ4_TOKEN;
}

static kb_code step(kb_lz4_stream *stream, kb_body *input, kb_error *err)
{
    switch (stream->phase) {
    case LZ4_TOKEN:
        return begin_sequence(stream, input, err);
    case LZ4_LITERALS:
        return copy_literals(stream, input, err);
    case LZ4_OFFSET:
        return begin_match(stream, input, err);
    case LZ4_MATCH:
        copy_match(stream);
        return KB_OK;
    case LZ4_ENDED:
        return KB_OK;
    }
    return KB_OK;
}

/* Drops what was handed out, but for the history. */
static void make_room(kb_lz4_stream *stream)
{
    if (stream->out_at < stream->out_len || stream->out_len <= HISTORY_BYTES)
        return;
    memmove(stream->out, stream->out + stream->out_len - HISTORY_BYTES, HISTORY_BYTES);
    stream->out_len = HISTORY_BYTES;
    stream->out_at = HISTORY_BYTES;
}

kb_code kb_lz4_stream_read(kb_lz4_stream *stream, kb_body *input, uint8_t *to, size_t capacity,
                           size_t *ret_len, kb_error *err)
{
    size_t done = 0;
    while (done < capacity) {
        if (stream->out_at < stream->out_len) {
            size_t part = stream->out_len - stream->out_at;
            if (part > capacity - done)
                part = capacity - done;
            memcpy(to + done, stream->out + stream->out_at, part);
            stream->out_at += part;
            done += part;
            continue;
        }
        if (stream->phase == LZ4_ENDED)
            break;
        make_room(stream);
        while (stream->phase != LZ4_ENDED && stream->out_len < sizeof stream->out) {
            kb_code code = step(stream, input, err);
            if (code != KB_OK)
                return code;
        }
    }
    *ret_len = done;
    return KB_OK;
}

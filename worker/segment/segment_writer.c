#include "worker/segment/segment_writer.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crc.h"
#include "common/base/mem.h"

#define ENTRIES_MAX ((KB_INDEX_MAX_BYTES - KB_INDEX_HEAD_BYTES - KB_INDEX_TAIL_BYTES) / KB_INDEX_ENTRY_BYTES)
/* The prefix of an lz4 body, and the area that readers accept. */
#define LZ4_PREFIX_BYTES 4
#define LZ4_AREA_MAX_BYTES ((size_t)1 << 30)
#define LZ4_TRIES 3

struct kb_segment_writer {
    kb_segment_sink sink;
    kb_codec codec;
    bool verify;
    bool is_closed;    /* the info is known */
    bool is_completed; /* nothing to abort */
    kb_segment_info info;
    kb_frame_index index;
    size_t entry_capacity;
    uint32_t body_crc;
    uint64_t body_bytes; /* without footer */
    kb_sha256_ctx *sha;
    uint8_t *area; /* owned; lz4 only */
    size_t area_len;
    size_t area_capacity;
};

kb_segment_writer *kb_segment_writer_new(const kb_segment_writer_opts *opts)
{
    kb_segment_writer *writer = kb_calloc(1, sizeof *writer);
    writer->sink = opts->sink;
    writer->codec = opts->codec;
    writer->verify = opts->verify;
    writer->sha = kb_sha256_new();
    writer->info.codec = opts->codec;
    writer->info.from = opts->from;
    writer->index.flags = opts->has_own_block ? KB_INDEX_FLAG_OWN_BLOCK : 0;
    writer->index.partition = opts->partition;
    writer->index.from = opts->from;
    memcpy(writer->index.attempt_id, opts->attempt_id, KB_ID_BYTES);
    memcpy(writer->index.topic_id, opts->topic_id, KB_ID_BYTES);
    kb_frame_index_key_hash(opts->key, writer->index.key_hash);
    return writer;
}

void kb_segment_writer_free(kb_segment_writer *owned_writer)
{
    if (owned_writer == NULL)
        return;
    if (!owned_writer->is_completed && owned_writer->sink.abort != NULL)
        owned_writer->sink.abort(owned_writer->sink.ctx);
    kb_frame_index_done(&owned_writer->index);
    kb_sha256_free(owned_writer->sha);
    free(owned_writer->area);
    free(owned_writer);
}

void kb_segment_writer_free_at(kb_segment_writer **at)
{
    kb_segment_writer_free(*at);
    *at = NULL;
}

uint64_t kb_segment_writer_raw_bytes(const kb_segment_writer *writer)
{
    return writer->info.raw_bytes;
}

uint64_t kb_segment_writer_stored_bytes(const kb_segment_writer *writer)
{
    return writer->body_bytes;
}

const kb_segment_info *kb_segment_writer_info(const kb_segment_writer *writer)
{
    return writer->is_closed ? &writer->info : NULL;
}

/* Sends bytes of the body whose CRC is known. */
static kb_code send(kb_segment_writer *writer, const void *bytes, size_t len, uint32_t crc, kb_error *err)
{
    kb_code code = writer->sink.append(writer->sink.ctx, bytes, len, err);
    if (code != KB_OK)
        return code;
    kb_sha256_update(writer->sha, bytes, len);
    writer->body_crc = kb_crc32_combine(writer->body_crc, crc, len);
    writer->body_bytes += len;
    return KB_OK;
}

static kb_code check_frame(const kb_segment_writer *writer, const kb_frame_info *frame, kb_error *err)
{
    if (writer->is_closed || !frame->sealed || frame->codec != writer->codec)
        return kb_fail(err, KB_ERR_INTERNAL, "frame of offset %lld is not for this segment",
                       (long long)frame->first_offset);
    if (frame->first_offset < writer->info.from ||
        (writer->info.count > 0 && frame->first_offset <= writer->info.end))
        return kb_fail(err, KB_ERR_INTERNAL, "frame of offset %lld came after offset %lld",
                       (long long)frame->first_offset, (long long)writer->info.end);
    return KB_OK;
}

static kb_code add_entry(kb_segment_writer *writer, const kb_frame_info *frame, kb_error *err)
{
    kb_frame_index *index = &writer->index;
    if (index->entry_count >= ENTRIES_MAX)
        return kb_fail(err, KB_ERR_TOO_LARGE, "a segment holds %u frames", (unsigned)ENTRIES_MAX);
    index->entries =
        kb_grow(index->entries, index->entry_count, &writer->entry_capacity, sizeof *index->entries);
    index->entries[index->entry_count++] = (kb_frame_entry){
        .position = KB_SEGMENT_HEADER_BYTES + writer->body_bytes,
        .stored_len = (uint32_t)frame->stored_len,
        .raw_len = (uint32_t)frame->raw_len,
        .first_offset = frame->first_offset,
        .last_offset = frame->last_offset,
        .min_timestamp = frame->min_timestamp,
        .max_timestamp = frame->max_timestamp,
        .record_count = frame->record_count,
        .crc32 = frame->crc32,
    };
    return KB_OK;
}

/* The one LZ4 block needs the whole area. */
static kb_code hold(kb_segment_writer *writer, kb_view bytes, kb_error *err)
{
    size_t needed = writer->area_len + bytes.len;
    if (needed > LZ4_AREA_MAX_BYTES)
        return kb_fail(err, KB_ERR_TOO_LARGE, "an lz4 segment of %zu bytes; the codec holds %zu", needed,
                       LZ4_AREA_MAX_BYTES);
    if (needed > writer->area_capacity) {
        size_t wanted = needed > 2 * writer->area_capacity ? needed : 2 * writer->area_capacity;
        uint8_t *moved = realloc(writer->area, wanted);
        if (moved == NULL)
            return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for an lz4 segment of %zu bytes", wanted);
        writer->area = moved;
        writer->area_capacity = wanted;
    }
    kb_put_bytes(writer->area + writer->area_len, bytes.data, bytes.len);
    writer->area_len = needed;
    return KB_OK;
}

static void count_frame(kb_segment_writer *writer, const kb_frame_info *frame)
{
    kb_segment_info *info = &writer->info;
    if (info->count == 0) {
        info->start = frame->first_offset;
        info->min_timestamp = frame->min_timestamp;
        info->max_timestamp = frame->max_timestamp;
    }
    info->count += frame->record_count;
    info->end = frame->last_offset;
    if (frame->min_timestamp < info->min_timestamp)
        info->min_timestamp = frame->min_timestamp;
    if (frame->max_timestamp > info->max_timestamp)
        info->max_timestamp = frame->max_timestamp;
    info->raw_bytes += frame->raw_len;
    kb_digest_add(&info->digest, &frame->digest);
    memcpy(info->last_sha256, frame->last_sha256, sizeof info->last_sha256);
    if (frame->max_total_len > writer->index.max_total_len)
        writer->index.max_total_len = frame->max_total_len;
}

kb_code kb_segment_writer_append(kb_segment_writer *writer, const kb_frame *frame, kb_error *err)
{
    const kb_frame_info *info = kb_frame_info_view(frame);
    kb_view bytes = kb_frame_bytes(frame);
    kb_code code = check_frame(writer, info, err);
    if (code == KB_OK && writer->codec == KB_CODEC_ZSTD)
        code = add_entry(writer, info, err);
    if (code != KB_OK)
        return code;
    code = writer->codec == KB_CODEC_LZ4 ? hold(writer, bytes, err)
                                         : send(writer, bytes.data, bytes.len, info->crc32, err);
    if (code != KB_OK)
        return code;
    count_frame(writer, info);
    return KB_OK;
}

/* ---- finishing ---- */

static kb_code send_index(kb_segment_writer *writer, kb_error *err)
{
    kb_frame_index *index = &writer->index;
    index->to = writer->info.to;
    index->min_timestamp = writer->info.min_timestamp;
    index->max_timestamp = writer->info.max_timestamp;
    index->raw_bytes = writer->info.raw_bytes;
    index->data_bytes = writer->body_bytes;
    index->digest = writer->info.digest;
    size_t len = kb_frame_index_encoded_size(index->entry_count);
    KB_AUTOFREE uint8_t *bytes = kb_try_malloc(len);
    if (bytes == NULL)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for a frame index of %zu bytes", len);
    kb_frame_index_encode(index, bytes);
    return send(writer, bytes, len, kb_crc32(0, bytes, len), err);
}

static bool is_block_right(const kb_segment_writer *writer, const char *block, int block_len)
{
    KB_AUTOFREE char *plain = kb_try_malloc(writer->area_len);
    if (plain == NULL)
        return false;
    int len = LZ4_decompress_safe(block, plain, block_len, (int)writer->area_len);
    return len == (int)writer->area_len && memcmp(plain, writer->area, writer->area_len) == 0;
}

static int make_block(const kb_segment_writer *writer, char *to, int capacity)
{
    for (int tries = 0; tries < LZ4_TRIES; tries++) {
        const char *area = (const char *)writer->area;
        int len = LZ4_compress_default(area, to, (int)writer->area_len, capacity);
        if (len > 0 && (!writer->verify || is_block_right(writer, to, len)))
            return len;
    }
    return 0;
}

static kb_code send_lz4(kb_segment_writer *writer, kb_error *err)
{
    int bound = LZ4_compressBound((int)writer->area_len);
    KB_AUTOFREE uint8_t *bytes = kb_try_malloc(LZ4_PREFIX_BYTES + (size_t)bound);
    if (bytes == NULL)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for an lz4 block of %d bytes", bound);
    uint8_t *block = kb_put_u32(bytes, (uint32_t)writer->area_len);
    int len = make_block(writer, (char *)block, bound);
    if (len <= 0)
        return kb_fail(err, KB_TEMPORARY_FAILURE,
                       "an lz4 block did not decompress to its %zu bytes; hint: suspect the memory of this "
                       "machine",
                       writer->area_len);
    size_t body_len = LZ4_PREFIX_BYTES + (size_t)len;
    return send(writer, bytes, body_len, kb_crc32(0, bytes, body_len), err);
}

static kb_code close_object(kb_segment_writer *writer, kb_error *err)
{
    kb_segment_info *info = &writer->info;
    kb_segment_header header = {info->codec, info->count, info->start, info->end};
    kb_segment_header_encode(&header, info->header);
    uint32_t header_crc = kb_crc32(0, info->header, sizeof info->header);
    kb_segment_footer_encode(kb_crc32_combine(header_crc, writer->body_crc, writer->body_bytes),
                             info->footer);
    kb_code code = writer->sink.append(writer->sink.ctx, info->footer, sizeof info->footer, err);
    if (code != KB_OK)
        return code;
    kb_sha256_update(writer->sha, info->footer, sizeof info->footer);
    kb_sha256_update(writer->sha, info->header, sizeof info->header);
    kb_sha256_final(writer->sha, info->sha256);
    info->bytes = KB_SEGMENT_MIN_BYTES + writer->body_bytes;
    writer->is_closed = true;
    return KB_OK;
}

kb_code kb_segment_writer_finish(kb_segment_writer *writer, int64_t to, kb_segment_info *ret_info,
                                 kb_error *err)
{
    if (writer->is_closed || writer->info.count == 0 || to <= writer->info.end)
        return kb_fail(err, KB_ERR_INTERNAL, "a segment of %llu records up to offset %lld cannot end at %lld",
                       (unsigned long long)writer->info.count, (long long)writer->info.end, (long long)to);
    writer->info.to = to;
    kb_code code = KB_OK;
    if (writer->codec == KB_CODEC_ZSTD)
        code = send_index(writer, err);
    if (writer->codec == KB_CODEC_LZ4)
        code = send_lz4(writer, err);
    if (code == KB_OK)
        code = close_object(writer, err);
    if (code == KB_OK)
        code = writer->sink.complete(writer->sink.ctx, writer->info.header, err);
    if (code != KB_OK)
        return code;
    writer->is_completed = true;
    *ret_info = writer->info;
    return KB_OK;
}

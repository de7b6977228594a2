#include "worker/segment/frame.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "common/base/crc.h"
#include "common/base/failpoint.h"
#include "common/base/mem.h"

#define DEFAULT_LEVEL 3
/* From this level on libzstd chooses windows above 2^23 by itself. */
#define WIDE_WINDOW_LEVEL 20
#define WINDOW_LOG 23
#define WINDOW_LOG_LARGE_RECORD 27
#define LARGE_RECORD_BYTES (8u << 20)
/* Scratch memory beyond this is given back after a frame with a large record. */
#define SCRATCH_KEEP_BYTES ((size_t)3 << 20)
#define SEAL_TRIES 3

struct kb_frame {
    kb_frame_info info;
    uint8_t *buffer; /* owned */
    size_t capacity;
    size_t first_capacity;
    size_t len; /* of the record area or, sealed, of the stored bytes */
};

kb_frame *kb_frame_new(size_t capacity_bytes)
{
    kb_frame *frame = kb_calloc(1, sizeof *frame);
    frame->first_capacity = capacity_bytes;
    return frame;
}

void kb_frame_free(kb_frame *owned_frame)
{
    if (owned_frame == NULL)
        return;
    free(owned_frame->buffer);
    free(owned_frame);
}

void kb_frame_free_at(kb_frame **at)
{
    kb_frame_free(*at);
    *at = NULL;
}

void kb_frame_reset(kb_frame *frame)
{
    frame->info = (kb_frame_info){0};
    frame->len = 0;
    if (frame->capacity > 2 * frame->first_capacity) {
        kb_free_at(&frame->buffer);
        frame->capacity = 0;
    }
}

const kb_frame_info *kb_frame_info_view(const kb_frame *frame)
{
    return &frame->info;
}

size_t kb_frame_memory(const kb_frame *frame)
{
    return frame->capacity;
}

kb_view kb_frame_bytes(const kb_frame *frame)
{
    return kb_view_of(frame->buffer, frame->len);
}

/* A full frame grows for its last record only, and then to its exact size; a small one doubles. */
static kb_code reserve(kb_frame *frame, size_t needed, kb_error *err)
{
    if (needed <= frame->capacity)
        return KB_OK;
    size_t wanted = frame->capacity == 0 ? frame->first_capacity : frame->capacity;
    if (frame->capacity > 0 && frame->capacity < KB_FRAME_TARGET_BYTES)
        wanted *= 2;
    if (wanted < needed)
        wanted = needed;
    uint8_t *moved = realloc(frame->buffer, wanted);
    if (moved == NULL)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for a frame of %zu bytes", wanted);
    frame->buffer = moved;
    frame->capacity = wanted;
    return KB_OK;
}

static void count_record(kb_frame_info *info, const kb_record_in *record, size_t size)
{
    if (info->record_count == 0) {
        info->first_offset = record->offset;
        info->min_timestamp = record->timestamp;
        info->max_timestamp = record->timestamp;
    }
    info->record_count++;
    info->last_offset = record->offset;
    if (record->timestamp < info->min_timestamp)
        info->min_timestamp = record->timestamp;
    if (record->timestamp > info->max_timestamp)
        info->max_timestamp = record->timestamp;
    if (size - KB_RECORD_LEN_BYTES > info->max_total_len)
        info->max_total_len = (uint32_t)(size - KB_RECORD_LEN_BYTES);
    info->raw_len += size;
}

kb_code kb_frame_append(kb_frame *frame, const kb_record_in *record, const kb_own_block_opts *own,
                        bool *ret_full, kb_error *err)
{
    if (frame->info.sealed || frame->len >= KB_FRAME_TARGET_BYTES)
        return kb_fail(err, KB_ERR_INTERNAL, "record %lld does not go into a frame that is full",
                       (long long)record->offset);
    if (frame->info.record_count > 0 && record->offset <= frame->info.last_offset)
        return kb_fail(err, KB_RECORD_INVALID, "record at offset %lld came after offset %lld",
                       (long long)record->offset, (long long)frame->info.last_offset);
    size_t size;
    kb_code code = kb_record_encoded_size(record, own, &size, err);
    if (code == KB_OK)
        code = reserve(frame, frame->len + size, err);
    if (code != KB_OK)
        return code;
    kb_record_encode(frame->buffer + frame->len, record, own);
    frame->len += size;
    count_record(&frame->info, record, size);
    *ret_full = frame->len >= KB_FRAME_TARGET_BYTES;
    return KB_OK;
}

/* ---- sealing ---- */

typedef struct scratch {
    uint8_t *data; /* owned */
    size_t capacity;
} scratch;

struct kb_frame_encoder {
    kb_frame_encoder_opts opts;
    ZSTD_CCtx *compressor;
    ZSTD_DCtx *decompressor;
    kb_record_hasher *hasher;
    scratch packed;
    scratch plain;
};

static kb_code scratch_reserve(scratch *memory, size_t needed, kb_error *err)
{
    if (needed <= memory->capacity)
        return KB_OK;
    kb_free_at(&memory->data);
    memory->capacity = 0;
    memory->data = kb_try_malloc(needed);
    if (memory->data == NULL)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory to compress a frame: %zu bytes", needed);
    memory->capacity = needed;
    return KB_OK;
}

static void scratch_trim(scratch *memory)
{
    if (memory->capacity <= SCRATCH_KEEP_BYTES)
        return;
    kb_free_at(&memory->data);
    memory->capacity = 0;
}

static kb_code zstd_fail(kb_error *err, const char *what, size_t result)
{
    kb_code code =
        ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation ? KB_TEMPORARY_FAILURE : KB_ERR_INTERNAL;
    return kb_fail(err, code, "%s: %s", what, ZSTD_getErrorName(result));
}

static kb_code setup_zstd(kb_frame_encoder *encoder, kb_error *err)
{
    encoder->compressor = ZSTD_createCCtx();
    encoder->decompressor = ZSTD_createDCtx();
    if (encoder->compressor == NULL || encoder->decompressor == NULL)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for zstd");
    int level = encoder->opts.level != 0 ? encoder->opts.level : DEFAULT_LEVEL;
    encoder->opts.level = level;
    size_t result = ZSTD_CCtx_setParameter(encoder->compressor, ZSTD_c_compressionLevel, level);
    if (!ZSTD_isError(result))
        result = ZSTD_CCtx_setParameter(encoder->compressor, ZSTD_c_contentSizeFlag, 1);
    if (!ZSTD_isError(result))
        result = ZSTD_CCtx_setParameter(encoder->compressor, ZSTD_c_checksumFlag, 1);
    return ZSTD_isError(result) ? zstd_fail(err, "zstd parameters", result) : KB_OK;
}

kb_code kb_frame_encoder_new(const kb_frame_encoder_opts *opts, kb_frame_encoder **ret_encoder, kb_error *err)
{
    kb_frame_encoder *encoder = kb_calloc(1, sizeof *encoder);
    encoder->opts = *opts;
    encoder->hasher = kb_record_hasher_new();
    kb_code code = opts->codec == KB_CODEC_ZSTD ? setup_zstd(encoder, err) : KB_OK;
    if (code != KB_OK) {
        kb_frame_encoder_free(encoder);
        return code;
    }
    *ret_encoder = encoder;
    return KB_OK;
}

void kb_frame_encoder_free(kb_frame_encoder *owned_encoder)
{
    if (owned_encoder == NULL)
        return;
    ZSTD_freeCCtx(owned_encoder->compressor);
    ZSTD_freeDCtx(owned_encoder->decompressor);
    kb_record_hasher_free(owned_encoder->hasher);
    free(owned_encoder->packed.data);
    free(owned_encoder->plain.data);
    free(owned_encoder);
}

void kb_frame_encoder_free_at(kb_frame_encoder **at)
{
    kb_frame_encoder_free(*at);
    *at = NULL;
}

/* Reads the records back as a reader will, and sums their hashes. */
static kb_code digest_frame(kb_frame_encoder *encoder, kb_frame *frame, kb_error *err)
{
    kb_own_block_mode mode = encoder->opts.has_own_block ? KB_OWN_BLOCK_PRESENT : KB_OWN_BLOCK_NONE;
    kb_digest digest = KB_DIGEST_ZERO;
    kb_cursor area = kb_cursor_of(frame->buffer, frame->len);
    while (area.left > 0) {
        kb_record_view record;
        if (kb_record_decode(&area, &record, err) != KB_OK)
            return kb_wrap_as(err, KB_ERR_INTERNAL, "a frame in memory is damaged");
        if (!kb_record_hash(encoder->hasher, &record, mode, frame->info.last_sha256))
            return kb_fail(err, KB_ERR_INTERNAL, "record at offset %lld lacks its bookkeeping headers",
                           (long long)record.offset);
        kb_digest_add_hash(&digest, frame->info.last_sha256);
    }
    frame->info.digest = digest;
    return KB_OK;
}

static kb_code pack(kb_frame_encoder *encoder, const kb_frame *frame, size_t *ret_len, kb_error *err)
{
    kb_code code = scratch_reserve(&encoder->packed, ZSTD_compressBound(frame->len), err);
    if (code != KB_OK)
        return code;
    if (encoder->opts.level >= WIDE_WINDOW_LEVEL) {
        int window_log =
            frame->info.max_total_len > LARGE_RECORD_BYTES ? WINDOW_LOG_LARGE_RECORD : WINDOW_LOG;
        size_t set = ZSTD_CCtx_setParameter(encoder->compressor, ZSTD_c_windowLog, window_log);
        if (ZSTD_isError(set))
            return zstd_fail(err, "zstd window", set);
    }
    size_t len = ZSTD_compress2(encoder->compressor, encoder->packed.data, encoder->packed.capacity,
                                frame->buffer, frame->len);
    if (ZSTD_isError(len))
        return zstd_fail(err, "cannot compress a frame", len);
    if (KB_FAILPOINT_SHORT("segment.flip"))
        encoder->packed.data[len / 2] ^= 1;
    *ret_len = len;
    return KB_OK;
}

/* Whether the packed bytes give the frame again; memory trouble counts as no. */
static bool is_packed_right(kb_frame_encoder *encoder, const kb_frame *frame, size_t packed_len)
{
    KB_AUTO_ERROR(ignored);
    if (scratch_reserve(&encoder->plain, frame->len, &ignored) != KB_OK)
        return false;
    size_t len = ZSTD_decompressDCtx(encoder->decompressor, encoder->plain.data, frame->len,
                                     encoder->packed.data, packed_len);
    return len == frame->len && memcmp(encoder->plain.data, frame->buffer, len) == 0;
}

static kb_code pack_verified(kb_frame_encoder *encoder, kb_frame *frame, size_t *ret_len, kb_error *err)
{
    for (uint32_t tries = 0; tries < SEAL_TRIES; tries++) {
        frame->info.rebuilt_count = tries;
        kb_code code = pack(encoder, frame, ret_len, err);
        if (code != KB_OK)
            return code;
        if (!encoder->opts.verify || is_packed_right(encoder, frame, *ret_len))
            return KB_OK;
    }
    return kb_fail(
        err, KB_TEMPORARY_FAILURE,
        "a frame compressed %d times did not decompress to its %zu bytes; hint: suspect the memory "
        "of this machine",
        SEAL_TRIES, frame->len);
}

static kb_code seal_zstd(kb_frame_encoder *encoder, kb_frame *frame, kb_error *err)
{
    size_t len = 0;
    kb_code code = pack_verified(encoder, frame, &len, err);
    if (code == KB_OK)
        code = reserve(frame, len, err);
    if (code != KB_OK)
        return code;
    frame->info.crc32 = kb_crc32(0, encoder->packed.data, len);
    /* The raw bytes have done their duty; their place takes the stored ones. */
    memcpy(frame->buffer, encoder->packed.data, len);
    frame->len = len;
    return KB_OK;
}

kb_code kb_frame_seal(kb_frame_encoder *encoder, kb_frame *frame, kb_error *err)
{
    if (frame->info.record_count == 0 || frame->info.sealed)
        return kb_fail(err, KB_ERR_INTERNAL, "a frame cannot be sealed empty or twice");
    kb_code code = digest_frame(encoder, frame, err);
    if (code == KB_OK && encoder->opts.codec == KB_CODEC_ZSTD)
        code = seal_zstd(encoder, frame, err);
    scratch_trim(&encoder->packed);
    scratch_trim(&encoder->plain);
    if (code != KB_OK)
        return code;
    if (encoder->opts.codec == KB_CODEC_NONE)
        frame->info.crc32 = kb_crc32(0, frame->buffer, frame->len);
    frame->info.codec = encoder->opts.codec;
    frame->info.stored_len = frame->len;
    frame->info.sealed = true;
    return KB_OK;
}

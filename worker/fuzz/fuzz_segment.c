/*
 * The segment reader on hostile objects, and writer against reader. The first byte chooses: the rest is an
 * object as it is, an object whose CRCs are made right, an lz4 block for our decoder and the library's, or
 * the recipe of records that are written and must come back.
 */
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crc.h"
#include "common/base/mem.h"
#include "worker/segment/frame.h"
#include "worker/segment/lz4_stream.h"
#include "worker/segment/segment_reader.h"
#include "worker/segment/segment_writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define KEY "k"
#define PLAIN_MAX ((uint32_t)1 << 20)

typedef struct object {
    uint8_t *data;
    size_t len;
} object;

static void check(bool condition)
{
    if (!condition)
        abort();
}

static kb_code get_range(void *ctx, uint64_t offset, void *to, size_t len, kb_error *err)
{
    (void)err;
    const object *from = ctx;
    check(offset <= from->len && len <= from->len - offset);
    memcpy(to, from->data + offset, len);
    return KB_OK;
}

static void put(object *to, const void *bytes, size_t len)
{
    to->data = kb_realloc(to->data, to->len + len, 1);
    kb_put_bytes(to->data + to->len, bytes, len);
    to->len += len;
}

/* ---- hostile objects ---- */

/* Reads all and returns the bytes of records, for the comparison of held and ranged reading. */
static kb_code read_all(object *from, const kb_segment_reader_opts *opts, object *ret_area)
{
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_segment_reader_free_at) kb_segment_reader *reader = kb_segment_reader_new(opts);
    const kb_segment_source source = {from, from->len, get_range};
    kb_segment_expect expect = KB_SEGMENT_EXPECT_INIT;
    expect.key = KEY;
    kb_code code = kb_segment_reader_open(reader, &source, &expect, &err);
    KB_AUTO_AREA(area);
    bool has = true;
    while (code == KB_OK && has) {
        code = kb_segment_reader_next(reader, &area, &has, &err);
        if (code != KB_OK || !has)
            break;
        put(ret_area, area.data, area.len);
        kb_cursor cursor = kb_area_cursor(&area);
        while (cursor.left > 0) {
            kb_record_view record;
            check(kb_record_decode(&cursor, &record, &err) == KB_OK);
            kb_own_block_strip(&record, kb_segment_reader_own_block(reader));
            int64_t offset;
            (void)!kb_record_original_offset(&record, &offset);
        }
    }
    check(code == KB_OK || code == KB_BACKUP_CORRUPT || code == KB_MEMORY_TOO_SMALL);
    return code;
}

static void fuzz_object(const uint8_t *data, size_t size)
{
    const kb_segment_reader_opts held = {.max_area_bytes = 64 << 20, .deep = true};
    const kb_segment_reader_opts ranged = {
        .held_bytes = 1, .range_bytes = 100, .max_area_bytes = 64 << 20, .deep = true};
    object copy = {kb_malloc(size), size};
    kb_put_bytes(copy.data, data, size);
    object area_held = {NULL, 0};
    object area_ranged = {NULL, 0};
    kb_code code = read_all(&copy, &held, &area_held);
    check(read_all(&copy, &ranged, &area_ranged) == code);
    if (code == KB_OK)
        check(area_held.len == area_ranged.len &&
              (area_held.len == 0 || memcmp(area_held.data, area_ranged.data, area_held.len) == 0));
    free(area_held.data);
    free(area_ranged.data);

    KB_AUTO_ERROR(err);
    const kb_segment_source source = {&copy, copy.len, get_range};
    bool is_present = false;
    kb_segment_header header;
    kb_frame_index index = {0};
    if (kb_segment_index_read(&source, KEY, &is_present, &header, &index, &err) == KB_OK && is_present)
        kb_frame_index_done(&index);
    free(copy.data);
}

static void fuzz_right_crc(const uint8_t *data, size_t size)
{
    if (size < KB_SEGMENT_MIN_BYTES)
        return;
    KB_AUTOFREE uint8_t *copy = kb_malloc(size);
    memcpy(copy, data, size);
    size_t end = size - KB_SEGMENT_FOOTER_BYTES;
    uint32_t payload_len;
    if (end >= KB_SEGMENT_HEADER_BYTES + kb_frame_index_encoded_size(0) &&
        kb_frame_index_tail(copy + end - KB_INDEX_TAIL_BYTES, &payload_len) &&
        payload_len >= KB_INDEX_TAIL_BYTES && payload_len <= end - KB_SEGMENT_HEADER_BYTES) {
        uint32_t crc = kb_crc32(0, copy + end - payload_len, payload_len - KB_INDEX_TAIL_BYTES);
        kb_put_u32(copy + end - 12, crc);
    }
    kb_segment_footer_encode(kb_crc32(0, copy, end), copy + end);
    fuzz_object(copy, size);
}

/* ---- lz4 ---- */

static void fuzz_lz4(const uint8_t *data, size_t size)
{
    uint32_t plain_len;
    if (size <= sizeof plain_len)
        return;
    memcpy(&plain_len, data, sizeof plain_len);
    plain_len %= PLAIN_MAX;
    object block = {kb_malloc(size - sizeof plain_len), size - sizeof plain_len};
    memcpy(block.data, data + sizeof plain_len, block.len);
    KB_AUTOFREE char *theirs = kb_malloc(plain_len);
    int their_len = LZ4_decompress_safe((const char *)block.data, theirs, (int)block.len, (int)plain_len);
    const kb_segment_source source = {&block, block.len, get_range};
    kb_body body = {0};
    kb_body_start(&body, &source, NULL, 64);
    kb_lz4_stream *stream = kb_lz4_stream_new();
    kb_lz4_stream_start(stream, plain_len);
    KB_AUTO_ERROR(err);
    KB_AUTOFREE uint8_t *ours = kb_malloc(plain_len + 1);
    size_t our_len = 0;
    kb_code code = kb_lz4_stream_read(stream, &body, ours, plain_len + 1, &our_len, &err);
    kb_lz4_stream_free(stream);
    kb_body_done(&body);
    free(block.data);
    /*
     * The library also wants the last bytes to be literals, so ours may take a little more; never less, but
     * for the forbidden offset 0.
     */
    if (their_len == (int)plain_len && strstr(kb_error_text(&err), "offset 0") == NULL)
        check(code == KB_OK && our_len == plain_len && memcmp(ours, theirs, plain_len) == 0);
    check(code != KB_OK || our_len == plain_len);
}

/* ---- records that must come back ---- */

static kb_code sink_append(void *ctx, const void *bytes, size_t len, kb_error *err)
{
    (void)err;
    object *to = ctx;
    if (to->len == 0)
        put(to, (uint8_t[KB_SEGMENT_HEADER_BYTES]){0}, KB_SEGMENT_HEADER_BYTES);
    put(to, bytes, len);
    return KB_OK;
}

static kb_code sink_complete(void *ctx, const uint8_t header[KB_SEGMENT_HEADER_BYTES], kb_error *err)
{
    (void)err;
    memcpy(((object *)ctx)->data, header, KB_SEGMENT_HEADER_BYTES);
    return KB_OK;
}

/* A byte range of the recipe; length bytes of 255 are null. */
static int32_t take_sized(kb_cursor *recipe, const uint8_t **ret_data)
{
    uint8_t len = kb_cursor_u8(recipe);
    if (len == 255)
        return -1;
    size_t taken = len < recipe->left ? len : recipe->left;
    *ret_data = kb_cursor_take(recipe, taken);
    return *ret_data == NULL ? 0 : (int32_t)taken;
}

#define HEADERS_MAX 7
static void take_record(kb_cursor *recipe, kb_record_in *record, kb_header_in headers[HEADERS_MAX])
{
    const uint8_t *bytes = NULL;
    record->offset += 1 + kb_cursor_u8(recipe);
    record->timestamp = kb_cursor_i64(recipe);
    record->key_len = take_sized(recipe, &bytes);
    record->key = bytes;
    record->value_len = take_sized(recipe, &bytes);
    record->value = bytes;
    record->headers = headers;
    record->header_count = kb_cursor_u8(recipe) % (HEADERS_MAX + 1);
    for (size_t i = 0; i < record->header_count; i++) {
        bytes = NULL;
        int32_t name_len = take_sized(recipe, &bytes);
        headers[i].name = (const char *)bytes;
        headers[i].name_len = name_len > 0 ? (size_t)name_len : 0;
        headers[i].value_len = take_sized(recipe, &bytes);
        headers[i].value = bytes;
    }
}

static void seal_and_append(kb_frame_encoder *encoder, kb_frame *frame, kb_segment_writer *writer)
{
    KB_AUTO_ERROR(err);
    if (kb_frame_info_view(frame)->record_count == 0)
        return;
    check(kb_frame_seal(encoder, frame, &err) == KB_OK);
    check(kb_segment_writer_append(writer, frame, &err) == KB_OK);
    kb_frame_reset(frame);
}

static void write_records(kb_cursor recipe, kb_codec codec, bool has_own_block, object *to, object *area)
{
    KB_AUTO_ERROR(err);
    kb_frame_encoder *encoder = NULL;
    const kb_frame_encoder_opts opts = {
        .codec = codec, .level = 1, .verify = true, .has_own_block = has_own_block};
    check(kb_frame_encoder_new(&opts, &encoder, &err) == KB_OK);
    const kb_segment_writer_opts writer_opts = {.sink = {to, sink_append, sink_complete, NULL},
                                                .key = KEY,
                                                .codec = codec,
                                                .has_own_block = has_own_block,
                                                .verify = true};
    kb_segment_writer *writer = kb_segment_writer_new(&writer_opts);
    kb_frame *frame = kb_frame_new(64);
    const kb_own_block_opts own = {"cluster", 7};
    kb_record_in record = {.offset = 0};
    kb_header_in headers[HEADERS_MAX];
    while (recipe.left > 0 && !recipe.failed) {
        int64_t offset_before = record.offset;
        bool is_full = false;
        take_record(&recipe, &record, headers);
        size_t at = kb_frame_bytes(frame).len;
        if (kb_frame_append(frame, &record, has_own_block ? &own : NULL, &is_full, &err) != KB_OK) {
            record.offset = offset_before;
            continue;
        }
        kb_view bytes = kb_frame_bytes(frame);
        put(area, bytes.data + at, bytes.len - at);
        if (is_full || record.timestamp % 5 == 0)
            seal_and_append(encoder, frame, writer);
    }
    seal_and_append(encoder, frame, writer);
    kb_segment_info info;
    if (area->len > 0)
        check(kb_segment_writer_finish(writer, record.offset + 1, &info, &err) == KB_OK);
    kb_frame_free(frame);
    kb_segment_writer_free(writer);
    kb_frame_encoder_free(encoder);
}

static void fuzz_round_trip(const uint8_t *data, size_t size)
{
    if (size == 0)
        return;
    object written = {NULL, 0};
    object expected = {NULL, 0};
    object got = {NULL, 0};
    write_records(kb_cursor_of(data + 1, size - 1), (kb_codec)(data[0] % 3), data[0] >= 128, &written,
                  &expected);
    const kb_segment_reader_opts opts = {.deep = true};
    if (expected.len > 0) {
        check(read_all(&written, &opts, &got) == KB_OK);
        check(got.len == expected.len && memcmp(got.data, expected.data, got.len) == 0);
    }
    free(written.data);
    free(expected.data);
    free(got.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    switch (data[0] % 4) {
    case 0:
        fuzz_object(data + 1, size - 1);
        break;
    case 1:
        fuzz_right_crc(data + 1, size - 1);
        break;
    case 2:
        fuzz_lz4(data + 1, size - 1);
        break;
    default:
        fuzz_round_trip(data + 1, size - 1);
        break;
    }
    return 0;
}

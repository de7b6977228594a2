#include "worker/segment/frame.h"

#include <zstd.h>

#include "common/base/failpoint.h"
#include "worker/segment/zstd_frame.h"
#include "worker/tests/segment_fixture.h"

#define AUTO_FRAME(name, capacity) KB_CLEANUP(kb_frame_free_at) kb_frame *name = kb_frame_new(capacity)
#define AUTO_ENCODER(name) KB_CLEANUP(kb_frame_encoder_free_at) kb_frame_encoder *name = NULL

static kb_frame_encoder *new_encoder(kb_codec codec, int level)
{
    KB_AUTO_ERROR(err);
    const kb_frame_encoder_opts opts = {.codec = codec, .level = level, .verify = true};
    kb_frame_encoder *encoder = NULL;
    assert_ok(kb_frame_encoder_new(&opts, &encoder, &err));
    return encoder;
}

/* Appends a record of value_len bytes of text; returns whether the frame is full. */
static bool append(kb_frame *frame, int64_t offset, size_t value_len)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *value = kb_malloc(value_len);
    uint64_t seed = (uint64_t)offset;
    for (size_t i = 0; i < value_len; i++)
        value[i] = (char)('a' + test_random(&seed) % 16);
    const kb_record_in record = {.timestamp = 1000 - offset,
                                 .offset = offset,
                                 .key_len = -1,
                                 .value = value,
                                 .value_len = (int32_t)value_len};
    bool is_full = false;
    assert_ok(kb_frame_append(frame, &record, NULL, &is_full, &err));
    return is_full;
}

static void kb_frame_append_full_at_first_boundary_past_target(void **state)
{
    (void)state;
    AUTO_FRAME(frame, KB_FRAME_DEFAULT_CAPACITY);
    int64_t offset = 100;
    while (!append(frame, offset, 994)) /* 1024 bytes each */
        offset += 2;
    const kb_frame_info *info = kb_frame_info_view(frame);
    assert_int_equal(info->raw_len, KB_FRAME_TARGET_BYTES);
    assert_int_equal(info->record_count, 1024);
    assert_int_equal(info->first_offset, 100);
    assert_int_equal(info->last_offset, 100 + 2 * 1023);
    assert_int_equal(info->max_timestamp, 900);
    assert_int_equal(info->min_timestamp, 1000 - info->last_offset);
    assert_int_equal(info->max_total_len, 1020);
    assert_false(info->sealed);
    KB_AUTO_ERROR(err);
    const kb_record_in record = {.offset = offset + 1};
    bool is_full = false;
    assert_int_equal(kb_frame_append(frame, &record, NULL, &is_full, &err), KB_ERR_INTERNAL);
}

static void kb_frame_append_offset_not_ascending_is_refused(void **state)
{
    (void)state;
    AUTO_FRAME(frame, 1024);
    append(frame, 5, 10);
    for (int64_t offset = 4; offset <= 5; offset++) {
        KB_AUTO_ERROR(err);
        const kb_record_in record = {.offset = offset};
        bool is_full = false;
        assert_int_equal(kb_frame_append(frame, &record, NULL, &is_full, &err), KB_RECORD_INVALID);
        assert_int_equal(kb_frame_info_view(frame)->record_count, 1);
    }
}

static void kb_frame_append_large_record_grows_and_reset_shrinks(void **state)
{
    (void)state;
    AUTO_FRAME(frame, KB_FRAME_DEFAULT_CAPACITY);
    assert_int_equal(kb_frame_memory(frame), 0);
    append(frame, 1, 500000);
    assert_int_equal(kb_frame_memory(frame), KB_FRAME_DEFAULT_CAPACITY);
    assert_true(append(frame, 2, 10 << 20));
    assert_true(kb_frame_memory(frame) >= (10 << 20) + 500000);
    kb_frame_reset(frame);
    assert_int_equal(kb_frame_memory(frame), 0);
    assert_int_equal(kb_frame_info_view(frame)->record_count, 0);
    assert_false(append(frame, 1, 10));
    assert_int_equal(kb_frame_info_view(frame)->max_total_len, 36);
}

static void check_packed(const kb_frame *frame, const uint8_t *raw, size_t raw_len)
{
    KB_AUTO_ERROR(err);
    kb_view bytes = kb_frame_bytes(frame);
    const kb_frame_info *info = kb_frame_info_view(frame);
    assert_int_equal(bytes.len, info->stored_len);
    assert_int_equal(kb_crc32(0, bytes.data, bytes.len), info->crc32);
    assert_int_equal(info->raw_len, raw_len);
    kb_zstd_head head;
    assert_ok(kb_zstd_head_decode(bytes.data, bytes.len, &head, &err));
    assert_true(head.has_content_size);
    assert_int_equal(head.content_size, raw_len);
    assert_true((bytes.data[4] & 4) != 0); /* the checksum flag */
    uint64_t window_max = info->max_total_len > 8 << 20 ? (uint64_t)1 << 27 : (uint64_t)1 << 23;
    assert_true(head.window_size <= window_max);
    KB_AUTOFREE uint8_t *plain = kb_malloc(raw_len);
    assert_int_equal(ZSTD_decompress(plain, raw_len, bytes.data, bytes.len), raw_len);
    assert_memory_equal(plain, raw, raw_len);
}

static void kb_frame_seal_zstd_gives_frame_with_size_checksum_and_window(void **state)
{
    (void)state;
    const struct {
        int level;
        size_t first_len;
        size_t second_len;
    } cases[] = {
        {0, 10, 0},
        {1, 1000000, 100},
        {3, 1000000, 8300000}, /* more than 8 MiB of area, no record above it */
        {20, 1000000, 8300000},
        {22, 1000, 1000},
        {20, 100, 9 << 20},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        AUTO_FRAME(frame, 100);
        AUTO_ENCODER(encoder);
        encoder = new_encoder(KB_CODEC_ZSTD, cases[i].level);
        append(frame, 1, cases[i].first_len);
        append(frame, 2, cases[i].second_len);
        kb_view raw = kb_frame_bytes(frame);
        KB_AUTOFREE uint8_t *copy = kb_malloc(raw.len);
        kb_put_bytes(copy, raw.data, raw.len);
        assert_ok(kb_frame_seal(encoder, frame, &err));
        assert_true(kb_frame_info_view(frame)->sealed);
        assert_int_equal(kb_frame_info_view(frame)->rebuilt_count, 0);
        check_packed(frame, copy, raw.len);
        assert_int_equal(kb_frame_seal(encoder, frame, &err), KB_ERR_INTERNAL);
    }
}

static void kb_frame_seal_incompressible_record_fits(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_ENCODER(encoder);
    encoder = new_encoder(KB_CODEC_ZSTD, 3);
    AUTO_FRAME(frame, 64);
    uint8_t noise[4096];
    uint64_t seed = 1;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)test_random(&seed);
    const kb_record_in record = {
        .offset = 3, .key_len = -1, .value = noise, .value_len = (int32_t)sizeof noise};
    bool is_full = false;
    assert_ok(kb_frame_append(frame, &record, NULL, &is_full, &err));
    kb_view raw = kb_frame_bytes(frame);
    KB_AUTOFREE uint8_t *copy = kb_malloc(raw.len);
    kb_put_bytes(copy, raw.data, raw.len);
    assert_ok(kb_frame_seal(encoder, frame, &err));
    assert_true(kb_frame_bytes(frame).len > sizeof noise);
    check_packed(frame, copy, raw.len);
}

static void kb_frame_seal_other_codecs_keep_area(void **state)
{
    (void)state;
    const kb_codec codecs[] = {KB_CODEC_NONE, KB_CODEC_LZ4};
    for (size_t i = 0; i < KB_ARRAY_LEN(codecs); i++) {
        KB_AUTO_ERROR(err);
        AUTO_ENCODER(encoder);
        encoder = new_encoder(codecs[i], 3);
        AUTO_FRAME(frame, 64);
        append(frame, 1, 100);
        kb_view raw = kb_frame_bytes(frame);
        assert_ok(kb_frame_seal(encoder, frame, &err));
        kb_view sealed = kb_frame_bytes(frame);
        assert_ptr_equal(sealed.data, raw.data);
        assert_int_equal(sealed.len, raw.len);
        if (codecs[i] == KB_CODEC_NONE)
            assert_int_equal(kb_frame_info_view(frame)->crc32, kb_crc32(0, raw.data, raw.len));
    }
}

static void kb_frame_seal_golden_records_have_digest(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_ENCODER(encoder);
    encoder = new_encoder(KB_CODEC_ZSTD, 3);
    AUTO_FRAME(frame, 64);
    kb_record_in records[3];
    bool is_full = false;
    for (size_t i = 0; i < test_gold_records(records); i++)
        assert_ok(kb_frame_append(frame, &records[i], NULL, &is_full, &err));
    assert_ok(kb_frame_seal(encoder, frame, &err));
    char hex[KB_DIGEST_HEX_SIZE];
    kb_digest_hex(&kb_frame_info_view(frame)->digest, hex);
    assert_string_equal(hex, GOLD_DIGEST);
    KB_CLEANUP(kb_record_hasher_free_at) kb_record_hasher *hasher = kb_record_hasher_new();
    uint8_t last[KB_SHA256_SIZE];
    assert_ok(kb_record_hash_in(hasher, &records[2], last, &err));
    assert_memory_equal(last, kb_frame_info_view(frame)->last_sha256, sizeof last);
}

static void kb_frame_seal_own_block_leaves_digest_unchanged(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    const kb_frame_encoder_opts opts = {.codec = KB_CODEC_ZSTD, .verify = true, .has_own_block = true};
    AUTO_ENCODER(encoder);
    assert_ok(kb_frame_encoder_new(&opts, &encoder, &err));
    AUTO_FRAME(frame, 64);
    const kb_own_block_opts own = {"here", 4};
    kb_record_in records[3];
    bool is_full = false;
    for (size_t i = 0; i < test_gold_records(records); i++)
        assert_ok(kb_frame_append(frame, &records[i], &own, &is_full, &err));
    assert_ok(kb_frame_seal(encoder, frame, &err));
    char hex[KB_DIGEST_HEX_SIZE];
    kb_digest_hex(&kb_frame_info_view(frame)->digest, hex);
    assert_string_equal(hex, GOLD_DIGEST);

    /* A record without the block is a mistake of the caller that must not reach a backup. */
    kb_frame_reset(frame);
    assert_ok(kb_frame_append(frame, &records[1], NULL, &is_full, &err));
    assert_int_equal(kb_frame_seal(encoder, frame, &err), KB_ERR_INTERNAL);
}

static void kb_frame_seal_empty_frame_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_ENCODER(encoder);
    encoder = new_encoder(KB_CODEC_ZSTD, 3);
    AUTO_FRAME(frame, 64);
    assert_int_equal(kb_frame_seal(encoder, frame, &err), KB_ERR_INTERNAL);
}

#ifdef KB_FAILPOINTS
static void kb_frame_seal_flipped_bit_is_built_again(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_ENCODER(encoder);
    encoder = new_encoder(KB_CODEC_ZSTD, 3);
    AUTO_FRAME(frame, 64);
    append(frame, 1, 1000);
    kb_view raw = kb_frame_bytes(frame);
    KB_AUTOFREE uint8_t *copy = kb_malloc(raw.len);
    kb_put_bytes(copy, raw.data, raw.len);
    assert_ok(kb_failpoint_configure("segment.flip:short:1", &err));
    assert_ok(kb_frame_seal(encoder, frame, &err));
    assert_ok(kb_failpoint_configure("", &err));
    assert_int_equal(kb_frame_info_view(frame)->rebuilt_count, 1);
    check_packed(frame, copy, raw.len);
}

static void kb_frame_seal_always_flipped_fails_and_can_be_repeated(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_ENCODER(encoder);
    encoder = new_encoder(KB_CODEC_ZSTD, 3);
    AUTO_FRAME(frame, 64);
    append(frame, 1, 1000);
    assert_ok(kb_failpoint_configure("segment.flip:short:1,segment.flip:short:2,segment.flip:short:3", &err));
    assert_int_equal(kb_frame_seal(encoder, frame, &err), KB_TEMPORARY_FAILURE);
    assert_ok(kb_failpoint_configure("", &err));
    assert_false(kb_frame_info_view(frame)->sealed);
    assert_ok(kb_frame_seal(encoder, frame, &err));
}
#endif

static void kb_zstd_head_decode_bad_head_is_refused(void **state)
{
    (void)state;
    const struct {
        const char *text;
        size_t len;
        uint8_t bytes[8];
    } cases[] = {
        {"no zstd frame", 0, {0}},
        {"no zstd frame", 3, {0x28, 0xb5, 0x2f}},
        {"no zstd frame", 5, {0x27, 0xb5, 0x2f, 0xfd, 0}}, /* of libzstd 0.7 */
        {"no zstd frame", 5, {0x1f, 0x8b, 0x08, 0, 0}},    /* gzip */
        {"cut off", 4, {0x28, 0xb5, 0x2f, 0xfd}},
        {"cut off", 5, {0x28, 0xb5, 0x2f, 0xfd, 0}},
        {"cut off", 6, {0x28, 0xb5, 0x2f, 0xfd, 0x60, 0}},
        {"reserved", 6, {0x28, 0xb5, 0x2f, 0xfd, 0x08, 0x50}},
        {"dictionary 5", 7, {0x28, 0xb5, 0x2f, 0xfd, 0x01, 0x50, 5}},
        {"window", 6, {0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3 | 1}}, /* 2^27 and an eighth */
        {"window", 6, {0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3}},
        {"window", 6, {0x28, 0xb5, 0x2f, 0xfd, 0, 0xff}},
        {"skippable", 6, {0x50, 0x2a, 0x4d, 0x18, 1, 0}},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        kb_zstd_head head;
        assert_int_equal(kb_zstd_head_decode(cases[i].bytes, cases[i].len, &head, &err), KB_ERR_FORMAT);
        if (strstr(kb_error_text(&err), cases[i].text) == NULL)
            fail_msg("case %zu: %s", i, kb_error_text(&err));
    }
}

static void kb_zstd_head_decode_reads_sizes(void **state)
{
    (void)state;
    const struct {
        uint64_t window;
        uint64_t content;
        size_t len;
        uint8_t bytes[16];
    } cases[] = {
        {(uint64_t)1 << 27, 0, 6, {0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3}},
        {1 << 10, 0, 6, {0x28, 0xb5, 0x2f, 0xfd, 0, 0}},
        {0x8f, 0x8f, 6, {0x28, 0xb5, 0x2f, 0xfd, 0x24, 0x8f}},
        {256 + 0x102, 256 + 0x102, 7, {0x28, 0xb5, 0x2f, 0xfd, 0x60, 2, 1}},
        {1 << 10, 0x01020304, 10, {0x28, 0xb5, 0x2f, 0xfd, 0x80, 0, 4, 3, 2, 1}},
        {1 << 10, 1, 15, {0x28, 0xb5, 0x2f, 0xfd, 0xc1, 0, 0, 1}},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        kb_zstd_head head;
        assert_ok(kb_zstd_head_decode(cases[i].bytes, cases[i].len, &head, &err));
        assert_int_equal(head.window_size, cases[i].window);
        assert_int_equal(head.content_size, cases[i].content);
        assert_int_equal(head.has_content_size, cases[i].content > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_frame_append_full_at_first_boundary_past_target),
        cmocka_unit_test(kb_frame_append_offset_not_ascending_is_refused),
        cmocka_unit_test(kb_frame_append_large_record_grows_and_reset_shrinks),
        cmocka_unit_test(kb_frame_seal_zstd_gives_frame_with_size_checksum_and_window),
        cmocka_unit_test(kb_frame_seal_incompressible_record_fits),
        cmocka_unit_test(kb_frame_seal_other_codecs_keep_area),
        cmocka_unit_test(kb_frame_seal_golden_records_have_digest),
        cmocka_unit_test(kb_frame_seal_own_block_leaves_digest_unchanged),
        cmocka_unit_test(kb_frame_seal_empty_frame_is_refused),
#ifdef KB_FAILPOINTS
        cmocka_unit_test(kb_frame_seal_flipped_bit_is_built_again),
        cmocka_unit_test(kb_frame_seal_always_flipped_fails_and_can_be_repeated),
#endif
        cmocka_unit_test(kb_zstd_head_decode_bad_head_is_refused),
        cmocka_unit_test(kb_zstd_head_decode_reads_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

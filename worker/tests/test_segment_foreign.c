/* Segments that our writer never makes: those of other tools, which are read, and hostile ones, which are
 * not. */
#include <lz4.h>
#include <zstd.h>

#include "worker/segment/lz4_stream.h"
#include "worker/segment/segment_reader.h"
#include "worker/tests/segment_fixture.h"

#define KEY "b/topics/t/partition=0/segment-0.bin"

static kb_segment_expect any_expect(void)
{
    kb_segment_expect expect = KB_SEGMENT_EXPECT_INIT;
    expect.key = KEY;
    return expect;
}

static kb_code read_object(test_object *object, const kb_segment_expect *expect,
                           const kb_segment_reader_opts *opts, test_object *area, kb_error *err)
{
    KB_CLEANUP(kb_segment_reader_free_at) kb_segment_reader *reader = kb_segment_reader_new(opts);
    const kb_segment_source source = test_source(object);
    kb_code code = kb_segment_reader_open(reader, &source, expect, err);
    KB_AUTO_AREA(records);
    bool has = true;
    while (code == KB_OK && has) {
        code = kb_segment_reader_next(reader, &records, &has, err);
        if (code == KB_OK && has && area != NULL)
            test_object_put(area, records.data, records.len);
    }
    return code;
}

/* Wraps the body and expects the refusal, held and in ranges; `text` is part of the reason. */
static void assert_refused(test_object *body, const kb_segment_header *header, const char *text)
{
    const kb_segment_reader_opts options[] = {{0}, {.held_bytes = 1, .range_bytes = 7}};
    test_wrap_body(body, header);
    const kb_segment_expect expect = any_expect();
    for (size_t i = 0; i < KB_ARRAY_LEN(options); i++) {
        KB_AUTO_ERROR(err);
        assert_int_equal(read_object(body, &expect, &options[i], NULL, &err), KB_BACKUP_CORRUPT);
        if (strstr(kb_error_text(&err), text) == NULL || strstr(kb_error_text(&err), KEY) == NULL)
            fail_msg("'%s' does not say '%s'", kb_error_text(&err), text);
    }
}

static void put_zstd(test_object *body, const void *plain, size_t len, bool has_size)
{
    KB_AUTOFREE uint8_t *packed = kb_malloc(ZSTD_compressBound(len) + 64);
    ZSTD_CCtx *ctx = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(ctx, ZSTD_c_contentSizeFlag, has_size);
    ZSTD_outBuffer out = {packed, ZSTD_compressBound(len) + 64, 0};
    ZSTD_inBuffer in = {plain, len, 0};
    /* In two steps, so that the size is unknown at the beginning of the frame. */
    if (!has_size)
        ZSTD_compressStream2(ctx, &out, &in, ZSTD_e_flush);
    assert_int_equal(ZSTD_compressStream2(ctx, &out, &in, ZSTD_e_end), 0);
    ZSTD_freeCCtx(ctx);
    test_object_put(body, packed, out.pos);
}

static void put_skippable(test_object *body, uint32_t magic, const void *payload, uint32_t len)
{
    uint8_t head[8];
    kb_put_u32(kb_put_u32(head, magic), len);
    test_object_put(body, head, sizeof head);
    test_object_put(body, payload, len);
}

/* Records of all sizes; returns their header. */
static kb_segment_header make_area(test_object *area, kb_codec codec, size_t count)
{
    kb_segment_header header = {codec, count, 0, -1};
    uint64_t seed = 3;
    KB_AUTOFREE uint8_t *value = kb_malloc(3000);
    for (size_t i = 0; i < count; i++) {
        uint32_t len = test_random(&seed) % 3000;
        for (uint32_t at = 0; at < len; at++)
            value[at] = (uint8_t)(test_random(&seed) % 5);
        header.last_offset += 1 + test_random(&seed) % 2;
        if (i == 0)
            header.first_offset = header.last_offset;
        const kb_record_in record = {.offset = header.last_offset,
                                     .timestamp = -1,
                                     .key_len = -1,
                                     .value = value,
                                     .value_len = (int32_t)len};
        test_put_record(area, &record);
    }
    return header;
}

/* Frame boundaries inside records, skippable and empty frames anywhere, sizes known or not. */
static void zstd_frames_of_any_cut_are_read(void **state)
{
    (void)state;
    const size_t steps[] = {1000, 1777, 65536, 1 << 20};
    for (size_t i = 0; i < KB_ARRAY_LEN(steps); i++) {
        AUTO_OBJECT(area);
        AUTO_OBJECT(object);
        const kb_segment_header header = make_area(&area, KB_CODEC_ZSTD, 900);
        put_skippable(&object, 0x184D2A50, "first", 5);
        for (size_t at = 0, nth = 0; at < area.len; at += steps[i], nth++) {
            size_t len = area.len - at < steps[i] ? area.len - at : steps[i];
            put_zstd(&object, area.data + at, len, nth % 2 == 0);
            if (nth % 3 == 0)
                put_zstd(&object, "", 0, nth % 2 == 0);
            if (nth % 5 == 0)
                put_skippable(&object, 0x184D2A5F, "middle", (uint32_t)(nth % 7));
        }
        put_skippable(&object, 0x184D2A5B, "KBFRIDX1 is not at the end of this", 34);
        test_wrap_body(&object, &header);
        object.data[6] = 1;
        object.data[7] = 2;
        test_fix_crc(&object);
        const kb_segment_reader_opts options[] = {
            {0}, {.held_bytes = 1, .range_bytes = 5}, {.held_bytes = 1, .range_bytes = 70000, .deep = true}};
        for (size_t j = 0; j < KB_ARRAY_LEN(options); j++) {
            KB_AUTO_ERROR(err);
            AUTO_OBJECT(got);
            kb_segment_expect expect = any_expect();
            expect.raw_bytes = j == 0 ? 0 : area.len;
            assert_ok(read_object(&object, &expect, &options[j], &got, &err));
            assert_int_equal(got.len, area.len);
            assert_memory_equal(got.data, area.data, area.len);
        }
    }
}

static void empty_segments_are_read(void **state)
{
    (void)state;
    const kb_codec codecs[] = {KB_CODEC_NONE, KB_CODEC_ZSTD, KB_CODEC_LZ4};
    for (size_t i = 0; i < KB_ARRAY_LEN(codecs); i++) {
        KB_AUTO_ERROR(err);
        AUTO_OBJECT(object);
        AUTO_OBJECT(got);
        if (codecs[i] == KB_CODEC_LZ4)
            test_object_put(&object, "\0\0\0\0\0", 5);
        const kb_segment_header header = {codecs[i], 0, -1, -1};
        test_wrap_body(&object, &header);
        const kb_segment_expect expect = any_expect();
        assert_ok(read_object(&object, &expect, NULL, &got, &err));
        assert_int_equal(got.len, 0);
    }
}

static void bytes_inside_total_len_are_kept(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(object);
    const kb_record_in record = {.offset = 4};
    test_put_record(&object, &record);
    test_object_put(&object, "tail", 4);
    kb_put_u32(object.data, (uint32_t)object.len - 4);
    const kb_segment_header header = {KB_CODEC_NONE, 1, 4, 4};
    test_wrap_body(&object, &header);
    const kb_segment_expect expect = any_expect();
    assert_ok(read_object(&object, &expect, NULL, NULL, &err));
}

static void zstd_bodies_against_the_rules_are_refused(void **state)
{
    (void)state;
    AUTO_OBJECT(area);
    const kb_segment_header header = make_area(&area, KB_CODEC_ZSTD, 3);
    AUTO_OBJECT(good);
    put_zstd(&good, area.data, area.len, true);
    const struct {
        const char *text;
        size_t keep; /* bytes of the good body that come first */
        size_t len;
        const char *bytes;
    } cases[] = {
        {"no zstd frame", SIZE_MAX, 1, "x"},
        {"no zstd frame", SIZE_MAX, 3, "\x28\xb5\x2f"},
        {"no zstd frame", 0, 4, "\x27\xb5\x2f\xfd"},
        {"no zstd frame", 0, 8, "\x1f\x8b\x08\0\0\0\0\0"},
        {"cut off", 20, 0, ""},
        {"cut off", SIZE_MAX - 1, 0, ""},
        {"cut off", SIZE_MAX, 6, "\x50\x2a\x4d\x18\0\0"},
        {"ends 1 bytes too early", SIZE_MAX, 9, "\x50\x2a\x4d\x18\2\0\0\0x"},
        {"ends 4294967294 bytes", SIZE_MAX, 9, "\x50\x2a\x4d\x18\xff\xff\xff\xffx"},
        {"window", 0, 6, "\x28\xb5\x2f\xfd\0\x90"}, /* 2^28 */
        {"window", SIZE_MAX, 6, "\x28\xb5\x2f\xfd\0\xff"},
        {"dictionary", SIZE_MAX, 7, "\x28\xb5\x2f\xfd\1\x50\7"},
        {"damaged", SIZE_MAX, 9, "\x28\xb5\x2f\xfd\0\x50\xff\xff\xff"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        AUTO_OBJECT(object);
        size_t keep = cases[i].keep >= SIZE_MAX - 1 ? good.len - (SIZE_MAX - cases[i].keep) : cases[i].keep;
        test_object_put(&object, good.data, keep);
        test_object_put(&object, cases[i].bytes, cases[i].len);
        assert_refused(&object, &header, cases[i].text);
    }
}

static void zstd_output_beyond_declared_size_stops(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(area);
    AUTO_OBJECT(object);
    const kb_segment_header header = make_area(&area, KB_CODEC_ZSTD, 100);
    put_zstd(&object, area.data, area.len, false);
    test_wrap_body(&object, &header);
    for (size_t declared = 1; declared < area.len; declared += 5003) {
        kb_segment_expect expect = any_expect();
        expect.raw_bytes = declared;
        assert_int_equal(read_object(&object, &expect, NULL, NULL, &err), KB_BACKUP_CORRUPT);
        assert_non_null(strstr(kb_error_text(&err), "decompresses to more than"));
    }
}

/* 64 MiB of zeros in some KiB: no length of zero is a record, so decoding ends at once, in one area. */
static void zstd_bomb_of_zeros_is_refused_early(void **state)
{
    (void)state;
    AUTO_OBJECT(object);
    KB_AUTOFREE uint8_t *zeros = kb_calloc(64, 1 << 20);
    put_zstd(&object, zeros, (size_t)64 << 20, false);
    assert_true(object.len < 100000);
    const kb_segment_header header = {KB_CODEC_ZSTD, 1000000, 0, 2000000};
    assert_refused(&object, &header, "length of 0 bytes");
}

/* One record that states a GiB must not make a GiB of memory when the bytes are not there. */
static void false_record_length_is_refused(void **state)
{
    (void)state;
    const kb_codec codecs[] = {KB_CODEC_NONE, KB_CODEC_ZSTD};
    for (size_t i = 0; i < KB_ARRAY_LEN(codecs); i++) {
        AUTO_OBJECT(object);
        AUTO_OBJECT(area);
        const kb_record_in record = {.offset = 0};
        test_put_record(&area, &record);
        kb_put_u32(area.data, KB_RECORD_MAX_BYTES);
        if (codecs[i] == KB_CODEC_ZSTD)
            put_zstd(&object, area.data, area.len, true);
        else
            test_object_put(&object, area.data, area.len);
        const kb_segment_header header = {codecs[i], 1, 0, 0};
        assert_refused(&object, &header, "beyond the record area");
    }
}

static void many_empty_frames_end(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(object);
    AUTO_OBJECT(frame);
    put_zstd(&frame, "", 0, true);
    const size_t count = 20000;
    object.data = kb_malloc(count * frame.len);
    for (size_t i = 0; i < count; i++)
        memcpy(object.data + i * frame.len, frame.data, frame.len);
    object.len = count * frame.len;
    const kb_segment_header header = {KB_CODEC_ZSTD, 0, -1, -1};
    test_wrap_body(&object, &header);
    const kb_segment_expect expect = any_expect();
    assert_ok(read_object(&object, &expect, NULL, NULL, &err));
}

/* The count in the header is a claim and never the size of anything (regression case). */
static void counts_and_offsets_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    const struct {
        const char *text;
        kb_segment_header header;
    } cases[] = {
        {"has 3 records up to offset 45", {KB_CODEC_NONE, 4, 42, 45}},
        {"has more than the 2 records", {KB_CODEC_NONE, 2, 42, 45}},
        {"has more than the 1 records", {KB_CODEC_NONE, 1, 42, 45}},
        {"first offset is 42", {KB_CODEC_NONE, 3, 41, 45}},
        {"outside the offsets of the header", {KB_CODEC_NONE, 3, 43, 45}},
        {"outside the offsets of the header", {KB_CODEC_NONE, 2, 42, 44}},
        {"has 3 records up to offset 45", {KB_CODEC_NONE, 3, 42, 46}},
        {"has 3 records up to offset 45", {KB_CODEC_NONE, (uint64_t)1 << 60, 42, INT64_MAX}},
        {"outside the offsets of the header", {KB_CODEC_NONE, 0, -1, -1}},
        {"counts", {KB_CODEC_NONE, UINT64_MAX, 42, 45}},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        AUTO_OBJECT(object);
        kb_record_in records[3];
        for (size_t j = 0; j < test_gold_records(records); j++)
            test_put_record(&object, &records[j]);
        assert_refused(&object, &cases[i].header, cases[i].text);
    }
}

static void offsets_not_ascending_are_refused(void **state)
{
    (void)state;
    const int64_t offsets[][3] = {{1, 1, 3}, {1, 3, 2}, {1, 3, 3}};
    for (size_t i = 0; i < KB_ARRAY_LEN(offsets); i++) {
        AUTO_OBJECT(object);
        for (size_t j = 0; j < 3; j++) {
            const kb_record_in record = {.offset = offsets[i][j]};
            test_put_record(&object, &record);
        }
        const kb_segment_header header = {KB_CODEC_NONE, 3, 1, 3};
        assert_refused(&object, &header, "comes after record");
    }
}

static void objects_that_are_no_segment_are_refused(void **state)
{
    (void)state;
    const struct {
        kb_segment_fault fault;
        const char *text;
        const char *bytes;
        size_t len;
    } cases[] = {
        {KB_SEGMENT_FAULT_SIZE, "has 0 bytes", "", 0},
        {KB_SEGMENT_FAULT_SIZE, "has 4 bytes", "KBAK", 4},
        {KB_SEGMENT_FAULT_SIZE, "has 5 bytes", "\xef\xbb\xbf[]", 5},
        {KB_SEGMENT_FAULT_MISMATCH, "KBAK", "Salted__ and then what openssl enc writes.", 42},
        {KB_SEGMENT_FAULT_MISMATCH, "KBAK", "age-encryption.org/v1 and what follows there", 44},
        {KB_SEGMENT_FAULT_MISMATCH, "KBAK", "\x1f\x8b\x08 compressed JSON is not a legacy segment", 43},
        {KB_SEGMENT_FAULT_MISMATCH, "KBAK", "{\"key\": null, \"timestamp\": 1, \"offset\": 2} ", 44},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        AUTO_OBJECT(object);
        test_object_put(&object, cases[i].bytes, cases[i].len);
        const kb_segment_source source = test_source(&object);
        const kb_segment_expect expect = any_expect();
        KB_CLEANUP(kb_segment_reader_free_at) kb_segment_reader *reader = kb_segment_reader_new(NULL);
        assert_int_equal(kb_segment_reader_open(reader, &source, &expect, &err), KB_BACKUP_CORRUPT);
        assert_int_equal(kb_segment_reader_fault(reader), cases[i].fault);
        assert_non_null(strstr(kb_error_text(&err), cases[i].text));
    }
}

/* The object was listed with a size that it no longer has. */
static void object_shorter_than_its_size_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(object);
    test_load(&object, "worker/tests/data/gold-none.bin");
    kb_segment_source source = test_source(&object);
    source.size++;
    const kb_segment_expect expect = any_expect();
    KB_CLEANUP(kb_segment_reader_free_at) kb_segment_reader *reader = kb_segment_reader_new(NULL);
    assert_int_equal(kb_segment_reader_open(reader, &source, &expect, &err), KB_BACKUP_CORRUPT);
}

static void own_block_mode_follows_what_is_known(void **state)
{
    (void)state;
    const struct {
        int known;
        kb_own_block_mode mode;
    } cases[] = {{-1, KB_OWN_BLOCK_BY_FORM}, {0, KB_OWN_BLOCK_NONE}, {1, KB_OWN_BLOCK_PRESENT}};
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        AUTO_OBJECT(object);
        test_load(&object, "worker/tests/data/gold-zstd.bin");
        const kb_segment_source source = test_source(&object);
        kb_segment_expect expect = any_expect();
        expect.own_block = cases[i].known;
        const kb_segment_reader_opts opts = {.deep = true};
        KB_CLEANUP(kb_segment_reader_free_at) kb_segment_reader *reader = kb_segment_reader_new(&opts);
        assert_ok(kb_segment_reader_open(reader, &source, &expect, &err));
        assert_int_equal(kb_segment_reader_own_block(reader), cases[i].mode);
        /* Two of its records have no own block: hashing tells when all should have one. */
        KB_AUTO_AREA(area);
        bool has = false;
        kb_code expected = cases[i].known == 1 ? KB_BACKUP_CORRUPT : KB_OK;
        assert_int_equal(kb_segment_reader_next(reader, &area, &has, &err), expected);
    }
}

/* ---- lz4 ---- */

static void lz4_bodies_against_the_rules_are_refused(void **state)
{
    (void)state;
    const struct {
        const char *text;
        size_t len;
        const char *bytes;
    } cases[] = {
        {"lz4 body of 0 bytes", 0, ""},
        {"lz4 body of 4 bytes", 4, "\0\0\0\0"},
        {"cannot hold", 5, "\1\0\0\x40\0"},             /* 2^30 + 1 */
        {"cannot hold", 5, "\x40\x01\0\0\0"},           /* 320 > 255 + 64 */
        {"cannot hold", 6, "\xff\xff\xff\xff\0\0"},     /**/
        {"less than its stated size", 5, "\1\0\0\0\0"}, /**/
        {"less than its stated size", 6, "\2\0\0\0\x10x"},
        {"more than its stated size", 6, "\0\0\0\0\x10x"},
        {"more than its stated size", 8, "\1\0\0\0\xf0\0xx"},
        {"cut off", 5, "\1\0\0\0\x10"},
        {"cut off", 5, "\x20\0\0\0\xf0"},
        {"cut off", 7, "\5\0\0\0\x10x\1"},
        {"cut off", 8, "\5\0\0\0\x10x\1\0"}, /* no literals after the match */
        {"offset 0", 8, "\5\0\0\0\x10x\0\0"},
        {"before its beginning", 8, "\5\0\0\0\x10x\2\0"},
        {"before its beginning", 8, "\5\0\0\0\x10x\xff\xff"},
        {"more than its stated size", 9, "\4\0\0\0\x10x\1\0\0"},
        {"more than its stated size", 10, "\x20\0\0\0\x1fx\1\0\xff\0"},
        {"length of 0 bytes", 9, "\4\0\0\0\x40\0\0\0\0"}, /* decodes, to no record */
    };
    const kb_segment_header header = {KB_CODEC_LZ4, 1, 0, 0};
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        AUTO_OBJECT(object);
        test_object_put(&object, cases[i].bytes, cases[i].len);
        assert_refused(&object, &header, cases[i].text);
    }
}

static void lz4_size_other_than_the_manifests_is_refused(void **state)
{
    (void)state;
    for (uint64_t size = 0xac; size <= 0xae; size++) {
        KB_AUTO_ERROR(err);
        AUTO_OBJECT(object);
        test_load(&object, "worker/tests/data/gold-lz4.bin");
        kb_segment_expect expect = any_expect();
        expect.raw_bytes = size;
        assert_int_equal(read_object(&object, &expect, NULL, NULL, &err),
                         size == 0xad ? KB_OK : KB_BACKUP_CORRUPT);
    }
}

static void lz4_trailing_bytes_are_refused(void **state)
{
    (void)state;
    AUTO_OBJECT(object);
    AUTO_OBJECT(body);
    test_load(&object, "worker/tests/data/gold-lz4.bin");
    test_object_put(&body, object.data + 32, object.len - 40);
    test_object_put(&body, "\0", 1);
    const kb_segment_header header = {KB_CODEC_LZ4, 3, 42, 45};
    assert_refused(&body, &header, "lz4 block");
}

static void check_lz4(const uint8_t *plain, size_t len, size_t range_bytes)
{
    KB_AUTO_ERROR(err);
    int bound = LZ4_compressBound((int)len);
    AUTO_OBJECT(packed);
    packed.data = kb_malloc((size_t)bound);
    packed.len = (size_t)LZ4_compress_default((const char *)plain, (char *)packed.data, (int)len, bound);
    const kb_segment_source source = test_source(&packed);
    KB_CLEANUP(kb_body_done) kb_body body = {0};
    kb_body_start(&body, &source, range_bytes == 0 ? packed.data : NULL, range_bytes);
    kb_lz4_stream *stream = kb_lz4_stream_new();
    kb_lz4_stream_start(stream, len);
    KB_AUTOFREE uint8_t *got = kb_malloc(len + 1);
    size_t at = 0;
    size_t step = 1;
    size_t part = 1;
    while (part > 0) {
        size_t capacity = step < len + 1 - at ? step : len + 1 - at;
        assert_ok(kb_lz4_stream_read(stream, &body, got + at, capacity, &part, &err));
        at += part;
        step = step * 3 + 1;
    }
    kb_lz4_stream_free(stream);
    assert_int_equal(at, len);
    assert_memory_equal(got, plain, len);
}

static void kb_lz4_stream_read_equals_library(void **state)
{
    (void)state;
    const size_t lens[] = {0, 1, 12, 13, 64, 4096, 65535, 65537, 300000, 2000000};
    const uint32_t alphabets[] = {1, 2, 17, 256};
    KB_AUTOFREE uint8_t *plain = kb_malloc(2000000);
    for (size_t i = 0; i < KB_ARRAY_LEN(alphabets); i++) {
        uint64_t seed = i;
        for (size_t at = 0; at < 2000000; at++) {
            bool is_far_copy = at >= 65535 && (at >> 10) % 3 == 0;
            uint32_t fresh = test_random(&seed) % alphabets[i];
            plain[at] = (uint8_t)(is_far_copy ? plain[at - 65535] : fresh);
        }
        for (size_t j = 0; j < KB_ARRAY_LEN(lens); j++) {
            check_lz4(plain, lens[j], 0);
            check_lz4(plain, lens[j], 1000);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zstd_frames_of_any_cut_are_read),
        cmocka_unit_test(empty_segments_are_read),
        cmocka_unit_test(bytes_inside_total_len_are_kept),
        cmocka_unit_test(zstd_bodies_against_the_rules_are_refused),
        cmocka_unit_test(zstd_output_beyond_declared_size_stops),
        cmocka_unit_test(zstd_bomb_of_zeros_is_refused_early),
        cmocka_unit_test(false_record_length_is_refused),
        cmocka_unit_test(many_empty_frames_end),
        cmocka_unit_test(counts_and_offsets_that_do_not_fit_are_refused),
        cmocka_unit_test(offsets_not_ascending_are_refused),
        cmocka_unit_test(objects_that_are_no_segment_are_refused),
        cmocka_unit_test(object_shorter_than_its_size_is_refused),
        cmocka_unit_test(own_block_mode_follows_what_is_known),
        cmocka_unit_test(lz4_bodies_against_the_rules_are_refused),
        cmocka_unit_test(lz4_size_other_than_the_manifests_is_refused),
        cmocka_unit_test(lz4_trailing_bytes_are_refused),
        cmocka_unit_test(kb_lz4_stream_read_equals_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

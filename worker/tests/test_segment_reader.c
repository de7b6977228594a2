#include "worker/segment/segment_reader.h"

#include <lz4.h>
#include <zstd.h>

#include "common/base/encode.h"
#include "worker/tests/segment_fixture.h"

#define AUTO_READER(name) KB_CLEANUP(kb_segment_reader_free_at) kb_segment_reader *name = NULL
#define AUTO_INDEX(name) KB_CLEANUP(kb_frame_index_done) kb_frame_index name = {0}
#define KEY "b/topics/t/partition=0/segment-x.bin"

static const char *const gold_files[] = {"worker/tests/data/gold-none.bin", "worker/tests/data/gold-zstd.bin",
                                         "worker/tests/data/gold-lz4.bin",
                                         "worker/tests/data/gold-frames.bin"};

static kb_segment_expect gold_expect(void)
{
    kb_segment_expect expect = KB_SEGMENT_EXPECT_INIT;
    expect.key = GOLD_KEY;
    return expect;
}

/* Reads all of an object; the record area goes to `area` unless that is NULL. */
static kb_code read_all(kb_segment_reader *reader, test_object *object, const kb_segment_expect *expect,
                        test_object *area, kb_error *err)
{
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

/* With a reader of its own; whatever is allocated for a false length would be seen by the sanitizers' limit.
 */
static kb_code read_new(test_object *object, const kb_segment_expect *expect,
                        const kb_segment_reader_opts *opts, test_object *area, kb_error *err)
{
    AUTO_READER(reader);
    reader = kb_segment_reader_new(opts);
    return read_all(reader, object, expect, area, err);
}

static void gold_area(test_object *area)
{
    kb_record_in records[3];
    for (size_t i = 0; i < test_gold_records(records); i++)
        test_put_record(area, &records[i]);
}

static void assert_same(const test_object *a, const test_object *b)
{
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->data, b->data, a->len);
}

/* ---- golden files ---- */

static void kb_segment_reader_next_golden_files_give_same_records(void **state)
{
    (void)state;
    const kb_segment_reader_opts options[] = {{0},
                                              {.deep = true},
                                              {.held_bytes = 1, .range_bytes = 16},
                                              {.held_bytes = 1, .range_bytes = 1, .deep = true}};
    AUTO_OBJECT(expected);
    gold_area(&expected);
    for (size_t i = 0; i < KB_ARRAY_LEN(gold_files); i++) {
        for (size_t j = 0; j < KB_ARRAY_LEN(options); j++) {
            KB_AUTO_ERROR(err);
            AUTO_OBJECT(object);
            AUTO_OBJECT(area);
            test_load(&object, gold_files[i]);
            const kb_segment_expect expect = gold_expect();
            assert_ok(read_new(&object, &expect, &options[j], &area, &err));
            assert_same(&area, &expected);
        }
    }
}

static void kb_segment_verify_golden_frames_tell_everything(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(object);
    AUTO_READER(reader);
    reader = kb_segment_reader_new(NULL);
    test_load(&object, "worker/tests/data/gold-frames.bin");
    const kb_segment_source source = test_source(&object);
    const kb_segment_expect expect = gold_expect();
    kb_segment_info info;
    assert_ok(kb_segment_verify(reader, &source, &expect, &info, &err));
    assert_int_equal(info.codec, KB_CODEC_ZSTD);
    assert_int_equal(info.start, 42);
    assert_int_equal(info.end, 45);
    assert_int_equal(info.from, 40);
    assert_int_equal(info.to, 46);
    assert_int_equal(info.count, 3);
    assert_int_equal(info.min_timestamp, -1);
    assert_int_equal(info.max_timestamp, GOLD_TIME + 1);
    assert_int_equal(info.raw_bytes, 0xad);
    assert_int_equal(info.bytes, 479);
    char hex[KB_DIGEST_HEX_SIZE];
    kb_digest_hex(&info.digest, hex);
    assert_string_equal(hex, GOLD_DIGEST);
    kb_hex_encode(info.sha256, sizeof info.sha256, hex);
    assert_string_equal(hex, GOLD_SHA256);
    assert_memory_equal(info.header, object.data, 32);
    assert_memory_equal(info.footer, object.data + 471, 8);
    assert_int_equal(kb_segment_reader_own_block(reader), KB_OWN_BLOCK_NONE);
}

static void kb_segment_verify_without_index_tells_range_of_offsets(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        KB_AUTO_ERROR(err);
        AUTO_OBJECT(object);
        AUTO_READER(reader);
        reader = kb_segment_reader_new(NULL);
        test_load(&object, gold_files[i]);
        const kb_segment_source source = test_source(&object);
        kb_segment_expect expect = gold_expect();
        expect.own_block = 0;
        kb_segment_info info;
        assert_ok(kb_segment_verify(reader, &source, &expect, &info, &err));
        assert_null(kb_segment_reader_index(reader));
        assert_int_equal(info.from, 42);
        assert_int_equal(info.to, 46);
        char hex[KB_DIGEST_HEX_SIZE];
        kb_digest_hex(&info.digest, hex);
        assert_string_equal(hex, GOLD_DIGEST);
    }
}

static void kb_segment_reader_open_any_flipped_bit_is_refused(void **state)
{
    (void)state;
    AUTO_READER(reader);
    reader = kb_segment_reader_new(NULL);
    const kb_segment_expect expect = gold_expect();
    for (size_t i = 0; i < KB_ARRAY_LEN(gold_files); i++) {
        AUTO_OBJECT(object);
        test_load(&object, gold_files[i]);
        for (size_t bit = 0; bit < 8 * object.len; bit++) {
            KB_AUTO_ERROR(err);
            const kb_segment_source source = test_source(&object);
            object.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(kb_segment_reader_open(reader, &source, &expect, &err), KB_BACKUP_CORRUPT);
            assert_int_equal(kb_segment_reader_fault(reader), KB_SEGMENT_FAULT_MISMATCH);
            assert_non_null(strstr(kb_error_text(&err), GOLD_KEY));
            object.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
}

static void kb_segment_reader_open_any_truncation_is_refused(void **state)
{
    (void)state;
    AUTO_READER(reader);
    reader = kb_segment_reader_new(NULL);
    kb_segment_expect expect = gold_expect();
    for (size_t i = 0; i < KB_ARRAY_LEN(gold_files); i++) {
        AUTO_OBJECT(object);
        test_load(&object, gold_files[i]);
        size_t whole_len = object.len;
        for (object.len = 0; object.len < whole_len; object.len++) {
            KB_AUTO_ERROR(err);
            const kb_segment_source source = test_source(&object);
            expect.size = 0;
            assert_int_equal(kb_segment_reader_open(reader, &source, &expect, &err), KB_BACKUP_CORRUPT);
            expect.size = whole_len;
            assert_int_equal(kb_segment_reader_open(reader, &source, &expect, &err), KB_BACKUP_CORRUPT);
            assert_int_equal(kb_segment_reader_fault(reader), KB_SEGMENT_FAULT_SIZE);
        }
    }
}

/* The CRC of the object does not help when index and frames disagree. */
static void kb_segment_verify_flipped_index_with_right_crc_is_refused(void **state)
{
    (void)state;
    enum { INDEX_AT = 175, MAGIC_AT = 479 - 16 };
    AUTO_READER(reader);
    reader = kb_segment_reader_new(NULL);
    const kb_segment_expect expect = gold_expect();
    AUTO_OBJECT(object);
    test_load(&object, "worker/tests/data/gold-frames.bin");
    for (size_t bit = 8 * INDEX_AT; bit < 8 * MAGIC_AT; bit++) {
        KB_AUTO_ERROR(err);
        const kb_segment_source source = test_source(&object);
        object.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        test_fix_crc(&object);
        kb_segment_info info;
        assert_int_equal(kb_segment_verify(reader, &source, &expect, &info, &err), KB_BACKUP_CORRUPT);
        object.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

/* ---- what the backup says ---- */

static const uint8_t other_bytes[32] = {1};
static const kb_digest other_digest = {{1, 0, 0, 0}};

static void kb_segment_reader_open_contradiction_with_backup_is_refused(void **state)
{
    (void)state;
    kb_segment_expect right = gold_expect();
    right.size = 479;
    right.raw_bytes = 0xad;
    right.count = 3;
    right.start = 42;
    right.end = 45;
    right.from = 41;
    right.to = 46;
    right.partition = 0;
    right.has_timestamps = true;
    right.min_timestamp = -1;
    right.max_timestamp = GOLD_TIME + 1;
    right.own_block = 0;
    struct {
        kb_segment_fault fault;
        kb_segment_expect expect;
    } cases[16];
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        cases[i].fault = i < 8 ? KB_SEGMENT_FAULT_MISMATCH : KB_SEGMENT_FAULT_FOREIGN;
        cases[i].expect = right;
    }
    cases[0].expect.raw_bytes = 0xac;
    cases[1].expect.count = 2;
    cases[2].expect.start = 41;
    cases[3].expect.end = 46;
    cases[4].expect.own_block = 1;
    cases[5].expect.sha256 = other_bytes;
    cases[6].expect.digest = &other_digest;
    cases[7].expect.min_timestamp = 0;
    cases[8].expect.from = 39;
    cases[9].expect.to = 47;
    cases[10].expect.partition = 1;
    cases[11].expect.key = "other";
    cases[12].expect.topic_id = other_bytes;
    cases[13].fault = KB_SEGMENT_FAULT_SIZE;
    cases[13].expect.size = 480;
    cases[14].fault = KB_SEGMENT_FAULT_MISMATCH;
    cases[14].expect.max_timestamp = GOLD_TIME;
    cases[15].fault = KB_SEGMENT_FAULT_NONE;
    AUTO_OBJECT(object);
    test_load(&object, "worker/tests/data/gold-frames.bin");
    const kb_segment_source source = test_source(&object);
    AUTO_READER(reader);
    reader = kb_segment_reader_new(NULL);
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        kb_code expected = cases[i].fault == KB_SEGMENT_FAULT_NONE ? KB_OK : KB_BACKUP_CORRUPT;
        assert_int_equal(kb_segment_reader_open(reader, &source, &cases[i].expect, &err), expected);
        assert_string_equal(kb_segment_fault_name(kb_segment_reader_fault(reader)),
                            kb_segment_fault_name(cases[i].fault));
    }
}

/* Segments without index: the same contradictions come out at the latest at the end. */
static void kb_segment_reader_next_contradiction_without_index_is_refused(void **state)
{
    (void)state;
    kb_segment_expect cases[7];
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++)
        cases[i] = gold_expect();
    cases[0].count = 4;
    cases[1].start = 43;
    cases[2].end = 44;
    cases[3].raw_bytes = 0xae;
    cases[4].raw_bytes = 0xac;
    cases[5].has_timestamps = true;
    cases[6].digest = &other_digest;
    const kb_segment_reader_opts deep = {.deep = true};
    for (size_t i = 0; i < 3; i++) {
        for (size_t j = 0; j < KB_ARRAY_LEN(cases); j++) {
            KB_AUTO_ERROR(err);
            AUTO_OBJECT(object);
            test_load(&object, gold_files[i]);
            assert_int_equal(read_new(&object, &cases[j], &deep, NULL, &err), KB_BACKUP_CORRUPT);
        }
    }
}

/* ---- larger segments of ours ---- */

typedef struct big_segment {
    test_object object;
    test_object area;
    kb_segment_info info;
} big_segment;

static void big_segment_done(big_segment *big)
{
    test_object_done(&big->object);
    test_object_done(&big->area);
}
#define AUTO_BIG(name) KB_CLEANUP(big_segment_done) big_segment name = {0}

/* Writes count records of up to max_value bytes through frames and writer. */
static void write_big(big_segment *big, kb_codec codec, size_t count, uint32_t max_value)
{
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_frame_free_at) kb_frame *frame = kb_frame_new(KB_FRAME_DEFAULT_CAPACITY);
    KB_CLEANUP(kb_frame_encoder_free_at) kb_frame_encoder *encoder = NULL;
    const kb_frame_encoder_opts encoder_opts = {.codec = codec, .verify = true};
    assert_ok(kb_frame_encoder_new(&encoder_opts, &encoder, &err));
    const kb_segment_writer_opts opts = {
        .sink = test_sink(&big->object), .key = KEY, .codec = codec, .from = 0, .verify = true};
    KB_CLEANUP(kb_segment_writer_free_at) kb_segment_writer *writer = kb_segment_writer_new(&opts);
    KB_AUTOFREE uint8_t *value = kb_malloc(max_value);
    uint64_t seed = 7;
    int64_t offset = 3;
    for (size_t i = 0; i < count; i++, offset += 1 + test_random(&seed) % 3) {
        uint32_t len = test_random(&seed) % max_value;
        for (uint32_t at = 0; at < len; at++)
            value[at] = (uint8_t)(test_random(&seed) % 7);
        const kb_record_in record = {.timestamp = (int64_t)test_random(&seed) - 5,
                                     .offset = offset,
                                     .key_len = -1,
                                     .value = value,
                                     .value_len = (int32_t)len};
        bool is_full = false;
        test_put_record(&big->area, &record);
        assert_ok(kb_frame_append(frame, &record, NULL, &is_full, &err));
        if (is_full || i + 1 == count) {
            assert_ok(kb_frame_seal(encoder, frame, &err));
            assert_ok(kb_segment_writer_append(writer, frame, &err));
            kb_frame_reset(frame);
        }
    }
    assert_ok(kb_segment_writer_finish(writer, offset + 10, &big->info, &err));
    assert_int_equal(big->info.raw_bytes, big->area.len);
}

static kb_segment_expect big_expect(const big_segment *big)
{
    kb_segment_expect expect = KB_SEGMENT_EXPECT_INIT;
    expect.key = KEY;
    expect.size = big->info.bytes;
    expect.raw_bytes = big->info.raw_bytes;
    expect.count = (int64_t)big->info.count;
    expect.start = big->info.start;
    expect.end = big->info.end;
    expect.has_timestamps = true;
    expect.min_timestamp = big->info.min_timestamp;
    expect.max_timestamp = big->info.max_timestamp;
    expect.sha256 = big->info.sha256;
    expect.digest = &big->info.digest;
    expect.own_block = 0;
    return expect;
}

static void kb_segment_reader_next_written_segments_come_back(void **state)
{
    (void)state;
    const kb_codec codecs[] = {KB_CODEC_NONE, KB_CODEC_ZSTD, KB_CODEC_LZ4};
    const kb_segment_reader_opts options[] = {
        {0},
        {.deep = true},
        {.held_bytes = 1, .deep = true},
        {.held_bytes = 1, .range_bytes = 4096},
        {.held_bytes = 1, .range_bytes = 100001, .deep = true},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(codecs); i++) {
        AUTO_BIG(big);
        write_big(&big, codecs[i], 700, 20000);
        const kb_segment_expect expect = big_expect(&big);
        for (size_t j = 0; j < KB_ARRAY_LEN(options); j++) {
            KB_AUTO_ERROR(err);
            AUTO_OBJECT(area);
            assert_ok(read_new(&big.object, &expect, &options[j], &area, &err));
            assert_same(&area, &big.area);
        }
    }
}

static void kb_segment_verify_written_segments_equal_writers_info(void **state)
{
    (void)state;
    const kb_codec codecs[] = {KB_CODEC_NONE, KB_CODEC_ZSTD, KB_CODEC_LZ4};
    for (size_t i = 0; i < KB_ARRAY_LEN(codecs); i++) {
        KB_AUTO_ERROR(err);
        AUTO_BIG(big);
        AUTO_READER(reader);
        reader = kb_segment_reader_new(NULL);
        write_big(&big, codecs[i], 400, 9000);
        const kb_segment_source source = test_source(&big.object);
        const kb_segment_expect expect = big_expect(&big);
        kb_segment_info info;
        memset(&info, 0, sizeof info);
        assert_ok(kb_segment_verify(reader, &source, &expect, &info, &err));
        if (codecs[i] != KB_CODEC_ZSTD) {
            info.from = big.info.from; /* only an index keeps them */
            info.to = big.info.to;
        }
        assert_int_equal(info.count, big.info.count);
        assert_int_equal(info.from, big.info.from);
        assert_int_equal(info.to, big.info.to);
        assert_true(kb_digest_is_equal(&info.digest, &big.info.digest));
        assert_memory_equal(info.sha256, big.info.sha256, sizeof info.sha256);
        assert_memory_equal(info.last_sha256, big.info.last_sha256, sizeof info.last_sha256);
        assert_memory_equal(info.header, big.info.header, sizeof info.header);
        assert_memory_equal(info.footer, big.info.footer, sizeof info.footer);
    }
}

static void kb_segment_reader_skip_passes_over_frames(void **state)
{
    (void)state;
    const size_t helds[] = {0, 1};
    AUTO_BIG(big);
    write_big(&big, KB_CODEC_ZSTD, 700, 20000);
    for (size_t i = 0; i < KB_ARRAY_LEN(helds); i++) {
        KB_AUTO_ERROR(err);
        const kb_segment_reader_opts opts = {.held_bytes = helds[i], .range_bytes = 50000, .deep = true};
        AUTO_READER(reader);
        reader = kb_segment_reader_new(&opts);
        const kb_segment_source source = test_source(&big.object);
        const kb_segment_expect expect = big_expect(&big);
        assert_ok(kb_segment_reader_open(reader, &source, &expect, &err));
        KB_AUTO_AREA(area);
        kb_area_bounds bounds;
        size_t frame_count = 0;
        size_t at = 0;
        while (kb_segment_reader_peek(reader, &bounds)) {
            bool has = true;
            if (frame_count++ % 2 == 0) {
                kb_segment_reader_skip(reader);
            } else {
                assert_ok(kb_segment_reader_next(reader, &area, &has, &err));
                assert_true(has);
                assert_memory_equal(&bounds, &area.bounds, sizeof bounds);
                assert_memory_equal(area.data, big.area.data + at, area.len);
            }
            at += bounds.raw_len;
        }
        assert_int_equal(frame_count, kb_segment_reader_index(reader)->entry_count);
        assert_true(frame_count > 5);
        assert_int_equal(at, big.area.len);
        bool has = true;
        for (int again = 0; again < 2; again++) {
            assert_ok(kb_segment_reader_next(reader, &area, &has, &err));
            assert_false(has);
        }
    }
}

static void kb_segment_reader_next_area_can_be_moved_away(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_BIG(big);
    write_big(&big, KB_CODEC_NONE, 700, 20000);
    AUTO_READER(reader);
    reader = kb_segment_reader_new(NULL);
    const kb_segment_source source = test_source(&big.object);
    const kb_segment_expect expect = big_expect(&big);
    assert_ok(kb_segment_reader_open(reader, &source, &expect, &err));
    kb_area kept[64];
    size_t kept_count = 0;
    bool has = true;
    while (has && kept_count < KB_ARRAY_LEN(kept)) {
        kept[kept_count] = (kb_area)KB_AREA_INIT;
        assert_ok(kb_segment_reader_next(reader, &kept[kept_count++], &has, &err));
    }
    size_t at = 0;
    for (size_t i = 0; i < kept_count; i++) {
        assert_true(i + 1 == kept_count || kept[i].len > 0);
        if (kept[i].len > 0 && i + 1 < kept_count) {
            assert_memory_equal(kept[i].data, big.area.data + at, kept[i].len);
            at += kept[i].len;
        }
        kb_area_done(&kept[i]);
    }
    assert_int_equal(at, big.area.len);
}

/* A 128 MiB limit must not end the process; the user is told what to raise. */
static void kb_segment_reader_next_record_above_limit_is_memory_too_small(void **state)
{
    (void)state;
    const kb_codec codecs[] = {KB_CODEC_NONE, KB_CODEC_ZSTD, KB_CODEC_LZ4};
    for (size_t i = 0; i < KB_ARRAY_LEN(codecs); i++) {
        KB_AUTO_ERROR(err);
        AUTO_BIG(big);
        write_big(&big, codecs[i], 3, 12 << 20);
        kb_segment_reader_opts opts = {.max_area_bytes = 1 << 20};
        const kb_segment_expect expect = big_expect(&big);
        assert_int_equal(read_new(&big.object, &expect, &opts, NULL, &err), KB_MEMORY_TOO_SMALL);
        assert_non_null(strstr(kb_error_text(&err), KEY));
        AUTO_OBJECT(area);
        opts.max_area_bytes = 40 << 20;
        assert_ok(read_new(&big.object, &expect, &opts, &area, &err));
        assert_same(&area, &big.area);
    }
}

static kb_code fail_get_range(void *ctx, uint64_t offset, void *to, size_t len, kb_error *err)
{
    test_object *object = ctx;
    if (object->get_count + 1 == object->fail_append_at)
        return kb_fail(err, KB_STORAGE_UNREACHABLE, "test: gone");
    return test_get_range(ctx, offset, to, len, err);
}

static void kb_segment_reader_source_error_keeps_its_code(void **state)
{
    (void)state;
    AUTO_BIG(big);
    write_big(&big, KB_CODEC_ZSTD, 300, 20000);
    for (size_t nth = 1; nth < 100; nth++) {
        KB_AUTO_ERROR(err);
        big.object.get_count = 0;
        big.object.fail_append_at = nth;
        kb_segment_source source = test_source(&big.object);
        source.get_range = fail_get_range;
        const kb_segment_reader_opts opts = {.held_bytes = 1, .range_bytes = 100000};
        AUTO_READER(reader);
        reader = kb_segment_reader_new(&opts);
        const kb_segment_expect expect = big_expect(&big);
        kb_segment_info info;
        kb_code code = kb_segment_verify(reader, &source, &expect, &info, &err);
        if (code == KB_OK) {
            assert_true(nth > 10 && big.object.get_count < nth);
            return;
        }
        assert_int_equal(code, KB_STORAGE_UNREACHABLE);
        assert_int_equal(kb_segment_reader_fault(reader), KB_SEGMENT_FAULT_NONE);
        KB_AUTO_AREA(area);
        bool has;
        assert_int_equal(kb_segment_reader_next(reader, &area, &has, &err), KB_ERR_INTERNAL);
    }
    fail();
}

static kb_code change_get_range(void *ctx, uint64_t offset, void *to, size_t len, kb_error *err)
{
    test_object *object = ctx;
    /* The tenth byte of the body is another after the footer was read. */
    if (offset + len == object->len)
        object->is_aborted = true;
    kb_code code = test_get_range(ctx, offset, to, len, err);
    size_t at = 52;
    if (code == KB_OK && object->is_aborted && offset <= at && at < offset + len)
        ((uint8_t *)to)[at - offset] ^= 0x40;
    return code;
}

static void kb_segment_reader_next_object_changed_between_readings_is_refused(void **state)
{
    (void)state;
    const kb_codec codecs[] = {KB_CODEC_NONE, KB_CODEC_ZSTD, KB_CODEC_LZ4};
    for (size_t i = 0; i < KB_ARRAY_LEN(codecs); i++) {
        KB_AUTO_ERROR(err);
        AUTO_BIG(big);
        write_big(&big, codecs[i], 50, 3000);
        kb_segment_source source = test_source(&big.object);
        source.get_range = change_get_range;
        const kb_segment_reader_opts opts = {.held_bytes = 1, .range_bytes = 1000};
        AUTO_READER(reader);
        reader = kb_segment_reader_new(&opts);
        kb_segment_expect expect = KB_SEGMENT_EXPECT_INIT;
        expect.key = KEY;
        assert_ok(kb_segment_reader_open(reader, &source, &expect, &err));
        KB_AUTO_AREA(area);
        bool has = true;
        kb_code code = KB_OK;
        while (code == KB_OK && has)
            code = kb_segment_reader_next(reader, &area, &has, &err);
        assert_int_equal(code, KB_BACKUP_CORRUPT);
    }
}

/* ---- only the index ---- */

static void kb_segment_index_read_golden_frames_reads_little(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_BIG(big);
    write_big(&big, KB_CODEC_ZSTD, 700, 20000);
    const kb_segment_source source = test_source(&big.object);
    bool is_present = false;
    kb_segment_header header;
    AUTO_INDEX(index);
    assert_ok(kb_segment_index_read(&source, KEY, &is_present, &header, &index, &err));
    assert_true(is_present);
    assert_int_equal(big.object.get_count, 3);
    assert_int_equal(index.to, big.info.to);
    assert_int_equal(header.record_count, big.info.count);
    assert_true(kb_digest_is_equal(&index.digest, &big.info.digest));
}

static void kb_segment_index_read_other_objects_have_none(void **state)
{
    (void)state;
    static const char text[] = "[{\"timestamp\": 1, \"offset\": 2, \"key\": null, \"value\": null}]";
    for (size_t i = 0; i < 5; i++) {
        KB_AUTO_ERROR(err);
        AUTO_OBJECT(object);
        if (i < 3)
            test_load(&object, gold_files[i]);
        else
            test_object_put(&object, text, i == 3 ? sizeof text - 1 : 3);
        const kb_segment_source source = test_source(&object);
        bool is_present = true;
        kb_segment_header header;
        AUTO_INDEX(index);
        assert_ok(kb_segment_index_read(&source, KEY, &is_present, &header, &index, &err));
        assert_false(is_present);
    }
}

static void kb_segment_index_read_damaged_index_is_refused(void **state)
{
    (void)state;
    const size_t bytes[] = {4, 8, 179, 200, 300, 455, 457};
    for (size_t i = 0; i < KB_ARRAY_LEN(bytes); i++) {
        KB_AUTO_ERROR(err);
        AUTO_OBJECT(object);
        test_load(&object, "worker/tests/data/gold-frames.bin");
        object.data[bytes[i]] ^= 0xff;
        const kb_segment_source source = test_source(&object);
        bool is_present = true;
        kb_segment_header header;
        AUTO_INDEX(index);
        assert_int_equal(kb_segment_index_read(&source, KEY, &is_present, &header, &index, &err),
                         KB_BACKUP_CORRUPT);
        assert_non_null(strstr(kb_error_text(&err), KEY));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_segment_reader_next_golden_files_give_same_records),
        cmocka_unit_test(kb_segment_verify_golden_frames_tell_everything),
        cmocka_unit_test(kb_segment_verify_without_index_tells_range_of_offsets),
        cmocka_unit_test(kb_segment_reader_open_any_flipped_bit_is_refused),
        cmocka_unit_test(kb_segment_reader_open_any_truncation_is_refused),
        cmocka_unit_test(kb_segment_verify_flipped_index_with_right_crc_is_refused),
        cmocka_unit_test(kb_segment_reader_open_contradiction_with_backup_is_refused),
        cmocka_unit_test(kb_segment_reader_next_contradiction_without_index_is_refused),
        cmocka_unit_test(kb_segment_reader_next_written_segments_come_back),
        cmocka_unit_test(kb_segment_verify_written_segments_equal_writers_info),
        cmocka_unit_test(kb_segment_reader_skip_passes_over_frames),
        cmocka_unit_test(kb_segment_reader_next_area_can_be_moved_away),
        cmocka_unit_test(kb_segment_reader_next_record_above_limit_is_memory_too_small),
        cmocka_unit_test(kb_segment_reader_source_error_keeps_its_code),
        cmocka_unit_test(kb_segment_reader_next_object_changed_between_readings_is_refused),
        cmocka_unit_test(kb_segment_index_read_golden_frames_reads_little),
        cmocka_unit_test(kb_segment_index_read_other_objects_have_none),
        cmocka_unit_test(kb_segment_index_read_damaged_index_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "worker/segment/segment_format.h"

#include "worker/tests/segment_fixture.h"

static void kb_codec_parse_names_round_trip(void **state)
{
    (void)state;
    for (int i = KB_CODEC_NONE; i <= KB_CODEC_LZ4; i++) {
        kb_codec codec = KB_CODEC_NONE;
        assert_true(kb_codec_parse(kb_codec_name((kb_codec)i), &codec));
        assert_int_equal(codec, i);
    }
    kb_codec codec;
    assert_false(kb_codec_parse("gzip", &codec));
    assert_string_equal(kb_codec_name((kb_codec)7), "unknown");
}

static void kb_segment_header_decode_inverts_encode(void **state)
{
    (void)state;
    const kb_segment_header cases[] = {{KB_CODEC_NONE, 0, -1, -1},
                                       {KB_CODEC_ZSTD, 1, 0, 0},
                                       {KB_CODEC_LZ4, 3, 42, 45},
                                       {KB_CODEC_ZSTD, 1, INT64_MAX, INT64_MAX}};
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        uint8_t bytes[KB_SEGMENT_HEADER_BYTES];
        kb_segment_header_encode(&cases[i], bytes);
        kb_segment_header got;
        assert_ok(kb_segment_header_decode(bytes, &got, &err));
        assert_int_equal(got.codec, cases[i].codec);
        assert_int_equal(got.record_count, cases[i].record_count);
        assert_int_equal(got.first_offset, cases[i].first_offset);
        assert_int_equal(got.last_offset, cases[i].last_offset);
    }
}

static void kb_segment_header_decode_bad_field_is_refused(void **state)
{
    (void)state;
    const struct {
        const char *text; /* expected in the message */
        size_t at;
        uint64_t value;
        size_t len;
    } cases[] = {
        {"KBAK", 0, 'k', 1},
        {"newer reader", 4, 2, 1},
        {"newer reader", 4, 0, 1},
        {"codec", 5, 3, 1},
        {"codec", 5, 255, 1},
        {"counts", 8, 5, 8}, /* in offsets 42 to 45 */
        {"counts", 8, UINT64_MAX, 8},
        {"counts no records", 8, 0, 8},
        {"offsets", 16, 46, 8}, /* above the last */
        {"offsets", 16, UINT64_MAX, 8},
        {"offsets", 24, UINT64_MAX, 8},
        {"offsets", 24, 41, 8},
    };
    const kb_segment_header header = {KB_CODEC_ZSTD, 3, 42, 45};
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        uint8_t bytes[KB_SEGMENT_HEADER_BYTES];
        kb_segment_header_encode(&header, bytes);
        memcpy(bytes + cases[i].at, &cases[i].value, cases[i].len);
        kb_segment_header got;
        assert_int_equal(kb_segment_header_decode(bytes, &got, &err), KB_ERR_FORMAT);
        assert_non_null(strstr(kb_error_text(&err), cases[i].text));
    }
}

static void kb_segment_header_decode_reserved_bytes_are_ignored(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    const kb_segment_header header = {KB_CODEC_ZSTD, 3, 42, 45};
    uint8_t bytes[KB_SEGMENT_HEADER_BYTES];
    kb_segment_header_encode(&header, bytes);
    bytes[6] = 0xff;
    bytes[7] = 0xff;
    kb_segment_header got;
    assert_ok(kb_segment_header_decode(bytes, &got, &err));
}

static void check_gold_records(kb_cursor area)
{
    KB_AUTO_ERROR(err);
    kb_record_view record;
    assert_ok(kb_record_decode(&area, &record, &err));
    assert_int_equal(record.offset, 42);
    assert_int_equal(record.timestamp, GOLD_TIME);
    assert_int_equal(record.key_len, 1);
    assert_memory_equal(record.key, "k", 1);
    assert_int_equal(record.value_len, 2);
    assert_memory_equal(record.value, "v1", 2);
    assert_int_equal(record.header_count, 4);
    assert_int_equal(record.raw_len, 0x6d);
    kb_header_iter iter = kb_record_headers(&record);
    kb_header_view header;
    assert_true(kb_header_next(&iter, &header));
    assert_int_equal(header.name_len, 1);
    assert_memory_equal(header.name, "h", 1);
    assert_int_equal(header.value_len, 1);
    assert_true(kb_header_next(&iter, &header));
    assert_int_equal(header.value_len, -1);
    assert_null(header.value);
    assert_true(kb_header_next(&iter, &header));
    assert_true(kb_header_next(&iter, &header));
    assert_false(kb_header_next(&iter, &header));

    assert_ok(kb_record_decode(&area, &record, &err));
    assert_int_equal(record.offset, 44);
    assert_int_equal(record.timestamp, GOLD_TIME + 1);
    assert_int_equal(record.key_len, -1);
    assert_null(record.key);
    assert_int_equal(record.value_len, -1);
    assert_null(record.value);

    assert_ok(kb_record_decode(&area, &record, &err));
    assert_int_equal(record.offset, 45);
    assert_int_equal(record.timestamp, -1);
    assert_int_equal(record.key_len, 0);
    assert_non_null(record.key);
    assert_int_equal(record.value_len, 0);
    assert_non_null(record.value);
    assert_int_equal(area.left, 0);
}

static void kb_record_decode_golden_area_gives_records(void **state)
{
    (void)state;
    AUTO_OBJECT(gold);
    test_load(&gold, "worker/tests/data/gold-none.bin");
    check_gold_records(kb_cursor_of(gold.data + KB_SEGMENT_HEADER_BYTES, gold.len - KB_SEGMENT_MIN_BYTES));
}

static void kb_record_encode_golden_records_gives_area(void **state)
{
    (void)state;
    AUTO_OBJECT(gold);
    AUTO_OBJECT(area);
    test_load(&gold, "worker/tests/data/gold-none.bin");
    kb_record_in records[3];
    for (size_t i = 0; i < test_gold_records(records); i++)
        test_put_record(&area, &records[i]);
    assert_int_equal(area.len, gold.len - KB_SEGMENT_MIN_BYTES);
    assert_memory_equal(area.data, gold.data + KB_SEGMENT_HEADER_BYTES, area.len);
}

/* Positions in the record below: total_len 0, time 4, offset 12, key 20/24, value 25/29, headers 31, 33... */
static void make_record(test_object *area)
{
    const kb_header_in header = {"h", 1, "x", 1};
    const kb_record_in record = {.timestamp = 5,
                                 .offset = 7,
                                 .key = "k",
                                 .key_len = 1,
                                 .value = "v1",
                                 .value_len = 2,
                                 .headers = &header,
                                 .header_count = 1};
    test_put_record(area, &record);
}

static void kb_record_decode_bad_length_is_refused(void **state)
{
    (void)state;
    const struct {
        const char *text;
        size_t at;
        uint32_t value;
        size_t len;
    } cases[] = {
        {"length of 25", 0, 25, 4},
        {"length of 0", 0, 0, 4},
        {"length of", 0, KB_RECORD_MAX_BYTES + 1, 4},
        {"length of", 0, UINT32_MAX, 4},
        {"beyond the record area", 0, 38, 4},
        {"beyond the record area", 0, KB_RECORD_MAX_BYTES, 4},
        {"header 0 does not fit", 0, 36, 4},
        {"header 0 does not fit", 0, 29, 4},
        {"offset", 19, 0x80, 1},
        {"key", 20, UINT32_MAX - 1, 4}, /* -2 */
        {"key", 20, 0x80000000u, 4},
        {"key", 20, 0x7fffffff, 4},
        {"value", 25, UINT32_MAX - 1, 4},
        {"value", 25, 20, 4},
        {"header 1 does not fit", 31, 2, 2},
        {"header 1 does not fit", 31, 65535, 2},
        {"header 0 does not fit", 33, 65535, 2},
        {"header 0 does not fit", 36, UINT32_MAX - 1, 4},
        {"header 0 does not fit", 36, 2, 4},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        AUTO_OBJECT(area);
        make_record(&area);
        assert_int_equal(area.len, 41);
        memcpy(area.data + cases[i].at, &cases[i].value, cases[i].len);
        kb_cursor cursor = kb_cursor_of(area.data, area.len);
        kb_record_view record;
        assert_int_equal(kb_record_decode(&cursor, &record, &err), KB_ERR_FORMAT);
        if (strstr(kb_error_text(&err), cases[i].text) == NULL)
            fail_msg("case %zu: %s", i, kb_error_text(&err));
    }
}

static void kb_record_decode_cut_area_is_refused(void **state)
{
    (void)state;
    AUTO_OBJECT(area);
    make_record(&area);
    for (size_t len = 0; len < area.len; len++) {
        KB_AUTO_ERROR(err);
        KB_AUTOFREE uint8_t *copy = kb_malloc(len);
        kb_put_bytes(copy, area.data, len);
        kb_cursor cursor = kb_cursor_of(copy, len);
        kb_record_view record;
        assert_int_equal(kb_record_decode(&cursor, &record, &err), KB_ERR_FORMAT);
    }
}

static void kb_record_decode_bytes_after_headers_are_tolerated(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(area);
    make_record(&area);
    test_object_put(&area, "tail", 4);
    kb_put_u32(area.data, (uint32_t)(area.len - KB_RECORD_LEN_BYTES));
    make_record(&area);
    kb_cursor cursor = kb_cursor_of(area.data, area.len);
    kb_record_view record;
    assert_ok(kb_record_decode(&cursor, &record, &err));
    assert_int_equal(record.header_count, 1);
    assert_int_equal(record.headers_len, 8);
    assert_ok(kb_record_decode(&cursor, &record, &err));
    assert_int_equal(cursor.left, 0);
}

/* ---- bookkeeping headers ---- */

#define OFFSET_OF(number) {"x-original-offset", 17, (number), 8}
#define TIME_OF(number) {"x-original-timestamp", 20, (number), 8}
#define CLUSTER {"x-source-cluster", 16, "c1", 2}
#define PLAIN {"h", 1, "x", 1}

static const int64_t offset_7 = 7;
static const int64_t offset_8 = 8;
static const int64_t time_5 = 5;

static void decode_with_headers(test_object *area, const kb_header_in *headers, size_t count,
                                kb_record_view *record)
{
    KB_AUTO_ERROR(err);
    const kb_record_in in = {.timestamp = 5,
                             .offset = 7,
                             .key_len = -1,
                             .value_len = -1,
                             .headers = headers,
                             .header_count = count};
    test_put_record(area, &in);
    kb_cursor cursor = kb_cursor_of(area->data, area->len);
    assert_ok(kb_record_decode(&cursor, record, &err));
}

/* Headers of the same name that the source record carries are data; only the exact tail is the own block. */
static void kb_own_block_find_only_exact_tail_counts(void **state)
{
    (void)state;
    const struct {
        uint32_t expected;
        size_t count;
        kb_header_in headers[5];
    } cases[] = {
        {0, 0, {{0}}},
        {2, 2, {OFFSET_OF(&offset_7), TIME_OF(&time_5)}},
        {3, 3, {OFFSET_OF(&offset_7), TIME_OF(&time_5), CLUSTER}},
        {2, 3, {PLAIN, OFFSET_OF(&offset_7), TIME_OF(&time_5)}},
        {3, 5, {PLAIN, PLAIN, OFFSET_OF(&offset_7), TIME_OF(&time_5), CLUSTER}},
        /* from an earlier restore, then ours */
        {2, 4, {OFFSET_OF(&offset_8), TIME_OF(&time_5), OFFSET_OF(&offset_7), TIME_OF(&time_5)}},
        {2, 4, {OFFSET_OF(&offset_7), TIME_OF(&time_5), OFFSET_OF(&offset_7), TIME_OF(&time_5)}},
        /* not at the end, other order, other values, other lengths, twice the cluster */
        {0, 3, {OFFSET_OF(&offset_7), TIME_OF(&time_5), PLAIN}},
        {0, 2, {TIME_OF(&time_5), OFFSET_OF(&offset_7)}},
        {0, 2, {OFFSET_OF(&offset_8), TIME_OF(&time_5)}},
        {0, 2, {OFFSET_OF(&offset_7), TIME_OF(&offset_8)}},
        {0, 1, {OFFSET_OF(&offset_7)}},
        {0, 1, {TIME_OF(&time_5)}},
        {0, 2, {{"x-original-offset", 17, "7", 1}, TIME_OF(&time_5)}},
        {0, 2, {{"x-original-offset", 17, NULL, -1}, TIME_OF(&time_5)}},
        {0, 2, {{"X-original-offset", 17, &offset_7, 8}, TIME_OF(&time_5)}},
        {0, 4, {OFFSET_OF(&offset_7), TIME_OF(&time_5), CLUSTER, CLUSTER}},
        {0, 3, {OFFSET_OF(&offset_7), PLAIN, TIME_OF(&time_5)}},
        {0, 3, {CLUSTER, OFFSET_OF(&offset_8), TIME_OF(&time_5)}},
        {2, 3, {CLUSTER, OFFSET_OF(&offset_7), TIME_OF(&time_5)}},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        AUTO_OBJECT(area);
        kb_record_view record;
        decode_with_headers(&area, cases[i].headers, cases[i].count, &record);
        kb_own_block block = kb_own_block_find(&record);
        assert_int_equal(block.header_count, cases[i].expected);
        size_t expected_len = 0;
        if (cases[i].expected > 0)
            expected_len = 31 + 34 + (cases[i].expected == 3 ? 24 : 0);
        assert_int_equal(block.len, expected_len);
    }
}

static void kb_own_block_strip_removes_own_block_and_nothing_else(void **state)
{
    (void)state;
    const kb_header_in headers[] = {PLAIN, OFFSET_OF(&offset_7), TIME_OF(&time_5), OFFSET_OF(&offset_7),
                                    TIME_OF(&time_5)};
    AUTO_OBJECT(area);
    kb_record_view record;
    decode_with_headers(&area, headers, KB_ARRAY_LEN(headers), &record);
    kb_own_block_strip(&record, KB_OWN_BLOCK_NONE);
    assert_int_equal(record.header_count, 5);
    kb_own_block_strip(&record, KB_OWN_BLOCK_PRESENT);
    assert_int_equal(record.header_count, 3);
    kb_header_iter iter = kb_record_headers(&record);
    kb_header_view header;
    size_t count = 0;
    while (kb_header_next(&iter, &header))
        count++;
    assert_int_equal(count, 3);
    assert_memory_equal(header.name, "x-original-timestamp", 20);
    assert_int_equal(iter.at.left, 0);
}

static void kb_record_original_offset_last_header_counts(void **state)
{
    (void)state;
    const struct {
        bool is_found;
        int64_t expected;
        size_t count;
        kb_header_in headers[3];
    } cases[] = {
        {false, 0, 1, {PLAIN}},
        {true, 7, 1, {OFFSET_OF(&offset_7)}},
        {true, 8, 3, {OFFSET_OF(&offset_7), OFFSET_OF(&offset_8), PLAIN}},
        {true, 7, 2, {OFFSET_OF(&offset_8), OFFSET_OF(&offset_7)}},
        {true, 123, 1, {{"x-original-offset", 17, "123", 3}}},
        {true, 12345678901, 2, {OFFSET_OF(&offset_7), {"x-original-offset", 17, "12345678901", 11}}},
        {false, 0, 1, {{"x-original-offset", 17, "12x", 3}}},
        {false, 0, 1, {{"x-original-offset", 17, "", 0}}},
        {false, 0, 2, {OFFSET_OF(&offset_7), {"x-original-offset", 17, NULL, -1}}},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        AUTO_OBJECT(area);
        kb_record_view record;
        decode_with_headers(&area, cases[i].headers, cases[i].count, &record);
        int64_t offset = 0;
        assert_int_equal(kb_record_original_offset(&record, &offset), cases[i].is_found);
        if (cases[i].is_found)
            assert_int_equal(offset, cases[i].expected);
    }
}

static void kb_record_encode_own_block_is_appended_and_found(void **state)
{
    (void)state;
    const kb_own_block_opts options[] = {{NULL, 0}, {"cluster-a", 9}, {"", 0}};
    const kb_header_in headers[] = {PLAIN, {"", 0, NULL, -1}, PLAIN};
    const kb_record_in in = {.timestamp = -1,
                             .offset = 9,
                             .value = "value",
                             .value_len = 5,
                             .key_len = -1,
                             .headers = headers,
                             .header_count = 3};
    for (size_t i = 0; i < KB_ARRAY_LEN(options); i++) {
        KB_AUTO_ERROR(err);
        size_t size = 0;
        assert_ok(kb_record_encoded_size(&in, &options[i], &size, &err));
        KB_AUTOFREE uint8_t *bytes = kb_malloc(size);
        assert_ptr_equal(kb_record_encode(bytes, &in, &options[i]), bytes + size);
        kb_cursor cursor = kb_cursor_of(bytes, size);
        kb_record_view record;
        assert_ok(kb_record_decode(&cursor, &record, &err));
        uint32_t own_count = options[i].source_cluster != NULL ? 3 : 2;
        assert_int_equal(record.header_count, 3 + own_count);
        assert_int_equal(kb_own_block_find(&record).header_count, own_count);
        kb_own_block_strip(&record, KB_OWN_BLOCK_PRESENT);
        assert_int_equal(record.header_count, 3);
    }
}

static void kb_record_encoded_size_impossible_record_is_refused(void **state)
{
    (void)state;
    enum { NAME_TOO_LONG = KB_HEADER_NAME_MAX_BYTES + 1 };
    KB_AUTOFREE char *long_name = kb_calloc(NAME_TOO_LONG, 1);
    memset(long_name, 'a', NAME_TOO_LONG);
    KB_AUTOFREE kb_header_in *many = kb_calloc(KB_RECORD_HEADER_COUNT_MAX + 1, sizeof *many);
    const kb_header_in long_header = {long_name, NAME_TOO_LONG, "", 0};
    const kb_header_in latin_header = {"\xe4", 1, "", 0};
    const kb_header_in bad_value = {"h", 1, NULL, -2};
    const kb_own_block_opts own = {NULL, 0};
    const struct {
        const char *text;
        kb_record_in record;
        const kb_own_block_opts *own;
    } cases[] = {
        {"65536 headers", {.offset = 7, .headers = many, .header_count = 65536}, NULL},
        {"65537 headers", {.offset = 7, .headers = many, .header_count = 65535}, &own},
        {"65536 bytes", {.offset = 7, .headers = &long_header, .header_count = 1}, NULL},
        {"not UTF-8", {.offset = 7, .headers = &latin_header, .header_count = 1}, NULL},
        {"length -2", {.offset = 7, .headers = &bad_value, .header_count = 1}, NULL},
        {"key length -2", {.offset = 7, .key_len = -2}, NULL},
        {"offset -1", {.offset = -1}, NULL},
        {"a segment holds 1073741824", {.offset = 7, .value_len = 1 << 30}, NULL},
        {"a segment holds", {.offset = 7, .value_len = INT32_MAX, .key_len = INT32_MAX}, NULL},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        size_t size;
        assert_int_equal(kb_record_encoded_size(&cases[i].record, cases[i].own, &size, &err),
                         KB_RECORD_INVALID);
        if (strstr(kb_error_text(&err), cases[i].text) == NULL)
            fail_msg("case %zu: %s", i, kb_error_text(&err));
    }
}

static void kb_record_encoded_size_limits_are_accepted(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTOFREE kb_header_in *many = kb_calloc(KB_RECORD_HEADER_COUNT_MAX, sizeof *many);
    kb_record_in record = {.offset = 7, .headers = many, .header_count = KB_RECORD_HEADER_COUNT_MAX};
    size_t size = 0;
    assert_ok(kb_record_encoded_size(&record, NULL, &size, &err));
    assert_int_equal(size, 30 + 65535 * 6);
    record = (kb_record_in){.offset = 7, .value_len = (1 << 30) - 26};
    assert_ok(kb_record_encoded_size(&record, NULL, &size, &err));
    assert_int_equal(size, ((size_t)1 << 30) + 4);
}

static void kb_restore_headers_init_gives_three_headers(void **state)
{
    (void)state;
    kb_restore_headers headers;
    kb_restore_headers_init(&headers, 42, -1, 3);
    assert_string_equal(headers.header[0].name, "x-original-offset");
    assert_memory_equal(headers.header[0].value, "\x2a\0\0\0\0\0\0\0", 8);
    assert_int_equal(headers.header[0].value_len, 8);
    assert_string_equal(headers.header[1].name, "x-original-timestamp");
    assert_memory_equal(headers.header[1].value, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    assert_string_equal(headers.header[2].name, "x-source-partition");
    assert_int_equal(headers.header[2].value_len, 4);
    assert_memory_equal(headers.header[2].value, "\3\0\0\0", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_codec_parse_names_round_trip),
        cmocka_unit_test(kb_segment_header_decode_inverts_encode),
        cmocka_unit_test(kb_segment_header_decode_bad_field_is_refused),
        cmocka_unit_test(kb_segment_header_decode_reserved_bytes_are_ignored),
        cmocka_unit_test(kb_record_decode_golden_area_gives_records),
        cmocka_unit_test(kb_record_encode_golden_records_gives_area),
        cmocka_unit_test(kb_record_decode_bad_length_is_refused),
        cmocka_unit_test(kb_record_decode_cut_area_is_refused),
        cmocka_unit_test(kb_record_decode_bytes_after_headers_are_tolerated),
        cmocka_unit_test(kb_own_block_find_only_exact_tail_counts),
        cmocka_unit_test(kb_own_block_strip_removes_own_block_and_nothing_else),
        cmocka_unit_test(kb_record_original_offset_last_header_counts),
        cmocka_unit_test(kb_record_encode_own_block_is_appended_and_found),
        cmocka_unit_test(kb_record_encoded_size_impossible_record_is_refused),
        cmocka_unit_test(kb_record_encoded_size_limits_are_accepted),
        cmocka_unit_test(kb_restore_headers_init_gives_three_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

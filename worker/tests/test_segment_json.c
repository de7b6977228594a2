#include "worker/segment/segment_json.h"

#include "worker/segment/segment_reader.h"
#include "worker/tests/segment_fixture.h"

#define KEY "old/topics/t/partition=0/segment-000000.bin"

static void put_text(test_object *object, const char *text)
{
    test_object_put(object, text, strlen(text));
}

static kb_code read_json(test_object *object, const kb_segment_expect *expect,
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

static kb_segment_expect any_expect(void)
{
    kb_segment_expect expect = KB_SEGMENT_EXPECT_INIT;
    expect.key = KEY;
    return expect;
}

/* The golden records as JSON; the last two headers are binary numbers. */
static const char gold_json[] =
    " [\n{\"key\": \"aw==\", \"value\": \"djE=\", \"headers\": [{\"key\": \"h\", \"value\": \"eA==\"}, "
    "{\"value\": null, \"key\": \"n\"}, {\"key\": \"x-original-offset\", \"value\": \"KgAAAAAAAAA=\"}, "
    "{\"key\": \"x-original-timestamp\", \"value\": \"AGjlz4sBAAA=\", \"more\": {\"a\": [1]}}], "
    "\"timestamp\": 1700000000000, \"offset\": 42},"
    "{\"offset\": 44, \"timestamp\": 1700000000001, \"unknown\": [true, {\"x\": \"y\"}]},\r\n"
    "{\"key\": \"\", \"value\": \"\", \"headers\": null, \"timestamp\": -1, \"offset\": 45}\t]\n";

static void kb_segment_reader_next_json_gives_the_golden_records(void **state)
{
    (void)state;
    const kb_segment_reader_opts options[] = {
        {0}, {.deep = true}, {.held_bytes = 1, .range_bytes = 3}, {.max_area_bytes = 200}};
    AUTO_OBJECT(expected);
    AUTO_OBJECT(object);
    kb_record_in records[3];
    for (size_t i = 0; i < test_gold_records(records); i++)
        test_put_record(&expected, &records[i]);
    put_text(&object, gold_json);
    for (size_t i = 0; i < KB_ARRAY_LEN(options); i++) {
        KB_AUTO_ERROR(err);
        AUTO_OBJECT(area);
        kb_segment_expect expect = any_expect();
        expect.size = object.len;
        expect.count = 3;
        expect.start = 42;
        expect.end = 45;
        expect.raw_bytes = 9999; /* what the other tool counts for JSON is not the size of our area */
        assert_ok(read_json(&object, &expect, &options[i], &area, &err));
        assert_int_equal(area.len, expected.len);
        assert_memory_equal(area.data, expected.data, expected.len);
    }
}

static void kb_segment_reader_open_json_short_object_is_read(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(object);
    AUTO_OBJECT(area);
    put_text(&object, "[]");
    const kb_segment_expect expect = any_expect();
    assert_ok(read_json(&object, &expect, NULL, &area, &err));
    assert_int_equal(area.len, 0);
}

/* The first thing of the first record is an empty name: found by fuzzing. */
static void kb_segment_reader_next_json_empty_header_is_kept(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(object);
    AUTO_OBJECT(area);
    put_text(&object, "[{\"headers\": [{\"key\": \"\", \"value\": \"\"}], \"timestamp\": 1, \"offset\": 2}]");
    const kb_segment_expect expect = any_expect();
    assert_ok(read_json(&object, &expect, NULL, &area, &err));
    kb_cursor cursor = kb_cursor_of(area.data, area.len);
    kb_record_view record;
    assert_ok(kb_record_decode(&cursor, &record, &err));
    assert_int_equal(record.header_count, 1);
    assert_int_equal(record.headers_len, 6);
}

/* White space, up to 4095 bytes of it, whether the object is held or read in ranges: found by fuzzing. */
static void kb_segment_reader_open_json_white_space_is_passed_over(void **state)
{
    (void)state;
    const kb_segment_reader_opts options[] = {{0}, {.held_bytes = 1, .range_bytes = 7}};
    const size_t counts[] = {31, 32, 100, 4095, 4096};
    for (size_t i = 0; i < KB_ARRAY_LEN(counts); i++) {
        for (size_t j = 0; j < KB_ARRAY_LEN(options); j++) {
            KB_AUTO_ERROR(err);
            AUTO_OBJECT(object);
            for (size_t at = 0; at < counts[i]; at++)
                put_text(&object, at % 2 == 0 ? " " : "\n");
            put_text(&object, "[]");
            const kb_segment_expect expect = any_expect();
            assert_int_equal(read_json(&object, &expect, &options[j], NULL, &err),
                             counts[i] < 4096 ? KB_OK : KB_BACKUP_CORRUPT);
        }
    }
}

static void kb_segment_verify_json_tells_what_it_holds(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(object);
    put_text(&object, gold_json);
    KB_CLEANUP(kb_segment_reader_free_at) kb_segment_reader *reader = kb_segment_reader_new(NULL);
    const kb_segment_source source = test_source(&object);
    kb_segment_expect expect = any_expect();
    expect.own_block = 0;
    kb_segment_info info;
    assert_ok(kb_segment_verify(reader, &source, &expect, &info, &err));
    assert_int_equal(info.count, 3);
    assert_int_equal(info.start, 42);
    assert_int_equal(info.end, 45);
    assert_int_equal(info.to, 46);
    assert_int_equal(info.min_timestamp, -1);
    char hex[KB_DIGEST_HEX_SIZE];
    kb_digest_hex(&info.digest, hex);
    assert_string_equal(hex, GOLD_DIGEST);
}

/* More than one area of records, and one that is larger than an area. */
static void kb_segment_reader_next_json_many_records_come_in_areas(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(object);
    enum { VALUE_TEXT = 40000, COUNT = 100, LARGE_AT = 50, LARGE_TEXT = 4000000 };
    KB_AUTOFREE char *value = kb_malloc(LARGE_TEXT + 1);
    memset(value, 'A', LARGE_TEXT);
    for (int i = 0; i < COUNT; i++) {
        int len = i == LARGE_AT ? LARGE_TEXT : VALUE_TEXT;
        KB_AUTOFREE char *text = kb_asprintf("%s{\"offset\": %d, \"timestamp\": %d, \"value\": \"%.*s\"}",
                                             i == 0 ? "[" : ",", i, -i, len, value);
        put_text(&object, text);
    }
    put_text(&object, "]");
    const kb_segment_source source = test_source(&object);
    const kb_segment_expect expect = any_expect();
    const kb_segment_reader_opts opts = {.held_bytes = 1, .range_bytes = 65536};
    KB_CLEANUP(kb_segment_reader_free_at) kb_segment_reader *reader = kb_segment_reader_new(&opts);
    assert_ok(kb_segment_reader_open(reader, &source, &expect, &err));
    KB_AUTO_AREA(area);
    bool has = true;
    size_t area_count = 0;
    uint64_t record_count = 0;
    for (;;) {
        assert_ok(kb_segment_reader_next(reader, &area, &has, &err));
        if (!has)
            break;
        assert_true(area.len <= KB_FRAME_TARGET_BYTES || area.bounds.record_count == 1);
        area_count++;
        record_count += area.bounds.record_count;
    }
    assert_int_equal(record_count, COUNT);
    assert_true(area_count >= 5);
    const kb_segment_reader_opts small = {.max_area_bytes = 1 << 20};
    assert_int_equal(read_json(&object, &expect, &small, NULL, &err), KB_MEMORY_TOO_SMALL);
}

static void kb_segment_reader_open_bad_json_is_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "[",
        "[}",
        "[] []",
        "[]x",
        "[1]",
        "[null]",
        "[[]]",
        "[{}]",
        "[{\"timestamp\": 1}]",
        "[{\"offset\": 1}]",
        "[{\"timestamp\": 1, \"offset\": -1}]",
        "[{\"timestamp\": 1, \"offset\": 1.0}]",
        "[{\"timestamp\": 1, \"offset\": 1e3}]",
        "[{\"timestamp\": 1, \"offset\": 9223372036854775808}]",
        "[{\"timestamp\": -9223372036854775809, \"offset\": 1}]",
        "[{\"timestamp\": \"1\", \"offset\": 1}]",
        "[{\"timestamp\": null, \"offset\": 1}]",
        "[{\"timestamp\": 1, \"offset\": 1, \"offset\": 2}]",
        "[{\"timestamp\": 1, \"offset\": 1},]",
        "[{\"timestamp\": 1, \"offset\": 1}",
        "[{\"timestamp\": 1, \"offset\": 1}, {\"timestamp\": 1, \"offset\": 1}]",
        "[{\"timestamp\": 1, \"offset\": 2}, {\"timestamp\": 1, \"offset\": 1}]",
        "[{\"timestamp\": 1, \"offset\": 1, \"key\": 5}]",
        "[{\"timestamp\": 1, \"offset\": 1, \"key\": \"a\"}]",
        "[{\"timestamp\": 1, \"offset\": 1, \"key\": \"aw\"}]",
        "[{\"timestamp\": 1, \"offset\": 1, \"key\": \"ax==\"}]",
        "[{\"timestamp\": 1, \"offset\": 1, \"key\": \"a_==\"}]",
        "[{\"timestamp\": 1, \"offset\": 1, \"value\": \"aw==\\n\"}]",
        "[{\"timestamp\": 1, \"offset\": 1, \"headers\": {}}]",
        "[{\"timestamp\": 1, \"offset\": 1, \"headers\": [null]}]",
        "[{\"timestamp\": 1, \"offset\": 1, \"headers\": [{\"key\": \"h\"}]}]",
        "[{\"timestamp\": 1, \"offset\": 1, \"headers\": [{\"value\": \"\"}]}]",
        "[{\"timestamp\": 1, \"offset\": 1, \"headers\": [{\"key\": null, \"value\": \"\"}]}]",
        "[{\"timestamp\": 1, \"offset\": 1, \"headers\": [{\"key\": \"\\u0000\", \"value\": \"\"}]}]",
        "[{\"timestamp\": 1, \"offset\": 1, \"headers\": [{\"key\": \"\xff\", \"value\": \"\"}]}]",
        "[{\"timestamp\": 1, \"offset\": 1, \"x\": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}]",
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        AUTO_OBJECT(object);
        put_text(&object, cases[i]);
        const kb_segment_expect expect = any_expect();
        const kb_segment_source source = test_source(&object);
        KB_CLEANUP(kb_segment_reader_free_at) kb_segment_reader *reader = kb_segment_reader_new(NULL);
        if (kb_segment_reader_open(reader, &source, &expect, &err) != KB_BACKUP_CORRUPT)
            fail_msg("accepted: %s", cases[i]);
        assert_non_null(strstr(kb_error_text(&err), KEY));
    }
}

static void kb_segment_reader_open_json_cut_anywhere_is_refused(void **state)
{
    (void)state;
    AUTO_OBJECT(object);
    put_text(&object, gold_json);
    for (object.len = 0; object.len < sizeof gold_json - 2; object.len++) {
        KB_AUTO_ERROR(err);
        const kb_segment_expect expect = any_expect();
        assert_int_equal(read_json(&object, &expect, NULL, NULL, &err), KB_BACKUP_CORRUPT);
    }
}

static void kb_segment_reader_open_json_contradiction_is_refused(void **state)
{
    (void)state;
    kb_segment_expect cases[4];
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++)
        cases[i] = any_expect();
    cases[0].count = 2;
    cases[1].start = 41;
    cases[2].end = 46;
    cases[3].size = 5;
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        AUTO_OBJECT(object);
        put_text(&object, gold_json);
        assert_int_equal(read_json(&object, &cases[i], NULL, NULL, &err), KB_BACKUP_CORRUPT);
    }
}

static kb_code endless_json(void *ctx, uint64_t offset, void *to, size_t len, kb_error *err)
{
    (void)ctx;
    (void)err;
    memset(to, ' ', len);
    if (offset == 0)
        *(uint8_t *)to = '[';
    return KB_OK;
}

static void kb_segment_reader_open_json_above_limit_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    const kb_segment_source source = {NULL, KB_SEGMENT_JSON_MAX_BYTES + 1, endless_json};
    const kb_segment_reader_opts opts = {.range_bytes = 4096};
    KB_CLEANUP(kb_segment_reader_free_at) kb_segment_reader *reader = kb_segment_reader_new(&opts);
    const kb_segment_expect expect = any_expect();
    assert_int_equal(kb_segment_reader_open(reader, &source, &expect, &err), KB_BACKUP_CORRUPT);
    assert_non_null(strstr(kb_error_text(&err), "JSON segment of more than"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_segment_reader_next_json_gives_the_golden_records),
        cmocka_unit_test(kb_segment_reader_open_json_short_object_is_read),
        cmocka_unit_test(kb_segment_reader_next_json_empty_header_is_kept),
        cmocka_unit_test(kb_segment_reader_open_json_white_space_is_passed_over),
        cmocka_unit_test(kb_segment_verify_json_tells_what_it_holds),
        cmocka_unit_test(kb_segment_reader_next_json_many_records_come_in_areas),
        cmocka_unit_test(kb_segment_reader_open_bad_json_is_refused),
        cmocka_unit_test(kb_segment_reader_open_json_cut_anywhere_is_refused),
        cmocka_unit_test(kb_segment_reader_open_json_contradiction_is_refused),
        cmocka_unit_test(kb_segment_reader_open_json_above_limit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "worker/cmd/text_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"

static void kb_text_escape_controls_and_broken_utf8_are_shown(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *shown;
    } cases[] = {
        {NULL, "-"},
        {"", ""},
        {"orders-1", "orders-1"},
        {"J\xc3\xbcrgen \xe2\x82\xac", "J\xc3\xbcrgen \xe2\x82\xac"},
        {"a\nb\tc", "a\\x0ab\\x09c"},
        {"\x1b[31mred", "\\x1b[31mred"},
        {"\x7f", "\\x7f"},
        {"\xc2\x9b"
         "31m",
         "\\xc2\\x9b31m"},
        {"\xff\xfe", "\\xff\\xfe"},
        {"\xc3", "\\xc3"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_STRBUF(out, 1000);
        kb_text_escape(&out, cases[i].text);
        assert_string_equal(kb_strbuf_view(&out), cases[i].shown);
    }
}

static void kb_text_bytes_has_binary_units(void **state)
{
    (void)state;
    static const struct {
        int64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1.0 KiB"},
        {1536, "1.5 KiB"},
        {1048575, "1.0 MiB"},
        {INT64_C(5) << 30, "5.0 GiB"},
        {INT64_MAX, "8192.0 PiB"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        char text[KB_TEXT_SIZE_MAX];
        kb_text_bytes(cases[i].bytes, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void kb_text_time_unknown_is_a_dash(void **state)
{
    (void)state;
    char text[KB_TEXT_SIZE_MAX + 2];
    kb_text_time(0, text);
    assert_string_equal(text, "-");
    kb_text_time(INT64_C(1735689600123), text);
    assert_string_equal(text, "2025-01-01T00:00:00.123Z");
}

static void kb_text_table_print_aligns_by_characters(void **state)
{
    (void)state;
    static const kb_text_column columns[] = {
        {"NAME", KB_TEXT_LEFT}, {"N", KB_TEXT_RIGHT}, {"SIZE", KB_TEXT_RIGHT}, {"LAST", KB_TEXT_LEFT}};
    KB_CLEANUP(kb_text_table_free_at)
    kb_text_table *table = kb_text_table_new(columns, KB_ARRAY_LEN(columns));
    kb_text_table_add(table, "\xc3\xa4\xc3\xb6");
    kb_text_table_add_i64(table, 12345);
    kb_text_table_add_bytes(table, 2048);
    kb_text_table_add(table, "x");
    kb_text_table_add(table, "abcdef\n");
    kb_text_table_add_i64(table, -1);
    kb_text_table_add(table, NULL);
    kb_text_table_add(table, "");
    KB_AUTO_STRBUF(out, 1000);
    kb_text_table_print(table, &out);
    assert_string_equal(kb_strbuf_view(&out), "NAME            N     SIZE  LAST\n"
                                              "\xc3\xa4\xc3\xb6          12345  2.0 KiB  x\n"
                                              "abcdef\\x0a     -1        -  \n");
}

static void kb_text_json_field_broken_utf8_stays_json(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(out, 1000);
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *json = kb_json_writer_new(KB_JSON_COMPACT, &out);
    kb_json_put_begin_object(json);
    kb_text_json_field(json, "a", "x\n\xc3\xa4");
    kb_text_json_field(json, "b", "\xff");
    kb_text_json_field(json, "c", NULL);
    kb_json_put_end_object(json);
    assert_int_equal(kb_json_writer_finish(json, &err), KB_OK);
    assert_string_equal(kb_strbuf_view(&out), "{\"a\":\"x\\n\xc3\xa4\",\"b\":\"\\\\xff\",\"c\":null}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_text_escape_controls_and_broken_utf8_are_shown),
        cmocka_unit_test(kb_text_bytes_has_binary_units),
        cmocka_unit_test(kb_text_time_unknown_is_a_dash),
        cmocka_unit_test(kb_text_table_print_aligns_by_characters),
        cmocka_unit_test(kb_text_json_field_broken_utf8_stays_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

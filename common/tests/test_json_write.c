#include "common/data/json_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/base/mem.h"

static void write_sample(kb_json_writer *w)
{
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "id", "a/b \xc3\xa9");
    kb_json_field_text(w, "none", NULL);
    kb_json_field_i64(w, "least", INT64_MIN);
    kb_json_field_u64(w, "most", UINT64_MAX);
    kb_json_field_bool(w, "yes", true);
    kb_json_field_null(w, "null");
    kb_json_put_name(w, "empty");
    kb_json_put_begin_array(w);
    kb_json_put_end_array(w);
    kb_json_put_name(w, "nothing");
    kb_json_put_begin_object(w);
    kb_json_put_end_object(w);
    kb_json_put_name(w, "list");
    kb_json_put_begin_array(w);
    kb_json_put_i64(w, 0);
    kb_json_put_begin_object(w);
    kb_json_field_view(w, "k", kb_view_of("v\0w", 3));
    kb_json_put_end_object(w);
    kb_json_put_end_array(w);
    kb_json_put_end_object(w);
}

static const char pretty[] = "{\n"
                             "  \"id\": \"a/b \xc3\xa9\",\n"
                             "  \"none\": null,\n"
                             "  \"least\": -9223372036854775808,\n"
                             "  \"most\": 18446744073709551615,\n"
                             "  \"yes\": true,\n"
                             "  \"null\": null,\n"
                             "  \"empty\": [],\n"
                             "  \"nothing\": {},\n"
                             "  \"list\": [\n"
                             "    0,\n"
                             "    {\n"
                             "      \"k\": \"v\\u0000w\"\n"
                             "    }\n"
                             "  ]\n"
                             "}";
static const char compact[] = "{\"id\":\"a/b \xc3\xa9\",\"none\":null,\"least\":-9223372036854775808,"
                              "\"most\":18446744073709551615,\"yes\":true,\"null\":null,\"empty\":[],"
                              "\"nothing\":{},\"list\":[0,{\"k\":\"v\\u0000w\"}]}";

static void kb_json_put_sample_has_the_form_of_its_style(void **state)
{
    (void)state;
    for (int style = KB_JSON_PRETTY; style <= KB_JSON_COMPACT; style++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_STRBUF(text, 4096);
        KB_CLEANUP(kb_json_writer_free_at)
        kb_json_writer *writer = kb_json_writer_new((kb_json_style)style, &text);
        write_sample(writer);
        assert_int_equal(kb_json_writer_finish(writer, &err), KB_OK);
        assert_string_equal(kb_strbuf_view(&text), style == KB_JSON_PRETTY ? pretty : compact);
    }
}

static void kb_json_put_text_is_escaped_as_serde_does(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(text, 4096);
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *writer = kb_json_writer_new(KB_JSON_COMPACT, &text);
    kb_json_put_text(writer, "\"\\/\b\f\n\r\t\x01\x1f\x7f<>&\xe2\x80\xa8");
    assert_int_equal(kb_json_writer_finish(writer, &err), KB_OK);
    assert_string_equal(kb_strbuf_view(&text),
                        "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f<>&\xe2\x80\xa8\"");
}

static kb_code collect(void *ctx, kb_view part, kb_error *err)
{
    (void)err;
    kb_strbuf_append(ctx, part.data, part.len);
    return KB_OK;
}

static kb_code refuse(void *ctx, kb_view part, kb_error *err)
{
    (void)ctx;
    (void)part;
    return kb_fail(err, KB_STORAGE_FULL, "full");
}

static void write_many(kb_json_writer *writer)
{
    kb_json_put_begin_array(writer);
    for (int i = 0; i < 50000; i++)
        kb_json_put_text(writer, "0123456789");
    kb_json_put_end_array(writer);
}

static void kb_json_writer_new_sink_long_text_comes_in_parts(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(whole, 4 << 20);
    KB_CLEANUP(kb_json_writer_free_at)
    kb_json_writer *writer = kb_json_writer_new_sink(KB_JSON_COMPACT, collect, &whole);
    write_many(writer);
    assert_true(whole.len > 500000);
    assert_int_equal(kb_json_writer_finish(writer, &err), KB_OK);
    assert_int_equal(whole.len, 50000 * 13 + 1);
}

static void kb_json_writer_finish_failed_sink_reports_its_error(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_json_writer_free_at)
    kb_json_writer *writer = kb_json_writer_new_sink(KB_JSON_PRETTY, refuse, NULL);
    write_many(writer);
    assert_int_equal(kb_json_writer_finish(writer, &err), KB_STORAGE_FULL);
    assert_string_equal(kb_error_text(&err), "full");
}

static void kb_json_writer_finish_text_beyond_the_maximum_fails(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(text, 1000);
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *writer = kb_json_writer_new(KB_JSON_PRETTY, &text);
    write_many(writer);
    assert_int_equal(kb_json_writer_finish(writer, &err), KB_ERR_TOO_LARGE);
}

static void put_nothing(kb_json_writer *w)
{
    (void)w;
}
static void put_open(kb_json_writer *w)
{
    kb_json_put_begin_array(w);
}
static void put_two(kb_json_writer *w)
{
    kb_json_put_null(w);
    kb_json_put_null(w);
}
static void put_wrong_end(kb_json_writer *w)
{
    kb_json_put_begin_array(w);
    kb_json_put_end_object(w);
}
static void put_no_name(kb_json_writer *w)
{
    kb_json_put_begin_object(w);
    kb_json_put_null(w);
}
static void put_no_value(kb_json_writer *w)
{
    kb_json_put_begin_object(w);
    kb_json_put_name(w, "a");
    kb_json_put_end_object(w);
}
static void put_name_in_array(kb_json_writer *w)
{
    kb_json_put_begin_array(w);
    kb_json_put_name(w, "a");
}
static void put_deep(kb_json_writer *w)
{
    for (int i = 0; i < 65; i++)
        kb_json_put_begin_array(w);
}
static void put_not_utf8(kb_json_writer *w)
{
    kb_json_put_text(w, "a\xff");
}

static void kb_json_writer_finish_misuse_is_an_error(void **state)
{
    (void)state;
    static const struct {
        void (*write)(kb_json_writer *writer);
        kb_code code;
    } cases[] = {
        {put_nothing, KB_ERR_INTERNAL},       {put_open, KB_ERR_INTERNAL},
        {put_two, KB_ERR_INTERNAL},           {put_wrong_end, KB_ERR_INTERNAL},
        {put_no_name, KB_ERR_INTERNAL},       {put_no_value, KB_ERR_INTERNAL},
        {put_deep, KB_ERR_INTERNAL},          {put_not_utf8, KB_ERR_FORMAT},
        {put_name_in_array, KB_ERR_INTERNAL},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_STRBUF(text, 4096);
        KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *writer = kb_json_writer_new(KB_JSON_PRETTY, &text);
        cases[i].write(writer);
        assert_int_equal(kb_json_writer_finish(writer, &err), cases[i].code);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_json_put_sample_has_the_form_of_its_style),
        cmocka_unit_test(kb_json_put_text_is_escaped_as_serde_does),
        cmocka_unit_test(kb_json_writer_new_sink_long_text_comes_in_parts),
        cmocka_unit_test(kb_json_writer_finish_failed_sink_reports_its_error),
        cmocka_unit_test(kb_json_writer_finish_text_beyond_the_maximum_fails),
        cmocka_unit_test(kb_json_writer_finish_misuse_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

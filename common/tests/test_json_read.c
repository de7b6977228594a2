#include "common/data/json_read.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"

static kb_json_reader *reader_of(const char *text, size_t len)
{
    return kb_json_reader_new(kb_view_of(text, len), NULL);
}

/* Hands the text out in parts of `step` bytes, each in memory of its own that is gone at the next call. */
typedef struct drip {
    const char *text;
    size_t left;
    size_t step;
    char *part; /* owned */
} drip;

static kb_code drip_next(void *ctx, kb_view *ret_chunk, kb_error *err)
{
    (void)err;
    drip *source = ctx;
    size_t len = source->left < source->step ? source->left : source->step;
    free(source->part);
    source->part = kb_malloc(len > 0 ? len : 1);
    memcpy(source->part, source->text, len);
    *ret_chunk = kb_view_of(source->part, len);
    source->text += len;
    source->left -= len;
    return KB_OK;
}

/* All tokens in one line: "{ n:a 1 }". */
static kb_code list_tokens(kb_json_reader *reader, kb_strbuf *to, kb_error *err)
{
    static const char *const signs[] = {"{", "}", "[", "]", "n:", "s:", "", "true", "false", "null", "."};
    for (;;) {
        kb_json_token token = {KB_JSON_END, {NULL, 0}, false, 0};
        kb_code code = kb_json_next(reader, &token, err);
        if (code != KB_OK)
            return code;
        kb_strbuf_appends(to, signs[token.type]);
        kb_strbuf_append(to, token.text.data, token.text.len);
        if (token.type == KB_JSON_INTEGER)
            kb_strbuf_appendf(to, "%s%llu", token.is_negative ? "-" : "",
                              (unsigned long long)token.magnitude);
        if (token.type == KB_JSON_END)
            return KB_OK;
        kb_strbuf_appendc(to, ' ');
    }
}

static const struct {
    const char *text;
    const char *tokens;
} good_cases[] = {
    {"{}", "{ } ."},
    {" [ ] \r\n\t", "[ ] ."},
    {"null", "null ."},
    {"-0", "-0 ."},
    {"0", "0 ."},
    {"\"\"", "s: ."},
    {"18446744073709551615", "18446744073709551615 ."},
    {"-9223372036854775808", "-9223372036854775808 ."},
    {"[1,[2,[]],{\"a\":[{}]}]", "[ 1 [ 2 [ ] ] { n:a [ { } ] } ] ."},
    {"{\"a\" : true , \"b\":false,\"\":null}", "{ n:a true n:b false n: null } ."},
    {"\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041z\"", "s:a\"\\/\b\f\n\r\tAz ."},
    {"\"\\u00e9\\u20ac\\ud83d\\ude00\"", "s:\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80 ."},
    {"[\"\xc3\xa9\",\"\xf0\x9f\x98\x80\"]", "[ s:\xc3\xa9 s:\xf0\x9f\x98\x80 ] ."},
    {"{\"a\":{\"a\":{\"a\":1}},\"b\":[{\"a\":1},{\"a\":2}]}",
     "{ n:a { n:a { n:a 1 } } n:b [ { n:a 1 } { n:a 2 } ] } ."},
};

static void kb_json_next_valid_text_gives_its_tokens(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(good_cases); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_STRBUF(tokens, 4096);
        KB_CLEANUP(kb_json_reader_free_at)
        kb_json_reader *reader = reader_of(good_cases[i].text, strlen(good_cases[i].text));
        assert_int_equal(list_tokens(reader, &tokens, &err), KB_OK);
        assert_string_equal(kb_strbuf_view(&tokens), good_cases[i].tokens);
    }
}

static void kb_json_next_any_chunk_size_gives_the_same_tokens(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(good_cases); i++) {
        for (size_t step = 1; step < 12; step++) {
            KB_AUTO_ERROR(err);
            KB_AUTO_STRBUF(tokens, 4096);
            drip source = {good_cases[i].text, strlen(good_cases[i].text), step, NULL};
            KB_CLEANUP(kb_json_reader_free_at)
            kb_json_reader *reader = kb_json_reader_new_source(drip_next, &source, NULL);
            assert_int_equal(list_tokens(reader, &tokens, &err), KB_OK);
            assert_string_equal(kb_strbuf_view(&tokens), good_cases[i].tokens);
            free(source.part);
        }
    }
}

#define BAD(text, why) {text, sizeof(text) - 1, KB_ERR_FORMAT, why}
static const struct {
    const char *text;
    size_t len;
    kb_code code;
    const char *why; /* part of the message */
} bad_cases[] = {
    BAD("", "expected a value, got the end of the text"),
    BAD("  \n ", "line 2, byte 4: expected a value"),
    BAD("\xef\xbb\xbf{}", "got byte 0xef"),
    BAD("{", "a name in quotes"),
    BAD("{]", "got ']'"),
    BAD("[1", "',' or ']'"),
    BAD("[1,]", "expected a value, got ']'"),
    BAD("[,1]", "expected a value, got ','"),
    BAD("[1 2]", "',' or ']'"),
    BAD("{\"a\"}", "expected ':'"),
    BAD("{\"a\":1,}", "a name in quotes"),
    BAD("{\"a\":1]", "',' or '}'"),
    BAD("{a:1}", "a name in quotes"),
    BAD("{\"a\":1} x", "bytes after the end"),
    BAD("1 1", "bytes after the end"),
    BAD("{}\0", "bytes after the end"),
    BAD("tru", "expected true"),
    BAD("True", "expected a value"),
    BAD("NaN", "expected a value"),
    BAD("01", "leading zero"),
    BAD("-", "a digit"),
    BAD("+1", "expected a value"),
    BAD("1.5", "fraction or an exponent"),
    BAD("1e400", "fraction or an exponent"),
    BAD("1E1", "fraction or an exponent"),
    BAD("18446744073709551616", "beyond 64 bits"),
    BAD("99999999999999999999999999", "beyond 64 bits"),
    BAD("-9223372036854775809", "beyond 64 bits"),
    BAD("\"a", "ends inside a string"),
    BAD("\"a\\", "ends inside a string"),
    BAD("\"\\x\"", "unknown escape"),
    BAD("\"\\u12g4\"", "four hexadecimal digits"),
    BAD("\"\\u0000\"", "NUL in a string"),
    BAD("\"a\0b\"", "NUL in a string"),
    BAD("\"a\nb\"", "control character"),
    BAD("\"\\ud83d\"", "high surrogate"),
    BAD("\"\\ud83dx\"", "high surrogate"),
    BAD("\"\\ud83d\\u0041\"", "high surrogate"),
    BAD("\"\\ude00\"", "low surrogate"),
    BAD("\"\xc3\"", "not valid UTF-8"),
    BAD("\"\xed\xa0\x80\"", "not valid UTF-8"),
    BAD("\"\\n\xff\"", "not valid UTF-8"),
    BAD("{\"a\":1,\"a\":2}", "at a: a name that the object has already"),
    BAD("{\"a\":1,\"\\u0061\":2}", "a name that the object has already"),
    BAD("{\"t\":[1,{\"p\":[\n[],[0,x]]}]}", "line 2, byte 21, at t[1].p[1][1]: expected a value, got 'x'"),
    {"[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]", 34, KB_ERR_TOO_LARGE, "depth exceeds the limit of 16"},
};

static void kb_json_next_invalid_text_is_refused_with_its_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(bad_cases); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_STRBUF(tokens, 4096);
        KB_CLEANUP(kb_json_reader_free_at)
        kb_json_reader *reader = reader_of(bad_cases[i].text, bad_cases[i].len);
        assert_int_equal(list_tokens(reader, &tokens, &err), bad_cases[i].code);
        if (strstr(kb_error_text(&err), bad_cases[i].why) == NULL)
            fail_msg("case %zu: \"%s\" lacks \"%s\"", i, kb_error_text(&err), bad_cases[i].why);
        kb_json_type type = KB_JSON_END;
        assert_int_equal(kb_json_peek(reader, &type, &err), bad_cases[i].code);
    }
}

static void kb_json_next_invalid_text_in_single_bytes_is_refused_alike(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(bad_cases); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_STRBUF(tokens, 4096);
        drip source = {bad_cases[i].text, bad_cases[i].len, 1, NULL};
        KB_CLEANUP(kb_json_reader_free_at)
        kb_json_reader *reader = kb_json_reader_new_source(drip_next, &source, NULL);
        assert_int_equal(list_tokens(reader, &tokens, &err), bad_cases[i].code);
        free(source.part);
    }
}

static void kb_json_next_depth_of_sixteen_is_accepted(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(tokens, 4096);
    KB_CLEANUP(kb_json_reader_free_at)
    kb_json_reader *reader = reader_of("[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]", 32);
    assert_int_equal(list_tokens(reader, &tokens, &err), KB_OK);
}

static void kb_json_next_long_strings_are_bounded(void **state)
{
    (void)state;
    kb_json_options options = {.max_string_bytes = 10};
    static const struct {
        const char *text;
        kb_code code;
    } cases[] = {
        {"\"0123456789\"", KB_OK},
        {"\"0123456789a\"", KB_ERR_TOO_LARGE},
        {"\"012345678\\n\"", KB_OK},
        {"\"0123456789\\n\"", KB_ERR_TOO_LARGE},
        {"{\"0123456789a\":1}", KB_ERR_TOO_LARGE},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_STRBUF(tokens, 4096);
        KB_CLEANUP(kb_json_reader_free_at)
        kb_json_reader *reader =
            kb_json_reader_new(kb_view_of(cases[i].text, strlen(cases[i].text)), &options);
        assert_int_equal(list_tokens(reader, &tokens, &err), cases[i].code);
    }
}

/* An object with `count` names, the last one being the first again if asked. */
static void write_names(kb_strbuf *to, unsigned count, bool repeats)
{
    for (unsigned i = 0; i < count; i++)
        kb_strbuf_appendf(to, "%s\"name-%u\":%u", i == 0 ? "{" : ",", repeats && i == count - 1 ? 0 : i, i);
    kb_strbuf_appendc(to, '}');
}

static void kb_json_next_duplicate_among_many_names_is_found(void **state)
{
    (void)state;
    static const unsigned counts[] = {2, 15, 16, 17, 18, 33, 64, 65, 1000, 20000};
    for (size_t i = 0; i < KB_ARRAY_LEN(counts); i++) {
        for (int repeats = 0; repeats < 2; repeats++) {
            KB_AUTO_ERROR(err);
            KB_AUTO_STRBUF(text, 1 << 20);
            kb_strbuf_appendc(&text, '[');
            write_names(&text, 10000, false);
            kb_strbuf_appendc(&text, ',');
            write_names(&text, counts[i], repeats == 1);
            kb_strbuf_appendc(&text, ']');
            KB_CLEANUP(kb_json_reader_free_at) kb_json_reader *reader = reader_of(text.data, text.len);
            assert_int_equal(kb_json_skip(reader, &err), repeats == 1 ? KB_ERR_FORMAT : KB_OK);
        }
    }
}

static void kb_json_next_too_many_names_are_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(text, 1 << 20);
    write_names(&text, 101, false);
    kb_json_options options = {.max_names = 100};
    KB_CLEANUP(kb_json_reader_free_at)
    kb_json_reader *reader = kb_json_reader_new(kb_view_of(text.data, text.len), &options);
    assert_int_equal(kb_json_skip(reader, &err), KB_ERR_TOO_LARGE);
}

static kb_code failing_source(void *ctx, kb_view *ret_chunk, kb_error *err)
{
    (void)ctx;
    (void)ret_chunk;
    return kb_fail(err, KB_STORAGE_UNREACHABLE, "gone");
}

static void kb_json_next_error_of_the_source_is_passed_on(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_json_reader_free_at)
    kb_json_reader *reader = kb_json_reader_new_source(failing_source, NULL, NULL);
    assert_int_equal(kb_json_skip(reader, &err), KB_STORAGE_UNREACHABLE);
    assert_string_equal(kb_error_text(&err), "gone");
}

/* What the helpers are for: an object with known fields, some of them optional, and others. */
typedef struct sample {
    int64_t start;
    uint64_t size;
    char *key;
    char *cluster;
    bool flag;
    int64_t sum;
} sample;

static kb_code read_sum(kb_json_reader *reader, int64_t *sum, kb_error *err)
{
    kb_code code = kb_json_begin_array(reader, err);
    while (code == KB_OK && (code = kb_json_next_element(reader, err)) == KB_OK) {
        int32_t number = 0;
        code = kb_json_get_i32(reader, &number, err);
        *sum += number;
    }
    return code == KB_ERR_END ? KB_OK : code;
}

static kb_code read_field(kb_json_reader *reader, kb_view name, sample *to, kb_error *err)
{
    if (kb_json_is(name, "start"))
        return kb_json_get_i64_range(reader, 0, INT64_MAX, &to->start, err);
    if (kb_json_is(name, "size"))
        return kb_json_get_u64(reader, &to->size, err);
    if (kb_json_is(name, "key"))
        return kb_json_get_text(reader, &to->key, err);
    if (kb_json_is(name, "flag"))
        return kb_json_get_bool(reader, &to->flag, err);
    if (kb_json_is(name, "numbers"))
        return read_sum(reader, &to->sum, err);
    if (kb_json_is(name, "cluster")) {
        bool is_null = false;
        kb_code code = kb_json_take_null(reader, &is_null, err);
        return code != KB_OK || is_null ? code : kb_json_get_text(reader, &to->cluster, err);
    }
    return kb_json_skip(reader, err);
}

static kb_code read_sample(const char *text, sample *to, kb_error *err)
{
    KB_CLEANUP(kb_json_reader_free_at) kb_json_reader *reader = reader_of(text, strlen(text));
    kb_view name = {NULL, 0};
    kb_code code = kb_json_begin_object(reader, err);
    while (code == KB_OK && (code = kb_json_next_name(reader, &name, err)) == KB_OK)
        code = read_field(reader, name, to, err);
    return code == KB_ERR_END ? kb_json_end(reader, err) : code;
}

static void kb_json_get_known_fields_are_decoded_and_others_skipped(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    sample got = {0};
    assert_int_equal(
        read_sample("{\"start\":5,\"new\":{\"a\":[1,{\"b\":null}]},\"size\":18446744073709551615,"
                    "\"key\":\"k\\n\",\"flag\":true,\"numbers\":[1,-2,30],\"cluster\":null}",
                    &got, &err),
        KB_OK);
    assert_int_equal(got.start, 5);
    assert_true(got.size == UINT64_MAX);
    assert_string_equal(got.key, "k\n");
    assert_true(got.flag);
    assert_int_equal(got.sum, 29);
    assert_null(got.cluster);
    free(got.key);
}

static void kb_json_get_wrong_values_are_refused_with_their_path(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *why;
    } cases[] = {
        {"[]", "expected an object, got an array"},
        {"{\"start\":\"5\"}", "at start: expected a number, got a string"},
        {"{\"start\":-1}", "at start: expected a number from 0 to"},
        {"{\"start\":9223372036854775808}", "beyond 64 bits with a sign"},
        {"{\"new\":9223372036854775808}", "beyond 64 bits with a sign"},
        {"{\"size\":-1}", "not negative"},
        {"{\"key\":null}", "expected a string, got null"},
        {"{\"flag\":0}", "expected a boolean, got a number"},
        {"{\"numbers\":{}}", "expected an array, got an object"},
        {"{\"numbers\":[1,2147483648]}", "at numbers[1]: expected a number from"},
        {"{\"cluster\":1}", "expected a string"},
        {"{\"new\":{\"a\":1,\"a\":1}}", "at new.a: a name that the object has already"},
        {"{} {}", "bytes after"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        sample got = {0};
        assert_int_equal(read_sample(cases[i].text, &got, &err), KB_ERR_FORMAT);
        if (strstr(kb_error_text(&err), cases[i].why) == NULL)
            fail_msg("\"%s\" lacks \"%s\"", kb_error_text(&err), cases[i].why);
    }
}

static void kb_json_fail_decoder_error_bears_the_place(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_json_reader_free_at) kb_json_reader *reader = reader_of("{\"a\x01\":1}", 8);
    kb_view name = {NULL, 0};
    assert_int_equal(kb_json_begin_object(reader, &err), KB_OK);
    assert_int_equal(kb_json_next_name(reader, &name, &err), KB_ERR_FORMAT);
    KB_CLEANUP(kb_json_reader_free_at) kb_json_reader *other = reader_of("{\"a\\u001b\":1}", 13);
    assert_int_equal(kb_json_begin_object(other, &err), KB_OK);
    assert_int_equal(kb_json_next_name(other, &name, &err), KB_OK);
    assert_int_equal(kb_json_fail(other, &err, "%s %d", "broken", 7), KB_ERR_FORMAT);
    assert_string_equal(kb_error_text(&err), "line 1, byte 10, at a?: broken 7");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_json_next_valid_text_gives_its_tokens),
        cmocka_unit_test(kb_json_next_any_chunk_size_gives_the_same_tokens),
        cmocka_unit_test(kb_json_next_invalid_text_is_refused_with_its_place),
        cmocka_unit_test(kb_json_next_invalid_text_in_single_bytes_is_refused_alike),
        cmocka_unit_test(kb_json_next_depth_of_sixteen_is_accepted),
        cmocka_unit_test(kb_json_next_long_strings_are_bounded),
        cmocka_unit_test(kb_json_next_duplicate_among_many_names_is_found),
        cmocka_unit_test(kb_json_next_too_many_names_are_refused),
        cmocka_unit_test(kb_json_next_error_of_the_source_is_passed_on),
        cmocka_unit_test(kb_json_get_known_fields_are_decoded_and_others_skipped),
        cmocka_unit_test(kb_json_get_wrong_values_are_refused_with_their_path),
        cmocka_unit_test(kb_json_fail_decoder_error_bears_the_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

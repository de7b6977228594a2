#include "common/base/encode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

static void kb_hex_encode_any_decodes_back(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    char text[9];
    uint8_t back[4];
    kb_hex_encode("\x00\x9f\xAB\xff", 4, text);
    assert_string_equal(text, "009fabff");
    assert_int_equal(kb_hex_decode("009FabFf", 8, back, &err), KB_OK);
    assert_memory_equal(back, "\x00\x9f\xAB\xff", 4);
    kb_hex_encode(NULL, 0, text);
    assert_string_equal(text, "");
}

static void kb_hex_decode_other_texts_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"0", "0g", "g0", "0x12", " 1", "123"};
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        uint8_t to[4];
        assert_int_equal(kb_hex_decode(cases[i], strlen(cases[i]), to, &err), KB_ERR_FORMAT);
    }
}

/* RFC 4648, 10, and the two characters in which the alphabets differ. */
static const struct {
    const char *data;
    const char *standard;
    const char *url;
} base64_cases[] = {
    {"", "", ""},
    {"f", "Zg==", "Zg"},
    {"fo", "Zm8=", "Zm8"},
    {"foo", "Zm9v", "Zm9v"},
    {"foob", "Zm9vYg==", "Zm9vYg"},
    {"fooba", "Zm9vYmE=", "Zm9vYmE"},
    {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
    {"\xfb\xef\xff", "++//", "--__"},
};

static void kb_base64_encode_cases_match_and_decode_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(base64_cases); i++) {
        KB_AUTO_ERROR(err);
        const char *data = base64_cases[i].data;
        char text[KB_BASE64_TEXT_SIZE(6)];
        uint8_t back[KB_BASE64_DATA_SIZE(8)];
        size_t len = 99;
        assert_int_equal(kb_base64_encode(data, strlen(data), text), strlen(base64_cases[i].standard));
        assert_string_equal(text, base64_cases[i].standard);
        assert_int_equal(kb_base64_decode(text, strlen(text), back, &len, &err), KB_OK);
        assert_int_equal(len, strlen(data));
        assert_memory_equal(back, data, len);
        assert_int_equal(kb_base64url_encode(data, strlen(data), text), strlen(base64_cases[i].url));
        assert_string_equal(text, base64_cases[i].url);
        assert_int_equal(kb_base64url_decode(text, strlen(text), back, &len, &err), KB_OK);
        assert_int_equal(len, strlen(data));
        assert_memory_equal(back, data, len);
    }
}

static void kb_base64_decode_other_texts_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"Z",    "Zg",   "Zg=",   "Zh==",   "Zm9=",         "Zg==Zg==",
                                        "====", "=AAA", "Zm 9v", "Zm9v\n", "Zm9v\n\n\n\n", "--__",
                                        "Z===", "A=AA"};
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        uint8_t to[16];
        size_t len = 99;
        assert_int_equal(kb_base64_decode(cases[i], strlen(cases[i]), to, &len, &err), KB_ERR_FORMAT);
        assert_int_equal(len, 99);
    }
}

static void kb_base64url_decode_other_texts_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"Z", "Zg==", "++//", "Zh", "Zm9", "Zm9vZ"};
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        uint8_t to[16];
        size_t len = 99;
        assert_int_equal(kb_base64url_decode(cases[i], strlen(cases[i]), to, &len, &err), KB_ERR_FORMAT);
    }
}

static void kb_utf8_valid_cases_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"", true},
        {"plain ascii, longer than eight bytes", true},
        {"gr\xc3\xbc\xc3\x9f", true},
        {"\xe2\x82\xac", true},
        {"\xf0\x9f\x98\x80", true},
        {"\xed\x9f\xbf", true},
        {"\xee\x80\x80", true},
        {"\xf4\x8f\xbf\xbf", true},
        {"\x80", false},
        {"abcdefgh\xff", false},
        {"abcdefgh\xc3", false},
        {"\xc0\x80", false},
        {"\xc1\xbf", false},
        {"\xe0\x9f\xbf", false},
        {"\xed\xa0\x80", false},
        {"\xf0\x8f\xbf\xbf", false},
        {"\xf4\x90\x80\x80", false},
        {"\xf5\x80\x80\x80", false},
        {"\xe2\x82", false},
        {"\xe2\x28\xa1", false},
        {"\xf0\x9f\x98", false},
        {"\xf0\x9f\x98\x28", false},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++)
        assert_int_equal(kb_utf8_valid(cases[i].text, strlen(cases[i].text)), cases[i].valid);
    assert_true(kb_utf8_valid("a\0b", 3));
    assert_int_equal(kb_utf8_step("", 0), 0);
    assert_int_equal(kb_utf8_step("\xe2\x82\xac", 3), 3);
}

static void kb_utf8_valid_all_three_byte_texts_agree_with_definition(void **state)
{
    (void)state;
    size_t count = 0;
    for (uint32_t i = 0; i < 1U << 24; i++) {
        uint8_t text[3] = {(uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
        count += kb_utf8_step(text, 3) == 3;
    }
    /* U+0800 to U+FFFF without the 2048 surrogates. */
    assert_int_equal(count, 0x10000 - 0x800 - 0x800);
}

static void kb_parse_i64_cases_match(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
        int64_t value;
    } cases[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"007", true, 7},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"99999999999999999999999", false, 0},
        {"", false, 0},
        {"-", false, 0},
        {"+1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"0x1", false, 0},
        {"1.0", false, 0},
        {"--1", false, 0},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        int64_t value = 42;
        assert_int_equal(kb_parse_i64(cases[i].text, &value), cases[i].good);
        assert_true(value == (cases[i].good ? cases[i].value : 42));
    }
    int64_t value = 0;
    assert_true(kb_parse_i64_len("123", 2, &value));
    assert_int_equal(value, 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_hex_encode_any_decodes_back),
        cmocka_unit_test(kb_hex_decode_other_texts_are_refused),
        cmocka_unit_test(kb_base64_encode_cases_match_and_decode_back),
        cmocka_unit_test(kb_base64_decode_other_texts_are_refused),
        cmocka_unit_test(kb_base64url_decode_other_texts_are_refused),
        cmocka_unit_test(kb_utf8_valid_cases_are_told_apart),
        cmocka_unit_test(kb_utf8_valid_all_three_byte_texts_agree_with_definition),
        cmocka_unit_test(kb_parse_i64_cases_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "worker/storage/object_name.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "common/base/mem.h"

static void kb_object_name_cases_go_both_ways(void **state)
{
    (void)state;
    const struct {
        const char *prefix, *key, *name;
    } cases[] = {
        {NULL, "b/manifest.json", "b/manifest.json"},
        {"", "b", "b"},
        {"p", "b/x", "p/b/x"},
        {"p/q//", "b/x", "p/q/b/x"},
        {"p", "a=b:c@d+e,f g", "p/a=b:c@d+e,f g"},
        {NULL, "\\{^}%`]\">[~<#|*?", "%5C%7B%5E%7D%25%60%5D%22%3E%5B%7E%3C%23%7C%2A%3F"},
        {NULL, "\xc5\xbe/\x01\x7f", "%C5%BE/%01%7F"},
        {NULL, "a/...", "a/..."},
        {NULL, "%2E", "%252E"},
        {".", "..a", "%2E/..a"},
        {"..", "a", "%2E%2E/a"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTOFREE char *name = kb_object_name(cases[i].prefix, cases[i].key);
        assert_string_equal(name, cases[i].name);
        KB_AUTOFREE char *key = kb_object_key(cases[i].prefix, name);
        assert_non_null(key);
        assert_string_equal(key, cases[i].key);
    }
}

static void kb_object_name_prefix_cases_match(void **state)
{
    (void)state;
    const struct {
        const char *prefix, *key_prefix, *expected;
    } cases[] = {
        {NULL, "", ""},    {"p", "", "p/"},    {"p/", "", "p/"},         {"p", "b/", "p/b/"},
        {"p", "b", "p/b"}, {NULL, "b/", "b/"}, {NULL, "b~/t", "b%7E/t"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTOFREE char *text = kb_object_name_prefix(cases[i].prefix, cases[i].key_prefix);
        assert_string_equal(text, cases[i].expected);
    }
}

static void kb_object_key_of_foreign_names_is_none(void **state)
{
    (void)state;
    const struct {
        const char *prefix, *name;
    } cases[] = {
        {"p", "q/a"},   {"p", "pa"},  {"p", "p/"},   {"p", "p"},         {NULL, "a%7e"},
        {NULL, "a%41"}, {NULL, "a%"}, {NULL, "a%0"}, {NULL, "a%00"},     {NULL, "a~b"},
        {NULL, "a//b"}, {NULL, "/a"}, {NULL, ""},    {NULL, "\xc5\xbe"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++)
        assert_null(kb_object_key(cases[i].prefix, cases[i].name));
}

static void kb_object_key_of_a_folder_keeps_its_slash(void **state)
{
    (void)state;
    KB_AUTOFREE char *key = kb_object_key("p", "p/b/");
    assert_non_null(key);
    assert_string_equal(key, "b/");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_object_name_cases_go_both_ways),
        cmocka_unit_test(kb_object_name_prefix_cases_match),
        cmocka_unit_test(kb_object_key_of_foreign_names_is_none),
        cmocka_unit_test(kb_object_key_of_a_folder_keeps_its_slash),
    };
    return cmocka_run_group_tests_name("object_name", tests, NULL, NULL);
}

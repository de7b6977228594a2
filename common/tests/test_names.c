#include "common/contract/names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/base/mem.h"

/* The hashes are those of sha256sum: printf %s BASE | sha256sum | cut -c1-8. */
static const struct {
    const char *base;
    const char *suffix;
    size_t limit;
    const char *name;
} child_cases[] = {
    {"orders", "", 52, "orders"},
    {"orders", "-restore", 14, "orders-restore"},
    {"abcdefghijklmnopqrst", "", 20, "abcdefghijklmnopqrst"},
    {"abcdefghijklmnopqrst", "", 19, "abcdefghij-dd65eea0"},
    {"abc-.-.-.klmnopqrst", "", 18, "abc-38037f53"},
    {"abcdefghijklmnopqrst", "-x", 19, "abcdefgh-dd65eea0-x"},
};

static void kb_name_child_long_names_are_cut_and_hashed(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(child_cases); i++) {
        KB_AUTOFREE char *name =
            kb_name_child(child_cases[i].base, child_cases[i].suffix, child_cases[i].limit);
        assert_string_equal(name, child_cases[i].name);
        assert_true(strlen(name) <= child_cases[i].limit);
    }
}

static void kb_name_with_stamp_every_word_is_replaced(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *name;
    } cases[] = {
        {"", ""},
        {"a", "a"},
        {"a-{stamp}", "a-20250101-000001"},
        {"{stamp}-{stamp}", "20250101-000001-20250101-000001"},
        {"{stam", "{stam"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTOFREE char *name = kb_name_with_stamp(cases[i].text, "20250101-000001");
        assert_string_equal(name, cases[i].name);
    }
    assert_true(kb_name_has_stamp("x{stamp}"));
    assert_false(kb_name_has_stamp("x"));
}

static void kb_name_new_id_problem_rules_are_those_of_writing(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        bool is_legal;
    } cases[] = {
        {"a", true},       {"A.b_c-1", true},      {"0", true},         {"aaaaaaaaaa", true},
        {"", false},       {"aaaaaaaaaaa", false}, {".a", false},       {"-a", false},
        {"_a", false},     {"a/b", false},         {"a b", false},      {"a\xc3\xa9", false},
        {"a.json", false}, {"..", false},          {"a{stamp}", false}, {"restores", false},
        {"a\nb", false},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++)
        assert_int_equal(kb_name_new_id_problem(cases[i].id, 10) == NULL, cases[i].is_legal);
    assert_non_null(kb_name_new_id_problem("offset-snapshots", 253));
    assert_non_null(kb_name_new_id_problem("evidence-reports", 253));
    assert_null(kb_name_new_id_problem("restores-1", 253));
}

static void kb_name_id_problem_rules_are_those_of_reading(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        bool is_legal;
    } cases[] = {
        {"a", true},      {"a/b", true}, {"a b", true},     {"\xc3\xa9", true}, {"restores", true},
        {"a.json", true}, {"", false},   {"/a", false},     {"a/", false},      {"a//b", false},
        {".", false},     {"..", false}, {"a/../b", false}, {"a/.", false},     {"a\nb", false},
        {"a\x7f", false}, {"...", true},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++)
        assert_int_equal(kb_name_id_problem(cases[i].id) == NULL, cases[i].is_legal);
    char longest[514];
    memset(longest, 'a', sizeof longest);
    longest[513] = '\0';
    assert_non_null(kb_name_id_problem(longest));
    longest[512] = '\0';
    assert_null(kb_name_id_problem(longest));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_name_child_long_names_are_cut_and_hashed),
        cmocka_unit_test(kb_name_with_stamp_every_word_is_replaced),
        cmocka_unit_test(kb_name_new_id_problem_rules_are_those_of_writing),
        cmocka_unit_test(kb_name_id_problem_rules_are_those_of_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

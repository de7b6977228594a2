#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/glob.h"
#include "common/base/mem.h"

static void match_table_agrees(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool expected;
    } rows[] = {
        {"orders", "orders", true},
        {"orders", "orders2", false},
        {"orders", "order", false},
        {"*", "", true},
        {"*", "anything", true},
        {"?", "", false},
        {"?", "a", true},
        {"or*s", "orders", true},
        {"or*s", "orderst", false},
        {"*-dlq", "a-dlq-dlq", true},
        {"a*b*c", "axxbyybzzc", true},
        {"a*b*c", "axxbyybzz", false},
        {"**a**", "bab", true},
        {"a.b", "axb", false},
        {"[ab]", "a", false},
        {"*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         false},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++)
        if (kb_glob_match(rows[i].pattern, rows[i].name) != rows[i].expected)
            fail_msg("pattern '%s' name '%s'", rows[i].pattern, rows[i].name);
}

static void is_literal_wildcards_are_not(void **state)
{
    (void)state;
    assert_true(kb_glob_is_literal("a.b-c_d"));
    assert_false(kb_glob_is_literal("a*"));
    assert_false(kb_glob_is_literal("a?"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(match_table_agrees),
        cmocka_unit_test(is_literal_wildcards_are_not),
    };
    return cmocka_run_group_tests_name("glob", tests, NULL, NULL);
}

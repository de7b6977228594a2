#include "operator/ctrl/conditions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"

static void kb_condition_set_time_moves_only_when_status_flips(void **state)
{
    (void)state;
    KB_AUTO_TREE(list);
    list = kb_tree_array();
    kb_condition_set(list, &(kb_condition){"Ready", KB_FALSE, "A", "m"}, 1, 1000);
    kb_condition_set(list, &(kb_condition){"Ready", KB_FALSE, "B", NULL}, 2, 5000);
    const json_t *ready = kb_condition_find(list, "Ready");
    assert_int_equal(json_array_size(list), 1);
    assert_string_equal(kb_tree_text(ready, "lastTransitionTime", NULL), "1970-01-01T00:00:01Z");
    assert_string_equal(kb_condition_reason(list, "Ready"), "B");
    assert_int_equal(kb_tree_i64(0, ready, "observedGeneration", NULL), 2);
    kb_condition_set(list, &(kb_condition){"Ready", KB_TRUE, "B", NULL}, 2, 9000);
    ready = kb_condition_find(list, "Ready");
    assert_string_equal(kb_tree_text(ready, "lastTransitionTime", NULL), "1970-01-01T00:00:09Z");
    assert_true(kb_condition_is(list, "Ready", KB_TRUE));
    assert_false(kb_condition_is(list, "Failed", KB_TRUE));
    assert_string_equal(kb_condition_reason(list, "Failed"), "");
}

static void kb_status_text_is_clean_and_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t max;
        const char *clean;
    } rows[] = {
        {"plain", 10, "plain"},
        {"a\nb\x1b", 10, "a b "},
        {"a\xff"
         "b",
         10, "a?b"},
        {"abc", 2, "ab"},
        {"\xc3\xa4\xc3\xa4", 3, "\xc3\xa4"},
        {"", 5, ""},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTOFREE char *clean = kb_status_text(rows[i].text, rows[i].max);
        assert_string_equal(clean, rows[i].clean);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_condition_set_time_moves_only_when_status_flips),
        cmocka_unit_test(kb_status_text_is_clean_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "common/data/json_tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/mem.h"

static json_t *parse(const char *text)
{
    return kb_tree_need(json_loads(text, 0, NULL));
}

static void kb_tree_at_absent_or_other_type_gives_fallback(void **state)
{
    (void)state;
    KB_AUTO_TREE(value);
    value = parse("{\"a\":{\"b.c/d\":\"x\",\"n\":7,\"t\":true,\"null\":null},\"l\":[1]}");
    assert_string_equal(kb_tree_text(value, "a", "b.c/d", NULL), "x");
    assert_null(kb_tree_text(value, "a", "n", NULL));
    assert_null(kb_tree_at(value, "a", "null", NULL));
    assert_null(kb_tree_at(value, "l", "n", NULL));
    assert_null(kb_tree_at(NULL, "l", NULL));
    assert_string_equal(kb_tree_text_or_empty(value, "x", "y", NULL), "");
    assert_int_equal(kb_tree_i64(-1, value, "a", "n", NULL), 7);
    assert_int_equal(kb_tree_i64(-1, value, "a", "t", NULL), -1);
    assert_true(kb_tree_bool(false, value, "a", "t", NULL));
    assert_true(kb_tree_bool(true, value, "a", "n", NULL));
}

static void kb_tree_time_rfc3339_gives_ms(void **state)
{
    (void)state;
    KB_AUTO_TREE(value);
    value = parse("{\"t\":\"1970-01-01T00:01:00Z\",\"x\":\"soon\"}");
    int64_t ms = 0;
    assert_true(kb_tree_time(&ms, value, "t", NULL));
    assert_int_equal(ms, 60000);
    assert_false(kb_tree_time(&ms, value, "x", NULL));
    assert_false(kb_tree_time(&ms, value, "y", NULL));
    kb_tree_set_time(value, "y", 60999);
    assert_string_equal(kb_tree_text(value, "y", NULL), "1970-01-01T00:01:00Z");
}

static void kb_tree_set_text_not_utf8_is_cleaned(void **state)
{
    (void)state;
    KB_AUTO_TREE(value);
    value = kb_tree_object();
    kb_tree_set_text(value, "t",
                     "a\xff"
                     "b");
    kb_tree_set_text(value, "absent", NULL);
    KB_AUTOFREE char *text = kb_tree_canonical(value);
    assert_string_equal(text, "{\"t\":\"a\xEF\xBF\xBD"
                              "b\"}");
}

static void kb_tree_merge_keeps_or_replaces(void **state)
{
    (void)state;
    KB_AUTO_TREE(to);
    KB_AUTO_TREE(from);
    to = parse("{\"a\":1}");
    from = parse("{\"a\":2,\"b\":3}");
    kb_tree_merge_missing(to, from);
    assert_int_equal(kb_tree_i64(0, to, "a", NULL), 1);
    kb_tree_merge_over(to, from);
    kb_tree_merge_over(to, NULL);
    KB_AUTOFREE char *text = kb_tree_canonical(to);
    assert_string_equal(text, "{\"a\":2,\"b\":3}");
}

static void kb_tree_text_hash_known_text_gives_sha256(void **state)
{
    (void)state;
    KB_AUTOFREE char *hash = kb_tree_text_hash("abc", 8);
    assert_string_equal(hash, "ba7816bf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_tree_at_absent_or_other_type_gives_fallback),
        cmocka_unit_test(kb_tree_time_rfc3339_gives_ms),
        cmocka_unit_test(kb_tree_set_text_not_utf8_is_cleaned),
        cmocka_unit_test(kb_tree_merge_keeps_or_replaces),
        cmocka_unit_test(kb_tree_text_hash_known_text_gives_sha256),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

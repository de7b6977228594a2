#include "common/base/secret.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/mem.h"

static void kb_secret_new_any_holds_a_copy(void **state)
{
    (void)state;
    char text[] = "pass\0word";
    KB_CLEANUP(kb_secret_free_at) kb_secret *secret = kb_secret_new(text, 9);
    kb_wipe(text, sizeof text);
    assert_int_equal(text[0], 0);
    assert_int_equal(kb_secret_len(secret), 9);
    assert_memory_equal(kb_secret_view(secret), "pass\0word", 10);
}

static void kb_secret_is_equal_cases_match(void **state)
{
    (void)state;
    KB_CLEANUP(kb_secret_free_at) kb_secret *a = kb_secret_new("abc", 3);
    KB_CLEANUP(kb_secret_free_at) kb_secret *same = kb_secret_copy(a);
    KB_CLEANUP(kb_secret_free_at) kb_secret *other = kb_secret_new("abd", 3);
    KB_CLEANUP(kb_secret_free_at) kb_secret *longer = kb_secret_new("abcd", 4);
    KB_CLEANUP(kb_secret_free_at) kb_secret *empty = kb_secret_new(NULL, 0);
    assert_true(kb_secret_is_equal(a, same));
    assert_false(kb_secret_is_equal(a, other));
    assert_false(kb_secret_is_equal(a, longer));
    assert_false(kb_secret_is_equal(a, empty));
    assert_false(kb_secret_is_equal(a, NULL));
    assert_true(kb_secret_is_equal(NULL, NULL));
    assert_null(kb_secret_copy(NULL));
    assert_string_equal(kb_secret_view(empty), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_secret_new_any_holds_a_copy),
        cmocka_unit_test(kb_secret_is_equal_cases_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

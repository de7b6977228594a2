#include "common/base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

static int freed_count;

static void count_free(void *owned_value)
{
    freed_count++;
    free(owned_value);
}

static void kb_map_put_many_are_found(void **state)
{
    (void)state;
    KB_CLEANUP(kb_map_free_at) kb_map *map = kb_map_new(free);
    for (int i = 0; i < 20000; i++) {
        KB_AUTOFREE char *key = kb_asprintf("topic-%d", i);
        kb_map_puts(map, key, kb_asprintf("%d", i));
    }
    assert_int_equal(kb_map_count(map), 20000);
    for (int i = 0; i < 20000; i++) {
        KB_AUTOFREE char *key = kb_asprintf("topic-%d", i);
        KB_AUTOFREE char *expected = kb_asprintf("%d", i);
        assert_string_equal(kb_map_gets(map, key), expected);
    }
    assert_null(kb_map_gets(map, "topic-20000"));
}

static void kb_map_get_empty_map_gives_null(void **state)
{
    (void)state;
    KB_CLEANUP(kb_map_free_at) kb_map *map = kb_map_new(NULL);
    assert_null(kb_map_gets(map, "x"));
    assert_false(kb_map_removes(map, "x"));
    kb_map_iter iter = KB_MAP_ITER_INIT;
    assert_false(kb_map_next(map, &iter));
}

static void kb_map_put_same_key_replaces_and_frees(void **state)
{
    (void)state;
    freed_count = 0;
    kb_map *map = kb_map_new(count_free);
    kb_map_puts(map, "k", kb_strdup("old"));
    kb_map_puts(map, "k", kb_strdup("new"));
    assert_int_equal(freed_count, 1);
    assert_int_equal(kb_map_count(map), 1);
    assert_string_equal(kb_map_gets(map, "k"), "new");
    kb_map_puts(map, "k", kb_map_gets(map, "k"));
    assert_int_equal(freed_count, 1);
    assert_true(kb_map_removes(map, "k"));
    assert_int_equal(freed_count, 2);
    kb_map_puts(map, "k", kb_strdup("again"));
    kb_map_free(map);
    assert_int_equal(freed_count, 3);
}

static void kb_map_put_binary_keys_are_distinct(void **state)
{
    (void)state;
    KB_CLEANUP(kb_map_free_at) kb_map *map = kb_map_new(NULL);
    char a = 0;
    char b = 0;
    char c = 0;
    kb_map_put(map, "x\0a", 3, &a);
    kb_map_put(map, "x\0b", 3, &b);
    kb_map_put(map, NULL, 0, &c);
    assert_ptr_equal(kb_map_get(map, "x\0a", 3), &a);
    assert_ptr_equal(kb_map_get(map, "x\0b", 3), &b);
    assert_ptr_equal(kb_map_get(map, "", 0), &c);
    assert_null(kb_map_get(map, "x", 1));
}

static void kb_map_put_null_value_is_present(void **state)
{
    (void)state;
    KB_CLEANUP(kb_map_free_at) kb_map *map = kb_map_new(free);
    kb_map_puts(map, "set", NULL);
    assert_true(kb_map_has(map, "set", 3));
    assert_false(kb_map_has(map, "sex", 3));
    assert_null(kb_map_gets(map, "set"));
}

static void kb_map_next_after_removals_keeps_order(void **state)
{
    (void)state;
    KB_CLEANUP(kb_map_free_at) kb_map *map = kb_map_new(NULL);
    static const char *const keys[] = {"d", "a", "c", "b", "e"};
    for (size_t i = 0; i < KB_ARRAY_LEN(keys); i++)
        kb_map_puts(map, keys[i], map);
    assert_true(kb_map_removes(map, "c"));
    assert_true(kb_map_removes(map, "d"));
    kb_map_puts(map, "d", map);
    char seen[8] = "";
    size_t len = 0;
    kb_map_iter iter = KB_MAP_ITER_INIT;
    while (kb_map_next(map, &iter)) {
        assert_int_equal(iter.key_len, 1);
        seen[len++] = iter.key[0];
    }
    assert_string_equal(seen, "abed");
}

static void kb_map_remove_while_iterating_visits_all(void **state)
{
    (void)state;
    KB_CLEANUP(kb_map_free_at) kb_map *map = kb_map_new(NULL);
    for (int i = 0; i < 1000; i++) {
        KB_AUTOFREE char *key = kb_asprintf("%d", i);
        kb_map_puts(map, key, map);
    }
    size_t visited = 0;
    kb_map_iter iter = KB_MAP_ITER_INIT;
    while (kb_map_next(map, &iter)) {
        assert_true(kb_map_remove(map, iter.key, iter.key_len));
        visited++;
    }
    assert_int_equal(visited, 1000);
    assert_int_equal(kb_map_count(map), 0);
}

static void kb_map_put_and_remove_in_turn_stays_small(void **state)
{
    (void)state;
    KB_CLEANUP(kb_map_free_at) kb_map *map = kb_map_new(NULL);
    for (int i = 0; i < 100000; i++) {
        KB_AUTOFREE char *key = kb_asprintf("%d", i);
        kb_map_puts(map, key, map);
        if (i >= 10) {
            KB_AUTOFREE char *old = kb_asprintf("%d", i - 10);
            assert_true(kb_map_removes(map, old));
        }
    }
    assert_int_equal(kb_map_count(map), 10);
    kb_map_clear(map);
    assert_int_equal(kb_map_count(map), 0);
    assert_null(kb_map_gets(map, "99999"));
    kb_map_puts(map, "x", map);
    assert_ptr_equal(kb_map_gets(map, "x"), map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_map_put_many_are_found),
        cmocka_unit_test(kb_map_get_empty_map_gives_null),
        cmocka_unit_test(kb_map_put_same_key_replaces_and_frees),
        cmocka_unit_test(kb_map_put_binary_keys_are_distinct),
        cmocka_unit_test(kb_map_put_null_value_is_present),
        cmocka_unit_test(kb_map_next_after_removals_keeps_order),
        cmocka_unit_test(kb_map_remove_while_iterating_visits_all),
        cmocka_unit_test(kb_map_put_and_remove_in_turn_stays_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "common/base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void kb_put_then_read_gives_the_same(void **state)
{
    (void)state;
    uint8_t memory[64];
    uint8_t *at = kb_put_u16(memory, 0xBEEF);
    at = kb_put_u32(at, 0xDEADBEEF);
    at = kb_put_u64(at, UINT64_MAX);
    at = kb_put_i32(at, -1);
    at = kb_put_i64(at, INT64_MIN);
    at = kb_put_bytes(at, "xy", 2);
    at = kb_put_bytes(at, NULL, 0);
    assert_int_equal(memory[0], 0xEF);
    assert_int_equal(memory[1], 0xBE);
    kb_cursor c = kb_cursor_of(memory, (size_t)(at - memory));
    assert_int_equal(kb_cursor_u16(&c), 0xBEEF);
    assert_int_equal(kb_cursor_u32(&c), 0xDEADBEEF);
    assert_true(kb_cursor_u64(&c) == UINT64_MAX);
    assert_int_equal(kb_cursor_i32(&c), -1);
    assert_true(kb_cursor_i64(&c) == INT64_MIN);
    assert_int_equal(kb_cursor_u8(&c), 'x');
    assert_memory_equal(kb_cursor_take(&c, 1), "y", 1);
    assert_int_equal(c.left, 0);
    assert_false(c.failed);
}

static void kb_cursor_read_beyond_end_stays_failed(void **state)
{
    (void)state;
    kb_cursor c = kb_cursor_of("\1\2\3", 3);
    assert_int_equal(kb_cursor_u32(&c), 0);
    assert_true(c.failed);
    assert_int_equal(kb_cursor_u8(&c), 0);
    assert_null(kb_cursor_take(&c, 0));
    assert_int_equal(c.left, 3);
}

static void kb_cursor_take_huge_length_fails(void **state)
{
    (void)state;
    kb_cursor c = kb_cursor_of("abc", 3);
    assert_null(kb_cursor_take(&c, SIZE_MAX));
    assert_true(c.failed);
}

static void kb_view_of_memory_borrows_it(void **state)
{
    (void)state;
    const char *text = "abc";
    kb_view view = kb_view_of(text, 3);
    assert_ptr_equal(view.data, text);
    assert_int_equal(view.len, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_put_then_read_gives_the_same),
        cmocka_unit_test(kb_cursor_read_beyond_end_stays_failed),
        cmocka_unit_test(kb_cursor_take_huge_length_fails),
        cmocka_unit_test(kb_view_of_memory_borrows_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

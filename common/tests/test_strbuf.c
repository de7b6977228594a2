#include "common/base/strbuf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

static void kb_strbuf_append_various_joins(void **state)
{
    (void)state;
    KB_AUTO_STRBUF(buf, 100);
    assert_string_equal(kb_strbuf_view(&buf), "");
    kb_strbuf_appends(&buf, "a");
    kb_strbuf_appendc(&buf, 'b');
    kb_strbuf_appendf(&buf, "%03d", 7);
    kb_strbuf_append(&buf, "\0z", 2);
    assert_int_equal(buf.len, 7);
    assert_memory_equal(buf.data, "ab007\0z", 8);
}

static void kb_strbuf_append_up_to_maximum_fits(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(buf, 4);
    kb_strbuf_appends(&buf, "1234");
    assert_int_equal(kb_strbuf_check(&buf, "text", &err), KB_OK);
    assert_string_equal(kb_strbuf_view(&buf), "1234");
}

static void kb_strbuf_append_beyond_maximum_stays_failed(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(buf, 4);
    kb_strbuf_appends(&buf, "12345");
    kb_strbuf_appends(&buf, "1");
    assert_string_equal(kb_strbuf_view(&buf), "");
    assert_int_equal(kb_strbuf_check(&buf, "text", &err), KB_ERR_TOO_LARGE);
    assert_string_equal(kb_error_text(&err), "text is larger than 4 bytes");
    assert_null(kb_strbuf_take(&buf));
    kb_strbuf_clear(&buf);
    kb_strbuf_appends(&buf, "1");
    assert_int_equal(kb_strbuf_check(&buf, "text", &err), KB_OK);
}

static void kb_strbuf_take_any_leaves_empty(void **state)
{
    (void)state;
    KB_AUTO_STRBUF(buf, 10);
    KB_AUTOFREE char *nothing = kb_strbuf_take(&buf);
    assert_string_equal(nothing, "");
    kb_strbuf_appends(&buf, "abc");
    KB_AUTOFREE char *taken = kb_strbuf_take(&buf);
    assert_string_equal(taken, "abc");
    assert_int_equal(buf.len, 0);
    kb_strbuf_appends(&buf, "0123456789");
    assert_int_equal(buf.len, 10);
}

static void kb_strbuf_appendf_long_grows(void **state)
{
    (void)state;
    KB_AUTO_STRBUF(buf, 100000);
    for (int i = 0; i < 1000; i++)
        kb_strbuf_appendf(&buf, "%050d", i);
    assert_int_equal(buf.len, 50000);
    assert_int_equal(strlen(kb_strbuf_view(&buf)), 50000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_strbuf_append_various_joins),
        cmocka_unit_test(kb_strbuf_append_up_to_maximum_fits),
        cmocka_unit_test(kb_strbuf_append_beyond_maximum_stays_failed),
        cmocka_unit_test(kb_strbuf_take_any_leaves_empty),
        cmocka_unit_test(kb_strbuf_appendf_long_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

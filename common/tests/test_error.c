#include "common/base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "common/base/mem.h"

static void kb_fail_any_sets_code_and_text(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    assert_int_equal(kb_fail(&err, KB_ERR_FORMAT, "byte %d", 7), KB_ERR_FORMAT);
    assert_int_equal(err.code, KB_ERR_FORMAT);
    assert_false(err.retryable);
    assert_string_equal(kb_error_text(&err), "byte 7");
}

static void kb_fail_with_own_text_keeps_it(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    (void)kb_fail(&err, KB_ERR_FORMAT, "inner");
    (void)kb_fail(&err, KB_USAGE_ERROR, "outer (%s)", kb_error_text(&err));
    assert_string_equal(kb_error_text(&err), "outer (inner)");
}

static void kb_wrap_retryable_keeps_code_and_flag(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    (void)kb_fail_retryable(&err, KB_KAFKA_UNREACHABLE, "timed out");
    assert_int_equal(kb_wrap(&err, "read of '%s'", "orders"), KB_KAFKA_UNREACHABLE);
    assert_true(err.retryable);
    assert_string_equal(kb_error_text(&err), "read of 'orders': timed out");
}

static void kb_wrap_as_any_replaces_code(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    (void)kb_fail(&err, KB_ERR_FORMAT, "no brace");
    assert_int_equal(kb_wrap_as(&err, KB_BACKUP_CORRUPT, "manifest"), KB_BACKUP_CORRUPT);
    assert_int_equal(err.code, KB_BACKUP_CORRUPT);
    assert_string_equal(kb_error_text(&err), "manifest: no brace");
}

static void kb_error_move_filled_empties_source(void **state)
{
    (void)state;
    KB_AUTO_ERROR(from);
    KB_AUTO_ERROR(to);
    (void)kb_fail(&to, KB_ERR_END, "old");
    (void)kb_fail_retryable(&from, KB_FENCED, "new");
    kb_error_move(&to, &from);
    assert_int_equal(to.code, KB_FENCED);
    assert_true(to.retryable);
    assert_string_equal(kb_error_text(&to), "new");
    assert_int_equal(from.code, KB_OK);
    assert_string_equal(kb_error_text(&from), "");
    kb_error_move(&to, &to);
    assert_string_equal(kb_error_text(&to), "new");
}

static void kb_errno_text_known_is_not_empty(void **state)
{
    (void)state;
    assert_true(strlen(kb_errno_text(ENOENT)) > 0);
    assert_string_not_equal(kb_errno_text(ENOENT), kb_errno_text(ENOSPC));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_fail_any_sets_code_and_text),
        cmocka_unit_test(kb_fail_with_own_text_keeps_it),
        cmocka_unit_test(kb_wrap_retryable_keeps_code_and_flag),
        cmocka_unit_test(kb_wrap_as_any_replaces_code),
        cmocka_unit_test(kb_error_move_filled_empties_source),
        cmocka_unit_test(kb_errno_text_known_is_not_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

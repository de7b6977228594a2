#include "common/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void kb_malloc_zero_bytes_gives_memory(void **state)
{
    (void)state;
    KB_AUTOFREE void *a = kb_malloc(0);
    KB_AUTOFREE void *b = kb_calloc(0, 8);
    assert_non_null(a);
    assert_non_null(b);
}

static void kb_strdup_opt_null_gives_null(void **state)
{
    (void)state;
    assert_null(kb_strdup_opt(NULL));
    KB_AUTOFREE char *copy = kb_strdup_opt("x");
    assert_string_equal(copy, "x");
}

static void kb_strndup_part_ends_with_nul(void **state)
{
    (void)state;
    KB_AUTOFREE char *part = kb_strndup("orders-0", 6);
    assert_string_equal(part, "orders");
    KB_AUTOFREE char *text = kb_asprintf("%s/%d", part, 3);
    assert_string_equal(text, "orders/3");
}

static void kb_grow_many_keeps_content(void **state)
{
    (void)state;
    KB_AUTOFREE int *items = NULL;
    size_t capacity = 0;
    for (int i = 0; i < 1000; i++) {
        items = kb_grow(items, (size_t)i, &capacity, sizeof *items);
        items[i] = i;
    }
    assert_true(capacity >= 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(items[i], i);
}

static void KB_TAKE_pointer_leaves_null(void **state)
{
    (void)state;
    KB_AUTOFREE char *owner = kb_strdup("x");
    char *taken = KB_TAKE(owner);
    assert_null(owner);
    assert_string_equal(taken, "x");
    free(taken);
}

static int exit_status_of(void (*run)(void))
{
    pid_t child = fork();
    if (child == 0) {
        (void)close(STDERR_FILENO);
        run();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void overflow_size(void)
{
    volatile size_t count = SIZE_MAX / 2;
    free(kb_realloc(NULL, count, 16));
}

static void overflow_size_in_operator(void)
{
    kb_mem_set_exit_code(1);
    overflow_size();
}

static void kb_realloc_overflow_ends_process_with_code(void **state)
{
    (void)state;
    assert_int_equal(exit_status_of(overflow_size), 75);
    assert_int_equal(exit_status_of(overflow_size_in_operator), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_malloc_zero_bytes_gives_memory),
        cmocka_unit_test(kb_strdup_opt_null_gives_null),
        cmocka_unit_test(kb_strndup_part_ends_with_nul),
        cmocka_unit_test(kb_grow_many_keeps_content),
        cmocka_unit_test(KB_TAKE_pointer_leaves_null),
        cmocka_unit_test(kb_realloc_overflow_ends_process_with_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

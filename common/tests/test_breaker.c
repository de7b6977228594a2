#include "common/sync/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "common/base/mem.h"

static int set_up(void **state)
{
    *state = kb_breaker_new(
        &(kb_breaker_options){.failure_threshold = 3, .reset_timeout_ms = 1000, .success_threshold = 2});
    return 0;
}

static int tear_down(void **state)
{
    kb_breaker_free(*state);
    return 0;
}

static void fail_times(kb_breaker *breaker, int times, int64_t now_ms)
{
    for (int i = 0; i < times; i++) {
        assert_true(kb_breaker_allow(breaker, now_ms));
        kb_breaker_on_failure(breaker, now_ms);
    }
}

static void kb_breaker_failures_in_a_row_open_it(void **state)
{
    kb_breaker *breaker = *state;
    fail_times(breaker, 2, 0);
    assert_false(kb_breaker_is_open(breaker));
    kb_breaker_on_success(breaker, 0);
    fail_times(breaker, 2, 0);
    assert_false(kb_breaker_is_open(breaker));
    assert_int_equal(kb_breaker_wait_ms(breaker, 0), 0);
    fail_times(breaker, 1, 100);
    assert_true(kb_breaker_is_open(breaker));
    assert_false(kb_breaker_allow(breaker, 100));
    assert_int_equal(kb_breaker_wait_ms(breaker, 100), 1000);
    assert_int_equal(kb_breaker_wait_ms(breaker, 1099), 1);
    assert_false(kb_breaker_allow(breaker, 1099));
}

static void kb_breaker_half_open_lets_one_probe_through(void **state)
{
    kb_breaker *breaker = *state;
    fail_times(breaker, 3, 0);
    assert_int_equal(kb_breaker_wait_ms(breaker, 1000), 0);
    assert_true(kb_breaker_allow(breaker, 1000));
    assert_false(kb_breaker_allow(breaker, 1000));
    assert_int_equal(kb_breaker_wait_ms(breaker, 1000), 250);
    kb_breaker_on_success(breaker, 1100);
    assert_true(kb_breaker_is_open(breaker));
    assert_int_equal(kb_breaker_wait_ms(breaker, 1100), 0);
    assert_true(kb_breaker_allow(breaker, 1100));
    kb_breaker_on_success(breaker, 1200);
    assert_false(kb_breaker_is_open(breaker));
    fail_times(breaker, 2, 1200);
    assert_false(kb_breaker_is_open(breaker));
}

static void kb_breaker_failed_probe_opens_again(void **state)
{
    kb_breaker *breaker = *state;
    fail_times(breaker, 3, 0);
    assert_true(kb_breaker_allow(breaker, 1000));
    kb_breaker_on_success(breaker, 1000);
    assert_true(kb_breaker_allow(breaker, 1000));
    kb_breaker_on_failure(breaker, 1500);
    assert_false(kb_breaker_allow(breaker, 2499));
    assert_true(kb_breaker_allow(breaker, 2500));
    kb_breaker_on_success(breaker, 2500);
    /* The success before the failed probe does not count. */
    assert_true(kb_breaker_is_open(breaker));
}

static void kb_breaker_lost_probe_is_given_up(void **state)
{
    kb_breaker *breaker = *state;
    fail_times(breaker, 3, 0);
    assert_true(kb_breaker_allow(breaker, 1000));
    assert_false(kb_breaker_allow(breaker, 1999));
    assert_int_equal(kb_breaker_wait_ms(breaker, 1999), 1);
    assert_true(kb_breaker_allow(breaker, 2000));
}

static void kb_breaker_late_results_while_open_change_nothing(void **state)
{
    kb_breaker *breaker = *state;
    fail_times(breaker, 3, 0);
    kb_breaker_on_success(breaker, 500);
    kb_breaker_on_failure(breaker, 900);
    assert_false(kb_breaker_allow(breaker, 999));
    assert_true(kb_breaker_allow(breaker, 1000));
}

static void *use_breaker(void *ctx)
{
    for (int64_t now_ms = 0; now_ms < 2000; now_ms++) {
        if (!kb_breaker_allow(ctx, now_ms))
            continue;
        if (now_ms % 3 == 0)
            kb_breaker_on_success(ctx, now_ms);
        else
            kb_breaker_on_failure(ctx, now_ms);
    }
    return NULL;
}

static void kb_breaker_from_threads_recovers(void **state)
{
    kb_breaker *breaker = *state;
    pthread_t threads[3];
    for (size_t i = 0; i < KB_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_breaker, breaker), 0);
    for (size_t i = 0; i < KB_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_true(kb_breaker_allow(breaker, 10000 + i));
        kb_breaker_on_success(breaker, 10000 + i);
    }
    assert_false(kb_breaker_is_open(breaker));
}

#define BREAKER_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BREAKER_TEST(kb_breaker_failures_in_a_row_open_it),
        BREAKER_TEST(kb_breaker_half_open_lets_one_probe_through),
        BREAKER_TEST(kb_breaker_failed_probe_opens_again),
        BREAKER_TEST(kb_breaker_lost_probe_is_given_up),
        BREAKER_TEST(kb_breaker_late_results_while_open_change_nothing),
        BREAKER_TEST(kb_breaker_from_threads_recovers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

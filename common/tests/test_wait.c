#include "common/sync/wait.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "common/base/mem.h"

static int set_up(void **state)
{
    KB_AUTO_ERROR(err);
    kb_stop *stop = NULL;
    kb_code code = kb_stop_new(&stop, &err);
    *state = stop;
    return (int)code;
}

static int tear_down(void **state)
{
    kb_stop_free(*state);
    return 0;
}

static bool is_readable(kb_stop *stop)
{
    struct pollfd target = {kb_stop_fd(stop), POLLIN, 0};
    return poll(&target, 1, 0) == 1;
}

static void kb_stop_set_counts_and_keeps_first_reason(void **state)
{
    kb_stop *stop = *state;
    assert_false(kb_stop_requested(stop));
    assert_false(is_readable(stop));
    assert_false(kb_stop_wait(stop, 0));
    kb_stop_set(stop, SIGTERM);
    kb_stop_set(stop, SIGINT);
    assert_true(kb_stop_requested(stop));
    assert_int_equal(kb_stop_count(stop), 2);
    assert_int_equal(kb_stop_reason(stop), SIGTERM);
    assert_true(is_readable(stop));
    assert_true(kb_stop_wait(stop, 0));
    assert_true(kb_stop_wait(stop, -1));
    assert_true(is_readable(stop));
}

static void kb_stop_set_without_reason_ignores_later_one(void **state)
{
    kb_stop *stop = *state;
    kb_stop_set(stop, 0);
    kb_stop_set(stop, SIGTERM);
    assert_int_equal(kb_stop_reason(stop), 0);
}

static void kb_stop_wait_not_set_times_out(void **state)
{
    assert_false(kb_stop_wait(*state, 5));
}

static void *wait_for_ever(void *ctx)
{
    return kb_stop_wait(ctx, -1) ? ctx : NULL;
}

static void kb_stop_set_wakes_all_waiting_threads(void **state)
{
    kb_stop *stop = *state;
    pthread_t threads[3];
    for (size_t i = 0; i < KB_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for_ever, stop), 0);
    kb_stop_set(stop, 0);
    for (size_t i = 0; i < KB_ARRAY_LEN(threads); i++) {
        void *result = NULL;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, stop);
    }
}

static void kb_stop_on_signals_routes_until_freed(void **state)
{
    KB_AUTO_ERROR(err);
    kb_stop *stop = *state;
    assert_int_equal(kb_stop_on_signals(stop, &err), KB_OK);
    errno = ENOSPC;
    assert_int_equal(raise(SIGTERM), 0);
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(kb_stop_reason(stop), SIGTERM);
    assert_int_equal(raise(SIGINT), 0);
    assert_int_equal(kb_stop_count(stop), 2);
    assert_int_equal(raise(SIGPIPE), 0);
    assert_int_equal(kb_stop_count(stop), 2);
    kb_stop_free(stop);
    *state = NULL;
    assert_int_equal(raise(SIGTERM), 0); /* would end the test */
}

static uint64_t given_random(void *ctx)
{
    return *(uint64_t *)ctx;
}

/* A random number that gives the largest wait for a limit of limit_ms. */
static int64_t largest_wait_ms(kb_backoff *backoff, uint64_t *random, int64_t limit_ms)
{
    *random = (uint64_t)limit_ms;
    return kb_backoff_next(backoff);
}

static void kb_backoff_next_limits_double_up_to_cap(void **state)
{
    (void)state;
    static const int64_t limits_ms[] = {100, 200, 400, 800, 1000, 1000, 1000};
    uint64_t random = 0;
    kb_backoff backoff;
    kb_backoff_init(&backoff, 100, 1000, given_random, &random);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < KB_ARRAY_LEN(limits_ms); i++)
            assert_int_equal(largest_wait_ms(&backoff, &random, limits_ms[i]), limits_ms[i]);
        assert_int_equal(backoff.attempt, KB_ARRAY_LEN(limits_ms));
        kb_backoff_reset(&backoff);
    }
}

static void kb_backoff_next_one_above_limit_wraps_to_zero(void **state)
{
    (void)state;
    uint64_t random = 101;
    kb_backoff backoff;
    kb_backoff_init(&backoff, 100, 1000, given_random, &random);
    assert_int_equal(kb_backoff_next(&backoff), 0);
}

static void kb_backoff_next_extreme_options_stay_in_range(void **state)
{
    (void)state;
    kb_backoff backoff;
    kb_backoff_init(&backoff, INT64_MAX / 2, INT64_MAX, NULL, NULL);
    for (int i = 0; i < 200; i++)
        assert_true(kb_backoff_next(&backoff) >= 0);
    backoff.attempt = UINT32_MAX;
    assert_true(kb_backoff_next(&backoff) >= 0);
    assert_true(backoff.attempt == UINT32_MAX);
}

static void kb_backoff_next_system_random_spreads(void **state)
{
    (void)state;
    int64_t low_count = 0;
    for (int i = 0; i < 1000; i++) {
        kb_backoff backoff;
        kb_backoff_init(&backoff, 1000, 1000, NULL, NULL);
        int64_t ms = kb_backoff_next(&backoff);
        assert_true(ms >= 0 && ms <= 1000);
        low_count += ms < 500;
    }
    assert_true(low_count > 300 && low_count < 700);
}

static void kb_backoff_wait_stopped_returns_at_once(void **state)
{
    kb_stop *stop = *state;
    uint64_t random = 1000000;
    kb_backoff backoff;
    kb_backoff_init(&backoff, 1000000, 1000000, given_random, &random);
    kb_stop_set(stop, 0);
    assert_true(kb_backoff_wait(&backoff, stop));
}

#define STOP_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STOP_TEST(kb_stop_set_counts_and_keeps_first_reason),
        STOP_TEST(kb_stop_set_without_reason_ignores_later_one),
        STOP_TEST(kb_stop_wait_not_set_times_out),
        STOP_TEST(kb_stop_set_wakes_all_waiting_threads),
        STOP_TEST(kb_stop_on_signals_routes_until_freed),
        STOP_TEST(kb_backoff_next_limits_double_up_to_cap),
        STOP_TEST(kb_backoff_next_one_above_limit_wraps_to_zero),
        STOP_TEST(kb_backoff_next_extreme_options_stay_in_range),
        STOP_TEST(kb_backoff_next_system_random_spreads),
        STOP_TEST(kb_backoff_wait_stopped_returns_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

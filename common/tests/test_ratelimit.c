#include "common/sync/ratelimit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "common/base/mem.h"

static void kb_ratelimit_take_burst_then_rate(void **state)
{
    (void)state;
    kb_ratelimit rl;
    kb_ratelimit_init(&rl, 1000, 5000000);
    assert_int_equal(kb_ratelimit_take(&rl, 1000, 5000000), 0);
    assert_int_equal(kb_ratelimit_take(&rl, 500, 5000000), 500000);
    assert_int_equal(kb_ratelimit_take(&rl, 0, 5250000), 250000);
    assert_int_equal(kb_ratelimit_wait_us(&rl, 5500000), 0);
    assert_int_equal(kb_ratelimit_take(&rl, 1, 5500000), 1000);
}

static void kb_ratelimit_take_after_long_pause_has_one_second(void **state)
{
    (void)state;
    kb_ratelimit rl;
    kb_ratelimit_init(&rl, 1000, 0);
    assert_int_equal(kb_ratelimit_take(&rl, 3000, 0), 2000000);
    assert_int_equal(kb_ratelimit_take(&rl, 1000, INT64_MAX), 0);
    assert_int_equal(kb_ratelimit_take(&rl, 1, INT64_MAX), 1000);
}

static void kb_ratelimit_take_small_amounts_lose_nothing(void **state)
{
    (void)state;
    /* One unit each microsecond is the rate: a bucket that rounds would drift. */
    kb_ratelimit rl;
    kb_ratelimit_init(&rl, 999983, 0);
    assert_int_equal(kb_ratelimit_take(&rl, 999983, 0), 0);
    int64_t now_us = 0;
    for (int i = 0; i < 999983; i++)
        now_us += kb_ratelimit_take(&rl, 1, now_us);
    assert_true(now_us >= 1000000 && now_us <= 1000001);
}

static void kb_ratelimit_take_no_rate_never_waits(void **state)
{
    (void)state;
    static const int64_t rates[] = {0, -5, INT64_MIN};
    for (size_t i = 0; i < KB_ARRAY_LEN(rates); i++) {
        kb_ratelimit rl;
        kb_ratelimit_init(&rl, rates[i], 0);
        assert_int_equal(kb_ratelimit_take(&rl, INT64_MAX, 0), 0);
        assert_int_equal(kb_ratelimit_wait_us(&rl, 0), 0);
    }
}

static void kb_ratelimit_take_clock_going_back_gains_nothing(void **state)
{
    (void)state;
    kb_ratelimit rl;
    kb_ratelimit_init(&rl, 10, 1000000);
    assert_int_equal(kb_ratelimit_take(&rl, 20, 1000000), 1000000);
    assert_int_equal(kb_ratelimit_take(&rl, 0, 0), 1000000);
    assert_int_equal(kb_ratelimit_take(&rl, 0, 1500000), 500000);
}

static void kb_ratelimit_take_extremes_do_not_overflow(void **state)
{
    (void)state;
    kb_ratelimit rl;
    kb_ratelimit_init(&rl, INT64_MAX, 0);
    assert_int_equal(rl.rate_per_sec, KB_RATELIMIT_MAX);
    assert_int_equal(kb_ratelimit_take(&rl, KB_RATELIMIT_MAX, 0), 0);
    kb_ratelimit_init(&rl, 1, 0);
    for (int i = 0; i < 10; i++)
        assert_true(kb_ratelimit_take(&rl, INT64_MAX, i) > 0);
    assert_int_equal(kb_ratelimit_take(&rl, 1, INT64_MAX), 0);
}

static void *take_many(void *ctx)
{
    for (int i = 0; i < 1000; i++)
        (void)kb_ratelimit_shared_take(ctx, 1, 0);
    return NULL;
}

static void kb_ratelimit_shared_take_from_threads_adds_up(void **state)
{
    (void)state;
    kb_ratelimit_shared *rl = kb_ratelimit_shared_new(1000, 0);
    pthread_t threads[3];
    for (size_t i = 0; i < KB_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_many, rl), 0);
    for (size_t i = 0; i < KB_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(kb_ratelimit_shared_take(rl, 0, 0), 2000000);
    kb_ratelimit_shared_free(rl);
    kb_ratelimit_shared_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_ratelimit_take_burst_then_rate),
        cmocka_unit_test(kb_ratelimit_take_after_long_pause_has_one_second),
        cmocka_unit_test(kb_ratelimit_take_small_amounts_lose_nothing),
        cmocka_unit_test(kb_ratelimit_take_no_rate_never_waits),
        cmocka_unit_test(kb_ratelimit_take_clock_going_back_gains_nothing),
        cmocka_unit_test(kb_ratelimit_take_extremes_do_not_overflow),
        cmocka_unit_test(kb_ratelimit_shared_take_from_threads_adds_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

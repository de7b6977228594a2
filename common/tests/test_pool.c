#include "common/sync/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "common/base/mem.h"

/* Asked by the sanitizers at their start: memory that is gone is a case here, not a finding. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static kb_buffer *acquire(kb_pool *pool)
{
    KB_AUTO_ERROR(err);
    kb_buffer *buffer = NULL;
    assert_int_equal(kb_pool_acquire(pool, &buffer, &err), KB_OK);
    return buffer;
}

static void kb_pool_acquire_all_then_none_is_left(void **state)
{
    (void)state;
    KB_CLEANUP(kb_pool_free_at) kb_pool *pool = kb_pool_new(2, 5000);
    kb_buffer *a = acquire(pool);
    kb_buffer *b = kb_pool_acquire_try(pool);
    assert_non_null(b);
    assert_ptr_not_equal(a, b);
    assert_null(kb_pool_acquire_try(pool));
    assert_int_equal(kb_pool_count_used(pool), 2);
    assert_int_equal(a->capacity, 5000);
    assert_int_equal((uintptr_t)a->data % 4096, 0);
    memset(a->data, 1, a->capacity);
    a->len = 5000;
    kb_pool_release(pool, a);
    assert_int_equal(kb_pool_count_used(pool), 1);
    kb_buffer *again = acquire(pool);
    assert_ptr_equal(again, a);
    assert_int_equal(again->len, 0);
    kb_pool_release(pool, again);
    kb_pool_release(pool, b);
    kb_pool_release(pool, NULL);
    assert_int_equal(kb_pool_count_used(pool), 0);
}

static void kb_pool_acquire_without_memory_fails_and_holds_nothing(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_pool_free_at) kb_pool *pool = kb_pool_new(1, (size_t)1 << 62);
    kb_buffer *buffer = NULL;
    assert_int_equal(kb_pool_acquire(pool, &buffer, &err), KB_TEMPORARY_FAILURE);
    assert_null(buffer);
    assert_int_equal(kb_pool_count_used(pool), 0);
    assert_null(kb_pool_acquire_try(pool));
}

typedef struct waiter {
    kb_pool *pool;
    kb_code code;
    kb_buffer *buffer;
} waiter;

static void *acquire_in_thread(void *ctx)
{
    KB_AUTO_ERROR(err);
    waiter *w = ctx;
    w->code = kb_pool_acquire(w->pool, &w->buffer, &err);
    return NULL;
}

static void kb_pool_stop_wakes_waiters_for_good(void **state)
{
    (void)state;
    KB_CLEANUP(kb_pool_free_at) kb_pool *pool = kb_pool_new(1, 100);
    kb_buffer *held = acquire(pool);
    waiter waiters[2] = {{.pool = pool}, {.pool = pool}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, acquire_in_thread, &waiters[i]), 0);
    kb_pool_stop(pool);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(waiters[i].code, KB_ERR_STOPPED);
        assert_null(waiters[i].buffer);
    }
    kb_pool_release(pool, held);
    assert_null(kb_pool_acquire_try(pool));
}

static void kb_pool_release_wakes_a_waiter(void **state)
{
    (void)state;
    KB_CLEANUP(kb_pool_free_at) kb_pool *pool = kb_pool_new(1, 100);
    kb_buffer *held = acquire(pool);
    waiter w = {.pool = pool};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, acquire_in_thread, &w), 0);
    kb_pool_release(pool, held);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(w.code, KB_OK);
    assert_ptr_equal(w.buffer, held);
    kb_pool_release(pool, w.buffer);
}

static atomic_int out_count;
static atomic_int error_count;

static void *use_pool(void *ctx)
{
    KB_AUTO_ERROR(err);
    for (int i = 0; i < 2000; i++) {
        kb_buffer *buffer = NULL;
        if (kb_pool_acquire(ctx, &buffer, &err) != KB_OK || atomic_fetch_add(&out_count, 1) >= 3)
            atomic_fetch_add(&error_count, 1);
        memset(buffer->data, i, buffer->capacity);
        atomic_fetch_sub(&out_count, 1);
        kb_pool_release(ctx, buffer);
    }
    return NULL;
}

static void kb_pool_many_threads_never_exceed_count(void **state)
{
    (void)state;
    KB_CLEANUP(kb_pool_free_at) kb_pool *pool = kb_pool_new(3, 64);
    pthread_t threads[5];
    for (size_t i = 0; i < KB_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_pool, pool), 0);
    for (size_t i = 0; i < KB_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(error_count, 0);
    assert_int_equal(kb_pool_count_used(pool), 0);
}

static void kb_budget_acquire_try_cases_keep_the_bound(void **state)
{
    (void)state;
    KB_CLEANUP(kb_budget_free_at) kb_budget *budget = kb_budget_new(100);
    assert_true(kb_budget_acquire(budget, 60));
    assert_true(kb_budget_acquire_try(budget, 40));
    assert_false(kb_budget_acquire_try(budget, 1));
    assert_true(kb_budget_acquire_try(budget, 0));
    kb_budget_release(budget, 10);
    assert_true(kb_budget_acquire_try(budget, 10));
    assert_false(kb_budget_acquire_try(budget, UINT64_MAX));
    kb_budget_release(budget, 100);
    assert_int_equal(kb_budget_used(budget), 0);
}

static void kb_budget_acquire_larger_than_all_is_granted_alone(void **state)
{
    (void)state;
    KB_CLEANUP(kb_budget_free_at) kb_budget *budget = kb_budget_new(100);
    assert_true(kb_budget_acquire_try(budget, 1));
    assert_false(kb_budget_acquire_try(budget, 1000));
    kb_budget_release(budget, 1);
    assert_true(kb_budget_acquire(budget, 1000));
    assert_int_equal(kb_budget_used(budget), 1000);
    assert_false(kb_budget_acquire_try(budget, 0));
    kb_budget_release(budget, 900);
    assert_false(kb_budget_acquire_try(budget, 1));
    kb_budget_release(budget, 100);
    assert_true(kb_budget_acquire_try(budget, 1));
    kb_budget_release(budget, 1);
}

static void *acquire_large(void *ctx)
{
    return kb_budget_acquire(ctx, 100) ? ctx : NULL;
}

static void kb_budget_waiting_large_request_is_not_passed(void **state)
{
    (void)state;
    KB_CLEANUP(kb_budget_free_at) kb_budget *budget = kb_budget_new(100);
    assert_true(kb_budget_acquire(budget, 50));
    pthread_t thread;
    void *result = NULL;
    assert_int_equal(pthread_create(&thread, NULL, acquire_large, budget), 0);
    /* A request of zero fits until the thread has drawn its ticket; then nothing may pass it. */
    while (kb_budget_acquire_try(budget, 0))
        sched_yield();
    assert_false(kb_budget_acquire_try(budget, 10));
    kb_budget_release(budget, 50);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, budget);
    assert_int_equal(kb_budget_used(budget), 100);
    kb_budget_release(budget, 100);
}

static void kb_budget_stop_wakes_waiters_for_good(void **state)
{
    (void)state;
    KB_CLEANUP(kb_budget_free_at) kb_budget *budget = kb_budget_new(100);
    assert_true(kb_budget_acquire(budget, 50));
    pthread_t thread;
    void *result = budget;
    assert_int_equal(pthread_create(&thread, NULL, acquire_large, budget), 0);
    kb_budget_stop(budget);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_null(result);
    assert_false(kb_budget_acquire(budget, 1));
    assert_int_equal(kb_budget_used(budget), 50);
    kb_budget_release(budget, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_pool_acquire_all_then_none_is_left),
        cmocka_unit_test(kb_pool_acquire_without_memory_fails_and_holds_nothing),
        cmocka_unit_test(kb_pool_stop_wakes_waiters_for_good),
        cmocka_unit_test(kb_pool_release_wakes_a_waiter),
        cmocka_unit_test(kb_pool_many_threads_never_exceed_count),
        cmocka_unit_test(kb_budget_acquire_try_cases_keep_the_bound),
        cmocka_unit_test(kb_budget_acquire_larger_than_all_is_granted_alone),
        cmocka_unit_test(kb_budget_waiting_large_request_is_not_passed),
        cmocka_unit_test(kb_budget_stop_wakes_waiters_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

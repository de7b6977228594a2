#include "operator/ctrl/workqueue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "operator/tests/fake_clock.h"

static void assert_taken(kb_workqueue *queue, const char *expected)
{
    char *key = kb_workqueue_take(queue, 0);
    assert_non_null(key);
    assert_string_equal(key, expected);
    kb_workqueue_done(queue, key);
}

static void kb_workqueue_add_twice_is_one_entry(void **state)
{
    (void)state;
    kb_workqueue *queue = kb_workqueue_new(NULL);
    kb_workqueue_add(queue, "a");
    kb_workqueue_add(queue, "b");
    kb_workqueue_add(queue, "a");
    assert_int_equal(kb_workqueue_count(queue).depth, 2);
    assert_taken(queue, "a");
    assert_taken(queue, "b");
    assert_null(kb_workqueue_take(queue, 0));
    assert_int_equal(kb_workqueue_count(queue).added, 2);
    kb_workqueue_free(queue);
}

static void kb_workqueue_add_while_in_work_comes_back_once(void **state)
{
    (void)state;
    kb_workqueue *queue = kb_workqueue_new(NULL);
    kb_workqueue_add(queue, "a");
    char *key = kb_workqueue_take(queue, 0);
    kb_workqueue_add(queue, "a");
    kb_workqueue_add(queue, "a");
    /* Nobody else gets it meanwhile. */
    assert_null(kb_workqueue_take(queue, 0));
    kb_workqueue_done(queue, key);
    assert_taken(queue, "a");
    assert_null(kb_workqueue_take(queue, 0));
    kb_workqueue_free(queue);
}

static void kb_workqueue_retry_ms_doubles_up_to_the_cap(void **state)
{
    (void)state;
    kb_fake_clock clock;
    kb_fake_clock_init(&clock);
    kb_workqueue *queue = kb_workqueue_new(&clock.clock);
    int64_t expected_ms = KB_WORKQUEUE_BASE_MS;
    for (int i = 0; i < 30; i++) {
        assert_int_equal(kb_workqueue_retry_ms(queue, "a", KB_WORKQUEUE_BASE_MS), expected_ms);
        expected_ms = expected_ms * 2 < KB_WORKQUEUE_CAP_MS ? expected_ms * 2 : KB_WORKQUEUE_CAP_MS;
    }
    assert_int_equal(kb_workqueue_failures(queue, "a"), 30);
    assert_int_equal(kb_workqueue_retry_ms(queue, "b", 60000), 60000);
    kb_workqueue_forget(queue, "a");
    assert_int_equal(kb_workqueue_failures(queue, "a"), 0);
    assert_int_equal(kb_workqueue_retry_ms(queue, "a", KB_WORKQUEUE_BASE_MS), KB_WORKQUEUE_BASE_MS);
    kb_workqueue_free(queue);
}

static void kb_workqueue_retry_ms_of_many_keys_keeps_the_rate(void **state)
{
    (void)state;
    kb_fake_clock clock;
    kb_fake_clock_init(&clock);
    kb_workqueue *queue = kb_workqueue_new(&clock.clock);
    int64_t last_ms = 0;
    for (int i = 0; i < 200; i++) {
        KB_AUTOFREE char *key = kb_asprintf("key-%d", i);
        last_ms = kb_workqueue_retry_ms(queue, key, KB_WORKQUEUE_BASE_MS);
        if (i < 100)
            assert_int_equal(last_ms, KB_WORKQUEUE_BASE_MS);
    }
    /* 100 beyond the burst at 10/s. */
    assert_int_equal(last_ms, 10000);
    kb_workqueue_free(queue);
}

static void kb_workqueue_close_drops_what_waits_and_ends_taking(void **state)
{
    (void)state;
    kb_workqueue *queue = kb_workqueue_new(NULL);
    kb_workqueue_add(queue, "a");
    char *key = kb_workqueue_take(queue, 0);
    kb_workqueue_add(queue, "b");
    kb_workqueue_close(queue);
    assert_null(kb_workqueue_take(queue, 60000));
    assert_false(kb_workqueue_wait_idle(queue, 0));
    kb_workqueue_done(queue, key);
    assert_true(kb_workqueue_wait_idle(queue, 0));
    kb_workqueue_add(queue, "c");
    assert_int_equal(kb_workqueue_count(queue).depth, 0);
    kb_workqueue_free(queue);
}

#define KEYS 7
typedef struct load {
    kb_workqueue *queue;
    atomic_int in_work[KEYS];
    atomic_int passes;
    atomic_bool has_doubled;
} load;

static void *work(void *ctx)
{
    load *l = ctx;
    for (;;) {
        char *key = kb_workqueue_take(l->queue, 1000);
        if (key == NULL)
            return NULL;
        atomic_int *in_work = &l->in_work[key[0] - '0'];
        if (atomic_fetch_add(in_work, 1) != 0)
            atomic_store(&l->has_doubled, true);
        atomic_fetch_add(&l->passes, 1);
        atomic_fetch_sub(in_work, 1);
        kb_workqueue_done(l->queue, key);
    }
}

static void kb_workqueue_threads_never_share_a_key(void **state)
{
    (void)state;
    load l = {.queue = kb_workqueue_new(NULL)};
    pthread_t threads[4];
    for (size_t i = 0; i < KB_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &l), 0);
    for (int i = 0; i < 20000; i++) {
        const char key[2] = {(char)('0' + i % KEYS), '\0'};
        kb_workqueue_add(l.queue, key);
    }
    while (kb_workqueue_count(l.queue).depth > 0)
        (void)sched_yield();
    kb_workqueue_close(l.queue);
    for (size_t i = 0; i < KB_ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    assert_false(atomic_load(&l.has_doubled));
    assert_true(atomic_load(&l.passes) >= KEYS);
    kb_workqueue_free(l.queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_workqueue_add_twice_is_one_entry),
        cmocka_unit_test(kb_workqueue_add_while_in_work_comes_back_once),
        cmocka_unit_test(kb_workqueue_retry_ms_doubles_up_to_the_cap),
        cmocka_unit_test(kb_workqueue_retry_ms_of_many_keys_keeps_the_rate),
        cmocka_unit_test(kb_workqueue_close_drops_what_waits_and_ends_taking),
        cmocka_unit_test(kb_workqueue_threads_never_share_a_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

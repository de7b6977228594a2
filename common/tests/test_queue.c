#include "common/sync/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/mem.h"

static int item_a, item_b, item_c;

static void kb_queue_pop_gives_items_in_order(void **state)
{
    (void)state;
    KB_CLEANUP(kb_queue_free_at) kb_queue *queue = kb_queue_new(2, NULL);
    void *item = NULL;
    /* More rounds than places, so that the ring wraps. */
    for (int i = 0; i < 5; i++) {
        assert_true(kb_queue_push(queue, &item_a));
        assert_true(kb_queue_push(queue, &item_b));
        assert_int_equal(kb_queue_count(queue), 2);
        assert_true(kb_queue_pop(queue, &item));
        assert_ptr_equal(item, &item_a);
        assert_true(kb_queue_push_try(queue, &item_c));
        assert_true(kb_queue_pop(queue, &item));
        assert_ptr_equal(item, &item_b);
        assert_true(kb_queue_pop(queue, &item));
        assert_ptr_equal(item, &item_c);
    }
    assert_int_equal(kb_queue_count(queue), 0);
}

static void kb_queue_wait_full_or_empty_times_out(void **state)
{
    (void)state;
    KB_CLEANUP(kb_queue_free_at) kb_queue *queue = kb_queue_new(1, NULL);
    void *item = &item_c;
    assert_int_equal(kb_queue_pop_wait(queue, 0, &item), KB_QUEUE_TIMEOUT);
    assert_int_equal(kb_queue_pop_wait(queue, 5, &item), KB_QUEUE_TIMEOUT);
    assert_ptr_equal(item, &item_c);
    assert_int_equal(kb_queue_push_wait(queue, &item_a, 0), KB_QUEUE_DONE);
    assert_int_equal(kb_queue_push_wait(queue, &item_b, 5), KB_QUEUE_TIMEOUT);
    assert_false(kb_queue_push_try(queue, &item_b));
    assert_int_equal(kb_queue_pop_wait(queue, INT64_MAX, &item), KB_QUEUE_DONE);
    assert_ptr_equal(item, &item_a);
}

static void kb_queue_close_drains_then_ends(void **state)
{
    (void)state;
    KB_CLEANUP(kb_queue_free_at) kb_queue *queue = kb_queue_new(4, NULL);
    void *item = NULL;
    assert_true(kb_queue_push(queue, &item_a));
    kb_queue_close(queue);
    assert_false(kb_queue_push(queue, &item_b));
    assert_int_equal(kb_queue_push_wait(queue, &item_b, 1000000), KB_QUEUE_ENDED);
    assert_true(kb_queue_pop(queue, &item));
    assert_ptr_equal(item, &item_a);
    assert_false(kb_queue_pop(queue, &item));
    assert_int_equal(kb_queue_pop_wait(queue, 1000000, &item), KB_QUEUE_ENDED);
}

static int freed_count;

static void count_free(void *owned_item)
{
    (void)owned_item;
    freed_count++;
}

static void kb_queue_abort_leaves_items_to_free(void **state)
{
    (void)state;
    kb_queue *queue = kb_queue_new(4, count_free);
    void *item = NULL;
    assert_true(kb_queue_push(queue, &item_a));
    assert_true(kb_queue_push(queue, &item_b));
    kb_queue_abort(queue);
    kb_queue_close(queue);
    assert_false(kb_queue_pop(queue, &item));
    assert_false(kb_queue_push(queue, &item_c));
    assert_null(item);
    kb_queue_free(queue);
    assert_int_equal(freed_count, 2);
    kb_queue_free(NULL);
}

static void *pop_expecting_end(void *ctx)
{
    void *item = NULL;
    return kb_queue_pop(ctx, &item) ? ctx : NULL;
}

static void *push_expecting_end(void *ctx)
{
    return kb_queue_push(ctx, &item_b) ? ctx : NULL;
}

static void kb_queue_end_wakes_waiting_threads(void **state)
{
    (void)state;
    static void (*const ends[])(kb_queue *) = {kb_queue_close, kb_queue_abort};
    for (size_t i = 0; i < KB_ARRAY_LEN(ends); i++) {
        KB_CLEANUP(kb_queue_free_at) kb_queue *empty = kb_queue_new(1, NULL);
        KB_CLEANUP(kb_queue_free_at) kb_queue *full = kb_queue_new(1, NULL);
        pthread_t poppers[2];
        pthread_t pusher;
        void *result = empty;
        assert_true(kb_queue_push(full, &item_a));
        assert_int_equal(pthread_create(&poppers[0], NULL, pop_expecting_end, empty), 0);
        assert_int_equal(pthread_create(&poppers[1], NULL, pop_expecting_end, empty), 0);
        assert_int_equal(pthread_create(&pusher, NULL, push_expecting_end, full), 0);
        ends[i](empty);
        ends[i](full);
        assert_int_equal(pthread_join(poppers[0], &result), 0);
        assert_null(result);
        assert_int_equal(pthread_join(poppers[1], &result), 0);
        assert_null(result);
        assert_int_equal(pthread_join(pusher, &result), 0);
        assert_null(result);
    }
}

enum { THREADS = 3, ITEMS = 5000 };

typedef struct traffic {
    kb_queue *queue;
    atomic_int numbers[THREADS * ITEMS];
    atomic_int next_producer;
    atomic_int order_errors;
} traffic;

static void *produce(void *ctx)
{
    traffic *t = ctx;
    int first = atomic_fetch_add(&t->next_producer, 1) * ITEMS;
    for (int i = 0; i < ITEMS; i++) {
        if (!kb_queue_push(t->queue, &t->numbers[first + i]))
            atomic_fetch_add(&t->order_errors, 1);
    }
    return NULL;
}

static void *consume(void *ctx)
{
    traffic *t = ctx;
    void *item = NULL;
    int64_t last[THREADS] = {-1, -1, -1};
    while (kb_queue_pop(t->queue, &item)) {
        int64_t at = (atomic_int *)item - t->numbers;
        atomic_fetch_add(&t->numbers[at], 1);
        if (at <= last[at / ITEMS])
            atomic_fetch_add(&t->order_errors, 1);
        last[at / ITEMS] = at;
    }
    return NULL;
}

static void kb_queue_many_threads_pass_each_item_once(void **state)
{
    (void)state;
    KB_AUTOFREE traffic *t = kb_calloc(1, sizeof *t);
    KB_CLEANUP(kb_queue_free_at) kb_queue *queue = kb_queue_new(8, NULL);
    pthread_t producers[THREADS];
    pthread_t consumers[THREADS];
    t->queue = queue;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&producers[i], NULL, produce, t), 0);
        assert_int_equal(pthread_create(&consumers[i], NULL, consume, t), 0);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(producers[i], NULL), 0);
    kb_queue_close(queue);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(consumers[i], NULL), 0);
    for (int i = 0; i < THREADS * ITEMS; i++)
        assert_int_equal(t->numbers[i], 1);
    assert_int_equal(t->order_errors, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_queue_pop_gives_items_in_order),
        cmocka_unit_test(kb_queue_wait_full_or_empty_times_out),
        cmocka_unit_test(kb_queue_close_drains_then_ends),
        cmocka_unit_test(kb_queue_abort_leaves_items_to_free),
        cmocka_unit_test(kb_queue_end_wakes_waiting_threads),
        cmocka_unit_test(kb_queue_many_threads_pass_each_item_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

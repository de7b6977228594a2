/*
 * queue - bounded queue of pointers between threads.
 *
 * Items come out in the order in which they went in. kb_queue_close ends the input: what is queued is still
 * popped. kb_queue_abort ends both sides at once; what is left is freed with the queue. Threads: any number
 * on either side; kb_queue_free when nobody uses it any more.
 */
#ifndef KB_COMMON_SYNC_QUEUE_H
#define KB_COMMON_SYNC_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kb_queue kb_queue;

typedef enum kb_queue_result {
    KB_QUEUE_DONE,    /* pushed or popped */
    KB_QUEUE_TIMEOUT, /* still full or empty */
    KB_QUEUE_ENDED    /* closed (and, for pop, drained) or aborted */
} kb_queue_result;

/* capacity > 0; item_free (may be NULL) is called for items that are left when the queue is freed. */
kb_queue *kb_queue_new(size_t capacity, void (*item_free)(void *owned_item)) __attribute__((returns_nonnull));
void kb_queue_free(kb_queue *owned_queue);
/* For a cleanup attribute: frees *at. */
void kb_queue_free_at(kb_queue **at);

/* Waits for room. False when closed or aborted: the item is still the caller's. */
bool kb_queue_push(kb_queue *queue, void *owned_item) __attribute__((warn_unused_result));
/* Waits at most timeout_ms (0: not at all); the item is the queue's only with KB_QUEUE_DONE. */
kb_queue_result kb_queue_push_wait(kb_queue *queue, void *owned_item, int64_t timeout_ms)
    __attribute__((warn_unused_result));
/* kb_queue_push_wait without waiting: true when pushed. */
bool kb_queue_push_try(kb_queue *queue, void *owned_item) __attribute__((warn_unused_result));

/* Waits for an item. False when the queue is closed and drained, or aborted. */
bool kb_queue_pop(kb_queue *queue, void **ret_item) __attribute__((warn_unused_result));
/* Waits at most timeout_ms (0: not at all). */
kb_queue_result kb_queue_pop_wait(kb_queue *queue, int64_t timeout_ms, void **ret_item)
    __attribute__((warn_unused_result));

void kb_queue_close(kb_queue *queue);
void kb_queue_abort(kb_queue *queue);
/* Items in the queue now. */
size_t kb_queue_count(kb_queue *queue);

#endif

#include "common/sync/queue.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/sync/cond.h"

struct kb_queue {
    void (*item_free)(void *owned_item);
    pthread_mutex_t lock;
    pthread_cond_t has_items;
    pthread_cond_t has_room;
    bool closed;
    bool aborted;
    size_t capacity;
    size_t first; /* position of the oldest item */
    size_t count;
    void **items; /* a ring of `capacity` */
};

kb_queue *kb_queue_new(size_t capacity, void (*item_free)(void *owned_item))
{
    kb_queue *queue = kb_calloc(1, sizeof *queue);
    queue->item_free = item_free;
    queue->capacity = capacity;
    queue->items = kb_calloc(capacity, sizeof *queue->items);
    (void)pthread_mutex_init(&queue->lock, NULL);
    kb_cond_init(&queue->has_items);
    kb_cond_init(&queue->has_room);
    return queue;
}

static void *take_first(kb_queue *queue)
{
    void *item = queue->items[queue->first];
    queue->first = queue->first + 1 == queue->capacity ? 0 : queue->first + 1;
    queue->count--;
    return item;
}

void kb_queue_free(kb_queue *owned_queue)
{
    if (owned_queue == NULL)
        return;
    while (owned_queue->count > 0) {
        void *owned_item = take_first(owned_queue);
        if (owned_queue->item_free != NULL)
            owned_queue->item_free(owned_item);
    }
    (void)pthread_cond_destroy(&owned_queue->has_items);
    (void)pthread_cond_destroy(&owned_queue->has_room);
    (void)pthread_mutex_destroy(&owned_queue->lock);
    free(owned_queue->items);
    free(owned_queue);
}

void kb_queue_free_at(kb_queue **at)
{
    kb_queue_free(*at);
    *at = NULL;
}

/* Waits for a change of cond; false when the deadline has passed. No deadline: for ever. */
static bool wait_for(kb_queue *queue, pthread_cond_t *cond, const struct timespec *deadline)
{
    if (deadline != NULL)
        return kb_cond_wait_until(cond, &queue->lock, deadline);
    (void)pthread_cond_wait(cond, &queue->lock);
    return true;
}

static kb_queue_result push(kb_queue *queue, void *owned_item, const struct timespec *deadline)
{
    kb_queue_result result = KB_QUEUE_DONE;
    pthread_mutex_lock(&queue->lock);
    bool in_time = true;
    while (!queue->closed && queue->count == queue->capacity && in_time)
        in_time = wait_for(queue, &queue->has_room, deadline);
    if (queue->closed) {
        result = KB_QUEUE_ENDED;
    } else if (queue->count == queue->capacity) {
        result = KB_QUEUE_TIMEOUT;
    } else {
        size_t last = queue->first + queue->count;
        queue->items[last < queue->capacity ? last : last - queue->capacity] = owned_item;
        queue->count++;
        (void)pthread_cond_signal(&queue->has_items);
    }
    pthread_mutex_unlock(&queue->lock);
    return result;
}

static kb_queue_result pop(kb_queue *queue, const struct timespec *deadline, void **ret_item)
{
    kb_queue_result result = KB_QUEUE_DONE;
    pthread_mutex_lock(&queue->lock);
    bool in_time = true;
    while (!queue->closed && queue->count == 0 && in_time)
        in_time = wait_for(queue, &queue->has_items, deadline);
    if (queue->aborted || (queue->closed && queue->count == 0)) {
        result = KB_QUEUE_ENDED;
    } else if (queue->count == 0) {
        result = KB_QUEUE_TIMEOUT;
    } else {
        *ret_item = take_first(queue);
        (void)pthread_cond_signal(&queue->has_room);
    }
    pthread_mutex_unlock(&queue->lock);
    return result;
}

bool kb_queue_push(kb_queue *queue, void *owned_item)
{
    return push(queue, owned_item, NULL) == KB_QUEUE_DONE;
}

kb_queue_result kb_queue_push_wait(kb_queue *queue, void *owned_item, int64_t timeout_ms)
{
    struct timespec deadline = kb_cond_deadline(timeout_ms);
    return push(queue, owned_item, &deadline);
}

bool kb_queue_push_try(kb_queue *queue, void *owned_item)
{
    return kb_queue_push_wait(queue, owned_item, 0) == KB_QUEUE_DONE;
}

bool kb_queue_pop(kb_queue *queue, void **ret_item)
{
    return pop(queue, NULL, ret_item) == KB_QUEUE_DONE;
}

kb_queue_result kb_queue_pop_wait(kb_queue *queue, int64_t timeout_ms, void **ret_item)
{
    struct timespec deadline = kb_cond_deadline(timeout_ms);
    return pop(queue, &deadline, ret_item);
}

static void end(kb_queue *queue, bool aborted)
{
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    queue->aborted = queue->aborted || aborted;
    (void)pthread_cond_broadcast(&queue->has_items);
    (void)pthread_cond_broadcast(&queue->has_room);
    pthread_mutex_unlock(&queue->lock);
}

void kb_queue_close(kb_queue *queue)
{
    end(queue, false);
}

void kb_queue_abort(kb_queue *queue)
{
    end(queue, true);
}

size_t kb_queue_count(kb_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    size_t count = queue->count;
    pthread_mutex_unlock(&queue->lock);
    return count;
}

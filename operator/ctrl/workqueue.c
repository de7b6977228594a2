#include "operator/ctrl/workqueue.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/sync/cond.h"
#include "operator/kube/bucket.h"

#define RETRY_RATE 10.0
#define RETRY_BURST 100.0

typedef enum key_state { IDLE, WAITING, IN_WORK, IN_WORK_DIRTY } key_state;

/* What is known of a key; forgotten when it is idle and has not failed. */
typedef struct item {
    char *key;
    key_state state;
    unsigned failures;
    struct item *next; /* in line */
} item;

struct kb_workqueue {
    const kb_clock *clock;
    kb_bucket *retries;
    pthread_mutex_t mutex;
    pthread_cond_t has_key;
    pthread_cond_t is_idle;
    kb_map *items;
    item *first, *last;
    bool is_closed;
    kb_workqueue_counts counts;
};

static void item_free(void *owned)
{
    item *it = owned;
    free(it->key);
    free(it);
}

kb_workqueue *kb_workqueue_new(const kb_clock *clock)
{
    kb_workqueue *queue = kb_calloc(1, sizeof *queue);
    queue->clock = clock != NULL ? clock : kb_clock_system();
    queue->retries = kb_bucket_new(RETRY_RATE, RETRY_BURST, kb_clock_now_boot_ms(queue->clock));
    pthread_mutex_init(&queue->mutex, NULL);
    kb_cond_init(&queue->has_key);
    kb_cond_init(&queue->is_idle);
    queue->items = kb_map_new(item_free);
    return queue;
}

void kb_workqueue_free(kb_workqueue *owned_queue)
{
    if (owned_queue == NULL)
        return;
    kb_map_free(owned_queue->items);
    kb_bucket_free(owned_queue->retries);
    pthread_cond_destroy(&owned_queue->has_key);
    pthread_cond_destroy(&owned_queue->is_idle);
    pthread_mutex_destroy(&owned_queue->mutex);
    free(owned_queue);
}

static item *item_of(kb_workqueue *queue, const char *key)
{
    item *it = kb_map_gets(queue->items, key);
    if (it == NULL) {
        it = kb_calloc(1, sizeof *it);
        it->key = kb_strdup(key);
        kb_map_puts(queue->items, key, it);
    }
    return it;
}

static void drop_if_blank(kb_workqueue *queue, item *it)
{
    if (it->state != IDLE || it->failures > 0)
        return;
    KB_AUTOFREE char *key = kb_strdup(it->key);
    kb_map_removes(queue->items, key);
}

static void put_in_line(kb_workqueue *queue, item *it)
{
    it->state = WAITING;
    it->next = NULL;
    if (queue->last != NULL)
        queue->last->next = it;
    else
        queue->first = it;
    queue->last = it;
    queue->counts.depth++;
    queue->counts.added++;
    pthread_cond_signal(&queue->has_key);
}

void kb_workqueue_add(kb_workqueue *queue, const char *key)
{
    pthread_mutex_lock(&queue->mutex);
    if (!queue->is_closed) {
        item *it = item_of(queue, key);
        if (it->state == IDLE)
            put_in_line(queue, it);
        else if (it->state == IN_WORK)
            it->state = IN_WORK_DIRTY;
    }
    pthread_mutex_unlock(&queue->mutex);
}

char *kb_workqueue_take(kb_workqueue *queue, int64_t timeout_ms)
{
    const struct timespec deadline = kb_cond_deadline(timeout_ms);
    char *key = NULL;
    pthread_mutex_lock(&queue->mutex);
    while (queue->first == NULL && !queue->is_closed) {
        if (!kb_cond_wait_until(&queue->has_key, &queue->mutex, &deadline))
            break;
    }
    item *it = queue->first;
    if (it != NULL && !queue->is_closed) {
        queue->first = it->next;
        if (queue->first == NULL)
            queue->last = NULL;
        it->state = IN_WORK;
        queue->counts.depth--;
        queue->counts.in_work++;
        key = kb_strdup(it->key);
    }
    pthread_mutex_unlock(&queue->mutex);
    return key;
}

void kb_workqueue_done(kb_workqueue *queue, char *owned_key)
{
    KB_AUTOFREE char *key = owned_key;
    pthread_mutex_lock(&queue->mutex);
    item *it = item_of(queue, key);
    const bool is_dirty = it->state == IN_WORK_DIRTY;
    it->state = IDLE;
    if (is_dirty && !queue->is_closed)
        put_in_line(queue, it);
    else
        drop_if_blank(queue, it);
    if (--queue->counts.in_work == 0)
        pthread_cond_broadcast(&queue->is_idle);
    pthread_mutex_unlock(&queue->mutex);
}

static int64_t backoff_ms(int64_t base_ms, unsigned failures)
{
    int64_t delay_ms = base_ms;
    for (unsigned i = 0; i < failures && delay_ms < KB_WORKQUEUE_CAP_MS; i++)
        delay_ms *= 2;
    return delay_ms < KB_WORKQUEUE_CAP_MS ? delay_ms : KB_WORKQUEUE_CAP_MS;
}

int64_t kb_workqueue_retry_ms(kb_workqueue *queue, const char *key, int64_t base_ms)
{
    const int64_t bucket_ms = kb_bucket_take(queue->retries, kb_clock_now_boot_ms(queue->clock));
    pthread_mutex_lock(&queue->mutex);
    item *it = item_of(queue, key);
    const int64_t own_ms = backoff_ms(base_ms, it->failures);
    if (it->failures < 1000)
        it->failures++;
    queue->counts.retried++;
    pthread_mutex_unlock(&queue->mutex);
    return own_ms > bucket_ms ? own_ms : bucket_ms;
}

void kb_workqueue_forget(kb_workqueue *queue, const char *key)
{
    pthread_mutex_lock(&queue->mutex);
    item *it = kb_map_gets(queue->items, key);
    if (it != NULL) {
        it->failures = 0;
        drop_if_blank(queue, it);
    }
    pthread_mutex_unlock(&queue->mutex);
}

unsigned kb_workqueue_failures(kb_workqueue *queue, const char *key)
{
    pthread_mutex_lock(&queue->mutex);
    const item *it = kb_map_gets(queue->items, key);
    const unsigned failures = it != NULL ? it->failures : 0;
    pthread_mutex_unlock(&queue->mutex);
    return failures;
}

void kb_workqueue_close(kb_workqueue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->is_closed = true;
    queue->first = queue->last = NULL;
    queue->counts.depth = 0;
    pthread_cond_broadcast(&queue->has_key);
    pthread_mutex_unlock(&queue->mutex);
}

bool kb_workqueue_is_closed(kb_workqueue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    const bool is_closed = queue->is_closed;
    pthread_mutex_unlock(&queue->mutex);
    return is_closed;
}

bool kb_workqueue_wait_idle(kb_workqueue *queue, int64_t timeout_ms)
{
    const struct timespec deadline = kb_cond_deadline(timeout_ms);
    pthread_mutex_lock(&queue->mutex);
    while (queue->counts.in_work > 0) {
        if (!kb_cond_wait_until(&queue->is_idle, &queue->mutex, &deadline))
            break;
    }
    const bool is_idle = queue->counts.in_work == 0;
    pthread_mutex_unlock(&queue->mutex);
    return is_idle;
}

kb_workqueue_counts kb_workqueue_count(kb_workqueue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    const kb_workqueue_counts counts = queue->counts;
    pthread_mutex_unlock(&queue->mutex);
    return counts;
}

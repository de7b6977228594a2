#include "common/sync/pool.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/sync/cond.h"

enum { BUFFER_ALIGNMENT = 4096 };

/* Waiters draw a ticket and are served in its order, so that a large request is not passed by small ones. */
struct kb_budget {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t total_bytes;
    uint64_t used_bytes;
    uint64_t next_ticket;
    uint64_t served_ticket;
    bool stopped;
};

kb_budget *kb_budget_new(uint64_t total_bytes)
{
    kb_budget *budget = kb_calloc(1, sizeof *budget);
    budget->total_bytes = total_bytes;
    (void)pthread_mutex_init(&budget->lock, NULL);
    kb_cond_init(&budget->changed);
    return budget;
}

void kb_budget_free(kb_budget *owned_budget)
{
    if (owned_budget == NULL)
        return;
    (void)pthread_cond_destroy(&owned_budget->changed);
    (void)pthread_mutex_destroy(&owned_budget->lock);
    free(owned_budget);
}

void kb_budget_free_at(kb_budget **at)
{
    kb_budget_free(*at);
    *at = NULL;
}

static bool fits(const kb_budget *budget, uint64_t bytes)
{
    if (budget->used_bytes == 0)
        return true;
    return budget->used_bytes <= budget->total_bytes && bytes <= budget->total_bytes - budget->used_bytes;
}

bool kb_budget_acquire(kb_budget *budget, uint64_t bytes)
{
    pthread_mutex_lock(&budget->lock);
    uint64_t ticket = budget->next_ticket++;
    while (!budget->stopped && (ticket != budget->served_ticket || !fits(budget, bytes)))
        (void)pthread_cond_wait(&budget->changed, &budget->lock);
    bool granted = !budget->stopped;
    if (granted) {
        budget->used_bytes += bytes;
        budget->served_ticket++;
        (void)pthread_cond_broadcast(&budget->changed); /* the next ticket may fit too */
    }
    pthread_mutex_unlock(&budget->lock);
    return granted;
}

bool kb_budget_acquire_try(kb_budget *budget, uint64_t bytes)
{
    pthread_mutex_lock(&budget->lock);
    bool granted = !budget->stopped && budget->next_ticket == budget->served_ticket && fits(budget, bytes);
    if (granted)
        budget->used_bytes += bytes;
    pthread_mutex_unlock(&budget->lock);
    return granted;
}

void kb_budget_release(kb_budget *budget, uint64_t bytes)
{
    pthread_mutex_lock(&budget->lock);
    budget->used_bytes -= bytes;
    (void)pthread_cond_broadcast(&budget->changed);
    pthread_mutex_unlock(&budget->lock);
}

void kb_budget_stop(kb_budget *budget)
{
    pthread_mutex_lock(&budget->lock);
    budget->stopped = true;
    (void)pthread_cond_broadcast(&budget->changed);
    pthread_mutex_unlock(&budget->lock);
}

uint64_t kb_budget_used(kb_budget *budget)
{
    pthread_mutex_lock(&budget->lock);
    uint64_t used = budget->used_bytes;
    pthread_mutex_unlock(&budget->lock);
    return used;
}

/* A budget of `count` units decides who gets a buffer; the lock guards only the list of idle ones. */
struct kb_pool {
    kb_budget *budget;
    size_t size_bytes;
    pthread_mutex_t lock;
    kb_buffer **idle; /* room for all; the last released is first reused, while its memory is warm */
    size_t idle_count;
};

kb_pool *kb_pool_new(size_t count, size_t size_bytes)
{
    kb_pool *pool = kb_calloc(1, sizeof *pool);
    pool->budget = kb_budget_new(count);
    pool->size_bytes = size_bytes;
    pool->idle = kb_calloc(count, sizeof *pool->idle);
    (void)pthread_mutex_init(&pool->lock, NULL);
    return pool;
}

void kb_pool_free(kb_pool *owned_pool)
{
    if (owned_pool == NULL)
        return;
    for (size_t i = 0; i < owned_pool->idle_count; i++) {
        free(owned_pool->idle[i]->data);
        free(owned_pool->idle[i]);
    }
    free(owned_pool->idle);
    kb_budget_free(owned_pool->budget);
    (void)pthread_mutex_destroy(&owned_pool->lock);
    free(owned_pool);
}

void kb_pool_free_at(kb_pool **at)
{
    kb_pool_free(*at);
    *at = NULL;
}

/* An idle or new buffer for a unit that was granted; NULL (and the unit given back) when memory is gone. */
static kb_buffer *take_buffer(kb_pool *pool)
{
    kb_buffer *buffer = NULL;
    pthread_mutex_lock(&pool->lock);
    if (pool->idle_count > 0)
        buffer = pool->idle[--pool->idle_count];
    pthread_mutex_unlock(&pool->lock);
    if (buffer != NULL) {
        buffer->len = 0;
        return buffer;
    }
    void *data = NULL;
    if (posix_memalign(&data, BUFFER_ALIGNMENT, pool->size_bytes) != 0) {
        kb_budget_release(pool->budget, 1);
        return NULL;
    }
    buffer = kb_calloc(1, sizeof *buffer);
    *buffer = (kb_buffer){.data = data, .capacity = pool->size_bytes};
    return buffer;
}

kb_code kb_pool_acquire(kb_pool *pool, kb_buffer **ret_buffer, kb_error *err)
{
    if (!kb_budget_acquire(pool->budget, 1))
        return kb_fail(err, KB_ERR_STOPPED, "stopped while waiting for a buffer");
    kb_buffer *buffer = take_buffer(pool);
    if (buffer == NULL)
        return kb_fail(err, KB_TEMPORARY_FAILURE,
                       "no memory for a buffer of %zu bytes; hint: raise the memory limit", pool->size_bytes);
    *ret_buffer = buffer;
    return KB_OK;
}

kb_buffer *kb_pool_acquire_try(kb_pool *pool)
{
    return kb_budget_acquire_try(pool->budget, 1) ? take_buffer(pool) : NULL;
}

void kb_pool_release(kb_pool *pool, kb_buffer *owned_buffer)
{
    if (owned_buffer == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->idle[pool->idle_count++] = owned_buffer;
    pthread_mutex_unlock(&pool->lock);
    kb_budget_release(pool->budget, 1);
}

void kb_pool_stop(kb_pool *pool)
{
    kb_budget_stop(pool->budget);
}

size_t kb_pool_count_used(kb_pool *pool)
{
    return (size_t)kb_budget_used(pool->budget);
}

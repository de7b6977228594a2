/*
 * pool - the memory bound of a pipeline: a fixed number of equal buffers, or a budget of bytes.
 *
 * A buffer travels with the data from stage to stage; when all are out the reader waits, and that is the
 * whole back-pressure. Waiters are served in the order in which they came. Threads: any.
 */
#ifndef KB_COMMON_SYNC_POOL_H
#define KB_COMMON_SYNC_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

typedef struct kb_pool kb_pool;

typedef struct kb_buffer {
    uint8_t *data;   /* page aligned */
    size_t capacity; /* the same for all buffers of the pool */
    size_t len;      /* the holder's; 0 when acquired */
} kb_buffer;

/* count > 0 buffers of size_bytes > 0. Memory is taken when a buffer is first needed and kept. */
kb_pool *kb_pool_new(size_t count, size_t size_bytes) __attribute__((returns_nonnull));
/* All buffers must have been released. */
void kb_pool_free(kb_pool *owned_pool);
/* For a cleanup attribute: frees *at. */
void kb_pool_free_at(kb_pool **at);
/* Waits for a free buffer. Fails with KB_ERR_STOPPED after kb_pool_stop, KB_TEMPORARY_FAILURE without memory.
 */
kb_code kb_pool_acquire(kb_pool *pool, kb_buffer **ret_buffer, kb_error *err) KB_CHECK;
/* A buffer, or NULL when none is free now. */
kb_buffer *kb_pool_acquire_try(kb_pool *pool);
/* NULL is fine. */
void kb_pool_release(kb_pool *pool, kb_buffer *owned_buffer);
/* Wakes all waiters, now and later; releasing goes on. */
void kb_pool_stop(kb_pool *pool);
/* Buffers that are out now. */
size_t kb_pool_count_used(kb_pool *pool);

typedef struct kb_budget kb_budget;

/* total_bytes > 0. */
kb_budget *kb_budget_new(uint64_t total_bytes) __attribute__((returns_nonnull));
/* All bytes must have been released. */
void kb_budget_free(kb_budget *owned_budget);
/* For a cleanup attribute: frees *at. */
void kb_budget_free_at(kb_budget **at);
/*
 * Waits until `bytes` fit. A request larger than the whole budget is granted alone, when nothing else is out.
 * False after kb_budget_stop; nothing is held then.
 */
bool kb_budget_acquire(kb_budget *budget, uint64_t bytes) __attribute__((warn_unused_result));
/* Without waiting. */
bool kb_budget_acquire_try(kb_budget *budget, uint64_t bytes) __attribute__((warn_unused_result));
/* Gives back as much as was acquired, in one or several calls. */
void kb_budget_release(kb_budget *budget, uint64_t bytes);
void kb_budget_stop(kb_budget *budget);
uint64_t kb_budget_used(kb_budget *budget);

#endif

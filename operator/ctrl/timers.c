#include "operator/ctrl/timers.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/sync/cond.h"

/* The thread wakes at least this often, to beat. */
#define WAIT_MAX_MS 5000

typedef struct alarm_entry {
    char *key;
    int64_t at_ms;
    size_t index; /* in the heap */
} alarm_entry;

struct kb_timers {
    kb_timers_options options;
    const kb_clock *clock;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    kb_map *by_key; /* alarm_entry, owned */
    alarm_entry **heap;
    size_t count, capacity;
    bool has_thread, is_stopping;
    pthread_t thread;
};

static void alarm_free(void *owned)
{
    alarm_entry *entry = owned;
    free(entry->key);
    free(entry);
}

kb_timers *kb_timers_new(const kb_timers_options *options)
{
    kb_timers *timers = kb_calloc(1, sizeof *timers);
    timers->options = *options;
    timers->clock = options->clock != NULL ? options->clock : kb_clock_system();
    pthread_mutex_init(&timers->mutex, NULL);
    kb_cond_init(&timers->changed);
    timers->by_key = kb_map_new(alarm_free);
    return timers;
}

/* ---- a binary heap, earliest first; the mutex is held ---- */

static void place(kb_timers *timers, alarm_entry *entry, size_t index)
{
    timers->heap[index] = entry;
    entry->index = index;
}

static void sift_up(kb_timers *timers, size_t index)
{
    alarm_entry *entry = timers->heap[index];
    while (index > 0 && timers->heap[(index - 1) / 2]->at_ms > entry->at_ms) {
        place(timers, timers->heap[(index - 1) / 2], index);
        index = (index - 1) / 2;
    }
    place(timers, entry, index);
}

static void sift_down(kb_timers *timers, size_t index)
{
    alarm_entry *entry = timers->heap[index];
    for (;;) {
        size_t child = index * 2 + 1;
        if (child >= timers->count)
            break;
        if (child + 1 < timers->count && timers->heap[child + 1]->at_ms < timers->heap[child]->at_ms)
            child++;
        if (timers->heap[child]->at_ms >= entry->at_ms)
            break;
        place(timers, timers->heap[child], index);
        index = child;
    }
    place(timers, entry, index);
}

static void heap_remove(kb_timers *timers, size_t index)
{
    alarm_entry *last = timers->heap[--timers->count];
    if (index == timers->count)
        return;
    place(timers, last, index);
    sift_up(timers, index);
    sift_down(timers, last->index);
}

/* ---- */

void kb_timers_set(kb_timers *timers, const char *key, int64_t delay_ms)
{
    const int64_t at_ms = kb_clock_now_boot_ms(timers->clock) + (delay_ms > 0 ? delay_ms : 0);
    pthread_mutex_lock(&timers->mutex);
    alarm_entry *entry = kb_map_gets(timers->by_key, key);
    if (entry == NULL) {
        entry = kb_calloc(1, sizeof *entry);
        entry->key = kb_strdup(key);
        entry->at_ms = at_ms;
        kb_map_puts(timers->by_key, key, entry);
        timers->heap = kb_grow(timers->heap, timers->count, &timers->capacity, sizeof *timers->heap);
        place(timers, entry, timers->count++);
        sift_up(timers, entry->index);
    } else if (at_ms < entry->at_ms) {
        entry->at_ms = at_ms;
        sift_up(timers, entry->index);
    }
    const bool is_first = timers->heap[0] == entry;
    pthread_mutex_unlock(&timers->mutex);
    if (is_first)
        pthread_cond_signal(&timers->changed);
}

void kb_timers_cancel(kb_timers *timers, const char *key)
{
    pthread_mutex_lock(&timers->mutex);
    alarm_entry *entry = kb_map_gets(timers->by_key, key);
    if (entry != NULL) {
        heap_remove(timers, entry->index);
        kb_map_removes(timers->by_key, key);
    }
    pthread_mutex_unlock(&timers->mutex);
}

/* The key of an alarm that is due (owned), or NULL and the time until the next. */
static char *take_due(kb_timers *timers, int64_t *wait_ms)
{
    char *key = NULL;
    const int64_t now_ms = kb_clock_now_boot_ms(timers->clock);
    pthread_mutex_lock(&timers->mutex);
    *wait_ms = -1;
    if (timers->count > 0) {
        alarm_entry *entry = timers->heap[0];
        *wait_ms = entry->at_ms > now_ms ? entry->at_ms - now_ms : 0;
        if (*wait_ms == 0) {
            key = kb_strdup(entry->key);
            heap_remove(timers, 0);
            kb_map_removes(timers->by_key, key);
        }
    }
    pthread_mutex_unlock(&timers->mutex);
    return key;
}

int64_t kb_timers_run_due(kb_timers *timers)
{
    for (;;) {
        int64_t wait_ms;
        KB_AUTOFREE char *key = take_due(timers, &wait_ms);
        if (key == NULL)
            return wait_ms;
        timers->options.fire(timers->options.ctx, key);
    }
}

size_t kb_timers_count(kb_timers *timers)
{
    pthread_mutex_lock(&timers->mutex);
    const size_t count = timers->count;
    pthread_mutex_unlock(&timers->mutex);
    return count;
}

static void wait_for_next(kb_timers *timers, int64_t wait_ms)
{
    if (wait_ms < 0 || wait_ms > WAIT_MAX_MS)
        wait_ms = WAIT_MAX_MS;
    const struct timespec deadline = kb_cond_deadline(wait_ms);
    const int64_t now_ms = kb_clock_now_boot_ms(timers->clock);
    pthread_mutex_lock(&timers->mutex);
    /* An alarm that was set since the last look may be nearer than the one that is waited for. */
    const bool has_nearer = timers->count > 0 && timers->heap[0]->at_ms < now_ms + wait_ms;
    if (!timers->is_stopping && !has_nearer)
        (void)kb_cond_wait_until(&timers->changed, &timers->mutex, &deadline);
    pthread_mutex_unlock(&timers->mutex);
}

static bool is_stopping(kb_timers *timers)
{
    pthread_mutex_lock(&timers->mutex);
    const bool stopping = timers->is_stopping;
    pthread_mutex_unlock(&timers->mutex);
    return stopping;
}

static void *run(void *ctx)
{
    kb_timers *timers = ctx;
    while (!is_stopping(timers)) {
        if (timers->options.beat != NULL)
            timers->options.beat(timers->options.ctx);
        wait_for_next(timers, kb_timers_run_due(timers));
    }
    return NULL;
}

kb_code kb_timers_start(kb_timers *timers, kb_error *err)
{
    const int result = pthread_create(&timers->thread, NULL, run, timers);
    if (result != 0)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "cannot start the timers: %s", kb_errno_text(result));
    timers->has_thread = true;
    return KB_OK;
}

void kb_timers_free(kb_timers *owned_timers)
{
    if (owned_timers == NULL)
        return;
    pthread_mutex_lock(&owned_timers->mutex);
    owned_timers->is_stopping = true;
    pthread_mutex_unlock(&owned_timers->mutex);
    pthread_cond_signal(&owned_timers->changed);
    if (owned_timers->has_thread)
        pthread_join(owned_timers->thread, NULL);
    kb_map_free(owned_timers->by_key);
    free(owned_timers->heap);
    pthread_cond_destroy(&owned_timers->changed);
    pthread_mutex_destroy(&owned_timers->mutex);
    free(owned_timers);
}

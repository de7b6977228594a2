#include "operator/ctrl/watchdog.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/mem.h"

#define RESTING INT64_MAX

struct kb_beat {
    const kb_clock *clock;
    char *name;
    _Atomic int64_t last_ms;
    kb_beat *next;
};

struct kb_watchdog {
    const kb_clock *clock;
    pthread_mutex_t mutex;
    kb_beat *beats;
};

kb_watchdog *kb_watchdog_new(const kb_clock *clock)
{
    kb_watchdog *watchdog = kb_calloc(1, sizeof *watchdog);
    watchdog->clock = clock != NULL ? clock : kb_clock_system();
    pthread_mutex_init(&watchdog->mutex, NULL);
    return watchdog;
}

void kb_watchdog_free(kb_watchdog *owned_watchdog)
{
    if (owned_watchdog == NULL)
        return;
    for (kb_beat *beat = owned_watchdog->beats; beat != NULL;) {
        kb_beat *next = beat->next;
        free(beat->name);
        free(beat);
        beat = next;
    }
    pthread_mutex_destroy(&owned_watchdog->mutex);
    free(owned_watchdog);
}

kb_beat *kb_watchdog_add(kb_watchdog *watchdog, const char *name)
{
    kb_beat *beat = kb_calloc(1, sizeof *beat);
    beat->clock = watchdog->clock;
    beat->name = kb_strdup(name);
    kb_watchdog_beat(beat);
    pthread_mutex_lock(&watchdog->mutex);
    beat->next = watchdog->beats;
    watchdog->beats = beat;
    pthread_mutex_unlock(&watchdog->mutex);
    return beat;
}

void kb_watchdog_beat(kb_beat *beat)
{
    atomic_store_explicit(&beat->last_ms, kb_clock_now_boot_ms(beat->clock), memory_order_relaxed);
}

void kb_watchdog_beat_ctx(void *beat)
{
    kb_watchdog_beat(beat);
}

void kb_watchdog_rest(kb_beat *beat)
{
    atomic_store_explicit(&beat->last_ms, RESTING, memory_order_relaxed);
}

bool kb_watchdog_is_well(kb_watchdog *watchdog, kb_strbuf *why)
{
    const int64_t now_ms = kb_clock_now_boot_ms(watchdog->clock);
    bool is_well = true;
    pthread_mutex_lock(&watchdog->mutex);
    for (const kb_beat *beat = watchdog->beats; beat != NULL; beat = beat->next) {
        const int64_t last_ms = atomic_load_explicit(&beat->last_ms, memory_order_relaxed);
        if (last_ms == RESTING || now_ms - last_ms < KB_WATCHDOG_SILENCE_MS)
            continue;
        is_well = false;
        kb_strbuf_appendf(why, "thread %s has not moved for %lld s\n", beat->name,
                          (long long)((now_ms - last_ms) / 1000));
    }
    pthread_mutex_unlock(&watchdog->mutex);
    return is_well;
}

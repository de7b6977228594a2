#include "common/sync/breaker.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/base/mem.h"

typedef enum state { STATE_CLOSED, STATE_OPEN, STATE_HALF_OPEN } state;

/* While another caller probes, the answer may come at any moment: ask again soon. */
enum { PROBE_POLL_MS = 250 };

struct kb_breaker {
    kb_breaker_options options;
    pthread_mutex_t lock;
    state state;
    unsigned failure_count; /* in a row, while closed */
    unsigned success_count; /* in a row, while half open */
    bool has_probe;
    int64_t since_ms; /* open: when it opened; half open: when the probe began */
};

kb_breaker *kb_breaker_new(const kb_breaker_options *options)
{
    kb_breaker *breaker = kb_calloc(1, sizeof *breaker);
    breaker->options = *options;
    (void)pthread_mutex_init(&breaker->lock, NULL);
    return breaker;
}

void kb_breaker_free(kb_breaker *owned_breaker)
{
    if (owned_breaker == NULL)
        return;
    (void)pthread_mutex_destroy(&owned_breaker->lock);
    free(owned_breaker);
}

static int64_t wait_ms(const kb_breaker *breaker, int64_t now_ms)
{
    if (breaker->state == STATE_CLOSED || (breaker->state == STATE_HALF_OPEN && !breaker->has_probe))
        return 0;
    int64_t left_ms = breaker->since_ms + breaker->options.reset_timeout_ms - now_ms;
    return left_ms > 0 ? left_ms : 0;
}

bool kb_breaker_allow(kb_breaker *breaker, int64_t now_ms)
{
    pthread_mutex_lock(&breaker->lock);
    bool allowed = wait_ms(breaker, now_ms) == 0;
    if (allowed && breaker->state != STATE_CLOSED) {
        if (breaker->state == STATE_OPEN)
            breaker->success_count = 0;
        breaker->state = STATE_HALF_OPEN;
        breaker->has_probe = true;
        breaker->since_ms = now_ms;
    }
    pthread_mutex_unlock(&breaker->lock);
    return allowed;
}

int64_t kb_breaker_wait_ms(kb_breaker *breaker, int64_t now_ms)
{
    pthread_mutex_lock(&breaker->lock);
    int64_t left_ms = wait_ms(breaker, now_ms);
    if (breaker->state == STATE_HALF_OPEN && left_ms > PROBE_POLL_MS)
        left_ms = PROBE_POLL_MS;
    pthread_mutex_unlock(&breaker->lock);
    return left_ms;
}

void kb_breaker_on_success(kb_breaker *breaker, int64_t now_ms)
{
    (void)now_ms;
    pthread_mutex_lock(&breaker->lock);
    switch (breaker->state) {
    case STATE_CLOSED:
        breaker->failure_count = 0;
        break;
    case STATE_HALF_OPEN:
        breaker->has_probe = false;
        if (++breaker->success_count >= breaker->options.success_threshold) {
            breaker->state = STATE_CLOSED;
            breaker->failure_count = 0;
        }
        break;
    case STATE_OPEN: /* a call from before it opened: says nothing about now */
        break;
    }
    pthread_mutex_unlock(&breaker->lock);
}

void kb_breaker_on_failure(kb_breaker *breaker, int64_t now_ms)
{
    pthread_mutex_lock(&breaker->lock);
    bool opens = breaker->state == STATE_HALF_OPEN;
    if (breaker->state == STATE_CLOSED)
        opens = ++breaker->failure_count >= breaker->options.failure_threshold;
    if (opens) {
        breaker->state = STATE_OPEN;
        breaker->has_probe = false;
        breaker->since_ms = now_ms;
    }
    pthread_mutex_unlock(&breaker->lock);
}

bool kb_breaker_is_open(kb_breaker *breaker)
{
    pthread_mutex_lock(&breaker->lock);
    bool open = breaker->state != STATE_CLOSED;
    pthread_mutex_unlock(&breaker->lock);
    return open;
}

#include "common/sync/ratelimit.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/base/mem.h"

enum { MICRO = 1000000 };

/* Above this, amounts count as this: with the largest rate it is a wait of a second, with 1/s one of 46 days.
 */
static const int64_t largest_amount = INT64_C(4000000000000);
/* Debt stops to grow here; far from where the arithmetic ends. */
static const int64_t lowest_level = -INT64_C(4000000000000000000);

void kb_ratelimit_init(kb_ratelimit *rl, int64_t rate_per_sec, int64_t now_us)
{
    if (rate_per_sec < 0)
        rate_per_sec = 0;
    if (rate_per_sec > KB_RATELIMIT_MAX)
        rate_per_sec = KB_RATELIMIT_MAX;
    *rl = (kb_ratelimit){.rate_per_sec = rate_per_sec, .level = rate_per_sec * MICRO, .last_us = now_us};
}

static int64_t level_at(const kb_ratelimit *rl, int64_t now_us)
{
    int64_t full = rl->rate_per_sec * MICRO;
    if (now_us <= rl->last_us)
        return rl->level;
    int64_t gained;
    int64_t level;
    if (__builtin_mul_overflow(now_us - rl->last_us, rl->rate_per_sec, &gained) ||
        __builtin_add_overflow(rl->level, gained, &level) || level > full)
        return full;
    return level;
}

static int64_t wait_us_at(const kb_ratelimit *rl, int64_t level)
{
    if (level >= 0)
        return 0;
    return (-level + rl->rate_per_sec - 1) / rl->rate_per_sec;
}

int64_t kb_ratelimit_take(kb_ratelimit *rl, int64_t amount, int64_t now_us)
{
    if (rl->rate_per_sec == 0)
        return 0;
    int64_t level = level_at(rl, now_us);
    if (amount > largest_amount)
        amount = largest_amount;
    if (amount > 0)
        level -= amount * MICRO;
    rl->level = level > lowest_level ? level : lowest_level;
    if (now_us > rl->last_us)
        rl->last_us = now_us;
    return wait_us_at(rl, rl->level);
}

int64_t kb_ratelimit_wait_us(const kb_ratelimit *rl, int64_t now_us)
{
    return rl->rate_per_sec == 0 ? 0 : wait_us_at(rl, level_at(rl, now_us));
}

struct kb_ratelimit_shared {
    pthread_mutex_t lock;
    kb_ratelimit rl;
};

kb_ratelimit_shared *kb_ratelimit_shared_new(int64_t rate_per_sec, int64_t now_us)
{
    kb_ratelimit_shared *shared = kb_calloc(1, sizeof *shared);
    (void)pthread_mutex_init(&shared->lock, NULL);
    kb_ratelimit_init(&shared->rl, rate_per_sec, now_us);
    return shared;
}

void kb_ratelimit_shared_free(kb_ratelimit_shared *owned_rl)
{
    if (owned_rl == NULL)
        return;
    (void)pthread_mutex_destroy(&owned_rl->lock);
    free(owned_rl);
}

int64_t kb_ratelimit_shared_take(kb_ratelimit_shared *rl, int64_t amount, int64_t now_us)
{
    pthread_mutex_lock(&rl->lock);
    int64_t wait_us = kb_ratelimit_take(&rl->rl, amount, now_us);
    pthread_mutex_unlock(&rl->lock);
    return wait_us;
}

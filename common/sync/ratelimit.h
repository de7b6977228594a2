/*
 * ratelimit - token bucket with one second of burst that may go into debt.
 *
 * Taking never fails and never waits: it answers how long to wait before going on, so an amount larger than
 * the burst is fine. Time is an argument; the balance is exact, nothing is lost to rounding. Threads:
 * kb_ratelimit belongs to one thread at a time; kb_ratelimit_shared is the same behind a lock.
 */
#ifndef KB_COMMON_SYNC_RATELIMIT_H
#define KB_COMMON_SYNC_RATELIMIT_H

#include <stdint.h>

typedef struct kb_ratelimit {
    int64_t rate_per_sec; /* 0: no limit */
    int64_t level;        /* millionths of a unit; negative is debt */
    int64_t last_us;
} kb_ratelimit;

/* A full bucket. rate_per_sec < 0 counts as 0, no limit; at most KB_RATELIMIT_MAX, more counts as that. */
#define KB_RATELIMIT_MAX INT64_C(1000000000000)
void kb_ratelimit_init(kb_ratelimit *rl, int64_t rate_per_sec, int64_t now_us);
/* Takes amount (>= 0) and returns the microseconds to wait before going on; 0 when within the rate. */
int64_t kb_ratelimit_take(kb_ratelimit *rl, int64_t amount, int64_t now_us);
/* The wait that an amount of 0 would get. */
int64_t kb_ratelimit_wait_us(const kb_ratelimit *rl, int64_t now_us);

typedef struct kb_ratelimit_shared kb_ratelimit_shared;

kb_ratelimit_shared *kb_ratelimit_shared_new(int64_t rate_per_sec, int64_t now_us)
    __attribute__((returns_nonnull));
void kb_ratelimit_shared_free(kb_ratelimit_shared *owned_rl);
int64_t kb_ratelimit_shared_take(kb_ratelimit_shared *rl, int64_t amount, int64_t now_us);

#endif

#include "common/sync/cond.h"

#include <errno.h>

#include "common/base/mem.h"

void kb_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0)
        kb_out_of_memory();
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (pthread_cond_init(cond, &attributes) != 0)
        kb_out_of_memory();
    (void)pthread_condattr_destroy(&attributes);
}

struct timespec kb_cond_deadline(int64_t timeout_ms)
{
    static const int64_t longest_ms = INT64_C(1000) * 86400 * 36500; /* a century: no overflow below */
    struct timespec at = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    if (timeout_ms > longest_ms)
        timeout_ms = longest_ms;
    at.tv_sec += (time_t)(timeout_ms / 1000);
    at.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_nsec -= 1000000000;
        at.tv_sec++;
    }
    return at;
}

bool kb_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *deadline)
{
    return pthread_cond_timedwait(cond, mutex, deadline) != ETIMEDOUT;
}

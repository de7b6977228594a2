/*
 * cond - condition variables whose time-outs follow the monotonic clock.
 *
 * A jump of the wall clock must not end or prolong a wait. For the modules of this layer.
 */
#ifndef KB_COMMON_SYNC_COND_H
#define KB_COMMON_SYNC_COND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* pthread_cond_init for kb_cond_wait_until; ends the process when the system has no resources for it. */
void kb_cond_init(pthread_cond_t *cond);
/* The moment timeout_ms (>= 0) from now. */
struct timespec kb_cond_deadline(int64_t timeout_ms);
/* False when the deadline has passed; mutex is locked as with pthread_cond_timedwait. */
bool kb_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *deadline);

#endif

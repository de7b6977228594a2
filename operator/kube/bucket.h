/*
 * bucket - token bucket with a burst of its own, for request rates.
 *
 * Taking never fails and never waits: it answers how long to wait before going on (the balance may go into
 * debt, so waiters are served in order). Time is an argument. Threads: any.
 */
#ifndef KB_OPERATOR_KUBE_BUCKET_H
#define KB_OPERATOR_KUBE_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

typedef struct kb_bucket kb_bucket;

/* A full bucket; rate_per_sec > 0, burst >= 1. */
kb_bucket *kb_bucket_new(double rate_per_sec, double burst, int64_t now_ms) __attribute__((returns_nonnull));
void kb_bucket_free(kb_bucket *owned_bucket);
/* Takes one and returns the milliseconds to wait before going on; 0 when there was one. */
int64_t kb_bucket_take(kb_bucket *bucket, int64_t now_ms);
/* Takes one if there is one, without debt. */
bool kb_bucket_take_try(kb_bucket *bucket, int64_t now_ms);

#endif

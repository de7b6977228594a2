#include "operator/kube/bucket.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/base/mem.h"

struct kb_bucket {
    pthread_mutex_t mutex;
    double rate_per_ms;
    double burst;
    double level; /* negative is debt */
    int64_t last_ms;
};

kb_bucket *kb_bucket_new(double rate_per_sec, double burst, int64_t now_ms)
{
    kb_bucket *bucket = kb_calloc(1, sizeof *bucket);
    pthread_mutex_init(&bucket->mutex, NULL);
    bucket->rate_per_ms = rate_per_sec / 1000.0;
    bucket->burst = burst;
    bucket->level = burst;
    bucket->last_ms = now_ms;
    return bucket;
}

void kb_bucket_free(kb_bucket *owned_bucket)
{
    if (owned_bucket == NULL)
        return;
    pthread_mutex_destroy(&owned_bucket->mutex);
    free(owned_bucket);
}

static void refill(kb_bucket *bucket, int64_t now_ms)
{
    if (now_ms <= bucket->last_ms)
        return;
    bucket->level += (double)(now_ms - bucket->last_ms) * bucket->rate_per_ms;
    if (bucket->level > bucket->burst)
        bucket->level = bucket->burst;
    bucket->last_ms = now_ms;
}

int64_t kb_bucket_take(kb_bucket *bucket, int64_t now_ms)
{
    pthread_mutex_lock(&bucket->mutex);
    refill(bucket, now_ms);
    bucket->level -= 1.0;
    const double debt = -bucket->level;
    pthread_mutex_unlock(&bucket->mutex);
    /* A hair below a whole token is rounding of the refill, not debt. */
    return debt < 1e-9 ? 0 : (int64_t)ceil(debt / bucket->rate_per_ms - 1e-6);
}

bool kb_bucket_take_try(kb_bucket *bucket, int64_t now_ms)
{
    pthread_mutex_lock(&bucket->mutex);
    refill(bucket, now_ms);
    const bool has_one = bucket->level >= 1.0 - 1e-9;
    if (has_one)
        bucket->level -= 1.0;
    pthread_mutex_unlock(&bucket->mutex);
    return has_one;
}

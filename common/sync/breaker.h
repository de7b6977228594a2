/*
 * breaker - circuit breaker: calls to a store that is down wait instead of piling up.
 *
 * Closed: calls go through; failure_threshold failures in a row open it. Open: nothing goes through until
 * reset_timeout_ms have passed. Then half open: one call at a time as a probe; success_threshold successes
 * close it, one failure opens it again. A probe whose result never comes is given up after reset_timeout_ms.
 * Time is an argument (boot clock). Threads: any.
 */
#ifndef KB_COMMON_SYNC_BREAKER_H
#define KB_COMMON_SYNC_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct kb_breaker kb_breaker;

typedef struct kb_breaker_options {
    unsigned failure_threshold; /* > 0 */
    int64_t reset_timeout_ms;   /* > 0 */
    unsigned success_threshold; /* > 0 */
} kb_breaker_options;

kb_breaker *kb_breaker_new(const kb_breaker_options *options) __attribute__((returns_nonnull));
void kb_breaker_free(kb_breaker *owned_breaker);

/* Whether a call may be made now; true obliges the caller to report its result. */
bool kb_breaker_allow(kb_breaker *breaker, int64_t now_ms) __attribute__((warn_unused_result));
/* How long until kb_breaker_allow may be asked again: 0 when it would say yes now. */
int64_t kb_breaker_wait_ms(kb_breaker *breaker, int64_t now_ms);
void kb_breaker_on_success(kb_breaker *breaker, int64_t now_ms);
void kb_breaker_on_failure(kb_breaker *breaker, int64_t now_ms);
/* Not closed: open or half open. */
bool kb_breaker_is_open(kb_breaker *breaker);

#endif

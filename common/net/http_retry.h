/*
 * http_retry - the one retry loop around HTTP exchanges.
 *
 * A call is prepared (signed) anew for each try, exchanged, and judged. Transport failures, 408, 429 and 5xx
 * are tried again with full jitter (200 ms to 20 s, never before Retry-After) up to 10 tries or 5 minutes; an
 * expired credential is renewed once, a clock that is off is corrected once by the Date header. While the
 * breaker is open calls wait, which counts as neither try nor time. Request bodies are views and so
 * replayable; ranged GETs go on at the byte that was received. Threads: a kb_http_retry serves any number at
 * once.
 */
#ifndef KB_COMMON_NET_HTTP_RETRY_H
#define KB_COMMON_NET_HTTP_RETRY_H

#include "common/base/clock.h"
#include "common/net/http.h"
#include "common/sync/breaker.h"
#include "common/sync/wait.h"

typedef struct kb_http_retry kb_http_retry;

typedef enum kb_http_event {
    KB_HTTP_EVENT_RETRY_READ, /* a GET or HEAD failed, another follows */
    KB_HTTP_EVENT_RETRY_WRITE,
    KB_HTTP_EVENT_OPEN, /* of the breaker: calls wait */
    KB_HTTP_EVENT_CLOSED,
} kb_http_event;

/* Borrowed for the life of the kb_http_retry; 0 and NULL mean the default. */
typedef struct kb_http_retry_options {
    kb_http *http;
    kb_breaker *breaker; /* NULL: none */
    kb_stop *stop;       /* NULL: cannot be stopped; a second stop ends calls at once */
    int64_t stop_grace_ms;
    const kb_clock *clock; /* kb_clock_system */
    kb_random_fn random;   /* kb_random_system */
    void *random_ctx;
    unsigned max_tries;  /* 10 */
    int64_t max_ms;      /* 300000 */
    int64_t base_ms;     /* 200 */
    int64_t cap_ms;      /* 20000; Retry-After may be longer */
    kb_code unreachable; /* code of a transient failure that stayed (KB_TEMPORARY_FAILURE) */
    void (*on_event)(void *ctx, kb_http_event event);
    void *event_ctx;
} kb_http_retry_options;

kb_http_retry *kb_http_retry_new(const kb_http_retry_options *options) __attribute__((returns_nonnull));
void kb_http_retry_free(kb_http_retry *owned_retry);
void kb_http_retry_free_at(kb_http_retry **at);

/* What an answer means. */
typedef enum kb_http_verdict {
    KB_HTTP_ANSWER,    /* give it to the caller: a success, or a refusal that he understands (404, 412) */
    KB_HTTP_TRANSIENT, /* try again */
    KB_HTTP_EXPIRED,   /* credentials: renew once and try again; then *err */
    KB_HTTP_SKEWED,    /* clock: correct once and try again; then *err */
    KB_HTTP_FATAL      /* end with *err */
} kb_http_verdict;

/*
 * The rule that every service shares: 2xx answer; 408, 429 and 5xx but 501 and 505 transient; 401 expired;
 * everything else fatal. Leaves err alone.
 */
kb_http_verdict kb_http_judge_status(int status);

typedef struct kb_http_attempt {
    unsigned number;    /* 1 = first */
    uint64_t received;  /* ranged GET: bytes there already */
    bool maybe_applied; /* an earlier try was sent and its outcome is not known */
} kb_http_attempt;

/* Borrowed for the call. */
typedef struct kb_http_call {
    const char *what;        /* "PUT s3://bucket/key", for messages */
    kb_http_request request; /* without headers: prepare fills them */
    void *ctx;
    /* Adds headers (signs, dates); may change request->url. May be NULL. */
    kb_code (*prepare)(void *ctx, const kb_http_attempt *attempt, kb_http_request *request,
                       kb_http_headers *headers, kb_error *err);
    /*
     * NULL: kb_http_judge_status, with an error text of status and body's beginning. For EXPIRED, SKEWED and
     * FATAL it fills *err; for TRANSIENT it may fill *err, to be told when tries end.
     */
    kb_http_verdict (*judge)(void *ctx, const kb_http_attempt *attempt, const kb_http_response *response,
                             kb_error *err);
    /* Fetches new credentials; NULL: EXPIRED is fatal. */
    kb_code (*renew)(void *ctx, kb_error *err);
    /* server time - our time; NULL: SKEWED is fatal. */
    void (*correct_clock)(void *ctx, int64_t offset_ms);
} kb_http_call;

/*
 * Runs a call to its end. KB_OK: judged ANSWER, the answer is in *response (initialised by the caller).
 * Otherwise the judge's error, KB_ERR_STOPPED, or a retryable error of options.unreachable.
 * *ret_attempt (may be NULL) tells about the last try, also on failure.
 */
kb_code kb_http_retry_run(kb_http_retry *retry, const kb_http_call *call, kb_http_response *response,
                          kb_http_attempt *ret_attempt, kb_error *err) KB_CHECK;

/*
 * GET of exactly `len` (> 0) bytes from `offset` into `to`: sends "Range", checks status 206 (or 200 of the
 * whole object where that is the range) and Content-Range, goes on where a broken answer ended. An answer
 * with another status (the judge's ANSWER: 404) is returned with KB_OK and response->status. KB_ERR_FORMAT:
 * the object ends before the range does (also 416). A wrong range is transient. call->request.sink is not
 * used. *ret_total (may be NULL): size of the whole object, UINT64_MAX when not told.
 */
kb_code kb_http_retry_get_range(kb_http_retry *retry, const kb_http_call *call, uint64_t offset, void *to,
                                size_t len, kb_http_response *response, uint64_t *ret_total,
                                kb_error *err) KB_CHECK;

/* Parsers of headers, for services and fuzzing. */

/* "bytes 5-9/100" (total UINT64_MAX for "*"). False when it is none. RFC 9110, 14.4. */
bool kb_http_parse_content_range(const char *value, uint64_t *ret_first, uint64_t *ret_last,
                                 uint64_t *ret_total) KB_CHECK;
/* "Sun, 06 Nov 1994 08:49:37 GMT" in milliseconds since 1970. RFC 9110, 5.6.7 (IMF-fixdate only). */
bool kb_http_parse_date(const char *value, int64_t *ret_ms) KB_CHECK;
/* Milliseconds to wait: seconds, or a date (seen from now_ms); false when it is neither. */
bool kb_http_parse_retry_after(const char *value, int64_t now_ms, int64_t *ret_ms) KB_CHECK;

/*
 * Whether an exchange's failure, or this status, leaves it open if the server did what was asked: a caller
 * that creates something once must look before it says so.
 */
bool kb_http_is_outcome_unknown(const kb_http_response *response);

#endif

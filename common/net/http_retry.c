#include "common/net/http_retry.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"

#define KB_RETRY_TRIES 10
#define KB_RETRY_MAX_MS 300000
#define KB_RETRY_BASE_MS 200
#define KB_RETRY_CAP_MS 20000

struct kb_http_retry {
    kb_http_retry_options options;
};

/* One call on its way. */
typedef struct kb_run {
    kb_http_retry *retry;
    const kb_http_call *call;
    kb_http_attempt attempt;
    kb_backoff backoff;
    int64_t start_ms;      /* moved on by the time spent before an open breaker */
    int64_t stop_until_ms; /* 0 = no stop seen */
    bool renewed, corrected;
} kb_run;

kb_http_retry *kb_http_retry_new(const kb_http_retry_options *options)
{
    kb_http_retry *retry = kb_calloc(1, sizeof *retry);
    kb_http_retry_options *o = &retry->options;
    *o = *options;
    o->clock = o->clock != NULL ? o->clock : kb_clock_system();
    o->max_tries = o->max_tries > 0 ? o->max_tries : KB_RETRY_TRIES;
    o->max_ms = o->max_ms > 0 ? o->max_ms : KB_RETRY_MAX_MS;
    o->base_ms = o->base_ms > 0 ? o->base_ms : KB_RETRY_BASE_MS;
    o->cap_ms = o->cap_ms >= o->base_ms ? o->cap_ms : KB_RETRY_CAP_MS;
    o->unreachable = o->unreachable != KB_OK ? o->unreachable : KB_TEMPORARY_FAILURE;
    return retry;
}

void kb_http_retry_free(kb_http_retry *owned_retry)
{
    free(owned_retry);
}

void kb_http_retry_free_at(kb_http_retry **at)
{
    kb_http_retry_free(*at);
    *at = NULL;
}

kb_http_verdict kb_http_judge_status(int status)
{
    if (status >= 200 && status < 300)
        return KB_HTTP_ANSWER;
    if (status == 408 || status == 429 || (status >= 500 && status != 501 && status != 505))
        return KB_HTTP_TRANSIENT;
    return status == 401 ? KB_HTTP_EXPIRED : KB_HTTP_FATAL;
}

bool kb_http_is_outcome_unknown(const kb_http_response *response)
{
    if (response->status >= 200 && response->failure == KB_HTTP_NO_FAILURE)
        return response->status == 408 || response->status >= 500;
    return response->sent;
}

/* ---- waiting ---- */

static int64_t now_ms(const kb_run *run)
{
    return kb_clock_now_boot_ms(run->retry->options.clock);
}

static void emit(const kb_run *run, kb_http_event event)
{
    const kb_http_retry_options *o = &run->retry->options;
    if (o->on_event != NULL)
        o->on_event(o->event_ctx, event);
}

/* After a stop a call may fail this often: what was begun gets its chance, a store that is down none. */
#define KB_STOPPED_TRIES 3

/* How long may still be waited; 0 when a stop and its grace are over. */
static int64_t time_before_stop(kb_run *run)
{
    const kb_http_retry_options *o = &run->retry->options;
    if (o->stop == NULL || !kb_stop_requested(o->stop))
        return INT64_MAX;
    bool is_hopeless = o->breaker != NULL && kb_breaker_is_open(o->breaker);
    if (kb_stop_count(o->stop) > 1 || run->attempt.number >= KB_STOPPED_TRIES || is_hopeless)
        return 0;
    int64_t now = now_ms(run);
    if (run->stop_until_ms == 0)
        run->stop_until_ms = now + o->stop_grace_ms;
    return run->stop_until_ms > now ? run->stop_until_ms - now : 0;
}

/* Waits ms, less when the run has to end before. */
static kb_code wait_ms(kb_run *run, int64_t ms, kb_error *err)
{
    kb_stop *stop = run->retry->options.stop;
    int64_t left = time_before_stop(run);
    if (left == 0 || (left != INT64_MAX && left < ms))
        return kb_fail(err, KB_ERR_STOPPED, "%s: stopped while waiting to try again", run->call->what);
    if (stop == NULL || left != INT64_MAX) {
        poll(NULL, 0, (int)ms);
        return KB_OK;
    }
    int64_t begun = now_ms(run);
    if (!kb_stop_wait(stop, ms))
        return KB_OK;
    int64_t rest = ms - (now_ms(run) - begun);
    return rest > 0 ? wait_ms(run, rest, err) : KB_OK;
}

#define KB_BREAKER_POLL_MS 1000

static kb_code wait_for_breaker(kb_run *run, kb_error *err)
{
    kb_breaker *breaker = run->retry->options.breaker;
    int64_t begun = now_ms(run), now = begun;
    while (breaker != NULL && !kb_breaker_allow(breaker, now)) {
        int64_t ms = kb_breaker_wait_ms(breaker, now);
        ms = ms < 10 ? 10 : ms > KB_BREAKER_POLL_MS ? KB_BREAKER_POLL_MS : ms;
        kb_code code = wait_ms(run, ms, err);
        if (code != KB_OK)
            return code;
        now = now_ms(run);
    }
    run->start_ms += now - begun;
    return KB_OK;
}

static void tell_breaker(const kb_run *run, bool is_failure)
{
    kb_breaker *breaker = run->retry->options.breaker;
    if (breaker == NULL)
        return;
    bool was_open = kb_breaker_is_open(breaker), is_open = false;
    if (is_failure)
        kb_breaker_on_failure(breaker, now_ms(run));
    else
        kb_breaker_on_success(breaker, now_ms(run));
    is_open = kb_breaker_is_open(breaker);
    if (is_open != was_open)
        emit(run, is_open ? KB_HTTP_EVENT_OPEN : KB_HTTP_EVENT_CLOSED);
}

/* ---- one try ---- */

static kb_http_verdict judge(const kb_run *run, const kb_http_response *response, kb_error *err)
{
    if (run->call->judge != NULL)
        return run->call->judge(run->call->ctx, &run->attempt, response, err);
    kb_http_verdict verdict = kb_http_judge_status(response->status);
    if (verdict != KB_HTTP_ANSWER)
        (void)kb_fail(err, KB_TEMPORARY_FAILURE, "%s: HTTP status %d", run->call->what, response->status);
    return verdict;
}

static kb_http_verdict judge_failure(const kb_run *run, const kb_http_response *response, kb_error *err)
{
    (void)kb_wrap(err, "%s", run->call->what);
    if (response->failure == KB_HTTP_STOPPED || !err->retryable)
        return KB_HTTP_FATAL;
    return KB_HTTP_TRANSIENT;
}

static kb_http_verdict try_once(kb_run *run, kb_http_response *response, kb_error *err)
{
    const kb_http_retry_options *o = &run->retry->options;
    KB_AUTO_HEADERS(headers);
    kb_http_request request = run->call->request;
    request.headers = &headers;
    request.stop = o->stop;
    request.stop_grace_ms = o->stop_grace_ms;
    if (run->call->prepare != NULL &&
        run->call->prepare(run->call->ctx, &run->attempt, &request, &headers, err) != KB_OK)
        return KB_HTTP_FATAL;
    kb_code waited = wait_for_breaker(run, err);
    if (waited != KB_OK)
        return KB_HTTP_FATAL;
    kb_code code = kb_http_exchange(o->http, &request, response, err);
    kb_http_verdict verdict = code == KB_OK ? judge(run, response, err) : judge_failure(run, response, err);
    tell_breaker(run, verdict == KB_HTTP_TRANSIENT);
    if (verdict == KB_HTTP_TRANSIENT && kb_http_is_outcome_unknown(response))
        run->attempt.maybe_applied = true;
    return verdict;
}

/* How far the server's clock is ahead of ours; false when it did not say. */
static bool clock_offset(const kb_run *run, const kb_http_response *response, int64_t *ret_offset_ms)
{
    const char *date = kb_http_response_header(response, "Date");
    int64_t server_ms = 0;
    if (date == NULL || !kb_http_parse_date(date, &server_ms))
        return false;
    *ret_offset_ms = server_ms - kb_clock_now_wall_ms(run->retry->options.clock);
    return true;
}

static bool correct_clock(kb_run *run, const kb_http_response *response)
{
    int64_t offset = 0;
    if (run->corrected || run->call->correct_clock == NULL || !clock_offset(run, response, &offset))
        return false;
    run->corrected = true;
    run->call->correct_clock(run->call->ctx, offset);
    return true;
}

/* KB_OK: try again now. */
static kb_code renew(kb_run *run, kb_error *err)
{
    if (run->renewed || run->call->renew == NULL)
        return err->code;
    run->renewed = true;
    KB_AUTO_ERROR(failed);
    if (run->call->renew(run->call->ctx, &failed) == KB_OK)
        return KB_OK;
    kb_error_move(err, &failed);
    return err->code;
}

static kb_code give_up(const kb_run *run, kb_error *err)
{
    const kb_http_retry_options *o = &run->retry->options;
    long long seconds = (long long)((now_ms(run) - run->start_ms + 999) / 1000);
    (void)kb_wrap_as(err, o->unreachable, "gave up after %u tries in %lld s", run->attempt.number, seconds);
    err->retryable = true;
    return err->code;
}

/* After a transient failure: KB_OK when it shall be tried again, after the wait. */
static kb_code back_off(kb_run *run, const kb_http_response *response, kb_error *err)
{
    const kb_http_retry_options *o = &run->retry->options;
    if (err->code == KB_OK)
        (void)kb_fail(err, o->unreachable, "%s: HTTP status %d", run->call->what, response->status);
    int64_t wait = kb_backoff_next(&run->backoff), told = 0;
    const char *after = kb_http_response_header(response, "Retry-After");
    if (after != NULL && kb_http_parse_retry_after(after, kb_clock_now_wall_ms(o->clock), &told) &&
        told > wait)
        wait = told;
    int64_t left = run->start_ms + o->max_ms - now_ms(run);
    if (run->attempt.number >= o->max_tries || wait > left)
        return give_up(run, err);
    const char *method = run->call->request.method;
    bool is_read = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    emit(run, is_read ? KB_HTTP_EVENT_RETRY_READ : KB_HTTP_EVENT_RETRY_WRITE);
    kb_code code = wait_ms(run, wait, err);
    if (code == KB_OK)
        run->attempt.number++;
    return code;
}

kb_code kb_http_retry_run(kb_http_retry *retry, const kb_http_call *call, kb_http_response *response,
                          kb_http_attempt *ret_attempt, kb_error *err)
{
    const kb_http_retry_options *o = &retry->options;
    kb_run run = {.retry = retry, .call = call, .attempt = {.number = 1}};
    run.start_ms = now_ms(&run);
    kb_backoff_init(&run.backoff, o->base_ms, o->cap_ms, o->random, o->random_ctx);
    for (bool again = true; again;) {
        again = false;
        KB_AUTO_ERROR(failed);
        kb_http_verdict verdict = try_once(&run, response, &failed);
        if (verdict == KB_HTTP_TRANSIENT)
            again = back_off(&run, response, &failed) == KB_OK;
        else if (verdict == KB_HTTP_EXPIRED)
            again = renew(&run, &failed) == KB_OK;
        else if (verdict == KB_HTTP_SKEWED)
            again = correct_clock(&run, response);
        if (ret_attempt != NULL)
            *ret_attempt = run.attempt;
        if (verdict == KB_HTTP_ANSWER)
            return KB_OK;
        if (!again && failed.code == KB_OK)
            return kb_fail(err, KB_ERR_INTERNAL, "%s: HTTP status %d was refused without a reason",
                           call->what, response->status);
        if (!again) {
            kb_error_move(err, &failed);
            return err->code;
        }
    }
    return KB_OK;
}

/* ---- ranged GET ---- */

typedef struct kb_range {
    const kb_http_call *call;
    kb_http_call inner;
    uint8_t *to;
    uint64_t offset;
    size_t len;
    size_t got;
    uint64_t total; /* of the object */
    char header[64];
} kb_range;

static kb_code range_prepare(void *ctx, const kb_http_attempt *attempt, kb_http_request *request,
                             kb_http_headers *headers, kb_error *err)
{
    kb_range *range = ctx;
    uint64_t first = range->offset + range->got, last = range->offset + range->len - 1;
    snprintf(range->header, sizeof range->header, "bytes=%llu-%llu", (unsigned long long)first,
             (unsigned long long)last);
    kb_http_headers_set(headers, "Range", range->header);
    kb_http_attempt mine = *attempt;
    mine.received = range->got;
    return range->call->prepare != NULL ? range->call->prepare(range->call->ctx, &mine, request, headers, err)
                                        : KB_OK;
}

static kb_code fail_short(const kb_range *range, kb_error *err)
{
    return kb_fail(err, KB_ERR_FORMAT, "%s: the object has %" PRIu64 " bytes and ends before byte %" PRIu64,
                   range->call->what, range->total, range->offset + range->len);
}

static kb_code range_start(void *ctx, const kb_http_response *response, kb_error *err)
{
    kb_range *range = ctx;
    const char *text = kb_http_response_header(response, "Content-Range");
    uint64_t first = 0, last = 0, total = UINT64_MAX, from = range->offset + range->got;
    int64_t length = 0;
    if (response->status == 206 && text != NULL && kb_http_parse_content_range(text, &first, &last, &total)) {
        range->total = total;
        if (total < range->offset + range->len)
            return fail_short(range, err);
        if (first == from && last < range->offset + range->len)
            return KB_OK;
    }
    const char *size = kb_http_response_header(response, "Content-Length");
    /* A range of an empty object: some servers answer it by nothing instead of 416. */
    if (response->status == 206 && size != NULL && strcmp(size, "0") == 0) {
        range->total = 0;
        return fail_short(range, err);
    }
    if (response->status == 200 && from == 0 && size != NULL && kb_parse_i64(size, &length) && length >= 0) {
        range->total = (uint64_t)length;
        if (range->total == range->len)
            return KB_OK;
        if (range->total < range->len)
            return fail_short(range, err);
    }
    return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "asked for %s, got status %d with the range '%s'",
                             range->header, response->status, text != NULL ? text : "");
}

static kb_code range_data(void *ctx, const void *data, size_t len, kb_error *err)
{
    kb_range *range = ctx;
    if (len > range->len - range->got)
        return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "got more bytes than asked for");
    memcpy(range->to + range->got, data, len);
    range->got += len;
    return KB_OK;
}

static kb_http_verdict range_judge(void *ctx, const kb_http_attempt *attempt,
                                   const kb_http_response *response, kb_error *err)
{
    kb_range *range = ctx;
    if (response->status == 416)
        return KB_HTTP_ANSWER;
    kb_http_verdict verdict = kb_http_judge_status(response->status);
    if (range->call->judge != NULL)
        verdict = range->call->judge(range->call->ctx, attempt, response, err);
    else if (verdict != KB_HTTP_ANSWER)
        (void)kb_fail(err, KB_TEMPORARY_FAILURE, "%s: HTTP status %d", range->call->what, response->status);
    if (verdict != KB_HTTP_ANSWER || response->status >= 300 || range->got == range->len)
        return verdict;
    (void)kb_fail(err, KB_TEMPORARY_FAILURE, "%s: got %zu of %zu bytes", range->call->what, range->got,
                  range->len);
    return KB_HTTP_TRANSIENT;
}

static kb_code range_renew(void *ctx, kb_error *err)
{
    kb_range *range = ctx;
    return range->call->renew(range->call->ctx, err);
}

static void range_correct_clock(void *ctx, int64_t offset_ms)
{
    kb_range *range = ctx;
    range->call->correct_clock(range->call->ctx, offset_ms);
}

kb_code kb_http_retry_get_range(kb_http_retry *retry, const kb_http_call *call, uint64_t offset, void *to,
                                size_t len, kb_http_response *response, uint64_t *ret_total, kb_error *err)
{
    if (len == 0)
        return kb_fail(err, KB_ERR_INTERNAL, "%s: an empty range", call->what);
    if (offset > UINT64_MAX - len)
        return kb_fail(err, KB_ERR_FORMAT, "%s: the object ends before the range does", call->what);
    kb_range range = {.call = call, .to = to, .offset = offset, .len = len, .total = UINT64_MAX};
    const kb_http_sink sink = {.ctx = &range, .on_start = range_start, .on_data = range_data};
    kb_http_call inner = {
        .what = call->what,
        .request = call->request,
        .ctx = &range,
        .prepare = range_prepare,
        .judge = range_judge,
        .renew = call->renew != NULL ? range_renew : NULL,
        .correct_clock = call->correct_clock != NULL ? range_correct_clock : NULL,
    };
    inner.request.method = "GET";
    inner.request.sink = &sink;
    kb_code code = kb_http_retry_run(retry, &inner, response, NULL, err);
    if (ret_total != NULL && code == KB_OK)
        *ret_total = range.total;
    if (code != KB_OK || response->status != 416)
        return code;
    return kb_fail(err, KB_ERR_FORMAT, "%s: the object ends before byte %" PRIu64, call->what, offset + len);
}

/* ---- headers ---- */

/* Digits up to `stop`; moves *at behind it. */
static bool parse_number(const char **at, char stop, uint64_t *ret_value)
{
    uint64_t value = 0;
    const char *p = *at;
    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return false;
    }
    if (*p != stop)
        return false;
    *at = stop == '\0' ? p : p + 1;
    *ret_value = value;
    return true;
}

bool kb_http_parse_content_range(const char *value, uint64_t *ret_first, uint64_t *ret_last,
                                 uint64_t *ret_total)
{
    uint64_t first = 0, last = 0, total = UINT64_MAX;
    if (strncmp(value, "bytes ", 6) != 0)
        return false;
    const char *at = value + 6;
    if (!parse_number(&at, '-', &first) || !parse_number(&at, '/', &last) || last < first)
        return false;
    if (strcmp(at, "*") != 0 && (!parse_number(&at, '\0', &total) || last >= total))
        return false;
    *ret_first = first;
    *ret_last = last;
    *ret_total = total;
    return true;
}

static int month_of(const char *text)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (int i = 0; i < 12; i++) {
        if (strncmp(text, names + (size_t)i * 3, 3) == 0)
            return i + 1;
    }
    return 0;
}

bool kb_http_parse_date(const char *value, int64_t *ret_ms)
{
    /* "Sun, 06 Nov 1994 08:49:37 GMT" */
    static const char form[] = "AAA, 00 AAA 0000 00:00:00 GMT";
    if (strlen(value) != sizeof form - 1)
        return false;
    for (size_t i = 0; form[i] != '\0'; i++) {
        bool is_digit = value[i] >= '0' && value[i] <= '9';
        if (form[i] == '0' ? !is_digit : form[i] != 'A' && value[i] != form[i])
            return false;
    }
    int month = month_of(value + 8);
    if (month == 0)
        return false;
    KB_AUTOFREE char *text = kb_asprintf("%.4s-%02d-%.2sT%.8sZ", value + 12, month, value + 5, value + 17);
    KB_AUTO_ERROR(ignored);
    return kb_rfc3339_parse(text, strlen(text), ret_ms, &ignored) == KB_OK;
}

bool kb_http_parse_retry_after(const char *value, int64_t now, int64_t *ret_ms)
{
    int64_t number = 0;
    if (kb_parse_i64(value, &number)) {
        if (number < 0 || number > INT64_MAX / 1000)
            return false;
        *ret_ms = number * 1000;
        return true;
    }
    if (!kb_http_parse_date(value, &number))
        return false;
    *ret_ms = number > now ? number - now : 0;
    return true;
}

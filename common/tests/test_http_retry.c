#include "common/net/http_retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/testing/http_script.h"

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define BUSY "HTTP/1.1 503 Slow Down\r\nContent-Length: 4\r\n\r\nbusy"
#define RANGE(range, len, body) \
    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes " range "\r\nContent-Length: " len "\r\n\r\n" body

typedef struct fixture {
    kb_http_script *script;
    kb_http *http;
    kb_http_retry *retry;
    kb_http_retry_options options;
    kb_http_response response;
    kb_http_attempt attempt;
    kb_error err;
    unsigned prepared, renewed, retries, opened, closed;
    int64_t offset_ms;
} fixture;

static uint64_t half(void *ctx)
{
    (void)ctx;
    return UINT64_MAX / 2;
}

static void on_event(void *ctx, kb_http_event event)
{
    fixture *f = ctx;
    f->retries += event == KB_HTTP_EVENT_RETRY_READ || event == KB_HTTP_EVENT_RETRY_WRITE;
    f->opened += event == KB_HTTP_EVENT_OPEN;
    f->closed += event == KB_HTTP_EVENT_CLOSED;
}

static void begin(fixture *f, const kb_http_step *steps, size_t count)
{
    *f = (fixture){.script = kb_http_script_new(steps, count)};
    const kb_http_options options = {
        .allow_http = true, .direct = true, .first_byte_ms = 200, .stall_ms = 200};
    assert_int_equal(kb_http_new(&options, &f->http, &f->err), KB_OK);
    f->options = (kb_http_retry_options){.http = f->http,
                                         .random = half,
                                         .max_tries = 4,
                                         .base_ms = 1,
                                         .cap_ms = 4,
                                         .unreachable = KB_STORAGE_UNREACHABLE,
                                         .on_event = on_event,
                                         .event_ctx = f};
    f->retry = kb_http_retry_new(&f->options);
}

static void end(fixture *f)
{
    kb_http_retry_free(f->retry);
    kb_http_free(f->http);
    kb_http_script_free(f->script);
    kb_http_response_done(&f->response);
    kb_error_done(&f->err);
}

static kb_code prepare(void *ctx, const kb_http_attempt *attempt, kb_http_request *request,
                       kb_http_headers *headers, kb_error *err)
{
    (void)request, (void)err;
    fixture *f = ctx;
    f->prepared++;
    char *text = kb_asprintf("%u", attempt->number);
    kb_http_headers_set(headers, "X-Try", text);
    free(text);
    return KB_OK;
}

static kb_http_verdict judge(void *ctx, const kb_http_attempt *attempt, const kb_http_response *response,
                             kb_error *err)
{
    (void)ctx, (void)attempt;
    if (response->status == 404)
        return KB_HTTP_ANSWER;
    kb_http_verdict verdict = kb_http_judge_status(response->status);
    if (response->status == 403)
        verdict = KB_HTTP_SKEWED;
    if (verdict != KB_HTTP_ANSWER)
        (void)kb_fail(err, KB_STORAGE_ACCESS_DENIED, "status %d", response->status);
    return verdict;
}

static kb_code renew(void *ctx, kb_error *err)
{
    (void)err;
    ((fixture *)ctx)->renewed++;
    return KB_OK;
}

static void correct_clock(void *ctx, int64_t offset_ms)
{
    ((fixture *)ctx)->offset_ms = offset_ms;
}

static kb_http_call call_of(fixture *f, const char *method)
{
    return (kb_http_call){.what = "the thing",
                          .request = {.method = method, .url = kb_http_script_url(f->script)},
                          .ctx = f,
                          .prepare = prepare,
                          .judge = judge,
                          .renew = renew,
                          .correct_clock = correct_clock};
}

static kb_code run(fixture *f, const char *method)
{
    const kb_http_call call = call_of(f, method);
    return kb_http_retry_run(f->retry, &call, &f->response, &f->attempt, &f->err);
}

static void run_after_transient_failures_succeeds(void **state)
{
    (void)state;
    static const char *const bad[] = {
        BUSY,
        "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 429 x\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 408 x\r\nContent-Length: 0\r\n\r\n",
        NULL,
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        "garbage\r\n\r\n",
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(bad); i++) {
        const kb_http_step steps[] = {
            {.reply = bad[i], .close = true}, {.reply = bad[i], .close = true}, {.reply = OK}};
        fixture f;
        begin(&f, steps, 3);
        if (run(&f, "GET") != KB_OK)
            fail_msg("case %zu: %s", i, kb_error_text(&f.err));
        assert_string_equal(f.response.body, "ok");
        assert_int_equal(f.prepared, 3);
        assert_int_equal(f.retries, 2);
        assert_int_equal(f.attempt.number, 3);
        assert_non_null(strstr(kb_http_script_request(f.script, 2), "X-Try: 3\r\n"));
        end(&f);
    }
}

static void run_that_never_succeeds_gives_up(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {{.reply = BUSY}};
    fixture f;
    begin(&f, steps, 1);
    assert_int_equal(run(&f, "PUT"), KB_STORAGE_UNREACHABLE);
    assert_true(f.err.retryable);
    assert_non_null(strstr(kb_error_text(&f.err), "gave up after 4 tries"));
    assert_int_equal(kb_http_script_requests(f.script), 4);
    assert_true(f.attempt.maybe_applied);
    end(&f);
}

static void run_answers_of_other_kinds_are_not_repeated(void **state)
{
    (void)state;
    static const struct {
        const char *reply;
        kb_code code;
        unsigned requests;
    } table[] = {
        {"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n", KB_OK, 1},
        {"HTTP/1.1 400 x\r\nContent-Length: 0\r\n\r\n", KB_STORAGE_ACCESS_DENIED, 1},
        {"HTTP/1.1 301 x\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", KB_STORAGE_ACCESS_DENIED, 1},
        {"HTTP/1.1 501 x\r\nContent-Length: 0\r\n\r\n", KB_STORAGE_ACCESS_DENIED, 1},
        {"HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n", KB_STORAGE_ACCESS_DENIED, 2},
        {"HTTP/1.1 403 x\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n",
         KB_STORAGE_ACCESS_DENIED, 2},
        {"HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n", KB_STORAGE_ACCESS_DENIED, 1},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        const kb_http_step step = {.reply = table[i].reply};
        fixture f;
        begin(&f, &step, 1);
        assert_int_equal(run(&f, "GET"), table[i].code);
        assert_int_equal(kb_http_script_requests(f.script), table[i].requests);
        end(&f);
    }
}

static void run_with_expired_credentials_renews_once(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {{.reply = "HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n"},
                                         {.reply = OK}};
    fixture f;
    begin(&f, steps, 2);
    assert_int_equal(run(&f, "GET"), KB_OK);
    assert_int_equal(f.renewed, 1);
    end(&f);
}

static void run_with_a_skewed_clock_corrects_it(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {
        {.reply = "HTTP/1.1 403 x\r\nDate: Sun, 06 Nov 2044 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n"},
        {.reply = OK}};
    fixture f;
    begin(&f, steps, 2);
    assert_int_equal(run(&f, "GET"), KB_OK);
    assert_true(f.offset_ms > 365LL * 24 * 3600 * 1000);
    end(&f);
}

static void run_waits_at_least_as_long_as_told(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {
        {.reply = "HTTP/1.1 429 x\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"}, {.reply = OK}};
    fixture f;
    begin(&f, steps, 2);
    int64_t began = kb_clock_boot_ms();
    assert_int_equal(run(&f, "GET"), KB_OK);
    assert_in_range(kb_clock_boot_ms() - began, 1000, 5000);
    end(&f);
}

static void run_behind_the_breaker_waits_and_counts_no_tries(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {{.reply = BUSY}, {.reply = BUSY}, {.reply = OK}};
    fixture f;
    begin(&f, steps, 3);
    kb_breaker *breaker = kb_breaker_new(
        &(kb_breaker_options){.failure_threshold = 2, .reset_timeout_ms = 150, .success_threshold = 1});
    f.options.breaker = breaker;
    kb_http_retry *guarded = kb_http_retry_new(&f.options);
    const kb_http_call call = call_of(&f, "GET");
    int64_t began = kb_clock_boot_ms();
    assert_int_equal(kb_http_retry_run(guarded, &call, &f.response, NULL, &f.err), KB_OK);
    assert_in_range(kb_clock_boot_ms() - began, 150, 5000);
    assert_int_equal(f.opened, 1);
    assert_int_equal(f.closed, 1);
    kb_http_retry_free(guarded);
    kb_breaker_free(breaker);
    end(&f);
}

static void run_that_is_stopped_ends_without_another_try(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {
        {.reply = "HTTP/1.1 503 x\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n"}};
    fixture f;
    begin(&f, steps, 1);
    kb_stop *stop = NULL;
    assert_int_equal(kb_stop_new(&stop, &f.err), KB_OK);
    f.options.stop = stop;
    f.options.stop_grace_ms = 1000;
    kb_http_retry *stoppable = kb_http_retry_new(&f.options);
    kb_stop_set(stop, 0);
    const kb_http_call call = call_of(&f, "GET");
    assert_int_equal(kb_http_retry_run(stoppable, &call, &f.response, NULL, &f.err), KB_ERR_STOPPED);
    assert_int_equal(kb_http_script_requests(f.script), 1);
    kb_http_retry_free(stoppable);
    kb_stop_free(stop);
    end(&f);
}

/* ---- ranges ---- */

static kb_code get_range(fixture *f, uint64_t offset, char *to, size_t len)
{
    const kb_http_call call = call_of(f, "GET");
    return kb_http_retry_get_range(f->retry, &call, offset, to, len, &f->response, NULL, &f->err);
}

static void get_range_goes_on_where_it_broke(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {
        {.reply = RANGE("10-17/100", "8", "abc"), .close = true},
        {.reply = BUSY},
        {.reply = RANGE("13-17/100", "5", "de"), .reset = true},
        {.reply = RANGE("15-17/100", "3", "fgh")},
    };
    fixture f;
    char to[9] = "";
    begin(&f, steps, 4);
    if (get_range(&f, 10, to, 8) != KB_OK)
        fail_msg("%s", kb_error_text(&f.err));
    assert_string_equal(to, "abcdefgh");
    assert_non_null(strstr(kb_http_script_request(f.script, 0), "\r\nRange: bytes=10-17\r\n"));
    assert_non_null(strstr(kb_http_script_request(f.script, 1), "\r\nRange: bytes=13-17\r\n"));
    end(&f);
}

static void get_range_judges_answers(void **state)
{
    (void)state;
    static const struct {
        const char *reply;
        kb_code code;
        int status;
    } table[] = {
        {RANGE("2-5/10", "4", "cdef"), KB_OK, 206},
        {RANGE("2-5/*", "4", "cdef"), KB_OK, 206},
        {"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n", KB_OK, 404},
        {"HTTP/1.1 416 x\r\nContent-Length: 0\r\n\r\n", KB_ERR_FORMAT, 416},
        {RANGE("2-4/5", "3", "cde"), KB_ERR_FORMAT, 206},
        {RANGE("3-6/10", "4", "cdef"), KB_STORAGE_UNREACHABLE, 206},
        {RANGE("2-6/10", "5", "cdefg"), KB_STORAGE_UNREACHABLE, 206},
        {RANGE("2-3/10", "2", "cd"), KB_STORAGE_UNREACHABLE, 206}, /* the same again and again */
        {"HTTP/1.1 206 x\r\nContent-Length: 4\r\n\r\ncdef", KB_STORAGE_UNREACHABLE, 206},
        {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcdefghij", KB_STORAGE_UNREACHABLE, 200},
        {"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ncdef", KB_STORAGE_UNREACHABLE, 200},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        const kb_http_step step = {.reply = table[i].reply};
        fixture f;
        char to[5] = "";
        begin(&f, &step, 1);
        kb_code code = get_range(&f, 2, to, 4);
        if (code != table[i].code)
            fail_msg("case %zu: %s", i, kb_error_text(&f.err));
        assert_int_equal(f.response.status, table[i].status);
        if (code == KB_OK && table[i].status == 206)
            assert_string_equal(to, "cdef");
        end(&f);
    }
}

static void get_range_of_the_whole_may_be_answered_by_200(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {{.reply = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"}};
    fixture f;
    char to[5] = "";
    begin(&f, steps, 1);
    assert_int_equal(get_range(&f, 0, to, 4), KB_OK);
    assert_string_equal(to, "abcd");
    assert_int_equal(get_range(&f, 0, to, 5), KB_ERR_FORMAT);
    end(&f);
}

/* ---- headers ---- */

static void parse_content_range_is_strict(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is_fine;
        uint64_t first, last, total;
    } table[] = {
        {"bytes 0-0/1", true, 0, 0, 1},
        {"bytes 5-9/100", true, 5, 9, 100},
        {"bytes 5-9/*", true, 5, 9, UINT64_MAX},
        {"bytes 9-5/100", false, 0, 0, 0},
        {"bytes 5-100/100", false, 0, 0, 0},
        {"bytes */100", false, 0, 0, 0},
        {"bytes=5-9/100", false, 0, 0, 0},
        {"bytes 5-9/100 ", false, 0, 0, 0},
        {"bytes -9/100", false, 0, 0, 0},
        {"bytes 5-99999999999999999999/1", false, 0, 0, 0},
        {"", false, 0, 0, 0},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        uint64_t first = 0, last = 0, total = 0;
        assert_int_equal(kb_http_parse_content_range(table[i].text, &first, &last, &total), table[i].is_fine);
        assert_int_equal(first, table[i].first);
        assert_int_equal(last, table[i].last);
        assert_int_equal(total, table[i].total);
    }
}

static void parse_date_and_retry_after_read_their_forms(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "Sun, 06 Nov 1994 08:49:37",
                                      "Sun, 06 Foo 1994 08:49:37 GMT",
                                      "Sunday, 06-Nov-94 08:49:37 GMT",
                                      "Sun, 06 Nov 1994 08:49:37 PST",
                                      "Sun, 36 Nov 1994 08:49:37 GMT"};
    int64_t ms = 0;
    assert_true(kb_http_parse_date("Sun, 06 Nov 1994 08:49:37 GMT", &ms));
    assert_int_equal(ms, 784111777000);
    for (size_t i = 0; i < KB_ARRAY_LEN(bad); i++)
        assert_false(kb_http_parse_date(bad[i], &ms));
    assert_true(kb_http_parse_retry_after("120", 0, &ms));
    assert_int_equal(ms, 120000);
    assert_true(kb_http_parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784111770000, &ms));
    assert_int_equal(ms, 7000);
    assert_true(kb_http_parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784111790000, &ms));
    assert_int_equal(ms, 0);
    assert_false(kb_http_parse_retry_after("-1", 0, &ms));
    assert_false(kb_http_parse_retry_after("soon", 0, &ms));
    assert_false(kb_http_parse_retry_after("9223372036854775807", 0, &ms));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_after_transient_failures_succeeds),
        cmocka_unit_test(run_that_never_succeeds_gives_up),
        cmocka_unit_test(run_answers_of_other_kinds_are_not_repeated),
        cmocka_unit_test(run_with_expired_credentials_renews_once),
        cmocka_unit_test(run_with_a_skewed_clock_corrects_it),
        cmocka_unit_test(run_waits_at_least_as_long_as_told),
        cmocka_unit_test(run_behind_the_breaker_waits_and_counts_no_tries),
        cmocka_unit_test(run_that_is_stopped_ends_without_another_try),
        cmocka_unit_test(get_range_goes_on_where_it_broke),
        cmocka_unit_test(get_range_judges_answers),
        cmocka_unit_test(get_range_of_the_whole_may_be_answered_by_200),
        cmocka_unit_test(parse_content_range_is_strict),
        cmocka_unit_test(parse_date_and_retry_after_read_their_forms),
    };
    return cmocka_run_group_tests_name("http_retry", tests, NULL, NULL);
}

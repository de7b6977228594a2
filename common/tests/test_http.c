#include "common/net/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/strbuf.h"
#include "common/testing/http_script.h"

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Thing: a b \r\n\r\nhello"

typedef struct fixture {
    kb_http_script *script;
    kb_http *http;
    char *url;
    kb_http_response response;
    kb_error err;
} fixture;

static void begin(fixture *f, const kb_http_step *steps, size_t count)
{
    *f = (fixture){.script = kb_http_script_new(steps, count)};
    const kb_http_options options = {
        .allow_http = true, .direct = true, .first_byte_ms = 200, .stall_ms = 200, .connect_ms = 300};
    assert_int_equal(kb_http_new(&options, &f->http, &f->err), KB_OK);
    f->url = kb_asprintf("%s/a/../b%%20c?x=%%2F", kb_http_script_url(f->script));
}

static void end(fixture *f)
{
    kb_http_free(f->http);
    kb_http_script_free(f->script);
    kb_http_response_done(&f->response);
    kb_error_done(&f->err);
    free(f->url);
}

static kb_code get(fixture *f)
{
    const kb_http_request request = {.method = "GET", .url = f->url};
    return kb_http_exchange(f->http, &request, &f->response, &f->err);
}

static void exchange_of_a_get_returns_status_headers_and_body(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {{.reply = OK}};
    fixture f;
    begin(&f, steps, 1);
    assert_int_equal(get(&f), KB_OK);
    assert_int_equal(f.response.status, 200);
    assert_string_equal(f.response.body, "hello");
    assert_int_equal(f.response.received, 5);
    assert_string_equal(kb_http_response_header(&f.response, "x-thing"), "a b");
    assert_null(kb_http_response_header(&f.response, "x-thin"));
    assert_memory_equal(kb_http_script_request(f.script, 0), "GET /a/../b%20c?x=%2F HTTP/1.1\r\n", 32);
    end(&f);
}

static void exchange_keeps_the_connection_for_the_next(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {{.reply = OK}};
    fixture f;
    begin(&f, steps, 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(get(&f), KB_OK);
    assert_int_equal(kb_http_script_requests(f.script), 3);
    assert_int_equal(kb_http_script_connections(f.script), 1);
    end(&f);
}

static void exchange_sends_the_parts_of_a_body(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {{.reply = "HTTP/1.1 204 No Content\r\n\r\n"}};
    fixture f;
    begin(&f, steps, 1);
    const kb_view body[] = {kb_view_of("head", 4), kb_view_of(NULL, 0), kb_view_of("tail", 4)};
    KB_AUTO_HEADERS(headers);
    kb_http_headers_set(&headers, "X-A", "1");
    kb_http_headers_set(&headers, "x-a", "2");
    const kb_http_request request = {
        .method = "PUT", .url = f.url, .headers = &headers, .body = body, .body_count = 3};
    assert_int_equal(kb_http_exchange(f.http, &request, &f.response, &f.err), KB_OK);
    const char *seen = kb_http_script_request(f.script, 0);
    assert_non_null(strstr(seen, "\r\nContent-Length: 8\r\n"));
    assert_non_null(strstr(seen, "\r\nX-A: 2\r\n"));
    assert_null(strstr(seen, "Expect"));
    assert_non_null(strstr(seen, "\r\n\r\nheadtail"));
    const kb_http_request empty = {.method = "POST", .url = f.url};
    assert_int_equal(kb_http_exchange(f.http, &empty, &f.response, &f.err), KB_OK);
    assert_non_null(strstr(kb_http_script_request(f.script, 1), "\r\nContent-Length: 0\r\n"));
    end(&f);
}

static void exchange_on_a_dead_connection_takes_a_new_one(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {{.reply = OK, .close = true}, {.reply = OK}};
    fixture f;
    begin(&f, steps, 2);
    const kb_view body = kb_view_of("0123456789", 10);
    const kb_http_request request = {.method = "PUT", .url = f.url, .body = &body, .body_count = 1};
    for (int i = 0; i < 2; i++) {
        if (kb_http_exchange(f.http, &request, &f.response, &f.err) != KB_OK)
            fail_msg("%s", kb_error_text(&f.err));
    }
    assert_non_null(strstr(kb_http_script_request(f.script, 1), "0123456789"));
    end(&f);
}

static void exchange_that_breaks_names_the_stage(void **state)
{
    (void)state;
    static const struct {
        kb_http_step step;
        kb_http_failure failure;
        const char *says;
        int status;
        uint64_t received;
    } table[] = {
        {{.reply = NULL}, KB_HTTP_BROKEN, "", 0, 0},
        {{.reply = "HTTP/1.1 200 OK\r\n", .reset = true}, KB_HTTP_BROKEN, "", 200, 0},
        {{.reply = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", .close = true},
         KB_HTTP_BROKEN,
         "reading the answer",
         200,
         5},
        {{.reply = "SSH-2.0-x\r\n\r\n", .close = true}, KB_HTTP_BROKEN, "", 0, 0},
        {{.reply = "", .stall = true}, KB_HTTP_FIRST_BYTE, "first byte", 0, 0},
        {{.reply = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel", .stall = true},
         KB_HTTP_STALL,
         "reading the answer",
         200,
         3},
        {{.reply = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", .close = true},
         KB_HTTP_BROKEN,
         "",
         200,
         0},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        fixture f;
        begin(&f, &table[i].step, 1);
        assert_int_equal(get(&f), KB_TEMPORARY_FAILURE);
        assert_true(f.err.retryable);
        assert_int_equal(f.response.failure, table[i].failure);
        assert_int_equal(f.response.status, table[i].status);
        assert_int_equal(f.response.received, table[i].received);
        assert_true(f.response.sent);
        assert_non_null(strstr(kb_error_text(&f.err), table[i].says));
        assert_non_null(strstr(kb_error_text(&f.err), kb_http_script_url(f.script)));
        end(&f);
    }
}

static void exchange_with_nobody_there_was_not_sent(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {{.reply = OK}};
    fixture f;
    begin(&f, steps, 1);
    const kb_http_request request = {.method = "GET", .url = "http://127.0.0.1:1/"};
    assert_int_equal(kb_http_exchange(f.http, &request, &f.response, &f.err), KB_TEMPORARY_FAILURE);
    assert_int_equal(f.response.failure, KB_HTTP_CONNECT);
    assert_false(f.response.sent);
    assert_non_null(strstr(kb_error_text(&f.err), "connecting"));
    end(&f);
}

static void exchange_of_what_cannot_be_sent_is_refused(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {{.reply = OK}};
    static const char *const urls[] = {"ftp://127.0.0.1/", "http://u:p@127.0.0.1/", "no url",
                                       "file:///etc/passwd"};
    fixture f;
    begin(&f, steps, 1);
    for (size_t i = 0; i < KB_ARRAY_LEN(urls); i++) {
        const kb_http_request request = {.method = "GET", .url = urls[i]};
        assert_int_not_equal(kb_http_exchange(f.http, &request, &f.response, &f.err), KB_OK);
        assert_false(f.response.sent);
    }
    KB_AUTO_HEADERS(headers);
    kb_http_headers_set(&headers, "X-A", "1\r\nX-Evil: 2");
    const kb_http_request request = {.method = "GET", .url = f.url, .headers = &headers};
    assert_int_equal(kb_http_exchange(f.http, &request, &f.response, &f.err), KB_ERR_INTERNAL);
    assert_int_equal(kb_http_script_requests(f.script), 0);
    end(&f);
}

static void exchange_over_http_needs_permission(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {{.reply = OK}};
    fixture f;
    begin(&f, steps, 1);
    kb_http *strict = NULL;
    assert_int_equal(kb_http_new(&(kb_http_options){.direct = true}, &strict, &f.err), KB_OK);
    const kb_http_request request = {.method = "GET", .url = f.url};
    assert_int_equal(kb_http_exchange(strict, &request, &f.response, &f.err), KB_CONFIG_INVALID);
    assert_int_equal(kb_http_script_requests(f.script), 0);
    kb_http_free(strict);
    end(&f);
}

static void exchange_never_follows_a_redirect(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {{.reply = "HTTP/1.1 307 Temporary Redirect\r\nLocation: "
                                                   "http://169.254.169.254/\r\nContent-Length: 2\r\n\r\nno"}};
    fixture f;
    begin(&f, steps, 1);
    assert_int_equal(get(&f), KB_OK);
    assert_int_equal(f.response.status, 307);
    assert_string_equal(f.response.body, "no");
    assert_int_equal(kb_http_script_requests(f.script), 1);
    end(&f);
}

static void exchange_with_too_much_body_is_refused_but_not_of_an_error(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {{.reply = OK},
                                         {.reply = "HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\nhello"}};
    fixture f;
    begin(&f, steps, 2);
    const kb_http_request request = {.method = "GET", .url = f.url, .max_body_bytes = 4};
    assert_int_equal(kb_http_exchange(f.http, &request, &f.response, &f.err), KB_ERR_TOO_LARGE);
    assert_int_equal(kb_http_exchange(f.http, &request, &f.response, &f.err), KB_OK);
    assert_string_equal(f.response.body, "hello");
    end(&f);
}

static void exchange_with_too_many_headers_is_refused(void **state)
{
    (void)state;
    KB_AUTO_STRBUF(reply, 1 << 20);
    kb_strbuf_appends(&reply, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 3000; i++)
        kb_strbuf_appendf(&reply, "X-Header-%d: 0123456789012345678901234567890\r\n", i);
    kb_strbuf_appends(&reply, "Content-Length: 0\r\n\r\n");
    const kb_http_step step = {.reply = kb_strbuf_view(&reply)};
    fixture f;
    begin(&f, &step, 1);
    assert_int_equal(get(&f), KB_ERR_TOO_LARGE);
    end(&f);
}

/* ---- sinks ---- */

typedef struct sunk {
    kb_strbuf text;
    int starts;
    kb_code refuse_with;
} sunk;

static kb_code sink_start(void *ctx, const kb_http_response *response, kb_error *err)
{
    sunk *s = ctx;
    s->starts++;
    assert_string_equal(kb_http_response_header(response, "Content-Length"), "5");
    return s->refuse_with != KB_OK ? kb_fail(err, s->refuse_with, "no, thanks") : KB_OK;
}

static kb_code sink_data(void *ctx, const void *data, size_t len, kb_error *err)
{
    (void)err;
    kb_strbuf_append(&((sunk *)ctx)->text, data, len);
    return KB_OK;
}

static void exchange_gives_the_body_of_a_success_to_the_sink(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {
        {.reply = OK}, {.reply = "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno"}, {.reply = OK}};
    fixture f;
    begin(&f, steps, 3);
    sunk s = {.text = KB_STRBUF_INIT(100)};
    const kb_http_sink sink = {&s, sink_start, sink_data};
    const kb_http_request request = {.method = "GET", .url = f.url, .sink = &sink};
    assert_int_equal(kb_http_exchange(f.http, &request, &f.response, &f.err), KB_OK);
    assert_string_equal(kb_strbuf_view(&s.text), "hello");
    assert_string_equal(f.response.body, "");
    assert_int_equal(kb_http_exchange(f.http, &request, &f.response, &f.err), KB_OK);
    assert_string_equal(f.response.body, "no");
    assert_int_equal(s.starts, 1);
    s.refuse_with = KB_ERR_FORMAT;
    assert_int_equal(kb_http_exchange(f.http, &request, &f.response, &f.err), KB_ERR_FORMAT);
    assert_string_equal(kb_error_text(&f.err), "no, thanks");
    assert_string_equal(kb_strbuf_view(&s.text), "hello");
    kb_strbuf_done(&s.text);
    end(&f);
}

/* ---- stopping ---- */

static void *stop_soon(void *ctx)
{
    struct timespec wait = {.tv_nsec = 50 * 1000 * 1000};
    nanosleep(&wait, NULL);
    kb_stop_set(ctx, 0);
    return NULL;
}

static void exchange_ends_when_it_is_stopped(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {{.reply = "", .stall = true}};
    fixture f;
    begin(&f, steps, 1);
    kb_stop *stop = NULL;
    assert_int_equal(kb_stop_new(&stop, &f.err), KB_OK);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stop_soon, stop), 0);
    const kb_http_request request = {
        .method = "GET", .url = f.url, .first_byte_ms = -1, .stall_ms = -1, .stop = stop};
    int64_t began = kb_clock_boot_ms();
    assert_int_equal(kb_http_exchange(f.http, &request, &f.response, &f.err), KB_ERR_STOPPED);
    assert_int_equal(f.response.failure, KB_HTTP_STOPPED);
    assert_in_range(kb_clock_boot_ms() - began, 30, 5000);
    pthread_join(thread, NULL);
    kb_stop_free(stop);
    end(&f);
}

static void exchange_in_its_grace_still_succeeds(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {{.reply = OK, .delay_ms = 100}, {.reply = "", .stall = true}};
    fixture f;
    begin(&f, steps, 2);
    kb_stop *stop = NULL;
    assert_int_equal(kb_stop_new(&stop, &f.err), KB_OK);
    kb_stop_set(stop, 0);
    const kb_http_request request = {
        .method = "GET", .url = f.url, .first_byte_ms = -1, .stop = stop, .stop_grace_ms = 400};
    assert_int_equal(kb_http_exchange(f.http, &request, &f.response, &f.err), KB_OK);
    assert_int_equal(kb_http_exchange(f.http, &request, &f.response, &f.err), KB_ERR_STOPPED);
    kb_stop_free(stop);
    end(&f);
}

/* ---- many threads ---- */

static void *get_many(void *ctx)
{
    fixture *f = ctx;
    for (int i = 0; i < 10; i++) {
        KB_AUTO_RESPONSE(response);
        KB_AUTO_ERROR(err);
        const kb_http_request request = {.method = "GET", .url = f->url};
        if (kb_http_exchange(f->http, &request, &response, &err) != KB_OK ||
            strcmp(response.body, "hello") != 0)
            return ctx;
    }
    return NULL;
}

static void exchange_by_more_threads_than_connections_takes_turns(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {{.reply = OK}};
    fixture f;
    begin(&f, steps, 1);
    kb_http_free(f.http);
    const kb_http_options options = {.allow_http = true, .direct = true, .max_connections = 2};
    assert_int_equal(kb_http_new(&options, &f.http, &f.err), KB_OK);
    pthread_t threads[6];
    for (size_t i = 0; i < KB_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, get_many, &f), 0);
    for (size_t i = 0; i < KB_ARRAY_LEN(threads); i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(kb_http_script_requests(f.script), 60);
    assert_in_range(kb_http_script_connections(f.script), 1, 2);
    end(&f);
}

static void new_with_a_missing_file_names_it(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_http *http = NULL;
    const kb_http_options options = {.ca_file = "/nonexistent/ca.pem"};
    assert_int_equal(kb_http_new(&options, &http, &err), KB_CONFIG_INVALID);
    assert_non_null(strstr(kb_error_text(&err), "/nonexistent/ca.pem"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchange_of_a_get_returns_status_headers_and_body),
        cmocka_unit_test(exchange_keeps_the_connection_for_the_next),
        cmocka_unit_test(exchange_sends_the_parts_of_a_body),
        cmocka_unit_test(exchange_on_a_dead_connection_takes_a_new_one),
        cmocka_unit_test(exchange_that_breaks_names_the_stage),
        cmocka_unit_test(exchange_with_nobody_there_was_not_sent),
        cmocka_unit_test(exchange_of_what_cannot_be_sent_is_refused),
        cmocka_unit_test(exchange_over_http_needs_permission),
        cmocka_unit_test(exchange_never_follows_a_redirect),
        cmocka_unit_test(exchange_with_too_much_body_is_refused_but_not_of_an_error),
        cmocka_unit_test(exchange_with_too_many_headers_is_refused),
        cmocka_unit_test(exchange_gives_the_body_of_a_success_to_the_sink),
        cmocka_unit_test(exchange_ends_when_it_is_stopped),
        cmocka_unit_test(exchange_in_its_grace_still_succeeds),
        cmocka_unit_test(exchange_by_more_threads_than_connections_takes_turns),
        cmocka_unit_test(new_with_a_missing_file_names_it),
    };
    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}

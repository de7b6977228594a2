#include "common/obs/httpd.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/file.h"
#include "common/base/mem.h"

#define KB_REPLY_MAX (1u << 20)

typedef struct fixture {
    kb_metrics *metrics;
    kb_metric *counter;
    kb_httpd *httpd;
} fixture;

static int answer_progress(void *ctx, kb_strbuf *body)
{
    fixture *f = ctx;
    kb_strbuf_appendf(body, "{\"records\":%llu}", (unsigned long long)kb_metric_count(f->counter));
    return 200;
}

static int answer_not_ready(void *ctx, kb_strbuf *body)
{
    (void)ctx;
    kb_strbuf_appends(body, "informer topics not synced\n");
    return 500;
}

static int setup(void **state)
{
    fixture *f = kb_calloc(1, sizeof *f);
    f->metrics = kb_metrics_new();
    kb_metric_family *family =
        kb_metrics_family(f->metrics, &(kb_metric_desc){.name = "kb_x_total", .help = "X.", .labels = {"t"}});
    f->counter = kb_metric_series(family, (const char *[]){"a\"b"});
    KB_AUTO_ERROR(err);
    const kb_httpd_options options = {.bind_address = "127.0.0.1",
                                      .metrics_path = "/custom/metrics",
                                      .metrics = f->metrics,
                                      .readyz = answer_not_ready,
                                      .progress = answer_progress,
                                      .ctx = f};
    assert_int_equal(kb_httpd_start(&options, &f->httpd, &err), KB_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    kb_httpd_stop(f->httpd);
    kb_metrics_free(f->metrics);
    free(f);
    return 0;
}

/* Sends `request` as it is and returns all that comes back until the server closes. */
static char *talk(int family, uint16_t port, const char *request)
{
    KB_AUTO_FD int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int rc = family == AF_INET ? connect(fd, (struct sockaddr *)&v4, sizeof v4)
                               : connect(fd, (struct sockaddr *)&v6, sizeof v6);
    assert_int_equal(rc, 0);
    /* A refused request may be cut off by the server before its end. */
    assert_true(send(fd, request, strlen(request), MSG_NOSIGNAL) != 0);
    KB_AUTO_STRBUF(reply, KB_REPLY_MAX);
    char chunk[4096];
    ssize_t n;
    while ((n = read(fd, chunk, sizeof chunk)) > 0)
        kb_strbuf_append(&reply, chunk, (size_t)n);
    return kb_strbuf_take(&reply);
}

static char *request_text(const char *method, const char *path)
{
    return kb_asprintf("%s %s HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n", method, path);
}

static void request_each_path_and_method_gets_its_answer(void **state)
{
    static const struct {
        const char *method;
        const char *path;
        const char *status;
        const char *header;
        const char *body;
    } CASES[] = {
        {"GET", "/custom/metrics", "HTTP/1.1 200 ", "Content-Type: text/plain; version=0.0.4; charset=utf-8",
         "# HELP kb_x_total X.\n# TYPE kb_x_total counter\nkb_x_total{t=\"a\\\"b\"} 7\n"},
        {"GET", "/custom/metrics?name[]=x", "HTTP/1.1 200 ", "Content-Type: text/plain", NULL},
        {"HEAD", "/custom/metrics", "HTTP/1.1 200 ", "Content-Length: 70\r\n", ""},
        {"GET", "/healthz", "HTTP/1.1 200 ", "Content-Type: text/plain", "ok\n"},
        {"GET", "/readyz", "HTTP/1.1 500 ", "Content-Type: text/plain", "informer topics not synced\n"},
        {"GET", "/progress", "HTTP/1.1 200 ", "Content-Type: application/json", "{\"records\":7}"},
        {"GET", "/metrics", "HTTP/1.1 404 ", "Content-Length: 10\r\n", "not found\n"},
        {"GET", "/", "HTTP/1.1 404 ", "Content-Type: text/plain", "not found\n"},
        {"GET", "/../etc/passwd", "HTTP/1.1 404 ", "Content-Type: text/plain", "not found\n"},
        {"POST", "/progress", "HTTP/1.1 405 ", "Allow: GET, HEAD\r\n", "only GET and HEAD\n"},
        {"DELETE", "/custom/metrics", "HTTP/1.1 405 ", "Allow: GET, HEAD\r\n", "only GET and HEAD\n"},
    };
    fixture *f = *state;
    kb_metric_add(f->counter, 7);
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        KB_AUTOFREE char *request = request_text(CASES[i].method, CASES[i].path);
        KB_AUTOFREE char *reply = talk(AF_INET, kb_httpd_port(f->httpd), request);
        assert_memory_equal(reply, CASES[i].status, strlen(CASES[i].status));
        assert_non_null(strstr(reply, CASES[i].header));
        const char *body = strstr(reply, "\r\n\r\n");
        assert_non_null(body);
        if (CASES[i].body != NULL)
            assert_string_equal(body + 4, CASES[i].body);
    }
}

static void request_malformed_leaves_the_server_serving(void **state)
{
    fixture *f = *state;
    KB_AUTO_STRBUF(huge, 1 << 20);
    kb_strbuf_appends(&huge, "GET /");
    for (int i = 0; i < 40000; i++)
        kb_strbuf_appendc(&huge, 'a');
    kb_strbuf_appends(&huge, " HTTP/1.1\r\nHost: x\r\n\r\n");
    static const char *const REQUESTS[] = {"\x16\x03\x01\r\n\r\n", "GET\r\n\r\n", "GET / SMTP/9\r\n\r\n"};
    for (size_t i = 0; i < KB_ARRAY_LEN(REQUESTS); i++) {
        KB_AUTOFREE char *reply = talk(AF_INET, kb_httpd_port(f->httpd), REQUESTS[i]);
        assert_null(strstr(reply, " 200 "));
    }
    KB_AUTOFREE char *refused = talk(AF_INET, kb_httpd_port(f->httpd), kb_strbuf_view(&huge));
    assert_null(strstr(refused, " 200 "));
    KB_AUTOFREE char *request = request_text("GET", "/healthz");
    KB_AUTOFREE char *reply = talk(AF_INET, kb_httpd_port(f->httpd), request);
    assert_non_null(strstr(reply, "HTTP/1.1 200 "));
}

static int answer_too_much(void *ctx, kb_strbuf *body)
{
    (void)ctx;
    body->max_bytes = 4;
    kb_strbuf_appends(body, "more than four");
    return 200;
}

static void request_body_beyond_the_limit_is_500(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_httpd *httpd = NULL;
    const kb_httpd_options options = {.bind_address = "127.0.0.1", .healthz = answer_too_much};
    assert_int_equal(kb_httpd_start(&options, &httpd, &err), KB_OK);
    KB_AUTOFREE char *request = request_text("GET", "/healthz");
    KB_AUTOFREE char *reply = talk(AF_INET, kb_httpd_port(httpd), request);
    assert_non_null(strstr(reply, "HTTP/1.1 500 "));
    KB_AUTOFREE char *other = request_text("GET", "/metrics");
    KB_AUTOFREE char *absent = talk(AF_INET, kb_httpd_port(httpd), other);
    assert_non_null(strstr(absent, "HTTP/1.1 404 "));
    kb_httpd_stop(httpd);
}

static bool has_ipv6(void)
{
    KB_AUTO_FD int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    return fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof any) == 0;
}

static void start_ipv6_addresses_serve(void **state)
{
    static const struct {
        const char *address;
        bool also_v4;
    } CASES[] = {{"::1", false}, {"[::1]", false}, {"::", true}};
    (void)state;
    if (!has_ipv6())
        skip();
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        KB_AUTO_ERROR(err);
        kb_httpd *httpd = NULL;
        const kb_httpd_options options = {.bind_address = CASES[i].address};
        assert_int_equal(kb_httpd_start(&options, &httpd, &err), KB_OK);
        KB_AUTOFREE char *request = request_text("GET", "/healthz");
        KB_AUTOFREE char *reply = talk(AF_INET6, kb_httpd_port(httpd), request);
        assert_non_null(strstr(reply, "HTTP/1.1 200 "));
        if (CASES[i].also_v4) {
            KB_AUTOFREE char *other = talk(AF_INET, kb_httpd_port(httpd), request);
            assert_non_null(strstr(other, "HTTP/1.1 200 "));
        }
        kb_httpd_stop(httpd);
    }
}

static void start_unusable_address_names_it(void **state)
{
    fixture *f = *state;
    const uint16_t taken = kb_httpd_port(f->httpd);
    const struct {
        const char *address;
        uint16_t port;
        const char *path;
        const char *text;
    } cases[] = {
        {"127.0.0.1", taken, "/metrics", "Address already in use"},
        {"192.0.2.1", 0, "/metrics", "192.0.2.1"}, /* a documentation address, never ours */
        {"not-an-address", 8080, "/metrics", "cannot listen on not-an-address port 8080"},
        {"", 8080, "/metrics", "not an IPv4 or IPv6 address"},
        {"[", 8080, "/metrics", "not an IPv4 or IPv6 address"},
        {"127.0.0.1", 0, "metrics", "metrics.path 'metrics'"},
        {"127.0.0.1", 0, "/", "metrics.path '/'"},
        {"127.0.0.1", 0, "/healthz", "metrics.path '/healthz'"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        kb_httpd *httpd = NULL;
        const kb_httpd_options options = {.bind_address = cases[i].address,
                                          .port = cases[i].port,
                                          .metrics_path = cases[i].path,
                                          .metrics = f->metrics};
        assert_int_equal(kb_httpd_start(&options, &httpd, &err), KB_CONFIG_INVALID);
        assert_non_null(strstr(kb_error_text(&err), cases[i].text));
        assert_null(httpd);
    }
}

static void stop_frees_the_port_at_once(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_httpd *httpd = NULL;
    kb_httpd_options options = {.bind_address = "127.0.0.1"};
    assert_int_equal(kb_httpd_start(&options, &httpd, &err), KB_OK);
    KB_AUTOFREE char *request = request_text("GET", "/healthz");
    KB_AUTOFREE char *reply = talk(AF_INET, kb_httpd_port(httpd), request);
    assert_non_null(strstr(reply, " 200 "));
    options.port = kb_httpd_port(httpd);
    kb_httpd_stop(httpd);
    assert_int_equal(kb_httpd_start(&options, &httpd, &err), KB_OK);
    kb_httpd_stop(httpd);
    kb_httpd_stop(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(request_each_path_and_method_gets_its_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(request_malformed_leaves_the_server_serving, setup, teardown),
        cmocka_unit_test(request_body_beyond_the_limit_is_500),
        cmocka_unit_test(start_ipv6_addresses_serve),
        cmocka_unit_test_setup_teardown(start_unusable_address_names_it, setup, teardown),
        cmocka_unit_test(stop_frees_the_port_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

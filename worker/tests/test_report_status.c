#include "worker/report/report_status.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"

/* An API server of one object: a status line and body for GET, one for PATCH; what was sent is kept. */
typedef struct server {
    int listener;
    char *url;
    const char *get_answer, *patch_answer;
    atomic_int gets, patches;
    atomic_bool is_stopping;
    char last_patch[16384];
    pthread_mutex_t mutex;
    pthread_t thread;
} server;

#define OK_ANSWER "200 OK|{\"metadata\":{\"uid\":\"uid-1\"}}"

static size_t read_request(int fd, char *to, size_t size)
{
    size_t len = 0;
    while (len + 1 < size) {
        ssize_t got = read(fd, to + len, size - len - 1);
        if (got <= 0)
            break;
        len += (size_t)got;
        to[len] = '\0';
        const char *end = strstr(to, "\r\n\r\n");
        const char *length = strcasestr(to, "content-length:");
        size_t body = length != NULL ? strtoul(length + 15, NULL, 10) : 0;
        if (end != NULL && len >= (size_t)(end + 4 - to) + body)
            break;
    }
    return len;
}

static void answer(server *s, int fd)
{
    char request[16384] = "";
    if (read_request(fd, request, sizeof request) == 0)
        return;
    bool is_patch = strncmp(request, "PATCH ", 6) == 0;
    const char *text = is_patch ? s->patch_answer : s->get_answer;
    const char *body = strchr(text, '|') + 1;
    KB_AUTOFREE char *reply =
        kb_asprintf("HTTP/1.1 %.*s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                    "Connection: close\r\n\r\n%s",
                    (int)(body - 1 - text), text, strlen(body), body);
    pthread_mutex_lock(&s->mutex);
    if (is_patch)
        memcpy(s->last_patch, request, sizeof request);
    pthread_mutex_unlock(&s->mutex);
    if (write(fd, reply, strlen(reply)) < 0)
        return;
    atomic_fetch_add(is_patch ? &s->patches : &s->gets, 1);
}

static void *serve(void *arg)
{
    server *s = arg;
    while (!atomic_load(&s->is_stopping)) {
        int fd = accept(s->listener, NULL, NULL);
        if (fd < 0)
            break;
        answer(s, fd);
        close(fd);
    }
    return NULL;
}

static void server_start(server *s, const char *get_answer, const char *patch_answer)
{
    *s = (server){.get_answer = get_answer, .patch_answer = patch_answer};
    pthread_mutex_init(&s->mutex, NULL);
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    assert_int_equal(bind(s->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(s->listener, 8), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&address, &len), 0);
    s->url = kb_asprintf("http://127.0.0.1:%d", ntohs(address.sin_port));
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_stop(server *s)
{
    atomic_store(&s->is_stopping, true);
    shutdown(s->listener, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listener);
    free(s->url);
    pthread_mutex_destroy(&s->mutex);
}

static kb_report_status *start(const server *s, const char *name, kb_code expected)
{
    KB_AUTO_ERROR(err);
    kb_kube_access *access = NULL;
    const kb_kube_access_options login = {.server = s->url, .token = {.data = "t0ken"}};
    assert_int_equal(kb_kube_access_new(&login, &access, &err), KB_OK);
    const kb_report_status_options options = {
        .owned_access = access,
        .kind = "KafkaBackup",
        .plural = "kafkabackups",
        .name_space = "ns",
        .name = name,
        .uid = "uid-1",
        .changed_ms = 20,
        .last_ms = 30,
    };
    kb_report_status *status = NULL;
    assert_int_equal(kb_report_status_start(&options, &status, &err), expected);
    return status;
}

static void wait_for(atomic_int *count, int expected)
{
    for (int i = 0; i < 1000 && atomic_load(count) < expected; i++)
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    assert_true(atomic_load(count) >= expected);
}

static void kb_report_status_stop_applies_the_last_report(void **state)
{
    (void)state;
    server s;
    server_start(&s, OK_ANSWER, "200 OK|{}");
    kb_report_status *status = start(&s, "nightly", KB_OK);
    kb_report_status_offer(status, "{\"state\":\"Running\"}", 19);
    wait_for(&s.patches, 1);
    assert_non_null(strstr(s.last_patch, "{\"state\":\"Running\"}"));
    kb_report_status_offer(status, "{\"state\":\"Succeeded\"}", 21);
    kb_report_status_stop(status);
    assert_non_null(strstr(s.last_patch,
                           "PATCH /apis/kafka.oso.sh/v1alpha1/namespaces/ns/kafkabackups/nightly/status"
                           "?fieldManager=kafka-backup-worker&force=true HTTP/1.1\r\n"));
    assert_non_null(strcasestr(s.last_patch, "Content-Type: application/apply-patch+yaml\r\n"));
    assert_non_null(strcasestr(s.last_patch, "Authorization: Bearer t0ken\r\n"));
    assert_non_null(strstr(s.last_patch,
                           "\r\n\r\n{\"apiVersion\":\"kafka.oso.sh/v1alpha1\",\"kind\":\"KafkaBackup\","
                           "\"metadata\":{\"name\":\"nightly\",\"namespace\":\"ns\"},"
                           "\"status\":{\"run\":{\"state\":\"Succeeded\"}}}"));
    server_stop(&s);
}

static void kb_report_status_offer_unchanged_report_is_written_once(void **state)
{
    (void)state;
    server s;
    server_start(&s, OK_ANSWER, "200 OK|{}");
    kb_report_status *status = start(&s, "nightly", KB_OK);
    kb_report_status_offer(status, "{}", 2);
    wait_for(&s.patches, 1);
    kb_report_status_offer(status, "{}", 2);
    kb_report_status_stop(status);
    assert_int_equal(atomic_load(&s.patches), 1);
    server_stop(&s);
}

/* Answers, and how many GETs and PATCHes they may lead to. */
static void kb_report_status_offer_refusals_end_or_repeat(void **state)
{
    (void)state;
    static const struct {
        const char *get, *patch;
        int gets, patches;
    } rows[] = {
        {"200 OK|{\"metadata\":{\"uid\":\"uid-2\"}}", "200 OK|{}", 1, 0},
        {"404 Not Found|{}", "200 OK|{}", 1, 0},
        {OK_ANSWER, "422 Unprocessable Entity|{\"message\":\"no\"}", 1, 1},
        {OK_ANSWER, "400 Bad Request|{}", 1, 1},
        {OK_ANSWER, "500 Internal Server Error|{\"message\":\".status.run.x: field not declared in schema\"}",
         1, 1},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        server s;
        server_start(&s, rows[i].get, rows[i].patch);
        kb_report_status *status = start(&s, "nightly", KB_OK);
        kb_report_status_offer(status, "{}", 2);
        wait_for(&s.gets, 1);
        if (rows[i].patches > 0)
            wait_for(&s.patches, 1);
        kb_report_status_offer(status, "{\"a\":1}", 7);
        kb_report_status_stop(status);
        assert_int_equal(atomic_load(&s.gets), rows[i].gets);
        assert_int_equal(atomic_load(&s.patches), rows[i].patches);
        server_stop(&s);
    }
}

static void kb_report_status_stop_server_fault_is_tried_three_times(void **state)
{
    (void)state;
    server s;
    server_start(&s, OK_ANSWER, "503 Service Unavailable|{}");
    kb_report_status *status = start(&s, "nightly", KB_OK);
    kb_report_status_offer(status, "{}", 2);
    wait_for(&s.patches, 1);
    int before = atomic_load(&s.patches);
    kb_report_status_stop(status);
    int last = atomic_load(&s.patches) - before;
    assert_true(last >= 3);
    server_stop(&s);
}

static void kb_report_status_start_wrong_name_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"", "../x", "a/b", "A", "a?b"};
    server s;
    server_start(&s, OK_ANSWER, "200 OK|{}");
    for (size_t i = 0; i < KB_ARRAY_LEN(names); i++)
        assert_null(start(&s, names[i], KB_CONFIG_INVALID));
    kb_report_status_offer(NULL, "{}", 2);
    kb_report_status_stop(NULL);
    server_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_report_status_stop_applies_the_last_report),
        cmocka_unit_test(kb_report_status_offer_unchanged_report_is_written_once),
        cmocka_unit_test(kb_report_status_offer_refusals_end_or_repeat),
        cmocka_unit_test(kb_report_status_stop_server_fault_is_tried_three_times),
        cmocka_unit_test(kb_report_status_start_wrong_name_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

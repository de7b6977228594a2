#include "common/testing/http_script.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"

#define MAX_CONNECTIONS 128
#define MAX_REQUESTS 256
#define MAX_REQUEST_BYTES (4UL * 1024 * 1024)

struct kb_http_script {
    const kb_http_step *steps;
    size_t count;
    int listener;
    char *url;
    pthread_t acceptor;
    atomic_bool over;
    pthread_mutex_t mutex;
    struct {
        pthread_t threads[MAX_CONNECTIONS];
        int fds[MAX_CONNECTIONS];
        unsigned connections, requests;
        char *seen[MAX_REQUESTS];
    } locked;
};

typedef struct connection {
    kb_http_script *script;
    int fd;
} connection;

static void must(bool is_fine, const char *what)
{
    if (!is_fine) {
        perror(what);
        abort();
    }
}

static void pause_ms(int64_t ms)
{
    poll(NULL, 0, (int)ms);
}

static void send_text(int fd, const char *text)
{
    size_t len = strlen(text);
    while (len > 0) {
        ssize_t sent = send(fd, text, len, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        text += sent;
        len -= (size_t)sent;
    }
}

/* Bytes of the body that the head announces. */
static size_t body_bytes(const char *head)
{
    const char *at = strcasestr(head, "\r\nContent-Length:");
    return at != NULL ? strtoul(at + 17, NULL, 10) : 0;
}

/* One whole request; false when the client has gone. */
static bool read_request(int fd, kb_strbuf *to)
{
    char chunk[65536];
    for (;;) {
        const char *end = to->len > 0 ? strstr(to->data, "\r\n\r\n") : NULL;
        if (end != NULL && to->len >= (size_t)(end + 4 - to->data) + body_bytes(to->data))
            return true;
        ssize_t got = recv(fd, chunk, sizeof chunk, 0);
        if (got <= 0)
            return false;
        kb_strbuf_append(to, chunk, (size_t)got);
    }
}

static const kb_http_step *next_step(kb_http_script *script, kb_strbuf *request)
{
    pthread_mutex_lock(&script->mutex);
    unsigned n = script->locked.requests++;
    if (n < MAX_REQUESTS)
        script->locked.seen[n] = kb_strbuf_take(request);
    pthread_mutex_unlock(&script->mutex);
    return &script->steps[n < script->count ? n : script->count - 1];
}

static bool play(kb_http_script *script, int fd, const kb_http_step *step)
{
    if (step->delay_ms > 0)
        pause_ms(step->delay_ms);
    if (step->reply != NULL)
        send_text(fd, step->reply);
    if (step->reply2 != NULL) {
        pause_ms(50);
        send_text(fd, step->reply2);
    }
    while (step->stall && !atomic_load(&script->over))
        pause_ms(10);
    if (step->reset) {
        const struct linger linger = {.l_onoff = 1};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    return step->reply != NULL && !step->close && !step->reset && !step->stall;
}

static void *serve(void *ctx)
{
    connection c = *(connection *)ctx;
    free(ctx);
    bool again = true;
    while (again) {
        KB_AUTO_STRBUF(request, MAX_REQUEST_BYTES);
        again = read_request(c.fd, &request);
        if (again)
            again = play(c.script, c.fd, next_step(c.script, &request));
    }
    pthread_mutex_lock(&c.script->mutex);
    for (unsigned i = 0; i < c.script->locked.connections; i++) {
        if (c.script->locked.fds[i] == c.fd)
            c.script->locked.fds[i] = -1;
    }
    close(c.fd);
    pthread_mutex_unlock(&c.script->mutex);
    return NULL;
}

static void *accept_all(void *ctx)
{
    kb_http_script *script = ctx;
    for (;;) {
        int fd = accept4(script->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL;
        pthread_mutex_lock(&script->mutex);
        unsigned n = script->locked.connections;
        if (n < MAX_CONNECTIONS) {
            connection *c = kb_malloc(sizeof *c);
            *c = (connection){script, fd};
            script->locked.fds[n] = fd;
            must(pthread_create(&script->locked.threads[n], NULL, serve, c) == 0, "pthread_create");
            script->locked.connections++;
        } else {
            close(fd);
        }
        pthread_mutex_unlock(&script->mutex);
    }
}

kb_http_script *kb_http_script_new(const kb_http_step *steps, size_t count)
{
    kb_http_script *script = kb_calloc(1, sizeof *script);
    script->steps = steps;
    script->count = count;
    script->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    must(bind(script->listener, (struct sockaddr *)&address, len) == 0, "bind");
    must(listen(script->listener, 64) == 0, "listen");
    must(getsockname(script->listener, (struct sockaddr *)&address, &len) == 0, "getsockname");
    script->url = kb_asprintf("http://127.0.0.1:%d", ntohs(address.sin_port));
    pthread_mutex_init(&script->mutex, NULL);
    must(pthread_create(&script->acceptor, NULL, accept_all, script) == 0, "pthread_create");
    return script;
}

void kb_http_script_free(kb_http_script *owned_script)
{
    atomic_store(&owned_script->over, true);
    shutdown(owned_script->listener, SHUT_RDWR);
    close(owned_script->listener);
    pthread_join(owned_script->acceptor, NULL);
    pthread_mutex_lock(&owned_script->mutex);
    unsigned count = owned_script->locked.connections;
    for (unsigned i = 0; i < count; i++) {
        if (owned_script->locked.fds[i] >= 0)
            shutdown(owned_script->locked.fds[i], SHUT_RDWR);
    }
    pthread_mutex_unlock(&owned_script->mutex);
    for (unsigned i = 0; i < count; i++)
        pthread_join(owned_script->locked.threads[i], NULL);
    for (unsigned i = 0; i < MAX_REQUESTS; i++)
        free(owned_script->locked.seen[i]);
    pthread_mutex_destroy(&owned_script->mutex);
    free(owned_script->url);
    free(owned_script);
}

const char *kb_http_script_url(const kb_http_script *script)
{
    return script->url;
}

unsigned kb_http_script_requests(kb_http_script *script)
{
    pthread_mutex_lock(&script->mutex);
    unsigned count = script->locked.requests;
    pthread_mutex_unlock(&script->mutex);
    return count;
}

unsigned kb_http_script_connections(kb_http_script *script)
{
    pthread_mutex_lock(&script->mutex);
    unsigned count = script->locked.connections;
    pthread_mutex_unlock(&script->mutex);
    return count;
}

const char *kb_http_script_request(kb_http_script *script, unsigned n)
{
    pthread_mutex_lock(&script->mutex);
    const char *text = n < MAX_REQUESTS && script->locked.seen[n] != NULL ? script->locked.seen[n] : "";
    pthread_mutex_unlock(&script->mutex);
    return text;
}

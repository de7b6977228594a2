#include "common/obs/httpd.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"

#define KB_HTTPD_CONNECTIONS_MAX 32u
#define KB_HTTPD_IDLE_SECS 10u
/* Request line and headers of one connection. */
#define KB_HTTPD_REQUEST_BYTES ((size_t)16 << 10)
#define KB_HTTPD_BACKLOG 16

#define KB_TYPE_TEXT "text/plain; charset=utf-8"
#define KB_TYPE_JSON "application/json"

struct kb_httpd {
    struct MHD_Daemon *daemon;
    kb_metrics *metrics;
    kb_httpd_fn healthz;
    kb_httpd_fn readyz;
    kb_httpd_fn progress;
    void *ctx;
    char *metrics_path;
    uint16_t port;
};

typedef struct kb_reply {
    int status;
    const char *type;
} kb_reply;

static kb_reply reply_fixed(kb_strbuf *body, int status, const char *text)
{
    kb_strbuf_appends(body, text);
    return (kb_reply){status, KB_TYPE_TEXT};
}

static kb_reply reply_for(kb_httpd *httpd, const char *path, kb_strbuf *body)
{
    if (httpd->metrics != NULL && strcmp(path, httpd->metrics_path) == 0) {
        kb_metrics_render(httpd->metrics, body);
        return (kb_reply){MHD_HTTP_OK, KB_METRICS_CONTENT_TYPE};
    }
    if (strcmp(path, "/healthz") == 0) {
        if (httpd->healthz == NULL)
            return reply_fixed(body, MHD_HTTP_OK, "ok\n");
        return (kb_reply){httpd->healthz(httpd->ctx, body), KB_TYPE_TEXT};
    }
    if (httpd->readyz != NULL && strcmp(path, "/readyz") == 0)
        return (kb_reply){httpd->readyz(httpd->ctx, body), KB_TYPE_TEXT};
    if (httpd->progress != NULL && strcmp(path, "/progress") == 0)
        return (kb_reply){httpd->progress(httpd->ctx, body), KB_TYPE_JSON};
    return reply_fixed(body, MHD_HTTP_NOT_FOUND, "not found\n");
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload_data,
                                  size_t *upload_data_size, void **con_cls)
{
    (void)version;
    (void)upload_data;
    (void)upload_data_size;
    (void)con_cls;
    kb_httpd *httpd = cls;
    KB_AUTO_STRBUF(body, KB_HTTPD_BODY_MAX);
    bool allowed = strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    kb_reply reply = allowed ? reply_for(httpd, url, &body)
                             : reply_fixed(&body, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    if (body.failed) {
        kb_strbuf_clear(&body);
        reply = reply_fixed(&body, MHD_HTTP_INTERNAL_SERVER_ERROR, "the answer is too large\n");
    }
    size_t len = body.len;
    char *text = kb_strbuf_take(&body);
    struct MHD_Response *response = MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        free(text);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply.type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (!allowed)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result result = MHD_queue_response(connection, (unsigned)reply.status, response);
    MHD_destroy_response(response);
    return result;
}

static kb_code address_fail(kb_error *err, const char *address, uint16_t port, const char *why)
{
    return kb_fail(
        err, KB_CONFIG_INVALID,
        "metrics: cannot listen on %s port %u: %s; hint: set metrics.bind_address and metrics.port "
        "to an address of this host and a free port",
        address, (unsigned)port, why);
}

/* "[::1]" and "::1" are both used for IPv6 in configurations. */
static char *strip_brackets(const char *address)
{
    size_t len = strlen(address);
    if (len >= 2 && address[0] == '[' && address[len - 1] == ']')
        return kb_strndup(address + 1, len - 2);
    return kb_strdup(address);
}

static kb_code listen_on(const char *address, uint16_t port, int *ret_fd, uint16_t *ret_port, kb_error *err)
{
    KB_AUTOFREE char *host = strip_brackets(address);
    KB_AUTOFREE char *service = kb_asprintf("%u", (unsigned)port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *found = NULL;
    int rc = host[0] == '\0' ? EAI_NONAME : getaddrinfo(host, service, &hints, &found);
    if (rc != 0)
        return address_fail(err, address, port, "this is not an IPv4 or IPv6 address");
    KB_AUTO_FD int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    int off = 0;
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0;
    /* "::" also takes IPv4, whatever the host's default is. */
    if (ok && found->ai_family == AF_INET6)
        ok = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0;
    ok = ok && bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, KB_HTTPD_BACKLOG) == 0;
    int failure = errno;
    freeaddrinfo(found);
    struct sockaddr_storage bound = {0};
    socklen_t bound_len = sizeof bound;
    if (!ok || getsockname(fd, (struct sockaddr *)&bound, &bound_len) != 0)
        return address_fail(err, address, port, kb_errno_text(ok ? errno : failure));
    /* The port lies at the same place for both families. */
    const struct sockaddr_in *inet = (const struct sockaddr_in *)&bound;
    *ret_port = ntohs(inet->sin_port);
    *ret_fd = fd;
    fd = -1;
    return KB_OK;
}

static kb_code check_path(const char *path, kb_error *err)
{
    if (path[0] != '/' || path[1] == '\0' || strpbrk(path, "?#% ") != NULL)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "metrics.path '%s' is not a path; hint: it begins with '/', as /metrics does", path);
    static const char *const TAKEN[] = {"/healthz", "/readyz", "/progress"};
    for (size_t i = 0; i < KB_ARRAY_LEN(TAKEN); i++)
        if (strcmp(path, TAKEN[i]) == 0)
            return kb_fail(err, KB_CONFIG_INVALID, "metrics.path '%s' is already used for something else",
                           path);
    return KB_OK;
}

static void httpd_free(kb_httpd *httpd)
{
    if (httpd == NULL)
        return;
    if (httpd->daemon != NULL)
        MHD_stop_daemon(httpd->daemon);
    free(httpd->metrics_path);
    free(httpd);
}

static void httpd_free_at(kb_httpd **at)
{
    httpd_free(*at);
}

kb_code kb_httpd_start(const kb_httpd_options *options, kb_httpd **ret_httpd, kb_error *err)
{
    const char *path = options->metrics_path != NULL ? options->metrics_path : "/metrics";
    const char *address = options->bind_address != NULL ? options->bind_address : "0.0.0.0";
    if (options->metrics != NULL) {
        kb_code code = check_path(path, err);
        if (code != KB_OK)
            return code;
    }
    KB_CLEANUP(httpd_free_at) kb_httpd *httpd = kb_calloc(1, sizeof *httpd);
    httpd->metrics = options->metrics;
    httpd->healthz = options->healthz;
    httpd->readyz = options->readyz;
    httpd->progress = options->progress;
    httpd->ctx = options->ctx;
    httpd->metrics_path = kb_strdup(path);
    int fd = -1;
    kb_code code = listen_on(address, options->port, &fd, &httpd->port, err);
    if (code != KB_OK)
        return code;
    /* The daemon owns the socket from here on, also when it does not start. */
    httpd->daemon =
        MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO | MHD_USE_ITC, 0, NULL, NULL,
                         on_request, httpd, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                         KB_HTTPD_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, KB_HTTPD_IDLE_SECS,
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, KB_HTTPD_REQUEST_BYTES, MHD_OPTION_END);
    if (httpd->daemon == NULL)
        return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "metrics: cannot start the HTTP thread");
    *ret_httpd = KB_TAKE(httpd);
    return KB_OK;
}

uint16_t kb_httpd_port(const kb_httpd *httpd)
{
    return httpd->port;
}

void kb_httpd_stop(kb_httpd *owned_httpd)
{
    httpd_free(owned_httpd);
}

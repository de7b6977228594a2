#include "common/net/http.h"

#include <curl/curl.h>
#include <dirent.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/base/secret.h"
#include "common/base/strbuf.h"

#define KB_HTTP_CONNECTIONS 16
#define KB_HTTP_STAGE_MS 10000
#define KB_HTTP_FIRST_BYTE_MS 60000
#define KB_HTTP_BODY_BYTES (1024 * 1024)
#define KB_HTTP_HEADER_BYTES 65536
#define KB_HTTP_BUFFER_BYTES (128L * 1024)

/* One connection's worth of curl: a handle and the multi handle whose cache keeps its connection open. */
typedef struct kb_http_slot {
    CURL *easy;
    CURLM *multi;
    struct kb_http_slot *next;
} kb_http_slot;

struct kb_http {
    char *ca_file, *trust_dir, *client_cert_file, *client_key_file;
    char *http_proxy, *https_proxy, *no_proxy; /* from the environment */
    char *ca_pem;
    size_t ca_pem_len;
    bool allow_http, direct;
    int64_t resolve_ms, connect_ms, tls_ms, first_byte_ms, stall_ms;
    pthread_mutex_t mutex;
    pthread_cond_t freed;
    struct {
        kb_http_slot *idle;
        size_t left; /* slots that may still be made */
    } locked;
};

typedef enum kb_stage {
    KB_STAGE_RESOLVE,
    KB_STAGE_CONNECT,
    KB_STAGE_TLS,
    KB_STAGE_SEND,
    KB_STAGE_FIRST_BYTE,
    KB_STAGE_BODY
} kb_stage;

typedef struct kb_exchange {
    kb_http *http;
    const kb_http_request *request;
    kb_http_response *response;
    kb_stage stage;
    int64_t since_ms;      /* when the stage began, or a byte moved in it */
    int64_t stop_until_ms; /* end of the grace; 0 = no stop seen */
    uint64_t body_bytes;   /* of the request */
    size_t part;           /* position in the body's parts */
    size_t part_offset;
    curl_off_t moved; /* bytes, both ways */
    size_t header_bytes;
    kb_strbuf body;
    kb_error error; /* of the sink, or our own refusal */
    bool started;   /* the sink was told */
    char *origin;   /* "https://host:port", for messages */
    char text[CURL_ERROR_SIZE];
} kb_exchange;

/* ---- headers ---- */

static kb_http_header *find_header(const kb_http_headers *headers, const char *name)
{
    for (size_t i = 0; i < headers->count; i++) {
        if (strcasecmp(headers->items[i].name, name) == 0)
            return &headers->items[i];
    }
    return NULL;
}

static void wipe_text(char *owned_text)
{
    kb_wipe(owned_text, strlen(owned_text));
    free(owned_text);
}

static void add_header(kb_http_headers *headers, const char *name, size_t name_len, const char *value,
                       size_t value_len)
{
    headers->items = kb_grow(headers->items, headers->count, &headers->capacity, sizeof *headers->items);
    headers->items[headers->count++] =
        (kb_http_header){kb_strndup(name, name_len), kb_strndup(value, value_len)};
}

void kb_http_headers_set(kb_http_headers *headers, const char *name, const char *value)
{
    kb_http_header *old = find_header(headers, name);
    if (old == NULL) {
        add_header(headers, name, strlen(name), value, strlen(value));
        return;
    }
    char *copy = kb_strdup(value);
    wipe_text(old->value);
    old->value = copy;
}

const char *kb_http_headers_get(const kb_http_headers *headers, const char *name)
{
    const kb_http_header *header = find_header(headers, name);
    return header != NULL ? header->value : NULL;
}

void kb_http_headers_done(kb_http_headers *headers)
{
    for (size_t i = 0; i < headers->count; i++) {
        free(headers->items[i].name);
        wipe_text(headers->items[i].value);
    }
    free(headers->items);
    *headers = (kb_http_headers)KB_HTTP_HEADERS_INIT;
}

void kb_http_response_done(kb_http_response *response)
{
    kb_http_headers_done(&response->headers);
    if (response->body != NULL)
        kb_wipe(response->body, response->body_len);
    free(response->body);
    *response = (kb_http_response)KB_HTTP_RESPONSE_INIT;
}

const char *kb_http_response_header(const kb_http_response *response, const char *name)
{
    return kb_http_headers_get(&response->headers, name);
}

/* ---- the client ---- */

static void init_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* A variable of the environment in either spelling; empty counts as unset. */
static char *environment(const char *upper, const char *lower)
{
    const char *value = getenv(lower);
    if (value == NULL || value[0] == '\0')
        value = getenv(upper);
    return value != NULL && value[0] != '\0' ? kb_strdup(value) : NULL;
}

static kb_code check_readable(const char *path, const char *what, kb_error *err)
{
    if (path == NULL || access(path, R_OK) == 0)
        return KB_OK;
    return kb_fail(err, KB_CONFIG_INVALID, "%s %s cannot be read: %m", what, path);
}

static int64_t or_default(int64_t value, int64_t standard)
{
    return value > 0 ? value : standard;
}

kb_code kb_http_new(const kb_http_options *options, kb_http **ret_http, kb_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_curl);
    if (check_readable(options->ca_file, "the CA file", err) != KB_OK ||
        check_readable(options->client_cert_file, "the client certificate", err) != KB_OK ||
        check_readable(options->client_key_file, "the client key", err) != KB_OK)
        return err->code;
    kb_http *http = kb_calloc(1, sizeof *http);
    *http = (kb_http){
        .ca_file = kb_strdup_opt(options->ca_file),
        .trust_dir = kb_strdup_opt(options->trust_dir),
        .client_cert_file = kb_strdup_opt(options->client_cert_file),
        .client_key_file = kb_strdup_opt(options->client_key_file),
        .http_proxy = environment("HTTP_PROXY", "http_proxy"),
        .https_proxy = environment("HTTPS_PROXY", "https_proxy"),
        .no_proxy = environment("NO_PROXY", "no_proxy"),
        .allow_http = options->allow_http,
        .direct = options->direct,
        .resolve_ms = or_default(options->resolve_ms, KB_HTTP_STAGE_MS),
        .connect_ms = or_default(options->connect_ms, KB_HTTP_STAGE_MS),
        .tls_ms = or_default(options->tls_ms, KB_HTTP_STAGE_MS),
        .first_byte_ms = or_default(options->first_byte_ms, KB_HTTP_FIRST_BYTE_MS),
        .stall_ms = or_default(options->stall_ms, KB_HTTP_FIRST_BYTE_MS),
        .locked.left = options->max_connections > 0 ? options->max_connections : KB_HTTP_CONNECTIONS,
    };
    if (options->ca_pem.len > 0) {
        http->ca_pem = kb_strndup((const char *)options->ca_pem.data, options->ca_pem.len);
        http->ca_pem_len = options->ca_pem.len;
    }
    pthread_mutex_init(&http->mutex, NULL);
    pthread_cond_init(&http->freed, NULL);
    *ret_http = http;
    return KB_OK;
}

void kb_http_free(kb_http *owned_http)
{
    if (owned_http == NULL)
        return;
    for (kb_http_slot *slot = owned_http->locked.idle, *next; slot != NULL; slot = next) {
        next = slot->next;
        curl_easy_cleanup(slot->easy);
        curl_multi_cleanup(slot->multi);
        free(slot);
    }
    char *const texts[] = {owned_http->ca_file,         owned_http->trust_dir,  owned_http->client_cert_file,
                           owned_http->client_key_file, owned_http->http_proxy, owned_http->https_proxy,
                           owned_http->no_proxy,        owned_http->ca_pem};
    for (size_t i = 0; i < KB_ARRAY_LEN(texts); i++)
        free(texts[i]);
    pthread_cond_destroy(&owned_http->freed);
    pthread_mutex_destroy(&owned_http->mutex);
    free(owned_http);
}

void kb_http_free_at(kb_http **at)
{
    kb_http_free(*at);
    *at = NULL;
}

static kb_http_slot *slot_new(void)
{
    kb_http_slot *slot = kb_calloc(1, sizeof *slot);
    slot->easy = curl_easy_init();
    slot->multi = curl_multi_init();
    if (slot->easy == NULL || slot->multi == NULL)
        kb_out_of_memory();
    curl_multi_setopt(slot->multi, CURLMOPT_MAXCONNECTS, 2L);
    return slot;
}

static kb_http_slot *take_slot(kb_http *http)
{
    pthread_mutex_lock(&http->mutex);
    while (http->locked.idle == NULL && http->locked.left == 0)
        pthread_cond_wait(&http->freed, &http->mutex);
    kb_http_slot *slot = http->locked.idle;
    if (slot != NULL)
        http->locked.idle = slot->next;
    else
        http->locked.left--;
    pthread_mutex_unlock(&http->mutex);
    return slot != NULL ? slot : slot_new();
}

/* Last in, first out: the connection used last is the likeliest to be open still. */
static void give_slot(kb_http *http, kb_http_slot *slot)
{
    curl_easy_reset(slot->easy);
    pthread_mutex_lock(&http->mutex);
    slot->next = http->locked.idle;
    http->locked.idle = slot;
    pthread_cond_signal(&http->freed);
    pthread_mutex_unlock(&http->mutex);
}

/* ---- what curl calls ---- */

static void enter_stage(kb_exchange *ex, kb_stage stage)
{
    ex->stage = stage;
    ex->since_ms = kb_clock_boot_ms();
}

static curl_socket_t on_open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)purpose;
    enter_stage(ctx, KB_STAGE_CONNECT);
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static void trust_file(SSL_CTX *ssl, const char *dir, const char *name)
{
    size_t len = strlen(name);
    if (len < 5 || (strcmp(name + len - 4, ".crt") != 0 && strcmp(name + len - 4, ".pem") != 0))
        return;
    KB_AUTOFREE char *path = kb_asprintf("%s/%s", dir, name);
    /* A file that is no certificate adds no trust; the handshake says what is missing. */
    (void)SSL_CTX_load_verify_locations(ssl, path, NULL);
    ERR_clear_error();
}

/* Runs once per new connection, so that rotated anchors count at once. */
static CURLcode on_ssl(CURL *easy, void *ssl, void *ctx)
{
    (void)easy;
    kb_exchange *ex = ctx;
    enter_stage(ex, KB_STAGE_TLS);
    const char *dir_name = ex->http->trust_dir;
    DIR *dir = dir_name != NULL ? opendir(dir_name) : NULL;
    if (dir == NULL)
        return CURLE_OK;
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
        trust_file(ssl, dir_name, entry->d_name);
    closedir(dir);
    return CURLE_OK;
}

static int on_connected(void *ctx, char *remote, char *local, int remote_port, int local_port)
{
    (void)remote, (void)local, (void)remote_port, (void)local_port;
    kb_exchange *ex = ctx;
    ex->response->sent = true;
    enter_stage(ex, ex->body_bytes > 0 ? KB_STAGE_SEND : KB_STAGE_FIRST_BYTE);
    return CURL_PREREQFUNC_OK;
}

static int on_progress(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    (void)down_total, (void)up_total;
    kb_exchange *ex = ctx;
    if (down + up == ex->moved)
        return 0;
    ex->moved = down + up;
    if (ex->stage >= KB_STAGE_SEND)
        ex->since_ms = kb_clock_boot_ms();
    if (ex->stage == KB_STAGE_SEND && (uint64_t)up >= ex->body_bytes)
        enter_stage(ex, KB_STAGE_FIRST_BYTE);
    return 0;
}

static size_t on_read(char *to, size_t size, size_t count, void *ctx)
{
    kb_exchange *ex = ctx;
    size_t room = size * count, len = 0;
    while (room > 0 && ex->part < ex->request->body_count) {
        const kb_view *view = &ex->request->body[ex->part];
        size_t step = view->len - ex->part_offset < room ? view->len - ex->part_offset : room;
        if (step > 0)
            memcpy(to + len, view->data + ex->part_offset, step);
        len += step;
        room -= step;
        ex->part_offset += step;
        if (ex->part_offset == view->len) {
            ex->part++;
            ex->part_offset = 0;
        }
    }
    return len;
}

/* A kept connection was dead: curl takes a new one and sends the body again. */
static int on_seek(void *ctx, curl_off_t offset, int origin)
{
    kb_exchange *ex = ctx;
    if (origin != SEEK_SET || offset != 0)
        return CURL_SEEKFUNC_FAIL;
    ex->part = 0;
    ex->part_offset = 0;
    return CURL_SEEKFUNC_OK;
}

static bool is_success(int status)
{
    return status >= 200 && status < 300;
}

/* "HTTP/1.1 200 OK": a new answer begins, an interim one (1xx) is forgotten. */
static bool on_status_line(kb_exchange *ex, const char *line, size_t len)
{
    const char *space = memchr(line, ' ', len);
    int64_t status = 0;
    if (space == NULL || line + len - space < 4 || !kb_parse_i64_len(space + 1, 3, &status))
        return false;
    kb_http_headers_done(&ex->response->headers);
    ex->response->status = (int)status;
    return true;
}

static bool on_headers_end(kb_exchange *ex)
{
    const kb_http_sink *sink = ex->request->sink;
    int status = ex->response->status;
    if (status < 200)
        return true;
    enter_stage(ex, KB_STAGE_BODY);
    if (sink == NULL || sink->on_start == NULL || !is_success(status) || ex->started)
        return true;
    ex->started = true;
    return sink->on_start(sink->ctx, ex->response, &ex->error) == KB_OK;
}

static size_t on_header(char *line, size_t size, size_t count, void *ctx)
{
    kb_exchange *ex = ctx;
    size_t len = size * count, all = len;
    ex->header_bytes += len;
    if (ex->header_bytes > KB_HTTP_HEADER_BYTES) {
        (void)kb_fail(&ex->error, KB_ERR_TOO_LARGE, "%s: more than %d bytes of headers", ex->origin,
                      KB_HTTP_HEADER_BYTES);
        return 0;
    }
    while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == '\n'))
        len--;
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
        return on_status_line(ex, line, len) ? all : 0;
    if (len == 0)
        return on_headers_end(ex) ? all : 0;
    const char *colon = memchr(line, ':', len);
    if (colon == NULL || colon == line)
        return all;
    const char *value = colon + 1, *end = line + len;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    add_header(&ex->response->headers, line, (size_t)(colon - line), value, (size_t)(end - value));
    return all;
}

static bool keep_body(kb_exchange *ex, const char *data, size_t len)
{
    bool success = is_success(ex->response->status);
    size_t max = !success                          ? KB_HTTP_ERROR_BODY_BYTES
                 : ex->request->max_body_bytes > 0 ? ex->request->max_body_bytes
                                                   : KB_HTTP_BODY_BYTES;
    size_t room = max - ex->body.len;
    if (len > room && success) {
        (void)kb_fail(&ex->error, KB_ERR_TOO_LARGE, "%s: the answer is larger than %zu bytes", ex->origin,
                      max);
        return false;
    }
    kb_strbuf_append(&ex->body, data, len < room ? len : room);
    return true;
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    kb_exchange *ex = ctx;
    const kb_http_sink *sink = ex->request->sink;
    size_t len = size * count;
    ex->response->received += len;
    bool is_fine = sink != NULL && is_success(ex->response->status)
                       ? sink->on_data(sink->ctx, data, len, &ex->error) == KB_OK
                       : keep_body(ex, data, len);
    ex->since_ms = kb_clock_boot_ms(); /* the time that a sink took is not the server's */
    return is_fine ? len : 0;
}

/* ---- one exchange ---- */

static char *origin_of(const char *url)
{
    const char *host = strstr(url, "://");
    host = host != NULL ? host + 3 : url;
    return kb_strndup(url, (size_t)(host - url) + strcspn(host, "/?#"));
}

static bool is_token(const char *text)
{
    return text[0] != '\0' && strspn(text, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                           "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(text);
}

static bool is_header_value(const char *text)
{
    for (; *text != '\0'; text++) {
        if (((unsigned char)*text < 0x20 && *text != '\t') || *text == 0x7f)
            return false;
    }
    return true;
}

static void free_list(struct curl_slist *list)
{
    for (struct curl_slist *item = list; item != NULL; item = item->next)
        kb_wipe(item->data, strlen(item->data));
    curl_slist_free_all(list);
}

static void free_list_at(struct curl_slist **at)
{
    free_list(*at);
}

static kb_code append_header(struct curl_slist **list, const char *name, const char *value, kb_error *err)
{
    if (!is_token(name) || !is_header_value(value))
        return kb_fail(err, KB_ERR_INTERNAL, "the header '%s' cannot be sent: illegal character", name);
    char *line = value[0] != '\0' ? kb_asprintf("%s: %s", name, value) : kb_asprintf("%s;", name);
    struct curl_slist *longer = curl_slist_append(*list, line);
    wipe_text(line);
    if (longer == NULL)
        kb_out_of_memory();
    *list = longer;
    return KB_OK;
}

static kb_code make_headers(const kb_http_request *request, struct curl_slist **ret_list, kb_error *err)
{
    KB_CLEANUP(free_list_at) struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    for (size_t i = 0; request->headers != NULL && i < request->headers->count; i++) {
        const kb_http_header *header = &request->headers->items[i];
        kb_code code = append_header(&list, header->name, header->value, err);
        if (code != KB_OK)
            return code;
    }
    *ret_list = KB_TAKE(list);
    return KB_OK;
}

static void set_trust(CURL *easy, const kb_http *http, kb_exchange *ex)
{
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_ssl);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, ex);
#if LIBCURL_VERSION_NUM >= 0x075700
    /* curl would add the anchors of trust_dir to a store that it shares and keeps for a day. */
    curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);
#endif
    if (http->ca_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, http->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    } else if (http->ca_pem != NULL) {
        struct curl_blob pem = {http->ca_pem, http->ca_pem_len, CURL_BLOB_NOCOPY};
        curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &pem);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    if (http->client_cert_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_SSLCERT, http->client_cert_file);
        curl_easy_setopt(easy, CURLOPT_SSLKEY, http->client_key_file);
    }
}

static void set_way(CURL *easy, const kb_http *http, const char *url)
{
    const char *proxy = strncasecmp(url, "https:", 6) == 0 ? http->https_proxy : http->http_proxy;
    curl_easy_setopt(easy, CURLOPT_PROXY, http->direct || proxy == NULL ? "" : proxy);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, http->no_proxy != NULL ? http->no_proxy : "");
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, http->allow_http ? "http,https" : "https");
#else
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS,
                     http->allow_http ? CURLPROTO_HTTP | CURLPROTO_HTTPS : CURLPROTO_HTTPS);
#endif
    /* All addresses of a host together; each but the last gets half of what is left. */
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(http->connect_ms * 18 / 10));
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
}

static bool has_body(const char *method)
{
    return strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0 || strcmp(method, "PATCH") == 0;
}

static void set_request(CURL *easy, kb_exchange *ex, struct curl_slist *headers)
{
    const kb_http_request *request = ex->request;
    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    if (strcmp(request->method, "HEAD") == 0)
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    else if (has_body(request->method) || request->body_count > 0)
        curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
    curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)ex->body_bytes);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, ex);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, ex);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, ex);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, ex);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, ex);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, ex);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connected);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, ex);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, KB_HTTP_BUFFER_BYTES);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, KB_HTTP_BUFFER_BYTES);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, ex->text);
}

/* The time limit of the stage in milliseconds; negative = none. */
static int64_t limit_of(const kb_exchange *ex)
{
    const kb_http *http = ex->http;
    const kb_http_request *request = ex->request;
    switch (ex->stage) {
    case KB_STAGE_RESOLVE:
        return http->resolve_ms;
    case KB_STAGE_CONNECT:
        return http->connect_ms;
    case KB_STAGE_TLS:
        return http->tls_ms;
    case KB_STAGE_FIRST_BYTE:
        return request->first_byte_ms != 0 ? request->first_byte_ms : http->first_byte_ms;
    case KB_STAGE_SEND:
    case KB_STAGE_BODY:
        break;
    }
    return request->stall_ms != 0 ? request->stall_ms : http->stall_ms;
}

static const char *stage_name(kb_stage stage)
{
    static const char *const names[] = {
        [KB_STAGE_RESOLVE] = "resolving the name",
        [KB_STAGE_CONNECT] = "connecting",
        [KB_STAGE_TLS] = "the TLS handshake",
        [KB_STAGE_SEND] = "sending the request",
        [KB_STAGE_FIRST_BYTE] = "waiting for the first byte of the answer",
        [KB_STAGE_BODY] = "reading the answer",
    };
    return names[stage];
}

static kb_http_failure failure_of(kb_stage stage)
{
    static const kb_http_failure failures[] = {
        [KB_STAGE_RESOLVE] = KB_HTTP_RESOLVE,
        [KB_STAGE_CONNECT] = KB_HTTP_CONNECT,
        [KB_STAGE_TLS] = KB_HTTP_TLS,
        [KB_STAGE_SEND] = KB_HTTP_STALL,
        [KB_STAGE_FIRST_BYTE] = KB_HTTP_FIRST_BYTE,
        [KB_STAGE_BODY] = KB_HTTP_STALL,
    };
    return failures[stage];
}

static kb_code fail_timeout(kb_exchange *ex, int64_t limit_ms, kb_error *err)
{
    ex->response->failure = failure_of(ex->stage);
    return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "%s: %s: nothing happened for %lld ms", ex->origin,
                             stage_name(ex->stage), (long long)limit_ms);
}

static kb_code fail_stopped(kb_exchange *ex, kb_error *err)
{
    ex->response->failure = KB_HTTP_STOPPED;
    return kb_fail(err, KB_ERR_STOPPED, "%s: stopped while %s", ex->origin, stage_name(ex->stage));
}

/* When the stop token ends the exchange: INT64_MAX while it is not set. */
static int64_t stop_deadline(kb_exchange *ex, int64_t now_ms)
{
    kb_stop *stop = ex->request->stop;
    if (stop == NULL || !kb_stop_requested(stop))
        return INT64_MAX;
    if (kb_stop_count(stop) > 1)
        return now_ms;
    if (ex->stop_until_ms == 0)
        ex->stop_until_ms = now_ms + ex->request->stop_grace_ms;
    return ex->stop_until_ms;
}

/* Moves the transfer until it ends; KB_OK: *ret_result is how. */
static kb_code drive(kb_exchange *ex, CURLM *multi, CURLcode *ret_result, kb_error *err)
{
    for (;;) {
        int running = 0;
        CURLMcode moved = curl_multi_perform(multi, &running);
        if (moved != CURLM_OK)
            return kb_fail(err, KB_ERR_INTERNAL, "%s: %s", ex->origin, curl_multi_strerror(moved));
        if (running == 0)
            break;
        int64_t now = kb_clock_boot_ms(), limit = limit_of(ex), stop_at = stop_deadline(ex, now);
        if (stop_at <= now)
            return fail_stopped(ex, err);
        if (limit >= 0 && now - ex->since_ms >= limit)
            return fail_timeout(ex, limit, err);
        int64_t wait = limit >= 0 ? limit - (now - ex->since_ms) : 60000;
        if (stop_at - now < wait)
            wait = stop_at - now;
        struct curl_waitfd stop_fd = {.events = CURL_WAIT_POLLIN};
        bool is_watched = ex->request->stop != NULL && stop_at == INT64_MAX;
        if (is_watched)
            stop_fd.fd = kb_stop_fd(ex->request->stop);
        curl_multi_poll(multi, is_watched ? &stop_fd : NULL, is_watched, (int)(wait < 60000 ? wait : 60000),
                        NULL);
    }
    int left = 0;
    const CURLMsg *message = curl_multi_info_read(multi, &left);
    if (message == NULL || message->msg != CURLMSG_DONE)
        return kb_fail(err, KB_ERR_INTERNAL, "%s: the transfer ended without a result", ex->origin);
    *ret_result = message->data.result;
    return KB_OK;
}

static kb_code fail_config(kb_exchange *ex, kb_http_failure failure, CURLcode result, kb_error *err)
{
    const char *text = ex->text[0] != '\0' ? ex->text : curl_easy_strerror(result);
    ex->response->failure = failure;
    if (failure == KB_HTTP_UNTRUSTED)
        return kb_fail(
            err, KB_CONFIG_INVALID,
            "%s: its certificate is not trusted: %s; hint: ca_file, or trust_dir, has to name its CA",
            ex->origin, text);
    return kb_fail(err, KB_CONFIG_INVALID, "%s: %s", ex->origin, text);
}

static kb_http_failure classify(const kb_exchange *ex, CURLcode result)
{
    switch ((int)result) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return KB_HTTP_RESOLVE;
    case CURLE_COULDNT_CONNECT:
        return KB_HTTP_CONNECT;
    case CURLE_OPERATION_TIMEDOUT:
        return failure_of(ex->stage);
    case CURLE_SSL_CONNECT_ERROR:
        return KB_HTTP_TLS;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
        return KB_HTTP_UNTRUSTED;
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_URL_MALFORMAT:
        return KB_HTTP_REFUSED;
    case CURLE_UNSUPPORTED_PROTOCOL: /* of the URL, or an answer that is no HTTP/1 */
        return ex->response->sent ? KB_HTTP_BROKEN : KB_HTTP_REFUSED;
    default:
        return KB_HTTP_BROKEN;
    }
}

static kb_code conclude(kb_exchange *ex, CURLcode result, kb_error *err)
{
    if (ex->error.code != KB_OK) {
        ex->response->failure = KB_HTTP_REFUSED;
        kb_error_move(err, &ex->error);
        return err->code;
    }
    if (result == CURLE_OK && ex->response->status >= 200)
        return KB_OK;
    kb_http_failure failure = classify(ex, result);
    if (failure == KB_HTTP_UNTRUSTED || failure == KB_HTTP_REFUSED)
        return fail_config(ex, failure, result, err);
    ex->response->failure = failure;
    return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "%s: %s: %s", ex->origin, stage_name(ex->stage),
                             ex->text[0] != '\0' ? ex->text : curl_easy_strerror(result));
}

static kb_code run_on(kb_exchange *ex, kb_http_slot *slot, struct curl_slist *headers, kb_error *err)
{
    set_request(slot->easy, ex, headers);
    set_way(slot->easy, ex->http, ex->request->url);
    set_trust(slot->easy, ex->http, ex);
    CURLMcode added = curl_multi_add_handle(slot->multi, slot->easy);
    if (added != CURLM_OK)
        return kb_fail(err, KB_ERR_INTERNAL, "%s: %s", ex->origin, curl_multi_strerror(added));
    CURLcode result = CURLE_OK;
    enter_stage(ex, KB_STAGE_RESOLVE);
    kb_code code = drive(ex, slot->multi, &result, err);
    curl_multi_remove_handle(slot->multi, slot->easy);
    return code == KB_OK ? conclude(ex, result, err) : code;
}

kb_code kb_http_exchange(kb_http *http, const kb_http_request *request, kb_http_response *response,
                         kb_error *err)
{
    kb_http_response_done(response);
    KB_CLEANUP(free_list_at) struct curl_slist *headers = NULL;
    kb_code code = make_headers(request, &headers, err);
    if (code != KB_OK) {
        response->failure = KB_HTTP_REFUSED;
        return code;
    }
    KB_AUTOFREE char *origin = origin_of(request->url);
    kb_exchange ex = {.http = http, .request = request, .response = response, .origin = origin};
    kb_strbuf_init(&ex.body, SIZE_MAX);
    for (size_t i = 0; i < request->body_count; i++)
        ex.body_bytes += request->body[i].len;
    kb_http_slot *slot = take_slot(http);
    code = run_on(&ex, slot, headers, err);
    give_slot(http, slot);
    response->body_len = ex.body.len;
    response->body = kb_strbuf_take(&ex.body);
    kb_error_done(&ex.error);
    return code;
}

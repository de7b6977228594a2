#include "operator/kube/kube_client.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/bytes.h"
#include "common/base/mem.h"
#include "common/base/secret.h"
#include "common/base/strbuf.h"
#include "common/net/http.h"
#include "common/net/http_retry.h"
#include "operator/kube/bucket.h"
#include "operator/kube/watch_decode.h"

#define DEFAULT_QPS 50.0
#define DEFAULT_BURST 100.0
#define QUERY_MAX 65536
/* A 429 that names no time, and the longest time it may name. */
#define THROTTLE_DEFAULT_MS 1000
#define THROTTLE_MAX_MS 120000
#define LIST_STARTS_MAX 4
/* Items of one list; what is beyond is no cluster that this program serves. */
#define LIST_ITEMS_MAX 200000
#define MESSAGE_MAX 2048

/* Connections made with one CA and client certificate; the last user frees them. */
typedef struct connections {
    atomic_uint refs;
    unsigned generation;
    kb_http *http;
} connections;

struct kb_kube_client {
    kb_kube_client_options options;
    const kb_clock *clock;
    char *user_agent;
    kb_bucket *bucket;
    pthread_mutex_t mutex;
    connections *connections;   /* may be NULL */
    int64_t throttled_until_ms; /* boot clock */
};

void kb_kube_reply_done(kb_kube_reply *reply)
{
    json_decref(reply->object);
    free(reply->reason);
    free(reply->message);
    *reply = (kb_kube_reply)KB_KUBE_REPLY_INIT;
}

/* ---- connections ---- */

static void connections_unref(connections *c)
{
    if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    kb_http_free(c->http);
    free(c);
}

static void connections_unref_at(connections **at)
{
    connections_unref(*at);
}

static kb_code connect_anew(const kb_kube_login *login, connections **ret_connections, kb_error *err)
{
    const kb_http_options options = {.ca_pem = login->ca,
                                     .client_cert_file = login->client_cert_file,
                                     .client_key_file = login->client_key_file,
                                     .allow_http = strncasecmp(login->server, "http://", 7) == 0,
                                     .direct = true,
                                     .connect_ms = KB_KUBE_CONNECT_MS,
                                     .tls_ms = KB_KUBE_CONNECT_MS,
                                     .first_byte_ms = KB_KUBE_REQUEST_MS,
                                     .stall_ms = KB_KUBE_REQUEST_MS};
    kb_http *http = NULL;
    const kb_code code = kb_http_new(&options, &http, err);
    if (code != KB_OK)
        return code;
    connections *c = kb_calloc(1, sizeof *c);
    atomic_init(&c->refs, 1);
    c->generation = login->generation;
    c->http = http;
    *ret_connections = c;
    return KB_OK;
}

/* Those that fit the login, with a reference for the caller. */
static kb_code connections_for(kb_kube_client *client, const kb_kube_login *login,
                               connections **ret_connections, kb_error *err)
{
    kb_code code = KB_OK;
    connections *old = NULL;
    pthread_mutex_lock(&client->mutex);
    if (client->connections == NULL || client->connections->generation != login->generation) {
        connections *fresh = NULL;
        code = connect_anew(login, &fresh, err);
        if (code == KB_OK) {
            old = client->connections;
            client->connections = fresh;
        }
    }
    if (code == KB_OK) {
        atomic_fetch_add_explicit(&client->connections->refs, 1, memory_order_relaxed);
        *ret_connections = client->connections;
    }
    pthread_mutex_unlock(&client->mutex);
    connections_unref(old);
    return code;
}

kb_code kb_kube_client_new(const kb_kube_client_options *options, kb_kube_client **ret_client, kb_error *err)
{
    if (options->qps < 0 || options->burst < 0 || (options->burst > 0 && options->burst < 1))
        return kb_fail(err, KB_CONFIG_INVALID, "qps must be above 0 and burst at least 1");
    kb_kube_client *client = kb_calloc(1, sizeof *client);
    client->options = *options;
    client->clock = options->clock != NULL ? options->clock : kb_clock_system();
    client->user_agent = kb_strdup(options->user_agent != NULL ? options->user_agent : KB_KUBE_FIELD_MANAGER);
    client->bucket = kb_bucket_new(options->qps > 0 ? options->qps : DEFAULT_QPS,
                                   options->burst > 0 ? options->burst : DEFAULT_BURST,
                                   kb_clock_now_boot_ms(client->clock));
    pthread_mutex_init(&client->mutex, NULL);
    *ret_client = client;
    return KB_OK;
}

void kb_kube_client_free(kb_kube_client *owned_client)
{
    if (owned_client == NULL)
        return;
    connections_unref(owned_client->connections);
    kb_bucket_free(owned_client->bucket);
    free(owned_client->user_agent);
    pthread_mutex_destroy(&owned_client->mutex);
    free(owned_client);
}

void kb_kube_client_free_at(kb_kube_client **at)
{
    kb_kube_client_free(*at);
    *at = NULL;
}

void kb_kube_client_set_gate(kb_kube_client *client, bool (*may_write)(void *ctx), void *ctx)
{
    client->options.may_write = may_write;
    client->options.may_write_ctx = ctx;
}

/* ---- before sending ---- */

typedef struct verb_row {
    const char *name; /* as metrics and rules of access call it */
    const char *method;
    const char *content_type;
} verb_row;

static const verb_row VERBS[] = {
    [KB_KUBE_GET] = {"get", "GET", NULL},
    [KB_KUBE_CREATE] = {"create", "POST", "application/json"},
    [KB_KUBE_REPLACE] = {"update", "PUT", "application/json"},
    [KB_KUBE_APPLY] = {"patch", "PATCH", "application/apply-patch+yaml"},
    [KB_KUBE_PATCH_JSON] = {"patch", "PATCH", "application/json-patch+json"},
    [KB_KUBE_PATCH_MERGE] = {"patch", "PATCH", "application/merge-patch+json"},
    [KB_KUBE_DELETE] = {"delete", "DELETE", "application/json"},
};

/* One exchange: what goes out and how it is named in texts. */
typedef struct exchange {
    const char *verb;
    const char *method;
    const char *content_type; /* NULL: no body */
    char *target;             /* path and query */
    char *body;               /* NULL: none */
    char *what;
    bool is_exempt, is_write, is_ungated, is_counted;
    int64_t timeout_ms;
} exchange;

static void exchange_done(exchange *x)
{
    free(x->target);
    free(x->body);
    free(x->what);
}

static bool may_write(const kb_kube_client *client, const exchange *x)
{
    return !x->is_write || x->is_ungated || client->options.may_write == NULL ||
           client->options.may_write(client->options.may_write_ctx);
}

static bool is_stopped(const kb_kube_client *client)
{
    return client->options.stop != NULL && kb_stop_requested(client->options.stop);
}

static void wait_ms(const kb_kube_client *client, int64_t ms)
{
    if (ms <= 0)
        return;
    if (client->options.stop != NULL)
        (void)kb_stop_wait(client->options.stop, ms);
    else
        (void)nanosleep(&(struct timespec){(time_t)(ms / 1000), (long)(ms % 1000) * 1000000}, NULL);
}

static int64_t throttle_left_ms(kb_kube_client *client)
{
    pthread_mutex_lock(&client->mutex);
    const int64_t left_ms = client->throttled_until_ms - kb_clock_now_boot_ms(client->clock);
    pthread_mutex_unlock(&client->mutex);
    return left_ms;
}

static kb_code give_up(kb_kube_reply *reply, kb_kube_class fault, const exchange *x, const char *why,
                       kb_error *err)
{
    reply->fault = fault;
    return kb_fail_retryable(err, kb_kube_class_code(fault), "cannot %s %s: %s", x->verb, x->what, why);
}

static kb_code wait_for_turn(kb_kube_client *client, const exchange *x, kb_kube_reply *reply, kb_error *err)
{
    if (!x->is_exempt) {
        if (x->is_counted)
            wait_ms(client, kb_bucket_take(client->bucket, kb_clock_now_boot_ms(client->clock)));
        for (int64_t left_ms = throttle_left_ms(client); left_ms > 0 && !is_stopped(client);
             left_ms = throttle_left_ms(client))
            wait_ms(client, left_ms);
        if (is_stopped(client))
            return give_up(reply, KB_KUBE_STOPPED, x, "the program is stopping", err);
    }
    if (!may_write(client, x))
        return give_up(reply, KB_KUBE_NOT_LEADER, x, "this process does not hold the lease", err);
    return KB_OK;
}

/* ---- sending ---- */

static void add_headers(const kb_kube_client *client, const kb_kube_login *login, const exchange *x,
                        kb_http_headers *headers)
{
    kb_http_headers_set(headers, "Accept", "application/json");
    kb_http_headers_set(headers, "User-Agent", client->user_agent);
    if (x->content_type != NULL)
        kb_http_headers_set(headers, "Content-Type", x->content_type);
    if (login->token == NULL)
        return;
    KB_AUTO_STRBUF(bearer, KB_KUBE_RESPONSE_MAX);
    kb_strbuf_appends(&bearer, "Bearer ");
    kb_strbuf_append(&bearer, kb_secret_view(login->token), kb_secret_len(login->token));
    kb_http_headers_set(headers, "Authorization", kb_strbuf_view(&bearer));
    kb_wipe(bearer.data, bearer.len);
}

static kb_code send_once(kb_kube_client *client, const exchange *x, kb_http_response *response, kb_error *err)
{
    KB_CLEANUP(kb_kube_login_unref_at)
    const kb_kube_login *login = kb_kube_access_login(client->options.access);
    KB_CLEANUP(connections_unref_at) connections *c = NULL;
    const kb_code code = connections_for(client, login, &c, err);
    if (code != KB_OK)
        return code;
    KB_AUTO_HEADERS(headers);
    add_headers(client, login, x, &headers);
    KB_AUTOFREE char *url = kb_asprintf("%s%s", login->server, x->target);
    const kb_view body = kb_view_of(x->body, x->body != NULL ? strlen(x->body) : 0);
    const kb_http_request request = {.method = x->method,
                                     .url = url,
                                     .headers = &headers,
                                     .body = &body,
                                     .body_count = x->body != NULL ? 1 : 0,
                                     .max_body_bytes = KB_KUBE_RESPONSE_MAX,
                                     .first_byte_ms = x->timeout_ms,
                                     .stall_ms = x->timeout_ms,
                                     .stop = x->is_exempt ? NULL : client->options.stop};
    const kb_code sent = kb_http_exchange(c->http, &request, response, err);
    kb_kube_metrics_request(client->options.metrics, x->verb, x->method, response->status);
    return sent;
}

static void note_throttle(kb_kube_client *client, const kb_http_response *response, kb_kube_reply *reply)
{
    const char *value = kb_http_response_header(response, "Retry-After");
    const bool is_told =
        value != NULL &&
        kb_http_parse_retry_after(value, kb_clock_now_wall_ms(client->clock), &reply->retry_after_ms);
    if (reply->fault != KB_KUBE_THROTTLED)
        return;
    if (!is_told)
        reply->retry_after_ms = THROTTLE_DEFAULT_MS;
    if (reply->retry_after_ms > THROTTLE_MAX_MS)
        reply->retry_after_ms = THROTTLE_MAX_MS;
    const int64_t until_ms = kb_clock_now_boot_ms(client->clock) + reply->retry_after_ms;
    pthread_mutex_lock(&client->mutex);
    if (until_ms > client->throttled_until_ms)
        client->throttled_until_ms = until_ms;
    pthread_mutex_unlock(&client->mutex);
}

/* At most MESSAGE_MAX bytes, and no character in half. */
static char *cut_text(const char *text)
{
    size_t len = strnlen(text, MESSAGE_MAX + 1);
    if (len > MESSAGE_MAX) {
        len = MESSAGE_MAX;
        while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
            len--;
    }
    return kb_strndup(text, len);
}

/*
 * An apply that names the uid of an object which has gone meanwhile: to one that took its name the server
 * says "invalid, metadata.uid is immutable", and means a conflict.
 */
static bool is_about_uid(const json_t *status)
{
    size_t i;
    json_t *cause;
    json_array_foreach(kb_kube_at(status, "details", "causes", NULL), i, cause)
    {
        const char *field = json_string_value(json_object_get(cause, "field"));
        if (field != NULL && strcmp(field, "metadata.uid") == 0)
            return true;
    }
    return false;
}

/* reason and message of a Status; of anything else the beginning of the text. */
static void read_refusal(const kb_http_response *response, kb_kube_reply *reply)
{
    KB_AUTO_ERROR(ignored);
    KB_AUTO_JSON json_t *status = NULL;
    const kb_view body = kb_view_of(response->body, response->body_len);
    if (body.len > 0 && kb_kube_json_parse(body, &status, &ignored) != KB_OK)
        status = NULL;
    const char *reason = kb_kube_text(status, "reason", NULL);
    const char *message = kb_kube_text(status, "message", NULL);
    reply->reason = kb_strdup(reason != NULL ? reason : "");
    if (message == NULL)
        message = response->body != NULL ? response->body : "";
    reply->message = cut_text(message);
    reply->fault = kb_kube_classify(response->status, reply->reason);
    if (reply->fault == KB_KUBE_INVALID && is_about_uid(status))
        reply->fault = KB_KUBE_CONFLICT;
}

static kb_code judge(kb_kube_client *client, const exchange *x, const kb_http_response *response,
                     kb_kube_reply *reply, kb_error *err)
{
    reply->http_status = response->status;
    if (response->status >= 200 && response->status < 300) {
        reply->fault = KB_KUBE_FINE;
        const kb_view body = kb_view_of(response->body, response->body_len);
        const kb_code code = kb_kube_json_parse(body, &reply->object, err);
        if (code == KB_OK)
            return KB_OK;
        /* A proxy's page, or damage on the way: what became of a write is not known. */
        reply->fault = KB_KUBE_SERVER;
        return kb_wrap_as(err, kb_kube_class_code(KB_KUBE_SERVER), "cannot %s %s: answer %d", x->verb,
                          x->what, response->status);
    }
    read_refusal(response, reply);
    note_throttle(client, response, reply);
    const kb_code code = kb_kube_class_code(reply->fault);
    const bool is_final = reply->fault == KB_KUBE_INVALID || reply->fault == KB_KUBE_GONE;
    (void)kb_fail(err, code, "cannot %s %s: HTTP %d %s: %s", x->verb, x->what, response->status,
                  reply->reason, reply->message);
    err->retryable = !is_final;
    return code;
}

static kb_code perform(kb_kube_client *client, const exchange *x, kb_kube_reply *reply, kb_error *err)
{
    kb_kube_reply_done(reply);
    kb_code code = wait_for_turn(client, x, reply, err);
    if (code != KB_OK)
        return code;
    KB_AUTO_RESPONSE(response);
    code = send_once(client, x, &response, err);
    if (code == KB_OK && response.status == 401) {
        /* The token may have been changed under us: once more with what the files say now. */
        kb_kube_access_refresh(client->options.access);
        kb_http_response_done(&response);
        code = send_once(client, x, &response, err);
    }
    if (code == KB_OK)
        return judge(client, x, &response, reply, err);
    if (code == KB_ERR_STOPPED)
        return give_up(reply, KB_KUBE_STOPPED, x, "the program is stopping", err);
    reply->fault = KB_KUBE_SERVER;
    (void)kb_wrap_as(err, kb_kube_class_code(KB_KUBE_SERVER), "cannot %s %s", x->verb, x->what);
    err->retryable = true;
    return err->code;
}

/* ---- requests ---- */

static char *target_of(const kb_kube_request *request)
{
    KB_AUTOFREE char *path = kb_kube_path(&request->ref);
    KB_AUTO_STRBUF(target, QUERY_MAX);
    kb_strbuf_appends(&target, path);
    char separator = '?';
    const bool has_manager = request->verb != KB_KUBE_GET && request->verb != KB_KUBE_DELETE;
    if (has_manager) {
        kb_strbuf_appendf(&target, "?fieldManager=%s", KB_KUBE_FIELD_MANAGER);
        separator = '&';
    }
    if (request->verb == KB_KUBE_APPLY && request->is_forced)
        kb_strbuf_appends(&target, "&force=true");
    if (request->query != NULL)
        kb_strbuf_appendf(&target, "%c%s", separator, request->query);
    return target.failed ? kb_strdup("/apis/query-too-long") : kb_strbuf_take(&target);
}

static char *delete_body(const kb_kube_request *request)
{
    KB_AUTO_JSON json_t *options = json_pack("{s:s, s:s, s:s}", "apiVersion", "v1", "kind", "DeleteOptions",
                                             "propagationPolicy", "Background");
    if (request->only_uid != NULL || request->only_version != NULL) {
        json_t *conditions =
            json_pack("{s:s*, s:s*}", "uid", request->only_uid, "resourceVersion", request->only_version);
        json_object_set_new(options, "preconditions", conditions);
    }
    return json_dumps(options, JSON_COMPACT);
}

kb_code kb_kube_call(kb_kube_client *client, const kb_kube_request *request, kb_kube_reply *reply,
                     kb_error *err)
{
    const verb_row *row = &VERBS[request->verb];
    KB_CLEANUP(exchange_done)
    exchange x = {.verb = row->name,
                  .method = row->method,
                  .content_type = row->content_type,
                  .target = target_of(request),
                  .what = kb_kube_describe(&request->ref),
                  .is_exempt = request->is_exempt,
                  .is_counted = true,
                  .is_write = request->verb != KB_KUBE_GET,
                  .is_ungated = request->is_ungated,
                  .timeout_ms = request->timeout_ms > 0 ? request->timeout_ms : KB_KUBE_REQUEST_MS};
    if (request->verb == KB_KUBE_DELETE)
        x.body = delete_body(request);
    else if (request->body != NULL)
        x.body = json_dumps(request->body, JSON_COMPACT);
    if (x.body == NULL && row->content_type != NULL) {
        kb_kube_reply_done(reply);
        reply->fault = KB_KUBE_INVALID;
        return kb_fail(err, KB_ERR_FORMAT, "cannot %s %s: the body is not valid JSON", x.verb, x.what);
    }
    return perform(client, &x, reply, err);
}

kb_code kb_kube_get(kb_kube_client *client, const kb_kube_ref *ref, kb_kube_reply *reply, kb_error *err)
{
    const kb_kube_request request = {.verb = KB_KUBE_GET, .ref = *ref};
    return kb_kube_call(client, &request, reply, err);
}

kb_code kb_kube_get_path(kb_kube_client *client, const char *path, kb_kube_reply *reply, kb_error *err)
{
    KB_CLEANUP(exchange_done)
    exchange x = {.verb = "get",
                  .method = "GET",
                  .target = kb_strdup(path),
                  .what = kb_strdup(path),
                  .is_counted = true,
                  .timeout_ms = KB_KUBE_REQUEST_MS};
    return perform(client, &x, reply, err);
}

/* ---- lists ---- */

static char *page_target(const kb_kube_ref *ref, const char *label_selector, const char *field_selector,
                         const char *next)
{
    KB_AUTOFREE char *path = kb_kube_path(ref);
    KB_AUTO_STRBUF(target, QUERY_MAX);
    kb_strbuf_appendf(&target, "%s?limit=%d&timeoutSeconds=%d", path, KB_KUBE_PAGE_LIMIT,
                      KB_KUBE_REQUEST_MS / 1000);
    kb_kube_append_query(&target, "labelSelector", label_selector);
    kb_kube_append_query(&target, "fieldSelector", field_selector);
    kb_kube_append_query(&target, "continue", next);
    return target.failed ? kb_strdup("/apis/query-too-long") : kb_strbuf_take(&target);
}

static void take_items(const kb_kube_ref *ref, const json_t *page, json_t *items)
{
    KB_AUTOFREE char *api_version = kb_kube_api_version(ref->resource);
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(page, "items"), i, item)
    {
        if (!json_is_object(item))
            continue;
        json_object_set_new(item, "apiVersion", json_string(api_version));
        json_object_set_new(item, "kind", json_string(ref->resource->kind));
        json_array_append(items, item);
    }
}

/* All pages of one attempt, into *items. A 410 is left in reply->fault as KB_KUBE_GONE with status 410. */
static kb_code list_once(kb_kube_client *client, const kb_kube_ref *ref, const char *label_selector,
                         const char *field_selector, json_t *items, kb_kube_reply *reply, kb_error *err)
{
    KB_AUTOFREE char *next = NULL;
    do {
        KB_CLEANUP(exchange_done)
        exchange x = {.verb = "list",
                      .method = "GET",
                      .target = page_target(ref, label_selector, field_selector, next),
                      .what = kb_kube_describe(ref),
                      .timeout_ms = KB_KUBE_REQUEST_MS};
        const kb_code code = perform(client, &x, reply, err);
        if (code != KB_OK)
            return code;
        take_items(ref, reply->object, items);
        if (json_array_size(items) > LIST_ITEMS_MAX) {
            reply->fault = KB_KUBE_SERVER;
            return kb_fail(err, KB_ERR_TOO_LARGE, "there are more than %d %s", LIST_ITEMS_MAX,
                           ref->resource->plural);
        }
        const char *more = kb_kube_text(reply->object, "metadata", "continue", NULL);
        free(next);
        next = more != NULL && more[0] != '\0' ? kb_strdup(more) : NULL;
    } while (next != NULL);
    return KB_OK;
}

kb_code kb_kube_list(kb_kube_client *client, const kb_kube_ref *ref, const char *label_selector,
                     const char *field_selector, kb_kube_reply *reply, kb_error *err)
{
    for (int start = 1;; start++) {
        KB_AUTO_JSON json_t *items = json_array();
        const kb_code code = list_once(client, ref, label_selector, field_selector, items, reply, err);
        if (code == KB_OK) {
            json_decref(reply->object);
            reply->object = KB_TAKE(items);
            return KB_OK;
        }
        if (reply->http_status != 410 || start == LIST_STARTS_MAX)
            return code;
    }
}

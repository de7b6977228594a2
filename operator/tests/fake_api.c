#include "operator/tests/fake_api.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "common/sync/cond.h"
#include "operator/tests/fake_patch.h"
#include "operator/tests/fake_state.h"

#define MAX_BYTES (128u << 20)

/* What a path names. */
typedef struct target {
    char *copy;
    const char *group, *version, *name_space, *plural, *name, *subresource;
    char *collection;
} target;

static void target_done(target *t)
{
    free(t->copy);
    free(t->collection);
}

static bool parse_target(const char *path, target *t)
{
    char *parts[10] = {0};
    size_t count = 0;
    t->copy = kb_strdup(path);
    for (char *at = t->copy; *at != '\0' && count < KB_ARRAY_LEN(parts);) {
        if (*at == '/') {
            *at++ = '\0';
            continue;
        }
        parts[count++] = at;
        at += strcspn(at, "/");
    }
    size_t i = 0;
    if (count < 3)
        return false;
    const bool is_core = strcmp(parts[i++], "api") == 0;
    t->group = is_core ? "" : parts[i++];
    t->version = parts[i++];
    if (parts[i] != NULL && strcmp(parts[i], "namespaces") == 0 && parts[i + 1] != NULL &&
        parts[i + 2] != NULL) {
        t->name_space = parts[i + 1];
        i += 2;
    }
    t->plural = parts[i++];
    if (t->plural == NULL)
        return false;
    t->name = i < count ? parts[i++] : NULL;
    t->subresource = i < count ? parts[i] : NULL;
    t->collection = kb_asprintf("%s.%s", t->plural, t->group);
    return true;
}

/* ---- answers ---- */

typedef struct answer {
    int status;
    json_t *body; /* owned */
    char *raw;    /* owned; instead of body */
    int retry_after_s;
} answer;

static answer refuse(int status, const char *reason, const char *message)
{
    json_t *body = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i}", "kind", "Status", "apiVersion", "v1", "status",
                             "Failure", "reason", reason, "message", message, "code", status);
    return (answer){.status = status, .body = body};
}

static answer give(int status, const json_t *object)
{
    return (answer){.status = status, .body = json_deep_copy(object)};
}

static const char *query(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, name);
}

/* Terms "key=value", separated by commas; more is not needed. */
static bool has_labels(const json_t *object, const char *selector)
{
    const json_t *labels = kb_kube_at(object, "metadata", "labels", NULL);
    while (selector != NULL && *selector != '\0') {
        const size_t len = strcspn(selector, ",");
        KB_AUTOFREE char *term = kb_strndup(selector, len);
        char *equals = strchr(term, '=');
        if (equals == NULL)
            return false;
        *equals = '\0';
        const char *value = json_string_value(json_object_get(labels, term));
        if (value == NULL || strcmp(value, equals + 1) != 0)
            return false;
        selector += len + (selector[len] == ',' ? 1 : 0);
    }
    return true;
}

static bool is_wanted(const json_t *object, const target *t, const char *selector)
{
    return (t->name_space == NULL || strcmp(kb_kube_namespace(object), t->name_space) == 0) &&
           has_labels(object, selector);
}

static answer list_objects(kb_fake_api *api, struct MHD_Connection *connection, const target *t)
{
    int64_t limit = 0, first = 0, token_version = api->version;
    const char *limit_text = query(connection, "limit"), *token = query(connection, "continue");
    if (limit_text != NULL && !kb_parse_i64(limit_text, &limit))
        return refuse(400, "BadRequest", "limit");
    const char *dot = token != NULL ? strchr(token, '.') : NULL;
    if (token != NULL && (dot == NULL || !kb_parse_i64_len(token, (size_t)(dot - token), &token_version) ||
                          !kb_parse_i64(dot + 1, &first)))
        return refuse(400, "BadRequest", "continue");
    if (token != NULL && token_version < api->compacted)
        return refuse(410, "Expired", "The provided continue parameter is too old");
    json_t *items = json_array();
    int64_t index = 0;
    bool has_more = false;
    const char *key;
    json_t *object;
    KB_AUTOFREE char *prefix = kb_asprintf("%s/", t->collection);
    json_object_foreach(api->objects, key, object)
    {
        if (strncmp(key, prefix, strlen(prefix)) != 0 ||
            !is_wanted(object, t, query(connection, "labelSelector")))
            continue;
        if (index++ < first)
            continue;
        if (limit > 0 && (int64_t)json_array_size(items) == limit) {
            has_more = true;
            break;
        }
        json_t *copy = json_deep_copy(object);
        json_object_del(copy, "kind");
        json_object_del(copy, "apiVersion");
        json_array_append_new(items, copy);
    }
    KB_AUTOFREE char *version = kb_asprintf("%lld", (long long)token_version);
    KB_AUTOFREE char *next = kb_asprintf("%lld.%lld", (long long)token_version, (long long)(first + limit));
    json_t *body = json_pack("{s:s, s:s, s:{s:s, s:s}, s:o}", "kind", "List", "apiVersion", "v1", "metadata",
                             "resourceVersion", version, "continue", has_more ? next : "", "items", items);
    return (answer){.status = 200, .body = body};
}

static answer create_object(kb_fake_api *api, const target *t, const json_t *body)
{
    const char *name = kb_kube_name(body);
    if (name[0] == '\0')
        return refuse(422, "Invalid", "name is required");
    KB_AUTOFREE char *key = kb_fake_key(t->collection, t->name_space, name);
    if (json_object_get(api->objects, key) != NULL)
        return refuse(409, "AlreadyExists", "there is one of that name");
    json_t *object = json_deep_copy(body);
    json_object_set_new(kb_fake_metadata(object), "namespace", json_string(t->name_space));
    KB_AUTO_JSON json_t *stored = kb_fake_store(api, t->collection, key, object, NULL);
    return give(201, stored);
}

/* Fields that a write of this kind may not change come from the old object. */
static void keep_rest(const target *t, json_t *fresh, const json_t *old)
{
    static const char *const IDENTITY[] = {"name",       "namespace",        "uid", "resourceVersion",
                                           "generation", "creationTimestamp"};
    json_t *metadata = kb_fake_metadata(fresh);
    for (size_t i = 0; i < KB_ARRAY_LEN(IDENTITY); i++) {
        json_t *value = kb_kube_at(old, "metadata", IDENTITY[i], NULL);
        if (value != NULL)
            json_object_set(metadata, IDENTITY[i], value);
    }
    const bool is_status = t->subresource != NULL && strcmp(t->subresource, "status") == 0;
    json_t *spec = json_object_get(old, "spec"), *status = json_object_get(old, "status");
    if (is_status && spec != NULL)
        json_object_set(fresh, "spec", spec);
    if (!is_status && status != NULL)
        json_object_set(fresh, "status", status);
    else if (!is_status)
        json_object_del(fresh, "status");
}

static bool conflicts(const json_t *body, const json_t *old)
{
    const char *version = kb_kube_version(body), *uid = kb_kube_uid(body);
    return (version[0] != '\0' && strcmp(version, kb_kube_version(old)) != 0) ||
           (uid[0] != '\0' && strcmp(uid, kb_kube_uid(old)) != 0);
}

static answer update_object(kb_fake_api *api, const target *t, const char *key, json_t *owned_fresh,
                            json_t *old)
{
    keep_rest(t, owned_fresh, old);
    if (json_equal(owned_fresh, old)) {
        json_decref(owned_fresh);
        return give(200, old);
    }
    KB_AUTO_JSON json_t *held = json_incref(old);
    KB_AUTO_JSON json_t *stored = kb_fake_store(api, t->collection, key, owned_fresh, held);
    return give(200, stored);
}

static void set_manager(json_t *object, const char *manager)
{
    if (manager != NULL)
        json_object_set_new(kb_fake_metadata(object), "managedFields",
                            json_pack("[{s:s}]", "manager", manager));
}

static const char *manager_of(const json_t *object)
{
    const json_t *fields = kb_kube_at(object, "metadata", "managedFields", NULL);
    return json_string_value(json_object_get(json_array_get(fields, 0), "manager"));
}

static answer apply_object(kb_fake_api *api, struct MHD_Connection *connection, const target *t,
                           const char *key, const json_t *body, json_t *old)
{
    const char *manager = query(connection, "fieldManager"), *force = query(connection, "force");
    if (manager == NULL)
        return refuse(422, "Invalid", "fieldManager is required for apply patch");
    if (json_object_get(body, "apiVersion") == NULL || json_object_get(body, "kind") == NULL)
        return refuse(422, "Invalid", "apiVersion and kind must be set");
    if (old == NULL) {
        if (t->subresource != NULL)
            return refuse(404, "NotFound", "not found");
        if (kb_kube_uid(body)[0] != '\0')
            return refuse(409, "Conflict", "uid mismatch: the object does not exist");
        json_t *object = json_deep_copy(body);
        json_object_set_new(kb_fake_metadata(object), "namespace", json_string(t->name_space));
        set_manager(object, manager);
        KB_AUTO_JSON json_t *stored = kb_fake_store(api, t->collection, key, object, NULL);
        return give(201, stored);
    }
    if (kb_kube_uid(body)[0] != '\0' && strcmp(kb_kube_uid(body), kb_kube_uid(old)) != 0) {
        answer a = refuse(422, "Invalid", "metadata.uid: field is immutable");
        json_object_set_new(a.body, "details", json_pack("{s:[{s:s}]}", "causes", "field", "metadata.uid"));
        return a;
    }
    if (conflicts(body, old))
        return refuse(409, "Conflict", "the object has been modified");
    const char *other = manager_of(old);
    const bool is_forced = force != NULL && strcmp(force, "true") == 0;
    if (!is_forced && t->subresource == NULL && other != NULL && strcmp(other, manager) != 0)
        return refuse(409, "Conflict", "Apply failed with 1 conflict: conflict with another manager");
    json_t *fresh = json_deep_copy(old);
    kb_fake_merge(fresh, body);
    if (t->subresource == NULL)
        set_manager(fresh, manager);
    return update_object(api, t, key, fresh, old);
}

static answer patch_object(kb_fake_api *api, struct MHD_Connection *connection, const target *t,
                           const char *key, const json_t *body)
{
    const char *type = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Type");
    json_t *old = json_object_get(api->objects, key);
    if (type != NULL && strcmp(type, "application/apply-patch+yaml") == 0)
        return apply_object(api, connection, t, key, body, old);
    if (old == NULL)
        return refuse(404, "NotFound", "not found");
    json_t *fresh = json_deep_copy(old);
    if (type != NULL && strcmp(type, "application/json-patch+json") == 0) {
        if (kb_fake_json_patch(&fresh, body))
            return update_object(api, t, key, fresh, old);
        json_decref(fresh);
        return refuse(422, "Invalid", "the server rejected our request due to an error in our request");
    }
    if (conflicts(body, old)) {
        json_decref(fresh);
        return refuse(409, "Conflict", "the object has been modified");
    }
    kb_fake_merge(fresh, body);
    return update_object(api, t, key, fresh, old);
}

static answer delete_object(kb_fake_api *api, const target *t, const char *key, const json_t *body)
{
    json_t *old = json_object_get(api->objects, key);
    if (old == NULL)
        return refuse(404, "NotFound", "not found");
    const char *uid = kb_kube_text(body, "preconditions", "uid", NULL);
    const char *version = kb_kube_text(body, "preconditions", "resourceVersion", NULL);
    if ((uid != NULL && strcmp(uid, kb_kube_uid(old)) != 0) ||
        (version != NULL && strcmp(version, kb_kube_version(old)) != 0))
        return refuse(409, "Conflict", "Precondition failed");
    kb_fake_remove(api, t->collection, key);
    return (answer){.status = 200, .body = json_pack("{s:s, s:s}", "kind", "Status", "status", "Success")};
}

static answer serve_object(kb_fake_api *api, struct MHD_Connection *connection, const char *method,
                           const target *t, const json_t *body)
{
    if (t->name == NULL) {
        if (strcmp(method, "POST") == 0)
            return create_object(api, t, body);
        return list_objects(api, connection, t);
    }
    KB_AUTOFREE char *key = kb_fake_key(t->collection, t->name_space, t->name);
    json_t *old = json_object_get(api->objects, key);
    if (strcmp(method, "PATCH") == 0)
        return patch_object(api, connection, t, key, body);
    if (strcmp(method, "DELETE") == 0)
        return delete_object(api, t, key, body);
    if (old == NULL)
        return refuse(404, "NotFound", "not found");
    if (strcmp(method, "PUT") != 0)
        return give(200, old);
    if (conflicts(body, old))
        return refuse(409, "Conflict",
                      "the object has been modified; please apply your changes to the latest version");
    return update_object(api, t, key, json_deep_copy(body), old);
}

/* ---- watches ---- */

typedef struct watch {
    kb_fake_api *api;
    target target;
    char *selector;
    size_t next;
    int64_t version;
    unsigned bookmarks, cuts;
    bool is_too_old;
    char *pending; /* bytes on their way */
    size_t sent;
} watch;

static void watch_free(void *ctx)
{
    watch *w = ctx;
    pthread_mutex_lock(&w->api->mutex);
    w->api->watches--;
    pthread_mutex_unlock(&w->api->mutex);
    target_done(&w->target);
    free(w->selector);
    free(w->pending);
    free(w);
}

static char *event_line(const char *type, const json_t *object)
{
    KB_AUTO_JSON json_t *line = json_pack("{s:s, s:O}", "type", type, "object", object);
    KB_AUTOFREE char *text = json_dumps(line, JSON_COMPACT);
    return kb_asprintf("%s\n", text);
}

/* The next bytes for a watch, NULL when there is nothing to tell now. The mutex is held. */
static char *next_line(watch *w)
{
    kb_fake_api *api = w->api;
    if (w->is_too_old) {
        w->is_too_old = false;
        w->cuts = api->cuts - 1;
        answer gone = refuse(410, "Expired", "too old resource version");
        char *line = event_line("ERROR", gone.body);
        json_decref(gone.body);
        return line;
    }
    for (; w->next < api->event_count; w->next++) {
        const kb_fake_event *e = &api->events[w->next];
        if (strcmp(e->collection, w->target.collection) != 0 || e->version <= w->version)
            continue;
        if (e->raw != NULL) {
            w->next++;
            return kb_strdup(e->raw);
        }
        if (!is_wanted(e->object, &w->target, w->selector))
            continue;
        w->next++;
        return event_line(e->type, e->object);
    }
    if (w->bookmarks == api->bookmarks)
        return NULL;
    w->bookmarks = api->bookmarks;
    KB_AUTOFREE char *version = kb_asprintf("%lld", (long long)api->version);
    KB_AUTO_JSON json_t *mark = json_pack("{s:{s:s}}", "metadata", "resourceVersion", version);
    return event_line("BOOKMARK", mark);
}

static ssize_t read_watch(void *ctx, uint64_t position, char *to, size_t max)
{
    (void)position;
    watch *w = ctx;
    kb_fake_api *api = w->api;
    if (w->pending == NULL) {
        pthread_mutex_lock(&api->mutex);
        w->pending = next_line(w);
        while (w->pending == NULL && !api->is_stopping && w->cuts == api->cuts) {
            const struct timespec deadline = kb_cond_deadline(1000);
            (void)kb_cond_wait_until(&api->changed, &api->mutex, &deadline);
            w->pending = next_line(w);
        }
        const bool is_abrupt = api->is_cut_abrupt || api->is_stopping;
        pthread_mutex_unlock(&api->mutex);
        w->sent = 0;
        if (w->pending == NULL)
            return is_abrupt ? MHD_CONTENT_READER_END_WITH_ERROR : MHD_CONTENT_READER_END_OF_STREAM;
    }
    size_t len = strlen(w->pending + w->sent);
    const bool is_all = len <= max;
    if (!is_all)
        len = max;
    memcpy(to, w->pending + w->sent, len);
    w->sent += len;
    if (is_all) {
        free(w->pending);
        w->pending = NULL;
    }
    return (ssize_t)len;
}

static struct MHD_Response *begin_watch(kb_fake_api *api, struct MHD_Connection *connection, const char *path)
{
    watch *w = kb_calloc(1, sizeof *w);
    w->api = api;
    w->selector = kb_strdup_opt(query(connection, "labelSelector"));
    (void)parse_target(path, &w->target);
    const char *version = query(connection, "resourceVersion");
    if (version == NULL || !kb_parse_i64(version, &w->version))
        w->version = 0;
    w->bookmarks = api->bookmarks;
    w->cuts = api->cuts;
    w->is_too_old = w->version < api->compacted;
    api->watches++;
    return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 32768, read_watch, w, watch_free);
}

/* ---- HTTP ---- */

typedef struct incoming {
    kb_strbuf body;
    char *line; /* "GET /path?query" */
} incoming;

static enum MHD_Result append_argument(void *ctx, enum MHD_ValueKind kind, const char *name,
                                       const char *value)
{
    (void)kind;
    kb_strbuf *line = ctx;
    kb_strbuf_appendf(line, "%c%s=%s", strchr(line->data, '?') == NULL ? '?' : '&', name,
                      value != NULL ? value : "");
    return MHD_YES;
}

/* The fault that hits this request, NULL: none. The mutex is held. */
static const kb_fake_fault *find_fault(kb_fake_api *api, const char *line)
{
    for (size_t i = 0; i < api->fault_count; i++) {
        kb_fake_fault_entry *entry = &api->faults[i];
        const unsigned times = entry->fault.times > 0 ? entry->fault.times : 1;
        if (!kb_fake_has_part(line, entry->fault.method, entry->fault.part) || entry->hit >= times)
            continue;
        if (entry->seen++ < entry->fault.skip)
            continue;
        entry->hit++;
        return &entry->fault;
    }
    return NULL;
}

static bool is_hidden(const kb_fake_api *api, const char *plural)
{
    for (size_t i = 0; i < KB_FAKE_HIDDEN_MAX; i++) {
        if (api->hidden[i] != NULL && strcmp(api->hidden[i], plural) == 0)
            return true;
    }
    return false;
}

static bool is_let_in(const kb_fake_api *api, struct MHD_Connection *connection)
{
    const char *value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Authorization");
    return value != NULL && strncmp(value, "Bearer ", 7) == 0 && strcmp(value + 7, api->token) == 0;
}

static answer serve(kb_fake_api *api, struct MHD_Connection *connection, const char *path, const char *method,
                    const target *t, const kb_strbuf *body_text)
{
    if (strcmp(path, "/version") == 0)
        return (answer){.status = 200, .body = json_pack("{s:s, s:s}", "major", "1", "minor", api->minor)};
    if (strcmp(path, "/apis/batch") == 0)
        return (answer){.status = 200,
                        .body =
                            json_pack("{s:s, s:[{s:s}]}", "kind", "APIGroup", "versions", "version", "v1")};
    if (t->plural == NULL || is_hidden(api, t->plural))
        return (answer){.status = 404, .raw = kb_strdup("404 page not found\n")};
    KB_AUTO_JSON json_t *body =
        body_text->len > 0 ? json_loadb(body_text->data, body_text->len, 0, NULL) : json_object();
    if (body == NULL)
        return refuse(400, "BadRequest", "the body is not JSON");
    return serve_object(api, connection, method, t, body);
}

static enum MHD_Result send_answer(struct MHD_Connection *connection, answer *a)
{
    char *text = a->raw != NULL ? KB_TAKE(a->raw) : json_dumps(a->body, JSON_COMPACT);
    json_decref(a->body);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
    if (a->retry_after_s > 0) {
        KB_AUTOFREE char *seconds = kb_asprintf("%d", a->retry_after_s);
        MHD_add_response_header(response, "Retry-After", seconds);
    }
    MHD_add_response_header(response, "Content-Type", "application/json");
    const enum MHD_Result result = MHD_queue_response(connection, (unsigned)a->status, response);
    MHD_destroy_response(response);
    return result;
}

static answer answer_of(const kb_fake_fault *fault)
{
    const char *message = fault->message != NULL ? fault->message : "";
    answer a = {.status = fault->status, .raw = kb_strdup(message)};
    if (fault->action == KB_FAKE_REPLY) {
        free(a.raw);
        a = refuse(fault->status, fault->reason != NULL ? fault->reason : "", message);
    }
    a.retry_after_s = fault->retry_after_s;
    return a;
}

/* The whole request is there. Sets *ret_answer, or *ret_watch; false: cut the connection. */
static bool handle(kb_fake_api *api, struct MHD_Connection *connection, const char *path, const char *method,
                   const incoming *in, answer *ret_answer, struct MHD_Response **ret_watch)
{
    KB_CLEANUP(target_done) target t = {0};
    if (!parse_target(path, &t))
        t.plural = NULL;
    pthread_mutex_lock(&api->mutex);
    api->requests = kb_grow(api->requests, api->request_count, &api->request_capacity, sizeof *api->requests);
    api->requests[api->request_count++] = kb_strdup(in->line);
    const kb_fake_fault *found = find_fault(api, in->line);
    const kb_fake_fault fault = found != NULL ? *found : (kb_fake_fault){.action = KB_FAKE_DELAY};
    pthread_mutex_unlock(&api->mutex);
    if (fault.action == KB_FAKE_DELAY && fault.delay_ms > 0)
        (void)nanosleep(&(struct timespec){fault.delay_ms / 1000, (fault.delay_ms % 1000) * 1000000L}, NULL);
    if (fault.action == KB_FAKE_DROP_BEFORE)
        return false;
    pthread_mutex_lock(&api->mutex);
    if (fault.action == KB_FAKE_REPLY || fault.action == KB_FAKE_RAW)
        *ret_answer = answer_of(&fault);
    else if (!is_let_in(api, connection))
        *ret_answer = refuse(401, "Unauthorized", "Unauthorized");
    else if (query(connection, "watch") != NULL && t.plural != NULL && !is_hidden(api, t.plural))
        *ret_watch = begin_watch(api, connection, path);
    else
        *ret_answer = serve(api, connection, path, method, &t, &in->body);
    pthread_mutex_unlock(&api->mutex);
    if (fault.action != KB_FAKE_DROP_AFTER)
        return true;
    json_decref(ret_answer->body);
    free(ret_answer->raw);
    return false;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *http_version, const char *data,
                                  size_t *size, void **state)
{
    (void)http_version;
    kb_fake_api *api = ctx;
    incoming *in = *state;
    if (in == NULL) {
        in = kb_calloc(1, sizeof *in);
        kb_strbuf_init(&in->body, MAX_BYTES);
        KB_AUTO_STRBUF(line, MAX_BYTES);
        kb_strbuf_appendf(&line, "%s %s", method, path);
        MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, append_argument, &line);
        in->line = kb_strbuf_take(&line);
        *state = in;
        return MHD_YES;
    }
    if (*size > 0) {
        kb_strbuf_append(&in->body, data, *size);
        *size = 0;
        return MHD_YES;
    }
    answer a = {0};
    struct MHD_Response *watch_response = NULL;
    if (!handle(api, connection, path, method, in, &a, &watch_response))
        return MHD_NO;
    if (watch_response == NULL)
        return send_answer(connection, &a);
    const enum MHD_Result result = MHD_queue_response(connection, 200, watch_response);
    MHD_destroy_response(watch_response);
    return result;
}

static void on_completed(void *ctx, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    (void)ctx;
    (void)connection;
    (void)code;
    incoming *in = *state;
    if (in == NULL)
        return;
    kb_strbuf_done(&in->body);
    free(in->line);
    free(in);
    *state = NULL;
}

/* ---- for tests ---- */

kb_fake_api *kb_fake_api_new(void)
{
    kb_fake_api *api = kb_calloc(1, sizeof *api);
    pthread_mutex_init(&api->mutex, NULL);
    kb_cond_init(&api->changed);
    api->token = kb_strdup("token-1");
    api->minor = kb_strdup("34");
    api->objects = json_object();
    api->version = 100;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    api->daemon = MHD_start_daemon(MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL,
                                   NULL, on_request, api, MHD_OPTION_SOCK_ADDR, &address,
                                   MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END);
    if (api->daemon == NULL)
        abort();
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(api->daemon, MHD_DAEMON_INFO_BIND_PORT);
    api->url = kb_asprintf("http://127.0.0.1:%u", (unsigned)info->port);
    return api;
}

void kb_fake_api_free(kb_fake_api *owned_api)
{
    if (owned_api == NULL)
        return;
    pthread_mutex_lock(&owned_api->mutex);
    owned_api->is_stopping = true;
    pthread_cond_broadcast(&owned_api->changed);
    pthread_mutex_unlock(&owned_api->mutex);
    MHD_stop_daemon(owned_api->daemon);
    for (size_t i = 0; i < owned_api->event_count; i++) {
        free(owned_api->events[i].collection);
        free(owned_api->events[i].raw);
        json_decref(owned_api->events[i].object);
    }
    for (size_t i = 0; i < owned_api->request_count; i++)
        free(owned_api->requests[i]);
    for (size_t i = 0; i < KB_FAKE_HIDDEN_MAX; i++)
        free(owned_api->hidden[i]);
    free(owned_api->events);
    free(owned_api->requests);
    json_decref(owned_api->objects);
    free(owned_api->token);
    free(owned_api->minor);
    free(owned_api->url);
    pthread_cond_destroy(&owned_api->changed);
    pthread_mutex_destroy(&owned_api->mutex);
    free(owned_api);
}

const char *kb_fake_api_url(const kb_fake_api *api)
{
    return api->url;
}

kb_kube_access *kb_fake_api_access(const kb_fake_api *api)
{
    KB_AUTO_ERROR(err);
    kb_kube_access *access = NULL;
    const kb_kube_access_options options = {
        .server = api->url, .token = {.data = "token-1"}, .name_space = "kafka-backup"};
    if (kb_kube_access_new(&options, &access, &err) != KB_OK)
        abort();
    return access;
}

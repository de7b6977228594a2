#include "worker/offsets/configmap.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "common/data/json_tree.h"
#include "common/net/http.h"

#define KB_CONFIGMAP_BODY_MAX ((size_t)8 << 20)
#define KB_CONFIGMAP_TRIES 10
#define KB_CONFIGMAP_BACKOFF_MS 200
#define KB_CONFIGMAP_BACKOFF_MAX_MS 20000
#define KB_CONFIGMAP_FIRST_BYTE_MS 30000
#define KB_CONFIGMAP_BEARER_MAX 65536

enum {
    HTTP_UNAUTHORIZED = 401,
    HTTP_FORBIDDEN = 403,
    HTTP_NOT_FOUND = 404,
    HTTP_CONFLICT = 409,
    HTTP_TOO_MANY = 429,
    HTTP_SERVER_ERROR = 500
};

struct kb_configmap {
    kb_kube_access *access;
    char *path;
    char *description;
    kb_stop *stop;
};

kb_configmap *kb_configmap_new(kb_kube_access *access, const char *name_space, const char *name,
                               kb_stop *stop)
{
    kb_configmap *map = kb_calloc(1, sizeof *map);
    const char *place = name_space != NULL ? name_space : kb_kube_access_namespace(access);
    *map = (kb_configmap){
        .access = access,
        .path = kb_asprintf("/api/v1/namespaces/%s/configmaps/%s", place, name),
        .description = kb_asprintf("ConfigMap %s/%s", place, name),
        .stop = stop,
    };
    return map;
}

void kb_configmap_free(kb_configmap *owned_map)
{
    if (owned_map == NULL)
        return;
    free(owned_map->path);
    free(owned_map->description);
    free(owned_map);
}

const char *kb_configmap_describe(const kb_configmap *map)
{
    return map->description;
}

/* ---- one request ---- */

static void add_token(const kb_kube_login *login, kb_http_headers *headers)
{
    if (login->token == NULL)
        return;
    KB_AUTO_STRBUF(bearer, KB_CONFIGMAP_BEARER_MAX);
    kb_strbuf_appends(&bearer, "Bearer ");
    kb_strbuf_append(&bearer, kb_secret_view(login->token), kb_secret_len(login->token));
    kb_http_headers_set(headers, "Authorization", kb_strbuf_view(&bearer));
    kb_wipe(bearer.data, bearer.len);
}

static kb_code send_once(kb_configmap *map, const char *method, const char *body, kb_http_response *response,
                         kb_error *err)
{
    KB_CLEANUP(kb_kube_login_unref_at) const kb_kube_login *login = kb_kube_access_login(map->access);
    const kb_http_options options = {
        .ca_pem = login->ca,
        .client_cert_file = login->client_cert_file,
        .client_key_file = login->client_key_file,
        .allow_http = strncmp(login->server, "http://", 7) == 0, /* kube_access lets only loopback pass */
        .direct = true,
    };
    KB_CLEANUP(kb_http_free_at) kb_http *http = NULL;
    if (kb_http_new(&options, &http, err) != KB_OK)
        return err->code;
    KB_AUTO_HEADERS(headers);
    add_token(login, &headers);
    kb_http_headers_set(&headers, "Accept", "application/json");
    if (body != NULL)
        kb_http_headers_set(&headers, "Content-Type", "application/merge-patch+json");
    KB_AUTOFREE char *url = kb_asprintf("%s%s%s", login->server, map->path,
                                        body != NULL ? "?fieldManager=kafka-backup-worker" : "");
    const kb_view part = kb_view_of(body, body != NULL ? strlen(body) : 0);
    const kb_http_request request = {
        .method = method,
        .url = url,
        .headers = &headers,
        .body = &part,
        .body_count = body != NULL ? 1 : 0,
        .max_body_bytes = KB_CONFIGMAP_BODY_MAX,
        .first_byte_ms = KB_CONFIGMAP_FIRST_BYTE_MS,
        .stop = map->stop,
    };
    return kb_http_exchange(http, &request, response, err);
}

/* What a status means, but for 2xx and 409. */
static kb_code fail_status(const kb_configmap *map, const char *method, const kb_http_response *response,
                           kb_error *err)
{
    int status = response->status;
    if (status == HTTP_NOT_FOUND)
        return kb_fail(err, KB_CONFIG_INVALID, "there is no %s; hint: create it, or use another store",
                       map->description);
    if (status == HTTP_FORBIDDEN || status == HTTP_UNAUTHORIZED)
        return kb_fail(err, KB_STORAGE_ACCESS_DENIED, "%s %s: the API server refuses it (%d)", method,
                       map->description, status);
    if (status == HTTP_TOO_MANY || status >= HTTP_SERVER_ERROR)
        return kb_fail_retryable(err, KB_STORAGE_UNREACHABLE, "%s %s: the API server answered %d", method,
                                 map->description, status);
    return kb_fail(err, KB_CONFIG_INVALID, "%s %s: the API server answered %d: %.200s", method,
                   map->description, status, response->body != NULL ? response->body : "");
}

/* One request, tried again while its failure may pass. A patch that may have arrived is not: the caller
 * looks. */
static kb_code send_request(kb_configmap *map, const char *method, const char *body,
                            kb_http_response *response, kb_error *err)
{
    kb_backoff backoff;
    kb_backoff_init(&backoff, KB_CONFIGMAP_BACKOFF_MS, KB_CONFIGMAP_BACKOFF_MAX_MS, NULL, NULL);
    bool is_renewed = false;
    for (int tries = 1;; tries++) {
        kb_error_done(err);
        kb_code code = send_once(map, method, body, response, err);
        if (code == KB_OK && response->status == HTTP_UNAUTHORIZED && !is_renewed) {
            is_renewed = true;
            kb_kube_access_refresh(map->access);
            continue;
        }
        if (code == KB_OK && (response->status / 100 == 2 || response->status == HTTP_CONFLICT))
            return KB_OK;
        if (code == KB_OK)
            code = fail_status(map, method, response, err);
        else if (err->retryable)
            code = kb_wrap_as(err, KB_STORAGE_UNREACHABLE, "%s %s", method, map->description);
        if (!err->retryable || tries >= KB_CONFIGMAP_TRIES || body != NULL)
            return code;
        if (map->stop != NULL && kb_backoff_wait(&backoff, map->stop))
            return kb_fail(err, KB_ERR_STOPPED, "stopped");
    }
}

/* ---- the map ---- */

static kb_code read_map(kb_configmap *map, json_t **ret_root, kb_error *err)
{
    KB_AUTO_RESPONSE(response);
    if (send_request(map, "GET", NULL, &response, err) != KB_OK)
        return err->code;
    json_error_t reason;
    json_t *root = json_loadb(response.body, response.body_len, 0, &reason);
    if (root == NULL || kb_tree_text(root, "metadata", "resourceVersion", NULL) == NULL) {
        json_decref(root);
        return kb_fail(err, KB_STORAGE_UNREACHABLE, "GET %s: the answer is no ConfigMap", map->description);
    }
    *ret_root = root;
    return KB_OK;
}

static size_t size_of(const json_t *root)
{
    const char *key;
    json_t *value;
    size_t bytes = 0;
    json_object_foreach(json_object_get(root, "data"), key, value) bytes +=
        strlen(key) + json_string_length(value);
    return bytes;
}

/* Sets (or with text NULL removes) one key. *ret_conflict: somebody else was faster, or nobody knows. */
static kb_code patch(kb_configmap *map, const json_t *root, const char *key, const char *text,
                     bool *ret_conflict, kb_error *err)
{
    KB_AUTO_TREE(body);
    body =
        kb_tree_need(json_pack("{s:{s:s},s:{s:s?}}", "metadata", "resourceVersion",
                               kb_tree_text(root, "metadata", "resourceVersion", NULL), "data", key, text));
    KB_AUTOFREE char *encoded = kb_tree_canonical(body);
    KB_AUTO_RESPONSE(response);
    kb_code code = send_request(map, "PATCH", encoded, &response, err);
    *ret_conflict = code == KB_OK ? response.status == HTTP_CONFLICT : err->retryable;
    return *ret_conflict ? KB_OK : code;
}

/* Reads, judges and patches until the key is as wanted; text NULL: gone. */
static kb_code change(kb_configmap *map, const char *key, const char *text, kb_error *err)
{
    kb_backoff backoff;
    kb_backoff_init(&backoff, KB_CONFIGMAP_BACKOFF_MS, KB_CONFIGMAP_BACKOFF_MAX_MS, NULL, NULL);
    for (int tries = 0; tries < KB_CONFIGMAP_TRIES; tries++) {
        KB_AUTO_TREE(root);
        kb_error_done(err);
        if (read_map(map, &root, err) != KB_OK)
            return err->code;
        const char *stored = kb_tree_text(root, "data", key, NULL);
        if (text != NULL && stored != NULL)
            return strcmp(stored, text) == 0
                       ? KB_OK
                       : kb_fail(err, KB_ERR_EXISTS, "%s has '%s' already", map->description, key);
        if (text == NULL && stored == NULL)
            return tries > 0 ? KB_OK
                             : kb_fail(err, KB_ERR_NOT_FOUND, "%s has no '%s'", map->description, key);
        if (text != NULL && size_of(root) + strlen(key) + strlen(text) > KB_CONFIGMAP_MAX_BYTES)
            return kb_fail(err, KB_SNAPSHOT_TOO_LARGE,
                           "%s would pass %zu KiB with '%s' (%zu KiB); hint: remove old snapshots by "
                           "offset-delete, or use another store",
                           map->description, KB_CONFIGMAP_MAX_BYTES >> 10, key, strlen(text) >> 10);
        bool conflict = false;
        if (patch(map, root, key, text, &conflict, err) != KB_OK)
            return err->code;
        if (!conflict)
            return KB_OK;
        if (map->stop != NULL && kb_backoff_wait(&backoff, map->stop))
            return kb_fail(err, KB_ERR_STOPPED, "stopped");
    }
    return kb_fail_retryable(err, KB_STORAGE_UNREACHABLE,
                             "%s: it changes all the time, or the API server fails", map->description);
}

kb_code kb_configmap_get(kb_configmap *map, const char *key, char **ret_text, kb_error *err)
{
    KB_AUTO_TREE(root);
    if (read_map(map, &root, err) != KB_OK)
        return err->code;
    const char *stored = kb_tree_text(root, "data", key, NULL);
    if (stored == NULL)
        return kb_fail(err, KB_ERR_NOT_FOUND, "%s has no '%s'", map->description, key);
    *ret_text = kb_strdup(stored);
    return KB_OK;
}

kb_code kb_configmap_put(kb_configmap *map, const char *key, const char *text, kb_error *err)
{
    return change(map, key, text, err);
}

kb_code kb_configmap_remove(kb_configmap *map, const char *key, kb_error *err)
{
    return change(map, key, NULL, err);
}

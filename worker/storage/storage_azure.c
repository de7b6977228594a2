#include "worker/storage/storage_azure.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/crypto_mac.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "worker/storage/azure_leftovers.h"
#include "worker/storage/azure_list.h"
#include "worker/storage/azure_store.h"
#include "worker/storage/azure_upload.h"
#include "worker/storage/object_claim.h"
#include "worker/storage/object_name.h"
#include "worker/storage/object_page.h"

#define KB_LIST_DEFAULT_ENTRIES ((size_t)1000)
#define KB_LIST_MOST_ENTRIES ((size_t)5000)
#define KB_QUERY_MAX_BYTES ((size_t)32 * 1024)

/* ---- calls ---- */

kb_azure_call kb_azure_store_call(kb_azure_store *store, kb_azure_purpose purpose, const char *verb,
                                  const char *method, const char *key, char **ret_name)
{
    *ret_name = kb_object_name(store->prefix, key);
    return (kb_azure_call){
        .container = &store->container,
        .purpose = purpose,
        .verb = verb,
        .method = method,
        .blob = *ret_name,
        .headers = KB_HTTP_HEADERS_INIT,
    };
}

kb_code kb_azure_store_absent(const kb_azure_store *store, const char *key, kb_error *err)
{
    return kb_fail(err, KB_ERR_NOT_FOUND, "there is no '%s' in Azure container '%s'", key,
                   store->container.name);
}

/* ---- reading ---- */

static kb_code azure_get(void *state, const char *key, size_t max_bytes, kb_blob *ret_blob, kb_error *err)
{
    kb_azure_store *store = state;
    KB_AUTOFREE char *name = NULL;
    KB_AUTO_RESPONSE(response);
    kb_azure_call call = kb_azure_store_call(store, KB_AZURE_READ, "read", "GET", key, &name);
    call.max_body_bytes = max_bytes > 0 ? max_bytes : 1;
    kb_code code = kb_azure_call_run(&call, &response, NULL, err);
    if (code != KB_OK)
        return code;
    if (response.status == 404)
        return kb_azure_store_absent(store, key, err);
    if (response.body_len > max_bytes)
        return kb_fail(err, KB_ERR_TOO_LARGE, "'%s' has more than %zu bytes", key, max_bytes);
    *ret_blob = (kb_blob){(uint8_t *)KB_TAKE(response.body), response.body_len};
    response.body_len = 0;
    return KB_OK;
}

static kb_code azure_head(void *state, const char *key, kb_object_info *ret_info, kb_error *err)
{
    kb_azure_store *store = state;
    KB_AUTOFREE char *name = NULL;
    KB_AUTO_RESPONSE(response);
    kb_azure_call call = kb_azure_store_call(store, KB_AZURE_READ, "look at", "HEAD", key, &name);
    kb_code code = kb_azure_call_run(&call, &response, NULL, err);
    if (code != KB_OK)
        return code;
    if (response.status == 404)
        return kb_azure_store_absent(store, key, err);
    const char *size = kb_http_response_header(&response, "Content-Length");
    const char *time = kb_http_response_header(&response, "Last-Modified");
    int64_t bytes = 0, mtime_ms = 0;
    if (size == NULL || !kb_parse_i64(size, &bytes) || bytes < 0 || time == NULL ||
        !kb_http_parse_date(time, &mtime_ms))
        return kb_fail(err, KB_ERR_FORMAT, "the answer about '%s' in Azure container '%s' lacks size or time",
                       key, store->container.name);
    bool is_versioned = kb_http_response_header(&response, "x-ms-version-id") != NULL;
    atomic_store(&store->is_versioned, is_versioned);
    *ret_info = (kb_object_info){(uint64_t)bytes, mtime_ms};
    return KB_OK;
}

static kb_code azure_get_range(void *state, const char *key, uint64_t offset, void *to, size_t len,
                               kb_error *err)
{
    kb_azure_store *store = state;
    if (len == 0) {
        kb_object_info info;
        kb_code code = azure_head(store, key, &info, err);
        if (code == KB_OK && offset > info.size_bytes)
            return kb_fail(err, KB_ERR_FORMAT, "'%s' has %llu bytes, and those from %llu on were wanted", key,
                           (unsigned long long)info.size_bytes, (unsigned long long)offset);
        return code;
    }
    if (offset > INT64_MAX - len)
        return kb_fail(err, KB_ERR_FORMAT, "'%s' has no byte %llu", key, (unsigned long long)offset);
    KB_AUTOFREE char *name = NULL;
    KB_AUTO_RESPONSE(response);
    kb_azure_call call = kb_azure_store_call(store, KB_AZURE_READ, "read", "GET", key, &name);
    kb_code code = kb_azure_call_range(&call, offset, to, len, &response, err);
    if (code == KB_OK && response.status == 404)
        return kb_azure_store_absent(store, key, err);
    return code;
}

/* ---- listing ---- */

static void append_option(kb_strbuf *query, const char *name, const char *value)
{
    kb_strbuf_appendf(query, "&%s=", name);
    kb_url_append(query, value, "");
}

static kb_code azure_list_page(void *state, const kb_list_options *options, kb_list_page *ret_page,
                               kb_error *err)
{
    kb_azure_store *store = state;
    KB_AUTOFREE char *below = kb_object_name_prefix(store->prefix, options->prefix);
    KB_AUTO_STRBUF(query, KB_QUERY_MAX_BYTES);
    KB_AUTO_RESPONSE(response);
    size_t max = options->max_entries > 0 ? options->max_entries : KB_LIST_DEFAULT_ENTRIES;
    kb_strbuf_appendf(&query, "restype=container&comp=list&maxresults=%zu",
                      max < KB_LIST_MOST_ENTRIES ? max : KB_LIST_MOST_ENTRIES);
    if (below[0] != '\0')
        append_option(&query, "prefix", below);
    if (options->by_folder)
        append_option(&query, "delimiter", "/");
    if (options->after != NULL)
        append_option(&query, "marker", options->after);
    kb_code code = kb_strbuf_check(&query, "a listing's query", err);
    if (code != KB_OK)
        return code;
    const kb_azure_call call = {
        .container = &store->container,
        .purpose = KB_AZURE_LOOK,
        .verb = "list",
        .method = "GET",
        .query = query.data,
        .max_body_bytes = KB_AZURE_LIST_BYTES,
    };
    code = kb_azure_call_run(&call, &response, NULL, err);
    if (code != KB_OK)
        return code;
    KB_CLEANUP(kb_list_page_done) kb_list_page page = KB_LIST_PAGE_INIT;
    code = kb_azure_list_parse(response.body, response.body_len, store->prefix, &page, err);
    if (code != KB_OK)
        return kb_wrap_as(err, KB_STORAGE_IO_ERROR, "listing Azure container '%s'", store->container.name);
    if (page.next != NULL && options->after != NULL && strcmp(page.next, options->after) == 0)
        return kb_fail(err, KB_STORAGE_IO_ERROR,
                       "listing Azure container '%s' turns in a circle: a page is "
                       "followed by itself",
                       store->container.name);
    *ret_page = page;
    page = (kb_list_page)KB_LIST_PAGE_INIT;
    return KB_OK;
}

/* ---- writing ---- */

kb_code kb_azure_store_put(kb_azure_store *store, const char *key, const kb_view *parts, size_t count,
                           kb_http_attempt *ret_attempt, kb_error *err)
{
    KB_AUTOFREE char *name = NULL;
    KB_AUTO_RESPONSE(response);
    char md5[KB_MD5_TEXT_SIZE];
    kb_azure_call call = kb_azure_store_call(store, KB_AZURE_CREATE, "write", "PUT", key, &name);
    kb_md5_text_of(parts, count, md5);
    for (call.body_count = 0; call.body_count < count; call.body_count++)
        call.body[call.body_count] = parts[call.body_count];
    kb_http_headers_set(&call.headers, "x-ms-blob-type", "BlockBlob");
    kb_http_headers_set(&call.headers, "If-None-Match", "*");
    kb_http_headers_set(&call.headers, "Content-MD5", md5);
    kb_http_headers_set(&call.headers, "Content-Type", "application/octet-stream");
    kb_code code = kb_azure_call_run(&call, &response, ret_attempt, err);
    kb_http_headers_done(&call.headers);
    if (code == KB_OK && response.status >= 300)
        return kb_fail(err, KB_ERR_EXISTS, "'%s' is there already in Azure container '%s'", key,
                       store->container.name);
    return code;
}

static kb_code azure_put_if_absent(void *state, const char *key, kb_view bytes, kb_error *err)
{
    kb_http_attempt attempt = {0};
    kb_code code = kb_azure_store_put(state, key, &bytes, 1, &attempt, err);
    if (code != KB_ERR_EXISTS || !attempt.maybe_applied)
        return code;
    bool is_mine = false;
    KB_AUTO_ERROR(taken);
    kb_error_move(&taken, err);
    code = kb_claim_check_bytes(bytes, &kb_azure_driver, state, key, &is_mine, err);
    if (code != KB_OK || is_mine)
        return code;
    kb_error_move(err, &taken);
    return err->code;
}

/* ---- removing ---- */

/* Whether removing only hides: known from any look at a blob. */
static kb_code learn_versioning(kb_azure_store *store, const char *key, kb_error *err)
{
    kb_object_info info;
    return atomic_load(&store->is_versioned) >= 0 ? KB_OK : azure_head(store, key, &info, err);
}

static kb_code remove_one(kb_azure_store *store, const char *key, kb_remove_outcome *ret_outcome,
                          kb_error *err)
{
    KB_AUTOFREE char *name = NULL;
    KB_AUTO_RESPONSE(response);
    kb_code code = learn_versioning(store, key, err);
    if (code != KB_OK)
        return code;
    kb_azure_call call = kb_azure_store_call(store, KB_AZURE_REMOVE, "remove", "DELETE", key, &name);
    code = kb_azure_call_run(&call, &response, NULL, err);
    if (code != KB_OK)
        return code;
    if (response.status == 404)
        return kb_azure_store_absent(store, key, err);
    if (response.status >= 300)
        return kb_fail(
            err, KB_STORAGE_ACCESS_DENIED,
            "'%s' in Azure container '%s' is held: %d %s; hint: a lease, an immutability policy, a "
            "legal hold or a snapshot protects it",
            key, store->container.name, response.status, kb_azure_error_code(&response));
    const char *permanent = kb_http_response_header(&response, "x-ms-delete-type-permanent");
    bool is_hidden = atomic_load(&store->is_versioned) > 0 || (permanent != NULL && permanent[0] == 'f');
    *ret_outcome = is_hidden ? KB_REMOVE_HIDDEN : KB_REMOVE_GONE;
    return KB_OK;
}

static kb_code azure_remove(void *state, const char *key, kb_error *err)
{
    kb_remove_outcome outcome;
    return remove_one(state, key, &outcome, err);
}

static kb_code azure_remove_many(void *state, const char *const *keys, size_t count,
                                 kb_remove_outcome *outcomes, kb_error *err)
{
    for (size_t i = 0; i < count; i++) {
        KB_AUTO_ERROR(refused);
        kb_code code = remove_one(state, keys[i], &outcomes[i], &refused);
        if (code == KB_ERR_NOT_FOUND) {
            outcomes[i] = KB_REMOVE_ABSENT;
        } else if (code == KB_STORAGE_ACCESS_DENIED) {
            outcomes[i] = KB_REMOVE_HELD;
        } else if (code != KB_OK) {
            kb_error_move(err, &refused);
            return code;
        }
    }
    return KB_OK;
}

static kb_code azure_now(void *state, int64_t *ret_now_ms, kb_error *err)
{
    kb_azure_store *store = state;
    const kb_list_options one = {.prefix = "", .max_entries = 1};
    if (!atomic_load(&store->container.has_answered)) {
        KB_CLEANUP(kb_list_page_done) kb_list_page page = KB_LIST_PAGE_INIT;
        kb_code code = azure_list_page(store, &one, &page, err);
        if (code != KB_OK)
            return code;
    }
    *ret_now_ms = kb_clock_wall_ms() + atomic_load(&store->container.server_ahead);
    return KB_OK;
}

static void azure_set_part_bytes(void *state, size_t part_bytes)
{
    ((kb_azure_store *)state)->block_bytes = part_bytes;
}

/* ---- opening ---- */

static void azure_free(void *owned_state)
{
    kb_azure_store *store = owned_state;
    kb_azure_container_done(&store->container);
    free(store->prefix);
    free(store);
}

const kb_storage_driver kb_azure_driver = {
    .name = "azure",
    .free_state = azure_free,
    .put_if_absent = azure_put_if_absent,
    .get = azure_get,
    .get_range = azure_get_range,
    .head = azure_head,
    .remove = azure_remove,
    .list_page = azure_list_page,
    .upload_begin = kb_azure_upload_begin,
    .upload_append = kb_azure_upload_append,
    .upload_complete = kb_azure_upload_complete,
    .upload_free = kb_azure_upload_free,
    .abort_leftovers = kb_azure_abort_leftovers,
    .remove_many = azure_remove_many,
    .now = azure_now,
    .set_part_bytes = azure_set_part_bytes,
    .list_leftovers = kb_azure_list_leftovers,
    .abort_leftover = kb_azure_abort_leftover,
};

kb_code kb_storage_open_azure(const kb_azure_options *options, kb_storage **ret_storage, kb_error *err)
{
    const kb_config_azure *config = options->config;
    kb_azure_store *store = kb_calloc(1, sizeof *store);
    store->container.net = options->owned_net;
    atomic_init(&store->is_versioned, -1);
    store->block_bytes = KB_AZURE_BLOCK_BYTES;
    const kb_azure_auth_options auth = {
        .config = config,
        .env = options->env,
        .tokens = options->owned_net->tokens,
        .metadata = options->owned_net->metadata,
        .metadata_url = options->metadata_url,
    };
    kb_code code = config->container_name != NULL
                       ? kb_azure_auth_new(&auth, &store->container.auth, err)
                       : kb_fail(err, KB_CONFIG_INVALID, "storage.container_name: is required");
    if (code != KB_OK) {
        azure_free(store);
        return code;
    }
    KB_AUTO_STRBUF(url, KB_QUERY_MAX_BYTES);
    kb_strbuf_appendf(&url, "%s/", kb_azure_auth_endpoint(store->container.auth));
    kb_url_append(&url, config->container_name, "");
    store->container.url = kb_strdup(kb_strbuf_view(&url));
    store->container.name = kb_strdup(config->container_name);
    store->prefix = kb_strdup_opt(config->prefix);
    KB_AUTOFREE char *describe =
        kb_asprintf("azure://%s/%s%s%s", kb_azure_auth_account(store->container.auth), store->container.name,
                    store->prefix != NULL ? "/" : "", store->prefix != NULL ? store->prefix : "");
    const kb_storage_caps caps = {.conditional_put = true,
                                  .part_bytes = KB_AZURE_BLOCK_BYTES,
                                  .min_part_bytes = KB_AZURE_SMALLEST_BLOCK_BYTES};
    *ret_storage = kb_storage_new(&kb_azure_driver, store, &caps, describe);
    return KB_OK;
}

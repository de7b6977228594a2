#include "worker/storage/azure_leftovers.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/storage/azure_list.h"
#include "worker/storage/azure_store.h"
#include "worker/storage/object_name.h"
#include "worker/storage/object_page.h"

#define KB_QUERY_MAX_BYTES ((size_t)32 * 1024)

static kb_code list_with_unfinished(kb_azure_store *store, const char *prefix, const char *marker,
                                    kb_list_page *ret_page, kb_error *err)
{
    KB_AUTOFREE char *below = kb_object_name_prefix(store->prefix, prefix);
    KB_AUTO_STRBUF(query, KB_QUERY_MAX_BYTES);
    KB_AUTO_RESPONSE(response);
    kb_strbuf_appends(&query, "restype=container&comp=list&include=uncommittedblobs&prefix=");
    kb_url_append(&query, below, "");
    if (marker != NULL) {
        kb_strbuf_appends(&query, "&marker=");
        kb_url_append(&query, marker, "");
    }
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
    if (code == KB_OK)
        code = kb_azure_list_parse(response.body, response.body_len, store->prefix, ret_page, err);
    if (code == KB_OK && marker != NULL && ret_page->next != NULL && strcmp(ret_page->next, marker) == 0) {
        kb_list_page_done(ret_page);
        code = kb_fail(err, KB_STORAGE_IO_ERROR, "a page of the listing is followed by itself");
    }
    return code;
}

/* An unfinished blob is listed without bytes, and is not there when it is looked at. */
static kb_code visit_entry(kb_azure_store *store, const kb_list_entry *entry, kb_leftover_fn fn, void *ctx,
                           kb_error *err)
{
    KB_AUTO_ERROR(absent);
    kb_object_info info;
    int64_t now_ms = 0;
    if (entry->info.size_bytes > 0)
        return KB_OK;
    kb_code code = kb_azure_driver.head(store, entry->key, &info, &absent);
    if (code == KB_OK)
        return KB_OK;
    if (code != KB_ERR_NOT_FOUND) {
        kb_error_move(err, &absent);
        return code;
    }
    /* Without a time it counts as new: the service ends it by itself. */
    code = kb_azure_driver.now(store, &now_ms, err);
    if (code != KB_OK)
        return code;
    const kb_leftover leftover = {
        .key = entry->key,
        .token = "",
        .began_ms = entry->info.mtime_ms > 0 ? entry->info.mtime_ms : now_ms,
    };
    return fn(ctx, &leftover, err);
}

kb_code kb_azure_list_leftovers(void *state, const char *prefix, kb_leftover_fn fn, void *ctx, kb_error *err)
{
    KB_AUTOFREE char *marker = NULL;
    do {
        KB_CLEANUP(kb_list_page_done) kb_list_page page = KB_LIST_PAGE_INIT;
        kb_code code = list_with_unfinished(state, prefix, marker, &page, err);
        for (size_t i = 0; code == KB_OK && i < page.count; i++)
            code = visit_entry(state, &page.entries[i], fn, ctx, err);
        if (code != KB_OK)
            return code;
        free(marker);
        marker = KB_TAKE(page.next);
    } while (marker != NULL);
    return KB_OK;
}

/* Whether an empty blob could turn out to be there for ever; what cannot be asked counts as yes. */
static bool may_be_immutable(kb_azure_store *store)
{
    static const char *const policies[] = {"x-ms-has-immutability-policy", "x-ms-has-legal-hold",
                                           "x-ms-immutable-storage-with-versioning-enabled"};
    KB_AUTO_ERROR(ignored);
    KB_AUTO_RESPONSE(response);
    const kb_azure_call call = {
        .container = &store->container,
        .purpose = KB_AZURE_LOOK,
        .verb = "look at",
        .method = "HEAD",
        .query = "restype=container",
    };
    if (kb_azure_call_run(&call, &response, NULL, &ignored) != KB_OK)
        return true;
    for (size_t i = 0; i < KB_ARRAY_LEN(policies); i++) {
        const char *value = kb_http_response_header(&response, policies[i]);
        if (value != NULL && strcmp(value, "true") == 0)
            return true;
    }
    return false;
}

/* *ret_etag is NULL when the key is taken: then it is no leftover any more. */
static kb_code publish_empty(kb_azure_store *store, const char *key, char **ret_etag, kb_error *err)
{
    static const char nothing[] = "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList></BlockList>";
    KB_AUTOFREE char *name = NULL;
    KB_AUTO_RESPONSE(response);
    kb_azure_call call = kb_azure_store_call(store, KB_AZURE_CREATE, "discard blocks of", "PUT", key, &name);
    call.query = "comp=blocklist";
    call.body[0] = kb_view_of(nothing, sizeof nothing - 1);
    call.body_count = 1;
    kb_http_headers_set(&call.headers, "If-None-Match", "*");
    kb_http_headers_set(&call.headers, "Content-Type", "application/xml");
    kb_code code = kb_azure_call_run(&call, &response, NULL, err);
    kb_http_headers_done(&call.headers);
    if (code == KB_OK && response.status < 300)
        *ret_etag = kb_strdup_opt(kb_http_response_header(&response, "ETag"));
    return code;
}

static kb_code remove_empty(kb_azure_store *store, const char *key, const char *etag, kb_error *err)
{
    KB_AUTOFREE char *name = NULL;
    KB_AUTO_RESPONSE(response);
    kb_azure_call call = kb_azure_store_call(store, KB_AZURE_REMOVE, "remove", "DELETE", key, &name);
    kb_http_headers_set(&call.headers, "If-Match", etag);
    kb_code code = kb_azure_call_run(&call, &response, NULL, err);
    kb_http_headers_done(&call.headers);
    return code;
}

static kb_code discard(kb_azure_store *store, const char *key, kb_error *err)
{
    KB_AUTOFREE char *etag = NULL;
    kb_code code = publish_empty(store, key, &etag, err);
    return code != KB_OK || etag == NULL ? code : remove_empty(store, key, etag, err);
}

static kb_code discard_found(void *ctx, const kb_leftover *leftover, kb_error *err)
{
    kb_azure_store *store = ((void **)ctx)[0];
    size_t *count = ((void **)ctx)[1];
    kb_code code = discard(store, leftover->key, err);
    *count += code == KB_OK;
    return code;
}

kb_code kb_azure_abort_leftover(void *state, const kb_leftover *leftover, kb_error *err)
{
    kb_azure_store *store = state;
    kb_object_info info;
    KB_AUTO_ERROR(absent);
    if (may_be_immutable(store))
        return KB_OK;
    /* Published meanwhile, or discarded already: an empty blob must not appear where nothing waits. */
    if (kb_azure_driver.head(store, leftover->key, &info, &absent) == KB_OK)
        return KB_OK;
    return discard(store, leftover->key, err);
}

kb_code kb_azure_abort_leftovers(void *state, const char *prefix, size_t *ret_count, kb_error *err)
{
    void *ctx[] = {state, ret_count};
    *ret_count = 0;
    if (may_be_immutable(state))
        return KB_OK;
    return kb_azure_list_leftovers(state, prefix, discard_found, ctx, err);
}

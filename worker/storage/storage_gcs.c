#include "worker/storage/storage_gcs.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/failpoint.h"
#include "common/base/mem.h"
#include "common/data/json_write.h"
#include "worker/auth/gcp_auth.h"
#include "worker/storage/gcs_json.h"
#include "worker/storage/object_name.h"
#include "worker/storage/object_page.h"
#include "worker/storage/storage_driver.h"

#define KB_QUERY_MAX_BYTES ((size_t)32 * 1024)
#define KB_ANSWER_BYTES ((size_t)1024 * 1024)
#define KB_LIST_BYTES ((size_t)64 * 1024 * 1024)
#define KB_LIST_MOST_ENTRIES ((size_t)1000)
#define KB_LEVEL_MOST_ENTRIES ((size_t)2 * 1000 * 1000)
#define KB_CHUNK_BYTES ((size_t)1024 * 1024)
#define KB_BOUNDARY_BYTES 16
/* The service takes 5 TiB; what is held in memory must end somewhere. */
#define KB_UPLOAD_MAX_BYTES ((uint64_t)4 << 30)

static const char default_endpoint[] = "https://storage.googleapis.com";
static const char object_fields[] = "fields=name,size,timeCreated,md5Hash";

typedef struct gcs_store {
    kb_gcs_bucket bucket;
    char *prefix;     /* owned; NULL = none */
    atomic_int hides; /* removing only hides; -1 = not known */
} gcs_store;

/* An upload: the body in pieces, so that it grows without being copied. */
typedef struct gcs_upload {
    gcs_store *store; /* borrowed */
    char *key;
    uint8_t **chunks; /* KB_CHUNK_BYTES each */
    size_t chunk_count, chunk_capacity;
    uint64_t used; /* bytes in all of them */
} gcs_upload;

static kb_code fail_absent(gcs_store *store, const char *key, kb_error *err)
{
    /* 404 is also said of buckets. */
    kb_code code = kb_gcs_check_bucket(&store->bucket, err);
    return code != KB_OK ? code
                         : kb_fail(err, KB_ERR_NOT_FOUND, "there is no '%s' in GCS bucket '%s'", key,
                                   store->bucket.name);
}

/* ---- reading ---- */

static kb_code gcs_get(void *state, const char *key, size_t max_bytes, kb_blob *ret_blob, kb_error *err)
{
    gcs_store *store = state;
    KB_AUTOFREE char *name = kb_object_name(store->prefix, key);
    KB_AUTO_RESPONSE(response);
    const kb_gcs_call call = {
        .bucket = &store->bucket,
        .purpose = KB_GCS_READ,
        .verb = "read",
        .method = "GET",
        .object = name,
        .query = "alt=media",
        .max_body_bytes = max_bytes > 0 ? max_bytes : 1,
    };
    kb_code code = kb_gcs_call_run(&call, &response, NULL, err);
    if (code != KB_OK)
        return code;
    if (response.status == 404)
        return fail_absent(store, key, err);
    if (response.body_len > max_bytes)
        return kb_fail(err, KB_ERR_TOO_LARGE, "'%s' has more than %zu bytes", key, max_bytes);
    *ret_blob = (kb_blob){(uint8_t *)KB_TAKE(response.body), response.body_len};
    response.body_len = 0;
    return KB_OK;
}

static kb_code look_at(gcs_store *store, const char *key, kb_gcs_object *ret_object, kb_error *err)
{
    KB_AUTOFREE char *name = kb_object_name(store->prefix, key);
    KB_AUTO_RESPONSE(response);
    const kb_gcs_call call = {
        .bucket = &store->bucket,
        .purpose = KB_GCS_READ,
        .verb = "look at",
        .method = "GET",
        .object = name,
        .query = object_fields,
        .max_body_bytes = KB_ANSWER_BYTES,
    };
    kb_code code = kb_gcs_call_run(&call, &response, NULL, err);
    if (code != KB_OK)
        return code;
    if (response.status == 404)
        return fail_absent(store, key, err);
    code = kb_gcs_object_parse(kb_view_of(response.body, response.body_len), ret_object, err);
    return code != KB_OK ? kb_wrap_as(err, KB_STORAGE_IO_ERROR, "the answer about '%s' in GCS bucket '%s'",
                                      key, store->bucket.name)
                         : code;
}

static kb_code gcs_head(void *state, const char *key, kb_object_info *ret_info, kb_error *err)
{
    kb_gcs_object object = {.md5 = ""};
    kb_code code = look_at(state, key, &object, err);
    if (code == KB_OK)
        *ret_info = object.info;
    return code;
}

static kb_code gcs_get_range(void *state, const char *key, uint64_t offset, void *to, size_t len,
                             kb_error *err)
{
    gcs_store *store = state;
    if (offset > INT64_MAX - len)
        return kb_fail(err, KB_ERR_FORMAT, "'%s' has no byte %llu", key, (unsigned long long)offset);
    if (len == 0) {
        kb_object_info info;
        kb_code code = gcs_head(store, key, &info, err);
        if (code == KB_OK && offset > info.size_bytes)
            return kb_fail(err, KB_ERR_FORMAT, "'%s' has %llu bytes, and those from %llu on were wanted", key,
                           (unsigned long long)info.size_bytes, (unsigned long long)offset);
        return code;
    }
    KB_AUTOFREE char *name = kb_object_name(store->prefix, key);
    KB_AUTO_RESPONSE(response);
    const kb_gcs_call call = {
        .bucket = &store->bucket,
        .purpose = KB_GCS_READ,
        .verb = "read",
        .method = "GET",
        .object = name,
        .query = "alt=media",
    };
    kb_code code = kb_gcs_call_range(&call, offset, to, len, &response, err);
    if (code == KB_OK && response.status == 404)
        return fail_absent(store, key, err);
    return code;
}

/* ---- listing ---- */

static void append_option(kb_strbuf *query, const char *name, const char *value)
{
    kb_strbuf_appendf(query, "&%s=", name);
    kb_url_append(query, value, "");
}

static kb_code list_one(gcs_store *store, const kb_list_options *options, kb_list_page *ret_page,
                        kb_error *err)
{
    KB_AUTOFREE char *below = kb_object_name_prefix(store->prefix, options->prefix);
    KB_AUTO_STRBUF(query, KB_QUERY_MAX_BYTES);
    KB_AUTO_RESPONSE(response);
    bool is_small = options->max_entries > 0 && options->max_entries < KB_LIST_MOST_ENTRIES;
    kb_strbuf_appendf(&query, "fields=nextPageToken,prefixes,items(name,size,timeCreated)&maxResults=%zu",
                      is_small ? options->max_entries : KB_LIST_MOST_ENTRIES);
    if (below[0] != '\0')
        append_option(&query, "prefix", below);
    if (options->by_folder)
        append_option(&query, "delimiter", "/");
    if (options->after != NULL)
        append_option(&query, "pageToken", options->after);
    kb_code code = kb_strbuf_check(&query, "a listing's query", err);
    if (code != KB_OK)
        return code;
    const kb_gcs_call call = {
        .bucket = &store->bucket,
        .purpose = KB_GCS_LOOK,
        .verb = "list",
        .method = "GET",
        .is_collection = true,
        .query = query.data,
        .max_body_bytes = KB_LIST_BYTES,
    };
    code = kb_gcs_call_run(&call, &response, NULL, err);
    if (code != KB_OK)
        return code;
    KB_CLEANUP(kb_list_page_done) kb_list_page page = KB_LIST_PAGE_INIT;
    code = kb_gcs_list_parse(kb_view_of(response.body, response.body_len), store->prefix, &page, err);
    if (code != KB_OK)
        return kb_wrap_as(err, KB_STORAGE_IO_ERROR, "listing GCS bucket '%s'", store->bucket.name);
    if (page.next != NULL && options->after != NULL && strcmp(page.next, options->after) == 0)
        return kb_fail(err, KB_STORAGE_IO_ERROR,
                       "listing GCS bucket '%s' turns in a circle: a page is followed by itself",
                       store->bucket.name);
    *ret_page = page;
    page = (kb_list_page)KB_LIST_PAGE_INIT;
    return KB_OK;
}

static void take_entries(kb_list_page *to, kb_list_page *from)
{
    to->entries = kb_realloc(to->entries, to->count + from->count + 1, sizeof *to->entries);
    for (size_t i = 0; i < from->count; i++)
        to->entries[to->count++] = from->entries[i];
    from->count = 0;
}

static void drop_twins(kb_list_page *page)
{
    size_t kept = 0;
    for (size_t i = 0; i < page->count; i++) {
        if (kept > 0 && strcmp(page->entries[kept - 1].key, page->entries[i].key) == 0)
            free(page->entries[i].key);
        else
            page->entries[kept++] = page->entries[i];
    }
    page->count = kept;
}

/*
 * One level, as one page: folders and objects come in two lists, and nothing promises that those of one page
 * come before those of the next.
 */
static kb_code list_level(gcs_store *store, const kb_list_options *options, kb_list_page *ret_page,
                          kb_error *err)
{
    KB_CLEANUP(kb_list_page_done) kb_list_page all = KB_LIST_PAGE_INIT;
    KB_AUTOFREE char *after = NULL;
    do {
        KB_CLEANUP(kb_list_page_done) kb_list_page page = KB_LIST_PAGE_INIT;
        const kb_list_options next = {.prefix = options->prefix, .by_folder = true, .after = after};
        kb_code code = list_one(store, &next, &page, err);
        if (code == KB_OK && all.count + page.count > KB_LEVEL_MOST_ENTRIES)
            code = kb_fail(err, KB_ERR_TOO_LARGE, "'%s' in GCS bucket '%s' has more than %zu entries",
                           options->prefix, store->bucket.name, KB_LEVEL_MOST_ENTRIES);
        if (code != KB_OK)
            return code;
        take_entries(&all, &page);
        free(after);
        after = KB_TAKE(page.next);
    } while (after != NULL);
    kb_object_page_sort(&all);
    drop_twins(&all);
    *ret_page = all;
    all = (kb_list_page)KB_LIST_PAGE_INIT;
    return KB_OK;
}

static kb_code gcs_list_page(void *state, const kb_list_options *options, kb_list_page *ret_page,
                             kb_error *err)
{
    return options->by_folder ? list_level(state, options, ret_page, err)
                              : list_one(state, options, ret_page, err);
}

/* ---- writing ---- */

/* The first part of a multipart body: the object's metadata, with the hash that the service checks. */
static kb_code build_preamble(const char *boundary, const char *name, const char *md5, kb_strbuf *to,
                              kb_error *err)
{
    KB_AUTO_STRBUF(json, KB_QUERY_MAX_BYTES);
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *w = kb_json_writer_new(KB_JSON_COMPACT, &json);
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "name", name);
    kb_json_field_text(w, "contentType", "application/octet-stream");
    kb_json_field_text(w, "md5Hash", md5);
    kb_json_put_end_object(w);
    kb_code code = kb_json_writer_finish(w, err);
    if (code != KB_OK)
        return code;
    kb_strbuf_appendf(to,
                      "--%s\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%s\r\n"
                      "--%s\r\nContent-Type: application/octet-stream\r\n\r\n",
                      boundary, json.data, boundary);
    return kb_strbuf_check(to, "the head of an upload", err);
}

static kb_code new_boundary(char to[2 * KB_BOUNDARY_BYTES + 1], kb_error *err)
{
    uint8_t bytes[KB_BOUNDARY_BYTES];
    kb_code code = kb_random_bytes(bytes, sizeof bytes, err);
    if (code == KB_OK)
        kb_hex_encode(bytes, sizeof bytes, to);
    return code;
}

static kb_code check_created(const kb_http_response *response, uint64_t size, const char *md5, kb_error *err)
{
    kb_gcs_object object = {.md5 = ""};
    kb_code code = kb_gcs_object_parse(kb_view_of(response->body, response->body_len), &object, err);
    if (code != KB_OK)
        return kb_wrap_as(err, KB_STORAGE_IO_ERROR, "the answer to an upload");
    if (object.info.size_bytes != size || (object.md5[0] != '\0' && strcmp(object.md5, md5) != 0))
        return kb_fail(err, KB_STORAGE_IO_ERROR, "the service stored other bytes than it was sent");
    return KB_OK;
}

/*
 * Whether the object that is there has our size and hash. Bytes that are the same and were sent by somebody
 * else cannot be told apart, and need not be.
 */
static kb_code is_mine(gcs_store *store, const char *key, uint64_t size, const char *md5, bool *ret_is_mine,
                       kb_error *err)
{
    kb_gcs_object object = {.md5 = ""};
    kb_code code = look_at(store, key, &object, err);
    *ret_is_mine = code == KB_OK && object.info.size_bytes == size && strcmp(object.md5, md5) == 0;
    return code;
}

/* One conditional upload of `parts`, whose first and last place are left free for what stands around them. */
static kb_code upload_parts(gcs_store *store, const char *key, kb_view *parts, size_t count,
                            const char *failpoint, kb_error *err)
{
    char md5[KB_MD5_TEXT_SIZE], boundary[2 * KB_BOUNDARY_BYTES + 1];
    KB_AUTOFREE char *name = kb_object_name(store->prefix, key);
    KB_AUTO_STRBUF(preamble, KB_QUERY_MAX_BYTES);
    KB_AUTO_RESPONSE(response);
    kb_http_attempt attempt = {0};
    uint64_t size = 0;
    kb_md5_text_of(parts + 1, count - 2, md5);
    for (size_t i = 1; i < count - 1; i++)
        size += parts[i].len;
    kb_code code = new_boundary(boundary, err);
    if (code == KB_OK)
        code = build_preamble(boundary, name, md5, &preamble, err);
    if (code != KB_OK)
        return code;
    KB_AUTOFREE char *type = kb_asprintf("multipart/related; boundary=%s", boundary);
    KB_AUTOFREE char *end = kb_asprintf("\r\n--%s--\r\n", boundary);
    KB_AUTOFREE char *query = kb_asprintf("uploadType=multipart&ifGenerationMatch=0&%s", object_fields);
    parts[0] = kb_view_of(preamble.data, preamble.len);
    parts[count - 1] = kb_view_of(end, strlen(end));
    const kb_gcs_call call = {
        .bucket = &store->bucket,
        .purpose = KB_GCS_CREATE,
        .verb = "write",
        .method = "POST",
        .is_upload = true,
        .object = name,
        .query = query,
        .content_type = type,
        .body = parts,
        .body_count = count,
        .max_body_bytes = KB_ANSWER_BYTES,
    };
    code = kb_gcs_call_run(&call, &response, &attempt, err);
    if (code != KB_OK)
        return code;
    bool may_be_mine = attempt.maybe_applied;
    if (response.status < 300) {
        code = check_created(&response, size, md5, err);
        if (code != KB_OK || failpoint == NULL || KB_FAILPOINT(failpoint, err) == KB_OK)
            return code;
        may_be_mine = true;
    }
    bool mine = false;
    code = may_be_mine ? is_mine(store, key, size, md5, &mine, err) : KB_OK;
    if (code != KB_OK || mine)
        return code;
    return kb_fail(err, KB_ERR_EXISTS, "'%s' is there already in GCS bucket '%s'", key, store->bucket.name);
}

static kb_code gcs_put_if_absent(void *state, const char *key, kb_view bytes, kb_error *err)
{
    kb_view parts[3] = {[1] = bytes};
    return upload_parts(state, key, parts, 3, NULL, err);
}

/* ---- removing ---- */

/* Unknown counts as no: the permission to look at the bucket is often not given. */
static bool does_hide(gcs_store *store)
{
    KB_AUTO_ERROR(ignored);
    KB_AUTO_RESPONSE(response);
    bool hides = false;
    if (atomic_load(&store->hides) >= 0)
        return atomic_load(&store->hides) > 0;
    const kb_gcs_call call = {
        .bucket = &store->bucket,
        .purpose = KB_GCS_LOOK,
        .verb = "look at",
        .method = "GET",
        .query = "fields=versioning,softDeletePolicy",
        .max_body_bytes = KB_ANSWER_BYTES,
    };
    kb_code code = kb_gcs_call_run(&call, &response, NULL, &ignored);
    if (code == KB_OK)
        code = kb_gcs_bucket_hides(kb_view_of(response.body, response.body_len), &hides, &ignored);
    atomic_store(&store->hides, code == KB_OK && hides);
    return code == KB_OK && hides;
}

static kb_code gcs_remove(void *state, const char *key, kb_error *err)
{
    gcs_store *store = state;
    KB_AUTOFREE char *name = kb_object_name(store->prefix, key);
    KB_AUTO_RESPONSE(response);
    const kb_gcs_call call = {
        .bucket = &store->bucket,
        .purpose = KB_GCS_REMOVE,
        .verb = "remove",
        .method = "DELETE",
        .object = name,
        .max_body_bytes = KB_ANSWER_BYTES,
    };
    kb_code code = kb_gcs_call_run(&call, &response, NULL, err);
    if (code != KB_OK)
        return code;
    if (response.status == 404)
        return fail_absent(store, key, err);
    if (response.status >= 300)
        return kb_fail(err, KB_STORAGE_ACCESS_DENIED,
                       "'%s' in GCS bucket '%s' is held: %d; hint: a retention policy or a hold protects it",
                       key, store->bucket.name, response.status);
    return KB_OK;
}

static kb_code gcs_remove_many(void *state, const char *const *keys, size_t count,
                               kb_remove_outcome *outcomes, kb_error *err)
{
    gcs_store *store = state;
    bool hides = does_hide(store);
    for (size_t i = 0; i < count; i++) {
        KB_AUTO_ERROR(refused);
        kb_code code = gcs_remove(store, keys[i], &refused);
        if (code == KB_OK) {
            outcomes[i] = hides ? KB_REMOVE_HIDDEN : KB_REMOVE_GONE;
        } else if (code == KB_ERR_NOT_FOUND) {
            outcomes[i] = KB_REMOVE_ABSENT;
        } else if (code == KB_STORAGE_ACCESS_DENIED) {
            outcomes[i] = KB_REMOVE_HELD;
        } else {
            kb_error_move(err, &refused);
            return code;
        }
    }
    return KB_OK;
}

static kb_code gcs_now(void *state, int64_t *ret_now_ms, kb_error *err)
{
    gcs_store *store = state;
    const kb_list_options one = {.prefix = "", .max_entries = 1};
    if (!atomic_load(&store->bucket.has_answered)) {
        KB_CLEANUP(kb_list_page_done) kb_list_page page = KB_LIST_PAGE_INIT;
        kb_code code = gcs_list_page(store, &one, &page, err);
        if (code != KB_OK)
            return code;
    }
    *ret_now_ms = kb_clock_wall_ms() + atomic_load(&store->bucket.server_ahead);
    return KB_OK;
}

/* ---- uploads ---- */

static kb_code gcs_upload_begin(void *state, const char *key, const char *attempt_id_hex, void **ret_upload,
                                kb_error *err)
{
    (void)attempt_id_hex, (void)err; /* nothing is at the store before the end */
    gcs_upload *upload = kb_calloc(1, sizeof *upload);
    upload->store = state;
    upload->key = kb_strdup(key);
    *ret_upload = upload;
    return KB_OK;
}

static kb_code add_chunk(gcs_upload *upload, kb_error *err)
{
    uint8_t *chunk = kb_try_malloc(KB_CHUNK_BYTES);
    if (chunk == NULL)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for '%s' beyond %llu bytes", upload->key,
                       (unsigned long long)upload->used);
    upload->chunks =
        kb_grow(upload->chunks, upload->chunk_count, &upload->chunk_capacity, sizeof *upload->chunks);
    upload->chunks[upload->chunk_count++] = chunk;
    return KB_OK;
}

static kb_code gcs_upload_append(void *upload_ptr, const void *data, size_t len, kb_error *err)
{
    gcs_upload *upload = upload_ptr;
    const uint8_t *from = data;
    if (len > KB_UPLOAD_MAX_BYTES - upload->used)
        return kb_fail(err, KB_ERR_TOO_LARGE, "'%s' would have more than %llu bytes", upload->key,
                       (unsigned long long)KB_UPLOAD_MAX_BYTES);
    while (len > 0) {
        size_t at = (size_t)(upload->used % KB_CHUNK_BYTES);
        kb_code code = at == 0 ? add_chunk(upload, err) : KB_OK;
        if (code != KB_OK)
            return code;
        size_t part = len < KB_CHUNK_BYTES - at ? len : KB_CHUNK_BYTES - at;
        memcpy(upload->chunks[upload->chunk_count - 1] + at, from, part);
        upload->used += part;
        from += part;
        len -= part;
    }
    return KB_OK;
}

static kb_code gcs_upload_complete(void *upload_ptr, const uint8_t head[KB_UPLOAD_HEAD_BYTES], kb_error *err)
{
    gcs_upload *upload = upload_ptr;
    size_t count = upload->chunk_count + 3;
    KB_AUTOFREE kb_view *parts = kb_calloc(count, sizeof *parts);
    uint64_t left = upload->used;
    parts[1] = kb_view_of(head, KB_UPLOAD_HEAD_BYTES);
    for (size_t i = 0; i < upload->chunk_count; i++) {
        size_t len = left < KB_CHUNK_BYTES ? (size_t)left : KB_CHUNK_BYTES;
        parts[i + 2] = kb_view_of(upload->chunks[i], len);
        left -= len;
    }
    return upload_parts(upload->store, upload->key, parts, count, "segment.sent_no_reply", err);
}

static void gcs_upload_free(void *owned_upload)
{
    gcs_upload *upload = owned_upload;
    for (size_t i = 0; i < upload->chunk_count; i++)
        free(upload->chunks[i]);
    free(upload->chunks);
    free(upload->key);
    free(upload);
}

static kb_code gcs_abort_leftovers(void *state, const char *prefix, size_t *ret_count, kb_error *err)
{
    (void)state, (void)prefix, (void)err;
    *ret_count = 0;
    return KB_OK;
}

/* Uploads grow as they are filled; how far is the caller's affair. */
static void gcs_set_part_bytes(void *state, size_t part_bytes)
{
    (void)state, (void)part_bytes;
}

/* ---- opening ---- */

static void gcs_free(void *owned_state)
{
    gcs_store *store = owned_state;
    kb_gcs_bucket_done(&store->bucket);
    free(store->prefix);
    free(store);
}

static const kb_storage_driver driver = {
    .name = "gcs",
    .free_state = gcs_free,
    .put_if_absent = gcs_put_if_absent,
    .get = gcs_get,
    .get_range = gcs_get_range,
    .head = gcs_head,
    .remove = gcs_remove,
    .list_page = gcs_list_page,
    .upload_begin = gcs_upload_begin,
    .upload_append = gcs_upload_append,
    .upload_complete = gcs_upload_complete,
    .upload_free = gcs_upload_free,
    .abort_leftovers = gcs_abort_leftovers,
    .remove_many = gcs_remove_many,
    .now = gcs_now,
    .set_part_bytes = gcs_set_part_bytes,
};

static kb_code check_options(const kb_config_gcs *config, kb_error *err)
{
    if (config->bucket == NULL)
        return kb_fail(err, KB_CONFIG_INVALID, "storage.bucket: is required");
    if (config->endpoint != NULL && strncmp(config->endpoint, "http://", 7) == 0 && !config->allow_http)
        return kb_fail(err, KB_CONFIG_INVALID, "storage.endpoint: '%s' is http:// without allow_http: true",
                       config->endpoint);
    return KB_OK;
}

kb_code kb_storage_open_gcs(const kb_gcs_options *options, kb_storage **ret_storage, kb_error *err)
{
    const kb_config_gcs *config = options->config;
    gcs_store *store = kb_calloc(1, sizeof *store);
    store->bucket.net = options->owned_net;
    atomic_init(&store->hides, -1);
    kb_code code = check_options(config, err);
    if (code != KB_OK) {
        gcs_free(store);
        return code;
    }
    const kb_gcp_auth_options auth = {
        .service_account_path = config->service_account_path,
        .application_file = options->application_file,
        .allow_local_http = config->allow_http,
        .tokens = options->owned_net->tokens,
        .metadata = options->owned_net->metadata,
        .metadata_url = options->metadata_url,
    };
    store->bucket.creds = kb_gcp_auth_new(&auth);
    const char *endpoint = config->endpoint != NULL ? config->endpoint : default_endpoint;
    size_t len = strlen(endpoint);
    while (len > 0 && endpoint[len - 1] == '/')
        len--;
    store->bucket.endpoint = kb_strndup(endpoint, len);
    store->bucket.name = kb_strdup(config->bucket);
    store->bucket.project = kb_strdup_opt(options->project);
    store->prefix = kb_strdup_opt(config->prefix);
    KB_AUTOFREE char *describe = kb_asprintf("gs://%s%s%s", config->bucket, store->prefix != NULL ? "/" : "",
                                             store->prefix != NULL ? store->prefix : "");
    const kb_storage_caps caps = {
        .conditional_put = true,
        .whole_objects = true,
        .part_bytes = options->segment_buffer_bytes,
        .min_part_bytes = KB_CHUNK_BYTES,
    };
    *ret_storage = kb_storage_new(&driver, store, &caps, describe);
    return KB_OK;
}

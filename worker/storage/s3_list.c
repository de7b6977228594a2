#include "worker/storage/s3_list.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"
#include "worker/storage/object_name.h"
#include "worker/storage/xml_scan.h"

#define KB_S3_PAGE_KEYS 1000
#define KB_S3_DELETE_KEYS 1000
#define KB_S3_DELETE_BYTES (8UL * 1024 * 1024)
/* Rounds of a batch for keys that the server could not remove just then. */
#define KB_S3_DELETE_ROUNDS 5

/* ---- decoding ---- */

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool kb_s3_url_decode(char *text)
{
    char *to = text;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p != '%') {
            *to++ = *p == '+' ? ' ' : *p;
            continue;
        }
        int high = digit_of(p[1]), low = high >= 0 ? digit_of(p[2]) : -1;
        if (low < 0 || (high == 0 && low == 0))
            return false;
        *to++ = (char)(high * 16 + low);
        p += 2;
    }
    *to = '\0';
    return true;
}

/* ---- a page of objects ---- */

void kb_s3_listing_done(kb_s3_listing *listing)
{
    for (size_t i = 0; i < listing->count; i++)
        free(listing->entries[i].key);
    free(listing->entries);
    free(listing->next);
    *listing = (kb_s3_listing){0};
}

typedef struct kb_listing_scan {
    kb_s3_listing *listing;
    kb_list_entry entry;
    bool has_size;
} kb_listing_scan;

static void set_text(char **to, const char *text)
{
    free(*to);
    *to = kb_strdup(text);
}

static kb_code add_entry(kb_listing_scan *scan, bool is_folder, kb_error *err)
{
    kb_s3_listing *listing = scan->listing;
    if (scan->entry.key == NULL || (!is_folder && !scan->has_size))
        return kb_fail(err, KB_ERR_FORMAT, "an entry of the listing has no key or no size");
    listing->entries =
        kb_grow(listing->entries, listing->count, &listing->capacity, sizeof *listing->entries);
    scan->entry.is_folder = is_folder;
    listing->entries[listing->count++] = scan->entry;
    scan->entry = (kb_list_entry){0};
    scan->has_size = false;
    return KB_OK;
}

static kb_code on_listing(void *ctx, const char *path, const char *text, size_t len, kb_error *err)
{
    (void)len;
    kb_listing_scan *scan = ctx;
    kb_s3_listing *listing = scan->listing;
    static const char root[] = "ListBucketResult/";
    if (strncmp(path, root, sizeof root - 1) != 0)
        return KB_OK;
    path += sizeof root - 1;
    int64_t size = 0;
    if (strcmp(path, "Contents/Key") == 0 || strcmp(path, "CommonPrefixes/Prefix") == 0) {
        set_text(&scan->entry.key, text);
    } else if (strcmp(path, "Contents/Size") == 0) {
        if (!kb_parse_i64(text, &size) || size < 0)
            return kb_fail(err, KB_ERR_FORMAT, "the size '%.40s' of an entry is no number", text);
        scan->entry.info.size_bytes = (uint64_t)size;
        scan->has_size = true;
    } else if (strcmp(path, "Contents/LastModified") == 0) {
        KB_AUTO_ERROR(ignored);
        if (kb_rfc3339_parse(text, strlen(text), &scan->entry.info.mtime_ms, &ignored) != KB_OK)
            return kb_fail(err, KB_ERR_FORMAT, "the time '%.40s' of an entry is none", text);
    } else if (strcmp(path, "Contents") == 0 || strcmp(path, "CommonPrefixes") == 0) {
        return add_entry(scan, path[2] == 'm', err);
    } else if (strcmp(path, "EncodingType") == 0) {
        listing->is_encoded = strcmp(text, "url") == 0;
    } else if (strcmp(path, "IsTruncated") == 0) {
        listing->is_truncated = strcmp(text, "true") == 0;
    } else if (strcmp(path, "NextContinuationToken") == 0 || strcmp(path, "NextMarker") == 0) {
        set_text(&listing->next, text);
    }
    return KB_OK;
}

kb_code kb_s3_listing_parse(const char *xml, size_t len, kb_s3_listing *ret_listing, kb_error *err)
{
    KB_CLEANUP(kb_s3_listing_done) kb_s3_listing listing = {0};
    kb_listing_scan scan = {.listing = &listing};
    kb_code code = kb_xml_scan(xml, len, on_listing, &scan, err);
    free(scan.entry.key);
    for (size_t i = 0; code == KB_OK && listing.is_encoded && i < listing.count; i++) {
        if (!kb_s3_url_decode(listing.entries[i].key))
            code = kb_fail(err, KB_ERR_FORMAT, "a key of the listing is not URL-encoded");
    }
    if (code != KB_OK)
        return code;
    *ret_listing = listing;
    listing = (kb_s3_listing){0};
    return KB_OK;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const kb_list_entry *)a)->key, ((const kb_list_entry *)b)->key);
}

/* Names become keys; what is nobody's key is left out. */
static void take_entries(const kb_s3 *s3, kb_s3_listing *listing, kb_list_page *page)
{
    page->entries = kb_calloc(listing->count > 0 ? listing->count : 1, sizeof *page->entries);
    for (size_t i = 0; i < listing->count; i++) {
        char *key = kb_object_key(s3->prefix, listing->entries[i].key);
        if (key == NULL)
            continue;
        page->entries[page->count] = listing->entries[i];
        page->entries[page->count++].key = key;
    }
    qsort(page->entries, page->count, sizeof *page->entries, compare_entries);
}

static kb_code fail_listing(const kb_s3 *s3, const char *why, kb_error *err)
{
    return kb_fail_retryable(err, KB_STORAGE_UNREACHABLE, "listing of s3://%s at %s: %s", s3->bucket,
                             s3->endpoint, why);
}

/* Listing by marker goes on behind the last name, which the server says only in listings by folder. */
static void find_marker(kb_s3_listing *listing)
{
    const char *last = listing->next;
    if (last != NULL && listing->is_encoded && !kb_s3_url_decode(listing->next))
        last = NULL;
    for (size_t i = 0; i < listing->count; i++) {
        if (last == NULL || strcmp(listing->entries[i].key, last) > 0)
            last = listing->entries[i].key;
    }
    if (last == NULL || last == listing->next)
        return;
    char *next = kb_strdup(last);
    free(listing->next);
    listing->next = next;
}

kb_code kb_s3_list_page(kb_s3 *s3, const kb_list_options *options, kb_list_page *ret_page, kb_error *err)
{
    KB_AUTOFREE char *prefix = kb_object_name_prefix(s3->prefix, options->prefix);
    KB_AUTOFREE char *max = kb_asprintf(
        "%zu", options->max_entries > 0 && options->max_entries < KB_S3_PAGE_KEYS ? options->max_entries
                                                                                  : (size_t)KB_S3_PAGE_KEYS);
    kb_sigv4_param params[6] = {{"encoding-type", "url"}, {"max-keys", max}, {"prefix", prefix}};
    size_t count = 3;
    if (!s3->is_v2)
        params[count++] = (kb_sigv4_param){"list-type", "2"};
    if (options->by_folder)
        params[count++] = (kb_sigv4_param){"delimiter", "/"};
    if (options->after != NULL)
        params[count++] = (kb_sigv4_param){s3->is_v2 ? "marker" : "continuation-token", options->after};
    const kb_s3_request request = {.verb = "ListBucket",
                                   .method = "GET",
                                   .params = params,
                                   .param_count = count,
                                   .expect = "ListBucketResult"};
    KB_AUTO_RESPONSE(response);
    kb_code code = kb_s3_send(s3, &request, &response, NULL, err);
    if (code == KB_ERR_NOT_FOUND)
        return kb_wrap_as(err, KB_CONFIG_INVALID, "S3 bucket '%s' at %s", s3->bucket, s3->endpoint);
    if (code != KB_OK)
        return code;
    KB_CLEANUP(kb_s3_listing_done) kb_s3_listing listing = {0};
    if (kb_s3_listing_parse(response.body, response.body_len, &listing, err) != KB_OK)
        return fail_listing(s3, "an answer that is not understood", err);
    if (s3->is_v2)
        find_marker(&listing);
    bool has_next = listing.next != NULL && listing.next[0] != '\0';
    if (listing.is_truncated && !has_next)
        return fail_listing(s3, "there is more, but the answer does not say where", err);
    if (listing.is_truncated && options->after != NULL && strcmp(listing.next, options->after) == 0)
        return fail_listing(s3, "it goes round: the same continuation token came twice", err);
    take_entries(s3, &listing, ret_page);
    if (listing.is_truncated)
        ret_page->next = KB_TAKE(listing.next);
    return KB_OK;
}

/* ---- unfinished uploads ---- */

typedef struct kb_upload_scan {
    kb_s3 *s3;
    kb_leftover_fn fn;
    void *ctx;
    const char *prefix; /* of the names that are told */
    size_t told;
    bool is_encoded, is_truncated;
    char *name, *id, *next_key, *next_id;
    int64_t began_ms;
} kb_upload_scan;

static void upload_scan_done(kb_upload_scan *scan)
{
    free(scan->name);
    free(scan->id);
    free(scan->next_key);
    free(scan->next_id);
}

static kb_code tell_upload(kb_upload_scan *scan, kb_error *err)
{
    if (scan->name == NULL || scan->id == NULL || (scan->is_encoded && !kb_s3_url_decode(scan->name)))
        return kb_fail(err, KB_ERR_FORMAT, "an upload of the listing has no key or no id");
    KB_AUTOFREE char *key = kb_object_key(scan->s3->prefix, scan->name);
    if (key == NULL || strncmp(scan->name, scan->prefix, strlen(scan->prefix)) != 0)
        return KB_OK;
    scan->told++;
    const kb_leftover leftover = {.key = key, .token = scan->id, .began_ms = scan->began_ms};
    return scan->fn(scan->ctx, &leftover, err);
}

static kb_code on_upload(void *ctx, const char *path, const char *text, size_t len, kb_error *err)
{
    (void)len;
    kb_upload_scan *scan = ctx;
    static const char root[] = "ListMultipartUploadsResult/";
    if (strncmp(path, root, sizeof root - 1) != 0)
        return KB_OK;
    path += sizeof root - 1;
    if (strcmp(path, "Upload/Key") == 0)
        set_text(&scan->name, text);
    else if (strcmp(path, "Upload/UploadId") == 0)
        set_text(&scan->id, text);
    else if (strcmp(path, "Upload/Initiated") == 0)
        return kb_rfc3339_parse(text, strlen(text), &scan->began_ms, err);
    else if (strcmp(path, "Upload") == 0)
        return tell_upload(scan, err);
    else if (strcmp(path, "EncodingType") == 0)
        scan->is_encoded = strcmp(text, "url") == 0;
    else if (strcmp(path, "IsTruncated") == 0)
        scan->is_truncated = strcmp(text, "true") == 0;
    else if (strcmp(path, "NextKeyMarker") == 0)
        set_text(&scan->next_key, text);
    else if (strcmp(path, "NextUploadIdMarker") == 0)
        set_text(&scan->next_id, text);
    return KB_OK;
}

static kb_code list_uploads_page(kb_s3 *s3, const char *prefix, char **key_marker, char **id_marker,
                                 kb_upload_scan *scan, kb_error *err)
{
    kb_sigv4_param params[4] = {{"uploads", ""}, {"prefix", prefix}};
    size_t count = 2;
    if (*key_marker != NULL) {
        params[count++] = (kb_sigv4_param){"key-marker", *key_marker};
        params[count++] = (kb_sigv4_param){"upload-id-marker", *id_marker != NULL ? *id_marker : ""};
    }
    const kb_s3_request request = {.verb = "ListBucketMultipartUploads",
                                   .method = "GET",
                                   .params = params,
                                   .param_count = count,
                                   .expect = "ListMultipartUploadsResult"};
    KB_AUTO_RESPONSE(response);
    kb_code code = kb_s3_send(s3, &request, &response, NULL, err);
    if (code == KB_ERR_NOT_FOUND)
        return kb_wrap_as(err, KB_CONFIG_INVALID, "S3 bucket '%s' at %s", s3->bucket, s3->endpoint);
    if (code != KB_OK)
        return code;
    return kb_xml_scan(response.body, response.body_len, on_upload, scan, err);
}

/* Tells the uploads whose names begin with `prefix` among those that the server lists for `asked`. */
static kb_code tell_uploads(kb_upload_scan *common, const char *asked, kb_error *err)
{
    KB_AUTOFREE char *key_marker = NULL;
    KB_AUTOFREE char *id_marker = NULL;
    for (;;) {
        KB_CLEANUP(upload_scan_done) kb_upload_scan scan = *common;
        kb_code code = list_uploads_page(scan.s3, asked, &key_marker, &id_marker, &scan, err);
        common->told = scan.told;
        if (code != KB_OK)
            return code;
        if (!scan.is_truncated)
            return KB_OK;
        bool is_new = scan.next_key != NULL && scan.next_key[0] != '\0' &&
                      (key_marker == NULL || strcmp(scan.next_key, key_marker) != 0 || id_marker == NULL ||
                       scan.next_id == NULL || strcmp(scan.next_id, id_marker) != 0);
        if (!is_new)
            return fail_listing(scan.s3, "the listing of uploads goes round", err);
        free(key_marker);
        free(id_marker);
        key_marker = KB_TAKE(scan.next_key);
        id_marker = KB_TAKE(scan.next_id);
    }
}

kb_code kb_s3_list_uploads(kb_s3 *s3, const char *prefix, kb_leftover_fn fn, void *ctx, kb_error *err)
{
    KB_AUTOFREE char *name_prefix = kb_object_name_prefix(s3->prefix, prefix);
    kb_upload_scan scan = {.s3 = s3, .fn = fn, .ctx = ctx, .prefix = name_prefix};
    kb_code code = tell_uploads(&scan, name_prefix, err);
    /* There are servers that know the prefix of uploads only as a whole key, and list all of them without
     * one. */
    if (code != KB_OK || scan.told > 0 || name_prefix[0] == '\0')
        return code;
    return tell_uploads(&scan, "", err);
}

kb_code kb_s3_abort(kb_s3 *s3, const char *name, const char *upload_id, bool is_hasty, kb_error *err)
{
    const kb_sigv4_param params[] = {{"uploadId", upload_id}};
    const kb_s3_request request = {.verb = "AbortMultipartUpload",
                                   .method = "DELETE",
                                   .name = name,
                                   .params = params,
                                   .param_count = 1,
                                   .is_hasty = is_hasty};
    KB_AUTO_RESPONSE(response);
    KB_AUTO_ERROR(failed);
    kb_code code = kb_s3_send(s3, &request, &response, NULL, &failed);
    if (code == KB_OK || code == KB_ERR_NOT_FOUND)
        return KB_OK;
    kb_error_move(err, &failed);
    return code;
}

/* ---- removing many ---- */

typedef struct kb_delete_scan {
    kb_s3 *s3;
    char *const *names;
    const size_t *places; /* of the names among the outcomes */
    size_t count;
    kb_remove_outcome *outcomes;
    char *name, *code;
    bool has_marker;
    bool is_again; /* something is to be tried again */
} kb_delete_scan;

static kb_remove_outcome outcome_of(const char *code)
{
    if (strcmp(code, "NoSuchKey") == 0)
        return KB_REMOVE_ABSENT;
    bool is_temporary = strcmp(code, "InternalError") == 0 || strcmp(code, "SlowDown") == 0 ||
                        strcmp(code, "ServiceUnavailable") == 0 || strcmp(code, "OperationAborted") == 0;
    return is_temporary ? KB_REMOVE_UNTRIED : KB_REMOVE_HELD;
}

static void settle(kb_delete_scan *scan, kb_remove_outcome outcome)
{
    for (size_t i = 0; scan->name != NULL && i < scan->count; i++) {
        if (strcmp(scan->names[scan->places[i]], scan->name) == 0)
            scan->outcomes[scan->places[i]] = outcome;
    }
    free(scan->name);
    free(scan->code);
    scan->name = scan->code = NULL;
    scan->has_marker = false;
}

static kb_code on_deleted(void *ctx, const char *path, const char *text, size_t len, kb_error *err)
{
    (void)len, (void)err;
    kb_delete_scan *scan = ctx;
    if (strcmp(path, "DeleteResult/Deleted/Key") == 0 || strcmp(path, "DeleteResult/Error/Key") == 0)
        set_text(&scan->name, text);
    else if (strcmp(path, "DeleteResult/Deleted/DeleteMarker") == 0)
        scan->has_marker = strcmp(text, "true") == 0;
    else if (strcmp(path, "DeleteResult/Error/Code") == 0)
        set_text(&scan->code, text);
    else if (strcmp(path, "DeleteResult/Deleted") == 0)
        settle(scan, scan->has_marker ? KB_REMOVE_HIDDEN : KB_REMOVE_GONE);
    else if (strcmp(path, "DeleteResult/Error") == 0)
        settle(scan, outcome_of(scan->code != NULL ? scan->code : ""));
    return KB_OK;
}

static void append_escaped(kb_strbuf *to, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '&')
            kb_strbuf_appends(to, "&amp;");
        else if (*p == '<')
            kb_strbuf_appends(to, "&lt;");
        else if (*p == '>')
            kb_strbuf_appends(to, "&gt;");
        else
            kb_strbuf_appendc(to, *p);
    }
}

/* One request for the keys whose places are given. KB_ERR_UNSUPPORTED: the server has no such request. */
static kb_code delete_batch(kb_delete_scan *scan, kb_error *err)
{
    static const kb_sigv4_param params[] = {{"delete", ""}};
    KB_AUTO_STRBUF(body, KB_S3_DELETE_BYTES);
    kb_strbuf_appends(&body, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (size_t i = 0; i < scan->count; i++) {
        kb_strbuf_appends(&body, "<Object><Key>");
        append_escaped(&body, scan->names[scan->places[i]]);
        kb_strbuf_appends(&body, "</Key></Object>");
    }
    kb_strbuf_appends(&body, "</Delete>");
    if (kb_strbuf_check(&body, "a list of keys", err) != KB_OK)
        return err->code;
    const kb_s3_request request = {.verb = "DeleteObject",
                                   .method = "POST",
                                   .params = params,
                                   .param_count = 1,
                                   .body = kb_view_of(body.data, body.len),
                                   .has_md5 = true,
                                   .content_type = "application/xml",
                                   .expect = "DeleteResult"};
    KB_AUTO_RESPONSE(response);
    kb_code code = kb_s3_send(scan->s3, &request, &response, NULL, err);
    if (code == KB_OK)
        code = kb_xml_scan(response.body, response.body_len, on_deleted, scan, err);
    free(scan->name);
    free(scan->code);
    scan->name = scan->code = NULL;
    return code;
}

static kb_code delete_one(kb_s3 *s3, const char *name, kb_remove_outcome *outcome, kb_error *err)
{
    const kb_s3_request request = {.verb = "DeleteObject", .method = "DELETE", .name = name};
    KB_AUTO_RESPONSE(response);
    KB_AUTO_ERROR(failed);
    kb_code code = kb_s3_send(s3, &request, &response, NULL, &failed);
    const char *marker = kb_http_response_header(&response, "x-amz-delete-marker");
    if (code == KB_OK)
        *outcome = marker != NULL && strcmp(marker, "true") == 0 ? KB_REMOVE_HIDDEN : KB_REMOVE_GONE;
    else if (code == KB_ERR_NOT_FOUND)
        *outcome = KB_REMOVE_ABSENT;
    else if (code == KB_STORAGE_ACCESS_DENIED)
        *outcome = KB_REMOVE_HELD;
    else
        kb_error_move(err, &failed);
    return err->code;
}

static size_t untried(const kb_remove_outcome *outcomes, size_t from, size_t to, size_t *places)
{
    size_t count = 0;
    for (size_t i = from; i < to; i++) {
        if (outcomes[i] == KB_REMOVE_UNTRIED)
            places[count++] = i;
    }
    return count;
}

static kb_code remove_chunk(kb_s3 *s3, char *const *names, size_t from, size_t to,
                            kb_remove_outcome *outcomes, kb_error *err)
{
    size_t places[KB_S3_DELETE_KEYS];
    for (int round = 0; round < KB_S3_DELETE_ROUNDS; round++) {
        size_t count = untried(outcomes, from, to, places);
        if (count == 0)
            return KB_OK;
        kb_delete_scan scan = {
            .s3 = s3, .names = names, .places = places, .count = count, .outcomes = outcomes};
        KB_AUTO_ERROR(failed);
        kb_code code = delete_batch(&scan, &failed);
        for (size_t i = 0; code == KB_ERR_UNSUPPORTED && i < count; i++) {
            if (delete_one(s3, names[places[i]], &outcomes[places[i]], err) != KB_OK)
                return err->code;
        }
        if (code != KB_OK && code != KB_ERR_UNSUPPORTED) {
            kb_error_move(err, &failed);
            return code;
        }
    }
    if (untried(outcomes, from, to, places) == 0)
        return KB_OK;
    return kb_fail_retryable(err, KB_STORAGE_UNREACHABLE,
                             "S3 bucket '%s' at %s: DeleteObject of '%s' and others fails", s3->bucket,
                             s3->endpoint, names[places[0]]);
}

kb_code kb_s3_remove_many(kb_s3 *s3, const char *const *keys, size_t count, kb_remove_outcome *outcomes,
                          kb_error *err)
{
    char **names = kb_calloc(count > 0 ? count : 1, sizeof *names);
    for (size_t i = 0; i < count; i++)
        names[i] = kb_object_name(s3->prefix, keys[i]);
    kb_code code = KB_OK;
    for (size_t from = 0; code == KB_OK && from < count; from += KB_S3_DELETE_KEYS) {
        size_t to = count - from < KB_S3_DELETE_KEYS ? count : from + KB_S3_DELETE_KEYS;
        code = remove_chunk(s3, names, from, to, outcomes, err);
    }
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
    return code;
}

#include "worker/storage/gcs_json.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/data/json_read.h"
#include "worker/storage/object_page.h"

static const kb_json_options json_options = {.max_depth = 24};

/* ---- refusals ---- */

void kb_gcs_reason(kb_view body, char to[KB_GCS_REASON_SIZE])
{
    KB_CLEANUP(kb_json_reader_free_at) kb_json_reader *r = kb_json_reader_new(body, &json_options);
    KB_AUTO_ERROR(ignored);
    kb_json_token token;
    bool is_reason = false;
    to[0] = '\0';
    while (kb_json_next(r, &token, &ignored) == KB_OK && token.type != KB_JSON_END) {
        if (is_reason && token.type == KB_JSON_STRING && token.text.len < KB_GCS_REASON_SIZE) {
            size_t len = 0;
            while (len < token.text.len && isalpha(token.text.data[len]))
                len++;
            if (len == token.text.len) {
                memcpy(to, token.text.data, len);
                to[len] = '\0';
                return;
            }
        }
        is_reason = token.type == KB_JSON_NAME && kb_json_is(token.text, "reason");
    }
}

/* ---- objects ---- */

/* 64-bit numbers are texts in this API. */
static kb_code read_size(kb_json_reader *r, uint64_t *ret_size, kb_error *err)
{
    kb_view text;
    int64_t value = 0;
    kb_code code = kb_json_get_string(r, &text, err);
    if (code == KB_OK && (!kb_parse_i64_len((const char *)text.data, text.len, &value) || value < 0))
        return kb_json_fail(r, err, "an object's size is no number");
    *ret_size = (uint64_t)value;
    return code;
}

static kb_code read_time(kb_json_reader *r, int64_t *ret_ms, kb_error *err)
{
    kb_view text;
    kb_code code = kb_json_get_string(r, &text, err);
    return code != KB_OK ? code : kb_rfc3339_parse((const char *)text.data, text.len, ret_ms, err);
}

typedef struct object_fields {
    kb_gcs_object object;
    char *name;
    bool has_size, has_time;
} object_fields;

static void object_fields_done(object_fields *f)
{
    free(f->name);
}

static kb_code read_md5(kb_json_reader *r, char to[KB_MD5_TEXT_SIZE], kb_error *err)
{
    kb_view text;
    kb_code code = kb_json_get_string(r, &text, err);
    if (code == KB_OK && text.len == KB_MD5_TEXT_SIZE - 1) {
        memcpy(to, text.data, text.len);
        to[text.len] = '\0';
    }
    return code;
}

static kb_code read_object(kb_json_reader *r, object_fields *f, kb_error *err)
{
    kb_view name;
    kb_code code = kb_json_begin_object(r, err);
    while (code == KB_OK && (code = kb_json_next_name(r, &name, err)) == KB_OK) {
        if (kb_json_is(name, "name")) {
            free(KB_TAKE(f->name));
            code = kb_json_get_text(r, &f->name, err);
        } else if (kb_json_is(name, "size")) {
            f->has_size = true;
            code = read_size(r, &f->object.info.size_bytes, err);
        } else if (kb_json_is(name, "timeCreated")) {
            f->has_time = true;
            code = read_time(r, &f->object.info.mtime_ms, err);
        } else if (kb_json_is(name, "md5Hash")) {
            code = read_md5(r, f->object.md5, err);
        } else {
            code = kb_json_skip(r, err);
        }
    }
    if (code != KB_ERR_END)
        return code;
    return f->has_size && f->has_time ? KB_OK : kb_json_fail(r, err, "an object without size or time");
}

kb_code kb_gcs_object_parse(kb_view body, kb_gcs_object *ret_object, kb_error *err)
{
    KB_CLEANUP(kb_json_reader_free_at) kb_json_reader *r = kb_json_reader_new(body, &json_options);
    KB_CLEANUP(object_fields_done) object_fields f = {.name = NULL};
    kb_code code = read_object(r, &f, err);
    if (code == KB_OK)
        code = kb_json_end(r, err);
    if (code == KB_OK)
        *ret_object = f.object;
    return code;
}

/* ---- listings ---- */

typedef struct listing {
    const char *prefix;
    kb_list_page page;
    size_t capacity;
} listing;

static void listing_done(listing *l)
{
    kb_list_page_done(&l->page);
}

static kb_code read_items(kb_json_reader *r, listing *l, kb_error *err)
{
    kb_code code = kb_json_begin_array(r, err);
    while (code == KB_OK && (code = kb_json_next_element(r, err)) == KB_OK) {
        KB_CLEANUP(object_fields_done) object_fields f = {.name = NULL};
        code = read_object(r, &f, err);
        if (code == KB_OK && f.name == NULL)
            code = kb_json_fail(r, err, "an object without a name");
        if (code == KB_OK)
            kb_object_page_add(&l->page, &l->capacity, l->prefix, f.name, false, &f.object.info);
    }
    return code == KB_ERR_END ? KB_OK : code;
}

static kb_code read_prefixes(kb_json_reader *r, listing *l, kb_error *err)
{
    kb_code code = kb_json_begin_array(r, err);
    while (code == KB_OK && (code = kb_json_next_element(r, err)) == KB_OK) {
        KB_AUTOFREE char *name = NULL;
        code = kb_json_get_text(r, &name, err);
        if (code == KB_OK)
            kb_object_page_add(&l->page, &l->capacity, l->prefix, name, true, NULL);
    }
    return code == KB_ERR_END ? KB_OK : code;
}

static kb_code read_next(kb_json_reader *r, listing *l, kb_error *err)
{
    free(KB_TAKE(l->page.next));
    kb_code code = kb_json_get_text(r, &l->page.next, err);
    if (code == KB_OK && l->page.next[0] == '\0')
        free(KB_TAKE(l->page.next));
    return code;
}

kb_code kb_gcs_list_parse(kb_view body, const char *prefix, kb_list_page *ret_page, kb_error *err)
{
    KB_CLEANUP(kb_json_reader_free_at) kb_json_reader *r = kb_json_reader_new(body, &json_options);
    KB_CLEANUP(listing_done) listing l = {.prefix = prefix};
    kb_view name;
    kb_code code = kb_json_begin_object(r, err);
    while (code == KB_OK && (code = kb_json_next_name(r, &name, err)) == KB_OK) {
        bool is_null = false;
        if (kb_json_is(name, "nextPageToken"))
            code = read_next(r, &l, err);
        else if (kb_json_is(name, "items") && (code = kb_json_take_null(r, &is_null, err)) == KB_OK &&
                 !is_null)
            code = read_items(r, &l, err);
        else if (kb_json_is(name, "prefixes") && (code = kb_json_take_null(r, &is_null, err)) == KB_OK &&
                 !is_null)
            code = read_prefixes(r, &l, err);
        else if (code == KB_OK && !is_null)
            code = kb_json_skip(r, err);
    }
    if (code == KB_ERR_END)
        code = kb_json_end(r, err);
    if (code != KB_OK)
        return code;
    kb_object_page_sort(&l.page);
    *ret_page = l.page;
    l.page = (kb_list_page)KB_LIST_PAGE_INIT;
    return KB_OK;
}

/* ---- buckets ---- */

static kb_code read_flag_of(kb_json_reader *r, const char *field, bool *ret_flag, kb_error *err)
{
    kb_view name;
    kb_json_token token;
    kb_code code = kb_json_begin_object(r, err);
    while (code == KB_OK && (code = kb_json_next_name(r, &name, err)) == KB_OK) {
        if (!kb_json_is(name, field)) {
            code = kb_json_skip(r, err);
            continue;
        }
        code = kb_json_next(r, &token, err);
        if (code == KB_OK && token.type == KB_JSON_STRING)
            *ret_flag = !kb_json_is(token.text, "0");
        else if (code == KB_OK)
            *ret_flag = token.type == KB_JSON_TRUE;
    }
    return code == KB_ERR_END ? KB_OK : code;
}

kb_code kb_gcs_bucket_hides(kb_view body, bool *ret_hides, kb_error *err)
{
    KB_CLEANUP(kb_json_reader_free_at) kb_json_reader *r = kb_json_reader_new(body, &json_options);
    bool is_versioned = false, is_soft = false;
    kb_view name;
    kb_code code = kb_json_begin_object(r, err);
    while (code == KB_OK && (code = kb_json_next_name(r, &name, err)) == KB_OK) {
        if (kb_json_is(name, "versioning"))
            code = read_flag_of(r, "enabled", &is_versioned, err);
        else if (kb_json_is(name, "softDeletePolicy"))
            code = read_flag_of(r, "retentionDurationSeconds", &is_soft, err);
        else
            code = kb_json_skip(r, err);
    }
    if (code == KB_ERR_END)
        code = kb_json_end(r, err);
    if (code == KB_OK)
        *ret_hides = is_versioned || is_soft;
    return code;
}

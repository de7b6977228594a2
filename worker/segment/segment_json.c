#include "worker/segment/segment_json.h"

#include <stdlib.h>

#include "common/base/encode.h"
#include "common/base/mem.h"

/* Array, record, headers, header; the rest is for what unknown fields hold. */
#define MAX_DEPTH 16
#define MAX_NAMES 4096

/* A value inside the byte store, which moves while it grows; so it is named by position. */
typedef struct stored_bytes {
    size_t at;
    int32_t len; /* -1: null */
} stored_bytes;

typedef struct stored_header {
    stored_bytes name;
    stored_bytes value;
} stored_header;

struct kb_segment_json {
    kb_json_reader *reader;
    bool is_begun;
    uint8_t *bytes; /* owned; of the present record, as for the arrays below */
    size_t bytes_len;
    size_t bytes_capacity;
    stored_bytes key;
    stored_bytes value;
    stored_header *headers;
    size_t header_capacity;
    kb_header_in *header_views;
    size_t view_capacity;
    size_t header_count;
};

kb_segment_json *kb_segment_json_new(kb_json_source source, void *ctx, size_t max_string_bytes)
{
    kb_segment_json *json = kb_calloc(1, sizeof *json);
    kb_json_options options = {
        .max_depth = MAX_DEPTH, .max_string_bytes = max_string_bytes, .max_names = MAX_NAMES};
    json->reader = kb_json_reader_new_source(source, ctx, &options);
    return json;
}

void kb_segment_json_free(kb_segment_json *owned_json)
{
    if (owned_json == NULL)
        return;
    kb_json_reader_free(owned_json->reader);
    free(owned_json->bytes);
    free(owned_json->headers);
    free(owned_json->header_views);
    free(owned_json);
}

void kb_segment_json_free_at(kb_segment_json **at)
{
    kb_segment_json_free(*at);
    *at = NULL;
}

static kb_code reserve(kb_segment_json *json, size_t more, kb_error *err)
{
    size_t needed = json->bytes_len + more + 1; /* so that it is never NULL */
    if (needed <= json->bytes_capacity)
        return KB_OK;
    size_t wanted = needed > 2 * json->bytes_capacity ? needed : 2 * json->bytes_capacity;
    uint8_t *moved = realloc(json->bytes, wanted);
    if (moved == NULL)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for a record of %zu bytes", wanted);
    json->bytes = moved;
    json->bytes_capacity = wanted;
    return KB_OK;
}

static kb_code get_base64(kb_segment_json *json, stored_bytes *ret_stored, kb_error *err)
{
    bool is_null = false;
    kb_code code = kb_json_take_null(json->reader, &is_null, err);
    if (code != KB_OK)
        return code;
    if (is_null) {
        *ret_stored = (stored_bytes){0, -1};
        return KB_OK;
    }
    kb_view text;
    code = kb_json_get_string(json->reader, &text, err);
    if (code == KB_OK)
        code = reserve(json, KB_BASE64_DATA_SIZE(text.len), err);
    if (code != KB_OK)
        return code;
    size_t len = 0;
    KB_AUTO_ERROR(cause);
    if (kb_base64_decode((const char *)text.data, text.len, json->bytes + json->bytes_len, &len, &cause) !=
        KB_OK)
        return kb_json_fail(json->reader, err, "%s", kb_error_text(&cause));
    *ret_stored = (stored_bytes){json->bytes_len, (int32_t)len};
    json->bytes_len += len;
    return KB_OK;
}

static kb_code get_name(kb_segment_json *json, stored_bytes *ret_stored, kb_error *err)
{
    kb_view text;
    kb_code code = kb_json_get_string(json->reader, &text, err);
    if (code == KB_OK)
        code = reserve(json, text.len, err);
    if (code != KB_OK)
        return code;
    kb_put_bytes(json->bytes + json->bytes_len, text.data, text.len);
    *ret_stored = (stored_bytes){json->bytes_len, (int32_t)text.len};
    json->bytes_len += text.len;
    return KB_OK;
}

static kb_code get_header(kb_segment_json *json, kb_error *err)
{
    if (json->header_count >= KB_RECORD_HEADER_COUNT_MAX)
        return kb_json_fail(json->reader, err, "a record has more than %u headers",
                            KB_RECORD_HEADER_COUNT_MAX);
    stored_header header = {{0, -1}, {0, -1}};
    bool has_value = false;
    kb_view name;
    kb_code code = kb_json_begin_object(json->reader, err);
    if (code != KB_OK)
        return code;
    while ((code = kb_json_next_name(json->reader, &name, err)) == KB_OK) {
        if (kb_json_is(name, "key")) {
            code = get_name(json, &header.name, err);
        } else if (kb_json_is(name, "value")) {
            has_value = true;
            code = get_base64(json, &header.value, err);
        } else {
            code = kb_json_skip(json->reader, err);
        }
        if (code != KB_OK)
            return code;
    }
    if (code != KB_ERR_END)
        return code;
    if (header.name.len < 0 || !has_value)
        return kb_json_fail(json->reader, err, "a header lacks its key or its value");
    json->headers = kb_grow(json->headers, json->header_count, &json->header_capacity, sizeof header);
    json->headers[json->header_count++] = header;
    return KB_OK;
}

static kb_code get_headers(kb_segment_json *json, kb_error *err)
{
    bool is_null = false;
    kb_code code = kb_json_take_null(json->reader, &is_null, err);
    if (code != KB_OK || is_null)
        return code;
    code = kb_json_begin_array(json->reader, err);
    if (code != KB_OK)
        return code;
    while ((code = kb_json_next_element(json->reader, err)) == KB_OK) {
        code = get_header(json, err);
        if (code != KB_OK)
            return code;
    }
    return code == KB_ERR_END ? KB_OK : code;
}

typedef struct record_fields {
    bool has_timestamp;
    bool has_offset;
    int64_t timestamp;
    int64_t offset;
} record_fields;

static kb_code get_field(kb_segment_json *json, kb_view name, record_fields *fields, kb_error *err)
{
    if (kb_json_is(name, "key"))
        return get_base64(json, &json->key, err);
    if (kb_json_is(name, "value"))
        return get_base64(json, &json->value, err);
    if (kb_json_is(name, "headers"))
        return get_headers(json, err);
    if (kb_json_is(name, "timestamp")) {
        fields->has_timestamp = true;
        return kb_json_get_i64(json->reader, &fields->timestamp, err);
    }
    if (kb_json_is(name, "offset")) {
        fields->has_offset = true;
        return kb_json_get_i64_range(json->reader, 0, INT64_MAX, &fields->offset, err);
    }
    return kb_json_skip(json->reader, err);
}

static kb_code get_record(kb_segment_json *json, record_fields *fields, kb_error *err)
{
    json->bytes_len = 0;
    json->header_count = 0;
    json->key = (stored_bytes){0, -1};
    json->value = (stored_bytes){0, -1};
    kb_view name;
    kb_code code = kb_json_begin_object(json->reader, err);
    if (code != KB_OK)
        return code;
    while ((code = kb_json_next_name(json->reader, &name, err)) == KB_OK) {
        code = get_field(json, name, fields, err);
        if (code != KB_OK)
            return code;
    }
    if (code != KB_ERR_END)
        return code;
    if (!fields->has_timestamp || !fields->has_offset)
        return kb_json_fail(json->reader, err, "a record lacks its timestamp or its offset");
    return KB_OK;
}

static const void *at(const kb_segment_json *json, stored_bytes stored)
{
    return stored.len < 0 ? NULL : json->bytes + stored.at;
}

static void fill_headers(kb_segment_json *json)
{
    if (json->header_count > json->view_capacity) {
        json->header_views = kb_realloc(json->header_views, json->header_capacity, sizeof(kb_header_in));
        json->view_capacity = json->header_capacity;
    }
    for (size_t i = 0; i < json->header_count; i++) {
        const stored_header *header = &json->headers[i];
        json->header_views[i] = (kb_header_in){at(json, header->name), (size_t)header->name.len,
                                               at(json, header->value), header->value.len};
    }
}

kb_code kb_segment_json_next(kb_segment_json *json, kb_record_in *ret_record, bool *ret_has, kb_error *err)
{
    kb_code code = KB_OK;
    if (!json->is_begun)
        code = kb_json_begin_array(json->reader, err);
    if (code != KB_OK)
        return code;
    json->is_begun = true;
    code = kb_json_next_element(json->reader, err);
    if (code == KB_ERR_END) {
        code = kb_json_end(json->reader, err);
        if (code == KB_OK)
            *ret_has = false;
        return code;
    }
    record_fields fields = {0};
    if (code == KB_OK)
        code = get_record(json, &fields, err);
    if (code != KB_OK)
        return code;
    fill_headers(json);
    *ret_record = (kb_record_in){.timestamp = fields.timestamp,
                                 .offset = fields.offset,
                                 .key = at(json, json->key),
                                 .key_len = json->key.len,
                                 .value = at(json, json->value),
                                 .value_len = json->value.len,
                                 .headers = json->header_views,
                                 .header_count = json->header_count};
    *ret_has = true;
    return KB_OK;
}

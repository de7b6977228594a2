#include "worker/catalog/json_fields.h"

#include <stdlib.h>

#include "common/base/encode.h"
#include "common/base/mem.h"
#include "worker/segment/record_digest.h"

kb_code kb_fields_locate(kb_json_reader *reader, kb_error *err)
{
    if (err->code != KB_ERR_FORMAT)
        return err->code;
    KB_AUTOFREE char *text = kb_strdup(kb_error_text(err));
    return kb_json_fail(reader, err, "%s", text);
}

static kb_code read_hash(kb_json_reader *reader, uint8_t to[KB_SHA256_SIZE], kb_error *err)
{
    kb_view text;
    kb_code code = kb_json_get_string(reader, &text, err);
    if (code != KB_OK)
        return code;
    if (text.len != 2 * KB_SHA256_SIZE)
        return kb_json_fail(reader, err, "a hash has 64 hexadecimal digits, this has %zu characters",
                            text.len);
    uint8_t hash[KB_SHA256_SIZE];
    code = kb_hex_decode((const char *)text.data, text.len, hash, err);
    if (code != KB_OK)
        return kb_fields_locate(reader, err);
    memcpy(to, hash, sizeof hash);
    return KB_OK;
}

static kb_code read_text(kb_json_reader *reader, char **owned_text, kb_error *err)
{
    char *text = NULL;
    kb_code code = kb_json_get_text(reader, &text, err);
    if (code != KB_OK)
        return code;
    free(*owned_text);
    *owned_text = text;
    return KB_OK;
}

static kb_code read_number(kb_json_reader *reader, const kb_field *field, void *at, kb_error *err)
{
    bool is_32 = field->type == KB_FIELD_I32 || field->type == KB_FIELD_COUNT32;
    bool is_count = field->type == KB_FIELD_COUNT || field->type == KB_FIELD_COUNT32;
    int64_t min = is_count ? 0 : is_32 ? INT32_MIN : INT64_MIN;
    int64_t value = 0;
    kb_code code = kb_json_get_i64_range(reader, min, is_32 ? INT32_MAX : INT64_MAX, &value, err);
    if (code != KB_OK)
        return code;
    if (is_32) {
        int32_t narrow = (int32_t)value;
        memcpy(at, &narrow, sizeof narrow);
    } else {
        memcpy(at, &value, sizeof value);
    }
    return KB_OK;
}

static kb_code read_value(kb_json_reader *reader, const kb_field *field, void *target, void *ctx,
                          kb_error *err)
{
    bool is_null = false;
    if ((field->flags & KB_FIELD_NULLABLE) != 0) {
        kb_code code = kb_json_take_null(reader, &is_null, err);
        if (code != KB_OK || is_null)
            return code;
    }
    void *at = (char *)target + field->offset;
    switch (field->type) {
    case KB_FIELD_I64:
    case KB_FIELD_COUNT:
    case KB_FIELD_I32:
    case KB_FIELD_COUNT32:
        return read_number(reader, field, at, err);
    case KB_FIELD_BOOL:
        return kb_json_get_bool(reader, at, err);
    case KB_FIELD_TEXT:
        return read_text(reader, at, err);
    case KB_FIELD_SHA256:
        return read_hash(reader, at, err);
    case KB_FIELD_DIGEST: {
        uint8_t hash[KB_SHA256_SIZE];
        kb_code code = read_hash(reader, hash, err);
        if (code == KB_OK)
            *(kb_digest *)at = kb_digest_load(hash);
        return code;
    }
    case KB_FIELD_CUSTOM:
        return field->read(reader, target, ctx, err);
    }
    return kb_fail(err, KB_ERR_INTERNAL, "unknown type of field '%s'", field->name);
}

static size_t find_field(const kb_field *fields, size_t field_count, kb_view name)
{
    size_t i = 0;
    while (i < field_count && !kb_json_is(name, fields[i].name))
        i++;
    return i;
}

kb_code kb_fields_read(kb_json_reader *reader, const kb_field *fields, size_t field_count, void *target,
                       void *ctx, uint32_t *ret_seen, kb_error *err)
{
    uint32_t seen = 0;
    kb_code code = kb_json_begin_object(reader, err);
    if (code != KB_OK)
        return code;
    kb_view name;
    while ((code = kb_json_next_name(reader, &name, err)) == KB_OK) {
        size_t i = find_field(fields, field_count, name);
        if (i == field_count) {
            code = kb_json_skip(reader, err);
        } else {
            seen |= UINT32_C(1) << i;
            code = read_value(reader, &fields[i], target, ctx, err);
        }
        if (code != KB_OK)
            return code;
    }
    if (code != KB_ERR_END)
        return code;
    for (size_t i = 0; i < field_count; i++)
        if ((fields[i].flags & KB_FIELD_REQUIRED) != 0 && (seen >> i & 1) == 0)
            return kb_json_fail(reader, err, "field '%s' is missing", fields[i].name);
    if (ret_seen != NULL)
        *ret_seen = seen;
    return KB_OK;
}

kb_code kb_elements_read(kb_json_reader *reader, kb_field_read read, void *target, void *ctx, kb_error *err)
{
    kb_code code = kb_json_begin_array(reader, err);
    if (code != KB_OK)
        return code;
    while ((code = kb_json_next_element(reader, err)) == KB_OK) {
        code = read(reader, target, ctx, err);
        if (code != KB_OK)
            return code;
    }
    return code == KB_ERR_END ? KB_OK : code;
}

#include "common/data/json_read.h"

#include <inttypes.h>

#include "common/base/mem.h"

static const char *type_name(kb_json_type type)
{
    switch (type) {
    case KB_JSON_BEGIN_OBJECT:
        return "an object";
    case KB_JSON_BEGIN_ARRAY:
        return "an array";
    case KB_JSON_END_OBJECT:
    case KB_JSON_END_ARRAY:
        return "the end of the container";
    case KB_JSON_NAME:
        return "a name";
    case KB_JSON_STRING:
        return "a string";
    case KB_JSON_INTEGER:
        return "a number";
    case KB_JSON_TRUE:
    case KB_JSON_FALSE:
        return "a boolean";
    case KB_JSON_NULL:
        return "null";
    case KB_JSON_END:
        break;
    }
    return "the end of the text";
}

static kb_code wrong_type(kb_json_reader *reader, const char *expected, kb_json_type got, kb_error *err)
{
    return kb_json_fail(reader, err, "expected %s, got %s", expected, type_name(got));
}

static kb_code expect(kb_json_reader *reader, kb_json_type type, const char *expected, kb_json_token *token,
                      kb_error *err)
{
    kb_code code = kb_json_next(reader, token, err);
    if (code != KB_OK)
        return code;
    return token->type == type ? KB_OK : wrong_type(reader, expected, token->type, err);
}

kb_code kb_json_begin_object(kb_json_reader *reader, kb_error *err)
{
    kb_json_token token = {KB_JSON_END, {NULL, 0}, false, 0};
    return expect(reader, KB_JSON_BEGIN_OBJECT, "an object", &token, err);
}

kb_code kb_json_begin_array(kb_json_reader *reader, kb_error *err)
{
    kb_json_token token = {KB_JSON_END, {NULL, 0}, false, 0};
    return expect(reader, KB_JSON_BEGIN_ARRAY, "an array", &token, err);
}

kb_code kb_json_next_name(kb_json_reader *reader, kb_view *ret_name, kb_error *err)
{
    kb_json_token token = {KB_JSON_END, {NULL, 0}, false, 0};
    kb_code code = kb_json_next(reader, &token, err);
    if (code != KB_OK)
        return code;
    if (token.type == KB_JSON_END_OBJECT)
        return KB_ERR_END;
    if (token.type != KB_JSON_NAME)
        return wrong_type(reader, "a name", token.type, err);
    *ret_name = token.text;
    return KB_OK;
}

kb_code kb_json_next_element(kb_json_reader *reader, kb_error *err)
{
    kb_json_type type = KB_JSON_END;
    kb_code code = kb_json_peek(reader, &type, err);
    if (code != KB_OK || type != KB_JSON_END_ARRAY)
        return code;
    kb_json_token token = {KB_JSON_END, {NULL, 0}, false, 0};
    code = kb_json_next(reader, &token, err);
    return code != KB_OK ? code : KB_ERR_END;
}

kb_code kb_json_get_string(kb_json_reader *reader, kb_view *ret_text, kb_error *err)
{
    kb_json_token token = {KB_JSON_END, {NULL, 0}, false, 0};
    kb_code code = expect(reader, KB_JSON_STRING, "a string", &token, err);
    if (code == KB_OK)
        *ret_text = token.text;
    return code;
}

kb_code kb_json_get_text(kb_json_reader *reader, char **ret_text, kb_error *err)
{
    kb_view text = {NULL, 0};
    kb_code code = kb_json_get_string(reader, &text, err);
    if (code == KB_OK)
        *ret_text = kb_strndup((const char *)text.data, text.len);
    return code;
}

kb_code kb_json_get_bool(kb_json_reader *reader, bool *ret_value, kb_error *err)
{
    kb_json_token token = {KB_JSON_END, {NULL, 0}, false, 0};
    kb_code code = kb_json_next(reader, &token, err);
    if (code != KB_OK)
        return code;
    if (token.type != KB_JSON_TRUE && token.type != KB_JSON_FALSE)
        return wrong_type(reader, "a boolean", token.type, err);
    *ret_value = token.type == KB_JSON_TRUE;
    return KB_OK;
}

static kb_code to_i64(kb_json_reader *reader, const kb_json_token *token, int64_t *ret_value, kb_error *err)
{
    if (!token->is_negative && token->magnitude > (uint64_t)INT64_MAX)
        return kb_json_fail(reader, err, "a number beyond 64 bits with a sign");
    /* The tokenizer has refused what lies below INT64_MIN, so the wrapped negation is exact. */
    *ret_value = token->is_negative ? (int64_t)(0 - token->magnitude) : (int64_t)token->magnitude;
    return KB_OK;
}

kb_code kb_json_get_i64(kb_json_reader *reader, int64_t *ret_value, kb_error *err)
{
    kb_json_token token = {KB_JSON_END, {NULL, 0}, false, 0};
    kb_code code = expect(reader, KB_JSON_INTEGER, "a number", &token, err);
    return code != KB_OK ? code : to_i64(reader, &token, ret_value, err);
}

kb_code kb_json_get_i64_range(kb_json_reader *reader, int64_t min, int64_t max, int64_t *ret_value,
                              kb_error *err)
{
    int64_t value = 0;
    kb_code code = kb_json_get_i64(reader, &value, err);
    if (code != KB_OK)
        return code;
    if (value < min || value > max)
        return kb_json_fail(reader, err, "expected a number from %" PRId64 " to %" PRId64 ", got %" PRId64,
                            min, max, value);
    *ret_value = value;
    return KB_OK;
}

kb_code kb_json_get_i32(kb_json_reader *reader, int32_t *ret_value, kb_error *err)
{
    int64_t value = 0;
    kb_code code = kb_json_get_i64_range(reader, INT32_MIN, INT32_MAX, &value, err);
    if (code == KB_OK)
        *ret_value = (int32_t)value;
    return code;
}

kb_code kb_json_get_u64(kb_json_reader *reader, uint64_t *ret_value, kb_error *err)
{
    kb_json_token token = {KB_JSON_END, {NULL, 0}, false, 0};
    kb_code code = expect(reader, KB_JSON_INTEGER, "a number", &token, err);
    if (code != KB_OK)
        return code;
    if (token.is_negative && token.magnitude > 0)
        return kb_json_fail(reader, err, "expected a number that is not negative");
    *ret_value = token.magnitude;
    return KB_OK;
}

kb_code kb_json_take_null(kb_json_reader *reader, bool *ret_is_null, kb_error *err)
{
    kb_json_type type = KB_JSON_END;
    kb_code code = kb_json_peek(reader, &type, err);
    if (code != KB_OK)
        return code;
    *ret_is_null = type == KB_JSON_NULL;
    if (type == KB_JSON_NULL) {
        kb_json_token token = {KB_JSON_END, {NULL, 0}, false, 0};
        code = kb_json_next(reader, &token, err);
    }
    return code;
}

kb_code kb_json_skip(kb_json_reader *reader, kb_error *err)
{
    size_t depth = 0;
    do {
        kb_json_token token = {KB_JSON_END, {NULL, 0}, false, 0};
        int64_t ignored = 0;
        kb_code code = kb_json_next(reader, &token, err);
        if (code != KB_OK)
            return code;
        if (token.type == KB_JSON_BEGIN_OBJECT || token.type == KB_JSON_BEGIN_ARRAY)
            depth++;
        else if (token.type == KB_JSON_INTEGER && (code = to_i64(reader, &token, &ignored, err)) != KB_OK)
            return code;
        else if (token.type == KB_JSON_END ||
                 (depth == 0 && (token.type == KB_JSON_END_OBJECT || token.type == KB_JSON_END_ARRAY)))
            return wrong_type(reader, "a value", token.type, err);
        else if (token.type == KB_JSON_END_OBJECT || token.type == KB_JSON_END_ARRAY)
            depth--;
    } while (depth > 0);
    return KB_OK;
}

kb_code kb_json_end(kb_json_reader *reader, kb_error *err)
{
    kb_json_token token = {KB_JSON_END, {NULL, 0}, false, 0};
    return expect(reader, KB_JSON_END, "the end of the text", &token, err);
}

#include "common/data/json_tree.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"

void kb_tree_done(json_t **at)
{
    json_decref(*at);
    *at = NULL;
}

static json_t *walk(const json_t *value, va_list path)
{
    /* jansson's getters take constant values and give changeable ones; so does this. */
    union {
        const json_t *in;
        json_t *out;
    } at = {.in = value};
    for (const char *name; at.out != NULL && (name = va_arg(path, const char *)) != NULL;)
        at.out = json_object_get(at.in, name);
    return json_is_null(at.in) ? NULL : at.out;
}

#define KB_WALK(found, value) \
    json_t *found; \
    do { \
        va_list path; \
        va_start(path, value); \
        found = walk(value, path); \
        va_end(path); \
    } while (0)

json_t *kb_tree_at(const json_t *value, ...)
{
    KB_WALK(found, value);
    return found;
}

const char *kb_tree_text(const json_t *value, ...)
{
    KB_WALK(found, value);
    return json_string_value(found);
}

const char *kb_tree_text_or_empty(const json_t *value, ...)
{
    KB_WALK(found, value);
    return json_is_string(found) ? json_string_value(found) : "";
}

int64_t kb_tree_i64(int64_t fallback, const json_t *value, ...)
{
    KB_WALK(found, value);
    return json_is_integer(found) ? (int64_t)json_integer_value(found) : fallback;
}

bool kb_tree_bool(bool fallback, const json_t *value, ...)
{
    KB_WALK(found, value);
    return json_is_boolean(found) ? json_is_true(found) : fallback;
}

bool kb_tree_time(int64_t *ret_ms, const json_t *value, ...)
{
    KB_WALK(found, value);
    KB_AUTO_ERROR(err);
    return json_is_string(found) &&
           kb_rfc3339_parse(json_string_value(found), json_string_length(found), ret_ms, &err) == KB_OK;
}

json_t *kb_tree_need(json_t *owned_value)
{
    if (owned_value == NULL)
        kb_out_of_memory();
    return owned_value;
}

json_t *kb_tree_object(void)
{
    return kb_tree_need(json_object());
}

json_t *kb_tree_array(void)
{
    return kb_tree_need(json_array());
}

static char *clean(const char *text)
{
    KB_AUTO_STRBUF(buf, 3 * strlen(text) + 1);
    for (size_t left = strlen(text); left > 0;) {
        size_t step = kb_utf8_step(text, left);
        if (step == 0)
            kb_strbuf_appends(&buf, "\xEF\xBF\xBD");
        else
            kb_strbuf_append(&buf, text, step);
        step = step == 0 ? 1 : step;
        text += step;
        left -= step;
    }
    return kb_strbuf_take(&buf);
}

json_t *kb_tree_string(const char *text)
{
    if (kb_utf8_valid(text, strlen(text)))
        return kb_tree_need(json_string(text));
    KB_AUTOFREE char *cleaned = clean(text);
    return kb_tree_need(json_string(cleaned != NULL ? cleaned : ""));
}

json_t *kb_tree_stringf(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    if (vasprintf(&text, fmt, args) < 0)
        kb_out_of_memory();
    va_end(args);
    json_t *value = kb_tree_string(text);
    free(text);
    return value;
}

json_t *kb_tree_copy(const json_t *value)
{
    return kb_tree_need(json_deep_copy(value));
}

json_t *kb_tree_time_value(int64_t unix_ms)
{
    char text[KB_RFC3339_SIZE];
    kb_rfc3339_format(unix_ms, text);
    return kb_tree_stringf("%.19sZ", text);
}

void kb_tree_set(json_t *object, const char *name, json_t *owned_value)
{
    if (owned_value != NULL && json_object_set_new(object, name, owned_value) != 0)
        kb_out_of_memory();
}

void kb_tree_set_text(json_t *object, const char *name, const char *text)
{
    if (text != NULL)
        kb_tree_set(object, name, kb_tree_string(text));
}

void kb_tree_set_i64(json_t *object, const char *name, int64_t number)
{
    kb_tree_set(object, name, kb_tree_need(json_integer(number)));
}

void kb_tree_set_bool(json_t *object, const char *name, bool flag)
{
    kb_tree_set(object, name, json_boolean(flag));
}

void kb_tree_set_time(json_t *object, const char *name, int64_t unix_ms)
{
    kb_tree_set(object, name, kb_tree_time_value(unix_ms));
}

void kb_tree_add(json_t *array, json_t *owned_value)
{
    if (owned_value != NULL && json_array_append_new(array, owned_value) != 0)
        kb_out_of_memory();
}

void kb_tree_add_text(json_t *array, const char *text)
{
    if (text != NULL)
        kb_tree_add(array, kb_tree_string(text));
}

static void merge(json_t *to, const json_t *from, bool over)
{
    union {
        const json_t *in;
        json_t *out;
    } source = {.in = from};
    const char *name;
    json_t *value;
    json_object_foreach(source.out, name, value) if (over || json_object_get(to, name) == NULL)
        kb_tree_set(to, name, kb_tree_copy(value));
}

void kb_tree_merge_missing(json_t *to, const json_t *from)
{
    merge(to, from, false);
}

void kb_tree_merge_over(json_t *to, const json_t *from)
{
    merge(to, from, true);
}

char *kb_tree_canonical(const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    if (text == NULL)
        kb_out_of_memory();
    return text;
}

char *kb_tree_text_hash(const char *text, size_t digits)
{
    uint8_t hash[KB_SHA256_SIZE];
    char hex[2 * KB_SHA256_SIZE + 1];
    kb_sha256(text, strlen(text), hash);
    kb_hex_encode(hash, sizeof hash, hex);
    return kb_strndup(hex, digits);
}

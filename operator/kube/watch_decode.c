#include "operator/kube/watch_decode.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "operator/kube/kube_types.h"

struct kb_watch_decoder {
    kb_strbuf line; /* the part of a line that has come so far */
    kb_watch_fn on_event;
    void *ctx;
};

kb_watch_decoder *kb_watch_decoder_new(size_t max_line, kb_watch_fn on_event, void *ctx)
{
    kb_watch_decoder *decoder = kb_calloc(1, sizeof *decoder);
    kb_strbuf_init(&decoder->line, max_line > 0 ? max_line : KB_WATCH_LINE_MAX);
    decoder->on_event = on_event;
    decoder->ctx = ctx;
    return decoder;
}

void kb_watch_decoder_free(kb_watch_decoder *owned_decoder)
{
    if (owned_decoder == NULL)
        return;
    kb_strbuf_done(&owned_decoder->line);
    free(owned_decoder);
}

/* The parser has a limit of its own, which is larger: this one is looked at first, without recursion. */
static bool is_too_deep(kb_view text)
{
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.len; i++) {
        const uint8_t c = text.data[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > KB_KUBE_JSON_DEPTH)
                return true;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

kb_code kb_kube_json_parse(kb_view text, json_t **ret_value, kb_error *err)
{
    if (is_too_deep(text))
        return kb_fail(err, KB_ERR_FORMAT, "JSON nested deeper than %d", KB_KUBE_JSON_DEPTH);
    json_error_t why;
    json_t *value = json_loadb((const char *)text.data, text.len, JSON_ALLOW_NUL, &why);
    if (value == NULL)
        return kb_fail(err, KB_ERR_FORMAT, "not JSON at byte %d: %s", why.position, why.text);
    *ret_value = value;
    return KB_OK;
}

static bool parse_type(const char *text, kb_watch_type *ret_type)
{
    static const char *const NAMES[] = {
        [KB_WATCH_ADDED] = "ADDED",       [KB_WATCH_MODIFIED] = "MODIFIED", [KB_WATCH_DELETED] = "DELETED",
        [KB_WATCH_BOOKMARK] = "BOOKMARK", [KB_WATCH_ERROR] = "ERROR",
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(NAMES); i++) {
        if (strcmp(text, NAMES[i]) == 0) {
            *ret_type = (kb_watch_type)i;
            return true;
        }
    }
    return false;
}

static kb_code decode_line(kb_watch_decoder *decoder, kb_view line, kb_error *err)
{
    bool is_blank = true;
    for (size_t i = 0; i < line.len && is_blank; i++)
        is_blank = line.data[i] == ' ' || line.data[i] == '\r' || line.data[i] == '\t';
    if (is_blank)
        return KB_OK;
    KB_AUTO_JSON json_t *event = NULL;
    const kb_code code = kb_kube_json_parse(line, &event, err);
    if (code != KB_OK)
        return kb_wrap(err, "watch event");
    const char *type_text = json_string_value(json_object_get(event, "type"));
    json_t *object = json_object_get(event, "object");
    kb_watch_type type;
    if (type_text == NULL || !json_is_object(object) || !parse_type(type_text, &type))
        return kb_fail(err, KB_ERR_FORMAT, "watch event without a known type and an object");
    return decoder->on_event(decoder->ctx, type, object, err);
}

static kb_code end_line(kb_watch_decoder *decoder, kb_view rest, kb_error *err)
{
    if (decoder->line.len == 0)
        return decode_line(decoder, rest, err);
    kb_strbuf_append(&decoder->line, rest.data, rest.len);
    kb_code code = kb_strbuf_check(&decoder->line, "watch event", err);
    if (code == KB_OK)
        code = decode_line(decoder, kb_view_of(decoder->line.data, decoder->line.len), err);
    /* Most events are small: a large one must not hold its memory for the life of the stream. */
    kb_strbuf_done(&decoder->line);
    return code;
}

kb_code kb_watch_decoder_feed(kb_watch_decoder *decoder, kb_view part, kb_error *err)
{
    while (part.len > 0) {
        const uint8_t *newline = memchr(part.data, '\n', part.len);
        if (newline == NULL) {
            kb_strbuf_append(&decoder->line, part.data, part.len);
            return kb_strbuf_check(&decoder->line, "watch event", err);
        }
        const size_t len = (size_t)(newline - part.data);
        if (len > decoder->line.max_bytes)
            return kb_fail(err, KB_ERR_TOO_LARGE, "watch event is larger than %zu bytes",
                           decoder->line.max_bytes);
        const kb_code code = end_line(decoder, kb_view_of(part.data, len), err);
        if (code != KB_OK)
            return code;
        part = kb_view_of(newline + 1, part.len - len - 1);
    }
    return KB_OK;
}

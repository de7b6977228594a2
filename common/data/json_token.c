#include "common/data/json_token.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "common/base/crypto.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "common/data/json_names.h"

#define KB_DEPTH_LIMIT 64
#define KB_PLACE_NAME_MAX 63
#define KB_PLACE_MAX_BYTES 8192

typedef enum kb_json_state {
    KB_STATE_VALUE,         /* a value */
    KB_STATE_FIRST_ELEMENT, /* a value or ']' */
    KB_STATE_FIRST_NAME,    /* a name or '}' */
    KB_STATE_NAME,          /* a name */
    KB_STATE_COLON,
    KB_STATE_AFTER_VALUE, /* ',' or the end of the container or of the text */
} kb_json_state;

typedef struct kb_json_level {
    bool is_object;
    bool has_name;
    uint64_t index;                   /* array: of the present element */
    char name[KB_PLACE_NAME_MAX + 1]; /* object: of the present field, cut; for messages */
    kb_json_names names;
} kb_json_level;

struct kb_json_reader {
    const uint8_t *at, *end;    /* what is left of the present chunk */
    const uint8_t *chunk_start; /* borrowed */
    uint64_t bytes_before_chunk;
    uint64_t line;
    kb_json_source source; /* NULL: the chunk is all there is */
    void *source_ctx;
    kb_json_options options;
    uint64_t hash_key[2];
    kb_json_state state;
    kb_json_level *levels; /* options.max_depth of them */
    size_t depth;
    uint8_t *scratch; /* a string that is not a slice of the chunk */
    size_t scratch_len, scratch_capacity;
    bool has_peeked;
    kb_json_token peeked;
    kb_code failed_code; /* KB_OK while well */
};

/* ---- making and ending ---- */

static kb_json_options effective_options(const kb_json_options *given)
{
    kb_json_options options = given != NULL ? *given : (kb_json_options){0};
    if (options.max_depth == 0)
        options.max_depth = KB_JSON_MAX_DEPTH;
    if (options.max_depth > KB_DEPTH_LIMIT)
        options.max_depth = KB_DEPTH_LIMIT;
    if (options.max_string_bytes == 0)
        options.max_string_bytes = KB_JSON_MAX_STRING_BYTES;
    if (options.max_names == 0)
        options.max_names = KB_JSON_MAX_NAMES;
    return options;
}

static kb_json_reader *reader_new(const kb_json_options *options)
{
    kb_json_reader *reader = kb_calloc(1, sizeof *reader);
    reader->options = effective_options(options);
    reader->levels = kb_calloc(reader->options.max_depth, sizeof *reader->levels);
    reader->line = 1;
    /* Without randomness names could only be made to look equal, which refuses the file: no reason to fail.
     */
    KB_AUTO_ERROR(ignored);
    if (kb_random_bytes(reader->hash_key, sizeof reader->hash_key, &ignored) != KB_OK)
        reader->hash_key[0] = (uint64_t)(uintptr_t)reader;
    return reader;
}

/* An empty chunk may be NULL, which must not take part in arithmetic. */
static void set_chunk(kb_json_reader *reader, kb_view chunk)
{
    static const uint8_t nothing[1];
    reader->chunk_start = reader->at = chunk.len > 0 ? chunk.data : nothing;
    reader->end = reader->at + chunk.len;
}

kb_json_reader *kb_json_reader_new(kb_view text, const kb_json_options *options)
{
    kb_json_reader *reader = reader_new(options);
    set_chunk(reader, text);
    return reader;
}

kb_json_reader *kb_json_reader_new_source(kb_json_source source, void *ctx, const kb_json_options *options)
{
    kb_json_reader *reader = reader_new(options);
    reader->source = source;
    reader->source_ctx = ctx;
    return reader;
}

void kb_json_reader_free(kb_json_reader *owned_reader)
{
    if (owned_reader == NULL)
        return;
    for (size_t i = 0; i < owned_reader->options.max_depth; i++)
        kb_json_names_done(&owned_reader->levels[i].names);
    free(owned_reader->levels);
    free(owned_reader->scratch);
    free(owned_reader);
}

void kb_json_reader_free_at(kb_json_reader **at)
{
    kb_json_reader_free(*at);
    *at = NULL;
}

/* ---- errors ---- */

static uint64_t byte_position(const kb_json_reader *reader)
{
    uint64_t in_chunk = reader->chunk_start != NULL ? (uint64_t)(reader->at - reader->chunk_start) : 0;
    return reader->bytes_before_chunk + in_chunk;
}

static void append_name(kb_strbuf *to, const char *name)
{
    for (const char *c = name; *c != '\0'; c++)
        kb_strbuf_appendc(to, (unsigned char)*c < 0x20 || *c == 0x7f ? '?' : *c);
}

static void append_place(const kb_json_reader *reader, kb_strbuf *to)
{
    for (size_t i = 0; i < reader->depth; i++) {
        const kb_json_level *level = &reader->levels[i];
        if (!level->is_object) {
            kb_strbuf_appendf(to, "[%" PRIu64 "]", level->index);
        } else if (level->has_name) {
            if (to->len > 0)
                kb_strbuf_appendc(to, '.');
            append_name(to, level->name);
        }
    }
}

static kb_code fail_at(kb_json_reader *reader, kb_error *err, kb_code code, const char *text)
{
    KB_AUTO_STRBUF(place, KB_PLACE_MAX_BYTES);
    append_place(reader, &place);
    reader->failed_code = code;
    reader->has_peeked = false;
    return kb_fail(err, code, "line %" PRIu64 ", byte %" PRIu64 "%s%s: %s", reader->line,
                   byte_position(reader), place.len > 0 ? ", at " : "", kb_strbuf_view(&place), text);
}

static kb_code bad(kb_json_reader *reader, kb_error *err, const char *text)
{
    return fail_at(reader, err, KB_ERR_FORMAT, text);
}

kb_code kb_json_fail(kb_json_reader *reader, kb_error *err, const char *fmt, ...)
{
    KB_AUTOFREE char *text = NULL;
    va_list args;
    va_start(args, fmt);
    int len = vasprintf(&text, fmt, args);
    va_end(args);
    if (len < 0) {
        text = NULL;
        kb_out_of_memory();
    }
    return bad(reader, err, text);
}

static kb_code too_large(kb_json_reader *reader, kb_error *err, const char *what, size_t limit)
{
    KB_AUTOFREE char *text = kb_asprintf("%s exceeds the limit of %zu", what, limit);
    return fail_at(reader, err, KB_ERR_TOO_LARGE, text);
}

static kb_code unexpected(kb_json_reader *reader, kb_error *err, const char *expected)
{
    KB_AUTOFREE char *text = NULL;
    if (reader->at == reader->end)
        text = kb_asprintf("expected %s, got the end of the text", expected);
    else if (*reader->at > 0x20 && *reader->at < 0x7f)
        text = kb_asprintf("expected %s, got '%c'", expected, *reader->at);
    else
        text = kb_asprintf("expected %s, got byte 0x%02x", expected, *reader->at);
    return bad(reader, err, text);
}

/* ---- input ---- */

/* Makes the next byte available. At the end of the text reader->at == reader->end afterwards. */
static kb_code refill(kb_json_reader *reader, kb_error *err)
{
    if (reader->at != reader->end || reader->source == NULL)
        return KB_OK;
    kb_view chunk = {NULL, 0};
    kb_code code = reader->source(reader->source_ctx, &chunk, err);
    if (code != KB_OK) {
        reader->failed_code = code;
        return code;
    }
    reader->bytes_before_chunk = byte_position(reader);
    set_chunk(reader, chunk);
    if (chunk.len == 0)
        reader->source = NULL;
    return KB_OK;
}

static inline kb_code ready(kb_json_reader *reader, kb_error *err)
{
    return reader->at != reader->end ? KB_OK : refill(reader, err);
}

static kb_code skip_space(kb_json_reader *reader, kb_error *err)
{
    for (;;) {
        while (reader->at != reader->end) {
            uint8_t c = *reader->at;
            if (c == '\n')
                reader->line++;
            else if (c != ' ' && c != '\r' && c != '\t')
                return KB_OK;
            reader->at++;
        }
        kb_code code = refill(reader, err);
        if (code != KB_OK || reader->at == reader->end)
            return code;
    }
}

/* ---- strings ---- */

static kb_code scratch_add(kb_json_reader *reader, const void *bytes, size_t len, kb_error *err)
{
    if (len > reader->options.max_string_bytes - reader->scratch_len)
        return too_large(reader, err, "length of a string in bytes", reader->options.max_string_bytes);
    if (len > reader->scratch_capacity - reader->scratch_len) {
        size_t capacity = (reader->scratch_len + len) * 2;
        uint8_t *grown = kb_try_malloc(capacity);
        if (grown == NULL)
            return fail_at(reader, err, KB_TEMPORARY_FAILURE, "no memory for a string");
        if (reader->scratch_len > 0)
            memcpy(grown, reader->scratch, reader->scratch_len);
        free(reader->scratch);
        reader->scratch = grown;
        reader->scratch_capacity = capacity;
    }
    if (len > 0)
        memcpy(reader->scratch + reader->scratch_len, bytes, len);
    reader->scratch_len += len;
    return KB_OK;
}

/* Bytes from reader->at on that stand for themselves; *has_wide is set when one is not ASCII. */
static size_t plain_run(const kb_json_reader *reader, bool *has_wide)
{
    const uint8_t *at = reader->at;
    uint8_t all = 0;
    while (at != reader->end && *at != '"' && *at != '\\' && *at >= 0x20)
        all |= *at++;
    *has_wide |= (all & 0x80) != 0;
    return (size_t)(at - reader->at);
}

static kb_code take_byte(kb_json_reader *reader, uint8_t *ret_byte, kb_error *err)
{
    kb_code code = ready(reader, err);
    if (code != KB_OK)
        return code;
    if (reader->at == reader->end)
        return bad(reader, err, "the text ends inside a string");
    *ret_byte = *reader->at++;
    return KB_OK;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static kb_code take_hex4(kb_json_reader *reader, uint32_t *ret_unit, kb_error *err)
{
    uint32_t unit = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = 0;
        kb_code code = take_byte(reader, &c, err);
        if (code != KB_OK)
            return code;
        int digit = hex_value(c);
        if (digit < 0)
            return bad(reader, err, "\\u without four hexadecimal digits");
        unit = unit << 4 | (uint32_t)digit;
    }
    *ret_unit = unit;
    return KB_OK;
}

/* What follows "\u": one code point, by one or two units (RFC 8259, section 7). */
static kb_code take_code_point(kb_json_reader *reader, uint32_t *ret_point, kb_error *err)
{
    uint32_t high = 0, low = 0;
    kb_code code = take_hex4(reader, &high, err);
    if (code != KB_OK)
        return code;
    if (high == 0)
        return bad(reader, err, "NUL in a string");
    if (high >= 0xdc00 && high <= 0xdfff)
        return bad(reader, err, "a low surrogate without its high one");
    if (high < 0xd800 || high > 0xdbff) {
        *ret_point = high;
        return KB_OK;
    }
    for (const char *c = "\\u"; *c != '\0'; c++) {
        uint8_t got = 0;
        if ((code = take_byte(reader, &got, err)) != KB_OK)
            return code;
        if (got != (uint8_t)*c)
            return bad(reader, err, "a high surrogate without its low one");
    }
    if ((code = take_hex4(reader, &low, err)) != KB_OK)
        return code;
    if (low < 0xdc00 || low > 0xdfff)
        return bad(reader, err, "a high surrogate without its low one");
    *ret_point = 0x10000 + ((high - 0xd800) << 10 | (low - 0xdc00));
    return KB_OK;
}

static size_t utf8_encode(uint32_t point, uint8_t to[4])
{
    if (point < 0x80) {
        to[0] = (uint8_t)point;
        return 1;
    }
    if (point < 0x800) {
        to[0] = (uint8_t)(0xc0 | point >> 6);
        to[1] = (uint8_t)(0x80 | (point & 0x3f));
        return 2;
    }
    if (point < 0x10000) {
        to[0] = (uint8_t)(0xe0 | point >> 12);
        to[1] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        to[2] = (uint8_t)(0x80 | (point & 0x3f));
        return 3;
    }
    to[0] = (uint8_t)(0xf0 | point >> 18);
    to[1] = (uint8_t)(0x80 | (point >> 12 & 0x3f));
    to[2] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
    to[3] = (uint8_t)(0x80 | (point & 0x3f));
    return 4;
}

/* What follows a backslash. */
static kb_code take_escape(kb_json_reader *reader, kb_error *err)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    uint8_t c = 0;
    kb_code code = take_byte(reader, &c, err);
    if (code != KB_OK)
        return code;
    if (c == 'u') {
        uint32_t point = 0;
        uint8_t bytes[4];
        code = take_code_point(reader, &point, err);
        return code != KB_OK ? code : scratch_add(reader, bytes, utf8_encode(point, bytes), err);
    }
    const char *letter = c != 0 ? strchr(letters, c) : NULL;
    if (letter == NULL)
        return bad(reader, err, "an unknown escape in a string");
    return scratch_add(reader, &meanings[letter - letters], 1, err);
}

/* The rest of a string that is no slice of the chunk: escapes, or a chunk that ends inside it. */
static kb_code take_string_slowly(kb_json_reader *reader, bool has_wide, kb_view *ret_text, kb_error *err)
{
    reader->scratch_len = 0;
    for (;;) {
        kb_code code = ready(reader, err);
        if (code != KB_OK)
            return code;
        size_t len = plain_run(reader, &has_wide);
        if ((code = scratch_add(reader, reader->at, len, err)) != KB_OK)
            return code;
        reader->at += len;
        uint8_t c = '"';
        if (reader->at == reader->end && reader->source != NULL)
            continue;
        if ((code = take_byte(reader, &c, err)) != KB_OK)
            return code;
        if (c == '"')
            break;
        if (c != '\\')
            return bad(reader, err, c == 0 ? "NUL in a string" : "a control character in a string");
        if ((code = take_escape(reader, err)) != KB_OK)
            return code;
    }
    *ret_text =
        kb_view_of(reader->scratch != NULL ? reader->scratch : (const uint8_t *)"", reader->scratch_len);
    if (has_wide && !kb_utf8_valid(ret_text->data, ret_text->len))
        return bad(reader, err, "a string is not valid UTF-8");
    return KB_OK;
}

/* The opening quote was taken. */
static kb_code take_string(kb_json_reader *reader, kb_view *ret_text, kb_error *err)
{
    bool has_wide = false;
    size_t len = plain_run(reader, &has_wide);
    if (reader->at + len == reader->end || reader->at[len] != '"')
        return take_string_slowly(reader, has_wide, ret_text, err);
    if (len > reader->options.max_string_bytes)
        return too_large(reader, err, "length of a string in bytes", reader->options.max_string_bytes);
    if (has_wide && !kb_utf8_valid(reader->at, len))
        return bad(reader, err, "a string is not valid UTF-8");
    *ret_text = kb_view_of(reader->at, len);
    reader->at += len + 1;
    return KB_OK;
}

/* ---- numbers and words ---- */

static kb_code check_number(kb_json_reader *reader, const kb_json_token *token, unsigned digits,
                            bool is_zero_led, bool overflows, kb_error *err)
{
    if (digits == 0)
        return unexpected(reader, err, "a digit");
    if (is_zero_led && digits > 1)
        return bad(reader, err, "a number with a leading zero");
    if (reader->at != reader->end && (*reader->at == '.' || (*reader->at | 0x20) == 'e'))
        return bad(reader, err, "a number with a fraction or an exponent");
    if (overflows || (token->is_negative && token->magnitude > (uint64_t)INT64_MAX + 1))
        return bad(reader, err, "a number beyond 64 bits");
    return KB_OK;
}

static kb_code take_number(kb_json_reader *reader, kb_json_token *token, kb_error *err)
{
    token->type = KB_JSON_INTEGER;
    token->is_negative = *reader->at == '-';
    token->magnitude = 0;
    if (token->is_negative)
        reader->at++;
    unsigned digits = 0;
    bool overflows = false, is_zero_led = false;
    for (;;) {
        kb_code code = ready(reader, err);
        if (code != KB_OK)
            return code;
        if (reader->at == reader->end || *reader->at < '0' || *reader->at > '9')
            break;
        uint64_t digit = (uint64_t)(*reader->at++ - '0');
        is_zero_led |= digits == 0 && digit == 0;
        overflows |= __builtin_mul_overflow(token->magnitude, (uint64_t)10, &token->magnitude);
        overflows |= __builtin_add_overflow(token->magnitude, digit, &token->magnitude);
        if (digits < 1000)
            digits++;
    }
    return check_number(reader, token, digits, is_zero_led, overflows, err);
}

static kb_code take_word(kb_json_reader *reader, const char *word, kb_error *err)
{
    for (const char *c = word; *c != '\0'; c++) {
        kb_code code = ready(reader, err);
        if (code != KB_OK)
            return code;
        if (reader->at == reader->end || *reader->at != (uint8_t)*c)
            return unexpected(reader, err, word);
        reader->at++;
    }
    return KB_OK;
}

/* ---- structure ---- */

static kb_code open_container(kb_json_reader *reader, bool is_object, kb_json_token *token, kb_error *err)
{
    if (reader->depth == reader->options.max_depth)
        return too_large(reader, err, "depth", reader->options.max_depth);
    kb_json_level *level = &reader->levels[reader->depth++];
    level->is_object = is_object;
    level->has_name = false;
    level->index = 0;
    kb_json_names_clear(&level->names);
    reader->at++;
    reader->state = is_object ? KB_STATE_FIRST_NAME : KB_STATE_FIRST_ELEMENT;
    token->type = is_object ? KB_JSON_BEGIN_OBJECT : KB_JSON_BEGIN_ARRAY;
    return KB_OK;
}

static kb_code close_container(kb_json_reader *reader, kb_json_token *token)
{
    token->type = reader->levels[--reader->depth].is_object ? KB_JSON_END_OBJECT : KB_JSON_END_ARRAY;
    reader->at++;
    reader->state = KB_STATE_AFTER_VALUE;
    return KB_OK;
}

static kb_code take_value(kb_json_reader *reader, kb_json_token *token, kb_error *err)
{
    uint8_t c = reader->at != reader->end ? *reader->at : 0;
    reader->state = KB_STATE_AFTER_VALUE;
    switch (c) {
    case '{':
        return open_container(reader, true, token, err);
    case '[':
        return open_container(reader, false, token, err);
    case '"':
        reader->at++;
        token->type = KB_JSON_STRING;
        return take_string(reader, &token->text, err);
    case 't':
        token->type = KB_JSON_TRUE;
        return take_word(reader, "true", err);
    case 'f':
        token->type = KB_JSON_FALSE;
        return take_word(reader, "false", err);
    case 'n':
        token->type = KB_JSON_NULL;
        return take_word(reader, "null", err);
    default:
        if (c == '-' || (c >= '0' && c <= '9'))
            return take_number(reader, token, err);
        return unexpected(reader, err, "a value");
    }
}

static kb_code note_name(kb_json_reader *reader, kb_view name, kb_error *err)
{
    kb_json_level *level = &reader->levels[reader->depth - 1];
    size_t len = name.len < KB_PLACE_NAME_MAX ? name.len : KB_PLACE_NAME_MAX;
    if (len > 0)
        memcpy(level->name, name.data, len);
    level->name[len] = '\0';
    level->has_name = true;
    kb_json_added added = kb_json_names_add(&level->names, reader->hash_key, name);
    if (added == KB_JSON_DUPLICATE)
        return bad(reader, err, "a name that the object has already");
    if (added == KB_JSON_NO_MEMORY)
        return fail_at(reader, err, KB_TEMPORARY_FAILURE, "no memory for the names of an object");
    if (level->names.count > reader->options.max_names)
        return too_large(reader, err, "number of names in an object", reader->options.max_names);
    return KB_OK;
}

static kb_code take_name(kb_json_reader *reader, kb_json_token *token, kb_error *err)
{
    if (reader->at == reader->end || *reader->at != '"')
        return unexpected(reader, err, "a name in quotes");
    reader->at++;
    token->type = KB_JSON_NAME;
    kb_code code = take_string(reader, &token->text, err);
    if (code != KB_OK)
        return code;
    reader->state = KB_STATE_COLON;
    return note_name(reader, token->text, err);
}

/* Takes a ',' and sets what must follow, or does nothing when something else stands there. */
static void take_comma(kb_json_reader *reader)
{
    if (reader->depth == 0 || reader->at == reader->end || *reader->at != ',')
        return;
    kb_json_level *level = &reader->levels[reader->depth - 1];
    reader->at++;
    level->index++;
    reader->state = level->is_object ? KB_STATE_NAME : KB_STATE_VALUE;
}

static kb_code take_after_value(kb_json_reader *reader, kb_json_token *token, kb_error *err)
{
    bool is_end = reader->at == reader->end;
    if (reader->depth == 0) {
        token->type = KB_JSON_END;
        return is_end ? KB_OK : bad(reader, err, "bytes after the end of the value");
    }
    bool is_object = reader->levels[reader->depth - 1].is_object;
    if (!is_end && *reader->at == (is_object ? '}' : ']'))
        return close_container(reader, token);
    return unexpected(reader, err, is_object ? "',' or '}'" : "',' or ']'");
}

/* One token; between-token characters (',' and ':') may come before it. */
static kb_code take_token(kb_json_reader *reader, kb_json_token *token, kb_error *err)
{
    kb_code code = skip_space(reader, err);
    if (code != KB_OK)
        return code;
    kb_json_state before = reader->state;
    if (before == KB_STATE_AFTER_VALUE)
        take_comma(reader);
    if (before == KB_STATE_COLON) {
        if (reader->at == reader->end || *reader->at != ':')
            return unexpected(reader, err, "':'");
        reader->at++;
        reader->state = KB_STATE_VALUE;
    }
    if (reader->state != before && (code = skip_space(reader, err)) != KB_OK)
        return code;
    bool is_end = reader->at == reader->end;
    switch (reader->state) {
    case KB_STATE_FIRST_ELEMENT:
        if (!is_end && *reader->at == ']')
            return close_container(reader, token);
        return take_value(reader, token, err);
    case KB_STATE_FIRST_NAME:
        if (!is_end && *reader->at == '}')
            return close_container(reader, token);
        return take_name(reader, token, err);
    case KB_STATE_NAME:
        return take_name(reader, token, err);
    case KB_STATE_AFTER_VALUE:
        return take_after_value(reader, token, err);
    case KB_STATE_VALUE:
    case KB_STATE_COLON:
        break;
    }
    return take_value(reader, token, err);
}

kb_code kb_json_next(kb_json_reader *reader, kb_json_token *ret_token, kb_error *err)
{
    if (reader->failed_code != KB_OK)
        return kb_fail(err, reader->failed_code, "reading JSON went on after an error");
    if (reader->has_peeked) {
        reader->has_peeked = false;
        *ret_token = reader->peeked;
        return KB_OK;
    }
    kb_json_token token = {KB_JSON_END, {NULL, 0}, false, 0};
    kb_code code = take_token(reader, &token, err);
    if (code != KB_OK)
        return code;
    *ret_token = token;
    return KB_OK;
}

kb_code kb_json_peek(kb_json_reader *reader, kb_json_type *ret_type, kb_error *err)
{
    if (!reader->has_peeked) {
        kb_json_token token = {KB_JSON_END, {NULL, 0}, false, 0};
        kb_code code = kb_json_next(reader, &token, err);
        if (code != KB_OK)
            return code;
        reader->peeked = token;
        reader->has_peeked = true;
    }
    *ret_type = reader->peeked.type;
    return KB_OK;
}

#include "common/data/json_write.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/encode.h"
#include "common/base/mem.h"

#define KB_FLUSH_BYTES (64u * 1024)
/* One string may be as long as the largest JSON text of the storage format. */
#define KB_SINK_BUFFER_MAX (512u * 1024 * 1024)
#define KB_WRITE_DEPTH_MAX 64

struct kb_json_writer {
    kb_json_style style;
    kb_strbuf *to; /* borrowed, or &buffer */
    kb_strbuf buffer;
    kb_json_sink sink; /* NULL: to is the caller's */
    void *sink_ctx;
    size_t depth;
    bool is_object[KB_WRITE_DEPTH_MAX];
    bool has_items[KB_WRITE_DEPTH_MAX];
    bool after_name;
    bool is_complete;
    kb_error failure;
};

/* ---- making and ending ---- */

kb_json_writer *kb_json_writer_new(kb_json_style style, kb_strbuf *to)
{
    kb_json_writer *writer = kb_calloc(1, sizeof *writer);
    writer->style = style;
    kb_strbuf_init(&writer->buffer, KB_SINK_BUFFER_MAX);
    writer->to = to;
    return writer;
}

kb_json_writer *kb_json_writer_new_sink(kb_json_style style, kb_json_sink sink, void *ctx)
{
    kb_json_writer *writer = kb_json_writer_new(style, NULL);
    writer->to = &writer->buffer;
    writer->sink = sink;
    writer->sink_ctx = ctx;
    return writer;
}

void kb_json_writer_free(kb_json_writer *owned_writer)
{
    if (owned_writer == NULL)
        return;
    kb_strbuf_done(&owned_writer->buffer);
    kb_error_done(&owned_writer->failure);
    free(owned_writer);
}

void kb_json_writer_free_at(kb_json_writer **at)
{
    kb_json_writer_free(*at);
    *at = NULL;
}

static bool has_failed(const kb_json_writer *writer)
{
    return writer->failure.code != KB_OK;
}

static void misuse(kb_json_writer *writer, const char *what)
{
    if (!has_failed(writer))
        (void)kb_fail(&writer->failure, KB_ERR_INTERNAL, "writing JSON: %s", what);
}

static void flush(kb_json_writer *writer)
{
    if (has_failed(writer) || kb_strbuf_check(writer->to, "JSON text", &writer->failure) != KB_OK)
        return;
    kb_view part = kb_view_of(writer->to->data, writer->to->len);
    if (part.len > 0 && writer->sink(writer->sink_ctx, part, &writer->failure) == KB_OK)
        kb_strbuf_clear(writer->to);
}

kb_code kb_json_writer_finish(kb_json_writer *writer, kb_error *err)
{
    if (writer->depth > 0 || !writer->is_complete)
        misuse(writer, "the value is not complete");
    if (writer->sink != NULL)
        flush(writer);
    if (has_failed(writer)) {
        kb_error_move(err, &writer->failure);
        kb_code code = err != NULL ? err->code : KB_ERR_INTERNAL;
        misuse(writer, "finished twice");
        return code;
    }
    return kb_strbuf_check(writer->to, "JSON text", err);
}

/* ---- tokens ---- */

static void add(kb_json_writer *writer, const char *text)
{
    kb_strbuf_appends(writer->to, text);
}

static void new_line(kb_json_writer *writer)
{
    static const char spaces[2 * KB_WRITE_DEPTH_MAX + 1] =
        "                                                                                                "
        "                                ";
    if (writer->style != KB_JSON_PRETTY)
        return;
    kb_strbuf_appendc(writer->to, '\n');
    kb_strbuf_append(writer->to, spaces, 2 * writer->depth);
}

/* Comma and line before an element or a name. */
static void separate(kb_json_writer *writer)
{
    if (writer->depth == 0)
        return;
    bool *has_items = &writer->has_items[writer->depth - 1];
    if (*has_items)
        kb_strbuf_appendc(writer->to, ',');
    *has_items = true;
    new_line(writer);
}

/* Before every value; false when nothing may be written. */
static bool begin_value(kb_json_writer *writer)
{
    if (has_failed(writer))
        return false;
    bool in_object = writer->depth > 0 && writer->is_object[writer->depth - 1];
    if (in_object != writer->after_name || writer->is_complete) {
        misuse(writer, in_object ? "a value without a name" : "a value after the last one");
        return false;
    }
    if (!in_object)
        separate(writer);
    writer->after_name = false;
    return true;
}

static void end_value(kb_json_writer *writer)
{
    writer->is_complete = writer->depth == 0;
    if (writer->sink != NULL && writer->to->len >= KB_FLUSH_BYTES)
        flush(writer);
}

static void begin_container(kb_json_writer *writer, bool is_object)
{
    if (!begin_value(writer))
        return;
    if (writer->depth == KB_WRITE_DEPTH_MAX) {
        misuse(writer, "nested too deeply");
        return;
    }
    kb_strbuf_appendc(writer->to, is_object ? '{' : '[');
    writer->is_object[writer->depth] = is_object;
    writer->has_items[writer->depth] = false;
    writer->depth++;
}

static void end_container(kb_json_writer *writer, bool is_object)
{
    if (has_failed(writer))
        return;
    if (writer->depth == 0 || writer->is_object[writer->depth - 1] != is_object || writer->after_name) {
        misuse(writer, "an end without its begin");
        return;
    }
    writer->depth--;
    if (writer->has_items[writer->depth])
        new_line(writer);
    kb_strbuf_appendc(writer->to, is_object ? '}' : ']');
    end_value(writer);
}

static void add_escaped(kb_json_writer *writer, uint8_t c)
{
    static const char specials[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *special = c != 0 ? strchr(specials, c) : NULL;
    if (special == NULL) {
        kb_strbuf_appendf(writer->to, "\\u%04x", c);
        return;
    }
    kb_strbuf_appendc(writer->to, '\\');
    kb_strbuf_appendc(writer->to, letters[special - specials]);
}

static void add_string(kb_json_writer *writer, kb_view text)
{
    if (!kb_utf8_valid(text.data, text.len)) {
        (void)kb_fail(&writer->failure, KB_ERR_FORMAT,
                      "a text that is not valid UTF-8 cannot be written as JSON");
        return;
    }
    kb_strbuf_appendc(writer->to, '"');
    size_t plain_from = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        kb_strbuf_append(writer->to, text.data + plain_from, i - plain_from);
        add_escaped(writer, c);
        plain_from = i + 1;
    }
    if (plain_from < text.len)
        kb_strbuf_append(writer->to, text.data + plain_from, text.len - plain_from);
    kb_strbuf_appendc(writer->to, '"');
}

void kb_json_put_begin_object(kb_json_writer *writer)
{
    begin_container(writer, true);
}

void kb_json_put_end_object(kb_json_writer *writer)
{
    end_container(writer, true);
}

void kb_json_put_begin_array(kb_json_writer *writer)
{
    begin_container(writer, false);
}

void kb_json_put_end_array(kb_json_writer *writer)
{
    end_container(writer, false);
}

void kb_json_put_name_view(kb_json_writer *writer, kb_view name)
{
    if (has_failed(writer))
        return;
    if (writer->depth == 0 || !writer->is_object[writer->depth - 1] || writer->after_name) {
        misuse(writer, "a name outside of an object");
        return;
    }
    separate(writer);
    add_string(writer, name);
    add(writer, writer->style == KB_JSON_PRETTY ? ": " : ":");
    writer->after_name = true;
}

void kb_json_put_name(kb_json_writer *writer, const char *name)
{
    kb_json_put_name_view(writer, kb_view_of(name, strlen(name)));
}

void kb_json_put_view(kb_json_writer *writer, kb_view text)
{
    if (!begin_value(writer))
        return;
    add_string(writer, text);
    end_value(writer);
}

static void put_bare(kb_json_writer *writer, const char *text)
{
    if (!begin_value(writer))
        return;
    add(writer, text);
    end_value(writer);
}

void kb_json_put_text(kb_json_writer *writer, const char *text)
{
    if (text == NULL)
        kb_json_put_null(writer);
    else
        kb_json_put_view(writer, kb_view_of(text, strlen(text)));
}

static void put_number(kb_json_writer *writer, bool is_negative, uint64_t magnitude)
{
    char digits[24]; /* 20 digits of 2^64, a sign, a NUL */
    char *at = digits + sizeof digits;
    *--at = '\0';
    do {
        *--at = (char)('0' + magnitude % 10);
        magnitude /= 10;
    } while (magnitude > 0);
    if (is_negative)
        *--at = '-';
    put_bare(writer, at);
}

void kb_json_put_i64(kb_json_writer *writer, int64_t value)
{
    put_number(writer, value < 0, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void kb_json_put_u64(kb_json_writer *writer, uint64_t value)
{
    put_number(writer, false, value);
}

void kb_json_put_bool(kb_json_writer *writer, bool value)
{
    put_bare(writer, value ? "true" : "false");
}

void kb_json_put_null(kb_json_writer *writer)
{
    put_bare(writer, "null");
}

/* ---- fields ---- */

void kb_json_field_text(kb_json_writer *writer, const char *name, const char *text)
{
    kb_json_put_name(writer, name);
    kb_json_put_text(writer, text);
}

void kb_json_field_view(kb_json_writer *writer, const char *name, kb_view text)
{
    kb_json_put_name(writer, name);
    kb_json_put_view(writer, text);
}

void kb_json_field_i64(kb_json_writer *writer, const char *name, int64_t value)
{
    kb_json_put_name(writer, name);
    kb_json_put_i64(writer, value);
}

void kb_json_field_u64(kb_json_writer *writer, const char *name, uint64_t value)
{
    kb_json_put_name(writer, name);
    kb_json_put_u64(writer, value);
}

void kb_json_field_bool(kb_json_writer *writer, const char *name, bool value)
{
    kb_json_put_name(writer, name);
    kb_json_put_bool(writer, value);
}

void kb_json_field_null(kb_json_writer *writer, const char *name)
{
    kb_json_put_name(writer, name);
    kb_json_put_null(writer);
}

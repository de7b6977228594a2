#include "worker/cmd/text_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/mem.h"

#define CELL_MAX_BYTES ((size_t)1 << 20)
#define SPACE_BETWEEN 2

struct kb_text_table {
    const kb_text_column *columns;
    size_t column_count;
    char **cells; /* owned, escaped */
    size_t cell_count;
    size_t capacity;
};

/* C0, DEL and, in their two-byte form, C1: what a terminal obeys. */
static bool is_control(const unsigned char *at, size_t step)
{
    if (step == 1)
        return at[0] < 0x20 || at[0] == 0x7f;
    return step == 2 && at[0] == 0xc2 && at[1] < 0xa0;
}

void kb_text_escape(kb_strbuf *out, const char *text)
{
    if (text == NULL)
        text = "-";
    const unsigned char *at = (const unsigned char *)text;
    size_t left = strlen(text);
    while (left > 0) {
        size_t step = kb_utf8_step(at, left);
        bool is_plain = step > 0 && !is_control(at, step);
        if (step == 0)
            step = 1;
        if (is_plain)
            kb_strbuf_append(out, at, step);
        for (size_t i = 0; i < step && !is_plain; i++)
            kb_strbuf_appendf(out, "\\x%02x", at[i]);
        at += step;
        left -= step;
    }
}

void kb_text_json_field(kb_json_writer *json, const char *name, const char *text)
{
    if (text == NULL || kb_utf8_valid(text, strlen(text))) {
        kb_json_field_text(json, name, text);
        return;
    }
    KB_AUTO_STRBUF(escaped, CELL_MAX_BYTES);
    kb_text_escape(&escaped, text);
    kb_json_field_text(json, name, kb_strbuf_view(&escaped));
}

void kb_text_bytes(int64_t bytes, char to[KB_TEXT_SIZE_MAX])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
    if (bytes < 1024) {
        snprintf(to, KB_TEXT_SIZE_MAX, "%" PRId64 " B", bytes);
        return;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    while (value >= 1023.95 && unit + 1 < KB_ARRAY_LEN(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(to, KB_TEXT_SIZE_MAX, "%.1f %s", value, units[unit]);
}

_Static_assert(KB_TEXT_SIZE_MAX + 2 >= KB_RFC3339_SIZE, "a time fits");

void kb_text_time(int64_t ms, char to[KB_TEXT_SIZE_MAX + 2])
{
    if (ms > 0)
        kb_rfc3339_format(ms, to);
    else
        memcpy(to, "-", 2);
}

kb_text_table *kb_text_table_new(const kb_text_column *columns, size_t count)
{
    kb_text_table *table = kb_calloc(1, sizeof *table);
    table->columns = columns;
    table->column_count = count;
    return table;
}

void kb_text_table_free(kb_text_table *owned_table)
{
    if (owned_table == NULL)
        return;
    for (size_t i = 0; i < owned_table->cell_count; i++)
        free(owned_table->cells[i]);
    free(owned_table->cells);
    free(owned_table);
}

void kb_text_table_free_at(kb_text_table **at)
{
    kb_text_table_free(*at);
    *at = NULL;
}

void kb_text_table_add(kb_text_table *table, const char *text)
{
    KB_AUTO_STRBUF(cell, CELL_MAX_BYTES);
    kb_text_escape(&cell, text);
    char *escaped = kb_strbuf_take(&cell);
    table->cells = kb_grow(table->cells, table->cell_count, &table->capacity, sizeof *table->cells);
    table->cells[table->cell_count++] = escaped != NULL ? escaped : kb_strdup("...");
}

void kb_text_table_add_i64(kb_text_table *table, int64_t value)
{
    KB_AUTOFREE char *text = kb_asprintf("%" PRId64, value);
    kb_text_table_add(table, text);
}

void kb_text_table_add_bytes(kb_text_table *table, int64_t bytes)
{
    char text[KB_TEXT_SIZE_MAX];
    kb_text_bytes(bytes, text);
    kb_text_table_add(table, text);
}

/* Code points; what is left after escaping has one column each in the scripts of names. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void append_spaces(kb_strbuf *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        kb_strbuf_appendc(out, ' ');
}

static void print_cell(const kb_text_table *table, size_t column, const char *text, size_t width,
                       kb_strbuf *out)
{
    size_t padding = width - width_of(text);
    bool is_last = column + 1 == table->column_count;
    if (table->columns[column].align == KB_TEXT_RIGHT)
        append_spaces(out, padding);
    kb_strbuf_appends(out, text);
    if (!is_last)
        append_spaces(out, (table->columns[column].align == KB_TEXT_LEFT ? padding : 0) + SPACE_BETWEEN);
    else
        kb_strbuf_appendc(out, '\n');
}

void kb_text_table_print(const kb_text_table *table, kb_strbuf *out)
{
    if (table->column_count == 0)
        return;
    size_t *widths KB_AUTOFREE = kb_calloc(table->column_count, sizeof *widths);
    for (size_t i = 0; i < table->column_count; i++)
        widths[i] = width_of(table->columns[i].title);
    for (size_t i = 0, column = 0; i < table->cell_count; i++) {
        size_t width = width_of(table->cells[i]);
        if (width > widths[column])
            widths[column] = width;
        column = column + 1 < table->column_count ? column + 1 : 0;
    }
    for (size_t i = 0; i < table->column_count; i++)
        print_cell(table, i, table->columns[i].title, widths[i], out);
    for (size_t i = 0, column = 0; i < table->cell_count; i++) {
        print_cell(table, column, table->cells[i], widths[column], out);
        column = column + 1 < table->column_count ? column + 1 : 0;
    }
}

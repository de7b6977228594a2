#include "common/data/schema_print.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/mem.h"

struct kb_schema_printer {
    kb_strbuf *to;
    unsigned indent;
};

/* Letters first and nothing that YAML gives a meaning: may stand without quotes. */
static bool is_bare(const char *text)
{
    static const char *const words[] = {
        "null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE", "y",   "n",   "Y",  "N",
        "yes",  "Yes",  "YES",  "no",   "No",   "NO",   "on",    "On",    "ON",    "off", "Off", "OFF"};
    bool is_letter = (text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z');
    if (!is_letter && text[0] != '/')
        return false;
    for (size_t i = 0; i < KB_ARRAY_LEN(words); i++) {
        if (strcmp(text, words[i]) == 0)
            return false;
    }
    return text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-")] == '\0';
}

/* In double quotes with the escapes that YAML shares with JSON. */
static void append_quoted(kb_strbuf *to, const char *text)
{
    kb_strbuf_appendc(to, '"');
    for (const char *at = text; *at != '\0'; at++) {
        unsigned char c = (unsigned char)*at;
        if (c == '"' || c == '\\')
            kb_strbuf_appendf(to, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            kb_strbuf_appendf(to, "\\x%02x", c);
        else if (c == '$' && at[1] == '{')
            kb_strbuf_appends(to, "$$");
        else
            kb_strbuf_appendc(to, (char)c);
    }
    kb_strbuf_appendc(to, '"');
}

static void append_text(kb_strbuf *to, const char *text)
{
    if (is_bare(text))
        kb_strbuf_appends(to, text);
    else
        append_quoted(to, text);
}

/* Keys of maps are names from outside. */
static void print_key(kb_schema_printer *printer, const char *key)
{
    for (unsigned i = 0; i < printer->indent; i++)
        kb_strbuf_appends(printer->to, "  ");
    append_text(printer->to, key);
    kb_strbuf_appendc(printer->to, ':');
}

void kb_schema_print_literal(kb_schema_printer *printer, const char *key, const char *text)
{
    print_key(printer, key);
    kb_strbuf_appendf(printer->to, " %s\n", text);
}

void kb_schema_print_number(kb_schema_printer *printer, const char *key, int64_t value)
{
    print_key(printer, key);
    kb_strbuf_appendf(printer->to, " %" PRId64 "\n", value);
}

void kb_schema_print_begin(kb_schema_printer *printer, const char *key)
{
    print_key(printer, key);
    kb_strbuf_appendc(printer->to, '\n');
    printer->indent++;
}

void kb_schema_print_end(kb_schema_printer *printer)
{
    printer->indent--;
}

void kb_schema_print_text(kb_schema_printer *printer, const char *key, const char *text)
{
    print_key(printer, key);
    kb_strbuf_appendc(printer->to, ' ');
    append_text(printer->to, text);
    kb_strbuf_appendc(printer->to, '\n');
}

static void print_secret(kb_schema_printer *printer, const kb_field *field, const kb_secret_source *source)
{
    if (source->file != NULL) {
        bool has_own_name = field->type == KB_FIELD_SECRET_FILE;
        KB_AUTOFREE char *key = kb_asprintf("%s%s", field->name, has_own_name ? "" : "_file");
        kb_schema_print_text(printer, key, source->file);
    } else if (source->value != NULL) {
        bool is_public = field->type == KB_FIELD_TEXT_FILE;
        kb_schema_print_text(printer, field->name, is_public ? kb_secret_view(source->value) : "***");
    }
}

static void print_enum(kb_schema_printer *printer, const kb_field *field, int value)
{
    for (const kb_enum_word *word = field->words; word->word != NULL; word++) {
        if (word->value == value) {
            kb_schema_print_text(printer, field->name, word->word);
            return;
        }
    }
}

static void print_strings(kb_schema_printer *printer, const kb_field *field, const kb_strings *strings)
{
    print_key(printer, field->name);
    kb_strbuf_appends(printer->to, " [");
    for (size_t i = 0; i < strings->count; i++) {
        kb_strbuf_appends(printer->to, i > 0 ? ", " : "");
        append_quoted(printer->to, strings->items[i]);
    }
    kb_strbuf_appends(printer->to, "]\n");
}

static void print_i64s(kb_schema_printer *printer, const kb_field *field, const kb_i64s *numbers)
{
    print_key(printer, field->name);
    kb_strbuf_appends(printer->to, " [");
    for (size_t i = 0; i < numbers->count; i++)
        kb_strbuf_appendf(printer->to, "%s%" PRId64, i > 0 ? ", " : "", numbers->items[i]);
    kb_strbuf_appends(printer->to, "]\n");
}

static void print_string_map(kb_schema_printer *printer, const kb_field *field, const kb_string_map *map)
{
    if (map->count == 0) {
        kb_schema_print_literal(printer, field->name, "{}");
        return;
    }
    kb_schema_print_begin(printer, field->name);
    for (size_t i = 0; i < map->count; i++)
        kb_schema_print_text(printer, map->keys[i], map->values[i]);
    kb_schema_print_end(printer);
}

static void print_i64_map(kb_schema_printer *printer, const kb_field *field, const kb_i64_map *map)
{
    print_key(printer, field->name);
    kb_strbuf_appends(printer->to, " {");
    for (size_t i = 0; i < map->count; i++)
        kb_strbuf_appendf(printer->to, "%s%" PRId64 ": %" PRId64, i > 0 ? ", " : "", map->keys[i],
                          map->values[i]);
    kb_strbuf_appends(printer->to, "}\n");
}

/* A block without a value to print leaves nothing behind. */
static void print_block(kb_schema_printer *printer, const kb_field *field, const void *at)
{
    const kb_block *block = at;
    if ((field->flags & KB_FIELD_IF_GIVEN) != 0 && !block->is_given)
        return;
    size_t before = printer->to->len;
    kb_schema_print_begin(printer, field->name);
    size_t begun = printer->to->len;
    kb_schema_print_fields(printer, field->block, at);
    kb_schema_print_end(printer);
    if (printer->to->len == begun && !printer->to->failed) {
        printer->to->len = before;
        printer->to->data[before] = '\0';
    }
}

static void print_field(kb_schema_printer *printer, const kb_field *field, const void *at)
{
    switch (field->type) {
    case KB_FIELD_BOOL:
        kb_schema_print_literal(printer, field->name, *(const bool *)at ? "true" : "false");
        break;
    case KB_FIELD_I64:
        kb_schema_print_number(printer, field->name, *(const int64_t *)at);
        break;
    case KB_FIELD_OPT_I64:
        if (((const kb_opt_i64 *)at)->is_set)
            kb_schema_print_number(printer, field->name, ((const kb_opt_i64 *)at)->value);
        break;
    case KB_FIELD_STRING:
        if (*(char *const *)at != NULL)
            kb_schema_print_text(printer, field->name, *(char *const *)at);
        break;
    case KB_FIELD_SECRET:
    case KB_FIELD_TEXT_FILE:
    case KB_FIELD_SECRET_FILE:
        print_secret(printer, field, at);
        break;
    case KB_FIELD_ENUM:
        print_enum(printer, field, *(const int *)at);
        break;
    case KB_FIELD_STRINGS:
        print_strings(printer, field, at);
        break;
    case KB_FIELD_I64S:
        print_i64s(printer, field, at);
        break;
    case KB_FIELD_STRING_MAP:
        print_string_map(printer, field, at);
        break;
    case KB_FIELD_I64_MAP:
        print_i64_map(printer, field, at);
        break;
    case KB_FIELD_BLOCK:
        print_block(printer, field, at);
        break;
    case KB_FIELD_CUSTOM:
        field->custom->print(printer, field, at);
        break;
    case KB_FIELD_NO_EFFECT:
    case KB_FIELD_REFUSED:
        break;
    }
}

void kb_schema_print_fields(kb_schema_printer *printer, const kb_schema *schema, const void *block)
{
    const kb_schema *table = schema->chosen != NULL ? schema->chosen(block) : schema;
    for (size_t i = 0; table != NULL && i < table->field_count; i++) {
        const kb_field *field = &table->fields[i];
        if ((field->flags & KB_FIELD_HIDDEN) == 0)
            print_field(printer, field, (const char *)block + field->at);
    }
}

void kb_schema_print(const kb_schema *schema, const void *block, unsigned indent, kb_strbuf *to)
{
    kb_schema_printer printer = {to, indent};
    kb_schema_print_fields(&printer, schema, block);
}

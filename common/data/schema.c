#include "common/data/schema.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/file.h"
#include "common/base/mem.h"

#define KB_SECRET_FILE_MAX_BYTES (64u * 1024)
#define KB_SHOWN_MAX 60
#define KB_FILE_SUFFIX "_file"

struct kb_schema_reader {
    const kb_schema_options *options;
    kb_problems *problems;
};

static void *at_field(void *block, const kb_field *field)
{
    return (char *)block + field->at;
}

/* ---- values ---- */

const char *kb_string_map_get(const kb_string_map *map, const char *key)
{
    for (size_t i = 0; i < map->count; i++) {
        if (strcmp(map->keys[i], key) == 0)
            return map->values[i];
    }
    return NULL;
}

static kb_code read_secret_file(const char *path, kb_secret **ret_secret, kb_error *err)
{
    uint8_t *data = NULL;
    size_t len = 0;
    kb_code code = kb_file_read(path, KB_SECRET_FILE_MAX_BYTES, &data, &len, err);
    if (code == KB_ERR_TOO_LARGE)
        return kb_fail(err, KB_CONFIG_INVALID, "'%s' is larger than 64 KiB", path);
    if (code != KB_OK)
        return kb_wrap_as(err, KB_CONFIG_INVALID, "a value given by file");
    size_t kept = len;
    if (kept > 0 && data[kept - 1] == '\n')
        kept--;
    if (kept < len && kept > 0 && data[kept - 1] == '\r')
        kept--;
    bool has_nul = memchr(data, '\0', kept) != NULL;
    if (!has_nul)
        *ret_secret = kb_secret_new(data, kept);
    kb_wipe(data, len);
    free(data);
    return has_nul ? kb_fail(err, KB_CONFIG_INVALID, "'%s' holds a NUL byte", path) : KB_OK;
}

kb_code kb_secret_source_read(const kb_secret_source *source, kb_secret **ret_secret, kb_error *err)
{
    if (source->file != NULL)
        return read_secret_file(source->file, ret_secret, err);
    *ret_secret = kb_secret_copy(source->value);
    return KB_OK;
}

/* ---- defaults and freeing ---- */

static void init_field(const kb_field *field, void *at)
{
    switch (field->type) {
    case KB_FIELD_BOOL:
        *(bool *)at = field->default_i64 != 0;
        break;
    case KB_FIELD_I64:
        *(int64_t *)at = field->default_i64;
        break;
    case KB_FIELD_ENUM:
        *(int *)at = (int)field->default_i64;
        break;
    case KB_FIELD_STRING:
        *(char **)at = kb_strdup_opt(field->default_text);
        break;
    case KB_FIELD_BLOCK:
        kb_schema_init(field->block, at);
        break;
    case KB_FIELD_CUSTOM:
        if (field->custom->init != NULL)
            field->custom->init(at);
        break;
    case KB_FIELD_OPT_I64:
    case KB_FIELD_SECRET:
    case KB_FIELD_TEXT_FILE:
    case KB_FIELD_SECRET_FILE:
    case KB_FIELD_STRINGS:
    case KB_FIELD_I64S:
    case KB_FIELD_STRING_MAP:
    case KB_FIELD_I64_MAP:
    case KB_FIELD_NO_EFFECT:
    case KB_FIELD_REFUSED:
        break; /* zero is "not given" */
    }
}

void kb_schema_init(const kb_schema *schema, void *block)
{
    for (size_t i = 0; i < schema->field_count; i++)
        init_field(&schema->fields[i], at_field(block, &schema->fields[i]));
}

static void free_texts(char **texts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(texts[i]);
    free(texts);
}

static void strings_done(kb_strings *strings)
{
    free_texts(strings->items, strings->count);
    *strings = (kb_strings){NULL, 0};
}

static void string_map_done(kb_string_map *map)
{
    free_texts(map->keys, map->count);
    free_texts(map->values, map->count);
    *map = (kb_string_map){NULL, NULL, 0};
}

static void i64_map_done(kb_i64_map *map)
{
    free(map->keys);
    free(map->values);
    *map = (kb_i64_map){NULL, NULL, 0};
}

static void secret_done(kb_secret_source *source)
{
    kb_secret_free(source->value);
    free(source->file);
    *source = (kb_secret_source){NULL, NULL};
}

static void done_field(const kb_field *field, void *at)
{
    switch (field->type) {
    case KB_FIELD_STRING:
        free(*(char **)at);
        *(char **)at = NULL;
        break;
    case KB_FIELD_SECRET:
    case KB_FIELD_TEXT_FILE:
    case KB_FIELD_SECRET_FILE:
        secret_done(at);
        break;
    case KB_FIELD_STRINGS:
        strings_done(at);
        break;
    case KB_FIELD_I64S:
        free(((kb_i64s *)at)->items);
        *(kb_i64s *)at = (kb_i64s){NULL, 0};
        break;
    case KB_FIELD_STRING_MAP:
        string_map_done(at);
        break;
    case KB_FIELD_I64_MAP:
        i64_map_done(at);
        break;
    case KB_FIELD_BLOCK:
        kb_schema_done(field->block, at);
        break;
    case KB_FIELD_CUSTOM:
        if (field->custom->done != NULL)
            field->custom->done(at);
        break;
    case KB_FIELD_BOOL:
    case KB_FIELD_I64:
    case KB_FIELD_OPT_I64:
    case KB_FIELD_ENUM:
    case KB_FIELD_NO_EFFECT:
    case KB_FIELD_REFUSED:
        break; /* own nothing */
    }
}

void kb_schema_done(const kb_schema *schema, void *block)
{
    for (size_t i = 0; i < schema->field_count; i++)
        done_field(&schema->fields[i], at_field(block, &schema->fields[i]));
}

/* ---- scalars ---- */

void kb_schema_problem(kb_schema_reader *reader, const kb_yaml_node *node, const char *path, const char *fmt,
                       ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, fmt);
    int len = vasprintf(&text, fmt, args);
    va_end(args);
    if (len < 0)
        kb_out_of_memory();
    kb_problems_add(reader->problems, KB_SEVERITY_ERROR, node->line, node->column, path, "%s", text);
    free(text);
}

/* What stands there, for a message: a short text in quotes, or its kind. Owned. */
static char *shown(const kb_yaml_node *node)
{
    if (node->kind == KB_YAML_MAP)
        return kb_strdup("a map");
    if (node->kind == KB_YAML_SEQUENCE)
        return kb_strdup("a list");
    if (kb_yaml_is_null(node))
        return kb_strdup("nothing");
    bool is_long = node->text_len > KB_SHOWN_MAX;
    return kb_asprintf("%s'%.*s%s'", node->is_plain ? "" : "the text ", KB_SHOWN_MAX, node->text,
                       is_long ? "..." : "");
}

static void wrong_type(kb_schema_reader *reader, const kb_yaml_node *node, const char *path,
                       const char *expected, const char *hint)
{
    KB_AUTOFREE char *got = shown(node);
    kb_schema_problem(reader, node, path, "expected %s, got %s%s%s", expected, got,
                      hint != NULL ? "; hint: " : "", hint != NULL ? hint : "");
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

/* [+-] decimal, 0x, 0o or 0b; no leading zero in front of a decimal number. */
static bool parse_integer(const char *text, int64_t *ret_value)
{
    bool is_negative = *text == '-';
    if (*text == '-' || *text == '+')
        text++;
    int base = 10;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'o' || text[1] == 'b')) {
        base = text[1] == 'x' ? 16 : text[1] == 'o' ? 8 : 2;
        text += 2;
    } else if (text[0] == '0' && text[1] != '\0') {
        return false;
    }
    if (*text == '\0')
        return false;
    int64_t value = 0;
    for (; *text != '\0'; text++) {
        int digit = digit_value(*text);
        if (digit >= base || __builtin_mul_overflow(value, (int64_t)base, &value) ||
            __builtin_sub_overflow(value, (int64_t)digit, &value))
            return false;
    }
    /* Counted downwards, since the negative range is the larger one. */
    if (!is_negative && value == INT64_MIN)
        return false;
    *ret_value = is_negative ? value : -value;
    return true;
}

static void field_range(const kb_field *field, int64_t *ret_min, int64_t *ret_max)
{
    bool is_default = field->min == 0 && field->max == 0;
    *ret_min = field->min;
    *ret_max = is_default ? INT64_MAX : field->max;
}

bool kb_schema_read_i64(kb_schema_reader *reader, const kb_yaml_node *node, const char *path, int64_t min,
                        int64_t max, int64_t *ret_value)
{
    int64_t value = 0;
    if (node->has_error)
        return false;
    if (node->kind != KB_YAML_SCALAR || !node->is_plain || !parse_integer(node->text, &value)) {
        bool is_quoted = node->kind == KB_YAML_SCALAR && !node->is_plain;
        wrong_type(reader, node, path, "an integer", is_quoted ? "remove the quotes" : NULL);
        return false;
    }
    if (value < min || value > max) {
        if (max == INT64_MAX)
            kb_schema_problem(reader, node, path, "expected an integer of at least %" PRId64 ", got %" PRId64,
                              min, value);
        else
            kb_schema_problem(reader, node, path,
                              "expected an integer from %" PRId64 " to %" PRId64 ", got %" PRId64, min, max,
                              value);
        return false;
    }
    *ret_value = value;
    return true;
}

bool kb_schema_read_text(kb_schema_reader *reader, const kb_yaml_node *node, const char *path,
                         char **ret_text)
{
    if (node->has_error)
        return false;
    if (node->kind != KB_YAML_SCALAR || kb_yaml_is_null(node)) {
        wrong_type(reader, node, path, "a text", NULL);
        return false;
    }
    *ret_text = kb_strdup(node->text);
    return true;
}

static void read_bool(kb_schema_reader *reader, const kb_yaml_node *node, const char *path, bool *to)
{
    static const char *const words[] = {"true", "True", "TRUE", "false", "False", "FALSE"};
    for (size_t i = 0; node->kind == KB_YAML_SCALAR && node->is_plain && i < KB_ARRAY_LEN(words); i++) {
        if (strcmp(node->text, words[i]) == 0) {
            *to = i < 3;
            return;
        }
    }
    bool is_quoted = node->kind == KB_YAML_SCALAR && !node->is_plain;
    wrong_type(reader, node, path, "true or false", is_quoted ? "remove the quotes" : NULL);
}

static void read_enum(kb_schema_reader *reader, const kb_field *field, const kb_yaml_node *node,
                      const char *path, int *to)
{
    KB_AUTO_STRBUF(words, 4096);
    for (const kb_enum_word *word = field->words; word->word != NULL; word++) {
        if (node->kind == KB_YAML_SCALAR && strcmp(node->text, word->word) == 0) {
            *to = word->value;
            return;
        }
        kb_strbuf_appendf(&words, "%s%s", words.len > 0 ? ", " : "one of ", word->word);
    }
    wrong_type(reader, node, path, kb_strbuf_view(&words), NULL);
}

static void read_string(kb_schema_reader *reader, const kb_field *field, const kb_yaml_node *node,
                        const char *path, char **to)
{
    char *text = NULL;
    if (!kb_schema_read_text(reader, node, path, &text))
        return;
    if (text[0] == '\0' && (field->flags & KB_FIELD_NOT_EMPTY) != 0)
        kb_schema_problem(reader, node, path, "expected a text that is not empty");
    if (text[0] == '\0' && (field->flags & KB_FIELD_EMPTY_IS_UNSET) != 0) {
        free(text);
        return;
    }
    free(*to);
    *to = text;
}

/* ---- lists and maps ---- */

static void add_text(kb_strings *to, size_t *capacity, const char *text, size_t len)
{
    to->items = kb_grow(to->items, to->count, capacity, sizeof(char *));
    to->items[to->count++] = kb_strndup(text, len);
}

static void add_servers(kb_strings *to, size_t *capacity, const char *text)
{
    for (const char *at = text;; at++) {
        at += strspn(at, " \t");
        size_t len = strcspn(at, ",");
        size_t kept = len;
        while (kept > 0 && (at[kept - 1] == ' ' || at[kept - 1] == '\t'))
            kept--;
        if (kept > 0)
            add_text(to, capacity, at, kept);
        at += len;
        if (*at == '\0')
            return;
    }
}

static bool is_list(kb_schema_reader *reader, const kb_yaml_node *node, const char *path)
{
    if (node->kind == KB_YAML_SEQUENCE)
        return true;
    wrong_type(reader, node, path, "a list", node->kind == KB_YAML_SCALAR ? "put it in [ ]" : NULL);
    return false;
}

static bool is_map(kb_schema_reader *reader, const kb_yaml_node *node, const char *path)
{
    if (node->kind == KB_YAML_MAP)
        return true;
    wrong_type(reader, node, path, "a map", NULL);
    return false;
}

static void read_strings(kb_schema_reader *reader, const kb_field *field, const kb_yaml_node *node,
                         const char *path, kb_strings *to)
{
    if (!is_list(reader, node, path))
        return;
    size_t capacity = 0;
    for (size_t i = 0; i < node->count; i++) {
        KB_AUTOFREE char *item_path = kb_asprintf("%s[%zu]", path, i);
        KB_AUTOFREE char *text = NULL;
        if (!kb_schema_read_text(reader, node->values[i], item_path, &text))
            continue;
        if ((field->flags & KB_FIELD_SERVERS) != 0)
            add_servers(to, &capacity, text);
        else
            add_text(to, &capacity, text, strlen(text));
    }
}

static void read_i64s(kb_schema_reader *reader, const kb_field *field, const kb_yaml_node *node,
                      const char *path, kb_i64s *to)
{
    if (!is_list(reader, node, path))
        return;
    int64_t min, max;
    field_range(field, &min, &max);
    to->items = kb_realloc(to->items, node->count + 1, sizeof(int64_t));
    for (size_t i = 0; i < node->count; i++) {
        KB_AUTOFREE char *item_path = kb_asprintf("%s[%zu]", path, i);
        if (kb_schema_read_i64(reader, node->values[i], item_path, min, max, &to->items[to->count]))
            to->count++;
    }
}

static void read_string_map(kb_schema_reader *reader, const kb_yaml_node *node, const char *path,
                            kb_string_map *to)
{
    if (!is_map(reader, node, path))
        return;
    to->keys = kb_realloc(to->keys, node->count + 1, sizeof(char *));
    to->values = kb_realloc(to->values, node->count + 1, sizeof(char *));
    for (size_t i = 0; i < node->count; i++) {
        KB_AUTOFREE char *item_path = kb_asprintf("%s.%s", path, node->keys[i]->text);
        if (!kb_schema_read_text(reader, node->values[i], item_path, &to->values[to->count]))
            continue;
        to->keys[to->count++] = kb_strdup(node->keys[i]->text);
    }
}

static void read_i64_map(kb_schema_reader *reader, const kb_field *field, const kb_yaml_node *node,
                         const char *path, kb_i64_map *to)
{
    if (!is_map(reader, node, path))
        return;
    int64_t min, max;
    field_range(field, &min, &max);
    to->keys = kb_realloc(to->keys, node->count + 1, sizeof(int64_t));
    to->values = kb_realloc(to->values, node->count + 1, sizeof(int64_t));
    for (size_t i = 0; i < node->count; i++) {
        KB_AUTOFREE char *item_path = kb_asprintf("%s.%s", path, node->keys[i]->text);
        kb_yaml_node key = *node->keys[i];
        key.is_plain = true; /* JSON has only quoted keys */
        if (kb_schema_read_i64(reader, &key, item_path, min, max, &to->keys[to->count]) &&
            kb_schema_read_i64(reader, node->values[i], item_path, min, max, &to->values[to->count]))
            to->count++;
    }
}

/* ---- secrets ---- */

static bool ends_in_file(const char *key)
{
    size_t len = strlen(key), suffix = strlen(KB_FILE_SUFFIX);
    return len > suffix && strcmp(key + len - suffix, KB_FILE_SUFFIX) == 0;
}

static bool is_secret_type(kb_field_type type)
{
    return type == KB_FIELD_SECRET || type == KB_FIELD_TEXT_FILE || type == KB_FIELD_SECRET_FILE;
}

static void read_secret(kb_schema_reader *reader, kb_yaml_node *node, const char *key, bool is_file,
                        const char *path, kb_secret_source *to)
{
    if (node->has_error)
        return;
    if (node->kind != KB_YAML_SCALAR) {
        wrong_type(reader, node, path, is_file ? "the path of a file" : "a text", NULL);
        return;
    }
    if (to->value != NULL || to->file != NULL) {
        kb_schema_problem(
            reader, node, path,
            "the value and its file are both given; hint: remove one of '%.*s' and '%.*s" KB_FILE_SUFFIX "'",
            (int)(strlen(key) - (is_file ? strlen(KB_FILE_SUFFIX) : 0)), key,
            (int)(strlen(key) - (is_file ? strlen(KB_FILE_SUFFIX) : 0)), key);
        return;
    }
    if (is_file) {
        if (node->text_len > 0)
            to->file = kb_strdup(node->text);
        return;
    }
    to->value = kb_secret_new(node->text, node->text_len);
    /* The tree outlives the reading; it keeps the place of the secret, not the secret. */
    memset(node->text, '*', node->text_len);
}

/* ---- blocks ---- */

static void read_field(kb_schema_reader *reader, const kb_field *field, kb_yaml_node *node, const char *key,
                       const char *path, void *at)
{
    int64_t min, max;
    field_range(field, &min, &max);
    switch (field->type) {
    case KB_FIELD_BOOL:
        read_bool(reader, node, path, at);
        break;
    case KB_FIELD_I64:
        (void)!kb_schema_read_i64(reader, node, path, min, max, at);
        break;
    case KB_FIELD_OPT_I64: {
        kb_opt_i64 *value = at;
        value->is_set = kb_schema_read_i64(reader, node, path, min, max, &value->value);
        break;
    }
    case KB_FIELD_STRING:
        read_string(reader, field, node, path, at);
        break;
    case KB_FIELD_SECRET:
    case KB_FIELD_TEXT_FILE:
    case KB_FIELD_SECRET_FILE:
        read_secret(reader, node, key, ends_in_file(key), path, at);
        break;
    case KB_FIELD_ENUM:
        read_enum(reader, field, node, path, at);
        break;
    case KB_FIELD_STRINGS:
        read_strings(reader, field, node, path, at);
        break;
    case KB_FIELD_I64S:
        read_i64s(reader, field, node, path, at);
        break;
    case KB_FIELD_STRING_MAP:
        read_string_map(reader, node, path, at);
        break;
    case KB_FIELD_I64_MAP:
        read_i64_map(reader, field, node, path, at);
        break;
    case KB_FIELD_BLOCK:
        kb_schema_read_block(reader, field->block, node, path, at);
        break;
    case KB_FIELD_CUSTOM:
        field->custom->read(reader, field, node, path, at);
        break;
    case KB_FIELD_NO_EFFECT:
        kb_problems_add(reader->problems, KB_SEVERITY_NOTE, node->line, node->column, path,
                        "is accepted and has no effect");
        break;
    case KB_FIELD_REFUSED:
        kb_schema_problem(reader, node, path, "is not supported: %s", field->doc);
        break;
    }
}

static bool has_key(const kb_field *field, const char *key)
{
    size_t len = strlen(field->name);
    if (strcmp(key, field->name) == 0)
        return true;
    return (field->type == KB_FIELD_SECRET || field->type == KB_FIELD_TEXT_FILE) &&
           strncmp(key, field->name, len) == 0 && strcmp(key + len, KB_FILE_SUFFIX) == 0;
}

static const kb_field *find_field(const kb_schema *schema, const char *key)
{
    for (size_t i = 0; i < schema->field_count; i++) {
        if (has_key(&schema->fields[i], key))
            return &schema->fields[i];
    }
    return NULL;
}

/* Whether one insertion, deletion, replacement or swap of neighbours makes b of a. */
static bool is_near(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    if (*a == '\0' || *b == '\0')
        return strlen(a) + strlen(b) <= 1;
    return strcmp(a + 1, b + 1) == 0 || strcmp(a + 1, b) == 0 || strcmp(a, b + 1) == 0 ||
           (a[0] == b[1] && a[1] == b[0] && strcmp(a + 2, b + 2) == 0);
}

static void report_unknown(kb_schema_reader *reader, const kb_schema *schema, const kb_yaml_node *key,
                           const char *path)
{
    const char *meant = NULL;
    for (size_t i = 0; i < schema->field_count && meant == NULL; i++) {
        if (is_near(key->text, schema->fields[i].name))
            meant = schema->fields[i].name;
    }
    bool is_allowed = reader->options->allow_unknown;
    KB_AUTOFREE char *hint = meant != NULL ? kb_asprintf("; hint: did you mean '%s'?", meant)
                             : is_allowed  ? kb_strdup(", ignored")
                                           : kb_strdup("; hint: --allow-unknown makes this a warning");
    kb_problems_add(reader->problems, is_allowed ? KB_SEVERITY_WARNING : KB_SEVERITY_ERROR, key->line,
                    key->column, path, "unknown key%s", hint);
}

static void read_pairs(kb_schema_reader *reader, const kb_schema *schema, const kb_yaml_node *map,
                       const char *path, void *block)
{
    for (size_t i = 0; i < map->count; i++) {
        const char *key = map->keys[i]->text;
        kb_yaml_node *value = map->values[i];
        KB_AUTOFREE char *key_path = kb_asprintf("%s%s%.100s", path, path[0] != '\0' ? "." : "", key);
        const kb_field *field = find_field(schema, key);
        if (field == NULL)
            report_unknown(reader, schema, map->keys[i], key_path);
        else if (!value->has_error && (!kb_yaml_is_null(value) || field->type == KB_FIELD_NO_EFFECT))
            read_field(reader, field, value, key, key_path, at_field(block, field));
    }
}

void kb_schema_read_block(kb_schema_reader *reader, const kb_schema *schema, const kb_yaml_node *node,
                          const char *path, void *block)
{
    kb_block *head = block;
    head->is_given = true;
    head->line = node->line;
    head->column = node->column;
    if (node->has_error || !is_map(reader, node, path))
        return;
    const kb_schema *table = schema->choose != NULL ? schema->choose(reader, node, path) : schema;
    if (table != NULL)
        read_pairs(reader, table, node, path, block);
}

void kb_schema_read(const kb_schema *schema, const kb_yaml_node *map, const char *path,
                    const kb_schema_options *options, kb_problems *problems, void *block)
{
    static const kb_schema_options no_options;
    kb_schema_reader reader = {options != NULL ? options : &no_options, problems};
    kb_schema_read_block(&reader, schema, map, path, block);
}

/* ---- files ---- */

static void read_one_file(const kb_field *field, kb_secret_source *source, const kb_yaml_node *map,
                          const char *path, kb_problems *problems)
{
    KB_AUTO_ERROR(err);
    kb_secret *value = NULL;
    if (kb_secret_source_read(source, &value, &err) == KB_OK) {
        kb_secret_free(source->value);
        source->value = value;
        return;
    }
    bool has_own_name = field->type == KB_FIELD_SECRET_FILE;
    KB_AUTOFREE char *key = kb_asprintf("%s%s", field->name, has_own_name ? "" : KB_FILE_SUFFIX);
    KB_AUTOFREE char *key_path = kb_asprintf("%s%s%s", path, path[0] != '\0' ? "." : "", key);
    const kb_yaml_node *node = kb_yaml_get(map, key);
    kb_problems_add(problems, KB_SEVERITY_ERROR, node != NULL ? node->line : 0,
                    node != NULL ? node->column : 0, key_path, "%s", kb_error_text(&err));
}

void kb_schema_read_files(const kb_schema *schema, void *block, const kb_yaml_node *map, const char *path,
                          kb_problems *problems)
{
    const kb_schema *table = schema->chosen != NULL ? schema->chosen(block) : schema;
    for (size_t i = 0; table != NULL && i < table->field_count; i++) {
        const kb_field *field = &table->fields[i];
        void *at = at_field(block, field);
        if (is_secret_type(field->type) && ((kb_secret_source *)at)->file != NULL)
            read_one_file(field, at, map, path, problems);
        if (field->type != KB_FIELD_BLOCK)
            continue;
        KB_AUTOFREE char *block_path = kb_asprintf("%s%s%s", path, path[0] != '\0' ? "." : "", field->name);
        kb_schema_read_files(field->block, at, kb_yaml_get(map, field->name), block_path, problems);
    }
}

#include "operator/model/spec_table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"

typedef struct kb_place {
    const kb_spec_field *field;
    const char *path;
    kb_problems *problems;
} kb_place;

static void problem(const kb_place *place, const char *expected)
{
    kb_problems_add(place->problems, KB_SEVERITY_ERROR, 0, 0, place->path, "must be %s", expected);
}

static void read_text(const kb_place *place, const json_t *value, char **to)
{
    if (value == NULL)
        *to = kb_strdup_opt(place->field->default_text);
    else if (json_is_string(value))
        *to = kb_strdup(json_string_value(value));
    else
        problem(place, "a string");
}

static bool read_number(const kb_place *place, const json_t *value, int64_t *ret_number)
{
    const kb_spec_field *field = place->field;
    if (!json_is_integer(value)) {
        problem(place, "a number");
        return false;
    }
    int64_t number = (int64_t)json_integer_value(value);
    if (number < field->min || number > field->max) {
        kb_problems_add(place->problems, KB_SEVERITY_ERROR, 0, 0, place->path,
                        "must be %" PRId64 " to %" PRId64, field->min, field->max);
        return false;
    }
    *ret_number = number;
    return true;
}

static void read_i64(const kb_place *place, const json_t *value, int64_t *to)
{
    *to = place->field->default_i64;
    if (value != NULL)
        (void)!read_number(place, value, to);
}

static void read_opt_i64(const kb_place *place, const json_t *value, kb_opt_i64 *to)
{
    if (value != NULL)
        to->is_set = read_number(place, value, &to->value);
}

static void read_time(const kb_place *place, const json_t *value, kb_opt_i64 *to)
{
    if (value == NULL)
        return;
    to->is_set = kb_tree_time(&to->value, value, NULL);
    if (!to->is_set)
        problem(place, "a time as 2024-12-01T12:00:00Z");
}

static void read_bool(const kb_place *place, const json_t *value, bool *to)
{
    *to = place->field->default_i64 != 0;
    if (json_is_boolean(value))
        *to = json_is_true(value);
    else if (value != NULL)
        problem(place, "true or false");
}

static void read_word(const kb_place *place, const json_t *value, int *to)
{
    *to = (int)place->field->default_i64;
    if (value == NULL)
        return;
    const char *text = json_string_value(value);
    for (int i = 0; text != NULL && place->field->words[i] != NULL; i++) {
        if (strcmp(text, place->field->words[i]) == 0) {
            *to = i;
            return;
        }
    }
    KB_AUTO_STRBUF(words, 1024);
    for (int i = 0; place->field->words[i] != NULL; i++)
        kb_strbuf_appendf(&words, "%s%s", i > 0 ? ", " : "", place->field->words[i]);
    kb_problems_add(place->problems, KB_SEVERITY_ERROR, 0, 0, place->path, "must be one of %s",
                    kb_strbuf_view(&words));
}

static void read_texts(const kb_place *place, const json_t *value, kb_strings *to)
{
    KB_AUTO_TREE(fallback);
    if (value == NULL && place->field->default_text != NULL) {
        fallback = kb_tree_array();
        kb_tree_add_text(fallback, place->field->default_text);
        value = fallback;
    }
    if (value == NULL)
        return;
    size_t count = json_array_size(value);
    bool is_good = json_is_array(value);
    to->items = kb_calloc(count + 1, sizeof *to->items);
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(value, i));
        if (text != NULL)
            to->items[to->count++] = kb_strdup(text);
        is_good = is_good && text != NULL;
    }
    if (!is_good)
        problem(place, "a list of strings");
}

static void read_text_map(const kb_place *place, const json_t *value, kb_string_map *to)
{
    if (value == NULL)
        return;
    if (!json_is_object(value)) {
        problem(place, "a map of strings");
        return;
    }
    to->keys = kb_calloc(json_object_size(value) + 1, sizeof *to->keys);
    to->values = kb_calloc(json_object_size(value) + 1, sizeof *to->values);
    union {
        const json_t *in;
        json_t *out;
    } map = {.in = value};
    const char *name;
    json_t *member;
    json_object_foreach(map.out, name, member)
    {
        if (!json_is_string(member)) {
            problem(place, "a map of strings");
            continue;
        }
        to->keys[to->count] = kb_strdup(name);
        to->values[to->count++] = kb_strdup(json_string_value(member));
    }
}

static void read_field(const kb_place *place, json_t *value, void *at)
{
    switch (place->field->type) {
    case KB_SPEC_TEXT:
        read_text(place, value, at);
        break;
    case KB_SPEC_BOOL:
        read_bool(place, value, at);
        break;
    case KB_SPEC_I64:
        read_i64(place, value, at);
        break;
    case KB_SPEC_OPT_I64:
        read_opt_i64(place, value, at);
        break;
    case KB_SPEC_TIME:
        read_time(place, value, at);
        break;
    case KB_SPEC_WORD:
        read_word(place, value, at);
        break;
    case KB_SPEC_TEXTS:
        read_texts(place, value, at);
        break;
    case KB_SPEC_TEXT_MAP:
        read_text_map(place, value, at);
        break;
    case KB_SPEC_TREE:
        *(json_t **)at = json_incref(value);
        break;
    case KB_SPEC_BLOCK:
        *(bool *)at = value != NULL;
        if (value != NULL && !json_is_object(value))
            problem(place, "an object");
        kb_spec_table_read(place->field->block, value, place->path, value != NULL ? place->problems : NULL,
                           at);
        break;
    }
}

void kb_spec_table_read(const kb_spec_table *table, const json_t *object, const char *path,
                        kb_problems *problems, void *to)
{
    /* Blocks that are absent are read for their defaults only: nothing in them can be missing. */
    kb_problems nowhere;
    kb_problems_init(&nowhere, NULL);
    for (size_t i = 0; i < table->count; i++) {
        const kb_spec_field *field = &table->fields[i];
        KB_AUTOFREE char *place_path = kb_asprintf("%s%s%s", path, *path != '\0' ? "." : "", field->name);
        const kb_place place = {field, place_path, problems != NULL ? problems : &nowhere};
        json_t *value = kb_tree_at(object, field->name, NULL);
        if (field->is_required && value == NULL)
            problem(&place, "set");
        read_field(&place, value, (char *)to + field->at);
    }
    kb_problems_done(&nowhere);
}

static void texts_done(char **items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(items[i]);
    free(items);
}

void kb_spec_table_done(const kb_spec_table *table, void *block)
{
    for (size_t i = 0; i < table->count; i++) {
        const kb_spec_field *field = &table->fields[i];
        void *at = (char *)block + field->at;
        if (field->type == KB_SPEC_TEXT) {
            free(*(char **)at);
        } else if (field->type == KB_SPEC_TEXTS) {
            kb_strings *texts = at;
            texts_done(texts->items, texts->count);
        } else if (field->type == KB_SPEC_TEXT_MAP) {
            kb_string_map *map = at;
            texts_done(map->keys, map->count);
            texts_done(map->values, map->count);
        } else if (field->type == KB_SPEC_TREE) {
            json_decref(*(json_t **)at);
        } else if (field->type == KB_SPEC_BLOCK) {
            kb_spec_table_done(field->block, at);
        }
    }
}

#include "operator/tests/fake_patch.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"

void kb_fake_merge(json_t *object, const json_t *patch)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)patch, key, value)
    {
        json_t *old = json_object_get(object, key);
        if (json_is_null(value))
            json_object_del(object, key);
        else if (json_is_object(value) && json_is_object(old))
            kb_fake_merge(old, value);
        else
            json_object_set_new(object, key, json_deep_copy(value));
    }
}

/* "a~1b~0c" -> "a/b~c", of the first part of the pointer, which moves on. */
static char *next_part(const char **pointer)
{
    const size_t len = strcspn(*pointer, "/");
    char *part = kb_strndup(*pointer, len);
    *pointer += len + ((*pointer)[len] == '/' ? 1 : 0);
    char *to = part;
    for (const char *from = part; *from != '\0'; from++) {
        char c = *from;
        if (c == '~' && (from[1] == '0' || from[1] == '1'))
            c = *++from == '1' ? '/' : '~';
        *to++ = c;
    }
    *to = '\0';
    return part;
}

static json_t *child_of(json_t *node, const char *part)
{
    int64_t index;
    if (json_is_array(node))
        return kb_parse_i64(part, &index) && index >= 0 ? json_array_get(node, (size_t)index) : NULL;
    return json_object_get(node, part);
}

/* The container of what the pointer names; its last part is *ret_last (owned). */
static json_t *container_of(json_t *root, const char *pointer, char **ret_last)
{
    if (*pointer != '/')
        return NULL;
    pointer++;
    json_t *node = root;
    for (;;) {
        char *part = next_part(&pointer);
        if (*pointer == '\0') {
            *ret_last = part;
            return node;
        }
        node = child_of(node, part);
        free(part);
        if (node == NULL)
            return NULL;
    }
}

static bool put_at(json_t *container, const char *last, json_t *value, bool is_new)
{
    int64_t index;
    if (json_is_object(container))
        return json_object_set(container, last, value) == 0;
    if (!json_is_array(container))
        return false;
    if (is_new && strcmp(last, "-") == 0)
        return json_array_append(container, value) == 0;
    if (!kb_parse_i64(last, &index) || index < 0)
        return false;
    return is_new ? json_array_insert(container, (size_t)index, value) == 0
                  : json_array_set(container, (size_t)index, value) == 0;
}

static bool remove_at(json_t *container, const char *last)
{
    int64_t index;
    if (json_is_object(container))
        return json_object_del(container, last) == 0;
    return kb_parse_i64(last, &index) && index >= 0 && json_array_remove(container, (size_t)index) == 0;
}

static bool apply_one(json_t *root, const json_t *operation)
{
    const char *op = json_string_value(json_object_get(operation, "op"));
    const char *path = json_string_value(json_object_get(operation, "path"));
    json_t *value = json_object_get(operation, "value");
    KB_AUTOFREE char *last = NULL;
    json_t *container = op != NULL && path != NULL ? container_of(root, path, &last) : NULL;
    if (container == NULL)
        return false;
    const bool is_there = child_of(container, last) != NULL;
    if (strcmp(op, "test") == 0)
        return is_there && json_equal(child_of(container, last), value);
    if (strcmp(op, "remove") == 0)
        return is_there && remove_at(container, last);
    if (strcmp(op, "replace") == 0)
        return is_there && put_at(container, last, value, false);
    return strcmp(op, "add") == 0 && put_at(container, last, value, true);
}

bool kb_fake_json_patch(json_t **object, const json_t *operations)
{
    size_t i;
    json_t *operation;
    json_array_foreach(operations, i, operation)
    {
        if (!apply_one(*object, operation))
            return false;
    }
    return true;
}

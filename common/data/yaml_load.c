#include "common/data/yaml_load.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "common/base/encode.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/secret.h"
#include "common/base/strbuf.h"

/* All scalars of a file after expansion: many ${A} with a long value must not eat the memory. */
#define KB_EXPANDED_MAX_BYTES (8u * 1024 * 1024)
#define KB_PATH_MAX_BYTES (64u * 1024)
#define KB_CORE_TAGS "tag:yaml.org,2002:"

typedef struct kb_loader {
    yaml_parser_t parser;
    const kb_yaml_options *options;
    kb_problems *problems;
    kb_strbuf path;
    size_t expanded_bytes;
    unsigned depth;
} kb_loader;

/* ---- the tree ---- */

static kb_yaml_node *node_new(kb_yaml_kind kind, const yaml_mark_t *mark)
{
    kb_yaml_node *node = kb_calloc(1, sizeof *node);
    node->kind = kind;
    node->line = (unsigned)mark->line + 1;
    node->column = (unsigned)mark->column + 1;
    return node;
}

void kb_yaml_free(kb_yaml_node *owned_node)
{
    if (owned_node == NULL)
        return;
    for (size_t i = 0; i < owned_node->count; i++) {
        if (owned_node->keys != NULL)
            kb_yaml_free(owned_node->keys[i]);
        kb_yaml_free(owned_node->values[i]);
    }
    free(owned_node->keys);
    free(owned_node->values);
    if (owned_node->text != NULL)
        kb_wipe(owned_node->text, owned_node->text_len);
    free(owned_node->text);
    free(owned_node);
}

void kb_yaml_free_at(kb_yaml_node **at)
{
    kb_yaml_free(*at);
    *at = NULL;
}

static kb_yaml_node *get_len(const kb_yaml_node *node, const char *key, size_t len)
{
    if (node == NULL || node->kind != KB_YAML_MAP)
        return NULL;
    for (size_t i = 0; i < node->count; i++) {
        if (node->keys[i]->text_len == len && memcmp(node->keys[i]->text, key, len) == 0)
            return node->values[i];
    }
    return NULL;
}

kb_yaml_node *kb_yaml_get(const kb_yaml_node *node, const char *key)
{
    return get_len(node, key, strlen(key));
}

kb_yaml_node *kb_yaml_find(const kb_yaml_node *root, const char *dotted_path)
{
    for (;;) {
        size_t len = strcspn(dotted_path, ".");
        kb_yaml_node *node = get_len(root, dotted_path, len);
        if (dotted_path[len] == '\0')
            return node;
        root = node;
        dotted_path += len + 1;
    }
}

bool kb_yaml_is_null(const kb_yaml_node *node)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    if (node == NULL)
        return true;
    if (node->kind != KB_YAML_SCALAR || !node->is_plain)
        return false;
    for (size_t i = 0; i < KB_ARRAY_LEN(words); i++) {
        if (strcmp(node->text, words[i]) == 0)
            return true;
    }
    return false;
}

/* ---- events ---- */

static void report(kb_loader *loader, const yaml_mark_t *mark, const char *text)
{
    kb_problems_add(loader->problems, KB_SEVERITY_ERROR, (unsigned)mark->line + 1, (unsigned)mark->column + 1,
                    kb_strbuf_view(&loader->path), "%s", text);
}

static bool next_event(kb_loader *loader, yaml_event_t *ret_event)
{
    if (yaml_parser_parse(&loader->parser, ret_event) != 0)
        return true;
    const yaml_parser_t *parser = &loader->parser;
    const char *problem = parser->problem != NULL ? parser->problem : "not readable as YAML";
    if (parser->error == YAML_MEMORY_ERROR)
        kb_out_of_memory();
    /* A failed reader knows no line, only the offset; what it refuses is a control character. */
    const yaml_mark_t *mark = parser->error == YAML_READER_ERROR ? &parser->mark : &parser->problem_mark;
    kb_problems_add(loader->problems, KB_SEVERITY_ERROR, (unsigned)mark->line + 1, (unsigned)mark->column + 1,
                    NULL, "%s%s%s", parser->context != NULL ? parser->context : "",
                    parser->context != NULL ? ", " : "", problem);
    return false;
}

static bool is_core_tag(const char *tag, const char *name)
{
    size_t len = strlen(KB_CORE_TAGS);
    return strncmp(tag, KB_CORE_TAGS, len) == 0 && strcmp(tag + len, name) == 0;
}

/* Tag of a sequence or map. */
static void check_container(kb_loader *loader, kb_yaml_node *node, const yaml_event_t *event,
                            const yaml_char_t *tag, const yaml_char_t *anchor)
{
    const char *name = (const char *)tag;
    if (anchor != NULL)
        report(loader, &event->start_mark, "anchors are not supported; hint: write the value out");
    if (name == NULL || is_core_tag(name, node->kind == KB_YAML_MAP ? "map" : "seq"))
        return;
    node->is_specific = node->kind == KB_YAML_MAP && strcmp(name, "!specific") == 0;
    if (!node->is_specific)
        report(loader, &event->start_mark, "this tag is not supported");
}

static bool check_scalar_tag(kb_loader *loader, const yaml_event_t *event)
{
    static const char *const typed[] = {"int", "bool", "null", "float"};
    const char *tag = (const char *)event->data.scalar.tag;
    bool is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (tag == NULL)
        return is_plain;
    for (size_t i = 0; i < KB_ARRAY_LEN(typed); i++) {
        if (is_core_tag(tag, typed[i]))
            return true;
    }
    if (strcmp(tag, "!") != 0 && !is_core_tag(tag, "str"))
        report(loader, &event->start_mark, "this tag is not supported");
    return false;
}

/* ---- ${NAME} ---- */

static bool is_name_char(char c, bool is_first)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
           (!is_first && c >= '0' && c <= '9');
}

static const char *environment(const kb_loader *loader, const char *name)
{
    const kb_yaml_options *options = loader->options;
    return options->get_env != NULL ? options->get_env(options->env_ctx, name) : getenv(name);
}

static void report_at_node(kb_loader *loader, kb_severity severity, const kb_yaml_node *node,
                           const char *text)
{
    kb_problems_add(loader->problems, severity, node->line, node->column, kb_strbuf_view(&loader->path), "%s",
                    text);
}

/* The value is not known then: whoever reads the tree leaves the node alone. */
static void report_value(kb_loader *loader, kb_yaml_node *node, const char *text)
{
    node->has_error = true;
    report_at_node(loader, KB_SEVERITY_ERROR, node, text);
}

static void add_variable(kb_loader *loader, kb_yaml_node *node, const char *name, const char *fallback,
                         kb_strbuf *to)
{
    const char *value = environment(loader, name);
    if (fallback != NULL && (value == NULL || value[0] == '\0'))
        value = fallback;
    if (value == NULL) {
        bool is_allowed = loader->options->allow_unset_env;
        KB_AUTOFREE char *text =
            kb_asprintf("environment variable %s is not set%s", name,
                        is_allowed ? "" : "; hint: set it, or give a default: ${NAME:-text}");
        node->has_error = !is_allowed;
        report_at_node(loader, is_allowed ? KB_SEVERITY_WARNING : KB_SEVERITY_ERROR, node, text);
        return;
    }
    if (!kb_utf8_valid(value, strlen(value))) {
        KB_AUTOFREE char *text = kb_asprintf("environment variable %s is not valid UTF-8", name);
        report_value(loader, node, text);
        return;
    }
    kb_strbuf_appends(to, value);
}

/* One "${...}" at `at`; returns where the text goes on. */
static const char *expand_one(kb_loader *loader, kb_yaml_node *node, const char *at, kb_strbuf *to)
{
    const char *name = at + 2;
    const char *end = strchr(name, '}');
    if (end == NULL) {
        report_value(loader, node, "'${' without '}'; hint: a literal '${' is written '$${'");
        return at + strlen(at);
    }
    size_t len = 0;
    while (is_name_char(name[len], len == 0))
        len++;
    const char *fallback = name + len;
    bool has_fallback = strncmp(fallback, ":-", 2) == 0;
    if (len == 0 || (fallback != end && !has_fallback)) {
        report_value(loader, node,
                     "expected ${NAME} or ${NAME:-text}; hint: a literal '${' is written '$${'");
        return end + 1;
    }
    KB_AUTOFREE char *variable = kb_strndup(name, len);
    KB_AUTOFREE char *text = has_fallback ? kb_strndup(fallback + 2, (size_t)(end - fallback) - 2) : NULL;
    add_variable(loader, node, variable, text, to);
    return end + 1;
}

/* Replaces the text of a scalar value. */
static void expand(kb_loader *loader, kb_yaml_node *node)
{
    if (strstr(node->text, "${") == NULL)
        return;
    kb_strbuf expanded;
    kb_strbuf_init(&expanded, KB_EXPANDED_MAX_BYTES - loader->expanded_bytes);
    for (const char *at = node->text; *at != '\0';) {
        if (strncmp(at, "$${", 3) == 0) {
            kb_strbuf_appends(&expanded, "${");
            at += 3;
        } else if (strncmp(at, "${", 2) == 0) {
            at = expand_one(loader, node, at, &expanded);
        } else {
            kb_strbuf_appendc(&expanded, *at++);
        }
    }
    size_t len = expanded.len;
    loader->expanded_bytes += len;
    char *text = kb_strbuf_take(&expanded);
    if (text == NULL) {
        report_value(loader, node, "the expanded values of the file exceed 8 MiB");
        return;
    }
    free(node->text);
    node->text = text;
    node->text_len = len;
}

/* ---- building ---- */

static void event_done(yaml_event_t *event)
{
    yaml_event_delete(event);
}

static kb_yaml_node *build(kb_loader *loader, const yaml_event_t *event);

static kb_yaml_node *build_scalar(kb_loader *loader, const yaml_event_t *event)
{
    kb_yaml_node *node = node_new(KB_YAML_SCALAR, &event->start_mark);
    if (event->data.scalar.anchor != NULL)
        report(loader, &event->start_mark, "anchors are not supported; hint: write the value out");
    node->is_plain = check_scalar_tag(loader, event);
    node->text = kb_strndup((const char *)event->data.scalar.value, event->data.scalar.length);
    node->text_len = event->data.scalar.length;
    /* An escape such as "\0" makes a NUL in a file that has none. */
    if (memchr(node->text, '\0', node->text_len) != NULL) {
        report(loader, &event->start_mark, "NUL in a text");
        node->text_len = strlen(node->text);
    }
    return node;
}

/* Takes the event of a value or, with is_end, of the end of the container. NULL after a fatal error. */
static kb_yaml_node *build_next(kb_loader *loader, yaml_event_type_t end_type, bool *ret_is_end)
{
    KB_CLEANUP(event_done) yaml_event_t event;
    memset(&event, 0, sizeof event);
    *ret_is_end = false;
    if (!next_event(loader, &event))
        return NULL;
    *ret_is_end = event.type == end_type;
    return *ret_is_end ? NULL : build(loader, &event);
}

static bool build_elements(kb_loader *loader, kb_yaml_node *node)
{
    size_t capacity = 0, path_len = loader->path.len;
    for (;;) {
        bool is_end = false;
        kb_strbuf_appendf(&loader->path, "[%zu]", node->count);
        kb_yaml_node *value = build_next(loader, YAML_SEQUENCE_END_EVENT, &is_end);
        if (value != NULL && value->kind == KB_YAML_SCALAR)
            expand(loader, value);
        loader->path.data[loader->path.len = path_len] = '\0';
        if (value == NULL)
            return is_end;
        node->values = kb_grow(node->values, node->count, &capacity, sizeof(kb_yaml_node *));
        node->values[node->count++] = value;
    }
}

/* False when the key makes the rest of the file unreadable. */
static bool check_key(kb_loader *loader, const kb_yaml_node *key, kb_map *seen, bool *ret_is_duplicate)
{
    if (key->kind != KB_YAML_SCALAR) {
        report_at_node(loader, KB_SEVERITY_ERROR, key, "a key must be a plain word, not a list or a map");
        return false;
    }
    if (key->is_plain && strcmp(key->text, "<<") == 0)
        report_at_node(loader, KB_SEVERITY_ERROR, key,
                       "merge keys are not supported; hint: write the keys out");
    const kb_yaml_node *first = kb_map_get(seen, key->text, key->text_len);
    *ret_is_duplicate = first != NULL;
    if (first == NULL)
        return true;
    KB_AUTOFREE char *text =
        kb_asprintf("duplicate key, first given in line %u; hint: remove one of the two", first->line);
    report_at_node(loader, KB_SEVERITY_ERROR, key, text);
    return true;
}

static void add_pair(kb_yaml_node *map, kb_yaml_node *owned_key, kb_yaml_node *owned_value, kb_map *seen,
                     size_t capacity[2])
{
    map->keys = kb_grow(map->keys, map->count, &capacity[0], sizeof(kb_yaml_node *));
    map->values = kb_grow(map->values, map->count, &capacity[1], sizeof(kb_yaml_node *));
    map->keys[map->count] = owned_key;
    map->values[map->count++] = owned_value;
    kb_map_put(seen, owned_key->text, owned_key->text_len, owned_key);
}

static bool build_pair(kb_loader *loader, kb_yaml_node *map, kb_yaml_node *owned_key, kb_map *seen,
                       size_t capacity[2])
{
    KB_CLEANUP(kb_yaml_free_at) kb_yaml_node *key = owned_key;
    size_t path_len = loader->path.len;
    bool is_end = false, is_duplicate = false;
    if (key->kind == KB_YAML_SCALAR) {
        /* Cut, so that hostile keys cannot make the path of 32 levels long. */
        kb_strbuf_appendf(&loader->path, "%s%.100s", path_len > 0 ? "." : "", key->text);
    }
    if (!check_key(loader, key, seen, &is_duplicate))
        return false;
    KB_CLEANUP(kb_yaml_free_at)
    kb_yaml_node *value = build_next(loader, YAML_MAPPING_END_EVENT, &is_end);
    if (value == NULL)
        return false;
    if (value->kind == KB_YAML_SCALAR)
        expand(loader, value);
    if (!is_duplicate)
        add_pair(map, KB_TAKE(key), KB_TAKE(value), seen, capacity);
    loader->path.data[loader->path.len = path_len] = '\0';
    return true;
}

static bool build_pairs(kb_loader *loader, kb_yaml_node *node)
{
    KB_CLEANUP(kb_map_free_at) kb_map *seen = kb_map_new(NULL);
    size_t capacity[2] = {0, 0};
    for (;;) {
        bool is_end = false;
        kb_yaml_node *key = build_next(loader, YAML_MAPPING_END_EVENT, &is_end);
        if (key == NULL)
            return is_end;
        if (!build_pair(loader, node, key, seen, capacity))
            return false;
    }
}

static kb_yaml_node *build_container(kb_loader *loader, const yaml_event_t *event)
{
    if (loader->depth == KB_YAML_MAX_DEPTH) {
        report(loader, &event->start_mark, "nested deeper than 32 levels");
        return NULL;
    }
    bool is_map = event->type == YAML_MAPPING_START_EVENT;
    KB_CLEANUP(kb_yaml_free_at)
    kb_yaml_node *node = node_new(is_map ? KB_YAML_MAP : KB_YAML_SEQUENCE, &event->start_mark);
    if (is_map)
        check_container(loader, node, event, event->data.mapping_start.tag, event->data.mapping_start.anchor);
    else
        check_container(loader, node, event, event->data.sequence_start.tag,
                        event->data.sequence_start.anchor);
    loader->depth++;
    bool is_well = is_map ? build_pairs(loader, node) : build_elements(loader, node);
    loader->depth--;
    return is_well ? KB_TAKE(node) : NULL;
}

/* The node that starts with this event; NULL after a fatal error, which was reported. */
static kb_yaml_node *build(kb_loader *loader, const yaml_event_t *event)
{
    if (event->type == YAML_SCALAR_EVENT)
        return build_scalar(loader, event);
    if (event->type == YAML_MAPPING_START_EVENT || event->type == YAML_SEQUENCE_START_EVENT)
        return build_container(loader, event);
    if (event->type == YAML_ALIAS_EVENT) {
        report(loader, &event->start_mark, "aliases are not supported; hint: write the value out");
        kb_yaml_node *node = node_new(KB_YAML_MAP, &event->start_mark);
        node->has_error = true;
        return node;
    }
    report(loader, &event->start_mark, "not readable as YAML");
    return NULL;
}

/* ---- the document ---- */

/* Skips stream and document starts and reads the root; NULL without one or after a fatal error. */
static kb_yaml_node *build_document(kb_loader *loader, bool *ret_failed)
{
    for (;;) {
        KB_CLEANUP(event_done) yaml_event_t event;
        memset(&event, 0, sizeof event);
        *ret_failed = !next_event(loader, &event);
        if (*ret_failed || event.type == YAML_STREAM_END_EVENT)
            return NULL;
        if (event.type == YAML_STREAM_START_EVENT || event.type == YAML_DOCUMENT_START_EVENT)
            continue;
        kb_yaml_node *root = build(loader, &event);
        if (root != NULL && root->kind == KB_YAML_SCALAR)
            expand(loader, root);
        *ret_failed = root == NULL;
        return root;
    }
}

static bool check_end(kb_loader *loader)
{
    for (;;) {
        KB_CLEANUP(event_done) yaml_event_t event;
        memset(&event, 0, sizeof event);
        if (!next_event(loader, &event))
            return false;
        if (event.type == YAML_STREAM_END_EVENT)
            return true;
        if (event.type == YAML_DOCUMENT_END_EVENT)
            continue;
        report(loader, &event.start_mark, "a second document; hint: only one is read, remove the line '---'");
        return false;
    }
}

static kb_yaml_node *build_root(kb_loader *loader)
{
    bool has_failed = false;
    KB_CLEANUP(kb_yaml_free_at) kb_yaml_node *root = build_document(loader, &has_failed);
    if (has_failed || (root != NULL && !check_end(loader)))
        return NULL;
    if (root == NULL || kb_yaml_is_null(root))
        return node_new(KB_YAML_MAP, &(yaml_mark_t){0, 0, 0});
    if (root->kind == KB_YAML_MAP)
        return KB_TAKE(root);
    report_at_node(loader, KB_SEVERITY_ERROR, root, "expected a map of keys at the top level");
    return NULL;
}

/* What the bytes must fulfil before libyaml sees them; it would take other encodings as well. */
static bool check_bytes(kb_view text, kb_problems *problems)
{
    if (text.len > KB_YAML_MAX_BYTES) {
        kb_problems_add(problems, KB_SEVERITY_ERROR, 0, 0, NULL, "larger than 1 MiB");
        return false;
    }
    unsigned line = 1, column = 1;
    for (size_t at = 0; at < text.len;) {
        size_t step = kb_utf8_step(text.data + at, text.len - at);
        bool is_nul = text.data[at] == '\0';
        if (step == 0 || is_nul) {
            kb_problems_add(problems, KB_SEVERITY_ERROR, line, column, NULL,
                            is_nul ? "a NUL byte" : "not valid UTF-8");
            return false;
        }
        column++;
        if (text.data[at] == '\n') {
            line++;
            column = 1;
        }
        at += step;
    }
    return true;
}

kb_code kb_yaml_load(kb_view text, const kb_yaml_options *options, kb_problems *problems,
                     kb_yaml_node **ret_root)
{
    static const kb_yaml_options no_options;
    if (text.len >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0)
        text = kb_view_of(text.data + 3, text.len - 3);
    if (!check_bytes(text, problems))
        return KB_ERR_FORMAT;
    kb_loader loader = {.options = options != NULL ? options : &no_options, .problems = problems};
    kb_strbuf_init(&loader.path, KB_PATH_MAX_BYTES);
    kb_strbuf_appends(&loader.path, "");
    if (yaml_parser_initialize(&loader.parser) == 0)
        kb_out_of_memory();
    yaml_parser_set_encoding(&loader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&loader.parser, text.len > 0 ? text.data : (const uint8_t *)"", text.len);
    KB_CLEANUP(kb_yaml_free_at) kb_yaml_node *root = build_root(&loader);
    yaml_parser_delete(&loader.parser);
    kb_strbuf_done(&loader.path);
    if (root == NULL)
        return KB_ERR_FORMAT;
    *ret_root = KB_TAKE(root);
    return KB_OK;
}

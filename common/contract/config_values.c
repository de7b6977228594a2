#include "common/contract/config_values.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/contract/worker_config.h"
#include "common/data/schema_print.h"

/* ---- start_offset ---- */

static void read_start_topic(kb_schema_reader *reader, const char *topic, const kb_yaml_node *node,
                             const char *path, kb_config_start_offset *to, size_t *capacity)
{
    if (node->kind != KB_YAML_MAP) {
        kb_schema_problem(reader, node, path, "expected a map of partition to offset");
        return;
    }
    for (size_t i = 0; i < node->count; i++) {
        KB_AUTOFREE char *item_path = kb_asprintf("%s.%.100s", path, node->keys[i]->text);
        int64_t partition = 0, offset = 0;
        kb_yaml_node key = *node->keys[i];
        key.is_plain = true; /* JSON has only quoted keys */
        if (!kb_schema_read_i64(reader, &key, item_path, 0, INT32_MAX, &partition) ||
            !kb_schema_read_i64(reader, node->values[i], item_path, 0, INT64_MAX, &offset))
            continue;
        to->entries = kb_grow(to->entries, to->count, capacity, sizeof *to->entries);
        to->entries[to->count++] = (kb_config_start_entry){kb_strdup(topic), partition, offset};
    }
}

static void read_start(kb_schema_reader *reader, const kb_field *field, const kb_yaml_node *node,
                       const char *path, void *at)
{
    (void)field;
    kb_config_start_offset *to = at;
    if (node->kind == KB_YAML_SCALAR && strcmp(node->text, "earliest") == 0) {
        to->kind = KB_CONFIG_EARLIEST;
    } else if (node->kind == KB_YAML_SCALAR && strcmp(node->text, "latest") == 0) {
        to->kind = KB_CONFIG_LATEST;
    } else if (node->kind == KB_YAML_MAP) {
        size_t capacity = 0;
        to->kind = KB_CONFIG_SPECIFIC;
        for (size_t i = 0; i < node->count; i++) {
            KB_AUTOFREE char *topic_path = kb_asprintf("%s.%.249s", path, node->keys[i]->text);
            read_start_topic(reader, node->keys[i]->text, node->values[i], topic_path, to, &capacity);
        }
    } else {
        kb_schema_problem(reader, node, path,
                          "expected earliest, latest or a map of topic to partition to offset");
    }
}

static void print_start(kb_schema_printer *printer, const kb_field *field, const void *at)
{
    const kb_config_start_offset *start = at;
    if (start->kind != KB_CONFIG_SPECIFIC || start->count == 0) {
        const char *word = start->kind == KB_CONFIG_LATEST ? "latest" : "earliest";
        kb_schema_print_literal(printer, field->name, start->kind == KB_CONFIG_SPECIFIC ? "{}" : word);
        return;
    }
    kb_schema_print_begin(printer, field->name);
    for (size_t i = 0; i < start->count; i++) {
        const kb_config_start_entry *entry = &start->entries[i];
        bool is_first = i == 0 || strcmp(start->entries[i - 1].topic, entry->topic) != 0;
        bool is_last = i + 1 == start->count || strcmp(start->entries[i + 1].topic, entry->topic) != 0;
        if (is_first)
            kb_schema_print_begin(printer, entry->topic);
        KB_AUTOFREE char *partition = kb_asprintf("%lld", (long long)entry->partition);
        kb_schema_print_number(printer, partition, entry->offset);
        if (is_last)
            kb_schema_print_end(printer);
    }
    kb_schema_print_end(printer);
}

static void done_start(void *at)
{
    kb_config_start_offset *start = at;
    for (size_t i = 0; i < start->count; i++)
        free(start->entries[i].topic);
    free(start->entries);
    *start = (kb_config_start_offset){KB_CONFIG_EARLIEST, NULL, 0};
}

const kb_field_custom kb_config_start_offset_field = {
    .read = read_start, .print = print_start, .done = done_start};

/* ---- repartitioning ---- */

static const kb_enum_word repartition_words[] = {
    {"murmur2", KB_CONFIG_MURMUR2},
    {"automatic", KB_CONFIG_AUTOMATIC},
    {NULL, 0},
};

static const kb_field repartition_fields[] = {
    {.name = "strategy",
     .type = KB_FIELD_ENUM,
     .at = offsetof(kb_config_repartition_entry, strategy),
     .words = repartition_words,
     .default_i64 = KB_CONFIG_MURMUR2,
     .doc = "How a record finds its partition: by the hash of its key, or in turn."},
    {.name = "target_partitions",
     .type = KB_FIELD_I64,
     .at = offsetof(kb_config_repartition_entry, target_partitions),
     .min = 1,
     .max = INT32_MAX,
     .doc = "Partitions of the target topic."},
};
static const kb_schema repartition_schema = {.fields = repartition_fields,
                                             .field_count = KB_ARRAY_LEN(repartition_fields)};

static void read_repartitioning(kb_schema_reader *reader, const kb_field *field, const kb_yaml_node *node,
                                const char *path, void *at)
{
    (void)field;
    kb_config_repartitioning *to = at;
    if (node->kind != KB_YAML_MAP) {
        kb_schema_problem(reader, node, path,
                          "expected a map of target topic to strategy and target_partitions");
        return;
    }
    to->items = kb_calloc(node->count + 1, sizeof *to->items);
    for (size_t i = 0; i < node->count; i++) {
        KB_AUTOFREE char *item_path = kb_asprintf("%s.%.249s", path, node->keys[i]->text);
        kb_config_repartition_entry *entry = &to->items[to->count++];
        entry->target_topic = kb_strdup(node->keys[i]->text);
        kb_schema_init(&repartition_schema, entry);
        kb_schema_read_block(reader, &repartition_schema, node->values[i], item_path, entry);
        if (kb_yaml_is_null(kb_yaml_get(node->values[i], "target_partitions")))
            kb_schema_problem(reader, node->values[i], item_path, "target_partitions is required");
    }
}

static void print_repartitioning(kb_schema_printer *printer, const kb_field *field, const void *at)
{
    const kb_config_repartitioning *map = at;
    if (map->count == 0) {
        kb_schema_print_literal(printer, field->name, "{}");
        return;
    }
    kb_schema_print_begin(printer, field->name);
    for (size_t i = 0; i < map->count; i++) {
        kb_schema_print_begin(printer, map->items[i].target_topic);
        kb_schema_print_fields(printer, &repartition_schema, &map->items[i]);
        kb_schema_print_end(printer);
    }
    kb_schema_print_end(printer);
}

static void done_repartitioning(void *at)
{
    kb_config_repartitioning *map = at;
    for (size_t i = 0; i < map->count; i++) {
        free(map->items[i].target_topic);
        kb_schema_done(&repartition_schema, &map->items[i]);
    }
    free(map->items);
    *map = (kb_config_repartitioning){NULL, 0};
}

const kb_field_custom kb_config_repartitioning_field = {
    .read = read_repartitioning, .print = print_repartitioning, .done = done_repartitioning};

/* ---- times ---- */

static void read_time(kb_schema_reader *reader, const kb_field *field, const kb_yaml_node *node,
                      const char *path, void *at)
{
    (void)field;
    KB_AUTO_ERROR(ignored);
    kb_opt_i64 *to = at;
    to->is_set = node->kind == KB_YAML_SCALAR &&
                 kb_rfc3339_parse(node->text, node->text_len, &to->value, &ignored) == KB_OK;
    if (!to->is_set)
        kb_schema_problem(reader, node, path, "expected a time such as 2025-01-31T12:00:00Z");
}

static void print_time(kb_schema_printer *printer, const kb_field *field, const void *at)
{
    const kb_opt_i64 *value = at;
    char text[KB_RFC3339_SIZE];
    if (!value->is_set)
        return;
    kb_rfc3339_format(value->value, text);
    kb_schema_print_text(printer, field->name, text);
}

const kb_field_custom kb_config_time_field = {.read = read_time, .print = print_time};

#include "worker/offsets/offset_map.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_write.h"

#define KB_OFFSET_MAP_MAX_BYTES ((size_t)256 << 20)

void kb_offset_map_done(kb_offset_map *map)
{
    for (size_t i = 0; i < map->count; i++) {
        free(map->parts[i].topic);
        free(map->parts[i].elements);
    }
    free(map->parts);
    *map = (kb_offset_map){0};
}

kb_offset_map_part *kb_offset_map_add(kb_offset_map *map, const char *topic, int32_t partition)
{
    map->parts = kb_grow(map->parts, map->count, &map->capacity, sizeof *map->parts);
    kb_offset_map_part *part = &map->parts[map->count++];
    *part = (kb_offset_map_part){.topic = kb_strdup(topic), .partition = partition};
    return part;
}

static void add_element(kb_offset_map *map, kb_offset_map_part *part, int64_t source, int64_t target,
                        int64_t timestamp)
{
    size_t max = map->details_max > 0 ? map->details_max : KB_OFFSET_MAP_DETAILS_MAX;
    if (part->is_folded)
        return;
    if (part->count >= max) {
        part->is_folded = true;
        part->count = 0;
        return;
    }
    part->elements = kb_grow(part->elements, part->count, &part->capacity, sizeof *part->elements);
    part->elements[part->count++] = (kb_offset_map_element){source, target, timestamp};
}

void kb_offset_map_run(kb_offset_map *map, int64_t source_first, int64_t target_first, int64_t count,
                       int64_t first_timestamp, int64_t last_timestamp)
{
    kb_offset_map_part *part = &map->parts[map->count - 1];
    bool joins =
        part->has_records && part->source_last + 1 == source_first && part->target_last + 1 == target_first;
    if (!part->has_records) {
        part->has_records = true;
        part->source_first = source_first;
        part->target_first = target_first;
        part->first_timestamp = first_timestamp;
    } else {
        for (int64_t s = part->source_last + 1; s < source_first && !part->is_folded; s++)
            add_element(map, part, s, target_first, first_timestamp);
    }
    if (!joins)
        add_element(map, part, source_first, target_first, first_timestamp);
    part->source_last = source_first + count - 1;
    part->target_last = target_first + count - 1;
    part->last_timestamp = last_timestamp;
}

/* ---- writing ---- */

static char *key_of(const kb_offset_map_part *part)
{
    return kb_asprintf("%s/%" PRId32, part->topic, part->partition);
}

static void put_target(kb_json_writer *w, const char *name, const kb_offset_map_part *part, int64_t offset)
{
    if (part->is_folded)
        kb_json_field_null(w, name);
    else
        kb_json_field_i64(w, name, offset);
}

static void put_entry(kb_json_writer *w, const kb_offset_map_part *part)
{
    KB_AUTOFREE char *key = key_of(part);
    kb_json_put_name(w, key);
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "topic", part->topic);
    kb_json_field_i64(w, "partition", part->partition);
    kb_json_field_i64(w, "source_first_offset", part->source_first);
    kb_json_field_i64(w, "source_last_offset", part->source_last);
    put_target(w, "target_first_offset", part, part->target_first);
    put_target(w, "target_last_offset", part, part->target_last);
    kb_json_field_i64(w, "first_timestamp", part->first_timestamp);
    kb_json_field_i64(w, "last_timestamp", part->last_timestamp);
    kb_json_put_end_object(w);
}

static void put_details(kb_json_writer *w, const kb_offset_map_part *part)
{
    KB_AUTOFREE char *key = key_of(part);
    kb_json_put_name(w, key);
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < part->count; i++) {
        kb_json_put_begin_object(w);
        kb_json_field_i64(w, "source_offset", part->elements[i].source);
        kb_json_field_i64(w, "target_offset", part->elements[i].target);
        kb_json_field_i64(w, "timestamp", part->elements[i].timestamp);
        kb_json_put_end_object(w);
    }
    kb_json_put_end_array(w);
}

static void put_place(kb_json_writer *w, const kb_group_place *place, int64_t source, int64_t time_ms)
{
    KB_AUTOFREE char *partition = kb_asprintf("%" PRId32, place->partition);
    kb_json_put_name(w, partition);
    kb_json_put_begin_object(w);
    kb_json_field_i64(w, "source_offset", source);
    kb_json_field_i64(w, "target_offset", place->offset);
    kb_json_field_i64(w, "timestamp", time_ms);
    kb_json_field_null(w, "metadata");
    kb_json_put_end_object(w);
}

static void put_group(kb_json_writer *w, const kb_group_entry *targets, const kb_group_entry *sources,
                      int64_t time_ms)
{
    const char *topic = NULL;
    kb_json_put_name(w, targets->group);
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "group_id", targets->group);
    kb_json_put_name(w, "offsets");
    kb_json_put_begin_object(w);
    for (size_t i = 0; i < targets->count; i++) {
        const kb_group_place *place = &targets->places[i];
        int64_t source = kb_group_entry_offset(sources, place->topic, place->partition);
        if (source < 0)
            continue; /* merged: there is no one source offset */
        if (topic == NULL || strcmp(topic, place->topic) != 0) {
            if (topic != NULL)
                kb_json_put_end_object(w);
            topic = place->topic;
            kb_json_put_name(w, topic);
            kb_json_put_begin_object(w);
        }
        put_place(w, place, source, time_ms);
    }
    if (topic != NULL)
        kb_json_put_end_object(w);
    kb_json_put_end_object(w);
    kb_json_put_end_object(w);
}

static void put_groups(kb_json_writer *w, const kb_offset_map_about *about)
{
    kb_json_put_name(w, "consumer_groups");
    kb_json_put_begin_object(w);
    for (size_t g = 0; about->targets != NULL && about->sources != NULL && g < about->targets->count; g++) {
        const kb_group_entry *targets = &about->targets->groups[g];
        const kb_group_entry *sources = kb_group_set_find(about->sources, targets->group);
        if (sources != NULL)
            put_group(w, targets, sources, about->created_at);
    }
    kb_json_put_end_object(w);
}

kb_code kb_offset_map_encode(const kb_offset_map *map, const kb_offset_map_about *about, char **ret_text,
                             size_t *ret_len, kb_error *err)
{
    KB_AUTO_STRBUF(text, KB_OFFSET_MAP_MAX_BYTES);
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *w = kb_json_writer_new(KB_JSON_PRETTY, &text);
    kb_json_put_begin_object(w);
    kb_json_put_name(w, "entries");
    kb_json_put_begin_object(w);
    for (size_t i = 0; i < map->count; i++)
        if (map->parts[i].has_records)
            put_entry(w, &map->parts[i]);
    kb_json_put_end_object(w);
    kb_json_put_name(w, "detailed_mappings");
    kb_json_put_begin_object(w);
    for (size_t i = 0; i < map->count; i++)
        if (map->parts[i].has_records && !map->parts[i].is_folded)
            put_details(w, &map->parts[i]);
    kb_json_put_end_object(w);
    put_groups(w, about);
    kb_json_field_text(w, "source_cluster_id", about->source_cluster_id);
    kb_json_field_text(w, "target_cluster_id", about->target_cluster_id);
    kb_json_field_i64(w, "created_at", about->created_at);
    kb_json_put_end_object(w);
    if (kb_json_writer_finish(w, err) != KB_OK)
        return kb_wrap(err, "writing the offset mapping");
    *ret_len = text.len;
    *ret_text = kb_strbuf_take(&text);
    return KB_OK;
}

#include "worker/offsets/reset_places.h"

#include <stdlib.h>

#include "common/base/glob.h"
#include "common/base/mem.h"

void kb_places_done(kb_places *places)
{
    kb_group_set_done(&places->set);
    free(places->bounds);
    *places = (kb_places){0};
}

const kb_place_bounds *kb_places_find(const kb_places *places, const char *topic, int32_t partition)
{
    if (places->set.count == 0)
        return NULL;
    const kb_group_entry *entry = &places->set.groups[0];
    const kb_group_place *found = kb_group_entry_find(entry, topic, partition);
    return found != NULL ? &places->bounds[found - entry->places] : NULL;
}

/* ---- bounds ---- */

static kb_code ask(const kb_offsets_env *env, const kb_group_entry *entry, kb_kafka_offset_kind kind,
                   int64_t timestamp_ms, kb_kafka_offset_query *queries, kb_error *err)
{
    kb_kafka_call call = kb_offsets_call(env);
    for (size_t i = 0; i < entry->count; i++)
        queries[i] = (kb_kafka_offset_query){.topic = entry->places[i].topic,
                                             .partition = entry->places[i].partition,
                                             .timestamp = timestamp_ms};
    return kb_kafka_admin_list_offsets(env->admin, kind, queries, entry->count, &call, err);
}

static kb_code read_bounds(const kb_offsets_env *env, const kb_group_entry *entry, bool with_time,
                           int64_t timestamp_ms, kb_place_bounds *bounds, kb_error *err)
{
    KB_AUTOFREE kb_kafka_offset_query *queries = kb_calloc(entry->count, sizeof *queries);
    if (ask(env, entry, KB_KAFKA_OFFSET_EARLIEST, 0, queries, err) != KB_OK)
        return err->code;
    for (size_t i = 0; i < entry->count; i++)
        bounds[i] = (kb_place_bounds){queries[i].offset, -1, -1, queries[i].error_number};
    if (ask(env, entry, KB_KAFKA_OFFSET_LATEST, 0, queries, err) != KB_OK)
        return err->code;
    for (size_t i = 0; i < entry->count; i++) {
        bounds[i].end = queries[i].offset;
        if (queries[i].error_number != 0)
            bounds[i].error_number = queries[i].error_number;
    }
    if (!with_time)
        return KB_OK;
    if (ask(env, entry, KB_KAFKA_OFFSET_TIMESTAMP, timestamp_ms, queries, err) != KB_OK)
        return err->code;
    for (size_t i = 0; i < entry->count; i++) {
        bounds[i].at_time = queries[i].offset;
        if (queries[i].error_number != 0)
            bounds[i].error_number = queries[i].error_number;
    }
    return KB_OK;
}

kb_code kb_places_read(const kb_offsets_env *env, const kb_group_set *set, bool with_time,
                       int64_t timestamp_ms, kb_places *ret_places, kb_error *err)
{
    KB_CLEANUP(kb_places_done) kb_places places = {0};
    kb_group_entry *all = kb_group_set_add(&places.set, "");
    for (size_t g = 0; g < set->count; g++)
        for (size_t p = 0; p < set->groups[g].count; p++)
            kb_group_entry_put(all, set->groups[g].places[p].topic, set->groups[g].places[p].partition, 0,
                               NULL);
    places.bounds = kb_calloc(all->count + 1, sizeof *places.bounds);
    if (all->count > 0 && read_bounds(env, all, with_time, timestamp_ms, places.bounds, err) != KB_OK)
        return kb_wrap(err, "asking for the bounds of partitions");
    kb_progress_touch(env->progress);
    *ret_places = places;
    places = (kb_places){0};
    return KB_OK;
}

/* ---- topics ---- */

bool kb_places_is_meant(const kb_strings *topics, const char *topic)
{
    for (size_t i = 0; i < topics->count; i++)
        if (kb_glob_match(topics->items[i], topic))
            return true;
    return topics->count == 0;
}

static void add_topic(const kb_kafka_topic *topic, kb_group_set *set, kb_group_results *results)
{
    for (size_t g = 0; g < set->count; g++) {
        kb_group_entry *entry = &set->groups[g];
        if (topic->error_number != 0)
            kb_group_result_fail(kb_group_results_of(results, entry->group),
                                 kb_group_error_code(topic->error_number), "topic '%s': %s", topic->name,
                                 kb_kafka_error_name(topic->error_number));
        for (size_t p = 0; p < topic->partition_count; p++)
            kb_group_entry_put(entry, topic->name, topic->partitions[p].id, 0, NULL);
    }
}

kb_code kb_places_of_topics(const kb_offsets_env *env, const kb_strings *topics, kb_group_set *set,
                            kb_group_results *results, kb_error *err)
{
    KB_CLEANUP(kb_kafka_metadata_done) kb_kafka_metadata metadata = {0};
    kb_kafka_call call = kb_offsets_call(env);
    if (kb_kafka_admin_metadata(env->admin, NULL, 0, &call, &metadata, err) != KB_OK)
        return kb_wrap(err, "asking for topics");
    for (size_t i = 0; i < topics->count; i++) {
        if (!kb_glob_is_literal(topics->items[i]) ||
            kb_kafka_metadata_find(&metadata, topics->items[i]) != NULL)
            continue;
        for (size_t g = 0; g < set->count; g++)
            kb_group_result_fail(kb_group_results_of(results, set->groups[g].group), KB_GROUPS_FAILED,
                                 "Topic '%s' not found", topics->items[i]);
    }
    for (size_t t = 0; t < metadata.topic_count; t++) {
        const kb_kafka_topic *topic = &metadata.topics[t];
        if (!topic->is_internal && kb_places_is_meant(topics, topic->name))
            add_topic(topic, set, results);
    }
    return KB_OK;
}

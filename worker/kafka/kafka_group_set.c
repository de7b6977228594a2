#include "worker/kafka/kafka_group_set.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

static void place_done(kb_group_place *place)
{
    free(place->topic);
    free(place->metadata);
}

void kb_group_entry_clear(kb_group_entry *entry)
{
    for (size_t i = 0; i < entry->count; i++)
        place_done(&entry->places[i]);
    entry->count = 0;
}

void kb_group_set_done(kb_group_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        kb_group_entry_clear(&set->groups[i]);
        free(set->groups[i].places);
        free(set->groups[i].group);
        free(set->groups[i].error_text);
    }
    free(set->groups);
    *set = (kb_group_set){0};
}

/* The first index whose group is not below `group`. */
static size_t lower_group(const kb_group_set *set, const char *group)
{
    size_t low = 0;
    size_t high = set->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(set->groups[middle].group, group) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

kb_group_entry *kb_group_set_find(const kb_group_set *set, const char *group)
{
    size_t at = lower_group(set, group);
    return at < set->count && strcmp(set->groups[at].group, group) == 0 ? &set->groups[at] : NULL;
}

kb_group_entry *kb_group_set_add(kb_group_set *set, const char *group)
{
    size_t at = lower_group(set, group);
    if (at < set->count && strcmp(set->groups[at].group, group) == 0)
        return &set->groups[at];
    set->groups = kb_grow(set->groups, set->count, &set->capacity, sizeof *set->groups);
    memmove(&set->groups[at + 1], &set->groups[at], (set->count - at) * sizeof *set->groups);
    set->groups[at] = (kb_group_entry){.group = kb_strdup(group)};
    set->count++;
    return &set->groups[at];
}

static int compare_place(const kb_group_place *place, const char *topic, int32_t partition)
{
    int order = strcmp(place->topic, topic);
    if (order != 0)
        return order;
    return place->partition < partition ? -1 : place->partition > partition;
}

static size_t lower_place(const kb_group_entry *entry, const char *topic, int32_t partition)
{
    size_t low = 0;
    size_t high = entry->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_place(&entry->places[middle], topic, partition) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

kb_group_place *kb_group_entry_find(const kb_group_entry *entry, const char *topic, int32_t partition)
{
    size_t at = lower_place(entry, topic, partition);
    if (at < entry->count && compare_place(&entry->places[at], topic, partition) == 0)
        return &entry->places[at];
    return NULL;
}

kb_group_place *kb_group_entry_put(kb_group_entry *entry, const char *topic, int32_t partition,
                                   int64_t offset, const char *metadata)
{
    size_t at = lower_place(entry, topic, partition);
    if (at >= entry->count || compare_place(&entry->places[at], topic, partition) != 0) {
        entry->places = kb_grow(entry->places, entry->count, &entry->capacity, sizeof *entry->places);
        memmove(&entry->places[at + 1], &entry->places[at], (entry->count - at) * sizeof *entry->places);
        entry->places[at] = (kb_group_place){.topic = kb_strdup(topic), .partition = partition};
        entry->count++;
    }
    kb_group_place *place = &entry->places[at];
    char *copy = kb_strdup_opt(metadata);
    free(place->metadata);
    place->metadata = copy;
    place->offset = offset;
    place->error_number = 0;
    return place;
}

int64_t kb_group_entry_offset(const kb_group_entry *entry, const char *topic, int32_t partition)
{
    const kb_group_place *place = entry != NULL ? kb_group_entry_find(entry, topic, partition) : NULL;
    return place != NULL ? place->offset : KB_GROUP_NO_OFFSET;
}

void kb_group_entry_fail(kb_group_entry *entry, int error_number, const char *text)
{
    free(entry->error_text);
    entry->error_text = kb_strdup_opt(text);
    entry->error_number = error_number;
}

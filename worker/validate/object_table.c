#include "worker/validate/object_table.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/validate/problem_list.h"

typedef struct kb_object_hash {
    uint64_t hash;
    uint32_t object;
} kb_object_hash;

static uint64_t hash_key(const char *key)
{
    uint8_t sha256[KB_SHA256_SIZE];
    kb_sha256(key, strlen(key), sha256);
    uint64_t hash;
    memcpy(&hash, sha256, sizeof hash);
    return hash;
}

static int compare_hashes(const void *a, const void *b)
{
    uint64_t left = ((const kb_object_hash *)a)->hash;
    uint64_t right = ((const kb_object_hash *)b)->hash;
    return (left > right) - (left < right);
}

/* Counts first, so that a table of millions is allocated once. */
static void count_objects(kb_object_table *table)
{
    for (size_t t = 0; t < table->backup->topic_count; t++) {
        const kb_topic_entry *topic = &table->backup->topics[t];
        table->place_count += topic->listed_count;
        for (size_t p = 0; p < topic->listed_count; p++)
            table->count += topic->partitions[p].segment_count;
    }
}

static void add_place(kb_object_table *table, size_t topic, size_t partition, size_t *place, size_t *object)
{
    const kb_partition_entry *entry = &table->backup->topics[topic].partitions[partition];
    table->places[*place] = (kb_object_place){(uint32_t)topic, (uint32_t)partition};
    for (size_t s = 0; s < entry->segment_count; s++) {
        kb_object *added = &table->objects[*object];
        *added = (kb_object){.place = (uint32_t)*place, .segment = (uint32_t)s};
        KB_AUTOFREE char *key = kb_object_table_key(table, added);
        table->hashes[*object] = (kb_object_hash){hash_key(key), (uint32_t)*object};
        (*object)++;
    }
    (*place)++;
}

void kb_object_table_init(kb_object_table *table, const kb_backup *backup)
{
    *table = (kb_object_table){.backup = backup};
    count_objects(table);
    table->objects = kb_calloc(table->count, sizeof *table->objects);
    table->hashes = kb_calloc(table->count, sizeof *table->hashes);
    table->places = kb_calloc(table->place_count, sizeof *table->places);
    size_t place = 0;
    size_t object = 0;
    for (size_t t = 0; t < backup->topic_count; t++)
        for (size_t p = 0; p < backup->topics[t].listed_count; p++)
            add_place(table, t, p, &place, &object);
    if (table->count > 0)
        qsort(table->hashes, table->count, sizeof *table->hashes, compare_hashes);
}

void kb_object_table_done(kb_object_table *table)
{
    free(table->objects);
    free(table->hashes);
    free(table->places);
    *table = (kb_object_table){0};
}

/* The first hash that is not below the wanted one. */
static size_t lower_bound(const kb_object_table *table, uint64_t hash)
{
    size_t low = 0;
    size_t high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->hashes[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

kb_object *kb_object_table_find(kb_object_table *table, const char *key)
{
    uint64_t hash = hash_key(key);
    for (size_t i = lower_bound(table, hash); i < table->count && table->hashes[i].hash == hash; i++) {
        kb_object *object = &table->objects[table->hashes[i].object];
        KB_AUTOFREE char *found = kb_object_table_key(table, object);
        if (strcmp(found, key) == 0)
            return object;
    }
    return NULL;
}

const kb_topic_entry *kb_object_topic(const kb_object_table *table, const kb_object *object)
{
    return &table->backup->topics[table->places[object->place].topic];
}

const kb_partition_entry *kb_object_partition(const kb_object_table *table, const kb_object *object)
{
    return &kb_object_topic(table, object)->partitions[table->places[object->place].partition];
}

const kb_segment_entry *kb_object_segment(const kb_object_table *table, const kb_object *object)
{
    return &kb_object_partition(table, object)->segments[object->segment];
}

char *kb_object_table_key(const kb_object_table *table, const kb_object *object)
{
    return kb_segment_key(table->backup, kb_object_topic(table, object), kb_object_partition(table, object),
                          kb_object_segment(table, object));
}

uint64_t kb_object_rank(const kb_object_table *table, const kb_object *object)
{
    return KB_PROBLEM_RANK_INDEX + 1 + (uint64_t)(object - table->objects);
}

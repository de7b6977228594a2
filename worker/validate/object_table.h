/*
 * object_table - the segments of a backup as objects of a store, and what a listing says of each.
 *
 * Objects stand in the order of the backup: topic, partition, segment. Keys are not kept: an object is found
 * by a hash of its key and then compared with the key that the backup gives it. About 40 bytes per segment.
 * Threads: building and finding by one thread; different objects may be changed by different threads.
 */
#ifndef KB_WORKER_VALIDATE_OBJECT_TABLE_H
#define KB_WORKER_VALIDATE_OBJECT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/catalog/model.h"

typedef enum kb_object_state {
    KB_OBJECT_UNSEEN,
    KB_OBJECT_PRESENT, /* with the size that the backup says, as far as it says one */
    KB_OBJECT_BAD,     /* a problem was noted */
    KB_OBJECT_LARGE,   /* has records that need more memory than a thread's share */
} kb_object_state;

typedef struct kb_object {
    uint32_t place;      /* index into places */
    uint32_t segment;    /* index into the partition's segments */
    uint64_t size_bytes; /* as listed */
    kb_object_state state;
} kb_object;

/* A partition of the backup. */
typedef struct kb_object_place {
    uint32_t topic;     /* index into the backup's topics */
    uint32_t partition; /* index into the topic's partitions */
} kb_object_place;

typedef struct kb_object_table {
    const kb_backup *backup; /* borrowed */
    kb_object *objects;
    size_t count;
    kb_object_place *places;
    size_t place_count;
    struct kb_object_hash *hashes; /* by hash */
} kb_object_table;

/* The table of all segments, everything unseen; the backup must outlive it and not change. */
void kb_object_table_init(kb_object_table *table, const kb_backup *backup);
void kb_object_table_done(kb_object_table *table);
/* The object with this key (borrowed), NULL when the backup lists none. */
kb_object *kb_object_table_find(kb_object_table *table, const char *key);

/* What an object is in the backup. Borrowed. */
const kb_topic_entry *kb_object_topic(const kb_object_table *table, const kb_object *object);
const kb_partition_entry *kb_object_partition(const kb_object_table *table, const kb_object *object);
const kb_segment_entry *kb_object_segment(const kb_object_table *table, const kb_object *object);
/* Owned by the caller. */
char *kb_object_table_key(const kb_object_table *table, const kb_object *object)
    __attribute__((returns_nonnull));
/* For problem_list: above KB_PROBLEM_RANK_INDEX, ascending in the order of the table. */
uint64_t kb_object_rank(const kb_object_table *table, const kb_object *object);

#endif

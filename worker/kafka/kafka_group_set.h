/*
 * kafka_group_set - committed offsets of consumer groups in memory: what was read, is planned or was stored.
 *
 * Groups ascend by name, places within a group by topic and partition (bytewise), each once. An offset of -1
 * means that the group has none there. Pointers into a set are valid until the next add. Threads: one at a
 * time.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_GROUP_SET_H
#define KB_WORKER_KAFKA_KAFKA_GROUP_SET_H

#include <stddef.h>
#include <stdint.h>

#define KB_GROUP_NO_OFFSET (-1)

typedef struct kb_group_place {
    char *topic; /* owned, as metadata */
    int32_t partition;
    int64_t offset;   /* next to read */
    char *metadata;   /* NULL = none */
    int error_number; /* of Kafka, for this partition */
} kb_group_place;

typedef struct kb_group_entry {
    char *group; /* owned, as all */
    kb_group_place *places;
    size_t count;
    size_t capacity;
    int error_number; /* of Kafka, for the whole group */
    char *error_text; /* NULL = none */
} kb_group_entry;

typedef struct kb_group_set {
    kb_group_entry *groups;
    size_t count;
    size_t capacity;
} kb_group_set;

void kb_group_set_done(kb_group_set *set);
/* The entry of a group, added when absent. */
kb_group_entry *kb_group_set_add(kb_group_set *set, const char *group) __attribute__((returns_nonnull));
/* NULL when absent. */
kb_group_entry *kb_group_set_find(const kb_group_set *set, const char *group);
/* Sets the offset of a place, added when absent; metadata is copied, NULL = none. */
kb_group_place *kb_group_entry_put(kb_group_entry *entry, const char *topic, int32_t partition,
                                   int64_t offset, const char *metadata) __attribute__((returns_nonnull));
/* NULL when absent. */
kb_group_place *kb_group_entry_find(const kb_group_entry *entry, const char *topic, int32_t partition);
/* The offset of a place; KB_GROUP_NO_OFFSET when entry is NULL or has no such place. */
int64_t kb_group_entry_offset(const kb_group_entry *entry, const char *topic, int32_t partition);
/* Forgets all places. */
void kb_group_entry_clear(kb_group_entry *entry);
/* Replaces the error of the whole group; text may be NULL. */
void kb_group_entry_fail(kb_group_entry *entry, int error_number, const char *text);

#endif

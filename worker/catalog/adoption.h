/*
 * adoption - takes segments into the journal that are durable but not journaled yet (storage-format, 9).
 *
 * After a take-over, before anything is read from Kafka, each partition is continued from what lies in the
 * store; and a publisher whose name is taken asks whether the object there can stand for its own. A segment
 * is adopted only when its index claims the right range, topic id, partition, key and flags, and when it was
 * read whole and CRC, decoding and digest hold. Threads: the decision is a pure function; the drivers may run
 * on any thread, one partition at a time.
 */
#ifndef KB_WORKER_CATALOG_ADOPTION_H
#define KB_WORKER_CATALOG_ADOPTION_H

#include "worker/catalog/journal.h"
#include "worker/catalog/model.h"

/* What the index of a stored segment says, and where it lies. */
typedef struct kb_adoption_candidate {
    char *name;    /* file name; owned */
    bool standard; /* the name is the standard one for its start */
    bool has_index;
    bool checked_bad; /* key hash of another key, or read whole and refused */
    int32_t partition;
    uint16_t flags;
    int64_t start;
    int64_t end;
    int64_t from;
    int64_t to;
    uint64_t size;
    uint8_t topic_id[KB_TOPIC_ID_SIZE];
} kb_adoption_candidate;

/* What the partition needs next. */
typedef struct kb_adoption_want {
    int32_t partition;
    int64_t position;
    int64_t cut;
    uint16_t flags;
    uint8_t topic_id[KB_TOPIC_ID_SIZE]; /* zeros when unknown */
} kb_adoption_want;

/*
 * The pure choice: among candidates with from <= position <= start, position < to <= cut, equal partition,
 * topic id and flags, the one with the greatest `to` (then the smallest start, then the standard name).
 * -1 = none.
 */
ptrdiff_t kb_adoption_choose(const kb_adoption_candidate *candidates, size_t count,
                             const kb_adoption_want *want);

/* All unjournaled segments of a backup by partition, from one listing of B/topics/. */
typedef struct kb_adoption kb_adoption;
/* Lists. Segments of topics that are not the plan's any more must not be journaled: that check is the
 * caller's. `backup` is the journal's model (borrowed for the call). */
kb_code kb_adoption_new(kb_storage *storage, const kb_backup *backup, kb_adoption **ret_adoption,
                        kb_error *err) KB_CHECK;
void kb_adoption_free(kb_adoption *owned_adoption);
void kb_adoption_free_at(kb_adoption **at);
/* How many unjournaled segments were listed in all. */
size_t kb_adoption_listed(const kb_adoption *adoption);

typedef struct kb_adopted {
    kb_segment_entry *segments; /* ascending, tiling from the old position */
    size_t count;
    size_t capacity;
    int64_t position; /* after the last of them */
    int64_t max_record_bytes;
    kb_probe *probes; /* last record of each segment, at most KB_PROBES_MAX */
    size_t probe_count;
    size_t probe_capacity;
} kb_adopted;
void kb_adopted_done(kb_adopted *adopted);

/*
 * Continues one partition of the model as far as stored segments reach. The caller journals the result as
 * progress. Only a failing store is an error; damaged segments are passed over (logged).
 */
kb_code kb_adoption_partition(kb_adoption *adoption, const kb_topic_entry *topic,
                              const kb_partition_entry *partition, kb_adopted *ret_adopted,
                              kb_error *err) KB_CHECK;

/*
 * A conflict while publishing: whether the object `key` (any codec, with or without index) is whole and can
 * stand for a segment of ours that starts at `start` with the claim `from`, ending below `cut`. On true
 * *ret_segment is filled (owned by the caller; from = `from`, to by its index, else end + 1) and the caller
 * seeks to its `to`. False: publish under the suffixed name.
 */
typedef struct kb_conflict {
    const char *key;
    const char *topic;
    int32_t partition;
    int64_t from;
    int64_t start;
    int64_t cut;
    bool own_block; /* content.offsetHeaders */
    bool has_topic_id;
    uint8_t topic_id[KB_TOPIC_ID_SIZE];
} kb_conflict;
kb_code kb_adoption_conflict(kb_storage *storage, const kb_backup *backup, const kb_conflict *conflict,
                             bool *ret_adoptable, kb_adopted *ret_adopted, kb_error *err) KB_CHECK;

#endif

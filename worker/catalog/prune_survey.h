/*
 * prune_survey - what prune knows of a lineage before it decides: who is good, who is open, what is listed.
 *
 * Each backup of the lineage is read as far as its part in the decision needs. Whatever cannot be understood
 * ends the survey with an error, so that nothing is deleted on half a picture; the exceptions are a damaged
 * backup.json (its manifest.json then speaks for it) and backups that are marked already. Keys of listed
 * segments are kept as hashes of 64 bits: 8 bytes each, and a collision only keeps an object that could go.
 * Threads: a survey belongs to one thread at a time.
 */
#ifndef KB_WORKER_CATALOG_PRUNE_SURVEY_H
#define KB_WORKER_CATALOG_PRUNE_SURVEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/storage/storage.h"

/* marked_at_ms of a backup that another prune marked while we looked. */
#define KB_PRUNE_AGE_UNKNOWN INT64_MAX

typedef enum kb_prune_role {
    KB_PRUNE_GOOD,    /* complete, hashes hold, not marked */
    KB_PRUNE_DAMAGED, /* complete, but not as it was written; not marked */
    KB_PRUNE_OPEN,
    KB_PRUNE_SEALED, /* without manifest.json */
    KB_PRUNE_CLOSED, /* given up, not marked yet */
    KB_PRUNE_MARKED,
} kb_prune_role;

typedef struct kb_prune_member {
    char *backup_id;
    kb_prune_role role;
    char *base; /* of OPEN and SEALED; NULL = none */
    int64_t stamp_ms;
    int64_t completed_ms;  /* GOOD: when manifest.json appeared, by the store's clock */
    int64_t marked_at_ms;  /* MARKED: by the store's clock */
    int64_t last_entry_ms; /* OPEN: by the store's clock */
    uint32_t last_seq;     /* OPEN: number of the last journal entry */
    bool has_index;        /* manifest.json and backup.json are there */
    bool is_readable;      /* is_loaded and its index made sense */
    bool is_loaded;        /* `keys` are those of all segments that it lists */
    uint64_t *keys;
    size_t key_count;
    size_t key_capacity;
} kb_prune_member;

typedef struct kb_prune_survey {
    kb_prune_member *members; /* newest first, by the time in the id */
    size_t count;
} kb_prune_survey;

/*
 * Reads a lineage. What `earlier` (may be NULL) has read is moved from there instead of read again: indexes
 * never change. Fails with KB_BACKUP_CORRUPT naming the object, or as the store does.
 */
kb_code kb_prune_survey_make(kb_storage *storage, const char *lineage, kb_prune_survey *earlier,
                             kb_prune_survey *ret_survey, kb_error *err) KB_CHECK;
void kb_prune_survey_done(kb_prune_survey *survey);

/* NULL when absent. Borrowed. */
kb_prune_member *kb_prune_survey_find(const kb_prune_survey *survey, const char *backup_id);
/* Whether an open or sealed backup names it as base. */
bool kb_prune_survey_is_base(const kb_prune_survey *survey, const char *backup_id);

/* Reads what a member lists, once. A marked one that cannot be read any more lists nothing. */
kb_code kb_prune_member_load(kb_storage *storage, const kb_prune_survey *survey, kb_prune_member *member,
                             kb_error *err) KB_CHECK;

/* The hash that stands for a key in `keys`. */
uint64_t kb_prune_key_hash(const char *key);

#endif

/*
 * start_object - what a restore leaves beside the backups: its start object and the numbers of its attempts.
 *
 * restores/{id}/start-{n}.json fixes h, the offset of the first restored record, for every target partition
 * before the first record is produced. restores/{id}/attempt-{n}.json numbers the attempts: a higher number
 * fences the lower ones. done-{n}.json tells that all of it was restored. All are written once. Without write
 * access there are no attempts, and the start object may be kept in a local file. Source: storage-format, 15.
 * Threads: one at a time.
 */
#ifndef KB_WORKER_RESTORE_START_OBJECT_H
#define KB_WORKER_RESTORE_START_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/crypto.h"
#include "common/base/error.h"
#include "worker/catalog/journal.h"
#include "worker/storage/storage.h"

typedef struct kb_start_target {
    char *topic; /* owned */
    bool has_topic_id;
    uint8_t topic_id[KB_TOPIC_ID_SIZE];
    int32_t partition;
    int64_t start_offset;
    bool created; /* the topic was made by this restore */
} kb_start_target;

typedef struct kb_start_object {
    uint32_t n;
    char *restore_id; /* owned, as all */
    char *backup_id;
    uint8_t backup_sha256[KB_SHA256_SIZE];
    uint8_t plan_sha256[KB_SHA256_SIZE];
    char *delivery;
    kb_start_target *targets;
    size_t target_count;
    size_t target_capacity;
} kb_start_object;

void kb_start_object_done(kb_start_object *start);
/* Copies the name; topic_id NULL = unknown. */
void kb_start_object_add(kb_start_object *start, const char *topic, const uint8_t *topic_id,
                         const kb_start_target *target);
/* The entry of a partition, NULL when there is none. The targets are in the order of the plan: topic by
 * topic, ascending partitions. */
const kb_start_target *kb_start_object_find(const kb_start_object *start, const char *topic,
                                            int32_t partition);

/* As stored; *ret_text is owned. */
kb_code kb_start_object_encode(const kb_start_object *start, char **ret_text, size_t *ret_len,
                               kb_error *err) KB_CHECK;
/* KB_ERR_FORMAT for anything else than a start object with its own hash. n is the caller's. */
kb_code kb_start_object_decode(const char *text, size_t len, kb_start_object *ret_start,
                               kb_error *err) KB_CHECK;

/* What is known of a restore before this attempt. */
typedef struct kb_restore_past {
    bool has_start;
    kb_start_object start; /* with the greatest n */
    uint32_t last_attempt; /* 0 = none */
    bool is_done;          /* a restore that began with this start object has ended well */
    int64_t done_records;
    char **creating; /* topics that some attempt was about to create */
    size_t creating_count;
    size_t creating_capacity;
} kb_restore_past;
void kb_restore_past_done(kb_restore_past *past);
bool kb_restore_past_was_creating(const kb_restore_past *past, const char *topic);

/* state_file: restore.checkpoint_state, looked at when the store has no start object; may be NULL. */
kb_code kb_restore_past_read(kb_storage *storage, const char *restore_id, const char *state_file,
                             kb_restore_past *ret_past, kb_error *err) KB_CHECK;

typedef struct kb_attempt {
    const char *restore_id;
    uint32_t last_attempt;
    char attempt_id[2 * KB_ATTEMPT_ID_SIZE + 1];
    const kb_holder *holder;
    const char *const *creating;
    size_t creating_count;
} kb_attempt;
/*
 * Takes the next number. *ret_n is 0 when the store cannot be written: then there is no fence. Other failures
 * as the store.
 */
kb_code kb_attempt_take(kb_storage *storage, const kb_attempt *attempt, uint32_t *ret_n,
                        kb_error *err) KB_CHECK;

/*
 * Writes start->n (or finds the very same object there). to_file: to state_file instead of the store.
 * KB_FENCED when another attempt has written that number with other content.
 */
kb_code kb_start_object_write(kb_storage *storage, const kb_start_object *start, const char *state_file,
                              kb_error *err) KB_CHECK;

/*
 * Writes restores/{id}/done-{n}.json: the restore that began with start has ended well. With transactions
 * this is what a later run finds, for their progress is deleted at the end. An object that is there is fine.
 */
kb_code kb_restore_done_write(kb_storage *storage, const kb_start_object *start, int64_t records,
                              kb_error *err) KB_CHECK;

#endif

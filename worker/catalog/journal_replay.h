/*
 * journal_replay - what a row of journal entries amounts to.
 *
 * Takes the texts in their order, checks number, hash chain, self-hash and who may write what, and rebuilds
 * the backup. The writer of the journal applies its own entries through the same replay, so its model is what
 * a reader would find. Threads: a replay belongs to one thread at a time.
 */
#ifndef KB_WORKER_CATALOG_JOURNAL_REPLAY_H
#define KB_WORKER_CATALOG_JOURNAL_REPLAY_H

#include "worker/catalog/journal_entry.h"

typedef struct kb_replay {
    char *backup_id;
    kb_backup *backup; /* NULL before entry 0; `to` of its partitions is the position */
    uint32_t next_seq;
    uint8_t last_sha256[KB_SHA256_SIZE]; /* of the last entry's bytes */
    kb_entry_head last;                  /* its holder is owned */
    int64_t open_time_ms;                /* of the last open entry */
    bool has_progress;                   /* an entry with news */
    char *watched_job_uid;
    bool has_watched_job; /* an attempt of that job was here */
} kb_replay;

/* watched_job_uid may be NULL or "": no job. */
void kb_replay_init(kb_replay *replay, const char *backup_id, const char *watched_job_uid);
/* Frees all but what was taken out (backup = NULL). */
void kb_replay_done(kb_replay *replay);
/* Takes the next entry. Fails with KB_ERR_FORMAT or KB_ERR_TOO_LARGE; the replay is then of no further use.
 */
kb_code kb_replay_add(kb_replay *replay, const char *text, size_t len, kb_error *err) KB_CHECK;

/* The kind of an entry, whatever its place in the row; for `list`. Its self-hash is checked. KB_ERR_FORMAT.
 */
kb_code kb_entry_peek(const char *backup_id, const char *text, size_t len, kb_entry_kind *ret_kind,
                      kb_error *err) KB_CHECK;

#endif

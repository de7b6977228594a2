/*
 * journal - progress and ownership of one backup: B/journal/{n:08}.json (storage-format, 8).
 *
 * Each entry is written once, carries a self-hash and the hash of the entry before; replaying all of them
 * gives the state of the backup. Flow of an attempt:
 *
 *     kb_journal_new -> kb_journal_wait -> look at kb_journal_state and kb_journal_backup, decide ->
 *     FRESH: kb_journal_begin(plan)   OPEN: kb_journal_take_over   (KB_ERR_EXISTS: kb_journal_wait again)
 *     -> kb_journal_progress ... -> kb_journal_seal or kb_journal_release
 *
 * The entry that another attempt wrote fences us: KB_FENCED, sticky, nothing may be published after it.
 * The model behind kb_journal_backup is always what is durable in the journal, never more.
 * Threads: one thread owns the journal; kb_journal_age_ms, kb_journal_may_publish and kb_journal_is_fenced
 * may be called from any thread.
 */
#ifndef KB_WORKER_CATALOG_JOURNAL_H
#define KB_WORKER_CATALOG_JOURNAL_H

#include "common/base/clock.h"
#include "common/sync/wait.h"
#include "worker/catalog/holder.h"
#include "worker/catalog/journal_entry.h"
#include "worker/catalog/model.h"
#include "worker/storage/storage.h"

typedef struct kb_journal kb_journal;

/* Without a new entry for so long a holder is taken to be dead. */
#define KB_JOURNAL_SILENCE_MS 180000
/* Nothing is published when the last entry is older. */
#define KB_JOURNAL_PUBLISH_MS 120000
#define KB_JOURNAL_HEARTBEAT_MS 60000
#define KB_JOURNAL_MIN_INTERVAL_MS 1000
#define KB_JOURNAL_POLL_MS 15000

typedef enum kb_journal_state {
    KB_JOURNAL_FRESH,    /* no entry yet: plan, then kb_journal_begin */
    KB_JOURNAL_OPEN,     /* somebody's open backup, free to take over */
    KB_JOURNAL_SEALED,   /* kb_catalog_publish(kb_journal_backup) finishes it, whoever made it */
    KB_JOURNAL_COMPLETE, /* complete already, and ours by jobUid: end as that backup ended */
    KB_JOURNAL_OWNED,    /* begun or taken over by this attempt */
    KB_JOURNAL_RELEASED, /* released by this attempt; kb_journal_inspect: by any */
    KB_JOURNAL_CLOSED,   /* kb_journal_inspect only: given up by prune */
    KB_JOURNAL_FENCED,
} kb_journal_state;

typedef struct kb_journal_options {
    kb_storage *storage; /* borrowed, outlives the journal */
    const char *backup_id;
    const kb_holder *holder; /* copied */
    bool require_conditional_put;
    int64_t lock_wait_ms;  /* how long kb_journal_wait waits in all for a live holder */
    const kb_clock *clock; /* NULL = system */
    kb_stop *stop;         /* borrowed; waiting ends with KB_ERR_STOPPED. NULL only with `wait` */
    /* Waits ms, true when stopped; NULL = kb_stop_wait on stop. For tests with a fake clock. */
    bool (*wait)(void *ctx, int64_t ms);
    void *wait_ctx;
    /* Called before each wait for a live holder (state WaitingForLock); may be NULL. */
    void (*on_waiting)(void *ctx, const kb_holder *holder, const char *since_rfc3339);
    void *on_waiting_ctx;
} kb_journal_options;

/* A journal that has read and written nothing. Makes the attempt id. Owned by the caller. */
kb_code kb_journal_new(const kb_journal_options *options, kb_journal **ret_journal, kb_error *err) KB_CHECK;
void kb_journal_free(kb_journal *owned_journal);
/* For a cleanup attribute: frees *at. */
void kb_journal_free_at(kb_journal **at);

/*
 * Reads the journal and waits while another live attempt holds it. On success the state is FRESH, OPEN,
 * SEALED or COMPLETE. Fails with KB_BACKUP_LOCKED (holder and since when), KB_BACKUP_EXISTS (complete and not
 * ours, foreign, or damaged), KB_BACKUP_CORRUPT (holes, hashes, form), KB_CONFIG_INVALID (closed by prune),
 * KB_ERR_STOPPED, or as the store does. May be called again after begin or take_over said KB_ERR_EXISTS; the
 * time already waited counts.
 */
kb_code kb_journal_wait(kb_journal *journal, kb_error *err) KB_CHECK;
kb_journal_state kb_journal_state_of(const kb_journal *journal);

/*
 * When one of these three fails otherwise, the entry may be stored: calling again sends the same bytes.
 *
 * Writes entry 0 with the plan: everything of `owned_plan` (taken over in any case) up to topics, with
 * partitions at to = from (or reuse_up_to). Sends it twice and reads it back (7.5): sets conditional_put.
 * KB_ERR_EXISTS when another attempt was first.
 */
kb_code kb_journal_begin(kb_journal *journal, kb_backup *owned_plan, kb_error *err) KB_CHECK;
/* Writes the `open` entry of this attempt; the plan stays; aborts unfinished uploads of the others.
 * KB_ERR_EXISTS when another attempt was first. */
kb_code kb_journal_take_over(kb_journal *journal, kb_error *err) KB_CHECK;
/* The same with another plan; only while no progress exists. Also for the attempt that owns the backup: its
 * number rises by one. */
kb_code kb_journal_replan(kb_journal *journal, kb_backup *owned_plan, kb_error *err) KB_CHECK;

/*
 * Writes a progress entry and, once it is durable, applies it to the model. Fails with KB_FENCED; with
 * KB_ERR_INTERNAL when the news contradict the model (see kb_news_check; nothing is written then); or as the
 * store does: whether the entry is durable is then unknown. Calling again with the same news sends the same
 * bytes; other news, and every other call that writes an entry, first settle what is pending.
 */
kb_code kb_journal_progress(kb_journal *journal, const kb_journal_news *news, kb_error *err) KB_CHECK;
/* Sends again what an earlier call could not, the same bytes, and applies it. KB_OK when nothing is pending.
 */
kb_code kb_journal_retry(kb_journal *journal, kb_error *err) KB_CHECK;
/* Writes `release`: the owner stops cleanly. */
kb_code kb_journal_release(kb_journal *journal, kb_error *err) KB_CHECK;
/* Writes `seal` with the totals; sets completed_at and generator of the model. Then kb_catalog_publish.
 * KB_ERR_INTERNAL when a partition is not covered up to its cut although its topic is `ok`. */
kb_code kb_journal_seal(kb_journal *journal, const char *generator, kb_error *err) KB_CHECK;

/* The durable state: plan, positions, segments. NULL while FRESH. Borrowed until the next call. */
const kb_backup *kb_journal_backup(const kb_journal *journal);
/* Gives the model away, for kb_catalog_publish of a sealed backup; the journal is then only good for free. */
kb_backup *kb_journal_take_backup(kb_journal *journal);
const uint8_t *kb_journal_attempt_id(const kb_journal *journal); /* KB_ATTEMPT_ID_SIZE bytes */
/* 1 for the attempt that began the backup; 0 before begin or take_over. */
int32_t kb_journal_attempt(const kb_journal *journal);
bool kb_journal_has_progress(const kb_journal *journal);

/* How old this attempt's last entry is, by CLOCK_BOOTTIME from before it was sent; INT64_MAX before one. */
int64_t kb_journal_age_ms(const kb_journal *journal);
/* Whether an object may be published now: owned, not fenced, age at most KB_JOURNAL_PUBLISH_MS. */
bool kb_journal_may_publish(const kb_journal *journal);
bool kb_journal_is_fenced(const kb_journal *journal);
/* Milliseconds until the next entry is due: with news max(interval_ms, 1 s) after the last one, without news
 * 60 s. 0 = now. */
int64_t kb_journal_due_in_ms(const kb_journal *journal, int64_t interval_ms, bool has_news);

/*
 * Reads the whole journal of a backup without owning it (list, validate): OPEN, RELEASED, SEALED or CLOSED.
 * *ret_backup is owned. KB_ERR_NOT_FOUND when there is no entry 0, KB_BACKUP_CORRUPT, or as the store does.
 */
kb_code kb_journal_inspect(kb_storage *storage, const char *backup_id, kb_backup **ret_backup,
                           kb_journal_state *ret_state, kb_error *err) KB_CHECK;

/* The end of a journal that somebody else owns. */
typedef struct kb_journal_tail {
    kb_journal_state state; /* as of kb_journal_inspect */
    uint32_t seq;           /* number of the last entry */
    int64_t written_ms;     /* when it was written, by the store's own clock */
    kb_holder holder;       /* who wrote it; owned */
} kb_journal_tail;
void kb_journal_tail_done(kb_journal_tail *tail);
/* As kb_journal_inspect, and what the last entry tells. */
kb_code kb_journal_inspect_tail(kb_storage *storage, const char *backup_id, kb_backup **ret_backup,
                                kb_journal_tail *ret_tail, kb_error *err) KB_CHECK;

#endif

#include "worker/catalog/journal.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/failpoint.h"
#include "common/base/mem.h"
#include "worker/catalog/journal_replay.h"
#include "worker/catalog/layout.h"

/* An unconditional store may show a rival's entry that late (storage-format, 7.5). */
#define UNCONDITIONAL_WAIT_MS 15000

/* An entry that was encoded and may or may not be stored. */
typedef struct pending_entry {
    char *text; /* NULL = none */
    size_t len;
    kb_entry_kind kind;
    int64_t time_ms;       /* as the entry says */
    const char *failpoint; /* once it is stored; static */
    bool is_first;         /* of this attempt */
    bool is_takeover;      /* uploads of earlier attempts are to be aborted */
} pending_entry;

struct kb_journal {
    kb_storage *storage;
    char *backup_id;
    kb_holder holder;
    bool require_conditional_put;
    bool conditional_put;
    int64_t lock_wait_ms;
    const kb_clock *clock;
    kb_stop *stop;
    bool (*wait)(void *ctx, int64_t ms);
    void *wait_ctx;
    void (*on_waiting)(void *ctx, const kb_holder *holder, const char *since_rfc3339);
    void *on_waiting_ctx;
    uint8_t attempt_id[KB_ATTEMPT_ID_SIZE];
    int32_t attempt;
    kb_replay replay;
    bool was_listed;
    bool is_waiting; /* wait_begin_ms is set */
    int64_t wait_begin_ms;
    int64_t watch_begin_ms; /* since when no new entry was seen */
    uint32_t watched_seq;
    pending_entry pending;
    _Atomic kb_journal_state state;
    _Atomic int64_t sent_ms; /* boot time before the last entry was sent; INT64_MIN = none */
};

/* ---- life ---- */

kb_code kb_journal_new(const kb_journal_options *options, kb_journal **ret_journal, kb_error *err)
{
    if (options->wait == NULL && options->stop == NULL)
        return kb_fail(err, KB_ERR_INTERNAL, "a journal cannot wait without a stop token");
    kb_journal *journal = kb_calloc(1, sizeof *journal);
    journal->storage = options->storage;
    journal->backup_id = kb_strdup(options->backup_id);
    kb_holder_copy(&journal->holder, options->holder);
    journal->require_conditional_put = options->require_conditional_put;
    journal->lock_wait_ms = options->lock_wait_ms;
    journal->clock = options->clock != NULL ? options->clock : kb_clock_system();
    journal->stop = options->stop;
    journal->wait = options->wait;
    journal->wait_ctx = options->wait_ctx;
    journal->on_waiting = options->on_waiting;
    journal->on_waiting_ctx = options->on_waiting_ctx;
    kb_replay_init(&journal->replay, options->backup_id, journal->holder.job_uid);
    atomic_init(&journal->state, KB_JOURNAL_FRESH);
    atomic_init(&journal->sent_ms, INT64_MIN);
    kb_code code = kb_random_bytes(journal->attempt_id, sizeof journal->attempt_id, err);
    if (code != KB_OK) {
        kb_journal_free(journal);
        return code;
    }
    *ret_journal = journal;
    return KB_OK;
}

void kb_journal_free(kb_journal *owned_journal)
{
    if (owned_journal == NULL)
        return;
    free(owned_journal->pending.text);
    kb_replay_done(&owned_journal->replay);
    kb_holder_done(&owned_journal->holder);
    free(owned_journal->backup_id);
    free(owned_journal);
}

void kb_journal_free_at(kb_journal **at)
{
    kb_journal_free(*at);
    *at = NULL;
}

/* ---- what is known ---- */

kb_journal_state kb_journal_state_of(const kb_journal *journal)
{
    return atomic_load(&journal->state);
}

const kb_backup *kb_journal_backup(const kb_journal *journal)
{
    return journal->replay.backup;
}

kb_backup *kb_journal_take_backup(kb_journal *journal)
{
    return KB_TAKE(journal->replay.backup);
}

const uint8_t *kb_journal_attempt_id(const kb_journal *journal)
{
    return journal->attempt_id;
}

int32_t kb_journal_attempt(const kb_journal *journal)
{
    return journal->attempt;
}

bool kb_journal_has_progress(const kb_journal *journal)
{
    return journal->replay.has_progress;
}

int64_t kb_journal_age_ms(const kb_journal *journal)
{
    int64_t sent_ms = atomic_load(&journal->sent_ms);
    return sent_ms == INT64_MIN ? INT64_MAX : kb_clock_now_boot_ms(journal->clock) - sent_ms;
}

bool kb_journal_may_publish(const kb_journal *journal)
{
    return kb_journal_state_of(journal) == KB_JOURNAL_OWNED &&
           kb_journal_age_ms(journal) <= KB_JOURNAL_PUBLISH_MS;
}

bool kb_journal_is_fenced(const kb_journal *journal)
{
    return kb_journal_state_of(journal) == KB_JOURNAL_FENCED;
}

int64_t kb_journal_due_in_ms(const kb_journal *journal, int64_t interval_ms, bool has_news)
{
    int64_t interval = interval_ms > KB_JOURNAL_MIN_INTERVAL_MS ? interval_ms : KB_JOURNAL_MIN_INTERVAL_MS;
    if (!has_news || interval > KB_JOURNAL_HEARTBEAT_MS)
        interval = KB_JOURNAL_HEARTBEAT_MS;
    int64_t age = kb_journal_age_ms(journal);
    return age >= interval ? 0 : interval - age;
}

/* ---- reading ---- */

typedef struct journal_listing {
    const char *backup_id;
    uint32_t count;
    int64_t highest; /* -1 = none */
} journal_listing;

static kb_code count_entry(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    (void)err;
    journal_listing *listing = ctx;
    uint32_t seq = 0;
    if (!kb_layout_parse_journal_key(listing->backup_id, entry->key, &seq))
        return KB_OK;
    listing->count++;
    if ((int64_t)seq > listing->highest)
        listing->highest = seq;
    return KB_OK;
}

/* One entry; *ret_is_there is false when there is none of that number. */
static kb_code read_entry(kb_storage *storage, kb_replay *replay, bool *ret_is_there, kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_journal_key(replay->backup_id, replay->next_seq);
    KB_AUTO_BLOB(blob);
    KB_AUTO_ERROR(absent);
    kb_code code = kb_storage_get(storage, key, KB_JOURNAL_ENTRY_MAX_BYTES, &blob, &absent);
    *ret_is_there = code != KB_ERR_NOT_FOUND;
    if (code == KB_ERR_NOT_FOUND)
        return KB_OK;
    if (code != KB_OK)
        kb_error_move(err, &absent);
    else
        code = kb_replay_add(replay, (const char *)blob.data, blob.len, err);
    if (code == KB_ERR_FORMAT || code == KB_ERR_TOO_LARGE)
        return kb_wrap_as(err, KB_BACKUP_CORRUPT, "journal entry '%s'", key);
    return code;
}

/* All entries from the next one on. A listing first, so that a missing entry is not taken for the end. */
static kb_code read_entries(kb_storage *storage, kb_replay *replay, bool *was_listed, kb_error *err)
{
    journal_listing listing = {.backup_id = replay->backup_id, .highest = -1};
    if (!*was_listed) {
        KB_AUTOFREE char *prefix = kb_layout_journal_prefix(replay->backup_id);
        kb_code code = kb_storage_list(storage, prefix, count_entry, &listing, err);
        if (code != KB_OK)
            return code;
        *was_listed = true;
    }
    bool is_there = true;
    while (is_there) {
        kb_code code = read_entry(storage, replay, &is_there, err);
        if (code != KB_OK)
            return code;
    }
    if ((int64_t)replay->next_seq <= listing.highest)
        return kb_fail(err, KB_BACKUP_CORRUPT,
                       "the journal of backup '%s' has a hole: entry %" PRIu32 " is missing, entry %" PRId64
                       " exists",
                       replay->backup_id, replay->next_seq, listing.highest);
    return KB_OK;
}

static kb_journal_state state_after(kb_entry_kind kind)
{
    switch (kind) {
    case KB_ENTRY_SEAL:
        return KB_JOURNAL_SEALED;
    case KB_ENTRY_CLOSE:
        return KB_JOURNAL_CLOSED;
    case KB_ENTRY_RELEASE:
        return KB_JOURNAL_RELEASED;
    case KB_ENTRY_OPEN:
    case KB_ENTRY_PROGRESS:
    case KB_ENTRY_KIND_COUNT:
        break;
    }
    return KB_JOURNAL_OPEN;
}

static kb_code read_whole(kb_storage *storage, kb_replay *replay, kb_error *err)
{
    bool was_listed = false;
    kb_code code = read_entries(storage, replay, &was_listed, err);
    if (code == KB_OK && replay->next_seq == 0)
        code = kb_fail(err, KB_ERR_NOT_FOUND, "backup '%s' has no journal", replay->backup_id);
    return code;
}

kb_code kb_journal_inspect(kb_storage *storage, const char *backup_id, kb_backup **ret_backup,
                           kb_journal_state *ret_state, kb_error *err)
{
    kb_replay replay KB_CLEANUP(kb_replay_done);
    kb_replay_init(&replay, backup_id, NULL);
    if (read_whole(storage, &replay, err) != KB_OK)
        return err->code;
    *ret_state = state_after(replay.last.kind);
    *ret_backup = KB_TAKE(replay.backup);
    return KB_OK;
}

void kb_journal_tail_done(kb_journal_tail *tail)
{
    kb_holder_done(&tail->holder);
}

kb_code kb_journal_inspect_tail(kb_storage *storage, const char *backup_id, kb_backup **ret_backup,
                                kb_journal_tail *ret_tail, kb_error *err)
{
    kb_replay replay KB_CLEANUP(kb_replay_done);
    kb_replay_init(&replay, backup_id, NULL);
    if (read_whole(storage, &replay, err) != KB_OK)
        return err->code;
    KB_AUTOFREE char *key = kb_layout_journal_key(backup_id, replay.next_seq - 1);
    kb_object_info info;
    if (kb_storage_head(storage, key, &info, err) != KB_OK)
        return kb_wrap(err, "the last entry of the journal of backup '%s'", backup_id);
    *ret_tail = (kb_journal_tail){
        .state = state_after(replay.last.kind),
        .seq = replay.next_seq - 1,
        .written_ms = info.mtime_ms,
    };
    kb_holder_copy(&ret_tail->holder, &replay.last.holder);
    *ret_backup = KB_TAKE(replay.backup);
    return KB_OK;
}

/* ---- waiting for another holder ---- */

static kb_code has_manifest(kb_journal *journal, bool *ret_there, kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_manifest_key(journal->backup_id);
    KB_AUTO_ERROR(head);
    kb_object_info info;
    kb_code code = kb_storage_head(journal->storage, key, &info, &head);
    if (code != KB_OK && code != KB_ERR_NOT_FOUND) {
        kb_error_move(err, &head);
        return code;
    }
    *ret_there = code == KB_OK;
    return KB_OK;
}

/* A backup that is complete already: ours ends as it ended, any other is left alone. */
static kb_code meet_complete(kb_journal *journal, kb_error *err)
{
    KB_AUTO_ERROR(ignored);
    /* Prune may have taken entries of a complete backup; those that are left still name their jobs. */
    kb_code code = read_entries(journal->storage, &journal->replay, &journal->was_listed, &ignored);
    if (code != KB_OK && code != KB_BACKUP_CORRUPT) {
        kb_error_move(err, &ignored);
        return code;
    }
    if (journal->replay.has_watched_job) {
        atomic_store(&journal->state, KB_JOURNAL_COMPLETE);
        return KB_OK;
    }
    return kb_fail(
        err, KB_BACKUP_EXISTS,
        "backup '%s' exists already in %s (hint: choose another backup_id, or put {stamp} into it)",
        journal->backup_id, kb_storage_describe(journal->storage));
}

static bool is_free(const kb_journal *journal)
{
    const kb_entry_head *last = &journal->replay.last;
    return last->kind == KB_ENTRY_RELEASE || kb_holder_is_same_job(&last->holder, &journal->holder) ||
           kb_holder_is_dead(&last->holder);
}

/* Looks at the backup once; *ret_settled says that the state is known and nobody is to be waited for. */
static kb_code look(kb_journal *journal, bool *ret_settled, kb_error *err)
{
    bool is_complete = false;
    kb_code code = has_manifest(journal, &is_complete, err);
    if (code != KB_OK)
        return code;
    *ret_settled = true;
    if (is_complete)
        return meet_complete(journal, err);
    code = read_entries(journal->storage, &journal->replay, &journal->was_listed, err);
    if (code != KB_OK)
        return code;
    const kb_replay *replay = &journal->replay;
    if (replay->next_seq == 0) {
        atomic_store(&journal->state, KB_JOURNAL_FRESH);
    } else if (replay->last.kind == KB_ENTRY_CLOSE) {
        return kb_fail(err, KB_CONFIG_INVALID,
                       "backup '%s' was given up by prune and cannot be continued (hint: start another one)",
                       journal->backup_id);
    } else if (replay->last.kind == KB_ENTRY_SEAL) {
        atomic_store(&journal->state, KB_JOURNAL_SEALED);
    } else {
        atomic_store(&journal->state, KB_JOURNAL_OPEN);
        *ret_settled = is_free(journal);
    }
    return KB_OK;
}

/* True when the holder wrote nothing for so long that it counts as dead. Own watching only: no clock of
 * another machine plays a part. */
static bool is_silent(kb_journal *journal, int64_t now_ms)
{
    if (journal->watched_seq != journal->replay.next_seq) {
        journal->watched_seq = journal->replay.next_seq;
        journal->watch_begin_ms = now_ms;
    }
    return now_ms - journal->watch_begin_ms >= KB_JOURNAL_SILENCE_MS;
}

static kb_code fail_locked(const kb_journal *journal, int64_t waited_ms, kb_error *err)
{
    char since[KB_RFC3339_SIZE];
    kb_rfc3339_format(journal->replay.open_time_ms, since);
    KB_AUTOFREE char *holder = kb_holder_describe(&journal->replay.last.holder);
    return kb_fail_retryable(err, KB_BACKUP_LOCKED,
                             "backup '%s' is held by %s since %s; waited %" PRId64
                             " s; hint: run again when that one has ended, or raise limits.lock_wait_secs",
                             journal->backup_id, holder, since, waited_ms / 1000);
}

static kb_code pause_for(kb_journal *journal, int64_t ms, const char *reason, kb_error *err)
{
    bool stopped = false;
    if (journal->wait != NULL)
        stopped = journal->wait(journal->wait_ctx, ms);
    else if (journal->stop != NULL)
        stopped = kb_stop_wait(journal->stop, ms);
    if (stopped)
        return kb_fail(err, KB_ERR_STOPPED, "stopped while waiting %s backup '%s'", reason,
                       journal->backup_id);
    return KB_OK;
}

/* Shows the holder and waits until the next look is due. */
static kb_code wait_a_while(kb_journal *journal, int64_t left_ms, kb_error *err)
{
    if (journal->on_waiting != NULL) {
        char since[KB_RFC3339_SIZE];
        kb_rfc3339_format(journal->replay.open_time_ms, since);
        journal->on_waiting(journal->on_waiting_ctx, &journal->replay.last.holder, since);
    }
    return pause_for(journal, left_ms < KB_JOURNAL_POLL_MS ? left_ms : KB_JOURNAL_POLL_MS,
                     "for the holder of", err);
}

kb_code kb_journal_wait(kb_journal *journal, kb_error *err)
{
    int64_t now_ms = kb_clock_now_boot_ms(journal->clock);
    if (!journal->is_waiting) {
        journal->is_waiting = true;
        journal->wait_begin_ms = now_ms;
        journal->watch_begin_ms = now_ms;
    }
    for (;;) {
        bool is_settled = false;
        kb_code code = look(journal, &is_settled, err);
        if (code != KB_OK || is_settled)
            return code;
        now_ms = kb_clock_now_boot_ms(journal->clock);
        if (is_silent(journal, now_ms))
            return KB_OK;
        int64_t waited_ms = now_ms - journal->wait_begin_ms;
        if (waited_ms >= journal->lock_wait_ms)
            return fail_locked(journal, waited_ms, err);
        code = wait_a_while(journal, journal->lock_wait_ms - waited_ms, err);
        if (code != KB_OK)
            return code;
    }
}

/* ---- writing ---- */

static kb_entry_head next_head(const kb_journal *journal, kb_entry_kind kind)
{
    const kb_replay *replay = &journal->replay;
    kb_entry_head head = {
        .seq = replay->next_seq,
        .kind = kind,
        .attempt = journal->attempt,
        .time_ms = kb_clock_now_wall_ms(journal->clock),
        .holder = journal->holder,
        .has_prev = replay->next_seq > 0,
    };
    memcpy(head.attempt_id, journal->attempt_id, sizeof head.attempt_id);
    memcpy(head.prev_sha256, replay->last_sha256, sizeof head.prev_sha256);
    return head;
}

static void set_pending(kb_journal *journal, const kb_entry_head *head, kb_strbuf *text,
                        const char *failpoint)
{
    size_t len = text->len;
    journal->pending = (pending_entry){
        .text = kb_strbuf_take(text),
        .len = len,
        .kind = head->kind,
        .time_ms = head->time_ms,
        .failpoint = failpoint,
    };
}

static void clear_pending(kb_journal *journal)
{
    free(journal->pending.text);
    journal->pending = (pending_entry){.text = NULL};
}

static kb_code fail_fenced(kb_journal *journal, const kb_blob *stored, kb_error *err)
{
    atomic_store(&journal->state, KB_JOURNAL_FENCED);
    KB_AUTO_ERROR(ignored);
    uint32_t seq = journal->replay.next_seq;
    if (kb_replay_add(&journal->replay, (const char *)stored->data, stored->len, &ignored) != KB_OK)
        return kb_fail(err, KB_FENCED,
                       "journal entry %" PRIu32 " of backup '%s' was written by another attempt", seq,
                       journal->backup_id);
    KB_AUTOFREE char *holder = kb_holder_describe(&journal->replay.last.holder);
    return kb_fail(err, KB_FENCED, "backup '%s' was taken over by %s, attempt %" PRId32, journal->backup_id,
                   holder, journal->replay.last.attempt);
}

/* Reads the pending entry back; *ret_same is false when other bytes stand there. */
static kb_code read_back(kb_journal *journal, const char *key, bool *ret_same, kb_error *err)
{
    const pending_entry *pending = &journal->pending;
    KB_AUTO_BLOB(blob);
    kb_code code = kb_storage_get(journal->storage, key, KB_JOURNAL_ENTRY_MAX_BYTES, &blob, err);
    if (code == KB_ERR_NOT_FOUND || code == KB_ERR_TOO_LARGE)
        return kb_wrap_as(err, KB_CONFIG_INVALID, "the store does not give back what was written");
    if (code != KB_OK)
        return code;
    *ret_same = blob.len == pending->len && memcmp(blob.data, pending->text, blob.len) == 0;
    return KB_OK;
}

/* Whether the store refuses to write a key twice, tried with our own entry. */
static kb_code try_condition(kb_journal *journal, const char *key, kb_error *err)
{
    const pending_entry *pending = &journal->pending;
    journal->conditional_put = kb_storage_caps_view(journal->storage)->conditional_put;
    if (journal->conditional_put) {
        KB_AUTO_ERROR(refusal);
        kb_code code = kb_storage_put_if_absent(journal->storage, key,
                                                kb_view_of(pending->text, pending->len), &refusal);
        if (code != KB_OK && code != KB_ERR_EXISTS) {
            kb_error_move(err, &refusal);
            return code;
        }
        journal->conditional_put = code == KB_ERR_EXISTS;
    }
    if (!journal->conditional_put && journal->require_conditional_put)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "%s does not refuse to overwrite an object, which require_conditional_put demands",
                       kb_storage_describe(journal->storage));
    return KB_OK;
}

/* The first entry of an attempt proves the store: same bytes back, a second write refused (7.5). */
static kb_code prove_store(kb_journal *journal, const char *key, kb_error *err)
{
    bool is_same = false;
    kb_code code = read_back(journal, key, &is_same, err);
    if (code == KB_OK && !is_same)
        code = kb_fail(err, KB_CONFIG_INVALID, "'%s' in %s was read back with other bytes than were written",
                       key, kb_storage_describe(journal->storage));
    if (code == KB_OK)
        code = try_condition(journal, key, err);
    if (code != KB_OK || journal->conditional_put)
        return code;
    code = pause_for(journal, UNCONDITIONAL_WAIT_MS, "for rivals of", err);
    if (code == KB_OK)
        code = read_back(journal, key, &is_same, err);
    if (code == KB_OK && !is_same)
        return kb_fail(err, KB_ERR_EXISTS, "another attempt wrote '%s' at the same time", key);
    return code;
}

/* The entry is durable: the model follows. */
static kb_code settle(kb_journal *journal, const char *key, int64_t sent_ms, kb_error *err)
{
    pending_entry *pending = &journal->pending;
    kb_code code = kb_replay_add(&journal->replay, pending->text, pending->len, err);
    if (code != KB_OK)
        return kb_wrap_as(err, KB_ERR_INTERNAL, "own journal entry '%s'", key);
    bool is_takeover = pending->is_takeover;
    kb_entry_kind kind = pending->kind;
    clear_pending(journal);
    atomic_store(&journal->sent_ms, sent_ms);
    if (kind == KB_ENTRY_SEAL)
        atomic_store(&journal->state, KB_JOURNAL_SEALED);
    if (kind == KB_ENTRY_RELEASE)
        atomic_store(&journal->state, KB_JOURNAL_RELEASED);
    if (kind != KB_ENTRY_OPEN)
        return KB_OK;
    journal->replay.backup->conditional_put = journal->conditional_put;
    atomic_store(&journal->state, KB_JOURNAL_OWNED);
    if (!is_takeover)
        return KB_OK;
    KB_AUTOFREE char *prefix = kb_layout_backup_prefix(journal->backup_id);
    return kb_storage_abort_leftovers(journal->storage, prefix, NULL, err);
}

static kb_code meet_other(kb_journal *journal, const char *key, const kb_blob *stored, kb_error *err)
{
    bool is_first = journal->pending.is_first;
    clear_pending(journal);
    if (!is_first)
        return fail_fenced(journal, stored, err);
    return kb_fail(err, KB_ERR_EXISTS, "another attempt wrote '%s' first", key);
}

static kb_code send_pending(kb_journal *journal, kb_error *err)
{
    const pending_entry *pending = &journal->pending;
    KB_AUTOFREE char *key = kb_layout_journal_key(journal->backup_id, journal->replay.next_seq);
    const kb_put_once_options options = {.max_stored_bytes = KB_JOURNAL_ENTRY_MAX_BYTES,
                                         .failpoint = "journal.sent_no_reply"};
    int64_t sent_ms = kb_clock_now_boot_ms(journal->clock);
    kb_put_outcome outcome = KB_PUT_OTHER;
    KB_AUTO_BLOB(stored);
    kb_code code = kb_storage_put_once(journal->storage, key, kb_view_of(pending->text, pending->len),
                                       &options, &outcome, &stored, err);
    if (code == KB_OK && outcome == KB_PUT_OTHER)
        return meet_other(journal, key, &stored, err);
    if (code == KB_OK && pending->is_first)
        code = prove_store(journal, key, err);
    if (code == KB_ERR_EXISTS)
        clear_pending(journal);
    /* An error here is a reply that was lost: the entry stays pending and is recognised when sent again. */
    if (code == KB_OK && pending->failpoint != NULL)
        code = KB_FAILPOINT(pending->failpoint, err);
    return code == KB_OK ? settle(journal, key, sent_ms, err) : code;
}

kb_code kb_journal_retry(kb_journal *journal, kb_error *err)
{
    return journal->pending.text != NULL ? send_pending(journal, err) : KB_OK;
}

/* Every later entry begins with this. */
static kb_code prepare(kb_journal *journal, kb_error *err)
{
    kb_code code = kb_journal_retry(journal, err);
    if (code != KB_OK)
        return code;
    if (kb_journal_is_fenced(journal))
        return kb_fail(err, KB_FENCED, "backup '%s' was taken over by another attempt", journal->backup_id);
    if (kb_journal_state_of(journal) != KB_JOURNAL_OWNED)
        return kb_fail(err, KB_ERR_INTERNAL, "the journal of backup '%s' is not owned", journal->backup_id);
    if (journal->replay.next_seq > KB_JOURNAL_SEQ_MAX)
        return kb_fail(err, KB_ERR_TOO_LARGE, "the journal of backup '%s' is full", journal->backup_id);
    return KB_OK;
}

static kb_code send(kb_journal *journal, const kb_entry_head *head, kb_strbuf *text, const char *failpoint,
                    kb_error *err)
{
    kb_code code = kb_strbuf_check(text, "the journal entry", err);
    if (code != KB_OK)
        return code;
    set_pending(journal, head, text, failpoint);
    return send_pending(journal, err);
}

/* The first entry of this attempt, with a plan or without. */
static kb_code open_attempt(kb_journal *journal, kb_journal_state from, const kb_backup *plan, kb_error *err)
{
    if (journal->pending.text != NULL && journal->pending.is_first)
        return send_pending(journal, err);
    if (kb_journal_state_of(journal) != from)
        return kb_fail(err, KB_ERR_INTERNAL, "the journal of backup '%s' is not in the state for this",
                       journal->backup_id);
    journal->attempt = journal->replay.last.attempt + 1;
    KB_AUTO_STRBUF(text, KB_JOURNAL_ENTRY_MAX_BYTES);
    kb_entry_head head = next_head(journal, KB_ENTRY_OPEN);
    kb_code code = kb_entry_encode_open(&head, journal->backup_id, plan, &text, err);
    if (code != KB_OK)
        return code;
    set_pending(journal, &head, &text, "open.after");
    journal->pending.is_first = true;
    journal->pending.is_takeover = journal->replay.next_seq > 0;
    code = send_pending(journal, err);
    if (code == KB_ERR_EXISTS)
        journal->attempt = 0;
    return code;
}

kb_code kb_journal_begin(kb_journal *journal, kb_backup *owned_plan, kb_error *err)
{
    KB_AUTO_BACKUP kb_backup *plan = owned_plan;
    return open_attempt(journal, KB_JOURNAL_FRESH, plan, err);
}

kb_code kb_journal_take_over(kb_journal *journal, kb_error *err)
{
    return open_attempt(journal, KB_JOURNAL_OPEN, NULL, err);
}

kb_code kb_journal_replan(kb_journal *journal, kb_backup *owned_plan, kb_error *err)
{
    KB_AUTO_BACKUP kb_backup *plan = owned_plan;
    if (journal->replay.has_progress)
        return kb_fail(err, KB_ERR_INTERNAL, "backup '%s' has progress, its plan stays", journal->backup_id);
    bool is_owned = kb_journal_state_of(journal) == KB_JOURNAL_OWNED;
    return open_attempt(journal, is_owned ? KB_JOURNAL_OWNED : KB_JOURNAL_OPEN, plan, err);
}

/* Whether the pending entry says just this: then the caller tries again what failed. */
static bool is_pending(const kb_journal *journal, const kb_journal_news *news)
{
    const pending_entry *pending = &journal->pending;
    KB_AUTO_ERROR(ignored);
    if (pending->text == NULL || pending->kind != KB_ENTRY_PROGRESS ||
        kb_news_check(journal->replay.backup, news, &ignored) != KB_OK)
        return false;
    KB_AUTO_STRBUF(text, KB_JOURNAL_ENTRY_MAX_BYTES);
    kb_entry_head head = next_head(journal, KB_ENTRY_PROGRESS);
    head.time_ms = pending->time_ms;
    return kb_entry_encode_progress(&head, journal->replay.backup, news, &text, &ignored) == KB_OK &&
           text.len == pending->len && memcmp(kb_strbuf_view(&text), pending->text, text.len) == 0;
}

kb_code kb_journal_progress(kb_journal *journal, const kb_journal_news *news, kb_error *err)
{
    if (is_pending(journal, news))
        return send_pending(journal, err);
    kb_code code = prepare(journal, err);
    if (code == KB_OK)
        code = kb_news_check(journal->replay.backup, news, err);
    if (code != KB_OK)
        return code;
    bool has_news = !kb_journal_news_is_empty(news);
    KB_AUTO_STRBUF(text, KB_JOURNAL_ENTRY_MAX_BYTES);
    kb_entry_head head = next_head(journal, KB_ENTRY_PROGRESS);
    code = kb_entry_encode_progress(&head, journal->replay.backup, news, &text, err);
    if (code == KB_OK && has_news)
        code = KB_FAILPOINT("progress.before", err);
    return code == KB_OK ? send(journal, &head, &text, has_news ? "progress.after" : "heartbeat.after", err)
                         : code;
}

kb_code kb_journal_release(kb_journal *journal, kb_error *err)
{
    kb_code code = kb_journal_retry(journal, err);
    if (code == KB_OK && kb_journal_state_of(journal) == KB_JOURNAL_RELEASED)
        return KB_OK;
    if (code == KB_OK)
        code = prepare(journal, err);
    if (code != KB_OK)
        return code;
    KB_AUTO_STRBUF(text, KB_JOURNAL_ENTRY_MAX_BYTES);
    kb_entry_head head = next_head(journal, KB_ENTRY_RELEASE);
    code = kb_entry_encode_release(&head, journal->backup_id, &text, err);
    return code == KB_OK ? send(journal, &head, &text, NULL, err) : code;
}

/* Everything that must hold before readers are told that the backup is whole. */
static kb_code check_whole(const kb_backup *backup, kb_error *err)
{
    for (size_t t = 0; t < backup->topic_count; t++) {
        const kb_topic_entry *topic = &backup->topics[t];
        for (size_t p = 0; p < topic->listed_count; p++) {
            const kb_partition_entry *partition = &topic->partitions[p];
            kb_code code = kb_partition_check_tiling(partition, err);
            if (code != KB_OK)
                return kb_wrap_as(err, KB_ERR_INTERNAL, "%s/%" PRId32, topic->name, partition->partition);
            if (topic->state == KB_TOPIC_OK && partition->to != partition->cut)
                return kb_fail(err, KB_ERR_INTERNAL,
                               "%s/%" PRId32 " is covered up to %" PRId64 ", not up to its cut %" PRId64,
                               topic->name, partition->partition, partition->to, partition->cut);
        }
    }
    return KB_OK;
}

kb_code kb_journal_seal(kb_journal *journal, const char *generator, kb_error *err)
{
    kb_code code = kb_journal_retry(journal, err);
    if (code == KB_OK && kb_journal_state_of(journal) == KB_JOURNAL_SEALED)
        return KB_OK;
    if (code == KB_OK)
        code = prepare(journal, err);
    if (code == KB_OK)
        code = check_whole(journal->replay.backup, err);
    if (code != KB_OK)
        return code;
    KB_AUTO_STRBUF(text, KB_JOURNAL_ENTRY_MAX_BYTES);
    kb_entry_head head = next_head(journal, KB_ENTRY_SEAL);
    code = kb_entry_encode_seal(&head, journal->replay.backup, generator, &text, err);
    return code == KB_OK ? send(journal, &head, &text, "seal.after", err) : code;
}

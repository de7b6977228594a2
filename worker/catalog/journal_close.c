#include "worker/catalog/journal_close.h"

#include <string.h>

#include "common/base/mem.h"
#include "worker/catalog/journal_replay.h"
#include "worker/catalog/layout.h"

/* All entries up to the end; the numbers have no holes, so the first missing one is the end. */
static kb_code read_entries(kb_storage *storage, kb_replay *replay, kb_error *err)
{
    for (;;) {
        KB_AUTOFREE char *key = kb_layout_journal_key(replay->backup_id, replay->next_seq);
        KB_AUTO_BLOB(blob);
        KB_AUTO_ERROR(problem);
        kb_code code = kb_storage_get(storage, key, KB_JOURNAL_ENTRY_MAX_BYTES, &blob, &problem);
        if (code == KB_ERR_NOT_FOUND && replay->next_seq > 0)
            return KB_OK;
        if (code == KB_OK)
            code = kb_replay_add(replay, (const char *)blob.data, blob.len, &problem);
        if (code == KB_OK)
            continue;
        kb_error_move(err, &problem);
        if (code == KB_ERR_FORMAT || code == KB_ERR_TOO_LARGE || code == KB_ERR_NOT_FOUND)
            return kb_wrap_as(err, KB_BACKUP_CORRUPT, "journal entry '%s'", key);
        return code;
    }
}

static kb_code encode(const kb_journal_close_options *options, const kb_replay *replay, kb_strbuf *out,
                      kb_error *err)
{
    const kb_clock *clock = options->clock != NULL ? options->clock : kb_clock_system();
    kb_entry_head head = {
        .seq = replay->next_seq,
        .kind = KB_ENTRY_CLOSE,
        .attempt = replay->last.attempt,
        .time_ms = kb_clock_now_wall_ms(clock),
        .holder = *options->holder,
        .has_prev = true,
    };
    kb_code code = kb_random_bytes(head.attempt_id, sizeof head.attempt_id, err);
    if (code != KB_OK)
        return code;
    memcpy(head.prev_sha256, replay->last_sha256, sizeof head.prev_sha256);
    code = kb_entry_encode_close(&head, options->backup_id, options->reason, out, err);
    return code == KB_OK ? kb_strbuf_check(out, "the journal entry", err) : code;
}

kb_code kb_journal_close(const kb_journal_close_options *options, bool *ret_closed, kb_error *err)
{
    kb_replay replay KB_CLEANUP(kb_replay_done);
    kb_replay_init(&replay, options->backup_id, NULL);
    kb_code code = read_entries(options->storage, &replay, err);
    if (code != KB_OK)
        return code;
    *ret_closed = replay.last.kind == KB_ENTRY_CLOSE;
    if (*ret_closed || replay.last.kind == KB_ENTRY_SEAL || replay.last.seq != options->last_seq)
        return KB_OK;
    KB_AUTO_STRBUF(text, KB_JOURNAL_ENTRY_MAX_BYTES);
    code = encode(options, &replay, &text, err);
    if (code != KB_OK)
        return code;
    KB_AUTOFREE char *key = kb_layout_journal_key(options->backup_id, replay.next_seq);
    const kb_put_once_options once = {.max_stored_bytes = KB_JOURNAL_ENTRY_MAX_BYTES};
    kb_put_outcome outcome = KB_PUT_OTHER;
    code = kb_storage_put_once(options->storage, key, kb_view_of(kb_strbuf_view(&text), text.len), &once,
                               &outcome, NULL, err);
    if (code == KB_OK)
        *ret_closed = outcome != KB_PUT_OTHER;
    return code;
}

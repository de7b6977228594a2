/*
 * journal_close - gives an abandoned open backup up (storage-format, 8 and 14): prune only.
 *
 * The `close` entry is the next one of the journal, so whoever still writes to it is met: a living holder's
 * entry wins and the backup stays open, or the close wins and fences the holder. Threads: no state.
 */
#ifndef KB_WORKER_CATALOG_JOURNAL_CLOSE_H
#define KB_WORKER_CATALOG_JOURNAL_CLOSE_H

#include "common/base/clock.h"
#include "worker/catalog/holder.h"
#include "worker/storage/storage.h"

typedef struct kb_journal_close_options {
    kb_storage *storage;
    const char *backup_id;
    const kb_holder *holder; /* who closes it */
    const char *reason;
    uint32_t last_seq;     /* the entry that was the last when it was found abandoned */
    const kb_clock *clock; /* NULL = system */
} kb_journal_close_options;

/*
 * *ret_closed is false when the backup lives, sealed meanwhile included; true when this or another prune has
 * closed it. KB_BACKUP_CORRUPT when the journal cannot be read, or as the store does.
 */
kb_code kb_journal_close(const kb_journal_close_options *options, bool *ret_closed, kb_error *err) KB_CHECK;

#endif

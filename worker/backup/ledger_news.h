/*
 * ledger_news - from events of publishers to one progress entry of the journal (pure).
 *
 * Events of a partition are folded in their order. What belongs to a topic that was found deleted or made
 * anew is dropped, and every unfinished partition of it gets a gap from its journaled position to its cut.
 */
#ifndef KB_WORKER_BACKUP_LEDGER_NEWS_H
#define KB_WORKER_BACKUP_LEDGER_NEWS_H

#include "worker/backup/ledger.h"

/* Topics whose identity was found changed by the check before this entry. */
typedef struct kb_lost_topics {
    kb_topic_event *items; /* names are borrowed */
    size_t count, capacity;
} kb_lost_topics;
void kb_lost_topics_add(kb_lost_topics *lost, const char *topic, kb_topic_state state);
void kb_lost_topics_done(kb_lost_topics *lost);

typedef struct kb_ledger_news kb_ledger_news;

/*
 * backup is the journal's model before the entry, base what its plan builds upon (NULL = nothing): a
 * partition that loses its rest while it reads again what the base holds takes that from the base. Segments
 * are borrowed from the events, which must outlive the news. Fails with KB_ERR_INTERNAL when an event names a
 * partition that the plan does not have.
 */
kb_code kb_ledger_news_make(const kb_backup *backup, const kb_backup *base, const kb_ledger_event *events,
                            size_t count, const kb_lost_topics *lost, kb_ledger_news **ret_news,
                            kb_error *err) KB_CHECK;
void kb_ledger_news_free(kb_ledger_news *owned_news);
void kb_ledger_news_free_at(kb_ledger_news **at);
/* The entry; borrowed. */
const kb_journal_news *kb_ledger_news_view(const kb_ledger_news *news);
/* Whether event i became part of the entry. */
bool kb_ledger_news_kept(const kb_ledger_news *news, size_t event_index);
/* By how many offsets partition p of the entry moved on. */
int64_t kb_ledger_news_advance(const kb_ledger_news *news, size_t partition_index);

/* Frees what an event owns. */
void kb_ledger_event_done(kb_ledger_event *event);

#endif

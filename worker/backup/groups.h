/*
 * groups - the committed offsets of consumer groups, stored right after the plan (worker.md 7.8).
 *
 * Taken before the first fetch, so that they do not lie beyond the cut. Groups that cannot be read make the
 * finding GroupsIncomplete; a reading that failed as a whole never becomes an empty snapshot. Threads: the
 * owner of the journal.
 */
#ifndef KB_WORKER_BACKUP_GROUPS_H
#define KB_WORKER_BACKUP_GROUPS_H

#include "common/base/error.h"
#include "common/sync/breaker.h"
#include "worker/backup/settings.h"
#include "worker/catalog/journal.h"
#include "worker/kafka/kafka_groups.h"

/* Takes the snapshot when the configuration asks for it and the journal has none: the object that an earlier
 * attempt stored is kept. breaker may be NULL. */
kb_code kb_backup_groups_take(const kb_backup_settings *settings, kb_journal *journal, kb_breaker *breaker,
                              kb_error *err) KB_CHECK;

/* The same through a given cluster, for tests. */
kb_code kb_backup_groups_take_from(const kb_backup_settings *settings, kb_journal *journal,
                                   kb_kafka_groups *groups, kb_error *err) KB_CHECK;

#endif

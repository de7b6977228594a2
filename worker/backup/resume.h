/*
 * resume - continuing an open backup after the take-over: leftovers aborted, durable segments adopted, before
 * anything is read from Kafka, for retention may have removed the records meanwhile (storage-format 9).
 * Threads: the caller's.
 */
#ifndef KB_WORKER_BACKUP_RESUME_H
#define KB_WORKER_BACKUP_RESUME_H

#include "common/base/error.h"
#include "worker/backup/settings.h"
#include "worker/kafka/kafka_admin.h"

/*
 * The journal is owned by this attempt. What is adopted is journaled. Topics that are no longer those of the
 * plan adopt nothing; the ledger finds out about them later and says so.
 */
kb_code kb_resume_adopt(const kb_backup_settings *settings, kb_journal *journal, kb_kafka_admin *admin,
                        kb_error *err) KB_CHECK;

#endif

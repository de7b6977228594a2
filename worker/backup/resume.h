/*
 * resume - continuing an open backup after the take-over: leftovers aborted, durable segments adopted, before
 * anything is read from Kafka, for retention may have removed the records meanwhile (storage-format 9).
 * Threads: the caller's.
 */
#ifndef KB_WORKER_BACKUP_RESUME_H
#define KB_WORKER_BACKUP_RESUME_H

#include "common/base/error.h"
#include "worker/backup/settings.h"

/* The journal is owned by this attempt. What is adopted is journaled. */
kb_code kb_resume_adopt(const kb_backup_settings *settings, kb_journal *journal, kb_error *err) KB_CHECK;

#endif

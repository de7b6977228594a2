/*
 * pipeline - all threads of one backup: pollers → encoders → publishers → ledger, watched by the caller's
 * thread.
 *
 * Frames from a fixed pool travel with the data; a poller that finds none free waits, and that is the whole
 * back-pressure. The journal belongs to the pipeline while it runs.
 * Threads: called from one thread, which becomes the watchdog.
 */
#ifndef KB_WORKER_BACKUP_PIPELINE_H
#define KB_WORKER_BACKUP_PIPELINE_H

#include "common/base/error.h"
#include "worker/backup/settings.h"
#include "worker/catalog/journal.h"
#include "worker/kafka/kafka_admin.h"

/* What only the plan's making knows of a topic: effective values that backup.json does not keep. */
typedef struct kb_topic_facts {
    bool compacted;              /* cleanup.policy contains compact, or could not be read */
    int64_t delete_retention_ms; /* -1: not known */
} kb_topic_facts;

/*
 * Reads every unfinished partition of the journal's backup to its end. base: what the plan builds upon, NULL
 * when it builds upon nothing. facts: one for each topic, in order.
 * KB_OK: all is read and journaled. Errors: KB_INTERRUPTED after a stop (what was read is durable as far as
 * the grace allowed), the first error of the run, or of a partition (the others are finished then).
 */
kb_code kb_pipeline_run(const kb_backup_settings *settings, kb_journal *journal, kb_kafka_admin *admin,
                        const kb_backup *base, const kb_topic_facts *facts, kb_error *err) KB_CHECK;

#endif

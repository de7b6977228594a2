/*
 * settings - what a backup run wants to know, taken from the configuration by cmd. Plain data, borrowed for
 * the run.
 */
#ifndef KB_WORKER_BACKUP_SETTINGS_H
#define KB_WORKER_BACKUP_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/contract/worker_config.h"
#include "common/sync/wait.h"
#include "worker/catalog/journal.h"
#include "worker/kafka/kafka_client.h"
#include "worker/report/progress.h"
#include "worker/report/run_metrics.h"
#include "worker/storage/storage.h"

typedef struct kb_backup_settings {
    const kb_worker_config *config;
    const kb_kafka_options *kafka; /* of `source` */
    kb_storage *storage;
    const char *backup_id;
    const char *lineage;   /* NULL = none: a backup by itself */
    bool full;             /* read everything, even when there is a base */
    bool only_news;        /* do nothing when there is nothing new */
    bool adopt_lineage;    /* go on with a lineage of another owner */
    const char *generator; /* program and version */
    const char *owner;     /* namespace/name of the resource, or manual */
    kb_holder holder;
    uint64_t memory_bytes;
    uint32_t threads;
    kb_stop *stop;
    kb_progress *progress;
    kb_run_metrics *metrics; /* may be NULL */
} kb_backup_settings;

#endif

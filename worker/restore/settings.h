/*
 * settings - what a restore run wants to know, taken from the configuration by cmd. Plain data, borrowed for
 * the run.
 */
#ifndef KB_WORKER_RESTORE_SETTINGS_H
#define KB_WORKER_RESTORE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/contract/worker_config.h"
#include "common/sync/breaker.h"
#include "common/sync/wait.h"
#include "worker/catalog/catalog.h"
#include "worker/catalog/journal.h"
#include "worker/kafka/kafka_client.h"
#include "worker/report/progress.h"
#include "worker/report/run_metrics.h"
#include "worker/storage/storage.h"

typedef struct kb_restore_settings {
    const kb_worker_config *config;
    const kb_kafka_options *kafka; /* of `target` */
    kb_storage *storage;
    const char *backup_id;
    kb_catalog_open_options open;
    bool dry_run; /* --dry-run or restore.dry_run */
    const kb_holder *holder;
    uint64_t memory_bytes;
    kb_stop *stop;
    kb_breaker *breaker; /* of Kafka admin calls; may be NULL */
    kb_progress *progress;
    /* Called once, when the restore id is known; gives the metrics (borrowed, may be NULL). May be NULL
     * itself.
     */
    kb_code (*on_identified)(void *ctx, const char *restore_id, kb_run_metrics **ret_metrics, kb_error *err);
    void *ctx;
} kb_restore_settings;

#endif

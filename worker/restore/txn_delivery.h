/*
 * txn_delivery - transactional producing: progress is committed together with the data.
 *
 * Each worker thread has a writer with a transactional id of its own. A transaction closes at 16 MiB, 10,000
 * records or 10 s and commits, under the group of the restore, how many records of each target partition are
 * done, with the plan's hash as metadata. All ids that a restore may ever use are taken over at the start, so
 * that nothing of an earlier attempt can commit any more.
 * Threads: kb_txn_delivery_new and _free by one thread; a sink belongs to its worker thread.
 */
#ifndef KB_WORKER_RESTORE_TXN_DELIVERY_H
#define KB_WORKER_RESTORE_TXN_DELIVERY_H

#include "common/base/error.h"
#include "common/sync/run_control.h"
#include "worker/kafka/kafka_client.h"
#include "worker/report/progress.h"
#include "worker/report/run_metrics.h"
#include "worker/restore/plan.h"
#include "worker/restore/sink.h"

/* Transactional ids of one restore: kb-{restore_id}-0 ... */
#define KB_TXN_IDS 16
#define KB_TXN_MAX_BYTES ((int64_t)16 << 20)
#define KB_TXN_MAX_RECORDS 10000
#define KB_TXN_MAX_AGE_MS 10000

typedef struct kb_txn_delivery kb_txn_delivery;

typedef struct kb_txn_options {
    const kb_kafka_options *kafka;
    const kb_restore_plan *plan;
    kb_target_state *targets;         /* of the plan, in its order */
    const int64_t *max_message_bytes; /* of each target topic; -1 = unknown */
    const char *restore_id;
    int64_t batch_records;
    int64_t request_timeout_ms;
    int64_t queue_bytes; /* of each writer */
    kb_progress *progress;
} kb_txn_options;

/* The group under which a restore commits its progress; owned by the caller. */
char *kb_txn_group(const char *restore_id) __attribute__((returns_nonnull));

/* Takes over all ids and keeps the writers of the first `count` (at most KB_TXN_IDS). Open transactions of
 * earlier attempts are aborted when it returns. */
kb_code kb_txn_delivery_new(const kb_txn_options *options, size_t count, kb_txn_delivery **ret_delivery,
                            kb_error *err) KB_CHECK;
/* Whatever is in flight is given up. NULL is fine. */
void kb_txn_delivery_free(kb_txn_delivery *owned_delivery);

/* From here on the run can be stopped, and what is done is counted. */
void kb_txn_delivery_begin(kb_txn_delivery *delivery, kb_run_control *control, kb_run_metrics *metrics);
/* The sink of a worker thread, for a unit of the plan. */
kb_code kb_txn_delivery_open(kb_txn_delivery *delivery, size_t worker, const kb_restore_unit *unit,
                             kb_sink **ret_sink, kb_error *err) KB_CHECK;
/* After a unit failed: aborts what is open. True when the unit may be tried again, from what is committed. */
bool kb_txn_delivery_recover(kb_txn_delivery *delivery, size_t worker);
/* Keeps memory that a writer may still read until it is gone. */
void kb_txn_delivery_bury(kb_txn_delivery *delivery, kb_parcels *owned_parcels);

#endif

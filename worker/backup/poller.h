/*
 * poller - one thread with one client handle that reads its share of the partitions.
 *
 * It starts as many streams as its share allows, hands their events to the tasks, and deals with what brokers
 * say about a stream: positions out of range, topics gone, access refused, damaged batches, logs that still
 * grow. Threads: start and join from one thread; kb_poller_restart from any.
 */
#ifndef KB_WORKER_BACKUP_POLLER_H
#define KB_WORKER_BACKUP_POLLER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/sync/queue.h"
#include "worker/backup/ledger.h"
#include "worker/backup/partition_task.h"
#include "worker/kafka/kafka_admin.h"
#include "worker/kafka/kafka_reader.h"

/* What all pollers of a run share. */
typedef struct kb_pollers {
    const kb_kafka_options *kafka;
    kb_kafka_reader_options reader_options;
    kb_kafka_admin *admin;
    kb_run_control *control;
    kb_progress *progress;
    kb_run_metrics *metrics; /* may be NULL */
    kb_ledger *ledger;
    bool warn_unauthorized; /* on_unauthorized_topic: warn */
    kb_task *tasks;         /* those that have something to read, in the order of the plan */
    size_t task_count;
    atomic_size_t next_task;    /* the first that no poller has begun */
    atomic_size_t unread_tasks; /* not handed to their lanes as a whole */
    atomic_size_t open_tasks;   /* not settled */
} kb_pollers;

typedef struct kb_poller kb_poller;

/* `share`: streams at the same time. */
kb_code kb_poller_start(kb_pollers *pollers, size_t share, kb_poller **ret_poller, kb_error *err) KB_CHECK;
/* The poller that owns the task reads it again from `offset`. */
void kb_poller_restart(kb_poller *poller, kb_task *task, int64_t offset);
/* What the handle waits for; for the watchdog. */
void kb_poller_state(kb_poller *poller, kb_kafka_state *ret_state);
/* Waits for the thread's end: all tasks settled, or the run is ending. Frees. NULL is fine. */
void kb_poller_join(kb_poller *owned_poller);

#endif

/*
 * ledger - the one thread that owns the journal of a running backup.
 *
 * Publishers post what became durable; the ledger gathers it, proves that the topics concerned are still the
 * ones of the plan (storage-format 13), writes a progress entry and only then counts it as saved. A topic
 * that was deleted or made anew loses what is not journaled: its partitions get a gap up to the cut. Threads:
 * kb_ledger_post and kb_ledger_is_lost from any thread; start and finish from one.
 */
#ifndef KB_WORKER_BACKUP_LEDGER_H
#define KB_WORKER_BACKUP_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/sync/run_control.h"
#include "worker/catalog/journal.h"
#include "worker/kafka/kafka_admin.h"
#include "worker/report/progress.h"
#include "worker/report/run_metrics.h"

typedef struct kb_ledger kb_ledger;

typedef enum kb_ledger_kind {
    KB_LEDGER_SEGMENT, /* a segment is durable */
    KB_LEDGER_GAP,     /* [start, end) cannot be read any more: RetentionGap */
    KB_LEDGER_REUSE,   /* the base is reused up to `end` after all: the partition's new segments are void */
    KB_LEDGER_CUT,     /* the cut of a compacted partition was raised to `end` */
    KB_LEDGER_DONE,    /* nothing more to read; everything below `end` is covered */
    KB_LEDGER_LOST,    /* the rest up to the cut cannot be read: `state` says why */
    KB_LEDGER_FINDING  /* a finding of the partition that leaves no gap */
} kb_ledger_kind;

typedef struct kb_ledger_event {
    kb_ledger_kind kind;
    const char *topic; /* as in the plan; borrowed for the ledger's life */
    int32_t partition;
    kb_segment_entry segment; /* SEGMENT: moved in */
    kb_probe probe;           /* SEGMENT: its last record */
    int64_t max_record_bytes; /* SEGMENT */
    uint64_t payload_bytes;   /* SEGMENT: keys and values */
    int64_t start, end;
    int64_t time_ms;      /* CUT: when it was read; GAP: when it was found */
    kb_topic_state state; /* LOST */
    const char *reason;   /* FINDING, LOST: name of the finding; static */
    char *detail;         /* FINDING, LOST: owned, may be NULL */
} kb_ledger_event;

typedef struct kb_ledger_options {
    kb_journal *journal;   /* owned by the ledger's thread until kb_ledger_finish */
    const kb_backup *base; /* what the plan builds upon; NULL = nothing */
    kb_kafka_admin *admin; /* borrowed, as the rest */
    kb_run_control *control;
    kb_progress *progress;
    kb_run_metrics *metrics; /* may be NULL */
    int64_t interval_ms;     /* checkpoint_interval_secs */
    /* Called when a partition is finished or lost and journaled; from the ledger's thread. */
    void (*on_settled)(void *ctx, const char *topic, int32_t partition);
    void *ctx;
} kb_ledger_options;

kb_code kb_ledger_start(const kb_ledger_options *options, kb_ledger **ret_ledger, kb_error *err) KB_CHECK;

/* Hands an event over (its owned parts move in). Never waits. */
void kb_ledger_post(kb_ledger *ledger, kb_ledger_event *owned_event);
/* The same, and waits until it is journaled. False when the run ended before. */
bool kb_ledger_post_and_wait(kb_ledger *ledger, kb_ledger_event *owned_event)
    __attribute__((warn_unused_result));
/* Waits until an entry younger than KB_JOURNAL_PUBLISH_MS exists, writing one if need be. False when the run
 * ended. */
bool kb_ledger_wait_fresh(kb_ledger *ledger) __attribute__((warn_unused_result));
/* Nothing is read any more: what was posted is journaled at once, without the pace of an entry a second. */
void kb_ledger_flush(kb_ledger *ledger);
/* Whether the topic was found to be another one, or gone: nothing of it is worth publishing. */
bool kb_ledger_is_lost(kb_ledger *ledger, const char *topic);

/* Journals what was posted (unless the run was cancelled), ends the thread and frees. NULL is fine. */
void kb_ledger_finish(kb_ledger *owned_ledger);

#endif

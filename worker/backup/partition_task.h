/*
 * partition_task - one partition being backed up, as its poller sees it: position, open segment, end of the
 * range.
 *
 * Records come in, frames and marks go into the partition's lane; nothing here waits for the store. Every
 * offset below `position` is covered: found and appended, or known not to exist. A compacted partition ends
 * where its reader catches up with the log (worker.md 7.3), all others at the cut that was fixed when the
 * backup was planned. Threads: a task belongs to one poller, but for kb_task_settle.
 */
#ifndef KB_WORKER_BACKUP_PARTITION_TASK_H
#define KB_WORKER_BACKUP_PARTITION_TASK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/sync/pool.h"
#include "common/sync/queue.h"
#include "common/sync/ratelimit.h"
#include "worker/backup/lane.h"
#include "worker/kafka/kafka_record.h"

typedef enum kb_task_state {
    KB_TASK_WAITING, /* not begun, or stopped by a restart */
    KB_TASK_READING,
    KB_TASK_RETRYING,    /* will be read again at retry_at_ms */
    KB_TASK_CATCHING_UP, /* compacted: at its cut, the log's end is to be asked for */
    KB_TASK_READ,        /* all is in the lane */
    KB_TASK_FAILED       /* for good; the error was given to the run */
} kb_task_state;

/* What all tasks of a run share; borrowed by each. */
typedef struct kb_task_rules {
    int64_t segment_max_bytes;
    int64_t segment_max_records; /* 0: no limit */
    int64_t segment_max_interval_ms;
    bool has_own_block;
    kb_own_block_opts own_block;
    uint64_t memory_budget_bytes;
    kb_queue *frames;                                 /* free kb_frame */
    kb_budget *spare;                                 /* for records larger than a frame */
    kb_ratelimit_shared *bytes_limit, *records_limit; /* NULL: no limit */
    kb_run_control *control;
} kb_task_rules;

typedef struct kb_task {
    const kb_task_rules *rules;
    kb_lane *lane;
    char *topic;
    int32_t partition;
    kb_task_state state;
    bool compacted;              /* ends where the reader catches up */
    int64_t delete_retention_ms; /* of a compacted topic; -1: not known */
    int64_t read_began_ms; /* boot clock; may lie before this run's start when an earlier attempt began */
    int64_t position, cut; /* stored atomically: the watcher of the lag looks at them */
    /* the open segment */
    int64_t segment_from;
    int64_t segment_bytes, segment_records, segment_began_ms;
    kb_frame *frame;
    uint64_t frame_extra_bytes, frame_payload_bytes;
    /* reading again what the base holds in small segments */
    int64_t reuse_floor;  /* below it a lost range is taken from the base; -1: nothing is read again */
    int64_t reused_up_to; /* it was taken from the base up to here; -1: it was not */
    /* catching up */
    int rounds;
    int64_t round_start, round_found;
    int64_t catching_since_ms;
    /* trouble */
    int64_t retry_at_ms, trouble_since_ms;
    int bad_data_count;
    atomic_bool settled;      /* journaled as done or lost, or failed: nothing more to wait for */
    atomic_llong restart_at;  /* offset, -1: none asked for */
    struct kb_poller *poller; /* the one that owns it; NULL until it was begun */
} kb_task;

/* The plan's entries are copied as far as needed. */
void kb_task_init(kb_task *task, const kb_task_rules *rules, kb_lanes *lanes, const kb_topic_entry *topic,
                  const kb_partition_entry *partition);
void kb_task_done(kb_task *task);

/* The record belongs to the partition's range or ends it (then state changes). False when the run is ending.
 */
bool kb_task_on_record(kb_task *task, const kb_source_record *record);
/* Everything below `offset` is covered. */
void kb_task_on_eof(kb_task *task, int64_t offset);
/* Closes a segment that is old enough; called about once per second. */
void kb_task_on_timer(kb_task *task, int64_t now_ms);

/* [position, end) is gone from the log. */
void kb_task_skip_gap(kb_task *task, int64_t end);
/* [position, ...) is gone from the log, but the base has what lies below reuse_floor: goes on from there. */
void kb_task_reuse_base(kb_task *task);
/* What is left cannot be read; detail is moved in. */
void kb_task_lose(kb_task *task, kb_topic_state state, const char *reason, char *owned_detail);
/* Ends the task with an error (moved) after handing over what was read. */
void kb_task_fail(kb_task *task, kb_error *err);
/* Hands over what was read, for a stop; the task can be resumed by a later attempt. */
void kb_task_hand_over(kb_task *task);
/* Drops what is open and begins again at offset; the caller starts the stream when the state is WAITING. */
void kb_task_restart(kb_task *task, int64_t offset);

/* The last stable offset was read anew while the task was catching up. */
void kb_task_on_log_end(kb_task *task, int64_t last_stable_offset, int64_t wall_ms);

/* True once: for the caller that may count the task as settled. */
bool kb_task_settle(kb_task *task);

/* The pure decision of catching up. */
typedef enum kb_catch_up { KB_CATCH_UP_DONE, KB_CATCH_UP_RAISE, KB_CATCH_UP_GIVE_UP } kb_catch_up;
#define KB_CATCH_UP_ROUNDS 10
/*
 * rounds: how often the cut was raised; found: records between the last two cuts, which lie `span` apart (0
 * at first).
 */
kb_catch_up kb_catch_up_decide(int rounds, int64_t span, int64_t found, int64_t cut,
                               int64_t last_stable_offset);

#endif

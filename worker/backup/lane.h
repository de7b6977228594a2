/*
 * lane - the ordered way of one partition from frames to durable, journaled segments.
 *
 * A poller pushes frames and marks in the order of offsets; encoders seal frames in any order; one publisher
 * at a time serves the lane from its head: appends sealed frames to the open segment, completes it, and posts
 * what became durable to the ledger, so that a partition is published and journaled strictly in order. A name
 * that is taken by an object that is not ours is resolved by adoption, or by asking the poller to read the
 * range again under another name: the lane then drops everything up to the mark of the restart. Threads: push
 * functions by the poller of the partition; kb_lanes_sealed by encoders; kb_lane_serve by publishers.
 */
#ifndef KB_WORKER_BACKUP_LANE_H
#define KB_WORKER_BACKUP_LANE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/sync/queue.h"
#include "common/sync/run_control.h"
#include "worker/backup/ledger.h"
#include "worker/catalog/model.h"
#include "worker/segment/frame.h"
#include "worker/segment/segment_writer.h"
#include "worker/storage/storage.h"

typedef struct kb_lane kb_lane;
typedef struct kb_lane_item kb_lane_item;

/* What all lanes of a run share; borrowed by each. */
typedef struct kb_lanes {
    kb_storage *storage;
    kb_ledger *ledger;
    kb_run_control *control;
    kb_progress *progress;
    kb_run_metrics *metrics; /* may be NULL */
    const kb_backup *plan;   /* ids, content, compression */
    kb_codec codec;
    bool verify;
    char attempt_id_hex[33];
    uint8_t attempt_id[16];
    bool suffixed_names; /* the store ignores conditions: names carry the attempt (7.5) */
    kb_queue *encode;    /* of kb_lane_item: frames to seal */
    kb_queue *publish;   /* of kb_lane: lanes with something ready at their head */
    /* A frame is free again (its extra bytes too); called by publishers. */
    void (*on_frame_free)(void *ctx, kb_frame *owned_frame, uint64_t extra_bytes);
    /* The partition has to be read again from `offset`; called by publishers with no lock held. */
    void (*on_restart)(void *ctx, void *owner, int64_t offset);
    void *ctx;
    pthread_mutex_t mutex;
    pthread_cond_t idle;
    struct {
        size_t items; /* in all lanes */
    } locked;
} kb_lanes;

void kb_lanes_init(
    kb_lanes *lanes); /* the mutex, the condition and the count; other members are the caller's */
void kb_lanes_done(kb_lanes *lanes);
/* Waits until no lane holds an item, for timeout_ms at most. */
bool kb_lanes_wait_idle(kb_lanes *lanes, int64_t timeout_ms) __attribute__((warn_unused_result));

/* topic is the plan's entry and outlives the lane. owner comes back in on_restart. */
kb_lane *kb_lane_new(kb_lanes *lanes, const kb_topic_entry *topic, const kb_partition_entry *partition,
                     void *owner) __attribute__((returns_nonnull));
/* No thread may use it any more; what it still holds is dropped, an open upload is aborted. */
void kb_lane_free(kb_lane *owned_lane);

/* A filled frame; from is the position at which its segment began. */
void kb_lane_push_frame(kb_lane *lane, kb_frame *owned_frame, uint64_t extra_bytes, int64_t from,
                        uint64_t payload_bytes);
/* The open segment ends: every readable record below `to` (and from its `from` on) is in it. */
void kb_lane_push_segment_end(kb_lane *lane, int64_t to);
/* [start, end) is gone; journaled before anything after it is published. */
void kb_lane_push_gap(kb_lane *lane, int64_t start, int64_t end);
/* The base's segments up to `up_to` are reused after all; what was published below is void. Journaled before
 * anything after it is published. */
void kb_lane_push_reuse(kb_lane *lane, int64_t up_to);
/* The cut of a compacted partition rises; journaled before anything after it is published. */
void kb_lane_push_cut(kb_lane *lane, int64_t cut, int64_t time_ms);
/* All up to `position` is read. */
void kb_lane_push_done(kb_lane *lane, int64_t position);
/* The rest is lost. detail is moved in. */
void kb_lane_push_lost(kb_lane *lane, kb_topic_state state, const char *reason, char *owned_detail);
/* A finding without a gap. detail is moved in. */
void kb_lane_push_finding(kb_lane *lane, const char *reason, char *owned_detail);
/* From here on items belong to the restart that was asked for. */
void kb_lane_push_restarted(kb_lane *lane);

/* An encoder sealed (or, with an error, gave up) the frame of an item popped from lanes->encode. */
void kb_lane_item_sealed(kb_lane_item *item);
kb_frame *kb_lane_item_frame(kb_lane_item *item);
/* Serves a lane popped from lanes->publish until its head is not ready. */
void kb_lane_serve(kb_lane *lane);

#endif

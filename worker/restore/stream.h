/*
 * stream - what a unit restores: the records of its sources in one deterministic order, ready to be sent.
 *
 * One source comes in offset order. Several are merged by (timestamp, source topic, source partition, offset)
 * of their head records. Filtering, stripping of the own block, restore headers and the rule for timestamp 0
 * are applied here, so that every attempt sees the same sequence. Nothing is copied: a record's memory is
 * that of its parcel. Threads: one at a time.
 */
#ifndef KB_WORKER_RESTORE_STREAM_H
#define KB_WORKER_RESTORE_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/kafka/kafka_record.h"
#include "worker/restore/parcel.h"
#include "worker/restore/plan.h"
#include "worker/storage/storage.h"

typedef struct kb_stream kb_stream;

typedef struct kb_stream_options {
    kb_storage *storage;
    const kb_restore_plan *plan;
    const kb_restore_unit *unit;
    kb_parcels *parcels; /* where memory comes from; outlives the stream */
    /* The target replaces timestamps: one of 0 may be sent as any other. */
    bool ignore_timestamps;
    int take_timeout_ms; /* between calls of on_full */
    /* No memory is free: returns KB_OK to go on waiting. */
    kb_code (*on_full)(void *ctx, kb_error *err);
    void *ctx;
    uint64_t memory_bytes; /* for objects that are held; shared by the sources */
    size_t max_area_bytes; /* a larger area: KB_MEMORY_TOO_SMALL */
} kb_stream_options;

/* Valid until the next call on the stream, its memory until the parcel is gone. */
typedef struct kb_stream_record {
    kb_out_record out;
    kb_parcel *parcel;
    int64_t payload_bytes; /* key and value */
    int64_t area_bytes;    /* what it takes in the record area */
    int64_t source_offset;
    const kb_restore_source *source;
    bool time_changed; /* 0 became 1 */
} kb_stream_record;

kb_stream *kb_stream_new(const kb_stream_options *options) __attribute__((returns_nonnull));
/* NULL is fine. */
void kb_stream_free(kb_stream *owned_stream);
void kb_stream_free_at(kb_stream **at);

/*
 * Passes over up to `count` records without handing them out, where that is cheap; only for one source.
 * *ret_skipped says how many. Before the first kb_stream_next or after it.
 */
kb_code kb_stream_skip(kb_stream *stream, int64_t count, int64_t *ret_skipped, kb_error *err) KB_CHECK;
/* The next record; *ret_has is false at the end. A record with timestamp 0 that may not be changed is
 * KB_TIMESTAMP_ZERO, naming it. */
kb_code kb_stream_next(kb_stream *stream, kb_stream_record *ret_record, bool *ret_has,
                       kb_error *err) KB_CHECK;
/* Records that the window left out so far. */
int64_t kb_stream_filtered(const kb_stream *stream);

#endif

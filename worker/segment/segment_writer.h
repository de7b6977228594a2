/*
 * segment_writer - sealed frames in, one segment object out.
 *
 * Bytes 32 to the end go to the sink in order as they come; the first 32, known last, go with complete.
 * Memory is bounded: zstd and none keep nothing but the index entries, lz4 keeps the record area. One writer
 * makes one segment. Threads: one at a time.
 */
#ifndef KB_WORKER_SEGMENT_SEGMENT_WRITER_H
#define KB_WORKER_SEGMENT_SEGMENT_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/segment/frame.h"
#include "worker/segment/frame_index.h"
#include "worker/segment/record_digest.h"
#include "worker/segment/segment_format.h"

/* Where a segment goes; the caller adapts an upload of the storage seam to it. */
typedef struct kb_segment_sink {
    void *ctx;
    /* The next bytes of the object, the first call at byte 32. */
    kb_code (*append)(void *ctx, const void *bytes, size_t len, kb_error *err);
    /* Puts the first 32 bytes and publishes. */
    kb_code (*complete)(void *ctx, const uint8_t header[KB_SEGMENT_HEADER_BYTES], kb_error *err);
    /* Drops what was appended; called once when the writer is freed without a successful complete. May be
     * NULL. */
    void (*abort)(void *ctx);
} kb_segment_sink;

/* What a segment turned out to be: the fields of a segment in backup.json. Offsets `start`, `end` inclusive.
 */
typedef struct kb_segment_info {
    kb_codec codec;
    int64_t start;
    int64_t end;
    int64_t from;
    int64_t to;
    uint64_t count;
    int64_t min_timestamp;
    int64_t max_timestamp;
    uint64_t raw_bytes; /* of record area */
    uint64_t bytes;     /* of the whole object */
    kb_digest digest;
    uint8_t sha256[KB_SHA256_SIZE];          /* object bytes 32...end, then 0...31 */
    uint8_t last_sha256[KB_SHA256_SIZE];     /* SHA-256(r) of the last record, for probes */
    uint8_t header[KB_SEGMENT_HEADER_BYTES]; /* first and last bytes of the object: "is it mine?" */
    uint8_t footer[KB_SEGMENT_FOOTER_BYTES];
} kb_segment_info;

typedef struct kb_segment_writer_opts {
    kb_segment_sink sink;
    const char *key; /* the whole object key; its hash goes into the index. Borrowed for the call */
    kb_codec codec;
    int32_t partition;
    int64_t from; /* the writer's position when the segment began */
    uint8_t attempt_id[KB_ID_BYTES];
    uint8_t topic_id[KB_ID_BYTES]; /* zeros when unknown */
    bool has_own_block;            /* as in kb_frame_encoder_opts */
    bool verify;                   /* lz4: decompress and compare before it leaves */
} kb_segment_writer_opts;

typedef struct kb_segment_writer kb_segment_writer;

kb_segment_writer *kb_segment_writer_new(const kb_segment_writer_opts *opts) __attribute__((returns_nonnull));
/* Aborts the sink unless the segment was completed. */
void kb_segment_writer_free(kb_segment_writer *owned_writer);
void kb_segment_writer_free_at(kb_segment_writer **at);
/*
 * Adds a sealed frame, in the order of offsets; the frame can be reset afterwards. Fails as the sink, with
 * KB_ERR_INTERNAL when frames are out of order, KB_ERR_TOO_LARGE when lz4 cannot hold the area,
 * KB_TEMPORARY_FAILURE without memory. After an error only free.
 */
kb_code kb_segment_writer_append(kb_segment_writer *writer, const kb_frame *frame, kb_error *err) KB_CHECK;
/* Bytes of record area, and of object, appended so far (object: without index and footer; lz4: 0). */
uint64_t kb_segment_writer_raw_bytes(const kb_segment_writer *writer);
uint64_t kb_segment_writer_stored_bytes(const kb_segment_writer *writer);
/*
 * Writes index and footer and completes the sink. `to`: every readable record in [from, to) is in here; above
 * the last offset. At least one frame was appended. Fails as the sink does: with KB_ERR_EXISTS the segment
 * may be somebody else's, and kb_segment_writer_info still says what ours would have been.
 */
kb_code kb_segment_writer_finish(kb_segment_writer *writer, int64_t to, kb_segment_info *ret_info,
                                 kb_error *err) KB_CHECK;
/* The info as soon as everything but complete has succeeded, else NULL. Borrowed. */
const kb_segment_info *kb_segment_writer_info(const kb_segment_writer *writer);

#endif

/*
 * frame - about one MiB of records, first filled by a poller, then sealed by an encoder thread.
 *
 * The poller appends until kb_frame_append says full; each key and value is copied once, straight into the
 * frame's buffer. Sealing computes the record digest, compresses, decompresses again and compares, and takes
 * the CRC; the stored bytes then replace the raw ones in the same buffer, so a frame costs one buffer.
 * Threads: a frame belongs to one thread at a time and travels; one encoder per encoder thread.
 */
#ifndef KB_WORKER_SEGMENT_FRAME_H
#define KB_WORKER_SEGMENT_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/segment/record_digest.h"
#include "worker/segment/segment_format.h"

/* Room for a full frame of records of ordinary size; a good capacity for kb_frame_new. */
#define KB_FRAME_DEFAULT_CAPACITY (KB_FRAME_TARGET_BYTES + 64 * 1024)

typedef struct kb_frame kb_frame;

/* What is known of a frame; the part after `sealed` is set by kb_frame_seal. */
typedef struct kb_frame_info {
    uint32_t record_count;
    size_t raw_len; /* bytes of record area */
    int64_t first_offset;
    int64_t last_offset;
    int64_t min_timestamp;
    int64_t max_timestamp;
    uint32_t max_total_len; /* greatest total_len of a record */
    bool sealed;
    kb_codec codec;
    size_t stored_len;      /* codec zstd: compressed; none and lz4: equal to raw_len */
    uint32_t crc32;         /* of the stored bytes; lz4: 0, the block is made of the whole segment */
    uint32_t rebuilt_count; /* times that the comparison failed and the frame was compressed again */
    kb_digest digest;
    uint8_t last_sha256[KB_SHA256_SIZE]; /* SHA-256(r) of the last record, for probes */
} kb_frame_info;

/*
 * Memory of capacity_bytes is taken at the first append. The buffer grows for a record that does not fit, and
 * kb_frame_reset shrinks it again.
 */
kb_frame *kb_frame_new(size_t capacity_bytes) __attribute__((returns_nonnull));
void kb_frame_free(kb_frame *owned_frame);
void kb_frame_free_at(kb_frame **at);
/* Empties the frame for its next use. */
void kb_frame_reset(kb_frame *frame);
/* Borrowed; follows the frame. */
const kb_frame_info *kb_frame_info_view(const kb_frame *frame);
/* Bytes of memory that the frame holds now. */
size_t kb_frame_memory(const kb_frame *frame);

/*
 * Copies the record to the end of the frame, which is not sealed. *ret_full: the frame has reached
 * KB_FRAME_TARGET_BYTES and takes no more. Fails with KB_RECORD_INVALID (see kb_record_encoded_size; also
 * when the offset does not lie above the last one) and with KB_TEMPORARY_FAILURE when there is no memory; the
 * frame is unchanged then.
 */
kb_code kb_frame_append(kb_frame *frame, const kb_record_in *record, const kb_own_block_opts *own,
                        bool *ret_full, kb_error *err) KB_CHECK;

/* Before sealing the record area; after it the stored bytes. Borrowed. */
kb_view kb_frame_bytes(const kb_frame *frame);

typedef struct kb_frame_encoder kb_frame_encoder;

typedef struct kb_frame_encoder_opts {
    kb_codec codec;
    int level;          /* zstd: 1 ... 22; 0 means 3 */
    bool verify;        /* decompress and compare */
    bool has_own_block; /* every record was appended with own block options */
} kb_frame_encoder_opts;

/* Owned by the caller. Fails with KB_TEMPORARY_FAILURE when there is no memory. */
kb_code kb_frame_encoder_new(const kb_frame_encoder_opts *opts, kb_frame_encoder **ret_encoder,
                             kb_error *err) KB_CHECK;
void kb_frame_encoder_free(kb_frame_encoder *owned_encoder);
void kb_frame_encoder_free_at(kb_frame_encoder **at);
/*
 * Seals a frame of at least one record. A frame whose decompressed bytes differ is compressed again, twice at
 * most; then, and when memory is missing, KB_TEMPORARY_FAILURE. The frame is not sealed after an error and
 * may be sealed again.
 */
kb_code kb_frame_seal(kb_frame_encoder *encoder, kb_frame *frame, kb_error *err) KB_CHECK;

#endif

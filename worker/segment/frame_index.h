/*
 * frame_index - the last frame of a zstd body of ours: where the frames are, and what the writer claims.
 *
 * Pure: bytes to struct and back. Decoding checks everything that the index says about itself (CRC, lengths,
 * that the frames tile the data, order and sums); kb_frame_index_check compares it with its segment.
 * Errors: KB_ERR_FORMAT. Threads: pure functions.
 */
#ifndef KB_WORKER_SEGMENT_FRAME_INDEX_H
#define KB_WORKER_SEGMENT_FRAME_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/segment/record_digest.h"
#include "worker/segment/segment_format.h"

#define KB_ID_BYTES 16
#define KB_KEY_HASH_BYTES 16
/* Bit 0 of the flags. */
#define KB_INDEX_FLAG_OWN_BLOCK 1u
/* The skippable frame's head, and the tail of the payload (L, CRC, magic). */
#define KB_INDEX_FRAME_HEAD_BYTES 8
#define KB_INDEX_TAIL_BYTES 16
#define KB_INDEX_HEAD_BYTES 160
#define KB_INDEX_ENTRY_BYTES 56
/* A payload beyond this is refused. */
#define KB_INDEX_MAX_BYTES ((uint32_t)16 << 20)

typedef struct kb_frame_entry {
    uint64_t position; /* in the object */
    uint32_t stored_len;
    uint32_t raw_len;
    int64_t first_offset;
    int64_t last_offset;
    int64_t min_timestamp;
    int64_t max_timestamp;
    uint32_t record_count;
    uint32_t crc32; /* of the stored bytes */
} kb_frame_entry;

typedef struct kb_frame_index {
    uint16_t flags;
    int32_t partition;
    int64_t from; /* every readable record in [from, to) is in the segment */
    int64_t to;
    int64_t min_timestamp;
    int64_t max_timestamp;
    uint64_t raw_bytes;
    uint64_t data_bytes; /* of the data frames */
    uint32_t max_total_len;
    uint8_t attempt_id[KB_ID_BYTES];
    uint8_t topic_id[KB_ID_BYTES]; /* zeros when unknown */
    uint8_t key_hash[KB_KEY_HASH_BYTES];
    kb_digest digest;
    kb_frame_entry *entries; /* owned */
    size_t entry_count;
    uint64_t record_count; /* not stored: the sum over the entries */
} kb_frame_index;

/* Frees the entries; the struct is zero afterwards. */
void kb_frame_index_done(kb_frame_index *index);

/* The first 16 bytes of SHA-256(key). */
void kb_frame_index_key_hash(const char *key, uint8_t to[KB_KEY_HASH_BYTES]);

/* Size of the whole skippable frame for so many entries. */
size_t kb_frame_index_encoded_size(size_t entry_count);
/* Writes the whole skippable frame, kb_frame_index_encoded_size bytes. */
void kb_frame_index_encode(const kb_frame_index *index, uint8_t *to);

/*
 * Whether the last 16 bytes before a segment's footer are the tail of an index; then *ret_payload_len is its
 * L, which is not checked yet (kb_frame_index_decode does that).
 */
bool kb_frame_index_tail(const uint8_t tail[KB_INDEX_TAIL_BYTES], uint32_t *ret_payload_len);
/* Decodes the whole skippable frame; *ret_index is owned. Fails with KB_ERR_FORMAT, KB_TEMPORARY_FAILURE. */
kb_code kb_frame_index_decode(const uint8_t *frame, size_t len, kb_frame_index *ret_index,
                              kb_error *err) KB_CHECK;
/*
 * Whether the index agrees with its segment: body_bytes of body of which frame_len are the index frame
 * itself, and the header's count and offsets. Fails with KB_ERR_FORMAT.
 */
kb_code kb_frame_index_check(const kb_frame_index *index, const kb_segment_header *header,
                             uint64_t body_bytes, size_t frame_len, kb_error *err) KB_CHECK;

#endif

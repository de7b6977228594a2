/*
 * segment_format - the bytes of a KBAK segment: header, footer, records, bookkeeping headers. Pure.
 *
 * A segment is 32 bytes of header, a body (the record area in the codec's form) and 8 bytes of footer. The
 * record area is a sequence of records; all integers are little-endian. Decoding yields views into the
 * caller's memory and allocates nothing; whatever breaks the format is KB_ERR_FORMAT, whose text names the
 * rule but not the object (segment_reader adds the key). Threads: pure functions.
 */
#ifndef KB_WORKER_SEGMENT_SEGMENT_FORMAT_H
#define KB_WORKER_SEGMENT_SEGMENT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"
#include "common/base/error.h"

#define KB_SEGMENT_HEADER_BYTES 32
#define KB_SEGMENT_FOOTER_BYTES 8
#define KB_SEGMENT_MIN_BYTES (KB_SEGMENT_HEADER_BYTES + KB_SEGMENT_FOOTER_BYTES)

/* total_len counts the bytes after itself. */
#define KB_RECORD_LEN_BYTES 4
#define KB_RECORD_MIN_BYTES 26u
#define KB_RECORD_MAX_BYTES (1u << 30)
/* Of headers in a record and of bytes in a header's name: both are u16 in the format. */
#define KB_RECORD_HEADER_COUNT_MAX 65535u
#define KB_HEADER_NAME_MAX_BYTES 65535u

/* A frame is full at the first record boundary at or after this many bytes of record area. */
#define KB_FRAME_TARGET_BYTES ((size_t)1048576)
/* Segments of the codecs none and lz4 are closed at this many bytes of record area, or earlier. */
#define KB_SEGMENT_AREA_LIMIT ((size_t)32 << 20)

typedef enum kb_codec { KB_CODEC_NONE = 0, KB_CODEC_ZSTD = 1, KB_CODEC_LZ4 = 2 } kb_codec;

/* "none", "zstd", "lz4". Static. */
const char *kb_codec_name(kb_codec codec);
/* False when it is none of them. */
bool kb_codec_parse(const char *name, kb_codec *ret_codec) KB_CHECK;

typedef struct kb_segment_header {
    kb_codec codec;
    uint64_t record_count;
    int64_t first_offset; /* this and the next are -1 when record_count is 0 */
    int64_t last_offset;
} kb_segment_header;

void kb_segment_header_encode(const kb_segment_header *header, uint8_t to[KB_SEGMENT_HEADER_BYTES]);
/* Whether the object begins with "KBAK"; one that does not may be a legacy JSON segment. */
bool kb_segment_has_magic(const void *data, size_t len);
/* Checks magic, version, codec, and that count and offsets fit together. Fails with KB_ERR_FORMAT. */
kb_code kb_segment_header_decode(const uint8_t from[KB_SEGMENT_HEADER_BYTES], kb_segment_header *ret_header,
                                 kb_error *err) KB_CHECK;
/* crc32: CRC-32 of everything before the footer. */
void kb_segment_footer_encode(uint32_t crc32, uint8_t to[KB_SEGMENT_FOOTER_BYTES]);
/* Fails with KB_ERR_FORMAT when the magic is wrong. */
kb_code kb_segment_footer_decode(const uint8_t from[KB_SEGMENT_FOOTER_BYTES], uint32_t *ret_crc32,
                                 kb_error *err) KB_CHECK;

/* ---- reading records ---- */

/* A record in somebody else's memory. */
typedef struct kb_record_view {
    int64_t timestamp;
    int64_t offset;
    const uint8_t *key; /* NULL when null; not NULL when empty */
    int32_t key_len;    /* -1 when null */
    const uint8_t *value;
    int32_t value_len;
    uint32_t header_count;
    const uint8_t *headers; /* the header_count headers as stored, headers_len bytes */
    size_t headers_len;
    const uint8_t *raw; /* from the timestamp field on: raw_len = total_len bytes, headers and what follows */
    uint32_t raw_len;
} kb_record_view;

/*
 * Takes the next record off the area and checks all of it, its headers included; bytes after the last header
 * are tolerated. The view lives as long as the area. Call it while area->left > 0. Fails with KB_ERR_FORMAT.
 */
kb_code kb_record_decode(kb_cursor *area, kb_record_view *ret_record, kb_error *err) KB_CHECK;

typedef struct kb_header_view {
    const char *name; /* not NUL-terminated */
    uint16_t name_len;
    const uint8_t *value; /* NULL when null */
    int32_t value_len;    /* -1 when null */
} kb_header_view;

typedef struct kb_header_iter {
    kb_cursor at;
    uint32_t left;
} kb_header_iter;

/* Iterates over the headers of a record that kb_record_decode accepted. */
kb_header_iter kb_record_headers(const kb_record_view *record);
/* False at the end. */
bool kb_header_next(kb_header_iter *iter, kb_header_view *ret_header);

/* ---- bookkeeping headers ---- */

#define KB_HEADER_ORIGINAL_OFFSET "x-original-offset"
#define KB_HEADER_ORIGINAL_TIMESTAMP "x-original-timestamp"
#define KB_HEADER_SOURCE_CLUSTER "x-source-cluster"
#define KB_HEADER_SOURCE_PARTITION "x-source-partition"

/* Whether a stored record ends with the headers that a backup of ours appended. */
typedef enum kb_own_block_mode {
    KB_OWN_BLOCK_NONE,    /* never: content.offsetHeaders or bit 0 of the index flags is not set */
    KB_OWN_BLOCK_PRESENT, /* always */
    KB_OWN_BLOCK_BY_FORM  /* not known: wherever the tail of the headers looks like one */
} kb_own_block_mode;

/* The own block of a record: the last header_count headers, the last len bytes of `headers`; 0, 0 if none. */
typedef struct kb_own_block {
    uint32_t header_count;
    size_t len;
} kb_own_block;

/*
 * Recognises the own block by its form: x-original-offset (8 bytes, equal to the offset),
 * x-original-timestamp (8 bytes, equal to the timestamp) and at most one x-source-cluster, at the very end.
 * Headers of these names anywhere else are data.
 */
kb_own_block kb_own_block_find(const kb_record_view *record);
/* Takes the own block off the view's headers (not off raw) and nothing else. */
void kb_own_block_strip(kb_record_view *record, kb_own_block_mode mode);

/* i64 little-endian when 8 bytes, else decimal text. False when it is neither. */
bool kb_header_offset_parse(const uint8_t *value, int32_t value_len, int64_t *ret_offset) KB_CHECK;
/* The offset in the last header x-original-offset of the record; false when there is none or it is illegible.
 */
bool kb_record_original_offset(const kb_record_view *record, int64_t *ret_offset) KB_CHECK;

/* ---- writing records ---- */

/* All borrowed. */
typedef struct kb_header_in {
    const char *name;
    size_t name_len;
    const void *value; /* may be NULL when value_len <= 0 */
    int32_t value_len; /* -1: null */
} kb_header_in;

typedef struct kb_record_in {
    int64_t timestamp;
    int64_t offset;
    const void *key; /* may be NULL when key_len <= 0 */
    int32_t key_len; /* -1: null */
    const void *value;
    int32_t value_len;
    const kb_header_in *headers;
    size_t header_count;
} kb_record_in;

/* What a backup with include_offset_headers appends; a NULL pointer to it means nothing. */
typedef struct kb_own_block_opts {
    const char *source_cluster; /* NULL: without this header; UTF-8 */
    size_t source_cluster_len;
} kb_own_block_opts;

/*
 * Bytes that the record takes in the area, its length field included. Fails with KB_RECORD_INVALID, naming
 * the offset, when the format cannot hold it: too many headers, a name that is too long or not UTF-8, more
 * than KB_RECORD_MAX_BYTES, a length below -1.
 */
kb_code kb_record_encoded_size(const kb_record_in *record, const kb_own_block_opts *own, size_t *ret_size,
                               kb_error *err) KB_CHECK;
/* Writes a record whose kb_record_encoded_size bytes of room are there; returns the position after it. */
uint8_t *kb_record_encode(uint8_t *to, const kb_record_in *record, const kb_own_block_opts *own);

/* The three headers that a restore appends, and the memory of their values. */
#define KB_RESTORE_HEADER_COUNT 3
typedef struct kb_restore_headers {
    kb_header_in header[KB_RESTORE_HEADER_COUNT]; /* values point into this struct: do not copy it */
    uint8_t offset[8];
    uint8_t timestamp[8];
    uint8_t partition[4];
} kb_restore_headers;
void kb_restore_headers_init(kb_restore_headers *headers, int64_t offset, int64_t timestamp,
                             int32_t partition);

#endif

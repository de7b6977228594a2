/*
 * segment_reader - a stored segment of any origin in, areas of whole, checked records out.
 *
 * Open verifies the whole object (CRC, SHA-256 where known, index) before the first record comes out: objects
 * up to the held limit are read once and kept, larger ones are read twice in ranges. After that each area is
 * decoded and checked as a whole before it is handed out: record form, ascending offsets, what index, header
 * and manifest say. Errors: what is wrong with the object is KB_BACKUP_CORRUPT with key and reason in the
 * text (kb_segment_reader_fault gives the class); errors of the source keep their code. Threads: one at a
 * time.
 */
#ifndef KB_WORKER_SEGMENT_SEGMENT_READER_H
#define KB_WORKER_SEGMENT_SEGMENT_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/segment/frame_index.h"
#include "worker/segment/record_digest.h"
#include "worker/segment/segment_format.h"
#include "worker/segment/segment_writer.h"

/* An object to read; the caller adapts the storage seam. */
typedef struct kb_segment_source {
    void *ctx;
    uint64_t size;
    /* Exactly len bytes at offset; never asked beyond size. */
    kb_code (*get_range)(void *ctx, uint64_t offset, void *to, size_t len, kb_error *err);
} kb_segment_source;

/* What manifest.json and backup.json say; start from KB_SEGMENT_EXPECT_INIT. Borrowed until the next open. */
typedef struct kb_segment_expect {
    const char *key;    /* required: named in messages, and its hash is compared with the index */
    uint64_t size;      /* of the object; 0 = unknown */
    uint64_t raw_bytes; /* of record area; 0 = unknown. Decoding stops there */
    int64_t count;      /* -1 = unknown, as for the next three */
    int64_t start;
    int64_t end;
    int64_t from;        /* the index's from may lie below this, not above: journals list from = position */
    int64_t to;          /* must be the index's */
    int32_t partition;   /* -1 = unknown */
    bool has_timestamps; /* of a backup of ours: minimum and maximum, true bounds */
    int64_t min_timestamp;
    int64_t max_timestamp;
    const uint8_t *sha256; /* 32 bytes; NULL = unknown, as for the rest */
    const kb_digest *digest;
    const uint8_t *topic_id; /* 16 bytes; an index with zeros is not compared */
    int own_block;           /* content.offsetHeaders: 1, 0; -1 = unknown. Compared with the index flag */
} kb_segment_expect;
#define KB_SEGMENT_EXPECT_INIT \
    {.count = -1, .start = -1, .end = -1, .from = -1, .to = -1, .partition = -1, .own_block = -1}

/* Classes of what can be wrong with an object. */
typedef enum kb_segment_fault {
    KB_SEGMENT_FAULT_NONE,
    KB_SEGMENT_FAULT_SIZE,     /* not as long as expected */
    KB_SEGMENT_FAULT_MISMATCH, /* CRC, SHA-256, format, counts, digest */
    KB_SEGMENT_FAULT_FOREIGN   /* sound, but another segment: partition, topic id, key hash, offsets' claim */
} kb_segment_fault;
/* "none", "size", "mismatch", "foreign". Static. */
const char *kb_segment_fault_name(kb_segment_fault fault);

/* What is known of some records without decoding them. */
typedef struct kb_area_bounds {
    uint32_t record_count;
    uint32_t raw_len;
    int64_t first_offset;
    int64_t last_offset;
    int64_t min_timestamp;
    int64_t max_timestamp;
} kb_area_bounds;

/*
 * Memory with whole records. kb_segment_reader_next fills it and makes it larger where needed; the next call
 * uses it again. To keep it (a producer's queue, say) move the struct away and put KB_AREA_INIT in its place.
 */
typedef struct kb_area {
    uint8_t *data; /* owned */
    size_t capacity;
    size_t len;
    kb_area_bounds bounds; /* of the records in it; always set */
} kb_area;
#define KB_AREA_INIT {NULL, 0, 0, {0}}
#define KB_AUTO_AREA(name) __attribute__((cleanup(kb_area_done))) kb_area name = KB_AREA_INIT
void kb_area_done(kb_area *area);
/* For kb_record_decode; the area must stay. */
kb_cursor kb_area_cursor(const kb_area *area);

#define KB_READER_HELD_BYTES ((size_t)32 << 20)
#define KB_READER_RANGE_BYTES ((size_t)8 << 20)
/* A record of the greatest length in a frame of ours. */
#define KB_READER_AREA_MAX_BYTES ((size_t)KB_RECORD_MAX_BYTES + KB_RECORD_LEN_BYTES + KB_FRAME_TARGET_BYTES)

typedef struct kb_segment_reader_opts {
    size_t held_bytes;     /* objects up to this are held; 0 = KB_READER_HELD_BYTES */
    size_t range_bytes;    /* ranges of larger ones; 0 = KB_READER_RANGE_BYTES */
    size_t max_area_bytes; /* an area beyond it: KB_MEMORY_TOO_SMALL; 0 = KB_READER_AREA_MAX_BYTES */
    bool deep;             /* also hash every record and compare digests and frame CRCs */
} kb_segment_reader_opts;

typedef struct kb_segment_reader kb_segment_reader;

/* A reader for many segments, one after the other. opts may be NULL. */
kb_segment_reader *kb_segment_reader_new(const kb_segment_reader_opts *opts) __attribute__((returns_nonnull));
void kb_segment_reader_free(kb_segment_reader *owned_reader);
void kb_segment_reader_free_at(kb_segment_reader **at);

/* Opens and verifies an object; what was open before is closed. The source is copied, its ctx must live. */
kb_code kb_segment_reader_open(kb_segment_reader *reader, const kb_segment_source *source,
                               const kb_segment_expect *expect, kb_error *err) KB_CHECK;
/*
 * The next records. *ret_has is false at the end, when all totals have been compared. An error is final for
 * this object.
 */
kb_code kb_segment_reader_next(kb_segment_reader *reader, kb_area *area, bool *ret_has,
                               kb_error *err) KB_CHECK;
/* The bounds of what next would give, where an index tells; false without one and at the end. */
bool kb_segment_reader_peek(const kb_segment_reader *reader, kb_area_bounds *ret_bounds) KB_CHECK;
/* Passes over it without decoding; only after peek was true. In deep mode digests can then not be compared.
 */
void kb_segment_reader_skip(kb_segment_reader *reader);
/* Of the open segment; a legacy JSON segment has a header made from what it holds. Borrowed. */
const kb_segment_header *kb_segment_reader_header(const kb_segment_reader *reader);
/* NULL without index. Borrowed until the next open. */
const kb_frame_index *kb_segment_reader_index(const kb_segment_reader *reader);
/* How the own block of its records is found: by the index's flag, else expect.own_block, else by form. */
kb_own_block_mode kb_segment_reader_own_block(const kb_segment_reader *reader);
/* The class of the last KB_BACKUP_CORRUPT. */
kb_segment_fault kb_segment_reader_fault(const kb_segment_reader *reader);

/*
 * Reads all of one object, every record hashed whatever opts.deep says, and tells what it is; from and to are
 * the index's, without one start and end + 1. Adoption and validate.
 */
kb_code kb_segment_verify(kb_segment_reader *reader, const kb_segment_source *source,
                          const kb_segment_expect *expect, kb_segment_info *ret_info, kb_error *err) KB_CHECK;

/*
 * Reads only header and tail: what a listed object claims to be. *ret_present is false when it is no zstd
 * segment with an index. *ret_index is owned (kb_frame_index_done) and set when present. Fails with
 * KB_BACKUP_CORRUPT when the index is damaged, and as the source.
 */
kb_code kb_segment_index_read(const kb_segment_source *source, const char *key, bool *ret_present,
                              kb_segment_header *ret_header, kb_frame_index *ret_index,
                              kb_error *err) KB_CHECK;

#endif

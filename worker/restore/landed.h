/*
 * landed - what earlier attempts left on a target partition, and whether it is the beginning of our stream.
 *
 * The number of records is counted by offsets (or by what a transaction committed); which records they are is
 * proven by samples: the first one present and the last KB_LANDED_TAIL, each by the hash of key, value,
 * headers and, unless the target sets its own, timestamp. Threads: one at a time.
 */
#ifndef KB_WORKER_RESTORE_LANDED_H
#define KB_WORKER_RESTORE_LANDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/crypto.h"
#include "common/base/error.h"
#include "common/sync/wait.h"
#include "worker/kafka/kafka_range.h"
#include "worker/restore/stream.h"

#define KB_LANDED_TAIL 256

typedef struct kb_landed_sample {
    int64_t index; /* i of the record in the stream */
    uint8_t sha256[KB_SHA256_SIZE];
} kb_landed_sample;

typedef struct kb_landed {
    int64_t count; /* n: records of the stream that are there */
    bool with_timestamps;
    kb_landed_sample *samples; /* ascending by index, all below count */
    size_t sample_count;
    size_t sample_capacity;
    size_t next_sample;
} kb_landed;

void kb_landed_done(kb_landed *landed);
/* Starts the comparison anew. */
void kb_landed_rewind(kb_landed *landed);

/* What is compared of a record. */
void kb_landed_hash(kb_sha256_ctx *sha, const kb_out_record *record, bool with_timestamp,
                    uint8_t to[KB_SHA256_SIZE]);

typedef struct kb_landed_place {
    const char *topic;
    int32_t partition;
    int64_t start;     /* h: offset of r0 */
    int64_t log_start; /* first offset that may be present */
    int64_t end;       /* high watermark */
    int64_t deadline_ms;
    kb_stop *stop;
} kb_landed_place;

/*
 * Reads the samples of [log_start, end); count becomes end - start. with_timestamps is the caller's to set
 * before. Fails as the reader does.
 */
kb_code kb_landed_read(kb_landed *landed, kb_kafka_reader *reader, const kb_landed_place *place,
                       kb_error *err) KB_CHECK;

/* The next index from `from` on that has to be looked at: a sample's, else count. */
int64_t kb_landed_next(const kb_landed *landed, int64_t from);
/* Compares rᵢ with the sample of that index, if there is one; indexes are asked in ascending order. */
bool kb_landed_check(kb_landed *landed, kb_sha256_ctx *sha, int64_t index, const kb_out_record *record);

typedef enum kb_landed_verdict {
    KB_LANDED_PREFIX,    /* exactly the first n records of the stream, as far as samples tell */
    KB_LANDED_DIFFERENT, /* a sample differs */
    KB_LANDED_TOO_LONG   /* the stream has fewer than n records */
} kb_landed_verdict;

typedef struct kb_landed_result {
    kb_landed_verdict verdict;
    size_t target; /* index within the unit of the first target that is not a prefix */
    int64_t index; /* of the record that differs, or the length of the stream */
} kb_landed_result;

/*
 * Runs the stream (fresh) of a unit until the samples of all its targets were compared. landed: one for each
 * target of the unit. Stops at the first difference.
 */
kb_code kb_landed_compare(kb_stream *stream, const kb_restore_unit *unit, kb_landed *landed,
                          kb_landed_result *ret_result, kb_error *err) KB_CHECK;

#endif

/*
 * header_search - finds the first record of a target partition that a group had not read at the source, by
 * the header x-original-offset that a restore adds (worker.md 9, headerBased).
 *
 * Binary search over [log start, high watermark): each probe reads the first record at or after an offset; a
 * record without the header is live data behind the restored ones, so it counts as "above". Every probe must
 * agree with the others. Threads: one at a time.
 */
#ifndef KB_WORKER_OFFSETS_HEADER_SEARCH_H
#define KB_WORKER_OFFSETS_HEADER_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/sync/wait.h"
#include "worker/kafka/kafka_reader.h"
#include "worker/kafka/kafka_record.h"

/* More than enough for 2^63 offsets. */
#define KB_HEADER_READS_MAX 64

/* What a record says of its origin. Texts are not kept. */
typedef struct kb_header_probe {
    bool found; /* there is a record at or after the offset asked for */
    int64_t offset;
    bool has_source;
    int64_t source_offset;
    bool has_partition;
    int32_t source_partition;
    bool is_other_cluster; /* x-source-cluster is there and is not the one asked for */
} kb_header_probe;

/* Reads the headers of a record; the last of each name counts. cluster NULL = any. */
kb_header_probe kb_header_probe_of(const kb_source_record *record, const char *cluster);

/* Reads the first record at or after `from`, below the end. */
typedef kb_code (*kb_header_read)(void *ctx, int64_t from, kb_header_probe *ret_probe, kb_error *err);

typedef struct kb_header_query {
    const char *topic; /* for messages */
    int32_t partition;
    int64_t log_start;
    int64_t end;           /* high watermark */
    int64_t source_offset; /* next that the group would read at the source */
    kb_header_read read;
    void *ctx;
} kb_header_query;

/* *ret_offset: the first target offset whose source offset is not below the query's; the end when there is
 * none. KB_SOURCE_OFFSETS_MISSING when probes contradict each other. ret_reads (may be NULL): records read.
 */
kb_code kb_header_search(const kb_header_query *query, int64_t *ret_offset, int *ret_reads,
                         kb_error *err) KB_CHECK;

/* A partition to be read by a reader; ctx of kb_header_read_live. */
typedef struct kb_header_live {
    kb_kafka_reader *reader;
    const char *topic;
    int32_t partition;
    int64_t end;
    const char *cluster;
    kb_stop *stop;
} kb_header_live;
kb_code kb_header_read_live(void *ctx, int64_t from, kb_header_probe *ret_probe, kb_error *err) KB_CHECK;

/* The committed source offset of a source partition, KB_GROUP_NO_OFFSET when the group has none there. */
typedef int64_t (*kb_header_consumed)(void *ctx, int32_t source_partition);
/*
 * Reads the whole partition from `from` on and stops at the first record that the group had not consumed:
 * judged by the source partition that its headers name, else by this one.
 */
kb_code kb_header_scan(const kb_header_live *live, int64_t from, kb_header_consumed consumed, void *ctx,
                       int64_t *ret_offset, kb_error *err) KB_CHECK;

#endif

/*
 * kafka_reader - reads partitions from explicit offsets, without a consumer group.
 *
 * A reader is one client handle (one connection per broker); a stream is one partition being read. Records of
 * a stream come in ascending offset order; none at or above the requested offset is left out but for those
 * that the isolation level hides, and control markers. What lies between two records, or between a record and
 * an end-of-partition event, does not exist for this isolation level. The library prefetches at most
 * queue_bytes_per_partition (or one fetch, if that is larger) for each stream. A stream that stays silent
 * below the end, because everything up to the end was compacted away, is found out by a fetch of its own and
 * gets its end-of-partition event too. Threads: a reader and its streams belong to one thread;
 * kb_kafka_reader_state and kb_kafka_reader_wake may be called from any thread.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_READER_H
#define KB_WORKER_KAFKA_KAFKA_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/kafka/kafka_client.h"
#include "worker/kafka/kafka_record.h"

typedef struct kb_kafka_reader kb_kafka_reader;

/* 0 means the default. */
typedef struct kb_kafka_reader_options {
    bool read_uncommitted; /* false: aborted records are skipped, the end is the last stable offset */
    int fetch_wait_max_ms; /* 10 */
    int64_t queue_bytes_per_partition; /* 4 MiB */
    int64_t fetch_bytes_per_partition; /* 1 MiB */
    int64_t fetch_bytes;               /* of one answer of a broker: 16 MiB */
    int64_t max_message_bytes; /* largest batch that can be received: 160 MiB; more is an error naming it */
    int64_t unknown_wait_ms;   /* how long an unknown topic may be one that was just created: 30000 */
} kb_kafka_reader_options;

typedef enum kb_kafka_stream_problem {
    KB_KAFKA_STREAM_OUT_OF_RANGE, /* position below the log start or above the log end: ask ListOffsets which
                                   */
    KB_KAFKA_STREAM_TOPIC_GONE, /* a broker does not know topic or partition: ask for metadata, it may pass */
    KB_KAFKA_STREAM_ACCESS,     /* the broker refuses this topic */
    KB_KAFKA_STREAM_BAD_DATA,   /* CRC, compression or format of a batch at `position` */
    KB_KAFKA_STREAM_OTHER
} kb_kafka_stream_problem;

typedef struct kb_kafka_stream_error {
    kb_kafka_stream_problem problem;
    kb_code code; /* as kb_kafka_classify */
    bool retryable;
    int error_number;
    int64_t position; /* next offset that was wanted: everything below was handed out or does not exist */
    const char *text; /* borrowed until return; names topic, partition, broker */
} kb_kafka_stream_error;

/* Called by kb_kafka_reader_poll; `owner` is the one given to kb_kafka_reader_start. Must not free the
 * reader. */
typedef struct kb_kafka_reader_events {
    /* false: this record is taken, but kb_kafka_reader_poll shall return now (back-pressure, stop). */
    bool (*on_record)(void *owner, const kb_source_record *record);
    /* Everything below `offset` was handed out or does not exist. Comes again when the end has moved. */
    void (*on_eof)(void *owner, int64_t offset);
    /* The stream has been stopped; start it again at a position of the owner's choice, or not at all. */
    void (*on_error)(void *owner, const kb_kafka_stream_error *error);
} kb_kafka_reader_events;

kb_code kb_kafka_reader_new(const kb_kafka_options *options, const kb_kafka_reader_options *reader_options,
                            kb_kafka_reader **ret_reader, kb_error *err) KB_CHECK;
/* Stops all streams and disconnects; NULL is fine. */
void kb_kafka_reader_free(kb_kafka_reader *owned_reader);
void kb_kafka_reader_free_at(kb_kafka_reader **at);

/*
 * Starts a stream at offset >= 0. May be called from inside a callback. Fails with KB_ERR_EXISTS when the
 * partition is being read by this reader. A topic that does not exist comes as on_error later.
 */
kb_code kb_kafka_reader_start(kb_kafka_reader *reader, const char *topic, int32_t partition, int64_t offset,
                              void *owner, kb_error *err) KB_CHECK;
/*
 * Ends a stream: no callback for it comes any more, and its prefetched records are dropped. May be called
 * from inside a callback. A partition that is not being read is fine.
 */
void kb_kafka_reader_stop(kb_kafka_reader *reader, const char *topic, int32_t partition);
/*
 * Holds a stream: no callback for it until it is let go, while the others go on; at most
 * queue_bytes_per_partition and some hundred records wait in memory meanwhile. May be called from inside a
 * callback.
 */
void kb_kafka_reader_hold(kb_kafka_reader *reader, const char *topic, int32_t partition, bool is_held);
/* Streams that are being read. */
size_t kb_kafka_reader_count(const kb_kafka_reader *reader);

/*
 * Waits up to timeout_ms for something to hand out, then hands out what is there (at most some thousand
 * records) and returns. KB_OK also when nothing came. Lost brokers are not an error here: see
 * kb_kafka_reader_state. Fails with 77 when brokers refused us for KB_KAFKA_AUTH_TRIES * auth_retry_ms (make
 * a new reader to read certificates again), 75 KB_TEMPORARY_FAILURE when records came in descending order
 * (never continued).
 */
kb_code kb_kafka_reader_poll(kb_kafka_reader *reader, int timeout_ms, const kb_kafka_reader_events *events,
                             kb_error *err) KB_CHECK;
/* Lets a waiting kb_kafka_reader_poll return early. */
void kb_kafka_reader_wake(kb_kafka_reader *reader);
/* What a watchdog says that it was waiting for. ret_state is initialised; free with kb_kafka_state_done. */
void kb_kafka_reader_state(kb_kafka_reader *reader, kb_kafka_state *ret_state);

#endif

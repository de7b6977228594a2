/*
 * kafka_record - a record as the reader hands it out and as the writer takes it.
 *
 * Everything is borrowed. Null and empty are different things in keys, values and header values: the length
 * of a null one is -1. Header names are what the library gives: cut at a NUL byte (worker.md 6), and not
 * checked for UTF-8. Plain data; no threads.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_RECORD_H
#define KB_WORKER_KAFKA_KAFKA_RECORD_H

#include <stddef.h>
#include <stdint.h>

typedef struct kb_kafka_header {
    const char *name; /* the reader's are NUL-terminated */
    size_t name_len;
    const void *value;
    int32_t value_len; /* -1: null */
} kb_kafka_header;

typedef enum kb_timestamp_type {
    KB_TIMESTAMP_NONE, /* the record has none; the timestamp is -1 */
    KB_TIMESTAMP_CREATE,
    KB_TIMESTAMP_LOG_APPEND
} kb_timestamp_type;

/* One record of a partition; valid until the callback that got it returns. */
typedef struct kb_source_record {
    int64_t offset;
    int64_t timestamp;
    kb_timestamp_type timestamp_type;
    const void *key;
    int32_t key_len; /* -1: null */
    const void *value;
    int32_t value_len; /* -1: null */
    const kb_kafka_header *headers;
    size_t header_count;
} kb_source_record;

/* One record to produce. */
typedef struct kb_out_record {
    int64_t timestamp; /* ms since 1970; never 0, which the library would replace by the present time */
    const void *key;
    int32_t key_len; /* -1: null */
    const void *value;
    int32_t value_len; /* -1: null */
    const kb_kafka_header *headers;
    size_t header_count;
} kb_out_record;

#endif

/*
 * kafka_writer_private - what kafka_writer and kafka_txn share. For these two files only.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_WRITER_PRIVATE_H
#define KB_WORKER_KAFKA_KAFKA_WRITER_PRIVATE_H

#include <stdatomic.h>

#include "worker/kafka/kafka_handle.h"
#include "worker/kafka/kafka_writer.h"

typedef struct writer_topic {
    char *name;
    rd_kafka_topic_t *handle;  /* its opaque is this struct */
    kb_kafka_target **targets; /* by partition; NULL where there is none */
    size_t target_count;
} writer_topic;

struct kb_kafka_target {
    kb_kafka_writer *writer;
    writer_topic *topic;
    int32_t partition;
    void *owner;
};

struct kb_kafka_writer {
    kb_kafka_handle *handle;
    rd_kafka_t *rk; /* the handle's */
    kb_kafka_writer_events events;
    size_t max_message_bytes;
    writer_topic **topics;
    size_t topic_count, topic_capacity;
    atomic_size_t undelivered;
    bool is_transactional;
    atomic_bool is_nudged;
    atomic_bool is_purged; /* by us: lost records are no failure then */
    bool needs_abort;
    atomic_bool has_failed; /* the two below are written before it is set, and never again */
    int failure_number;
    char *failure_text;
};

/* KB_OK, or why the writer has ended. */
kb_code kb_kafka_writer_failure(kb_kafka_writer *writer, kb_error *err) KB_CHECK;

#endif

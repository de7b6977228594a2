/*
 * kafka_admin_topics - operations of the live Kafka admin: metadata and creation of topics.
 *
 * As kafka_admin.h describes them. For kafka_admin_live only. Threads: any.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_ADMIN_TOPICS_H
#define KB_WORKER_KAFKA_KAFKA_ADMIN_TOPICS_H

#include "worker/kafka/kafka_admin.h"

kb_code kb_kafka_live_get_metadata(kb_kafka_admin *admin, const char *const *topics, size_t count,
                                   const kb_kafka_call *call, kb_kafka_metadata *ret_metadata, kb_error *err);
kb_code kb_kafka_live_create_topics(kb_kafka_admin *admin, kb_kafka_new_topic *topics, size_t count,
                                    bool validate_only, const kb_kafka_call *call, kb_error *err);

/* A partition whose leader the library could not find, and why. */
typedef struct kb_kafka_leaderless {
    const char *topic;
    int32_t partition;
    int error_number; /* out: the topic's error, 3 for a partition that it does not have, or 5 */
} kb_kafka_leaderless;
kb_code kb_kafka_live_explain(kb_kafka_admin *admin, kb_kafka_leaderless *items, size_t count,
                              const kb_kafka_call *call, kb_error *err);

#endif

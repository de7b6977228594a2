/*
 * kafka_groups_live - consumer groups of a real cluster, over librdkafka.
 *
 * One request for each group, pipelined. The library (2.8) can name the members of groups of the classic
 * protocol only; the state is known of both. Threads: as kafka_groups.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_GROUPS_LIVE_H
#define KB_WORKER_KAFKA_KAFKA_GROUPS_LIVE_H

#include "common/sync/breaker.h"
#include "worker/kafka/kafka_client.h"
#include "worker/kafka/kafka_groups.h"

/* breaker (may be NULL) is borrowed for the life of the object. Does not wait for a connection. */
kb_code kb_kafka_groups_new(const kb_kafka_options *options, kb_breaker *breaker,
                            kb_kafka_groups **ret_groups, kb_error *err) KB_CHECK;

#endif

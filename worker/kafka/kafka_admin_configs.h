/*
 * kafka_admin_configs - operations of the live Kafka admin: configs of topics and brokers.
 *
 * As kafka_admin.h describes them. For kafka_admin_live only. Threads: any.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_ADMIN_CONFIGS_H
#define KB_WORKER_KAFKA_KAFKA_ADMIN_CONFIGS_H

#include "worker/kafka/kafka_admin.h"

kb_code kb_kafka_live_describe_topic_configs(kb_kafka_admin *admin, const char *const *topics, size_t count,
                                             const kb_kafka_call *call, kb_kafka_configs **ret_array,
                                             kb_error *err);
kb_code kb_kafka_live_describe_broker_configs(kb_kafka_admin *admin, const kb_kafka_call *call,
                                              kb_kafka_configs **ret_one, kb_error *err);
kb_code kb_kafka_live_alter_topic_configs(kb_kafka_admin *admin, kb_kafka_alter *alters, size_t count,
                                          const kb_kafka_call *call, kb_error *err);

#endif

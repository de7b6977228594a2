/*
 * kafka_admin_groups - operations of the live Kafka admin: what a group has committed, and its deletion.
 *
 * As kafka_admin.h describes them. For kafka_admin_live only. Threads: any.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_ADMIN_GROUPS_H
#define KB_WORKER_KAFKA_KAFKA_ADMIN_GROUPS_H

#include "worker/kafka/kafka_admin.h"

kb_code kb_kafka_live_group_offsets(kb_kafka_admin *admin, const char *group, bool stable,
                                    kb_kafka_group_offset *offsets, size_t count, const kb_kafka_call *call,
                                    kb_error *err);
kb_code kb_kafka_live_delete_group(kb_kafka_admin *admin, const char *group, const kb_kafka_call *call,
                                   kb_error *err);

#endif

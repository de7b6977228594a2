/*
 * kafka_admin_groups - operations of the live Kafka admin: deletion of groups.
 *
 * As kafka_admin.h describes them. For kafka_admin_live only. Threads: any.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_ADMIN_GROUPS_H
#define KB_WORKER_KAFKA_KAFKA_ADMIN_GROUPS_H

#include "worker/kafka/kafka_admin.h"

kb_code kb_kafka_live_delete_group(kb_kafka_admin *admin, const char *group, const kb_kafka_call *call,
                                   kb_error *err);

#endif

/*
 * kafka_admin_offsets - operations of the live Kafka admin: offsets and deletion of records.
 *
 * As kafka_admin.h describes them. For kafka_admin_live only. Threads: any.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_ADMIN_OFFSETS_H
#define KB_WORKER_KAFKA_KAFKA_ADMIN_OFFSETS_H

#include "worker/kafka/kafka_admin.h"

kb_code kb_kafka_live_list_offsets(kb_kafka_admin *admin, kb_kafka_offset_kind kind,
                                   kb_kafka_offset_query *queries, size_t count, const kb_kafka_call *call,
                                   kb_error *err);
kb_code kb_kafka_live_delete_records(kb_kafka_admin *admin, kb_kafka_delete_records *deletes, size_t count,
                                     const kb_kafka_call *call, kb_error *err);

#endif

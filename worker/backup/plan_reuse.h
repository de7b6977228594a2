/*
 * plan_reuse - makes an incremental plan of a full one: compares each partition with the base
 * (storage-format, 12 and 13).
 *
 * Reads from Kafka only the records at the base's probes, and for up to 30 s the end of logs that are shorter
 * than the base. Threads: the caller's.
 */
#ifndef KB_WORKER_BACKUP_PLAN_REUSE_H
#define KB_WORKER_BACKUP_PLAN_REUSE_H

#include <stdbool.h>

#include "common/base/error.h"
#include "worker/backup/base.h"
#include "worker/backup/settings.h"
#include "worker/catalog/model.h"
#include "worker/kafka/kafka_admin.h"

/*
 * `plan` has topics, configs, log starts and cuts; from and to of its partitions are those of a full reading.
 * Sets base, depth, from, to and reuse_up_to, states and findings. *ret_has_news is false when the log holds
 * nothing that the base does not have. Errors: those of the store and of Kafka, KB_ERR_STOPPED.
 */
kb_code kb_plan_reuse(const kb_backup_settings *settings, kb_kafka_admin *admin, kb_base *base,
                      kb_backup *plan, bool *ret_has_news, kb_error *err) KB_CHECK;

#endif

/*
 * plan - what a new backup will hold: topics, partitions, configs and the cut, read from the cluster in few
 * requests.
 *
 * For all partitions, before any fetch: log start, high watermark, last stable offset; the last is the cut.
 * One metadata request, one for configs, three ListOffsets for each leader; in a lineage the plan is then
 * compared with the base (plan_reuse). Threads: any; calls wait for brokers.
 */
#ifndef KB_WORKER_BACKUP_PLAN_H
#define KB_WORKER_BACKUP_PLAN_H

#include "common/base/error.h"
#include "worker/backup/base.h"
#include "worker/backup/pipeline.h"
#include "worker/backup/settings.h"
#include "worker/catalog/model.h"
#include "worker/kafka/kafka_admin.h"

/*
 * With a lineage, `base` (empty before) becomes the backup that the plan builds upon, or stays empty.
 * *ret_has_news is false when there is nothing in the log that the base does not have. Errors: those of topic
 * selection, of the store and of the base; KB_KAFKA_UNREACHABLE naming the first partition that gave no
 * offsets; KB_KAFKA_ACCESS_DENIED. *ret_plan is owned.
 */
kb_code kb_backup_plan_make(const kb_backup_settings *settings, kb_kafka_admin *admin, const char *cluster_id,
                            kb_base *base, kb_backup **ret_plan, bool *ret_has_news, kb_error *err) KB_CHECK;

/*
 * Effective values for the topics of a plan, new or resumed; *ret_facts is an owned array in the plan's
 * order. A topic whose configs cannot be read counts as compacted.
 */
kb_code kb_backup_plan_facts(const kb_backup *plan, kb_kafka_admin *admin, kb_stop *stop,
                             kb_topic_facts **ret_facts, kb_error *err) KB_CHECK;

/* Whether a plan found in the journal is the one that this configuration would make. KB_CONFIG_INVALID says
 * where not. */
kb_code kb_backup_plan_check(const kb_backup *plan, const kb_worker_config *config, kb_error *err) KB_CHECK;

#endif

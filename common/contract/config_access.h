/*
 * config_access - the blocks that say how to get into a cluster or a store: what belongs together in them.
 *
 * Threads: pure but for access(2).
 */
#ifndef KB_COMMON_CONTRACT_CONFIG_ACCESS_H
#define KB_COMMON_CONTRACT_CONFIG_ACCESS_H

#include "common/contract/worker_config.h"

/* Checks a Kafka block that is given; path is "source" or "target". */
void kb_config_check_kafka(const kb_worker_config *config, const kb_config_kafka *kafka, const char *path,
                           kb_problems *problems);
/* Checks a storage block that is given; path is "storage" or "offsets.store". */
void kb_config_check_storage(const kb_worker_config *config, const kb_config_storage *storage,
                             const char *path, kb_problems *problems);

#endif

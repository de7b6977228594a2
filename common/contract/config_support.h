/*
 * config_support - settings that this version knows and does not do: refused by name, never ignored.
 *
 * Only what the command would use is looked at, save for resource and the backend.
 */
#ifndef KB_COMMON_CONTRACT_CONFIG_SUPPORT_H
#define KB_COMMON_CONTRACT_CONFIG_SUPPORT_H

#include "common/contract/worker_config.h"

/*
 * Refuses with KB_CONFIG_INVALID, one line for each setting. gssapi: whether the Kafka client was built with
 * it.
 */
kb_code kb_worker_config_check_supported(const kb_worker_config *config, kb_command command, bool gssapi,
                                         kb_error *err) KB_CHECK;

#endif

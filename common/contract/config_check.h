/*
 * config_check - what no single field can tell: keys that belong together, keys a command needs, names,
 * files.
 *
 * Everything found goes to a list of problems with the place of the key. Threads: pure but for access(2).
 */
#ifndef KB_COMMON_CONTRACT_CONFIG_CHECK_H
#define KB_COMMON_CONTRACT_CONFIG_CHECK_H

#include "common/contract/worker_config.h"

/* Checks a configuration that was read and completed; config->tree gives the places. */
void kb_config_check(const kb_worker_config *config, kb_command command, kb_problems *problems);
/* Adds an error at the key, or at the nearest block around it that is in the file. */
void kb_config_problem(const kb_worker_config *config, kb_problems *problems, kb_severity severity,
                       const char *path, const char *fmt, ...) KB_PRINTF(5, 6);

#endif

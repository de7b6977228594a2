/*
 * config_fields - the field tables of the worker's configuration: every key of worker.md section 5.
 *
 * One table for each block of kb_worker_config, with types, defaults, ranges, words and the line of
 * documentation. Static constants.
 */
#ifndef KB_COMMON_CONTRACT_CONFIG_FIELDS_H
#define KB_COMMON_CONTRACT_CONFIG_FIELDS_H

#include "common/data/schema.h"

extern const kb_schema kb_config_schema;         /* kb_worker_config */
extern const kb_schema kb_config_storage_schema; /* kb_config_storage */

/* The first word of each backend, "" for none. Static. */
const char *kb_config_backend_name(int backend);

#endif

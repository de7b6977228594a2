/*
 * config_location - a store as one word: the argument of --path.
 *
 * file:///dir or a plain path, s3://bucket/prefix?region=&endpoint=&path_style=&allow_http=,
 * azure://account/container/prefix?endpoint=&allow_http=, gs://bucket/prefix?endpoint=&allow_http=.
 * Threads: pure.
 */
#ifndef KB_COMMON_CONTRACT_CONFIG_LOCATION_H
#define KB_COMMON_CONTRACT_CONFIG_LOCATION_H

#include "common/contract/worker_config.h"

/*
 * A location of --path into an initialised storage block: file:///dir or a plain path; s3://, azure:// and
 * gs:// as worker.md section 1 has them. Fails with KB_USAGE_ERROR.
 */
kb_code kb_config_storage_parse_path(const char *location, kb_config_storage *storage,
                                     kb_error *err) KB_CHECK;
#endif

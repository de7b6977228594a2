/*
 * config_values - the values of the configuration that no plain field type describes: start_offset,
 * repartitioning, and times as RFC 3339.
 *
 * Threads: static constants.
 */
#ifndef KB_COMMON_CONTRACT_CONFIG_VALUES_H
#define KB_COMMON_CONTRACT_CONFIG_VALUES_H

#include "common/data/schema.h"

extern const kb_field_custom kb_config_start_offset_field;   /* kb_config_start_offset */
extern const kb_field_custom kb_config_repartitioning_field; /* kb_config_repartitioning */
extern const kb_field_custom kb_config_time_field;           /* kb_opt_i64, ms since 1970 */

#endif

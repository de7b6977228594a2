/*
 * capabilities - what the API server can do, as far as it makes a difference to us (operator.md section 14).
 *
 * Read at start and every 10 minutes from /version and /apis/batch. Threads: a value is immutable.
 */
#ifndef KB_OPERATOR_KUBE_CAPABILITIES_H
#define KB_OPERATOR_KUBE_CAPABILITIES_H

#include <stdbool.h>

#include <jansson.h>

#include "common/base/error.h"
#include "operator/kube/kube_client.h"

typedef struct kb_capabilities {
    int major, minor;
    bool has_cron_job_v1;             /* from 1.21; before: batch/v1beta1 */
    bool has_ttl_after_finished;      /* from 1.21: Jobs go by ttlSecondsAfterFinished */
    bool has_cron_schedules_in_zones; /* from 1.22: any but UTC */
    bool has_time_zone_field;         /* from 1.25 */
    bool has_cel;                     /* from 1.25: CRDs validate by CEL */
    bool has_pod_failure_policy;      /* from 1.26 */
    bool has_pod_replacement_policy;  /* from 1.29 */
    bool has_minute_slots;            /* from 1.21: Job names of a CronJob end in minutes, not seconds */
} kb_capabilities;

/* From the bodies of /version and /apis/batch. KB_ERR_FORMAT when the version cannot be read. */
kb_code kb_capabilities_from(const json_t *version, const json_t *batch_group, kb_capabilities *ret_caps,
                             kb_error *err) KB_CHECK;
/* Asks the server. */
kb_code kb_capabilities_read(kb_kube_client *client, kb_capabilities *ret_caps, kb_error *err) KB_CHECK;

#endif

/*
 * projection - what the stores keep of Jobs, CronJobs and pods: the fields that decide, and no more.
 *
 * Twenty thousand pods have to fit beside two thousand custom resources. Each function gives a new value.
 * Threads: pure.
 */
#ifndef KB_OPERATOR_RECONCILE_PROJECTION_H
#define KB_OPERATOR_RECONCILE_PROJECTION_H

#include <jansson.h>

json_t *kb_project_job(const json_t *job);
json_t *kb_project_cron_job(const json_t *cron_job);
json_t *kb_project_pod(const json_t *pod);
/* A custom resource as a whole, without managedFields. */
json_t *kb_project_resource(const json_t *object);

#endif

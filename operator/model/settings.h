/*
 * settings - what the installation says about the workers: the values of the chart that end up in pods.
 *
 * Given as one JSON document (--worker-settings, KB_WORKER_SETTINGS): the chart's `worker` block as it is
 * (toJson), with the members that the table in settings.c names; what is absent has the default of the
 * chart, unknown members are ignored. The image is the one member that must be there.
 *
 *     {"image": {"repository": "kafka-backup-worker", "tag": "1.0.0", "pullPolicy": "IfNotPresent"},
 *      "imagePullSecrets": [{"name": "x"}],          (the chart's own imagePullSecrets, added by it)
 *      "serviceAccount": {"name": "kafka-backup-worker", "annotations": {}, "labels": {},
 *                         "shareOperator": false, "operatorName": "kafka-backup-operator"},
 *      "resources": {...}, "podSecurityContext": {...}, "securityContext": {...}, "podAnnotations": {},
 *      "podLabels": {}, "nodeSelector": {}, "tolerations": [], "priorityClassName": "",
 *      "terminationGracePeriodSeconds": 120, "startDeadlineSeconds": 3600, "startJitterSeconds": 0,
 *      "jobHistory": {"successful": 5, "failed": 5}, "trustConfigMap": "kafka-backup-trust",
 *      "logging": {"level": "info", "format": "json"},
 *      "releaseNamespace": "kafka-backup",           (added by the chart)
 *      "clusterWideWorkloads": true, "workloadNamespaces": [], "watchNamespaces": []}
 *
 * Threads: immutable after reading.
 */
#ifndef KB_OPERATOR_MODEL_SETTINGS_H
#define KB_OPERATOR_MODEL_SETTINGS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"

#define KB_WORKER_ACCOUNT "kafka-backup-worker"

typedef struct kb_settings {
    json_t *owned;              /* keeps what follows */
    char *image;                /* repository:tag */
    char *pull_policy;          /* of the image */
    json_t *image_pull_secrets; /* borrowed from `owned` as are the following; never NULL */
    json_t *resources, *pod_security_context, *security_context;
    json_t *pod_annotations, *pod_labels, *node_selector, *tolerations;
    const char *priority_class_name; /* "" = none */
    const char *account;             /* name of the workers' ServiceAccount */
    json_t *account_annotations, *account_labels;
    bool share_operator_account;
    const char *operator_account;
    int64_t grace_seconds, start_deadline_seconds, start_jitter_seconds;
    int64_t history_successful, history_failed;
    const char *trust_config_map;
    const char *log_level, *log_format; /* NULL = not given */
    const char *release_namespace;
    bool cluster_wide_workloads;
    json_t *workload_namespaces, *watch_namespaces;
} kb_settings;

/* Reads the document. Fails with KB_CONFIG_INVALID naming the member. */
kb_code kb_settings_parse(const char *json, kb_settings *ret_settings, kb_error *err) KB_CHECK;
void kb_settings_done(kb_settings *settings);
/* Whether workloads may be made in a namespace (operator.md, section 13). */
bool kb_settings_serves(const kb_settings *settings, const char *namespace);

#endif

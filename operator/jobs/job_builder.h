/*
 * job_builder - Jobs, and the run configuration they mount (operator.md, sections 4.1 and 5).
 *
 * Threads: pure.
 */
#ifndef KB_OPERATOR_JOBS_JOB_BUILDER_H
#define KB_OPERATOR_JOBS_JOB_BUILDER_H

#include <jansson.h>

#include "operator/jobs/pod_template.h"
#include "operator/kube/capabilities.h"

/* A run configuration as text, and what follows from it. */
typedef struct kb_run_config {
    char *text;   /* owned */
    char *sha256; /* owned; 64 hex */
    char *name;   /* owned; of its ConfigMap */
} kb_run_config;

kb_code kb_run_config_make(const kb_render_input *input, kb_run_config *ret_config, kb_error *err) KB_CHECK;
void kb_run_config_done(kb_run_config *config);
/* The immutable ConfigMap; owned by the caller. */
json_t *kb_run_config_map(const kb_render_input *input, const kb_run_config *config)
    __attribute__((returns_nonnull));

/* A JobSpec around a pod; owned by the caller. */
json_t *kb_job_spec(const kb_pod_input *input, const kb_capabilities *caps) __attribute__((returns_nonnull));
/* A Job of the CR; owned by the caller. */
json_t *kb_job_object(const kb_pod_input *input, const kb_capabilities *caps, const char *name)
    __attribute__((returns_nonnull));
/* Annotations of a Job: those of its pods, and the hashes of a KafkaBackup. Owned by the caller. */
json_t *kb_job_annotations(const kb_pod_input *input) __attribute__((returns_nonnull));

/* The exit codes after which a Job is not repeated, ascending; *ret_count of them. Static. */
const int *kb_job_final_exit_codes(size_t *ret_count);

#endif

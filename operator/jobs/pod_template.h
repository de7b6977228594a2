/*
 * pod_template - the pod of a worker (operator.md, section 4.2).
 *
 * What a CR may say about its pod is what the parameters show; image, arguments, volumes, mounts and security
 * come from here and from the chart alone. Threads: pure.
 */
#ifndef KB_OPERATOR_JOBS_POD_TEMPLATE_H
#define KB_OPERATOR_JOBS_POD_TEMPLATE_H

#include <jansson.h>

#include "operator/jobs/config_render.h"

typedef struct kb_pod_input {
    const kb_render_input *render;
    const char *command;       /* "backup", "prune", "restore", ... */
    const char *account;       /* kb_worker_account */
    const char *config_map;    /* name of the run configuration */
    const char *config_sha256; /* its digest */
    const char *stamp;         /* YYYYMMDD-HHMMSS; NULL: a slot of the CronJob gives it */
    const char *trigger;       /* value of the trigger annotation; NULL: none */
} kb_pod_input;

/* The ServiceAccount of the workers of a CR. Borrowed from spec or settings. */
const char *kb_worker_account(const kb_spec *spec, const kb_settings *settings, const char *namespace);
/* Annotations that a Job and its pods share; owned by the caller. */
json_t *kb_run_annotations(const kb_pod_input *input) __attribute__((returns_nonnull));
/* A PodTemplateSpec; owned by the caller. */
json_t *kb_pod_template(const kb_pod_input *input) __attribute__((returns_nonnull));

#endif

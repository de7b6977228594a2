/*
 * kube_metrics - what the operator counts about itself (operator.md section 11, the rows of the runtime).
 *
 * All families are made at once, so that each shows from the start; the metrics of a custom resource belong
 * to reconcile/series. Threads: any. NULL is accepted by all functions and counts nothing.
 */
#ifndef KB_OPERATOR_KUBE_KUBE_METRICS_H
#define KB_OPERATOR_KUBE_KUBE_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/obs/metrics.h"

typedef struct kb_kube_metrics kb_kube_metrics;

/* Makes the families in `registry` (borrowed). */
kb_kube_metrics *kb_kube_metrics_new(kb_metrics *registry, const char *version)
    __attribute__((returns_nonnull));
void kb_kube_metrics_free(kb_kube_metrics *owned_metrics);

/* A request ended: verb "get", ...; method "GET"; http_status 0 when nothing was received. */
void kb_kube_metrics_request(kb_kube_metrics *metrics, const char *verb, const char *method, int http_status);
/* A watch stream began anew. resource is a plural. */
void kb_kube_metrics_watch_restart(kb_kube_metrics *metrics, const char *resource);
/* Malformed or oversized objects that were skipped. */
void kb_kube_metrics_skipped(kb_kube_metrics *metrics, const char *resource);
void kb_kube_metrics_event_dropped(kb_kube_metrics *metrics);
void kb_kube_metrics_leader(kb_kube_metrics *metrics, bool is_leader);
/* How many objects of a kind are in the store. */
void kb_kube_metrics_managed(kb_kube_metrics *metrics, const char *kind, size_t count);
/* One pass over a key. */
void kb_kube_metrics_reconciled(kb_kube_metrics *metrics, const char *controller, const char *name_space,
                                const char *name, bool is_failure, int64_t duration_us);
/* The per-object series of a deleted object. */
void kb_kube_metrics_forget(kb_kube_metrics *metrics, const char *controller, const char *name_space,
                            const char *name);
void kb_kube_metrics_queue(kb_kube_metrics *metrics, size_t depth, uint64_t added, uint64_t retried);

#endif

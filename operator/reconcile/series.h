/*
 * series - the metrics of custom resources (operator.md, section 11).
 *
 * The series of an object exist from its first pass, with 0 where nothing happened, and go when it is
 * deleted. Counters are the differences of status.totals, so they go on after a restart from what the status
 * says; histograms start at zero. Threads: any.
 */
#ifndef KB_OPERATOR_RECONCILE_SERIES_H
#define KB_OPERATOR_RECONCILE_SERIES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/obs/metrics.h"
#include "operator/model/kinds.h"

typedef struct kb_series kb_series;

/* Makes the families in `registry` (borrowed). */
kb_series *kb_series_new(kb_metrics *registry) __attribute__((returns_nonnull));
void kb_series_free(kb_series *owned_series);

/* What is not in the object. */
typedef struct kb_series_facts {
    int64_t schedule_interval_secs; /* 0 without a schedule */
} kb_series_facts;

/* Shows the state of an object (whole, with its newest status). */
void kb_series_update(kb_series *series, kb_kind kind, const json_t *object, const kb_series_facts *facts);
/* A run ended: "success" or "failure", its seconds (-1: unknown). */
void kb_series_observe(kb_series *series, kb_kind kind, const json_t *object, const char *outcome,
                       int64_t seconds);
/* The object is gone. */
void kb_series_drop(kb_series *series, kb_kind kind, const char *name_space, const char *name);

#endif

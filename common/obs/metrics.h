/*
 * metrics - a registry of counters, gauges and histograms in the Prometheus text format, version 0.0.4.
 *
 * A family has a name, a help text, a type and label names; a series is one set of label values in it. A
 * series shows as 0 from the moment it is made, so everything that can be counted is made at the start.
 * Threads: updates of a series are lock-free atomics from any thread; making, replacing and removing series
 * and rendering take the registry's lock. A kb_metric stays valid until its series is removed or replaced, or
 * the registry is freed. Label sets are bounded: a family that is full hands out a series that is counted but
 * never shown, so a caller needs no error path and hostile input no memory.
 * Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text-based format).
 */
#ifndef KB_COMMON_OBS_METRICS_H
#define KB_COMMON_OBS_METRICS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/base/strbuf.h"

#define KB_METRIC_LABELS_MAX 4
#define KB_METRIC_BOUNDS_MAX 16
/* Series in a family when the description sets no other bound. */
#define KB_METRIC_SERIES_MAX 10000
/* Content type of what kb_metrics_render writes. */
#define KB_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

typedef struct kb_metrics kb_metrics;
typedef struct kb_metric_family kb_metric_family;

typedef enum kb_metric_type { KB_METRIC_COUNTER, KB_METRIC_GAUGE, KB_METRIC_HISTOGRAM } kb_metric_type;

/* One series. Opaque in meaning, open in layout for the inline updates below. */
typedef struct kb_metric {
    _Atomic uint64_t value;    /* counter: the count; gauge: bits of the double; histogram: bits of the sum */
    _Atomic uint64_t *buckets; /* histogram: bound_count + 1, each counting only its own range */
    const double *bounds;
    size_t bound_count;
} kb_metric;

typedef struct kb_metric_desc {
    const char *name; /* [a-zA-Z_:][a-zA-Z0-9_:]*; this and all other texts live as long as the registry */
    const char *help;
    kb_metric_type type;
    const char *labels[KB_METRIC_LABELS_MAX]; /* names in the order of the values; the first NULL ends them */
    const double *bounds;                     /* histogram: upper bounds, ascending, without +Inf */
    size_t bound_count;                       /* <= KB_METRIC_BOUNDS_MAX */
    size_t max_series;                        /* 0 = KB_METRIC_SERIES_MAX */
} kb_metric_desc;

/* One row of a set that replaces the series of a gauge family. */
typedef struct kb_metric_row {
    const char *labels[KB_METRIC_LABELS_MAX];
    double value;
} kb_metric_row;

kb_metrics *kb_metrics_new(void);
void kb_metrics_free(kb_metrics *metrics);

/* Adds a family, or returns the one of that name. Families are rendered in the order of their making. */
kb_metric_family *kb_metrics_family(kb_metrics *metrics, const kb_metric_desc *desc);
/*
 * The series with these label values (as many as the family has label names; copied, escaped, invalid UTF-8
 * replaced), made with 0 when it does not exist. `values` may be NULL without labels. Never NULL.
 */
kb_metric *kb_metric_series(kb_metric_family *family, const char *const *values);
/* Removes one series; its kb_metric must not be used any more. Does nothing when there is none. */
void kb_metric_remove(kb_metric_family *family, const char *const *values);
/*
 * Replaces all series of a gauge family by the `max_rows` rows with the largest values (ties: the earlier
 * row). Readers see the old set or the new one. Kb_metric pointers into the family become invalid.
 */
void kb_metric_replace_top(kb_metric_family *family, const kb_metric_row *rows, size_t row_count,
                           size_t max_rows);

/* Called before each rendering, in the rendering thread and without the registry's lock, to refresh gauges.
 */
typedef void (*kb_metrics_collect_fn)(void *ctx);
/* Adds a collector; ctx must live until it is removed with kb_metrics_remove_collector or the registry ends.
 */
void kb_metrics_add_collector(kb_metrics *metrics, kb_metrics_collect_fn collect, void *ctx);
/* Removes it; when the call returns the collector is not running and will not run again. */
void kb_metrics_remove_collector(kb_metrics *metrics, kb_metrics_collect_fn collect, void *ctx);
/* Appends the text of all families to out. */
void kb_metrics_render(kb_metrics *metrics, kb_strbuf *out);

/* Counter: adds n. */
static inline void kb_metric_add(kb_metric *counter, uint64_t n)
{
    atomic_fetch_add_explicit(&counter->value, n, memory_order_relaxed);
}

/* Gauge: sets the value. */
static inline void kb_metric_set(kb_metric *gauge, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    atomic_store_explicit(&gauge->value, bits, memory_order_relaxed);
}

/* Gauge: the value. */
static inline double kb_metric_get(kb_metric *gauge)
{
    uint64_t bits = atomic_load_explicit(&gauge->value, memory_order_relaxed);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Counter: the count. */
static inline uint64_t kb_metric_count(kb_metric *counter)
{
    return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

/* Gauge: adds delta, which may be negative. */
void kb_metric_gauge_add(kb_metric *gauge, double delta);
/* Histogram: counts one observation. NaN is ignored. */
void kb_metric_observe(kb_metric *histogram, double value);

#endif

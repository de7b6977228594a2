#include "common/obs/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"

/* Longest text of one series' labels: four values of Kafka's longest names, escaped, stay far below. */
#define KB_METRIC_LABEL_TEXT_MAX (64u << 10)

typedef struct kb_series {
    kb_metric metric;
    char *labels; /* a="x",b="y" : also the key, so that equal values meet whatever bytes they came from */
} kb_series;

struct kb_metric_family {
    kb_metrics *owner;
    kb_metric_desc desc;
    size_t label_count;
    kb_series **series; /* ascending by labels */
    size_t count;
    size_t capacity;
    kb_series *overflow; /* what a full family hands out; never rendered */
};

typedef struct kb_collector {
    kb_metrics_collect_fn collect;
    void *ctx;
} kb_collector;

struct kb_metrics {
    pthread_mutex_t lock;         /* families and their series */
    pthread_mutex_t collect_lock; /* collectors; held while they run */
    kb_metric_family **families;
    size_t count;
    size_t capacity;
    kb_collector *collectors;
    size_t collector_count;
    size_t collector_capacity;
};

static kb_series *series_new(const kb_metric_desc *desc, char *owned_labels)
{
    kb_series *series = kb_calloc(1, sizeof *series);
    series->labels = owned_labels;
    if (desc->type == KB_METRIC_HISTOGRAM) {
        series->metric.bounds = desc->bounds;
        series->metric.bound_count = desc->bound_count;
        series->metric.buckets = kb_calloc(desc->bound_count + 1, sizeof *series->metric.buckets);
    }
    return series;
}

static void series_free(kb_series *series)
{
    if (series == NULL)
        return;
    free(series->metric.buckets);
    free(series->labels);
    free(series);
}

static void family_clear(kb_metric_family *family)
{
    for (size_t i = 0; i < family->count; i++)
        series_free(family->series[i]);
    family->count = 0;
}

kb_metrics *kb_metrics_new(void)
{
    kb_metrics *metrics = kb_calloc(1, sizeof *metrics);
    pthread_mutex_init(&metrics->lock, NULL);
    pthread_mutex_init(&metrics->collect_lock, NULL);
    return metrics;
}

void kb_metrics_free(kb_metrics *metrics)
{
    if (metrics == NULL)
        return;
    for (size_t i = 0; i < metrics->count; i++) {
        family_clear(metrics->families[i]);
        series_free(metrics->families[i]->overflow);
        free(metrics->families[i]->series);
        free(metrics->families[i]);
    }
    free(metrics->families);
    free(metrics->collectors);
    pthread_mutex_destroy(&metrics->lock);
    pthread_mutex_destroy(&metrics->collect_lock);
    free(metrics);
}

kb_metric_family *kb_metrics_family(kb_metrics *metrics, const kb_metric_desc *desc)
{
    pthread_mutex_lock(&metrics->lock);
    kb_metric_family *family = NULL;
    for (size_t i = 0; i < metrics->count && family == NULL; i++)
        if (strcmp(metrics->families[i]->desc.name, desc->name) == 0)
            family = metrics->families[i];
    if (family == NULL) {
        family = kb_calloc(1, sizeof *family);
        family->owner = metrics;
        family->desc = *desc;
        if (family->desc.max_series == 0)
            family->desc.max_series = KB_METRIC_SERIES_MAX;
        while (family->label_count < KB_METRIC_LABELS_MAX && desc->labels[family->label_count] != NULL)
            family->label_count++;
        metrics->families =
            kb_grow(metrics->families, metrics->count, &metrics->capacity, sizeof *metrics->families);
        metrics->families[metrics->count++] = family;
    }
    pthread_mutex_unlock(&metrics->lock);
    return family;
}

/* A label value: backslash, quote and newline escaped, bytes that are not UTF-8 replaced. */
static void append_label_value(kb_strbuf *out, const char *value)
{
    size_t left = strlen(value);
    while (left > 0) {
        size_t step = kb_utf8_step(value, left);
        if (step == 0)
            kb_strbuf_appends(out, "\xEF\xBF\xBD");
        else if (*value == '\n')
            kb_strbuf_appends(out, "\\n");
        else if (*value == '\\' || *value == '"')
            kb_strbuf_appendf(out, "\\%c", *value);
        else
            kb_strbuf_append(out, value, step);
        step = step == 0 ? 1 : step;
        value += step;
        left -= step;
    }
}

/* The key of a series, or NULL when its labels are longer than any that should be shown. */
static char *label_text(const kb_metric_family *family, const char *const *values)
{
    KB_AUTO_STRBUF(text, KB_METRIC_LABEL_TEXT_MAX);
    for (size_t i = 0; i < family->label_count; i++) {
        kb_strbuf_appendf(&text, "%s%s=\"", i > 0 ? "," : "", family->desc.labels[i]);
        append_label_value(&text, values[i] != NULL ? values[i] : "");
        kb_strbuf_appendc(&text, '"');
    }
    return kb_strbuf_take(&text);
}

/* Where labels are or belong; *ret_found says which. */
static size_t series_position(const kb_metric_family *family, const char *labels, bool *ret_found)
{
    size_t low = 0;
    size_t high = family->count;
    *ret_found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(family->series[middle]->labels, labels);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The series of these labels, made when it is missing; NULL when the family is full. */
static kb_series *series_at(kb_metric_family *family, char *owned_labels)
{
    KB_AUTOFREE char *labels = owned_labels;
    if (labels == NULL)
        return NULL;
    bool found;
    size_t at = series_position(family, labels, &found);
    if (found)
        return family->series[at];
    if (family->count >= family->desc.max_series)
        return NULL;
    family->series = kb_grow(family->series, family->count, &family->capacity, sizeof(kb_series *));
    memmove(&family->series[at + 1], &family->series[at], (family->count - at) * sizeof(kb_series *));
    family->series[at] = series_new(&family->desc, KB_TAKE(labels));
    family->count++;
    return family->series[at];
}

kb_metric *kb_metric_series(kb_metric_family *family, const char *const *values)
{
    char *labels = label_text(family, values);
    pthread_mutex_lock(&family->owner->lock);
    kb_series *series = series_at(family, labels);
    if (series == NULL) {
        if (family->overflow == NULL)
            family->overflow = series_new(&family->desc, NULL);
        series = family->overflow;
    }
    pthread_mutex_unlock(&family->owner->lock);
    return &series->metric;
}

void kb_metric_remove(kb_metric_family *family, const char *const *values)
{
    KB_AUTOFREE char *labels = label_text(family, values);
    if (labels == NULL)
        return;
    pthread_mutex_lock(&family->owner->lock);
    bool found;
    size_t at = series_position(family, labels, &found);
    if (found) {
        series_free(family->series[at]);
        family->count--;
        memmove(&family->series[at], &family->series[at + 1], (family->count - at) * sizeof(kb_series *));
    }
    pthread_mutex_unlock(&family->owner->lock);
}

static int compare_rows(const void *left, const void *right)
{
    const kb_metric_row *a = *(const kb_metric_row *const *)left;
    const kb_metric_row *b = *(const kb_metric_row *const *)right;
    if (a->value != b->value)
        return a->value > b->value ? -1 : 1;
    return a < b ? -1 : a > b;
}

void kb_metric_replace_top(kb_metric_family *family, const kb_metric_row *rows, size_t row_count,
                           size_t max_rows)
{
    KB_AUTOFREE const kb_metric_row **order = kb_calloc(row_count + 1, sizeof *order);
    for (size_t i = 0; i < row_count; i++)
        order[i] = &rows[i];
    if (row_count > max_rows)
        qsort(order, row_count, sizeof *order, compare_rows);
    pthread_mutex_lock(&family->owner->lock);
    family_clear(family);
    for (size_t i = 0; i < row_count && i < max_rows; i++) {
        kb_series *series = series_at(family, label_text(family, order[i]->labels));
        if (series != NULL)
            kb_metric_set(&series->metric, order[i]->value);
    }
    pthread_mutex_unlock(&family->owner->lock);
}

void kb_metrics_add_collector(kb_metrics *metrics, kb_metrics_collect_fn collect, void *ctx)
{
    pthread_mutex_lock(&metrics->collect_lock);
    metrics->collectors = kb_grow(metrics->collectors, metrics->collector_count, &metrics->collector_capacity,
                                  sizeof *metrics->collectors);
    metrics->collectors[metrics->collector_count++] = (kb_collector){collect, ctx};
    pthread_mutex_unlock(&metrics->collect_lock);
}

void kb_metrics_remove_collector(kb_metrics *metrics, kb_metrics_collect_fn collect, void *ctx)
{
    pthread_mutex_lock(&metrics->collect_lock);
    size_t kept = 0;
    for (size_t i = 0; i < metrics->collector_count; i++)
        if (metrics->collectors[i].collect != collect || metrics->collectors[i].ctx != ctx)
            metrics->collectors[kept++] = metrics->collectors[i];
    metrics->collector_count = kept;
    pthread_mutex_unlock(&metrics->collect_lock);
}

/* The shortest of the two forms that reads back as the same double. */
static void append_double(kb_strbuf *out, double value)
{
    if (isnan(value)) {
        kb_strbuf_appends(out, "NaN");
        return;
    }
    if (isinf(value)) {
        kb_strbuf_appends(out, value > 0 ? "+Inf" : "-Inf");
        return;
    }
    KB_AUTOFREE char *text = kb_asprintf("%.15g", value);
    if (strtod(text, NULL) == value)
        kb_strbuf_appends(out, text);
    else
        kb_strbuf_appendf(out, "%.17g", value);
}

static void append_help(kb_strbuf *out, const char *help)
{
    for (; *help != '\0'; help++) {
        if (*help == '\\')
            kb_strbuf_appends(out, "\\\\");
        else if (*help == '\n')
            kb_strbuf_appends(out, "\\n");
        else
            kb_strbuf_appendc(out, *help);
    }
}

static void append_braced(kb_strbuf *out, const char *labels)
{
    if (labels[0] != '\0')
        kb_strbuf_appendf(out, "{%s}", labels);
}

static void render_histogram(kb_strbuf *out, const char *name, kb_series *series)
{
    kb_metric *metric = &series->metric;
    const char *comma = series->labels[0] != '\0' ? "," : "";
    uint64_t total = 0;
    for (size_t i = 0; i <= metric->bound_count; i++) {
        total += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
        kb_strbuf_appendf(out, "%s_bucket{%s%sle=\"", name, series->labels, comma);
        append_double(out, i < metric->bound_count ? metric->bounds[i] : (double)INFINITY);
        kb_strbuf_appendf(out, "\"} %" PRIu64 "\n", total);
    }
    kb_strbuf_appendf(out, "%s_sum", name);
    append_braced(out, series->labels);
    kb_strbuf_appendc(out, ' ');
    append_double(out, kb_metric_get(metric));
    kb_strbuf_appendf(out, "\n%s_count", name);
    append_braced(out, series->labels);
    /* The count comes from the buckets, so that it agrees with +Inf while others observe. */
    kb_strbuf_appendf(out, " %" PRIu64 "\n", total);
}

static void render_family(kb_strbuf *out, const kb_metric_family *family)
{
    static const char *const TYPES[] = {"counter", "gauge", "histogram"};
    const char *name = family->desc.name;
    kb_strbuf_appendf(out, "# HELP %s ", name);
    append_help(out, family->desc.help);
    kb_strbuf_appendf(out, "\n# TYPE %s %s\n", name, TYPES[family->desc.type]);
    for (size_t i = 0; i < family->count; i++) {
        kb_series *series = family->series[i];
        if (family->desc.type == KB_METRIC_HISTOGRAM) {
            render_histogram(out, name, series);
            continue;
        }
        kb_strbuf_appends(out, name);
        append_braced(out, series->labels);
        kb_strbuf_appendc(out, ' ');
        if (family->desc.type == KB_METRIC_COUNTER)
            kb_strbuf_appendf(out, "%" PRIu64, kb_metric_count(&series->metric));
        else
            append_double(out, kb_metric_get(&series->metric));
        kb_strbuf_appendc(out, '\n');
    }
}

void kb_metrics_render(kb_metrics *metrics, kb_strbuf *out)
{
    pthread_mutex_lock(&metrics->collect_lock);
    for (size_t i = 0; i < metrics->collector_count; i++)
        metrics->collectors[i].collect(metrics->collectors[i].ctx);
    pthread_mutex_unlock(&metrics->collect_lock);
    pthread_mutex_lock(&metrics->lock);
    for (size_t i = 0; i < metrics->count; i++)
        if (metrics->families[i]->count > 0)
            render_family(out, metrics->families[i]);
    pthread_mutex_unlock(&metrics->lock);
}

void kb_metric_gauge_add(kb_metric *gauge, double delta)
{
    uint64_t old = atomic_load_explicit(&gauge->value, memory_order_relaxed);
    uint64_t bits;
    do {
        double value;
        memcpy(&value, &old, sizeof value);
        value += delta;
        memcpy(&bits, &value, sizeof bits);
    } while (!atomic_compare_exchange_weak_explicit(&gauge->value, &old, bits, memory_order_relaxed,
                                                    memory_order_relaxed));
}

void kb_metric_observe(kb_metric *histogram, double value)
{
    if (isnan(value))
        return;
    size_t at = 0;
    while (at < histogram->bound_count && value > histogram->bounds[at])
        at++;
    atomic_fetch_add_explicit(&histogram->buckets[at], 1, memory_order_relaxed);
    kb_metric_gauge_add(histogram, value);
}

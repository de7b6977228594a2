#include "operator/kube/kube_metrics.h"

#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/file.h"
#include "common/base/mem.h"

struct kb_kube_metrics {
    kb_metrics *registry;
    kb_metric_family *api_requests, *rest_requests, *watch_restarts, *skipped, *managed;
    kb_metric_family *reconciled, *reconcile_errors, *reconcile_duration, *cr_total, *cr_errors;
    kb_metric *events_dropped, *is_leader;
    kb_metric *queue_depth, *queue_adds, *queue_retries, *wq_depth, *wq_adds, *wq_retries;
    kb_metric *cpu_seconds, *resident_bytes, *virtual_bytes, *open_fds;
    pthread_mutex_t mutex; /* of the two below */
    uint64_t added_before, retried_before;
};

static const double DURATION_BOUNDS[] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};

static kb_metric_family *family(kb_metrics *registry, kb_metric_type type, const char *name, const char *help,
                                const char *const *labels)
{
    kb_metric_desc desc = {.name = name, .help = help, .type = type};
    for (size_t i = 0; labels != NULL && labels[i] != NULL; i++)
        desc.labels[i] = labels[i];
    if (type == KB_METRIC_HISTOGRAM) {
        desc.bounds = DURATION_BOUNDS;
        desc.bound_count = KB_ARRAY_LEN(DURATION_BOUNDS);
    }
    return kb_metrics_family(registry, &desc);
}

static kb_metric *single(kb_metrics *registry, kb_metric_type type, const char *name, const char *help)
{
    return kb_metric_series(family(registry, type, name, help, NULL), NULL);
}

#define LABELS(...) \
    (const char *const[]) \
    { \
        __VA_ARGS__, NULL \
    }

static void make_reconcile(kb_kube_metrics *m)
{
    const char *const *object_labels = LABELS("controller", "namespace", "name");
    m->reconciled = family(m->registry, KB_METRIC_COUNTER, "kafka_backup_operator_reconciliations_total",
                           "Reconciliations done", object_labels);
    m->reconcile_errors =
        family(m->registry, KB_METRIC_COUNTER, "kafka_backup_operator_reconciliation_errors_total",
               "Reconciliations that failed", object_labels);
    m->reconcile_duration =
        family(m->registry, KB_METRIC_HISTOGRAM, "kafka_backup_operator_reconciliation_duration_seconds",
               "Time of one reconciliation", LABELS("controller"));
    m->cr_total = family(m->registry, KB_METRIC_COUNTER, "controller_runtime_reconcile_total",
                         "Reconciliations by controller and result", LABELS("controller", "result"));
    m->cr_errors = family(m->registry, KB_METRIC_COUNTER, "controller_runtime_reconcile_errors_total",
                          "Reconciliations that failed by controller", LABELS("controller"));
}

static void make_queue(kb_kube_metrics *m)
{
    m->queue_depth =
        single(m->registry, KB_METRIC_GAUGE, "kafka_backup_operator_workqueue_depth", "Keys waiting");
    m->queue_adds =
        single(m->registry, KB_METRIC_COUNTER, "kafka_backup_operator_workqueue_adds_total", "Keys added");
    m->queue_retries = single(m->registry, KB_METRIC_COUNTER, "kafka_backup_operator_workqueue_retries_total",
                              "Keys retried");
    const char *const *labels = LABELS("name");
    const char *const *values = LABELS("kafka-backup");
    m->wq_depth = kb_metric_series(
        family(m->registry, KB_METRIC_GAUGE, "workqueue_depth", "Keys waiting", labels), values);
    m->wq_adds = kb_metric_series(
        family(m->registry, KB_METRIC_COUNTER, "workqueue_adds_total", "Keys added", labels), values);
    m->wq_retries = kb_metric_series(
        family(m->registry, KB_METRIC_COUNTER, "workqueue_retries_total", "Keys retried", labels), values);
}

static void make_api(kb_kube_metrics *m)
{
    m->api_requests = family(m->registry, KB_METRIC_COUNTER, "kafka_backup_operator_api_requests_total",
                             "Requests to the API server", LABELS("verb", "code"));
    m->rest_requests = family(m->registry, KB_METRIC_COUNTER, "rest_client_requests_total",
                              "Requests to the API server by code and method", LABELS("code", "method"));
    m->watch_restarts = family(m->registry, KB_METRIC_COUNTER, "kafka_backup_operator_watch_restarts_total",
                               "Watch streams begun anew", LABELS("resource"));
    m->skipped = family(m->registry, KB_METRIC_COUNTER, "kafka_backup_operator_objects_skipped_total",
                        "Malformed or oversized objects that were skipped", LABELS("resource"));
    m->managed = family(m->registry, KB_METRIC_GAUGE, "kafka_backup_operator_managed_resources",
                        "Objects known", LABELS("kind"));
    m->events_dropped = single(m->registry, KB_METRIC_COUNTER, "kafka_backup_operator_events_dropped_total",
                               "Events not sent");
    m->is_leader =
        single(m->registry, KB_METRIC_GAUGE, "kafka_backup_operator_leader", "1 while this one leads");
}

/* ---- process_*, as every Prometheus client names them ---- */

static int64_t read_pages(const char *text, unsigned column)
{
    int64_t pages = 0;
    for (; column > 0; column--)
        text += strcspn(text, " ") + 1;
    return kb_parse_i64_len(text, strspn(text, "0123456789"), &pages) ? pages : 0;
}

static double count_fds(void)
{
    double count = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL)
        return 0;
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
        count += entry->d_name[0] != '.' ? 1 : 0;
    (void)closedir(dir);
    return count - 1;
}

static void collect_process(void *ctx)
{
    kb_kube_metrics *m = ctx;
    KB_AUTO_ERROR(err);
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        kb_metric_set(m->cpu_seconds, (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                                          (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    KB_AUTOFREE uint8_t *statm = NULL;
    size_t len;
    if (kb_file_read("/proc/self/statm", 4096, &statm, &len, &err) == KB_OK) {
        const double page = (double)sysconf(_SC_PAGESIZE);
        kb_metric_set(m->virtual_bytes, (double)read_pages((const char *)statm, 0) * page);
        kb_metric_set(m->resident_bytes, (double)read_pages((const char *)statm, 1) * page);
    }
    kb_metric_set(m->open_fds, count_fds());
}

static void make_process(kb_kube_metrics *m)
{
    m->cpu_seconds = single(m->registry, KB_METRIC_GAUGE, "process_cpu_seconds_total", "CPU time used");
    m->resident_bytes =
        single(m->registry, KB_METRIC_GAUGE, "process_resident_memory_bytes", "Resident memory size");
    m->virtual_bytes =
        single(m->registry, KB_METRIC_GAUGE, "process_virtual_memory_bytes", "Virtual memory size");
    m->open_fds = single(m->registry, KB_METRIC_GAUGE, "process_open_fds", "Open file descriptors");
    kb_metric *started =
        single(m->registry, KB_METRIC_GAUGE, "process_start_time_seconds", "Unix time of the start");
    kb_metric_set(started, (double)kb_clock_wall_ms() / 1000.0);
    kb_metrics_add_collector(m->registry, collect_process, m);
}

kb_kube_metrics *kb_kube_metrics_new(kb_metrics *registry, const char *version)
{
    kb_kube_metrics *m = kb_calloc(1, sizeof *m);
    m->registry = registry;
    pthread_mutex_init(&m->mutex, NULL);
    kb_metric_family *info = family(registry, KB_METRIC_GAUGE, "kafka_backup_operator_build_info",
                                    "1 beside the version", LABELS("version"));
    kb_metric_set(kb_metric_series(info, LABELS(version)), 1);
    make_reconcile(m);
    make_queue(m);
    make_api(m);
    make_process(m);
    return m;
}

void kb_kube_metrics_free(kb_kube_metrics *owned_metrics)
{
    if (owned_metrics == NULL)
        return;
    kb_metrics_remove_collector(owned_metrics->registry, collect_process, owned_metrics);
    pthread_mutex_destroy(&owned_metrics->mutex);
    free(owned_metrics);
}

void kb_kube_metrics_request(kb_kube_metrics *metrics, const char *verb, const char *method, int http_status)
{
    if (metrics == NULL)
        return;
    KB_AUTOFREE char *code = http_status > 0 ? kb_asprintf("%d", http_status) : kb_strdup("<error>");
    kb_metric_add(kb_metric_series(metrics->api_requests, LABELS(verb, code)), 1);
    kb_metric_add(kb_metric_series(metrics->rest_requests, LABELS(code, method)), 1);
}

void kb_kube_metrics_watch_restart(kb_kube_metrics *metrics, const char *resource)
{
    if (metrics != NULL)
        kb_metric_add(kb_metric_series(metrics->watch_restarts, LABELS(resource)), 1);
}

void kb_kube_metrics_skipped(kb_kube_metrics *metrics, const char *resource)
{
    if (metrics != NULL)
        kb_metric_add(kb_metric_series(metrics->skipped, LABELS(resource)), 1);
}

void kb_kube_metrics_event_dropped(kb_kube_metrics *metrics)
{
    if (metrics != NULL)
        kb_metric_add(metrics->events_dropped, 1);
}

void kb_kube_metrics_leader(kb_kube_metrics *metrics, bool is_leader)
{
    if (metrics != NULL)
        kb_metric_set(metrics->is_leader, is_leader ? 1 : 0);
}

void kb_kube_metrics_managed(kb_kube_metrics *metrics, const char *kind, size_t count)
{
    if (metrics != NULL)
        kb_metric_set(kb_metric_series(metrics->managed, LABELS(kind)), (double)count);
}

void kb_kube_metrics_reconciled(kb_kube_metrics *metrics, const char *controller, const char *name_space,
                                const char *name, bool is_failure, int64_t duration_us)
{
    if (metrics == NULL)
        return;
    const char *const *object = LABELS(controller, name_space, name);
    kb_metric_add(kb_metric_series(metrics->reconciled, object), 1);
    kb_metric_add(kb_metric_series(metrics->reconcile_errors, object), is_failure ? 1 : 0);
    kb_metric_observe(kb_metric_series(metrics->reconcile_duration, LABELS(controller)),
                      (double)duration_us / 1e6);
    kb_metric_add(kb_metric_series(metrics->cr_total, LABELS(controller, is_failure ? "error" : "success")),
                  1);
    kb_metric_add(kb_metric_series(metrics->cr_errors, LABELS(controller)), is_failure ? 1 : 0);
}

void kb_kube_metrics_forget(kb_kube_metrics *metrics, const char *controller, const char *name_space,
                            const char *name)
{
    if (metrics == NULL)
        return;
    const char *const *object = LABELS(controller, name_space, name);
    kb_metric_remove(metrics->reconciled, object);
    kb_metric_remove(metrics->reconcile_errors, object);
}

void kb_kube_metrics_queue(kb_kube_metrics *metrics, size_t depth, uint64_t added, uint64_t retried)
{
    if (metrics == NULL)
        return;
    kb_metric_set(metrics->queue_depth, (double)depth);
    kb_metric_set(metrics->wq_depth, (double)depth);
    pthread_mutex_lock(&metrics->mutex);
    const uint64_t more_added = added > metrics->added_before ? added - metrics->added_before : 0;
    const uint64_t more_retried = retried > metrics->retried_before ? retried - metrics->retried_before : 0;
    metrics->added_before += more_added;
    metrics->retried_before += more_retried;
    pthread_mutex_unlock(&metrics->mutex);
    kb_metric_add(metrics->queue_adds, more_added);
    kb_metric_add(metrics->wq_adds, more_added);
    kb_metric_add(metrics->queue_retries, more_retried);
    kb_metric_add(metrics->wq_retries, more_retried);
}

/* kafka-backup-operator: turns custom resources into Jobs. Here: start, stop, health (operator.md section 1).
 */
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/contract/version.h"
#include "common/obs/httpd.h"
#include "common/obs/metrics.h"
#include "common/sync/wait.h"
#include "operator/ctrl/controller.h"
#include "operator/ctrl/events.h"
#include "operator/ctrl/options.h"
#include "operator/ctrl/self_check.h"
#include "operator/ctrl/watchdog.h"
#include "operator/kube/capabilities.h"
#include "operator/kube/informer.h"
#include "operator/kube/kube_client.h"
#include "operator/kube/kube_config.h"
#include "operator/kube/lease.h"
#include "operator/model/settings.h"
#include "operator/reconcile/reconciler.h"
#include "operator/reconcile/runtime.h"

#define USER_AGENT "kafka-backup-operator/" KB_VERSION
#define LOOK_MS 250
#define CAPABILITIES_MS 600000
#define WORK_MS 30000
#define WORK_CUT_MS 3000
#define EVENTS_MS 2000
#define REPORT_MAX (1u << 20)

typedef struct program {
    kb_operator_options options;
    kb_settings settings;
    kb_stop *stop; /* SIGTERM, SIGINT: no new work */
    kb_stop *cut;  /* work that is not done by then is cut off */
    kb_kube_access *access;
    kb_kube_client *client;
    const char *name_space;
    kb_metrics *registry;
    kb_kube_metrics *metrics;
    kb_watchdog *watchdog;
    kb_beat *beat;
    kb_httpd *metrics_httpd, *health_httpd;
    kb_events *events;
    kb_runtime *runtime;
    _Atomic(kb_informers *) informers; /* NULL until they run */
    kb_controller *controller;
    kb_elector *elector;
    atomic_bool is_leader, is_lost;
    bool is_working;
    int64_t capabilities_at_ms;
} program;

/* ---- health; in the threads of httpd ---- */

static int healthz(void *ctx, kb_strbuf *body)
{
    program *p = ctx;
    if (!kb_watchdog_is_well(p->watchdog, body))
        return 500;
    kb_strbuf_appends(body, "ok\n");
    return 200;
}

static int readyz(void *ctx, kb_strbuf *body)
{
    program *p = ctx;
    kb_informers *informers = atomic_load(&p->informers);
    if (informers == NULL) {
        kb_strbuf_appends(body, "the API server has not answered yet\n");
        return 500;
    }
    if (!kb_informers_is_synced(informers, body))
        return 500;
    kb_strbuf_appends(body, "ok\n");
    return 200;
}

static kb_code start_httpd(program *p, uint16_t port, bool has_metrics, kb_httpd **ret_httpd, kb_error *err)
{
    const kb_httpd_options options = {.bind_address = "::",
                                      .port = port,
                                      .metrics_path = p->options.metrics_path,
                                      .metrics = has_metrics ? p->registry : NULL,
                                      .healthz = healthz,
                                      .readyz = readyz,
                                      .ctx = p};
    KB_AUTO_ERROR(first);
    if (port == 0 || kb_httpd_start(&options, ret_httpd, &first) == KB_OK)
        return KB_OK;
    /* A node without IPv6. */
    kb_httpd_options ipv4 = options;
    ipv4.bind_address = "0.0.0.0";
    return kb_httpd_start(&ipv4, ret_httpd, err);
}

/* ---- start ---- */

static void beat_main(program *p)
{
    kb_watchdog_beat(p->beat);
}

static kb_code connect(program *p, kb_error *err)
{
    kb_code code = kb_kube_config_load(p->options.kubeconfig, NULL, &p->access, err);
    if (code != KB_OK)
        return code;
    p->name_space =
        p->options.name_space != NULL ? p->options.name_space : kb_kube_access_namespace(p->access);
    const kb_kube_client_options options = {.access = p->access,
                                            .stop = p->cut,
                                            .qps = p->options.qps,
                                            .burst = p->options.burst,
                                            .user_agent = USER_AGENT,
                                            .metrics = p->metrics};
    return kb_kube_client_new(&options, &p->client, err);
}

static kb_code begin(program *p, kb_error *err)
{
    p->registry = kb_metrics_new();
    p->metrics = kb_kube_metrics_new(p->registry, KB_VERSION);
    p->watchdog = kb_watchdog_new(NULL);
    p->beat = kb_watchdog_add(p->watchdog, "main");
    kb_code code = kb_stop_new(&p->stop, err);
    if (code == KB_OK)
        code = kb_stop_on_signals(p->stop, err);
    if (code == KB_OK)
        code = kb_stop_new(&p->cut, err);
    if (code == KB_OK)
        code = connect(p, err);
    return code;
}

/* Asks until the server answers; false: stopped before that. */
static bool learn_capabilities(program *p, kb_capabilities *caps)
{
    kb_backoff backoff;
    kb_backoff_init(&backoff, 500, 5000, NULL, NULL);
    while (!kb_stop_requested(p->stop)) {
        KB_AUTO_ERROR(err);
        beat_main(p);
        if (kb_capabilities_read(p->client, caps, &err) == KB_OK) {
            p->capabilities_at_ms = kb_clock_boot_ms();
            kb_log(KB_LOG_INFO, "the API server answers", KB_INT("major", caps->major),
                   KB_INT("minor", caps->minor));
            return true;
        }
        kb_log_limited(KB_LOG_WARN, "the API server does not answer, will be asked again", KB_ERRTEXT(&err));
        if (kb_backoff_wait(&backoff, p->stop))
            break;
    }
    return false;
}

static void on_lead(void *ctx)
{
    program *p = ctx;
    atomic_store(&p->is_leader, true);
}

static void on_lost(void *ctx)
{
    program *p = ctx;
    atomic_store(&p->is_lost, true);
}

typedef struct elector_ctx {
    program *program;
    kb_beat *beat;
} elector_ctx;

static void beat_elector(void *ctx)
{
    kb_watchdog_beat(((elector_ctx *)ctx)->beat);
}

static void lead_elector(void *ctx)
{
    on_lead(((elector_ctx *)ctx)->program);
}

static void lose_elector(void *ctx)
{
    on_lost(((elector_ctx *)ctx)->program);
}

static kb_code start_elector(program *p, elector_ctx *ctx, kb_error *err)
{
    if (!p->options.leader_election) {
        kb_kube_metrics_leader(p->metrics, true);
        on_lead(p);
        return KB_OK;
    }
    *ctx = (elector_ctx){.program = p, .beat = kb_watchdog_add(p->watchdog, "elector")};
    const kb_elector_options options = {
        .client = p->client,
        .name_space = p->name_space,
        .name = p->options.lease_name,
        .times = {p->options.lease_duration_ms, p->options.renew_deadline_ms, p->options.retry_period_ms},
        .metrics = p->metrics,
        .on_lead = lead_elector,
        .on_lost = lose_elector,
        .beat = beat_elector,
        .ctx = ctx};
    const kb_code code = kb_elector_start(&options, &p->elector, err);
    if (code == KB_OK)
        kb_kube_client_set_gate(p->client, kb_elector_may_write, p->elector);
    return code;
}

static kb_code start_events(program *p, kb_error *err)
{
    const kb_events_options options = {.client = p->client,
                                       .instance = p->options.pod_name,
                                       .metrics = p->metrics,
                                       .beat = kb_watchdog_beat_ctx,
                                       .ctx = kb_watchdog_add(p->watchdog, "events")};
    return kb_events_start(&options, &p->events, err);
}

static kb_code start_informers(program *p, const kb_capabilities *caps, kb_error *err)
{
    const kb_runtime_options runtime = {.client = p->client,
                                        .events = p->events,
                                        .settings = &p->settings,
                                        .metrics = p->metrics,
                                        .registry = p->registry,
                                        .caps = *caps};
    p->runtime = kb_runtime_new(&runtime);
    const kb_controller_options controller = {
        .threads = (size_t)p->options.concurrency, .watchdog = p->watchdog, .metrics = p->metrics};
    p->controller = kb_controller_new(&controller);
    const kb_informers_options options = {.access = p->access,
                                          .user_agent = USER_AGENT,
                                          .metrics = p->metrics,
                                          .beat = kb_watchdog_beat_ctx,
                                          .beat_ctx = kb_watchdog_add(p->watchdog, "informers")};
    kb_informers *informers = kb_informers_new(&options);
    kb_reconciler_add_informers(p->runtime, informers, (const char *const *)p->options.watch_namespaces,
                                p->options.watch_namespace_count);
    kb_reconciler_add_kinds(p->runtime, p->controller);
    const kb_code code = kb_informers_start(informers, err);
    atomic_store(&p->informers, informers);
    return code;
}

/* ---- run ---- */

/* Work begins when this process leads and has seen everything: a pass over half a picture would decide
 * wrongly.
 */
static kb_code start_work_if_due(program *p, kb_error *err)
{
    if (p->is_working || !atomic_load(&p->is_leader) ||
        !kb_informers_wait_synced(atomic_load(&p->informers), 0))
        return KB_OK;
    p->is_working = true;
    kb_reconciler_confirm_config_maps(p->runtime, (const char *const *)p->options.watch_namespaces,
                                      p->options.watch_namespace_count);
    beat_main(p);
    kb_log(KB_LOG_INFO, "reconciling begins");
    return kb_controller_start(p->controller, err);
}

static void refresh_capabilities(program *p)
{
    if (kb_clock_boot_ms() - p->capabilities_at_ms < CAPABILITIES_MS)
        return;
    KB_AUTO_ERROR(err);
    kb_capabilities caps;
    p->capabilities_at_ms = kb_clock_boot_ms();
    if (kb_capabilities_read(p->client, &caps, &err) == KB_OK)
        kb_runtime_set_caps(p->runtime, &caps);
}

static kb_code run_until_stopped(program *p, kb_error *err)
{
    while (!kb_stop_wait(p->stop, LOOK_MS)) {
        beat_main(p);
        if (atomic_load(&p->is_lost))
            return kb_fail(err, KB_FENCED, "the lease is lost; another process goes on");
        const kb_code code = start_work_if_due(p, err);
        if (code != KB_OK)
            return code;
        refresh_capabilities(p);
    }
    return KB_OK;
}

/* Ends in the order in which nothing is missed: work, what it wants to tell, the lease. */
static void end_work(program *p, bool is_lost)
{
    bool is_idle = p->controller == NULL || kb_controller_stop(p->controller, is_lost ? 0 : WORK_MS);
    if (!is_idle) {
        kb_stop_set(p->cut, 0);
        is_idle = kb_controller_stop(p->controller, WORK_CUT_MS);
    }
    kb_events_stop(p->events, is_lost ? 0 : EVENTS_MS);
    kb_elector_stop(p->elector);
    if (is_idle)
        return;
    /* A thread that does not end still uses everything else. */
    kb_log(KB_LOG_WARN, "work did not end in time and is left");
    kb_log_flush();
    _exit(is_lost ? 1 : 0);
}

static void end(program *p)
{
    kb_httpd_stop(p->metrics_httpd);
    kb_httpd_stop(p->health_httpd);
    kb_informers_free(atomic_exchange(&p->informers, NULL));
    kb_controller_free(p->controller);
    kb_runtime_free(p->runtime);
    kb_kube_client_free(p->client);
    kb_kube_access_free(p->access);
    kb_settings_done(&p->settings);
    kb_kube_metrics_free(p->metrics);
    kb_metrics_free(p->registry);
    kb_watchdog_free(p->watchdog);
    kb_stop_free(p->cut);
    kb_stop_free(p->stop);
}

static kb_code serve(program *p, kb_error *err)
{
    elector_ctx elector = {0};
    kb_capabilities caps;
    kb_code code = start_httpd(p, p->options.health_port, false, &p->health_httpd, err);
    if (code == KB_OK)
        code = start_httpd(p, p->options.metrics_port, true, &p->metrics_httpd, err);
    if (code != KB_OK || !learn_capabilities(p, &caps))
        return code;
    code = start_elector(p, &elector, err);
    if (code == KB_OK)
        code = start_events(p, err);
    if (code == KB_OK)
        code = start_informers(p, &caps, err);
    if (code == KB_OK)
        code = run_until_stopped(p, err);
    kb_log(KB_LOG_INFO, "the operator stops", KB_INT("signal", kb_stop_reason(p->stop)));
    end_work(p, code != KB_OK);
    return code;
}

/* Texts of a JSON array; the array is the caller's, the texts are borrowed. */
static const char **texts_of(const json_t *array, const char *first, size_t *count)
{
    const char **texts = kb_calloc(json_array_size(array) + 1, sizeof *texts);
    *count = 0;
    if (first != NULL)
        texts[(*count)++] = first;
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (text != NULL)
            texts[(*count)++] = text;
    }
    return texts;
}

static int check_self(program *p)
{
    KB_AUTO_STRBUF(report, REPORT_MAX);
    size_t count = 0;
    KB_AUTOFREE const char **listed = texts_of(p->settings.workload_namespaces, p->name_space, &count);
    const bool is_confined = p->options.watch_namespace_count > 0;
    const char *const *watched = (const char *const *)p->options.watch_namespaces;
    kb_self_check_options options = {.client = p->client,
                                     .release_namespace = p->name_space,
                                     .watch_namespaces = watched,
                                     .watch_namespace_count = p->options.watch_namespace_count,
                                     .has_leader_election = p->options.leader_election};
    options.workload_namespaces = is_confined ? watched : listed;
    options.workload_namespace_count = is_confined ? p->options.watch_namespace_count : count;
    if (!is_confined && p->settings.cluster_wide_workloads)
        options.workload_namespace_count = 0;
    const bool is_well = kb_self_check(&options, &report);
    (void)fputs(kb_strbuf_view(&report), stdout);
    return is_well ? 0 : 1;
}

static int run(program *p)
{
    KB_AUTO_ERROR(err);
    kb_code code = begin(p, &err);
    if (code == KB_OK)
        code = kb_settings_parse(p->options.worker_settings != NULL ? p->options.worker_settings : "{}",
                                 &p->settings, &err);
    int status = 0;
    if (code == KB_OK && p->options.self_check)
        status = check_self(p);
    else if (code == KB_OK)
        code = serve(p, &err);
    if (code != KB_OK) {
        kb_log(KB_LOG_ERROR, "the operator ends with an error", KB_ERRTEXT(&err));
        status = 1;
    }
    end(p);
    return status;
}

static const char *get_env(const char *name)
{
    return getenv(name);
}

int main(int argc, char **argv)
{
    static program p;
    KB_AUTO_ERROR(err);
    kb_mem_set_exit_code(1);
    /* Lists of thousands of objects pass through several threads: arenas of their own would keep that memory.
     */
    (void)mallopt(M_ARENA_MAX, 2);
    if (kb_operator_options_parse(argc, argv, get_env, &p.options, &err) != KB_OK) {
        (void)fprintf(stderr, "kafka-backup-operator: %s\n", kb_error_text(&err));
        return 64;
    }
    int status = 0;
    if (p.options.help) {
        KB_AUTOFREE char *help = kb_operator_options_help();
        (void)fputs(help, stdout);
    } else if (p.options.version) {
        (void)puts("kafka-backup-operator " KB_VERSION);
    } else {
        kb_log_set_level(p.options.log_level);
        kb_log_set_format(p.options.log_format);
        status = run(&p);
        kb_log_flush();
    }
    kb_operator_options_done(&p.options);
    return status;
}

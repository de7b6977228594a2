#include "operator/ctrl/controller.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "operator/ctrl/timers.h"
#include "operator/ctrl/workqueue.h"

#define THREADS 4
#define KINDS_MAX 16
#define TAKE_MS 5000
#define CONFLICTS_AT_ONCE 3
#define DENIED_BASE_MS 5000
#define INVALID_BASE_MS 60000
/* Prefix of the keys of the resync timers, which no kind has. */
#define RESYNC "~"

typedef struct kind_entry {
    char *kind;
    kb_reconcile_fn reconcile;
    void *ctx;
} kind_entry;

struct kb_controller {
    kb_controller_options options;
    const kb_clock *clock;
    kb_workqueue *queue;
    kb_timers *timers;
    kb_beat *timers_beat;
    kind_entry kinds[KINDS_MAX];
    size_t kind_count;
    pthread_t *threads;
    size_t thread_count;
    pthread_mutex_t mutex;
    kb_map *retries; /* key -> int64_t wall clock ms of the planned retry, owned */
    kb_map *synced;  /* keys that have a resync timer */
};

typedef struct thread_start {
    kb_controller *controller;
    kb_beat *beat;
} thread_start;

/* "kind/namespace/name" in parts, which point into one copy. */
typedef struct parts {
    char *copy;
    const char *kind, *name_space, *name;
} parts;

static bool split(const char *key, parts *p)
{
    p->copy = kb_strdup(key);
    char *first = strchr(p->copy, '/');
    char *second = first != NULL ? strchr(first + 1, '/') : NULL;
    if (second == NULL)
        return false;
    *first = *second = '\0';
    p->kind = p->copy;
    p->name_space = first + 1;
    p->name = second + 1;
    return true;
}

static void parts_done(parts *p)
{
    free(p->copy);
}

static char *key_of(const char *kind, const char *name_space, const char *name)
{
    return kb_asprintf("%s/%s/%s", kind, name_space, name);
}

/* ---- resync ---- */

/* A moment within the interval that the key fixes, so that all keys do not come at once. */
static int64_t spread_ms(const kb_controller *controller, const char *key)
{
    uint8_t digest[KB_SHA256_SIZE];
    kb_sha256(key, strlen(key), digest);
    uint32_t number;
    memcpy(&number, digest, sizeof number);
    return (int64_t)(number % (uint32_t)controller->options.resync_ms);
}

static void set_resync(kb_controller *controller, const char *key, int64_t delay_ms)
{
    KB_AUTOFREE char *timer = kb_asprintf("%s%s", RESYNC, key);
    kb_timers_set(controller->timers, timer, delay_ms);
}

static void begin_resync(kb_controller *controller, const char *key)
{
    pthread_mutex_lock(&controller->mutex);
    const bool is_new = !kb_map_has(controller->synced, key, strlen(key));
    if (is_new)
        kb_map_puts(controller->synced, key, controller);
    pthread_mutex_unlock(&controller->mutex);
    if (is_new)
        set_resync(controller, key, 1 + spread_ms(controller, key));
}

static void fire(void *ctx, const char *timer)
{
    kb_controller *controller = ctx;
    if (strncmp(timer, RESYNC, strlen(RESYNC)) != 0) {
        kb_workqueue_add(controller->queue, timer);
        return;
    }
    const char *key = timer + strlen(RESYNC);
    pthread_mutex_lock(&controller->mutex);
    const bool is_known = kb_map_has(controller->synced, key, strlen(key));
    pthread_mutex_unlock(&controller->mutex);
    if (!is_known)
        return;
    kb_workqueue_add(controller->queue, key);
    set_resync(controller, key, controller->options.resync_ms);
}

static void beat_timers(void *ctx)
{
    kb_controller *controller = ctx;
    if (controller->timers_beat != NULL)
        kb_watchdog_beat(controller->timers_beat);
}

/* ---- after a pass ---- */

int64_t kb_controller_retry_base_ms(kb_kube_class fault, unsigned failures)
{
    switch (fault) {
    case KB_KUBE_CONFLICT:
    case KB_KUBE_EXISTS:
    case KB_KUBE_GONE:
        return failures < CONFLICTS_AT_ONCE ? 0 : KB_WORKQUEUE_BASE_MS;
    case KB_KUBE_DENIED:
        return DENIED_BASE_MS;
    case KB_KUBE_INVALID:
        return INVALID_BASE_MS;
    case KB_KUBE_FINE:
    case KB_KUBE_THROTTLED:
    case KB_KUBE_SERVER:
    case KB_KUBE_NOT_LEADER:
    case KB_KUBE_STOPPED:
    case KB_KUBE_CLASS_COUNT:
        break;
    }
    return KB_WORKQUEUE_BASE_MS;
}

static void note_retry(kb_controller *controller, const char *key, int64_t delay_ms)
{
    pthread_mutex_lock(&controller->mutex);
    if (delay_ms < 0) {
        kb_map_removes(controller->retries, key);
    } else {
        int64_t *at_ms = kb_malloc(sizeof *at_ms);
        *at_ms = kb_clock_now_wall_ms(controller->clock) + delay_ms;
        kb_map_puts(controller->retries, key, at_ms);
    }
    pthread_mutex_unlock(&controller->mutex);
}

static void succeed(kb_controller *controller, const char *key, const kb_reconcile_result *result)
{
    kb_workqueue_forget(controller->queue, key);
    note_retry(controller, key, -1);
    if (result->requeue_ms >= 0)
        kb_timers_set(controller->timers, key, result->requeue_ms);
    begin_resync(controller, key);
}

static void forget(kb_controller *controller, const char *key, const parts *p)
{
    kb_workqueue_forget(controller->queue, key);
    note_retry(controller, key, -1);
    kb_timers_cancel(controller->timers, key);
    KB_AUTOFREE char *timer = kb_asprintf("%s%s", RESYNC, key);
    kb_timers_cancel(controller->timers, timer);
    pthread_mutex_lock(&controller->mutex);
    kb_map_removes(controller->synced, key);
    pthread_mutex_unlock(&controller->mutex);
    kb_kube_metrics_forget(controller->options.metrics, p->kind, p->name_space, p->name);
}

static int64_t with_jitter(const kb_controller *controller, int64_t delay_ms)
{
    const uint64_t random = controller->options.random(controller->options.random_ctx);
    return delay_ms - (int64_t)(random % (uint64_t)(delay_ms / 2 + 1));
}

static void fail(kb_controller *controller, const char *key, const parts *p,
                 const kb_reconcile_result *result, const kb_error *err)
{
    const unsigned failures = kb_workqueue_failures(controller->queue, key);
    const int64_t base_ms = kb_controller_retry_base_ms(result->fault, failures);
    int64_t delay_ms = kb_workqueue_retry_ms(controller->queue, key, base_ms);
    if (result->fault == KB_KUBE_SERVER)
        delay_ms = with_jitter(controller, delay_ms);
    note_retry(controller, key, delay_ms);
    begin_resync(controller, key);
    /* Conflicts are the way of the API; the rest is for somebody to see. */
    const bool is_usual =
        base_ms == 0 || result->fault == KB_KUBE_STOPPED || result->fault == KB_KUBE_NOT_LEADER;
    kb_log_limited(is_usual ? KB_LOG_DEBUG : KB_LOG_WARN, "reconciliation failed, will be repeated",
                   KB_STR("controller", p->kind), KB_STR("namespace", p->name_space), KB_STR("name", p->name),
                   KB_STR("class", kb_kube_class_name(result->fault)), KB_ERRTEXT(err));
    if (delay_ms == 0)
        kb_workqueue_add(controller->queue, key);
    else
        kb_timers_set(controller->timers, key, delay_ms);
}

static const kind_entry *find_kind(const kb_controller *controller, const char *kind)
{
    for (size_t i = 0; i < controller->kind_count; i++) {
        if (strcmp(controller->kinds[i].kind, kind) == 0)
            return &controller->kinds[i];
    }
    return NULL;
}

static void pass(kb_controller *controller, const char *key)
{
    KB_CLEANUP(parts_done) parts p = {0};
    if (!split(key, &p))
        return;
    const kind_entry *kind = find_kind(controller, p.kind);
    if (kind == NULL)
        return;
    KB_AUTO_ERROR(err);
    kb_reconcile_result result = {.requeue_ms = -1};
    const int64_t began_us = kb_clock_boot_us();
    const kb_code code = kind->reconcile(kind->ctx, p.name_space, p.name, &result, &err);
    kb_kube_metrics_reconciled(controller->options.metrics, p.kind, p.name_space, p.name, code != KB_OK,
                               kb_clock_boot_us() - began_us);
    if (code != KB_OK)
        fail(controller, key, &p, &result, &err);
    else if (result.is_gone)
        forget(controller, key, &p);
    else
        succeed(controller, key, &result);
}

static void *run(void *ctx)
{
    KB_AUTOFREE thread_start *start = ctx;
    kb_controller *controller = start->controller;
    while (!kb_workqueue_is_closed(controller->queue)) {
        if (start->beat != NULL)
            kb_watchdog_beat(start->beat);
        char *key = kb_workqueue_take(controller->queue, TAKE_MS);
        if (key == NULL)
            continue;
        pass(controller, key);
        kb_workqueue_done(controller->queue, key);
        const kb_workqueue_counts counts = kb_workqueue_count(controller->queue);
        kb_kube_metrics_queue(controller->options.metrics, counts.depth, counts.added, counts.retried);
    }
    if (start->beat != NULL)
        kb_watchdog_rest(start->beat);
    return NULL;
}

/* ---- life ---- */

kb_controller *kb_controller_new(const kb_controller_options *options)
{
    kb_controller *controller = kb_calloc(1, sizeof *controller);
    controller->options = *options;
    controller->clock = options->clock != NULL ? options->clock : kb_clock_system();
    if (options->threads == 0)
        controller->options.threads = THREADS;
    if (options->resync_ms == 0)
        controller->options.resync_ms = KB_CONTROLLER_RESYNC_MS;
    if (options->random == NULL)
        controller->options.random = kb_random_system;
    controller->queue = kb_workqueue_new(controller->clock);
    const kb_timers_options timers = {
        .fire = fire, .beat = beat_timers, .ctx = controller, .clock = controller->clock};
    controller->timers = kb_timers_new(&timers);
    pthread_mutex_init(&controller->mutex, NULL);
    controller->retries = kb_map_new(free);
    controller->synced = kb_map_new(NULL);
    return controller;
}

void kb_controller_add_kind(kb_controller *controller, const char *kind, kb_reconcile_fn reconcile, void *ctx)
{
    if (controller->kind_count == KINDS_MAX)
        return;
    controller->kinds[controller->kind_count++] =
        (kind_entry){.kind = kb_strdup(kind), .reconcile = reconcile, .ctx = ctx};
}

static kb_code start_thread(kb_controller *controller, size_t index, kb_error *err)
{
    thread_start *start = kb_calloc(1, sizeof *start);
    start->controller = controller;
    if (controller->options.watchdog != NULL) {
        KB_AUTOFREE char *name = kb_asprintf("reconcile-%zu", index + 1);
        start->beat = kb_watchdog_add(controller->options.watchdog, name);
    }
    const int result = pthread_create(&controller->threads[index], NULL, run, start);
    if (result == 0)
        return KB_OK;
    free(start);
    return kb_fail(err, KB_TEMPORARY_FAILURE, "cannot start a reconcile thread: %s", kb_errno_text(result));
}

kb_code kb_controller_start(kb_controller *controller, kb_error *err)
{
    if (controller->options.watchdog != NULL)
        controller->timers_beat = kb_watchdog_add(controller->options.watchdog, "timers");
    kb_code code = kb_timers_start(controller->timers, err);
    controller->threads = kb_calloc(controller->options.threads, sizeof *controller->threads);
    while (code == KB_OK && controller->thread_count < controller->options.threads) {
        code = start_thread(controller, controller->thread_count, err);
        if (code == KB_OK)
            controller->thread_count++;
    }
    return code;
}

void kb_controller_enqueue(kb_controller *controller, const char *kind, const char *name_space,
                           const char *name)
{
    KB_AUTOFREE char *key = key_of(kind, name_space, name);
    kb_workqueue_add(controller->queue, key);
}

void kb_controller_enqueue_after(kb_controller *controller, const char *kind, const char *name_space,
                                 const char *name, int64_t delay_ms)
{
    KB_AUTOFREE char *key = key_of(kind, name_space, name);
    kb_timers_set(controller->timers, key, delay_ms);
}

int64_t kb_controller_next_retry_ms(kb_controller *controller, const char *kind, const char *name_space,
                                    const char *name)
{
    KB_AUTOFREE char *key = key_of(kind, name_space, name);
    pthread_mutex_lock(&controller->mutex);
    const int64_t *at_ms = kb_map_gets(controller->retries, key);
    const int64_t value = at_ms != NULL ? *at_ms : 0;
    pthread_mutex_unlock(&controller->mutex);
    return value;
}

bool kb_controller_stop(kb_controller *controller, int64_t timeout_ms)
{
    kb_workqueue_close(controller->queue);
    if (!kb_workqueue_wait_idle(controller->queue, timeout_ms))
        return false;
    for (size_t i = 0; i < controller->thread_count; i++)
        pthread_join(controller->threads[i], NULL);
    controller->thread_count = 0;
    return true;
}

void kb_controller_free(kb_controller *owned_controller)
{
    if (owned_controller == NULL)
        return;
    kb_timers_free(owned_controller->timers);
    kb_workqueue_free(owned_controller->queue);
    for (size_t i = 0; i < owned_controller->kind_count; i++)
        free(owned_controller->kinds[i].kind);
    kb_map_free(owned_controller->retries);
    kb_map_free(owned_controller->synced);
    free(owned_controller->threads);
    pthread_mutex_destroy(&owned_controller->mutex);
    free(owned_controller);
}

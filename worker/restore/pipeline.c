#include "worker/restore/pipeline.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/restore/delivery.h"
#include "worker/restore/partition_task.h"

#define KB_TICK_MS 50
#define KB_EXIT_AT_ONCE 143
/* The limits are asked so often in a second. */
#define KB_PACE_STEPS 20
/* Of a unit whose transactions are aborted without any progress in between. */
#define KB_UNIT_TRIES 3

typedef struct pipeline {
    const kb_restore_work *work;
    kb_run_control control;
    kb_unit_context context;
    kb_delivery *delivery; /* NULL with transactions */
    atomic_bool *failed_topics;
    atomic_size_t next_unit;
    atomic_size_t running; /* worker threads */
    pthread_t *threads;
    size_t thread_count;
} pipeline;

/* ---- worker threads ---- */

typedef struct worker {
    pipeline *pipeline;
    size_t number;
} worker;

static kb_code open_sink(void *ctx, size_t unit, kb_sink **ret_sink, kb_error *err)
{
    const worker *w = ctx;
    const kb_restore_work *work = w->pipeline->work;
    const kb_restore_unit *opened = &work->plan->units[unit];
    if (work->txn != NULL)
        return kb_txn_delivery_open(work->txn, w->number, opened, ret_sink, err);
    return kb_delivery_open(w->pipeline->delivery, opened->topic, ret_sink, err);
}

static void bury(pipeline *p, kb_parcels *owned_left)
{
    if (owned_left == NULL)
        return;
    if (p->work->txn != NULL)
        kb_txn_delivery_bury(p->work->txn, owned_left);
    else
        kb_delivery_bury(p->delivery, owned_left);
}

/* Makes the committed records of a unit the ones to begin after. */
static int64_t go_on_after_committed(pipeline *p, const kb_restore_unit *unit)
{
    int64_t progress = 0;
    for (size_t i = 0; i < unit->target_count; i++) {
        kb_target_state *target = &p->work->targets[unit->first_target + i];
        progress += target->committed - target->landed.count;
        target->landed.count = target->committed;
    }
    return progress;
}

/* A transaction that has to be aborted is tried again, from what is committed. */
static kb_code run_unit(worker *w, size_t index, kb_error *err)
{
    pipeline *p = w->pipeline;
    const kb_restore_unit *unit = &p->work->plan->units[index];
    kb_unit_sink sink = {open_sink, w, false};
    int tries = 0;
    while (true) {
        kb_parcels *left = NULL;
        kb_code code = kb_unit_run(&p->context, index, &sink, &left, err);
        bury(p, left);
        if (code == KB_OK || p->work->txn == NULL)
            return code;
        bool recovered = kb_txn_delivery_recover(p->work->txn, w->number);
        if (!recovered || code == KB_FENCED || !err->retryable || kb_run_is_ending(&p->control))
            return code;
        tries = go_on_after_committed(p, unit) > 0 ? 0 : tries + 1;
        if (tries >= KB_UNIT_TRIES)
            return code;
        kb_log(KB_LOG_WARN, "a transaction was aborted, going on after the last committed record",
               KB_STR("topic", p->work->plan->topics[unit->topic].name), KB_ERRTEXT(err));
        kb_error_done(err);
        sink.is_again = true;
    }
}

static void end_unit(pipeline *p, size_t topic, kb_code code, kb_error *err)
{
    if (code == KB_FENCED) {
        kb_run_fail(&p->control, err);
    } else if (code != KB_OK && code != KB_ERR_STOPPED) {
        atomic_store(&p->failed_topics[topic], true);
        if (p->work->txn == NULL)
            kb_delivery_fail_topic(p->delivery, topic);
        kb_run_fail_partition(&p->control, err);
    }
    if (p->work->txn == NULL)
        kb_delivery_unit_done(p->delivery, topic);
}

static bool has_failed(pipeline *p, size_t topic)
{
    return atomic_load(&p->failed_topics[topic]) ||
           (p->work->txn == NULL && kb_delivery_has_failed(p->delivery, topic));
}

static void *work(void *arg)
{
    worker w = *(worker *)arg;
    free(arg);
    pipeline *p = w.pipeline;
    const kb_restore_plan *plan = p->work->plan;
    while (!kb_run_is_ending(&p->control)) {
        size_t unit = atomic_fetch_add(&p->next_unit, 1);
        if (unit >= plan->unit_count)
            break;
        KB_AUTO_ERROR(err);
        size_t topic = plan->units[unit].topic;
        kb_code code = has_failed(p, topic) ? KB_ERR_STOPPED : run_unit(&w, unit, &err);
        end_unit(p, topic, code, &err);
    }
    atomic_fetch_sub(&p->running, 1);
    return NULL;
}

/* ---- setting up ---- */

static void set_limits(pipeline *p)
{
    const kb_config_restore *config = &p->work->settings->config->restore;
    int64_t now_us = kb_clock_boot_us();
    p->context.records_step = 1;
    p->context.bytes_step = 1;
    if (config->rate_limit_records_per_sec.is_set) {
        int64_t rate = config->rate_limit_records_per_sec.value;
        p->context.records_limit = kb_ratelimit_shared_new(rate, now_us);
        p->context.records_step = rate / KB_PACE_STEPS + 1;
    }
    if (config->rate_limit_bytes_per_sec.is_set) {
        int64_t rate = config->rate_limit_bytes_per_sec.value;
        p->context.bytes_limit = kb_ratelimit_shared_new(rate, now_us);
        p->context.bytes_step = rate / KB_PACE_STEPS + 1;
    }
}

static void set_context(pipeline *p)
{
    const kb_restore_work *from = p->work;
    p->context = (kb_unit_context){
        .storage = from->settings->storage,
        .plan = from->plan,
        .targets = from->targets,
        .control = &p->control,
        .progress = from->settings->progress,
        .metrics = from->metrics,
        .fence = from->fence,
        .held_bytes = p->work->memory.held_bytes,
        .max_area_bytes = p->work->memory.max_area_bytes,
        .max_on_way_bytes = p->work->memory.on_way_bytes,
        .grace_ms = from->settings->config->limits.shutdown_grace_secs * 1000,
    };
    set_limits(p);
}

static void set_delivery(pipeline *p)
{
    const kb_config_restore *config = &p->work->settings->config->restore;
    kb_delivery_options options = {
        .kafka = p->work->settings->kafka,
        .plan = p->work->plan,
        .targets = p->work->targets,
        .max_message_bytes = p->work->max_message_bytes,
        .batch_records = config->produce_batch_size,
        .request_timeout_ms = config->produce_timeout_ms,
        .queue_bytes = p->work->memory.queue_bytes,
        .control = &p->control,
        .progress = p->work->settings->progress,
        .metrics = p->work->metrics,
    };
    p->delivery = kb_delivery_new(&options);
}

static kb_code start_threads(pipeline *p, kb_error *err)
{
    size_t count =
        p->work->memory.units < p->work->plan->unit_count ? p->work->memory.units : p->work->plan->unit_count;
    if (p->work->txn != NULL && count > KB_TXN_IDS)
        count = KB_TXN_IDS;
    p->threads = kb_calloc(count > 0 ? count : 1, sizeof *p->threads);
    for (size_t i = 0; i < count; i++) {
        worker *w = kb_malloc(sizeof *w);
        *w = (worker){p, i};
        atomic_fetch_add(&p->running, 1);
        int failed = pthread_create(&p->threads[i], NULL, work, w);
        if (failed != 0) {
            free(w);
            atomic_fetch_sub(&p->running, 1);
            return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "no thread to be had: %s",
                                     kb_errno_text(failed));
        }
        p->thread_count++;
    }
    return KB_OK;
}

/* ---- watching ---- */

static void check_progress(pipeline *p)
{
    const kb_restore_settings *settings = p->work->settings;
    int64_t idle_ms = kb_progress_idle_ms(settings->progress);
    if (idle_ms <= settings->config->limits.no_progress_secs * 1000)
        return;
    KB_AUTO_ERROR(err);
    kb_kafka_state state = {0};
    if (p->delivery != NULL)
        kb_delivery_state(p->delivery, &state);
    (void)kb_fail_retryable(&err, KB_NO_PROGRESS,
                            "no record was acknowledged and none throttled for %" PRId64
                            " s; the last trouble was: %s",
                            idle_ms / 1000, state.last_error != NULL ? state.last_error : "none");
    kb_kafka_state_done(&state);
    kb_run_fail(&p->control, &err);
}

static void check_fence(pipeline *p)
{
    KB_AUTO_ERROR(err);
    if (kb_fence_check(p->work->fence, &err) == KB_OK)
        return;
    kb_run_fail(&p->control, &err);
}

static void watch(pipeline *p)
{
    bool purged = false;
    while (atomic_load(&p->running) > 0) {
        if (kb_stop_requested(p->work->settings->stop)) {
            if (kb_stop_count(p->work->settings->stop) > 1)
                _exit(KB_EXIT_AT_ONCE);
            (void)usleep(KB_TICK_MS * 1000);
        } else {
            (void)kb_stop_wait(p->work->settings->stop, KB_TICK_MS);
            check_progress(p);
        }
        check_fence(p);
        if (kb_run_is_cancelled(&p->control) && !purged) {
            if (p->delivery != NULL)
                kb_delivery_purge(p->delivery);
            purged = true;
        }
    }
}

/* ---- the whole ---- */

static void pipeline_done(pipeline *p)
{
    for (size_t i = 0; i < p->thread_count; i++)
        pthread_join(p->threads[i], NULL);
    kb_delivery_free(p->delivery);
    kb_ratelimit_shared_free(p->context.records_limit);
    kb_ratelimit_shared_free(p->context.bytes_limit);
    free(p->threads);
    free(p->failed_topics);
    kb_run_control_done(&p->control);
}

static kb_code outcome(pipeline *p, kb_error *err)
{
    kb_code code = kb_run_take_error(&p->control, err);
    if (code != KB_OK)
        return code;
    if (kb_stop_requested(p->work->settings->stop))
        return kb_fail(err, KB_INTERRUPTED, "stopped by signal %d; running the same restore again goes on",
                       kb_stop_reason(p->work->settings->stop));
    return KB_OK;
}

kb_code kb_restore_pipeline_run(const kb_restore_work *restore_work, kb_error *err)
{
    const kb_restore_settings *settings = restore_work->settings;
    pipeline p = {.work = restore_work};
    if (restore_work->metrics != NULL)
        kb_metric_set(restore_work->metrics->memory_budget, (double)restore_work->memory.budget_bytes);
    kb_run_control_init(&p.control, settings->stop);
    set_context(&p);
    p.failed_topics = kb_calloc(restore_work->plan->topic_count + 1, sizeof *p.failed_topics);
    if (restore_work->txn != NULL)
        kb_txn_delivery_begin(restore_work->txn, &p.control, restore_work->metrics);
    else
        set_delivery(&p);
    KB_AUTO_ERROR(start_err);
    if (start_threads(&p, &start_err) != KB_OK)
        kb_run_fail(&p.control, &start_err);
    watch(&p);
    kb_code code = outcome(&p, err);
    pipeline_done(&p);
    return code;
}

#include "worker/restore/pipeline.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/restore/delivery.h"
#include "worker/restore/memory.h"
#include "worker/restore/partition_task.h"

#define KB_TICK_MS 50
#define KB_EXIT_AT_ONCE 143
/* The limits are asked so often in a second. */
#define KB_PACE_STEPS 20

typedef struct pipeline {
    const kb_restore_work *work;
    kb_run_control control;
    kb_restore_memory memory;
    kb_unit_context context;
    kb_delivery *delivery;
    atomic_size_t next_unit;
    atomic_size_t running; /* worker threads */
    pthread_t *threads;
    size_t thread_count;
} pipeline;

/* ---- worker threads ---- */

static kb_code open_sink(void *ctx, size_t topic, kb_sink **ret_sink, kb_error *err)
{
    pipeline *p = ctx;
    return kb_delivery_open(p->delivery, topic, ret_sink, err);
}

static void end_unit(pipeline *p, size_t unit, kb_parcels *owned_left, kb_code code, kb_error *err)
{
    size_t topic = p->work->plan->units[unit].topic;
    if (owned_left != NULL)
        kb_delivery_bury(p->delivery, owned_left);
    if (code == KB_FENCED)
        kb_run_fail(&p->control, err);
    else if (code != KB_OK && code != KB_ERR_STOPPED)
        kb_delivery_fail_topic(p->delivery, topic, err);
    kb_delivery_unit_done(p->delivery, topic);
}

static void *work(void *arg)
{
    pipeline *p = arg;
    const kb_restore_plan *plan = p->work->plan;
    kb_unit_sink sink = {open_sink, p};
    while (!kb_run_is_ending(&p->control)) {
        size_t unit = atomic_fetch_add(&p->next_unit, 1);
        if (unit >= plan->unit_count)
            break;
        KB_AUTO_ERROR(err);
        kb_parcels *left = NULL;
        kb_code code = KB_ERR_STOPPED;
        if (!kb_delivery_has_failed(p->delivery, plan->units[unit].topic))
            code = kb_unit_run(&p->context, unit, &sink, &left, &err);
        end_unit(p, unit, left, code, &err);
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
        .held_bytes = p->memory.held_bytes,
        .max_area_bytes = p->memory.max_area_bytes,
        .max_on_way_bytes = p->memory.on_way_bytes,
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
        .queue_bytes = p->memory.queue_bytes,
        .control = &p->control,
        .progress = p->work->settings->progress,
        .metrics = p->work->metrics,
    };
    p->delivery = kb_delivery_new(&options);
}

static kb_code start_threads(pipeline *p, kb_error *err)
{
    size_t count = p->memory.units < p->work->plan->unit_count ? p->memory.units : p->work->plan->unit_count;
    p->threads = kb_calloc(count > 0 ? count : 1, sizeof *p->threads);
    for (size_t i = 0; i < count; i++) {
        atomic_fetch_add(&p->running, 1);
        int failed = pthread_create(&p->threads[i], NULL, work, p);
        if (failed != 0) {
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
    kb_kafka_state state;
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
    if (kb_restore_memory_plan(settings->memory_bytes,
                               (size_t)settings->config->restore.max_concurrent_partitions, &p.memory,
                               err) != KB_OK)
        return err->code;
    if (restore_work->metrics != NULL)
        kb_metric_set(restore_work->metrics->memory_budget, (double)p.memory.budget_bytes);
    kb_run_control_init(&p.control, settings->stop);
    set_context(&p);
    set_delivery(&p);
    KB_AUTO_ERROR(start_err);
    if (start_threads(&p, &start_err) != KB_OK)
        kb_run_fail(&p.control, &start_err);
    watch(&p);
    kb_code code = outcome(&p, err);
    pipeline_done(&p);
    return code;
}

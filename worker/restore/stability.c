#include "worker/restore/stability.h"

#include <inttypes.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define KB_SINGLE_REPLICA_MS 5000
#define KB_LAG_MARGIN_MS 15000
#define KB_LOOK_MS 1000

int64_t kb_stability_window_ms(const kb_target_topic *topic, int64_t replica_lag_ms, int64_t configured_secs)
{
    if (topic->replica_count <= 1)
        return KB_SINGLE_REPLICA_MS;
    int64_t window_ms = configured_secs * 1000;
    if (replica_lag_ms != KB_CONFIG_NUMBER_UNKNOWN && replica_lag_ms + KB_LAG_MARGIN_MS > window_ms)
        window_ms = replica_lag_ms + KB_LAG_MARGIN_MS;
    return window_ms;
}

typedef struct stillness {
    int64_t *ends;
    int64_t *since_ms;
} stillness;

static bool has_enough_replicas(const kb_target_topic *topic, const kb_target_offsets *offsets)
{
    int64_t wanted = topic->min_insync_replicas;
    /* A topic may ask for more than it has; then nothing can be written, which the client will say. */
    if (wanted == KB_CONFIG_NUMBER_UNKNOWN || wanted > topic->replica_count)
        return true;
    return offsets->isr_count >= wanted;
}

/* Notes what moved; the number of targets that are not still, and the first of them. */
static size_t look(const kb_preflight *pf, stillness *still, int64_t now_ms, size_t *ret_first)
{
    size_t restless = 0;
    for (size_t i = 0; i < pf->plan->target_count; i++) {
        const kb_target_offsets *offsets = &pf->view.targets[i];
        const kb_target_topic *topic = &pf->view.topics[pf->plan->targets[i].topic];
        bool moved = offsets->error_number != 0 || offsets->end != still->ends[i] ||
                     !has_enough_replicas(topic, offsets);
        if (moved) {
            still->ends[i] = offsets->error_number != 0 ? -1 : offsets->end;
            still->since_ms[i] = now_ms;
        }
        int64_t window_ms = kb_stability_window_ms(topic, pf->view.replica_lag_ms,
                                                   pf->settings->config->restore.stability_window_secs);
        if (now_ms - still->since_ms[i] >= window_ms)
            continue;
        if (restless++ == 0)
            *ret_first = i;
    }
    return restless;
}

static kb_code give_up(const kb_preflight *pf, size_t target, kb_error *err)
{
    const kb_restore_target *at = &pf->plan->targets[target];
    return kb_fail_retryable(err, KB_TEMPORARY_FAILURE,
                             "%s/%" PRId32 " does not come to rest: its end moves, or replicas are missing",
                             pf->plan->topics[at->topic].name, at->partition);
}

kb_code kb_stability_wait(kb_preflight *pf, kb_fence *fence, kb_error *err)
{
    size_t count = pf->plan->target_count;
    int64_t began_ms = kb_clock_boot_ms();
    int64_t limit_ms = pf->settings->config->limits.no_progress_secs * 1000;
    KB_AUTOFREE int64_t *ends = kb_calloc(count + 1, sizeof *ends);
    KB_AUTOFREE int64_t *since_ms = kb_calloc(count + 1, sizeof *since_ms);
    stillness still = {ends, since_ms};
    for (size_t i = 0; i < count; i++)
        ends[i] = -1;
    kb_log(KB_LOG_INFO, "waiting until nothing of an earlier attempt can land any more");
    kb_code code = KB_OK;
    size_t first = 0;
    while (code == KB_OK) {
        if (kb_target_view_refresh(pf->admin, pf->plan, pf->settings->stop, &pf->view, err) != KB_OK)
            return err->code;
        int64_t now_ms = kb_clock_boot_ms();
        size_t restless = look(pf, &still, now_ms, &first);
        if (restless == 0)
            break;
        kb_progress_set_waiting(pf->settings->progress, "%zu target partitions to come to rest", restless);
        kb_progress_touch(pf->settings->progress);
        code = kb_fence_check(fence, err);
        if (code == KB_OK && now_ms - began_ms > limit_ms)
            code = give_up(pf, first, err);
        if (code == KB_OK && kb_stop_wait(pf->settings->stop, KB_LOOK_MS))
            code = kb_fail(err, KB_ERR_STOPPED, "stopped while waiting for the target to come to rest");
    }
    kb_progress_set_waiting(pf->settings->progress, NULL);
    return code;
}

#include "worker/offsets/group_state.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define KB_STATE_POLL_MS 1000

kb_code kb_group_state_verdict(const kb_group_info *info, bool listing_is_complete)
{
    if (info == NULL)
        return listing_is_complete ? KB_OK : KB_TEMPORARY_FAILURE;
    switch (info->state) {
    case KB_GROUP_STATE_ABSENT:
    case KB_GROUP_STATE_EMPTY:
        return KB_OK;
    case KB_GROUP_STATE_ACTIVE:
    case KB_GROUP_STATE_UNKNOWN:
        break;
    }
    return KB_GROUP_ACTIVE;
}

/* Brokers that do not tell states in their listing are asked group by group. */
static kb_code learn_states(const kb_offsets_env *env, const kb_group_set *set, kb_group_infos *infos,
                            kb_error *err)
{
    kb_kafka_call call = kb_offsets_call(env);
    for (size_t i = 0; i < set->count; i++) {
        kb_group_info *info = (kb_group_info *)(uintptr_t)kb_group_infos_find(infos, set->groups[i].group);
        if (info == NULL || kb_group_state_verdict(info, true) == KB_OK)
            continue;
        if (kb_kafka_groups_describe(env->groups, info, &call, err) != KB_OK)
            return err->code;
    }
    return KB_OK;
}

static size_t count_busy(const kb_group_set *set, const kb_group_infos *infos,
                         const kb_group_results *results)
{
    size_t busy = 0;
    for (size_t i = 0; i < set->count; i++) {
        const char *group = set->groups[i].group;
        kb_code verdict = kb_group_state_verdict(kb_group_infos_find(infos, group), infos->failures == 0);
        busy += verdict != KB_OK && kb_group_result_is_ok(results, group) ? 1 : 0;
    }
    return busy;
}

static void fail_busy(const kb_group_set *set, const kb_group_infos *infos, kb_group_results *results)
{
    for (size_t i = 0; i < set->count; i++) {
        const char *group = set->groups[i].group;
        const kb_group_info *info = kb_group_infos_find(infos, group);
        kb_code verdict = kb_group_state_verdict(info, infos->failures == 0);
        if (verdict == KB_OK)
            continue;
        kb_group_result *result = kb_group_results_of(results, group);
        if (info == NULL)
            kb_group_result_fail(result, verdict, "its state is not known: %s",
                                 infos->failure != NULL ? infos->failure : "a broker could not be asked");
        else if (info->members != NULL)
            kb_group_result_fail(result, verdict, "it is active (%s) with %zu members: %s; hint: stop them",
                                 info->state_text != NULL ? info->state_text : "state not known",
                                 info->member_count, info->members);
        else
            kb_group_result_fail(result, verdict, "it is active (%s); hint: stop its members",
                                 info->state_text != NULL ? info->state_text : "state not known");
    }
}

static kb_code look(const kb_offsets_env *env, const kb_group_set *set, kb_group_infos *infos, kb_error *err)
{
    kb_kafka_call call = kb_offsets_call(env);
    kb_group_infos_done(infos);
    if (kb_kafka_groups_list(env->groups, &call, infos, err) != KB_OK)
        return err->code;
    return learn_states(env, set, infos, err);
}

kb_code kb_group_state_check(const kb_offsets_env *env, const kb_group_set *set, kb_group_results *results,
                             kb_error *err)
{
    KB_CLEANUP(kb_group_infos_done) kb_group_infos infos = {0};
    int64_t deadline_ms = kb_clock_boot_ms() + env->wait_for_empty_ms;
    while (true) {
        if (look(env, set, &infos, err) != KB_OK)
            return kb_wrap(err, "looking at the states of groups");
        size_t busy = count_busy(set, &infos, results);
        int64_t left_ms = deadline_ms - kb_clock_boot_ms();
        if (busy == 0 || left_ms <= 0)
            break;
        kb_progress_set_waiting(env->progress, "%zu groups have members", busy);
        kb_progress_touch(env->progress);
        kb_log_limited(KB_LOG_INFO, "waiting until groups have no members", KB_INT("groups", busy));
        if (kb_stop_wait(env->stop, left_ms < KB_STATE_POLL_MS ? left_ms : KB_STATE_POLL_MS))
            return kb_fail(err, KB_ERR_STOPPED, "stopped while waiting for groups to be empty");
    }
    kb_progress_set_waiting(env->progress, NULL);
    fail_busy(set, &infos, results);
    return KB_OK;
}

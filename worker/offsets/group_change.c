#include "worker/offsets/group_change.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/mem.h"

kb_change_verdict kb_change_verdict_of(int64_t current, int64_t old, int64_t planned)
{
    if (current == planned)
        return KB_CHANGE_DONE;
    return current == old ? KB_CHANGE_COMMIT : KB_CHANGE_MOVED;
}

void kb_group_change_done(kb_group_change *change)
{
    kb_group_set_done(&change->before);
    kb_group_set_done(&change->plan);
}

void kb_group_change_set_before(kb_group_change *change, const kb_group_set *current)
{
    kb_group_set_done(&change->before);
    for (size_t g = 0; g < change->plan.count; g++) {
        const kb_group_entry *planned = &change->plan.groups[g];
        const kb_group_entry *now = kb_group_set_find(current, planned->group);
        kb_group_entry *entry = kb_group_set_add(&change->before, planned->group);
        for (size_t p = 0; p < planned->count; p++) {
            const kb_group_place *place = &planned->places[p];
            const kb_group_place *old =
                now != NULL ? kb_group_entry_find(now, place->topic, place->partition) : NULL;
            kb_group_entry_put(entry, place->topic, place->partition,
                               old != NULL ? old->offset : KB_GROUP_NO_OFFSET,
                               old != NULL ? old->metadata : NULL);
        }
    }
}

/* ---- the snapshot ---- */

static bool is_same_run(const kb_offsets_env *env, const kb_offset_snapshot *snapshot)
{
    if (snapshot->is_foreign)
        return false;
    if (env->job_uid[0] != '\0')
        return strcmp(env->job_uid, snapshot->job_uid) == 0;
    return snapshot->job_uid[0] == '\0' && snapshot->run_kind != NULL &&
           strcmp(snapshot->run_kind, env->run_kind) == 0 && strcmp(snapshot->inputs, env->inputs) == 0;
}

kb_code kb_group_change_find(const kb_offsets_env *env, const char *snapshot_id, kb_group_change *change,
                             bool *ret_found, kb_error *err)
{
    *ret_found = false;
    if (env->store == NULL)
        return KB_OK;
    KB_CLEANUP(kb_offset_snapshot_done) kb_offset_snapshot snapshot = {0};
    kb_code code = kb_snapshot_store_read(env->store, snapshot_id, &snapshot, err);
    if (code == KB_SNAPSHOT_NOT_FOUND) {
        kb_error_done(err);
        return KB_OK;
    }
    if (code != KB_OK)
        return code;
    if (!is_same_run(env, &snapshot))
        return kb_fail(err, KB_SNAPSHOT_EXISTS,
                       "offset snapshot '%s' exists already and is of another run; hint: use another "
                       "snapshot_id",
                       snapshot_id);
    kb_group_change_done(change);
    *change = (kb_group_change){snapshot.groups, snapshot.plan, true};
    snapshot.groups = (kb_group_set){0};
    snapshot.plan = (kb_group_set){0};
    kb_progress_set_time(env->progress, KB_REPORT_SNAPSHOT_TIME, snapshot.time_ms);
    kb_log(KB_LOG_INFO, "going on by the snapshot of an earlier attempt", KB_STR("snapshot", snapshot_id));
    *ret_found = true;
    return KB_OK;
}

static kb_code save(const kb_offsets_env *env, const char *snapshot_id, const kb_group_set *before,
                    const kb_group_set *plan, kb_error *err)
{
    /* Texts and sets are borrowed: it is not freed. */
    kb_offset_snapshot snapshot = {
        .id = (char *)(uintptr_t)snapshot_id,
        .time_ms = kb_clock_wall_ms(),
        .cluster = (char *)(uintptr_t)env->cluster,
        .cluster_id = (char *)(uintptr_t)env->cluster_id,
        .run_kind = (char *)(uintptr_t)env->run_kind,
        .job_uid = (char *)(uintptr_t)env->job_uid,
        .inputs = (char *)(uintptr_t)env->inputs,
        .has_plan = plan != NULL,
        .groups = *before,
        .plan = plan != NULL ? *plan : (kb_group_set){0},
    };
    if (KB_FAILPOINT("offsets_snapshot.before", err) != KB_OK)
        return err->code;
    kb_code code = kb_snapshot_store_write(env->store, &snapshot, err);
    if (code == KB_ERR_EXISTS)
        return kb_wrap_as(err, KB_SNAPSHOT_EXISTS, "another run was faster");
    if (code != KB_OK)
        return code;
    kb_progress_set_time(env->progress, KB_REPORT_SNAPSHOT_TIME, snapshot.time_ms);
    kb_log(KB_LOG_INFO, "offsets saved", KB_STR("snapshot", snapshot_id), KB_INT("groups", before->count));
    return KB_FAILPOINT("offsets_snapshot.after", err);
}

kb_code kb_group_change_save(const kb_offsets_env *env, const char *snapshot_id,
                             const kb_group_change *change, kb_error *err)
{
    if (env->store == NULL || change->is_rerun || change->before.count == 0)
        return KB_OK;
    return save(env, snapshot_id, &change->before, &change->plan, err);
}

kb_code kb_group_change_save_plain(const kb_offsets_env *env, const char *snapshot_id,
                                   const kb_group_set *groups, kb_error *err)
{
    return save(env, snapshot_id, groups, NULL, err);
}

/* ---- committing ---- */

static bool is_equal(const kb_group_place *now, const kb_group_place *planned)
{
    int64_t offset = now != NULL ? now->offset : KB_GROUP_NO_OFFSET;
    if (offset != planned->offset)
        return false;
    if (now == NULL || planned->metadata == NULL || offset == KB_GROUP_NO_OFFSET)
        return true;
    return strcmp(now->metadata != NULL ? now->metadata : "", planned->metadata) == 0;
}

/* The places of a group that have to be committed; what was moved fails the group. */
static void find_work(const kb_offsets_env *env, const kb_group_entry *before, const kb_group_entry *planned,
                      const kb_group_entry *current, kb_group_entry *todo, kb_group_result *result)
{
    for (size_t p = 0; p < planned->count; p++) {
        const kb_group_place *place = &planned->places[p];
        const kb_group_place *now =
            current != NULL ? kb_group_entry_find(current, place->topic, place->partition) : NULL;
        int64_t old = kb_group_entry_offset(before, place->topic, place->partition);
        int64_t offset = now != NULL ? now->offset : KB_GROUP_NO_OFFSET;
        if (is_equal(now, place))
            continue;
        if (kb_change_verdict_of(offset, old, place->offset) == KB_CHANGE_MOVED && !env->force)
            kb_group_result_fail(result, KB_GROUPS_FAILED,
                                 "%s/%" PRId32 ": somebody committed %" PRId64 " meanwhile (it was %" PRId64
                                 ", planned is %" PRId64 "); hint: force",
                                 place->topic, place->partition, offset, old, place->offset);
        kb_group_entry_put(todo, place->topic, place->partition, place->offset, place->metadata);
    }
}

typedef struct committing {
    kb_group_results *results;
    const kb_offsets_env *env;
} committing;

static kb_code on_committed(void *ctx, kb_group_entry *entry, kb_error *err)
{
    committing *c = ctx;
    kb_group_result *result = kb_group_results_of(c->results, entry->group);
    kb_group_result_take(result, entry, "committing offsets");
    for (size_t i = 0; i < entry->count && entry->error_number == 0; i++)
        result->changed += entry->places[i].error_number == 0 ? 1 : 0;
    if (!c->env->is_part)
        kb_progress_add_work(c->env->progress, 1);
    return KB_FAILPOINT("commit.nth_group", err);
}

/* What the groups have now must be what was planned. */
static void compare_back(const kb_group_set *plan, const kb_group_set *now, kb_group_results *results)
{
    for (size_t g = 0; g < plan->count; g++) {
        const kb_group_entry *planned = &plan->groups[g];
        kb_group_result *result = kb_group_results_of(results, planned->group);
        const kb_group_entry *entry = kb_group_set_find(now, planned->group);
        for (size_t p = 0; p < planned->count && result->code == KB_OK; p++) {
            const kb_group_place *place = &planned->places[p];
            int64_t offset = kb_group_entry_offset(entry, place->topic, place->partition);
            if (offset != place->offset)
                kb_group_result_fail(result, KB_GROUPS_FAILED,
                                     "%s/%" PRId32 ": committed %" PRId64 ", read back %" PRId64,
                                     place->topic, place->partition, place->offset, offset);
        }
        result->is_done = result->code == KB_OK;
    }
}

kb_code kb_group_change_commit(const kb_offsets_env *env, const kb_group_change *change,
                               const kb_group_set *current, kb_group_results *results, kb_error *err)
{
    KB_CLEANUP(kb_group_set_done) kb_group_set todo = {0};
    KB_CLEANUP(kb_group_set_done) kb_group_set now = {0};
    for (size_t g = 0; g < change->plan.count; g++) {
        const kb_group_entry *planned = &change->plan.groups[g];
        kb_group_result *result = kb_group_results_of(results, planned->group);
        kb_group_set work = {0};
        kb_group_entry *entry = kb_group_set_add(&work, planned->group);
        find_work(env, kb_group_set_find(&change->before, planned->group), planned,
                  kb_group_set_find(current, planned->group), entry, result);
        result->planned = (int32_t)entry->count;
        for (size_t p = 0; p < entry->count && result->code == KB_OK; p++)
            kb_group_entry_put(kb_group_set_add(&todo, planned->group), entry->places[p].topic,
                               entry->places[p].partition, entry->places[p].offset,
                               entry->places[p].metadata);
        kb_group_set_done(&work);
    }
    if (!env->is_part)
        kb_progress_set_work(env->progress, (int64_t)todo.count);
    kb_groups_call call = kb_offsets_groups_call(env);
    committing ctx = {results, env};
    call.on_done = on_committed;
    call.ctx = &ctx;
    if (kb_kafka_groups_commit(env->groups, &todo, &call, err) != KB_OK)
        return kb_wrap(err, "committing offsets");
    if (kb_group_change_read(env, &change->plan, results, &now, err) != KB_OK)
        return err->code;
    compare_back(&change->plan, &now, results);
    return KB_OK;
}

kb_code kb_group_change_read(const kb_offsets_env *env, const kb_group_set *groups, kb_group_results *results,
                             kb_group_set *ret_current, kb_error *err)
{
    KB_CLEANUP(kb_group_set_done) kb_group_set current = {0};
    for (size_t g = 0; g < groups->count; g++)
        (void)kb_group_set_add(&current, groups->groups[g].group);
    kb_groups_call call = kb_offsets_groups_call(env);
    if (kb_kafka_groups_committed(env->groups, &current, &call, err) != KB_OK)
        return kb_wrap(err, "reading the offsets of groups");
    for (size_t g = 0; g < current.count; g++)
        kb_group_result_take(kb_group_results_of(results, current.groups[g].group), &current.groups[g],
                             "reading its offsets");
    kb_progress_touch(env->progress);
    *ret_current = current;
    current = (kb_group_set){0};
    return KB_OK;
}

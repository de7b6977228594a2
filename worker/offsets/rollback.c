#include "worker/offsets/rollback.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "common/contract/names.h"
#include "worker/offsets/group_state.h"
#include "worker/offsets/reset_places.h"

#define KB_MOVED_TEXT_MAX 8192
#define KB_MOVED_SHOWN 5

void kb_offset_differences_done(kb_offset_differences *differences)
{
    free(differences->items);
    *differences = (kb_offset_differences){0};
}

void kb_rollback_outcome_done(kb_rollback_outcome *outcome)
{
    kb_offset_snapshot_done(&outcome->snapshot);
    kb_group_set_done(&outcome->current);
    kb_offset_differences_done(&outcome->differences);
    kb_reset_outcome_done(&outcome->reset);
    free(outcome->saved_id);
    *outcome = (kb_rollback_outcome){0};
}

/* ---- comparing ---- */

static void add_difference(kb_offset_differences *to, const char *group, const kb_group_place *place,
                           int64_t expected, int64_t actual)
{
    to->items = kb_grow(to->items, to->count, &to->capacity, sizeof *to->items);
    to->items[to->count++] = (kb_offset_difference){group, place->topic, place->partition, expected, actual};
}

void kb_offsets_compare(const kb_group_set *stored, const kb_group_set *current, bool strict,
                        kb_offset_differences *ret_differences)
{
    for (size_t g = 0; g < stored->count; g++) {
        const kb_group_entry *entry = &stored->groups[g];
        const kb_group_entry *now = kb_group_set_find(current, entry->group);
        for (size_t p = 0; p < entry->count; p++) {
            const kb_group_place *place = &entry->places[p];
            int64_t actual = kb_group_entry_offset(now, place->topic, place->partition);
            if (actual != place->offset)
                add_difference(ret_differences, entry->group, place, place->offset, actual);
        }
        for (size_t p = 0; strict && now != NULL && p < now->count; p++) {
            const kb_group_place *place = &now->places[p];
            if (place->offset >= 0 && kb_group_entry_find(entry, place->topic, place->partition) == NULL)
                add_difference(ret_differences, entry->group, place, KB_GROUP_NO_OFFSET, place->offset);
        }
    }
}

void kb_offsets_find_moved(const kb_offset_snapshot *snapshot, const kb_group_set *current,
                           kb_offset_differences *ret_differences)
{
    for (size_t g = 0; g < snapshot->groups.count && snapshot->has_plan; g++) {
        const kb_group_entry *entry = &snapshot->groups.groups[g];
        const kb_group_entry *planned = kb_group_set_find(&snapshot->plan, entry->group);
        const kb_group_entry *now = kb_group_set_find(current, entry->group);
        for (size_t p = 0; p < entry->count; p++) {
            const kb_group_place *place = &entry->places[p];
            const kb_group_place *plan =
                planned != NULL ? kb_group_entry_find(planned, place->topic, place->partition) : NULL;
            int64_t wanted = plan != NULL ? plan->offset : place->offset;
            int64_t actual = kb_group_entry_offset(now, place->topic, place->partition);
            if (kb_change_verdict_of(actual, place->offset, wanted) == KB_CHANGE_MOVED)
                add_difference(ret_differences, entry->group, place, wanted, actual);
        }
    }
}

static void tell_differences(const kb_offset_differences *differences, kb_progress *progress)
{
    for (size_t i = 0; i < differences->count; i++) {
        const kb_offset_difference *d = &differences->items[i];
        kb_progress_add_difference(progress, d->group, d->topic, d->partition, d->expected, d->actual);
    }
}

static char *describe_differences(const kb_offset_differences *differences)
{
    KB_AUTO_STRBUF(text, KB_MOVED_TEXT_MAX);
    for (size_t i = 0; i < differences->count && i < KB_MOVED_SHOWN; i++) {
        const kb_offset_difference *d = &differences->items[i];
        kb_strbuf_appendf(&text, "%s group '%s' %s/%" PRId32 ": expected %" PRId64 ", found %" PRId64,
                          i > 0 ? ";" : "", d->group, d->topic, d->partition, d->expected, d->actual);
    }
    if (differences->count > KB_MOVED_SHOWN)
        kb_strbuf_appends(&text, "; ...");
    return kb_strbuf_take(&text);
}

/* ---- what is common ---- */

/* Leaves of the snapshot what the request means; a group that it does not have fails. */
static void narrow_set(kb_group_set *set, const kb_rollback_request *request)
{
    kb_group_set kept = {0};
    for (size_t g = 0; g < set->count; g++) {
        const kb_group_entry *entry = &set->groups[g];
        bool is_meant = request->groups->count == 0;
        for (size_t i = 0; i < request->groups->count; i++)
            is_meant = is_meant || strcmp(request->groups->items[i], entry->group) == 0;
        if (!is_meant)
            continue;
        (void)kb_group_set_add(&kept, entry->group);
        for (size_t p = 0; p < entry->count; p++)
            if (kb_places_is_meant(request->topics, entry->places[p].topic))
                kb_group_entry_put(kb_group_set_find(&kept, entry->group), entry->places[p].topic,
                                   entry->places[p].partition, entry->places[p].offset,
                                   entry->places[p].metadata);
    }
    kb_group_set_done(set);
    *set = kept;
}

static kb_code read_snapshot(const kb_offsets_env *env, const kb_rollback_request *request,
                             kb_rollback_outcome *outcome, kb_error *err)
{
    kb_offset_snapshot *snapshot = &outcome->snapshot;
    if (kb_snapshot_store_read(env->store, request->snapshot_id, snapshot, err) != KB_OK)
        return err->code;
    if (snapshot->cluster_id != NULL && env->cluster_id != NULL && !snapshot->is_foreign &&
        strcmp(snapshot->cluster_id, env->cluster_id) != 0 && !env->force)
        return kb_fail(
            err, KB_TARGET_MISMATCH,
            "offset snapshot '%s' is of cluster %s, target.bootstrap_servers lead to cluster %s; hint: "
            "force",
            request->snapshot_id, snapshot->cluster_id, env->cluster_id);
    kb_progress_set_time(env->progress, KB_REPORT_SNAPSHOT_TIME, snapshot->time_ms);
    narrow_set(&snapshot->groups, request);
    narrow_set(&snapshot->plan, request);
    for (size_t g = 0; g < snapshot->groups.count; g++)
        (void)kb_group_results_of(&outcome->reset.results, snapshot->groups.groups[g].group);
    for (size_t i = 0; i < request->groups->count; i++)
        if (kb_group_set_find(&snapshot->groups, request->groups->items[i]) == NULL)
            kb_group_result_fail(kb_group_results_of(&outcome->reset.results, request->groups->items[i]),
                                 KB_GROUPS_FAILED, "it is not in offset snapshot '%s'", request->snapshot_id);
    return KB_OK;
}

static void copy_set(const kb_group_set *from, kb_group_set *to)
{
    for (size_t g = 0; g < from->count; g++) {
        kb_group_entry *entry = kb_group_set_add(to, from->groups[g].group);
        for (size_t p = 0; p < from->groups[g].count; p++) {
            const kb_group_place *place = &from->groups[g].places[p];
            kb_group_entry_put(entry, place->topic, place->partition, place->offset, place->metadata);
        }
    }
}

/* ---- offset-snapshot ---- */

kb_code kb_offsets_snapshot(const kb_offsets_env *env, const kb_rollback_request *request,
                            kb_rollback_outcome *outcome, kb_error *err)
{
    kb_group_set *groups = &outcome->snapshot.groups;
    bool is_found;
    if (kb_group_change_find(env, request->snapshot_id, &outcome->reset.change, &is_found, err) != KB_OK)
        return err->code;
    for (size_t i = 0; i < request->groups->count; i++)
        (void)kb_group_set_add(groups, request->groups->items[i]);
    if (is_found) {
        kb_group_set_done(groups);
        copy_set(&outcome->reset.change.before, groups);
    } else {
        if (kb_group_change_read(env, groups, &outcome->reset.results, &outcome->current, err) != KB_OK)
            return err->code;
        kb_group_set_done(groups);
        copy_set(&outcome->current, groups);
        narrow_set(groups, request);
    }
    for (size_t g = 0; g < groups->count; g++)
        kb_group_results_of(&outcome->reset.results, groups->groups[g].group)->is_done = true;
    kb_code code = kb_group_results_end(&outcome->reset.results, err);
    if (code == KB_OK && !is_found && !request->dry_run)
        code = kb_group_change_save_plain(env, request->snapshot_id, groups, err);
    kb_group_results_tell(&outcome->reset.results, request->dry_run, env->progress, NULL);
    return code;
}

/* ---- offset-rollback ---- */

static kb_code check_moved(const kb_offsets_env *env, kb_rollback_outcome *outcome, kb_error *err)
{
    kb_offset_differences moved = {0};
    kb_offsets_find_moved(&outcome->snapshot, &outcome->current, &moved);
    kb_code code = KB_OK;
    if (moved.count > 0 && !env->force) {
        KB_AUTOFREE char *text = describe_differences(&moved);
        tell_differences(&moved, env->progress);
        code =
            kb_fail(err, KB_OFFSETS_MOVED,
                    "somebody committed since offset snapshot '%s' was made, nothing was changed:%s; hint: "
                    "force",
                    outcome->snapshot.id != NULL ? outcome->snapshot.id : "", text);
    }
    kb_offset_differences_done(&moved);
    return code;
}

/* The present offsets are saved first, with what is about to be committed as their plan. */
static kb_code save_present(const kb_offsets_env *env, const kb_rollback_request *request,
                            kb_rollback_outcome *outcome, kb_error *err)
{
    KB_AUTOFREE char *suffix = kb_asprintf("-before-%s", request->stamp);
    outcome->saved_id = kb_name_child(request->snapshot_id, suffix, KB_NAME_SNAPSHOT_ID_MAX);
    bool is_found;
    kb_group_change earlier = {0};
    kb_code code = kb_group_change_find(env, outcome->saved_id, &earlier, &is_found, err);
    kb_group_change_done(&earlier);
    if (code != KB_OK || is_found)
        return code;
    return kb_group_change_save(env, outcome->saved_id, &outcome->reset.change, err);
}

kb_code kb_offsets_rollback(const kb_offsets_env *env, const kb_rollback_request *request,
                            kb_rollback_outcome *outcome, kb_error *err)
{
    kb_group_results *results = &outcome->reset.results;
    kb_group_change *change = &outcome->reset.change;
    if (read_snapshot(env, request, outcome, err) != KB_OK ||
        kb_group_state_check(env, &outcome->snapshot.groups, results, err) != KB_OK ||
        kb_group_change_read(env, &outcome->snapshot.groups, results, &outcome->current, err) != KB_OK)
        return err->code;
    size_t failed = kb_group_results_failed(results);
    copy_set(&outcome->snapshot.groups, &change->plan);
    kb_group_change_set_before(change, &outcome->current);
    kb_offsets_compare(&outcome->snapshot.groups, &outcome->current, false, &outcome->differences);
    if (failed > 0 && !env->continue_on_error) {
        kb_group_results_tell(results, request->dry_run, env->progress, env->metrics);
        return kb_group_results_end(results, err);
    }
    if (check_moved(env, outcome, err) != KB_OK)
        return err->code;
    if (request->dry_run) {
        kb_group_results_tell(results, true, env->progress, env->metrics);
        return kb_group_results_end(results, err);
    }
    if (outcome->differences.count > 0 && save_present(env, request, outcome, err) != KB_OK)
        return err->code;
    return kb_offsets_apply(env, NULL, &outcome->current, &outcome->reset, err);
}

/* ---- offset-verify ---- */

kb_code kb_offsets_verify(const kb_offsets_env *env, const kb_rollback_request *request,
                          kb_rollback_outcome *outcome, kb_error *err)
{
    kb_group_results *results = &outcome->reset.results;
    if (read_snapshot(env, request, outcome, err) != KB_OK ||
        kb_group_change_read(env, &outcome->snapshot.groups, results, &outcome->current, err) != KB_OK)
        return err->code;
    kb_offsets_compare(&outcome->snapshot.groups, &outcome->current, request->strict, &outcome->differences);
    size_t count = outcome->differences.count;
    kb_progress_set_flag(env->progress, KB_REPORT_MATCHED, count == 0);
    tell_differences(&outcome->differences, env->progress);
    for (size_t i = 0; i < results->count; i++)
        results->items[i].is_done = results->items[i].code == KB_OK;
    kb_group_results_tell(results, false, env->progress, NULL);
    if (kb_group_results_end(results, err) != KB_OK)
        return err->code;
    if (count == 0)
        return KB_OK;
    KB_AUTOFREE char *text = describe_differences(&outcome->differences);
    if (request->strict)
        return kb_fail(err, KB_VERIFICATION_FAILED, "%zu offsets are not those of snapshot '%s':%s", count,
                       request->snapshot_id, text);
    kb_progress_add_finding(env->progress, KB_FINDING_DIFFERENCES_FOUND, NULL, -1,
                            "%zu offsets are not those of snapshot '%s':%s", count, request->snapshot_id,
                            text);
    return KB_OK;
}

/* ---- offset-delete ---- */

kb_code kb_offsets_delete(kb_snapshot_store *store, const char *snapshot_id, kb_progress *progress,
                          kb_error *err)
{
    kb_code code = kb_snapshot_store_remove(store, snapshot_id, err);
    if (code != KB_SNAPSHOT_NOT_FOUND)
        return code;
    kb_progress_add_finding(progress, KB_FINDING_SNAPSHOT_ABSENT, NULL, -1, "%s", kb_error_text(err));
    kb_error_done(err);
    return KB_OK;
}

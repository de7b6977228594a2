#include "worker/restore/group_step.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/catalog/group_snapshot.h"
#include "worker/catalog/layout.h"
#include "worker/kafka/kafka_groups_live.h"
#include "worker/offsets/group_change.h"
#include "worker/offsets/group_state.h"
#include "worker/offsets/reset.h"
#include "worker/restore/group_offsets.h"

#define KB_STEP_PARALLELISM 10

void kb_group_step_done(kb_group_step *step)
{
    kb_group_set_done(&step->names);
    kb_group_set_done(&step->sources);
    kb_kafka_groups_free(step->groups);
    kb_snapshot_store_free(step->store);
    free(step->inputs);
}

static const kb_config_restore *config_of(const kb_group_step *step)
{
    return &step->settings->config->restore;
}

static bool is_translated(const kb_group_step *step)
{
    const kb_config_restore *config = config_of(step);
    return !config->reset_consumer_offsets || config->offset_reset.strategy == KB_CONFIG_OFFSET_HEADER_BASED;
}

/* ---- preparing ---- */

static bool is_source(const kb_restore_plan *plan, const char *topic)
{
    for (size_t i = 0; i < plan->source_count; i++)
        if (strcmp(plan->sources[i].topic->name, topic) == 0)
            return true;
    return false;
}

static void take_sources(kb_group_step *step, const kb_group_set *stored)
{
    const kb_config_restore *config = config_of(step);
    for (size_t g = 0; g < stored->count; g++) {
        const kb_group_entry *entry = &stored->groups[g];
        bool is_named = kb_group_set_find(&step->names, entry->group) != NULL;
        for (size_t p = 0; p < entry->count && (is_named || config->auto_consumer_groups); p++)
            if (is_source(step->plan, entry->places[p].topic))
                kb_group_entry_put(kb_group_set_add(&step->sources, entry->group), entry->places[p].topic,
                                   entry->places[p].partition, entry->places[p].offset, NULL);
    }
    for (size_t g = 0; g < step->sources.count; g++)
        (void)kb_group_set_add(&step->names, step->sources.groups[g].group);
}

static kb_code read_sources(kb_group_step *step, kb_error *err)
{
    KB_CLEANUP(kb_group_set_done) kb_group_set stored = {0};
    kb_group_snapshot_notes notes = {0};
    const kb_backup *backup = step->plan->backup;
    kb_code code = kb_group_snapshot_read(step->settings->storage, backup, &stored, &notes, err);
    if (code == KB_ERR_NOT_FOUND) {
        kb_log(KB_LOG_WARN, "the backup has no group snapshot", KB_STR("backup", backup->backup_id));
        kb_error_done(err);
        return KB_OK;
    }
    if (code != KB_OK)
        return code == KB_ERR_FORMAT ? kb_wrap_as(err, KB_BACKUP_CORRUPT, "backup '%s'", backup->backup_id)
                                     : code;
    if (notes.skipped > 0)
        kb_log(KB_LOG_WARN, "the group snapshot has offsets that mean nothing; they are left out",
               KB_INT("offsets", notes.skipped));
    step->has_snapshot = true;
    take_sources(step, &stored);
    return KB_OK;
}

static kb_code check_config(const kb_group_step *step, kb_error *err)
{
    const kb_config_restore *config = config_of(step);
    if (config->reset_consumer_offsets && config->offset_reset.strategy == KB_CONFIG_OFFSET_FROM_MAPPING)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "restore.offset_reset.strategy: fromMapping is for offset-reset; hint: headerBased");
    if (config->reset_consumer_offsets && config->offset_reset.strategy == KB_CONFIG_OFFSET_TIMESTAMP &&
        !config->offset_reset.timestamp_ms.is_set)
        return kb_fail(err, KB_CONFIG_INVALID, "restore.offset_reset.timestamp: strategy timestamp needs it");
    if (config->reset_consumer_offsets && config->offset_reset.strategy == KB_CONFIG_OFFSET_OFFSET &&
        !config->offset_reset.offset.is_set)
        return kb_fail(err, KB_CONFIG_INVALID, "restore.offset_reset.offset: strategy offset needs it");
    if (step->moves && is_translated(step) && config->target_policy == KB_CONFIG_TARGET_APPEND)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "restore.consumer_groups: not with target_policy append: where the records lie among "
                       "others is not known; hint: include_original_offset_header, then offset-reset with "
                       "headerBased");
    return KB_OK;
}

static void set_env(kb_group_step *step)
{
    const kb_restore_settings *settings = step->settings;
    char hex[2 * KB_SHA256_SIZE + 1];
    kb_hex_encode(step->plan->sha256, KB_SHA256_SIZE, hex);
    step->inputs = kb_asprintf("%s %s", step->restore_id, hex);
    step->store = kb_snapshot_store_new(settings->storage, true);
    step->env = (kb_offsets_env){
        .groups = step->groups,
        .admin = step->admin,
        .kafka = settings->kafka,
        .store = step->store,
        .cluster = settings->kafka->bootstrap_servers,
        .cluster_id = step->cluster_id,
        .run_kind = "restore",
        .job_uid = settings->holder->job_uid != NULL ? settings->holder->job_uid : "",
        .inputs = step->inputs,
        .stop = settings->stop,
        .progress = settings->progress,
        .metrics = step->metrics,
        .parallelism = KB_STEP_PARALLELISM,
        .is_part = true,
    };
}

kb_code kb_group_step_prepare(kb_group_step *step, kb_error *err)
{
    const kb_config_restore *config = config_of(step);
    step->moves = config->consumer_groups.count > 0 || config->auto_consumer_groups;
    if (config->reset_consumer_offsets && !step->moves)
        kb_log(KB_LOG_WARN, "restore.reset_consumer_offsets has no effect: neither consumer_groups nor "
                            "auto_consumer_groups says which groups");
    if (check_config(step, err) != KB_OK)
        return err->code;
    if (!step->moves && config->rollback_snapshot_id == NULL)
        return KB_OK;
    for (size_t i = 0; i < config->consumer_groups.count; i++)
        (void)kb_group_set_add(&step->names, config->consumer_groups.items[i]);
    if (step->moves && read_sources(step, err) != KB_OK)
        return err->code;
    if (kb_kafka_groups_new(step->settings->kafka, step->settings->breaker, &step->groups, err) != KB_OK)
        return err->code;
    set_env(step);
    return KB_OK;
}

kb_code kb_group_step_check(kb_group_step *step, kb_checks *checks, kb_error *err)
{
    if (!step->moves || step->names.count == 0)
        return KB_OK;
    KB_CLEANUP(kb_group_results_done) kb_group_results results = {0};
    if (kb_group_state_check(&step->env, &step->names, &results, err) != KB_OK)
        return err->code;
    for (size_t i = 0; i < results.count; i++)
        if (results.items[i].code != KB_OK)
            kb_checks_refuse(checks, results.items[i].code, "groups", "group '%s': %s",
                             results.items[i].group, results.items[i].message);
    return KB_OK;
}

/* ---- the snapshot before ---- */

/* Of a group: what it has on every partition of the target topics, KB_GROUP_NO_OFFSET included. */
static bool take_present(const kb_group_step *step, const kb_group_entry *current, kb_group_set *to)
{
    bool any = false;
    kb_group_entry *entry = kb_group_set_add(to, current->group);
    for (size_t i = 0; i < step->plan->target_count; i++) {
        const kb_restore_target *target = &step->plan->targets[i];
        const char *topic = step->plan->topics[target->topic].name;
        const kb_group_place *place = kb_group_entry_find(current, topic, target->partition);
        kb_group_entry_put(entry, topic, target->partition,
                           place != NULL ? place->offset : KB_GROUP_NO_OFFSET,
                           place != NULL ? place->metadata : NULL);
        any = any || (place != NULL && place->offset >= 0);
    }
    return any;
}

static kb_code all_names(kb_group_step *step, kb_group_set *names, kb_error *err)
{
    KB_CLEANUP(kb_group_infos_done) kb_group_infos infos = {0};
    kb_kafka_call call = kb_offsets_call(&step->env);
    for (size_t g = 0; g < step->names.count; g++)
        (void)kb_group_set_add(names, step->names.groups[g].group);
    if (config_of(step)->consumer_groups.count > 0)
        return KB_OK;
    if (kb_kafka_groups_list(step->groups, &call, &infos, err) != KB_OK)
        return err->code;
    if (infos.failures > 0)
        return kb_fail_retryable(err, KB_TEMPORARY_FAILURE,
                                 "not all groups of the target could be listed: %s",
                                 infos.failure != NULL ? infos.failure : "");
    for (size_t i = 0; i < infos.count; i++)
        (void)kb_group_set_add(names, infos.items[i].group);
    return KB_OK;
}

static kb_code save_present(kb_group_step *step, const char *id, kb_error *err)
{
    KB_CLEANUP(kb_group_set_done) kb_group_set names = {0};
    KB_CLEANUP(kb_group_set_done) kb_group_set current = {0};
    KB_CLEANUP(kb_group_set_done) kb_group_set kept = {0};
    KB_CLEANUP(kb_group_results_done) kb_group_results results = {0};
    if (all_names(step, &names, err) != KB_OK ||
        kb_group_change_read(&step->env, &names, &results, &current, err) != KB_OK ||
        kb_group_results_end(&results, err) != KB_OK)
        return err->code;
    for (size_t g = 0; g < current.count; g++) {
        kb_group_set one = {0};
        bool is_meant = kb_group_set_find(&step->names, current.groups[g].group) != NULL;
        if (take_present(step, &current.groups[g], &one) || is_meant)
            (void)take_present(step, &current.groups[g], &kept);
        kb_group_set_done(&one);
    }
    return kb_group_change_save_plain(&step->env, id, &kept, err);
}

kb_code kb_group_step_save(kb_group_step *step, kb_error *err)
{
    const char *id = config_of(step)->rollback_snapshot_id;
    if (id == NULL)
        return KB_OK;
    bool is_found = false;
    kb_group_change earlier = {0};
    kb_code code = kb_group_change_find(&step->env, id, &earlier, &is_found, err);
    kb_group_change_done(&earlier);
    if (code == KB_OK && !is_found)
        code = save_present(step, id, err);
    if (code == KB_OK)
        kb_progress_set_text(step->settings->progress, KB_REPORT_SNAPSHOT_ID, id);
    return code == KB_OK ? KB_OK : kb_wrap(err, "saving the offsets before the restore");
}

/* ---- the move ---- */

static void find_missing(const kb_group_step *step)
{
    const kb_groups_ref *ref = step->plan->backup->groups;
    kb_progress *progress = step->settings->progress;
    if (config_of(step)->auto_consumer_groups && (!step->has_snapshot || (ref != NULL && !ref->complete)))
        kb_progress_add_finding(progress, KB_FINDING_GROUPS_INCOMPLETE, NULL, -1,
                                step->has_snapshot ? "the group snapshot of the backup is not complete"
                                                   : "the backup has no group snapshot");
    for (size_t g = 0; g < step->names.count; g++) {
        const char *group = step->names.groups[g].group;
        if (kb_group_set_find(&step->sources, group) != NULL)
            continue;
        kb_log(KB_LOG_WARN, "the backup has no offsets of a group on the restored topics",
               KB_STR("group", group));
        kb_progress_add_group(progress, group, "failure", 0, "the backup has no offsets of it");
        kb_progress_add_finding(progress, KB_FINDING_GROUPS_INCOMPLETE, NULL, -1,
                                "the backup has no offsets of group '%s' on the restored topics", group);
    }
}

static kb_code export_map(const kb_group_step *step, const kb_group_offsets *offsets, kb_error *err)
{
    kb_offset_map_about about = {
        .source_cluster_id = step->plan->backup->cluster_id,
        .target_cluster_id = step->cluster_id,
        .created_at = kb_clock_wall_ms(),
        .sources = &offsets->renamed,
        .targets = &offsets->targets,
    };
    KB_AUTOFREE char *text = NULL;
    size_t len = 0;
    if (kb_offset_map_encode(&offsets->map, &about, &text, &len, err) != KB_OK)
        return err->code;
    const char *path = config_of(step)->offset_report;
    if (path != NULL && kb_file_write(path, text, len, err) != KB_OK)
        return kb_wrap(err, "restore.offset_report");
    if (!step->can_write)
        return KB_OK;
    KB_AUTOFREE char *key = kb_layout_offset_mapping_key(step->restore_id);
    kb_code code = kb_storage_put_if_absent(step->settings->storage, key, kb_view_of(text, len), err);
    if (code != KB_ERR_EXISTS)
        return code;
    kb_error_done(err); /* of an earlier attempt: but for its time it is the same */
    return KB_OK;
}

static kb_code commit(kb_group_step *step, const kb_group_set *targets, kb_error *err)
{
    KB_CLEANUP(kb_reset_outcome_done) kb_reset_outcome outcome = {0};
    KB_CLEANUP(kb_group_set_done) kb_group_set current = {0};
    if (kb_group_state_check(&step->env, targets, &outcome.results, err) != KB_OK ||
        kb_group_change_read(&step->env, targets, &outcome.results, &current, err) != KB_OK)
        return err->code;
    for (size_t g = 0; g < targets->count; g++) {
        kb_group_entry *entry = kb_group_set_add(&outcome.change.plan, targets->groups[g].group);
        for (size_t p = 0; p < targets->groups[g].count; p++) {
            const kb_group_place *place = &targets->groups[g].places[p];
            kb_group_entry_put(entry, place->topic, place->partition, place->offset, NULL);
        }
    }
    kb_group_change_set_before(&outcome.change, &current);
    return kb_offsets_apply(&step->env, NULL, &current, &outcome, err);
}

static kb_code move_translated(kb_group_step *step, const int64_t *starts, const kb_target_view *view,
                               kb_error *err)
{
    KB_CLEANUP(kb_group_offsets_done)
    kb_group_offsets offsets = {
        .settings = step->settings,
        .plan = step->plan,
        .starts = starts,
        .view = view,
        .sources = &step->sources,
        .wants_map = step->moves || config_of(step)->offset_report != NULL,
    };
    if (kb_group_offsets_compute(&offsets, err) != KB_OK || export_map(step, &offsets, err) != KB_OK)
        return err->code;
    if (offsets.beyond > 0)
        kb_log(KB_LOG_WARN, "offsets of groups lie behind the end of the backup; they go to the end",
               KB_INT("offsets", offsets.beyond));
    if (!step->moves)
        return KB_OK;
    find_missing(step);
    return commit(step, &offsets.targets, err);
}

/* The strategies of offset-reset, on all partitions of the restored topics. */
static kb_code move_by_strategy(kb_group_step *step, kb_error *err)
{
    const kb_config_offset_reset *config = &config_of(step)->offset_reset;
    KB_AUTOFREE char **groups = kb_calloc(step->names.count + 1, sizeof *groups);
    KB_AUTOFREE char **topics = kb_calloc(step->plan->topic_count + 1, sizeof *topics);
    for (size_t g = 0; g < step->names.count; g++)
        groups[g] = step->names.groups[g].group;
    for (size_t t = 0; t < step->plan->topic_count; t++)
        topics[t] = step->plan->topics[t].name;
    kb_strings group_list = {.items = groups, .count = step->names.count};
    kb_strings topic_list = {.items = topics, .count = step->plan->topic_count};
    kb_reset_request request = {
        .groups = &group_list,
        .topics = &topic_list,
        .strategy = (kb_config_offset_strategy)config->strategy,
        .timestamp_ms = config->timestamp_ms.value,
        .offset = config->offset.value,
    };
    KB_CLEANUP(kb_reset_outcome_done) kb_reset_outcome outcome = {0};
    return kb_offsets_reset(&step->env, &request, &outcome, err);
}

kb_code kb_group_step_move(kb_group_step *step, const int64_t *starts, const kb_target_view *view,
                           kb_error *err)
{
    if (!step->moves && config_of(step)->offset_report == NULL)
        return KB_OK;
    kb_log(KB_LOG_INFO, "moving the offsets of groups", KB_INT("groups", step->names.count));
    if (is_translated(step) || config_of(step)->offset_report != NULL) {
        bool moves = step->moves;
        step->moves = moves && is_translated(step);
        kb_code code = move_translated(step, starts, view, err);
        step->moves = moves;
        if (code != KB_OK || is_translated(step))
            return code;
    }
    return step->moves ? move_by_strategy(step, err) : KB_OK;
}

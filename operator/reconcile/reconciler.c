#include "operator/reconcile/reconciler.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/jobs/config_render.h"
#include "operator/jobs/cronjob_builder.h"
#include "operator/jobs/object_names.h"
#include "operator/reconcile/backup.h"
#include "operator/reconcile/effects.h"
#include "operator/reconcile/observe.h"
#include "operator/reconcile/offset_reset.h"
#include "operator/reconcile/offset_rollback.h"
#include "operator/reconcile/projection.h"
#include "operator/reconcile/restore.h"

/* ---- one pass ---- */

typedef void (*kb_decide_fn)(const kb_snapshot *snapshot, const kb_surroundings *around, kb_plan *plan);

static const kb_decide_fn deciders[KB_KIND_COUNT] = {
    [KB_KIND_BACKUP] = kb_decide_backup,
    [KB_KIND_RESTORE] = kb_decide_restore,
    [KB_KIND_OFFSET_RESET] = kb_decide_offset_reset,
    [KB_KIND_OFFSET_ROLLBACK] = kb_decide_offset_rollback,
};

static kb_code pass_once(kb_runtime *runtime, kb_kind kind, json_t *object, bool only_telling,
                         kb_memory *memory, kb_reconcile_result *result, kb_effects_result *done,
                         kb_error *err)
{
    kb_snapshot snapshot = {0};
    kb_plan plan;
    kb_plan_init(&plan);
    *done = (kb_effects_result){.requeue_ms = -1};
    kb_code code = kb_observe(runtime, kind, object, memory, &snapshot, &done->fault, err);
    if (code == KB_OK) {
        kb_capabilities caps = kb_runtime_caps(runtime);
        const kb_surroundings around = {kb_clock_now_wall_ms(runtime->clock), &caps, runtime->settings};
        deciders[kind](&snapshot, &around, &plan);
        code = kb_effects_perform(runtime, &snapshot, &plan, only_telling, memory, done, err);
        if (done->requeue_ms >= 0)
            kb_plan_requeue(&plan, done->requeue_ms);
        result->requeue_ms = plan.requeue_ms;
    }
    kb_plan_done(&plan);
    kb_snapshot_done(&snapshot);
    return code;
}

/* A refusal that a person has to know of; everything else goes by itself. */
static bool is_worth_telling(kb_kube_class fault)
{
    return fault == KB_KUBE_DENIED || fault == KB_KUBE_EXISTS || fault == KB_KUBE_INVALID;
}

static int64_t interval_of(kb_runtime *runtime, kb_kind kind, const json_t *object)
{
    if (kind != KB_KIND_BACKUP)
        return 0;
    kb_spec spec;
    kb_problems problems;
    kb_problems_init(&problems, NULL);
    kb_spec_read(kind, object, &problems, &spec);
    kb_problems_done(&problems);
    int64_t interval = 0;
    if (spec.backup.schedule != NULL && !spec.backup.suspend) {
        kb_capabilities caps = kb_runtime_caps(runtime);
        kb_schedule schedule;
        kb_schedule_read(&spec.backup, &caps, &schedule);
        if (schedule.reason == NULL)
            interval = kb_cron_longest_interval(&schedule.cron, schedule.zone,
                                                kb_clock_now_wall_ms(runtime->clock) / 1000);
        kb_schedule_done(&schedule);
    }
    kb_spec_done(&spec);
    return interval;
}

static void show(kb_runtime *runtime, kb_kind kind, const char *name_space, const char *name)
{
    KB_AUTO_TREE(object);
    object = kb_object_store_get(kb_informer_store(runtime->resources[kind]), name_space, name);
    if (object == NULL || runtime->series == NULL)
        return;
    const kb_series_facts facts = {interval_of(runtime, kind, object)};
    kb_series_update(runtime->series, kind, object, &facts);
}

static void remember_fault(kb_memory *memory, kb_kube_class fault, const kb_error *err)
{
    memory->fault = fault;
    memory->faults++;
    free(memory->fault_text);
    memory->fault_text = kb_strdup(kb_error_text(err));
}

/* The status tells of a new refusal at once, not only when the pass is repeated. */
static void tell_of_fault(kb_runtime *runtime, kb_kind kind, const char *name_space, const char *name,
                          kb_memory *memory)
{
    KB_AUTO_TREE(object);
    object = kb_object_store_get(kb_informer_store(runtime->resources[kind]), name_space, name);
    if (object == NULL)
        return;
    KB_AUTO_ERROR(err);
    kb_reconcile_result result = {.requeue_ms = -1};
    kb_effects_result done;
    if (pass_once(runtime, kind, object, true, memory, &result, &done, &err) != KB_OK)
        kb_error_done(&err); /* the pass is repeated anyway */
}

static kb_code reconcile_object(kb_runtime *runtime, kb_kind kind, json_t *object, const char *name_space,
                                const char *name, kb_reconcile_result *result, kb_error *err)
{
    kb_memory memory = kb_runtime_recall(runtime, kind, name_space, name, kb_kube_uid(object));
    bool had_fault = memory.fault != KB_KUBE_FINE;
    kb_effects_result done;
    kb_code code = pass_once(runtime, kind, object, false, &memory, result, &done, err);
    if (code == KB_OK) {
        memory.fault = KB_KUBE_FINE;
        memory.faults = 0;
        /* What the status says of the refusal is not true any more. */
        if (had_fault)
            result->requeue_ms = 0;
    } else {
        result->fault = done.is_adoption_refused ? KB_KUBE_INVALID : done.fault;
        if (is_worth_telling(done.fault)) {
            bool is_new = memory.fault_text == NULL || memory.fault != done.fault ||
                          strcmp(memory.fault_text, kb_error_text(err)) != 0;
            remember_fault(&memory, done.fault, err);
            if (is_new)
                tell_of_fault(runtime, kind, name_space, name, &memory);
        }
    }
    kb_runtime_remember(runtime, kind, name_space, name, &memory);
    kb_memory_done(&memory);
    return code;
}

static kb_code reconcile(kb_runtime *runtime, kb_kind kind, const char *name_space, const char *name,
                         kb_reconcile_result *result, kb_error *err)
{
    KB_AUTO_TREE(object);
    object = kb_object_store_get(kb_informer_store(runtime->resources[kind]), name_space, name);
    if (object == NULL) {
        result->is_gone = true;
        kb_runtime_remember(runtime, kind, name_space, name, NULL);
        kb_series_drop(runtime->series, kind, name_space, name);
        return KB_OK;
    }
    kb_code code = reconcile_object(runtime, kind, object, name_space, name, result, err);
    show(runtime, kind, name_space, name);
    return code;
}

static kb_code reconcile_backup(void *ctx, const char *name_space, const char *name,
                                kb_reconcile_result *result, kb_error *err)
{
    return reconcile(ctx, KB_KIND_BACKUP, name_space, name, result, err);
}

static kb_code reconcile_restore(void *ctx, const char *name_space, const char *name,
                                 kb_reconcile_result *result, kb_error *err)
{
    return reconcile(ctx, KB_KIND_RESTORE, name_space, name, result, err);
}

static kb_code reconcile_offset_reset(void *ctx, const char *name_space, const char *name,
                                      kb_reconcile_result *result, kb_error *err)
{
    return reconcile(ctx, KB_KIND_OFFSET_RESET, name_space, name, result, err);
}

static kb_code reconcile_offset_rollback(void *ctx, const char *name_space, const char *name,
                                         kb_reconcile_result *result, kb_error *err)
{
    return reconcile(ctx, KB_KIND_OFFSET_ROLLBACK, name_space, name, result, err);
}

/* ---- what wakes whom ---- */

static void wake(kb_runtime *runtime, kb_kind kind, const json_t *object)
{
    kb_controller_enqueue(runtime->controller, kb_kind_info_of(kind)->kind, kb_kube_namespace(object),
                          kb_kube_name(object));
}

/* Whether a status says something new that is not just progress: `run` counts when its state became final. */
static bool is_status_news(const json_t *old_status, const json_t *new_status)
{
    static const char *const finals[] = {"Succeeded", "DoneWithFindings", "Failed"};
    KB_AUTO_TREE(old);
    KB_AUTO_TREE(new);
    old = json_is_object(old_status) ? json_copy((json_t *)(uintptr_t)old_status) : json_object();
    new = json_is_object(new_status) ? json_copy((json_t *)(uintptr_t)new_status) : json_object();
    json_object_del(old, "run");
    json_object_del(new, "run");
    if (!json_equal(old, new))
        return true;
    const char *old_state = kb_tree_text_or_empty(old_status, "run", "state", NULL);
    const char *new_state = kb_tree_text_or_empty(new_status, "run", "state", NULL);
    if (strcmp(old_state, new_state) == 0)
        return false;
    for (size_t i = 0; i < KB_ARRAY_LEN(finals); i++)
        if (strcmp(new_state, finals[i]) == 0)
            return true;
    return false;
}

static bool is_news(const json_t *old_object, const json_t *new_object)
{
    static const char *const names[] = {"uid", "generation", "annotations", "deletionTimestamp",
                                        "finalizers"};
    if (old_object == NULL || new_object == NULL)
        return true;
    const json_t *old_meta = kb_tree_at(old_object, "metadata", NULL);
    const json_t *new_meta = kb_tree_at(new_object, "metadata", NULL);
    for (size_t i = 0; i < KB_ARRAY_LEN(names); i++) {
        const json_t *a = kb_tree_at(old_meta, names[i], NULL), *b = kb_tree_at(new_meta, names[i], NULL);
        if ((a == NULL) != (b == NULL) || (a != NULL && !json_equal(a, b)))
            return true;
    }
    return is_status_news(kb_tree_at(old_object, "status", NULL), kb_tree_at(new_object, "status", NULL));
}

/* What waits for something may have been waiting for this KafkaBackup or KafkaRestore. */
static void wake_waiting(kb_runtime *runtime, const char *name_space)
{
    static const kb_kind kinds[] = {KB_KIND_RESTORE, KB_KIND_OFFSET_RESET, KB_KIND_OFFSET_ROLLBACK};
    for (size_t k = 0; k < KB_ARRAY_LEN(kinds); k++) {
        KB_AUTO_TREE(all);
        all = kb_object_store_list(kb_informer_store(runtime->resources[kinds[k]]), name_space);
        for (size_t i = 0; i < json_array_size(all); i++)
            if (kb_tree_at(json_array_get(all, i), "status", "startTime", NULL) == NULL &&
                kb_tree_at(json_array_get(all, i), "status", "completionTime", NULL) == NULL)
                wake(runtime, kinds[k], json_array_get(all, i));
    }
}

static void on_resource(kb_runtime *runtime, kb_kind kind, const json_t *old_object, const json_t *new_object)
{
    const json_t *object = new_object != NULL ? new_object : old_object;
    kb_kube_metrics_managed(runtime->metrics, kb_kind_info_of(kind)->kind,
                            kb_object_store_count(kb_informer_store(runtime->resources[kind])));
    if (!is_news(old_object, new_object))
        return;
    wake(runtime, kind, object);
    if (kind == KB_KIND_BACKUP || kind == KB_KIND_RESTORE)
        wake_waiting(runtime, kb_kube_namespace(object));
}

static void on_backup(void *ctx, const json_t *old_object, const json_t *new_object)
{
    on_resource(ctx, KB_KIND_BACKUP, old_object, new_object);
}

static void on_restore(void *ctx, const json_t *old_object, const json_t *new_object)
{
    on_resource(ctx, KB_KIND_RESTORE, old_object, new_object);
}

static void on_offset_reset(void *ctx, const json_t *old_object, const json_t *new_object)
{
    on_resource(ctx, KB_KIND_OFFSET_RESET, old_object, new_object);
}

static void on_offset_rollback(void *ctx, const json_t *old_object, const json_t *new_object)
{
    on_resource(ctx, KB_KIND_OFFSET_ROLLBACK, old_object, new_object);
}

/* A workload changed: its label names the UID of its CR. That wakes; belonging is decided by owners. */
static void on_workload(void *ctx, const json_t *old_object, const json_t *new_object)
{
    kb_runtime *runtime = ctx;
    const json_t *object = new_object != NULL ? new_object : old_object;
    const char *uid = kb_tree_text(object, "metadata", "labels", KB_LABEL_UID, NULL);
    for (int kind = 0; uid != NULL && kind < KB_KIND_COUNT; kind++) {
        KB_AUTO_TREE(owner);
        owner = kb_object_store_get_uid(kb_informer_store(runtime->resources[kind]), uid);
        if (owner != NULL)
            wake(runtime, (kb_kind)kind, owner);
    }
}

static void on_job(void *ctx, const json_t *old_object, const json_t *new_object)
{
    if (new_object == NULL)
        kb_runtime_note_deleted_job(ctx, kb_kube_uid(old_object));
    on_workload(ctx, old_object, new_object);
}

/* ---- set-up ---- */

/* The namespace of the release and those of the setting; texts are borrowed. */
static const char **served_namespaces(const kb_settings *settings, size_t *count)
{
    const json_t *listed = settings->workload_namespaces;
    const char **names = kb_calloc(json_array_size(listed) + 1, sizeof *names);
    *count = 0;
    names[(*count)++] = settings->release_namespace;
    for (size_t i = 0; i < json_array_size(listed); i++) {
        const char *name = json_string_value(json_array_get(listed, i));
        if (name != NULL && strcmp(name, settings->release_namespace) != 0)
            names[(*count)++] = name;
    }
    return names;
}

void kb_reconciler_add_informers(kb_runtime *runtime, kb_informers *informers, const char *const *namespaces,
                                 size_t namespace_count)
{
    static const kb_informer_fn on_change[KB_KIND_COUNT] = {
        [KB_KIND_BACKUP] = on_backup,
        [KB_KIND_RESTORE] = on_restore,
        [KB_KIND_OFFSET_RESET] = on_offset_reset,
        [KB_KIND_OFFSET_ROLLBACK] = on_offset_rollback,
    };
    kb_informer_options options = {
        .namespaces = namespaces, .namespace_count = namespace_count, .ctx = runtime};
    for (int kind = 0; kind < KB_KIND_COUNT; kind++) {
        options.resource = kb_runtime_resource((kb_kind)kind);
        options.project = kb_project_resource;
        options.on_change = on_change[kind];
        runtime->resources[kind] = kb_informers_add(informers, &options);
    }
    /* Where workloads may be made only in some namespaces, they cannot be seen elsewhere either. */
    size_t served_count = namespace_count;
    KB_AUTOFREE const char **served = NULL;
    if (namespace_count == 0 && !runtime->settings->cluster_wide_workloads) {
        served = served_namespaces(runtime->settings, &served_count);
        options.namespaces = served;
        options.namespace_count = served_count;
    }
    options.is_compact = true;
    options.label_selector = KB_LABEL_MANAGED_BY "=" KB_MANAGED_BY;
    options.resource = &KB_KUBE_JOBS;
    options.project = kb_project_job;
    options.on_change = on_job;
    runtime->jobs = kb_informers_add(informers, &options);
    options.resource =
        kb_runtime_caps(runtime).has_cron_job_v1 ? &KB_KUBE_CRON_JOBS : &KB_KUBE_CRON_JOBS_V1BETA1;
    options.project = kb_project_cron_job;
    options.on_change = on_workload;
    runtime->cron_jobs = kb_informers_add(informers, &options);
    options.resource = &KB_KUBE_PODS;
    options.project = kb_project_pod;
    runtime->pods = kb_informers_add(informers, &options);
}

/* Immutable, of one of our objects, and holding what its name says. */
static bool is_good_config_map(kb_runtime *runtime, const json_t *map)
{
    const json_t *owner = kb_kube_controller(map);
    const char *uid = json_string_value(json_object_get(owner, "uid"));
    const char *text = kb_kube_text(map, "data", KB_RUN_CONFIG_KEY, NULL);
    if (uid == NULL || text == NULL || !json_is_true(json_object_get(map, "immutable")))
        return false;
    uint8_t digest[KB_SHA256_SIZE];
    char hex[2 * KB_SHA256_SIZE + 1];
    kb_sha256(text, strlen(text), digest);
    kb_hex_encode(digest, sizeof digest, hex);
    for (int kind = 0; kind < KB_KIND_COUNT; kind++) {
        KB_AUTO_TREE(object);
        object = kb_object_store_get_uid(kb_informer_store(runtime->resources[kind]), uid);
        if (object == NULL)
            continue;
        KB_AUTOFREE char *name = kb_name_config_map((kb_kind)kind, kb_kube_name(object), hex);
        return strcmp(name, kb_kube_name(map)) == 0;
    }
    return false;
}

static void confirm_config_maps_in(kb_runtime *runtime, const char *name_space)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_KUBE_REPLY(reply);
    const kb_kube_ref ref = {.resource = &KB_KUBE_CONFIG_MAPS, .name_space = name_space};
    if (kb_kube_list(runtime->client, &ref, KB_LABEL_MANAGED_BY "=" KB_MANAGED_BY, NULL, &reply, &err) !=
        KB_OK)
        return;
    for (size_t i = 0; i < json_array_size(reply.object); i++) {
        const json_t *map = json_array_get(reply.object, i);
        if (is_good_config_map(runtime, map))
            kb_runtime_confirm(runtime, KB_KUBE_CONFIG_MAPS.kind, kb_kube_namespace(map), kb_kube_name(map),
                               true);
    }
}

void kb_reconciler_confirm_config_maps(kb_runtime *runtime, const char *const *namespaces,
                                       size_t namespace_count)
{
    size_t served_count = namespace_count;
    KB_AUTOFREE const char **served = NULL;
    if (namespace_count == 0 && !runtime->settings->cluster_wide_workloads) {
        served = served_namespaces(runtime->settings, &served_count);
        namespaces = served;
    }
    if (served_count == 0)
        confirm_config_maps_in(runtime, NULL);
    for (size_t i = 0; i < served_count; i++)
        confirm_config_maps_in(runtime, namespaces[i]);
}

void kb_reconciler_add_kinds(kb_runtime *runtime, kb_controller *controller)
{
    runtime->controller = controller;
    kb_controller_add_kind(controller, kb_kind_info_of(KB_KIND_BACKUP)->kind, reconcile_backup, runtime);
    kb_controller_add_kind(controller, kb_kind_info_of(KB_KIND_RESTORE)->kind, reconcile_restore, runtime);
    kb_controller_add_kind(controller, kb_kind_info_of(KB_KIND_OFFSET_RESET)->kind, reconcile_offset_reset,
                           runtime);
    kb_controller_add_kind(controller, kb_kind_info_of(KB_KIND_OFFSET_ROLLBACK)->kind,
                           reconcile_offset_rollback, runtime);
}

#include "operator/reconcile/observe.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/jobs/job_outcome.h"
#include "operator/jobs/object_names.h"
#include "operator/jobs/pod_template.h"
#include "operator/model/validation.h"
#include "operator/reconcile/projection.h"

#define KB_EVENTS_AGE_MS 15000
#define KB_EVENTS_AGAIN_MS 50000

typedef struct kb_observation {
    kb_runtime *runtime;
    kb_kind kind;
    const json_t *object;
    const char *name_space, *name, *uid;
    kb_memory *memory;
    kb_snapshot *snapshot;
    kb_kube_class *ret_fault;
    kb_error *err;
} kb_observation;

static json_t *controlled_by(kb_object_store *store, const json_t *owner)
{
    KB_AUTO_TREE(owned);
    owned = kb_object_store_owned_by(store, kb_tree_text_or_empty(owner, "metadata", "uid", NULL));
    json_t *controlled = kb_tree_array();
    for (size_t i = 0; i < json_array_size(owned); i++)
        if (kb_is_controlled_by(json_array_get(owned, i), owner))
            kb_tree_add(controlled, json_incref(json_array_get(owned, i)));
    return controlled;
}

static void extend(json_t *to, json_t *owned_from)
{
    if (owned_from != NULL)
        json_array_extend(to, owned_from);
    json_decref(owned_from);
}

/* ---- stores ---- */

static void gather_workloads(kb_observation *o)
{
    kb_runtime *runtime = o->runtime;
    kb_snapshot *snapshot = o->snapshot;
    snapshot->jobs = controlled_by(kb_informer_store(runtime->jobs), o->object);
    if (o->kind == KB_KIND_BACKUP) {
        KB_AUTOFREE char *name = kb_name_cron_job(o->name);
        json_t *cron_job = kb_object_store_get(kb_informer_store(runtime->cron_jobs), o->name_space, name);
        if (cron_job != NULL && kb_is_controlled_by(cron_job, o->object)) {
            snapshot->cron_job = cron_job;
            extend(snapshot->jobs, controlled_by(kb_informer_store(runtime->jobs), cron_job));
        } else if (cron_job != NULL) {
            /* That of a namesake which was deleted is being collected: the apply waits for that. */
            const json_t *owner = kb_kube_controller(cron_job);
            snapshot->is_cron_job_foreign =
                strcmp(kb_tree_text_or_empty(owner, "kind", NULL), kb_kind_info_of(o->kind)->kind) != 0 ||
                strcmp(kb_tree_text_or_empty(owner, "name", NULL), o->name) != 0;
            json_decref(cron_job);
        }
    }
    snapshot->pods = kb_tree_array();
    for (size_t i = 0; i < json_array_size(snapshot->jobs); i++)
        extend(snapshot->pods,
               controlled_by(kb_informer_store(runtime->pods), json_array_get(snapshot->jobs, i)));
}

/* What a reset or a rollback may go by. */
static void gather_restores(kb_observation *o)
{
    kb_informer **resources = o->runtime->resources;
    if (o->kind == KB_KIND_RESTORE)
        return;
    o->snapshot->restores =
        kb_object_store_list(kb_informer_store(resources[KB_KIND_RESTORE]), o->name_space);
    o->snapshot->resets =
        kb_object_store_list(kb_informer_store(resources[KB_KIND_OFFSET_RESET]), o->name_space);
    o->snapshot->rollbacks =
        kb_object_store_list(kb_informer_store(resources[KB_KIND_OFFSET_ROLLBACK]), o->name_space);
}

static void gather_peers(kb_observation *o)
{
    kb_object_store *store = kb_informer_store(o->runtime->resources[KB_KIND_BACKUP]);
    if (o->kind != KB_KIND_BACKUP) {
        o->snapshot->backups = kb_object_store_list(store, o->name_space);
        gather_restores(o);
        return;
    }
    KB_AUTO_TREE(all);
    all = kb_object_store_list(store, NULL);
    o->snapshot->same_name = kb_tree_array();
    for (size_t i = 0; i < json_array_size(all); i++) {
        json_t *other = json_array_get(all, i);
        if (strcmp(kb_tree_text_or_empty(other, "metadata", "name", NULL), o->name) == 0 &&
            strcmp(kb_tree_text_or_empty(other, "metadata", "namespace", NULL), o->name_space) != 0)
            kb_tree_add(o->snapshot->same_name, json_incref(other));
    }
}

/* ---- server ---- */

static void take_account(kb_observation *o, const json_t *meta)
{
    o->snapshot->account = KB_ACCOUNT_PRESENT;
    o->snapshot->is_account_allowed =
        strcmp(kb_tree_text_or_empty(meta, "labels", KB_LABEL_WORKER, NULL), "allowed") == 0;
    o->snapshot->account_notes = json_incref(kb_tree_at(meta, "annotations", NULL));
}

static kb_code ask_for_account(kb_observation *o, const char *account, bool is_named)
{
    KB_AUTO_TREE(known);
    known = kb_runtime_known_account(o->runtime, o->name_space, account);
    if (known != NULL) {
        take_account(o, known);
        return KB_OK;
    }
    KB_AUTO_KUBE_REPLY(reply);
    const kb_kube_ref ref = {&KB_KUBE_SERVICE_ACCOUNTS, o->name_space, account, NULL};
    KB_AUTO_ERROR(cause);
    if (kb_kube_get(o->runtime->client, &ref, &reply, &cause) == KB_OK) {
        json_t *meta = kb_tree_at(reply.object, "metadata", NULL);
        take_account(o, meta);
        if (!is_named || o->snapshot->is_account_allowed)
            kb_runtime_know_account(o->runtime, o->name_space, account, meta);
        return KB_OK;
    }
    if (reply.fault == KB_KUBE_GONE) {
        o->snapshot->account = KB_ACCOUNT_ABSENT;
        /* The default account is going to be made with the chart's annotations. */
        if (!is_named)
            o->snapshot->account_notes = json_incref(o->runtime->settings->account_annotations);
        return KB_OK;
    }
    *o->ret_fault = reply.fault;
    kb_error_move(o->err, &cause);
    return o->err->code;
}

static kb_code look_at_account(kb_observation *o)
{
    kb_spec spec;
    kb_problems problems;
    kb_problems_init(&problems, NULL);
    kb_spec_read(o->kind, o->object, &problems, &spec);
    kb_problems_done(&problems);
    KB_AUTOFREE char *account = kb_strdup(kb_worker_account(&spec, o->runtime->settings, o->name_space));
    bool is_named = spec.run.service_account_name != NULL;
    const kb_spec_storage *storage = kb_spec_storage_of(&spec);
    /* Only ambient identities of these stores depend on what the account says. */
    bool is_cloud = storage == NULL || !storage->is_set || storage->type == KB_SPEC_STORAGE_S3 ||
                    storage->type == KB_SPEC_STORAGE_AZURE;
    kb_spec_done(&spec);
    if (!is_named && !is_cloud)
        return KB_OK;
    return ask_for_account(o, account, is_named);
}

/* A Job that the status knows and the store does not: is it gone, or is the store behind? */
static kb_code look_for_active_job(kb_observation *o)
{
    const json_t *active = kb_tree_at(o->object, "status", "activeJob", NULL);
    const char *uid = kb_tree_text(active, "uid", NULL);
    bool is_started = kb_kind_info_of(o->kind)->is_bounded &&
                      kb_tree_at(o->object, "status", "startTime", NULL) != NULL &&
                      kb_tree_at(o->object, "status", "completionTime", NULL) == NULL;
    if (uid == NULL && !is_started)
        return KB_OK;
    for (size_t i = 0; i < json_array_size(o->snapshot->jobs); i++) {
        const json_t *job = json_array_get(o->snapshot->jobs, i);
        if (uid != NULL && strcmp(kb_tree_text_or_empty(job, "metadata", "uid", NULL), uid) != 0)
            continue;
        bool is_going =
            kb_tree_at(job, "metadata", "deletionTimestamp", NULL) != NULL && !kb_job_is_finished(job);
        o->snapshot->is_active_job_gone = o->snapshot->was_deletion_seen = is_going;
        return KB_OK;
    }
    const char *operation =
        o->kind == KB_KIND_OFFSET_ROLLBACK ? kb_tree_text(o->object, "spec", "operation", NULL) : NULL;
    KB_AUTOFREE char *name = uid != NULL ? kb_strdup(kb_tree_text_or_empty(active, "name", NULL))
                                         : kb_name_bounded_job(o->kind, o->name, operation);
    KB_AUTO_KUBE_REPLY(reply);
    KB_AUTO_ERROR(cause);
    const kb_kube_ref ref = {&KB_KUBE_JOBS, o->name_space, name, NULL};
    bool is_there = kb_kube_get(o->runtime->client, &ref, &reply, &cause) == KB_OK;
    if (!is_there && reply.fault != KB_KUBE_GONE) {
        *o->ret_fault = reply.fault;
        kb_error_move(o->err, &cause);
        return o->err->code;
    }
    bool is_same = is_there && (uid != NULL ? strcmp(kb_kube_uid(reply.object), uid) == 0
                                            : kb_is_controlled_by(reply.object, o->object));
    bool is_going = is_same && kb_tree_at(reply.object, "metadata", "deletionTimestamp", NULL) != NULL;
    if (is_same && !is_going) {
        kb_tree_add(o->snapshot->jobs, kb_project_job(reply.object));
        return KB_OK;
    }
    o->snapshot->is_active_job_gone = true;
    o->snapshot->was_deletion_seen = is_going || (uid != NULL && kb_runtime_saw_job_deleted(o->runtime, uid));
    return KB_OK;
}

static kb_code list_events_of(kb_observation *o, const char *uid, json_t *events)
{
    KB_AUTOFREE char *selector = kb_asprintf("involvedObject.uid=%s", uid);
    KB_AUTO_KUBE_REPLY(reply);
    const kb_kube_ref ref = {&KB_KUBE_EVENTS, o->name_space, NULL, NULL};
    kb_code code = kb_kube_list(o->runtime->client, &ref, NULL, selector, &reply, o->err);
    if (code == KB_OK)
        json_array_extend(events, reply.object);
    else
        *o->ret_fault = reply.fault;
    return code;
}

/* Events of a Job without a started container, and of its pods; at most once per minute. */
static kb_code look_at_events(kb_observation *o)
{
    const json_t *waiting = NULL;
    KB_AUTO_TREE(pods);
    for (size_t i = 0; i < json_array_size(o->snapshot->jobs) && waiting == NULL; i++) {
        const json_t *job = json_array_get(o->snapshot->jobs, i);
        int64_t created = 0;
        if (kb_job_is_finished(job) || !kb_tree_time(&created, job, "metadata", "creationTimestamp", NULL) ||
            kb_clock_now_wall_ms(o->runtime->clock) - created < KB_EVENTS_AGE_MS)
            continue;
        json_decref(pods);
        pods = kb_job_pods(job, o->snapshot->pods);
        waiting = kb_job_has_started(pods) ? NULL : job;
    }
    if (waiting == NULL)
        return KB_OK;
    int64_t now = kb_clock_now_boot_ms(o->runtime->clock);
    if (o->memory->events_at_ms == 0 || now - o->memory->events_at_ms >= KB_EVENTS_AGAIN_MS) {
        KB_AUTO_TREE(events);
        events = kb_tree_array();
        kb_code code = list_events_of(o, kb_tree_text_or_empty(waiting, "metadata", "uid", NULL), events);
        for (size_t i = 0; code == KB_OK && i < json_array_size(pods); i++)
            code = list_events_of(o, kb_tree_text_or_empty(json_array_get(pods, i), "metadata", "uid", NULL),
                                  events);
        if (code != KB_OK)
            return code;
        json_decref(o->memory->events);
        o->memory->events = json_incref(events);
        o->memory->events_at_ms = now;
    }
    o->snapshot->events = json_incref(o->memory->events);
    return KB_OK;
}

static kb_code look_at_config_maps(kb_observation *o)
{
    int64_t now = kb_clock_now_boot_ms(o->runtime->clock);
    if (o->kind != KB_KIND_BACKUP)
        return KB_OK;
    /* Not in the first pass: a start is busy enough, and nothing is old then. */
    if (o->memory->config_maps_at_ms == 0)
        o->memory->config_maps_at_ms = now;
    if (now - o->memory->config_maps_at_ms < KB_CONFIRMED_MS)
        return KB_OK;
    KB_AUTOFREE char *selector = kb_asprintf(KB_LABEL_UID "=%s", o->uid);
    KB_AUTO_KUBE_REPLY(reply);
    const kb_kube_ref ref = {&KB_KUBE_CONFIG_MAPS, o->name_space, NULL, NULL};
    kb_code code = kb_kube_list(o->runtime->client, &ref, selector, NULL, &reply, o->err);
    if (code != KB_OK) {
        *o->ret_fault = reply.fault;
        return code;
    }
    o->memory->config_maps_at_ms = now;
    o->snapshot->config_maps = json_incref(reply.object);
    return KB_OK;
}

kb_code kb_observe(kb_runtime *runtime, kb_kind kind, json_t *object, kb_memory *memory,
                   kb_snapshot *ret_snapshot, kb_kube_class *ret_fault, kb_error *err)
{
    *ret_snapshot = (kb_snapshot){
        .kind = kind,
        .object = json_incref(object),
        .applied_generation = memory->applied_generation,
        .last_fault = memory->fault,
        .last_fault_text = memory->fault_text,
    };
    kb_observation o = {
        .runtime = runtime,
        .kind = kind,
        .object = object,
        .name_space = kb_tree_text_or_empty(object, "metadata", "namespace", NULL),
        .name = kb_tree_text_or_empty(object, "metadata", "name", NULL),
        .uid = kb_tree_text_or_empty(object, "metadata", "uid", NULL),
        .memory = memory,
        .snapshot = ret_snapshot,
        .ret_fault = ret_fault,
        .err = err,
    };
    gather_workloads(&o);
    gather_peers(&o);
    bool is_served = kb_settings_serves(runtime->settings, o.name_space);
    if (!is_served || kb_tree_at(object, "metadata", "deletionTimestamp", NULL) != NULL)
        return KB_OK;
    kb_code (*const looks[])(kb_observation *) = {look_for_active_job, look_at_account, look_at_events,
                                                  look_at_config_maps};
    for (size_t i = 0; i < KB_ARRAY_LEN(looks); i++) {
        kb_code code = looks[i](&o);
        if (code != KB_OK)
            return code;
    }
    return KB_OK;
}

#include "operator/reconcile/effects.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/failpoint.h"
#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/jobs/job_outcome.h"
#include "operator/jobs/object_names.h"

#define KB_COLLECTED_AGAIN_MS 5000
#define KB_COLLECTED_MAX_MS 60000
#define KB_SOON_MS 1000

typedef struct kb_performance {
    kb_runtime *runtime;
    const kb_snapshot *snapshot;
    const kb_plan *plan;
    kb_memory *memory;
    kb_effects_result *result;
    const char *name_space, *name, *uid;
    char *version; /* owned; resourceVersion of the CR as of our last write */
    kb_error *err;
} kb_performance;

/* ---- helpers ---- */

static kb_kube_ref ref_of(const kb_performance *p, const kb_kube_resource *resource, const char *name)
{
    return (kb_kube_ref){resource, p->name_space, name, NULL};
}

static kb_code call(kb_performance *p, const kb_kube_request *request, kb_kube_reply *reply)
{
    kb_code code = kb_kube_call(p->runtime->client, request, reply, p->err);
    if (code != KB_OK)
        p->result->fault = reply->fault;
    return code;
}

static kb_code refuse_adoption(kb_performance *p, const char *kind, const char *name)
{
    p->result->is_adoption_refused = true;
    p->result->fault = KB_KUBE_EXISTS;
    return kb_fail(p->err, KB_ERR_EXISTS,
                   "%s %s/%s exists and belongs to something else; remove or rename it", kind, p->name_space,
                   name);
}

/* Who holds a name that we need. */
typedef enum kb_holder { KB_HOLDER_OURS, KB_HOLDER_COLLECTED, KB_HOLDER_FOREIGN } kb_holder;

static kb_holder holder_of(const kb_performance *p, const json_t *object)
{
    if (kb_is_controlled_by(object, p->snapshot->object))
        return KB_HOLDER_OURS;
    const json_t *owner = kb_kube_controller(object);
    bool is_namesake =
        owner != NULL && strcmp(kb_tree_text_or_empty(owner, "name", NULL), p->name) == 0 &&
        strcmp(kb_tree_text_or_empty(owner, "kind", NULL), kb_kind_info_of(p->snapshot->kind)->kind) == 0;
    return is_namesake ? KB_HOLDER_COLLECTED : KB_HOLDER_FOREIGN;
}

/* An object of a deleted namesake goes by itself; for a while we wait for that. */
static kb_code wait_for_collection(kb_performance *p, const char *kind, const char *name)
{
    int64_t now = kb_clock_now_boot_ms(p->runtime->clock);
    if (p->memory->collected_since_ms == 0)
        p->memory->collected_since_ms = now;
    if (now - p->memory->collected_since_ms > KB_COLLECTED_MAX_MS)
        return refuse_adoption(p, kind, name);
    p->result->requeue_ms = KB_COLLECTED_AGAIN_MS;
    p->result->fault = KB_KUBE_FINE;
    return kb_fail(p->err, KB_ERR_END, "%s %s/%s of a deleted object is being collected", kind, p->name_space,
                   name);
}

static kb_code settle_holder(kb_performance *p, const json_t *object, const char *kind, const char *name)
{
    switch (holder_of(p, object)) {
    case KB_HOLDER_COLLECTED:
        return wait_for_collection(p, kind, name);
    case KB_HOLDER_FOREIGN:
        return refuse_adoption(p, kind, name);
    case KB_HOLDER_OURS:
        break;
    }
    p->memory->collected_since_ms = 0;
    return KB_OK;
}

/* GET; *ret_object is NULL when there is none. Owned. */
static kb_code get_or_null(kb_performance *p, const kb_kube_ref *ref, json_t **ret_object)
{
    KB_AUTO_KUBE_REPLY(reply);
    KB_AUTO_ERROR(cause);
    *ret_object = NULL;
    if (kb_kube_get(p->runtime->client, ref, &reply, &cause) == KB_OK) {
        *ret_object = json_incref(reply.object);
        return KB_OK;
    }
    if (reply.fault == KB_KUBE_GONE)
        return KB_OK;
    p->result->fault = reply.fault;
    kb_error_move(p->err, &cause);
    return p->err->code;
}

/* ---- what has to exist ---- */

static bool has_same_data(const json_t *a, const json_t *b)
{
    return json_equal(kb_tree_at(a, "data", NULL), kb_tree_at(b, "data", NULL));
}

static bool has_same_rules(const json_t *a, const json_t *b)
{
    return json_equal(kb_tree_at(a, "rules", NULL), kb_tree_at(b, "rules", NULL));
}

/* A ConfigMap that somebody else made is not written to. */
static bool is_managed(const json_t *there, const json_t *wanted)
{
    (void)wanted;
    return strcmp(kb_tree_text_or_empty(there, "metadata", "labels", KB_LABEL_MANAGED_BY, NULL),
                  KB_MANAGED_BY) == 0;
}

static kb_code make(kb_performance *p, const kb_kube_resource *resource, const kb_effect *effect)
{
    KB_AUTO_KUBE_REPLY(reply);
    const kb_kube_request request = {
        .verb = KB_KUBE_CREATE, .ref = ref_of(p, resource, NULL), .body = effect->body};
    return call(p, &request, &reply);
}

/* *ret_is_made is false when the name is taken. */
static kb_code make_if_absent(kb_performance *p, const kb_kube_resource *resource, const kb_effect *effect,
                              bool *ret_is_made)
{
    const kb_code code = make(p, resource, effect);
    *ret_is_made = code == KB_OK;
    if (code != KB_ERR_EXISTS)
        return code;
    kb_error_done(p->err);
    p->result->fault = KB_KUBE_FINE;
    return KB_OK;
}

/* Finds an object by name or makes it; an existing one is judged by `is_good` and never changed. */
static kb_code ensure(kb_performance *p, const kb_kube_resource *resource, const kb_effect *effect,
                      bool (*is_good)(const json_t *there, const json_t *wanted), bool is_owned)
{
    if (kb_runtime_is_confirmed(p->runtime, resource->kind, p->name_space, effect->name))
        return KB_OK;
    kb_kube_ref ref = ref_of(p, resource, effect->name);
    KB_AUTO_TREE(there);
    /* Without a CronJob the object is new, as good as always: asking first would cost a request for each. */
    bool is_made = false;
    kb_code code = KB_OK;
    if (is_owned && p->snapshot->cron_job == NULL)
        code = make_if_absent(p, resource, effect, &is_made);
    if (code == KB_OK && !is_made)
        code = get_or_null(p, &ref, &there);
    if (code == KB_OK && !is_made && there == NULL)
        code = make(p, resource, effect);
    if (code != KB_OK)
        return code;
    if (there != NULL) {
        if (is_owned)
            code = settle_holder(p, there, resource->kind, effect->name);
        if (code != KB_OK)
            return code;
        if (is_good != NULL && !is_good(there, effect->body))
            return refuse_adoption(p, resource->kind, effect->name);
    }
    kb_runtime_confirm(p->runtime, resource->kind, p->name_space, effect->name, true);
    return KB_OK;
}

/* A binding that names our role and account; more subjects are its owner's business. */
static bool is_good_binding(const json_t *there, const json_t *wanted)
{
    const json_t *subjects = kb_tree_at(there, "subjects", NULL);
    const json_t *subject = json_array_get(kb_tree_at(wanted, "subjects", NULL), 0);
    const char *account = kb_tree_text_or_empty(subject, "name", NULL);
    bool has_account = false;
    for (size_t i = 0; i < json_array_size(subjects); i++)
        has_account = has_account ||
                      strcmp(kb_tree_text_or_empty(json_array_get(subjects, i), "name", NULL), account) == 0;
    return has_account && strcmp(kb_tree_text_or_empty(there, "roleRef", "name", NULL),
                                 kb_tree_text_or_empty(wanted, "roleRef", "name", NULL)) == 0;
}

/* ---- CronJob ---- */

static const kb_kube_resource *cron_jobs(kb_runtime *runtime)
{
    return kb_runtime_caps(runtime).has_cron_job_v1 ? &KB_KUBE_CRON_JOBS : &KB_KUBE_CRON_JOBS_V1BETA1;
}

static kb_code send_cron_job(kb_performance *p, const kb_effect *effect, const char *uid,
                             const char *based_on)
{
    KB_AUTO_TREE(body);
    body = kb_tree_copy(effect->body);
    kb_tree_set_text(json_object_get(body, "metadata"), "uid", uid);
    KB_AUTO_KUBE_REPLY(reply);
    const kb_kube_request request = {.verb = KB_KUBE_APPLY,
                                     .ref = ref_of(p, cron_jobs(p->runtime), effect->name),
                                     .body = body,
                                     .is_forced = uid != NULL};
    kb_code code = call(p, &request, &reply);
    if (code != KB_OK)
        return code;
    p->memory->applied_generation = kb_tree_i64(-1, reply.object, "metadata", "generation", NULL);
    (void)!kb_informer_own_write(p->runtime->cron_jobs, reply.object, based_on);
    return KB_OK;
}

static bool is_name_shown(kb_performance *p, const char *name)
{
    KB_AUTO_TREE(shown);
    shown = kb_object_store_get(kb_informer_store(p->runtime->cron_jobs), p->name_space, name);
    return shown != NULL;
}

/*
 * One that nobody shows is applied without force: a foreign object, which the store would not show, has other
 * values and other managers, and the server refuses. Then, or when the store shows one that is not ours, the
 * object itself says whose it is.
 */
static kb_code apply_cron_job(kb_performance *p, const kb_effect *effect)
{
    if (effect->uid != NULL)
        return send_cron_job(p, effect, effect->uid,
                             kb_tree_text(p->snapshot->cron_job, "metadata", "resourceVersion", NULL));
    if (!is_name_shown(p, effect->name)) {
        kb_code code = send_cron_job(p, effect, NULL, NULL);
        if (code == KB_OK || p->result->fault != KB_KUBE_CONFLICT)
            return code;
        kb_error_done(p->err);
    }
    kb_kube_ref ref = ref_of(p, cron_jobs(p->runtime), effect->name);
    KB_AUTO_TREE(there);
    kb_code code = get_or_null(p, &ref, &there);
    if (code == KB_OK && there != NULL)
        code = settle_holder(p, there, "CronJob", effect->name);
    if (code != KB_OK)
        return code;
    return send_cron_job(p, effect, kb_tree_text(there, "metadata", "uid", NULL),
                         kb_tree_text(there, "metadata", "resourceVersion", NULL));
}

static kb_code suspend_cron_job(kb_performance *p, const kb_effect *effect)
{
    KB_AUTO_TREE(body);
    body = kb_tree_object();
    json_t *meta = kb_tree_object();
    kb_tree_set_text(meta, "uid", effect->uid);
    kb_tree_set(body, "metadata", meta);
    json_t *spec = kb_tree_object();
    kb_tree_set_bool(spec, "suspend", true);
    kb_tree_set(body, "spec", spec);
    KB_AUTO_KUBE_REPLY(reply);
    const kb_kube_request request = {
        .verb = KB_KUBE_PATCH_MERGE, .ref = ref_of(p, cron_jobs(p->runtime), effect->name), .body = body};
    kb_code code = call(p, &request, &reply);
    if (code == KB_OK)
        (void)!kb_informer_own_write(
            p->runtime->cron_jobs, reply.object,
            kb_tree_text(p->snapshot->cron_job, "metadata", "resourceVersion", NULL));
    return code;
}

static kb_code delete_object(kb_performance *p, const kb_kube_resource *resource, const kb_effect *effect)
{
    KB_AUTO_KUBE_REPLY(reply);
    const kb_kube_request request = {
        .verb = KB_KUBE_DELETE, .ref = ref_of(p, resource, effect->name), .only_uid = effect->uid};
    kb_code code = call(p, &request, &reply);
    if (code != KB_OK && reply.fault == KB_KUBE_GONE) {
        kb_error_done(p->err);
        code = KB_OK;
    }
    kb_runtime_confirm(p->runtime, resource->kind, p->name_space, effect->name, false);
    return code;
}

/* ---- Jobs ---- */

/* The name is taken: by a Job of ours that we did not know of, or by something else. */
static kb_code adopt_job(kb_performance *p, const kb_effect *effect)
{
    kb_kube_ref ref = ref_of(p, &KB_KUBE_JOBS, effect->name);
    KB_AUTO_TREE(there);
    kb_error_done(p->err);
    kb_code code = get_or_null(p, &ref, &there);
    if (code != KB_OK)
        return code;
    p->result->requeue_ms = KB_SOON_MS;
    if (there == NULL)
        return KB_OK;
    code = settle_holder(p, there, "Job", effect->name);
    if (code != KB_OK)
        return code;
    bool is_over = kb_job_is_finished(there) &&
                   kb_tree_at(there, "metadata", "annotations", KB_NOTE_RECORDED, NULL) != NULL;
    if (is_over) {
        KB_AUTOFREE char *uid = kb_strdup(kb_kube_uid(there));
        const kb_effect removal = {.name = effect->name, .uid = uid};
        return delete_object(p, &KB_KUBE_JOBS, &removal);
    }
    (void)!kb_informer_own_write(p->runtime->jobs, there, NULL);
    return KB_OK;
}

static kb_code create_job(kb_performance *p, const kb_effect *effect)
{
    kb_code code = KB_FAILPOINT("job.before_create", p->err);
    if (code != KB_OK)
        return code;
    KB_AUTO_KUBE_REPLY(reply);
    const kb_kube_request request = {
        .verb = KB_KUBE_CREATE, .ref = ref_of(p, &KB_KUBE_JOBS, NULL), .body = effect->body};
    code = call(p, &request, &reply);
    if (code != KB_OK && reply.fault == KB_KUBE_EXISTS)
        return adopt_job(p, effect);
    if (code != KB_OK)
        return code;
    code = KB_FAILPOINT("job.sent_no_reply", p->err);
    if (code != KB_OK)
        return code;
    (void)!kb_informer_own_write(p->runtime->jobs, reply.object, NULL);
    p->memory->events_at_ms = 0;
    p->result->requeue_ms = KB_SOON_MS;
    return KB_FAILPOINT("job.after_create", p->err);
}

static json_t *uid_patch(const kb_effect *effect)
{
    json_t *meta = kb_tree_object();
    kb_tree_set_text(meta, "uid", effect->uid);
    kb_tree_set(meta, "annotations", kb_tree_object());
    json_t *body = kb_tree_object();
    kb_tree_set(body, "metadata", meta);
    return body;
}

/* A Job that is gone needs neither a mark nor an end. */
static kb_code patch_job(kb_performance *p, const kb_effect *effect, const json_t *body)
{
    KB_AUTO_KUBE_REPLY(reply);
    const kb_kube_request request = {
        .verb = KB_KUBE_PATCH_MERGE, .ref = ref_of(p, &KB_KUBE_JOBS, effect->name), .body = body};
    kb_code code = call(p, &request, &reply);
    if (code == KB_OK) {
        const char *based_on = NULL;
        for (size_t i = 0; i < json_array_size(p->snapshot->jobs); i++) {
            const json_t *job = json_array_get(p->snapshot->jobs, i);
            if (strcmp(kb_tree_text_or_empty(job, "metadata", "uid", NULL), effect->uid) == 0)
                based_on = kb_tree_text(job, "metadata", "resourceVersion", NULL);
        }
        (void)!kb_informer_own_write(p->runtime->jobs, reply.object, based_on);
        return KB_OK;
    }
    if (reply.fault != KB_KUBE_GONE)
        return code;
    kb_error_done(p->err);
    return KB_OK;
}

static kb_code end_job(kb_performance *p, const kb_effect *effect)
{
    KB_AUTO_TREE(body);
    body = uid_patch(effect);
    json_t *notes = kb_tree_at(body, "metadata", "annotations", NULL);
    kb_tree_set_text(notes, KB_NOTE_END_REASON, effect->reason);
    kb_tree_set_text(notes, KB_NOTE_END_MESSAGE, effect->message);
    json_t *spec = kb_tree_object();
    kb_tree_set_i64(spec, "activeDeadlineSeconds", 1);
    kb_tree_set(body, "spec", spec);
    return patch_job(p, effect, body);
}

static kb_code mark_recorded(kb_performance *p, const kb_effect *effect)
{
    KB_AUTO_TREE(body);
    body = uid_patch(effect);
    kb_tree_set_text(kb_tree_at(body, "metadata", "annotations", NULL), KB_NOTE_RECORDED, "true");
    return patch_job(p, effect, body);
}

/* ---- the CR itself ---- */

static void took_write(kb_performance *p, const json_t *reply)
{
    (void)!kb_informer_own_write(p->runtime->resources[p->snapshot->kind], reply, p->version);
    char *version = kb_strdup(kb_kube_version(reply));
    free(p->version);
    p->version = version;
}

static kb_code patch_ledger(kb_performance *p, const kb_effect *effect)
{
    kb_code code = KB_OK;
    if (kb_plan_find(p->plan, KB_EFFECT_MARK_RECORDED) != NULL)
        code = KB_FAILPOINT("job.finished_seen", p->err);
    if (code != KB_OK)
        return code;
    KB_AUTO_TREE(body);
    body = kb_tree_object();
    json_t *meta = kb_tree_object();
    kb_tree_set_text(meta, "resourceVersion", p->version);
    json_t *notes = kb_tree_object();
    kb_tree_set_text(notes, KB_NOTE_LEDGER, effect->message);
    kb_tree_set(meta, "annotations", notes);
    kb_tree_set(body, "metadata", meta);
    KB_AUTO_KUBE_REPLY(reply);
    const kb_kube_request request = {.verb = KB_KUBE_PATCH_MERGE,
                                     .ref = ref_of(p, kb_runtime_resource(p->snapshot->kind), p->name),
                                     .body = body};
    code = call(p, &request, &reply);
    if (code == KB_OK)
        took_write(p, reply.object);
    return code;
}

/* Which failpoints stand around a status write: that of a Job that was made, or that of an outcome. */
static kb_code status_failpoint(const kb_performance *p, const json_t *status, bool is_after)
{
    bool is_terminal = kb_plan_find(p->plan, KB_EFFECT_MARK_RECORDED) != NULL;
    const char *active = kb_tree_text_or_empty(status, "activeJob", "uid", NULL);
    const char *old = kb_tree_text_or_empty(p->snapshot->object, "status", "activeJob", "uid", NULL);
    bool is_running = *active != '\0' && strcmp(active, old) != 0;
    if (is_terminal && is_after)
        return KB_FAILPOINT("status.sent_no_reply", p->err);
    if (is_terminal)
        return KB_FAILPOINT("status.before_terminal", p->err);
    if (is_running && is_after)
        return KB_FAILPOINT("status.after_running", p->err);
    if (is_running)
        return KB_FAILPOINT("status.before_running", p->err);
    return KB_OK;
}

static kb_code apply_status(kb_performance *p, const kb_effect *effect)
{
    kb_code code = status_failpoint(p, effect->body, false);
    const json_t *old = kb_tree_at(p->snapshot->object, "status", "backupHistory", NULL);
    if (code == KB_OK && json_array_size(old) >= 10 &&
        !json_equal(old, kb_tree_at(effect->body, "backupHistory", NULL)))
        code = KB_FAILPOINT("history.before_prune", p->err);
    if (code != KB_OK)
        return code;
    KB_AUTO_TREE(body);
    body = kb_tree_object();
    kb_tree_set_text(body, "apiVersion", KB_API_VERSION);
    kb_tree_set_text(body, "kind", kb_kind_info_of(p->snapshot->kind)->kind);
    json_t *meta = kb_tree_object();
    kb_tree_set_text(meta, "name", p->name);
    kb_tree_set_text(meta, "namespace", p->name_space);
    kb_tree_set_text(meta, "resourceVersion", p->version);
    kb_tree_set(body, "metadata", meta);
    kb_tree_set(body, "status", json_incref(effect->body));
    kb_kube_ref ref = ref_of(p, kb_runtime_resource(p->snapshot->kind), p->name);
    ref.subresource = "status";
    KB_AUTO_KUBE_REPLY(reply);
    const kb_kube_request request = {.verb = KB_KUBE_APPLY, .ref = ref, .body = body, .is_forced = true};
    code = call(p, &request, &reply);
    if (code != KB_OK)
        return code;
    code = status_failpoint(p, effect->body, true);
    if (code == KB_OK)
        took_write(p, reply.object);
    return code;
}

/* Removes entries by position, each guarded by a test of what stands there, from the last to the first. */
static kb_code remove_finalizers(kb_performance *p, const kb_effect *effect)
{
    const json_t *all = kb_tree_at(p->snapshot->object, "metadata", "finalizers", NULL);
    KB_AUTO_TREE(patch);
    patch = kb_tree_array();
    for (size_t i = json_array_size(all); i-- > 0;) {
        bool is_legacy = false;
        for (size_t k = 0; k < json_array_size(effect->body); k++)
            is_legacy = is_legacy || json_equal(json_array_get(all, i), json_array_get(effect->body, k));
        if (!is_legacy)
            continue;
        json_t *test = kb_tree_object(), *removal = kb_tree_object();
        KB_AUTOFREE char *path = kb_asprintf("/metadata/finalizers/%zu", i);
        kb_tree_set_text(test, "op", "test");
        kb_tree_set_text(test, "path", path);
        kb_tree_set(test, "value", json_incref(json_array_get(all, i)));
        kb_tree_set_text(removal, "op", "remove");
        kb_tree_set_text(removal, "path", path);
        kb_tree_add(patch, test);
        kb_tree_add(patch, removal);
    }
    kb_code code = KB_FAILPOINT("finalizer.before_remove", p->err);
    if (code != KB_OK)
        return code;
    KB_AUTO_KUBE_REPLY(reply);
    const kb_kube_request request = {.verb = KB_KUBE_PATCH_JSON,
                                     .ref = ref_of(p, kb_runtime_resource(p->snapshot->kind), p->name),
                                     .body = patch};
    code = call(p, &request, &reply);
    if (code != KB_OK && reply.fault == KB_KUBE_GONE) {
        kb_error_done(p->err);
        code = KB_OK;
    }
    if (code != KB_OK)
        return code;
    return KB_FAILPOINT("finalizer.after_remove", p->err);
}

/* ---- the plan ---- */

static void emit(const kb_performance *p, const kb_effect *effect)
{
    if (p->runtime->events == NULL)
        return;
    const kb_event event = {
        .resource = kb_runtime_resource(p->snapshot->kind),
        .object = p->snapshot->object,
        .is_warning = effect->is_warning,
        .reason = effect->reason,
        .message = effect->message,
        .cause = effect->cause,
    };
    kb_events_emit(p->runtime->events, &event);
}

static kb_code perform(kb_performance *p, const kb_effect *effect)
{
    switch (effect->kind) {
    case KB_EFFECT_CONFIG_MAP:
        return ensure(p, &KB_KUBE_CONFIG_MAPS, effect, has_same_data, true);
    case KB_EFFECT_ACCOUNT:
        return ensure(p, &KB_KUBE_SERVICE_ACCOUNTS, effect, NULL, false);
    case KB_EFFECT_SNAPSHOT_MAP:
        return ensure(p, &KB_KUBE_CONFIG_MAPS, effect, is_managed, false);
    case KB_EFFECT_ROLE:
        return ensure(p, &KB_KUBE_ROLES, effect, has_same_rules, true);
    case KB_EFFECT_BINDING:
        return ensure(p, &KB_KUBE_ROLE_BINDINGS, effect, is_good_binding, false);
    case KB_EFFECT_CRON_JOB:
        return apply_cron_job(p, effect);
    case KB_EFFECT_SUSPEND_CRON_JOB:
        return suspend_cron_job(p, effect);
    case KB_EFFECT_DELETE_CRON_JOB:
        return delete_object(p, cron_jobs(p->runtime), effect);
    case KB_EFFECT_CREATE_JOB:
        return create_job(p, effect);
    case KB_EFFECT_DELETE_JOB:
        return delete_object(p, &KB_KUBE_JOBS, effect);
    case KB_EFFECT_END_JOB:
        return end_job(p, effect);
    case KB_EFFECT_DELETE_CONFIG_MAP:
        return delete_object(p, &KB_KUBE_CONFIG_MAPS, effect);
    case KB_EFFECT_LEDGER:
        return patch_ledger(p, effect);
    case KB_EFFECT_STATUS:
        return apply_status(p, effect);
    case KB_EFFECT_MARK_RECORDED:
        return mark_recorded(p, effect);
    case KB_EFFECT_FINALIZERS:
        return remove_finalizers(p, effect);
    case KB_EFFECT_EVENT:
        emit(p, effect);
        break;
    case KB_EFFECT_OBSERVE:
        kb_series_observe(p->runtime->series, p->snapshot->kind, p->snapshot->object, effect->reason,
                          effect->number);
        break;
    }
    return KB_OK;
}

static bool is_telling(kb_effect_kind kind)
{
    return kind == KB_EFFECT_LEDGER || kind == KB_EFFECT_STATUS || kind == KB_EFFECT_EVENT;
}

kb_code kb_effects_perform(kb_runtime *runtime, const kb_snapshot *snapshot, const kb_plan *plan,
                           bool only_telling, kb_memory *memory, kb_effects_result *result, kb_error *err)
{
    *result = (kb_effects_result){.fault = KB_KUBE_FINE, .requeue_ms = -1};
    kb_performance p = {
        .runtime = runtime,
        .snapshot = snapshot,
        .plan = plan,
        .memory = memory,
        .result = result,
        .name_space = kb_kube_namespace(snapshot->object),
        .name = kb_kube_name(snapshot->object),
        .uid = kb_kube_uid(snapshot->object),
        .version = kb_strdup(kb_kube_version(snapshot->object)),
        .err = err,
    };
    kb_code code = KB_OK;
    for (size_t i = 0; code == KB_OK && i < plan->count; i++) {
        if (only_telling && !is_telling(plan->effects[i].kind))
            continue;
        code = perform(&p, &plan->effects[i]);
    }
    free(p.version);
    if (code == KB_ERR_END) {
        /* Something is waited for; that is no failure. */
        kb_error_done(err);
        return KB_OK;
    }
    if (code != KB_OK && result->fault == KB_KUBE_FINE)
        result->fault = KB_KUBE_SERVER;
    return code;
}

#include "operator/reconcile/pass.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/contract/names.h"
#include "common/data/json_tree.h"
#include "operator/jobs/object_names.h"
#include "operator/jobs/start_reason.h"

#define KB_ACCOUNT_AGAIN_MS 60000
#define KB_START_LOOK_MS 15000
#define KB_START_AGAIN_MS 60000
#define KB_LINGER_MS 300000
#define KB_DOUBT_MS 5000

/* ---- frame ---- */

void kb_pass_begin(kb_pass *pass, const kb_snapshot *snapshot, const kb_surroundings *around, kb_plan *plan)
{
    const json_t *object = snapshot->object;
    *pass = (kb_pass){
        .snapshot = snapshot,
        .now_ms = around->now_ms,
        .caps = around->caps,
        .settings = around->settings,
        .plan = plan,
        .object = object,
        .name = kb_tree_text_or_empty(object, "metadata", "name", NULL),
        .namespace = kb_tree_text_or_empty(object, "metadata", "namespace", NULL),
        .uid = kb_tree_text_or_empty(object, "metadata", "uid", NULL),
        .generation = kb_tree_i64(0, object, "metadata", "generation", NULL),
        .old_status = kb_tree_at(object, "status", NULL),
        .run = kb_tree_at(object, "status", "run", NULL),
    };
    kb_plan_init(&pass->later);
    kb_spec_check(snapshot->kind, object, &pass->spec, &pass->problem);
    kb_ledger_read(object, &pass->ledger);
    pass->status = json_is_object(pass->old_status) ? kb_tree_copy(pass->old_status) : kb_tree_object();
    json_object_del(pass->status, "run");
    json_object_del(pass->status, "nextRetryTime");
    if (!json_is_array(json_object_get(pass->status, "conditions")))
        kb_tree_set(pass->status, "conditions", kb_tree_array());
    pass->conditions = json_object_get(pass->status, "conditions");
    kb_tree_set_i64(pass->status, "observedGeneration", pass->generation);
}

static void add_ledger(kb_pass *pass)
{
    KB_AUTOFREE char *text = kb_ledger_text(&pass->ledger, pass->object);
    const char *old = kb_tree_text_or_empty(pass->object, "metadata", "annotations", KB_NOTE_LEDGER, NULL);
    kb_ledger empty = {0};
    KB_AUTOFREE char *nothing = kb_ledger_text(&empty, pass->object);
    if (strcmp(text, old) == 0 || (strcmp(text, nothing) == 0 && !pass->ledger.is_set))
        return;
    kb_plan_add(pass->plan, KB_EFFECT_LEDGER, NULL, NULL, NULL)->message = KB_TAKE(text);
}

static void add_status(kb_pass *pass)
{
    KB_AUTO_TREE(old);
    old = json_is_object(pass->old_status) ? kb_tree_copy(pass->old_status) : kb_tree_object();
    json_object_del(old, "run");
    if (!json_equal(old, pass->status))
        kb_plan_add(pass->plan, KB_EFFECT_STATUS, NULL, NULL, json_incref(pass->status));
}

/* Ledger and status come first, then what was put into the plan while deciding, then what starts something.
 */
void kb_pass_end(kb_pass *pass)
{
    kb_plan recorded = *pass->plan;
    kb_plan_init(pass->plan);
    pass->plan->requeue_ms = recorded.requeue_ms;
    recorded.requeue_ms = -1;
    add_ledger(pass);
    add_status(pass);
    kb_plan *parts[] = {&recorded, &pass->later};
    for (size_t p = 0; p < KB_ARRAY_LEN(parts); p++) {
        for (size_t i = 0; i < parts[p]->count; i++) {
            kb_effect *effect = kb_plan_add(pass->plan, parts[p]->effects[i].kind, NULL, NULL, NULL);
            *effect = parts[p]->effects[i];
        }
        if (parts[p]->requeue_ms >= 0)
            kb_plan_requeue(pass->plan, parts[p]->requeue_ms);
        free(parts[p]->effects);
        kb_plan_init(parts[p]);
    }
}

void kb_pass_done(kb_pass *pass)
{
    kb_plan_done(&pass->later);
    kb_spec_done(&pass->spec);
    kb_spec_problem_done(&pass->problem);
    kb_ledger_done(&pass->ledger);
    json_decref(pass->status);
    free(pass->gate.message);
    free(pass->waiting_message);
}

bool kb_pass_is_deleted(kb_pass *pass)
{
    static const char *const legacy[] = {"kafka.oso.sh/backup-finalizer", "kafka.oso.sh/restore-finalizer",
                                         "kafka.oso.sh/offset-reset-finalizer",
                                         "kafka.oso.sh/offset-rollback-finalizer",
                                         "kafka.oso.sh/validation-finalizer"};
    if (kb_tree_at(pass->object, "metadata", "deletionTimestamp", NULL) == NULL)
        return false;
    const json_t *finalizers = kb_tree_at(pass->object, "metadata", "finalizers", NULL);
    KB_AUTO_TREE(ours);
    ours = kb_tree_array();
    for (size_t i = 0; i < json_array_size(finalizers); i++) {
        const char *name = json_string_value(json_array_get(finalizers, i));
        for (size_t k = 0; name != NULL && k < KB_ARRAY_LEN(legacy); k++)
            if (strcmp(name, legacy[k]) == 0)
                kb_tree_add_text(ours, name);
    }
    if (json_array_size(ours) > 0)
        kb_plan_add(pass->plan, KB_EFFECT_FINALIZERS, NULL, NULL, json_incref(ours));
    return true;
}

/* ---- gate ---- */

void kb_pass_refuse(kb_pass *pass, const char *reason, bool is_stalled, char *owned_message)
{
    KB_AUTOFREE char *message = owned_message;
    if (pass->gate.reason != NULL)
        return;
    pass->gate.reason = reason;
    pass->gate.is_stalled = is_stalled;
    pass->gate.message = KB_TAKE(message);
}

/* An older KafkaBackup of this name that writes to the same place from another namespace. */
static const json_t *find_conflict(const kb_pass *pass)
{
    const kb_spec_storage *storage = kb_spec_storage_of(&pass->spec);
    if (pass->snapshot->kind != KB_KIND_BACKUP || storage->type == KB_SPEC_STORAGE_PVC)
        return NULL;
    KB_AUTOFREE char *own = kb_spec_location(storage);
    const char *own_time = kb_tree_text_or_empty(pass->object, "metadata", "creationTimestamp", NULL);
    for (size_t i = 0; i < json_array_size(pass->snapshot->same_name); i++) {
        const json_t *other = json_array_get(pass->snapshot->same_name, i);
        kb_spec spec;
        kb_problems problems;
        kb_problems_init(&problems, NULL);
        kb_spec_read(KB_KIND_BACKUP, other, &problems, &spec);
        KB_AUTOFREE char *place = kb_spec_location(&spec.backup.storage);
        kb_spec_done(&spec);
        kb_problems_done(&problems);
        int order = strcmp(kb_tree_text_or_empty(other, "metadata", "creationTimestamp", NULL), own_time);
        if (order == 0)
            order = strcmp(kb_tree_text_or_empty(other, "metadata", "uid", NULL), pass->uid);
        if (strcmp(place, own) == 0 && order < 0)
            return other;
    }
    return NULL;
}

static void check_account(kb_pass *pass)
{
    const char *account = pass->spec.run.service_account_name;
    if (account == NULL || pass->snapshot->account == KB_ACCOUNT_UNKNOWN)
        return;
    pass->gate.look_again_ms = KB_ACCOUNT_AGAIN_MS;
    if (pass->snapshot->account == KB_ACCOUNT_ABSENT)
        kb_pass_refuse(pass, "ServiceAccountNotFound", false,
                       kb_asprintf("spec.serviceAccountName: ServiceAccount '%s' not found", account));
    else if (!pass->snapshot->is_account_allowed)
        kb_pass_refuse(pass, "ServiceAccountNotAllowed", true,
                       kb_asprintf("spec.serviceAccountName: ServiceAccount '%s' must carry the label "
                                   "kafka.oso.sh/worker=allowed",
                                   account));
    else
        pass->gate.look_again_ms = 0;
}

void kb_pass_check_gate(kb_pass *pass)
{
    const char *pause = kb_tree_text_or_empty(pass->object, "metadata", "annotations", KB_NOTE_PAUSE, NULL);
    pass->gate.is_paused = strcmp(pause, "true") == 0;
    if (pass->gate.is_paused) {
        kb_pass_refuse(pass, "Paused", false, kb_strdup("paused by annotation " KB_NOTE_PAUSE));
        return;
    }
    if (!kb_settings_serves(pass->settings, pass->namespace))
        kb_pass_refuse(
            pass, "NamespaceNotEnabled", true,
            kb_asprintf("this installation makes no workloads in namespace %s; add it to the chart "
                        "value workloadNamespaces",
                        pass->namespace));
    if (pass->problem.reason != NULL)
        kb_pass_refuse(pass, pass->problem.reason, true, kb_strdup(pass->problem.message));
    const json_t *conflict = pass->gate.reason == NULL ? find_conflict(pass) : NULL;
    if (conflict != NULL)
        kb_pass_refuse(
            pass, "StorageLocationConflict", true,
            kb_asprintf("KafkaBackup %s/%s, which is older, writes to the same location; use another "
                        "name or prefix",
                        kb_tree_text_or_empty(conflict, "metadata", "namespace", NULL), pass->name));
    if (pass->gate.reason == NULL)
        check_account(pass);
    if (pass->gate.reason != NULL && pass->gate.look_again_ms > 0)
        kb_plan_requeue(pass->plan, pass->gate.look_again_ms);
}

static bool has(const char *text, const char *part)
{
    return text != NULL && strcasestr(text, part) != NULL;
}

void kb_pass_note_fault(kb_pass *pass)
{
    const kb_snapshot *snapshot = pass->snapshot;
    const char *text = snapshot->last_fault_text != NULL ? snapshot->last_fault_text : "";
    if (snapshot->next_retry_ms > 0 && snapshot->last_fault != KB_KUBE_FINE)
        kb_tree_set_time(pass->status, "nextRetryTime", snapshot->next_retry_ms);
    if (snapshot->last_fault == KB_KUBE_DENIED) {
        const char *reason = has(text, "exceeded quota") ? "QuotaExceeded"
                             : has(text, "admission webhook") || has(text, "PodSecurity")
                                 ? "PodRejected"
                                 : "PermissionDenied";
        kb_pass_refuse(pass, reason, false, kb_strdup(text));
        kb_plan_event(pass->plan, true, reason, text, "%s", text);
    } else if (snapshot->last_fault == KB_KUBE_EXISTS) {
        kb_pass_refuse(pass, "AdoptionRefused", true, kb_strdup(text));
        kb_plan_event(pass->plan, true, "AdoptionRefused", text, "%s", text);
    } else if (snapshot->last_fault == KB_KUBE_INVALID) {
        kb_pass_refuse(pass, "UnsupportedField", true, kb_strdup(text));
        kb_plan_event(pass->plan, true, "UnsupportedField", text, "%s", text);
    }
}

/* ---- conditions ---- */

void kb_pass_condition(kb_pass *pass, const char *type, kb_truth status, const char *reason, const char *fmt,
                       ...)
{
    char *message = NULL;
    va_list args;
    va_start(args, fmt);
    if (vasprintf(&message, fmt, args) < 0)
        kb_out_of_memory();
    va_end(args);
    kb_condition_set(pass->conditions, &(kb_condition){type, status, reason, message}, pass->generation,
                     pass->now_ms);
    free(message);
}

void kb_pass_keep_condition(kb_pass *pass, const char *type)
{
    const json_t *old = kb_condition_find(pass->conditions, type);
    if (old == NULL)
        return;
    const char *status = kb_tree_text_or_empty(old, "status", NULL);
    kb_truth truth = strcmp(status, "True") == 0    ? KB_TRUE
                     : strcmp(status, "False") == 0 ? KB_FALSE
                                                    : KB_UNKNOWN;
    KB_AUTOFREE char *reason = kb_strdup(kb_tree_text_or_empty(old, "reason", NULL));
    KB_AUTOFREE char *message = kb_strdup(kb_tree_text_or_empty(old, "message", NULL));
    kb_pass_condition(pass, type, truth, reason, "%s", message);
}

void kb_pass_common_conditions(kb_pass *pass, bool is_suspended)
{
    const json_t *old = kb_tree_at(pass->old_status, "conditions", NULL);
    const char *was = kb_condition_reason(old, "Suspended");
    const char *reason = pass->gate.is_paused ? "Paused" : is_suspended ? "Suspended" : "NotSuspended";
    kb_pass_condition(pass, "Suspended", strcmp(reason, "NotSuspended") == 0 ? KB_FALSE : KB_TRUE, reason,
                      "%s", pass->gate.is_paused ? pass->gate.message : "");
    bool is_first = *was == '\0' && strcmp(reason, "NotSuspended") == 0;
    if (strcmp(was, reason) != 0 && !is_first)
        kb_plan_event(pass->plan, false, strcmp(reason, "NotSuspended") == 0 ? "Resumed" : reason, NULL, "%s",
                      pass->gate.is_paused         ? "reconciliation is paused by annotation"
                      : is_suspended               ? "the schedule is suspended"
                      : strcmp(was, "Paused") == 0 ? "reconciliation goes on"
                                                   : "the schedule goes on");
    if (pass->gate.reason != NULL && pass->gate.is_stalled) {
        bool is_new = strcmp(kb_condition_reason(old, "Stalled"), pass->gate.reason) != 0;
        kb_pass_condition(pass, "Stalled", KB_TRUE, pass->gate.reason, "%s", pass->gate.message);
        if (is_new && pass->snapshot->last_fault == KB_KUBE_FINE)
            kb_plan_event(pass->plan, true,
                          strncmp(pass->gate.reason, "Invalid", 7) == 0 ? "InvalidSpec" : pass->gate.reason,
                          pass->gate.message, "%s", pass->gate.message);
    } else if (!pass->gate.is_paused || kb_condition_find(pass->conditions, "Stalled") == NULL) {
        kb_pass_condition(pass, "Stalled", KB_FALSE, "Progressing", "%s", "");
    }
}

/* ---- Jobs ---- */

const char *kb_pass_command_of(const json_t *job)
{
    const json_t *containers = kb_tree_at(job, "spec", "template", "spec", "containers", NULL);
    const char *command =
        json_string_value(json_array_get(kb_tree_at(json_array_get(containers, 0), "args", NULL), 0));
    return command != NULL ? command : "";
}

bool kb_pass_is_recorded(const json_t *job)
{
    return kb_tree_at(job, "metadata", "annotations", KB_NOTE_RECORDED, NULL) != NULL;
}

static int64_t created_ms(const json_t *object)
{
    int64_t ms = 0;
    return kb_tree_time(&ms, object, "metadata", "creationTimestamp", NULL) ? ms : 0;
}

const json_t *kb_pass_unfinished(const kb_pass *pass)
{
    const json_t *oldest = NULL;
    for (size_t i = 0; i < json_array_size(pass->snapshot->jobs); i++) {
        const json_t *job = json_array_get(pass->snapshot->jobs, i);
        if (kb_job_is_finished(job) || kb_tree_at(job, "metadata", "deletionTimestamp", NULL) != NULL)
            continue;
        if (oldest == NULL || created_ms(job) < created_ms(oldest))
            oldest = job;
    }
    return oldest;
}

const json_t *kb_pass_job_named(const kb_pass *pass, const char *name)
{
    for (size_t i = 0; i < json_array_size(pass->snapshot->jobs); i++) {
        const json_t *job = json_array_get(pass->snapshot->jobs, i);
        if (strcmp(kb_tree_text_or_empty(job, "metadata", "name", NULL), name) == 0)
            return job;
    }
    return NULL;
}

static void set_active_job(kb_pass *pass, const json_t *job, const char *created_event)
{
    const char *uid = kb_tree_text_or_empty(job, "metadata", "uid", NULL);
    const char *name = kb_tree_text_or_empty(job, "metadata", "name", NULL);
    const char *old_uid = kb_tree_text_or_empty(pass->old_status, "activeJob", "uid", NULL);
    if (strcmp(uid, old_uid) != 0)
        kb_plan_event(pass->plan, false, created_event, uid, "Job %s created", name);
    json_t *active = kb_tree_object();
    kb_tree_set_text(active, "name", name);
    kb_tree_set_text(active, "uid", uid);
    int64_t started = 0;
    if (kb_tree_time(&started, job, "status", "startTime", NULL))
        kb_tree_set_time(active, "startTime", started);
    kb_tree_set_i64(active, "attempts", kb_job_attempts(job));
    kb_tree_set(pass->status, "activeJob", active);
}

static void end_job(kb_pass *pass, const json_t *job, const char *reason, const char *message)
{
    if (kb_tree_at(job, "metadata", "annotations", KB_NOTE_END_REASON, NULL) != NULL)
        return;
    kb_effect *effect =
        kb_plan_add(&pass->later, KB_EFFECT_END_JOB, kb_tree_text(job, "metadata", "name", NULL),
                    kb_tree_text(job, "metadata", "uid", NULL), NULL);
    effect->reason = kb_strdup(reason);
    effect->message = kb_status_text(message, 512);
}

/* A Job whose pod does not start: why, and how long still. */
static void watch_start(kb_pass *pass, const json_t *job, const json_t *pods, bool has_deadline)
{
    int64_t age_ms = pass->now_ms - created_ms(job);
    kb_start_reason why = {0};
    if (age_ms >= KB_START_LOOK_MS)
        kb_start_reason_of(pods, pass->snapshot->events, &why);
    kb_plan_requeue(pass->plan, age_ms < KB_START_LOOK_MS ? KB_START_LOOK_MS - age_ms : KB_START_AGAIN_MS);
    const char *uid = kb_tree_text_or_empty(job, "metadata", "uid", NULL);
    if (why.reason != NULL) {
        KB_AUTOFREE char *message = kb_asprintf("%s: %s", why.reason, why.message);
        const json_t *old = kb_condition_find(pass->conditions, "Progressing");
        KB_AUTOFREE char *cause = kb_asprintf("%s/%s", uid, why.reason);
        if (strcmp(kb_tree_text_or_empty(old, "message", NULL), message) != 0)
            kb_plan_event(pass->plan, true, "WaitingForResource", cause, "%s", message);
        kb_pass_condition(pass, "Progressing", KB_TRUE, "JobPending", "%s", message);
        pass->waiting_reason = why.reason;
        pass->waiting_message = kb_strdup(why.message);
    } else {
        kb_pass_condition(pass, "Progressing", KB_TRUE, "JobPending", "waiting for the pod to start");
    }
    int64_t deadline_ms = pass->settings->start_deadline_seconds * 1000;
    if (has_deadline && age_ms >= deadline_ms) {
        KB_AUTOFREE char *message = kb_asprintf(
            "no worker started within %lld s: %s", (long long)pass->settings->start_deadline_seconds,
            why.message != NULL ? why.message : "the reason is not known");
        end_job(pass, job, "StartDeadlineExceeded", message);
    } else if (has_deadline) {
        kb_plan_requeue(pass->plan, deadline_ms - age_ms);
    }
    kb_start_reason_done(&why);
}

static bool is_final_code(int code)
{
    size_t count = 0;
    const int *codes = kb_job_final_exit_codes(&count);
    for (size_t i = 0; i < count; i++)
        if (codes[i] == code)
            return true;
    return false;
}

/* A Job that has to be ended by us: by its worker's exit code, or since something else keeps the pod alive.
 */
static void watch_end(kb_pass *pass, const json_t *job, const json_t *pods)
{
    int code = 0;
    if (!kb_job_last_exit_code(pods, &code))
        return;
    KB_AUTOFREE char *number = kb_asprintf("%d", code);
    const char *container = kb_job_lingering_container(pods, pass->now_ms - KB_LINGER_MS);
    if (container != NULL) {
        kb_plan_event(
            &pass->later, true, "OutcomeUnknown", kb_tree_text(job, "metadata", "uid", NULL),
            "the worker ended with exit code %d, but container '%s' keeps the pod alive; the Job is ended",
            code, container);
        end_job(pass, job, KB_END_BY_EXIT_CODE, number);
    } else if (!pass->caps->has_pod_failure_policy && is_final_code(code)) {
        end_job(pass, job, KB_END_BY_EXIT_CODE, number);
    } else if (kb_job_lingering_container(pods, pass->now_ms) != NULL) {
        kb_plan_requeue(pass->plan, KB_LINGER_MS);
    }
}

static bool has_running_worker(const json_t *pods)
{
    for (size_t i = 0; i < json_array_size(pods); i++) {
        const json_t *statuses = kb_tree_at(json_array_get(pods, i), "status", "containerStatuses", NULL);
        for (size_t k = 0; k < json_array_size(statuses); k++) {
            const json_t *status = json_array_get(statuses, k);
            if (strcmp(kb_tree_text_or_empty(status, "name", NULL), "worker") == 0 &&
                kb_tree_at(status, "state", "running", NULL) != NULL)
                return true;
        }
    }
    return false;
}

/* A Job that the store does not show and the server was not asked for yet. */
static bool is_active_job_in_doubt(kb_pass *pass)
{
    const char *uid = kb_tree_text(pass->old_status, "activeJob", "uid", NULL);
    if (uid == NULL || pass->snapshot->is_active_job_gone)
        return false;
    for (size_t i = 0; i < json_array_size(pass->snapshot->jobs); i++)
        if (strcmp(kb_tree_text_or_empty(json_array_get(pass->snapshot->jobs, i), "metadata", "uid", NULL),
                   uid) == 0)
            return false;
    kb_plan_requeue(pass->plan, KB_DOUBT_MS);
    return true;
}

void kb_pass_watch_job(kb_pass *pass, const json_t *job, bool has_start_deadline, const char *created_event)
{
    if (job == NULL) {
        if (!is_active_job_in_doubt(pass))
            json_object_del(pass->status, "activeJob");
        return;
    }
    set_active_job(pass, job, created_event);
    KB_AUTO_TREE(pods);
    pods = kb_job_pods(job, pass->snapshot->pods);
    if (!kb_job_has_started(pods)) {
        watch_start(pass, job, pods, has_start_deadline);
        return;
    }
    watch_end(pass, job, pods);
    const json_t *run = kb_run_of_job(pass->run, kb_tree_text(job, "metadata", "uid", NULL));
    const char *waiting = kb_tree_text_or_empty(run, "waitingFor", NULL);
    if (!has_running_worker(pods)) {
        int code = 0;
        bool has_code = kb_job_last_exit_code(pods, &code);
        kb_pass_condition(pass, "Progressing", KB_TRUE, "Retrying",
                          "the worker ended with exit code %d; Kubernetes starts it again",
                          has_code ? code : -1);
    } else if (strcmp(kb_tree_text_or_empty(run, "state", NULL), "WaitingForLock") == 0) {
        kb_pass_condition(pass, "Progressing", KB_TRUE, "WaitingForLock", "%s", waiting);
    } else {
        kb_pass_condition(pass, "Progressing", KB_TRUE, "Running", "Job %s",
                          kb_tree_text_or_empty(job, "metadata", "name", NULL));
    }
}

/* ---- starting ---- */

static json_t *account_json(const kb_pass *pass, const char *account)
{
    const kb_settings *settings = pass->settings;
    json_t *labels = kb_tree_object();
    kb_tree_set_text(labels, KB_LABEL_NAME, KB_WORKER_NAME);
    kb_tree_set_text(labels, KB_LABEL_MANAGED_BY, KB_MANAGED_BY);
    kb_tree_set_text(labels, KB_LABEL_WORKER, "allowed");
    kb_tree_merge_missing(labels, settings->account_labels);
    json_t *meta = kb_tree_object();
    kb_tree_set_text(meta, "name", account);
    kb_tree_set_text(meta, "namespace", pass->namespace);
    kb_tree_set(meta, "labels", labels);
    if (json_object_size(settings->account_annotations) > 0)
        kb_tree_set(meta, "annotations", kb_tree_copy(settings->account_annotations));
    json_t *object = kb_tree_object();
    kb_tree_set_text(object, "apiVersion", "v1");
    kb_tree_set_text(object, "kind", "ServiceAccount");
    kb_tree_set(object, "metadata", meta);
    kb_tree_set_bool(object, "automountServiceAccountToken", false);
    return object;
}

static json_t *binding_json(const kb_pass *pass, const char *account, const char *name, const char *role_kind,
                            const char *role_name)
{
    json_t *labels = kb_tree_object();
    kb_tree_set_text(labels, KB_LABEL_NAME, KB_WORKER_NAME);
    kb_tree_set_text(labels, KB_LABEL_MANAGED_BY, KB_MANAGED_BY);
    json_t *meta = kb_tree_object();
    kb_tree_set_text(meta, "name", name);
    kb_tree_set_text(meta, "namespace", pass->namespace);
    kb_tree_set(meta, "labels", labels);
    json_t *subject = kb_tree_object();
    kb_tree_set_text(subject, "kind", "ServiceAccount");
    kb_tree_set_text(subject, "name", account);
    kb_tree_set_text(subject, "namespace", pass->namespace);
    json_t *subjects = kb_tree_array();
    kb_tree_add(subjects, subject);
    json_t *role = kb_tree_object();
    kb_tree_set_text(role, "apiGroup", "rbac.authorization.k8s.io");
    kb_tree_set_text(role, "kind", role_kind);
    kb_tree_set_text(role, "name", role_name);
    json_t *object = kb_tree_object();
    kb_tree_set_text(object, "apiVersion", "rbac.authorization.k8s.io/v1");
    kb_tree_set_text(object, "kind", "RoleBinding");
    kb_tree_set(object, "metadata", meta);
    kb_tree_set(object, "subjects", subjects);
    kb_tree_set(object, "roleRef", role);
    return object;
}

/* A confined install has a Role of the worker's name in each namespace, no ClusterRole. */
static json_t *worker_binding(const kb_pass *pass, const char *account, const char *name)
{
    bool is_confined = json_array_size(pass->settings->watch_namespaces) > 0;
    return binding_json(pass, account, name, is_confined ? "Role" : "ClusterRole", KB_WORKER_NAME);
}

static void own(const kb_pass *pass, json_t *object)
{
    json_t *owners = kb_tree_array();
    kb_tree_add(owners, kb_owner_reference(pass->snapshot->kind, pass->object));
    kb_tree_set(json_object_get(object, "metadata"), "ownerReferences", owners);
}

/* Not owned: snapshots outlive what made them. */
static json_t *snapshot_map_json(const kb_pass *pass, const char *map)
{
    json_t *labels = kb_tree_object();
    kb_tree_set_text(labels, KB_LABEL_NAME, KB_WORKER_NAME);
    kb_tree_set_text(labels, KB_LABEL_MANAGED_BY, KB_MANAGED_BY);
    json_t *meta = kb_tree_object();
    kb_tree_set_text(meta, "name", map);
    kb_tree_set_text(meta, "namespace", pass->namespace);
    kb_tree_set(meta, "labels", labels);
    json_t *object = kb_tree_object();
    kb_tree_set_text(object, "apiVersion", "v1");
    kb_tree_set_text(object, "kind", "ConfigMap");
    kb_tree_set(object, "metadata", meta);
    return object;
}

static json_t *snapshot_role_json(const kb_pass *pass, const char *map, const char *name)
{
    json_t *object =
        kb_tree_need(json_loads("{\"apiVersion\":\"rbac.authorization.k8s.io/v1\",\"kind\":\"Role\","
                                "\"rules\":[{\"apiGroups\":[\"\"],\"resources\":[\"configmaps\"],"
                                "\"verbs\":[\"get\",\"patch\"],\"resourceNames\":[]}]}",
                                0, NULL));
    json_t *rule = json_array_get(json_object_get(object, "rules"), 0);
    kb_tree_add_text(json_object_get(rule, "resourceNames"), map);
    json_t *meta = kb_tree_object();
    kb_tree_set_text(meta, "name", name);
    kb_tree_set_text(meta, "namespace", pass->namespace);
    kb_tree_set(meta, "labels", kb_labels_of(pass->snapshot->kind, pass->object));
    kb_tree_set(object, "metadata", meta);
    own(pass, object);
    return object;
}

void kb_pass_add_snapshot_map(kb_pass *pass, const char *map, const char *account)
{
    KB_AUTOFREE char *name = kb_name_child(pass->name, "-" KB_SNAPSHOT_CONFIG_MAP, KB_LIMIT_OBJECT);
    kb_plan_add(&pass->later, KB_EFFECT_SNAPSHOT_MAP, map, NULL, snapshot_map_json(pass, map));
    kb_plan_add(&pass->later, KB_EFFECT_ROLE, name, NULL, snapshot_role_json(pass, map, name));
    json_t *binding = binding_json(pass, account, name, "Role", name);
    own(pass, binding);
    kb_plan_add(&pass->later, KB_EFFECT_BINDING, name, NULL, binding);
}

void kb_pass_add_prerequisites(kb_pass *pass, const kb_pod_input *pod, const kb_run_config *config)
{
    kb_plan_add(&pass->later, KB_EFFECT_CONFIG_MAP, config->name, NULL,
                kb_run_config_map(pod->render, config));
    bool is_shared =
        pass->settings->share_operator_account && strcmp(pod->account, pass->settings->operator_account) == 0;
    /* A named account is its owner's; one shared with the operator is there, and its pods get no token. */
    if (is_shared)
        return;
    if (pass->spec.run.service_account_name == NULL)
        kb_plan_add(&pass->later, KB_EFFECT_ACCOUNT, pod->account, NULL, account_json(pass, pod->account));
    KB_AUTOFREE char *binding = kb_name_binding(pod->account);
    kb_plan_add(&pass->later, KB_EFFECT_BINDING, binding, NULL, worker_binding(pass, pod->account, binding));
}

void kb_pass_add_job(kb_pass *pass, const kb_pod_input *pod, const kb_run_config *config, const char *name)
{
    kb_pass_add_prerequisites(pass, pod, config);
    kb_plan_add(&pass->later, KB_EFFECT_CREATE_JOB, name, NULL, kb_job_object(pod, pass->caps, name));
}

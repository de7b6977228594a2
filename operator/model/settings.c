#include "operator/model/settings.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"

/* The defaults of the chart; the document is laid over them member by member, two levels deep. */
static const char defaults[] =
    "{\"image\":{\"pullPolicy\":\"IfNotPresent\"},\"imagePullSecrets\":[],"
    "\"serviceAccount\":{\"name\":\"" KB_WORKER_ACCOUNT "\",\"annotations\":{},\"labels\":{},"
    "\"shareOperator\":false,\"operatorName\":\"kafka-backup-operator\"},"
    "\"resources\":{\"requests\":{\"cpu\":\"500m\",\"memory\":\"512Mi\"},\"limits\":{\"memory\":\"2Gi\"}},"
    "\"podSecurityContext\":{\"runAsNonRoot\":true,\"runAsUser\":1000,\"runAsGroup\":1000,\"fsGroup\":1000,"
    "\"fsGroupChangePolicy\":\"OnRootMismatch\",\"seccompProfile\":{\"type\":\"RuntimeDefault\"}},"
    "\"securityContext\":{},\"podAnnotations\":{},\"podLabels\":{},\"nodeSelector\":{},\"tolerations\":[],"
    "\"priorityClassName\":\"\",\"terminationGracePeriodSeconds\":120,\"startDeadlineSeconds\":3600,"
    "\"startJitterSeconds\":0,\"jobHistory\":{\"successful\":5,\"failed\":5},"
    "\"trustConfigMap\":\"kafka-backup-trust\",\"logging\":{},\"releaseNamespace\":\"kafka-backup\","
    "\"clusterWideWorkloads\":true,\"workloadNamespaces\":[],\"watchNamespaces\":[]}";

/* Blocks whose members have defaults of their own; any other block replaces its default as a whole. */
static bool is_merged(const char *name)
{
    static const char *const names[] = {"image", "serviceAccount", "jobHistory", "logging"};
    for (size_t i = 0; i < KB_ARRAY_LEN(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static bool is_same_type(const json_t *a, const json_t *b)
{
    return json_typeof(a) == json_typeof(b) || (json_is_boolean(a) && json_is_boolean(b));
}

static kb_code lay_over(json_t *all, json_t *given, kb_error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach(given, name, value)
    {
        json_t *old = json_object_get(all, name);
        if (old == NULL || json_is_null(value))
            continue;
        if (!is_same_type(old, value))
            return kb_fail(err, KB_CONFIG_INVALID, "worker settings: %s has a wrong type", name);
        if (is_merged(name))
            kb_tree_merge_over(old, value);
        else
            kb_tree_set(all, name, kb_tree_copy(value));
    }
    return KB_OK;
}

static const char *text_or_null(const json_t *block, const char *name)
{
    const char *text = kb_tree_text(block, name, NULL);
    return text != NULL && *text != '\0' ? text : NULL;
}

static void fill(kb_settings *s, json_t *all)
{
    json_t *account = json_object_get(all, "serviceAccount");
    s->image_pull_secrets = json_object_get(all, "imagePullSecrets");
    s->resources = json_object_get(all, "resources");
    s->pod_security_context = json_object_get(all, "podSecurityContext");
    s->security_context = json_object_get(all, "securityContext");
    s->pod_annotations = json_object_get(all, "podAnnotations");
    s->pod_labels = json_object_get(all, "podLabels");
    s->node_selector = json_object_get(all, "nodeSelector");
    s->tolerations = json_object_get(all, "tolerations");
    s->priority_class_name = kb_tree_text_or_empty(all, "priorityClassName", NULL);
    s->account = text_or_null(account, "name");
    if (s->account == NULL)
        s->account = KB_WORKER_ACCOUNT;
    s->account_annotations = kb_tree_at(account, "annotations", NULL);
    s->account_labels = kb_tree_at(account, "labels", NULL);
    s->share_operator_account = kb_tree_bool(false, account, "shareOperator", NULL);
    s->operator_account = kb_tree_text_or_empty(account, "operatorName", NULL);
    s->grace_seconds = kb_tree_i64(120, all, "terminationGracePeriodSeconds", NULL);
    s->start_deadline_seconds = kb_tree_i64(3600, all, "startDeadlineSeconds", NULL);
    s->start_jitter_seconds = kb_tree_i64(0, all, "startJitterSeconds", NULL);
    s->history_successful = kb_tree_i64(5, all, "jobHistory", "successful", NULL);
    s->history_failed = kb_tree_i64(5, all, "jobHistory", "failed", NULL);
    s->trust_config_map = kb_tree_text_or_empty(all, "trustConfigMap", NULL);
    s->log_level = text_or_null(json_object_get(all, "logging"), "level");
    s->log_format = text_or_null(json_object_get(all, "logging"), "format");
    s->release_namespace = kb_tree_text_or_empty(all, "releaseNamespace", NULL);
    s->cluster_wide_workloads = kb_tree_bool(true, all, "clusterWideWorkloads", NULL);
    s->workload_namespaces = json_object_get(all, "workloadNamespaces");
    s->watch_namespaces = json_object_get(all, "watchNamespaces");
}

static kb_code check_image(const json_t *image, char **ret_image, kb_error *err)
{
    const char *repository = text_or_null(image, "repository");
    const char *tag = text_or_null(image, "tag");
    if (repository == NULL || tag == NULL)
        return kb_fail(err, KB_CONFIG_INVALID, "worker settings: image.repository and image.tag must be set");
    if (strcmp(tag, "latest") == 0)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "worker settings: image.tag must not be latest; hint: name a version");
    /* A digest is written with its own separator: repository@sha256:... */
    const char *separator = strncmp(tag, "sha256:", 7) == 0 ? "@" : ":";
    *ret_image = kb_asprintf("%s%s%s", repository, separator, tag);
    return KB_OK;
}

kb_code kb_settings_parse(const char *json, kb_settings *ret_settings, kb_error *err)
{
    json_error_t problem;
    KB_AUTO_TREE(given);
    given = json_loads(json, JSON_REJECT_DUPLICATES, &problem);
    if (!json_is_object(given))
        return kb_fail(err, KB_CONFIG_INVALID, "worker settings: not a JSON object: %s", problem.text);
    KB_AUTO_TREE(all);
    all = kb_tree_need(json_loads(defaults, 0, NULL));
    kb_settings settings = {0};
    kb_code code = lay_over(all, given, err);
    if (code == KB_OK)
        code = check_image(json_object_get(all, "image"), &settings.image, err);
    if (code != KB_OK)
        return code;
    settings.pull_policy = kb_strdup(kb_tree_text_or_empty(all, "image", "pullPolicy", NULL));
    fill(&settings, all);
    settings.owned = KB_TAKE(all);
    *ret_settings = settings;
    return KB_OK;
}

void kb_settings_done(kb_settings *settings)
{
    free(settings->image);
    free(settings->pull_policy);
    json_decref(settings->owned);
    *settings = (kb_settings){0};
}

static bool has_text(const json_t *list, const char *text)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *item = json_string_value(json_array_get(list, i));
        if (item != NULL && strcmp(item, text) == 0)
            return true;
    }
    return false;
}

bool kb_settings_serves(const kb_settings *settings, const char *namespace)
{
    if (json_array_size(settings->watch_namespaces) > 0)
        return has_text(settings->watch_namespaces, namespace);
    return settings->cluster_wide_workloads || strcmp(settings->release_namespace, namespace) == 0 ||
           has_text(settings->workload_namespaces, namespace);
}

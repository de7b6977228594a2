#include "operator/kube/kube_types.h"

#include <stdarg.h>
#include <string.h>

#include "common/base/mem.h"

#define KB_KUBE_PATH_MAX 8192

#define OURS "kafka.oso.sh"
#define RBAC "rbac.authorization.k8s.io"
const kb_kube_resource KB_KUBE_BACKUPS = {OURS, "v1alpha1", "kafkabackups", "KafkaBackup", false};
const kb_kube_resource KB_KUBE_RESTORES = {OURS, "v1alpha1", "kafkarestores", "KafkaRestore", false};
const kb_kube_resource KB_KUBE_OFFSET_RESETS = {OURS, "v1alpha1", "kafkaoffsetresets", "KafkaOffsetReset",
                                                false};
const kb_kube_resource KB_KUBE_OFFSET_ROLLBACKS = {OURS, "v1alpha1", "kafkaoffsetrollbacks",
                                                   "KafkaOffsetRollback", false};
const kb_kube_resource KB_KUBE_JOBS = {"batch", "v1", "jobs", "Job", false};
const kb_kube_resource KB_KUBE_CRON_JOBS = {"batch", "v1", "cronjobs", "CronJob", false};
const kb_kube_resource KB_KUBE_CRON_JOBS_V1BETA1 = {"batch", "v1beta1", "cronjobs", "CronJob", false};
const kb_kube_resource KB_KUBE_PODS = {"", "v1", "pods", "Pod", false};
const kb_kube_resource KB_KUBE_CONFIG_MAPS = {"", "v1", "configmaps", "ConfigMap", false};
const kb_kube_resource KB_KUBE_SERVICE_ACCOUNTS = {"", "v1", "serviceaccounts", "ServiceAccount", false};
const kb_kube_resource KB_KUBE_ROLES = {RBAC, "v1", "roles", "Role", false};
const kb_kube_resource KB_KUBE_ROLE_BINDINGS = {RBAC, "v1", "rolebindings", "RoleBinding", false};
const kb_kube_resource KB_KUBE_EVENTS = {"", "v1", "events", "Event", false};
const kb_kube_resource KB_KUBE_LEASES = {"coordination.k8s.io", "v1", "leases", "Lease", false};

void kb_json_decref_at(json_t **at)
{
    json_decref(*at);
    *at = NULL;
}

static void append_encoded(kb_strbuf *to, const char *text)
{
    const bool is_dots = strcmp(text, ".") == 0 || strcmp(text, "..") == 0;
    for (const char *c = text; *c != '\0'; c++) {
        const bool is_plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                              (*c >= '0' && *c <= '9') || *c == '-' || *c == '_' || (*c == '.' && !is_dots);
        if (is_plain)
            kb_strbuf_appendc(to, *c);
        else
            kb_strbuf_appendf(to, "%%%02X", (unsigned)(unsigned char)*c);
    }
}

static void append_part(kb_strbuf *path, const char *part)
{
    kb_strbuf_appendc(path, '/');
    append_encoded(path, part);
}

void kb_kube_append_query(kb_strbuf *url, const char *name, const char *value)
{
    if (value == NULL || value[0] == '\0')
        return;
    kb_strbuf_appendf(url, "&%s=", name);
    append_encoded(url, value);
}

char *kb_kube_path(const kb_kube_ref *ref)
{
    KB_AUTO_STRBUF(path, KB_KUBE_PATH_MAX);
    kb_strbuf_appends(&path, ref->resource->group[0] == '\0' ? "/api" : "/apis");
    if (ref->resource->group[0] != '\0')
        append_part(&path, ref->resource->group);
    append_part(&path, ref->resource->version);
    if (ref->name_space != NULL && !ref->resource->is_cluster_wide) {
        append_part(&path, "namespaces");
        append_part(&path, ref->name_space);
    }
    append_part(&path, ref->resource->plural);
    if (ref->name != NULL)
        append_part(&path, ref->name);
    if (ref->subresource != NULL)
        append_part(&path, ref->subresource);
    /* A name that long is none: the server answers 404 to the root of an unknown path. */
    return path.failed ? kb_strdup("/apis/name-too-long") : kb_strbuf_take(&path);
}

char *kb_kube_describe(const kb_kube_ref *ref)
{
    const bool has_namespace = ref->name_space != NULL;
    const char *what = ref->name != NULL ? ref->resource->kind : ref->resource->plural;
    return kb_asprintf("%s%s%s%s%s%s%s%s", what, ref->name != NULL ? " " : "",
                       ref->name != NULL && has_namespace ? ref->name_space : "",
                       ref->name != NULL && has_namespace ? "/" : "", ref->name != NULL ? ref->name : "",
                       ref->name == NULL && has_namespace ? " in " : "",
                       ref->name == NULL && has_namespace ? ref->name_space : "",
                       ref->subresource != NULL ? " (status)" : "");
}

char *kb_kube_api_version(const kb_kube_resource *resource)
{
    if (resource->group[0] == '\0')
        return kb_strdup(resource->version);
    return kb_asprintf("%s/%s", resource->group, resource->version);
}

const char *kb_kube_class_name(kb_kube_class fault_class)
{
    static const char *const NAMES[] = {
        [KB_KUBE_FINE] = "fine",           [KB_KUBE_GONE] = "gone",     [KB_KUBE_CONFLICT] = "conflict",
        [KB_KUBE_EXISTS] = "exists",       [KB_KUBE_DENIED] = "denied", [KB_KUBE_INVALID] = "invalid",
        [KB_KUBE_THROTTLED] = "throttled", [KB_KUBE_SERVER] = "server", [KB_KUBE_NOT_LEADER] = "not leader",
        [KB_KUBE_STOPPED] = "stopped",
    };
    _Static_assert(KB_ARRAY_LEN(NAMES) == KB_KUBE_CLASS_COUNT, "a name for each class");
    return (unsigned)fault_class < KB_KUBE_CLASS_COUNT ? NAMES[fault_class] : "unknown";
}

kb_kube_class kb_kube_classify(int http_status, const char *reason)
{
    if (http_status >= 200 && http_status < 300)
        return KB_KUBE_FINE;
    switch (http_status) {
    case 404:
    case 410:
        return KB_KUBE_GONE;
    case 409:
        return strcmp(reason, "AlreadyExists") == 0 ? KB_KUBE_EXISTS : KB_KUBE_CONFLICT;
    case 401:
    case 403:
        return KB_KUBE_DENIED;
    case 429:
        return KB_KUBE_THROTTLED;
    case 408:
        return KB_KUBE_SERVER;
    default:
        return http_status >= 400 && http_status < 500 ? KB_KUBE_INVALID : KB_KUBE_SERVER;
    }
}

kb_code kb_kube_class_code(kb_kube_class fault_class)
{
    switch (fault_class) {
    case KB_KUBE_FINE:
        return KB_OK;
    case KB_KUBE_GONE:
        return KB_ERR_NOT_FOUND;
    case KB_KUBE_EXISTS:
        return KB_ERR_EXISTS;
    case KB_KUBE_INVALID:
        return KB_ERR_FORMAT;
    case KB_KUBE_STOPPED:
        return KB_ERR_STOPPED;
    case KB_KUBE_CONFLICT:
    case KB_KUBE_DENIED:
    case KB_KUBE_THROTTLED:
    case KB_KUBE_SERVER:
    case KB_KUBE_NOT_LEADER:
    case KB_KUBE_CLASS_COUNT:
        break;
    }
    return KB_TEMPORARY_FAILURE;
}

static json_t *walk(const json_t *object, va_list names)
{
    json_t *at = NULL;
    for (const char *name = va_arg(names, const char *); name != NULL; name = va_arg(names, const char *)) {
        at = json_object_get(object, name);
        object = at;
    }
    return at;
}

json_t *kb_kube_at(const json_t *object, ...)
{
    va_list names;
    va_start(names, object);
    json_t *at = walk(object, names);
    va_end(names);
    return at;
}

const char *kb_kube_text(const json_t *object, ...)
{
    va_list names;
    va_start(names, object);
    const char *text = json_string_value(walk(object, names));
    va_end(names);
    return text;
}

static const char *metadata_text(const json_t *object, const char *name)
{
    const char *text = kb_kube_text(object, "metadata", name, NULL);
    return text != NULL ? text : "";
}

const char *kb_kube_name(const json_t *object)
{
    return metadata_text(object, "name");
}

const char *kb_kube_namespace(const json_t *object)
{
    return metadata_text(object, "namespace");
}

const char *kb_kube_uid(const json_t *object)
{
    return metadata_text(object, "uid");
}

const char *kb_kube_version(const json_t *object)
{
    return metadata_text(object, "resourceVersion");
}

const json_t *kb_kube_controller(const json_t *object)
{
    const json_t *owners = kb_kube_at(object, "metadata", "ownerReferences", NULL);
    size_t i;
    json_t *owner;
    json_array_foreach(owners, i, owner)
    {
        if (json_is_true(json_object_get(owner, "controller")))
            return owner;
    }
    return NULL;
}

#include "operator/ctrl/self_check.h"

#include <string.h>

#include "common/base/mem.h"
#include "operator/kube/capabilities.h"
#include "operator/kube/kube_types.h"

static const kb_kube_resource REVIEWS = {"authorization.k8s.io", "v1", "selfsubjectaccessreviews",
                                         "SelfSubjectAccessReview", true};

/* Rights on one resource: verbs by blanks. "status" is a subresource. */
typedef struct right {
    const char *group, *resource, *subresource, *verbs;
} right;

#define OURS "kafka.oso.sh"
#define RBAC "rbac.authorization.k8s.io"
static const right CR_RIGHTS[] = {
    {OURS, "kafkabackups", "", "get list watch create update patch"},
    {OURS, "kafkarestores", "", "get list watch create update patch"},
    {OURS, "kafkaoffsetresets", "", "get list watch create update patch"},
    {OURS, "kafkaoffsetrollbacks", "", "get list watch create update patch"},
    {OURS, "kafkabackups", "status", "get update patch"},
    {OURS, "kafkarestores", "status", "get update patch"},
    {OURS, "kafkaoffsetresets", "status", "get update patch"},
    {OURS, "kafkaoffsetrollbacks", "status", "get update patch"},
    {"", "events", "", "create patch"},
};
static const right WORKLOAD_RIGHTS[] = {
    {"batch", "jobs", "", "get list watch create patch delete"},
    {"batch", "cronjobs", "", "get list watch create patch delete"},
    {"", "pods", "", "get list watch"},
    {"", "configmaps", "", "get list create patch delete"},
    {"", "serviceaccounts", "", "get create patch"},
    {RBAC, "roles", "", "get create patch"},
    {RBAC, "rolebindings", "", "get create patch"},
    {"", "events", "", "list"},
};
static const right LEADER_RIGHTS[] = {{"coordination.k8s.io", "leases", "", "create"}};

typedef struct checking {
    const kb_self_check_options *options;
    kb_strbuf *report;
    bool has_failed;
} checking;

static void say(checking *c, bool is_ok, const char *what, const char *why)
{
    kb_strbuf_appendf(c->report, "%s %s%s%s\n", is_ok ? "ok" : "FAILED", what, why[0] != '\0' ? ": " : "",
                      why);
    c->has_failed = c->has_failed || !is_ok;
}

static void check_right(checking *c, const right *r, const char *verb, const char *name_space)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_KUBE_REPLY(reply);
    KB_AUTO_JSON json_t *attributes = json_pack("{s:s, s:s, s:s, s:s}", "verb", verb, "group", r->group,
                                                "resource", r->resource, "subresource", r->subresource);
    if (name_space != NULL)
        json_object_set_new(attributes, "namespace", json_string(name_space));
    KB_AUTO_JSON json_t *body = json_pack("{s:s, s:s, s:{s:O}}", "apiVersion", "authorization.k8s.io/v1",
                                          "kind", REVIEWS.kind, "spec", "resourceAttributes", attributes);
    const kb_kube_request request = {
        .verb = KB_KUBE_CREATE, .ref = {.resource = &REVIEWS}, .body = body, .is_ungated = true};
    KB_AUTOFREE char *what =
        kb_asprintf("%s %s%s%s in %s", verb, r->resource, r->subresource[0] != '\0' ? "/" : "",
                    r->subresource, name_space != NULL ? name_space : "all namespaces");
    if (kb_kube_call(c->options->client, &request, &reply, &err) != KB_OK)
        say(c, false, what, kb_error_text(&err));
    else if (!json_is_true(kb_kube_at(reply.object, "status", "allowed", NULL)))
        say(c, false, what, "not allowed");
}

static void check_rights(checking *c, const right *rights, size_t count, const char *name_space)
{
    const bool had_failed = c->has_failed;
    c->has_failed = false;
    for (size_t i = 0; i < count; i++) {
        const char *verbs = rights[i].verbs;
        while (*verbs != '\0') {
            const size_t len = strcspn(verbs, " ");
            KB_AUTOFREE char *verb = kb_strndup(verbs, len);
            check_right(c, &rights[i], verb, name_space);
            verbs += len + (verbs[len] == ' ' ? 1 : 0);
        }
    }
    if (!c->has_failed) {
        KB_AUTOFREE char *what =
            kb_asprintf("rights in %s", name_space != NULL ? name_space : "all namespaces");
        say(c, true, what, rights[0].resource);
    }
    c->has_failed = c->has_failed || had_failed;
}

static void check_rights_in(checking *c, const right *rights, size_t count, const char *const *namespaces,
                            size_t namespace_count)
{
    if (namespace_count == 0)
        check_rights(c, rights, count, NULL);
    for (size_t i = 0; i < namespace_count; i++)
        check_rights(c, rights, count, namespaces[i]);
}

static bool is_served(const json_t *list, const char *plural)
{
    size_t i;
    json_t *resource;
    json_array_foreach(json_object_get(list, "resources"), i, resource)
    {
        const char *name = json_string_value(json_object_get(resource, "name"));
        if (name != NULL && strcmp(name, plural) == 0)
            return true;
    }
    return false;
}

static void check_definitions(checking *c)
{
    static const kb_kube_resource *const KINDS[] = {&KB_KUBE_BACKUPS, &KB_KUBE_RESTORES,
                                                    &KB_KUBE_OFFSET_RESETS, &KB_KUBE_OFFSET_ROLLBACKS};
    KB_AUTO_ERROR(err);
    KB_AUTO_KUBE_REPLY(reply);
    if (kb_kube_get_path(c->options->client, "/apis/kafka.oso.sh/v1alpha1", &reply, &err) != KB_OK) {
        say(c, false, "custom resource definitions", kb_error_text(&err));
        return;
    }
    for (size_t i = 0; i < KB_ARRAY_LEN(KINDS); i++) {
        const bool is_there = is_served(reply.object, KINDS[i]->plural);
        say(c, is_there, KINDS[i]->plural, is_there ? "served" : "not served; hint: install the CRDs");
    }
}

bool kb_self_check(const kb_self_check_options *options, kb_strbuf *report)
{
    checking c = {.options = options, .report = report};
    KB_AUTO_ERROR(err);
    kb_capabilities caps;
    if (kb_capabilities_read(options->client, &caps, &err) != KB_OK) {
        say(&c, false, "API server", kb_error_text(&err));
        return false;
    }
    KB_AUTOFREE char *version = kb_asprintf("Kubernetes %d.%d", caps.major, caps.minor);
    say(&c, caps.major > 1 || caps.minor >= 20, version,
        caps.minor < 20 ? "too old, 1.20 is the oldest" : "");
    check_definitions(&c);
    check_rights_in(&c, CR_RIGHTS, KB_ARRAY_LEN(CR_RIGHTS), options->watch_namespaces,
                    options->watch_namespace_count);
    check_rights_in(&c, WORKLOAD_RIGHTS, KB_ARRAY_LEN(WORKLOAD_RIGHTS), options->workload_namespaces,
                    options->workload_namespace_count);
    if (options->has_leader_election)
        check_rights(&c, LEADER_RIGHTS, KB_ARRAY_LEN(LEADER_RIGHTS), options->release_namespace);
    return !c.has_failed;
}

#include "operator/reconcile/projection.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/jobs/object_names.h"

#define KB_OWN_PREFIX "kafka.oso.sh/"

static void copy(json_t *to, const json_t *from, const char *name)
{
    json_t *value = kb_tree_at(from, name, NULL);
    if (value != NULL)
        kb_tree_set(to, name, kb_tree_copy(value));
}

/* Labels or annotations of ours. */
static json_t *own_entries(const json_t *map)
{
    json_t *kept = kb_tree_object();
    union {
        const json_t *in;
        json_t *out;
    } all = {.in = map};
    const char *name;
    json_t *value;
    json_object_foreach(all.out, name, value) if (strncmp(name, KB_OWN_PREFIX, strlen(KB_OWN_PREFIX)) == 0)
        kb_tree_set(kept, name, kb_tree_copy(value));
    return kept;
}

static json_t *metadata_of(const json_t *object)
{
    static const char *const names[] = {"name",
                                        "namespace",
                                        "uid",
                                        "generation",
                                        "resourceVersion",
                                        "ownerReferences",
                                        "creationTimestamp",
                                        "deletionTimestamp"};
    const json_t *meta = kb_tree_at(object, "metadata", NULL);
    json_t *kept = kb_tree_object();
    for (size_t i = 0; i < KB_ARRAY_LEN(names); i++)
        copy(kept, meta, names[i]);
    kb_tree_set(kept, "labels", own_entries(kb_tree_at(meta, "labels", NULL)));
    kb_tree_set(kept, "annotations", own_entries(kb_tree_at(meta, "annotations", NULL)));
    return kept;
}

/* Of a pod template: the command, and the ConfigMaps that it mounts. */
static json_t *template_of(const json_t *template)
{
    const json_t *spec = kb_tree_at(template, "spec", NULL);
    json_t *container = kb_tree_object();
    copy(container, json_array_get(kb_tree_at(spec, "containers", NULL), 0), "args");
    json_t *containers = kb_tree_array();
    kb_tree_add(containers, container);
    json_t *volumes = kb_tree_array();
    const json_t *all = kb_tree_at(spec, "volumes", NULL);
    for (size_t i = 0; i < json_array_size(all); i++)
        if (kb_tree_at(json_array_get(all, i), "configMap", NULL) != NULL)
            kb_tree_add(volumes, kb_tree_copy(json_array_get(all, i)));
    json_t *kept_spec = kb_tree_object();
    kb_tree_set(kept_spec, "containers", containers);
    kb_tree_set(kept_spec, "volumes", volumes);
    json_t *kept = kb_tree_object();
    kb_tree_set(kept, "spec", kept_spec);
    return kept;
}

static json_t *frame_of(const json_t *object)
{
    json_t *kept = kb_tree_object();
    copy(kept, object, "apiVersion");
    copy(kept, object, "kind");
    kb_tree_set(kept, "metadata", metadata_of(object));
    return kept;
}

json_t *kb_project_job(const json_t *job)
{
    static const char *const names[] = {"startTime", "completionTime", "conditions",
                                        "failed",    "active",         "succeeded"};
    json_t *kept = frame_of(job);
    json_t *spec = kb_tree_object();
    copy(spec, kb_tree_at(job, "spec", NULL), "activeDeadlineSeconds");
    kb_tree_set(spec, "template", template_of(kb_tree_at(job, "spec", "template", NULL)));
    kb_tree_set(kept, "spec", spec);
    json_t *status = kb_tree_object();
    for (size_t i = 0; i < KB_ARRAY_LEN(names); i++)
        copy(status, kb_tree_at(job, "status", NULL), names[i]);
    kb_tree_set(kept, "status", status);
    return kept;
}

json_t *kb_project_cron_job(const json_t *cron_job)
{
    static const char *const names[] = {"schedule", "timeZone", "suspend"};
    json_t *kept = frame_of(cron_job);
    json_t *spec = kb_tree_object();
    for (size_t i = 0; i < KB_ARRAY_LEN(names); i++)
        copy(spec, kb_tree_at(cron_job, "spec", NULL), names[i]);
    json_t *job_spec = kb_tree_object();
    kb_tree_set(job_spec, "template",
                template_of(kb_tree_at(cron_job, "spec", "jobTemplate", "spec", "template", NULL)));
    json_t *job = kb_tree_object();
    kb_tree_set(job, "spec", job_spec);
    kb_tree_set(spec, "jobTemplate", job);
    kb_tree_set(kept, "spec", spec);
    json_t *status = kb_tree_object();
    copy(status, kb_tree_at(cron_job, "status", NULL), "lastScheduleTime");
    kb_tree_set(kept, "status", status);
    return kept;
}

json_t *kb_project_pod(const json_t *pod)
{
    json_t *kept = frame_of(pod);
    json_t *status = kb_tree_object();
    copy(status, kb_tree_at(pod, "status", NULL), "phase");
    copy(status, kb_tree_at(pod, "status", NULL), "conditions");
    json_t *containers = kb_tree_array();
    const json_t *all = kb_tree_at(pod, "status", "containerStatuses", NULL);
    for (size_t i = 0; i < json_array_size(all); i++) {
        json_t *container = kb_tree_object();
        copy(container, json_array_get(all, i), "name");
        copy(container, json_array_get(all, i), "state");
        kb_tree_add(containers, container);
    }
    kb_tree_set(status, "containerStatuses", containers);
    kb_tree_set(kept, "status", status);
    return kept;
}

json_t *kb_project_resource(const json_t *object)
{
    json_t *kept = kb_tree_copy(object);
    json_t *meta = json_object_get(kept, "metadata");
    if (json_is_object(meta))
        json_object_del(meta, "managedFields");
    return kept;
}

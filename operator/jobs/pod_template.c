#include "operator/jobs/pod_template.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/jobs/object_names.h"

#define KB_MODE_SECRET 0400
#define KB_MODE_PUBLIC 0444
#define KB_TOKEN_SECONDS 3600
#define KB_METRICS_PORT 8080
#define KB_DIR_API "/var/run/secrets/kubernetes.io/serviceaccount"
#define KB_DEFAULT_MEMORY_LIMIT "2Gi"

const char *kb_worker_account(const kb_spec *spec, const kb_settings *settings, const char *namespace)
{
    if (spec->run.service_account_name != NULL)
        return spec->run.service_account_name;
    if (settings->share_operator_account && strcmp(namespace, settings->release_namespace) == 0)
        return settings->operator_account;
    return settings->account;
}

static bool is_operator_account(const kb_pod_input *input)
{
    const kb_settings *settings = input->render->settings;
    const char *namespace = kb_tree_text_or_empty(input->render->object, "metadata", "namespace", NULL);
    return settings->share_operator_account && strcmp(input->account, settings->operator_account) == 0 &&
           strcmp(namespace, settings->release_namespace) == 0;
}

/* ---- volumes ---- */

/* A projected source of one Secret: `key` becomes the file `path`. */
static json_t *secret_source(const char *secret, bool is_optional, const char *key, const char *path)
{
    json_t *item = kb_tree_object();
    kb_tree_set_text(item, "key", key);
    kb_tree_set_text(item, "path", path);
    json_t *items = kb_tree_array();
    kb_tree_add(items, item);
    json_t *body = kb_tree_object();
    kb_tree_set_text(body, "name", secret);
    if (is_optional)
        kb_tree_set_bool(body, "optional", true);
    kb_tree_set(body, "items", items);
    json_t *source = kb_tree_object();
    kb_tree_set(source, "secret", body);
    return source;
}

static json_t *projected_volume(const char *name, int mode, json_t *owned_sources)
{
    json_t *projected = kb_tree_object();
    kb_tree_set_i64(projected, "defaultMode", mode);
    kb_tree_set(projected, "sources", owned_sources);
    json_t *volume = kb_tree_object();
    kb_tree_set_text(volume, "name", name);
    kb_tree_set(volume, "projected", projected);
    return volume;
}

static json_t *config_map_volume(const char *name, const char *config_map, bool is_optional)
{
    json_t *source = kb_tree_object();
    kb_tree_set_text(source, "name", config_map);
    kb_tree_set_i64(source, "defaultMode", KB_MODE_PUBLIC);
    if (is_optional)
        kb_tree_set_bool(source, "optional", true);
    json_t *volume = kb_tree_object();
    kb_tree_set_text(volume, "name", name);
    kb_tree_set(volume, "configMap", source);
    return volume;
}

typedef struct kb_mounts {
    json_t *volumes, *mounts;
} kb_mounts;

static void add_mount(kb_mounts *m, json_t *owned_volume, const char *path, bool is_read_only,
                      const char *sub_path)
{
    json_t *mount = kb_tree_object();
    kb_tree_set_text(mount, "name", kb_tree_text(owned_volume, "name", NULL));
    kb_tree_set_text(mount, "mountPath", path);
    if (is_read_only)
        kb_tree_set_bool(mount, "readOnly", true);
    kb_tree_set_text(mount, "subPath", sub_path);
    kb_tree_add(m->volumes, owned_volume);
    kb_tree_add(m->mounts, mount);
}

static void add_kafka(kb_mounts *m, const kb_spec_kafka *kafka)
{
    if (kafka == NULL || (!kafka->tls.is_set && !kafka->sasl.is_set))
        return;
    json_t *sources = kb_tree_array();
    const kb_spec_tls *tls = &kafka->tls;
    if (tls->is_set) {
        if (tls->ca_key != NULL && *tls->ca_key != '\0')
            kb_tree_add(sources, secret_source(tls->name, false, tls->ca_key, KB_FILE_CA));
        kb_tree_add(sources, secret_source(tls->name, true, tls->cert_key, KB_FILE_CERT));
        kb_tree_add(sources, secret_source(tls->name, true, tls->key_key, KB_FILE_KEY));
    }
    if (kafka->sasl.is_set) {
        kb_tree_add(sources, secret_source(kafka->sasl.name, false, kafka->sasl.username_key, KB_FILE_USER));
        kb_tree_add(sources,
                    secret_source(kafka->sasl.name, false, kafka->sasl.password_key, KB_FILE_PASSWORD));
    }
    add_mount(m, projected_volume("kafka-auth", KB_MODE_SECRET, sources), KB_DIR_KAFKA, true, NULL);
}

/* The Secret that a store uses, with the files that config_render names. */
static const kb_spec_secret *store_secret(const kb_spec_storage *storage, const char *const **ret_files)
{
    static const char *const s3_files[] = {"access_key", "secret_key", NULL};
    static const char *const account_files[] = {"account_key", NULL};
    static const char *const sas_files[] = {"sas_token", NULL};
    static const char *const principal_files[] = {"client_id", "tenant_id", "client_secret", NULL};
    static const char *const string_files[] = {"connection_string", NULL};
    static const char *const gcs_files[] = {"credentials.json", NULL};
    const kb_spec_azure *azure = &storage->azure;
    const struct {
        int type;
        const kb_spec_secret *secret;
        const char *const *files;
    } rows[] = {
        {KB_SPEC_STORAGE_S3, &storage->s3.credentials, s3_files},
        {KB_SPEC_STORAGE_AZURE, &azure->credentials, account_files},
        {KB_SPEC_STORAGE_AZURE, &azure->sas_token, sas_files},
        {KB_SPEC_STORAGE_AZURE, &azure->service_principal, principal_files},
        {KB_SPEC_STORAGE_AZURE, &azure->connection_string, string_files},
        {KB_SPEC_STORAGE_GCS, &storage->gcs.credentials, gcs_files},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        if (rows[i].type != storage->type || !rows[i].secret->is_set)
            continue;
        *ret_files = rows[i].files;
        return rows[i].secret;
    }
    return NULL;
}

static void add_store(kb_mounts *m, const kb_spec_storage *storage)
{
    const char *const *files = NULL;
    const kb_spec_secret *secret = storage != NULL ? store_secret(storage, &files) : NULL;
    if (secret == NULL)
        return;
    json_t *sources = kb_tree_array();
    for (size_t i = 0; files[i] != NULL; i++)
        kb_tree_add(sources, secret_source(secret->name, false, secret->keys[i], files[i]));
    add_mount(m, projected_volume("store-auth", KB_MODE_SECRET, sources), KB_DIR_STORE, true, NULL);
}

static json_t *token_source(const char *audience)
{
    json_t *body = kb_tree_object();
    kb_tree_set_text(body, "path", KB_FILE_TOKEN);
    kb_tree_set_i64(body, "expirationSeconds", KB_TOKEN_SECONDS);
    kb_tree_set_text(body, "audience", audience);
    json_t *source = kb_tree_object();
    kb_tree_set(source, "serviceAccountToken", body);
    return source;
}

/* What the kubelet would mount by itself, explicitly: token, CA, namespace. */
static void add_api(kb_mounts *m)
{
    static const char rest[] =
        "[{\"configMap\":{\"name\":\"kube-root-ca.crt\",\"items\":[{\"key\":\"ca.crt\","
        "\"path\":\"ca.crt\"}]}},{\"downwardAPI\":{\"items\":[{\"path\":\"namespace\","
        "\"fieldRef\":{\"apiVersion\":\"v1\",\"fieldPath\":\"metadata.namespace\"}}]}}]";
    json_t *sources = kb_tree_array();
    kb_tree_add(sources, token_source(NULL));
    json_t *others = kb_tree_need(json_loads(rest, 0, NULL));
    json_array_extend(sources, others);
    json_decref(others);
    add_mount(m, projected_volume("api", KB_MODE_PUBLIC, sources), KB_DIR_API, true, NULL);
}

static void add_data(kb_mounts *m, const kb_spec_storage *storage)
{
    if (storage == NULL || storage->type != KB_SPEC_STORAGE_PVC)
        return;
    json_t *claim = kb_tree_object();
    kb_tree_set_text(claim, "claimName", storage->pvc.claim_name);
    json_t *volume = kb_tree_object();
    kb_tree_set_text(volume, "name", "data");
    kb_tree_set(volume, "persistentVolumeClaim", claim);
    const char *sub_path = storage->pvc.sub_path != NULL ? storage->pvc.sub_path : "";
    size_t len = strlen(sub_path);
    while (len > 0 && sub_path[len - 1] == '/')
        len--;
    KB_AUTOFREE char *trimmed = len > 0 ? kb_strndup(sub_path, len) : NULL;
    add_mount(m, volume, KB_DIR_DATA, false, trimmed);
}

static void add_mapping(kb_mounts *m, const kb_spec *spec)
{
    if (spec->kind != KB_KIND_OFFSET_RESET || !spec->reset.mapping.is_set)
        return;
    json_t *volume = config_map_volume("mapping", spec->reset.mapping.name, false);
    json_t *item = kb_tree_object();
    kb_tree_set_text(item, "key", spec->reset.mapping.key);
    kb_tree_set_text(item, "path", KB_FILE_MAPPING);
    json_t *items = kb_tree_array();
    kb_tree_add(items, item);
    kb_tree_set(json_object_get(volume, "configMap"), "items", items);
    add_mount(m, volume, KB_DIR_MAPPING, true, NULL);
}

static kb_mounts all_mounts(const kb_pod_input *input)
{
    const kb_render_input *render = input->render;
    kb_mounts m = {kb_tree_array(), kb_tree_array()};
    add_mount(&m, config_map_volume("run-config", input->config_map, false), KB_DIR_RUN, true, NULL);
    add_kafka(&m, render->kafka);
    add_store(&m, render->storage);
    if (!is_operator_account(input))
        add_api(&m);
    const char *audience = NULL;
    if (kb_config_needs_cloud_token(render, &audience)) {
        json_t *sources = kb_tree_array();
        kb_tree_add(sources, token_source(audience));
        add_mount(&m, projected_volume("cloud", KB_MODE_SECRET, sources), KB_DIR_CLOUD, true, NULL);
    }
    add_mount(&m, config_map_volume("trust", render->settings->trust_config_map, true), KB_DIR_TRUST, true,
              NULL);
    add_mapping(&m, render->spec);
    add_data(&m, render->storage);
    json_t *tmp =
        kb_tree_need(json_loads("{\"name\":\"tmp\",\"emptyDir\":{\"sizeLimit\":\"1Gi\"}}", 0, NULL));
    add_mount(&m, tmp, "/tmp", false, NULL);
    return m;
}

/* ---- container ---- */

static void add_field_env(json_t *env, const char *name, const char *field_path)
{
    json_t *field = kb_tree_object();
    kb_tree_set_text(field, "apiVersion", "v1");
    kb_tree_set_text(field, "fieldPath", field_path);
    json_t *from = kb_tree_object();
    kb_tree_set(from, "fieldRef", field);
    json_t *item = kb_tree_object();
    kb_tree_set_text(item, "name", name);
    kb_tree_set(item, "valueFrom", from);
    kb_tree_add(env, item);
}

static json_t *env_json(const kb_pod_input *input)
{
    static const char *const fields[][2] = {
        {"KB_JOB_NAME", "metadata.labels['job-name']"},
        {"KB_JOB_UID", "metadata.labels['controller-uid']"},
        {"KB_POD_NAME", "metadata.name"},
        {"KB_POD_UID", "metadata.uid"},
        {"KB_NAMESPACE", "metadata.namespace"},
        {"KB_CR_UID", "metadata.labels['" KB_LABEL_UID "']"},
        {"KB_CONFIG_SHA256", "metadata.annotations['" KB_NOTE_CONFIG "']"},
    };
    json_t *env = kb_tree_array();
    for (size_t i = 0; i < KB_ARRAY_LEN(fields); i++)
        add_field_env(env, fields[i][0], fields[i][1]);
    if (input->stamp != NULL)
        add_field_env(env, "KB_STAMP", "metadata.annotations['" KB_NOTE_STAMP "']");
    kb_tree_add(env,
                kb_tree_need(json_loads("{\"name\":\"KB_MEMORY_LIMIT\",\"valueFrom\":{\"resourceFieldRef\":{"
                                        "\"containerName\":\"worker\",\"divisor\":\"0\","
                                        "\"resource\":\"limits.memory\"}}}",
                                        0, NULL)));
    const json_t *own = input->render->spec->run.env;
    for (size_t i = 0; i < json_array_size(own); i++) {
        json_t *item = kb_tree_object();
        kb_tree_set_text(item, "name", kb_tree_text(json_array_get(own, i), "name", NULL));
        kb_tree_set_text(item, "value", kb_tree_text(json_array_get(own, i), "value", NULL));
        kb_tree_add(env, item);
    }
    return env;
}

/* The chart's values under those of the CR. A default request never exceeds a limit that the CR sets. */
static json_t *resources_json(const kb_render_input *render)
{
    const kb_spec_resources *own = &render->spec->run.resources;
    json_t *resources = kb_tree_copy(render->settings->resources);
    if (json_object_get(resources, "requests") == NULL)
        kb_tree_set(resources, "requests", kb_tree_object());
    if (json_object_get(resources, "limits") == NULL)
        kb_tree_set(resources, "limits", kb_tree_object());
    json_t *requests = json_object_get(resources, "requests");
    json_t *limits = json_object_get(resources, "limits");
    const char *name;
    json_t *value;
    json_object_foreach(own->limits, name, value) if (json_object_get(requests, name) != NULL)
        kb_tree_set(requests, name, kb_tree_copy(value));
    kb_tree_merge_over(requests, own->requests);
    kb_tree_merge_over(limits, own->limits);
    if (json_object_get(limits, "memory") == NULL)
        kb_tree_set_text(limits, "memory", KB_DEFAULT_MEMORY_LIMIT);
    if (json_object_get(requests, "memory") == NULL)
        kb_tree_set_text(requests, "memory", "512Mi");
    return resources;
}

static json_t *container_json(const kb_pod_input *input, json_t *owned_mounts)
{
    static const char fixed[] = "{\"allowPrivilegeEscalation\":false,\"readOnlyRootFilesystem\":true,"
                                "\"capabilities\":{\"drop\":[\"ALL\"]}}";
    const kb_settings *settings = input->render->settings;
    json_t *container = kb_tree_object();
    kb_tree_set_text(container, "name", "worker");
    kb_tree_set_text(container, "image", settings->image);
    kb_tree_set_text(container, "imagePullPolicy", settings->pull_policy);
    json_t *args = kb_tree_array();
    kb_tree_add_text(args, input->command);
    kb_tree_add_text(args, "--config");
    kb_tree_add_text(args, KB_DIR_RUN "/" KB_RUN_CONFIG_KEY);
    kb_tree_set(container, "args", args);
    kb_tree_set(container, "env", env_json(input));
    json_t *port = kb_tree_object();
    kb_tree_set_text(port, "name", "metrics");
    kb_tree_set_i64(port, "containerPort", KB_METRICS_PORT);
    kb_tree_set_text(port, "protocol", "TCP");
    json_t *ports = kb_tree_array();
    kb_tree_add(ports, port);
    kb_tree_set(container, "ports", ports);
    kb_tree_set(container, "resources", resources_json(input->render));
    json_t *security = kb_tree_need(json_loads(fixed, 0, NULL));
    kb_tree_merge_missing(security, settings->security_context);
    kb_tree_set(container, "securityContext", security);
    kb_tree_set_text(container, "terminationMessagePath", "/dev/termination-log");
    kb_tree_set_text(container, "terminationMessagePolicy", "FallbackToLogsOnError");
    kb_tree_set(container, "volumeMounts", owned_mounts);
    return container;
}

/* ---- pod ---- */

json_t *kb_run_annotations(const kb_pod_input *input)
{
    json_t *notes = kb_tree_object();
    int64_t generation = kb_tree_i64(0, input->render->object, "metadata", "generation", NULL);
    kb_tree_set(notes, KB_NOTE_GENERATION, kb_tree_stringf("%lld", (long long)generation));
    kb_tree_set_text(notes, KB_NOTE_CONFIG, input->config_sha256);
    kb_tree_set_text(notes, KB_NOTE_STAMP, input->stamp);
    kb_tree_set_text(notes, KB_NOTE_TRIGGER, input->trigger);
    return notes;
}

static json_t *pod_metadata(const kb_pod_input *input)
{
    const kb_render_input *render = input->render;
    json_t *labels = kb_labels_of(render->spec->kind, render->object);
    const kb_spec_storage *storage = render->storage;
    if (storage != NULL && storage->type == KB_SPEC_STORAGE_AZURE && !storage->azure.credentials.is_set &&
        !storage->azure.sas_token.is_set && !storage->azure.service_principal.is_set &&
        !storage->azure.connection_string.is_set)
        kb_tree_set_text(labels, "azure.workload.identity/use", "true");
    kb_tree_merge_missing(labels, render->spec->run.pod_template.labels);
    kb_tree_merge_missing(labels, render->settings->pod_labels);
    json_t *notes = kb_run_annotations(input);
    kb_tree_merge_missing(notes, render->spec->run.pod_template.annotations);
    kb_tree_merge_missing(notes, render->settings->pod_annotations);
    if (json_object_get(notes, "sidecar.istio.io/inject") == NULL)
        kb_tree_set_text(notes, "sidecar.istio.io/inject", "false");
    if (json_object_get(notes, "linkerd.io/inject") == NULL)
        kb_tree_set_text(notes, "linkerd.io/inject", "disabled");
    json_t *meta = kb_tree_object();
    kb_tree_set(meta, "labels", labels);
    kb_tree_set(meta, "annotations", notes);
    return meta;
}

/* What the chart sets goes first for tolerations; a CR adds. */
static void set_placement(json_t *pod, const kb_render_input *render)
{
    const kb_settings *settings = render->settings;
    const kb_spec_pod_template *own = &render->spec->run.pod_template;
    if (json_array_size(settings->image_pull_secrets) > 0)
        kb_tree_set(pod, "imagePullSecrets", kb_tree_copy(settings->image_pull_secrets));
    if (*settings->priority_class_name != '\0')
        kb_tree_set_text(pod, "priorityClassName", settings->priority_class_name);
    json_t *selector = kb_tree_copy(settings->node_selector);
    kb_tree_merge_over(selector, own->node_selector);
    if (json_object_size(selector) > 0)
        kb_tree_set(pod, "nodeSelector", json_incref(selector));
    json_decref(selector);
    json_t *tolerations = kb_tree_copy(settings->tolerations);
    if (own->tolerations != NULL)
        json_array_extend(tolerations, own->tolerations);
    if (json_array_size(tolerations) > 0)
        kb_tree_set(pod, "tolerations", json_incref(tolerations));
    json_decref(tolerations);
}

json_t *kb_pod_template(const kb_pod_input *input)
{
    const kb_settings *settings = input->render->settings;
    kb_mounts mounts = all_mounts(input);
    json_t *pod = kb_tree_object();
    kb_tree_set_text(pod, "restartPolicy", "Never");
    kb_tree_set_text(pod, "serviceAccountName", input->account);
    kb_tree_set_bool(pod, "automountServiceAccountToken", false);
    kb_tree_set_bool(pod, "enableServiceLinks", false);
    kb_tree_set_i64(pod, "terminationGracePeriodSeconds", settings->grace_seconds);
    json_t *security = kb_tree_copy(settings->pod_security_context);
    kb_tree_set_bool(security, "runAsNonRoot", true);
    if (json_object_get(security, "seccompProfile") == NULL)
        kb_tree_set(security, "seccompProfile",
                    kb_tree_need(json_loads("{\"type\":\"RuntimeDefault\"}", 0, NULL)));
    kb_tree_set(pod, "securityContext", security);
    set_placement(pod, input->render);
    json_t *containers = kb_tree_array();
    kb_tree_add(containers, container_json(input, mounts.mounts));
    kb_tree_set(pod, "containers", containers);
    kb_tree_set(pod, "volumes", mounts.volumes);
    json_t *template = kb_tree_object();
    kb_tree_set(template, "metadata", pod_metadata(input));
    kb_tree_set(template, "spec", pod);
    return template;
}

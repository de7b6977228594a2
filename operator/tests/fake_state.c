#include "operator/tests/fake_state.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

char *kb_fake_key(const char *collection, const char *name_space, const char *name)
{
    return kb_asprintf("%s/%s/%s", collection, name_space != NULL ? name_space : "", name);
}

/* ---- state; the mutex is held ---- */

static void log_event(kb_fake_api *api, const char *type, const char *collection, json_t *object,
                      const char *raw)
{
    api->events = kb_grow(api->events, api->event_count, &api->event_capacity, sizeof *api->events);
    api->events[api->event_count++] = (kb_fake_event){.type = type,
                                                      .collection = kb_strdup(collection),
                                                      .object = json_incref(object),
                                                      .raw = kb_strdup_opt(raw),
                                                      .version = api->version};
    pthread_cond_broadcast(&api->changed);
}

json_t *kb_fake_metadata(json_t *object)
{
    json_t *metadata = json_object_get(object, "metadata");
    if (metadata == NULL) {
        metadata = json_object();
        json_object_set_new(object, "metadata", metadata);
    }
    return metadata;
}

static void stamp(kb_fake_api *api, json_t *object)
{
    KB_AUTOFREE char *version = kb_asprintf("%lld", (long long)++api->version);
    json_object_set_new(kb_fake_metadata(object), "resourceVersion", json_string(version));
}

/* Stores a copy that is ready, gives it uid and generation, and tells. `old` NULL: it is new. */
json_t *kb_fake_store(kb_fake_api *api, const char *collection, const char *key, json_t *owned_object,
                      const json_t *old)
{
    json_t *metadata = kb_fake_metadata(owned_object);
    if (old == NULL) {
        KB_AUTOFREE char *uid = kb_asprintf("uid-%lld", (long long)api->version + 1);
        json_object_set_new(metadata, "uid", json_string(uid));
        json_object_set_new(metadata, "generation", json_integer(1));
        if (json_object_get(metadata, "creationTimestamp") == NULL)
            json_object_set_new(metadata, "creationTimestamp", json_string("2025-01-01T00:00:00Z"));
    } else {
        const json_int_t generation = json_integer_value(kb_kube_at(old, "metadata", "generation", NULL));
        const bool is_same =
            json_equal(json_object_get(old, "spec"), json_object_get(owned_object, "spec")) != 0;
        json_object_set_new(metadata, "generation", json_integer(is_same ? generation : generation + 1));
    }
    stamp(api, owned_object);
    json_object_set(api->objects, key, owned_object);
    log_event(api, old == NULL ? "ADDED" : "MODIFIED", collection, owned_object, NULL);
    return owned_object;
}

void kb_fake_remove(kb_fake_api *api, const char *collection, const char *key)
{
    json_t *last = json_deep_copy(json_object_get(api->objects, key));
    json_object_del(api->objects, key);
    stamp(api, last);
    log_event(api, "DELETED", collection, last, NULL);
    json_decref(last);
}

bool kb_fake_has_part(const char *line, const char *method, const char *part)
{
    const size_t len = method != NULL ? strlen(method) : 0;
    if (method != NULL && (strncmp(line, method, len) != 0 || line[len] != ' '))
        return false;
    return part == NULL || strstr(line, part) != NULL;
}

/* ---- for tests ---- */

static void set_text(kb_fake_api *api, char **to, const char *text)
{
    pthread_mutex_lock(&api->mutex);
    free(*to);
    *to = kb_strdup(text);
    pthread_mutex_unlock(&api->mutex);
}

void kb_fake_api_set_token(kb_fake_api *api, const char *token)
{
    set_text(api, &api->token, token);
}

void kb_fake_api_set_minor(kb_fake_api *api, const char *minor)
{
    set_text(api, &api->minor, minor);
}

void kb_fake_api_fail(kb_fake_api *api, const kb_fake_fault *fault)
{
    pthread_mutex_lock(&api->mutex);
    if (api->fault_count == KB_FAKE_FAULTS_MAX)
        abort();
    api->faults[api->fault_count++] = (kb_fake_fault_entry){.fault = *fault};
    pthread_mutex_unlock(&api->mutex);
}

void kb_fake_api_heal(kb_fake_api *api)
{
    pthread_mutex_lock(&api->mutex);
    api->fault_count = 0;
    pthread_mutex_unlock(&api->mutex);
}

void kb_fake_api_hide(kb_fake_api *api, const char *plural, bool is_now_hidden)
{
    pthread_mutex_lock(&api->mutex);
    for (size_t i = 0; i < KB_FAKE_HIDDEN_MAX; i++) {
        if (is_now_hidden && api->hidden[i] == NULL) {
            api->hidden[i] = kb_strdup(plural);
            break;
        }
        if (!is_now_hidden && api->hidden[i] != NULL && strcmp(api->hidden[i], plural) == 0)
            free(KB_TAKE(api->hidden[i]));
    }
    pthread_mutex_unlock(&api->mutex);
}

static char *collection_of(const kb_kube_resource *resource)
{
    return kb_asprintf("%s.%s", resource->plural, resource->group);
}

json_t *kb_fake_api_put(kb_fake_api *api, const kb_kube_resource *resource, json_t *owned_object)
{
    KB_AUTOFREE char *collection = collection_of(resource);
    KB_AUTOFREE char *api_version = kb_kube_api_version(resource);
    KB_AUTOFREE char *key =
        kb_fake_key(collection, kb_kube_namespace(owned_object), kb_kube_name(owned_object));
    json_object_set_new(owned_object, "apiVersion", json_string(api_version));
    json_object_set_new(owned_object, "kind", json_string(resource->kind));
    pthread_mutex_lock(&api->mutex);
    KB_AUTO_JSON json_t *old = json_incref(json_object_get(api->objects, key));
    json_t *fresh = json_deep_copy(owned_object);
    if (old != NULL && kb_kube_uid(fresh)[0] == '\0')
        json_object_set(kb_fake_metadata(fresh), "uid", kb_kube_at(old, "metadata", "uid", NULL));
    json_t *stored = kb_fake_store(api, collection, key, fresh, old);
    pthread_mutex_unlock(&api->mutex);
    json_decref(owned_object);
    return stored;
}

void kb_fake_api_remove(kb_fake_api *api, const kb_kube_resource *resource, const char *name_space,
                        const char *name)
{
    KB_AUTOFREE char *collection = collection_of(resource);
    KB_AUTOFREE char *key = kb_fake_key(collection, name_space, name);
    pthread_mutex_lock(&api->mutex);
    if (json_object_get(api->objects, key) != NULL)
        kb_fake_remove(api, collection, key);
    pthread_mutex_unlock(&api->mutex);
}

json_t *kb_fake_api_get(kb_fake_api *api, const kb_kube_resource *resource, const char *name_space,
                        const char *name)
{
    KB_AUTOFREE char *collection = collection_of(resource);
    KB_AUTOFREE char *key = kb_fake_key(collection, name_space, name);
    pthread_mutex_lock(&api->mutex);
    json_t *object = json_incref(json_object_get(api->objects, key));
    pthread_mutex_unlock(&api->mutex);
    return object;
}

size_t kb_fake_api_count(kb_fake_api *api, const kb_kube_resource *resource)
{
    KB_AUTOFREE char *prefix = kb_asprintf("%s.%s/", resource->plural, resource->group);
    size_t count = 0;
    const char *key;
    json_t *object;
    pthread_mutex_lock(&api->mutex);
    json_object_foreach(api->objects, key, object) count += strncmp(key, prefix, strlen(prefix)) == 0 ? 1 : 0;
    pthread_mutex_unlock(&api->mutex);
    return count;
}

void kb_fake_api_compact(kb_fake_api *api)
{
    pthread_mutex_lock(&api->mutex);
    api->compacted = ++api->version;
    pthread_mutex_unlock(&api->mutex);
}

void kb_fake_api_bookmark(kb_fake_api *api)
{
    pthread_mutex_lock(&api->mutex);
    api->bookmarks++;
    pthread_cond_broadcast(&api->changed);
    pthread_mutex_unlock(&api->mutex);
}

void kb_fake_api_cut(kb_fake_api *api, bool is_abrupt)
{
    pthread_mutex_lock(&api->mutex);
    api->is_cut_abrupt = is_abrupt;
    api->cuts++;
    pthread_cond_broadcast(&api->changed);
    pthread_mutex_unlock(&api->mutex);
}

void kb_fake_api_send_raw(kb_fake_api *api, const char *plural, const char *bytes)
{
    pthread_mutex_lock(&api->mutex);
    /* The group is not named: every collection of this plural gets it. */
    const char *key;
    json_t *object;
    KB_AUTOFREE char *collection = NULL;
    json_object_foreach(api->objects, key, object)
    {
        if (collection == NULL && strncmp(key, plural, strlen(plural)) == 0 && key[strlen(plural)] == '.')
            collection = kb_strndup(key, strcspn(key, "/"));
    }
    if (collection == NULL)
        abort();
    api->version++;
    log_event(api, "RAW", collection, NULL, bytes);
    pthread_mutex_unlock(&api->mutex);
}

size_t kb_fake_api_watches(kb_fake_api *api)
{
    pthread_mutex_lock(&api->mutex);
    const size_t count = api->watches;
    pthread_mutex_unlock(&api->mutex);
    return count;
}

size_t kb_fake_api_requests(kb_fake_api *api, const char *method, const char *part)
{
    size_t count = 0;
    pthread_mutex_lock(&api->mutex);
    for (size_t i = 0; i < api->request_count; i++)
        count += kb_fake_has_part(api->requests[i], method, part) ? 1 : 0;
    pthread_mutex_unlock(&api->mutex);
    return count;
}

size_t kb_fake_api_writes(kb_fake_api *api)
{
    return kb_fake_api_requests(api, NULL, NULL) - kb_fake_api_requests(api, "GET", NULL);
}

#include "operator/reconcile/runtime.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"

#define KB_DELETED_MAX 20000
#define KB_CONFIRMED_MAX 50000

static void free_memory(void *owned_memory)
{
    kb_memory_done(owned_memory);
    free(owned_memory);
}

static void free_tree(void *owned_value)
{
    json_decref(owned_value);
}

kb_runtime *kb_runtime_new(const kb_runtime_options *options)
{
    kb_runtime *runtime = kb_calloc(1, sizeof *runtime);
    runtime->client = options->client;
    runtime->events = options->events;
    runtime->settings = options->settings;
    runtime->metrics = options->metrics;
    runtime->clock = options->clock != NULL ? options->clock : kb_clock_system();
    runtime->series = options->registry != NULL ? kb_series_new(options->registry) : NULL;
    runtime->caps = options->caps;
    pthread_mutex_init(&runtime->mutex, NULL);
    runtime->memories = kb_map_new(free_memory);
    runtime->confirmed = kb_map_new(free);
    runtime->deleted = kb_map_new(NULL);
    runtime->accounts = kb_map_new(free_tree);
    return runtime;
}

void kb_runtime_free(kb_runtime *owned_runtime)
{
    if (owned_runtime == NULL)
        return;
    kb_series_free(owned_runtime->series);
    kb_map_free(owned_runtime->memories);
    kb_map_free(owned_runtime->confirmed);
    kb_map_free(owned_runtime->deleted);
    kb_map_free(owned_runtime->accounts);
    pthread_mutex_destroy(&owned_runtime->mutex);
    free(owned_runtime);
}

kb_capabilities kb_runtime_caps(kb_runtime *runtime)
{
    pthread_mutex_lock(&runtime->mutex);
    kb_capabilities caps = runtime->caps;
    pthread_mutex_unlock(&runtime->mutex);
    return caps;
}

void kb_runtime_set_caps(kb_runtime *runtime, const kb_capabilities *caps)
{
    pthread_mutex_lock(&runtime->mutex);
    runtime->caps = *caps;
    pthread_mutex_unlock(&runtime->mutex);
}

const kb_kube_resource *kb_runtime_resource(kb_kind kind)
{
    static const kb_kube_resource *const resources[KB_KIND_COUNT] = {
        [KB_KIND_BACKUP] = &KB_KUBE_BACKUPS,
        [KB_KIND_RESTORE] = &KB_KUBE_RESTORES,
        [KB_KIND_OFFSET_RESET] = &KB_KUBE_OFFSET_RESETS,
        [KB_KIND_OFFSET_ROLLBACK] = &KB_KUBE_OFFSET_ROLLBACKS,
    };
    return resources[kind];
}

/* ---- memories ---- */

void kb_memory_done(kb_memory *memory)
{
    free(memory->uid);
    free(memory->fault_text);
    json_decref(memory->events);
    *memory = (kb_memory){.applied_generation = -1};
}

static kb_memory memory_copy(const kb_memory *from)
{
    kb_memory copy = *from;
    copy.uid = kb_strdup_opt(from->uid);
    copy.fault_text = kb_strdup_opt(from->fault_text);
    copy.events = json_incref(from->events);
    return copy;
}

kb_memory kb_runtime_recall(kb_runtime *runtime, kb_kind kind, const char *name_space, const char *name,
                            const char *uid)
{
    KB_AUTOFREE char *key = kb_asprintf("%s/%s/%s", kb_kind_info_of(kind)->kind, name_space, name);
    pthread_mutex_lock(&runtime->mutex);
    const kb_memory *known = kb_map_gets(runtime->memories, key);
    kb_memory memory = {.applied_generation = -1};
    if (known != NULL && strcmp(known->uid, uid) == 0)
        memory = memory_copy(known);
    else
        memory.uid = kb_strdup(uid);
    pthread_mutex_unlock(&runtime->mutex);
    return memory;
}

void kb_runtime_remember(kb_runtime *runtime, kb_kind kind, const char *name_space, const char *name,
                         kb_memory *owned_memory)
{
    KB_AUTOFREE char *key = kb_asprintf("%s/%s/%s", kb_kind_info_of(kind)->kind, name_space, name);
    pthread_mutex_lock(&runtime->mutex);
    if (owned_memory == NULL) {
        kb_map_removes(runtime->memories, key);
    } else {
        kb_memory *kept = kb_malloc(sizeof *kept);
        *kept = *owned_memory;
        kb_map_puts(runtime->memories, key, kept);
        *owned_memory = (kb_memory){.applied_generation = -1};
    }
    pthread_mutex_unlock(&runtime->mutex);
}

/* ---- confirmed objects ---- */

bool kb_runtime_is_confirmed(kb_runtime *runtime, const char *kind, const char *name_space, const char *name)
{
    KB_AUTOFREE char *key = kb_asprintf("%s/%s/%s", kind, name_space, name);
    int64_t now = kb_clock_now_boot_ms(runtime->clock);
    pthread_mutex_lock(&runtime->mutex);
    const int64_t *at = kb_map_gets(runtime->confirmed, key);
    bool is_confirmed = at != NULL && now - *at < KB_CONFIRMED_MS;
    pthread_mutex_unlock(&runtime->mutex);
    return is_confirmed;
}

void kb_runtime_confirm(kb_runtime *runtime, const char *kind, const char *name_space, const char *name,
                        bool exists)
{
    KB_AUTOFREE char *key = kb_asprintf("%s/%s/%s", kind, name_space, name);
    pthread_mutex_lock(&runtime->mutex);
    /* Forgetting all costs a GET each, once. */
    if (kb_map_count(runtime->confirmed) >= KB_CONFIRMED_MAX)
        kb_map_clear(runtime->confirmed);
    if (exists) {
        int64_t *at = kb_malloc(sizeof *at);
        *at = kb_clock_now_boot_ms(runtime->clock);
        kb_map_puts(runtime->confirmed, key, at);
    } else {
        kb_map_removes(runtime->confirmed, key);
    }
    pthread_mutex_unlock(&runtime->mutex);
}

/* ---- accounts ---- */

json_t *kb_runtime_known_account(kb_runtime *runtime, const char *name_space, const char *account)
{
    KB_AUTOFREE char *key = kb_asprintf("%s/%s", name_space, account);
    int64_t now = kb_clock_now_boot_ms(runtime->clock);
    pthread_mutex_lock(&runtime->mutex);
    json_t *known = kb_map_gets(runtime->accounts, key);
    bool is_fresh = known != NULL && now - kb_tree_i64(0, known, "at", NULL) < KB_CONFIRMED_MS;
    json_t *found = is_fresh ? json_incref(known) : NULL;
    pthread_mutex_unlock(&runtime->mutex);
    return found;
}

void kb_runtime_know_account(kb_runtime *runtime, const char *name_space, const char *account,
                             const json_t *metadata)
{
    KB_AUTOFREE char *key = kb_asprintf("%s/%s", name_space, account);
    json_t *known = kb_tree_object();
    json_t *labels = kb_tree_at(metadata, "labels", NULL), *notes = kb_tree_at(metadata, "annotations", NULL);
    kb_tree_set(known, "labels", labels != NULL ? kb_tree_copy(labels) : NULL);
    kb_tree_set(known, "annotations", notes != NULL ? kb_tree_copy(notes) : NULL);
    kb_tree_set_i64(known, "at", kb_clock_now_boot_ms(runtime->clock));
    pthread_mutex_lock(&runtime->mutex);
    if (kb_map_count(runtime->accounts) >= KB_CONFIRMED_MAX)
        kb_map_clear(runtime->accounts);
    kb_map_puts(runtime->accounts, key, known);
    pthread_mutex_unlock(&runtime->mutex);
}

/* ---- deleted Jobs ---- */

void kb_runtime_note_deleted_job(kb_runtime *runtime, const char *uid)
{
    static char seen;
    pthread_mutex_lock(&runtime->mutex);
    if (kb_map_count(runtime->deleted) >= KB_DELETED_MAX)
        kb_map_clear(runtime->deleted);
    kb_map_puts(runtime->deleted, uid, &seen);
    pthread_mutex_unlock(&runtime->mutex);
}

bool kb_runtime_saw_job_deleted(kb_runtime *runtime, const char *uid)
{
    pthread_mutex_lock(&runtime->mutex);
    bool was_seen = kb_map_gets(runtime->deleted, uid) != NULL;
    pthread_mutex_unlock(&runtime->mutex);
    return was_seen;
}

#include "operator/kube/object_store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "common/base/mem.h"
#include "operator/kube/kube_types.h"

/* Versions that own writes have replaced and the watch has not shown yet; more are forgotten. */
#define SUPERSEDED_MAX 8

typedef struct entry {
    json_t *object; /* a reference; NULL in a compact store */
    char *text;     /* compact store: the object as JSON */
    char *key;
    char *uid;
    char *version;
    char **owners; /* their UIDs */
    size_t owner_count;
    bool is_unseen; /* by the list that is under way */
    bool is_own;    /* the watch has not shown this version yet */
    char *superseded[SUPERSEDED_MAX];
    size_t superseded_count;
} entry;

/* The entries that have one owner. */
typedef struct children {
    entry **items;
    size_t count, capacity;
} children;

struct kb_object_store {
    bool is_compact;
    pthread_mutex_t mutex;
    kb_map *by_key;   /* "namespace/name" -> entry, owned */
    kb_map *by_uid;   /* entry, borrowed */
    kb_map *by_owner; /* UID -> children, owned */
};

static void forget_superseded(entry *e)
{
    for (size_t i = 0; i < e->superseded_count; i++)
        free(e->superseded[i]);
    e->superseded_count = 0;
}

static void forget_owners(entry *e)
{
    for (size_t i = 0; i < e->owner_count; i++)
        free(e->owners[i]);
    free(e->owners);
    e->owners = NULL;
    e->owner_count = 0;
}

static void entry_free(void *owned)
{
    entry *e = owned;
    forget_superseded(e);
    forget_owners(e);
    json_decref(e->object);
    free(e->text);
    free(e->version);
    free(e->key);
    free(e->uid);
    free(e);
}

static void children_free(void *owned)
{
    children *list = owned;
    free(list->items);
    free(list);
}

kb_object_store *kb_object_store_new_compact(void)
{
    kb_object_store *store = kb_object_store_new();
    store->is_compact = true;
    return store;
}

kb_object_store *kb_object_store_new(void)
{
    kb_object_store *store = kb_calloc(1, sizeof *store);
    pthread_mutex_init(&store->mutex, NULL);
    store->by_key = kb_map_new(entry_free);
    store->by_uid = kb_map_new(NULL);
    store->by_owner = kb_map_new(children_free);
    return store;
}

void kb_object_store_free(kb_object_store *owned_store)
{
    if (owned_store == NULL)
        return;
    kb_map_free(owned_store->by_owner);
    kb_map_free(owned_store->by_uid);
    kb_map_free(owned_store->by_key);
    pthread_mutex_destroy(&owned_store->mutex);
    free(owned_store);
}

/* ---- reading ---- */

/* A new reference. */
static json_t *object_of(const entry *e)
{
    if (e->object != NULL)
        return json_incref(e->object);
    json_t *object = json_loads(e->text, JSON_ALLOW_NUL, NULL);
    if (object == NULL)
        kb_out_of_memory(); /* it was written by us */
    return object;
}

static char *key_of(const char *name_space, const char *name)
{
    return kb_asprintf("%s/%s", name_space != NULL ? name_space : "", name);
}

json_t *kb_object_store_get(kb_object_store *store, const char *name_space, const char *name)
{
    KB_AUTOFREE char *key = key_of(name_space, name);
    pthread_mutex_lock(&store->mutex);
    entry *e = kb_map_gets(store->by_key, key);
    json_t *object = e != NULL ? object_of(e) : NULL;
    pthread_mutex_unlock(&store->mutex);
    return object;
}

json_t *kb_object_store_get_uid(kb_object_store *store, const char *uid)
{
    pthread_mutex_lock(&store->mutex);
    entry *e = kb_map_gets(store->by_uid, uid);
    json_t *object = e != NULL ? object_of(e) : NULL;
    pthread_mutex_unlock(&store->mutex);
    return object;
}

json_t *kb_object_store_owned_by(kb_object_store *store, const char *owner_uid)
{
    json_t *array = json_array();
    pthread_mutex_lock(&store->mutex);
    const children *list = kb_map_gets(store->by_owner, owner_uid);
    for (size_t i = 0; list != NULL && i < list->count; i++)
        json_array_append_new(array, object_of(list->items[i]));
    pthread_mutex_unlock(&store->mutex);
    return array;
}

static bool is_within(const entry *e, const char *name_space)
{
    const size_t len = name_space != NULL ? strlen(name_space) : 0;
    return name_space == NULL || (strncmp(e->key, name_space, len) == 0 && e->key[len] == '/');
}

json_t *kb_object_store_list(kb_object_store *store, const char *name_space)
{
    json_t *array = json_array();
    pthread_mutex_lock(&store->mutex);
    for (kb_map_iter it = KB_MAP_ITER_INIT; kb_map_next(store->by_key, &it);) {
        const entry *e = it.value;
        if (is_within(e, name_space))
            json_array_append_new(array, object_of(e));
    }
    pthread_mutex_unlock(&store->mutex);
    return array;
}

size_t kb_object_store_count(kb_object_store *store)
{
    pthread_mutex_lock(&store->mutex);
    const size_t count = kb_map_count(store->by_key);
    pthread_mutex_unlock(&store->mutex);
    return count;
}

/* ---- indexes; the mutex is held ---- */

static void link_owner(kb_object_store *store, entry *e, const char *owner_uid)
{
    children *list = kb_map_gets(store->by_owner, owner_uid);
    if (list == NULL) {
        list = kb_calloc(1, sizeof *list);
        kb_map_puts(store->by_owner, owner_uid, list);
    }
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i] == e)
            return;
    }
    list->items = kb_grow(list->items, list->count, &list->capacity, sizeof *list->items);
    list->items[list->count++] = e;
}

static void unlink_owner(kb_object_store *store, const entry *e, const char *owner_uid)
{
    children *list = kb_map_gets(store->by_owner, owner_uid);
    for (size_t i = 0; list != NULL && i < list->count; i++) {
        if (list->items[i] != e)
            continue;
        memmove(&list->items[i], &list->items[i + 1], (list->count - i - 1) * sizeof *list->items);
        if (--list->count == 0)
            kb_map_removes(store->by_owner, owner_uid);
        return;
    }
}

static void index_owners(kb_object_store *store, entry *e, const json_t *object)
{
    const json_t *owners = kb_kube_at(object, "metadata", "ownerReferences", NULL);
    size_t i, capacity = 0;
    json_t *owner;
    json_array_foreach(owners, i, owner)
    {
        const char *uid = json_string_value(json_object_get(owner, "uid"));
        if (uid == NULL)
            continue;
        e->owners = kb_grow(e->owners, e->owner_count, &capacity, sizeof *e->owners);
        e->owners[e->owner_count++] = kb_strdup(uid);
        link_owner(store, e, uid);
    }
}

static void unindex_owners(kb_object_store *store, entry *e)
{
    for (size_t i = 0; i < e->owner_count; i++)
        unlink_owner(store, e, e->owners[i]);
    forget_owners(e);
}

static void drop(kb_object_store *store, entry *e)
{
    unindex_owners(store, e);
    if (kb_map_gets(store->by_uid, e->uid) == e)
        kb_map_removes(store->by_uid, e->uid);
    KB_AUTOFREE char *key = kb_strdup(e->key);
    kb_map_removes(store->by_key, key);
}

static void set_object(kb_object_store *store, entry *e, json_t *owned_object)
{
    unindex_owners(store, e);
    json_decref(e->object);
    free(e->text);
    free(e->version);
    e->version = kb_strdup(kb_kube_version(owned_object));
    index_owners(store, e, owned_object);
    e->text = NULL;
    e->object = NULL;
    if (!store->is_compact) {
        e->object = owned_object;
        return;
    }
    e->text = json_dumps(owned_object, JSON_COMPACT);
    if (e->text == NULL)
        kb_out_of_memory();
    json_decref(owned_object);
}

static void add(kb_object_store *store, char *owned_key, json_t *owned_object, bool is_own)
{
    entry *e = kb_calloc(1, sizeof *e);
    e->key = owned_key;
    e->uid = kb_strdup(kb_kube_uid(owned_object));
    e->is_own = is_own;
    kb_map_puts(store->by_key, e->key, e);
    kb_map_puts(store->by_uid, e->uid, e);
    set_object(store, e, owned_object);
}

/* ---- writing ---- */

static bool is_superseded(const entry *e, const char *version)
{
    for (size_t i = 0; i < e->superseded_count; i++) {
        if (strcmp(e->superseded[i], version) == 0)
            return true;
    }
    return false;
}

static kb_store_change put_same_uid(kb_object_store *store, entry *e, json_t *owned_object)
{
    const char *version = kb_kube_version(owned_object);
    e->is_unseen = false;
    if (strcmp(e->version, version) == 0) {
        json_decref(owned_object);
        const bool was_own = e->is_own;
        e->is_own = false;
        forget_superseded(e);
        return was_own ? KB_STORE_UPDATED : KB_STORE_SAME;
    }
    if (is_superseded(e, version)) {
        json_decref(owned_object);
        return KB_STORE_SAME;
    }
    e->is_own = false;
    forget_superseded(e);
    set_object(store, e, owned_object);
    return KB_STORE_UPDATED;
}

kb_store_change kb_object_store_put(kb_object_store *store, json_t *owned_object, json_t **ret_old)
{
    KB_AUTOFREE char *key = key_of(kb_kube_namespace(owned_object), kb_kube_name(owned_object));
    kb_store_change change = KB_STORE_ADDED;
    json_t *old = NULL;
    pthread_mutex_lock(&store->mutex);
    entry *e = kb_map_gets(store->by_key, key);
    if (e != NULL)
        old = object_of(e);
    if (e != NULL && strcmp(e->uid, kb_kube_uid(owned_object)) == 0) {
        change = put_same_uid(store, e, owned_object);
    } else {
        if (e != NULL) {
            drop(store, e);
            change = KB_STORE_REPLACED;
        }
        add(store, KB_TAKE(key), owned_object, false);
    }
    pthread_mutex_unlock(&store->mutex);
    if (ret_old != NULL)
        *ret_old = old;
    else
        json_decref(old);
    return change;
}

kb_store_change kb_object_store_remove(kb_object_store *store, const char *name_space, const char *name,
                                       const char *uid, json_t **ret_old)
{
    KB_AUTOFREE char *key = key_of(name_space, name);
    json_t *old = NULL;
    pthread_mutex_lock(&store->mutex);
    entry *e = kb_map_gets(store->by_key, key);
    if (e != NULL && strcmp(e->uid, uid) == 0) {
        old = object_of(e);
        drop(store, e);
    }
    pthread_mutex_unlock(&store->mutex);
    const kb_store_change change = old != NULL ? KB_STORE_REMOVED : KB_STORE_SAME;
    if (ret_old != NULL)
        *ret_old = old;
    else
        json_decref(old);
    return change;
}

static void note_superseded(entry *e)
{
    if (e->superseded_count == SUPERSEDED_MAX) {
        free(e->superseded[0]);
        memmove(&e->superseded[0], &e->superseded[1], (SUPERSEDED_MAX - 1) * sizeof e->superseded[0]);
        e->superseded_count--;
    }
    e->superseded[e->superseded_count++] = kb_strdup(e->version);
}

/* A write that changed nothing answers with the version it was based on: there is nothing to note. */
static bool own_update(kb_object_store *store, entry *e, json_t *owned_object, const char *based_on)
{
    if (strcmp(e->uid, kb_kube_uid(owned_object)) != 0 || strcmp(e->version, based_on) != 0) {
        json_decref(owned_object);
        return false;
    }
    e->is_unseen = false;
    if (strcmp(kb_kube_version(owned_object), based_on) == 0) {
        json_decref(owned_object);
        return true;
    }
    note_superseded(e);
    e->is_own = true;
    set_object(store, e, owned_object);
    return true;
}

bool kb_object_store_own_write(kb_object_store *store, json_t *owned_object, const char *based_on)
{
    if (owned_object == NULL)
        return false;
    bool is_taken = true;
    KB_AUTOFREE char *key = key_of(kb_kube_namespace(owned_object), kb_kube_name(owned_object));
    pthread_mutex_lock(&store->mutex);
    entry *e = kb_map_gets(store->by_key, key);
    if (based_on == NULL && (e == NULL || strcmp(e->uid, kb_kube_uid(owned_object)) != 0)) {
        /* Created: whatever stood there under another UID was gone before. */
        if (e != NULL)
            drop(store, e);
        add(store, KB_TAKE(key), owned_object, true);
    } else if (based_on != NULL && e != NULL) {
        is_taken = own_update(store, e, owned_object, based_on);
    } else {
        json_decref(owned_object);
        is_taken = false;
    }
    pthread_mutex_unlock(&store->mutex);
    return is_taken;
}

void kb_object_store_list_begin(kb_object_store *store, const char *name_space)
{
    pthread_mutex_lock(&store->mutex);
    for (kb_map_iter it = KB_MAP_ITER_INIT; kb_map_next(store->by_key, &it);) {
        entry *e = it.value;
        if (is_within(e, name_space))
            e->is_unseen = true;
    }
    pthread_mutex_unlock(&store->mutex);
}

void kb_object_store_list_end(kb_object_store *store, const char *name_space,
                              void (*removed)(void *ctx, json_t *object), void *ctx)
{
    KB_AUTO_JSON json_t *gone = json_array();
    pthread_mutex_lock(&store->mutex);
    for (kb_map_iter it = KB_MAP_ITER_INIT; kb_map_next(store->by_key, &it);) {
        entry *e = it.value;
        if (!e->is_unseen || !is_within(e, name_space))
            continue;
        json_array_append_new(gone, object_of(e));
        drop(store, e);
    }
    pthread_mutex_unlock(&store->mutex);
    size_t i;
    json_t *object;
    json_array_foreach(gone, i, object) removed(ctx, object);
}

#include "worker/offsets/snapshot_store.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/catalog/layout.h"

struct kb_snapshot_store {
    kb_storage *storage; /* NULL: map */
    bool below_folder;
    kb_configmap *map;
};

kb_snapshot_store *kb_snapshot_store_new(kb_storage *storage, bool below_folder)
{
    kb_snapshot_store *store = kb_calloc(1, sizeof *store);
    *store = (kb_snapshot_store){storage, below_folder, NULL};
    return store;
}

kb_snapshot_store *kb_snapshot_store_new_map(kb_configmap *map)
{
    kb_snapshot_store *store = kb_calloc(1, sizeof *store);
    store->map = map;
    return store;
}

void kb_snapshot_store_free(kb_snapshot_store *owned_store)
{
    free(owned_store);
}

void kb_snapshot_store_free_at(kb_snapshot_store **at)
{
    kb_snapshot_store_free(*at);
}

const char *kb_snapshot_store_describe(const kb_snapshot_store *store)
{
    return store->map != NULL ? kb_configmap_describe(store->map) : kb_storage_describe(store->storage);
}

typedef kb_code (*decode_fn)(kb_view text, kb_offset_snapshot *ret_snapshot, kb_error *err);

static kb_code get(kb_snapshot_store *store, const char *key, kb_blob *ret_blob, kb_error *err)
{
    if (store->map == NULL)
        return kb_storage_get(store->storage, key, KB_OFFSET_SNAPSHOT_MAX_BYTES, ret_blob, err);
    char *text = NULL;
    if (kb_configmap_get(store->map, key, &text, err) != KB_OK)
        return err->code;
    *ret_blob = (kb_blob){(uint8_t *)text, strlen(text)};
    return KB_OK;
}

/* KB_ERR_NOT_FOUND when the key is not there. */
static kb_code read_key(kb_snapshot_store *store, const char *key, decode_fn decode,
                        kb_offset_snapshot *ret_snapshot, kb_error *err)
{
    KB_AUTO_BLOB(blob);
    kb_code code = get(store, key, &blob, err);
    if (code != KB_OK)
        return code;
    if (decode(kb_view_of(blob.data, blob.len), ret_snapshot, err) != KB_OK)
        return kb_wrap_as(err, KB_BACKUP_CORRUPT, "offset snapshot '%s'", key);
    return KB_OK;
}

kb_code kb_snapshot_store_read(kb_snapshot_store *store, const char *id, kb_offset_snapshot *ret_snapshot,
                               kb_error *err)
{
    static const struct {
        kb_snapshot_place place;
        decode_fn decode;
    } places[] = {
        {KB_SNAPSHOT_PLAIN, kb_offset_snapshot_decode},
        {KB_SNAPSHOT_OF_RESTORE, kb_offset_snapshot_decode},
        {KB_SNAPSHOT_FOREIGN, kb_offset_snapshot_decode_foreign},
    };
    /* The keys of a ConfigMap have no folders. */
    size_t count = store->map != NULL ? 1 : KB_ARRAY_LEN(places);
    for (size_t i = 0; i < count; i++) {
        KB_AUTOFREE char *key = kb_layout_snapshot_key(id, places[i].place);
        kb_code code = read_key(store, key, places[i].decode, ret_snapshot, err);
        if (code != KB_ERR_NOT_FOUND)
            return code;
        kb_error_done(err);
    }
    return kb_fail(err, KB_SNAPSHOT_NOT_FOUND, "there is no offset snapshot '%s' in %s", id,
                   kb_snapshot_store_describe(store));
}

kb_code kb_snapshot_store_write(kb_snapshot_store *store, const kb_offset_snapshot *snapshot, kb_error *err)
{
    KB_AUTOFREE char *text = NULL;
    size_t len = 0;
    if (kb_offset_snapshot_encode(snapshot, &text, &len, err) != KB_OK)
        return err->code;
    KB_AUTOFREE char *key = kb_layout_snapshot_key(snapshot->id, store->below_folder ? KB_SNAPSHOT_OF_RESTORE
                                                                                     : KB_SNAPSHOT_PLAIN);
    if (store->map != NULL)
        return kb_configmap_put(store->map, key, text, err);
    kb_put_outcome outcome;
    kb_put_once_options options = {.max_stored_bytes = KB_OFFSET_SNAPSHOT_MAX_BYTES};
    if (kb_storage_put_once(store->storage, key, kb_view_of(text, len), &options, &outcome, NULL, err) !=
        KB_OK)
        return kb_wrap(err, "storing offset snapshot '%s'", snapshot->id);
    if (outcome == KB_PUT_OTHER)
        return kb_fail(err, KB_ERR_EXISTS, "offset snapshot '%s' exists already", snapshot->id);
    return KB_OK;
}

kb_code kb_snapshot_store_remove(kb_snapshot_store *store, const char *id, kb_error *err)
{
    static const kb_snapshot_place places[] = {KB_SNAPSHOT_PLAIN, KB_SNAPSHOT_OF_RESTORE};
    size_t count = store->map != NULL ? 1 : KB_ARRAY_LEN(places);
    for (size_t i = 0; i < count; i++) {
        KB_AUTOFREE char *key = kb_layout_snapshot_key(id, places[i]);
        kb_code code = store->map != NULL ? kb_configmap_remove(store->map, key, err)
                                          : kb_storage_remove(store->storage, key, err);
        if (code != KB_ERR_NOT_FOUND)
            return code;
        kb_error_done(err);
    }
    return kb_fail(err, KB_SNAPSHOT_NOT_FOUND, "there is no offset snapshot '%s' in %s", id,
                   kb_snapshot_store_describe(store));
}

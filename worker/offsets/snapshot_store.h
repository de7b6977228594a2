/*
 * snapshot_store - where offset snapshots lie: {id}.json in a store or a ConfigMap, written once
 * (storage-format, 1 and 5.4).
 *
 * Threads: any; one snapshot at a time.
 */
#ifndef KB_WORKER_OFFSETS_SNAPSHOT_STORE_H
#define KB_WORKER_OFFSETS_SNAPSHOT_STORE_H

#include <stdbool.h>

#include "common/base/error.h"
#include "worker/offsets/configmap.h"
#include "worker/offsets/snapshot.h"
#include "worker/storage/storage.h"

typedef struct kb_snapshot_store kb_snapshot_store;

/* storage is borrowed. below_folder: new snapshots go to offset-snapshots/ (those of a restore). */
kb_snapshot_store *kb_snapshot_store_new(kb_storage *storage, bool below_folder)
    __attribute__((returns_nonnull));
/* The same over a ConfigMap, which is borrowed. */
kb_snapshot_store *kb_snapshot_store_new_map(kb_configmap *map) __attribute__((returns_nonnull));
void kb_snapshot_store_free(kb_snapshot_store *owned_store);
void kb_snapshot_store_free_at(kb_snapshot_store **at);
/* For messages. Borrowed. */
const char *kb_snapshot_store_describe(const kb_snapshot_store *store);

/*
 * Looks for {id}.json, offset-snapshots/{id}.json, then that of the existing tool. KB_SNAPSHOT_NOT_FOUND;
 * KB_BACKUP_CORRUPT when it is there and cannot be read; or as the store.
 */
kb_code kb_snapshot_store_read(kb_snapshot_store *store, const char *id, kb_offset_snapshot *ret_snapshot,
                               kb_error *err) KB_CHECK;
/* Writes it, durable on return. KB_ERR_EXISTS when one with that id is there, with any content. */
kb_code kb_snapshot_store_write(kb_snapshot_store *store, const kb_offset_snapshot *snapshot,
                                kb_error *err) KB_CHECK;
/* Removes the snapshot, one of ours only. KB_SNAPSHOT_NOT_FOUND. */
kb_code kb_snapshot_store_remove(kb_snapshot_store *store, const char *id, kb_error *err) KB_CHECK;

#endif

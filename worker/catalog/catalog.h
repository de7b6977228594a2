/*
 * catalog - backups in a store: open one, publish a sealed one (catalog_list: all of them).
 *
 * Which files exist and agree decides what a backup is (storage-format, 11): complete for us means that
 * manifest.json and backup.json exist, both hashes hold and the versions are known. Publishing is idempotent:
 * the stored backup.json wins and manifest.json is its projection. Threads: no state; a call may be made from
 * any thread.
 */
#ifndef KB_WORKER_CATALOG_CATALOG_H
#define KB_WORKER_CATALOG_CATALOG_H

#include "worker/catalog/catalog_list.h"
#include "worker/catalog/model.h"
#include "worker/storage/storage.h"

typedef struct kb_catalog_open_options {
    bool allow_pruned;
    bool from_manifest;    /* a damaged backup.json: treat the backup as foreign */
    bool from_backup_json; /* a damaged manifest.json: read backup.json alone */
    bool allow_overlap;    /* foreign: keep overlapping segments (--overlap skip) */
} kb_catalog_open_options;

/*
 * Opens a backup for reading. On success *ret_state is KB_CATALOG_COMPLETE, KB_CATALOG_FOREIGN or (with
 * allow_pruned) KB_CATALOG_PRUNED. Fails with KB_BACKUP_NOT_FOUND ("Backup 'x' not found", or that it is
 * open, sealed or closed and what to do), KB_BACKUP_PRUNED, KB_BACKUP_CORRUPT with key and reason, or as the
 * store does.
 */
kb_code kb_catalog_open(kb_storage *storage, const char *backup_id, const kb_catalog_open_options *options,
                        kb_backup **ret_backup, kb_catalog_state *ret_state, kb_error *err) KB_CHECK;

/* The bytes of one index object, for `describe -f json`: backup.json, or manifest.json of a foreign one.
 * *ret_text is owned. */
kb_code kb_catalog_read_index(kb_storage *storage, const char *backup_id, kb_catalog_state state,
                              char **ret_text, size_t *ret_len, kb_error *err) KB_CHECK;

/*
 * Steps 7 and 8 of the order of writes for a sealed backup: writes backup.json and manifest.json, or finds
 * them written. A stored backup.json that parses wins: *backup is then replaced by it. On success
 * manifest_sha256 and manifest_size are those of the stored manifest. A manifest.json with other bytes is
 * refused (KB_BACKUP_CORRUPT), nothing is overwritten.
 */
kb_code kb_catalog_publish(kb_storage *storage, kb_backup **backup, kb_error *err) KB_CHECK;

#endif

/*
 * group_snapshot - B/consumer-groups-snapshot.json, the committed offsets at backup time
 * (storage-format, 5.1).
 *
 * Here only what validate needs: that the stored object is the one that backup.json names. Threads: pure.
 */
#ifndef KB_WORKER_CATALOG_GROUP_SNAPSHOT_H
#define KB_WORKER_CATALOG_GROUP_SNAPSHOT_H

#include "worker/catalog/model.h"
#include "worker/storage/storage.h"

/* Reads the snapshot of a backup and compares its SHA-256. KB_ERR_FORMAT with key and reason when it is
 * missing or different; KB_OK when the backup has none. */
kb_code kb_group_snapshot_verify(kb_storage *storage, const kb_backup *backup, kb_error *err) KB_CHECK;

#endif

/*
 * group_snapshot - B/consumer-groups-snapshot.json, the committed offsets at backup time
 * (storage-format, 5.1).
 *
 * Threads: pure.
 */
#ifndef KB_WORKER_CATALOG_GROUP_SNAPSHOT_H
#define KB_WORKER_CATALOG_GROUP_SNAPSHOT_H

#include "worker/catalog/model.h"
#include "worker/kafka/kafka_group_set.h"
#include "worker/storage/storage.h"

/* As for every JSON object that is neither manifest nor backup.json (storage-format, 3.1). */
#define KB_GROUP_SNAPSHOT_MAX_BYTES ((size_t)64 << 20)

/* The text of the snapshot: all places with an offset. *ret_text is owned. */
kb_code kb_group_snapshot_encode(const kb_group_set *set, int64_t time_ms, char **ret_text, size_t *ret_len,
                                 kb_error *err) KB_CHECK;

/* What a reader learned besides the offsets. */
typedef struct kb_group_snapshot_notes {
    int64_t time_ms; /* 0 = not told */
    size_t skipped;  /* negative offsets and partitions that are no numbers */
} kb_group_snapshot_notes;
/* Reads a snapshot of any writer. KB_ERR_FORMAT. ret_set is for kb_group_set_done. */
kb_code kb_group_snapshot_decode(kb_view text, kb_group_set *ret_set, kb_group_snapshot_notes *ret_notes,
                                 kb_error *err) KB_CHECK;

/*
 * Reads the snapshot of a backup: of ours the one that backup.json names, with its hash checked; of a foreign
 * one what is stored under the common key. KB_ERR_NOT_FOUND when the backup has none, KB_ERR_FORMAT when it
 * is missing, changed or malformed.
 */
kb_code kb_group_snapshot_read(kb_storage *storage, const kb_backup *backup, kb_group_set *ret_set,
                               kb_group_snapshot_notes *ret_notes, kb_error *err) KB_CHECK;

/* Reads the snapshot of a backup and compares its SHA-256. KB_ERR_FORMAT with key and reason when it is
 * missing or different; KB_OK when the backup has none. */
kb_code kb_group_snapshot_verify(kb_storage *storage, const kb_backup *backup, kb_error *err) KB_CHECK;

#endif

/*
 * layout - the only place that builds or takes apart keys, and the rules for names in them
 * (storage-format.md 1 and 3.1).
 *
 * Builders return owned strings and expect ids and topic names that passed the checks below. Readers take the
 * keys of segments from the manifest and never parse a segment's file name: nothing here can. Threads: any.
 */
#ifndef KB_WORKER_CATALOG_LAYOUT_H
#define KB_WORKER_CATALOG_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"
#include "common/base/error.h"

#define KB_ID_READ_MAX 512
#define KB_BACKUP_ID_MAX 253
#define KB_RESTORE_ID_MAX 128 /* of snapshot ids as well */
#define KB_TOPIC_NAME_MAX 249
#define KB_MANIFEST_KEY_MAX 1024
#define KB_JOURNAL_SEQ_MAX 99999999
#define KB_RESTORE_SEQ_MAX 999999999

/* The rule for ids that we write; max_bytes is KB_BACKUP_ID_MAX or KB_RESTORE_ID_MAX. `what` names the
 * setting in the message ("backup_id"). Fails with KB_CONFIG_INVALID. */
kb_code kb_layout_check_new_id(const char *id, size_t max_bytes, const char *what, kb_error *err) KB_CHECK;
/* The wider rule for backup ids that we read. Fails with KB_CONFIG_INVALID. */
kb_code kb_layout_check_id(const char *id, kb_error *err) KB_CHECK;
/* The backup id of a folder "id/" in the listing of the root, owned; NULL when no backup can be there. */
char *kb_layout_id_of_folder(const char *folder);

/* Kafka's rule: [A-Za-z0-9._-]{1,249}, not "." or "..". The name may hold any byte. */
bool kb_layout_is_topic_name(kb_view name);

char *kb_layout_backup_prefix(const char *backup_id);             /* B/ */
char *kb_layout_manifest_key(const char *backup_id);              /* B/manifest.json */
char *kb_layout_backup_json_key(const char *backup_id);           /* B/backup.json */
char *kb_layout_groups_key(const char *backup_id);                /* B/consumer-groups-snapshot.json */
char *kb_layout_pruned_key(const char *backup_id);                /* B/pruned.json */
char *kb_layout_journal_prefix(const char *backup_id);            /* B/journal/ */
char *kb_layout_journal_key(const char *backup_id, uint32_t seq); /* B/journal/{seq:08}.json */
/* The number of a journal entry's key; false when the key is not of this journal. */
bool kb_layout_parse_journal_key(const char *backup_id, const char *key, uint32_t *ret_seq);

/* ".zst", ".lz4", "" for "zstd", "lz4", "none"; NULL for anything else. */
const char *kb_layout_extension(const char *codec);
/* segment-{start:020}.bin{ext}; start >= 0. */
char *kb_layout_segment_file(int64_t start_offset, const char *extension);
/* segment-{start:020}-{first 8 digits of the attempt id}.bin{ext} (7.5). */
char *kb_layout_segment_file_suffixed(int64_t start_offset, const char *attempt_id_hex,
                                      const char *extension);
char *kb_layout_topics_prefix(const char *backup_id); /* B/topics/ */
/* B/topics/{topic}/partition={p}/ */
char *kb_layout_partition_prefix(const char *backup_id, const char *topic, int32_t partition);
/* The same with the file's name behind it. */
char *kb_layout_segment_key(const char *backup_id, const char *topic, int32_t partition, const char *file);

/* What stands around the file name in a listed key below B/topics/ (borrowed from it): for adoption and
 * orphans, which look into the object for the rest. */
typedef struct kb_layout_place {
    kb_view topic;
    int32_t partition;
    const char *file;
} kb_layout_place;
/* False when the key has another form. */
bool kb_layout_split_topic_key(const char *backup_id, const char *key, kb_layout_place *ret_place);

/* The rules for a key that a manifest names: form, and first part equal to backup_id or one of uses. Fails
 * with KB_ERR_FORMAT. The key may hold any byte. */
kb_code kb_layout_check_manifest_key(kb_view key, const char *backup_id, const char *const *uses,
                                     size_t uses_count, kb_error *err) KB_CHECK;

typedef enum kb_restore_object {
    KB_RESTORE_START,   /* restores/{id}/start-{n:04}.json */
    KB_RESTORE_ATTEMPT, /* restores/{id}/attempt-{n:04}.json */
    KB_RESTORE_DONE,    /* restores/{id}/done-{n:04}.json, n of its start object */
} kb_restore_object;
char *kb_layout_restore_prefix(const char *restore_id); /* restores/{id}/ */
char *kb_layout_restore_key(const char *restore_id, kb_restore_object object, uint32_t n);
/* False when the key is not such an object of this restore. */
bool kb_layout_parse_restore_key(const char *restore_id, const char *key, kb_restore_object *ret_object,
                                 uint32_t *ret_n);

typedef enum kb_snapshot_place {
    KB_SNAPSHOT_PLAIN,      /* {id}.json */
    KB_SNAPSHOT_OF_RESTORE, /* offset-snapshots/{id}.json */
    KB_SNAPSHOT_FOREIGN,    /* offset-snapshots/{id}/snapshot.json, of the existing tool: only read */
} kb_snapshot_place;
char *kb_layout_snapshot_key(const char *snapshot_id, kb_snapshot_place place);
char *kb_layout_offset_mapping_key(const char *restore_id); /* restores/{id}/offset-mapping.json */

#endif

/*
 * lineage - the backups that belong together: ids `{lineage}-YYYYMMDD-HHMMSS` (storage-format, 12).
 *
 * The name alone proves nothing: journal 0 confirms it (kb_lineage_confirm, or the lineage in a backup.json
 * that was read). A scan costs one listing of the ids and one small listing for each backup; journals are
 * read only of backups without manifest.json. Threads: no state; a call may be made from any thread.
 */
#ifndef KB_WORKER_CATALOG_LINEAGE_H
#define KB_WORKER_CATALOG_LINEAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/catalog/catalog_list.h"
#include "worker/catalog/holder.h"
#include "worker/catalog/model.h"
#include "worker/storage/storage.h"

/* ---- ids: pure ---- */

/* `{lineage}-{stamp}`; owned by the caller. */
char *kb_lineage_backup_id(const char *lineage, const char *stamp) __attribute__((returns_nonnull));
/* Whether the id is the lineage's name, '-' and a stamp that is a real time. *ret_stamp_ms (may be NULL) is
 * that time. */
bool kb_lineage_parse_id(const char *lineage, const char *backup_id, int64_t *ret_stamp_ms);
/* The name in front of the stamp, owned; NULL when the id does not have that form. */
char *kb_lineage_of_id(const char *backup_id);

/* ---- what is there ---- */

/* One backup that has the lineage's name. */
typedef struct kb_lineage_member {
    char *backup_id;
    int64_t stamp_ms; /* the time in its id */
    /* By presence and the last journal entry: COMPLETE (manifest.json and backup.json), FOREIGN
     * (manifest.json without both), SEALED, OPEN, CLOSED, or DAMAGED (`problem` says why). Never PRUNED: see
     * marked. */
    kb_catalog_state state;
    char *problem; /* NULL = none */
    bool has_manifest, has_backup_json, has_journal, has_topics;
    bool marked;          /* pruned.json is there */
    int64_t marked_at_ms; /* its time by the store's clock */
    /* Whether a journal or backup.json was read and says that it is of this lineage. The scan reads the
     * journals of backups without manifest.json; kb_lineage_confirm reads the plan of any. A journal that
     * names another lineage removes the backup from the scan. */
    bool confirmed;
    /* From here on only when confirmed. */
    char *owner;
    char *cluster_id; /* NULL = unknown */
    char *base;       /* of the plan (of a complete backup: of its first plan); NULL = full backup */
    int64_t created_at;
    kb_holder
        holder; /* who wrote the last entry (of a complete backup: the first); texts NULL when not read */
    /* Of backups without manifest.json. */
    bool released;         /* the last entry is a release */
    uint32_t last_seq;     /* number of the last journal entry */
    int64_t last_entry_ms; /* its time by the store's clock */
} kb_lineage_member;

typedef struct kb_lineage_members {
    kb_lineage_member *items; /* newest first, by the time in the id */
    size_t count;
    size_t capacity;
} kb_lineage_members;

/*
 * Every backup of the lineage and its state, without reading segments or indexes. What cannot be read is a
 * member that is DAMAGED; a failing store is an error. *ret_members is freed by kb_lineage_members_done.
 */
kb_code kb_lineage_scan(kb_storage *storage, const char *lineage, kb_lineage_members *ret_members,
                        kb_error *err) KB_CHECK;
void kb_lineage_members_done(kb_lineage_members *members);

/*
 * Reads the plan in journal 0 (and the rest of the journal while there is no manifest.json) and fills in what
 * it says. *ret_is_member is false when the journal names another lineage, or none. KB_BACKUP_CORRUPT when
 * the journal is missing or cannot be read, or as the store does.
 */
kb_code kb_lineage_confirm(kb_storage *storage, const char *lineage, kb_lineage_member *member,
                           bool *ret_is_member, kb_error *err) KB_CHECK;

/*
 * The id of the newest complete, unmarked backup of a lineage, owned; NULL when there is none. For commands
 * that are given the name of a lineage as a backup id.
 */
kb_code kb_lineage_newest(kb_storage *storage, const char *lineage, char **ret_backup_id,
                          kb_error *err) KB_CHECK;

#endif

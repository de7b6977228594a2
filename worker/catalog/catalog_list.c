#include "worker/catalog/catalog_list.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/catalog/backup_record.h"
#include "worker/catalog/journal_replay.h"
#include "worker/catalog/layout.h"
#include "worker/catalog/lineage.h"
#include "worker/catalog/manifest.h"

static const char *const state_names[KB_CATALOG_STATE_COUNT] = {
    [KB_CATALOG_COMPLETE] = "complete", [KB_CATALOG_FOREIGN] = "foreign", [KB_CATALOG_OPEN] = "open",
    [KB_CATALOG_SEALED] = "sealed",     [KB_CATALOG_CLOSED] = "closed",   [KB_CATALOG_PRUNED] = "pruned",
    [KB_CATALOG_DAMAGED] = "damaged",
};

const char *kb_catalog_state_name(kb_catalog_state state)
{
    return (unsigned)state < KB_CATALOG_STATE_COUNT ? state_names[state] : "unknown";
}

void kb_catalog_row_done(kb_catalog_row *row)
{
    free(row->backup_id);
    free(row->lineage);
    free(row->base);
    free(row->problem);
}

void kb_catalog_rows_done(kb_catalog_rows *rows)
{
    for (size_t i = 0; i < rows->count; i++)
        kb_catalog_row_done(&rows->rows[i]);
    free(rows->rows);
    *rows = (kb_catalog_rows){NULL, 0, 0};
}

/* ---- what is there ---- */

typedef struct presence {
    size_t prefix_len;
    bool manifest;
    bool backup_json;
    bool journal;
    bool pruned;
} presence;

static kb_code note_presence(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    (void)err;
    presence *there = ctx;
    const char *name = entry->key + there->prefix_len;
    there->manifest = there->manifest || strcmp(name, "manifest.json") == 0;
    there->backup_json = there->backup_json || strcmp(name, "backup.json") == 0;
    there->pruned = there->pruned || strcmp(name, "pruned.json") == 0;
    there->journal = there->journal || (entry->is_folder && strcmp(name, "journal/") == 0);
    return KB_OK;
}

/* ---- numbers of one backup ---- */

static void set_totals(kb_catalog_row *row, const kb_backup_totals *totals)
{
    row->has_numbers = true;
    row->records = totals->records;
    row->raw_bytes = totals->raw_bytes;
    row->stored_bytes = totals->stored_bytes;
    row->own_bytes = totals->stored_bytes - totals->reused_bytes;
    row->gaps = totals->gaps;
}

static void set_head(kb_catalog_row *row, const kb_backup *backup)
{
    kb_text_set(&row->lineage, backup->lineage);
    kb_text_set(&row->base, backup->base);
    row->created_at = backup->created_at;
    row->snapshot_time = backup->cut_time;
    row->completed_at = backup->completed_at;
}

static kb_code read_record_row(kb_storage *storage, kb_catalog_row *row, kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_backup_json_key(row->backup_id);
    kb_object_source *source KB_CLEANUP(kb_object_source_free_at) = NULL;
    kb_code code = kb_object_source_open(storage, key, KB_BACKUP_JSON_MAX_BYTES, &source, err);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_backup_totals totals;
    if (code == KB_OK)
        code = kb_backup_record_read_summary(source, row->backup_id, &backup, &totals, err);
    if (code != KB_OK)
        return kb_wrap(err, "'%s'", key);
    set_head(row, backup);
    set_totals(row, &totals);
    return KB_OK;
}

static kb_code read_manifest_row(kb_storage *storage, kb_catalog_row *row, kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_manifest_key(row->backup_id);
    kb_object_source *source KB_CLEANUP(kb_object_source_free_at) = NULL;
    kb_code code = kb_object_source_open(storage, key, KB_MANIFEST_MAX_BYTES, &source, err);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_backup_totals totals;
    const kb_manifest_read_options options = {.backup_id = row->backup_id, .allow_overlap = true};
    if (code == KB_OK)
        code = kb_manifest_read_source(source, &options, &backup, err);
    if (code == KB_OK)
        code = kb_backup_totals_of(backup, &totals, err);
    if (code != KB_OK)
        return kb_wrap(err, "'%s'", key);
    set_head(row, backup);
    set_totals(row, &totals);
    return KB_OK;
}

typedef struct highest_entry {
    const char *backup_id;
    uint32_t seq;
    bool found;
} highest_entry;

static kb_code note_highest(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    (void)err;
    highest_entry *highest = ctx;
    uint32_t seq = 0;
    if (!kb_layout_parse_journal_key(highest->backup_id, entry->key, &seq))
        return KB_OK;
    if (!highest->found || seq > highest->seq)
        highest->seq = seq;
    highest->found = true;
    return KB_OK;
}

static kb_code read_entry(kb_storage *storage, const char *backup_id, uint32_t seq, kb_blob *ret_blob,
                          kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_journal_key(backup_id, seq);
    kb_code code = kb_storage_get(storage, key, KB_JOURNAL_ENTRY_MAX_BYTES, ret_blob, err);
    return code == KB_OK ? KB_OK : kb_wrap(err, "'%s'", key);
}

/* The plan tells what the backup is, the last entry how far it got. */
static kb_code read_journal_row(kb_storage *storage, kb_catalog_row *row, kb_error *err)
{
    KB_AUTOFREE char *prefix = kb_layout_journal_prefix(row->backup_id);
    highest_entry highest = {.backup_id = row->backup_id};
    kb_code code = kb_storage_list(storage, prefix, note_highest, &highest, err);
    KB_AUTO_BLOB(first);
    if (code == KB_OK)
        code = read_entry(storage, row->backup_id, 0, &first, err);
    if (code != KB_OK)
        return code;
    kb_replay replay KB_CLEANUP(kb_replay_done);
    kb_replay_init(&replay, row->backup_id, NULL);
    code = kb_replay_add(&replay, (const char *)first.data, first.len, err);
    if (code != KB_OK)
        return kb_wrap(err, "journal entry 0");
    set_head(row, replay.backup);
    KB_AUTO_BLOB(last);
    code = read_entry(storage, row->backup_id, highest.seq, &last, err);
    kb_entry_kind kind = KB_ENTRY_OPEN;
    if (code == KB_OK)
        code = kb_entry_peek(row->backup_id, (const char *)last.data, last.len, &kind, err);
    if (code != KB_OK)
        return kb_wrap(err, "the last journal entry");
    row->state = kind == KB_ENTRY_SEAL    ? KB_CATALOG_SEALED
                 : kind == KB_ENTRY_CLOSE ? KB_CATALOG_CLOSED
                                          : KB_CATALOG_OPEN;
    return KB_OK;
}

/* ---- rows ---- */

static kb_code read_row(kb_storage *storage, const presence *there, kb_catalog_row *row, kb_error *err)
{
    if (there->backup_json) {
        row->state = there->manifest ? KB_CATALOG_COMPLETE : KB_CATALOG_SEALED;
        return read_record_row(storage, row, err);
    }
    if (there->manifest && there->journal)
        return kb_fail(err, KB_ERR_FORMAT, "backup.json is missing");
    if (there->manifest) {
        row->state = KB_CATALOG_FOREIGN;
        return read_manifest_row(storage, row, err);
    }
    return read_journal_row(storage, row, err);
}

typedef struct list_state {
    kb_storage *storage;
    kb_catalog_rows rows;
} list_state;

static kb_code add_row(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    list_state *list = ctx;
    KB_AUTOFREE char *id = entry->is_folder ? kb_layout_id_of_folder(entry->key) : NULL;
    if (id == NULL)
        return KB_OK;
    KB_AUTOFREE char *prefix = kb_layout_backup_prefix(id);
    presence there = {.prefix_len = strlen(prefix)};
    kb_code code = kb_storage_list_level(list->storage, prefix, note_presence, &there, err);
    if (code != KB_OK)
        return code;
    if (!there.manifest && !there.backup_json && !there.journal && !there.pruned)
        return KB_OK;
    kb_catalog_row row = {.backup_id = KB_TAKE(id)};
    KB_AUTO_ERROR(problem);
    if (read_row(list->storage, &there, &row, &problem) != KB_OK) {
        row.state = KB_CATALOG_DAMAGED;
        row.problem = kb_strdup(kb_error_text(&problem));
    }
    /* A mark stands until everything is gone, so much of such a backup may be missing. */
    if (there.pruned) {
        row.state = KB_CATALOG_PRUNED;
        kb_text_set(&row.problem, NULL);
        if (row.lineage == NULL)
            row.lineage = kb_lineage_of_id(row.backup_id);
    }
    kb_catalog_rows *rows = &list->rows;
    rows->rows = kb_grow(rows->rows, rows->count, &rows->capacity, sizeof *rows->rows);
    rows->rows[rows->count++] = row;
    return KB_OK;
}

static int compare_rows(const void *a, const void *b)
{
    const kb_catalog_row *left = a;
    const kb_catalog_row *right = b;
    if (left->created_at != right->created_at)
        return left->created_at > right->created_at ? -1 : 1;
    return strcmp(right->backup_id, left->backup_id);
}

kb_code kb_catalog_list(kb_storage *storage, kb_catalog_rows *ret_rows, kb_error *err)
{
    list_state list = {.storage = storage};
    kb_code code = kb_storage_list_level(storage, "", add_row, &list, err);
    if (code != KB_OK) {
        kb_catalog_rows_done(&list.rows);
        return code;
    }
    if (list.rows.count > 1)
        qsort(list.rows.rows, list.rows.count, sizeof *list.rows.rows, compare_rows);
    *ret_rows = list.rows;
    return KB_OK;
}

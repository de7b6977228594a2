#include "worker/cmd/cmd_list.h"

#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/json_write.h"
#include "worker/catalog/lineage.h"
#include "worker/cmd/text_table.h"

#define KB_LIST_MAX_BYTES ((size_t)1 << 30)

static const kb_text_column COLUMNS[] = {
    {"BACKUP ID", KB_TEXT_LEFT}, {"STATE", KB_TEXT_LEFT},    {"CREATED", KB_TEXT_LEFT},
    {"BASE", KB_TEXT_LEFT},      {"RECORDS", KB_TEXT_RIGHT}, {"RAW", KB_TEXT_RIGHT},
    {"STORED", KB_TEXT_RIGHT},   {"OWN", KB_TEXT_RIGHT},     {"GAPS", KB_TEXT_RIGHT},
};

static void add_row(kb_text_table *table, const kb_catalog_row *row)
{
    char created[KB_TEXT_SIZE_MAX + 2];
    kb_text_time(row->created_at, created);
    kb_text_table_add(table, row->backup_id);
    kb_text_table_add(table, kb_catalog_state_name(row->state));
    kb_text_table_add(table, created);
    kb_text_table_add(table, row->base);
    if (!row->has_numbers) {
        for (int i = 0; i < 5; i++)
            kb_text_table_add(table, NULL);
        return;
    }
    kb_text_table_add_i64(table, row->records);
    kb_text_table_add_bytes(table, row->raw_bytes);
    kb_text_table_add_bytes(table, row->stored_bytes);
    kb_text_table_add_bytes(table, row->own_bytes);
    kb_text_table_add_i64(table, row->gaps);
}

void kb_list_text(const kb_catalog_rows *rows, kb_strbuf *out)
{
    if (rows->count == 0)
        return;
    KB_CLEANUP(kb_text_table_free_at)
    kb_text_table *table = kb_text_table_new(COLUMNS, KB_ARRAY_LEN(COLUMNS));
    for (size_t i = 0; i < rows->count; i++)
        add_row(table, &rows->rows[i]);
    kb_text_table_print(table, out);
}

static void put_time(kb_json_writer *json, const char *name, int64_t ms)
{
    if (ms > 0)
        kb_json_field_i64(json, name, ms);
    else
        kb_json_field_null(json, name);
}

static void put_number(kb_json_writer *json, const kb_catalog_row *row, const char *name, int64_t value)
{
    if (row->has_numbers)
        kb_json_field_i64(json, name, value);
    else
        kb_json_field_null(json, name);
}

static void put_row(kb_json_writer *json, const kb_catalog_row *row)
{
    kb_json_put_begin_object(json);
    kb_text_json_field(json, "backupId", row->backup_id);
    kb_json_field_text(json, "state", kb_catalog_state_name(row->state));
    kb_text_json_field(json, "lineage", row->lineage);
    put_time(json, "createdAt", row->created_at);
    put_time(json, "snapshotTime", row->snapshot_time);
    put_time(json, "completedAt", row->completed_at);
    kb_text_json_field(json, "base", row->base);
    put_number(json, row, "records", row->records);
    put_number(json, row, "rawBytes", row->raw_bytes);
    put_number(json, row, "storedBytes", row->stored_bytes);
    put_number(json, row, "ownBytes", row->own_bytes);
    put_number(json, row, "gaps", row->gaps);
    if (row->problem != NULL)
        kb_text_json_field(json, "problem", row->problem);
    kb_json_put_end_object(json);
}

kb_code kb_list_json(const kb_catalog_rows *rows, kb_strbuf *out, kb_error *err)
{
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *json = kb_json_writer_new(KB_JSON_PRETTY, out);
    kb_json_put_begin_array(json);
    for (size_t i = 0; i < rows->count; i++)
        put_row(json, &rows->rows[i]);
    kb_json_put_end_array(json);
    if (kb_json_writer_finish(json, err) != KB_OK)
        return err->code;
    kb_strbuf_appendc(out, '\n');
    return kb_strbuf_check(out, "the list", err);
}

/* Leaves the rows of one lineage. */
static void keep_lineage(kb_catalog_rows *rows, const char *lineage)
{
    size_t kept = 0;
    for (size_t i = 0; i < rows->count; i++) {
        kb_catalog_row row = rows->rows[i];
        bool is_member = row.lineage != NULL ? strcmp(row.lineage, lineage) == 0
                                             : kb_lineage_parse_id(lineage, row.backup_id, NULL);
        if (!is_member)
            continue;
        rows->rows[i] = rows->rows[kept];
        rows->rows[kept++] = row;
    }
    for (size_t i = kept; i < rows->count; i++)
        kb_catalog_row_done(&rows->rows[i]);
    rows->count = kept;
}

/* The problem of a row is an event; a table has no room for it. */
static void log_rows(const kb_run_context *run, const kb_storage *storage, const kb_catalog_rows *rows)
{
    if (rows->count == 0)
        kb_log(KB_LOG_INFO, "no backups found", KB_STR("path", kb_storage_describe(storage)));
    for (size_t i = 0; i < rows->count && run->flags->format == KB_OUTPUT_TEXT; i++)
        if (rows->rows[i].problem != NULL)
            kb_log(KB_LOG_WARN, "a backup cannot be read", KB_STR("backup", rows->rows[i].backup_id),
                   KB_STR("err", rows->rows[i].problem));
}

kb_code kb_cmd_list(kb_run_context *run, kb_error *err)
{
    KB_CLEANUP(kb_storage_free_at) kb_storage *storage = NULL;
    KB_CLEANUP(kb_catalog_rows_done) kb_catalog_rows rows = {0};
    if (kb_run_context_storage(run, KB_FS_READ, &storage, err) != KB_OK ||
        kb_catalog_list(storage, &rows, err) != KB_OK)
        return err->code;
    if (run->flags->backup_id != NULL)
        keep_lineage(&rows, run->flags->backup_id);
    log_rows(run, storage, &rows);
    KB_AUTO_STRBUF(out, KB_LIST_MAX_BYTES);
    if (run->flags->format == KB_OUTPUT_TEXT)
        kb_list_text(&rows, &out);
    else if (kb_list_json(&rows, &out, err) != KB_OK)
        return err->code;
    if (kb_strbuf_check(&out, "the list", err) != KB_OK)
        return err->code;
    kb_run_print(kb_strbuf_view(&out), out.len);
    return KB_OK;
}

#include "worker/catalog/prune_mark.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/catalog/catalog_json.h"
#include "worker/catalog/json_fields.h"
#include "worker/catalog/layout.h"
#include "worker/catalog/object_source.h"

#define KB_MARK_MAX_BYTES ((size_t)1 << 20)

void kb_prune_mark_done(kb_prune_mark *mark)
{
    free(mark->reason);
    free(mark->marked_by);
    *mark = (kb_prune_mark){NULL, NULL};
}

static kb_code encode(const char *backup_id, const kb_prune_mark *mark, kb_strbuf *out, kb_error *err)
{
    static const uint8_t no_hash[KB_SHA256_SIZE] = {0};
    kb_json_writer *w KB_CLEANUP(kb_json_writer_free_at) = kb_json_writer_new(KB_JSON_PRETTY, out);
    kb_json_put_begin_object(w);
    kb_json_field_i64(w, "formatVersion", KB_BACKUP_FORMAT_VERSION);
    kb_json_field_text(w, "backupId", backup_id);
    kb_json_field_text(w, "reason", mark->reason);
    kb_json_field_text(w, "markedBy", mark->marked_by);
    kb_put_hash(w, "sha256", no_hash);
    kb_json_put_end_object(w);
    kb_code code = kb_json_writer_finish(w, err);
    return code == KB_OK ? kb_self_hash_write(out->data, out->len, err) : code;
}

kb_code kb_prune_mark_write(kb_storage *storage, const char *backup_id, const kb_prune_mark *mark,
                            bool *ret_was_marked, kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_pruned_key(backup_id);
    KB_AUTO_STRBUF(text, KB_MARK_MAX_BYTES);
    kb_code code = encode(backup_id, mark, &text, err);
    if (code != KB_OK)
        return code;
    const kb_put_once_options options = {.max_stored_bytes = KB_MARK_MAX_BYTES};
    kb_put_outcome outcome = KB_PUT_CREATED;
    code = kb_storage_put_once(storage, key, kb_view_of(kb_strbuf_view(&text), text.len), &options, &outcome,
                               NULL, err);
    if (code == KB_OK)
        *ret_was_marked = outcome == KB_PUT_OTHER;
    return code;
}

typedef struct mark_fields {
    int64_t format_version;
    char *backup_id;
    kb_prune_mark mark;
} mark_fields;

static void mark_fields_done(mark_fields *fields)
{
    free(fields->backup_id);
    kb_prune_mark_done(&fields->mark);
}

static const kb_field FIELDS[] = {
    {"formatVersion", KB_FIELD_I64, KB_FIELD_REQUIRED, offsetof(mark_fields, format_version), NULL},
    {"backupId", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(mark_fields, backup_id), NULL},
    {"reason", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(mark_fields, mark.reason), NULL},
    {"markedBy", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(mark_fields, mark.marked_by), NULL},
};

static kb_code decode(const kb_blob *blob, const char *backup_id, mark_fields *fields, kb_error *err)
{
    kb_code code = kb_self_hash_check((const char *)blob->data, blob->len, err);
    if (code != KB_OK)
        return code;
    KB_CLEANUP(kb_json_reader_free_at)
    kb_json_reader *reader = kb_json_reader_new(kb_view_of(blob->data, blob->len), NULL);
    code = kb_fields_read(reader, FIELDS, KB_ARRAY_LEN(FIELDS), fields, NULL, NULL, err);
    if (code == KB_OK)
        code = kb_json_end(reader, err);
    if (code != KB_OK)
        return code;
    if (fields->format_version != KB_BACKUP_FORMAT_VERSION)
        return kb_fail(err, KB_ERR_FORMAT, "it has format version %" PRId64 ": it needs a newer reader",
                       fields->format_version);
    if (strcmp(fields->backup_id, backup_id) != 0)
        return kb_fail(err, KB_ERR_FORMAT, "it is the mark of backup '%s'", fields->backup_id);
    return KB_OK;
}

kb_code kb_prune_mark_read(kb_storage *storage, const char *backup_id, kb_prune_mark *ret_mark, kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_pruned_key(backup_id);
    KB_AUTO_BLOB(blob);
    KB_CLEANUP(mark_fields_done) mark_fields fields = {0};
    kb_code code = kb_storage_get(storage, key, KB_MARK_MAX_BYTES, &blob, err);
    if (code == KB_OK)
        code = decode(&blob, backup_id, &fields, err);
    if (code == KB_ERR_FORMAT || code == KB_ERR_TOO_LARGE)
        return kb_wrap_as(err, KB_BACKUP_CORRUPT, "'%s'", key);
    if (code != KB_OK)
        return code;
    *ret_mark = fields.mark;
    fields.mark = (kb_prune_mark){NULL, NULL};
    return KB_OK;
}

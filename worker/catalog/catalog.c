#include "worker/catalog/catalog.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/failpoint.h"
#include "common/base/mem.h"
#include "worker/catalog/backup_record.h"
#include "worker/catalog/layout.h"
#include "worker/catalog/manifest.h"

/* ---- opening ---- */

typedef struct presence {
    bool manifest;
    bool backup_json;
    bool journal;
    bool pruned;
} presence;

static kb_code is_there(kb_storage *storage, char *owned_key, bool *ret_there, kb_error *err)
{
    KB_AUTOFREE char *key = owned_key;
    KB_AUTO_ERROR(head);
    kb_object_info info;
    kb_code code = kb_storage_head(storage, key, &info, &head);
    if (code != KB_OK && code != KB_ERR_NOT_FOUND) {
        kb_error_move(err, &head);
        return code;
    }
    *ret_there = code == KB_OK;
    return KB_OK;
}

static kb_code find_presence(kb_storage *storage, const char *id, presence *ret_there, kb_error *err)
{
    kb_code code = is_there(storage, kb_layout_manifest_key(id), &ret_there->manifest, err);
    if (code == KB_OK)
        code = is_there(storage, kb_layout_backup_json_key(id), &ret_there->backup_json, err);
    if (code == KB_OK)
        code = is_there(storage, kb_layout_journal_key(id, 0), &ret_there->journal, err);
    if (code == KB_OK)
        code = is_there(storage, kb_layout_pruned_key(id), &ret_there->pruned, err);
    return code;
}

/* Errors of form become "the backup is corrupt", with the key and what the user can do. */
static kb_code corrupt(kb_error *err, const char *key, const char *hint)
{
    if (err->code != KB_ERR_FORMAT && err->code != KB_ERR_TOO_LARGE && err->code != KB_ERR_NOT_FOUND)
        return err->code;
    KB_AUTOFREE char *text = kb_strdup(kb_error_text(err));
    return kb_fail(err, KB_BACKUP_CORRUPT, "'%s': %s%s", key, text, hint);
}

static kb_code read_record(kb_storage *storage, const char *id, kb_backup **ret_backup, kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_backup_json_key(id);
    kb_object_source *source KB_CLEANUP(kb_object_source_free_at) = NULL;
    kb_code code = kb_object_source_open(storage, key, KB_BACKUP_JSON_MAX_BYTES, &source, err);
    if (code == KB_OK)
        code = kb_backup_record_read_source(source, id, ret_backup, err);
    return code == KB_OK ? KB_OK
                         : corrupt(err, key, " (hint: --from-manifest restores by manifest.json alone)");
}

static kb_code read_foreign(kb_storage *storage, const char *id, bool allow_overlap, kb_backup **ret_backup,
                            kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_manifest_key(id);
    kb_object_source *source KB_CLEANUP(kb_object_source_free_at) = NULL;
    const kb_manifest_read_options options = {.backup_id = id, .allow_overlap = allow_overlap};
    kb_code code = kb_object_source_open(storage, key, KB_MANIFEST_MAX_BYTES, &source, err);
    if (code == KB_OK)
        code = kb_manifest_read_source(source, &options, ret_backup, err);
    return code == KB_OK ? KB_OK : corrupt(err, key, "");
}

/* Whether manifest.json is the one that backup.json projects to. */
static kb_code compare_manifest(kb_storage *storage, const kb_backup *backup, kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_manifest_key(backup->backup_id);
    kb_object_source *source KB_CLEANUP(kb_object_source_free_at) = NULL;
    kb_code code = kb_object_source_open(storage, key, KB_MANIFEST_MAX_BYTES, &source, err);
    if (code == KB_OK)
        code = kb_object_source_drain(source, err);
    if (code == KB_OK) {
        uint8_t sha256[KB_SHA256_SIZE];
        kb_object_source_sha256(source, sha256);
        if (kb_object_source_size(source) == (uint64_t)backup->manifest_size &&
            memcmp(sha256, backup->manifest_sha256, sizeof sha256) == 0)
            return KB_OK;
        code = kb_fail(err, KB_ERR_FORMAT,
                       "it is not the manifest that backup.json names: it was saved over "
                       "or damaged");
    }
    return code == KB_OK ? KB_OK : corrupt(err, key, " (hint: --from-backup-json reads backup.json alone)");
}

static kb_code fail_incomplete(kb_storage *storage, const char *id, const presence *there, kb_error *err)
{
    if (there->backup_json)
        return kb_fail(
            err, KB_BACKUP_NOT_FOUND,
            "Backup '%s' not found: it is sealed, but has no manifest.json yet (hint: run the backup "
            "again, or use --from-backup-json)",
            id);
    if (there->journal)
        return kb_fail(
            err, KB_BACKUP_NOT_FOUND,
            "Backup '%s' not found: it was begun but is not complete (hint: run the backup again to "
            "finish it)",
            id);
    return kb_fail(err, KB_BACKUP_NOT_FOUND, "Backup '%s' not found in %s (hint: list shows what is there)",
                   id, kb_storage_describe(storage));
}

static kb_code open_ours(kb_storage *storage, const char *id, const presence *there,
                         const kb_catalog_open_options *options, kb_backup **ret_backup, kb_error *err)
{
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    if (!there->manifest && !options->from_backup_json)
        return fail_incomplete(storage, id, there, err);
    kb_code code = read_record(storage, id, &backup, err);
    if (code == KB_OK && !options->from_backup_json)
        code = compare_manifest(storage, backup, err);
    if (code == KB_OK)
        *ret_backup = KB_TAKE(backup);
    return code;
}

static kb_code open_present(kb_storage *storage, const char *id, const presence *there,
                            const kb_catalog_open_options *options, kb_backup **ret_backup,
                            kb_catalog_state *ret_state, kb_error *err)
{
    *ret_state = KB_CATALOG_COMPLETE;
    if (there->backup_json && !options->from_manifest)
        return open_ours(storage, id, there, options, ret_backup, err);
    if (!there->manifest)
        return fail_incomplete(storage, id, there, err);
    if (there->journal && !options->from_manifest)
        return kb_fail(
            err, KB_BACKUP_CORRUPT,
            "backup.json of backup '%s' is missing (hint: --from-manifest restores by manifest.json "
            "alone)",
            id);
    *ret_state = KB_CATALOG_FOREIGN;
    return read_foreign(storage, id, options->allow_overlap, ret_backup, err);
}

kb_code kb_catalog_open(kb_storage *storage, const char *backup_id, const kb_catalog_open_options *options,
                        kb_backup **ret_backup, kb_catalog_state *ret_state, kb_error *err)
{
    presence there = {0};
    kb_catalog_state state = KB_CATALOG_COMPLETE;
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_code code = kb_layout_check_id(backup_id, err);
    if (code == KB_OK)
        code = find_presence(storage, backup_id, &there, err);
    if (code == KB_OK && there.pruned && !options->allow_pruned)
        code = kb_fail(err, KB_BACKUP_PRUNED,
                       "backup '%s' is marked for deletion (hint: --allow-pruned reads it while it lasts)",
                       backup_id);
    if (code == KB_OK)
        code = open_present(storage, backup_id, &there, options, &backup, &state, err);
    if (code == KB_OK)
        code = KB_FAILPOINT("manifest.read", err);
    if (code != KB_OK)
        return code;
    *ret_backup = KB_TAKE(backup);
    *ret_state = there.pruned ? KB_CATALOG_PRUNED : state;
    return KB_OK;
}

kb_code kb_catalog_read_index(kb_storage *storage, const char *backup_id, kb_catalog_state state,
                              char **ret_text, size_t *ret_len, kb_error *err)
{
    bool is_foreign = state == KB_CATALOG_FOREIGN;
    KB_AUTOFREE char *key =
        is_foreign ? kb_layout_manifest_key(backup_id) : kb_layout_backup_json_key(backup_id);
    kb_blob blob = KB_BLOB_INIT;
    kb_code code = kb_storage_get(storage, key, is_foreign ? KB_MANIFEST_MAX_BYTES : KB_BACKUP_JSON_MAX_BYTES,
                                  &blob, err);
    if (code != KB_OK)
        return code;
    *ret_text = (char *)blob.data;
    *ret_len = blob.len;
    return KB_OK;
}

/* ---- publishing ---- */

/* A stored backup.json is the truth about the backup, whoever wrote it, if it is one. */
static kb_code take_stored(kb_backup **backup, const char *key, const kb_blob *stored, kb_error *err)
{
    KB_AUTO_BACKUP kb_backup *read = NULL;
    kb_code code = kb_backup_record_read(stored->data, stored->len, (*backup)->backup_id, &read, err);
    if (code != KB_OK)
        return kb_wrap_as(err, KB_BACKUP_CORRUPT, "'%s' exists and cannot be read", key);
    kb_backup_free(*backup);
    *backup = KB_TAKE(read);
    return KB_OK;
}

static kb_code publish_record(kb_storage *storage, kb_backup **backup, kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_backup_json_key((*backup)->backup_id);
    KB_AUTO_STRBUF(text, KB_BACKUP_JSON_MAX_BYTES);
    KB_AUTO_BACKUP kb_backup *proof = NULL;
    kb_code code = kb_backup_record_write(*backup, &text, err);
    /* Written once and never again: what we could not read ourselves must not become durable. */
    if (code == KB_OK)
        code = kb_backup_record_read(kb_strbuf_view(&text), text.len, (*backup)->backup_id, &proof, err);
    if (code != KB_OK)
        return kb_wrap_as(err, KB_ERR_INTERNAL, "'%s' was not written", key);
    const kb_put_once_options options = {.max_stored_bytes = KB_BACKUP_JSON_MAX_BYTES};
    kb_put_outcome outcome = KB_PUT_OTHER;
    KB_AUTO_BLOB(stored);
    code = kb_storage_put_once(storage, key, kb_view_of(kb_strbuf_view(&text), text.len), &options, &outcome,
                               &stored, err);
    if (code != KB_OK)
        return code;
    if (outcome == KB_PUT_OTHER)
        return take_stored(backup, key, &stored, err);
    (*backup)->has_manifest_hash = true;
    (*backup)->manifest_size = proof->manifest_size;
    memcpy((*backup)->manifest_sha256, proof->manifest_sha256, KB_SHA256_SIZE);
    return KB_OK;
}

static kb_code publish_manifest(kb_storage *storage, const kb_backup *backup, kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_manifest_key(backup->backup_id);
    KB_AUTO_STRBUF(text, KB_MANIFEST_MAX_BYTES);
    kb_code code = kb_manifest_write(backup, &text, err);
    if (code != KB_OK)
        return code;
    uint8_t sha256[KB_SHA256_SIZE];
    kb_sha256(kb_strbuf_view(&text), text.len, sha256);
    if ((int64_t)text.len != backup->manifest_size ||
        memcmp(sha256, backup->manifest_sha256, sizeof sha256) != 0)
        return kb_fail(err, KB_BACKUP_CORRUPT, "the stored backup.json of backup '%s' names another manifest",
                       backup->backup_id);
    code = KB_FAILPOINT("manifest.before", err);
    if (code != KB_OK)
        return code;
    const kb_put_once_options options = {.max_stored_bytes = KB_MANIFEST_MAX_BYTES,
                                         .failpoint = "manifest.sent_no_reply"};
    kb_put_outcome outcome = KB_PUT_OTHER;
    code = kb_storage_put_once(storage, key, kb_view_of(kb_strbuf_view(&text), text.len), &options, &outcome,
                               NULL, err);
    if (code != KB_OK && code != KB_ERR_TOO_LARGE)
        return code;
    if (code != KB_OK || outcome == KB_PUT_OTHER)
        return kb_fail(
            err, KB_BACKUP_CORRUPT,
            "'%s' exists with other content and is left as it is (hint: the backup itself is whole, "
            "--from-backup-json reads it)",
            key);
    return KB_FAILPOINT("manifest.after", err);
}

kb_code kb_catalog_publish(kb_storage *storage, kb_backup **backup, kb_error *err)
{
    kb_code code = publish_record(storage, backup, err);
    if (code == KB_OK)
        code = KB_FAILPOINT("backupjson.after", err);
    return code == KB_OK ? publish_manifest(storage, *backup, err) : code;
}

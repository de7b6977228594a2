#include "worker/catalog/group_snapshot.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_read.h"
#include "common/data/json_write.h"
#include "worker/catalog/layout.h"
#include "worker/catalog/object_source.h"

/* ---- writing ---- */

static void put_places(kb_json_writer *w, const kb_group_entry *entry)
{
    const char *topic = NULL;
    for (size_t i = 0; i < entry->count; i++) {
        const kb_group_place *place = &entry->places[i];
        if (place->offset < 0)
            continue;
        if (topic == NULL || strcmp(topic, place->topic) != 0) {
            if (topic != NULL)
                kb_json_put_end_object(w);
            topic = place->topic;
            kb_json_put_name(w, topic);
            kb_json_put_begin_object(w);
        }
        KB_AUTOFREE char *partition = kb_asprintf("%" PRId32, place->partition);
        kb_json_field_i64(w, partition, place->offset);
    }
    if (topic != NULL)
        kb_json_put_end_object(w);
}

kb_code kb_group_snapshot_encode(const kb_group_set *set, int64_t time_ms, char **ret_text, size_t *ret_len,
                                 kb_error *err)
{
    KB_AUTO_STRBUF(text, KB_GROUP_SNAPSHOT_MAX_BYTES);
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *w = kb_json_writer_new(KB_JSON_PRETTY, &text);
    kb_json_put_begin_object(w);
    kb_json_field_i64(w, "snapshot_time", time_ms);
    kb_json_put_name(w, "groups");
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < set->count; i++) {
        kb_json_put_begin_object(w);
        kb_json_field_text(w, "group_id", set->groups[i].group);
        kb_json_put_name(w, "offsets");
        kb_json_put_begin_object(w);
        put_places(w, &set->groups[i]);
        kb_json_put_end_object(w);
        kb_json_put_end_object(w);
    }
    kb_json_put_end_array(w);
    kb_json_put_end_object(w);
    if (kb_json_writer_finish(w, err) != KB_OK)
        return kb_wrap(err, "writing the group snapshot");
    *ret_len = text.len;
    *ret_text = kb_strbuf_take(&text);
    return KB_OK;
}

/* ---- reading ---- */

typedef struct decoding {
    kb_json_reader *reader;
    kb_group_set *set;
    kb_group_snapshot_notes *notes;
} decoding;

/* A partition is written as a name, so as text. */
static bool parse_partition(kb_view name, int32_t *ret_partition)
{
    int64_t value = 0;
    if (name.len == 0 || name.len > 10)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] < '0' || name.data[i] > '9')
            return false;
        value = value * 10 + (name.data[i] - '0');
    }
    *ret_partition = (int32_t)value;
    return value <= INT32_MAX;
}

static kb_code read_partitions(decoding *d, kb_group_entry *entry, const char *topic, kb_error *err)
{
    kb_view name;
    kb_code code = kb_json_begin_object(d->reader, err);
    while (code == KB_OK && (code = kb_json_next_name(d->reader, &name, err)) == KB_OK) {
        int32_t partition = -1;
        int64_t offset;
        bool is_number = parse_partition(name, &partition);
        code = kb_json_get_i64(d->reader, &offset, err);
        if (code != KB_OK)
            break;
        if (is_number && offset >= 0)
            kb_group_entry_put(entry, topic, partition, offset, NULL);
        else
            d->notes->skipped++;
    }
    return code == KB_ERR_END ? KB_OK : code;
}

static kb_code read_offsets(decoding *d, kb_group_entry *entry, kb_error *err)
{
    kb_view name;
    kb_code code = kb_json_begin_object(d->reader, err);
    while (code == KB_OK && (code = kb_json_next_name(d->reader, &name, err)) == KB_OK) {
        KB_AUTOFREE char *topic = kb_strndup((const char *)name.data, name.len);
        code = read_partitions(d, entry, topic, err);
    }
    return code == KB_ERR_END ? KB_OK : code;
}

/* The name may stand behind the offsets, so these are collected first. */
static kb_code read_group(decoding *d, kb_error *err)
{
    kb_group_set one = {0};
    kb_group_entry *entry = kb_group_set_add(&one, "");
    KB_AUTOFREE char *group = NULL;
    kb_view name;
    kb_code code = kb_json_begin_object(d->reader, err);
    while (code == KB_OK && (code = kb_json_next_name(d->reader, &name, err)) == KB_OK) {
        if (kb_json_is(name, "group_id") && group == NULL)
            code = kb_json_get_text(d->reader, &group, err);
        else if (kb_json_is(name, "offsets"))
            code = read_offsets(d, entry, err);
        else
            code = kb_json_skip(d->reader, err);
    }
    code = code == KB_ERR_END ? KB_OK : code;
    if (code == KB_OK && group == NULL)
        code = kb_json_fail(d->reader, err, "a group without group_id");
    if (code == KB_OK && kb_group_set_find(d->set, group) != NULL)
        code = kb_json_fail(d->reader, err, "a group stands there twice");
    if (code == KB_OK) {
        kb_group_entry *added = kb_group_set_add(d->set, group);
        free(entry->group);
        entry->group = added->group;
        *added = *entry;
        *entry = (kb_group_entry){0};
    }
    kb_group_set_done(&one);
    return code;
}

static kb_code read_groups(decoding *d, kb_error *err)
{
    kb_code code = kb_json_begin_array(d->reader, err);
    while (code == KB_OK && (code = kb_json_next_element(d->reader, err)) == KB_OK)
        code = read_group(d, err);
    return code == KB_ERR_END ? KB_OK : code;
}

static kb_code read_snapshot(decoding *d, kb_error *err)
{
    kb_view name;
    kb_code code = kb_json_begin_object(d->reader, err);
    while (code == KB_OK && (code = kb_json_next_name(d->reader, &name, err)) == KB_OK) {
        if (kb_json_is(name, "groups"))
            code = read_groups(d, err);
        else if (kb_json_is(name, "snapshot_time"))
            code = kb_json_get_i64(d->reader, &d->notes->time_ms, err);
        else
            code = kb_json_skip(d->reader, err);
    }
    code = code == KB_ERR_END ? KB_OK : code;
    return code == KB_OK ? kb_json_end(d->reader, err) : code;
}

kb_code kb_group_snapshot_decode(kb_view text, kb_group_set *ret_set, kb_group_snapshot_notes *ret_notes,
                                 kb_error *err)
{
    KB_CLEANUP(kb_json_reader_free_at) kb_json_reader *reader = kb_json_reader_new(text, NULL);
    KB_CLEANUP(kb_group_set_done) kb_group_set set = {0};
    kb_group_snapshot_notes notes = {0};
    decoding d = {reader, &set, &notes};
    if (read_snapshot(&d, err) != KB_OK)
        return err->code;
    *ret_set = set;
    *ret_notes = notes;
    set = (kb_group_set){0};
    return KB_OK;
}

kb_code kb_group_snapshot_read(kb_storage *storage, const kb_backup *backup, kb_group_set *ret_set,
                               kb_group_snapshot_notes *ret_notes, kb_error *err)
{
    if (!backup->foreign && backup->groups == NULL)
        return kb_fail(err, KB_ERR_NOT_FOUND, "backup '%s' has no group snapshot", backup->backup_id);
    KB_AUTOFREE char *key =
        backup->groups != NULL ? kb_strdup(backup->groups->key) : kb_layout_groups_key(backup->backup_id);
    KB_AUTO_BLOB(blob);
    kb_code code = kb_storage_get(storage, key, KB_GROUP_SNAPSHOT_MAX_BYTES, &blob, err);
    if (code == KB_ERR_NOT_FOUND && backup->groups != NULL)
        return kb_fail(err, KB_ERR_FORMAT, "group snapshot '%s' is missing", key);
    if (code != KB_OK)
        return code;
    if (backup->groups != NULL) {
        uint8_t sha256[KB_SHA256_SIZE];
        kb_sha256(blob.data, blob.len, sha256);
        if (memcmp(sha256, backup->groups->sha256, sizeof sha256) != 0)
            return kb_fail(err, KB_ERR_FORMAT, "group snapshot '%s' is not the one that backup.json names",
                           key);
    }
    code = kb_group_snapshot_decode(kb_view_of(blob.data, blob.len), ret_set, ret_notes, err);
    return code == KB_OK ? KB_OK : kb_wrap(err, "group snapshot '%s'", key);
}

/* ---- checking ---- */

kb_code kb_group_snapshot_verify(kb_storage *storage, const kb_backup *backup, kb_error *err)
{
    if (backup->groups == NULL)
        return KB_OK;
    const char *key = backup->groups->key;
    kb_object_source *source KB_CLEANUP(kb_object_source_free_at) = NULL;
    kb_code code = kb_object_source_open(storage, key, KB_GROUP_SNAPSHOT_MAX_BYTES, &source, err);
    if (code == KB_ERR_NOT_FOUND)
        return kb_fail(err, KB_ERR_FORMAT, "group snapshot '%s' is missing", key);
    if (code == KB_OK)
        code = kb_object_source_drain(source, err);
    if (code != KB_OK)
        return code;
    uint8_t sha256[KB_SHA256_SIZE];
    kb_object_source_sha256(source, sha256);
    if (memcmp(sha256, backup->groups->sha256, sizeof sha256) != 0)
        return kb_fail(err, KB_ERR_FORMAT, "group snapshot '%s' is not the one that backup.json names", key);
    return KB_OK;
}

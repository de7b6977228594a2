#include "worker/restore/start_object.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/catalog/catalog_json.h"
#include "worker/catalog/json_fields.h"
#include "worker/catalog/layout.h"
#include "worker/catalog/object_source.h"

#define KB_START_MAX_BYTES ((size_t)64 << 20)
#define KB_START_FORMAT_VERSION 1
#define KB_ATTEMPT_TRIES 1000
#define KB_TOPIC_ID_TEXT_SIZE KB_BASE64_TEXT_SIZE(KB_TOPIC_ID_SIZE)

static void target_done(kb_start_target *target)
{
    free(target->topic);
}

void kb_start_object_done(kb_start_object *start)
{
    for (size_t i = 0; i < start->target_count; i++)
        target_done(&start->targets[i]);
    free(start->targets);
    free(start->restore_id);
    free(start->backup_id);
    free(start->delivery);
    *start = (kb_start_object){0};
}

void kb_start_object_add(kb_start_object *start, const char *topic, const uint8_t *topic_id,
                         const kb_start_target *target)
{
    start->targets =
        kb_grow(start->targets, start->target_count, &start->target_capacity, sizeof *start->targets);
    kb_start_target *added = &start->targets[start->target_count++];
    *added = *target;
    added->topic = kb_strdup(topic);
    added->has_topic_id = topic_id != NULL;
    memset(added->topic_id, 0, sizeof added->topic_id);
    if (topic_id != NULL)
        memcpy(added->topic_id, topic_id, sizeof added->topic_id);
}

static int compare_place(const kb_start_target *target, const char *topic, int32_t partition)
{
    int order = strcmp(target->topic, topic);
    if (order != 0)
        return order;
    return target->partition < partition ? -1 : target->partition > partition;
}

const kb_start_target *kb_start_object_find(const kb_start_object *start, const char *topic,
                                            int32_t partition)
{
    size_t low = 0;
    size_t high = start->target_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_place(&start->targets[middle], topic, partition);
        if (order == 0)
            return &start->targets[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* ---- encoding ---- */

static void put_target(kb_json_writer *w, const kb_start_target *target)
{
    char id[KB_TOPIC_ID_TEXT_SIZE];
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "topic", target->topic);
    if (target->has_topic_id)
        (void)kb_base64url_encode(target->topic_id, KB_TOPIC_ID_SIZE, id);
    kb_json_field_text(w, "topicId", target->has_topic_id ? id : NULL);
    kb_json_field_i64(w, "partition", target->partition);
    kb_json_field_i64(w, "startOffset", target->start_offset);
    kb_json_field_bool(w, "created", target->created);
    kb_json_put_end_object(w);
}

static kb_code finish(kb_json_writer *w, kb_strbuf *text, kb_error *err)
{
    static const uint8_t no_hash[KB_SHA256_SIZE] = {0};
    kb_put_hash(w, "sha256", no_hash);
    kb_json_put_end_object(w);
    if (kb_json_writer_finish(w, err) != KB_OK)
        return err->code;
    return kb_self_hash_write(text->data, text->len, err);
}

kb_code kb_start_object_encode(const kb_start_object *start, char **ret_text, size_t *ret_len, kb_error *err)
{
    KB_AUTO_STRBUF(text, KB_START_MAX_BYTES);
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *w = kb_json_writer_new(KB_JSON_PRETTY, &text);
    kb_json_put_begin_object(w);
    kb_json_field_i64(w, "formatVersion", KB_START_FORMAT_VERSION);
    kb_json_field_text(w, "restoreId", start->restore_id);
    kb_json_field_text(w, "backupId", start->backup_id);
    kb_put_hash(w, "backupSha256", start->backup_sha256);
    kb_put_hash(w, "planSha256", start->plan_sha256);
    kb_json_field_text(w, "delivery", start->delivery);
    kb_json_put_name(w, "targets");
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < start->target_count; i++)
        put_target(w, &start->targets[i]);
    kb_json_put_end_array(w);
    if (finish(w, &text, err) != KB_OK)
        return kb_wrap(err, "writing the start object");
    *ret_len = text.len;
    *ret_text = kb_strbuf_take(&text);
    return KB_OK;
}

/* ---- decoding ---- */

static kb_code read_topic_id(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    kb_start_target *to = target;
    kb_view text;
    if (kb_json_get_string(reader, &text, err) != KB_OK)
        return err->code;
    uint8_t id[KB_BASE64_DATA_SIZE(KB_TOPIC_ID_TEXT_SIZE)];
    size_t len = 0;
    if (text.len != KB_TOPIC_ID_TEXT_SIZE - 1 - 2)
        return kb_json_fail(reader, err, "not a topic id");
    if (kb_base64url_decode((const char *)text.data, text.len, id, &len, err) != KB_OK)
        return kb_fields_locate(reader, err);
    memcpy(to->topic_id, id, KB_TOPIC_ID_SIZE);
    to->has_topic_id = true;
    return KB_OK;
}

static const kb_field target_fields[] = {
    {"topic", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(kb_start_target, topic), NULL},
    {"topicId", KB_FIELD_CUSTOM, KB_FIELD_NULLABLE, 0, read_topic_id},
    {"partition", KB_FIELD_COUNT32, KB_FIELD_REQUIRED, offsetof(kb_start_target, partition), NULL},
    {"startOffset", KB_FIELD_COUNT, KB_FIELD_REQUIRED, offsetof(kb_start_target, start_offset), NULL},
    {"created", KB_FIELD_BOOL, KB_FIELD_REQUIRED, offsetof(kb_start_target, created), NULL},
};

static kb_code read_target(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    kb_start_object *start = target;
    kb_start_target read = {0};
    kb_code code = kb_fields_read(reader, target_fields, KB_ARRAY_LEN(target_fields), &read, NULL, NULL, err);
    if (code == KB_OK && start->target_count > 0 &&
        compare_place(&start->targets[start->target_count - 1], read.topic, read.partition) >= 0)
        code = kb_json_fail(reader, err, "targets do not ascend");
    if (code == KB_OK)
        kb_start_object_add(start, read.topic, read.has_topic_id ? read.topic_id : NULL, &read);
    target_done(&read);
    return code;
}

static kb_code read_targets(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    return kb_elements_read(reader, read_target, target, ctx, err);
}

static kb_code read_version(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)target;
    (void)ctx;
    int64_t version;
    return kb_json_get_i64_range(reader, KB_START_FORMAT_VERSION, KB_START_FORMAT_VERSION, &version, err);
}

static const kb_field start_fields[] = {
    {"formatVersion", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_version},
    {"restoreId", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(kb_start_object, restore_id), NULL},
    {"backupId", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(kb_start_object, backup_id), NULL},
    {"backupSha256", KB_FIELD_SHA256, KB_FIELD_REQUIRED, offsetof(kb_start_object, backup_sha256), NULL},
    {"planSha256", KB_FIELD_SHA256, KB_FIELD_REQUIRED, offsetof(kb_start_object, plan_sha256), NULL},
    {"delivery", KB_FIELD_TEXT, KB_FIELD_REQUIRED, offsetof(kb_start_object, delivery), NULL},
    {"targets", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_targets},
};

kb_code kb_start_object_decode(const char *text, size_t len, kb_start_object *ret_start, kb_error *err)
{
    if (kb_self_hash_check(text, len, err) != KB_OK)
        return err->code;
    KB_CLEANUP(kb_json_reader_free_at)
    kb_json_reader *reader = kb_json_reader_new(kb_view_of(text, len), NULL);
    KB_CLEANUP(kb_start_object_done) kb_start_object start = {0};
    kb_code code = kb_fields_read(reader, start_fields, KB_ARRAY_LEN(start_fields), &start, NULL, NULL, err);
    if (code == KB_OK)
        code = kb_json_end(reader, err);
    if (code != KB_OK)
        return code;
    *ret_start = start;
    start = (kb_start_object){0};
    return KB_OK;
}

/* ---- the past ---- */

void kb_restore_past_done(kb_restore_past *past)
{
    kb_start_object_done(&past->start);
    for (size_t i = 0; i < past->creating_count; i++)
        free(past->creating[i]);
    free(past->creating);
    *past = (kb_restore_past){0};
}

bool kb_restore_past_was_creating(const kb_restore_past *past, const char *topic)
{
    for (size_t i = 0; i < past->creating_count; i++)
        if (strcmp(past->creating[i], topic) == 0)
            return true;
    return false;
}

typedef struct listing {
    const char *restore_id;
    uint32_t last_start;
    bool has_start;
    uint32_t last_attempt;
    uint32_t last_done;
    bool has_done;
} listing;

static kb_code see_object(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    (void)err;
    listing *seen = ctx;
    kb_restore_object object;
    uint32_t n;
    if (!kb_layout_parse_restore_key(seen->restore_id, entry->key, &object, &n))
        return KB_OK;
    if (object == KB_RESTORE_START && (!seen->has_start || n > seen->last_start)) {
        seen->last_start = n;
        seen->has_start = true;
    }
    if (object == KB_RESTORE_ATTEMPT && n > seen->last_attempt)
        seen->last_attempt = n;
    if (object == KB_RESTORE_DONE && (!seen->has_done || n > seen->last_done)) {
        seen->last_done = n;
        seen->has_done = true;
    }
    return KB_OK;
}

static kb_code read_creating(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    (void)ctx;
    kb_restore_past *past = target;
    char *name;
    if (kb_json_get_text(reader, &name, err) != KB_OK)
        return err->code;
    if (kb_restore_past_was_creating(past, name)) {
        free(name);
        return KB_OK;
    }
    past->creating = kb_grow(past->creating, past->creating_count, &past->creating_capacity, sizeof(char *));
    past->creating[past->creating_count++] = name;
    return KB_OK;
}

static kb_code read_all_creating(kb_json_reader *reader, void *target, void *ctx, kb_error *err)
{
    return kb_elements_read(reader, read_creating, target, ctx, err);
}

static kb_code read_attempt(kb_storage *storage, const char *restore_id, uint32_t n, kb_restore_past *past,
                            kb_error *err)
{
    static const kb_field fields[] = {{"creating", KB_FIELD_CUSTOM, 0, 0, read_all_creating}};
    KB_AUTOFREE char *key = kb_layout_restore_key(restore_id, KB_RESTORE_ATTEMPT, n);
    KB_AUTO_BLOB(blob);
    kb_code code = kb_storage_get(storage, key, KB_START_MAX_BYTES, &blob, err);
    if (code == KB_ERR_NOT_FOUND) {
        kb_error_done(err);
        return KB_OK;
    }
    if (code != KB_OK)
        return code;
    KB_CLEANUP(kb_json_reader_free_at)
    kb_json_reader *reader = kb_json_reader_new(kb_view_of(blob.data, blob.len), NULL);
    code = kb_fields_read(reader, fields, KB_ARRAY_LEN(fields), past, NULL, NULL, err);
    return code == KB_OK ? KB_OK : kb_wrap_as(err, KB_BACKUP_CORRUPT, "object '%s'", key);
}

static kb_code read_start(kb_storage *storage, const char *key, uint32_t n, kb_restore_past *past,
                          kb_error *err)
{
    KB_AUTO_BLOB(blob);
    if (kb_storage_get(storage, key, KB_START_MAX_BYTES, &blob, err) != KB_OK)
        return err->code;
    if (kb_start_object_decode((const char *)blob.data, blob.len, &past->start, err) != KB_OK)
        return kb_wrap_as(err, KB_BACKUP_CORRUPT, "start object '%s'", key);
    past->start.n = n;
    past->has_start = true;
    return KB_OK;
}

typedef struct done_object {
    int64_t records;
    uint8_t plan_sha256[KB_SHA256_SIZE];
} done_object;

static const kb_field done_fields[] = {
    {"formatVersion", KB_FIELD_CUSTOM, KB_FIELD_REQUIRED, 0, read_version},
    {"planSha256", KB_FIELD_SHA256, KB_FIELD_REQUIRED, offsetof(done_object, plan_sha256), NULL},
    {"records", KB_FIELD_COUNT, KB_FIELD_REQUIRED, offsetof(done_object, records), NULL},
};

static kb_code read_done(kb_storage *storage, const char *restore_id, kb_restore_past *past, kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_restore_key(restore_id, KB_RESTORE_DONE, past->start.n);
    KB_AUTO_BLOB(blob);
    if (kb_storage_get(storage, key, KB_START_MAX_BYTES, &blob, err) != KB_OK)
        return err->code;
    KB_CLEANUP(kb_json_reader_free_at)
    kb_json_reader *reader = kb_json_reader_new(kb_view_of(blob.data, blob.len), NULL);
    done_object done = {0};
    kb_code code = kb_self_hash_check((const char *)blob.data, blob.len, err);
    if (code == KB_OK)
        code = kb_fields_read(reader, done_fields, KB_ARRAY_LEN(done_fields), &done, NULL, NULL, err);
    if (code != KB_OK)
        return kb_wrap_as(err, KB_BACKUP_CORRUPT, "object '%s'", key);
    past->is_done = memcmp(done.plan_sha256, past->start.plan_sha256, KB_SHA256_SIZE) == 0;
    past->done_records = done.records;
    return KB_OK;
}

static kb_code read_state_file(const char *path, const char *restore_id, kb_restore_past *past, kb_error *err)
{
    KB_AUTOFREE uint8_t *text = NULL;
    size_t len = 0;
    kb_code code = kb_file_read(path, KB_START_MAX_BYTES, &text, &len, err);
    if (code == KB_ERR_NOT_FOUND) {
        kb_error_done(err);
        return KB_OK;
    }
    if (code != KB_OK)
        return kb_wrap(err, "restore.checkpoint_state");
    if (kb_start_object_decode((const char *)text, len, &past->start, err) != KB_OK)
        return kb_wrap_as(err, KB_CONFIG_INVALID, "restore.checkpoint_state: '%s'", path);
    if (strcmp(past->start.restore_id, restore_id) != 0)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "restore.checkpoint_state: '%s' belongs to restore '%s', not to '%s'", path,
                       past->start.restore_id, restore_id);
    past->has_start = true;
    return KB_OK;
}

kb_code kb_restore_past_read(kb_storage *storage, const char *restore_id, const char *state_file,
                             kb_restore_past *ret_past, kb_error *err)
{
    KB_CLEANUP(kb_restore_past_done) kb_restore_past past = {0};
    KB_AUTOFREE char *prefix = kb_layout_restore_prefix(restore_id);
    listing seen = {.restore_id = restore_id};
    if (kb_storage_list(storage, prefix, see_object, &seen, err) != KB_OK)
        return kb_wrap(err, "looking for earlier attempts of restore '%s'", restore_id);
    past.last_attempt = seen.last_attempt;
    if (seen.has_start) {
        KB_AUTOFREE char *key = kb_layout_restore_key(restore_id, KB_RESTORE_START, seen.last_start);
        if (read_start(storage, key, seen.last_start, &past, err) != KB_OK)
            return err->code;
    } else if (state_file != NULL && read_state_file(state_file, restore_id, &past, err) != KB_OK) {
        return err->code;
    }
    if (seen.has_done && seen.has_start && seen.last_done == seen.last_start &&
        read_done(storage, restore_id, &past, err) != KB_OK)
        return err->code;
    for (uint32_t n = 1; n <= seen.last_attempt; n++)
        if (read_attempt(storage, restore_id, n, &past, err) != KB_OK)
            return err->code;
    *ret_past = past;
    past = (kb_restore_past){0};
    return KB_OK;
}

/* ---- this attempt ---- */

static kb_code encode_attempt(const kb_attempt *attempt, uint32_t n, kb_strbuf *text, kb_error *err)
{
    char time[KB_RFC3339_SIZE];
    kb_rfc3339_format(kb_clock_wall_ms(), time);
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *w = kb_json_writer_new(KB_JSON_PRETTY, text);
    kb_json_put_begin_object(w);
    kb_json_field_i64(w, "formatVersion", KB_START_FORMAT_VERSION);
    kb_json_field_text(w, "restoreId", attempt->restore_id);
    kb_json_field_i64(w, "attempt", n);
    kb_json_field_text(w, "attemptId", attempt->attempt_id);
    kb_json_field_text(w, "time", time);
    kb_json_put_name(w, "holder");
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "jobName", attempt->holder->job_name);
    kb_json_field_text(w, "jobUid", attempt->holder->job_uid);
    kb_json_field_text(w, "podName", attempt->holder->pod_name);
    kb_json_field_text(w, "host", attempt->holder->host);
    kb_json_field_i64(w, "pid", attempt->holder->pid);
    kb_json_put_end_object(w);
    kb_json_put_name(w, "creating");
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < attempt->creating_count; i++)
        kb_json_put_text(w, attempt->creating[i]);
    kb_json_put_end_array(w);
    return finish(w, text, err);
}

kb_code kb_attempt_take(kb_storage *storage, const kb_attempt *attempt, uint32_t *ret_n, kb_error *err)
{
    for (uint32_t n = attempt->last_attempt + 1; n <= attempt->last_attempt + KB_ATTEMPT_TRIES; n++) {
        KB_AUTO_STRBUF(text, KB_START_MAX_BYTES);
        if (encode_attempt(attempt, n, &text, err) != KB_OK)
            return kb_wrap(err, "writing an attempt object");
        KB_AUTOFREE char *key = kb_layout_restore_key(attempt->restore_id, KB_RESTORE_ATTEMPT, n);
        kb_put_outcome outcome = KB_PUT_OTHER;
        kb_put_once_options options = {.max_stored_bytes = KB_START_MAX_BYTES};
        kb_code code =
            kb_storage_put_once(storage, key, kb_view_of(text.data, text.len), &options, &outcome, NULL, err);
        if (code == KB_STORAGE_ACCESS_DENIED) {
            kb_log(KB_LOG_WARN, "the store cannot be written: this attempt has no fence", KB_ERRTEXT(err));
            kb_error_done(err);
            *ret_n = 0;
            return KB_OK;
        }
        if (code != KB_OK)
            return kb_wrap(err, "taking the number of this attempt");
        if (outcome != KB_PUT_OTHER) {
            *ret_n = n;
            return KB_OK;
        }
    }
    return kb_fail_retryable(err, KB_FENCED, "other attempts of restore '%s' took every number",
                             attempt->restore_id);
}

/* Whole or not at all: a run that is killed while writing leaves no half file under the name. */
static kb_code write_state_file(const char *path, const char *text, size_t len, kb_error *err)
{
    KB_AUTOFREE char *temp = kb_asprintf("%s.tmp", path);
    KB_AUTO_FD int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return kb_file_fail(err, errno, "create", temp);
    kb_code code = kb_write_all(fd, text, len, temp, err);
    if (code == KB_OK)
        code = kb_fsync(fd, temp, err);
    if (code == KB_OK)
        code = kb_fd_close(&fd, temp, err);
    if (code == KB_OK && rename(temp, path) != 0)
        code = kb_file_fail(err, errno, "rename to", path);
    return code;
}

kb_code kb_start_object_write(kb_storage *storage, const kb_start_object *start, const char *state_file,
                              kb_error *err)
{
    KB_AUTOFREE char *text = NULL;
    size_t len = 0;
    if (kb_start_object_encode(start, &text, &len, err) != KB_OK)
        return err->code;
    if (state_file != NULL)
        return write_state_file(state_file, text, len, err) == KB_OK
                   ? KB_OK
                   : kb_wrap(err, "restore.checkpoint_state");
    KB_AUTOFREE char *key = kb_layout_restore_key(start->restore_id, KB_RESTORE_START, start->n);
    kb_put_outcome outcome = KB_PUT_OTHER;
    kb_put_once_options options = {.max_stored_bytes = KB_START_MAX_BYTES};
    if (kb_storage_put_once(storage, key, kb_view_of(text, len), &options, &outcome, NULL, err) != KB_OK)
        return kb_wrap(err, "writing the start object");
    if (outcome == KB_PUT_OTHER)
        return kb_fail_retryable(err, KB_FENCED,
                                 "another attempt of restore '%s' wrote its start object '%s'",
                                 start->restore_id, key);
    return KB_OK;
}

kb_code kb_restore_done_write(kb_storage *storage, const kb_start_object *start, int64_t records,
                              kb_error *err)
{
    KB_AUTO_STRBUF(text, KB_START_MAX_BYTES);
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *w = kb_json_writer_new(KB_JSON_PRETTY, &text);
    char time[KB_RFC3339_SIZE];
    kb_rfc3339_format(kb_clock_wall_ms(), time);
    kb_json_put_begin_object(w);
    kb_json_field_i64(w, "formatVersion", KB_START_FORMAT_VERSION);
    kb_json_field_text(w, "restoreId", start->restore_id);
    kb_put_hash(w, "planSha256", start->plan_sha256);
    kb_json_field_i64(w, "records", records);
    kb_json_field_text(w, "time", time);
    if (finish(w, &text, err) != KB_OK)
        return err->code;
    KB_AUTOFREE char *key = kb_layout_restore_key(start->restore_id, KB_RESTORE_DONE, start->n);
    kb_code code = kb_storage_put_if_absent(storage, key, kb_view_of(text.data, text.len), err);
    if (code != KB_ERR_EXISTS)
        return code;
    kb_error_done(err);
    return KB_OK;
}

#include "worker/validate/validate.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "worker/catalog/group_snapshot.h"
#include "worker/catalog/layout.h"

/* Of limits.memory_bytes: what the process needs besides buffers (worker.md, 12). */
#define KB_MEMORY_RESERVE_BYTES ((uint64_t)32 << 20)
#define KB_MEMORY_FLOOR_BYTES ((uint64_t)16 << 20)

void kb_validate_result_done(kb_validate_result *result)
{
    if (result->backup_id == NULL)
        return;
    free(result->backup_id);
    kb_backup_free(result->backup);
    kb_problem_list_done(&result->problems);
    *result = (kb_validate_result){0};
}

bool kb_validate_is_valid(const kb_validate_result *result)
{
    return result->backup != NULL && result->problems.total == 0;
}

/* ---- the index ---- */

/* A problem of one of the objects that stand beside the segments. */
static void note_index(kb_validate_result *result, kb_object_fault fault, const char *key, const char *detail)
{
    kb_problem_list_add(&result->problems, KB_PROBLEM_RANK_INDEX, fault, key, detail);
}

static bool is_absent(kb_storage *storage, const char *key)
{
    KB_AUTO_ERROR(err);
    kb_object_info info;
    return kb_storage_head(storage, key, &info, &err) == KB_ERR_NOT_FOUND;
}

static void note_bad_index(const kb_validate_settings *settings, kb_validate_result *result, const char *key,
                           const kb_error *cause)
{
    kb_object_fault fault = KB_FAULT_MISMATCH;
    if (cause->code == KB_STORAGE_IO_ERROR)
        fault = KB_FAULT_UNREADABLE;
    else if (is_absent(settings->storage, key))
        fault = KB_FAULT_MISSING;
    note_index(result, fault, key, kb_error_text(cause));
}

/* Whether the failure to open says that the backup is bad, rather than that nobody could look. */
static bool is_bad_index(kb_code code)
{
    return code == KB_BACKUP_CORRUPT || code == KB_STORAGE_IO_ERROR;
}

static kb_code open_half(const kb_validate_settings *settings, bool from_manifest, kb_validate_result *result,
                         kb_error *err)
{
    kb_catalog_open_options options = settings->open;
    options.from_manifest = from_manifest;
    options.from_backup_json = !from_manifest;
    kb_catalog_state ignored_state;
    return kb_catalog_open(settings->storage, settings->backup_id, &options, &result->backup, &ignored_state,
                           err);
}

/* A backup of another program has no backup.json to miss. */
static bool is_ours(const kb_validate_settings *settings)
{
    KB_AUTOFREE char *record = kb_layout_backup_json_key(settings->backup_id);
    KB_AUTOFREE char *journal = kb_layout_journal_key(settings->backup_id, 0);
    return !is_absent(settings->storage, record) || !is_absent(settings->storage, journal);
}

/*
 * One of the two index objects is bad: the one without which the backup opens. backup.json is asked first,
 * since it proves itself by its own hash.
 */
static kb_code open_damaged(const kb_validate_settings *settings, kb_validate_result *result,
                            const kb_error *cause, kb_error *err)
{
    KB_AUTO_ERROR(record_err);
    KB_AUTO_ERROR(manifest_err);
    KB_AUTOFREE char *record_key = kb_layout_backup_json_key(settings->backup_id);
    KB_AUTOFREE char *manifest_key = kb_layout_manifest_key(settings->backup_id);
    result->state = KB_CATALOG_DAMAGED;
    kb_code code = open_half(settings, false, result, &record_err);
    if (code == KB_OK) {
        note_bad_index(settings, result, manifest_key, cause);
        return KB_OK;
    }
    if (is_bad_index(code))
        code = open_half(settings, true, result, &manifest_err);
    if (code != KB_OK && !is_bad_index(code)) {
        kb_error_move(err, manifest_err.code != KB_OK ? &manifest_err : &record_err);
        return code;
    }
    if (code == KB_OK || is_ours(settings))
        note_bad_index(settings, result, record_key, &record_err);
    if (code != KB_OK)
        note_bad_index(settings, result, manifest_key, &manifest_err);
    return KB_OK;
}

static kb_code open_index(const kb_validate_settings *settings, kb_validate_result *result, kb_error *err)
{
    KB_AUTO_ERROR(cause);
    kb_code code = kb_catalog_open(settings->storage, settings->backup_id, &settings->open, &result->backup,
                                   &result->state, &cause);
    if (code == KB_OK)
        return KB_OK;
    if (is_bad_index(code))
        return open_damaged(settings, result, &cause, err);
    kb_error_move(err, &cause);
    return code;
}

/* ---- ranges and groups ---- */

static void note_range(kb_validate_result *result, const char *topic, const char *text)
{
    KB_AUTOFREE char *key = kb_layout_backup_json_key(result->backup_id);
    KB_AUTOFREE char *detail = kb_asprintf("topic '%s' %s", topic, text);
    note_index(result, KB_FAULT_RANGE, key, detail);
}

static void check_partition(kb_validate_result *result, const kb_topic_entry *topic,
                            const kb_partition_entry *partition)
{
    KB_AUTO_ERROR(err);
    if (kb_partition_check_tiling(partition, &err) != KB_OK) {
        KB_AUTOFREE char *text =
            kb_asprintf("partition %" PRId32 ": %s", partition->partition, kb_error_text(&err));
        note_range(result, topic->name, text);
    } else if (topic->state == KB_TOPIC_OK && partition->to != partition->cut) {
        KB_AUTOFREE char *text =
            kb_asprintf("partition %" PRId32 ": covered to %" PRId64 ", but the backup was to reach %" PRId64,
                        partition->partition, partition->to, partition->cut);
        note_range(result, topic->name, text);
    }
}

/* backup.json says what the segments cover; a manifest alone does not. */
static void check_ranges(kb_validate_result *result)
{
    const kb_backup *backup = result->backup;
    for (size_t t = 0; t < backup->topic_count && !backup->foreign; t++) {
        const kb_topic_entry *topic = &backup->topics[t];
        if (topic->state == KB_TOPIC_OK && topic->listed_count != (size_t)topic->partition_count) {
            KB_AUTOFREE char *text = kb_asprintf("has %" PRId32 " partitions, %zu are listed",
                                                 topic->partition_count, topic->listed_count);
            note_range(result, topic->name, text);
        }
        for (size_t p = 0; p < topic->listed_count; p++)
            check_partition(result, topic, &topic->partitions[p]);
    }
}

static kb_code check_groups(const kb_validate_settings *settings, kb_validate_result *result, kb_error *err)
{
    const kb_groups_ref *groups = result->backup->groups;
    if (groups == NULL)
        return KB_OK;
    KB_AUTO_ERROR(cause);
    kb_object_info info;
    kb_code code = kb_storage_head(settings->storage, groups->key, &info, &cause);
    kb_object_fault fault = code == KB_ERR_NOT_FOUND ? KB_FAULT_MISSING : KB_FAULT_MISMATCH;
    if (code == KB_OK)
        code = kb_group_snapshot_verify(settings->storage, result->backup, &cause);
    if (code == KB_STORAGE_IO_ERROR)
        fault = KB_FAULT_UNREADABLE;
    switch ((int)code) {
    case KB_OK:
        return KB_OK;
    case KB_ERR_NOT_FOUND:
    case KB_ERR_FORMAT:
    case KB_ERR_TOO_LARGE:
    case KB_BACKUP_CORRUPT:
    case KB_STORAGE_IO_ERROR:
        note_index(result, fault, groups->key, kb_error_text(&cause));
        return KB_OK;
    default:
        kb_error_move(err, &cause);
        return code;
    }
}

/* ---- objects ---- */

/* 80 % of the limit less a reserve, as for the other commands. */
static uint64_t memory_budget(uint64_t limit_bytes)
{
    uint64_t most = limit_bytes / 5 * 4;
    if (most < KB_MEMORY_RESERVE_BYTES + KB_MEMORY_FLOOR_BYTES)
        return KB_MEMORY_FLOOR_BYTES;
    return most - KB_MEMORY_RESERVE_BYTES;
}

static kb_code check_objects(const kb_validate_settings *settings, kb_validate_result *result, kb_error *err)
{
    KB_CLEANUP(kb_object_table_done) kb_object_table table;
    kb_object_table_init(&table, result->backup);
    kb_code code = kb_presence_check(settings->storage, &table, settings->stop, &result->problems,
                                     &result->orphans, err);
    if (code != KB_OK || !settings->deep)
        return code;
    uint64_t memory_bytes = memory_budget(settings->memory_bytes);
    if (settings->metrics != NULL)
        kb_metric_set(settings->metrics->memory_budget, (double)memory_bytes);
    kb_deep_options deep = {
        .storage = settings->storage,
        .sample = settings->sample,
        .threads = settings->threads,
        .memory_bytes = memory_bytes,
        .stop = settings->stop,
        .progress = settings->progress,
        .metrics = settings->metrics,
    };
    return kb_deep_check(&deep, &table, &result->problems, &result->deep, err);
}

static kb_code check_backup(const kb_validate_settings *settings, kb_validate_result *result, kb_error *err)
{
    if (kb_backup_totals_of(result->backup, &result->totals, err) != KB_OK)
        return err->code;
    if (settings->progress != NULL)
        kb_progress_set_totals(settings->progress, (int32_t)result->totals.topics,
                               (int32_t)result->totals.partitions);
    check_ranges(result);
    kb_code code = check_groups(settings, result, err);
    return code == KB_OK ? check_objects(settings, result, err) : code;
}

kb_code kb_validate_run(const kb_validate_settings *settings, kb_validate_result *ret_result, kb_error *err)
{
    const kb_clock *clock = settings->clock != NULL ? settings->clock : kb_clock_system();
    int64_t began_ms = kb_clock_now_boot_ms(clock);
    *ret_result = (kb_validate_result){0};
    KB_CLEANUP(kb_validate_result_done)
    kb_validate_result result = {
        .backup_id = kb_strdup(settings->backup_id), .is_deep = settings->deep, .sample = settings->sample};
    kb_code code = open_index(settings, &result, err);
    if (code == KB_OK && result.backup != NULL)
        code = check_backup(settings, &result, err);
    if (code != KB_OK)
        return code;
    kb_problem_list_sort(&result.problems);
    result.duration_ms = kb_clock_now_boot_ms(clock) - began_ms;
    *ret_result = result;
    result = (kb_validate_result){0};
    return KB_OK;
}

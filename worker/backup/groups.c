#include "worker/backup/groups.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/catalog/group_snapshot.h"
#include "worker/catalog/layout.h"
#include "worker/kafka/kafka_groups_live.h"

#define KB_GROUPS_DEADLINE_MS 300000

/* What a reading of the cluster yielded. */
typedef struct reading {
    kb_group_set set;  /* groups with offsets on topics of the backup */
    int64_t time_ms;   /* before the first question */
    size_t listed;     /* groups of the cluster */
    size_t failed;     /* of these: not read */
    char *failure;     /* what is missing, NULL = nothing */
    bool is_worthless; /* nothing at all was learned */
} reading;

static void reading_done(reading *read)
{
    kb_group_set_done(&read->set);
    free(read->failure);
}

/* ---- reading ---- */

/* Keeps the places with an offset on topics of the backup. */
static void keep(const kb_backup *backup, const kb_group_entry *from, kb_group_set *to)
{
    kb_group_entry *entry = NULL;
    for (size_t i = 0; i < from->count; i++) {
        const kb_group_place *place = &from->places[i];
        if (place->offset < 0 || kb_backup_find_topic(backup, place->topic) == NULL)
            continue;
        if (entry == NULL)
            entry = kb_group_set_add(to, from->group);
        kb_group_entry_put(entry, place->topic, place->partition, place->offset, NULL);
    }
}

/* A place of a selected topic that could not be read fails its group. */
static bool has_failed(const kb_backup *backup, const kb_group_entry *entry)
{
    if (entry->error_number != 0)
        return true;
    for (size_t i = 0; i < entry->count; i++)
        if (entry->places[i].error_number != 0 &&
            kb_backup_find_topic(backup, entry->places[i].topic) != NULL)
            return true;
    return false;
}

static void note_failure(reading *read, const kb_group_entry *entry)
{
    if (read->failed++ > 0)
        return;
    free(read->failure);
    read->failure =
        kb_asprintf("group '%s': %s", entry->group,
                    entry->error_text != NULL ? entry->error_text : kb_kafka_error_name(entry->error_number));
}

static kb_code list(kb_kafka_groups *groups, const kb_kafka_call *call, kb_group_infos *infos, reading *read,
                    kb_error *err)
{
    if (kb_kafka_groups_list(groups, call, infos, err) != KB_OK) {
        if (err->code != KB_KAFKA_ACCESS_DENIED)
            return err->code;
        read->is_worthless = true;
        read->failure = kb_strdup(kb_error_text(err));
        kb_error_done(err);
        return KB_OK;
    }
    if (infos->failures > 0)
        read->failure = kb_asprintf("%zu brokers could not list their groups: %s", infos->failures,
                                    infos->failure != NULL ? infos->failure : "");
    read->is_worthless = infos->failures > 0 && infos->count == 0;
    return KB_OK;
}

static kb_code read_groups(const kb_backup_settings *settings, const kb_backup *backup,
                           kb_kafka_groups *groups, reading *read, kb_error *err)
{
    kb_groups_call call = {
        .base = {.deadline_ms = kb_clock_boot_ms() + KB_GROUPS_DEADLINE_MS, .stop = settings->stop}};
    KB_CLEANUP(kb_group_infos_done) kb_group_infos infos = {0};
    KB_CLEANUP(kb_group_set_done) kb_group_set all = {0};
    read->time_ms = kb_clock_wall_ms();
    if (list(groups, &call.base, &infos, read, err) != KB_OK)
        return err->code;
    for (size_t i = 0; i < infos.count; i++)
        (void)kb_group_set_add(&all, infos.items[i].group);
    if (kb_kafka_groups_committed(groups, &all, &call, err) != KB_OK)
        return err->code;
    read->listed = all.count;
    for (size_t i = 0; i < all.count; i++) {
        if (has_failed(backup, &all.groups[i]))
            note_failure(read, &all.groups[i]);
        else
            keep(backup, &all.groups[i], &read->set);
    }
    return KB_OK;
}

/* ---- storing ---- */

static kb_code journal_finding(kb_journal *journal, const reading *read, kb_error *err)
{
    KB_AUTOFREE char *detail = read->failed > 0 ? kb_asprintf("%zu of %zu groups could not be read; %s",
                                                              read->failed, read->listed, read->failure)
                                                : kb_strdup(read->failure);
    KB_AUTOFREE char *reason = kb_strdup(kb_finding_name(KB_FINDING_GROUPS_INCOMPLETE));
    kb_finding_entry finding = {.reason = reason, .partition = -1, .detail = detail};
    kb_journal_news news = {.findings = &finding, .finding_count = 1};
    kb_log(KB_LOG_WARN, "not all consumer groups could be read", KB_STR("err", detail));
    return kb_journal_progress(journal, &news, err);
}

static bool is_incomplete(const kb_backup *backup)
{
    const char *reason = kb_finding_name(KB_FINDING_GROUPS_INCOMPLETE);
    for (size_t i = 0; i < backup->finding_count; i++)
        if (strcmp(backup->findings[i].reason, reason) == 0)
            return true;
    return false;
}

static kb_code journal_groups(kb_journal *journal, const char *key, kb_view text, size_t count, kb_error *err)
{
    KB_AUTOFREE char *copy = kb_strdup(key);
    kb_groups_ref ref = {
        .key = copy, .count = (int64_t)count, .complete = !is_incomplete(kb_journal_backup(journal))};
    kb_sha256(text.data, text.len, ref.sha256);
    kb_journal_news news = {.groups = &ref};
    return kb_journal_progress(journal, &news, err);
}

/* The snapshot of an earlier attempt that was killed before it could journal it. */
static kb_code find_stored(const kb_backup_settings *settings, kb_journal *journal, const char *key,
                           bool *ret_found, kb_error *err)
{
    KB_AUTO_BLOB(blob);
    KB_CLEANUP(kb_group_set_done) kb_group_set set = {0};
    kb_group_snapshot_notes notes;
    *ret_found = false;
    kb_code code = kb_storage_get(settings->storage, key, KB_GROUP_SNAPSHOT_MAX_BYTES, &blob, err);
    if (code == KB_ERR_NOT_FOUND) {
        kb_error_done(err);
        return KB_OK;
    }
    if (code != KB_OK)
        return code;
    kb_view text = kb_view_of(blob.data, blob.len);
    if (kb_group_snapshot_decode(text, &set, &notes, err) != KB_OK)
        return kb_wrap_as(err, KB_BACKUP_CORRUPT, "group snapshot '%s'", key);
    if (kb_storage_confirm(settings->storage, key, err) != KB_OK)
        return err->code;
    *ret_found = true;
    return journal_groups(journal, key, text, set.count, err);
}

static kb_code store(const kb_backup_settings *settings, kb_journal *journal, const char *key,
                     const reading *read, kb_error *err)
{
    KB_AUTOFREE char *text = NULL;
    size_t len = 0;
    if (kb_group_snapshot_encode(&read->set, read->time_ms, &text, &len, err) != KB_OK ||
        KB_FAILPOINT("offsets_snapshot.before", err) != KB_OK)
        return err->code;
    kb_put_outcome outcome;
    kb_put_once_options options = {.max_stored_bytes = KB_GROUP_SNAPSHOT_MAX_BYTES};
    if (kb_storage_put_once(settings->storage, key, kb_view_of(text, len), &options, &outcome, NULL, err) !=
        KB_OK)
        return kb_wrap(err, "storing the group snapshot");
    if (outcome == KB_PUT_OTHER)
        return kb_fail(err, KB_FENCED, "group snapshot '%s' was stored by another attempt", key);
    if (KB_FAILPOINT("offsets_snapshot.after", err) != KB_OK)
        return err->code;
    return journal_groups(journal, key, kb_view_of(text, len), read->set.count, err);
}

static void tell(const kb_backup_settings *settings, const reading *read)
{
    kb_progress *progress = settings->progress;
    kb_progress_set_number(progress, KB_REPORT_GROUPS_TOTAL, (int64_t)read->listed);
    kb_progress_set_number(progress, KB_REPORT_GROUPS_DONE, (int64_t)(read->listed - read->failed));
    kb_progress_set_number(progress, KB_REPORT_GROUPS_FAILED, (int64_t)read->failed);
    kb_progress_touch(progress);
    kb_log(KB_LOG_INFO, "consumer groups read", KB_INT("groups", read->listed),
           KB_INT("stored", read->set.count), KB_INT("failed", read->failed));
}

kb_code kb_backup_groups_take_from(const kb_backup_settings *settings, kb_journal *journal,
                                   kb_kafka_groups *groups, kb_error *err)
{
    const kb_backup *backup = kb_journal_backup(journal);
    KB_AUTOFREE char *key = kb_layout_groups_key(backup->backup_id);
    bool found;
    if (find_stored(settings, journal, key, &found, err) != KB_OK || found)
        return err->code;
    KB_CLEANUP(reading_done) reading read = {0};
    if (read_groups(settings, backup, groups, &read, err) != KB_OK)
        return kb_wrap(err, "reading the offsets of consumer groups");
    tell(settings, &read);
    if (read.failure != NULL && journal_finding(journal, &read, err) != KB_OK)
        return err->code;
    return read.is_worthless ? KB_OK : store(settings, journal, key, &read, err);
}

kb_code kb_backup_groups_take(const kb_backup_settings *settings, kb_journal *journal, kb_breaker *breaker,
                              kb_error *err)
{
    if (!settings->config->backup.consumer_group_snapshot || kb_journal_backup(journal)->groups != NULL)
        return KB_OK;
    KB_CLEANUP(kb_kafka_groups_free_at) kb_kafka_groups *groups = NULL;
    if (kb_kafka_groups_new(settings->kafka, breaker, &groups, err) != KB_OK)
        return err->code;
    return kb_backup_groups_take_from(settings, journal, groups, err);
}

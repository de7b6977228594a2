#include "worker/catalog/prune_survey.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/mem.h"
#include "worker/catalog/backup_record.h"
#include "worker/catalog/catalog.h"
#include "worker/catalog/journal.h"
#include "worker/catalog/layout.h"
#include "worker/catalog/lineage.h"
#include "worker/catalog/manifest.h"
#include "worker/catalog/prune_mark.h"

static void member_done(kb_prune_member *member)
{
    free(member->backup_id);
    free(member->base);
    free(member->keys);
    *member = (kb_prune_member){0};
}

void kb_prune_survey_done(kb_prune_survey *survey)
{
    for (size_t i = 0; i < survey->count; i++)
        member_done(&survey->members[i]);
    free(survey->members);
    *survey = (kb_prune_survey){NULL, 0};
}

kb_prune_member *kb_prune_survey_find(const kb_prune_survey *survey, const char *backup_id)
{
    for (size_t i = 0; i < survey->count; i++)
        if (strcmp(survey->members[i].backup_id, backup_id) == 0)
            return &survey->members[i];
    return NULL;
}

bool kb_prune_survey_is_base(const kb_prune_survey *survey, const char *backup_id)
{
    for (size_t i = 0; i < survey->count; i++) {
        const kb_prune_member *member = &survey->members[i];
        bool is_builder = member->role == KB_PRUNE_OPEN || member->role == KB_PRUNE_SEALED;
        if (is_builder && member->base != NULL && strcmp(member->base, backup_id) == 0)
            return true;
    }
    return false;
}

/* ---- what is listed ---- */

uint64_t kb_prune_key_hash(const char *key)
{
    uint8_t hash[KB_SHA256_SIZE];
    kb_sha256(key, strlen(key), hash);
    uint64_t value;
    memcpy(&value, hash, sizeof value);
    return value;
}

static void add_key(kb_prune_member *member, const char *key)
{
    member->keys = kb_grow(member->keys, member->key_count, &member->key_capacity, sizeof *member->keys);
    member->keys[member->key_count++] = kb_prune_key_hash(key);
}

static void add_partition(kb_prune_member *member, const kb_backup *backup, const kb_topic_entry *topic,
                          const kb_partition_entry *partition)
{
    for (size_t i = 0; i < partition->segment_count; i++) {
        KB_AUTOFREE char *key = kb_segment_key(backup, topic, partition, &partition->segments[i]);
        add_key(member, key);
    }
}

static void add_backup(kb_prune_member *member, const kb_backup *backup)
{
    for (size_t t = 0; t < backup->topic_count; t++)
        for (size_t p = 0; p < backup->topics[t].listed_count; p++)
            add_partition(member, backup, &backup->topics[t], &backup->topics[t].partitions[p]);
    member->is_loaded = true;
    member->is_readable = true;
}

/* ---- indexes ---- */

static bool is_bad_content(kb_code code)
{
    return code == KB_BACKUP_CORRUPT || code == KB_ERR_FORMAT || code == KB_ERR_TOO_LARGE;
}

/* manifest.json alone; its keys may lead to any backup of the lineage. */
static kb_code read_manifest(kb_storage *storage, const kb_prune_survey *survey, const char *backup_id,
                             kb_backup **ret_backup, kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_manifest_key(backup_id);
    KB_AUTOFREE const char **uses = kb_calloc(survey->count + 1, sizeof *uses);
    for (size_t i = 0; i < survey->count; i++)
        uses[i] = survey->members[i].backup_id;
    kb_object_source *source KB_CLEANUP(kb_object_source_free_at) = NULL;
    const kb_manifest_read_options options = {
        .backup_id = backup_id, .uses = uses, .use_count = survey->count, .allow_overlap = true};
    kb_code code = kb_object_source_open(storage, key, KB_MANIFEST_MAX_BYTES, &source, err);
    if (code == KB_OK)
        code = kb_manifest_read_source(source, &options, ret_backup, err);
    return is_bad_content(code) ? kb_wrap_as(err, KB_BACKUP_CORRUPT, "'%s'", key) : code;
}

static kb_code read_record(kb_storage *storage, const char *backup_id, kb_backup **ret_backup, kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_backup_json_key(backup_id);
    kb_object_source *source KB_CLEANUP(kb_object_source_free_at) = NULL;
    kb_code code = kb_object_source_open(storage, key, KB_BACKUP_JSON_MAX_BYTES, &source, err);
    if (code == KB_OK)
        code = kb_backup_record_read_source(source, backup_id, ret_backup, err);
    return is_bad_content(code) ? kb_wrap_as(err, KB_BACKUP_CORRUPT, "'%s'", key) : code;
}

/* Not what was written: everything that either of the two files lists is a root. */
static kb_code load_damaged(kb_storage *storage, const kb_prune_survey *survey, kb_prune_member *member,
                            kb_error *err)
{
    KB_AUTO_BACKUP kb_backup *by_manifest = NULL;
    KB_AUTO_BACKUP kb_backup *by_record = NULL;
    KB_AUTO_ERROR(damage);
    kb_code code = read_manifest(storage, survey, member->backup_id, &by_manifest, err);
    if (code != KB_OK)
        return code;
    code = read_record(storage, member->backup_id, &by_record, &damage);
    if (code != KB_OK && !is_bad_content(code) && code != KB_ERR_NOT_FOUND) {
        kb_error_move(err, &damage);
        return code;
    }
    add_backup(member, by_manifest);
    if (code == KB_OK)
        add_backup(member, by_record);
    return KB_OK;
}

/* What an open or sealed backup has so far; a damaged backup.json leaves the journal. */
static kb_code load_unfinished(kb_storage *storage, kb_prune_member *member, kb_error *err)
{
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_journal_state state = KB_JOURNAL_OPEN;
    kb_code code = kb_journal_inspect(storage, member->backup_id, &backup, &state, err);
    if (code != KB_OK)
        return code;
    add_backup(member, backup);
    if (member->role != KB_PRUNE_SEALED)
        return KB_OK;
    KB_AUTO_BACKUP kb_backup *record = NULL;
    KB_AUTO_ERROR(absent);
    code = read_record(storage, member->backup_id, &record, &absent);
    if (code == KB_OK)
        add_backup(member, record);
    if (code == KB_OK || code == KB_ERR_NOT_FOUND || is_bad_content(code))
        return KB_OK;
    kb_error_move(err, &absent);
    return code;
}

/* A marked backup may be half gone; then it lists nothing that anybody could still read. */
static kb_code load_marked(kb_storage *storage, kb_prune_member *member, kb_error *err)
{
    static const kb_catalog_open_options options = {.allow_pruned = true};
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    KB_AUTO_ERROR(gone);
    kb_catalog_state state = KB_CATALOG_PRUNED;
    kb_code code = member->has_index
                       ? kb_catalog_open(storage, member->backup_id, &options, &backup, &state, &gone)
                       : KB_BACKUP_NOT_FOUND;
    member->is_loaded = true;
    if (code == KB_OK)
        add_backup(member, backup);
    if (code == KB_OK || code == KB_BACKUP_NOT_FOUND || code == KB_ERR_NOT_FOUND || is_bad_content(code))
        return KB_OK;
    kb_error_move(err, &gone);
    return code;
}

kb_code kb_prune_member_load(kb_storage *storage, const kb_prune_survey *survey, kb_prune_member *member,
                             kb_error *err)
{
    if (member->is_loaded)
        return KB_OK;
    switch (member->role) {
    case KB_PRUNE_OPEN:
    case KB_PRUNE_SEALED:
        return load_unfinished(storage, member, err);
    case KB_PRUNE_MARKED:
        return load_marked(storage, member, err);
    case KB_PRUNE_CLOSED:
        member->is_loaded = true;
        return KB_OK;
    case KB_PRUNE_GOOD:
    case KB_PRUNE_DAMAGED:
    default:
        return load_damaged(storage, survey, member, err);
    }
}

/* ---- members ---- */

typedef struct surveyor {
    kb_storage *storage;
    const char *lineage;
    kb_prune_survey *earlier;
    kb_prune_survey survey;
} surveyor;

static bool is_same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static kb_code is_there(kb_storage *storage, char *owned_key, bool *ret_there, kb_error *err)
{
    KB_AUTOFREE char *key = owned_key;
    KB_AUTO_ERROR(head);
    kb_object_info info;
    kb_code code = kb_storage_head(storage, key, &info, &head);
    *ret_there = code == KB_OK;
    if (code == KB_OK || code == KB_ERR_NOT_FOUND)
        return KB_OK;
    kb_error_move(err, &head);
    return code;
}

/* Whether a mark has appeared since the listing, or nothing is left that makes a backup: another prune is at
 * work, or a zombie wrote after one, and what failed to be read is no damage. */
static kb_code is_going(kb_storage *storage, const char *backup_id, bool *ret_going, kb_error *err)
{
    bool is_marked = false;
    bool has_manifest = false;
    bool has_record = false;
    bool has_journal = false;
    kb_code code = is_there(storage, kb_layout_manifest_key(backup_id), &has_manifest, err);
    if (code == KB_OK)
        code = is_there(storage, kb_layout_backup_json_key(backup_id), &has_record, err);
    if (code == KB_OK)
        code = is_there(storage, kb_layout_journal_key(backup_id, 0), &has_journal, err);
    if (code == KB_OK)
        code = is_there(storage, kb_layout_pruned_key(backup_id), &is_marked, err);
    *ret_going = is_marked || (!has_manifest && !has_record && !has_journal);
    return code;
}

/* The time at which the backup became complete. */
static kb_code read_completed(kb_storage *storage, kb_prune_member *member, kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_manifest_key(member->backup_id);
    kb_object_info info;
    kb_code code = kb_storage_head(storage, key, &info, err);
    if (code == KB_OK)
        member->completed_ms = info.mtime_ms;
    return code;
}

/* Reads what an earlier survey has not. */
static bool take_earlier(surveyor *s, kb_prune_member *member)
{
    kb_prune_member *known = s->earlier != NULL ? kb_prune_survey_find(s->earlier, member->backup_id) : NULL;
    bool has_index = known != NULL && known->has_index && known->is_readable;
    if (!has_index)
        return false;
    if (member->role != KB_PRUNE_MARKED)
        member->role = known->role;
    member->completed_ms = known->completed_ms;
    member->is_loaded = true;
    member->is_readable = true;
    member->keys = KB_TAKE(known->keys);
    member->key_count = known->key_count;
    known->key_count = 0;
    known->is_loaded = false;
    return true;
}

static kb_code survey_complete(surveyor *s, kb_lineage_member *found, kb_prune_member *member,
                               bool *ret_is_member, kb_error *err)
{
    static const kb_catalog_open_options options = {.allow_pruned = true};
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    KB_AUTO_ERROR(damage);
    kb_catalog_state state = KB_CATALOG_COMPLETE;
    member->role = KB_PRUNE_GOOD;
    *ret_is_member = true;
    if (take_earlier(s, member))
        return KB_OK;
    kb_code code = kb_catalog_open(s->storage, member->backup_id, &options, &backup, &state, &damage);
    if (code == KB_OK) {
        *ret_is_member = is_same_text(backup->lineage, s->lineage);
        add_backup(member, backup);
        return read_completed(s->storage, member, err);
    }
    if (!is_bad_content(code)) {
        kb_error_move(err, &damage);
        return code;
    }
    member->role = KB_PRUNE_DAMAGED;
    /* Its keys may lead to backups that are yet to be listed: read when the survey is complete. */
    return kb_lineage_confirm(s->storage, s->lineage, found, ret_is_member, err);
}

static kb_code survey_marked(surveyor *s, kb_lineage_member *found, kb_prune_member *member,
                             bool *ret_is_member, kb_error *err)
{
    KB_CLEANUP(kb_prune_mark_done) kb_prune_mark mark = {NULL, NULL};
    member->role = KB_PRUNE_MARKED;
    member->marked_at_ms = found->marked_at_ms;
    kb_code code = kb_prune_mark_read(s->storage, member->backup_id, &mark, err);
    *ret_is_member = code == KB_OK;
    if (code == KB_ERR_NOT_FOUND) {
        kb_error_done(err);
        return KB_OK; /* another prune has just finished it */
    }
    if (code != KB_OK || !found->has_manifest || take_earlier(s, member))
        return code;
    KB_AUTO_ERROR(problem);
    code = kb_lineage_confirm(s->storage, s->lineage, found, ret_is_member, &problem);
    if (code == KB_OK || code == KB_BACKUP_CORRUPT)
        return KB_OK; /* the mark itself tells that it was of this lineage */
    kb_error_move(err, &problem);
    return code;
}

static kb_code survey_unfinished(kb_lineage_member *found, kb_prune_member *member, kb_error *err)
{
    if (found->state == KB_CATALOG_DAMAGED)
        return kb_fail(err, KB_BACKUP_CORRUPT, "backup '%s': %s", found->backup_id,
                       found->problem != NULL ? found->problem : "it cannot be read");
    member->role = found->state == KB_CATALOG_SEALED   ? KB_PRUNE_SEALED
                   : found->state == KB_CATALOG_CLOSED ? KB_PRUNE_CLOSED
                                                       : KB_PRUNE_OPEN;
    member->base = KB_TAKE(found->base);
    member->last_entry_ms = found->last_entry_ms;
    member->last_seq = found->last_seq;
    return KB_OK;
}

static kb_code survey_member(surveyor *s, kb_lineage_member *found, kb_prune_member *member,
                             bool *ret_is_member, kb_error *err)
{
    *ret_is_member = true;
    if (found->marked)
        return survey_marked(s, found, member, ret_is_member, err);
    if (found->state == KB_CATALOG_FOREIGN) {
        *ret_is_member = false; /* of another tool, or by hand: only its name is like ours */
        return KB_OK;
    }
    if (found->has_manifest && found->has_backup_json)
        return survey_complete(s, found, member, ret_is_member, err);
    if (!found->has_manifest)
        return survey_unfinished(found, member, err);
    member->role = KB_PRUNE_DAMAGED;
    return kb_lineage_confirm(s->storage, s->lineage, found, ret_is_member, err);
}

static kb_code add_member(surveyor *s, kb_lineage_member *found, kb_error *err)
{
    KB_AUTO_ERROR(problem);
    bool is_member = false;
    kb_prune_member member = {
        .backup_id = kb_strdup(found->backup_id),
        .stamp_ms = found->stamp_ms,
        .has_index = found->has_manifest && found->has_backup_json,
    };
    kb_code code = survey_member(s, found, &member, &is_member, &problem);
    bool is_gone = is_bad_content(code) || code == KB_BACKUP_NOT_FOUND || code == KB_ERR_NOT_FOUND;
    if (is_gone && !found->marked) {
        bool going = false;
        code = is_going(s->storage, found->backup_id, &going, err);
        if (code == KB_OK && !going)
            code = KB_BACKUP_CORRUPT;
        is_member = going;
        member.role = KB_PRUNE_MARKED;
        member.marked_at_ms = KB_PRUNE_AGE_UNKNOWN; /* for the next prune */
        member.is_loaded = false;
    }
    if (code != KB_OK && err->code == KB_OK) {
        kb_error_move(err, &problem);
        err->code = code;
    }
    if (code != KB_OK || !is_member) {
        member_done(&member);
        return code;
    }
    s->survey.members[s->survey.count++] = member;
    return KB_OK;
}

static kb_code load_all(surveyor *s, kb_error *err)
{
    for (size_t i = 0; i < s->survey.count; i++) {
        kb_prune_member *member = &s->survey.members[i];
        if (member->role == KB_PRUNE_MARKED)
            continue;
        kb_code code = kb_prune_member_load(s->storage, &s->survey, member, err);
        if (code != KB_OK)
            return is_bad_content(code) || code == KB_ERR_NOT_FOUND
                       ? kb_wrap_as(err, KB_BACKUP_CORRUPT, "backup '%s'", member->backup_id)
                       : code;
    }
    return KB_OK;
}

static kb_code survey_all(surveyor *s, kb_error *err)
{
    KB_CLEANUP(kb_lineage_members_done) kb_lineage_members found = {0};
    kb_code code = kb_lineage_scan(s->storage, s->lineage, &found, err);
    if (code != KB_OK)
        return code;
    s->survey.members = kb_calloc(found.count + 1, sizeof *s->survey.members);
    for (size_t i = 0; i < found.count && code == KB_OK; i++)
        code = add_member(s, &found.items[i], err);
    return code == KB_OK ? load_all(s, err) : code;
}

kb_code kb_prune_survey_make(kb_storage *storage, const char *lineage, kb_prune_survey *earlier,
                             kb_prune_survey *ret_survey, kb_error *err)
{
    surveyor s = {.storage = storage, .lineage = lineage, .earlier = earlier};
    kb_code code = survey_all(&s, err);
    if (code != KB_OK) {
        kb_prune_survey_done(&s.survey);
        return kb_wrap(err, "nothing of lineage '%s' is deleted", lineage);
    }
    *ret_survey = s.survey;
    return KB_OK;
}

#include "worker/catalog/lineage.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "worker/catalog/journal.h"
#include "worker/catalog/journal_replay.h"
#include "worker/catalog/layout.h"

#define KB_STAMP_DIGITS (KB_STAMP_SIZE - 1)

/* ---- ids ---- */

char *kb_lineage_backup_id(const char *lineage, const char *stamp)
{
    return kb_asprintf("%s-%s", lineage, stamp);
}

/* The length of the name in front of "-stamp"; 0 when the id does not end so. */
static size_t name_len(const char *id, int64_t *ret_stamp_ms)
{
    size_t len = strlen(id);
    if (len < KB_STAMP_DIGITS + 2 || id[len - KB_STAMP_DIGITS - 1] != '-')
        return 0;
    KB_AUTO_ERROR(err);
    int64_t ms;
    if (kb_stamp_parse(id + len - KB_STAMP_DIGITS, KB_STAMP_DIGITS, &ms, &err) != KB_OK)
        return 0;
    if (ret_stamp_ms != NULL)
        *ret_stamp_ms = ms;
    return len - KB_STAMP_DIGITS - 1;
}

bool kb_lineage_parse_id(const char *lineage, const char *backup_id, int64_t *ret_stamp_ms)
{
    size_t len = strlen(lineage);
    return len > 0 && strncmp(backup_id, lineage, len) == 0 && name_len(backup_id, ret_stamp_ms) == len;
}

char *kb_lineage_of_id(const char *backup_id)
{
    size_t len = name_len(backup_id, NULL);
    return len > 0 ? kb_strndup(backup_id, len) : NULL;
}

/* ---- members ---- */

static void member_done(kb_lineage_member *member)
{
    free(member->backup_id);
    free(member->problem);
    free(member->owner);
    free(member->cluster_id);
    free(member->base);
    kb_holder_done(&member->holder);
}

void kb_lineage_members_done(kb_lineage_members *members)
{
    for (size_t i = 0; i < members->count; i++)
        member_done(&members->items[i]);
    free(members->items);
    *members = (kb_lineage_members){NULL, 0, 0};
}

typedef struct presence {
    kb_lineage_member *member;
    size_t prefix_len;
} presence;

static kb_code note_presence(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    (void)err;
    presence *there = ctx;
    kb_lineage_member *member = there->member;
    const char *name = entry->key + there->prefix_len;
    if (strcmp(name, "manifest.json") == 0)
        member->has_manifest = true;
    else if (strcmp(name, "backup.json") == 0)
        member->has_backup_json = true;
    else if (strcmp(name, "journal/") == 0)
        member->has_journal = true;
    else if (strcmp(name, "topics/") == 0)
        member->has_topics = true;
    else if (strcmp(name, "pruned.json") == 0) {
        member->marked = true;
        member->marked_at_ms = entry->info.mtime_ms;
    }
    return KB_OK;
}

static kb_code find_presence(kb_storage *storage, kb_lineage_member *member, kb_error *err)
{
    KB_AUTOFREE char *prefix = kb_layout_backup_prefix(member->backup_id);
    presence there = {member, strlen(prefix)};
    return kb_storage_list_level(storage, prefix, note_presence, &there, err);
}

static bool is_same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void take_head(kb_lineage_member *member, const kb_backup *backup)
{
    member->confirmed = true;
    kb_text_set(&member->owner, backup->owner);
    kb_text_set(&member->cluster_id, backup->cluster_id);
    kb_text_set(&member->base, backup->base);
    member->created_at = backup->created_at;
}

/* Only the first entry: in a complete backup the later ones may have been removed. */
static kb_code read_first_entry(kb_storage *storage, const char *backup_id, kb_backup **ret_backup,
                                kb_holder *holder, kb_error *err)
{
    KB_AUTOFREE char *key = kb_layout_journal_key(backup_id, 0);
    KB_AUTO_BLOB(blob);
    kb_replay replay KB_CLEANUP(kb_replay_done);
    kb_replay_init(&replay, backup_id, NULL);
    kb_code code = kb_storage_get(storage, key, KB_JOURNAL_ENTRY_MAX_BYTES, &blob, err);
    if (code == KB_OK)
        code = kb_replay_add(&replay, (const char *)blob.data, blob.len, err);
    if (code == KB_ERR_FORMAT || code == KB_ERR_TOO_LARGE || code == KB_ERR_NOT_FOUND)
        return kb_wrap_as(err, KB_BACKUP_CORRUPT, "journal entry '%s'", key);
    if (code != KB_OK)
        return code;
    kb_holder_done(holder);
    kb_holder_copy(holder, &replay.last.holder);
    *ret_backup = KB_TAKE(replay.backup);
    return KB_OK;
}

static kb_catalog_state catalog_state_of(kb_journal_state state)
{
    if (state == KB_JOURNAL_SEALED)
        return KB_CATALOG_SEALED;
    return state == KB_JOURNAL_CLOSED ? KB_CATALOG_CLOSED : KB_CATALOG_OPEN;
}

static kb_code read_whole_journal(kb_storage *storage, kb_lineage_member *member, kb_backup **ret_backup,
                                  kb_error *err)
{
    kb_journal_tail tail = {0};
    kb_code code = kb_journal_inspect_tail(storage, member->backup_id, ret_backup, &tail, err);
    if (code == KB_ERR_NOT_FOUND)
        return kb_wrap_as(err, KB_BACKUP_CORRUPT, "backup '%s'", member->backup_id);
    if (code != KB_OK)
        return code;
    if (!member->has_backup_json)
        member->state = catalog_state_of(tail.state);
    member->released = tail.state == KB_JOURNAL_RELEASED;
    member->last_seq = tail.seq;
    member->last_entry_ms = tail.written_ms;
    kb_holder_done(&member->holder);
    member->holder = tail.holder;
    return KB_OK;
}

kb_code kb_lineage_confirm(kb_storage *storage, const char *lineage, kb_lineage_member *member,
                           bool *ret_is_member, kb_error *err)
{
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_code code = member->has_manifest
                       ? read_first_entry(storage, member->backup_id, &backup, &member->holder, err)
                       : read_whole_journal(storage, member, &backup, err);
    if (code != KB_OK)
        return code;
    *ret_is_member = is_same_text(backup->lineage, lineage);
    if (*ret_is_member)
        take_head(member, backup);
    return KB_OK;
}

/* Of a backup that has no manifest.json the journal tells the rest. */
static kb_code find_state(kb_storage *storage, const char *lineage, kb_lineage_member *member,
                          bool *ret_is_member, kb_error *err)
{
    *ret_is_member = true;
    if (member->has_manifest) {
        member->state = member->has_backup_json ? KB_CATALOG_COMPLETE
                        : member->has_journal   ? KB_CATALOG_DAMAGED
                                                : KB_CATALOG_FOREIGN;
        if (member->state == KB_CATALOG_DAMAGED)
            member->problem = kb_strdup("backup.json is missing");
        return KB_OK;
    }
    member->state = KB_CATALOG_SEALED;
    /* What is left of a backup whose deletion was begun: it may have lost its journal. */
    if (member->marked && !member->has_journal)
        return KB_OK;
    KB_AUTO_ERROR(problem);
    kb_code code = kb_lineage_confirm(storage, lineage, member, ret_is_member, &problem);
    if (code == KB_OK)
        return KB_OK;
    if (code != KB_BACKUP_CORRUPT) {
        kb_error_move(err, &problem);
        return code;
    }
    member->state = KB_CATALOG_DAMAGED;
    member->problem = kb_strdup(kb_error_text(&problem));
    return KB_OK;
}

typedef struct scan {
    kb_storage *storage;
    const char *lineage;
    kb_lineage_members members;
} scan;

static kb_code add_member(scan *s, char *owned_id, int64_t stamp_ms, kb_error *err)
{
    kb_lineage_member member = {.backup_id = owned_id, .stamp_ms = stamp_ms};
    bool is_member = false;
    kb_code code = find_presence(s->storage, &member, err);
    bool is_backup = member.has_manifest || member.has_backup_json || member.has_journal || member.marked;
    if (code == KB_OK && is_backup)
        code = find_state(s->storage, s->lineage, &member, &is_member, err);
    if (code != KB_OK || !is_member) {
        member_done(&member);
        return code;
    }
    kb_lineage_members *members = &s->members;
    members->items = kb_grow(members->items, members->count, &members->capacity, sizeof *members->items);
    members->items[members->count++] = member;
    return KB_OK;
}

static kb_code visit_page(scan *s, const kb_list_page *page, kb_error *err)
{
    for (size_t i = 0; i < page->count; i++) {
        KB_AUTOFREE char *id =
            page->entries[i].is_folder ? kb_layout_id_of_folder(page->entries[i].key) : NULL;
        int64_t stamp_ms = 0;
        if (id == NULL || !kb_lineage_parse_id(s->lineage, id, &stamp_ms))
            continue;
        if (add_member(s, KB_TAKE(id), stamp_ms, err) != KB_OK)
            return kb_wrap(err, "looking at the backups of lineage '%s'", s->lineage);
    }
    return KB_OK;
}

static int newest_first(const void *a, const void *b)
{
    const kb_lineage_member *left = a;
    const kb_lineage_member *right = b;
    if (left->stamp_ms != right->stamp_ms)
        return left->stamp_ms > right->stamp_ms ? -1 : 1;
    return strcmp(right->backup_id, left->backup_id);
}

static kb_code scan_pages(scan *s, kb_error *err)
{
    KB_AUTOFREE char *prefix = kb_asprintf("%s-", s->lineage);
    KB_AUTOFREE char *after = NULL;
    do {
        KB_CLEANUP(kb_list_page_done) kb_list_page page = KB_LIST_PAGE_INIT;
        kb_list_options options = {.prefix = prefix, .after = after, .by_folder = true};
        if (kb_storage_list_page(s->storage, &options, &page, err) != KB_OK ||
            visit_page(s, &page, err) != KB_OK)
            return err->code;
        free(after);
        after = KB_TAKE(page.next);
    } while (after != NULL);
    return KB_OK;
}

kb_code kb_lineage_scan(kb_storage *storage, const char *lineage, kb_lineage_members *ret_members,
                        kb_error *err)
{
    scan s = {.storage = storage, .lineage = lineage};
    if (scan_pages(&s, err) != KB_OK) {
        kb_lineage_members_done(&s.members);
        return err->code;
    }
    if (s.members.count > 1)
        qsort(s.members.items, s.members.count, sizeof *s.members.items, newest_first);
    *ret_members = s.members;
    return KB_OK;
}

kb_code kb_lineage_newest(kb_storage *storage, const char *lineage, char **ret_backup_id, kb_error *err)
{
    KB_CLEANUP(kb_lineage_members_done) kb_lineage_members members = {0};
    if (kb_lineage_scan(storage, lineage, &members, err) != KB_OK)
        return err->code;
    *ret_backup_id = NULL;
    for (size_t i = 0; i < members.count; i++) {
        kb_lineage_member *member = &members.items[i];
        bool is_member = false;
        if (member->state != KB_CATALOG_COMPLETE || member->marked)
            continue;
        if (kb_lineage_confirm(storage, lineage, member, &is_member, err) != KB_OK)
            return err->code;
        if (!is_member)
            continue;
        *ret_backup_id = kb_strdup(member->backup_id);
        return KB_OK;
    }
    return KB_OK;
}

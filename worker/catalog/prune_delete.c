#include "worker/catalog/prune_delete.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/failpoint.h"
#include "common/base/mem.h"
#include "worker/catalog/layout.h"
#include "worker/catalog/prune_survey.h"

/* What one request of an object store may name. */
#define KB_BATCH_MAX 1000

/* ---- objects ---- */

typedef struct object {
    char *key;
    int64_t size_bytes;
    int64_t mtime_ms;
} object;

typedef struct objects {
    object *items;
    size_t count;
    size_t capacity;
} objects;

static void objects_done(objects *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i].key);
    free(list->items);
}

static kb_code note_object(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    (void)err;
    objects *list = ctx;
    list->items = kb_grow(list->items, list->count, &list->capacity, sizeof *list->items);
    list->items[list->count++] = (object){
        .key = kb_strdup(entry->key),
        .size_bytes = (int64_t)entry->info.size_bytes,
        .mtime_ms = entry->info.mtime_ms,
    };
    return KB_OK;
}

static int compare_hash(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static bool is_root(const kb_prune_deleter *deleter, const char *key)
{
    uint64_t hash = kb_prune_key_hash(key);
    return deleter->root_count > 0 &&
           bsearch(&hash, deleter->roots, deleter->root_count, sizeof hash, compare_hash) != NULL;
}

/* ---- removing ---- */

/* The work on one backup. */
typedef struct task {
    kb_prune_deleter *deleter;
    const char *backup_id;
    size_t gone; /* objects that are no longer there for readers, by this task */
    bool was_held;
    bool was_hidden;
} task;

static kb_code check_stop(const task *t, kb_error *err)
{
    if (t->deleter->stop != NULL && kb_stop_requested(t->deleter->stop))
        return kb_fail(err, KB_ERR_STOPPED, "stopped while deleting backup '%s'", t->backup_id);
    return KB_OK;
}

static void count_removed(task *t, const object *removed, bool is_hidden)
{
    kb_prune_result *result = t->deleter->result;
    t->gone++;
    t->was_hidden = t->was_hidden || is_hidden;
    if (!is_hidden)
        result->reclaimed_bytes += removed->size_bytes;
    result->objects =
        kb_grow(result->objects, result->object_count, &result->object_capacity, sizeof *result->objects);
    result->objects[result->object_count++] = kb_strdup(removed->key);
}

static void count_outcome(task *t, const object *item, kb_remove_outcome outcome)
{
    switch (outcome) {
    case KB_REMOVE_GONE:
        count_removed(t, item, false);
        break;
    case KB_REMOVE_HIDDEN:
        count_removed(t, item, true);
        break;
    case KB_REMOVE_HELD:
        t->was_held = true;
        break;
    case KB_REMOVE_ABSENT: /* another prune was faster */
    case KB_REMOVE_UNTRIED:
    default:
        break;
    }
}

static kb_code remove_batch(task *t, const object *const *items, size_t count, kb_error *err)
{
    const char *keys[KB_BATCH_MAX];
    kb_remove_outcome outcomes[KB_BATCH_MAX];
    kb_code code = check_stop(t, err);
    if (code != KB_OK)
        return code;
    for (size_t i = 0; i < count; i++) {
        keys[i] = items[i]->key;
        outcomes[i] = KB_REMOVE_GONE;
    }
    if (!t->deleter->dry_run)
        code = kb_storage_remove_many(t->deleter->storage, keys, count, outcomes, err);
    for (size_t i = 0; i < count; i++)
        count_outcome(t, items[i], outcomes[i]);
    return code;
}

/* In batches that grow, so that a small backup is also interrupted between any two of its first objects. */
static kb_code remove_all(task *t, const object *const *items, size_t count, const char *failpoint,
                          kb_error *err)
{
    size_t batch = 1;
    for (size_t done = 0; done < count; done += batch) {
        batch = done < KB_BATCH_MAX ? done + 1 : KB_BATCH_MAX;
        if (batch > count - done)
            batch = count - done;
        kb_code code = remove_batch(t, items + done, batch, err);
        if (code == KB_OK && failpoint != NULL)
            code = KB_FAILPOINT(failpoint, err);
        if (code != KB_OK)
            return code;
    }
    return KB_OK;
}

/* *ret_free says that it is not there any more, or never was. */
static kb_code remove_one(task *t, const object *item, const char *failpoint, bool *ret_free, kb_error *err)
{
    *ret_free = true;
    if (item == NULL)
        return KB_OK;
    bool was_held = t->was_held;
    t->was_held = false;
    kb_code code = remove_all(t, &item, 1, failpoint, err);
    *ret_free = !t->was_held;
    t->was_held = t->was_held || was_held;
    return code;
}

/* ---- unfinished uploads ---- */

typedef struct leftover {
    char *key;
    char *token;
    int64_t size_bytes;
} leftover;

typedef struct leftovers {
    leftover *items;
    size_t count;
    size_t capacity;
    int64_t before_ms;
} leftovers;

static void leftovers_done(leftovers *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].key);
        free(list->items[i].token);
    }
    free(list->items);
}

static kb_code note_leftover(void *ctx, const kb_leftover *found, kb_error *err)
{
    (void)err;
    leftovers *list = ctx;
    if (found->began_ms > list->before_ms)
        return KB_OK;
    list->items = kb_grow(list->items, list->count, &list->capacity, sizeof *list->items);
    list->items[list->count++] =
        (leftover){kb_strdup(found->key), kb_strdup(found->token), (int64_t)found->size_bytes};
    return KB_OK;
}

static kb_code abort_leftovers(task *t, int64_t before_ms, kb_error *err)
{
    KB_CLEANUP(leftovers_done) leftovers list = {.before_ms = before_ms};
    KB_AUTOFREE char *prefix = kb_layout_backup_prefix(t->backup_id);
    kb_code code = kb_storage_list_leftovers(t->deleter->storage, prefix, note_leftover, &list, err);
    for (size_t i = 0; code == KB_OK && i < list.count; i++) {
        const kb_leftover found = {.key = list.items[i].key, .token = list.items[i].token};
        if (!t->deleter->dry_run)
            code = kb_storage_abort_leftover(t->deleter->storage, &found, err);
        if (code != KB_OK)
            break;
        const object item = {.key = list.items[i].key, .size_bytes = list.items[i].size_bytes};
        count_removed(t, &item, false);
        t->deleter->result->orphans++;
    }
    return code;
}

/* ---- a whole backup ---- */

/* The objects of a backup by what they are; all borrowed from `all`. */
typedef struct parts {
    objects all;
    const object *manifest, *backup_json, *groups, *mark; /* NULL = not there */
    const object **segments;                              /* that no root lists */
    size_t segment_count;
    size_t shared_count;    /* segments that a root lists */
    const object **journal; /* highest number first, without entry 0 */
    size_t journal_count;
    const object *first_entry;
} parts;

static void parts_done(parts *p)
{
    objects_done(&p->all);
    free(p->segments);
    free(p->journal);
}

static bool is_name(const char *owned_expected, const char *key)
{
    KB_AUTOFREE const char *expected = owned_expected;
    return strcmp(expected, key) == 0;
}

static void sort_in(const kb_prune_deleter *deleter, parts *p, const char *id, const char *topics,
                    const object *item)
{
    uint32_t seq = 0;
    if (strncmp(item->key, topics, strlen(topics)) == 0) {
        if (is_root(deleter, item->key))
            p->shared_count++;
        else
            p->segments[p->segment_count++] = item;
    } else if (kb_layout_parse_journal_key(id, item->key, &seq)) {
        if (seq == 0)
            p->first_entry = item;
        else
            p->journal[p->journal_count++] = item;
    } else if (is_name(kb_layout_manifest_key(id), item->key)) {
        p->manifest = item;
    } else if (is_name(kb_layout_backup_json_key(id), item->key)) {
        p->backup_json = item;
    } else if (is_name(kb_layout_groups_key(id), item->key)) {
        p->groups = item;
    } else if (is_name(kb_layout_pruned_key(id), item->key)) {
        p->mark = item;
    }
}

/* The listing ascends; the journal is wanted from its end. */
static void reverse(const object **items, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        const object *other = items[i];
        items[i] = items[count - 1 - i];
        items[count - 1 - i] = other;
    }
}

static kb_code list_parts(const kb_prune_deleter *deleter, const char *id, parts *p, kb_error *err)
{
    KB_AUTOFREE char *prefix = kb_layout_backup_prefix(id);
    KB_AUTOFREE char *topics = kb_layout_topics_prefix(id);
    kb_code code = kb_storage_list(deleter->storage, prefix, note_object, &p->all, err);
    if (code != KB_OK)
        return code;
    p->segments = kb_calloc(p->all.count + 1, sizeof(const object *));
    p->journal = kb_calloc(p->all.count + 1, sizeof(const object *));
    for (size_t i = 0; i < p->all.count; i++)
        sort_in(deleter, p, id, topics, &p->all.items[i]);
    reverse(p->journal, p->journal_count);
    return KB_OK;
}

/* Both files of the index; *ret_free is false when the store keeps one, and then nothing else may go. */
static kb_code delete_index(task *t, const parts *p, kb_prune_deleted *deleted, bool *ret_free, kb_error *err)
{
    kb_code code = remove_one(t, p->manifest, "prune.manifest_deleted", ret_free, err);
    deleted->index_gone = t->gone > 0;
    if (code != KB_OK || !*ret_free)
        return code;
    code = remove_one(t, p->backup_json, NULL, ret_free, err);
    deleted->index_gone = t->gone > 0;
    return code;
}

static kb_code delete_segments(task *t, const parts *p, bool *ret_free, kb_error *err)
{
    size_t gone_before = t->gone;
    bool was_held = t->was_held;
    t->was_held = false;
    kb_code code = remove_all(t, p->segments, p->segment_count, "prune.segment_deleted", err);
    t->deleter->result->segments += (int64_t)(t->gone - gone_before);
    *ret_free = !t->was_held && p->shared_count == 0;
    t->was_held = t->was_held || was_held;
    return code;
}

static kb_code note_any(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    (void)entry;
    (void)err;
    *(bool *)ctx = true;
    return KB_OK;
}

/* A zombie may have published since the listing: what is there is asked again before the journal goes. */
static kb_code are_topics_empty(const task *t, bool *ret_empty, kb_error *err)
{
    bool any = false;
    KB_AUTOFREE char *topics = kb_layout_topics_prefix(t->backup_id);
    kb_code code =
        t->deleter->dry_run ? KB_OK : kb_storage_list(t->deleter->storage, topics, note_any, &any, err);
    *ret_empty = !any;
    return code;
}

static kb_code delete_rest(task *t, const parts *p, bool *ret_free, kb_error *err)
{
    const object *const in_order[] = {p->groups, p->first_entry, p->mark};
    kb_code code = abort_leftovers(t, INT64_MAX, err);
    if (code == KB_OK)
        code = remove_one(t, in_order[0], NULL, ret_free, err);
    if (code != KB_OK || !*ret_free)
        return code;
    bool was_held = t->was_held;
    t->was_held = false;
    code = remove_all(t, p->journal, p->journal_count, NULL, err);
    *ret_free = !t->was_held;
    t->was_held = t->was_held || was_held;
    for (size_t i = 1; code == KB_OK && *ret_free && i < KB_ARRAY_LEN(in_order); i++)
        code = remove_one(t, in_order[i], NULL, ret_free, err);
    return code;
}

static kb_code delete_parts(task *t, const parts *p, kb_prune_deleted *deleted, kb_error *err)
{
    bool is_free = false;
    kb_code code = delete_index(t, p, deleted, &is_free, err);
    if (code == KB_OK && is_free)
        code = delete_segments(t, p, &is_free, err);
    if (code == KB_OK && is_free)
        code = are_topics_empty(t, &is_free, err);
    if (code == KB_OK && is_free)
        code = delete_rest(t, p, &is_free, err);
    deleted->all_gone = code == KB_OK && is_free;
    deleted->was_held = t->was_held;
    return code;
}

static void count_task(const task *t)
{
    t->deleter->result->held += t->was_held ? 1 : 0;
    t->deleter->result->hidden += t->was_hidden ? 1 : 0;
}

kb_code kb_prune_delete_backup(kb_prune_deleter *deleter, const char *backup_id, kb_prune_deleted *deleted,
                               kb_error *err)
{
    task t = {.deleter = deleter, .backup_id = backup_id};
    KB_CLEANUP(parts_done) parts p = {.all = {NULL, 0, 0}};
    kb_code code = list_parts(deleter, backup_id, &p, err);
    if (code == KB_OK)
        code = delete_parts(&t, &p, deleted, err);
    count_task(&t);
    return code;
}

/* ---- orphans ---- */

static kb_code delete_unlisted(task *t, kb_error *err)
{
    KB_AUTOFREE char *topics = kb_layout_topics_prefix(t->backup_id);
    KB_CLEANUP(objects_done) objects all = {NULL, 0, 0};
    kb_code code = kb_storage_list(t->deleter->storage, topics, note_object, &all, err);
    if (code != KB_OK)
        return code;
    KB_AUTOFREE const object **unlisted = kb_calloc(all.count + 1, sizeof(const object *));
    size_t count = 0;
    for (size_t i = 0; i < all.count; i++)
        if (all.items[i].mtime_ms <= t->deleter->orphans_before_ms && !is_root(t->deleter, all.items[i].key))
            unlisted[count++] = &all.items[i];
    size_t gone_before = t->gone;
    code = remove_all(t, unlisted, count, NULL, err);
    t->deleter->result->orphans += (int64_t)(t->gone - gone_before);
    return code;
}

/* Entry 0 stays: it proves the lineage. The newest is the youngest, so the row never gets a hole. */
static kb_code delete_old_journal(task *t, kb_error *err)
{
    KB_AUTOFREE char *prefix = kb_layout_journal_prefix(t->backup_id);
    KB_CLEANUP(objects_done) objects all = {NULL, 0, 0};
    kb_code code = kb_storage_list(t->deleter->storage, prefix, note_object, &all, err);
    if (code != KB_OK)
        return code;
    KB_AUTOFREE const object **entries = kb_calloc(all.count + 1, sizeof(const object *));
    size_t count = 0;
    for (size_t i = all.count; i > 0; i--) {
        uint32_t seq = 0;
        if (!kb_layout_parse_journal_key(t->backup_id, all.items[i - 1].key, &seq) || seq == 0)
            continue;
        if (all.items[i - 1].mtime_ms > t->deleter->orphans_before_ms)
            return KB_OK;
        entries[count++] = &all.items[i - 1];
    }
    return remove_all(t, entries, count, NULL, err);
}

kb_code kb_prune_delete_orphans(kb_prune_deleter *deleter, const char *backup_id, kb_error *err)
{
    task t = {.deleter = deleter, .backup_id = backup_id};
    kb_code code = delete_unlisted(&t, err);
    if (code == KB_OK)
        code = delete_old_journal(&t, err);
    if (code == KB_OK)
        code = abort_leftovers(&t, deleter->orphans_before_ms, err);
    count_task(&t);
    return code;
}

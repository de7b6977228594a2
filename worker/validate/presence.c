#include "worker/validate/presence.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/sync/wait.h"
#include "worker/catalog/layout.h"

typedef struct listing {
    kb_object_table *table;
    kb_stop *stop;
    kb_problem_list *problems;
    kb_orphans *orphans; /* NULL in the folder of another backup, whose other objects are its own */
} listing;

static void note(const listing *state, kb_object *object, kb_object_fault fault, const char *key,
                 const char *detail)
{
    object->state = KB_OBJECT_BAD;
    kb_problem_list_add(state->problems, kb_object_rank(state->table, object), fault, key, detail);
}

/* An object is there; is it as long as it should be? */
static void judge_size(const listing *state, kb_object *object, const char *key, uint64_t size_bytes)
{
    int64_t expected = kb_object_segment(state->table, object)->bytes;
    object->size_bytes = size_bytes;
    object->state = KB_OBJECT_PRESENT;
    if (size_bytes == 0) {
        note(state, object, KB_FAULT_SIZE, key, "is empty");
    } else if (expected > 0 && (uint64_t)expected != size_bytes) {
        KB_AUTOFREE char *detail =
            kb_asprintf("has %" PRIu64 " bytes, the backup says %" PRId64, size_bytes, expected);
        note(state, object, KB_FAULT_SIZE, key, detail);
    }
}

static kb_code see_object(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    const listing *state = ctx;
    if (state->stop != NULL && kb_stop_requested(state->stop))
        return kb_fail(err, KB_ERR_STOPPED, "stopped while listing objects");
    kb_object *object = kb_object_table_find(state->table, entry->key);
    if (object != NULL && object->state == KB_OBJECT_UNSEEN) {
        judge_size(state, object, entry->key, entry->info.size_bytes);
    } else if (object == NULL && state->orphans != NULL) {
        state->orphans->count++;
        state->orphans->bytes += (int64_t)entry->info.size_bytes;
    }
    return KB_OK;
}

static kb_code list_folder(listing *state, kb_storage *storage, const char *backup_id, kb_error *err)
{
    KB_AUTOFREE char *prefix = kb_layout_topics_prefix(backup_id);
    if (kb_storage_list(storage, prefix, see_object, state, err) != KB_OK)
        return kb_wrap(err, "cannot list '%s'", prefix);
    return KB_OK;
}

static bool is_listed_folder(const kb_object_table *table, const kb_object *object, const char *key)
{
    const kb_segment_entry *segment = kb_object_segment(table, object);
    KB_AUTOFREE char *prefix = kb_layout_topics_prefix(kb_segment_owner(table->backup, segment));
    return strncmp(key, prefix, strlen(prefix)) == 0;
}

/* An object that no listing showed: missing, unless it lies where nobody listed. */
static kb_code judge_unseen(const listing *state, kb_storage *storage, kb_object *object, kb_error *err)
{
    KB_AUTOFREE char *key = kb_object_table_key(state->table, object);
    kb_object_info info;
    kb_code code = KB_ERR_NOT_FOUND;
    if (!is_listed_folder(state->table, object, key))
        code = kb_storage_head(storage, key, &info, err);
    if (code == KB_OK)
        judge_size(state, object, key, info.size_bytes);
    else if (code == KB_ERR_NOT_FOUND)
        note(state, object, KB_FAULT_MISSING, key, "is not in the store");
    else if (code == KB_ERR_FORMAT)
        note(state, object, KB_FAULT_MISMATCH, key, kb_error_text(err));
    else
        return code;
    kb_error_done(err);
    return KB_OK;
}

kb_code kb_presence_check(kb_storage *storage, kb_object_table *table, kb_stop *stop,
                          kb_problem_list *problems, kb_orphans *ret_orphans, kb_error *err)
{
    const kb_backup *backup = table->backup;
    kb_orphans orphans = {0};
    listing state = {table, stop, problems, &orphans};
    kb_code code = list_folder(&state, storage, backup->backup_id, err);
    state.orphans = NULL;
    for (size_t i = 0; i < backup->use_count && code == KB_OK; i++)
        code = list_folder(&state, storage, backup->uses[i], err);
    for (size_t i = 0; i < table->count && code == KB_OK; i++)
        if (table->objects[i].state == KB_OBJECT_UNSEEN)
            code = judge_unseen(&state, storage, &table->objects[i], err);
    if (code == KB_OK)
        *ret_orphans = orphans;
    return code;
}

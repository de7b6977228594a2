#include "worker/backup/lineage_lock.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "worker/backup/seal.h"
#include "worker/catalog/journal.h"
#include "worker/catalog/lineage.h"

/* Beyond the time after which a holder counts as dead: writing and listing take time as well. */
#define KB_SLACK_MS 60000

typedef struct lock_run {
    const kb_lineage_lock *lock;
    kb_lineage_members members;
    kb_map *passed; /* ids that need no further look */
    int64_t began_ms;
} lock_run;

static void run_done(lock_run *run)
{
    kb_lineage_members_done(&run->members);
    kb_map_free(run->passed);
}

/* ---- whose lineage it is ---- */

static kb_code check_owner(const kb_backup_settings *settings, const kb_lineage_member *member, kb_error *err)
{
    if (member->owner == NULL || strcmp(member->owner, settings->owner) == 0)
        return KB_OK;
    if (settings->adopt_lineage) {
        kb_log(KB_LOG_WARN, "the lineage of another owner is adopted", KB_STR("backup", member->backup_id),
               KB_STR("owner", member->owner));
        return KB_OK;
    }
    return kb_fail(err, KB_FOREIGN_BACKUP,
                   "backup '%s' of lineage '%s' in %s belongs to %s, this run to %s; hint: choose another "
                   "lineage or another prefix, or take this one over with --adopt-lineage",
                   member->backup_id, settings->lineage, kb_storage_describe(settings->storage),
                   member->owner, settings->owner);
}

/* The newest complete backup stands for those before it: each was checked when it was made. */
static kb_code check_newest(lock_run *run, char **ret_cluster_id, kb_error *err)
{
    const kb_backup_settings *settings = run->lock->settings;
    for (size_t i = 0; i < run->members.count; i++) {
        kb_lineage_member *member = &run->members.items[i];
        bool is_member = false;
        if (member->state != KB_CATALOG_COMPLETE || member->marked)
            continue;
        KB_AUTO_ERROR(problem);
        kb_code code = kb_lineage_confirm(settings->storage, settings->lineage, member, &is_member, &problem);
        if (code == KB_BACKUP_CORRUPT) {
            kb_log(KB_LOG_WARN, "a backup of the lineage cannot be read", KB_STR("backup", member->backup_id),
                   KB_ERRTEXT(&problem));
            continue;
        }
        if (code != KB_OK) {
            kb_error_move(err, &problem);
            return code;
        }
        if (!is_member)
            continue;
        if (check_owner(settings, member, err) != KB_OK)
            return err->code;
        *ret_cluster_id = kb_strdup_opt(member->cluster_id);
        return KB_OK;
    }
    return KB_OK;
}

static kb_code check_open(const lock_run *run, kb_error *err)
{
    for (size_t i = 0; i < run->members.count; i++) {
        const kb_lineage_member *member = &run->members.items[i];
        bool counts = member->confirmed && !member->marked && member->state != KB_CATALOG_CLOSED;
        if (counts && check_owner(run->lock->settings, member, err) != KB_OK)
            return err->code;
    }
    return KB_OK;
}

/* ---- the others ---- */

static void pass(lock_run *run, const char *backup_id)
{
    kb_map_puts(run->passed, backup_id, run);
}

static bool is_other(const lock_run *run, const kb_lineage_member *member, kb_catalog_state state)
{
    return member->state == state && !member->marked && member->confirmed &&
           kb_map_gets(run->passed, member->backup_id) == NULL &&
           strcmp(member->backup_id, run->lock->settings->backup_id) != 0;
}

/* Its last entry is so old, by the store's own clock, that nobody can be writing the next one. */
static kb_code is_silent(const lock_run *run, const kb_lineage_member *member, bool *ret_silent,
                         kb_error *err)
{
    int64_t now_ms = 0;
    if (kb_storage_now(run->lock->settings->storage, &now_ms, err) != KB_OK)
        return kb_wrap(err, "asking the store for its time");
    *ret_silent = now_ms - member->last_entry_ms > KB_JOURNAL_SILENCE_MS + KB_SLACK_MS;
    return KB_OK;
}

static kb_code finish(const lock_run *run, const char *backup_id, kb_error *err)
{
    kb_storage *storage = run->lock->settings->storage;
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_journal_state state = KB_JOURNAL_OPEN;
    if (kb_journal_inspect(storage, backup_id, &backup, &state, err) != KB_OK ||
        kb_seal_finish(storage, &backup, err) != KB_OK)
        return kb_wrap(err, "finishing the sealed backup '%s' of the lineage", backup_id);
    kb_log(KB_LOG_INFO, "finished a sealed backup of the lineage", KB_STR("backup", backup_id));
    return KB_OK;
}

/* Complete by now, or closed, or damaged: none of these is waited for. */
static bool needs_no_wait(kb_code code)
{
    return code == KB_BACKUP_EXISTS || code == KB_CONFIG_INVALID || code == KB_BACKUP_CORRUPT;
}

static kb_code wait_for(lock_run *run, const char *backup_id, kb_error *err)
{
    const kb_lineage_lock *lock = run->lock;
    int64_t waited_ms = kb_clock_boot_ms() - run->began_ms;
    const kb_journal_options options = {
        .storage = lock->settings->storage,
        .backup_id = backup_id,
        .holder = &lock->settings->holder,
        .require_conditional_put = lock->require_conditional_put,
        .lock_wait_ms = lock->lock_wait_ms > waited_ms ? lock->lock_wait_ms - waited_ms : 0,
        .stop = lock->settings->stop,
        .on_waiting = lock->on_waiting,
        .on_waiting_ctx = lock->on_waiting_ctx,
    };
    KB_CLEANUP(kb_journal_free_at) kb_journal *journal = NULL;
    if (kb_journal_new(&options, &journal, err) != KB_OK)
        return err->code;
    KB_AUTO_ERROR(answer);
    kb_code code = kb_journal_wait(journal, &answer);
    if (code != KB_OK && !needs_no_wait(code)) {
        kb_error_move(err, &answer);
        return code;
    }
    /* Sealed: the next look finishes it. Everything else is not waited for again. */
    if (code != KB_OK || kb_journal_state_of(journal) != KB_JOURNAL_SEALED)
        pass(run, backup_id);
    return KB_OK;
}

/* One of the others that is not done with; after a wait the lineage is looked at anew. */
static kb_code serve_one(lock_run *run, bool *ret_done, kb_error *err)
{
    for (size_t i = 0; i < run->members.count; i++) {
        const kb_lineage_member *member = &run->members.items[i];
        bool sealed = is_other(run, member, KB_CATALOG_SEALED);
        if (!sealed && !is_other(run, member, KB_CATALOG_OPEN))
            continue;
        bool silent = member->released;
        if (!sealed && !silent && is_silent(run, member, &silent, err) != KB_OK)
            return err->code;
        if (sealed || silent)
            pass(run, member->backup_id);
        if (silent)
            continue;
        return sealed ? finish(run, member->backup_id, err) : wait_for(run, member->backup_id, err);
    }
    *ret_done = true;
    return KB_OK;
}

kb_code kb_lineage_enter(const kb_lineage_lock *lock, char **ret_cluster_id, kb_error *err)
{
    KB_CLEANUP(run_done)
    lock_run run = {.lock = lock, .passed = kb_map_new(NULL), .began_ms = kb_clock_boot_ms()};
    const kb_backup_settings *settings = lock->settings;
    bool done = false;
    while (!done) {
        kb_lineage_members_done(&run.members);
        if (kb_lineage_scan(settings->storage, settings->lineage, &run.members, err) != KB_OK ||
            check_open(&run, err) != KB_OK || serve_one(&run, &done, err) != KB_OK)
            return err->code;
    }
    return check_newest(&run, ret_cluster_id, err);
}

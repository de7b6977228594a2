#include "worker/catalog/prune.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/failpoint.h"
#include "common/base/mem.h"
#include "worker/catalog/journal_close.h"
#include "worker/catalog/prune_delete.h"
#include "worker/catalog/prune_mark.h"
#include "worker/catalog/prune_survey.h"

/* ---- results ---- */

static void rows_done(kb_prune_rows *rows)
{
    for (size_t i = 0; i < rows->count; i++) {
        free(rows->rows[i].backup_id);
        free(rows->rows[i].why);
    }
    free(rows->rows);
}

void kb_prune_result_done(kb_prune_result *result)
{
    rows_done(&result->kept);
    rows_done(&result->closed);
    rows_done(&result->marked);
    rows_done(&result->deleted);
    for (size_t i = 0; i < result->object_count; i++)
        free(result->objects[i]);
    free(result->objects);
    *result = (kb_prune_result){0};
}

static void add_row(kb_prune_rows *rows, const char *backup_id, const char *why)
{
    rows->rows = kb_grow(rows->rows, rows->count, &rows->capacity, sizeof *rows->rows);
    rows->rows[rows->count++] = (kb_prune_row){kb_strdup(backup_id), kb_strdup(why)};
}

static bool has_row(const kb_prune_rows *rows, const char *backup_id)
{
    for (size_t i = 0; i < rows->count; i++)
        if (strcmp(rows->rows[i].backup_id, backup_id) == 0)
            return true;
    return false;
}

/* ---- the run ---- */

typedef struct prune_run {
    const kb_prune_options *options;
    kb_prune_result *result;
    int64_t now_ms;
    kb_prune_survey survey;
    uint64_t *roots; /* owned, sorted: hashes of all keys that must stay */
    size_t root_count;
} prune_run;

static void prune_run_done(prune_run *run)
{
    kb_prune_survey_done(&run->survey);
    free(run->roots);
}

static kb_code check_stop(const prune_run *run, kb_error *err)
{
    if (run->options->stop != NULL && kb_stop_requested(run->options->stop))
        return kb_fail(err, KB_ERR_STOPPED, "stopped while pruning lineage '%s'", run->options->lineage);
    return KB_OK;
}

static int64_t age_ms(const prune_run *run, int64_t then_ms)
{
    return then_ms >= run->now_ms ? 0 : run->now_ms - then_ms;
}

/* ---- abandoned backups ---- */

/* Whether a good backup came after what this one has. */
static bool is_overtaken(const prune_run *run, const kb_prune_member *open)
{
    for (size_t i = 0; i < run->survey.count; i++) {
        const kb_prune_member *member = &run->survey.members[i];
        if (member->role == KB_PRUNE_GOOD &&
            (member->stamp_ms > open->stamp_ms || member->completed_ms > open->last_entry_ms))
            return true;
    }
    return false;
}

static kb_code close_one(prune_run *run, kb_prune_member *member, kb_error *err)
{
    const kb_prune_options *options = run->options;
    const kb_journal_close_options close = {
        .storage = options->storage,
        .backup_id = member->backup_id,
        .holder = options->holder,
        .reason = "abandoned",
        .last_seq = member->last_seq,
        .clock = options->clock,
    };
    bool closed = true;
    kb_code code = options->dry_run ? KB_OK : kb_journal_close(&close, &closed, err);
    if (code != KB_OK || !closed)
        return code;
    member->role = KB_PRUNE_CLOSED;
    add_row(&run->result->closed, member->backup_id, "abandoned");
    return KB_OK;
}

static kb_code close_abandoned(prune_run *run, kb_error *err)
{
    for (size_t i = 0; i < run->survey.count; i++) {
        kb_prune_member *member = &run->survey.members[i];
        if (member->role != KB_PRUNE_OPEN || age_ms(run, member->last_entry_ms) < KB_PRUNE_ABANDONED_MS ||
            !is_overtaken(run, member))
            continue;
        kb_code code = check_stop(run, err);
        if (code == KB_OK)
            code = close_one(run, member, err);
        if (code != KB_OK)
            return code;
    }
    return KB_OK;
}

/* ---- marks ---- */

static kb_code mark_one(prune_run *run, kb_prune_member *member, const char *reason, kb_error *err)
{
    const kb_prune_options *options = run->options;
    KB_AUTOFREE char *marked_by = kb_holder_describe(options->holder);
    const kb_prune_mark mark = {kb_strdup(reason), marked_by};
    bool was_marked = false;
    kb_code code = check_stop(run, err);
    if (code == KB_OK && !options->dry_run)
        code = kb_prune_mark_write(options->storage, member->backup_id, &mark, &was_marked, err);
    free(mark.reason);
    if (code != KB_OK)
        return code;
    member->role = KB_PRUNE_MARKED;
    member->marked_at_ms = run->now_ms;
    if (!was_marked)
        add_row(&run->result->marked, member->backup_id, reason);
    return KB_FAILPOINT("prune.marked", err);
}

/* Good backups in the order of the survey, for the rules; *ret_count of them. Owned. */
static kb_retention_backup *good_backups(const prune_run *run, kb_prune_member ***ret_members,
                                         size_t *ret_count)
{
    kb_retention_backup *backups = kb_calloc(run->survey.count + 1, sizeof *backups);
    kb_prune_member **members = kb_calloc(run->survey.count + 1, sizeof(kb_prune_member *));
    size_t count = 0;
    for (size_t i = 0; i < run->survey.count; i++) {
        kb_prune_member *member = &run->survey.members[i];
        if (member->role != KB_PRUNE_GOOD)
            continue;
        members[count] = member;
        backups[count++] = (kb_retention_backup){
            .stamp_ms = member->stamp_ms,
            .completed_ms = member->completed_ms,
            .is_base = kb_prune_survey_is_base(&run->survey, member->backup_id),
        };
    }
    *ret_members = members;
    *ret_count = count;
    return backups;
}

static kb_code mark_by_rules(prune_run *run, kb_error *err)
{
    size_t count = 0;
    KB_AUTOFREE kb_prune_member **members = NULL;
    KB_AUTOFREE kb_retention_backup *backups = good_backups(run, &members, &count);
    KB_AUTOFREE kb_retention_verdict *verdicts = kb_calloc(count + 1, sizeof *verdicts);
    kb_retention_decide(&run->options->policy, run->now_ms, backups, count, verdicts);
    for (size_t i = 0; i < count; i++) {
        if (!kb_retention_is_victim(verdicts[i])) {
            add_row(&run->result->kept, members[i]->backup_id, kb_retention_verdict_name(verdicts[i]));
            continue;
        }
        kb_code code = mark_one(run, members[i], kb_retention_verdict_name(verdicts[i]), err);
        if (code != KB_OK)
            return code;
    }
    return KB_OK;
}

static kb_code mark_closed(prune_run *run, kb_error *err)
{
    for (size_t i = 0; i < run->survey.count; i++) {
        kb_prune_member *member = &run->survey.members[i];
        if (member->role != KB_PRUNE_CLOSED)
            continue;
        kb_code code = mark_one(run, member, "abandoned", err);
        if (code != KB_OK)
            return code;
    }
    return KB_OK;
}

/* ---- roots ---- */

/*
 * Looks again, now that the marks stand: a backup that began meanwhile either sees the mark of its base, or
 * is seen here. Marks of this run are new, whatever the clocks say; those of a dry run are in its eyes only.
 */
static kb_code look_again(prune_run *run, kb_error *err)
{
    kb_prune_survey survey = {NULL, 0};
    kb_code code =
        kb_prune_survey_make(run->options->storage, run->options->lineage, &run->survey, &survey, err);
    if (code != KB_OK)
        return code;
    kb_prune_survey_done(&run->survey);
    run->survey = survey;
    for (size_t i = 0; i < run->survey.count; i++) {
        kb_prune_member *member = &run->survey.members[i];
        if (!has_row(&run->result->marked, member->backup_id))
            continue;
        member->role = KB_PRUNE_MARKED;
        member->marked_at_ms = run->now_ms;
    }
    return KB_OK;
}

/* The newest marked backup that can still be read, when there is no good one: somebody may have removed or
 * damaged what it was replaced by. NULL when it is not needed. */
static kb_code find_last_resort(prune_run *run, const kb_prune_member **ret_member, kb_error *err)
{
    *ret_member = NULL;
    for (size_t i = 0; i < run->survey.count; i++)
        if (run->survey.members[i].role == KB_PRUNE_GOOD)
            return KB_OK;
    for (size_t i = 0; i < run->survey.count && *ret_member == NULL; i++) {
        kb_prune_member *member = &run->survey.members[i];
        if (member->role != KB_PRUNE_MARKED || !member->has_index)
            continue;
        kb_code code = kb_prune_member_load(run->options->storage, &run->survey, member, err);
        if (code != KB_OK)
            return code;
        if (member->is_readable)
            *ret_member = member;
    }
    return KB_OK;
}

/* NULL: the marked backup goes now. Else why it does not. */
static const char *why_marked_stays(const prune_run *run, const kb_prune_member *member,
                                    const kb_prune_member *last_resort)
{
    if (member == last_resort)
        return "the last good backup";
    if (kb_prune_survey_is_base(&run->survey, member->backup_id))
        return "base of an open backup";
    if (member->marked_at_ms == KB_PRUNE_AGE_UNKNOWN)
        return "being removed";
    if (age_ms(run, member->marked_at_ms) < run->options->grace_ms)
        return "marked, within its grace";
    return NULL;
}

static int compare_hashes(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* All that a backup which stays lists. Within its grace a marked one may still be read. */
static kb_code gather_roots(prune_run *run, const kb_prune_member *last_resort, kb_error *err)
{
    size_t capacity = 0;
    for (size_t i = 0; i < run->survey.count; i++) {
        kb_prune_member *member = &run->survey.members[i];
        if (member->role == KB_PRUNE_MARKED && why_marked_stays(run, member, last_resort) == NULL)
            continue;
        kb_code code = kb_prune_member_load(run->options->storage, &run->survey, member, err);
        if (code != KB_OK)
            return code;
        for (size_t k = 0; k < member->key_count; k++) {
            run->roots = kb_grow(run->roots, run->root_count, &capacity, sizeof *run->roots);
            run->roots[run->root_count++] = member->keys[k];
        }
    }
    if (run->root_count > 1)
        qsort(run->roots, run->root_count, sizeof *run->roots, compare_hashes);
    return KB_OK;
}

/* ---- deleting ---- */

static kb_code delete_marked(prune_run *run, kb_prune_deleter *deleter, const kb_prune_member *last_resort,
                             kb_error *err)
{
    for (size_t i = 0; i < run->survey.count; i++) {
        const kb_prune_member *member = &run->survey.members[i];
        if (member->role != KB_PRUNE_MARKED)
            continue;
        const char *why = why_marked_stays(run, member, last_resort);
        if (why != NULL) {
            add_row(&run->result->kept, member->backup_id, why);
            continue;
        }
        kb_prune_deleted deleted = {0};
        kb_code code = kb_prune_delete_backup(deleter, member->backup_id, &deleted, err);
        if (deleted.index_gone || deleted.all_gone)
            add_row(&run->result->deleted, member->backup_id, deleted.all_gone ? "gone" : "in part");
        if (code != KB_OK)
            return code;
        if (!deleted.all_gone)
            add_row(&run->result->kept, member->backup_id,
                    deleted.was_held ? "held by the store" : "others use its segments");
    }
    return KB_OK;
}

static kb_code delete_orphans(prune_run *run, kb_prune_deleter *deleter, kb_error *err)
{
    for (size_t i = 0; i < run->survey.count; i++) {
        const kb_prune_member *member = &run->survey.members[i];
        if (member->role != KB_PRUNE_GOOD)
            continue;
        kb_code code = kb_prune_delete_orphans(deleter, member->backup_id, err);
        if (code != KB_OK)
            return code;
    }
    return KB_OK;
}

static kb_code delete_all(prune_run *run, kb_error *err)
{
    const kb_prune_member *last_resort = NULL;
    kb_code code = find_last_resort(run, &last_resort, err);
    if (code == KB_OK)
        code = gather_roots(run, last_resort, err);
    if (code != KB_OK)
        return code;
    kb_prune_deleter deleter = {
        .storage = run->options->storage,
        .dry_run = run->options->dry_run,
        .stop = run->options->stop,
        .orphans_before_ms = run->now_ms - KB_PRUNE_ORPHAN_MS,
        .roots = run->roots,
        .root_count = run->root_count,
        .result = run->result,
    };
    code = delete_marked(run, &deleter, last_resort, err);
    return code == KB_OK ? delete_orphans(run, &deleter, err) : code;
}

static const char *why_unmarked_stays(kb_prune_role role)
{
    switch (role) {
    case KB_PRUNE_OPEN:
        return "open";
    case KB_PRUNE_SEALED:
        return "sealed";
    case KB_PRUNE_DAMAGED:
        return "damaged";
    case KB_PRUNE_CLOSED:
        return "closed";
    case KB_PRUNE_GOOD:
        return "new";
    case KB_PRUNE_MARKED:
    default:
        return NULL;
    }
}

/* The rows of what was neither judged by the rules nor marked, and the order of all. */
static void finish_kept(prune_run *run)
{
    for (size_t i = 0; i < run->survey.count; i++) {
        const kb_prune_member *member = &run->survey.members[i];
        const char *why = why_unmarked_stays(member->role);
        if (why != NULL && !has_row(&run->result->kept, member->backup_id))
            add_row(&run->result->kept, member->backup_id, why);
    }
    size_t place = 0;
    kb_prune_rows *kept = &run->result->kept;
    for (size_t i = 0; i < run->survey.count; i++) {
        size_t at = place;
        while (at < kept->count && strcmp(kept->rows[at].backup_id, run->survey.members[i].backup_id) != 0)
            at++;
        if (at == kept->count)
            continue;
        kb_prune_row row = kept->rows[at];
        memmove(&kept->rows[place + 1], &kept->rows[place], (at - place) * sizeof row);
        kept->rows[place++] = row;
    }
}

kb_code kb_prune_run(const kb_prune_options *options, kb_prune_result *result, kb_error *err)
{
    KB_CLEANUP(prune_run_done) prune_run run = {.options = options, .result = result};
    kb_code code = kb_retention_check(&options->policy, err);
    if (code == KB_OK)
        code = kb_storage_now(options->storage, &run.now_ms, err);
    if (code == KB_OK)
        code = kb_prune_survey_make(options->storage, options->lineage, NULL, &run.survey, err);
    if (code == KB_OK)
        code = close_abandoned(&run, err);
    if (code == KB_OK)
        code = mark_by_rules(&run, err);
    if (code == KB_OK)
        code = mark_closed(&run, err);
    if (code == KB_OK)
        code = look_again(&run, err);
    if (code == KB_OK)
        code = delete_all(&run, err);
    if (code == KB_OK)
        finish_kept(&run);
    return code;
}

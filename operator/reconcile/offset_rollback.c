#include "operator/reconcile/offset_rollback.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/reconcile/bounded.h"

#define KB_DIFFERENCES_MAX 50

static void resolve(const kb_pass *pass, kb_resolved *ret_resolved)
{
    const kb_snapshot *snapshot = pass->snapshot;
    const kb_resolve_peers peers = {snapshot->backups, snapshot->restores, snapshot->resets,
                                    snapshot->rollbacks};
    kb_resolve_rollback(&pass->spec, &peers, ret_resolved);
}

static const char *command(const kb_spec *spec)
{
    static const char *const commands[] = {"offset-snapshot", "offset-rollback", "offset-verify",
                                           "offset-delete"};
    return commands[spec->rollback.operation];
}

static void describe(kb_pass *pass)
{
    const kb_rollback_spec *rollback = &pass->spec.rollback;
    if (rollback->operation < 0)
        return;
    kb_tree_set_text(pass->status, "operation", kb_spec_operation_word(rollback->operation));
}

static void collect_snapshot(kb_pass *pass, const json_t *report)
{
    json_t *data = kb_tree_object();
    kb_bounded_copy_number(data, "groups", report, "groupsTotal", INT32_MAX);
    kb_bounded_copy_number(data, "totalPartitions", report, "partitionsTotal", INT32_MAX);
    int64_t ms = 0;
    if (kb_tree_time(&ms, report, "snapshotTime", NULL))
        kb_tree_set_time(data, "timestamp", ms);
    if (json_object_size(data) > 0)
        kb_tree_set(pass->status, "snapshotData", json_incref(data));
    json_decref(data);
}

static void collect_verification(kb_pass *pass, const json_t *report)
{
    static const char *const texts[] = {"group", "topic"};
    if (!json_is_boolean(kb_tree_at(report, "matched", NULL)))
        return;
    json_t *list = kb_tree_array();
    const json_t *differences = kb_tree_at(report, "differences", NULL);
    for (size_t i = 0; i < json_array_size(differences) && i < KB_DIFFERENCES_MAX; i++) {
        const json_t *difference = json_array_get(differences, i);
        json_t *row = kb_tree_object();
        for (size_t k = 0; k < KB_ARRAY_LEN(texts); k++) {
            KB_AUTOFREE char *text = kb_status_text(kb_tree_text_or_empty(difference, texts[k], NULL), 249);
            kb_tree_set_text(row, texts[k], text);
        }
        kb_tree_set_i64(row, "partition", kb_tree_i64(0, difference, "partition", NULL) & INT32_MAX);
        kb_tree_set_i64(row, "expected", kb_tree_i64(0, difference, "expected", NULL));
        kb_tree_set_i64(row, "actual", kb_tree_i64(0, difference, "actual", NULL));
        kb_tree_add(list, row);
    }
    json_t *result = kb_tree_object();
    kb_tree_set_bool(result, "matched", kb_tree_bool(false, report, "matched", NULL));
    kb_tree_set(result, "differences", list);
    kb_tree_set(pass->status, "verificationResult", result);
}

static void collect(kb_pass *pass, const json_t *report, bool is_good)
{
    int operation = pass->spec.rollback.operation;
    if (is_good)
        kb_tree_set_text(pass->status, "snapshotId", pass->spec.rollback.snapshot_id);
    if (operation == KB_SPEC_OPERATION_SNAPSHOT || operation == KB_SPEC_OPERATION_ROLLBACK)
        collect_snapshot(pass, report);
    if (operation == KB_SPEC_OPERATION_ROLLBACK)
        kb_bounded_copy_number(pass->status, "groupsRolledBack", report, "groupsDone", INT32_MAX);
    if (operation == KB_SPEC_OPERATION_VERIFY)
        collect_verification(pass, report);
}

/* The words of the four operations. */
static kb_bounded_kind kind_of(const char *operation)
{
    kb_bounded_kind kind = {
        .job_created_event = "RollbackJobCreated",
        .succeeded_event = "RollbackSucceeded",
        .failed_event = "RollbackFailed",
        .done_event = "RollbackSucceeded",
        .completed_reason = "RollbackCompleted",
        .findings_reason = "CompletedWithFindings",
        .resolve = resolve,
        .command = command,
        .describe = describe,
        .collect = collect,
    };
    if (strcmp(operation, "snapshot") == 0)
        kind.completed_reason = "SnapshotCreated";
    if (strcmp(operation, "delete") == 0)
        kind.completed_reason = "SnapshotDeleted";
    if (strcmp(operation, "verify") == 0) {
        kind.completed_reason = "VerificationPassed";
        kind.findings_reason = "VerificationCompleted";
        kind.succeeded_event = "VerificationPassed";
        kind.failed_event = "VerificationFailed";
    }
    return kind;
}

void kb_decide_offset_rollback(const kb_snapshot *snapshot, const kb_surroundings *around, kb_plan *plan)
{
    const kb_bounded_kind kind = kind_of(kb_tree_text_or_empty(snapshot->object, "spec", "operation", NULL));
    kb_decide_bounded(&kind, snapshot, around, plan);
}

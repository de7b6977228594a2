#include "operator/reconcile/offset_reset.h"

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/reconcile/bounded.h"

#define KB_LIST_MAX 100
#define KB_SNAPSHOT_BYTES 253

static void resolve(const kb_pass *pass, kb_resolved *ret_resolved)
{
    const kb_snapshot *snapshot = pass->snapshot;
    const kb_resolve_peers peers = {snapshot->backups, snapshot->restores, snapshot->resets,
                                    snapshot->rollbacks};
    kb_resolve_reset(&pass->spec, &peers, ret_resolved);
}

static const char *command(const kb_spec *spec)
{
    (void)spec;
    return "offset-reset";
}

static void add_result(json_t *list, const json_t *group)
{
    static const struct {
        const char *name;
        size_t bytes;
    } texts[] = {{"group", 255}, {"status", 16}, {"message", 253}};
    json_t *row = kb_tree_object();
    for (size_t i = 0; i < KB_ARRAY_LEN(texts); i++) {
        const char *given = kb_tree_text(group, texts[i].name, NULL);
        KB_AUTOFREE char *text = given != NULL ? kb_status_text(given, texts[i].bytes) : NULL;
        kb_tree_set_text(row, texts[i].name, text);
    }
    kb_bounded_copy_number(row, "partitionsReset", group, "partitionsReset", INT32_MAX);
    kb_tree_add(list, row);
}

static void collect(kb_pass *pass, const json_t *report, bool is_good)
{
    (void)is_good;
    kb_bounded_copy_number(pass->status, "groupsReset", report, "groupsDone", INT32_MAX);
    kb_bounded_copy_number(pass->status, "groupsFailed", report, "groupsFailed", INT32_MAX);
    const char *id = kb_tree_text(report, "snapshotId", NULL);
    KB_AUTOFREE char *snapshot = id != NULL ? kb_status_text(id, KB_SNAPSHOT_BYTES) : NULL;
    kb_tree_set_text(pass->status, "snapshotId", snapshot);
    const json_t *groups = kb_tree_at(report, "groups", NULL);
    if (!json_is_array(groups))
        return;
    json_t *results = kb_tree_array();
    for (size_t i = 0; i < json_array_size(groups) && i < KB_LIST_MAX; i++)
        add_result(results, json_array_get(groups, i));
    kb_tree_set(pass->status, "results", results);
}

void kb_decide_offset_reset(const kb_snapshot *snapshot, const kb_surroundings *around, kb_plan *plan)
{
    kb_bounded_kind kind = {
        .job_created_event = "ResetJobCreated",
        .succeeded_event = "ResetSucceeded",
        .failed_event = "ResetFailed",
        .done_event = "ResetSucceeded",
        .completed_reason = "ResetCompleted",
        .findings_reason = "CompletedWithFindings",
        .resolve = resolve,
        .command = command,
        .collect = collect,
    };
    if (kb_tree_bool(false, snapshot->object, "spec", "dryRun", NULL))
        kind.completed_reason = "DryRunCompleted";
    kb_decide_bounded(&kind, snapshot, around, plan);
}

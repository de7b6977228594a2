#include "operator/reconcile/restore.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/contract/names.h"
#include "common/data/json_tree.h"
#include "operator/reconcile/bounded.h"

#define KB_LIST_MAX 100
#define KB_TOPIC_BYTES 249
#define KB_GROUP_BYTES 255
#define KB_SNAPSHOT_ID_MAX 128
#define KB_COUNT_MAX 9007199254740991LL

static void resolve(const kb_pass *pass, kb_resolved *ret_resolved)
{
    kb_resolve_restore(&pass->spec, pass->snapshot->backups, ret_resolved);
}

static const char *command(const kb_spec *spec)
{
    (void)spec;
    return "restore";
}

static void describe(kb_pass *pass)
{
    const kb_restore_spec *restore = &pass->spec.restore;
    if (restore->rollback.is_set && restore->rollback.enabled) {
        KB_AUTOFREE char *id = restore->rollback.snapshot_id != NULL
                                   ? kb_strdup(restore->rollback.snapshot_id)
                                   : kb_name_child(pass->name, "-pre-restore", KB_SNAPSHOT_ID_MAX);
        kb_tree_set_text(pass->status, "rollbackSnapshotId", id);
    }
}

static void collect_topics(kb_pass *pass, const json_t *report)
{
    const json_t *topics = kb_tree_at(report, "topics", NULL);
    if (!json_is_array(topics))
        return;
    json_t *list = kb_tree_array();
    for (size_t i = 0; i < json_array_size(topics) && i < KB_LIST_MAX; i++) {
        const json_t *topic = json_array_get(topics, i);
        KB_AUTOFREE char *name = kb_status_text(kb_tree_text_or_empty(topic, "name", NULL), KB_TOPIC_BYTES);
        json_t *row = kb_tree_object();
        kb_tree_set_text(row, "name", name);
        kb_bounded_copy_number(row, "records", topic, "records", KB_COUNT_MAX);
        kb_tree_add(list, row);
    }
    kb_tree_set(pass->status, "restoredTopics", list);
}

/* Only what a report says was moved: nothing claims a moved group without one. */
static void collect_groups(kb_pass *pass, const json_t *report, bool is_good)
{
    const kb_spec_offset_reset *reset = &pass->spec.restore.offset_reset;
    if (!reset->is_set || !reset->enabled || report == NULL)
        return;
    json_t *names = kb_tree_array();
    const json_t *groups = kb_tree_at(report, "groups", NULL);
    for (size_t i = 0; i < json_array_size(groups) && i < KB_LIST_MAX; i++) {
        const json_t *group = json_array_get(groups, i);
        if (strcmp(kb_tree_text_or_empty(group, "status", NULL), "success") != 0)
            continue;
        KB_AUTOFREE char *name = kb_status_text(kb_tree_text_or_empty(group, "group", NULL), KB_GROUP_BYTES);
        kb_tree_add_text(names, name);
    }
    json_t *status = kb_tree_object();
    bool has_failed = kb_tree_i64(0, report, "groupsFailed", NULL) > 0;
    kb_tree_set_text(status, "phase", is_good && !has_failed ? "Completed" : "Failed");
    kb_tree_set(status, "groupsReset", names);
    kb_tree_set(pass->status, "offsetResetStatus", status);
}

static void collect(kb_pass *pass, const json_t *report, bool is_good)
{
    kb_bounded_copy_number(pass->status, "restoredRecords", report, "recordsProcessed", KB_COUNT_MAX);
    kb_bounded_copy_number(pass->status, "restoredTopicCount", report, "topicsTotal", INT32_MAX);
    collect_topics(pass, report);
    collect_groups(pass, report, is_good);
}

void kb_decide_restore(const kb_snapshot *snapshot, const kb_surroundings *around, kb_plan *plan)
{
    static const kb_bounded_kind kind = {
        .job_created_event = "RestoreJobCreated",
        .succeeded_event = "RestoreSucceeded",
        .failed_event = "RestoreFailed",
        .done_event = "RestoreSucceeded",
        .completed_reason = "RestoreCompleted",
        .findings_reason = "CompletedWithFindings",
        .resolve = resolve,
        .command = command,
        .describe = describe,
        .collect = collect,
    };
    kb_decide_bounded(&kind, snapshot, around, plan);
}

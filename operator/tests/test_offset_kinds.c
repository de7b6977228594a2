#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/jobs/object_names.h"
#include "operator/reconcile/offset_reset.h"
#include "operator/reconcile/offset_rollback.h"
#include "operator/tests/decide_fixture.h"

#define OWNER(kind, uid) \
    "'ownerReferences':[{'kind':'" kind "','name':'x','uid':'" uid "','controller':true}]"
#define JOB(kind, name) \
    "[{'metadata':{'name':'" name "','uid':'j1','creationTimestamp':'2024-12-01T12:00:02Z'," OWNER( \
        kind, "u1") "},'status':{'startTime':'2024-12-01T12:00:02Z','completionTime':'2024-12-01T12:00:20Z'" \
                    ",'conditions':[{'type':" \
                    "'Complete','status':'True'}]}}]"
#define RUN(more) "'status':{'run':{'version':1,'jobUid':'j1'," more "}}"
#define SETUP "config-map account:kafka-backup-worker binding:kafka-backup-worker"
#define MAP "snapshot-map:offset-snapshots role:x-offset-snapshots binding:x-offset-snapshots "
#define BY_HEADERS "'spec':{'strategy':'headerBased','kafkaCluster':null}"
#define RESTORED(name, server, outcome, more) \
    "{'metadata':{'name':'" name "','namespace':'ns','uid':'r-" name \
    "','annotations':{'kafka.oso.sh/ledger':'{\\'uid\\':\\'r-" name "\\',\\'outcome\\':\\'" outcome \
    "\\'}'}},'spec':{'backupId':'b-20241201-110000','targetCluster':{'bootstrapServers':['" server \
    "']},'storage':{'storageType':'s3','s3':{'bucket':'bbb'}}},'status':{" more "}}"
#define AT(time) "'completionTime':'2024-12-01T" time ":00:00Z'"

typedef struct row {
    const char *what;
    kb_test_case given;
    const char *effects, *complete, *from;
} row;

static const row rows[] = {
    {"reset keeps a snapshot in the ConfigMap",
     {.kind = KB_KIND_OFFSET_RESET, .object = "{}"},
     "status " MAP SETUP " create-job:x-offset-reset",
     "False/NotStarted",
     NULL},
    {"reset without a snapshot",
     {.kind = KB_KIND_OFFSET_RESET, .object = "{'spec':{'createSnapshot':false}}"},
     "status " SETUP " create-job:x-offset-reset",
     "False/NotStarted",
     NULL},
    {"headers without a restore",
     {.kind = KB_KIND_OFFSET_RESET, .object = "{" BY_HEADERS "}"},
     "status",
     "False/KafkaClusterRequired",
     NULL},
    {"headers wait for the restore",
     {.kind = KB_KIND_OFFSET_RESET,
      .object = "{" BY_HEADERS "}",
      .restores = "[" RESTORED("r", "t:9092", "", "") "]"},
     "status",
     "False/WaitingForRestore",
     NULL},
    {"headers, the restore failed",
     {.kind = KB_KIND_OFFSET_RESET,
      .object = "{" BY_HEADERS "}",
      .restores = "[" RESTORED("r", "t:9092", "failure", "") "]"},
     "status",
     "False/KafkaClusterRequired",
     NULL},
    {"headers by the newest restore",
     {.kind = KB_KIND_OFFSET_RESET,
      .object = "{" BY_HEADERS "}",
      .restores = "[" RESTORED("old", "t:9092", "success", AT("10")) "," RESTORED("new", "t:9092", "success",
                                                                                  AT("11")) "]"},
     "status " SETUP " create-job:x-offset-reset",
     "False/NotStarted",
     "KafkaRestore/new"},
    {"headers, two clusters",
     {.kind = KB_KIND_OFFSET_RESET,
      .object = "{" BY_HEADERS "}",
      .restores = "[" RESTORED("a", "t:9092", "success", AT("10")) "," RESTORED("b", "u:9092", "success",
                                                                                AT("11")) "]"},
     "status",
     "False/KafkaClusterAmbiguous",
     NULL},
    {"headers of another source cluster",
     {.kind = KB_KIND_OFFSET_RESET,
      .object = "{'spec':{'strategy':'headerBased','kafkaCluster':null,'sourceCluster':'c2'}}",
      .restores = "[" RESTORED("a", "t:9092", "success", AT("10")) "]"},
     "status",
     "False/KafkaClusterRequired",
     NULL},
    {"reset done",
     {.kind = KB_KIND_OFFSET_RESET,
      .object = "{" RUN(
          "'state':'Succeeded','exitCode':0,'groupsDone':2,'snapshotId':'x-pre-reset','groups':[{'group':'g',"
          "'status':'success','partitionsReset':3}]") "}",
      .jobs = JOB("KafkaOffsetReset", "x-offset-reset")},
     "ledger status mark-recorded:x-offset-reset event:ResetSucceeded observe:success",
     "True/ResetCompleted",
     NULL},
    {"dry run done",
     {.kind = KB_KIND_OFFSET_RESET,
      .object = "{'spec':{'dryRun':true}," RUN("'state':'Succeeded','exitCode':0") "}",
      .jobs = JOB("KafkaOffsetReset", "x-offset-reset")},
     "ledger status mark-recorded:x-offset-reset event:ResetSucceeded observe:success",
     "True/DryRunCompleted",
     NULL},
    {"verify by the ConfigMap",
     {.kind = KB_KIND_OFFSET_ROLLBACK, .object = "{}"},
     "status " MAP SETUP " create-job:x-offset-verify",
     "False/NotStarted",
     NULL},
    {"rollback by a store of its own",
     {.kind = KB_KIND_OFFSET_ROLLBACK,
      .object = "{'spec':{'operation':'rollback','storage':{'storageType':'s3','s3':{'bucket':'bbb'}}}}"},
     "status " SETUP " create-job:x-offset-rollback",
     "False/NotStarted",
     NULL},
    {"verify by the store of the restore that made the snapshot",
     {.kind = KB_KIND_OFFSET_ROLLBACK,
      .object = "{}",
      .restores = "[" RESTORED("r", "t:9092", "success", "'rollbackSnapshotId':'s'") "]"},
     "status " SETUP " create-job:x-offset-verify",
     "False/NotStarted",
     "KafkaRestore/r"},
    {"another name of the map",
     {.kind = KB_KIND_OFFSET_ROLLBACK,
      .object = "{'spec':{'storage':{'storageType':'configmap','configMap':{'name':'mine'}}}}"},
     "status snapshot-map:mine role:x-offset-snapshots binding:x-offset-snapshots " SETUP
     " create-job:x-offset-verify",
     "False/NotStarted",
     NULL},
    {"verification passed",
     {.kind = KB_KIND_OFFSET_ROLLBACK,
      .object = "{" RUN("'state':'Succeeded','exitCode':0,'matched':true") "}",
      .jobs = JOB("KafkaOffsetRollback", "x-offset-verify")},
     "ledger status mark-recorded:x-offset-verify event:VerificationPassed observe:success",
     "True/VerificationPassed",
     NULL},
    {"differences, not strict",
     {.kind = KB_KIND_OFFSET_ROLLBACK,
      .object =
          "{" RUN("'state':'DoneWithFindings','exitCode':0,'reason':'DifferencesFound','matched':false") "}",
      .jobs = JOB("KafkaOffsetRollback", "x-offset-verify")},
     "ledger status mark-recorded:x-offset-verify event:RollbackSucceeded event:CompletedWithFindings "
     "observe:success",
     "True/VerificationCompleted",
     NULL},
    {"verification without a report claims nothing",
     {.kind = KB_KIND_OFFSET_ROLLBACK, .object = "{}", .jobs = JOB("KafkaOffsetRollback", "x-offset-verify")},
     "ledger status mark-recorded:x-offset-verify event:RollbackSucceeded event:ReportMismatch "
     "observe:success",
     "True/ReportMissing",
     NULL},
};

static void kb_decide_offset_kinds_row_gives_plan(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        kb_test_decide decide =
            rows[i].given.kind == KB_KIND_OFFSET_RESET ? kb_decide_offset_reset : kb_decide_offset_rollback;
        kb_test_outcome outcome = kb_test_run(&rows[i].given, decide);
        if (strcmp(outcome.effects, rows[i].effects) != 0)
            fail_msg("%s: %s\nexpected: %s", rows[i].what, outcome.effects, rows[i].effects);
        if (strcmp(kb_test_condition(&outcome, "Complete"), rows[i].complete) != 0)
            fail_msg("%s: Complete is %s", rows[i].what, kb_test_condition(&outcome, "Complete"));
        if (rows[i].from != NULL)
            assert_string_equal(kb_tree_text(outcome.object, "status", "resolvedFrom", NULL), rows[i].from);
        kb_test_assert_settled(&rows[i].given, decide, &outcome);
        kb_test_outcome_done(&outcome);
    }
}

static void kb_decide_offset_reset_results_are_those_of_the_report(void **state)
{
    (void)state;
    kb_test_outcome outcome = kb_test_run(&rows[8].given, kb_decide_offset_reset);
    const json_t *status = kb_tree_at(outcome.object, "status", NULL);
    assert_int_equal(kb_tree_i64(0, status, "groupsReset", NULL), 2);
    assert_string_equal(kb_tree_text(status, "snapshotId", NULL), "x-pre-reset");
    const json_t *result = json_array_get(kb_tree_at(status, "results", NULL), 0);
    assert_string_equal(kb_tree_text(result, "group", NULL), "g");
    assert_int_equal(kb_tree_i64(0, result, "partitionsReset", NULL), 3);
    kb_test_outcome_done(&outcome);
}

/* The right to write is for one ConfigMap, and goes with the object. */
static void kb_decide_offset_reset_role_names_one_map(void **state)
{
    (void)state;
    kb_test_outcome outcome = kb_test_run(&rows[0].given, kb_decide_offset_reset);
    const json_t *role = kb_plan_find(&outcome.plan, KB_EFFECT_ROLE)->body;
    KB_AUTOFREE char *rules = kb_tree_canonical(kb_tree_at(role, "rules", NULL));
    assert_string_equal(rules,
                        "[{\"apiGroups\":[\"\"],\"resourceNames\":[\"offset-snapshots\"],\"resources\":"
                        "[\"configmaps\"],\"verbs\":[\"get\",\"patch\"]}]");
    assert_true(kb_is_controlled_by(role, outcome.object));
    assert_false(
        kb_is_controlled_by(kb_plan_find(&outcome.plan, KB_EFFECT_SNAPSHOT_MAP)->body, outcome.object));
    kb_test_outcome_done(&outcome);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_decide_offset_kinds_row_gives_plan),
        cmocka_unit_test(kb_decide_offset_reset_results_are_those_of_the_report),
        cmocka_unit_test(kb_decide_offset_reset_role_names_one_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

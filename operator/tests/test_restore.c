#include "operator/reconcile/restore.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/tests/decide_fixture.h"

#define OWNER(kind, uid) \
    "'ownerReferences':[{'kind':'" kind "','name':'x','uid':'" uid "','controller':true}]"
#define JOB(more, status) \
    "[{'metadata':{'name':'x-restore','uid':'j1','creationTimestamp':'2024-12-01T12:00:02Z','annotations':" \
    "{" more "}," OWNER("KafkaRestore", "u1") "},'status':{" status "}}]"
#define DONE \
    "'startTime':'2024-12-01T12:00:02Z','completionTime':'2024-12-01T12:00:20Z','conditions':[{'type':'" \
    "Complete'," \
    "'status':'True'}]"
#define FAILED \
    "'startTime':'2024-12-01T12:00:02Z','conditions':[{'type':'Failed','status':'True','reason':'" \
    "PodFailurePolicy'}]"
#define POD(state) \
    "[{'metadata':{'name':'p','uid':'p1'," OWNER( \
        "Job", "j1") "},'status':{'containerStatuses':[{'name':'worker','state':" state "}]}}]"
#define RUN(more) "'run':{'version':1,'jobUid':'j1','operation':'restore'," more "}"
#define SETUP "config-map account:kafka-backup-worker binding:kafka-backup-worker"
#define LEDGER(outcome, reason) \
    "'metadata':{'annotations':{'kafka.oso.sh/ledger':'{\\'outcome\\':\\'" outcome \
    "\\',\\'reason\\':\\'" reason "\\',\\'uid\\':\\'u1\\'}'}}"
#define OPEN "'spec':{'targetCluster':null,'storage':null}"
#define SOURCE(name, more) \
    "{'metadata':{'name':'" name \
    "','namespace':'ns'},'spec':{'kafkaCluster':{'bootstrapServers':['k:9092']}," \
    "'storage':{'storageType':'s3','s3':{'bucket':'src'}}}" more "}"

typedef struct row {
    const char *what;
    kb_test_case given;
    const char *effects, *complete, *failed, *phase;
} row;

static const row rows[] = {
    {"startable",
     {.object = "{}"},
     "status " SETUP " create-job:x-restore",
     "False/NotStarted",
     "False/NotFailed",
     "Pending"},
    {"waiting for its pod",
     {.object = "{}", .jobs = JOB("", "'active':1")},
     "status event:RestoreJobCreated",
     "False/Running",
     "False/NotFailed",
     "Pending"},
    {"running",
     {.object = "{}", .jobs = JOB("", "'active':1"), .pods = POD("{'running':{}}")},
     "status event:RestoreJobCreated",
     "False/Running",
     "False/NotFailed",
     "Running"},
    {"success",
     {.object =
          "{'status':{" RUN("'state':'Succeeded','exitCode':0,'recordsProcessed':9,'topicsTotal':1,'topics':["
                            "{'name':'t','records':9}]") "}}",
      .jobs = JOB("", DONE)},
     "ledger status mark-recorded:x-restore event:RestoreSucceeded observe:success",
     "True/RestoreCompleted",
     "False/NotFailed",
     "Completed"},
    {"findings",
     {.object = "{'status':{" RUN(
          "'state':'DoneWithFindings','exitCode':0,'reason':'TimestampChanged','message':'m'") "}}",
      .jobs = JOB("", DONE)},
     "ledger status mark-recorded:x-restore event:RestoreSucceeded event:CompletedWithFindings "
     "observe:success",
     "True/CompletedWithFindings",
     "False/NotFailed",
     "Completed"},
    {"no report",
     {.object = "{}", .jobs = JOB("", DONE)},
     "ledger status mark-recorded:x-restore event:RestoreSucceeded event:ReportMismatch observe:success",
     "True/ReportMissing",
     "False/NotFailed",
     "Completed"},
    {"failure",
     {.object = "{}",
      .jobs = JOB("", FAILED),
      .pods = POD("{'terminated':{'exitCode':78,'finishedAt':'2024-12-01T12:00:20Z','message':'log'}}")},
     "ledger status mark-recorded:x-restore event:RestoreFailed observe:failure",
     "False/Refused",
     "True/Refused",
     "Failed"},
    {"lost, deletion seen",
     {.object = "{'status':{'startTime':'2024-12-01T12:00:02Z','activeJob':{'name':'x-restore','uid':'j1'}}}",
      .is_job_gone = true,
      .was_deletion_seen = true},
     "ledger status event:RestoreFailed event:JobDeleted observe:failure",
     "False/JobDeleted",
     "True/JobDeleted",
     "Failed"},
    {"lost, nothing known",
     {.object = "{'status':{'startTime':'2024-12-01T12:00:02Z','activeJob':{'name':'x-restore','uid':'j1'}}}",
      .is_job_gone = true},
     "ledger status event:RestoreFailed event:OutcomeUnknown observe:failure",
     "False/OutcomeUnknown",
     "True/OutcomeUnknown",
     "Failed"},
    {"lost, but the worker had reported",
     {.object =
          "{'status':{'startTime':'2024-12-01T12:00:02Z','activeJob':{'name':'x-restore','uid':'j1'}," RUN(
              "'state':'Succeeded','exitCode':0") "}}",
      .is_job_gone = true},
     "ledger status event:RestoreSucceeded observe:success",
     "True/RestoreCompleted",
     "False/NotFailed",
     "Completed"},
    {"done stays done",
     {.object = "{" LEDGER("success",
                           "RestoreCompleted") ",'status':{'conditions':[{'type':'Complete','status':'True',"
                                               "'reason':'RestoreCompleted'}]}}"},
     "",
     "True/RestoreCompleted",
     NULL,
     NULL},
    {"status lost after success",
     {.object = "{" LEDGER("success", "RestoreCompleted") "}"},
     "status",
     "True/RestoreCompleted",
     "False/NotFailed",
     "Completed"},
    {"ledger of another object does not count",
     {.object = "{'metadata':{'annotations':{'kafka.oso.sh/"
                "ledger':'{\\'outcome\\':\\'success\\',\\'uid\\':\\'u0\\'}'}}}"},
     "status " SETUP " create-job:x-restore",
     "False/NotStarted",
     NULL,
     NULL},
    {"paused",
     {.object = "{'metadata':{'annotations':{'kafka.oso.sh/pause-reconciliation':'true'}}}"},
     "status event:Paused",
     "False/Paused",
     NULL,
     "Pending"},
    {"storage unknown",
     {.object = "{" OPEN "}"},
     "status",
     "False/StorageRequired",
     "False/NotFailed",
     "Pending"},
    {"storage of the namesake, target not named",
     {.object = "{" OPEN "}", .backups = "[" SOURCE("b", "") "]"},
     "status",
     "False/TargetClusterRequired",
     "False/NotFailed",
     "Pending"},
    {"storage by history, into the source by consent",
     {.object = "{'spec':{'targetCluster':null,'storage':null,'guards':{'allowSourceCluster':true}}}",
      .backups = "[" SOURCE("other", ",'status':{'backupHistory':[{'backupId':'b-20241201-110000'}]}") "]"},
     "status " SETUP " create-job:x-restore",
     "False/NotStarted",
     NULL,
     "Pending"},
    {"into the source with every topic renamed",
     {.object = "{'spec':{'targetCluster':null,'storage':null,'topics':['t'],'topicMapping':{'t':'t2'}}}",
      .backups = "[" SOURCE("b", "") "]"},
     "status " SETUP " create-job:x-restore",
     "False/NotStarted",
     NULL,
     "Pending"},
    {"a glob cannot be renamed",
     {.object = "{'spec':{'targetCluster':null,'storage':null,'topics':['t*'],'topicMapping':{'t*':'t2'}}}",
      .backups = "[" SOURCE("b", "") "]"},
     "status",
     "False/TargetClusterRequired",
     NULL,
     "Pending"},
};

static void kb_decide_restore_row_gives_plan(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        kb_test_case given = rows[i].given;
        given.kind = KB_KIND_RESTORE;
        kb_test_outcome outcome = kb_test_run(&given, kb_decide_restore);
        if (strcmp(outcome.effects, rows[i].effects) != 0)
            fail_msg("%s: %s\nexpected: %s", rows[i].what, outcome.effects, rows[i].effects);
        if (strcmp(kb_test_condition(&outcome, "Complete"), rows[i].complete) != 0)
            fail_msg("%s: Complete is %s", rows[i].what, kb_test_condition(&outcome, "Complete"));
        if (rows[i].failed != NULL && strcmp(kb_test_condition(&outcome, "Failed"), rows[i].failed) != 0)
            fail_msg("%s: Failed is %s", rows[i].what, kb_test_condition(&outcome, "Failed"));
        const char *phase = kb_tree_text_or_empty(outcome.object, "status", "phase", NULL);
        if (rows[i].phase != NULL && strcmp(phase, rows[i].phase) != 0)
            fail_msg("%s: phase is %s", rows[i].what, phase);
        kb_test_assert_settled(&given, kb_decide_restore, &outcome);
        kb_test_outcome_done(&outcome);
    }
}

static void kb_decide_restore_success_fills_the_status(void **state)
{
    (void)state;
    kb_test_case given = rows[3].given;
    given.kind = KB_KIND_RESTORE;
    kb_test_outcome outcome = kb_test_run(&given, kb_decide_restore);
    const json_t *status = kb_tree_at(outcome.object, "status", NULL);
    assert_int_equal(kb_tree_i64(0, status, "restoredRecords", NULL), 9);
    assert_int_equal(kb_tree_i64(0, status, "restoredTopicCount", NULL), 1);
    const json_t *topic = json_array_get(kb_tree_at(status, "restoredTopics", NULL), 0);
    assert_string_equal(kb_tree_text(topic, "name", NULL), "t");
    assert_string_equal(kb_tree_text(status, "completionTime", NULL), "2024-12-01T12:00:20Z");
    kb_test_outcome_done(&outcome);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_decide_restore_row_gives_plan),
        cmocka_unit_test(kb_decide_restore_success_fills_the_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "operator/reconcile/backup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/jobs/ledger.h"
#include "operator/jobs/object_names.h"
#include "operator/tests/decide_fixture.h"

#define OWNER(kind, uid) \
    "'ownerReferences':[{'kind':'" kind "','name':'x','uid':'" uid "','controller':true}]"
#define JOB_SPEC(command) "'spec':{'template':{'spec':{'containers':[{'args':['" command "']}]}}}"
#define JOB_META(name, uid, notes) \
    "'metadata':{'name':'" name "','namespace':'ns','uid':'" uid \
    "','creationTimestamp':'2024-12-01T12:00:02Z'," \
    "'annotations':{" notes "}," OWNER("KafkaBackup", "u1") "}"
#define RUNNING_JOB(name, notes) \
    "[{" JOB_META(name, "j1", notes) "," JOB_SPEC( \
        "backup") ",'status':{'active':1,'startTime':'2024-12-01T12:00:02Z'}}]"
#define DONE \
    "'status':{'startTime':'2024-12-01T12:00:02Z','completionTime':'2024-12-01T12:00:20Z'," \
    "'conditions':[{'type':'Complete','status':'True'}]}"
#define FAILED(reason) \
    "'status':{'failed':1,'startTime':'2024-12-01T12:00:02Z','conditions':[{'type':'Failed','status':'True'" \
    ",'reason':'" reason "','lastTransitionTime':'2024-12-01T12:00:20Z'}]}"
#define ENDED_JOB(name, notes, status) "[{" JOB_META(name, "j1", notes) "," JOB_SPEC("backup") "," status "}]"
#define POD(state) \
    "[{'metadata':{'name':'p','uid':'p1'," OWNER( \
        "Job", "j1") "},'status':{'containerStatuses':[{'name':'worker','state':" state "}]}}]"
#define RUNNING_POD POD("{'running':{'startedAt':'2024-12-01T12:00:05Z'}}")
#define RUN(more) "'run':{'version':1,'jobUid':'j1','operation':'backup'," more "}"
#define GOOD_RUN \
    RUN("'state':'Succeeded','exitCode':0,'backupId':'x-20241201-120002','recordsProcessed':7,'" \
        "bytesProcessed':70," \
        "'retained':1,'earliestTime':'2024-12-01T10:00:00Z','latestTime':'2024-12-01T12:00:02Z'")
#define STAMP \
    "'kafka.oso.sh/stamp':'20241201-120002','kafka.oso.sh/generation':'1','kafka.oso.sh/spec-hash':'abc'," \
    "'kafka.oso.sh/retention':''"
#define HOURLY "'spec':{'schedule':'0 * * * *'}"
#define CRON \
    "{'metadata':{'name':'x','uid':'c1','generation':1," OWNER("KafkaBackup", \
                                                               "u1") "},'spec':{'suspend':false}}"
#define SETUP "config-map account:kafka-backup-worker binding:kafka-backup-worker"

/* What is looked at after a decision; NULL = not looked at. */
typedef struct row {
    const char *what;
    kb_test_case given;
    const char *effects, *ready, *progressing, *phase;
} row;

static const row gate_rows[] = {
    {"one-shot starts",
     {.object = "{}"},
     "status " SETUP " create-job:x-g1",
     "False/NotStarted",
     "False/Idle",
     "Pending"},
    {"schedule makes a CronJob",
     {.object = "{" HOURLY "}"},
     "status " SETUP " cron-job:x event:BackupScheduled",
     "True/BackupScheduled",
     "False/Idle",
     "Pending"},
    {"deletion removes legacy finalizers only",
     {.object = "{'metadata':{'deletionTimestamp':'2024-12-01T12:00:00Z','finalizers':['other/x',"
                "'kafka.oso.sh/backup-finalizer']}}"},
     "finalizers",
     "/",
     NULL,
     NULL},
    {"deletion without finalizers does nothing",
     {.object = "{'metadata':{'deletionTimestamp':'2024-12-01T12:00:00Z'}}"},
     "",
     "/",
     NULL,
     NULL},
    {"pause suspends the CronJob",
     {.object = "{'metadata':{'annotations':{'kafka.oso.sh/pause-reconciliation':'true'}}," HOURLY "}",
      .cron_job = CRON},
     "status event:Paused suspend-cron-job:x",
     "True/BackupScheduled",
     NULL,
     NULL},
    {"namespace without rights",
     {.object = "{}", .settings = "{'clusterWideWorkloads':false}"},
     "status event:NamespaceNotEnabled",
     "False/NamespaceNotEnabled",
     NULL,
     "Failed"},
    {"invalid spec leaves the CronJob alone",
     {.object = "{'spec':{'schedule':'61 * * * *'}}", .cron_job = CRON},
     "status event:InvalidSpec",
     "False/InvalidSchedule",
     NULL,
     "Failed"},
    {"unknown zone",
     {.object = "{'spec':{'schedule':'0 * * * *','timeZone':'No/Where'}}"},
     "status event:InvalidSpec",
     "False/InvalidTimeZone",
     NULL,
     "Failed"},
    {"zone on an old server",
     {.object = "{'spec':{'schedule':'0 * * * *','timeZone':'Europe/Berlin'}}", .minor = 21},
     "status event:TimeZoneUnsupported",
     "False/TimeZoneUnsupported",
     NULL,
     "Failed"},
    {"older namesake with the same location",
     {.object = "{}",
      .same_name =
          "[{'metadata':{'name':'x','namespace':'a','uid':'u0','creationTimestamp':'2024-11-01T10:00:00Z'},"
          "'spec':{'kafkaCluster':{'bootstrapServers':['k:9092']},'storage':{'storageType':'s3',"
          "'s3':{'bucket':'bbb'}}}}]"},
     "status event:StorageLocationConflict",
     "False/StorageLocationConflict",
     NULL,
     "Failed"},
    {"younger namesake does not matter",
     {.object = "{}",
      .same_name =
          "[{'metadata':{'name':'x','namespace':'a','uid':'u0','creationTimestamp':'2024-12-02T10:00:00Z'},"
          "'spec':{'kafkaCluster':{'bootstrapServers':['k:9092']},'storage':{'storageType':'s3',"
          "'s3':{'bucket':'bbb'}}}}]"},
     "status " SETUP " create-job:x-g1",
     "False/NotStarted",
     NULL,
     NULL},
    {"account missing",
     {.object = "{'spec':{'serviceAccountName':'sa'}}", .account = KB_ACCOUNT_ABSENT},
     "status",
     "False/ServiceAccountNotFound",
     NULL,
     "Pending"},
    {"account not allowed",
     {.object = "{'spec':{'serviceAccountName':'sa'}}", .account = KB_ACCOUNT_PRESENT},
     "status event:ServiceAccountNotAllowed",
     "False/ServiceAccountNotAllowed",
     NULL,
     "Failed"},
    {"CronJob of somebody else",
     {.object = "{" HOURLY "}", .is_cron_job_foreign = true},
     "status event:AdoptionRefused",
     "False/AdoptionRefused",
     NULL,
     "Failed"},
    {"denied in the pass before",
     {.object = "{}", .fault = KB_KUBE_DENIED, .fault_text = "create Job ns/x-g1: forbidden"},
     "status event:PermissionDenied " SETUP " create-job:x-g1",
     "False/PermissionDenied",
     NULL,
     "Pending"},
    {"suspended one-shot waits",
     {.object = "{'spec':{'suspend':true}}"},
     "status event:Suspended",
     "True/Suspended",
     NULL,
     "Pending"},
    {"suspended schedule",
     {.object = "{'spec':{'suspend':true,'schedule':'0 * * * *'}}"},
     "status event:Suspended " SETUP " cron-job:x event:BackupScheduled",
     "True/Suspended",
     NULL,
     NULL},
    {"unused block is told",
     {.object = "{'spec':{'storage':{'pvc':{'claimName':'c'}}}}"},
     "status event:UnusedField " SETUP " create-job:x-g1",
     NULL,
     NULL,
     NULL},
};

static const row run_rows[] = {
    {"Job that waits for its pod",
     {.object = "{}", .jobs = RUNNING_JOB("x-g1", STAMP)},
     "status event:BackupJobCreated",
     "True/BackupRunning",
     "True/JobPending",
     "Pending"},
    {"Job that runs",
     {.object = "{}", .jobs = RUNNING_JOB("x-g1", STAMP), .pods = RUNNING_POD},
     "status event:BackupJobCreated",
     "True/BackupRunning",
     "True/Running",
     "Running"},
    {"Job that waits for the lock",
     {.object = "{'status':{" RUN("'state':'WaitingForLock','waitingFor':'x-1'") "}}",
      .jobs = RUNNING_JOB("x-g1", STAMP),
      .pods = RUNNING_POD},
     "status event:BackupJobCreated",
     "True/BackupRunning",
     "True/WaitingForLock",
     "Running"},
    {"Job between two pods",
     {.object = "{}",
      .jobs = RUNNING_JOB("x-g1", STAMP),
      .pods = POD("{'terminated':{'exitCode':75,'finishedAt':'2024-12-01T12:00:20Z'}}")},
     "status event:BackupJobCreated",
     "True/BackupRunning",
     "True/Retrying",
     "Running"},
    {"Secret missing",
     {.object = "{}",
      .jobs = RUNNING_JOB("x-g1", STAMP),
      .pods = POD("{'waiting':{'reason':'ContainerCreating'}}"),
      .events =
          "[{'reason':'FailedMount','message':'MountVolume.SetUp failed for volume \\'kafka-auth\\' : secret "
          "\\'kafka-tls\\' not found','lastTimestamp':'2024-12-01T12:00:20Z'}]"},
     "status event:BackupJobCreated event:WaitingForResource",
     "False/SecretNotFound",
     "True/JobPending",
     "Pending"},
    {"start deadline of a slot",
     {.object = "{" HOURLY "}",
      .jobs =
          "[{'metadata':{'name':'x-28884240','uid':'j1','creationTimestamp':'2024-12-01T12:00:02Z'," OWNER(
              "CronJob", "c1") "}," JOB_SPEC("backup") ",'status':{'active':1}}]",
      .cron_job = CRON,
      .applied_generation = 1,
      .now_ms = KB_TEST_NOW_MS + 3600000},
     NULL,
     "True/BackupRunning",
     "True/JobPending",
     "Pending"},
    {"success by report",
     {.object = "{'status':{" GOOD_RUN "}}", .jobs = ENDED_JOB("x-g1", STAMP, DONE)},
     "ledger status mark-recorded:x-g1 event:BackupSucceeded observe:success",
     "True/BackupCompleted",
     "False/Finished",
     "Completed"},
    {"completed without a report",
     {.object = "{}", .jobs = ENDED_JOB("x-g1", STAMP, DONE)},
     "ledger status mark-recorded:x-g1 event:BackupSucceeded event:ReportMismatch observe:success",
     "True/BackupCompleted",
     "False/Finished",
     "Completed"},
    {"findings",
     {.object = "{'status':{" RUN(
          "'state':'DoneWithFindings','exitCode':0,'reason':'RetentionGap','message':'t/0'") "}}",
      .jobs = ENDED_JOB("x-g1", STAMP, DONE)},
     "ledger status mark-recorded:x-g1 event:BackupSucceeded event:RetentionGapDetected observe:success",
     "True/BackupCompletedWithFindings",
     "False/Finished",
     "Completed"},
    {"failure by exit code",
     {.object = "{}",
      .jobs = ENDED_JOB("x-g1", STAMP, FAILED("PodFailurePolicy")),
      .pods =
          POD("{'terminated':{'exitCode':77,'message':'no way in','finishedAt':'2024-12-01T12:00:20Z'}}")},
     "ledger status mark-recorded:x-g1 event:BackupFailed observe:failure",
     "False/AccessDenied",
     "False/Finished",
     "Failed"},
    {"deadline",
     {.object = "{}", .jobs = ENDED_JOB("x-g1", STAMP, FAILED("DeadlineExceeded"))},
     "ledger status mark-recorded:x-g1 event:BackupFailed observe:failure",
     "False/DeadlineExceeded",
     NULL,
     "Failed"},
    {"pod gone, Job failed",
     {.object = "{}", .jobs = ENDED_JOB("x-g1", STAMP, FAILED("BackoffLimitExceeded"))},
     "ledger status mark-recorded:x-g1 event:BackupFailed observe:failure",
     "False/RetriesExhausted",
     NULL,
     "Failed"},
    {"Job deleted",
     {.object = "{'status':{'activeJob':{'name':'x-g1','uid':'j1'}}}",
      .is_job_gone = true,
      .was_deletion_seen = true},
     "ledger status event:JobDeleted event:BackupFailed observe:failure",
     "False/JobDeleted",
     NULL,
     "Failed"},
    {"recorded Job is not folded again",
     {.object = "{'metadata':{'annotations':{'kafka.oso.sh/"
                "ledger':'{\\'config\\':\\'abc\\',\\'generation\\':1,\\'outcome\\':"
                "\\'success\\',\\'uid\\':\\'u1\\'}'}}}",
      .jobs = ENDED_JOB("x-g1", STAMP ",'kafka.oso.sh/recorded':'true'", DONE)},
     "status",
     NULL,
     NULL,
     NULL},
};

static void check_row(const row *r)
{
    kb_test_outcome outcome = kb_test_run(&r->given, kb_decide_backup);
    if (r->effects != NULL && strcmp(outcome.effects, r->effects) != 0)
        fail_msg("%s: %s\nexpected: %s", r->what, outcome.effects, r->effects);
    if (r->ready != NULL && strcmp(kb_test_condition(&outcome, "Ready"), r->ready) != 0)
        fail_msg("%s: Ready is %s", r->what, kb_test_condition(&outcome, "Ready"));
    if (r->progressing != NULL && strcmp(kb_test_condition(&outcome, "Progressing"), r->progressing) != 0)
        fail_msg("%s: Progressing is %s", r->what, kb_test_condition(&outcome, "Progressing"));
    const char *phase = kb_tree_text_or_empty(outcome.object, "status", "phase", NULL);
    if (r->phase != NULL && strcmp(phase, r->phase) != 0)
        fail_msg("%s: phase is %s", r->what, phase);
    kb_test_assert_settled(&r->given, kb_decide_backup, &outcome);
    kb_test_outcome_done(&outcome);
}

static void kb_decide_backup_gate_row_gives_plan(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(gate_rows); i++)
        check_row(&gate_rows[i]);
}

static void kb_decide_backup_run_row_gives_plan(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(run_rows); i++)
        check_row(&run_rows[i]);
}

static void kb_decide_backup_success_fills_the_status(void **state)
{
    (void)state;
    const kb_test_case given = {.object = "{'status':{" GOOD_RUN "}}",
                                .jobs = ENDED_JOB("x-g1", STAMP, DONE)};
    kb_test_outcome outcome = kb_test_run(&given, kb_decide_backup);
    const json_t *status = kb_tree_at(outcome.object, "status", NULL);
    assert_string_equal(kb_tree_text(status, "lastBackupId", NULL), "x-20241201-120002");
    assert_string_equal(kb_tree_text(status, "lastBackupTime", NULL), "2024-12-01T12:00:02Z");
    assert_int_equal(kb_tree_i64(0, status, "lastBackupSize", NULL), 70);
    assert_int_equal(kb_tree_i64(0, status, "lastBackupRecords", NULL), 7);
    assert_int_equal(kb_tree_i64(0, status, "totals", "succeeded", NULL), 1);
    assert_int_equal(kb_tree_i64(0, status, "totals", "bytes", NULL), 70);
    assert_int_equal(kb_tree_i64(0, status, "retainedBackups", NULL), 1);
    assert_string_equal(kb_test_condition(&outcome, "PointInTimeRecoverable"), "True/NoGaps");
    const json_t *entry = json_array_get(kb_tree_at(status, "backupHistory", NULL), 0);
    assert_string_equal(kb_tree_text(entry, "outcome", NULL), "success");
    assert_string_equal(kb_tree_text(entry, "completionTime", NULL), "2024-12-01T12:00:20Z");
    kb_ledger ledger;
    kb_ledger_read(outcome.object, &ledger);
    assert_string_equal(ledger.config, "abc");
    assert_string_equal(ledger.backup_id, "x-20241201-120002");
    assert_int_equal(ledger.generation, 1);
    kb_ledger_done(&ledger);
    kb_test_outcome_done(&outcome);
}

static void kb_decide_backup_locked_slot_is_skipped(void **state)
{
    (void)state;
    const kb_test_case given = {
        .object = "{" HOURLY ",'status':{" RUN(
            "'state':'Failed','exitCode':75,'reason':'BackupLocked','message':'held'") "}}",
        .cron_job = CRON,
        .jobs =
            "[{'metadata':{'name':'x-28884240','uid':'j1','creationTimestamp':'2024-12-01T12:00:02Z'," OWNER(
                "CronJob", "c1") "}," JOB_SPEC("backup") "," FAILED("BackoffLimitExceeded") "}]",
    };
    kb_test_outcome outcome = kb_test_run(&given, kb_decide_backup);
    const json_t *status = kb_tree_at(outcome.object, "status", NULL);
    assert_int_equal(kb_tree_i64(0, status, "totals", "skipped", NULL), 1);
    assert_null(kb_tree_at(status, "backupHistory", NULL));
    assert_string_equal(kb_test_condition(&outcome, "Ready"), "True/BackupScheduled");
    assert_non_null(strstr(outcome.effects, "event:BackupSkippedOverlap"));
    kb_test_outcome_done(&outcome);
}

#define TRIGGER(value) "'metadata':{'annotations':{'kafka.oso.sh/trigger-backup':'" value "'}}"

static void kb_decide_backup_trigger_waits_runs_and_is_confirmed(void **state)
{
    (void)state;
    /* New value: it waits in the status, and its Job is made in the same pass. */
    KB_AUTOFREE char *name = kb_name_trigger_job("x", "v1");
    kb_test_case given = {.object = "{" TRIGGER("v1") "," HOURLY ",'status':{'observedGeneration':1}}",
                          .cron_job = CRON};
    kb_test_outcome outcome = kb_test_run(&given, kb_decide_backup);
    const json_t *pending = kb_tree_at(outcome.object, "status", "pendingTriggers", NULL);
    assert_string_equal(json_string_value(json_array_get(pending, 0)), "v1");
    assert_string_equal(kb_plan_find(&outcome.plan, KB_EFFECT_CREATE_JOB)->name, name);
    assert_null(kb_tree_at(outcome.object, "status", "lastTriggerToken", NULL));
    kb_test_outcome_done(&outcome);
    /* Its Job is there: the value is the last one handled, and nothing is made. */
    KB_AUTOFREE char *jobs =
        kb_asprintf("[{'metadata':{'name':'%s','uid':'j1','creationTimestamp':'2024-12-01T12:00:02Z'," OWNER(
                        "KafkaBackup", "u1") "}," JOB_SPEC("backup") ",'status':{'active':1}}]",
                    name);
    given.object =
        "{" TRIGGER("v1") "," HOURLY ",'status':{'observedGeneration':1,'pendingTriggers':['v1']}}";
    given.jobs = jobs;
    outcome = kb_test_run(&given, kb_decide_backup);
    assert_null(kb_tree_at(outcome.object, "status", "pendingTriggers", NULL));
    assert_string_equal(kb_tree_text(outcome.object, "status", "lastTriggerToken", NULL), "v1");
    assert_null(kb_plan_find(&outcome.plan, KB_EFFECT_CREATE_JOB));
    assert_non_null(kb_plan_find(&outcome.plan, KB_EFFECT_LEDGER));
    kb_test_assert_settled(&given, kb_decide_backup, &outcome);
    kb_test_outcome_done(&outcome);
}

static void kb_decide_backup_trigger_cases(void **state)
{
    (void)state;
    static const struct {
        const char *what, *object, *jobs, *part;
        bool is_present;
    } rows[] = {
        {"value at creation is satisfied by the one-shot", "{" TRIGGER("v1") "}", NULL, "create-job:x-g1",
         true},
        {"trigger runs while suspended", "{" TRIGGER("v1") ",'spec':{'suspend':true}}", NULL,
         "create-job:x-t", true},
        {"trigger waits while a Job runs", "{" TRIGGER("v1") ",'status':{'observedGeneration':1}}",
         RUNNING_JOB("x-g1", STAMP), "create-job", false},
        {"pause only notes it",
         "{'metadata':{'annotations':{'kafka.oso.sh/trigger-backup':'v','kafka.oso.sh/"
         "pause-reconciliation':'true'}},"
         "'status':{'observedGeneration':1}}",
         NULL, "create-job", false},
        {"handled value runs once",
         "{" TRIGGER("v1") "," HOURLY ",'status':{'observedGeneration':1,'lastTriggerToken':'v1'}}", NULL,
         "create-job", false},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        const kb_test_case given = {.object = rows[i].object, .jobs = rows[i].jobs};
        kb_test_outcome outcome = kb_test_run(&given, kb_decide_backup);
        if ((strstr(outcome.effects, rows[i].part) != NULL) != rows[i].is_present)
            fail_msg("%s: %s", rows[i].what, outcome.effects);
        kb_test_outcome_done(&outcome);
    }
}

static void kb_decide_backup_slot_without_job_is_accounted(void **state)
{
    (void)state;
    static const char missed[] = "event:ScheduleMissed", skipped[] = "event:BackupSkippedOverlap";
    static const struct {
        const char *what, *jobs;
        int64_t now_ms; /* after the slot of 12:00 */
        const char *effect, *next;
        int skipped;
    } rows[] = {
        {"ten seconds after", NULL, 10000, NULL, "2024-12-01T12:00:00Z", 0},
        {"late, may still start", NULL, 600000, NULL, "2024-12-01T12:00:00Z", 0},
        {"too late", NULL, 3602000, missed, "2024-12-01T13:00:00Z", 0},
        {"overlapped by the run before",
         "[{'metadata':{'name':'x-28884180','uid':'j0','creationTimestamp':'2024-12-01T11:00:00Z'," OWNER(
             "CronJob",
             "c1") "}," JOB_SPEC("backup") ",'status':{'active':1,'startTime':'2024-12-01T11:00:00Z'}}]",
         16000, skipped, "2024-12-01T13:00:00Z", 1},
        {"its Job is there",
         "[{'metadata':{'name':'x-28884240','uid':'j0','creationTimestamp':'2024-12-01T12:00:00Z'," OWNER(
             "CronJob",
             "c1") "}," JOB_SPEC("backup") ",'status':{'active':1,'startTime':'2024-12-01T12:00:00Z'}}]",
         2000, NULL, "2024-12-01T13:00:00Z", 0},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        const kb_test_case given = {
            .object =
                "{" HOURLY ",'status':{'observedGeneration':1,'nextScheduledTime':'2024-12-01T12:00:00Z'}}",
            .jobs = rows[i].jobs,
            .cron_job = CRON,
            .now_ms = 1733054400000LL + rows[i].now_ms,
        };
        kb_test_outcome outcome = kb_test_run(&given, kb_decide_backup);
        bool has_missed = strstr(outcome.effects, missed) != NULL,
             has_skipped = strstr(outcome.effects, skipped) != NULL;
        assert_true(has_missed == (rows[i].effect == missed));
        assert_true(has_skipped == (rows[i].effect == skipped));
        assert_string_equal(kb_tree_text_or_empty(outcome.object, "status", "nextScheduledTime", NULL),
                            rows[i].next);
        assert_int_equal(kb_tree_i64(0, outcome.object, "status", "totals", "skipped", NULL),
                         rows[i].skipped);
        kb_test_assert_settled(&given, kb_decide_backup, &outcome);
        kb_test_outcome_done(&outcome);
    }
}

static void kb_decide_backup_catalog_corrects_the_history(void **state)
{
    (void)state;
    const kb_test_case given = {
        .object = "{'status':{'backupHistory':[{'backupId':'x-20241201-110000','outcome':'failure','reason':'"
                  "Interrupted',"
                  "'completionTime':'2024-12-01T11:10:00Z'}],'totals':{'failed':1}," RUN(
                      "'state':'Succeeded','exitCode':0,'recordsProcessed':7,'bytesProcessed':70,'catalog':["
                      "{'backupId':'x-20241201-120002','startTime':'2024-12-01T12:00:02Z','size':70,'records'"
                      ":7},"
                      "{'backupId':'x-20241201-110000','startTime':'2024-12-01T11:00:00Z','completionTime':"
                      "'2024-12-01T11:10:00Z','size':5,'records':3},"
                      "{'backupId':'x-20241201-100000','startTime':'2024-12-01T10:00:00Z','size':4,'records':"
                      "2}]") "}}",
        .jobs = ENDED_JOB("x-g1", STAMP, DONE),
    };
    kb_test_outcome outcome = kb_test_run(&given, kb_decide_backup);
    const json_t *history = kb_tree_at(outcome.object, "status", "backupHistory", NULL);
    assert_int_equal(json_array_size(history), 3);
    assert_string_equal(kb_tree_text(json_array_get(history, 0), "backupId", NULL), "x-20241201-120002");
    assert_string_equal(kb_tree_text(json_array_get(history, 1), "outcome", NULL), "success");
    assert_int_equal(kb_tree_i64(0, json_array_get(history, 1), "size", NULL), 5);
    assert_string_equal(kb_tree_text(json_array_get(history, 2), "backupId", NULL), "x-20241201-100000");
    assert_int_equal(kb_tree_i64(0, outcome.object, "status", "totals", "records", NULL), 10);
    assert_non_null(strstr(outcome.effects, "event:BackupFoundInStore"));
    kb_test_outcome_done(&outcome);
}

static void kb_decide_backup_retention_change_starts_a_prune(void **state)
{
    (void)state;
#define LEDGER(retention) \
    "'metadata':{'generation':2,'annotations':{'kafka.oso.sh/" \
    "ledger':'{\\'uid\\':\\'u1\\',\\'generation\\':1,\\'config\\':" \
    "\\'c\\',\\'backupId\\':\\'x-20241201-110000\\',\\'retention\\':\\'" retention "\\'}'}}"
    static const struct {
        const char *object;
        bool prunes;
    } rows[] = {
        {"{" LEDGER("") "," HOURLY ",'status':{'observedGeneration':1}}", false},
        {"{" LEDGER("") ",'spec':{'schedule':'0 * * * *','retention':{'backups':5}}}", true},
        {"{'spec':{'schedule':'0 * * * *','retention':{'backups':5}}}", false}, /* no backup yet */
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        const kb_test_case given = {.object = rows[i].object};
        kb_test_outcome outcome = kb_test_run(&given, kb_decide_backup);
        if ((strstr(outcome.effects, "create-job:x-prune-") != NULL) != rows[i].prunes)
            fail_msg("%s: %s", rows[i].object, outcome.effects);
        kb_test_outcome_done(&outcome);
    }
}

/* I1, I2, I3: the order of effects. */
static void kb_decide_backup_past_comes_before_future(void **state)
{
    (void)state;
    const kb_test_case given = {
        .object =
            "{" TRIGGER("v1") ",'status':{'observedGeneration':1,'pendingTriggers':['v1']," GOOD_RUN "}}",
        .jobs = ENDED_JOB("x-g1", STAMP, DONE),
    };
    kb_test_outcome outcome = kb_test_run(&given, kb_decide_backup);
    static const kb_effect_kind order[] = {KB_EFFECT_LEDGER,     KB_EFFECT_STATUS,  KB_EFFECT_MARK_RECORDED,
                                           KB_EFFECT_CONFIG_MAP, KB_EFFECT_ACCOUNT, KB_EFFECT_BINDING,
                                           KB_EFFECT_CREATE_JOB};
    const kb_effect *last = NULL;
    for (size_t i = 0; i < KB_ARRAY_LEN(order); i++) {
        const kb_effect *effect = kb_plan_find(&outcome.plan, order[i]);
        assert_non_null(effect);
        assert_true(last == NULL || effect > last);
        last = effect;
    }
    kb_test_outcome_done(&outcome);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_decide_backup_gate_row_gives_plan),
        cmocka_unit_test(kb_decide_backup_run_row_gives_plan),
        cmocka_unit_test(kb_decide_backup_success_fills_the_status),
        cmocka_unit_test(kb_decide_backup_locked_slot_is_skipped),
        cmocka_unit_test(kb_decide_backup_trigger_waits_runs_and_is_confirmed),
        cmocka_unit_test(kb_decide_backup_trigger_cases),
        cmocka_unit_test(kb_decide_backup_slot_without_job_is_accounted),
        cmocka_unit_test(kb_decide_backup_catalog_corrects_the_history),
        cmocka_unit_test(kb_decide_backup_retention_change_starts_a_prune),
        cmocka_unit_test(kb_decide_backup_past_comes_before_future),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "operator/jobs/job_outcome.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/tests/decide_fixture.h"

#define COMPLETE \
    "'status':{'conditions':[{'type':'Complete','status':'True'}],'completionTime':'2024-12-01T12:00:20Z'}"
#define FAILED_BY(reason) \
    "'status':{'failed':2,'conditions':[{'type':'Failed','status':'True','reason':'" reason \
    "','message':'said so'}]}"
#define RUN(more) "{'version':1,'jobUid':'j1'," more "}"
#define REPORT(more) "{\\'version\\':1,\\'jobUid\\':\\'j1\\'," more "}"
#define END(code, reason, message) \
    "{'exitCode':" code ",'reason':'" reason "','message':'" message "','finishedAt':'2024-12-01T12:00:20Z'" \
    "}"

typedef struct row {
    const char *what, *job, *end, *run, *notes;
    kb_outcome outcome;
    const char *reason;
    bool has_report, is_mismatch;
} row;

/* operator.md section 6, both tables. */
static const row rows[] = {
    {"success by message", COMPLETE,
     END("0", "Completed", REPORT("\\'state\\':\\'Succeeded\\',\\'exitCode\\':0")), NULL, NULL,
     KB_OUTCOME_SUCCESS, "", true, false},
    {"success by status.run", COMPLETE, NULL, RUN("'state':'Succeeded','exitCode':0"), NULL,
     KB_OUTCOME_SUCCESS, "", true, false},
    {"findings", COMPLETE, NULL, RUN("'state':'DoneWithFindings','exitCode':0,'reason':'TopicsSkipped'"),
     NULL, KB_OUTCOME_FINDINGS, "TopicsSkipped", true, false},
    {"complete without anything", COMPLETE, NULL, NULL, NULL, KB_OUTCOME_UNREPORTED, "ReportMissing", false,
     true},
    {"complete, message is a log", COMPLETE, END("0", "Completed", "some text"), NULL, NULL,
     KB_OUTCOME_UNREPORTED, "ReportMissing", false, true},
    {"complete, report says Running", COMPLETE, NULL, RUN("'state':'Running'"), NULL, KB_OUTCOME_UNREPORTED,
     "ReportMissing", false, true},
    {"complete, report says failure", COMPLETE, NULL,
     RUN("'state':'Failed','exitCode':65,'reason':'BackupCorrupt'"), NULL, KB_OUTCOME_UNREPORTED,
     "ReportMissing", false, true},
    {"report of another Job", COMPLETE, NULL, "{'version':1,'jobUid':'j0','state':'Succeeded','exitCode':0}",
     NULL, KB_OUTCOME_UNREPORTED, "ReportMissing", false, true},
    {"report of a later version", COMPLETE, NULL,
     "{'version':2,'jobUid':'j1','state':'Succeeded','exitCode':0}", NULL, KB_OUTCOME_UNREPORTED,
     "ReportMissing", false, true},
    {"locked", FAILED_BY("BackoffLimitExceeded"),
     END("75", "Error", REPORT("\\'state\\':\\'Failed\\',\\'exitCode\\':75,\\'reason\\':\\'BackupLocked\\'")),
     NULL, NULL, KB_OUTCOME_LOCKED, "BackupLocked", true, false},
    {"failure by message", FAILED_BY("PodFailurePolicy"),
     END("78", "Error",
         REPORT("\\'state\\':\\'Failed\\',\\'exitCode\\':78,\\'reason\\':\\'TopicNotFound\\'")),
     NULL, NULL, KB_OUTCOME_FAILURE, "TopicNotFound", true, false},
    {"message disagrees with the code", FAILED_BY("PodFailurePolicy"),
     END("65", "Error",
         REPORT("\\'state\\':\\'Failed\\',\\'exitCode\\':78,\\'reason\\':\\'TopicNotFound\\'")),
     NULL, NULL, KB_OUTCOME_FAILURE, "BadData", false, true},
    {"64", FAILED_BY("PodFailurePolicy"), END("64", "Error", "x"), NULL, NULL, KB_OUTCOME_FAILURE,
     "UsageError", false, false},
    {"65", FAILED_BY("PodFailurePolicy"), END("65", "Error", "x"), NULL, NULL, KB_OUTCOME_FAILURE, "BadData",
     false, false},
    {"75", FAILED_BY("BackoffLimitExceeded"), END("75", "Error", "x"), NULL, NULL, KB_OUTCOME_FAILURE,
     "TemporaryFailure", false, false},
    {"77", FAILED_BY("PodFailurePolicy"), END("77", "Error", "x"), NULL, NULL, KB_OUTCOME_FAILURE,
     "AccessDenied", false, false},
    {"78", FAILED_BY("PodFailurePolicy"), END("78", "Error", "x"), NULL, NULL, KB_OUTCOME_FAILURE, "Refused",
     false, false},
    {"130", FAILED_BY("BackoffLimitExceeded"), END("130", "Error", ""), NULL, NULL, KB_OUTCOME_FAILURE,
     "Interrupted", false, false},
    {"143", FAILED_BY("BackoffLimitExceeded"), END("143", "Error", ""), NULL, NULL, KB_OUTCOME_FAILURE,
     "Interrupted", false, false},
    {"137 out of memory", FAILED_BY("BackoffLimitExceeded"), END("137", "OOMKilled", ""), NULL, NULL,
     KB_OUTCOME_FAILURE, "OutOfMemory", false, false},
    {"137 killed", FAILED_BY("BackoffLimitExceeded"), END("137", "Error", ""), NULL, NULL, KB_OUTCOME_FAILURE,
     "WorkerCrashed", false, false},
    {"139", FAILED_BY("BackoffLimitExceeded"), END("139", "Error", ""), NULL, NULL, KB_OUTCOME_FAILURE,
     "WorkerCrashed", false, false},
    {"pod gone, status.run knows", FAILED_BY("PodFailurePolicy"), NULL,
     RUN("'state':'Failed','exitCode':77,'reason':'StorageAccessDenied'"), NULL, KB_OUTCOME_FAILURE,
     "StorageAccessDenied", true, false},
    {"pod gone, status.run says 0", FAILED_BY("Whatever"), NULL, RUN("'state':'Succeeded','exitCode':0"),
     NULL, KB_OUTCOME_FAILURE, "OutcomeUnknown", false, false},
    {"pod gone, nothing known", FAILED_BY("Whatever"), NULL, NULL, NULL, KB_OUTCOME_FAILURE, "OutcomeUnknown",
     false, false},
    {"retries exhausted", FAILED_BY("BackoffLimitExceeded"), NULL, NULL, NULL, KB_OUTCOME_FAILURE,
     "RetriesExhausted", false, false},
    {"deadline", FAILED_BY("DeadlineExceeded"), END("143", "Error", ""), NULL, NULL, KB_OUTCOME_FAILURE,
     "DeadlineExceeded", false, false},
    {"start deadline", FAILED_BY("DeadlineExceeded"), NULL, NULL,
     "'kafka.oso.sh/end-reason':'StartDeadlineExceeded','kafka.oso.sh/end-message':'Secret x not found'",
     KB_OUTCOME_FAILURE, "StartDeadlineExceeded", false, false},
    {"ended by us for its code", FAILED_BY("DeadlineExceeded"), NULL, NULL,
     "'kafka.oso.sh/end-reason':'WorkerEnded','kafka.oso.sh/end-message':'78'", KB_OUTCOME_FAILURE, "Refused",
     false, false},
    {"ended by us after success", FAILED_BY("DeadlineExceeded"), NULL,
     RUN("'state':'Succeeded','exitCode':0"),
     "'kafka.oso.sh/end-reason':'WorkerEnded','kafka.oso.sh/end-message':'0'", KB_OUTCOME_SUCCESS, "", true,
     false},
};

static void kb_job_outcome_of_row_gives_outcome(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTOFREE char *job_text = kb_asprintf("{'metadata':{'name':'x','uid':'j1','annotations':{%s}},%s}",
                                                 rows[i].notes != NULL ? rows[i].notes : "", rows[i].job);
        KB_AUTO_TREE(job);
        job = kb_test_json(job_text);
        KB_AUTO_TREE(pods);
        pods = kb_tree_array();
        if (rows[i].end != NULL) {
            KB_AUTOFREE char *pod =
                kb_asprintf("{'status':{'containerStatuses':[{'name':'worker','state':{'terminated':%s}}]}}",
                            rows[i].end);
            kb_tree_add(pods, kb_test_json(pod));
        }
        KB_AUTO_TREE(run);
        run = rows[i].run != NULL ? kb_test_json(rows[i].run) : NULL;
        kb_job_outcome outcome;
        kb_job_outcome_of(job, pods, run, &outcome);
        if (outcome.outcome != rows[i].outcome || strcmp(outcome.reason, rows[i].reason) != 0 ||
            (outcome.report != NULL) != rows[i].has_report || outcome.is_mismatch != rows[i].is_mismatch)
            fail_msg("%s: outcome %d, reason %s, report %d, mismatch %d", rows[i].what, (int)outcome.outcome,
                     outcome.reason, outcome.report != NULL, outcome.is_mismatch);
        kb_job_outcome_done(&outcome);
    }
}

static void kb_job_outcome_of_gone_job_is_never_better_than_known(void **state)
{
    (void)state;
    static const struct {
        const char *run;
        bool was_seen;
        kb_outcome outcome;
        const char *reason;
    } cases[] = {
        {RUN("'state':'Succeeded','exitCode':0"), true, KB_OUTCOME_SUCCESS, ""},
        {RUN("'state':'Failed','exitCode':65,'reason':'BackupCorrupt'"), false, KB_OUTCOME_FAILURE,
         "BackupCorrupt"},
        {RUN("'state':'Interrupted','exitCode':143,'reason':'Interrupted'"), true, KB_OUTCOME_FAILURE,
         "JobDeleted"},
        {RUN("'state':'Running'"), true, KB_OUTCOME_FAILURE, "JobDeleted"},
        {RUN("'state':'Running'"), false, KB_OUTCOME_FAILURE, "OutcomeUnknown"},
        {"{'version':1,'jobUid':'j0','state':'Succeeded','exitCode':0}", false, KB_OUTCOME_FAILURE,
         "OutcomeUnknown"},
        {"null", false, KB_OUTCOME_FAILURE, "OutcomeUnknown"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_TREE(run);
        run = kb_test_json(cases[i].run);
        kb_job_outcome outcome;
        kb_job_outcome_of_gone("j1", run, cases[i].was_seen, &outcome);
        assert_int_equal(outcome.outcome, cases[i].outcome);
        assert_string_equal(outcome.reason, cases[i].reason);
        kb_job_outcome_done(&outcome);
    }
}

static void kb_job_outcome_of_hostile_message_is_kept_as_clean_text(void **state)
{
    (void)state;
    KB_AUTO_TREE(job);
    job = kb_test_json("{'metadata':{'uid':'j1'}," FAILED_BY("PodFailurePolicy") "}");
    KB_AUTO_TREE(pods);
    pods = kb_test_json(
        "[{'status':{'containerStatuses':[{'name':'worker','state':{'terminated':{'exitCode':65}}}]}}]");
    json_t *end = kb_tree_at(json_array_get(pods, 0), "status", NULL);
    end =
        kb_tree_at(json_array_get(json_object_get(end, "containerStatuses"), 0), "state", "terminated", NULL);
    char deep[3000];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    static const char *const messages[] = {"\x1b[31mred\x01\n{\"version\":", "{\"version\":1,\"version\":1}",
                                           ""};
    for (size_t i = 0; i <= KB_ARRAY_LEN(messages); i++) {
        kb_tree_set_text(end, "message", i < KB_ARRAY_LEN(messages) ? messages[i] : deep);
        kb_job_outcome outcome;
        kb_job_outcome_of(job, pods, NULL, &outcome);
        assert_string_equal(outcome.reason, "BadData");
        assert_true(strlen(outcome.message) <= 1024);
        for (const char *c = outcome.message; *c != '\0'; c++)
            assert_true((unsigned char)*c >= 0x20);
        kb_job_outcome_done(&outcome);
    }
}

static void kb_job_lingering_container_names_what_keeps_the_pod(void **state)
{
    (void)state;
    KB_AUTO_TREE(pods);
    pods = kb_test_json(
        "[{'status':{'containerStatuses':[{'name':'proxy','state':{'running':{}}},{'name':'worker',"
        "'state':{'terminated':{'exitCode':0,'finishedAt':'2024-12-01T12:00:00Z'}}}]}}]");
    assert_string_equal(kb_job_lingering_container(pods, KB_TEST_NOW_MS), "proxy");
    assert_null(kb_job_lingering_container(pods, 1733054400000LL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_job_outcome_of_row_gives_outcome),
        cmocka_unit_test(kb_job_outcome_of_gone_job_is_never_better_than_known),
        cmocka_unit_test(kb_job_outcome_of_hostile_message_is_kept_as_clean_text),
        cmocka_unit_test(kb_job_lingering_container_names_what_keeps_the_pod),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

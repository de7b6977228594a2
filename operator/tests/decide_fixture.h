/*
 * decide_fixture - snapshots from JSON and plans as text, for table tests of decisions.
 *
 * Texts use ' where JSON has ", so that tables stay readable. Time is KB_TEST_NOW unless a row says
 * otherwise.
 */
#ifndef KB_OPERATOR_TESTS_DECIDE_FIXTURE_H
#define KB_OPERATOR_TESTS_DECIDE_FIXTURE_H

#include <jansson.h>
#include <stdint.h>

#include "operator/reconcile/pass.h"

/* 2024-12-01T12:00:30Z */
#define KB_TEST_NOW_MS 1733054430000LL
#define KB_TEST_SETTINGS "{'image':{'repository':'worker','tag':'1.2.3'},'releaseNamespace':'kafka-backup'}"

typedef void (*kb_test_decide)(const kb_snapshot *snapshot, const kb_surroundings *around, kb_plan *plan);

/* What a decision is made from; NULL texts are absent. */
typedef struct kb_test_case {
    kb_kind kind;
    const char
        *object; /* members over those of kb_test_object: {'spec': ..., 'status': ..., 'metadata': ...} */
    const char *jobs, *pods, *events, *cron_job, *backups, *restores, *resets, *rollbacks, *same_name,
        *settings;
    bool is_job_gone, was_deletion_seen, is_cron_job_foreign;
    int64_t applied_generation; /* 0 = not applied */
    kb_account_state account;
    kb_kube_class fault;
    const char *fault_text;
    int minor;      /* of the server; 0 = 34 */
    int64_t now_ms; /* 0 = KB_TEST_NOW_MS */
} kb_test_case;

/* The outcome, owned: the plan, and the status and ledger after it. */
typedef struct kb_test_outcome {
    kb_plan plan;
    json_t *object; /* as it would be stored */
    char *effects;  /* "ledger status event:BackupScheduled cron-job create-job:x-g1" */
} kb_test_outcome;

kb_test_outcome kb_test_run(const kb_test_case *row, kb_test_decide decide);
void kb_test_outcome_done(kb_test_outcome *outcome);
/* "True/BackupScheduled" of a condition; owned by the outcome until the next call. */
const char *kb_test_condition(const kb_test_outcome *outcome, const char *type);
/* Text with ' for " as JSON; owned. */
json_t *kb_test_json(const char *text);
kb_capabilities kb_test_capabilities(int minor);
/* The plan that follows when the object is as the plan before left it: nothing may be written again (I7). */
void kb_test_assert_settled(const kb_test_case *row, kb_test_decide decide, const kb_test_outcome *outcome);

#endif

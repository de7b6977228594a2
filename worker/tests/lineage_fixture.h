/*
 * lineage_fixture - backups of a lineage in a temporary store, in any state.
 *
 * Threads: one.
 */
#ifndef KB_WORKER_TESTS_LINEAGE_FIXTURE_H
#define KB_WORKER_TESTS_LINEAGE_FIXTURE_H

#include "worker/catalog/catalog.h"
#include "worker/tests/catalog_fixture.h"

#define LINE "line"
#define LINE_ID(second) LINE "-20250101-0000" second

typedef enum test_member_state {
    TEST_MEMBER_OPEN,
    TEST_MEMBER_RELEASED,
    TEST_MEMBER_SEALED,
    TEST_MEMBER_COMPLETE,
} test_member_state;

typedef struct test_member {
    const char *id;
    test_member_state state;
    const char *lineage;    /* NULL = LINE, "" = none */
    const char *owner;      /* NULL = manual */
    const char *cluster_id; /* NULL = that of test_plan */
    bool offset_headers;
    const char *job_uid; /* NULL = none */
} test_member;

static inline kb_backup *test_member_plan(const test_member *member)
{
    kb_backup *plan = test_plan();
    const char *lineage = member->lineage != NULL ? member->lineage : LINE;
    kb_text_set(&plan->backup_id, member->id);
    kb_text_set(&plan->lineage, lineage[0] != '\0' ? lineage : NULL);
    if (member->owner != NULL)
        kb_text_set(&plan->owner, member->owner);
    if (member->cluster_id != NULL)
        kb_text_set(&plan->cluster_id, member->cluster_id);
    plan->content.offset_headers = member->offset_headers;
    return plan;
}

static inline void test_member_make(kb_storage *storage, const test_member *member)
{
    KB_AUTO_ERROR(err);
    test_clock clock;
    test_clock_init(&clock);
    kb_holder holder KB_CLEANUP(kb_holder_done) =
        test_holder("holder", member->job_uid != NULL ? member->job_uid : "");
    const kb_journal_options options = {
        .storage = storage,
        .backup_id = member->id,
        .holder = &holder,
        .clock = &clock.clock,
        .wait = test_wait,
        .wait_ctx = &clock,
    };
    AUTO_JOURNAL *journal = NULL;
    assert_ok(kb_journal_new(&options, &journal, &err));
    assert_ok(kb_journal_wait(journal, &err));
    assert_ok(kb_journal_begin(journal, test_member_plan(member), &err));
    if (member->state == TEST_MEMBER_RELEASED)
        assert_ok(kb_journal_release(journal, &err));
    if (member->state < TEST_MEMBER_SEALED)
        return;
    assert_ok(test_progress(journal, 10, 100, &err));
    assert_ok(kb_journal_seal(journal, "kafka-backup-worker/test", &err));
    if (member->state < TEST_MEMBER_COMPLETE)
        return;
    KB_AUTO_BACKUP kb_backup *backup = kb_journal_take_backup(journal);
    assert_ok(kb_catalog_publish(storage, &backup, &err));
}

static inline void test_member_mark(kb_storage *storage, const char *id)
{
    KB_AUTOFREE char *key = kb_layout_pruned_key(id);
    test_puts(storage, key, "{}");
}

#endif

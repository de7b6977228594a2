#include "worker/catalog/prune.h"

#include "worker/catalog/journal_close.h"
#include "worker/catalog/prune_mark.h"
#include "worker/tests/prune_fixture.h"

/* ---- a lineage, a spy in front of it, prunes ---- */

typedef struct prune_test {
    test_store store;
    spy_store spy;
    kb_holder holder;
    kb_prune_result result;
} prune_test;

static void prune_test_open(prune_test *t)
{
    *t = (prune_test){0};
    test_store_open(&t->store);
    spy_open(&t->spy, t->store.storage);
    t->holder = test_holder("pruner", "uid-prune");
}

static void prune_test_done(prune_test *t)
{
    kb_prune_result_done(&t->result);
    kb_holder_done(&t->holder);
    spy_done(&t->spy);
    test_store_done(&t->store);
}
#define AUTO_TEST(name) \
    KB_CLEANUP(prune_test_done) prune_test name; \
    prune_test_open(&name)

static void make_three(prune_test *t)
{
    for (size_t i = 0; i < KB_ARRAY_LEN(THREE); i++)
        make_backup(t->store.storage, &THREE[i]);
}

/* keep 0 = no rule. */
static kb_code prune(prune_test *t, int64_t keep, bool dry_run, kb_error *err)
{
    kb_prune_result_done(&t->result);
    spy_forget(&t->spy);
    const kb_prune_options options = {
        .storage = t->spy.storage,
        .lineage = "orders",
        .policy = {.has_backups = keep != 0, .backups = keep},
        .grace_ms = GRACE_MS,
        .dry_run = dry_run,
        .holder = &t->holder,
    };
    return kb_prune_run(&options, &t->result, err);
}

static void prune_well(prune_test *t, int64_t keep)
{
    KB_AUTO_ERROR(err);
    assert_ok(prune(t, keep, false, &err));
}

/* "a:why b:why " */
static char *rows_text(const kb_prune_rows *rows)
{
    KB_AUTO_STRBUF(out, 100000);
    for (size_t i = 0; i < rows->count; i++)
        kb_strbuf_appendf(&out, "%.8s:%s ", rows->rows[i].backup_id + strlen("orders-"), rows->rows[i].why);
    char *owned = kb_strbuf_take(&out);
    return owned != NULL ? owned : kb_strdup("");
}

#define assert_rows(rows, expected) \
    do { \
        KB_AUTOFREE char *rows_text_ = rows_text(&(rows)); \
        assert_string_equal(rows_text_, (expected)); \
    } while (0)

static bool has_object(const kb_prune_result *result, const char *key)
{
    for (size_t i = 0; i < result->object_count; i++)
        if (strcmp(result->objects[i], key) == 0)
            return true;
    return false;
}

/* ---- marks and deletions ---- */

static void kb_prune_run_marks_first_and_deletes_after_the_grace(void **state)
{
    (void)state;
    AUTO_TEST(t);
    make_three(&t);
    prune_well(&t, 2);
    assert_rows(t.result.marked, "20250101:surplus ");
    assert_rows(t.result.kept, "20250103:newest 20250102:retention 20250101:marked, within its grace ");
    assert_int_equal(t.result.object_count, 0);
    assert_true(has_segment(t.store.storage, D1, 0));
    t.spy.ahead_ms = GRACE_MS - 60000;
    prune_well(&t, 2);
    assert_int_equal(t.result.object_count, 0);
    t.spy.ahead_ms = GRACE_MS + 60000;
    prune_well(&t, 2);
    assert_rows(t.result.marked, "");
    assert_rows(t.result.deleted, "20250101:in part ");
    assert_rows(t.result.kept, "20250103:newest 20250102:retention 20250101:others use its segments ");
    assert_int_equal(t.result.segments, 1);
    assert_false(has_segment(t.store.storage, D1, 0));
    assert_false(is_there(t.store.storage, D1 "/manifest.json"));
    assert_whole(t.store.storage, &THREE[1]);
    assert_whole(t.store.storage, &THREE[2]);
    prune_well(&t, 2);
    assert_int_equal(t.result.object_count, 0);
    assert_rows(t.result.deleted, "");
}

static void kb_prune_run_of_the_last_user_removes_everything(void **state)
{
    (void)state;
    AUTO_TEST(t);
    make_three(&t);
    prune_well(&t, 2);
    t.spy.ahead_ms = 2 * GRACE_MS;
    prune_well(&t, 1);
    assert_rows(t.result.marked, "20250102:surplus ");
    /* What the marked D2 lists may still be read: of D1 only segment 0 goes. */
    assert_true(has_segment(t.store.storage, D1, 10));
    assert_whole(t.store.storage, &THREE[2]);
    t.spy.ahead_ms = 4 * GRACE_MS;
    prune_well(&t, 1);
    assert_false(has_segment(t.store.storage, D1, 10));
    assert_true(has_segment(t.store.storage, D1, 20));
    assert_whole(t.store.storage, &THREE[2]);
    make_backup(t.store.storage, &(made_backup){D4, D3, {{50, NULL}}, 1});
    t.spy.ahead_ms = 6 * GRACE_MS;
    prune_well(&t, 1);
    t.spy.ahead_ms = 8 * GRACE_MS;
    prune_well(&t, 1);
    assert_rows(t.result.deleted, "20250103:gone 20250102:gone 20250101:gone ");
    assert_rows(t.result.kept, "20250104:newest ");
    KB_AUTOFREE char *left = list_below(t.store.storage, "orders-20250101");
    assert_string_equal(left, "");
}

static const char *const ORDER[] = {
    D1 "/manifest.json",
    D1 "/backup.json",
    D1 "/topics/orders/partition=0/segment-00000000000000000000.bin.zst",
    D1 "/topics/orders/partition=0/segment-00000000000000000010.bin.zst",
    D1 "/topics/orders/partition=0/segment-00000000000000000020.bin.zst",
    D1 "/consumer-groups-snapshot.json",
    D1 "/journal/00000002.json",
    D1 "/journal/00000001.json",
    D1 "/journal/00000000.json",
    D1 "/pruned.json",
};

/* D1 alone is marked, and nobody uses it. */
static void make_doomed(prune_test *t)
{
    make_backup(t->store.storage, &THREE[0]);
    test_puts(t->store.storage, D1 "/consumer-groups-snapshot.json", "{}");
    make_backup(t->store.storage, &(made_backup){D2, NULL, {{10, NULL}, {20, NULL}}, 2});
    prune_well(t, 1);
    t->spy.ahead_ms = 2 * GRACE_MS;
}

static void kb_prune_run_deletes_in_the_safe_order(void **state)
{
    (void)state;
    AUTO_TEST(t);
    make_doomed(&t);
    prune_well(&t, 1);
    assert_int_equal(t.spy.removed_count, KB_ARRAY_LEN(ORDER));
    assert_int_equal(t.result.object_count, KB_ARRAY_LEN(ORDER));
    for (size_t i = 0; i < KB_ARRAY_LEN(ORDER); i++) {
        assert_string_equal(t.spy.removed[i], ORDER[i]);
        assert_string_equal(t.result.objects[i], ORDER[i]);
    }
    assert_true(t.result.reclaimed_bytes > 30);
}

static void kb_prune_run_stopped_at_any_removal_is_finished_by_the_next(void **state)
{
    (void)state;
    for (size_t at = 0; at < KB_ARRAY_LEN(ORDER); at++) {
        KB_AUTO_ERROR(err);
        AUTO_TEST(t);
        make_doomed(&t);
        t.spy.fail_removal = (int)at + 1;
        assert_fails(prune(&t, 1, false, &err), KB_TEMPORARY_FAILURE);
        assert_int_equal(t.result.object_count, at);
        assert_true(is_there(t.store.storage, D1 "/pruned.json"));
        assert_int_equal(is_there(t.store.storage, D1 "/manifest.json"), at == 0);
        assert_whole(t.store.storage, &(made_backup){D2, NULL, {{10, NULL}, {20, NULL}}, 2});
        prune_well(&t, 1);
        assert_int_equal(t.result.object_count, KB_ARRAY_LEN(ORDER) - at);
        KB_AUTOFREE char *left = list_below(t.store.storage, D1);
        assert_string_equal(left, "");
        prune_well(&t, 1);
        assert_int_equal(t.result.object_count, 0);
    }
}

static void kb_prune_run_dry_names_exactly_what_the_run_removes(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST(t);
    make_three(&t);
    for (int round = 0; round < 4; round++) {
        KB_AUTOFREE char *before = list_below(t.store.storage, "");
        assert_ok(prune(&t, 1, true, &err));
        assert_int_equal(t.spy.removed_count, 0);
        KB_AUTOFREE char *after = list_below(t.store.storage, "");
        assert_string_equal(after, before);
        kb_prune_result dry = t.result;
        t.result = (kb_prune_result){0};
        prune_well(&t, 1);
        KB_AUTOFREE char *dry_marked = rows_text(&dry.marked);
        KB_AUTOFREE char *dry_deleted = rows_text(&dry.deleted);
        KB_AUTOFREE char *dry_kept = rows_text(&dry.kept);
        assert_rows(t.result.marked, dry_marked);
        assert_rows(t.result.deleted, dry_deleted);
        assert_rows(t.result.kept, dry_kept);
        assert_int_equal(dry.object_count, t.result.object_count);
        assert_int_equal(dry.reclaimed_bytes, t.result.reclaimed_bytes);
        assert_int_equal(dry.segments, t.result.segments);
        for (size_t i = 0; i < dry.object_count; i++)
            assert_string_equal(dry.objects[i], t.result.objects[i]);
        kb_prune_result_done(&dry);
        t.spy.ahead_ms += 2 * GRACE_MS;
    }
}

/* ---- roots ---- */

/* A holder that slept for more than a week writes into a backup that was deleted meanwhile. */
static void kb_prune_run_is_not_stopped_by_what_a_zombie_left(void **state)
{
    (void)state;
    AUTO_TEST(t);
    make_three(&t);
    test_puts(t.store.storage, "orders-20240601-000000/journal/00000007.json", "{}");
    prune_well(&t, 2);
    assert_rows(t.result.marked, "20250101:surplus ");
    assert_true(is_there(t.store.storage, "orders-20240601-000000/journal/00000007.json"));
}

/* Somebody removed the start of a journal: the backup may still list segments of others. */
static void kb_prune_run_stops_at_a_sealed_backup_without_a_journal(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST(t);
    make_three(&t);
    make_backup(t.store.storage, &(made_backup){D4, D3, {{30, D2}, {40, D3}}, 2});
    test_remove(t.store.storage, D4 "/manifest.json");
    test_remove(t.store.storage, D4 "/journal/00000000.json");
    assert_fails(prune(&t, 1, false, &err), KB_BACKUP_CORRUPT);
    assert_false(is_there(t.store.storage, D1 "/pruned.json"));
}

static void kb_prune_run_keeps_what_open_backups_build_on(void **state)
{
    (void)state;
    AUTO_TEST(t);
    make_three(&t);
    test_clock clock;
    test_clock_init(&clock);
    kb_journal_free(make_open(t.store.storage, &clock, &(made_backup){D4, D1, {{50, NULL}}, 1}));
    prune_well(&t, 1);
    assert_rows(t.result.marked, "20250102:surplus ");
    assert_rows(t.result.kept,
                "20250104:open 20250103:newest 20250102:marked, within its grace 20250101:base of an open "
                "backup ");
}

/* The backup began after the mark was written, or before it looked for one. */
static void kb_prune_run_skips_a_marked_base_of_an_open_backup(void **state)
{
    (void)state;
    AUTO_TEST(t);
    make_doomed(&t);
    test_clock clock;
    test_clock_init(&clock);
    kb_journal_free(make_open(t.store.storage, &clock, &(made_backup){D4, D1, {{50, NULL}}, 1}));
    prune_well(&t, 1);
    assert_rows(t.result.deleted, "");
    assert_rows(t.result.kept, "20250104:open 20250102:newest 20250101:base of an open backup ");
    assert_true(has_segment(t.store.storage, D1, 0));
}

static void damage(const prune_test *t, const char *key)
{
    test_overwrite(t->store.storage, key, "{\"damaged\": ");
}

static void kb_prune_run_takes_a_backup_with_damaged_backup_json_by_its_manifest(void **state)
{
    (void)state;
    static const char *const ways[] = {"damaged", "missing"};
    for (size_t i = 0; i < KB_ARRAY_LEN(ways); i++) {
        AUTO_TEST(t);
        make_three(&t);
        if (i == 0)
            damage(&t, D2 "/backup.json");
        else
            test_remove(t.store.storage, D2 "/backup.json");
        prune_well(&t, 1);
        assert_rows(t.result.marked, "20250101:surplus ");
        assert_rows(t.result.kept, "20250103:newest 20250102:damaged 20250101:marked, within its grace ");
        t.spy.ahead_ms = 2 * GRACE_MS;
        prune_well(&t, 1);
        assert_false(has_segment(t.store.storage, D1, 0));
        assert_true(has_segment(t.store.storage, D1, 10));
        assert_true(has_segment(t.store.storage, D1, 20));
        assert_true(has_segment(t.store.storage, D2, 30));
    }
}

static void kb_prune_run_stops_at_what_it_cannot_understand(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        bool with_open;
        bool with_mark;
    } rows[] = {
        {D2 "/manifest.json", false, false},
        {D3 "/manifest.json", false, false},
        {D4 "/journal/00000000.json", true, false},
        {D1 "/pruned.json", false, true},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTO_ERROR(err);
        AUTO_TEST(t);
        make_three(&t);
        test_clock clock;
        test_clock_init(&clock);
        if (rows[i].with_open)
            kb_journal_free(make_open(t.store.storage, &clock, &(made_backup){D4, D3, {{50, NULL}}, 1}));
        if (rows[i].with_mark)
            prune_well(&t, 2);
        damage(&t, rows[i].key);
        KB_AUTOFREE char *before = list_below(t.store.storage, "");
        t.spy.ahead_ms = 2 * GRACE_MS;
        assert_fails(prune(&t, 1, false, &err), KB_BACKUP_CORRUPT);
        assert_says(rows[i].key);
        assert_says("nothing of lineage 'orders' is deleted");
        KB_AUTOFREE char *after = list_below(t.store.storage, "");
        assert_string_equal(after, before);
    }
}

static void kb_prune_run_stops_when_the_store_fails(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST(t);
    make_three(&t);
    t.spy.bad.refuse = true;
    assert_fails(prune(&t, 1, false, &err), KB_TEMPORARY_FAILURE);
    assert_true(err.retryable);
    assert_int_equal(t.spy.removed_count, 0);
}

static void kb_prune_run_leaves_other_lineages_and_strangers_alone(void **state)
{
    (void)state;
    AUTO_TEST(t);
    make_three(&t);
    test_puts(t.store.storage, "orders-20240101-000000/topics/a/partition=0/x", "of a tool at work");
    test_puts(t.store.storage, "orders-20240102-000000/manifest.json", "of another tool");
    test_puts(t.store.storage, "orders-eu-20240101-000000/pruned.json", "{}");
    set_age_below(&t.store, "orders-", 40 * DAY_MS);
    KB_AUTOFREE char *before = list_below(t.store.storage, "orders-2024");
    prune_well(&t, 1);
    t.spy.ahead_ms = 40 * DAY_MS;
    prune_well(&t, 1);
    KB_AUTOFREE char *after = list_below(t.store.storage, "orders-2024");
    assert_string_equal(after, before);
    assert_true(is_there(t.store.storage, "orders-eu-20240101-000000/pruned.json"));
}

static void kb_prune_run_without_a_good_backup_keeps_the_last_marked_one(void **state)
{
    (void)state;
    AUTO_TEST(t);
    make_doomed(&t);
    damage(&t, D2 "/backup.json");
    prune_well(&t, 1);
    assert_rows(t.result.deleted, "");
    assert_rows(t.result.kept, "20250102:damaged 20250101:the last good backup ");
    assert_true(has_segment(t.store.storage, D1, 0));
}

static void kb_prune_run_of_failed_backups_only_removes_nothing(void **state)
{
    (void)state;
    AUTO_TEST(t);
    test_clock clock;
    test_clock_init(&clock);
    kb_journal_free(make_open(t.store.storage, &clock, &THREE[0]));
    kb_journal_free(make_open(t.store.storage, &clock, &(made_backup){D2, NULL, {{0, NULL}}, 1}));
    t.spy.ahead_ms = 30 * DAY_MS;
    prune_well(&t, 1);
    assert_rows(t.result.kept, "20250102:open 20250101:open ");
    assert_int_equal(t.result.object_count, 0);
}

static void kb_prune_run_refused_policy_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST(t);
    make_three(&t);
    assert_fails(prune(&t, -1, false, &err), KB_CONFIG_INVALID);
    assert_false(is_there(t.store.storage, D1 "/pruned.json"));
}

/* ---- abandoned backups ---- */

static void kb_prune_run_closes_marks_and_deletes_abandoned_backups(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST(t);
    test_clock clock;
    test_clock_init(&clock);
    const made_backup dead = {D1, NULL, {{0, NULL}}, 1};
    AUTO_JOURNAL *zombie = make_open(t.store.storage, &clock, &dead);
    put_made_objects(t.store.storage, &dead);
    make_backup(t.store.storage, &(made_backup){D2, NULL, {{0, NULL}}, 1});
    t.spy.ahead_ms = KB_PRUNE_ABANDONED_MS - 60000;
    prune_well(&t, 1);
    assert_rows(t.result.kept, "20250102:newest 20250101:open ");
    t.spy.ahead_ms = KB_PRUNE_ABANDONED_MS + 60000;
    assert_ok(prune(&t, 1, true, &err));
    assert_rows(t.result.closed, "20250101:abandoned ");
    prune_well(&t, 1);
    assert_rows(t.result.closed, "20250101:abandoned ");
    assert_rows(t.result.marked, "20250101:abandoned ");
    assert_rows(t.result.deleted, "");
    assert_fails(kb_journal_progress(zombie, &(kb_journal_news){0}, &err), KB_FENCED);
    prune_well(&t, 1);
    assert_rows(t.result.closed, "");
    assert_rows(t.result.deleted, "20250101:gone ");
    KB_AUTOFREE char *left = list_below(t.store.storage, D1);
    assert_string_equal(left, "");
}

static void kb_journal_close_meets_the_living(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST(t);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = make_open(t.store.storage, &clock, &THREE[0]);
    kb_journal_close_options options = {.storage = t.store.storage,
                                        .backup_id = D1,
                                        .holder = &t.holder,
                                        .reason = "abandoned",
                                        .last_seq = 0};
    bool closed = true;
    const kb_journal_news heartbeat = {0};
    assert_ok(kb_journal_progress(journal, &heartbeat, &err));
    assert_ok(kb_journal_close(&options, &closed, &err));
    assert_false(closed);
    options.last_seq = 1;
    assert_ok(kb_journal_close(&options, &closed, &err));
    assert_true(closed);
    assert_ok(kb_journal_close(&options, &closed, &err));
    assert_true(closed);
    assert_fails(kb_journal_progress(journal, &heartbeat, &err), KB_FENCED);
    AUTO_JOURNAL *next = NULL;
    kb_holder holder KB_CLEANUP(kb_holder_done) = test_holder("next", "uid-next");
    const kb_journal_options journal_options = {.storage = t.store.storage,
                                                .backup_id = D1,
                                                .holder = &holder,
                                                .clock = &clock.clock,
                                                .wait = test_wait,
                                                .wait_ctx = &clock};
    kb_error_done(&err);
    assert_ok(kb_journal_new(&journal_options, &next, &err));
    assert_fails(kb_journal_wait(next, &err), KB_CONFIG_INVALID);
    assert_says("given up by prune");
}

/* ---- orphans ---- */

static void kb_prune_run_removes_old_orphans_of_complete_backups(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST(t);
    make_backup(t.store.storage, &THREE[0]);
    KB_AUTOFREE char *old = made_segment_key(D1, 5);
    KB_AUTOFREE char *young = made_segment_key(D1, 6);
    test_puts(t.store.storage, old, "orphan");
    test_puts(t.store.storage, young, "orphan");
    KB_CLEANUP(kb_upload_free_at) kb_upload *upload = NULL;
    assert_ok(kb_upload_begin(t.store.storage, D1 "/topics/orders/partition=0/s",
                              "00112233445566778899aabbccddeeff", &upload, &err));
    prune_well(&t, 1);
    assert_int_equal(t.result.object_count, 0);
    set_age_below(&t.store, D1, 6 * DAY_MS);
    set_age(t.store.dir, young, 0);
    t.spy.ahead_ms = 2 * DAY_MS;
    prune_well(&t, 1);
    assert_true(has_object(&t.result, old));
    assert_true(has_object(&t.result, D1 "/journal/00000002.json"));
    assert_true(has_object(&t.result, D1 "/journal/00000001.json"));
    assert_int_equal(t.result.object_count, 3);
    assert_int_equal(t.result.orphans, 1);
    assert_true(is_there(t.store.storage, young));
    assert_true(is_there(t.store.storage, D1 "/journal/00000000.json"));
    assert_whole(t.store.storage, &THREE[0]);
    t.spy.ahead_ms = 8 * DAY_MS;
    prune_well(&t, 1);
    assert_int_equal(t.result.orphans, 2); /* the young one and the upload */
    uint8_t head[KB_UPLOAD_HEAD_BYTES] = {0};
    assert_fails(kb_upload_complete(upload, head, &err), KB_FENCED);
    assert_whole(t.store.storage, &THREE[0]);
    prune_well(&t, 1);
    assert_int_equal(t.result.object_count, 0);
}

static void kb_prune_run_leaves_objects_of_open_backups(void **state)
{
    (void)state;
    AUTO_TEST(t);
    make_backup(t.store.storage, &THREE[0]);
    test_clock clock;
    test_clock_init(&clock);
    const made_backup begun = {D2, D1, {{30, NULL}}, 1};
    kb_journal_free(make_open(t.store.storage, &clock, &begun));
    put_made_objects(t.store.storage, &begun);
    set_age_below(&t.store, D2, 40 * DAY_MS);
    prune_well(&t, 1);
    assert_int_equal(t.result.object_count, 0);
    assert_true(has_segment(t.store.storage, D2, 30));
}

/* ---- stores that refuse ---- */

static void kb_prune_run_refused_removals_are_held(void **state)
{
    (void)state;
    static const struct {
        const char *held;
        size_t removed;
        bool index_gone;
    } rows[] = {
        {"/manifest.json", 0, false},   {"/backup.json", 1, true}, {"segment-00000000000000000010", 4, true},
        {"/journal/00000001", 7, true}, {"/pruned.json", 9, true},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        AUTO_TEST(t);
        make_doomed(&t);
        t.spy.held = rows[i].held;
        prune_well(&t, 1);
        assert_int_equal(t.result.held, 1);
        assert_int_equal(t.result.object_count, rows[i].removed);
        assert_rows(t.result.deleted, rows[i].index_gone ? "20250101:in part " : "");
        assert_rows(t.result.kept, "20250102:newest 20250101:held by the store ");
        t.spy.held = NULL;
        prune_well(&t, 1);
        assert_int_equal(t.result.held, 0);
        assert_int_equal(t.result.object_count, KB_ARRAY_LEN(ORDER) - rows[i].removed);
    }
}

static void kb_prune_run_hidden_bytes_are_not_reclaimed(void **state)
{
    (void)state;
    AUTO_TEST(t);
    make_doomed(&t);
    t.spy.hidden = "orders";
    prune_well(&t, 1);
    assert_int_equal(t.result.hidden, 1);
    assert_int_equal(t.result.held, 0);
    assert_int_equal(t.result.reclaimed_bytes, 0);
    assert_rows(t.result.deleted, "20250101:gone ");
}

/* ---- marks ---- */

static void kb_prune_mark_is_written_once_and_read_back(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST(t);
    char first_reason[] = "surplus", second_reason[] = "expired", who[] = "a job";
    bool was_marked = true;
    assert_ok(
        kb_prune_mark_write(t.store.storage, D1, &(kb_prune_mark){first_reason, who}, &was_marked, &err));
    assert_false(was_marked);
    assert_ok(
        kb_prune_mark_write(t.store.storage, D1, &(kb_prune_mark){second_reason, who}, &was_marked, &err));
    assert_true(was_marked);
    KB_CLEANUP(kb_prune_mark_done) kb_prune_mark mark = {NULL, NULL};
    assert_ok(kb_prune_mark_read(t.store.storage, D1, &mark, &err));
    assert_string_equal(mark.reason, "surplus");
    assert_string_equal(mark.marked_by, "a job");
    KB_CLEANUP(kb_prune_mark_done) kb_prune_mark none = {NULL, NULL};
    assert_fails(kb_prune_mark_read(t.store.storage, D2, &none, &err), KB_ERR_NOT_FOUND);
    KB_AUTOFREE char *text = test_get(t.store.storage, D1 "/pruned.json");
    test_puts(t.store.storage, D2 "/pruned.json", text);
    assert_fails(kb_prune_mark_read(t.store.storage, D2, &none, &err), KB_BACKUP_CORRUPT);
    assert_says("mark of backup '" D1 "'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_prune_run_marks_first_and_deletes_after_the_grace),
        cmocka_unit_test(kb_prune_run_of_the_last_user_removes_everything),
        cmocka_unit_test(kb_prune_run_deletes_in_the_safe_order),
        cmocka_unit_test(kb_prune_run_stopped_at_any_removal_is_finished_by_the_next),
        cmocka_unit_test(kb_prune_run_dry_names_exactly_what_the_run_removes),
        cmocka_unit_test(kb_prune_run_stops_at_a_sealed_backup_without_a_journal),
        cmocka_unit_test(kb_prune_run_keeps_what_open_backups_build_on),
        cmocka_unit_test(kb_prune_run_is_not_stopped_by_what_a_zombie_left),
        cmocka_unit_test(kb_prune_run_skips_a_marked_base_of_an_open_backup),
        cmocka_unit_test(kb_prune_run_takes_a_backup_with_damaged_backup_json_by_its_manifest),
        cmocka_unit_test(kb_prune_run_stops_at_what_it_cannot_understand),
        cmocka_unit_test(kb_prune_run_stops_when_the_store_fails),
        cmocka_unit_test(kb_prune_run_leaves_other_lineages_and_strangers_alone),
        cmocka_unit_test(kb_prune_run_without_a_good_backup_keeps_the_last_marked_one),
        cmocka_unit_test(kb_prune_run_of_failed_backups_only_removes_nothing),
        cmocka_unit_test(kb_prune_run_refused_policy_is_refused),
        cmocka_unit_test(kb_prune_run_closes_marks_and_deletes_abandoned_backups),
        cmocka_unit_test(kb_journal_close_meets_the_living),
        cmocka_unit_test(kb_prune_run_removes_old_orphans_of_complete_backups),
        cmocka_unit_test(kb_prune_run_leaves_objects_of_open_backups),
        cmocka_unit_test(kb_prune_run_refused_removals_are_held),
        cmocka_unit_test(kb_prune_run_hidden_bytes_are_not_reclaimed),
        cmocka_unit_test(kb_prune_mark_is_written_once_and_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

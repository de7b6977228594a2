#include "worker/catalog/lineage.h"

#include "worker/tests/lineage_fixture.h"

static void parse_id_table_accepts_only_name_and_stamp(void **state)
{
    (void)state;
    static const struct {
        const char *lineage;
        const char *id;
        bool expected;
    } cases[] = {
        {"orders", "orders-20250101-000000", true},
        {"a-b", "a-b-20250101-000059", true},
        {"a", "a-b-20250101-000059", false},
        {"orders", "orders-20250101-00000", false},
        {"orders", "orders-20251301-000000", false},
        {"orders", "orders-20250101-000060", false},
        {"orders", "orders-20250101-000000x", false},
        {"orders", "orders20250101-000000", false},
        {"orders", "order-20250101-000000", false},
        {"orders", "orders", false},
        {"", "-20250101-000000", false},
        {"x-20250101-000000", "x-20250101-000000-20250102-000000", true},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++)
        if (kb_lineage_parse_id(cases[i].lineage, cases[i].id, NULL) != cases[i].expected)
            fail_msg("%s of %s", cases[i].id, cases[i].lineage);
}

static void of_id_finds_the_name(void **state)
{
    (void)state;
    KB_AUTOFREE char *id = kb_lineage_backup_id("x-y", "20250101-010203");
    KB_AUTOFREE char *name = kb_lineage_of_id(id);
    assert_string_equal(id, "x-y-20250101-010203");
    assert_string_equal(name, "x-y");
    assert_null(kb_lineage_of_id("x-y"));
    assert_null(kb_lineage_of_id("-20250101-010203"));
    int64_t ms = 0;
    assert_true(kb_lineage_parse_id("x-y", id, &ms));
    assert_int_equal(ms, 1735693323000);
}

static void scan_tells_the_state_of_each_newest_first(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    static const test_member rows[] = {
        {.id = LINE_ID("01"), .state = TEST_MEMBER_COMPLETE, .owner = "ns/a"},
        {.id = LINE_ID("02"), .state = TEST_MEMBER_SEALED},
        {.id = LINE_ID("03"), .state = TEST_MEMBER_OPEN, .job_uid = "uid"},
        {.id = LINE_ID("04"), .state = TEST_MEMBER_RELEASED},
        {.id = LINE_ID("05"), .state = TEST_MEMBER_OPEN, .lineage = ""},
        {.id = LINE_ID("06"), .state = TEST_MEMBER_OPEN, .lineage = "other"},
        {.id = LINE "-x-20250101-000007", .state = TEST_MEMBER_OPEN, .lineage = LINE "-x"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++)
        test_member_make(store.storage, &rows[i]);
    test_member_mark(store.storage, LINE_ID("01"));
    test_puts(store.storage, LINE_ID("08") "/journal/00000000.json", "{}");
    test_puts(store.storage, LINE_ID("09") "/manifest.json", "{}");
    KB_CLEANUP(kb_lineage_members_done) kb_lineage_members members = {0};
    assert_ok(kb_lineage_scan(store.storage, LINE, &members, &err));
    assert_int_equal(members.count, 6);
    for (size_t i = 1; i < members.count; i++)
        assert_true(members.items[i - 1].stamp_ms > members.items[i].stamp_ms);
    const kb_lineage_member *first = &members.items[5];
    assert_int_equal(first->state, KB_CATALOG_COMPLETE);
    assert_true(first->marked && first->marked_at_ms > 0 && !first->confirmed);
    assert_int_equal(members.items[4].state, KB_CATALOG_SEALED);
    const kb_lineage_member *open = &members.items[3];
    assert_int_equal(open->state, KB_CATALOG_OPEN);
    assert_true(open->confirmed && !open->released && open->last_entry_ms > 0);
    assert_string_equal(open->holder.job_uid, "uid");
    assert_true(members.items[2].released);
    assert_int_equal(members.items[1].state, KB_CATALOG_DAMAGED);
    assert_non_null(members.items[1].problem);
    assert_int_equal(members.items[0].state, KB_CATALOG_FOREIGN);
}

static void confirm_reads_the_plan_of_a_complete_backup(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_member_make(store.storage, &(test_member){.id = LINE_ID("01"),
                                                   .state = TEST_MEMBER_COMPLETE,
                                                   .owner = "ns/a",
                                                   .job_uid = "uid"});
    test_member_make(store.storage,
                     &(test_member){.id = LINE_ID("02"), .state = TEST_MEMBER_COMPLETE, .lineage = ""});
    KB_CLEANUP(kb_lineage_members_done) kb_lineage_members members = {0};
    assert_ok(kb_lineage_scan(store.storage, LINE, &members, &err));
    assert_int_equal(members.count, 2);
    bool is_member = true;
    assert_ok(kb_lineage_confirm(store.storage, LINE, &members.items[0], &is_member, &err));
    assert_false(is_member);
    assert_ok(kb_lineage_confirm(store.storage, LINE, &members.items[1], &is_member, &err));
    assert_true(is_member);
    assert_string_equal(members.items[1].owner, "ns/a");
    assert_string_equal(members.items[1].holder.job_uid, "uid");
    test_remove(store.storage, LINE_ID("01") "/journal/00000000.json");
    assert_fails(kb_lineage_confirm(store.storage, LINE, &members.items[1], &is_member, &err),
                 KB_BACKUP_CORRUPT);
}

static void newest_is_complete_unmarked_and_of_the_lineage(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    KB_AUTOFREE char *none = NULL;
    assert_ok(kb_lineage_newest(store.storage, LINE, &none, &err));
    assert_null(none);
    test_member_make(store.storage, &(test_member){.id = LINE_ID("01"), .state = TEST_MEMBER_COMPLETE});
    test_member_make(store.storage, &(test_member){.id = LINE_ID("02"), .state = TEST_MEMBER_COMPLETE});
    test_member_make(store.storage, &(test_member){.id = LINE_ID("03"), .state = TEST_MEMBER_SEALED});
    test_member_make(store.storage,
                     &(test_member){.id = LINE_ID("04"), .state = TEST_MEMBER_COMPLETE, .lineage = ""});
    KB_AUTOFREE char *newest = NULL;
    assert_ok(kb_lineage_newest(store.storage, LINE, &newest, &err));
    assert_string_equal(newest, LINE_ID("02"));
    test_member_mark(store.storage, LINE_ID("02"));
    KB_AUTOFREE char *unmarked = NULL;
    assert_ok(kb_lineage_newest(store.storage, LINE, &unmarked, &err));
    assert_string_equal(unmarked, LINE_ID("01"));
}

static void scan_failing_store_is_never_absence(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_member_make(store.storage, &(test_member){.id = LINE_ID("01"), .state = TEST_MEMBER_OPEN});
    bad_store bad = {.inner = store.storage, .lose_replies = true};
    KB_CLEANUP(kb_storage_free_at) kb_storage *storage = bad_storage_new(&bad);
    KB_CLEANUP(kb_lineage_members_done) kb_lineage_members members = {0};
    assert_fails(kb_lineage_scan(storage, LINE, &members, &err), KB_TEMPORARY_FAILURE);
    assert_int_equal(members.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_id_table_accepts_only_name_and_stamp),
        cmocka_unit_test(of_id_finds_the_name),
        cmocka_unit_test(scan_tells_the_state_of_each_newest_first),
        cmocka_unit_test(confirm_reads_the_plan_of_a_complete_backup),
        cmocka_unit_test(newest_is_complete_unmarked_and_of_the_lineage),
        cmocka_unit_test(scan_failing_store_is_never_absence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "worker/catalog/lineage.h"

#include "worker/catalog/catalog.h"
#include "worker/tests/catalog_fixture.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_id_table_accepts_only_name_and_stamp),
        cmocka_unit_test(of_id_finds_the_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "worker/cmd/cmd_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"

static char id_new[] = "orders-20250102-000000";
static char id_bad[] = "bad\n1";
static char lineage[] = "orders";
static char problem[] = "'bad/manifest.json': not JSON";

static kb_catalog_row row_items[] = {
    {.backup_id = id_new,
     .state = KB_CATALOG_COMPLETE,
     .lineage = lineage,
     .created_at = INT64_C(1735776000000),
     .snapshot_time = INT64_C(1735776001200),
     .completed_at = INT64_C(1735776060000),
     .has_numbers = true,
     .records = 150,
     .raw_bytes = 18000,
     .stored_bytes = 3600,
     .own_bytes = 1255,
     .gaps = 2},
    {.backup_id = id_bad, .state = KB_CATALOG_DAMAGED, .problem = problem},
};
static const kb_catalog_rows rows = {row_items, KB_ARRAY_LEN(row_items), 0};
static const kb_catalog_rows no_rows = {NULL, 0, 0};

static void kb_list_text_is_a_table(void **state)
{
    (void)state;
    KB_AUTO_STRBUF(out, 10000);
    kb_list_text(&rows, &out);
    assert_string_equal(kb_strbuf_view(&out), "BACKUP ID               STATE     CREATED                   "
                                              "BASE  RECORDS       RAW   STORED      OWN  "
                                              "GAPS\n"
                                              "orders-20250102-000000  complete  2025-01-02T00:00:00.000Z  - "
                                              "        150  17.6 KiB  3.5 KiB  1.2 KiB  "
                                              "   2\n"
                                              "bad\\x0a1                damaged   -                         "
                                              "-           -         -        -        -  "
                                              "   -\n");
}

static void kb_list_no_backups_is_empty(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(text, 10000);
    KB_AUTO_STRBUF(json, 10000);
    kb_list_text(&no_rows, &text);
    assert_int_equal(text.len, 0);
    assert_int_equal(kb_list_json(&no_rows, &json, &err), KB_OK);
    assert_string_equal(kb_strbuf_view(&json), "[]\n");
}

static void kb_list_json_has_null_for_what_is_unknown(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(out, 10000);
    assert_int_equal(kb_list_json(&rows, &out, &err), KB_OK);
    assert_string_equal(kb_strbuf_view(&out), "[\n"
                                              "  {\n"
                                              "    \"backupId\": \"orders-20250102-000000\",\n"
                                              "    \"state\": \"complete\",\n"
                                              "    \"lineage\": \"orders\",\n"
                                              "    \"createdAt\": 1735776000000,\n"
                                              "    \"snapshotTime\": 1735776001200,\n"
                                              "    \"completedAt\": 1735776060000,\n"
                                              "    \"base\": null,\n"
                                              "    \"records\": 150,\n"
                                              "    \"rawBytes\": 18000,\n"
                                              "    \"storedBytes\": 3600,\n"
                                              "    \"ownBytes\": 1255,\n"
                                              "    \"gaps\": 2\n"
                                              "  },\n"
                                              "  {\n"
                                              "    \"backupId\": \"bad\\n1\",\n"
                                              "    \"state\": \"damaged\",\n"
                                              "    \"lineage\": null,\n"
                                              "    \"createdAt\": null,\n"
                                              "    \"snapshotTime\": null,\n"
                                              "    \"completedAt\": null,\n"
                                              "    \"base\": null,\n"
                                              "    \"records\": null,\n"
                                              "    \"rawBytes\": null,\n"
                                              "    \"storedBytes\": null,\n"
                                              "    \"ownBytes\": null,\n"
                                              "    \"gaps\": null,\n"
                                              "    \"problem\": \"'bad/manifest.json': not JSON\"\n"
                                              "  }\n"
                                              "]\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_list_text_is_a_table),
        cmocka_unit_test(kb_list_no_backups_is_empty),
        cmocka_unit_test(kb_list_json_has_null_for_what_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

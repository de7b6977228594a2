#include "worker/cmd/cmd_prune.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/mem.h"

static char id_old[] = "orders-20250101-000000", id_new[] = "orders-20250102-000000", id_odd[] = "odd\n1";
static char newest[] = "newest", surplus[] = "surplus", gone[] = "gone";
static char key_manifest[] = "orders-20250101-000000/manifest.json";
static kb_prune_row kept[] = {{id_new, newest}};
static kb_prune_row marked[] = {{id_odd, surplus}};
static kb_prune_row deleted[] = {{id_old, gone}};
static char *objects[] = {key_manifest};
static const kb_prune_result RESULT = {
    .kept = {kept, 1, 1},
    .marked = {marked, 1, 1},
    .deleted = {deleted, 1, 1},
    .objects = objects,
    .object_count = 1,
    .segments = 3,
    .orphans = 2,
    .reclaimed_bytes = 4096,
    .held = 1,
};
static const kb_prune_result NOTHING = {0};

static void kb_prune_text_tells_what_is_done_and_what_would_be(void **state)
{
    (void)state;
    KB_AUTO_STRBUF(done, 10000);
    kb_prune_text(&RESULT, false, &done);
    assert_string_equal(kb_strbuf_view(&done),
                        "ACTION  BACKUP ID               WHY\n"
                        "mark    odd\\x0a1                surplus\n"
                        "delete  orders-20250101-000000  gone\n"
                        "keep    orders-20250102-000000  newest\n"
                        "removed 1 objects, 3 segments, 2 orphans, 4096 bytes; held 1, hidden 0\n");
    KB_AUTO_STRBUF(dry, 10000);
    kb_prune_text(&RESULT, true, &dry);
    assert_string_equal(kb_strbuf_view(&dry),
                        "ACTION  BACKUP ID               WHY\n"
                        "mark    odd\\x0a1                surplus\n"
                        "delete  orders-20250101-000000  gone\n"
                        "keep    orders-20250102-000000  newest\n"
                        "remove orders-20250101-000000/manifest.json\n"
                        "would remove 1 objects, 3 segments, 2 orphans, 4096 bytes; held 1, hidden 0\n");
}

static void kb_prune_json_has_all_fields(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(out, 10000);
    assert_int_equal(kb_prune_json(&RESULT, true, &out, &err), KB_OK);
    assert_string_equal(kb_strbuf_view(&out), "{\n"
                                              "  \"kept\": [\n"
                                              "    {\n"
                                              "      \"backupId\": \"orders-20250102-000000\",\n"
                                              "      \"why\": \"newest\"\n"
                                              "    }\n"
                                              "  ],\n"
                                              "  \"closed\": [],\n"
                                              "  \"marked\": [\n"
                                              "    \"odd\\n1\"\n"
                                              "  ],\n"
                                              "  \"deleted\": [\n"
                                              "    \"orders-20250101-000000\"\n"
                                              "  ],\n"
                                              "  \"segments\": 3,\n"
                                              "  \"reclaimedBytes\": 4096,\n"
                                              "  \"hidden\": 0,\n"
                                              "  \"held\": 1,\n"
                                              "  \"orphans\": 2,\n"
                                              "  \"objects\": [\n"
                                              "    \"orders-20250101-000000/manifest.json\"\n"
                                              "  ],\n"
                                              "  \"dryRun\": true\n"
                                              "}\n");
}

static void kb_prune_text_of_nothing_is_short(void **state)
{
    (void)state;
    KB_AUTO_STRBUF(out, 10000);
    kb_prune_text(&NOTHING, false, &out);
    assert_string_equal(kb_strbuf_view(&out),
                        "removed 0 objects, 0 segments, 0 orphans, 0 bytes; held 0, hidden 0\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_prune_text_tells_what_is_done_and_what_would_be),
        cmocka_unit_test(kb_prune_json_has_all_fields),
        cmocka_unit_test(kb_prune_text_of_nothing_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "worker/cmd/cmd_validate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "worker/tests/backup_fixture.h"

static const kb_clock *still_clock(void);

static void validate(const test_backup *fixture, kb_sample sample, kb_validate_result *result)
{
    KB_AUTO_ERROR(err);
    kb_validate_settings settings = {.storage = fixture->storage,
                                     .backup_id = TEST_BACKUP_ID,
                                     .deep = sample.parts > 0,
                                     .sample = sample,
                                     .threads = 1,
                                     .memory_bytes = (uint64_t)512 << 20,
                                     .clock = still_clock()};
    if (kb_validate_run(&settings, result, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
}

static int64_t now(void *ctx)
{
    return ++*(int64_t *)ctx;
}

static const kb_clock *still_clock(void)
{
    static int64_t ticks;
    static kb_clock clock;
    ticks = 0;
    clock = (kb_clock){now, now, &ticks};
    return &clock;
}

static void make_backup(test_backup *fixture)
{
    test_backup_init(fixture, TEST_BACKUP_ID, NULL);
    test_backup_add_gap(fixture, "orders", 0, 0, 5);
    test_backup_add(fixture, &(test_segment){"orders", 0, 5, 10, KB_CODEC_NONE, 0, false});
    kb_backup_add_skipped(fixture->backup, "secret", "unauthorized");
    kb_backup_add_finding(fixture->backup, "TopicsSkipped", "secret", -1, "unauthorized");
    kb_backup_add_finding(fixture->backup, "RetentionGap", "orders", 0, "5 offsets");
    test_backup_publish(fixture);
}

static void kb_validate_json_valid_with_gaps(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST_BACKUP(fixture);
    KB_CLEANUP(kb_validate_result_done) kb_validate_result result = {0};
    make_backup(&fixture);
    validate(&fixture, (kb_sample){1, 1}, &result);
    KB_AUTO_STRBUF(out, 100000);
    assert_int_equal(kb_validate_json(&result, &out, &err), KB_OK);
    KB_AUTOFREE char *expected = kb_asprintf("{\n"
                                             "  \"backupId\": \"orders-20250101-000000\",\n"
                                             "  \"valid\": true,\n"
                                             "  \"deep\": true,\n"
                                             "  \"sample\": \"1/1\",\n"
                                             "  \"state\": \"complete\",\n"
                                             "  \"topics\": 1,\n"
                                             "  \"segments\": 1,\n"
                                             "  \"records\": 10,\n"
                                             "  \"bytes\": %lld,\n"
                                             "  \"gaps\": [\n"
                                             "    {\n"
                                             "      \"topic\": \"orders\",\n"
                                             "      \"partition\": 0,\n"
                                             "      \"start\": 0,\n"
                                             "      \"end\": 5\n"
                                             "    }\n"
                                             "  ],\n"
                                             "  \"skippedTopics\": [\n"
                                             "    {\n"
                                             "      \"name\": \"secret\",\n"
                                             "      \"reason\": \"unauthorized\"\n"
                                             "    }\n"
                                             "  ],\n"
                                             "  \"orphans\": 0,\n"
                                             "  \"problems\": [],\n"
                                             "  \"problemCount\": 0,\n"
                                             "  \"durationMs\": 1\n"
                                             "}\n",
                                             (long long)result.totals.stored_bytes);
    assert_string_equal(kb_strbuf_view(&out), expected);
}

static void kb_validate_text_names_problems(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST_BACKUP(fixture);
    KB_CLEANUP(kb_validate_result_done) kb_validate_result result = {0};
    make_backup(&fixture);
    KB_AUTOFREE char *key = test_backup_key(&fixture, "orders", 0, 0);
    test_object_remove(&fixture, key);
    test_object_write(&fixture, TEST_BACKUP_ID "/topics/left", "123", 3);
    validate(&fixture, (kb_sample){2, 5}, &result);
    KB_AUTO_STRBUF(out, 100000);
    assert_int_equal(kb_validate_text(&result, &out, &err), KB_OK);
    KB_AUTOFREE char *expected = kb_asprintf(
        "backup    orders-20250101-000000: NOT VALID\n"
        "state     complete\n"
        "checked   index, presence and size of every object; part 2 of 5 read whole (0 segments, 0 records)\n"
        "content   1 topics, 1 partitions, 1 segments, 10 records, %lld bytes stored\n"
        "orphans   1 objects of 3 bytes that it does not list\n"
        "gap       orders/0 offsets 0 to 4\n"
        "skipped   secret: unauthorized\n"
        "finding   RetentionGap orders/0: 5 offsets\n"
        "finding   TopicsSkipped secret: unauthorized\n"
        "problem   %s: missing: is not in the store\n",
        (long long)result.totals.stored_bytes, key);
    assert_string_equal(kb_strbuf_view(&out), expected);
}

static void kb_validate_json_without_index_lists_both_objects(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST_BACKUP(fixture);
    KB_CLEANUP(kb_validate_result_done) kb_validate_result result = {0};
    make_backup(&fixture);
    test_object_cut(&fixture, TEST_BACKUP_ID "/backup.json", 10);
    test_object_cut(&fixture, TEST_BACKUP_ID "/manifest.json", 10);
    validate(&fixture, (kb_sample){0, 0}, &result);
    KB_AUTO_STRBUF(out, 100000);
    assert_int_equal(kb_validate_json(&result, &out, &err), KB_OK);
    const char *text = kb_strbuf_view(&out);
    assert_non_null(strstr(text, "\"valid\": false"));
    assert_non_null(strstr(text, "\"state\": \"damaged\""));
    assert_non_null(strstr(text, "\"problemCount\": 2"));
    assert_non_null(strstr(text, "\"key\": \"" TEST_BACKUP_ID "/backup.json\""));
    assert_non_null(strstr(text, "\"key\": \"" TEST_BACKUP_ID "/manifest.json\""));
}

/* What was left out makes the run end with findings, in their order. */
static void kb_validate_report_findings_of_the_backup(void **state)
{
    (void)state;
    static const struct {
        bool gap, skipped, finding, foreign;
        bool has_finding;
        kb_finding first;
    } cases[] = {
        {false, false, false, false, false, KB_FINDING_COUNT},
        {true, false, false, false, true, KB_FINDING_RETENTION_GAP},
        {false, true, false, false, true, KB_FINDING_TOPICS_SKIPPED},
        {false, false, true, false, true, KB_FINDING_DISCONTINUITY},
        {true, false, false, true, true, KB_FINDING_RETENTION_GAP},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        kb_progress *progress = kb_progress_new(&(kb_progress_options){.operation = "validate"});
        AUTO_TEST_BACKUP(fixture);
        KB_CLEANUP(kb_validate_result_done) kb_validate_result result = {0};
        test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
        test_backup_add_empty(&fixture, "orders", 0);
        if (cases[i].gap)
            test_backup_add_gap(&fixture, "orders", 0, 0, 5);
        if (cases[i].skipped)
            kb_backup_add_skipped(fixture.backup, "secret", "unauthorized");
        if (cases[i].finding)
            kb_backup_add_finding(fixture.backup, "Discontinuity", "orders", 0, "was re-created");
        test_backup_publish(&fixture);
        if (cases[i].foreign) {
            test_object_remove(&fixture, TEST_BACKUP_ID "/backup.json");
            test_object_remove(&fixture, TEST_BACKUP_ID "/journal/00000000.json");
        }
        validate(&fixture, (kb_sample){0, 0}, &result);
        assert_true(kb_validate_is_valid(&result));
        kb_validate_report(&result, progress);
        kb_finding first = KB_FINDING_COUNT;
        assert_int_equal(kb_progress_first_finding(progress, &first), cases[i].has_finding);
        assert_int_equal(first, cases[i].first);
        kb_progress_free(progress);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_validate_json_valid_with_gaps),
        cmocka_unit_test(kb_validate_text_names_problems),
        cmocka_unit_test(kb_validate_json_without_index_lists_both_objects),
        cmocka_unit_test(kb_validate_report_findings_of_the_backup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

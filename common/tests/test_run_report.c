#include "common/contract/run_report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "common/base/encode.h"
#include "common/base/mem.h"

static void decref_at(json_t **at)
{
    json_decref(*at);
}
#define AUTO_JSON KB_CLEANUP(decref_at) json_t

/* Encodes, checks size and form, and returns the parsed object. */
static json_t *encoded(const kb_run_report *report, size_t *ret_len)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(out, 1 << 16);
    assert_int_equal(kb_run_report_encode(report, &out, &err), KB_OK);
    assert_true(out.len <= KB_RUN_REPORT_MAX_BYTES);
    assert_true(kb_utf8_valid(out.data, out.len));
    json_t *root = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    if (ret_len != NULL)
        *ret_len = out.len;
    return root;
}

static void assert_json_text(const kb_run_report *report, const char *expected)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(out, 1 << 16);
    assert_int_equal(kb_run_report_encode(report, &out, &err), KB_OK);
    assert_string_equal(kb_strbuf_view(&out), expected);
}

static void encode_empty_report_is_an_empty_object(void **state)
{
    (void)state;
    KB_AUTO_RUN_REPORT(report);
    assert_json_text(&report, "{}");
}

static void encode_one_of_each_type_is_written_in_table_order(void **state)
{
    (void)state;
    KB_AUTO_RUN_REPORT(report);
    kb_run_report_set_flag(&report, KB_REPORT_CONDITIONAL_PUT, false);
    kb_run_report_set_first_gap(&report, "orders", 3, 10, 1LL << 62);
    kb_run_report_set_state(&report, KB_RUN_DONE_WITH_FINDINGS);
    kb_run_report_set_time(&report, KB_REPORT_START_TIME, 1735689600123LL);
    kb_run_report_set_number(&report, KB_REPORT_VERSION, KB_RUN_REPORT_VERSION);
    kb_run_report_set_text(&report, KB_REPORT_OPERATION, "backup");
    kb_run_report_set_number(&report, KB_REPORT_BYTES_PROCESSED, INT64_MAX);
    kb_run_report_add_name(&report, KB_REPORT_SKIPPED_NAMES, "a");
    kb_run_report_add_name(&report, KB_REPORT_SKIPPED_NAMES, "b\"\n");
    kb_run_report_add_topic(&report, "orders", 7);
    kb_run_report_add_group(&report, "g", "success", 2, NULL);
    kb_run_report_add_difference(&report, "g", "t", 1, 5, -1);
    kb_run_report_add_finding(&report, "RetentionGap", "found", "orders/3");
    kb_run_report_add_catalog(&report, &(kb_report_catalog_row){"b-1", 0, 1000, 5, 6, NULL});
    assert_json_text(
        &report,
        "{\"version\":1,\"operation\":\"backup\",\"state\":\"DoneWithFindings\","
        "\"startTime\":\"2025-01-01T00:00:00Z\",\"bytesProcessed\":9223372036854775807,"
        "\"conditionalPut\":false,"
        "\"firstGap\":{\"topic\":\"orders\",\"partition\":3,\"start\":10,\"end\":4611686018427387904},"
        "\"skippedNames\":[\"a\",\"b\\\"\\n\"],"
        "\"topics\":[{\"name\":\"orders\",\"records\":7}],"
        "\"groups\":[{\"group\":\"g\",\"status\":\"success\",\"partitionsReset\":2}],"
        "\"differences\":[{\"group\":\"g\",\"topic\":\"t\",\"partition\":1,\"expected\":5,\"actual\":-1}],"
        "\"findings\":[{\"check\":\"RetentionGap\",\"result\":\"found\",\"detail\":\"orders/3\"}],"
        "\"catalog\":[{\"backupId\":\"b-1\",\"startTime\":\"1970-01-01T00:00:00Z\","
        "\"completionTime\":\"1970-01-01T00:00:01Z\",\"size\":5,\"records\":6}]}");
}

static void set_text_is_cut_at_a_utf8_boundary(void **state)
{
    static const struct {
        const char *text;
        size_t bound;
        const char *clean;
    } CASES[] = {
        {"plain", 5, "plain"},
        {"plain!", 5, "plain"},
        {"abc\xC3\xA4", 4, "abc"},       /* two bytes do not fit into one */
        {"ab\xF0\x9F\x98\x80", 5, "ab"}, /* nor four into three */
        {"ab\xF0\x9F\x98\x80", 6, "ab\xF0\x9F\x98\x80"},
        {"a\xFF"
         "b",
         10,
         "a\xEF\xBF\xBD"
         "b"},
        {"a\xFF", 3, "a"},
        {"", 0, ""},
        {"x", 0, ""},
    };
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        KB_AUTOFREE char *clean = kb_run_report_clean(CASES[i].text, CASES[i].bound);
        assert_string_equal(clean, CASES[i].clean);
    }
    KB_AUTO_RUN_REPORT(report);
    KB_AUTO_STRBUF(text, 4096);
    for (int i = 0; i < 300; i++)
        kb_strbuf_appends(&text, "\xE2\x82\xAC");
    kb_run_report_set_text(&report, KB_REPORT_MESSAGE, kb_strbuf_view(&text));
    AUTO_JSON *root = encoded(&report, NULL);
    assert_int_equal(json_string_length(json_object_get(root, "message")), 510);
    kb_run_report_set_text(&report, KB_REPORT_MESSAGE, NULL);
    assert_json_text(&report, "{}");
}

static void set_number_beyond_int32_saturates(void **state)
{
    (void)state;
    KB_AUTO_RUN_REPORT(report);
    kb_run_report_set_number(&report, KB_REPORT_GAPS, 1LL << 40);
    kb_run_report_set_number(&report, KB_REPORT_HELD, -(1LL << 40));
    kb_run_report_set_number(&report, KB_REPORT_GAP_OFFSETS, 1LL << 40);
    assert_json_text(&report, "{\"gaps\":2147483647,\"gapOffsets\":1099511627776,\"held\":-2147483648}");
}

static void add_rows_beyond_the_bound_mark_the_report(void **state)
{
    static const struct {
        kb_report_field field;
        size_t bound;
    } CASES[] = {{KB_REPORT_SKIPPED_NAMES, 5}, {KB_REPORT_HELD_TOPICS, 5}};
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        KB_AUTO_RUN_REPORT(report);
        for (size_t row = 0; row < CASES[i].bound; row++)
            kb_run_report_add_name(&report, CASES[i].field, "t");
        AUTO_JSON *full = encoded(&report, NULL);
        assert_null(json_object_get(full, "truncated"));
        kb_run_report_add_name(&report, CASES[i].field, "t");
        AUTO_JSON *more = encoded(&report, NULL);
        assert_true(json_is_true(json_object_get(more, "truncated")));
        const char *name = kb_run_report_spec(CASES[i].field)->name;
        assert_int_equal(json_array_size(json_object_get(more, name)), CASES[i].bound);
    }
}

static const char *fill(kb_strbuf *text, size_t len)
{
    kb_strbuf_clear(text);
    for (size_t i = 0; i < len; i++)
        kb_strbuf_appendc(text, (char)('a' + (int)(i % 26)));
    return kb_strbuf_view(text);
}

typedef struct load {
    size_t topics, groups, differences, findings, names, catalog;
    size_t message;
} load;

static void fill_report(kb_run_report *report, const load *rows)
{
    KB_AUTO_STRBUF(text, 1024);
    kb_run_report_set_number(report, KB_REPORT_TOPICS_TOTAL, (int64_t)rows->topics);
    kb_run_report_set_text(report, KB_REPORT_MESSAGE, rows->message > 0 ? fill(&text, rows->message) : NULL);
    for (size_t i = 0; i < rows->topics; i++)
        kb_run_report_add_topic(report, fill(&text, 200), (int64_t)i);
    for (size_t i = 0; i < rows->groups; i++)
        kb_run_report_add_group(report, fill(&text, 200), "failure", 1, "no");
    for (size_t i = 0; i < rows->differences; i++)
        kb_run_report_add_difference(report, "g", fill(&text, 200), 0, (int64_t)i, 0);
    for (size_t i = 0; i < rows->findings; i++)
        kb_run_report_add_finding(report, "RetentionGap", "found", fill(&text, 250));
    for (size_t i = 0; i < rows->names; i++)
        kb_run_report_add_name(report, KB_REPORT_SKIPPED_NAMES, fill(&text, 249));
    for (size_t i = 0; i < rows->catalog; i++)
        kb_run_report_add_catalog(report, &(kb_report_catalog_row){fill(&text, 250), 0, 0, 1, 1, NULL});
}

static size_t list_size(const json_t *root, const char *name)
{
    return json_array_size(json_object_get(root, name));
}

/* Lists vanish in the order of the table of worker.md, section 14; what comes later is whole until then. */
static void encode_too_large_shortens_in_the_documented_order(void **state)
{
    static const struct {
        load in;
        load out; /* sizes that must be left; SIZE_MAX = some but not all */
    } CASES[] = {
        {{.topics = 100, .findings = 3, .message = 512}, {.topics = SIZE_MAX, .findings = 3, .message = 512}},
        {{.topics = 10, .groups = 100, .findings = 3, .message = 512},
         {.groups = SIZE_MAX, .findings = 3, .message = 512}},
        {{.topics = 10, .groups = 10, .differences = 50, .message = 512},
         {.differences = SIZE_MAX, .message = 512}},
        {{.topics = 10, .differences = 50, .findings = 10, .names = 5, .catalog = 3, .message = 512},
         {.findings = SIZE_MAX, .names = 5, .catalog = 3, .message = 512}},
        {{.findings = 10, .names = 5, .catalog = 10, .message = 512}, {.catalog = SIZE_MAX, .message = 512}},
    };
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        KB_AUTO_RUN_REPORT(report);
        fill_report(&report, &CASES[i].in);
        size_t len;
        AUTO_JSON *root = encoded(&report, &len);
        assert_true(len > KB_RUN_REPORT_MAX_BYTES - 400);
        assert_true(json_is_true(json_object_get(root, "truncated")));
        assert_int_equal(json_integer_value(json_object_get(root, "topicsTotal")), CASES[i].in.topics);
        const struct {
            const char *name;
            size_t in, out;
        } lists[] = {
            {"topics", CASES[i].in.topics, CASES[i].out.topics},
            {"groups", CASES[i].in.groups, CASES[i].out.groups},
            {"differences", CASES[i].in.differences, CASES[i].out.differences},
            {"findings", CASES[i].in.findings, CASES[i].out.findings},
            {"skippedNames", CASES[i].in.names, CASES[i].out.names},
            {"catalog", CASES[i].in.catalog, CASES[i].out.catalog},
        };
        for (size_t l = 0; l < KB_ARRAY_LEN(lists); l++) {
            size_t left = list_size(root, lists[l].name);
            if (lists[l].out != SIZE_MAX)
                assert_int_equal(left, lists[l].out);
            else
                assert_true(left > 0 && left < lists[l].in);
        }
        assert_int_equal(json_string_length(json_object_get(root, "message")), CASES[i].out.message);
    }
}

static void encode_lists_are_shortened_from_their_ends(void **state)
{
    (void)state;
    KB_AUTO_RUN_REPORT(report);
    fill_report(&report, &(load){.topics = 100});
    AUTO_JSON *root = encoded(&report, NULL);
    json_t *topics = json_object_get(root, "topics");
    for (size_t i = 0; i < json_array_size(topics); i++) {
        json_t *row = json_array_get(topics, i);
        assert_int_equal(json_integer_value(json_object_get(row, "records")), i);
        assert_int_equal(json_string_length(json_object_get(row, "name")), 200);
    }
}

static void encode_hostile_texts_at_their_bounds_still_fit(void **state)
{
    static const char *const FILLS[] = {"\x01", "\"", "a", "\xE2\x82\xAC", "\xFF"};
    (void)state;
    for (size_t f = 0; f < KB_ARRAY_LEN(FILLS); f++) {
        KB_AUTO_RUN_REPORT(report);
        KB_AUTO_STRBUF(text, 4096);
        for (int i = 0; i < 600; i++)
            kb_strbuf_appends(&text, FILLS[f]);
        const char *long_text = kb_strbuf_view(&text);
        kb_run_report_set_text(&report, KB_REPORT_MESSAGE, long_text);
        kb_run_report_set_text(&report, KB_REPORT_WAITING_FOR, long_text);
        kb_run_report_set_text(&report, KB_REPORT_PRUNE_ERROR, long_text);
        kb_run_report_set_first_gap(&report, long_text, 1, 2, 3);
        for (int i = 0; i < 6; i++) {
            kb_run_report_add_name(&report, KB_REPORT_HELD_TOPICS, long_text);
            kb_run_report_add_name(&report, KB_REPORT_SKIPPED_NAMES, long_text);
            kb_run_report_add_finding(&report, long_text, long_text, long_text);
        }
        kb_run_report_set_number(&report, KB_REPORT_GAPS, 17);
        AUTO_JSON *root = encoded(&report, NULL);
        assert_int_equal(json_integer_value(json_object_get(root, "gaps")), 17);
        assert_true(json_is_true(json_object_get(root, "truncated")));
    }
}

static void encode_identifiers_beyond_all_limits_fail(void **state)
{
    (void)state;
    KB_AUTO_RUN_REPORT(report);
    KB_AUTO_STRBUF(text, 4096);
    for (int i = 0; i < 253; i++)
        kb_strbuf_appendc(&text, '\x02');
    static const kb_report_field FIELDS[] = {KB_REPORT_JOB_NAME, KB_REPORT_POD_NAME, KB_REPORT_BACKUP_ID};
    for (size_t i = 0; i < KB_ARRAY_LEN(FIELDS); i++)
        kb_run_report_set_text(&report, FIELDS[i], kb_strbuf_view(&text));
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(out, 1 << 16);
    assert_int_equal(kb_run_report_encode(&report, &out, &err), KB_ERR_TOO_LARGE);
    assert_int_equal(out.len, 0);
}

static void copy_is_deep_and_replaces(void **state)
{
    (void)state;
    KB_AUTO_RUN_REPORT(from);
    KB_AUTO_RUN_REPORT(to);
    kb_run_report_add_topic(&to, "old", 1);
    kb_run_report_set_text(&to, KB_REPORT_BASE, "old");
    kb_run_report_set_text(&from, KB_REPORT_BACKUP_ID, "b");
    kb_run_report_add_finding(&from, "c", "warn", "d");
    kb_run_report_copy(&to, &from);
    kb_run_report_done(&from);
    assert_json_text(
        &to, "{\"backupId\":\"b\",\"findings\":[{\"check\":\"c\",\"result\":\"warn\",\"detail\":\"d\"}]}");
}

static void state_names_final_ones_are_the_last_four(void **state)
{
    static const struct {
        kb_run_state state;
        const char *name;
        bool final;
    } CASES[] = {
        {KB_RUN_STARTING, "Starting", false},      {KB_RUN_WAITING_FOR_LOCK, "WaitingForLock", false},
        {KB_RUN_PREFLIGHT, "Preflight", false},    {KB_RUN_RUNNING, "Running", false},
        {KB_RUN_FINISHING, "Finishing", false},    {KB_RUN_SUCCEEDED, "Succeeded", true},
        {KB_RUN_FAILED, "Failed", true},           {KB_RUN_DONE_WITH_FINDINGS, "DoneWithFindings", true},
        {KB_RUN_INTERRUPTED, "Interrupted", true},
    };
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        assert_string_equal(kb_run_state_name(CASES[i].state), CASES[i].name);
        assert_int_equal(kb_run_state_is_final(CASES[i].state), CASES[i].final);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encode_empty_report_is_an_empty_object),
        cmocka_unit_test(encode_one_of_each_type_is_written_in_table_order),
        cmocka_unit_test(set_text_is_cut_at_a_utf8_boundary),
        cmocka_unit_test(set_number_beyond_int32_saturates),
        cmocka_unit_test(add_rows_beyond_the_bound_mark_the_report),
        cmocka_unit_test(encode_too_large_shortens_in_the_documented_order),
        cmocka_unit_test(encode_lists_are_shortened_from_their_ends),
        cmocka_unit_test(encode_hostile_texts_at_their_bounds_still_fit),
        cmocka_unit_test(encode_identifiers_beyond_all_limits_fail),
        cmocka_unit_test(copy_is_deep_and_replaces),
        cmocka_unit_test(state_names_final_ones_are_the_last_four),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "worker/offsets/group_state.h"
#include "worker/offsets/header_search.h"
#include "worker/offsets/reset.h"
#include "worker/offsets/rollback.h"

/* ---- reset ---- */

static void reset_offset_stays_within_the_partition(void **state)
{
    (void)state;
    static const struct {
        kb_config_offset_strategy strategy;
        int64_t number, at_time, expected;
        bool moved;
    } rows[] = {
        {KB_CONFIG_OFFSET_EARLIEST, 0, -1, 3, false}, {KB_CONFIG_OFFSET_LATEST, 0, -1, 10, false},
        {KB_CONFIG_OFFSET_TIMESTAMP, 0, 7, 7, false}, {KB_CONFIG_OFFSET_TIMESTAMP, 0, -1, 10, false},
        {KB_CONFIG_OFFSET_OFFSET, 3, -1, 3, false},   {KB_CONFIG_OFFSET_OFFSET, 10, -1, 10, false},
        {KB_CONFIG_OFFSET_OFFSET, 2, -1, 3, true},    {KB_CONFIG_OFFSET_OFFSET, 11, -1, 10, true},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        kb_place_bounds bounds = {3, 10, rows[i].at_time, 0};
        bool moved = !rows[i].moved;
        assert_int_equal(kb_reset_offset(rows[i].strategy, rows[i].number, &bounds, &moved),
                         rows[i].expected);
        assert_int_equal(moved, rows[i].moved);
    }
}

static void change_verdict_tells_done_from_moved(void **state)
{
    (void)state;
    static const struct {
        int64_t current, old, planned;
        kb_change_verdict expected;
    } rows[] = {
        {5, 5, 9, KB_CHANGE_COMMIT}, {9, 5, 9, KB_CHANGE_DONE},     {7, 5, 9, KB_CHANGE_MOVED},
        {5, 5, 5, KB_CHANGE_DONE},   {-1, -1, 4, KB_CHANGE_COMMIT}, {4, -1, 4, KB_CHANGE_DONE},
        {0, -1, 4, KB_CHANGE_MOVED}, {4, 4, -1, KB_CHANGE_COMMIT},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++)
        assert_int_equal(kb_change_verdict_of(rows[i].current, rows[i].old, rows[i].planned),
                         rows[i].expected);
}

static void group_state_lets_only_groups_without_members_pass(void **state)
{
    (void)state;
    static const struct {
        kb_group_state state;
        bool listed, complete;
        kb_code expected;
    } rows[] = {
        {KB_GROUP_STATE_EMPTY, true, true, KB_OK},
        {KB_GROUP_STATE_ABSENT, true, true, KB_OK},
        {KB_GROUP_STATE_ACTIVE, true, true, KB_GROUP_ACTIVE},
        {KB_GROUP_STATE_UNKNOWN, true, true, KB_GROUP_ACTIVE},
        {KB_GROUP_STATE_EMPTY, true, false, KB_OK},
        {KB_GROUP_STATE_UNKNOWN, false, true, KB_OK},
        {KB_GROUP_STATE_UNKNOWN, false, false, KB_TEMPORARY_FAILURE},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        kb_group_info info = {.state = rows[i].state};
        assert_int_equal(kb_group_state_verdict(rows[i].listed ? &info : NULL, rows[i].complete),
                         rows[i].expected);
    }
}

static void results_end_with_the_code_that_helps_most(void **state)
{
    (void)state;
    static const struct {
        kb_code a, b, expected;
    } rows[] = {
        {KB_OK, KB_OK, KB_OK},
        {KB_OK, KB_GROUP_ACTIVE, KB_GROUP_ACTIVE},
        {KB_MAPPING_INVALID, KB_TEMPORARY_FAILURE, KB_TEMPORARY_FAILURE},
        {KB_MAPPING_INVALID, KB_MAPPING_INVALID, KB_MAPPING_INVALID},
        {KB_MAPPING_INVALID, KB_SOURCE_OFFSETS_MISSING, KB_GROUPS_FAILED},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTO_ERROR(err);
        KB_CLEANUP(kb_group_results_done) kb_group_results results = {0};
        if (rows[i].a != KB_OK)
            kb_group_result_fail(kb_group_results_of(&results, "a"), rows[i].a, "why");
        if (rows[i].b != KB_OK)
            kb_group_result_fail(kb_group_results_of(&results, "b"), rows[i].b, "why");
        assert_int_equal(kb_group_results_end(&results, &err), rows[i].expected);
    }
}

/* ---- snapshots ---- */

static kb_offset_snapshot sample(void)
{
    kb_offset_snapshot snapshot = {.id = kb_strdup("s"),
                                   .time_ms = 1735689600000,
                                   .cluster = kb_strdup("k:9092"),
                                   .run_kind = kb_strdup("offset-reset"),
                                   .job_uid = kb_strdup(""),
                                   .inputs = kb_strdup("abc"),
                                   .has_plan = true};
    kb_group_entry *entry = kb_group_set_add(&snapshot.groups, "g");
    kb_group_entry_put(entry, "t", 0, 5, "m");
    kb_group_entry_put(entry, "t", 1, KB_GROUP_NO_OFFSET, NULL);
    (void)kb_group_set_add(&snapshot.groups, "none");
    entry = kb_group_set_add(&snapshot.plan, "g");
    kb_group_entry_put(entry, "t", 0, 9, NULL);
    kb_group_entry_put(entry, "t", 1, 3, NULL);
    return snapshot;
}

static void snapshot_decode_gives_what_was_encoded(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_offset_snapshot_done) kb_offset_snapshot snapshot = sample();
    KB_CLEANUP(kb_offset_snapshot_done) kb_offset_snapshot read = {0};
    KB_AUTOFREE char *text = NULL;
    size_t len = 0;
    assert_int_equal(kb_offset_snapshot_encode(&snapshot, &text, &len, &err), KB_OK);
    assert_int_equal(kb_offset_snapshot_decode(kb_view_of(text, len), &read, &err), KB_OK);
    assert_string_equal(read.id, "s");
    assert_string_equal(read.inputs, "abc");
    assert_int_equal(read.time_ms, snapshot.time_ms);
    assert_null(read.cluster_id);
    assert_true(read.has_plan);
    assert_int_equal(read.groups.count, 2);
    const kb_group_entry *entry = kb_group_set_find(&read.groups, "g");
    assert_int_equal(kb_group_entry_offset(entry, "t", 0), 5);
    assert_string_equal(kb_group_entry_find(entry, "t", 0)->metadata, "m");
    assert_non_null(kb_group_entry_find(entry, "t", 1));
    assert_int_equal(kb_group_entry_offset(kb_group_set_find(&read.plan, "g"), "t", 1), 3);
    for (size_t i = 0; i < len; i++) {
        KB_CLEANUP(kb_offset_snapshot_done) kb_offset_snapshot damaged = {0};
        text[i] ^= 1;
        assert_int_not_equal(kb_offset_snapshot_decode(kb_view_of(text, len), &damaged, &err), KB_OK);
        text[i] ^= 1;
    }
}

static void snapshot_decode_foreign_leaves_out_what_is_unknown(void **state)
{
    (void)state;
    static const char text[] = "{\"snapshot_id\":\"x\",\"created_at\":\"2025-01-01T00:00:00Z\",\"group_"
                               "offsets\":{\"g\":{\"group_id\":\"g\","
                               "\"offsets\":{\"t\":{\"0\":{\"offset\":4,\"metadata\":null,\"timestamp\":null}"
                               ",\"1\":{\"offset\":-1}}},"
                               "\"partition_count\":2}},\"restore_id\":\"r\",\"bootstrap_servers\":[\"k\"]}";
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_offset_snapshot_done) kb_offset_snapshot read = {0};
    assert_int_equal(kb_offset_snapshot_decode_foreign(kb_view_of(text, sizeof text - 1), &read, &err),
                     KB_OK);
    assert_int_equal(kb_group_set_find(&read.groups, "g")->count, 1);
    assert_false(read.has_plan);
}

static void compare_finds_what_is_on_one_side_only(void **state)
{
    (void)state;
    KB_CLEANUP(kb_offset_snapshot_done) kb_offset_snapshot snapshot = sample();
    KB_CLEANUP(kb_group_set_done) kb_group_set current = {0};
    kb_group_entry *entry = kb_group_set_add(&current, "g");
    kb_group_entry_put(entry, "t", 0, 9, NULL);
    kb_group_entry_put(entry, "t", 1, 8, NULL);
    kb_group_entry_put(entry, "u", 0, 1, NULL);
    KB_CLEANUP(kb_offset_differences_done) kb_offset_differences plain = {0}, strict = {0}, moved = {0};
    kb_offsets_compare(&snapshot.groups, &current, false, &plain);
    assert_int_equal(plain.count, 2);
    assert_int_equal(plain.items[1].expected, KB_GROUP_NO_OFFSET);
    kb_offsets_compare(&snapshot.groups, &current, true, &strict);
    assert_int_equal(strict.count, 3);
    kb_offsets_find_moved(&snapshot, &current, &moved);
    assert_int_equal(moved.count, 1); /* t/0 is as planned; u was never part of it */
    assert_int_equal(moved.items[0].partition, 1);
    kb_offset_differences_done(&strict);
    kb_offset_differences_done(&moved);
}

/* ---- headers ---- */

/* A partition in memory: target offsets ascend; a source offset of -1 is a record without the header. */
typedef struct fake_log {
    const int64_t (*records)[2];
    size_t count;
    int64_t dense; /* with records NULL: so many records, the i-th of source offset 3 i */
    int reads;
} fake_log;

static kb_code read_fake(void *ctx, int64_t from, kb_header_probe *ret_probe, kb_error *err)
{
    (void)err;
    fake_log *log = ctx;
    log->reads++;
    *ret_probe = (kb_header_probe){0};
    if (log->records == NULL && from < log->dense)
        *ret_probe =
            (kb_header_probe){.found = true, .offset = from, .has_source = true, .source_offset = 3 * from};
    for (size_t i = 0; i < log->count; i++) {
        if (log->records[i][0] < from)
            continue;
        *ret_probe = (kb_header_probe){.found = true,
                                       .offset = log->records[i][0],
                                       .has_source = log->records[i][1] >= 0,
                                       .source_offset = log->records[i][1]};
        break;
    }
    return KB_OK;
}

static void header_search_finds_the_first_record_not_read(void **state)
{
    (void)state;
    static const int64_t records[][2] = {{2, 10}, {3, 11}, {7, 20}, {8, 25}, {12, 40}, {15, -1}, {16, -1}};
    static const struct {
        int64_t source, expected;
    } rows[] = {
        {0, 2}, {10, 2}, {11, 3}, {12, 7}, {20, 7}, {21, 8}, {25, 8}, {26, 12}, {40, 12}, {41, 15}, {999, 15},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTO_ERROR(err);
        fake_log log = {.records = records, .count = KB_ARRAY_LEN(records)};
        kb_header_query query = {"t", 0, 1, 20, rows[i].source, read_fake, &log};
        int64_t offset = -1;
        assert_int_equal(kb_header_search(&query, &offset, NULL, &err), KB_OK);
        assert_int_equal(offset, rows[i].expected);
    }
}

static void header_search_without_an_answer_is_the_end(void **state)
{
    (void)state;
    static const int64_t records[][2] = {{2, 10}, {3, 11}};
    static const int64_t ends[] = {4, 5, 100};
    for (size_t i = 0; i < KB_ARRAY_LEN(ends); i++) {
        KB_AUTO_ERROR(err);
        fake_log log = {.records = records, .count = KB_ARRAY_LEN(records)};
        kb_header_query query = {"t", 0, 0, ends[i], 12, read_fake, &log};
        int64_t offset = -1;
        assert_int_equal(kb_header_search(&query, &offset, NULL, &err), KB_OK);
        assert_int_equal(offset, ends[i]);
    }
}

static void header_search_reads_few_records(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 10000000, INT64_MAX / 4};
    for (size_t i = 0; i < KB_ARRAY_LEN(counts); i++) {
        for (int64_t at = 0; at < counts[i]; at += counts[i] / 7 + 1) {
            KB_AUTO_ERROR(err);
            fake_log log = {.dense = counts[i]};
            kb_header_query query = {"t", 0, 0, counts[i], 3 * at - 1, read_fake, &log};
            int64_t offset = -1;
            int reads = 0;
            assert_int_equal(kb_header_search(&query, &offset, &reads, &err), KB_OK);
            assert_int_equal(offset, at);
            assert_true(reads <= KB_HEADER_READS_MAX && reads == log.reads);
        }
    }
}

static void header_search_refuses_contradictions(void **state)
{
    (void)state;
    static const int64_t records[][2] = {{0, 50}, {1, 40}, {2, 30}, {3, 20}, {4, 60}, {5, 5}};
    KB_AUTO_ERROR(err);
    fake_log log = {.records = records, .count = KB_ARRAY_LEN(records)};
    kb_header_query query = {"t", 0, 0, 6, 35, read_fake, &log};
    int64_t offset = -1;
    assert_int_equal(kb_header_search(&query, &offset, NULL, &err), KB_SOURCE_OFFSETS_MISSING);
    assert_non_null(strstr(kb_error_text(&err), "scan_all_partitions"));
}

static void header_probe_takes_the_last_of_each_name(void **state)
{
    (void)state;
    static const kb_kafka_header headers[] = {
        {"x-original-offset", 17, "\1\0\0\0\0\0\0\0", 8},
        {"x-original-offset", 17, "77", 2},
        {"x-source-partition", 18, "\3\0\0\0", 4},
        {"x-source-cluster", 16, "west", 4},
    };
    kb_source_record record = {.offset = 9, .headers = headers, .header_count = KB_ARRAY_LEN(headers)};
    kb_header_probe probe = kb_header_probe_of(&record, "east");
    assert_true(probe.found && probe.has_source && probe.has_partition && probe.is_other_cluster);
    assert_int_equal(probe.source_offset, 77);
    assert_int_equal(probe.source_partition, 3);
    assert_false(kb_header_probe_of(&record, NULL).is_other_cluster);
    assert_false(kb_header_probe_of(&record, "west").is_other_cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reset_offset_stays_within_the_partition),
        cmocka_unit_test(change_verdict_tells_done_from_moved),
        cmocka_unit_test(group_state_lets_only_groups_without_members_pass),
        cmocka_unit_test(results_end_with_the_code_that_helps_most),
        cmocka_unit_test(snapshot_decode_gives_what_was_encoded),
        cmocka_unit_test(snapshot_decode_foreign_leaves_out_what_is_unknown),
        cmocka_unit_test(compare_finds_what_is_on_one_side_only),
        cmocka_unit_test(header_search_finds_the_first_record_not_read),
        cmocka_unit_test(header_search_without_an_answer_is_the_end),
        cmocka_unit_test(header_search_reads_few_records),
        cmocka_unit_test(header_search_refuses_contradictions),
        cmocka_unit_test(header_probe_takes_the_last_of_each_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

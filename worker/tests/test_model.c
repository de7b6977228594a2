#include "worker/catalog/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"

static kb_segment_entry segment(int64_t from, int64_t start, int64_t end, int64_t to)
{
    return (kb_segment_entry){.start = start,
                              .end = end,
                              .from = from,
                              .to = to,
                              .count = 1,
                              .min_ts = start,
                              .max_ts = end,
                              .raw_bytes = 30,
                              .bytes = 100,
                              .owner = KB_OWNER_SELF};
}

static kb_code add(kb_partition_entry *partition, int64_t from, int64_t start, int64_t end, int64_t to)
{
    KB_AUTO_ERROR(err);
    kb_segment_entry entry = segment(from, start, end, to);
    return kb_partition_add_segment(partition, &entry, &err);
}

static void kb_backup_add_topic_any_order_is_sorted_bytewise(void **state)
{
    (void)state;
    KB_AUTO_BACKUP kb_backup *backup = kb_backup_new("b");
    static const char *const names[] = {"b", "a", "c", "B", "a.b", "a"};
    for (size_t i = 0; i < KB_ARRAY_LEN(names); i++)
        (void)kb_backup_add_topic(backup, names[i]);
    static const char *const sorted[] = {"B", "a", "a.b", "b", "c"};
    assert_int_equal(backup->topic_count, KB_ARRAY_LEN(sorted));
    for (size_t i = 0; i < KB_ARRAY_LEN(sorted); i++)
        assert_string_equal(backup->topics[i].name, sorted[i]);
    assert_null(kb_backup_find_topic(backup, "aa"));
    assert_null(kb_backup_find_partition(backup, "a", 0));
}

static void kb_topic_add_partition_any_order_is_sorted(void **state)
{
    (void)state;
    KB_AUTO_BACKUP kb_backup *backup = kb_backup_new("b");
    kb_topic_entry *topic = kb_backup_add_topic(backup, "a");
    static const int32_t numbers[] = {3, 1, 2, 10, 0, 3};
    for (size_t i = 0; i < KB_ARRAY_LEN(numbers); i++)
        (void)kb_topic_add_partition(topic, numbers[i]);
    static const int32_t sorted[] = {0, 1, 2, 3, 10};
    assert_int_equal(topic->listed_count, KB_ARRAY_LEN(sorted));
    for (size_t i = 0; i < KB_ARRAY_LEN(sorted); i++)
        assert_int_equal(topic->partitions[i].partition, sorted[i]);
    assert_null(kb_topic_find_partition(topic, 4));
}

static void kb_partition_add_segment_overlaps_are_refused(void **state)
{
    (void)state;
    kb_partition_entry partition KB_CLEANUP(kb_partition_entry_done) = {.reuse_up_to = -1};
    assert_int_equal(add(&partition, 20, 20, 29, 30), KB_OK);
    assert_int_equal(add(&partition, 0, 0, 9, 10), KB_OK);
    assert_int_equal(add(&partition, 10, 10, 19, 20), KB_OK);
    assert_int_equal(partition.segments[1].start, 10);
    assert_int_equal(add(&partition, 29, 29, 35, 36), KB_ERR_FORMAT);
    assert_int_equal(add(&partition, 5, 5, 5, 6), KB_ERR_FORMAT);
    assert_int_equal(add(&partition, 30, 31, 30, 32), KB_ERR_FORMAT);
    assert_int_equal(add(&partition, 32, 31, 33, 34), KB_ERR_FORMAT);
    assert_int_equal(add(&partition, 30, 31, 33, 33), KB_ERR_FORMAT);
    assert_int_equal(add(&partition, -1, -1, 33, 34), KB_ERR_FORMAT);
    assert_int_equal(add(&partition, 30, 30, INT64_MAX, INT64_MAX), KB_ERR_FORMAT);
    assert_int_equal(partition.records, 3);
    assert_int_equal(partition.segment_count, 3);
}

static void kb_partition_check_tiling_holes_are_found(void **state)
{
    (void)state;
    static const struct {
        int64_t from, to, cut;
        int64_t segments[2][4]; /* from, start, end, to */
        int64_t gaps[2][2];
        bool expected;
    } cases[] = {
        {0, 0, 0, {{0}}, {{0}}, true},
        {0, 50, 50, {{0}}, {{0}}, true},
        {0, 30, 30, {{0, 0, 9, 10}, {10, 15, 19, 30}}, {{0}}, true},
        {0, 40, 40, {{0, 0, 9, 10}, {10, 15, 19, 30}}, {{0}}, true},
        {0, 30, 30, {{0, 0, 9, 10}, {20, 20, 29, 30}}, {{10, 20}}, true},
        {0, 30, 30, {{0, 0, 9, 10}, {20, 20, 29, 30}}, {{10, 15}, {15, 20}}, true},
        {0, 30, 30, {{10, 10, 19, 20}}, {{0, 10}, {20, 30}}, true},
        {0, 30, 30, {{0, 0, 9, 10}, {20, 20, 29, 30}}, {{0}}, false},
        {0, 30, 30, {{0, 0, 9, 10}, {20, 20, 29, 30}}, {{10, 19}}, false},
        {0, 30, 30, {{0, 0, 9, 10}, {20, 20, 29, 30}}, {{11, 20}}, false},
        {0, 30, 30, {{5, 5, 9, 10}}, {{0}}, false},
        {0, 30, 30, {{0, 0, 9, 10}}, {{11, 12}}, false},
        {0, 9, 30, {{0, 0, 9, 10}}, {{0}}, false},
        {0, 31, 30, {{0, 0, 9, 10}}, {{0}}, false},
        {40, 30, 30, {{0}}, {{0}}, false},
        {0, 30, 30, {{0, 0, 9, 10}, {10, 20, 29, 30}}, {{10, 20}}, false},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        kb_partition_entry partition KB_CLEANUP(kb_partition_entry_done) = {
            .from = cases[i].from, .to = cases[i].to, .cut = cases[i].cut, .reuse_up_to = -1};
        for (size_t s = 0; s < 2; s++) {
            const int64_t *n = cases[i].segments[s];
            if (n[3] > 0)
                assert_int_equal(add(&partition, n[0], n[1], n[2], n[3]), KB_OK);
        }
        for (size_t g = 0; g < 2; g++) {
            kb_gap gap = {cases[i].gaps[g][0], cases[i].gaps[g][1], 0};
            if (gap.end > 0)
                assert_int_equal(kb_partition_add_gap(&partition, gap, &err), KB_OK);
        }
        if ((kb_partition_check_tiling(&partition, &err) == KB_OK) != cases[i].expected)
            fail_msg("case %zu: %s", i, kb_error_text(&err));
    }
}

static void kb_partition_add_gap_overlaps_are_refused_repeats_are_not(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_partition_entry partition KB_CLEANUP(kb_partition_entry_done) = {0};
    assert_int_equal(kb_partition_add_gap(&partition, (kb_gap){10, 20, 1}, &err), KB_OK);
    assert_int_equal(kb_partition_add_gap(&partition, (kb_gap){10, 20, 2}, &err), KB_OK);
    assert_int_equal(kb_partition_add_gap(&partition, (kb_gap){0, 10, 1}, &err), KB_OK);
    assert_int_equal(kb_partition_add_gap(&partition, (kb_gap){19, 30, 1}, &err), KB_ERR_FORMAT);
    assert_int_equal(kb_partition_add_gap(&partition, (kb_gap){5, 11, 1}, &err), KB_ERR_FORMAT);
    assert_int_equal(kb_partition_add_gap(&partition, (kb_gap){30, 30, 1}, &err), KB_ERR_FORMAT);
    assert_int_equal(kb_partition_add_gap(&partition, (kb_gap){-1, 30, 1}, &err), KB_ERR_FORMAT);
    assert_int_equal(partition.gap_count, 2);
    assert_int_equal(partition.gaps[0].start, 0);
}

static void kb_partition_add_probe_keeps_the_highest(void **state)
{
    (void)state;
    kb_partition_entry partition KB_CLEANUP(kb_partition_entry_done) = {0};
    for (int64_t offset = 0; offset < 20; offset++) {
        kb_probe probe = {.offset = offset * 7 % 20};
        kb_partition_add_probe(&partition, &probe);
        kb_partition_add_probe(&partition, &probe);
    }
    assert_int_equal(partition.probe_count, KB_PROBES_MAX);
    for (size_t i = 0; i < KB_PROBES_MAX; i++)
        assert_int_equal(partition.probes[i].offset, 19 - (int64_t)i);
}

static void kb_backup_totals_of_counts_times_from_zero_on(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = kb_backup_new("b");
    kb_partition_entry *partition = kb_topic_add_partition(kb_backup_add_topic(backup, "a"), 0);
    kb_backup_totals totals;
    assert_int_equal(kb_backup_totals_of(backup, &totals, &err), KB_OK);
    assert_false(totals.has_timestamps);
    kb_segment_entry timeless = segment(0, 0, 0, 1);
    timeless.min_ts = -1;
    timeless.max_ts = -1;
    timeless.owner = kb_backup_add_use(backup, "old");
    assert_int_equal(kb_partition_add_segment(partition, &timeless, &err), KB_OK);
    assert_int_equal(kb_backup_totals_of(backup, &totals, &err), KB_OK);
    assert_false(totals.has_timestamps);
    kb_segment_entry mixed = segment(1, 1, 1, 2);
    mixed.min_ts = -1;
    mixed.max_ts = 7;
    assert_int_equal(kb_partition_add_segment(partition, &mixed, &err), KB_OK);
    assert_int_equal(kb_partition_add_gap(partition, (kb_gap){2, 12, 0}, &err), KB_OK);
    assert_int_equal(kb_backup_totals_of(backup, &totals, &err), KB_OK);
    assert_true(totals.has_timestamps);
    assert_int_equal(totals.min_timestamp, 7);
    assert_int_equal(totals.max_timestamp, 7);
    assert_int_equal(totals.reused_segments, 1);
    assert_int_equal(totals.reused_bytes, 100);
    assert_int_equal(totals.stored_bytes, 200);
    assert_int_equal(totals.gap_offsets, 10);
}

static void kb_backup_add_finding_sorts_by_reason_and_drops_repeats(void **state)
{
    (void)state;
    KB_AUTO_BACKUP kb_backup *backup = kb_backup_new("b");
    kb_backup_add_finding(backup, "SomethingNew", "t", 1, NULL);
    kb_backup_add_finding(backup, "Discontinuity", "t", 1, "x");
    kb_backup_add_finding(backup, "RetentionGap", "t", 2, NULL);
    kb_backup_add_finding(backup, "RetentionGap", "t", 1, NULL);
    kb_backup_add_finding(backup, "Discontinuity", "t", 1, "x");
    kb_backup_add_finding(backup, "Discontinuity", "t", 1, NULL);
    assert_int_equal(backup->finding_count, 5);
    assert_string_equal(backup->findings[0].reason, "RetentionGap");
    assert_int_equal(backup->findings[0].partition, 2);
    assert_string_equal(backup->findings[2].detail, "x");
    assert_null(backup->findings[3].detail);
    assert_string_equal(backup->findings[4].reason, "SomethingNew");
}

static void kb_backup_add_warning_is_bounded(void **state)
{
    (void)state;
    KB_AUTO_BACKUP kb_backup *backup = kb_backup_new("b");
    for (int i = 0; i < 1000; i++)
        kb_backup_add_warning(backup, "warning %d", i);
    assert_int_equal(backup->warning_count, KB_WARNINGS_MAX);
}

static void kb_segment_key_of_each_kind(void **state)
{
    (void)state;
    KB_AUTO_BACKUP kb_backup *backup = kb_backup_new("b");
    kb_topic_entry *topic = kb_backup_add_topic(backup, "a");
    kb_partition_entry *partition = kb_topic_add_partition(topic, 5);
    char file[] = "segment-7.bin";
    char key[] = "b/else/where.bin";
    const struct {
        char *name;
        int32_t owner;
        kb_codec codec;
        const char *expected;
    } cases[] = {
        {NULL, KB_OWNER_SELF, KB_CODEC_ZSTD, "b/topics/a/partition=5/segment-00000000000000000007.bin.zst"},
        {NULL, KB_OWNER_SELF, KB_CODEC_LZ4, "b/topics/a/partition=5/segment-00000000000000000007.bin.lz4"},
        {NULL, KB_OWNER_SELF, KB_CODEC_NONE, "b/topics/a/partition=5/segment-00000000000000000007.bin"},
        {NULL, kb_backup_add_use(backup, "old"), KB_CODEC_ZSTD,
         "old/topics/a/partition=5/segment-00000000000000000007.bin.zst"},
        {file, KB_OWNER_SELF, KB_CODEC_ZSTD, "b/topics/a/partition=5/segment-7.bin"},
        {key, KB_OWNER_SELF, KB_CODEC_ZSTD, "b/else/where.bin"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        kb_segment_entry entry = segment(7, 7, 7, 8);
        entry.name = cases[i].name;
        entry.owner = cases[i].owner;
        entry.codec = (uint8_t)cases[i].codec;
        KB_AUTOFREE char *found = kb_segment_key(backup, topic, partition, &entry);
        assert_string_equal(found, cases[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_backup_add_topic_any_order_is_sorted_bytewise),
        cmocka_unit_test(kb_topic_add_partition_any_order_is_sorted),
        cmocka_unit_test(kb_partition_add_segment_overlaps_are_refused),
        cmocka_unit_test(kb_partition_check_tiling_holes_are_found),
        cmocka_unit_test(kb_partition_add_gap_overlaps_are_refused_repeats_are_not),
        cmocka_unit_test(kb_partition_add_probe_keeps_the_highest),
        cmocka_unit_test(kb_backup_totals_of_counts_times_from_zero_on),
        cmocka_unit_test(kb_backup_add_finding_sorts_by_reason_and_drops_repeats),
        cmocka_unit_test(kb_backup_add_warning_is_bounded),
        cmocka_unit_test(kb_segment_key_of_each_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "worker/catalog/manifest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

#define ID "orders-20250101-000000"

/* The example of the format, in its exact form. */
static const char golden[] =
    "{\n"
    "  \"backup_id\": \"orders-20250101-000000\",\n"
    "  \"created_at\": 1735689600000,\n"
    "  \"source_cluster_id\": \"MkU3OEVBNTcwNTJENDM2Qk\",\n"
    "  \"source_brokers\": [],\n"
    "  \"compression\": \"zstd\",\n"
    "  \"topics\": [\n"
    "    {\n"
    "      \"name\": \"orders\",\n"
    "      \"original_partition_count\": 3,\n"
    "      \"partitions\": [\n"
    "        {\n"
    "          \"partition_id\": 0,\n"
    "          \"segments\": [\n"
    "            {\n"
    "              \"key\": "
    "\"orders-20250101-000000/topics/orders/partition=0/segment-00000000000000000100.bin.zst\",\n"
    "              \"start_offset\": 100,\n"
    "              \"end_offset\": 199,\n"
    "              \"start_timestamp\": 1735600000000,\n"
    "              \"end_timestamp\": 1735600099000,\n"
    "              \"record_count\": 100,\n"
    "              \"uncompressed_size\": 12345,\n"
    "              \"compressed_size\": 2345\n"
    "            }\n"
    "          ],\n"
    "          \"gaps\": [\n"
    "            {\n"
    "              \"start_offset\": 0,\n"
    "              \"end_offset\": 100,\n"
    "              \"reason\": \"offset_out_of_range\",\n"
    "              \"detected_at\": 1735689601000\n"
    "            }\n"
    "          ]\n"
    "        }\n"
    "      ]\n"
    "    }\n"
    "  ]\n"
    "}";

static void add_segment(kb_partition_entry *partition, int64_t start, int64_t end)
{
    KB_AUTO_ERROR(err);
    kb_segment_entry segment = {
        .start = start,
        .end = end,
        .from = start,
        .to = end + 1,
        .count = end - start + 1,
        .min_ts = 1735600000000,
        .max_ts = 1735600099000,
        .raw_bytes = 12345,
        .bytes = 2345,
        .owner = KB_OWNER_SELF,
        .codec = KB_CODEC_ZSTD,
    };
    assert_int_equal(kb_partition_add_segment(partition, &segment, &err), KB_OK);
}

static kb_backup *example(void)
{
    KB_AUTO_ERROR(err);
    kb_backup *backup = kb_backup_new(ID);
    backup->created_at = 1735689600000;
    kb_text_set(&backup->cluster_id, "MkU3OEVBNTcwNTJENDM2Qk");
    kb_text_set(&backup->compression, "zstd");
    kb_topic_entry *topic = kb_backup_add_topic(backup, "orders");
    topic->partition_count = 3;
    (void)kb_topic_add_partition(topic, 2);
    kb_partition_entry *partition = kb_topic_add_partition(topic, 0);
    add_segment(partition, 100, 199);
    kb_gap gap = {0, 100, 1735689601000};
    assert_int_equal(kb_partition_add_gap(partition, gap, &err), KB_OK);
    return backup;
}

static kb_code read_text(const char *text, size_t len, kb_backup **ret_backup, kb_error *err)
{
    const kb_manifest_read_options options = {.backup_id = ID};
    return kb_manifest_read(text, len, &options, ret_backup, err);
}

static void manifest_write_example_is_byte_exact(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = example();
    KB_AUTO_STRBUF(out, KB_MANIFEST_MAX_BYTES);
    assert_int_equal(kb_manifest_write(backup, &out, &err), KB_OK);
    assert_string_equal(kb_strbuf_view(&out), golden);
}

static void manifest_write_empty_topic_lists_no_partition(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = kb_backup_new(ID);
    kb_text_set(&backup->compression, "none");
    kb_topic_entry *topic = kb_backup_add_topic(backup, "empty");
    topic->partition_count = 1;
    (void)kb_topic_add_partition(topic, 0);
    KB_AUTO_STRBUF(out, KB_MANIFEST_MAX_BYTES);
    assert_int_equal(kb_manifest_write(backup, &out, &err), KB_OK);
    assert_non_null(strstr(kb_strbuf_view(&out), "\"source_cluster_id\": null"));
    assert_non_null(strstr(kb_strbuf_view(&out), "\"partitions\": []"));
    assert_null(strstr(kb_strbuf_view(&out), "gaps"));
}

static void manifest_hash_equals_that_of_the_text(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = example();
    uint8_t expected[KB_SHA256_SIZE];
    uint8_t hash[KB_SHA256_SIZE];
    int64_t size = 0;
    kb_sha256(golden, sizeof golden - 1, expected);
    assert_int_equal(kb_manifest_hash(backup, hash, &size, &err), KB_OK);
    assert_int_equal(size, sizeof golden - 1);
    assert_memory_equal(hash, expected, sizeof hash);
}

static void manifest_write_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = example();
    KB_AUTO_STRBUF(out, sizeof golden - 2);
    assert_int_equal(kb_manifest_write(backup, &out, &err), KB_ERR_TOO_LARGE);
}

static void manifest_read_example_gives_the_same_backup(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    assert_int_equal(read_text(golden, sizeof golden - 1, &backup, &err), KB_OK);
    assert_true(backup->foreign);
    const kb_topic_entry *topic = kb_backup_find_topic(backup, "orders");
    assert_non_null(topic);
    assert_int_equal(topic->partition_count, 3);
    const kb_partition_entry *partition = kb_topic_find_partition(topic, 0);
    assert_non_null(partition);
    assert_int_equal(partition->from, 0);
    assert_int_equal(partition->to, 200);
    assert_int_equal(partition->records, 100);
    assert_null(partition->segments[0].name);
    KB_AUTO_STRBUF(out, KB_MANIFEST_MAX_BYTES);
    assert_int_equal(kb_manifest_write(backup, &out, &err), KB_OK);
    assert_string_equal(kb_strbuf_view(&out), golden);
}

static void manifest_read_truncated_anywhere_is_refused(void **state)
{
    (void)state;
    for (size_t len = 0; len < sizeof golden - 1; len++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_BACKUP kb_backup *backup = NULL;
        KB_AUTOFREE char *text = kb_strndup(golden, len);
        assert_int_equal(read_text(text, len, &backup, &err), KB_ERR_FORMAT);
        assert_true(strlen(kb_error_text(&err)) > 0);
    }
}

/* Without backup.json a changed digit is a legal manifest; what must hold is that none crashes the reader. */
static void manifest_read_each_bit_flipped_ends_without_crash(void **state)
{
    (void)state;
    for (size_t bit = 0; bit < 8 * (sizeof golden - 1); bit++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_BACKUP kb_backup *backup = NULL;
        KB_AUTOFREE char *text = kb_strndup(golden, sizeof golden - 1);
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
        kb_code code = read_text(text, sizeof golden - 1, &backup, &err);
        assert_true(code == KB_OK || code == KB_ERR_FORMAT || code == KB_ERR_TOO_LARGE);
    }
}

/* A manifest with one partition whose content is given. */
static kb_code read_partition_body(const char *body, kb_backup **ret_backup, kb_error *err)
{
    KB_AUTOFREE char *text = kb_asprintf(
        "{\"backup_id\":\"" ID "\",\"created_at\":1,\"topics\":[{\"name\":\"orders\",\"partitions\":"
        "[%s]}]}",
        body);
    return read_text(text, strlen(text), ret_backup, err);
}

#define KEY(n) ID "/topics/orders/partition=0/segment-0000000000000000" #n ".bin.zst"
#define SEG(key, start, end, count, more) \
    "{\"key\":\"" key "\",\"start_offset\":" start ",\"end_offset\":" end \
    ",\"start_timestamp\":1,\"end_timestamp\":2,\"record_count\":" count more "}"
#define PART(segments) "{\"partition_id\":0,\"segments\":[" segments "]}"
#define ONE(start, end, count) PART(SEG(KEY(0100), start, end, count, ""))

static void manifest_read_hostile_input_is_refused_with_place(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        const char *message;
    } cases[] = {
        {ONE("-1", "5", "1"), "start_offset"},
        {ONE("5", "-1", "1"), "end_offset"},
        {ONE("5", "4", "1"), "above its end"},
        {ONE("0.5", "4", "1"), "start_offset"},
        {ONE("1e400", "4", "1"), "start_offset"},
        {ONE("18446744073709551616", "4", "1"), "start_offset"},
        {ONE("0", "9223372036854775807", "1"), "end_offset"},
        {ONE("0", "4", "6"), "cannot hold 6 records"},
        {ONE("0", "4", "-1"), "record_count"},
        {ONE("null", "4", "1"), "start_offset"},
        {ONE("\"0\"", "4", "1"), "start_offset"},
        {PART(SEG(KEY(0100), "0", "4", "1", ",\"compressed_size\":-1")), "compressed_size"},
        {PART(SEG(KEY(0100), "0", "4", "1", ",\"record_count\":1")), "record_count"},
        {PART(SEG("../x", "0", "4", "1", "")), "segments[0]"},
        {PART(SEG("/etc/passwd", "0", "4", "1", "")), "segments[0]"},
        {PART(SEG("other/topics/orders/partition=0/s.bin", "0", "4", "1", "")), "segments[0]"},
        {PART(SEG("file://x/y", "0", "4", "1", "")), "segments[0]"},
        {PART(SEG(ID "/a/../../b", "0", "4", "1", "")), "segments[0]"},
        {PART(SEG(KEY(0100), "0", "4", "1", "") "," SEG(KEY(0100), "5", "9", "1", "")), "stands there twice"},
        {PART(SEG(KEY(0100), "0", "4", "1", "") "," SEG(KEY(0200), "4", "9", "1", "")),
         "overlap at offset 4"},
        {PART(SEG(KEY(0200), "4", "9", "1", "") "," SEG(KEY(0100), "0", "4", "1", "")),
         "overlap at offset 4"},
        {PART("") "," PART(""), "stands there twice"},
        {"{\"partition_id\":0}", "'segments' is missing"},
        {"{\"partition_id\":-1,\"segments\":[]}", "partition_id"},
        {"{\"partition_id\":2147483648,\"segments\":[]}", "partition_id"},
        {"{\"partition_id\":0,\"segments\":[],\"gaps\":[{\"start_offset\":5,\"end_offset\":4,\"reason\":"
         "\"x\","
         "\"detected_at\":0}]}",
         "gap [5, 4)"},
        {"[[[[[[[[[[[[[[[[[[[[", "topics[0].partitions"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_BACKUP kb_backup *backup = NULL;
        kb_code code = read_partition_body(cases[i].body, &backup, &err);
        if (code != KB_ERR_FORMAT && code != KB_ERR_TOO_LARGE)
            fail_msg("case %zu: code %d", i, (int)code);
        if (strstr(kb_error_text(&err), cases[i].message) == NULL)
            fail_msg("case %zu: %s", i, kb_error_text(&err));
    }
}

static void manifest_read_overflowing_sums_are_refused(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        PART(SEG(KEY(0100), "0", "4611686018427387904", "4611686018427387904", "") "," SEG(
            KEY(0200), "4611686018427387905", "9223372036854775806", "4611686018427387902",
            "")) ",{\"partition_id\":1,\"segments\":[" SEG(ID "/x", "0", "9223372036854775800",
                                                           "9223372036854775800", "") "]}",
        PART(SEG(KEY(0100), "0", "4", "1", ",\"compressed_size\":9223372036854775807") "," SEG(
            KEY(0200), "5", "9", "1", ",\"compressed_size\":1")),
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(bodies); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_BACKUP kb_backup *backup = NULL;
        assert_int_equal(read_partition_body(bodies[i], &backup, &err), KB_ERR_FORMAT);
        assert_non_null(strstr(kb_error_text(&err), "overflow"));
    }
}

static void manifest_read_what_is_tolerated_is_read(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    static const char text[] =
        "{\"topics\":[{\"partitions\":[{\"gaps\":[{\"detected_at\":7,\"reason\":\"cosmic "
        "rays\",\"start_offset\":0,\"end_offset\":100}],"
        "\"segments\":[" SEG(
            ID "/topics/orders/partition=0/segment-000001.bin.zst", "200", "209", "10",
            ",\"new\":{\"a\":[1]}") "," SEG(ID "/elsewhere/a.bin", "100", "199", "50",
                                            "") "],\"partition_id\":0}],"
                                                "\"name\":\"orders\",\"original_partition_count\":null}],"
                                                "\"created_at\":-5,\"future\":null,"
                                                "\"backup_id\":\"" ID "\"} \n";
    assert_int_equal(read_text(text, sizeof text - 1, &backup, &err), KB_OK);
    const kb_topic_entry *topic = &backup->topics[0];
    const kb_partition_entry *partition = &topic->partitions[0];
    assert_int_equal(topic->partition_count, -1);
    assert_int_equal(partition->segment_count, 2);
    assert_int_equal(partition->segments[0].start, 100);
    KB_AUTOFREE char *first = kb_segment_key(backup, topic, partition, &partition->segments[0]);
    KB_AUTOFREE char *second = kb_segment_key(backup, topic, partition, &partition->segments[1]);
    assert_string_equal(first, ID "/elsewhere/a.bin");
    assert_string_equal(second, ID "/topics/orders/partition=0/segment-000001.bin.zst");
    assert_int_equal(backup->warning_count, 1);
    assert_non_null(strstr(backup->warnings[0], "cosmic rays"));
}

static void manifest_read_used_backup_owns_its_segment(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    static const char text[] =
        "{\"backup_id\":\"" ID
        "\",\"created_at\":1,\"topics\":[{\"name\":\"orders\",\"partitions\":[" PART(SEG(
            "old/topics/orders/partition=0/segment-00000000000000000000.bin.lz4", "0", "4", "1", "")) "]}]}";
    static const char *const uses[] = {"old"};
    const kb_manifest_read_options options = {.backup_id = ID, .uses = uses, .use_count = 1};
    assert_int_equal(kb_manifest_read(text, sizeof text - 1, &options, &backup, &err), KB_OK);
    const kb_segment_entry *segment = &backup->topics[0].partitions[0].segments[0];
    assert_string_equal(kb_segment_owner(backup, segment), "old");
    assert_null(segment->name);
    assert_int_equal(segment->codec, KB_CODEC_LZ4);
}

static void manifest_read_overlap_allowed_is_kept_and_marked(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    static const char text[] =
        "{\"backup_id\":\"" ID "\",\"created_at\":1,\"topics\":[{\"name\":\"orders\",\"partitions\":[" PART(
            SEG(KEY(0200), "4", "9", "1", "") "," SEG(KEY(0100), "0", "4", "1", "")) "]}]}";
    const kb_manifest_read_options options = {.backup_id = ID, .allow_overlap = true};
    assert_int_equal(kb_manifest_read(text, sizeof text - 1, &options, &backup, &err), KB_OK);
    assert_true(backup->has_overlap);
    assert_int_equal(backup->topics[0].partitions[0].segments[0].start, 0);
}

static void manifest_read_of_another_backup_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    const kb_manifest_read_options options = {.backup_id = "another"};
    assert_int_equal(kb_manifest_read(golden, sizeof golden - 1, &options, &backup, &err), KB_ERR_FORMAT);
}

static void manifest_read_hundred_thousand_segments_is_quick(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = kb_backup_new(ID);
    kb_text_set(&backup->compression, "zstd");
    kb_topic_entry *topic = kb_backup_add_topic(backup, "orders");
    topic->partition_count = 10;
    for (int32_t p = 0; p < 10; p++) {
        kb_partition_entry *partition = kb_topic_add_partition(topic, p);
        for (int64_t s = 0; s < 10000; s++)
            add_segment(partition, 100 * s, 100 * s + 99);
    }
    KB_AUTO_STRBUF(out, KB_MANIFEST_MAX_BYTES);
    assert_int_equal(kb_manifest_write(backup, &out, &err), KB_OK);
    KB_AUTO_BACKUP kb_backup *read = NULL;
    int64_t begin = kb_clock_boot_us();
    assert_int_equal(read_text(kb_strbuf_view(&out), out.len, &read, &err), KB_OK);
    int64_t took_us = kb_clock_boot_us() - begin;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    print_message("100000 segments, %zu bytes: read in %lld ms, peak %ld KiB, %zu bytes per segment\n",
                  out.len, (long long)(took_us / 1000), usage.ru_maxrss, sizeof(kb_segment_entry));
    kb_backup_totals totals;
    assert_int_equal(kb_backup_totals_of(read, &totals, &err), KB_OK);
    assert_int_equal(totals.segments, 100000);
    assert_int_equal(totals.records, 10000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manifest_write_example_is_byte_exact),
        cmocka_unit_test(manifest_write_empty_topic_lists_no_partition),
        cmocka_unit_test(manifest_hash_equals_that_of_the_text),
        cmocka_unit_test(manifest_write_beyond_the_limit_is_refused),
        cmocka_unit_test(manifest_read_example_gives_the_same_backup),
        cmocka_unit_test(manifest_read_truncated_anywhere_is_refused),
        cmocka_unit_test(manifest_read_each_bit_flipped_ends_without_crash),
        cmocka_unit_test(manifest_read_hostile_input_is_refused_with_place),
        cmocka_unit_test(manifest_read_overflowing_sums_are_refused),
        cmocka_unit_test(manifest_read_what_is_tolerated_is_read),
        cmocka_unit_test(manifest_read_used_backup_owns_its_segment),
        cmocka_unit_test(manifest_read_overlap_allowed_is_kept_and_marked),
        cmocka_unit_test(manifest_read_of_another_backup_is_refused),
        cmocka_unit_test(manifest_read_hundred_thousand_segments_is_quick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

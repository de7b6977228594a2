#include "worker/catalog/backup_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/encode.h"
#include "common/base/mem.h"
#include "worker/catalog/manifest.h"

#define ID "orders-20250102-000000"
#define OLD "orders-20250101-000000"

/* The example of the format with filled-in hashes, written and hashed by another program. */
static char *golden;
static size_t golden_len;

static char *load(const char *path, size_t *ret_len)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail_msg("cannot open %s: run from the project's root", path);
    char *text = kb_malloc(1 << 16);
    size_t len = fread(text, 1, (1 << 16) - 1, file);
    text[len] = '\0';
    (void)fclose(file);
    *ret_len = len;
    return text;
}

static void add_segment(kb_partition_entry *partition, const kb_segment_entry *numbers, uint8_t digest,
                        uint8_t sha256)
{
    KB_AUTO_ERROR(err);
    kb_segment_entry segment = *numbers;
    uint8_t bytes[KB_SHA256_SIZE];
    memset(bytes, digest, sizeof bytes);
    segment.digest = kb_digest_load(bytes);
    memset(segment.sha256, sha256, sizeof segment.sha256);
    segment.has_hashes = true;
    segment.codec = KB_CODEC_ZSTD;
    assert_int_equal(kb_partition_add_segment(partition, &segment, &err), KB_OK);
}

static void fill_partition(kb_partition_entry *partition, int32_t old)
{
    partition->log_start = 100;
    partition->high_watermark = 251;
    partition->cut = 250;
    partition->from = 100;
    partition->to = 250;
    add_segment(partition,
                &(kb_segment_entry){.start = 100,
                                    .end = 199,
                                    .from = 100,
                                    .to = 200,
                                    .count = 100,
                                    .min_ts = 1735600000000,
                                    .max_ts = 1735600099000,
                                    .raw_bytes = 12345,
                                    .bytes = 2345,
                                    .owner = old},
                0x11, 0x55);
    add_segment(partition,
                &(kb_segment_entry){.start = 200,
                                    .end = 249,
                                    .from = 200,
                                    .to = 250,
                                    .count = 50,
                                    .min_ts = 1735700000000,
                                    .max_ts = 1735775999000,
                                    .raw_bytes = 5655,
                                    .bytes = 1255,
                                    .owner = KB_OWNER_SELF},
                0x22, 0x66);
    kb_probe last = {.offset = 249};
    memset(last.sha256, 0x77, sizeof last.sha256);
    kb_probe earlier = {.offset = 199};
    memset(earlier.sha256, 0x88, sizeof earlier.sha256);
    kb_partition_add_probe(partition, &earlier);
    kb_partition_add_probe(partition, &last);
}

static kb_backup *example(void)
{
    KB_AUTO_ERROR(err);
    kb_backup *backup = kb_backup_new(ID);
    kb_text_set(&backup->generator, "kafka-backup-worker/1.0.0");
    kb_text_set(&backup->lineage, "orders");
    kb_text_set(&backup->owner, "shop/orders");
    kb_text_set(&backup->cluster_id, "MkU3OEVBNTcwNTJENDM2Qk");
    kb_text_set(&backup->base, OLD);
    kb_text_set(&backup->compression, "zstd");
    kb_text_set(&backup->content.isolation, "read_committed");
    backup->content.offset_headers = true;
    backup->created_at = 1735776000000;
    backup->cut_time = 1735776001200;
    backup->completed_at = 1735776060000;
    backup->depth = 1;
    uint8_t groups[KB_SHA256_SIZE];
    memset(groups, 0x44, sizeof groups);
    kb_backup_set_groups(backup, ID "/consumer-groups-snapshot.json", groups, 4, true);
    int32_t old = kb_backup_add_use(backup, OLD);
    kb_topic_entry *topic = kb_backup_add_topic(backup, "orders");
    size_t len = 0;
    uint8_t id[KB_BASE64_DATA_SIZE(22)];
    assert_int_equal(kb_base64url_decode("rT1kqXzPQ0e2mZ3bq8wYxA", 22, id, &len, &err), KB_OK);
    memcpy(topic->topic_id, id, KB_TOPIC_ID_SIZE);
    topic->has_topic_id = true;
    topic->partition_count = 1;
    topic->replication_factor = 3;
    topic->max_record_bytes = 412;
    kb_text_set(&topic->timestamp_type, "CreateTime");
    kb_topic_set_config(topic, "retention.ms", "604800000");
    kb_topic_set_config(topic, "cleanup.policy", "delete");
    fill_partition(kb_topic_add_partition(topic, 0), old);
    return backup;
}

static kb_code read_text(const char *text, size_t len, kb_backup **ret_backup, kb_error *err)
{
    return kb_backup_record_read(text, len, ID, ret_backup, err);
}

static void backup_record_write_example_is_byte_exact(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = example();
    KB_AUTO_STRBUF(out, KB_BACKUP_JSON_MAX_BYTES);
    assert_int_equal(kb_backup_record_write(backup, &out, &err), KB_OK);
    assert_string_equal(kb_strbuf_view(&out), golden);
}

static void backup_record_read_example_writes_the_same_bytes(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    assert_int_equal(read_text(golden, golden_len, &backup, &err), KB_OK);
    assert_false(backup->foreign);
    KB_AUTO_STRBUF(out, KB_BACKUP_JSON_MAX_BYTES);
    assert_int_equal(kb_backup_record_write(backup, &out, &err), KB_OK);
    assert_string_equal(kb_strbuf_view(&out), golden);
}

static void backup_record_read_projects_to_the_manifest_it_names(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    assert_int_equal(read_text(golden, golden_len, &backup, &err), KB_OK);
    size_t len = 0;
    KB_AUTOFREE char *manifest = load("worker/tests/data/manifest-example.json", &len);
    KB_AUTO_STRBUF(out, KB_MANIFEST_MAX_BYTES);
    assert_int_equal(kb_manifest_write(backup, &out, &err), KB_OK);
    assert_string_equal(kb_strbuf_view(&out), manifest);
    uint8_t sha256[KB_SHA256_SIZE];
    kb_sha256(manifest, len, sha256);
    assert_memory_equal(backup->manifest_sha256, sha256, sizeof sha256);
    assert_int_equal(backup->manifest_size, (int64_t)len);
}

static void backup_record_read_truncated_anywhere_is_refused(void **state)
{
    (void)state;
    for (size_t len = 0; len < golden_len; len++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_BACKUP kb_backup *backup = NULL;
        KB_AUTOFREE char *text = kb_strndup(golden, len);
        assert_int_equal(read_text(text, len, &backup, &err), KB_ERR_FORMAT);
    }
}

static void backup_record_read_any_bit_flipped_is_refused(void **state)
{
    (void)state;
    for (size_t bit = 0; bit < 8 * golden_len; bit++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_BACKUP kb_backup *backup = NULL;
        KB_AUTOFREE char *text = kb_strndup(golden, golden_len);
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
        kb_code code = read_text(text, golden_len, &backup, &err);
        if (code != KB_ERR_FORMAT && code != KB_ERR_TOO_LARGE)
            fail_msg("bit %zu of byte %zu was not noticed", bit % 8, bit / 8);
    }
}

/* Replaces `from` by `to` once and hashes anew: what the hash cannot notice. */
static char *edit(const char *from, const char *to, size_t *ret_len)
{
    KB_AUTO_ERROR(err);
    const char *at = strstr(golden, from);
    if (at == NULL)
        fail_msg("'%s' is not in the example", from);
    char *text = kb_asprintf("%.*s%s%s", (int)(at - golden), golden, to, at + strlen(from));
    *ret_len = strlen(text);
    if (kb_self_hash_write(text, *ret_len, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    return text;
}

static void backup_record_read_contradictions_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from;
        const char *to;
        const char *message;
    } cases[] = {
        {"\"minReader\": 1", "\"minReader\": 2", "needs a newer reader"},
        {"\"minReader\": 1", "\"minReader\": 0", "needs a newer reader"},
        {"\"backupId\": \"" ID "\"", "\"backupId\": \"" OLD "\"", "another backup"},
        {"\"records\": 150,\n    \"rawBytes\"", "\"records\": 151,\n    \"rawBytes\"", "totals"},
        {"\"records\": 150,\n          \"digest\"", "\"records\": 151,\n          \"digest\"",
         "the segments have 150"},
        {"\"digest\": \"3", "\"digest\": \"4", "sum of the segments"},
        {"\"digest\": \"1", "\"digest\": \"2", "sum of the segments"},
        {"\"from\": 200", "\"from\": 199", "continues from 199"},
        {"\"to\": 250,\n              \"count\"", "\"to\": 251,\n              \"count\"", "covered range"},
        {"\"to\": 200", "\"to\": 199", "does not contain"},
        {"\"count\": 100", "\"count\": 101", "cannot hold"},
        {"\"codec\": \"zstd\"", "\"codec\": \"gzip\"", "unknown codec"},
        {"\"depth\": 1", "\"depth\": 0", "contradict"},
        {"\"base\": \"" OLD "\"", "\"base\": null", "contradict"},
        {"\"in\": \"" OLD "\"", "\"in\": \"elsewhere\"", "uses"},
        {"\"in\": \"" OLD "\"", "\"in\": \"..\"", "no backup id"},
        {"\"in\": \"" OLD "\"", "\"file\": \"../x\"", "no file name"},
        {"\"in\": \"" OLD "\"", "\"start\": 1", "start"},
        {"\"name\": \"orders\"", "\"name\": \"..\"", "no topic name"},
        {"\"state\": \"ok\"", "\"state\": \"fine\"", "topic state"},
        {"\"topicId\": \"rT", "\"topicId\": \"r", "topic id"},
        {"\"compression\": \"zstd\"", "\"compression\": \"\"", "compression"},
        {"\"key\": \"" ID "/", "\"key\": \"" OLD "/", "group snapshot"},
        {"\"minTimestamp\": 1735600000000", "\"minTimestamp\": null", "only one"},
        {"\"complete\": true", "\"complete\": 1", "complete"},
        {"\"owner\"", "\"Owner\"", "'owner' is missing"},
        {"\"formatVersion\": 1", "\"formatVersion\": 1,\n  \"formatVersion\": 1", "formatVersion"},
        {"\"skippedTopics\": []", "\"skippedTopics\": {}", "skippedTopics"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_BACKUP kb_backup *backup = NULL;
        size_t len = 0;
        KB_AUTOFREE char *text = edit(cases[i].from, cases[i].to, &len);
        kb_code code = read_text(text, len, &backup, &err);
        if (code != KB_ERR_FORMAT || strstr(kb_error_text(&err), cases[i].message) == NULL)
            fail_msg("case %zu: code %d: %s", i, (int)code, kb_error_text(&err));
    }
}

static void backup_record_read_unknown_fields_are_tolerated(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    size_t len = 0;
    KB_AUTOFREE char *text =
        edit("\"formatVersion\": 1,", "\"formatVersion\": 7, \"new\": [{\"a\": null}],", &len);
    assert_int_equal(read_text(text, len, &backup, &err), KB_OK);
    assert_int_equal(backup->format_version, 7);
}

static void backup_record_file_name_twice_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = example();
    kb_partition_entry *partition = kb_backup_find_partition(backup, "orders", 0);
    kb_text_set(&partition->segments[0].name, "segment-00000000000000000200.bin.zst");
    partition->segments[0].owner = KB_OWNER_SELF;
    kb_text_set(&backup->base, NULL);
    backup->depth = 0;
    backup->use_count = 0;
    KB_AUTO_STRBUF(out, KB_BACKUP_JSON_MAX_BYTES);
    assert_int_equal(kb_backup_record_write(backup, &out, &err), KB_OK);
    KB_AUTO_BACKUP kb_backup *read = NULL;
    assert_int_equal(read_text(kb_strbuf_view(&out), out.len, &read, &err), KB_ERR_FORMAT);
    assert_non_null(strstr(kb_error_text(&err), "stands there twice"));
    free(backup->uses[0]);
}

static void backup_record_gaps_findings_and_names_survive(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = example();
    kb_partition_entry *partition = kb_backup_find_partition(backup, "orders", 0);
    partition->from = 50;
    assert_int_equal(kb_partition_add_gap(partition, (kb_gap){50, 80, 17}, &err), KB_OK);
    assert_int_equal(kb_partition_add_gap(partition, (kb_gap){80, 100, 18}, &err), KB_OK);
    kb_text_set(&partition->segments[1].name, "segment-00000000000000000200-00010203.bin.zst");
    kb_backup_add_finding(backup, "Discontinuity", "orders", 0, "line\nbreak \"quoted\"");
    kb_backup_add_finding(backup, "RetentionGap", "orders", 0, NULL);
    kb_backup_add_finding(backup, "TopicsSkipped", NULL, -1, NULL);
    kb_backup_add_finding(backup, "RetentionGap", "orders", 0, NULL);
    kb_backup_add_skipped(backup, "secret", "unauthorized");
    KB_AUTO_STRBUF(out, KB_BACKUP_JSON_MAX_BYTES);
    assert_int_equal(kb_backup_record_write(backup, &out, &err), KB_OK);
    KB_AUTO_BACKUP kb_backup *read = NULL;
    if (read_text(kb_strbuf_view(&out), out.len, &read, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    assert_int_equal(read->finding_count, 3);
    assert_string_equal(read->findings[0].reason, "RetentionGap");
    assert_string_equal(read->findings[1].detail, "line\nbreak \"quoted\"");
    assert_int_equal(read->findings[2].partition, -1);
    assert_string_equal(read->skipped[0].name, "secret");
    KB_AUTO_STRBUF(again, KB_BACKUP_JSON_MAX_BYTES);
    assert_int_equal(kb_backup_record_write(read, &again, &err), KB_OK);
    assert_string_equal(kb_strbuf_view(&again), kb_strbuf_view(&out));
}

static int load_golden(void **state)
{
    (void)state;
    golden = load("worker/tests/data/backup-example.json", &golden_len);
    return 0;
}

static int free_golden(void **state)
{
    (void)state;
    free(golden);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backup_record_write_example_is_byte_exact),
        cmocka_unit_test(backup_record_read_example_writes_the_same_bytes),
        cmocka_unit_test(backup_record_read_projects_to_the_manifest_it_names),
        cmocka_unit_test(backup_record_read_truncated_anywhere_is_refused),
        cmocka_unit_test(backup_record_read_any_bit_flipped_is_refused),
        cmocka_unit_test(backup_record_read_contradictions_are_refused),
        cmocka_unit_test(backup_record_read_unknown_fields_are_tolerated),
        cmocka_unit_test(backup_record_file_name_twice_is_refused),
        cmocka_unit_test(backup_record_gaps_findings_and_names_survive),
    };
    return cmocka_run_group_tests(tests, load_golden, free_golden);
}

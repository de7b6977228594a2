#include "worker/validate/validate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "worker/catalog/backup_record.h"
#include "worker/catalog/layout.h"
#include "worker/catalog/manifest.h"
#include "worker/tests/backup_fixture.h"

#define MEMORY_BYTES ((uint64_t)512 << 20)
#define AUTO_RESULT(name) KB_CLEANUP(kb_validate_result_done) kb_validate_result name = {0}
#define RECORD_KEY TEST_BACKUP_ID "/backup.json"
#define MANIFEST_KEY TEST_BACKUP_ID "/manifest.json"

static kb_validate_settings settings_of(const test_backup *fixture, bool deep)
{
    return (kb_validate_settings){.storage = fixture->storage,
                                  .backup_id = fixture->backup->backup_id,
                                  .deep = deep,
                                  .threads = 3,
                                  .memory_bytes = MEMORY_BYTES};
}

static void validate(const test_backup *fixture, bool deep, kb_validate_result *result)
{
    KB_AUTO_ERROR(err);
    kb_validate_settings settings = settings_of(fixture, deep);
    if (kb_validate_run(&settings, result, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
}

static void print_problems(const kb_validate_result *result)
{
    for (size_t i = 0; i < result->problems.count; i++)
        print_message("%s: %s: %s\n", result->problems.items[i].key,
                      kb_object_fault_name(result->problems.items[i].fault),
                      result->problems.items[i].detail);
}

static void assert_problem(const kb_validate_result *result, size_t index, kb_object_fault fault,
                           const char *key)
{
    if (index >= result->problems.count || result->problems.items[index].fault != fault ||
        strcmp(result->problems.items[index].key, key) != 0) {
        print_problems(result);
        fail_msg("problem %zu is not %s of '%s'", index, kb_object_fault_name(fault), key);
    }
    assert_false(kb_validate_is_valid(result));
}

static void assert_valid(const kb_validate_result *result)
{
    if (!kb_validate_is_valid(result))
        print_problems(result);
    assert_true(kb_validate_is_valid(result));
    assert_int_equal(result->problems.total, 0);
}

/* ---- sound backups ---- */

static void kb_validate_run_sound_backup_is_valid(void **state)
{
    (void)state;
    static const kb_codec codecs[] = {KB_CODEC_NONE, KB_CODEC_ZSTD, KB_CODEC_LZ4};
    for (size_t i = 0; i < KB_ARRAY_LEN(codecs); i++) {
        for (int deep = 0; deep < 2; deep++) {
            AUTO_TEST_BACKUP(fixture);
            AUTO_RESULT(result);
            test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
            test_backup_fill(&fixture, codecs[i]);
            test_backup_publish(&fixture);
            validate(&fixture, deep == 1, &result);
            assert_valid(&result);
            assert_int_equal(result.state, KB_CATALOG_COMPLETE);
            assert_int_equal(result.totals.segments, 4);
            assert_int_equal(result.totals.records, 40);
            assert_int_equal(result.orphans.count, 0);
            assert_int_equal(result.deep.segments, deep == 1 ? 4 : 0);
            assert_int_equal(result.deep.records, deep == 1 ? 40 : 0);
        }
    }
}

static void kb_validate_run_backup_without_topics_is_valid(void **state)
{
    (void)state;
    AUTO_TEST_BACKUP(fixture);
    AUTO_RESULT(result);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_publish(&fixture);
    validate(&fixture, true, &result);
    assert_valid(&result);
}

static void kb_validate_run_gaps_are_no_problem(void **state)
{
    (void)state;
    AUTO_TEST_BACKUP(fixture);
    AUTO_RESULT(result);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_add_gap(&fixture, "orders", 0, 0, 5);
    test_backup_add(&fixture, &(test_segment){"orders", 0, 5, 10, KB_CODEC_ZSTD, 0, false});
    test_backup_publish(&fixture);
    validate(&fixture, true, &result);
    assert_valid(&result);
    assert_int_equal(result.totals.gaps, 1);
    assert_int_equal(result.totals.gap_offsets, 5);
}

static void kb_validate_run_orphans_are_counted(void **state)
{
    (void)state;
    AUTO_TEST_BACKUP(fixture);
    AUTO_RESULT(result);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_fill(&fixture, KB_CODEC_ZSTD);
    test_backup_publish(&fixture);
    test_object_write(&fixture, TEST_BACKUP_ID "/topics/orders/partition=0/segment-left.bin.zst", "12345", 5);
    test_object_write(&fixture, TEST_BACKUP_ID "/topics/old/x", "1", 1);
    validate(&fixture, false, &result);
    assert_valid(&result);
    assert_int_equal(result.orphans.count, 2);
    assert_int_equal(result.orphans.bytes, 6);
}

static void kb_validate_run_foreign_backup_by_manifest_alone(void **state)
{
    (void)state;
    AUTO_TEST_BACKUP(fixture);
    AUTO_RESULT(result);
    AUTO_RESULT(damaged);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_fill(&fixture, KB_CODEC_LZ4);
    test_backup_publish(&fixture);
    test_object_remove(&fixture, RECORD_KEY);
    test_object_remove(&fixture, TEST_BACKUP_ID "/journal/00000000.json");
    validate(&fixture, true, &result);
    assert_valid(&result);
    assert_int_equal(result.state, KB_CATALOG_FOREIGN);
    assert_int_equal(result.deep.segments, 4);
    KB_AUTOFREE char *key = test_backup_key(&fixture, "orders", 0, 1);
    test_object_flip(&fixture, key, 60, 2);
    validate(&fixture, true, &damaged);
    assert_int_equal(damaged.problems.total, 1);
    assert_problem(&damaged, 0, KB_FAULT_MISMATCH, key);
}

/* ---- damaged segments ---- */

#define NO_FAULT KB_FAULT_COUNT

typedef struct damage_case {
    const char *name;
    void (*damage)(const test_backup *fixture, const char *key, const char *other);
    kb_object_fault shallow; /* NO_FAULT: only a deep check sees it */
    kb_object_fault deep;
    size_t deep_count;
} damage_case;

static void flip_body(const test_backup *fixture, const char *key, const char *other)
{
    (void)other;
    test_object_flip(fixture, key, 200, 3);
}

static void flip_magic(const test_backup *fixture, const char *key, const char *other)
{
    (void)other;
    test_object_flip(fixture, key, 0, 0);
}

static void flip_last_byte(const test_backup *fixture, const char *key, const char *other)
{
    (void)other;
    test_object_flip(fixture, key, test_object_size(fixture, key) - 1, 7);
}

static void cut_one_byte(const test_backup *fixture, const char *key, const char *other)
{
    (void)other;
    test_object_cut(fixture, key, test_object_size(fixture, key) - 1);
}

static void empty_object(const test_backup *fixture, const char *key, const char *other)
{
    (void)other;
    test_object_cut(fixture, key, 0);
}

static void remove_object(const test_backup *fixture, const char *key, const char *other)
{
    (void)other;
    test_object_remove(fixture, key);
}

static void swap_objects(const test_backup *fixture, const char *key, const char *other)
{
    test_object_swap(fixture, key, other);
}

static void put_other(const test_backup *fixture, const char *key, const char *other)
{
    test_object_copy(fixture, other, key);
}

static void put_encrypted(const test_backup *fixture, const char *key, const char *other)
{
    (void)other;
    size_t size = (size_t)test_object_size(fixture, key);
    KB_AUTOFREE char *data = kb_malloc(size);
    memset(data, 'e', size);
    test_object_write(fixture, key, data, size);
}

static const damage_case damage_cases[] = {
    {"one bit in the body", flip_body, NO_FAULT, KB_FAULT_MISMATCH, 1},
    {"one bit in the magic", flip_magic, NO_FAULT, KB_FAULT_MISMATCH, 1},
    {"one bit in the last byte", flip_last_byte, NO_FAULT, KB_FAULT_MISMATCH, 1},
    {"truncated", cut_one_byte, KB_FAULT_SIZE, KB_FAULT_SIZE, 1},
    {"empty", empty_object, KB_FAULT_SIZE, KB_FAULT_SIZE, 1},
    {"missing", remove_object, KB_FAULT_MISSING, KB_FAULT_MISSING, 1},
    {"two swapped", swap_objects, NO_FAULT, KB_FAULT_FOREIGN, 2},
    {"that of another partition", put_other, NO_FAULT, KB_FAULT_FOREIGN, 1},
    {"encrypted by somebody", put_encrypted, NO_FAULT, KB_FAULT_MISMATCH, 1},
};

static void check_damage(const damage_case *c, bool deep)
{
    AUTO_TEST_BACKUP(fixture);
    AUTO_RESULT(result);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_fill(&fixture, KB_CODEC_ZSTD);
    test_backup_publish(&fixture);
    KB_AUTOFREE char *key = test_backup_key(&fixture, "orders", 0, 1);
    KB_AUTOFREE char *other = test_backup_key(&fixture, "orders", 1, 0);
    assert_int_equal(test_object_size(&fixture, key), test_object_size(&fixture, other));
    c->damage(&fixture, key, other);
    validate(&fixture, deep, &result);
    kb_object_fault fault = deep ? c->deep : c->shallow;
    if (fault == NO_FAULT) {
        assert_valid(&result);
        return;
    }
    if (result.problems.total != (deep ? c->deep_count : 1))
        fail_msg("%s: %zu problems", c->name, (size_t)result.problems.total);
    assert_problem(&result, 0, fault, key);
    assert_int_equal(result.state, KB_CATALOG_COMPLETE);
}

static void kb_validate_run_damaged_segment_is_named_with_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(damage_cases); i++) {
        check_damage(&damage_cases[i], false);
        check_damage(&damage_cases[i], true);
    }
}

/* Every bit of one segment that has an index; hundreds of bytes, so one bit of each. */
static void kb_validate_run_deep_finds_a_flip_in_every_byte(void **state)
{
    (void)state;
    AUTO_TEST_BACKUP(fixture);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_add(&fixture, &(test_segment){"orders", 0, 0, 2, KB_CODEC_ZSTD, 20, false});
    test_backup_publish(&fixture);
    KB_AUTOFREE char *key = test_backup_key(&fixture, "orders", 0, 0);
    int64_t size = test_object_size(&fixture, key);
    for (int64_t at = 0; at < size; at++) {
        AUTO_RESULT(result);
        test_object_flip(&fixture, key, at, (unsigned)at % 8);
        validate(&fixture, true, &result);
        test_object_flip(&fixture, key, at, (unsigned)at % 8);
        if (result.problems.total != 1)
            fail_msg("flip at byte %d is not found", (int)at);
    }
}

static void kb_validate_run_goes_on_and_lists_in_order(void **state)
{
    (void)state;
    AUTO_TEST_BACKUP(fixture);
    AUTO_RESULT(result);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_fill(&fixture, KB_CODEC_ZSTD);
    test_backup_publish(&fixture);
    char *keys[4];
    for (size_t i = 0; i < 4; i++)
        keys[i] = test_backup_key(&fixture, "orders", i / 3 == 0 ? 0 : 1, i % 3);
    flip_body(&fixture, keys[0], NULL);
    remove_object(&fixture, keys[1], NULL);
    flip_body(&fixture, keys[2], NULL);
    cut_one_byte(&fixture, keys[3], NULL);
    validate(&fixture, true, &result);
    assert_int_equal(result.problems.total, 4);
    assert_problem(&result, 0, KB_FAULT_MISMATCH, keys[0]);
    assert_problem(&result, 1, KB_FAULT_MISSING, keys[1]);
    assert_problem(&result, 2, KB_FAULT_MISMATCH, keys[2]);
    assert_problem(&result, 3, KB_FAULT_SIZE, keys[3]);
    for (size_t i = 0; i < 4; i++)
        free(keys[i]);
}

static void kb_validate_run_many_problems_are_listed_to_1000_and_counted(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST_BACKUP(fixture);
    AUTO_RESULT(result);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    kb_partition_entry *partition = test_backup_add_empty(&fixture, "orders", 0);
    for (int64_t i = 0; i < 1005; i++) {
        kb_segment_entry entry = {.start = i,
                                  .end = i,
                                  .from = i,
                                  .to = i + 1,
                                  .count = 1,
                                  .raw_bytes = 30,
                                  .bytes = 100,
                                  .codec = KB_CODEC_ZSTD,
                                  .owner = KB_OWNER_SELF,
                                  .has_hashes = true};
        assert_int_equal(kb_partition_add_segment(partition, &entry, &err), KB_OK);
    }
    test_backup_publish(&fixture);
    validate(&fixture, true, &result);
    assert_int_equal(result.problems.total, 1005);
    assert_int_equal(result.problems.count, KB_PROBLEM_LIST_MAX);
    assert_int_equal(result.problems.items[999].fault, KB_FAULT_MISSING);
}

/* ---- several backups ---- */

static void kb_validate_run_reused_segments_are_looked_for_where_they_are(void **state)
{
    (void)state;
    AUTO_TEST_BACKUP(base);
    AUTO_TEST_BACKUP(next);
    AUTO_RESULT(sound);
    AUTO_RESULT(damaged);
    test_backup_init(&base, TEST_BACKUP_ID, NULL);
    test_backup_fill(&base, KB_CODEC_ZSTD);
    test_backup_publish(&base);
    test_backup_init(&next, "orders-20250102-000000", &base);
    test_backup_reuse(&next, &base, "orders", 0, 0);
    test_backup_reuse(&next, &base, "orders", 0, 1);
    test_backup_add(&next, &(test_segment){"orders", 0, 20, 5, KB_CODEC_ZSTD, 0, false});
    test_backup_publish(&next);
    validate(&next, true, &sound);
    assert_valid(&sound);
    assert_int_equal(sound.deep.segments, 3);
    assert_int_equal(sound.orphans.count, 0);
    KB_AUTOFREE char *key = test_backup_key(&base, "orders", 0, 1);
    test_object_remove(&base, key);
    validate(&next, false, &damaged);
    assert_int_equal(damaged.problems.total, 1);
    assert_problem(&damaged, 0, KB_FAULT_MISSING, key);
}

/* ---- damaged index ---- */

typedef struct index_case {
    const char *name;
    bool flip_record, flip_manifest, remove_record;
    size_t count;
    kb_object_fault faults[2];
    const char *keys[2];
    bool has_backup;
} index_case;

static const index_case index_cases[] = {
    {"backup.json", true, false, false, 1, {KB_FAULT_MISMATCH}, {RECORD_KEY}, true},
    {"manifest.json", false, true, false, 1, {KB_FAULT_MISMATCH}, {MANIFEST_KEY}, true},
    {"both", true, true, false, 2, {KB_FAULT_MISMATCH, KB_FAULT_MISMATCH}, {RECORD_KEY, MANIFEST_KEY}, false},
    {"no backup.json", false, false, true, 1, {KB_FAULT_MISSING}, {RECORD_KEY}, true},
    {"no backup.json, bad manifest.json",
     false,
     true,
     true,
     2,
     {KB_FAULT_MISSING, KB_FAULT_MISMATCH},
     {RECORD_KEY, MANIFEST_KEY},
     false},
};

static void check_index(const index_case *c)
{
    AUTO_TEST_BACKUP(fixture);
    AUTO_RESULT(result);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_fill(&fixture, KB_CODEC_ZSTD);
    test_backup_publish(&fixture);
    if (c->flip_record)
        test_object_flip(&fixture, RECORD_KEY, test_object_size(&fixture, RECORD_KEY) / 2, 0);
    if (c->flip_manifest)
        test_object_cut(&fixture, MANIFEST_KEY, test_object_size(&fixture, MANIFEST_KEY) - 1);
    if (c->remove_record)
        test_object_remove(&fixture, RECORD_KEY);
    validate(&fixture, true, &result);
    if (result.problems.total != c->count)
        print_problems(&result);
    assert_int_equal(result.problems.total, c->count);
    for (size_t i = 0; i < c->count; i++)
        assert_problem(&result, i, c->faults[i], c->keys[i]);
    assert_int_equal(result.backup != NULL, c->has_backup);
    assert_int_equal(result.state, KB_CATALOG_DAMAGED);
    assert_int_equal(result.deep.segments, c->has_backup ? 4 : 0);
}

static void kb_validate_run_damaged_index_is_judged_by_the_other_half(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(index_cases); i++)
        check_index(&index_cases[i]);
}

static void kb_validate_run_damaged_foreign_manifest_is_one_problem(void **state)
{
    (void)state;
    AUTO_TEST_BACKUP(fixture);
    AUTO_RESULT(result);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_object_write(&fixture, MANIFEST_KEY, "{\"backup_id\": \"x\"}", 18);
    validate(&fixture, false, &result);
    assert_int_equal(result.problems.total, 1);
    assert_problem(&result, 0, KB_FAULT_MISMATCH, MANIFEST_KEY);
    assert_null(result.backup);
}

/* Each byte with two of its bits; bit 5 turns letters into capitals, which parsers like to forgive. */
static void kb_validate_run_finds_a_flip_in_every_byte_of_the_index(void **state)
{
    (void)state;
    static const char *const keys[] = {RECORD_KEY, MANIFEST_KEY};
    AUTO_TEST_BACKUP(fixture);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_add(&fixture, &(test_segment){"orders", 0, 0, 2, KB_CODEC_ZSTD, 20, false});
    test_backup_publish(&fixture);
    for (size_t k = 0; k < KB_ARRAY_LEN(keys); k++) {
        int64_t size = test_object_size(&fixture, keys[k]);
        for (int64_t i = 0; i < 2 * size; i++) {
            AUTO_RESULT(result);
            unsigned bit = i % 2 == 0 ? 5 : (unsigned)(i / 2) % 8;
            test_object_flip(&fixture, keys[k], i / 2, bit);
            validate(&fixture, false, &result);
            test_object_flip(&fixture, keys[k], i / 2, bit);
            if (result.problems.total == 0)
                fail_msg("flip of bit %u at byte %d of %s is not found", bit, (int)(i / 2), keys[k]);
            assert_problem(&result, 0, KB_FAULT_MISMATCH, keys[k]);
        }
    }
}

static void kb_validate_run_finds_the_index_cut_at_every_byte(void **state)
{
    (void)state;
    static const char *const keys[] = {RECORD_KEY, MANIFEST_KEY};
    AUTO_TEST_BACKUP(fixture);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_add(&fixture, &(test_segment){"orders", 0, 0, 2, KB_CODEC_ZSTD, 20, false});
    test_backup_publish(&fixture);
    for (size_t k = 0; k < KB_ARRAY_LEN(keys); k++) {
        test_object_copy(&fixture, keys[k], "whole");
        for (int64_t size = test_object_size(&fixture, "whole") - 1; size >= 0; size--) {
            AUTO_RESULT(result);
            test_object_cut(&fixture, keys[k], size);
            validate(&fixture, false, &result);
            assert_problem(&result, 0, KB_FAULT_MISMATCH, keys[k]);
        }
        test_object_copy(&fixture, "whole", keys[k]);
    }
}

/* An index that contradicts itself, though its hashes hold: written past the checks of the writer. */
static void kb_validate_run_segments_that_do_not_tile_are_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST_BACKUP(fixture);
    AUTO_RESULT(result);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_fill(&fixture, KB_CODEC_ZSTD);
    test_backup_publish(&fixture);
    kb_partition_entry *partition = kb_backup_find_partition(fixture.backup, "orders", 0);
    partition->segments[1].from = 8;
    KB_AUTO_STRBUF(text, 1 << 20);
    assert_int_equal(kb_backup_record_write(fixture.backup, &text, &err), KB_OK);
    test_object_write(&fixture, RECORD_KEY, kb_strbuf_view(&text), text.len);
    validate(&fixture, false, &result);
    assert_int_equal(result.problems.total, 1);
    assert_problem(&result, 0, KB_FAULT_MISMATCH, RECORD_KEY);
    assert_non_null(strstr(result.problems.items[0].detail, "continues from 8"));
}

static void kb_validate_run_range_short_of_the_cut_is_a_problem(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST_BACKUP(fixture);
    AUTO_RESULT(result);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_fill(&fixture, KB_CODEC_ZSTD);
    test_backup_publish(&fixture);
    kb_backup_find_partition(fixture.backup, "orders", 0)->cut = 31;
    kb_backup_find_topic(fixture.backup, "quiet")->partition_count = 2;
    KB_AUTO_STRBUF(record, 1 << 20);
    KB_AUTO_STRBUF(manifest, 1 << 20);
    assert_int_equal(kb_backup_record_write(fixture.backup, &record, &err), KB_OK);
    assert_int_equal(kb_manifest_write(fixture.backup, &manifest, &err), KB_OK);
    test_object_write(&fixture, RECORD_KEY, kb_strbuf_view(&record), record.len);
    test_object_write(&fixture, MANIFEST_KEY, kb_strbuf_view(&manifest), manifest.len);
    validate(&fixture, false, &result);
    assert_int_equal(result.problems.total, 2);
    assert_problem(&result, 0, KB_FAULT_RANGE, RECORD_KEY);
    assert_problem(&result, 1, KB_FAULT_RANGE, RECORD_KEY);
}

static void kb_validate_run_group_snapshot_is_compared(void **state)
{
    (void)state;
    static const struct {
        const char *content; /* NULL: absent */
        kb_object_fault fault;
    } cases[] = {{"{}", NO_FAULT}, {"[]", KB_FAULT_MISMATCH}, {NULL, KB_FAULT_MISSING}};
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        AUTO_TEST_BACKUP(fixture);
        AUTO_RESULT(result);
        test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
        KB_AUTOFREE char *key = kb_layout_groups_key(TEST_BACKUP_ID);
        uint8_t sha256[KB_SHA256_SIZE];
        kb_sha256("{}", 2, sha256);
        kb_backup_set_groups(fixture.backup, key, sha256, 0, true);
        test_backup_publish(&fixture);
        if (cases[i].content != NULL)
            test_object_write(&fixture, key, cases[i].content, strlen(cases[i].content));
        validate(&fixture, false, &result);
        if (cases[i].fault == NO_FAULT)
            assert_valid(&result);
        else
            assert_problem(&result, 0, cases[i].fault, key);
    }
}

/* ---- samples, memory, stopping ---- */

static void kb_validate_run_samples_make_up_the_whole(void **state)
{
    (void)state;
    AUTO_TEST_BACKUP(fixture);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_fill(&fixture, KB_CODEC_ZSTD);
    test_backup_publish(&fixture);
    KB_AUTOFREE char *key = test_backup_key(&fixture, "orders", 0, 1);
    flip_body(&fixture, key, NULL);
    int64_t segments = 0;
    uint64_t problems = 0;
    for (uint32_t n = 1; n <= 3; n++) {
        KB_AUTO_ERROR(err);
        AUTO_RESULT(result);
        kb_validate_settings settings = settings_of(&fixture, true);
        settings.sample = (kb_sample){n, 3};
        assert_int_equal(kb_validate_run(&settings, &result, &err), KB_OK);
        segments += result.deep.segments;
        problems += result.problems.total;
    }
    assert_int_equal(segments, 4);
    assert_int_equal(problems, 1);
}

static void check_large_record(size_t value_len, kb_code expected)
{
    KB_AUTO_ERROR(err);
    AUTO_TEST_BACKUP(fixture);
    AUTO_RESULT(result);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_fill(&fixture, KB_CODEC_ZSTD);
    test_backup_add(&fixture, &(test_segment){"big", 0, 0, 1, KB_CODEC_ZSTD, value_len, true});
    test_backup_publish(&fixture);
    kb_validate_settings settings = settings_of(&fixture, true);
    settings.memory_bytes = 0; /* the least: 16 MiB of buffers */
    assert_int_equal(kb_validate_run(&settings, &result, &err), expected);
    if (expected == KB_OK)
        assert_valid(&result);
    assert_int_equal(result.deep.segments, expected == KB_OK ? 5 : 0);
}

static void kb_validate_run_large_record_is_read_alone(void **state)
{
    (void)state;
    check_large_record((size_t)8 << 20, KB_OK);
    check_large_record((size_t)20 << 20, KB_MEMORY_TOO_SMALL);
}

static void kb_validate_run_stopped_says_so(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST_BACKUP(fixture);
    AUTO_RESULT(result);
    KB_CLEANUP(kb_stop_free_at) kb_stop *stop = NULL;
    assert_int_equal(kb_stop_new(&stop, &err), KB_OK);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_fill(&fixture, KB_CODEC_ZSTD);
    test_backup_publish(&fixture);
    kb_validate_settings settings = settings_of(&fixture, true);
    settings.stop = stop;
    kb_stop_set(stop, 15);
    assert_int_equal(kb_validate_run(&settings, &result, &err), KB_ERR_STOPPED);
    assert_null(result.backup);
}

static void kb_validate_run_absent_or_pruned_backup_fails(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST_BACKUP(fixture);
    AUTO_RESULT(result);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    kb_validate_settings settings = settings_of(&fixture, false);
    assert_int_equal(kb_validate_run(&settings, &result, &err), KB_BACKUP_NOT_FOUND);
    test_backup_publish(&fixture);
    test_object_write(&fixture, TEST_BACKUP_ID "/pruned.json", "{}", 2);
    assert_int_equal(kb_validate_run(&settings, &result, &err), KB_BACKUP_PRUNED);
    settings.open.allow_pruned = true;
    assert_int_equal(kb_validate_run(&settings, &result, &err), KB_OK);
    assert_int_equal(result.state, KB_CATALOG_PRUNED);
}

static void kb_validate_run_progress_counts_what_was_read(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST_BACKUP(fixture);
    AUTO_RESULT(result);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_fill(&fixture, KB_CODEC_ZSTD);
    test_backup_publish(&fixture);
    kb_validate_settings settings = settings_of(&fixture, true);
    kb_progress *progress = kb_progress_new(&(kb_progress_options){.operation = "validate"});
    settings.progress = progress;
    assert_int_equal(kb_validate_run(&settings, &result, &err), KB_OK);
    kb_progress_counts counts;
    kb_progress_read(progress, &counts);
    assert_int_equal(counts.records, 40);
    assert_int_equal(counts.segments, 4);
    assert_int_equal(counts.work_total, result.totals.stored_bytes);
    assert_int_equal(counts.work_done, counts.work_total);
    kb_progress_free(progress);
}

/* The sum over a partition is compared on its own, though the index was checked when it was read. */
static void kb_deep_check_wrong_partition_digest_is_a_problem(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST_BACKUP(fixture);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_fill(&fixture, KB_CODEC_ZSTD);
    kb_backup_find_partition(fixture.backup, "orders", 1)->digest.limb[0]++;
    KB_CLEANUP(kb_object_table_done) kb_object_table table;
    KB_CLEANUP(kb_problem_list_done) kb_problem_list problems = {0};
    kb_orphans orphans;
    kb_deep_counts counts;
    kb_object_table_init(&table, fixture.backup);
    assert_int_equal(kb_presence_check(fixture.storage, &table, NULL, &problems, &orphans, &err), KB_OK);
    kb_deep_options options = {.storage = fixture.storage, .threads = 2, .memory_bytes = MEMORY_BYTES};
    assert_int_equal(kb_deep_check(&options, &table, &problems, &counts, &err), KB_OK);
    assert_int_equal(problems.total, 1);
    assert_string_equal(problems.items[0].key, RECORD_KEY);
    assert_non_null(strstr(problems.items[0].detail, "'orders' partition 1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_validate_run_sound_backup_is_valid),
        cmocka_unit_test(kb_validate_run_backup_without_topics_is_valid),
        cmocka_unit_test(kb_validate_run_gaps_are_no_problem),
        cmocka_unit_test(kb_validate_run_orphans_are_counted),
        cmocka_unit_test(kb_validate_run_foreign_backup_by_manifest_alone),
        cmocka_unit_test(kb_validate_run_damaged_segment_is_named_with_reason),
        cmocka_unit_test(kb_validate_run_deep_finds_a_flip_in_every_byte),
        cmocka_unit_test(kb_validate_run_goes_on_and_lists_in_order),
        cmocka_unit_test(kb_validate_run_many_problems_are_listed_to_1000_and_counted),
        cmocka_unit_test(kb_validate_run_reused_segments_are_looked_for_where_they_are),
        cmocka_unit_test(kb_validate_run_damaged_index_is_judged_by_the_other_half),
        cmocka_unit_test(kb_validate_run_damaged_foreign_manifest_is_one_problem),
        cmocka_unit_test(kb_validate_run_finds_a_flip_in_every_byte_of_the_index),
        cmocka_unit_test(kb_validate_run_finds_the_index_cut_at_every_byte),
        cmocka_unit_test(kb_validate_run_segments_that_do_not_tile_are_refused),
        cmocka_unit_test(kb_validate_run_range_short_of_the_cut_is_a_problem),
        cmocka_unit_test(kb_validate_run_group_snapshot_is_compared),
        cmocka_unit_test(kb_validate_run_samples_make_up_the_whole),
        cmocka_unit_test(kb_validate_run_large_record_is_read_alone),
        cmocka_unit_test(kb_validate_run_stopped_says_so),
        cmocka_unit_test(kb_validate_run_absent_or_pruned_backup_fails),
        cmocka_unit_test(kb_validate_run_progress_counts_what_was_read),
        cmocka_unit_test(kb_deep_check_wrong_partition_digest_is_a_problem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

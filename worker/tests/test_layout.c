#include "worker/catalog/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

/* `len` times 'x'; owned. */
static char *many(size_t len)
{
    char *text = kb_malloc(len + 1);
    memset(text, 'x', len);
    text[len] = '\0';
    return text;
}

static void check_new_id_follows_the_rule_for_writing(void **state)
{
    (void)state;
    KB_AUTOFREE char *longest = many(253);
    KB_AUTOFREE char *too_long = many(254);
    const struct {
        const char *id;
        bool good;
    } table[] = {
        {"orders-20250101-000000", true},
        {"a", true},
        {"9", true},
        {"A.b_c-D", true},
        {"a..b", true},
        {"offset-snapshots-x", true},
        {"restores2", true},
        {"a.jsonl", true},
        {longest, true},
        {too_long, false},
        {"", false},
        {".a", false},
        {"-a", false},
        {"_a", false},
        {"..", false},
        {"a/b", false},
        {"a b", false},
        {"a\\b", false},
        {"a\n", false},
        {"\xc3\xa4", false},
        {"a%2e", false},
        {"offset-snapshots", false},
        {"restores", false},
        {"evidence-reports", false},
        {"a.json", false},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        KB_AUTO_ERROR(err);
        kb_code code = kb_layout_check_new_id(table[i].id, KB_BACKUP_ID_MAX, "backup_id", &err);
        if ((code == KB_OK) != table[i].good)
            fail_msg("'%s': %s", table[i].id, kb_error_text(&err));
        if (!table[i].good)
            assert_int_equal(code, KB_CONFIG_INVALID);
        if (!table[i].good)
            assert_non_null(strstr(kb_error_text(&err), "backup_id"));
    }
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *restore_id = many(129);
    assert_int_equal(kb_layout_check_new_id(restore_id + 1, KB_RESTORE_ID_MAX, "restore_id", &err), KB_OK);
    assert_int_equal(kb_layout_check_new_id(restore_id, KB_RESTORE_ID_MAX, "restore_id", &err),
                     KB_CONFIG_INVALID);
}

static void check_id_follows_the_rule_for_reading(void **state)
{
    (void)state;
    KB_AUTOFREE char *longest = many(512);
    KB_AUTOFREE char *too_long = many(513);
    const struct {
        const char *id;
        bool good;
    } table[] = {
        {"orders", true},   {"team/orders", true}, {"a b", true},   {".a", true},      {"...", true},
        {"\xc3\xa4", true}, {"a\\b", true},        {longest, true}, {too_long, false}, {"", false},
        {".", false},       {"..", false},         {"/a", false},   {"a/", false},     {"a//b", false},
        {"a/../b", false},  {"a/./b", false},      {"a\tb", false}, {"a\x7f", false},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        KB_AUTO_ERROR(err);
        if ((kb_layout_check_id(table[i].id, &err) == KB_OK) != table[i].good)
            fail_msg("'%s': %s", table[i].id, kb_error_text(&err));
    }
}

static void id_of_folder_skips_what_is_no_backup(void **state)
{
    (void)state;
    static const struct {
        const char *folder;
        const char *id;
    } table[] = {
        {"orders-1/", "orders-1"},
        {"orders.json/", "orders.json"},
        {"offset-snapshots/", NULL},
        {"restores/", NULL},
        {"evidence-reports/", NULL},
        {"/", NULL},
        {"", NULL},
        {"file", NULL},
        {"a\nb/", NULL},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        KB_AUTOFREE char *id = kb_layout_id_of_folder(table[i].folder);
        if (table[i].id == NULL)
            assert_null(id);
        else
            assert_string_equal(id, table[i].id);
    }
}

static void is_topic_name_is_the_rule_of_kafka(void **state)
{
    (void)state;
    KB_AUTOFREE char *longest = many(249);
    KB_AUTOFREE char *too_long = many(250);
    KB_AUTOFREE char *huge = many(32768);
    const struct {
        kb_view name;
        bool good;
    } table[] = {
        {{(const uint8_t *)"orders", 6}, true},
        {{(const uint8_t *)"a..b", 4}, true},
        {{(const uint8_t *)"...", 3}, true},
        {{(const uint8_t *)"-rf", 3}, true},
        {{(const uint8_t *)"__consumer_offsets", 18}, true},
        {{(const uint8_t *)longest, 249}, true},
        {{(const uint8_t *)too_long, 250}, false},
        {{(const uint8_t *)huge, 32768}, false},
        {{(const uint8_t *)"", 0}, false},
        {{NULL, 0}, false},
        {{(const uint8_t *)".", 1}, false},
        {{(const uint8_t *)"..", 2}, false},
        {{(const uint8_t *)"../../etc/x", 11}, false},
        {{(const uint8_t *)"/abs", 4}, false},
        {{(const uint8_t *)"a\0b", 3}, false},
        {{(const uint8_t *)"a\0", 2}, false},
        {{(const uint8_t *)"a\nb", 3}, false},
        {{(const uint8_t *)"%2e%2e", 6}, false},
        {{(const uint8_t *)"\xc3\xa4", 2}, false},
        {{(const uint8_t *)"a b", 3}, false},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++)
        assert_int_equal(kb_layout_is_topic_name(table[i].name), table[i].good);
}

static void keys_are_those_of_the_format(void **state)
{
    (void)state;
    const struct {
        char *made; /* owned */
        const char *expected;
    } table[] = {
        {kb_layout_backup_prefix("B"), "B/"},
        {kb_layout_manifest_key("B"), "B/manifest.json"},
        {kb_layout_backup_json_key("B"), "B/backup.json"},
        {kb_layout_groups_key("B"), "B/consumer-groups-snapshot.json"},
        {kb_layout_pruned_key("B"), "B/pruned.json"},
        {kb_layout_journal_prefix("B"), "B/journal/"},
        {kb_layout_journal_key("B", 0), "B/journal/00000000.json"},
        {kb_layout_journal_key("B", 12345678), "B/journal/12345678.json"},
        {kb_layout_topics_prefix("B"), "B/topics/"},
        {kb_layout_partition_prefix("B", "orders", 12), "B/topics/orders/partition=12/"},
        {kb_layout_segment_file(100, ".zst"), "segment-00000000000000000100.bin.zst"},
        {kb_layout_segment_file(INT64_MAX, ""), "segment-09223372036854775807.bin"},
        {kb_layout_segment_file_suffixed(0, "00112233445566778899aabbccddeeff", ".lz4"),
         "segment-00000000000000000000-00112233.bin.lz4"},
        {kb_layout_segment_key("orders-20250101-000000", "orders", 0, "segment-00000000000000000100.bin.zst"),
         "orders-20250101-000000/topics/orders/partition=0/segment-00000000000000000100.bin.zst"},
        {kb_layout_restore_prefix("r"), "restores/r/"},
        {kb_layout_restore_key("r", KB_RESTORE_START, 1), "restores/r/start-0001.json"},
        {kb_layout_restore_key("r", KB_RESTORE_ATTEMPT, 12345), "restores/r/attempt-12345.json"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        assert_string_equal(table[i].made, table[i].expected);
        free(table[i].made);
    }
    assert_string_equal(kb_layout_extension("none"), "");
    assert_string_equal(kb_layout_extension("zstd"), ".zst");
    assert_string_equal(kb_layout_extension("lz4"), ".lz4");
    assert_null(kb_layout_extension("gzip"));
}

static void parse_journal_key_takes_only_what_is_built(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        bool good;
        uint32_t seq;
    } table[] = {
        {"B/journal/00000000.json", true, 0},
        {"B/journal/00000012.json", true, 12},
        {"B/journal/99999999.json", true, 99999999},
        {"B/journal/100000000.json", false, 0},
        {"B/journal/0000001.json", false, 0},
        {"B/journal/000000001.json", false, 0},
        {"B/journal/00000001.json.", false, 0},
        {"B/journal/00000001.jso", false, 0},
        {"B/journal/-0000001.json", false, 0},
        {"B/journal/0000000a.json", false, 0},
        {"B/journal/", false, 0},
        {"B2/journal/00000000.json", false, 0},
        {"B/journal/x/00000000.json", false, 0},
        {"", false, 0},
        {"B/journal/00000001.json/x", false, 0},
        {"B/journal/18446744073709551616.json", false, 0},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        uint32_t seq = 77;
        assert_int_equal(kb_layout_parse_journal_key("B", table[i].key, &seq), table[i].good);
        assert_int_equal(seq, table[i].good ? table[i].seq : 77);
    }
}

static void split_topic_key_gives_the_place(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        const char *topic;
        int32_t partition;
        const char *file;
    } table[] = {
        {"B/topics/orders/partition=0/segment-000000.bin.zst", "orders", 0, "segment-000000.bin.zst"},
        {"B/topics/.../partition=2147483647/x", "...", INT32_MAX, "x"},
        {"B/topics/orders/partition=00/x", NULL, 0, NULL},
        {"B/topics/orders/partition=-1/x", NULL, 0, NULL},
        {"B/topics/orders/partition=2147483648/x", NULL, 0, NULL},
        {"B/topics/orders/partition=/x", NULL, 0, NULL},
        {"B/topics/orders/partition=0/", NULL, 0, NULL},
        {"B/topics/orders/partition=0", NULL, 0, NULL},
        {"B/topics/orders/partition=0/x/y", NULL, 0, NULL},
        {"B/topics/orders/x", NULL, 0, NULL},
        {"B/topics/a b/partition=0/x", NULL, 0, NULL},
        {"B/topics/../partition=0/x", NULL, 0, NULL},
        {"B/topics/", NULL, 0, NULL},
        {"B/journal/00000000.json", NULL, 0, NULL},
        {"BB/topics/orders/partition=0/x", NULL, 0, NULL},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        kb_layout_place place;
        bool good = kb_layout_split_topic_key("B", table[i].key, &place);
        assert_int_equal(good, table[i].topic != NULL);
        if (!good)
            continue;
        assert_int_equal(place.topic.len, strlen(table[i].topic));
        assert_memory_equal(place.topic.data, table[i].topic, place.topic.len);
        assert_int_equal(place.partition, table[i].partition);
        assert_string_equal(place.file, table[i].file);
    }
}

static void check_manifest_key_keeps_readers_inside(void **state)
{
    (void)state;
    static const char *const uses[] = {"base-1", "team/base"};
    KB_AUTOFREE char *long_tail = many(1024 - 2);
    KB_AUTOFREE char *longest = kb_asprintf("B/%s", long_tail);
    KB_AUTOFREE char *too_long = kb_asprintf("B/%sx", long_tail);
    const struct {
        const char *key;
        bool good;
    } table[] = {
        {"B/topics/orders/partition=0/segment-000000.bin.zst", true},
        {"base-1/topics/o/partition=0/s", true},
        {"team/base/topics/o/partition=0/s", true},
        {longest, true},
        {"B/x:y", true},
        {too_long, false},
        {"", false},
        {"B", false},
        {"B/", false},
        {"BB/x", false},
        {"base/x", false},
        {"team/x", false},
        {"other/x", false},
        {"../x", false},
        {"B/../x", false},
        {"B/./x", false},
        {"B//x", false},
        {"B/..", false},
        {"/B/x", false},
        {"/etc/passwd", false},
        {"B\\x", false},
        {"B/a\\..\\x", false},
        {"file://B/x", false},
        {"B/http://x/y", false},
        {"B/a\nb", false},
        {"B/a\x7f", false},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        KB_AUTO_ERROR(err);
        kb_view key = kb_view_of(table[i].key, strlen(table[i].key));
        kb_code code = kb_layout_check_manifest_key(key, "B", uses, KB_ARRAY_LEN(uses), &err);
        assert_int_equal(code, table[i].good ? KB_OK : KB_ERR_FORMAT);
    }
    KB_AUTO_ERROR(err);
    assert_int_equal(kb_layout_check_manifest_key(kb_view_of("B/a\0b", 5), "B", NULL, 0, &err),
                     KB_ERR_FORMAT);
    assert_int_equal(kb_layout_check_manifest_key(kb_view_of("B/a", 3), "B", NULL, 0, &err), KB_OK);
}

static void parse_restore_key_takes_only_what_is_built(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        bool good;
        kb_restore_object object;
        uint32_t n;
    } table[] = {
        {"restores/r/start-0001.json", true, KB_RESTORE_START, 1},
        {"restores/r/attempt-0012.json", true, KB_RESTORE_ATTEMPT, 12},
        {"restores/r/attempt-12345.json", true, KB_RESTORE_ATTEMPT, 12345},
        {"restores/r/attempt-012345.json", false, KB_RESTORE_START, 0},
        {"restores/r/start-001.json", false, KB_RESTORE_START, 0},
        {"restores/r/start-0001.json.x", false, KB_RESTORE_START, 0},
        {"restores/r/other-0001.json", false, KB_RESTORE_START, 0},
        {"restores/r2/start-0001.json", false, KB_RESTORE_START, 0},
        {"restores/rstart-0001.json", false, KB_RESTORE_START, 0},
        {"restores/r/start-1000000000.json", false, KB_RESTORE_START, 0},
        {"r/start-0001.json", false, KB_RESTORE_START, 0},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        kb_restore_object object = KB_RESTORE_START;
        uint32_t n = 0;
        assert_int_equal(kb_layout_parse_restore_key("r", table[i].key, &object, &n), table[i].good);
        assert_int_equal(object, table[i].object);
        assert_int_equal(n, table[i].n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_new_id_follows_the_rule_for_writing),
        cmocka_unit_test(check_id_follows_the_rule_for_reading),
        cmocka_unit_test(id_of_folder_skips_what_is_no_backup),
        cmocka_unit_test(is_topic_name_is_the_rule_of_kafka),
        cmocka_unit_test(keys_are_those_of_the_format),
        cmocka_unit_test(parse_journal_key_takes_only_what_is_built),
        cmocka_unit_test(split_topic_key_gives_the_place),
        cmocka_unit_test(check_manifest_key_keeps_readers_inside),
        cmocka_unit_test(parse_restore_key_takes_only_what_is_built),
    };
    return cmocka_run_group_tests_name("layout", tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "worker/catalog/group_snapshot.h"

static void put_keeps_places_in_order_once(void **state)
{
    (void)state;
    KB_CLEANUP(kb_group_set_done) kb_group_set set = {0};
    (void)kb_group_set_add(&set, "b");
    kb_group_entry *entry = kb_group_set_add(&set, "a");
    kb_group_entry_put(entry, "t", 10, 1, "x");
    kb_group_entry_put(entry, "t", 2, 2, NULL);
    kb_group_entry_put(entry, "s", 3, 3, NULL);
    kb_group_entry_put(entry, "t", 10, 4, "y");
    assert_int_equal(set.count, 2);
    assert_string_equal(set.groups[0].group, "a");
    entry = kb_group_set_find(&set, "a");
    assert_int_equal(entry->count, 3);
    assert_string_equal(entry->places[0].topic, "s");
    assert_int_equal(entry->places[1].partition, 2);
    assert_int_equal(entry->places[2].offset, 4);
    assert_string_equal(entry->places[2].metadata, "y");
    assert_int_equal(kb_group_entry_offset(entry, "t", 2), 2);
    assert_int_equal(kb_group_entry_offset(entry, "t", 3), KB_GROUP_NO_OFFSET);
    assert_null(kb_group_set_find(&set, "c"));
}

static void encode_is_the_form_of_the_existing_tool(void **state)
{
    (void)state;
    static const char expected[] =
        "{\n  \"snapshot_time\": 7,\n  \"groups\": [\n    {\n      \"group_id\": \"app\",\n"
        "      \"offsets\": {\n        \"orders\": {\n          \"0\": 10,\n"
        "          \"2\": 7\n        }\n      }\n    }\n  ]\n}";
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_group_set_done) kb_group_set set = {0};
    kb_group_entry *entry = kb_group_set_add(&set, "app");
    kb_group_entry_put(entry, "orders", 2, 7, "kept apart");
    kb_group_entry_put(entry, "orders", 0, 10, NULL);
    kb_group_entry_put(entry, "orders", 1, KB_GROUP_NO_OFFSET, NULL);
    KB_AUTOFREE char *text = NULL;
    size_t len = 0;
    assert_int_equal(kb_group_snapshot_encode(&set, 7, &text, &len, &err), KB_OK);
    assert_string_equal(text, expected);
}

static void decode_reads_what_any_writer_may_write(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t offset; /* of group a, topic t, partition 0; -2: refused */
        size_t skipped;
    } rows[] = {
        {"{\"snapshot_time\":1,\"groups\":[]}", -1, 0},
        {"{\"groups\":[{\"group_id\":\"a\",\"offsets\":{\"t\":{\"0\":5}}}]}", 5, 0},
        {"{\"groups\":[{\"offsets\":{\"t\":{\"0\":5}},\"group_id\":\"a\",\"more\":[1]}],\"x\":{}}", 5, 0},
        {"{\"groups\":[{\"group_id\":\"a\"}]}", -1, 0},
        {"{\"groups\":[{\"group_id\":\"a\",\"offsets\":{\"t\":{\"0\":-1,\"x\":4,\"1\":2}}}]}", -1, 2},
        {"{\"groups\":[{\"offsets\":{}}]}", -2, 0},
        {"{\"groups\":[{\"group_id\":\"a\"},{\"group_id\":\"a\"}]}", -2, 0},
        {"{\"groups\":[{\"group_id\":\"a\",\"offsets\":{\"t\":{\"0\":0.5}}}]}", -2, 0},
        {"{\"groups\":[]} x", -2, 0},
        {"[]", -2, 0},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTO_ERROR(err);
        KB_CLEANUP(kb_group_set_done) kb_group_set set = {0};
        kb_group_snapshot_notes notes = {0};
        kb_view text = kb_view_of(rows[i].text, strlen(rows[i].text));
        kb_code code = kb_group_snapshot_decode(text, &set, &notes, &err);
        if (rows[i].offset == -2) {
            assert_int_equal(code, KB_ERR_FORMAT);
            continue;
        }
        assert_int_equal(code, KB_OK);
        assert_int_equal(kb_group_entry_offset(kb_group_set_find(&set, "a"), "t", 0), rows[i].offset);
        assert_int_equal(notes.skipped, rows[i].skipped);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_keeps_places_in_order_once),
        cmocka_unit_test(encode_is_the_form_of_the_existing_tool),
        cmocka_unit_test(decode_reads_what_any_writer_may_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

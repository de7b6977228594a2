#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "worker/offsets/offset_map.h"
#include "worker/offsets/translate.h"

static void translate_gives_the_first_target_not_below(void **state)
{
    (void)state;
    static const struct {
        int64_t source, target;
        bool is_beyond;
    } rows[] = {
        {0, 100, false},  {5, 100, false},  {6, 101, false},  {9, 104, false},
        {10, 105, false}, {11, 105, false}, {19, 105, false}, {20, 105, false},
        {21, 106, false}, {22, 107, false}, {23, 107, false}, {24, 107, true},
    };
    kb_wanted_offset wanted[KB_ARRAY_LEN(rows)];
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++)
        wanted[KB_ARRAY_LEN(rows) - 1 - i] = (kb_wanted_offset){.source = rows[i].source};
    kb_translator translator;
    kb_translator_init(&translator, wanted, KB_ARRAY_LEN(wanted));
    kb_translator_run(&translator, 5, 100, 5);
    kb_translator_run(&translator, 20, 105, 2);
    kb_translator_end(&translator, 107, 23);
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        const kb_wanted_offset *found = kb_translator_find(&translator, rows[i].source);
        assert_non_null(found);
        assert_int_equal(found->target, rows[i].target);
        assert_int_equal(found->is_beyond, rows[i].is_beyond);
    }
    assert_null(kb_translator_find(&translator, 12));
}

/* A committed 5 between records 0 and 10 goes to the second target, and is not carried over by its distance.
 */
static void translate_in_a_hole_does_not_interpolate(void **state)
{
    (void)state;
    kb_wanted_offset wanted[] = {{.source = 5}};
    kb_translator translator;
    kb_translator_init(&translator, wanted, 1);
    kb_translator_run(&translator, 0, 0, 1);
    kb_translator_run(&translator, 10, 1, 1);
    kb_translator_end(&translator, 2, 11);
    assert_int_equal(wanted[0].target, 1);
}

static void translate_without_records_goes_to_the_end(void **state)
{
    (void)state;
    kb_wanted_offset wanted[] = {{.source = 0}, {.source = 7}};
    kb_translator translator;
    kb_translator_init(&translator, wanted, 2);
    kb_translator_end(&translator, 42, 7);
    assert_int_equal(wanted[0].target, 42);
    assert_int_equal(wanted[1].target, 42);
    assert_false(wanted[1].is_beyond);
    assert_null(kb_translator_find(&(kb_translator){0}, 1));
}

static void offset_map_has_an_element_for_each_run_and_hole(void **state)
{
    (void)state;
    static const kb_offset_map_element expected[] = {{5, 0, 50}, {8, 3, 80}, {9, 3, 80}, {10, 3, 80}};
    KB_CLEANUP(kb_offset_map_done) kb_offset_map map = {0};
    const kb_offset_map_part *part = kb_offset_map_add(&map, "t", 1);
    kb_offset_map_run(&map, 5, 0, 2, 50, 51);
    kb_offset_map_run(&map, 7, 2, 1, 52, 52);
    kb_offset_map_run(&map, 10, 3, 4, 80, 90);
    assert_int_equal(part->count, KB_ARRAY_LEN(expected));
    for (size_t i = 0; i < KB_ARRAY_LEN(expected); i++) {
        assert_int_equal(part->elements[i].source, expected[i].source);
        assert_int_equal(part->elements[i].target, expected[i].target);
        assert_int_equal(part->elements[i].timestamp, expected[i].timestamp);
    }
    assert_int_equal(part->source_last, 13);
    assert_int_equal(part->target_last, 6);
    assert_int_equal(part->last_timestamp, 90);
}

static void offset_map_that_is_too_long_has_no_details(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_offset_map_done) kb_offset_map map = {.details_max = 3};
    (void)kb_offset_map_add(&map, "t", 0);
    kb_offset_map_run(&map, 0, 0, 1, 1, 1);
    kb_offset_map_run(&map, INT64_MAX / 2, 1, 1, 2, 2);
    KB_AUTOFREE char *text = NULL;
    size_t len = 0;
    const kb_offset_map_about about = {.created_at = 3};
    assert_int_equal(kb_offset_map_encode(&map, &about, &text, &len, &err), KB_OK);
    assert_non_null(strstr(text, "\"target_first_offset\": null"));
    assert_non_null(strstr(text, "\"detailed_mappings\": {}"));
    assert_non_null(strstr(text, "\"source_cluster_id\": null"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(translate_gives_the_first_target_not_below),
        cmocka_unit_test(translate_in_a_hole_does_not_interpolate),
        cmocka_unit_test(translate_without_records_goes_to_the_end),
        cmocka_unit_test(offset_map_has_an_element_for_each_run_and_hole),
        cmocka_unit_test(offset_map_that_is_too_long_has_no_details),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "operator/ctrl/cron.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

static int64_t secs(const char *text)
{
    KB_AUTO_ERROR(err);
    int64_t ms = 0;
    assert_int_equal(kb_rfc3339_parse(text, strlen(text), &ms, &err), KB_OK);
    return ms / 1000;
}

static void assert_time(int64_t at, const char *expected)
{
    char text[KB_RFC3339_SIZE];
    kb_rfc3339_format(at * 1000, text);
    assert_memory_equal(text, expected, 19);
}

static kb_tzfile *zone_of(const char *name)
{
    KB_AUTO_ERROR(err);
    kb_tzfile *zone = NULL;
    if (kb_tzfile_load(name, NULL, &zone, &err) != KB_OK)
        skip(); /* no time zone database here */
    return zone;
}

static void kb_cron_next_expression_gives_slot(void **state)
{
    (void)state;
    static const struct {
        const char *text, *after, *next;
    } rows[] = {
        {"0 * * * *", "2024-12-01T11:59:59Z", "2024-12-01T12:00:00Z"},
        {"0 * * * *", "2024-12-01T12:00:00Z", "2024-12-01T13:00:00Z"},
        {"*/15 * * * *", "2024-12-01T12:31:00Z", "2024-12-01T12:45:00Z"},
        {"5/20 * * * *", "2024-12-01T12:06:00Z", "2024-12-01T12:25:00Z"},
        {"0 2 * * MON-fri", "2024-11-29T03:00:00Z", "2024-12-02T02:00:00Z"},
        {"0 0 29 2 *", "2024-03-01T00:00:00Z", "2028-02-29T00:00:00Z"},
        {"0 0 13 * 5", "2024-12-01T00:00:00Z", "2024-12-06T00:00:00Z"},
        {"0 0 * * 7", "2024-12-02T00:00:00Z", "2024-12-08T00:00:00Z"},
        {"0 0 ? jan,Jul ?", "2024-02-01T00:00:00Z", "2024-07-01T00:00:00Z"},
        {"0 0 */2 * *", "2024-12-31T00:00:00Z", "2025-01-01T00:00:00Z"},
        {"30 4 1 * *", "2024-12-31T23:59:00Z", "2025-01-01T04:30:00Z"},
        {"@hourly", "2024-12-01T12:00:00Z", "2024-12-01T13:00:00Z"},
        {"@weekly", "2024-12-03T00:00:00Z", "2024-12-08T00:00:00Z"},
        {"@yearly", "2024-12-03T00:00:00Z", "2025-01-01T00:00:00Z"},
        {"@midnight", "2024-12-03T00:00:00Z", "2024-12-04T00:00:00Z"},
        {"0-10/5,50 6 * * *", "2024-12-03T06:05:00Z", "2024-12-03T06:10:00Z"},
    };
    KB_CLEANUP(kb_tzfile_free_at) kb_tzfile *utc = zone_of(NULL);
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTO_ERROR(err);
        kb_cron cron;
        assert_int_equal(kb_cron_parse(rows[i].text, &cron, &err), KB_OK);
        int64_t slot = kb_cron_next(&cron, utc, secs(rows[i].after));
        assert_time(slot, rows[i].next);
        /* What comes next is also what was previous a moment later. */
        assert_int_equal(kb_cron_previous(&cron, utc, slot + 59), slot);
    }
}

static void kb_cron_parse_wrong_expression_is_refused_with_position(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } rows[] = {
        {"61 * * * *", "minute 61 is not 0 to 59 (character 1)"},
        {"0 24 * * *", "hour 24 is not 0 to 23 (character 3)"},
        {"*/0 * * * *", "minute step must be at least 1 (character 3)"},
        {"0 0 0 * *", "day-of-month 0 is not 1 to 31 (character 5)"},
        {"0 0 * foo *", "month has no value (character 7)"},
        {"0 0 * 13 *", "month 13 is not 1 to 12 (character 7)"},
        {"0 0 * * 8", "day-of-week 8 is not 0 to 7 (character 9)"},
        {"5-1 * * * *", "minute range ends before it begins (character 1)"},
        {"1x * * * *", "minute cannot be read here (character 2)"},
        {"1,, * * * *", "minute has no value (character 3)"},
        {"* * * *", "must have 5 fields, has 4 (character 8)"},
        {"", "must have 5 fields, has 0 (character 1)"},
        {"* * * * * *", "must have 5 fields, has more (character 11)"},
        {"0 0 30 2 *", "no date matches day-of-month and month (character 1)"},
        {"99999999999999999999 * * * *", "minute 99999 is not 0 to 59 (character 1)"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTO_ERROR(err);
        kb_cron cron;
        assert_int_equal(kb_cron_parse(rows[i].text, &cron, &err), KB_CONFIG_INVALID);
        assert_string_equal(kb_error_text(&err), rows[i].error);
    }
    KB_AUTO_ERROR(err);
    kb_cron cron;
    assert_int_equal(kb_cron_parse("@every 5m", &cron, &err), KB_CONFIG_INVALID);
    assert_int_equal(kb_cron_parse("@reboot", &cron, &err), KB_CONFIG_INVALID);
}

static void kb_cron_next_skipped_local_time_has_no_slot(void **state)
{
    (void)state;
    KB_CLEANUP(kb_tzfile_free_at) kb_tzfile *berlin = zone_of("Europe/Berlin");
    KB_AUTO_ERROR(err);
    kb_cron cron;
    assert_int_equal(kb_cron_parse("30 2 * * *", &cron, &err), KB_OK);
    int64_t slot = kb_cron_next(&cron, berlin, secs("2025-03-29T00:00:00Z"));
    assert_time(slot, "2025-03-29T01:30:00Z");
    assert_time(kb_cron_next(&cron, berlin, slot), "2025-03-31T00:30:00Z");
}

static void kb_cron_next_repeated_local_time_has_two_slots(void **state)
{
    (void)state;
    KB_CLEANUP(kb_tzfile_free_at) kb_tzfile *berlin = zone_of("Europe/Berlin");
    KB_AUTO_ERROR(err);
    kb_cron cron;
    assert_int_equal(kb_cron_parse("30 2 * * *", &cron, &err), KB_OK);
    int64_t slot = kb_cron_next(&cron, berlin, secs("2025-10-26T00:00:00Z"));
    assert_time(slot, "2025-10-26T00:30:00Z");
    slot = kb_cron_next(&cron, berlin, slot);
    assert_time(slot, "2025-10-26T01:30:00Z");
    assert_time(kb_cron_next(&cron, berlin, slot), "2025-10-27T01:30:00Z");
}

static void kb_cron_longest_interval_uneven_slots_gives_longest(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t secs;
    } rows[] = {{"0 * * * *", 3600}, {"0 8,20 * * 1-5", 60 * 3600}, {"*/40 * * * *", 2400}};
    KB_CLEANUP(kb_tzfile_free_at) kb_tzfile *utc = zone_of(NULL);
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTO_ERROR(err);
        kb_cron cron;
        assert_int_equal(kb_cron_parse(rows[i].text, &cron, &err), KB_OK);
        assert_int_equal(kb_cron_longest_interval(&cron, utc, secs("2024-12-02T00:00:00Z")), rows[i].secs);
    }
}

static void kb_cron_split_zone_prefix_is_taken(void **state)
{
    (void)state;
    static const struct {
        const char *text, *zone, *rest;
    } rows[] = {{"CRON_TZ=Europe/Berlin 0 1 * * *", "Europe/Berlin", "0 1 * * *"},
                {"TZ=UTC  @daily", "UTC", "@daily"},
                {"0 1 * * *", NULL, "0 1 * * *"}};
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTOFREE char *zone = NULL;
        const char *rest = NULL;
        kb_cron_split_zone(rows[i].text, &zone, &rest);
        assert_string_equal(rest, rows[i].rest);
        assert_true((zone == NULL) == (rows[i].zone == NULL));
        if (zone != NULL)
            assert_string_equal(zone, rows[i].zone);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_cron_next_expression_gives_slot),
        cmocka_unit_test(kb_cron_parse_wrong_expression_is_refused_with_position),
        cmocka_unit_test(kb_cron_next_skipped_local_time_has_no_slot),
        cmocka_unit_test(kb_cron_next_repeated_local_time_has_two_slots),
        cmocka_unit_test(kb_cron_longest_interval_uneven_slots_gives_longest),
        cmocka_unit_test(kb_cron_split_zone_prefix_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

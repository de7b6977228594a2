#include "common/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/base/mem.h"

typedef struct time_case {
    int64_t ms;
    const char *rfc3339;
    const char *stamp;
} time_case;

/* Made with GNU date. */
static const time_case time_cases[] = {
    {0, "1970-01-01T00:00:00.000Z", "19700101-000000"},
    {-1, "1969-12-31T23:59:59.999Z", "19691231-235959"},
    {1735689600000, "2025-01-01T00:00:00.000Z", "20250101-000000"},
    {1709164799999, "2024-02-28T23:59:59.999Z", "20240228-235959"},
    {1709164800000, "2024-02-29T00:00:00.000Z", "20240229-000000"},
    {1709251200007, "2024-03-01T00:00:00.007Z", "20240301-000000"},
    {951782400000, "2000-02-29T00:00:00.000Z", "20000229-000000"},
    {4107542400000, "2100-03-01T00:00:00.000Z", "21000301-000000"},
    {-2203891200000, "1900-03-01T00:00:00.000Z", "19000301-000000"},
    {KB_TIME_MIN_MS, "0000-01-01T00:00:00.000Z", "00000101-000000"},
    {KB_TIME_MAX_MS, "9999-12-31T23:59:59.999Z", "99991231-235959"},
};

static void kb_rfc3339_format_cases_match_and_parse_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(time_cases); i++) {
        KB_AUTO_ERROR(err);
        const time_case *c = &time_cases[i];
        char text[KB_RFC3339_SIZE];
        kb_rfc3339_format(c->ms, text);
        assert_string_equal(text, c->rfc3339);
        int64_t ms = 1;
        assert_int_equal(kb_rfc3339_parse(text, strlen(text), &ms, &err), KB_OK);
        assert_true(ms == c->ms);
    }
}

static void kb_stamp_format_cases_match_and_parse_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(time_cases); i++) {
        KB_AUTO_ERROR(err);
        const time_case *c = &time_cases[i];
        char text[KB_STAMP_SIZE];
        kb_stamp_format(c->ms, text);
        assert_string_equal(text, c->stamp);
        int64_t ms = 1;
        assert_int_equal(kb_stamp_parse(text, strlen(text), &ms, &err), KB_OK);
        int64_t back_ms = c->ms - ms;
        assert_true(back_ms >= 0 && back_ms < 1000);
    }
}

static void kb_rfc3339_format_beyond_years_gives_nearest(void **state)
{
    (void)state;
    char text[KB_RFC3339_SIZE];
    kb_rfc3339_format(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999Z");
    kb_rfc3339_format(INT64_MIN, text);
    assert_string_equal(text, "0000-01-01T00:00:00.000Z");
}

static void kb_rfc3339_parse_every_day_of_400_years_is_a_day_apart(void **state)
{
    (void)state;
    for (int64_t day = 0; day < 146097; day++) {
        KB_AUTO_ERROR(err);
        char text[KB_RFC3339_SIZE];
        int64_t ms = -1;
        kb_rfc3339_format((day - 50000) * 86400000, text);
        assert_int_equal(kb_rfc3339_parse(text, strlen(text), &ms, &err), KB_OK);
        assert_true(ms == (day - 50000) * 86400000);
    }
}

static void kb_rfc3339_parse_forms_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"2025-01-01T00:00:00Z", 1735689600000},           {"2025-01-01t00:00:00z", 1735689600000},
        {"2025-01-01T00:00:00.5Z", 1735689600500},         {"2025-01-01T00:00:00.1239999Z", 1735689600123},
        {"2025-01-01T00:00:00.123456789Z", 1735689600123}, {"2025-01-01T02:30:00+02:30", 1735689600000},
        {"2024-12-31T16:00:00-08:00", 1735689600000},      {"2016-12-31T23:59:60Z", 1483228800000},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        int64_t ms = -1;
        assert_int_equal(kb_rfc3339_parse(cases[i].text, strlen(cases[i].text), &ms, &err), KB_OK);
        assert_true(ms == cases[i].ms);
    }
}

static void kb_rfc3339_parse_other_texts_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "2025",
        "2025-01-01",
        "2025-01-01T00:00:00",
        "2025-01-01 00:00:00Z",
        "2025-1-01T00:00:00Z",
        "2025-13-01T00:00:00Z",
        "2025-00-01T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "2025-04-31T00:00:00Z",
        "2025-01-00T00:00:00Z",
        "2025-01-01T24:00:00Z",
        "2025-01-01T00:60:00Z",
        "2025-01-01T00:00:61Z",
        "2025-01-01T00:00:00.Z",
        "2025-01-01T00:00:00.0123456789Z",
        "2025-01-01T00:00:00+0200",
        "2025-01-01T00:00:00+24:00",
        "2025-01-01T00:00:00ZZ",
        " 2025-01-01T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "+025-01-01T00:00:00Z",
        "2025-01-01T00:00:00+2:00",
        "2025-01-01T00:00:00,5Z",
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        int64_t ms = -7;
        assert_int_equal(kb_rfc3339_parse(cases[i], strlen(cases[i]), &ms, &err), KB_ERR_FORMAT);
        assert_true(ms == -7);
    }
}

static void kb_stamp_parse_other_texts_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "20250101",
        "20250101-00000",
        "20250101-0000000",
        "20250101T000000",
        "20250229-000000",
        "20250101-240000",
        "20250101-000060",
        "2025010a-000000",
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        int64_t ms = -7;
        assert_int_equal(kb_stamp_parse(cases[i], strlen(cases[i]), &ms, &err), KB_ERR_FORMAT);
        assert_true(ms == -7);
    }
}

static void kb_clock_system_now_agrees_with_functions(void **state)
{
    (void)state;
    const kb_clock *clock = kb_clock_system();
    int64_t before_us = kb_clock_boot_us();
    int64_t boot_ms = kb_clock_now_boot_ms(clock);
    assert_true(boot_ms >= before_us / 1000);
    assert_true(kb_clock_boot_ms() >= boot_ms);
    assert_true(kb_clock_now_wall_ms(clock) > 1600000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_rfc3339_format_cases_match_and_parse_back),
        cmocka_unit_test(kb_stamp_format_cases_match_and_parse_back),
        cmocka_unit_test(kb_rfc3339_format_beyond_years_gives_nearest),
        cmocka_unit_test(kb_rfc3339_parse_every_day_of_400_years_is_a_day_apart),
        cmocka_unit_test(kb_rfc3339_parse_forms_are_read),
        cmocka_unit_test(kb_rfc3339_parse_other_texts_are_refused),
        cmocka_unit_test(kb_stamp_parse_other_texts_are_refused),
        cmocka_unit_test(kb_clock_system_now_agrees_with_functions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

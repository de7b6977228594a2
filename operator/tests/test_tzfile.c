#include "operator/ctrl/tzfile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"

/* An empty version 2 file of one type (offset 0) with this POSIX rule. */
static size_t make_file(const char *rule, uint8_t *to)
{
    uint8_t *at = to;
    for (int block = 0; block < 2; block++) {
        memset(at, 0, 44);
        memcpy(at, "TZif2", 5);
        at[39] = 1; /* types */
        at[43] = 4; /* characters */
        at += 44;
        memcpy(at, "\0\0\0\0\0\0UTC\0", 10);
        at += 10;
    }
    *at++ = '\n';
    memcpy(at, rule, strlen(rule));
    at += strlen(rule);
    *at++ = '\n';
    return (size_t)(at - to);
}

static void kb_tzfile_parse_posix_rule_gives_offsets(void **state)
{
    (void)state;
    static const struct {
        const char *rule;
        int64_t at;
        int32_t offset;
        int64_t next_change;
    } rows[] = {
        {"CET-1CEST,M3.5.0,M10.5.0/3", 1735689600, 3600, 1743296400}, /* 2025-01-01 */
        {"CET-1CEST,M3.5.0,M10.5.0/3", 1743296400, 7200, 1761440400}, /* 2025-03-30T01:00 */
        {"CET-1CEST,M3.5.0,M10.5.0/3", 1761440400, 3600, 1774746000}, /* 2025-10-26T01:00 */
        {"EST5EDT,M3.2.0,M11.1.0", 1741503599, -18000, 1741503600},   /* 2025-03-09T07:00 */
        {"<+0330>-3:30", 1735689600, 12600, INT64_MAX},
        {"<-02>2<-01>,M3.5.0/-1,M10.5.0/0", 1743296400, -3600, 1761440400},
        {"AEST-10AEDT,M10.1.0,M4.1.0/3", 1735689600, 39600, 1743868800}, /* south: summer in January */
        {"XXX-1YYY,J60/0,J300", 1709161199, 3600, 1709247600},           /* 2024-02-28T22:59:59 */
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTO_ERROR(err);
        KB_CLEANUP(kb_tzfile_free_at) kb_tzfile *zone = NULL;
        uint8_t data[256];
        size_t len = make_file(rows[i].rule, data);
        assert_int_equal(kb_tzfile_parse(data, len, &zone, &err), KB_OK);
        assert_int_equal(kb_tzfile_offset(zone, rows[i].at), rows[i].offset);
        assert_int_equal(kb_tzfile_next_change(zone, rows[i].at), rows[i].next_change);
    }
}

static void kb_tzfile_parse_damaged_file_is_refused(void **state)
{
    (void)state;
    uint8_t data[256];
    size_t len = make_file("CET-1CEST,M3.5.0,M10.5.0/3", data);
    for (size_t cut = 0; cut < len; cut++) {
        KB_AUTO_ERROR(err);
        kb_tzfile *zone = NULL;
        assert_int_equal(kb_tzfile_parse(data, cut, &zone, &err), KB_ERR_FORMAT);
        assert_null(zone);
    }
    static const char *const rules[] = {"C",      "CET", "CET-1CEST", "CET-1CEST,M13.1.0,M1.1.0",
                                        "CET-1x", "<+01"};
    for (size_t i = 0; i < KB_ARRAY_LEN(rules); i++) {
        KB_AUTO_ERROR(err);
        kb_tzfile *zone = NULL;
        len = make_file(rules[i], data);
        assert_int_equal(kb_tzfile_parse(data, len, &zone, &err), KB_ERR_FORMAT);
    }
}

static void kb_tzfile_load_no_zone_name_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"../../etc/passwd", "/etc/passwd", "Local",
                                        "No/Such",          "a b",         "Europe"};
    for (size_t i = 0; i < KB_ARRAY_LEN(names); i++) {
        KB_AUTO_ERROR(err);
        kb_tzfile *zone = NULL;
        assert_int_equal(kb_tzfile_load(names[i], NULL, &zone, &err), KB_ERR_NOT_FOUND);
    }
}

static void kb_tzfile_load_utc_needs_no_file(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_tzfile_free_at) kb_tzfile *zone = NULL;
    assert_int_equal(kb_tzfile_load("Etc/UTC", "/nonexistent", &zone, &err), KB_OK);
    assert_int_equal(kb_tzfile_offset(zone, 1735689600), 0);
    assert_int_equal(kb_tzfile_next_change(zone, 1735689600), INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_tzfile_parse_posix_rule_gives_offsets),
        cmocka_unit_test(kb_tzfile_parse_damaged_file_is_refused),
        cmocka_unit_test(kb_tzfile_load_no_zone_name_is_refused),
        cmocka_unit_test(kb_tzfile_load_utc_needs_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

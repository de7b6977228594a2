#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "worker/backup/memory_plan.h"

#define KB_MIB (1024ULL * 1024)

static void make_table_agrees(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        kb_memory_request request;
        kb_code code;
        size_t partitions, encoders;
    } rows[] = {
        {"defaults, filesystem", {512 * KB_MIB, 0, 2, 4, 8, false}, KB_OK, 8, 2},
        {"defaults, parts of 8 MiB", {512 * KB_MIB, 8 * KB_MIB, 2, 4, 8, false}, KB_OK, 8, 2},
        {"defaults, whole segments of 32 MiB", {512 * KB_MIB, 32 * KB_MIB, 2, 4, 8, true}, KB_OK, 6, 2},
        {"whole segments in 128 MiB", {128 * KB_MIB, 32 * KB_MIB, 2, 4, 8, true}, KB_OK, 5, 1},
        {"128 MiB, filesystem", {128 * KB_MIB, 0, 2, 4, 8, false}, KB_OK, 8, 2},
        {"64 MiB falls back to one encoder", {64 * KB_MIB, 0, 2, 4, 8, false}, KB_OK, 1, 1},
        {"60 MiB, one of each", {60 * KB_MIB, 0, 2, 4, 8, false}, KB_OK, 1, 1},
        {"too small", {40 * KB_MIB, 0, 2, 4, 8, false}, KB_MEMORY_TOO_SMALL, 0, 0},
        {"nothing", {0, 0, 1, 1, 8, false}, KB_MEMORY_TOO_SMALL, 0, 0},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTO_ERROR(err);
        kb_memory_plan plan = {0};
        kb_code code = kb_memory_plan_make(&rows[i].request, &plan, &err);
        if (code != rows[i].code ||
            (code == KB_OK && (plan.partitions != rows[i].partitions || plan.encoders != rows[i].encoders)))
            fail_msg("%s: code %d partitions %zu encoders %zu: %s", rows[i].what, (int)code, plan.partitions,
                     plan.encoders, kb_error_text(&err));
    }
}

static void make_at_the_limit_it_names_succeeds(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_memory_plan plan;
    kb_memory_request request = {1, 0, 4, 4, 8, false};
    assert_int_equal(kb_memory_plan_make(&request, &plan, &err), KB_MEMORY_TOO_SMALL);
    request.limit_bytes = 60293125; /* the number of the message: (8 + 6 + 32) MiB / 0.8, rounded up */
    assert_non_null(strstr(kb_error_text(&err), "60293125"));
    kb_error_done(&err);
    assert_int_equal(kb_memory_plan_make(&request, &plan, &err), KB_OK);
    assert_int_equal(plan.partitions, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(make_table_agrees),
        cmocka_unit_test(make_at_the_limit_it_names_succeeds),
    };
    return cmocka_run_group_tests_name("memory_plan", tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "worker/backup/identity.h"

#define KB_NOW 1735732800000LL /* 2025-01-01T12:00:00Z */

static kb_code used_until(void *ctx, const char *id, bool *ret_used, kb_error *err)
{
    (void)err;
    *ret_used = strcmp(id, ctx) < 0;
    return KB_OK;
}

static kb_code find_own(void *ctx, char **ret_id, kb_error *err)
{
    (void)ctx, (void)err;
    *ret_id = kb_strdup("o-20241231-235959");
    return KB_OK;
}

static void make_sources_of_the_stamp_in_order(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        kb_identity_options options;
        const char *expected; /* NULL: refused */
    } rows[] = {
        {"literal", {.backup_id = "orders", .now_ms = KB_NOW}, "orders"},
        {"environment",
         {.backup_id = "o-{stamp}", .stamp = "20250203-040506", .now_ms = KB_NOW},
         "o-20250203-040506"},
        {"bad environment", {.backup_id = "o-{stamp}", .stamp = "2025", .now_ms = KB_NOW}, NULL},
        {"slot in minutes",
         {.backup_id = "o-{stamp}", .job_name = "cj-28928880", .cron_job = "cj", .now_ms = KB_NOW},
         "o-20250101-120000"},
        {"slot in seconds",
         {.backup_id = "o-{stamp}", .job_name = "cj-1735732860", .cron_job = "cj", .now_ms = KB_NOW},
         "o-20250101-120100"},
        {"slot too far away",
         {.backup_id = "o-{stamp}", .job_name = "cj-27928880", .cron_job = "cj", .now_ms = KB_NOW + 5000},
         "o-20250101-120005"},
        {"start second never 00", {.backup_id = "o-{stamp}", .now_ms = KB_NOW}, "o-20250101-120001"},
        {"first that is not in use",
         {.backup_id = "o-{stamp}",
          .now_ms = KB_NOW + 57000,
          .is_used = used_until,
          .ctx = (void *)(uintptr_t)"o-20250101-120100"},
         "o-20250101-120101"},
        {"begun by this job",
         {.backup_id = "o-{stamp}", .now_ms = KB_NOW, .find_own = find_own},
         "o-20241231-235959"},
        {"slot before begun by this job",
         {.backup_id = "o-{stamp}",
          .job_name = "cj-28928880",
          .cron_job = "cj",
          .now_ms = KB_NOW,
          .find_own = find_own},
         "o-20250101-120000"},
        {"illegal id", {.backup_id = "../x", .now_ms = KB_NOW}, NULL},
        {"reserved id", {.backup_id = "restores", .now_ms = KB_NOW}, NULL},
        {"manifest in disguise", {.backup_id = "x.json", .now_ms = KB_NOW}, NULL},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTOFREE char *id = NULL;
        KB_AUTO_ERROR(err);
        kb_code code = kb_identity_make(&rows[i].options, &id, &err);
        if (rows[i].expected == NULL) {
            if (code != KB_CONFIG_INVALID)
                fail_msg("%s: expected a refusal, got %s", rows[i].what, id);
        } else if (code != KB_OK || strcmp(id, rows[i].expected) != 0) {
            fail_msg("%s: expected %s, got %s %s", rows[i].what, rows[i].expected, id, kb_error_text(&err));
        }
    }
}

static void start_delay_is_a_fixed_share_of_what_is_left(void **state)
{
    (void)state;
    int64_t share = kb_identity_start_delay_ms("ns/a", "a", KB_NOW, 60000, KB_NOW);
    assert_in_range(share, 0, 60000);
    assert_int_equal(kb_identity_start_delay_ms("ns/a", "a", KB_NOW, 60000, KB_NOW), share);
    assert_int_not_equal(kb_identity_start_delay_ms("ns/b", "b", KB_NOW, 60000, KB_NOW), share);
    assert_int_equal(kb_identity_start_delay_ms("ns/a", "a", KB_NOW, 60000, KB_NOW + share), 0);
    assert_int_equal(kb_identity_start_delay_ms("ns/a", "a", KB_NOW, 60000, KB_NOW + share - 1), 1);
    assert_int_equal(kb_identity_start_delay_ms("ns/a", "a", KB_NOW, 60000, KB_NOW + 3600000), 0);
    assert_int_equal(kb_identity_start_delay_ms("ns/a", "a", KB_NOW, 60000, KB_NOW - 3600000), 0);
    assert_int_equal(kb_identity_start_delay_ms("ns/a", "a", KB_NOW, 0, KB_NOW), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(make_sources_of_the_stamp_in_order),
                                       cmocka_unit_test(start_delay_is_a_fixed_share_of_what_is_left)};
    return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}

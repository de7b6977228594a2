#include "worker/catalog/retention.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

#define DAY INT64_C(86400000)
#define NOW INT64_C(1735689600000)
#define YEARS_AHEAD (NOW + 3650 * DAY)

typedef struct decide_case {
    const char *what;
    kb_retention_policy policy;
    int64_t now_ms;
    kb_retention_backup backups[5];
    size_t count;
    const char *expected; /* a letter each: N newest, B base, K kept, S surplus, E expired */
} decide_case;

#define COUNT(n) {.has_backups = true, .backups = (n)}
#define AGE(n) {.has_max_age_days = true, .max_age_days = (n)}
/* Completed as long ago as the id says. */
#define AGED(days) {NOW - (days) * DAY, NOW - (days) * DAY, false}
#define BASE(days) {NOW - (days) * DAY, NOW - (days) * DAY, true}

static const decide_case CASES[] = {
    {"no rule keeps all", {0}, NOW, {AGED(0), AGED(9000)}, 2, "NK"},
    {"nothing there", COUNT(1), NOW, {{0}}, 0, ""},
    {"one good one left", COUNT(1), NOW, {AGED(400)}, 1, "N"},
    {"one good one left, far too old", AGE(1), NOW, {AGED(4000)}, 1, "N"},
    {"by number", COUNT(2), NOW, {AGED(1), AGED(2), AGED(3), AGED(4)}, 4, "NKSS"},
    {"in any order", COUNT(2), NOW, {AGED(3), AGED(1), AGED(4), AGED(2)}, 4, "SNSK"},
    {"more than there are", COUNT(9), NOW, {AGED(1), AGED(2)}, 2, "NK"},
    {"by age, the whole day counts", AGE(2), NOW, {AGED(0), AGED(1), AGED(2), AGED(3)}, 4, "NKEE"},
    {"all expired but the newest", AGE(1), NOW, {AGED(10), AGED(11), AGED(12)}, 3, "NEE"},
    {"either rule is enough",
     {.has_backups = true, .backups = 3, .has_max_age_days = true, .max_age_days = 2},
     NOW,
     {AGED(0), AGED(1), AGED(5), AGED(6)},
     4,
     "NKES"},
    {"a base of an open backup stays", COUNT(1), NOW, {AGED(1), BASE(2), AGED(3)}, 3, "NBS"},
    {"an expired base stays", AGE(1), NOW, {AGED(0), BASE(20)}, 2, "NB"},
    {"a rule of 0 is no rule", COUNT(0), NOW, {AGED(1), AGED(2)}, 2, "NK"},
    {"a negative rule is no rule", COUNT(-1), NOW, {AGED(1), AGED(2)}, 2, "NK"},
    {"a negative age is no rule", AGE(-3), NOW, {AGED(1), AGED(2)}, 2, "NK"},
    {"the store's clock ten years ahead keeps the newest", AGE(30), YEARS_AHEAD, {AGED(0), AGED(1)}, 2, "NE"},
    {"a run with a clock ten years ahead expires nothing",
     AGE(30),
     NOW,
     {{YEARS_AHEAD, NOW - 2 * DAY, false}, {NOW - DAY, NOW - DAY, false}},
     2,
     "NN"},
    {"what is newest in the store stays beside an id from the future",
     COUNT(1),
     NOW,
     {{YEARS_AHEAD, NOW - 3 * DAY, false}, {NOW - 2 * DAY, NOW - 2 * DAY, false}, AGED(1)},
     3,
     "NSN"},
    {"a run whose clock stood at 1970 is the newest in the store",
     COUNT(1),
     NOW,
     {{1000, NOW, false}, AGED(1), AGED(2)},
     3,
     "NNS"},
    {"a store time to come is no age",
     AGE(1),
     NOW,
     {AGED(0), {NOW - 5 * DAY, NOW + 5 * DAY, false}},
     2,
     "NN"},
    {"times at the ends of the range", AGE(1), INT64_MAX, {{5, 5, false}, {1, INT64_MIN, false}}, 2, "NE"},
};

static char letter_of(kb_retention_verdict verdict)
{
    switch (verdict) {
    case KB_RETENTION_NEWEST:
        return 'N';
    case KB_RETENTION_BASE:
        return 'B';
    case KB_RETENTION_KEPT:
        return 'K';
    case KB_RETENTION_SURPLUS:
        return 'S';
    case KB_RETENTION_EXPIRED:
        return 'E';
    }
    return '?';
}

static void kb_retention_decide_lets_go_by_the_rules_and_never_the_newest(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        kb_retention_verdict verdicts[KB_ARRAY_LEN(CASES[i].backups)];
        char got[KB_ARRAY_LEN(CASES[i].backups) + 1] = "";
        kb_retention_decide(&CASES[i].policy, CASES[i].now_ms, CASES[i].backups, CASES[i].count, verdicts);
        for (size_t k = 0; k < CASES[i].count; k++)
            got[k] = letter_of(verdicts[k]);
        if (strcmp(got, CASES[i].expected) != 0)
            fail_msg("%s: %s instead of %s", CASES[i].what, got, CASES[i].expected);
    }
}

/* Whatever the numbers are, one stays, and it is the newest by id or by the store. */
static void kb_retention_decide_of_any_numbers_keeps_one(void **state)
{
    (void)state;
    unsigned seed = 20250101;
    for (int round = 0; round < 3000; round++) {
        kb_retention_backup backups[6];
        kb_retention_verdict verdicts[6];
        size_t count = 1 + (size_t)rand_r(&seed) % 6;
        const kb_retention_policy policy = {
            .has_backups = rand_r(&seed) % 2 == 0,
            .backups = rand_r(&seed) % 4 - 1,
            .has_max_age_days = rand_r(&seed) % 2 == 0,
            .max_age_days = rand_r(&seed) % 4 - 1,
        };
        for (size_t i = 0; i < count; i++)
            backups[i] = (kb_retention_backup){NOW - (rand_r(&seed) % 9 - 4) * DAY,
                                               NOW - (rand_r(&seed) % 9 - 4) * DAY, rand_r(&seed) % 5 == 0};
        kb_retention_decide(&policy, NOW + (rand_r(&seed) % 3 - 1) * 3650 * DAY, backups, count, verdicts);
        size_t newest = 0;
        for (size_t i = 1; i < count; i++)
            newest = backups[i].stamp_ms > backups[newest].stamp_ms ? i : newest;
        assert_false(kb_retention_is_victim(verdicts[newest]));
        for (size_t i = 0; i < count; i++)
            assert_false(backups[i].is_base && kb_retention_is_victim(verdicts[i]));
    }
}

static void kb_retention_check_rule_below_one_is_refused(void **state)
{
    (void)state;
    static const struct {
        kb_retention_policy policy;
        kb_code code;
    } rows[] = {
        {{0}, KB_OK},
        {COUNT(1), KB_OK},
        {AGE(1), KB_OK},
        {COUNT(0), KB_CONFIG_INVALID},
        {COUNT(-1), KB_CONFIG_INVALID},
        {AGE(0), KB_CONFIG_INVALID},
        {AGE(INT64_MIN), KB_CONFIG_INVALID},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTO_ERROR(err);
        assert_int_equal(kb_retention_check(&rows[i].policy, &err), rows[i].code);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_retention_decide_lets_go_by_the_rules_and_never_the_newest),
        cmocka_unit_test(kb_retention_decide_of_any_numbers_keeps_one),
        cmocka_unit_test(kb_retention_check_rule_below_one_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "worker/backup/partition_task.h"

static void catch_up_decide_table_agrees(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        int rounds;
        int64_t span, found, cut, stable;
        kb_catch_up expected;
    } rows[] = {
        {"nothing came", 0, 0, 0, 100, 100, KB_CATCH_UP_DONE},
        {"something came", 0, 0, 0, 100, 110, KB_CATCH_UP_RAISE},
        {"all of the last round was found", 1, 10, 10, 110, 150, KB_CATCH_UP_DONE},
        {"a hole in the last round", 1, 10, 9, 110, 150, KB_CATCH_UP_RAISE},
        {"a hole, but the log has ended", 1, 10, 9, 110, 110, KB_CATCH_UP_DONE},
        {"last round", 9, 10, 9, 110, 150, KB_CATCH_UP_RAISE},
        {"too many rounds", 10, 10, 9, 110, 150, KB_CATCH_UP_GIVE_UP},
        {"too many rounds, but found", 10, 10, 10, 110, 150, KB_CATCH_UP_DONE},
        {"the log was truncated meanwhile", 1, 10, 3, 110, 90, KB_CATCH_UP_DONE},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++)
        if (kb_catch_up_decide(rows[i].rounds, rows[i].span, rows[i].found, rows[i].cut, rows[i].stable) !=
            rows[i].expected)
            fail_msg("%s", rows[i].what);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(catch_up_decide_table_agrees)};
    return cmocka_run_group_tests_name("partition_task", tests, NULL, NULL);
}

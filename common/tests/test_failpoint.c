#include "common/base/failpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "common/base/mem.h"

#ifdef KB_FAILPOINTS

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/log.h"

static int set_up(void **state)
{
    (void)state;
    kb_log_set_fd(-1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_log_set_fd(STDERR_FILENO);
    return (int)kb_failpoint_configure("", &err);
}

static void configure(const char *spec)
{
    KB_AUTO_ERROR(err);
    assert_int_equal(kb_failpoint_configure(spec, &err), KB_OK);
}

static void kb_failpoint_not_named_is_ok(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    configure("segment.open:error");
    assert_int_equal(KB_FAILPOINT("segment.openx", &err), KB_OK);
    assert_int_equal(KB_FAILPOINT("segment.ope", &err), KB_OK);
    assert_false(KB_FAILPOINT_SHORT("segment.open"));
}

static void kb_failpoint_error_fires_once_at_nth_hit(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    configure("a.b:error:3,c.d:error");
    assert_int_equal(KB_FAILPOINT("a.b", &err), KB_OK);
    assert_int_equal(KB_FAILPOINT("a.b", &err), KB_OK);
    assert_int_equal(KB_FAILPOINT("a.b", &err), KB_TEMPORARY_FAILURE);
    assert_true(err.retryable);
    assert_int_equal(KB_FAILPOINT("a.b", &err), KB_OK);
    assert_int_equal(KB_FAILPOINT("c.d", &err), KB_TEMPORARY_FAILURE);
    assert_int_equal(KB_FAILPOINT("c.d", &err), KB_OK);
}

static void kb_failpoint_short_fires_only_for_transfers(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    configure("fetch.reply:short:2");
    assert_false(KB_FAILPOINT_SHORT("fetch.reply"));
    assert_int_equal(KB_FAILPOINT("fetch.reply", &err), KB_OK);
    assert_true(KB_FAILPOINT_SHORT("fetch.reply"));
    assert_false(KB_FAILPOINT_SHORT("fetch.reply"));
}

static void kb_failpoint_sleep_goes_on_afterwards(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    configure("a:sleep=0");
    assert_int_equal(KB_FAILPOINT("a", &err), KB_OK);
}

static int wait_status_of(const char *spec)
{
    pid_t child = fork();
    if (child == 0) {
        KB_AUTO_ERROR(err);
        (void)setenv("KB_FAILPOINT", spec, 1);
        bool is_passed = kb_failpoint_configure(NULL, &err) == KB_OK && KB_FAILPOINT("here", &err) == KB_OK;
        _exit(is_passed ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void kb_failpoint_kill_and_exit_end_the_process(void **state)
{
    (void)state;
    int killed = wait_status_of("here:kill");
    assert_true(WIFSIGNALED(killed) && WTERMSIG(killed) == SIGKILL);
    int exited = wait_status_of("here:exit:1");
    assert_true(WIFEXITED(exited) && WEXITSTATUS(exited) == 99);
    assert_int_equal(wait_status_of("here:kill:2"), 0);
    assert_int_equal(wait_status_of("there:kill"), 0);
}

static void kb_failpoint_configure_other_texts_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"a",        "a:",       ":kill",     "a:boom",    "a:kill:0",
                                        "a:kill:x", "a:kill:",  "a:sleep=",  "a:sleep=x", "a:sleep=-1",
                                        "a:kill,b", "a:kill,,", "a:kill:1:2"};
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        assert_int_equal(kb_failpoint_configure(cases[i], &err), KB_USAGE_ERROR);
        assert_int_equal(KB_FAILPOINT("a", &err), KB_OK);
    }
}

#define FAILPOINT_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAILPOINT_TEST(kb_failpoint_not_named_is_ok),
        FAILPOINT_TEST(kb_failpoint_error_fires_once_at_nth_hit),
        FAILPOINT_TEST(kb_failpoint_short_fires_only_for_transfers),
        FAILPOINT_TEST(kb_failpoint_sleep_goes_on_afterwards),
        FAILPOINT_TEST(kb_failpoint_kill_and_exit_end_the_process),
        FAILPOINT_TEST(kb_failpoint_configure_other_texts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void kb_failpoint_release_build_is_constant(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    (void)setenv("KB_FAILPOINT", "a:kill", 1);
    assert_int_equal(KB_FAILPOINT("a", &err), KB_OK);
    assert_false(KB_FAILPOINT_SHORT("a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(kb_failpoint_release_build_is_constant)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif

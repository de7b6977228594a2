#include "operator/ctrl/timers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "operator/ctrl/watchdog.h"
#include "operator/tests/fake_clock.h"

typedef struct fixture {
    kb_fake_clock clock;
    kb_strbuf fired;
    kb_timers *timers;
} fixture;

static void note(void *ctx, const char *key)
{
    fixture *f = ctx;
    kb_strbuf_appendf(&f->fired, "%s ", key);
}

static int setup(void **state)
{
    static fixture f;
    kb_fake_clock_init(&f.clock);
    kb_strbuf_init(&f.fired, 65536);
    const kb_timers_options options = {.fire = note, .ctx = &f, .clock = &f.clock.clock};
    f.timers = kb_timers_new(&options);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    kb_timers_free(f->timers);
    kb_strbuf_done(&f->fired);
    return 0;
}

static void kb_timers_run_due_fires_in_order_of_time(void **state)
{
    fixture *f = *state;
    kb_timers_set(f->timers, "c", 300);
    kb_timers_set(f->timers, "a", 100);
    kb_timers_set(f->timers, "b", 200);
    kb_timers_set(f->timers, "now", -5);
    assert_int_equal(kb_timers_run_due(f->timers), 100);
    kb_fake_clock_move(&f->clock, 250);
    assert_int_equal(kb_timers_run_due(f->timers), 50);
    kb_fake_clock_move(&f->clock, 1000);
    assert_int_equal(kb_timers_run_due(f->timers), -1);
    assert_string_equal(kb_strbuf_view(&f->fired), "now a b c ");
}

static void kb_timers_set_again_keeps_the_earlier(void **state)
{
    fixture *f = *state;
    kb_timers_set(f->timers, "a", 100);
    kb_timers_set(f->timers, "a", 5000);
    assert_int_equal(kb_timers_run_due(f->timers), 100);
    kb_timers_set(f->timers, "a", 10);
    assert_int_equal(kb_timers_run_due(f->timers), 10);
    assert_int_equal(kb_timers_count(f->timers), 1);
}

static void kb_timers_cancel_takes_it_out(void **state)
{
    fixture *f = *state;
    char key[2] = {0};
    for (int i = 0; i < 26; i++) {
        key[0] = (char)('a' + (i * 7) % 26);
        kb_timers_set(f->timers, key, (int64_t)(key[0] - 'a'));
    }
    kb_timers_cancel(f->timers, "a");
    kb_timers_cancel(f->timers, "m");
    kb_timers_cancel(f->timers, "z");
    kb_timers_cancel(f->timers, "absent");
    kb_fake_clock_move(&f->clock, 100);
    assert_int_equal(kb_timers_run_due(f->timers), -1);
    assert_string_equal(kb_strbuf_view(&f->fired), "b c d e f g h i j k l n o p q r s t u v w x y ");
}

static void count(void *ctx, const char *key)
{
    (void)key;
    atomic_fetch_add((atomic_int *)ctx, 1);
}

static void kb_timers_start_fires_without_being_asked(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    atomic_int fired = 0;
    const kb_timers_options options = {.fire = count, .ctx = &fired};
    kb_timers *timers = kb_timers_new(&options);
    assert_int_equal(kb_timers_start(timers, &err), KB_OK);
    kb_timers_set(timers, "late", 60000);
    kb_timers_set(timers, "soon", 5);
    kb_timers_set(timers, "now", 0);
    for (int i = 0; i < 1000 && atomic_load(&fired) < 2; i++)
        (void)nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    assert_int_equal(atomic_load(&fired), 2);
    kb_timers_free(timers);
}

static void kb_watchdog_silent_thread_is_named(void **state)
{
    fixture *f = *state;
    kb_watchdog *watchdog = kb_watchdog_new(&f->clock.clock);
    kb_beat *one = kb_watchdog_add(watchdog, "one");
    kb_beat *two = kb_watchdog_add(watchdog, "two");
    KB_AUTO_STRBUF(why, 1024);
    kb_fake_clock_move(&f->clock, KB_WATCHDOG_SILENCE_MS - 1);
    assert_true(kb_watchdog_is_well(watchdog, &why));
    kb_watchdog_beat_ctx(one);
    kb_fake_clock_move(&f->clock, 1);
    assert_false(kb_watchdog_is_well(watchdog, &why));
    assert_string_equal(kb_strbuf_view(&why), "thread two has not moved for 60 s\n");
    kb_watchdog_rest(two);
    assert_true(kb_watchdog_is_well(watchdog, &why));
    kb_watchdog_free(watchdog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(kb_timers_run_due_fires_in_order_of_time, setup, teardown),
        cmocka_unit_test_setup_teardown(kb_timers_set_again_keeps_the_earlier, setup, teardown),
        cmocka_unit_test_setup_teardown(kb_timers_cancel_takes_it_out, setup, teardown),
        cmocka_unit_test(kb_timers_start_fires_without_being_asked),
        cmocka_unit_test_setup_teardown(kb_watchdog_silent_thread_is_named, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

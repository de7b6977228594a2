#include "operator/ctrl/controller.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "common/base/log.h"
#include "common/base/mem.h"

typedef struct fixture {
    kb_controller *controller;
    kb_metrics *registry;
    kb_kube_metrics *metrics;
    kb_watchdog *watchdog;
    atomic_int passes;
    atomic_int successes;     /* counted when all else of the pass is done */
    atomic_int failures_left; /* so many passes fail */
    atomic_int fault;
    atomic_int requeue_ms; /* of a success */
    atomic_bool is_gone;
    atomic_int sleep_ms;
    atomic_int at_once, at_once_max;
} fixture;

static void pause_ms(int ms)
{
    (void)nanosleep(&(struct timespec){ms / 1000, (ms % 1000) * 1000000L}, NULL);
}

static kb_code reconcile(void *ctx, const char *name_space, const char *name, kb_reconcile_result *result,
                         kb_error *err)
{
    fixture *f = ctx;
    assert_string_equal(name_space, "ns");
    assert_true(strlen(name) > 0);
    const int at_once = atomic_fetch_add(&f->at_once, 1) + 1;
    if (at_once > atomic_load(&f->at_once_max))
        atomic_store(&f->at_once_max, at_once);
    atomic_fetch_add(&f->passes, 1);
    pause_ms(atomic_load(&f->sleep_ms));
    atomic_fetch_sub(&f->at_once, 1);
    if (atomic_fetch_sub(&f->failures_left, 1) > 0) {
        result->fault = (kb_kube_class)atomic_load(&f->fault);
        return kb_fail(err, KB_TEMPORARY_FAILURE, "it does not work");
    }
    atomic_store(&f->failures_left, 0);
    result->requeue_ms = atomic_load(&f->requeue_ms);
    result->is_gone = atomic_load(&f->is_gone);
    atomic_fetch_add(&f->successes, 1);
    return KB_OK;
}

static void wait_passes(fixture *f, int count)
{
    for (int i = 0; i < 2000 && atomic_load(&f->passes) < count; i++)
        pause_ms(5);
    assert_true(atomic_load(&f->passes) >= count);
}

static int setup(void **state)
{
    static fixture f;
    memset(&f, 0, sizeof f);
    atomic_store(&f.requeue_ms, -1);
    f.registry = kb_metrics_new();
    f.metrics = kb_kube_metrics_new(f.registry, "1.0");
    f.watchdog = kb_watchdog_new(NULL);
    *state = &f;
    return 0;
}

static void start(fixture *f, size_t threads, int64_t resync_ms)
{
    KB_AUTO_ERROR(err);
    const kb_controller_options options = {
        .threads = threads, .resync_ms = resync_ms, .watchdog = f->watchdog, .metrics = f->metrics};
    f->controller = kb_controller_new(&options);
    kb_controller_add_kind(f->controller, "Thing", reconcile, f);
    assert_int_equal(kb_controller_start(f->controller, &err), KB_OK);
}

static int teardown(void **state)
{
    fixture *f = *state;
    if (f->controller != NULL) {
        assert_true(kb_controller_stop(f->controller, 10000));
        kb_controller_free(f->controller);
    }
    kb_kube_metrics_free(f->metrics);
    kb_metrics_free(f->registry);
    kb_watchdog_free(f->watchdog);
    return 0;
}

static void kb_controller_retry_base_ms_follows_the_table(void **state)
{
    (void)state;
    static const struct {
        kb_kube_class fault;
        unsigned failures;
        int64_t expected_ms;
    } CASES[] = {
        {KB_KUBE_CONFLICT, 0, 0},  {KB_KUBE_CONFLICT, 2, 0},    {KB_KUBE_CONFLICT, 3, 5},
        {KB_KUBE_DENIED, 0, 5000}, {KB_KUBE_INVALID, 0, 60000}, {KB_KUBE_SERVER, 0, 5},
        {KB_KUBE_THROTTLED, 0, 5}, {KB_KUBE_FINE, 0, 5},        {KB_KUBE_GONE, 0, 0},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++)
        assert_int_equal(kb_controller_retry_base_ms(CASES[i].fault, CASES[i].failures),
                         CASES[i].expected_ms);
}

static void kb_controller_failed_passes_are_repeated(void **state)
{
    static const kb_kube_class FAULTS[] = {KB_KUBE_CONFLICT, KB_KUBE_SERVER, KB_KUBE_FINE};
    fixture *f = *state;
    start(f, 2, 0);
    for (size_t i = 0; i < KB_ARRAY_LEN(FAULTS); i++) {
        atomic_store(&f->failures_left, 3);
        atomic_store(&f->fault, (int)FAULTS[i]);
        kb_controller_enqueue(f->controller, "Thing", "ns", "a");
        for (int tries = 0; tries < 2000 && atomic_load(&f->successes) < (int)i + 1; tries++)
            pause_ms(5);
        assert_int_equal(atomic_load(&f->successes), i + 1);
        assert_int_equal(atomic_load(&f->passes), 4 * (i + 1));
    }
}

static void kb_controller_denied_waits_and_tells_when(void **state)
{
    fixture *f = *state;
    start(f, 2, 0);
    atomic_store(&f->failures_left, 1);
    atomic_store(&f->fault, (int)KB_KUBE_DENIED);
    kb_controller_enqueue(f->controller, "Thing", "ns", "a");
    wait_passes(f, 1);
    int64_t retry_ms = 0;
    for (int i = 0; i < 1000 && retry_ms == 0; i++) {
        retry_ms = kb_controller_next_retry_ms(f->controller, "Thing", "ns", "a");
        pause_ms(2);
    }
    assert_in_range(retry_ms, kb_clock_wall_ms() + 1000, kb_clock_wall_ms() + 5000);
    assert_int_equal(atomic_load(&f->passes), 1);
    /* News need not wait for it. */
    kb_controller_enqueue(f->controller, "Thing", "ns", "a");
    wait_passes(f, 2);
    for (int i = 0; i < 1000 && retry_ms != 0; i++) {
        retry_ms = kb_controller_next_retry_ms(f->controller, "Thing", "ns", "a");
        pause_ms(2);
    }
    assert_int_equal(retry_ms, 0);
}

static void kb_controller_requeue_and_resync_bring_a_key_back(void **state)
{
    fixture *f = *state;
    start(f, 1, 50);
    atomic_store(&f->requeue_ms, 1);
    kb_controller_enqueue(f->controller, "Thing", "ns", "a");
    wait_passes(f, 10);
    atomic_store(&f->requeue_ms, -1);
    const int before = atomic_load(&f->passes);
    wait_passes(f, before + 4);
    /* A key that is gone is not looked at any more. */
    atomic_store(&f->is_gone, true);
    wait_passes(f, atomic_load(&f->passes) + 1);
    pause_ms(100);
    const int after = atomic_load(&f->passes);
    pause_ms(200);
    assert_int_equal(atomic_load(&f->passes), after);
    KB_AUTO_STRBUF(text, 1 << 20);
    kb_metrics_render(f->registry, &text);
    assert_null(strstr(kb_strbuf_view(&text), "name=\"a\""));
    assert_non_null(strstr(kb_strbuf_view(&text), "controller_runtime_reconcile_total{controller=\"Thing\""));
}

static void kb_controller_unknown_kinds_and_keys_do_no_harm(void **state)
{
    fixture *f = *state;
    start(f, 1, 0);
    kb_controller_enqueue(f->controller, "Other", "ns", "a");
    kb_controller_enqueue(f->controller, "Thing", "ns", "a");
    wait_passes(f, 1);
    assert_int_equal(atomic_load(&f->passes), 1);
}

static void kb_controller_works_on_several_keys_at_once(void **state)
{
    fixture *f = *state;
    start(f, 4, 0);
    atomic_store(&f->sleep_ms, 50);
    for (int i = 0; i < 8; i++) {
        KB_AUTOFREE char *name = kb_asprintf("thing-%d", i);
        kb_controller_enqueue(f->controller, "Thing", "ns", name);
    }
    wait_passes(f, 8);
    assert_in_range(atomic_load(&f->at_once_max), 2, 4);
}

static void kb_controller_stop_waits_for_work_and_takes_no_more(void **state)
{
    fixture *f = *state;
    start(f, 1, 0);
    atomic_store(&f->sleep_ms, 200);
    kb_controller_enqueue(f->controller, "Thing", "ns", "a");
    kb_controller_enqueue(f->controller, "Thing", "ns", "b");
    wait_passes(f, 1);
    assert_false(kb_controller_stop(f->controller, 0));
    assert_true(kb_controller_stop(f->controller, 10000));
    assert_int_equal(atomic_load(&f->passes), 1);
    assert_int_equal(atomic_load(&f->at_once), 0);
}

int main(void)
{
    kb_log_set_level(KB_LOG_ERROR);
#define WITH_CONTROLLER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_controller_retry_base_ms_follows_the_table),
        WITH_CONTROLLER(kb_controller_failed_passes_are_repeated),
        WITH_CONTROLLER(kb_controller_denied_waits_and_tells_when),
        WITH_CONTROLLER(kb_controller_requeue_and_resync_bring_a_key_back),
        WITH_CONTROLLER(kb_controller_unknown_kinds_and_keys_do_no_harm),
        WITH_CONTROLLER(kb_controller_works_on_several_keys_at_once),
        WITH_CONTROLLER(kb_controller_stop_waits_for_work_and_takes_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

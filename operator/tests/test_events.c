#include "operator/ctrl/events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <time.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "operator/kube/kube_types.h"
#include "operator/tests/fake_api.h"

typedef struct fixture {
    kb_fake_api *api;
    kb_kube_access *access;
    kb_kube_client *client;
    kb_metrics *registry;
    kb_kube_metrics *metrics;
    kb_events *events;
    json_t *object;
} fixture;

static void start(fixture *f, double rate)
{
    KB_AUTO_ERROR(err);
    const kb_events_options options = {
        .client = f->client, .instance = "pod-1", .metrics = f->metrics, .rate = rate};
    assert_int_equal(kb_events_start(&options, &f->events, &err), KB_OK);
}

static int setup(void **state)
{
    KB_AUTO_ERROR(err);
    static fixture f;
    f = (fixture){.api = kb_fake_api_new(), .registry = kb_metrics_new()};
    f.metrics = kb_kube_metrics_new(f.registry, "1.0");
    f.access = kb_fake_api_access(f.api);
    const kb_kube_client_options options = {.access = f.access};
    f.object = json_pack("{s:{s:s, s:s, s:s, s:s}}", "metadata", "namespace", "ns", "name", "nightly", "uid",
                         "u-1", "resourceVersion", "7");
    *state = &f;
    return kb_kube_client_new(&options, &f.client, &err) == KB_OK ? 0 : 1;
}

static int teardown(void **state)
{
    fixture *f = *state;
    kb_events_stop(f->events, 2000);
    json_decref(f->object);
    kb_kube_client_free(f->client);
    kb_kube_access_free(f->access);
    kb_kube_metrics_free(f->metrics);
    kb_metrics_free(f->registry);
    kb_fake_api_free(f->api);
    return 0;
}

static void emit(fixture *f, const char *reason, const char *message, const char *cause)
{
    const kb_event event = {.resource = &KB_KUBE_BACKUPS,
                            .object = f->object,
                            .is_warning = true,
                            .reason = reason,
                            .message = message,
                            .cause = cause};
    kb_events_emit(f->events, &event);
}

static void restart(fixture *f)
{
    kb_events_stop(f->events, 5000);
    start(f, 1000);
}

static json_t *stored(fixture *f, const char *reason, const char *cause)
{
    KB_AUTOFREE char *name = kb_event_name("nightly", "u-1", reason, cause);
    return kb_fake_api_get(f->api, &KB_KUBE_EVENTS, "ns", name);
}

static json_int_t count_of(fixture *f, const char *reason, const char *cause)
{
    KB_AUTO_JSON json_t *event = stored(f, reason, cause);
    return json_integer_value(json_object_get(event, "count"));
}

static void kb_event_name_is_a_function_of_its_cause(void **state)
{
    (void)state;
    KB_AUTOFREE char *a = kb_event_name("nightly", "u", "R", "c");
    KB_AUTOFREE char *again = kb_event_name("nightly", "u", "R", "c");
    KB_AUTOFREE char *other = kb_event_name("nightly", "u", "R", NULL);
    assert_string_equal(a, again);
    assert_string_not_equal(a, other);
    char long_name[254];
    memset(long_name, 'x', 253);
    long_name[235] = '.';
    long_name[253] = '\0';
    KB_AUTOFREE char *cut = kb_event_name(long_name, "u", "R", "c");
    assert_true(strlen(cut) <= 253);
    assert_null(strstr(cut, ".."));
}

static void kb_events_emit_makes_an_event_beside_the_object(void **state)
{
    fixture *f = *state;
    start(f, 1000);
    emit(f, "BackupFailed", "line\nwith \x1b[31mcolour and \xff", "job-1");
    restart(f);
    KB_AUTO_JSON json_t *event = stored(f, "BackupFailed", "job-1");
    assert_non_null(event);
    assert_string_equal(json_string_value(json_object_get(event, "message")), "line with  [31mcolour and ?");
    assert_string_equal(json_string_value(json_object_get(event, "type")), "Warning");
    assert_string_equal(json_string_value(json_object_get(event, "reportingInstance")), "pod-1");
    assert_string_equal(kb_kube_text(event, "involvedObject", "uid", NULL), "u-1");
    assert_string_equal(kb_kube_text(event, "involvedObject", "kind", NULL), "KafkaBackup");
    assert_string_equal(kb_kube_text(event, "involvedObject", "apiVersion", NULL), "kafka.oso.sh/v1alpha1");
}

static void kb_events_emit_repeats_count_across_restarts(void **state)
{
    fixture *f = *state;
    start(f, 1000);
    emit(f, "R", "first", "c");
    emit(f, "R", "second", "c");
    emit(f, "R", "first", "d");
    restart(f);
    assert_int_equal(count_of(f, "R", "c"), 2);
    emit(f, "R", "third", "c");
    emit(f, "R", "fourth", "c");
    restart(f);
    assert_int_equal(count_of(f, "R", "c"), 4);
    assert_int_equal(count_of(f, "R", "d"), 1);
    assert_int_equal(kb_fake_api_count(f->api, &KB_KUBE_EVENTS), 2);
    KB_AUTO_JSON json_t *event = stored(f, "R", "c");
    assert_string_equal(json_string_value(json_object_get(event, "message")), "fourth");
}

static void kb_events_emit_expired_event_is_made_anew(void **state)
{
    fixture *f = *state;
    start(f, 1000);
    emit(f, "R", "first", "c");
    for (int i = 0; i < 1000 && count_of(f, "R", "c") == 0; i++)
        (void)nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    KB_AUTOFREE char *name = kb_event_name("nightly", "u-1", "R", "c");
    kb_fake_api_remove(f->api, &KB_KUBE_EVENTS, "ns", name);
    emit(f, "R", "again", "c");
    restart(f);
    assert_int_equal(count_of(f, "R", "c"), 1);
}

static void kb_events_emit_full_queue_drops_the_oldest(void **state)
{
    fixture *f = *state;
    const kb_fake_fault slow = {.method = "POST", .action = KB_FAKE_DELAY, .delay_ms = 300};
    kb_fake_api_fail(f->api, &slow);
    start(f, 1);
    for (int i = 0; i < KB_EVENTS_QUEUE + 20; i++) {
        KB_AUTOFREE char *cause = kb_asprintf("%d", i);
        emit(f, "R", "m", cause);
    }
    KB_AUTO_STRBUF(text, 1 << 20);
    kb_metrics_render(f->registry, &text);
    const char *at = strstr(kb_strbuf_view(&text), "\nkafka_backup_operator_events_dropped_total ");
    assert_non_null(at);
    /* One or none was on its way. */
    assert_true(strstr(at, "total 19\n") != NULL || strstr(at, "total 20\n") != NULL);
    kb_events_stop(f->events, 0);
    start(f, 1);
    assert_int_equal(count_of(f, "R", "5"), 0);
}

static void kb_events_emit_unreachable_server_costs_only_the_event(void **state)
{
    fixture *f = *state;
    const kb_fake_fault down = {.times = 2, .action = KB_FAKE_REPLY, .status = 500};
    kb_fake_api_fail(f->api, &down);
    start(f, 1000);
    emit(f, "R", "lost", "a");
    emit(f, "R", "lost", "b");
    emit(f, "R", "kept", "c");
    restart(f);
    assert_int_equal(count_of(f, "R", "a"), 0);
    assert_int_equal(count_of(f, "R", "c"), 1);
}

int main(void)
{
    kb_log_set_level(KB_LOG_ERROR);
#define WITH_API(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_event_name_is_a_function_of_its_cause),
        WITH_API(kb_events_emit_makes_an_event_beside_the_object),
        WITH_API(kb_events_emit_repeats_count_across_restarts),
        WITH_API(kb_events_emit_expired_event_is_made_anew),
        WITH_API(kb_events_emit_full_queue_drops_the_oldest),
        WITH_API(kb_events_emit_unreachable_server_costs_only_the_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

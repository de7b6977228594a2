/*
 * Against a real API server, named by KB_TEST_KUBECONFIG (e2e/test_kube_live.py starts one): the requests,
 * the informers, the Lease and Events that the tests with fake_api only believe in. Without it all tests are
 * skipped. Needs a namespace "default" and the right to do everything in it.
 */
#include "operator/kube/kube_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/crypto.h"
#include "common/base/encode.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "operator/ctrl/events.h"
#include "operator/kube/capabilities.h"
#include "operator/kube/informer.h"
#include "operator/kube/kube_config.h"
#include "operator/kube/lease.h"

#define NS "default"

typedef struct fixture {
    kb_kube_access *access;
    kb_kube_client *client;
    kb_kube_reply reply;
    kb_error err;
    char run[17]; /* makes names of this run */
} fixture;

static int setup(void **state)
{
    static fixture f;
    f = (fixture){.reply = KB_KUBE_REPLY_INIT, .err = KB_ERROR_INIT};
    *state = &f;
    const char *path = getenv("KB_TEST_KUBECONFIG");
    if (path == NULL)
        return 0;
    uint8_t random[8];
    if (kb_random_bytes(random, sizeof random, &f.err) != KB_OK)
        return 1;
    kb_hex_encode(random, sizeof random, f.run);
    const kb_code code = kb_kube_config_load(path, NULL, &f.access, &f.err);
    const kb_kube_client_options options = {.access = f.access, .user_agent = "kafka-backup-operator/test"};
    if (code == KB_OK && kb_kube_client_new(&options, &f.client, &f.err) == KB_OK)
        return 0;
    print_error("%s\n", kb_error_text(&f.err));
    return 1;
}

static int teardown(void **state)
{
    fixture *f = *state;
    kb_kube_reply_done(&f->reply);
    kb_error_done(&f->err);
    kb_kube_client_free(f->client);
    kb_kube_access_free(f->access);
    return 0;
}

#define NEEDS_SERVER(f) \
    do { \
        if ((f)->client == NULL) \
            skip(); \
    } while (0)

static void pause_ms(int ms)
{
    (void)nanosleep(&(struct timespec){ms / 1000, (ms % 1000) * 1000000L}, NULL);
}

static char *name_of(const fixture *f, const char *what)
{
    return kb_asprintf("kb-%s-%s", f->run, what);
}

static json_t *config_map(const fixture *f, const char *name, const char *value)
{
    return json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s}}, s:{s:s}}", "apiVersion", "v1", "kind", "ConfigMap",
                     "metadata", "name", name, "namespace", NS, "labels", "kb-run", f->run, "data", "key",
                     value);
}

static kb_code call(fixture *f, kb_kube_verb verb, const char *name, const json_t *body)
{
    const kb_kube_request request = {.verb = verb,
                                     .ref = {.resource = &KB_KUBE_CONFIG_MAPS,
                                             .name_space = NS,
                                             .name = verb == KB_KUBE_CREATE ? NULL : name},
                                     .body = body};
    kb_error_done(&f->err);
    return kb_kube_call(f->client, &request, &f->reply, &f->err);
}

static void assert_ok(fixture *f, kb_code code)
{
    if (code != KB_OK)
        print_error("%s\n", kb_error_text(&f->err));
    assert_int_equal(code, KB_OK);
}

static void capabilities_are_those_of_the_version(void **state)
{
    fixture *f = *state;
    NEEDS_SERVER(f);
    kb_capabilities caps;
    assert_ok(f, kb_capabilities_read(f->client, &caps, &f->err));
    assert_int_equal(caps.major, 1);
    assert_true(caps.minor >= 20);
    assert_int_equal(caps.has_cron_job_v1, caps.minor >= 21);
}

static void writes_have_the_classes_of_the_table(void **state)
{
    fixture *f = *state;
    NEEDS_SERVER(f);
    KB_AUTOFREE char *name = name_of(f, "writes");
    KB_AUTO_JSON json_t *body = config_map(f, name, "1");
    assert_int_equal(call(f, KB_KUBE_GET, name, NULL), KB_ERR_NOT_FOUND);
    assert_ok(f, call(f, KB_KUBE_CREATE, name, body));
    KB_AUTO_JSON json_t *created = json_incref(f->reply.object);
    assert_int_equal(call(f, KB_KUBE_CREATE, name, body), KB_ERR_EXISTS);
    assert_int_equal(f->reply.fault, KB_KUBE_EXISTS);
    /* Applied without change: the same version. */
    assert_ok(f, call(f, KB_KUBE_APPLY, name, body));
    KB_AUTOFREE char *version = kb_strdup(kb_kube_version(f->reply.object));
    assert_ok(f, call(f, KB_KUBE_APPLY, name, body));
    assert_string_equal(kb_kube_version(f->reply.object), version);
    /* An update that is based on an old version. */
    KB_AUTO_JSON json_t *stale = json_deep_copy(created);
    json_object_set_new(json_object_get(stale, "data"), "key", json_string("stale"));
    json_object_set_new(json_object_get(stale, "metadata"), "resourceVersion", json_string("1"));
    assert_int_equal(call(f, KB_KUBE_REPLACE, name, stale), KB_TEMPORARY_FAILURE);
    assert_int_equal(f->reply.fault, KB_KUBE_CONFLICT);
    /* Applying to an object of another uid. */
    KB_AUTO_JSON json_t *foreign = json_deep_copy(body);
    json_object_set_new(json_object_get(foreign, "metadata"), "uid",
                        json_string("00000000-0000-0000-0000-000000000000"));
    kb_kube_request request = {.verb = KB_KUBE_APPLY,
                               .ref = {.resource = &KB_KUBE_CONFIG_MAPS, .name_space = NS, .name = name},
                               .body = foreign,
                               .is_forced = true};
    assert_int_not_equal(kb_kube_call(f->client, &request, &f->reply, &f->err), KB_OK);
    assert_int_equal(f->reply.fault, KB_KUBE_CONFLICT);
    KB_AUTO_JSON json_t *merge = json_pack("{s:{s:s}}", "data", "more", "x");
    assert_ok(f, call(f, KB_KUBE_PATCH_MERGE, name, merge));
    KB_AUTO_JSON json_t *patch = json_pack("[{s:s, s:s, s:s}, {s:s, s:s}]", "op", "test", "path",
                                           "/data/more", "value", "x", "op", "remove", "path", "/data/more");
    assert_ok(f, call(f, KB_KUBE_PATCH_JSON, name, patch));
    assert_int_not_equal(call(f, KB_KUBE_PATCH_JSON, name, patch), KB_OK);
    assert_int_equal(f->reply.fault, KB_KUBE_INVALID);
    KB_AUTO_JSON json_t *bad = config_map(f, "Not_A_Name", "1");
    assert_int_equal(call(f, KB_KUBE_CREATE, NULL, bad), KB_ERR_FORMAT);
    assert_int_equal(f->reply.fault, KB_KUBE_INVALID);
    request = (kb_kube_request){
        .verb = KB_KUBE_DELETE,
        .ref = {.resource = &KB_KUBE_CONFIG_MAPS, .name_space = NS, .name = name},
        .only_uid = "00000000-0000-0000-0000-000000000000",
    };
    assert_int_not_equal(kb_kube_call(f->client, &request, &f->reply, &f->err), KB_OK);
    assert_int_equal(f->reply.fault, KB_KUBE_CONFLICT);
    request.only_uid = kb_kube_uid(created);
    assert_ok(f, kb_kube_call(f->client, &request, &f->reply, &f->err));
    assert_int_equal(call(f, KB_KUBE_GET, name, NULL), KB_ERR_NOT_FOUND);
}

static void apply_of_a_field_of_somebody_else_conflicts(void **state)
{
    fixture *f = *state;
    NEEDS_SERVER(f);
    KB_AUTOFREE char *name = name_of(f, "fields");
    KB_AUTO_JSON json_t *body = config_map(f, name, "ours");
    KB_AUTO_JSON json_t *theirs = json_pack("{s:{s:s}}", "data", "key", "theirs");
    assert_ok(f, call(f, KB_KUBE_APPLY, name, body));
    /* A merge patch of another manager; the first fieldManager of a query counts. */
    kb_kube_request request = {.verb = KB_KUBE_PATCH_MERGE,
                               .ref = {.resource = &KB_KUBE_CONFIG_MAPS, .name_space = NS, .name = name},
                               .body = theirs};
    assert_ok(f, kb_kube_call(f->client, &request, &f->reply, &f->err));
    /* Ours by another operation than Apply: an apply that disagrees conflicts, forced it wins. */
    request = (kb_kube_request){.verb = KB_KUBE_APPLY, .ref = request.ref, .body = body};
    const kb_code code = kb_kube_call(f->client, &request, &f->reply, &f->err);
    assert_int_not_equal(code, KB_OK);
    assert_int_equal(f->reply.fault, KB_KUBE_CONFLICT);
    request.is_forced = true;
    assert_ok(f, kb_kube_call(f->client, &request, &f->reply, &f->err));
    assert_string_equal(kb_kube_text(f->reply.object, "data", "key", NULL), "ours");
    request = (kb_kube_request){.verb = KB_KUBE_DELETE, .ref = request.ref};
    assert_ok(f, kb_kube_call(f->client, &request, &f->reply, &f->err));
}

static kb_informers *start_informer(fixture *f, kb_informer **ret_informer)
{
    KB_AUTOFREE char *selector = kb_asprintf("kb-run=%s", f->run);
    const kb_informers_options options = {.access = f->access, .user_agent = "kafka-backup-operator/test"};
    kb_informers *set = kb_informers_new(&options);
    const kb_informer_options informer = {.resource = &KB_KUBE_CONFIG_MAPS, .label_selector = selector};
    *ret_informer = kb_informers_add(set, &informer);
    assert_ok(f, kb_informers_start(set, &f->err));
    assert_true(kb_informers_wait_synced(set, 30000));
    return set;
}

static void wait_count(kb_informer *informer, size_t count)
{
    for (int i = 0; i < 1000 && kb_object_store_count(kb_informer_store(informer)) != count; i++)
        pause_ms(10);
    assert_int_equal(kb_object_store_count(kb_informer_store(informer)), count);
}

static void list_and_watch_show_pages_and_changes(void **state)
{
    fixture *f = *state;
    NEEDS_SERVER(f);
    enum { COUNT = 520 }; /* more than a page */
    for (int i = 0; i < COUNT; i++) {
        KB_AUTOFREE char *what = kb_asprintf("page-%d", i);
        KB_AUTOFREE char *name = name_of(f, what);
        KB_AUTO_JSON json_t *body = config_map(f, name, "1");
        const kb_kube_request request = {.verb = KB_KUBE_CREATE,
                                         .ref = {.resource = &KB_KUBE_CONFIG_MAPS, .name_space = NS},
                                         .body = body,
                                         .is_exempt = true};
        assert_ok(f, kb_kube_call(f->client, &request, &f->reply, &f->err));
    }
    kb_informer *informer = NULL;
    kb_informers *set = start_informer(f, &informer);
    assert_int_equal(kb_object_store_count(kb_informer_store(informer)), COUNT);
    KB_AUTOFREE char *selector = kb_asprintf("kb-run=%s", f->run);
    const kb_kube_ref all = {.resource = &KB_KUBE_CONFIG_MAPS, .name_space = NS};
    assert_ok(f, kb_kube_list(f->client, &all, selector, NULL, &f->reply, &f->err));
    assert_int_equal(json_array_size(f->reply.object), COUNT);
    KB_AUTOFREE char *name = name_of(f, "page-7");
    KB_AUTO_JSON json_t *changed = config_map(f, name, "2");
    KB_AUTO_JSON json_t *before = kb_object_store_get(kb_informer_store(informer), NS, name);
    assert_ok(f, call(f, KB_KUBE_PATCH_MERGE, name, changed));
    /* False when the watch was quicker. */
    (void)kb_informer_own_write(informer, f->reply.object, kb_kube_version(before));
    KB_AUTO_JSON json_t *at_once = kb_object_store_get(kb_informer_store(informer), NS, name);
    assert_string_equal(kb_kube_text(at_once, "data", "key", NULL), "2");
    KB_AUTOFREE char *gone = name_of(f, "page-8");
    assert_ok(f, call(f, KB_KUBE_DELETE, gone, NULL));
    wait_count(informer, COUNT - 1);
    KB_AUTO_JSON json_t *after = kb_object_store_get(kb_informer_store(informer), NS, name);
    assert_string_equal(kb_kube_text(after, "data", "key", NULL), "2");
    for (int i = 0; i < COUNT; i++) {
        KB_AUTOFREE char *what = kb_asprintf("page-%d", i);
        KB_AUTOFREE char *each = name_of(f, what);
        const kb_kube_request request = {
            .verb = KB_KUBE_DELETE,
            .ref = {.resource = &KB_KUBE_CONFIG_MAPS, .name_space = NS, .name = each},
            .is_exempt = true};
        const kb_code code = kb_kube_call(f->client, &request, &f->reply, &f->err);
        assert_true(code == KB_OK || i == 8);
    }
    wait_count(informer, 0);
    kb_informers_free(set);
}

static void missing_resource_is_named(void **state)
{
    fixture *f = *state;
    NEEDS_SERVER(f);
    static const kb_kube_resource NOTHING = {"kafka.oso.sh", "v1alpha1", "kafkanothings", "KafkaNothing",
                                             false};
    KB_AUTO_STRBUF(why, 4096);
    const kb_informers_options options = {.access = f->access};
    kb_informers *set = kb_informers_new(&options);
    const kb_informer_options informer = {.resource = &NOTHING};
    (void)kb_informers_add(set, &informer);
    assert_ok(f, kb_informers_start(set, &f->err));
    assert_false(kb_informers_wait_synced(set, 1500));
    assert_false(kb_informers_is_synced(set, &why));
    assert_non_null(strstr(kb_strbuf_view(&why), "are the CRDs installed?"));
    kb_informers_free(set);
}

static void count_up(void *ctx)
{
    atomic_fetch_add((atomic_int *)ctx, 1);
}

static kb_elector *start_elector(fixture *f, const char *name, const char *identity, atomic_int *leads)
{
    kb_elector *elector = NULL;
    const kb_elector_options options = {.client = f->client,
                                        .name_space = NS,
                                        .name = name,
                                        .identity = identity,
                                        .times = {3000, 2000, 200},
                                        .on_lead = count_up,
                                        .ctx = leads};
    assert_ok(f, kb_elector_start(&options, &elector, &f->err));
    return elector;
}

static void lease_is_renewed_and_handed_on(void **state)
{
    fixture *f = *state;
    NEEDS_SERVER(f);
    atomic_int first_leads = 0, second_leads = 0;
    KB_AUTOFREE char *name = name_of(f, "lease");
    kb_elector *first = start_elector(f, name, "first", &first_leads);
    for (int i = 0; i < 500 && atomic_load(&first_leads) == 0; i++)
        pause_ms(10);
    kb_elector *second = start_elector(f, name, "second", &second_leads);
    pause_ms(3500);
    /* Longer than the lease lasts: it was renewed. */
    assert_true(kb_elector_may_write(first));
    assert_false(kb_elector_may_write(second));
    kb_elector_stop(first);
    for (int i = 0; i < 300 && atomic_load(&second_leads) == 0; i++)
        pause_ms(10);
    assert_true(kb_elector_may_write(second));
    kb_elector_stop(second);
    const kb_kube_request request = {.verb = KB_KUBE_DELETE,
                                     .ref = {.resource = &KB_KUBE_LEASES, .name_space = NS, .name = name}};
    assert_ok(f, kb_kube_call(f->client, &request, &f->reply, &f->err));
}

static void events_are_taken_and_counted(void **state)
{
    fixture *f = *state;
    NEEDS_SERVER(f);
    KB_AUTOFREE char *name = name_of(f, "events");
    KB_AUTO_JSON json_t *body = config_map(f, name, "1");
    assert_ok(f, call(f, KB_KUBE_CREATE, name, body));
    KB_AUTO_JSON json_t *object = json_incref(f->reply.object);
    const kb_event event = {.resource = &KB_KUBE_CONFIG_MAPS,
                            .object = object,
                            .reason = "Tested",
                            .message = "seen by a test",
                            .cause = f->run};
    for (int i = 0; i < 2; i++) {
        kb_events *events = NULL;
        const kb_events_options options = {.client = f->client, .rate = 100};
        assert_ok(f, kb_events_start(&options, &events, &f->err));
        kb_events_emit(events, &event);
        kb_events_emit(events, &event);
        kb_events_stop(events, 10000);
    }
    KB_AUTOFREE char *event_name = kb_event_name(name, kb_kube_uid(object), "Tested", f->run);
    const kb_kube_ref ref = {.resource = &KB_KUBE_EVENTS, .name_space = NS, .name = event_name};
    assert_ok(f, kb_kube_get(f->client, &ref, &f->reply, &f->err));
    assert_int_equal(json_integer_value(json_object_get(f->reply.object, "count")), 4);
    assert_ok(f, call(f, KB_KUBE_DELETE, name, NULL));
}

int main(void)
{
    kb_log_set_level(KB_LOG_ERROR);
#define LIVE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        LIVE(capabilities_are_those_of_the_version),
        LIVE(writes_have_the_classes_of_the_table),
        LIVE(apply_of_a_field_of_somebody_else_conflicts),
        LIVE(list_and_watch_show_pages_and_changes),
        LIVE(missing_resource_is_named),
        LIVE(lease_is_renewed_and_handed_on),
        LIVE(events_are_taken_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "operator/kube/informer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "operator/kube/kube_types.h"
#include "operator/tests/fake_api.h"

/* What the callback was told: "+a", "~a", "-a". */
typedef struct fixture {
    kb_fake_api *api;
    kb_kube_access *access;
    kb_informers *set;
    kb_informer *jobs;
    pthread_mutex_t mutex;
    kb_strbuf told;
} fixture;

static void on_change(void *ctx, const json_t *old_object, const json_t *new_object)
{
    fixture *f = ctx;
    pthread_mutex_lock(&f->mutex);
    const char mark = old_object == NULL ? '+' : new_object == NULL ? '-' : '~';
    kb_strbuf_appendf(&f->told, "%c%s ", mark, kb_kube_name(new_object != NULL ? new_object : old_object));
    pthread_mutex_unlock(&f->mutex);
}

static json_t *job(const char *name_space, const char *name, const char *value)
{
    return json_pack("{s:{s:s, s:s, s:{s:s}}, s:{s:s}}", "metadata", "name", name, "namespace", name_space,
                     "labels", "app", "x", "spec", "value", value);
}

static void put(fixture *f, const char *name, const char *value)
{
    json_decref(kb_fake_api_put(f->api, &KB_KUBE_JOBS, job("ns", name, value)));
}

static void pause_ms(int ms)
{
    (void)nanosleep(&(struct timespec){ms / 1000, (ms % 1000) * 1000000L}, NULL);
}

/* Waits until the callback was told exactly this since the last time. */
static void assert_told(fixture *f, const char *expected)
{
    for (int i = 0; i < 1000; i++) {
        pthread_mutex_lock(&f->mutex);
        const bool is_there = strcmp(kb_strbuf_view(&f->told), expected) == 0;
        if (is_there)
            kb_strbuf_clear(&f->told);
        pthread_mutex_unlock(&f->mutex);
        if (is_there)
            return;
        pause_ms(10);
    }
    pthread_mutex_lock(&f->mutex);
    KB_AUTOFREE char *told = kb_strdup(kb_strbuf_view(&f->told));
    pthread_mutex_unlock(&f->mutex);
    assert_string_equal(told, expected);
}

static void wait_watching(fixture *f, size_t count)
{
    for (int i = 0; i < 1000 && kb_fake_api_watches(f->api) != count; i++)
        pause_ms(10);
    assert_int_equal(kb_fake_api_watches(f->api), count);
}

static void wait_requests(fixture *f, const char *part, size_t count)
{
    for (int i = 0; i < 1000 && kb_fake_api_requests(f->api, "GET", part) < count; i++)
        pause_ms(10);
    assert_true(kb_fake_api_requests(f->api, "GET", part) >= count);
}

static size_t lists(fixture *f)
{
    return kb_fake_api_requests(f->api, "GET", "jobs?limit=");
}

static int setup(void **state)
{
    static fixture f;
    f = (fixture){.api = kb_fake_api_new()};
    pthread_mutex_init(&f.mutex, NULL);
    kb_strbuf_init(&f.told, 1 << 20);
    f.access = kb_fake_api_access(f.api);
    const kb_informers_options options = {.access = f.access, .backoff_base_ms = 2, .backoff_cap_ms = 20};
    f.set = kb_informers_new(&options);
    *state = &f;
    return 0;
}

static void start(fixture *f, const char *const *namespaces, size_t namespace_count)
{
    KB_AUTO_ERROR(err);
    const kb_informer_options options = {.resource = &KB_KUBE_JOBS,
                                         .namespaces = namespaces,
                                         .namespace_count = namespace_count,
                                         .label_selector = "app=x",
                                         .on_change = on_change,
                                         .ctx = f};
    f->jobs = kb_informers_add(f->set, &options);
    assert_int_equal(kb_informers_start(f->set, &err), KB_OK);
}

static void start_synced(fixture *f)
{
    start(f, NULL, 0);
    assert_true(kb_informers_wait_synced(f->set, 20000));
    wait_watching(f, 1);
}

static int teardown(void **state)
{
    fixture *f = *state;
    kb_informers_free(f->set);
    kb_kube_access_free(f->access);
    kb_fake_api_free(f->api);
    kb_strbuf_done(&f->told);
    pthread_mutex_destroy(&f->mutex);
    return 0;
}

static void informer_follows_changes(void **state)
{
    fixture *f = *state;
    put(f, "a", "1");
    put(f, "b", "1");
    start_synced(f);
    assert_told(f, "+a +b ");
    put(f, "c", "1");
    put(f, "a", "2");
    kb_fake_api_remove(f->api, &KB_KUBE_JOBS, "ns", "b");
    assert_told(f, "+c ~a -b ");
    KB_AUTO_JSON json_t *a = kb_object_store_get(kb_informer_store(f->jobs), "ns", "a");
    assert_string_equal(kb_kube_text(a, "spec", "value", NULL), "2");
    assert_string_equal(kb_kube_text(a, "kind", NULL), "Job");
    assert_null(kb_kube_at(a, "metadata", "managedFields", NULL));
    assert_int_equal(lists(f), 1);
}

static void informer_cut_watch_resumes_where_it_was(void **state)
{
    fixture *f = *state;
    put(f, "a", "1");
    start_synced(f);
    assert_told(f, "+a ");
    for (int i = 0; i < 10; i++) {
        const size_t before = kb_fake_api_requests(f->api, "GET", "watch=1");
        kb_fake_api_cut(f->api, i % 2 == 0);
        put(f, "a", i % 2 == 0 ? "even" : "odd");
        assert_told(f, "~a ");
        wait_requests(f, "watch=1", before + 1);
        wait_watching(f, 1);
    }
    assert_int_equal(lists(f), 1);
}

static void informer_bookmark_moves_the_version(void **state)
{
    fixture *f = *state;
    put(f, "a", "1");
    start_synced(f);
    assert_told(f, "+a ");
    /* Changes elsewhere only; then what is before the bookmark is compacted away. */
    json_decref(kb_fake_api_put(f->api, &KB_KUBE_PODS, job("ns", "p", "1")));
    kb_fake_api_compact(f->api);
    kb_fake_api_bookmark(f->api);
    pause_ms(100);
    kb_fake_api_cut(f->api, false);
    put(f, "b", "1");
    assert_told(f, "+b ");
    assert_int_equal(lists(f), 1);
}

static void informer_expired_version_lists_again(void **state)
{
    fixture *f = *state;
    put(f, "a", "1");
    put(f, "b", "1");
    start_synced(f);
    assert_told(f, "+a +b ");
    /* While nobody watches: a goes, b changes, c comes; and the history is lost. */
    const kb_fake_fault away = {.part = "watch=1", .times = 1000, .action = KB_FAKE_REPLY, .status = 503};
    kb_fake_api_fail(f->api, &away);
    kb_fake_api_cut(f->api, true);
    wait_watching(f, 0);
    kb_fake_api_remove(f->api, &KB_KUBE_JOBS, "ns", "a");
    put(f, "b", "2");
    put(f, "c", "1");
    kb_fake_api_compact(f->api);
    kb_fake_api_heal(f->api);
    assert_told(f, "~b +c -a ");
    assert_int_equal(lists(f), 2);
    wait_watching(f, 1);
}

static void informer_http_410_lists_again(void **state)
{
    fixture *f = *state;
    put(f, "a", "1");
    const kb_fake_fault gone = {
        .part = "watch=1", .times = 3, .action = KB_FAKE_REPLY, .status = 410, .reason = "Expired"};
    kb_fake_api_fail(f->api, &gone);
    start(f, NULL, 0);
    wait_requests(f, "watch=1", 4);
    wait_watching(f, 1);
    assert_told(f, "+a ");
    assert_int_equal(lists(f), 4);
}

static void informer_unreadable_events_cost_one_list(void **state)
{
    static const char *const LINES[] = {
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":\n", "garbage\n", "{\"type\":\"WHAT\",\"object\":{}}\n",
        "{\"type\":\"ERROR\",\"object\":{\"code\":500,\"message\":\"etcd\"}}\n"};
    fixture *f = *state;
    put(f, "a", "1");
    start_synced(f);
    assert_told(f, "+a ");
    for (size_t i = 0; i < KB_ARRAY_LEN(LINES); i++) {
        kb_fake_api_send_raw(f->api, "jobs", LINES[i]);
        wait_requests(f, "jobs?limit=", i + 2);
        wait_requests(f, "watch=1", i + 2);
    }
    put(f, "b", "1");
    assert_told(f, "+b ");
}

static void informer_huge_event_is_dropped_and_listed(void **state)
{
    fixture *f = *state;
    put(f, "a", "1");
    start_synced(f);
    assert_told(f, "+a ");
    KB_AUTO_STRBUF(line, 32u << 20);
    kb_strbuf_appends(&line, "{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"name\":\"a\"},\"x\":\"");
    char block[65536];
    memset(block, 'x', sizeof block);
    for (int i = 0; i < 160; i++)
        kb_strbuf_append(&line, block, sizeof block);
    kb_strbuf_appends(&line, "\"}}\n");
    kb_fake_api_send_raw(f->api, "jobs", kb_strbuf_view(&line));
    wait_requests(f, "jobs?limit=", 2);
    wait_requests(f, "watch=1", 2);
    put(f, "b", "1");
    assert_told(f, "+b ");
}

static void informer_malformed_object_is_skipped(void **state)
{
    fixture *f = *state;
    put(f, "a", "1");
    start_synced(f);
    assert_told(f, "+a ");
    kb_fake_api_send_raw(f->api, "jobs",
                         "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"bad\"}}}\n"
                         "{\"type\":\"ADDED\",\"object\":{\"metadata\":7}}\n"
                         "{\"type\":\"DELETED\",\"object\":{}}\n");
    put(f, "b", "1");
    assert_told(f, "+b ");
    assert_int_equal(lists(f), 1);
}

static void informer_pages_and_expired_tokens(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 1100; i++) {
        KB_AUTOFREE char *name = kb_asprintf("job-%d", i);
        put(f, name, "1");
    }
    const kb_fake_fault expired = {.part = "continue=",
                                   .skip = 1,
                                   .times = 2,
                                   .action = KB_FAKE_REPLY,
                                   .status = 410,
                                   .reason = "Expired"};
    kb_fake_api_fail(f->api, &expired);
    start_synced(f);
    assert_int_equal(kb_object_store_count(kb_informer_store(f->jobs)), 1100);
    pthread_mutex_lock(&f->mutex);
    size_t added = 0;
    for (const char *at = kb_strbuf_view(&f->told); (at = strchr(at, '+')) != NULL; at++)
        added++;
    assert_null(strstr(kb_strbuf_view(&f->told), " -job"));
    pthread_mutex_unlock(&f->mutex);
    assert_int_equal(added, 1100);
}

static void informer_missing_resource_is_waited_for(void **state)
{
    fixture *f = *state;
    KB_AUTO_STRBUF(why, 4096);
    put(f, "a", "1");
    kb_fake_api_hide(f->api, "jobs", true);
    start(f, NULL, 0);
    wait_requests(f, "jobs?limit=", 3);
    assert_false(kb_informers_is_synced(f->set, &why));
    assert_string_equal(kb_strbuf_view(&why),
                        "jobs: the server does not know this resource; hint: are the CRDs installed?\n");
    kb_fake_api_hide(f->api, "jobs", false);
    assert_true(kb_informers_wait_synced(f->set, 20000));
    assert_told(f, "+a ");
    /* Gone while running: not ready, what was known stays until the server says more. */
    kb_fake_api_hide(f->api, "jobs", true);
    kb_fake_api_cut(f->api, true);
    const size_t before = lists(f);
    wait_requests(f, "jobs?limit=", before + 2);
    assert_false(kb_informers_is_synced(f->set, &why));
    kb_fake_api_hide(f->api, "jobs", false);
    assert_true(kb_informers_wait_synced(f->set, 20000));
    assert_int_equal(kb_object_store_count(kb_informer_store(f->jobs)), 1);
}

static void informer_denied_says_what_the_server_says(void **state)
{
    fixture *f = *state;
    KB_AUTO_STRBUF(why, 4096);
    const kb_fake_fault denied = {.times = 1000,
                                  .action = KB_FAKE_REPLY,
                                  .status = 403,
                                  .reason = "Forbidden",
                                  .message = "jobs.batch is forbidden: cannot list"};
    kb_fake_api_fail(f->api, &denied);
    static const char *const NAMESPACES[] = {"one", "two"};
    start(f, NAMESPACES, 2);
    wait_requests(f, "namespaces/two/jobs?limit=", 2);
    assert_false(kb_informers_is_synced(f->set, &why));
    assert_non_null(strstr(kb_strbuf_view(&why), "jobs in one: HTTP 403 Forbidden: jobs.batch is forbidden"));
    kb_fake_api_heal(f->api);
    json_decref(kb_fake_api_put(f->api, &KB_KUBE_JOBS, job("three", "x", "1")));
    json_decref(kb_fake_api_put(f->api, &KB_KUBE_JOBS, job("one", "a", "1")));
    assert_true(kb_informers_wait_synced(f->set, 20000));
    assert_told(f, "+a ");
    wait_watching(f, 2);
    json_decref(kb_fake_api_put(f->api, &KB_KUBE_JOBS, job("two", "b", "1")));
    assert_told(f, "+b ");
}

static void informer_changed_token_costs_nothing(void **state)
{
    fixture *f = *state;
    start_synced(f);
    kb_fake_api_set_token(f->api, "token-2");
    kb_fake_api_cut(f->api, true);
    wait_requests(f, "watch=1", 3);
    kb_fake_api_set_token(f->api, "token-1");
    put(f, "a", "1");
    assert_told(f, "+a ");
    assert_int_equal(lists(f), 1);
}

static void informer_own_write_is_seen_at_once(void **state)
{
    fixture *f = *state;
    put(f, "a", "1");
    start_synced(f);
    assert_told(f, "+a ");
    KB_AUTO_JSON json_t *before = kb_object_store_get(kb_informer_store(f->jobs), "ns", "a");
    KB_AUTO_JSON json_t *written = json_deep_copy(before);
    json_object_set_new(json_object_get(written, "metadata"), "resourceVersion", json_string("own"));
    assert_true(kb_informer_own_write(f->jobs, written, kb_kube_version(before)));
    KB_AUTO_JSON json_t *after = kb_object_store_get(kb_informer_store(f->jobs), "ns", "a");
    assert_string_equal(kb_kube_version(after), "own");
    assert_false(kb_informer_own_write(f->jobs, written, kb_kube_version(before)));
}

int main(void)
{
    kb_log_set_level(KB_LOG_ERROR);
#define WITH_API(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_API(informer_follows_changes),
        WITH_API(informer_cut_watch_resumes_where_it_was),
        WITH_API(informer_bookmark_moves_the_version),
        WITH_API(informer_expired_version_lists_again),
        WITH_API(informer_http_410_lists_again),
        WITH_API(informer_unreadable_events_cost_one_list),
        WITH_API(informer_huge_event_is_dropped_and_listed),
        WITH_API(informer_malformed_object_is_skipped),
        WITH_API(informer_pages_and_expired_tokens),
        WITH_API(informer_missing_resource_is_waited_for),
        WITH_API(informer_denied_says_what_the_server_says),
        WITH_API(informer_changed_token_costs_nothing),
        WITH_API(informer_own_write_is_seen_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

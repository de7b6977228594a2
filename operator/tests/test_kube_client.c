#include "operator/kube/kube_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/testing/temp_dir.h"
#include "operator/kube/bucket.h"
#include "operator/kube/capabilities.h"
#include "operator/kube/kube_types.h"
#include "operator/tests/fake_api.h"

typedef struct fixture {
    kb_fake_api *api;
    kb_kube_access *access;
    kb_kube_client *client;
    kb_kube_reply reply;
    kb_error err;
} fixture;

static const kb_kube_ref JOB = {.resource = &KB_KUBE_JOBS, .name_space = "ns", .name = "a"};
static const kb_kube_ref JOBS = {.resource = &KB_KUBE_JOBS, .name_space = "ns"};

static int setup(void **state)
{
    static fixture f;
    f = (fixture){.api = kb_fake_api_new(), .reply = KB_KUBE_REPLY_INIT, .err = KB_ERROR_INIT};
    f.access = kb_fake_api_access(f.api);
    const kb_kube_client_options options = {.access = f.access, .qps = 1000, .burst = 1000};
    *state = &f;
    return kb_kube_client_new(&options, &f.client, &f.err) == KB_OK ? 0 : 1;
}

static int teardown(void **state)
{
    fixture *f = *state;
    kb_kube_reply_done(&f->reply);
    kb_error_done(&f->err);
    kb_kube_client_free(f->client);
    kb_kube_access_free(f->access);
    kb_fake_api_free(f->api);
    return 0;
}

static json_t *job(const char *name)
{
    return json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s}}, s:{s:i}}", "apiVersion", "batch/v1", "kind", "Job",
                     "metadata", "name", name, "namespace", "ns", "labels", "app", "x", "spec", "parallelism",
                     1);
}

static kb_code call(fixture *f, kb_kube_verb verb, const kb_kube_ref *ref, const json_t *body)
{
    const kb_kube_request request = {.verb = verb, .ref = *ref, .body = body};
    kb_error_done(&f->err);
    return kb_kube_call(f->client, &request, &f->reply, &f->err);
}

static void kb_kube_path_names_each_kind_of_place(void **state)
{
    (void)state;
    static const struct {
        kb_kube_ref ref;
        const char *path, *text;
    } CASES[] = {
        {{&KB_KUBE_PODS, NULL, NULL, NULL}, "/api/v1/pods", "pods"},
        {{&KB_KUBE_PODS, "ns", NULL, NULL}, "/api/v1/namespaces/ns/pods", "pods in ns"},
        {{&KB_KUBE_JOBS, "ns", "a", NULL}, "/apis/batch/v1/namespaces/ns/jobs/a", "Job ns/a"},
        {{&KB_KUBE_BACKUPS, "ns", "a", "status"},
         "/apis/kafka.oso.sh/v1alpha1/namespaces/ns/kafkabackups/a/status",
         "KafkaBackup ns/a (status)"},
        {{&KB_KUBE_ROLES, "ns", "system:a/b", NULL},
         "/apis/rbac.authorization.k8s.io/v1/namespaces/ns/roles/system%3Aa%2Fb",
         "Role ns/system:a/b"},
        {{&KB_KUBE_PODS, "..", "a b", NULL}, "/api/v1/namespaces/%2E%2E/pods/a%20b", "Pod ../a b"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        KB_AUTOFREE char *path = kb_kube_path(&CASES[i].ref);
        KB_AUTOFREE char *text = kb_kube_describe(&CASES[i].ref);
        assert_string_equal(path, CASES[i].path);
        assert_string_equal(text, CASES[i].text);
    }
}

static void kb_kube_classify_follows_the_table(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *reason;
        kb_kube_class expected;
    } CASES[] = {
        {200, "", KB_KUBE_FINE},
        {201, "", KB_KUBE_FINE},
        {404, "NotFound", KB_KUBE_GONE},
        {410, "Expired", KB_KUBE_GONE},
        {409, "Conflict", KB_KUBE_CONFLICT},
        {409, "AlreadyExists", KB_KUBE_EXISTS},
        {401, "Unauthorized", KB_KUBE_DENIED},
        {403, "Forbidden", KB_KUBE_DENIED},
        {400, "BadRequest", KB_KUBE_INVALID},
        {413, "RequestEntityTooLarge", KB_KUBE_INVALID},
        {415, "UnsupportedMediaType", KB_KUBE_INVALID},
        {422, "Invalid", KB_KUBE_INVALID},
        {405, "MethodNotAllowed", KB_KUBE_INVALID},
        {429, "TooManyRequests", KB_KUBE_THROTTLED},
        {408, "", KB_KUBE_SERVER},
        {500, "InternalError", KB_KUBE_SERVER},
        {503, "ServiceUnavailable", KB_KUBE_SERVER},
        {302, "", KB_KUBE_SERVER},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++)
        assert_int_equal(kb_kube_classify(CASES[i].status, CASES[i].reason), CASES[i].expected);
}

static void kb_kube_call_life_of_an_object(void **state)
{
    fixture *f = *state;
    KB_AUTO_JSON json_t *body = job("a");
    assert_int_equal(call(f, KB_KUBE_GET, &JOB, NULL), KB_ERR_NOT_FOUND);
    assert_int_equal(f->reply.fault, KB_KUBE_GONE);
    assert_int_equal(call(f, KB_KUBE_CREATE, &JOBS, body), KB_OK);
    KB_AUTOFREE char *uid = kb_strdup(kb_kube_uid(f->reply.object));
    assert_int_equal(call(f, KB_KUBE_CREATE, &JOBS, body), KB_ERR_EXISTS);
    assert_int_equal(f->reply.fault, KB_KUBE_EXISTS);
    assert_string_equal(f->reply.reason, "AlreadyExists");
    assert_non_null(strstr(kb_error_text(&f->err), "cannot create jobs in ns: HTTP 409 AlreadyExists"));
    json_object_set_new(json_object_get(body, "spec"), "parallelism", json_integer(0));
    assert_int_equal(call(f, KB_KUBE_APPLY, &JOB, body), KB_OK);
    assert_int_equal(json_integer_value(kb_kube_at(f->reply.object, "spec", "parallelism", NULL)), 0);
    KB_AUTOFREE char *version = kb_strdup(kb_kube_version(f->reply.object));
    /* The same once more changes nothing. */
    assert_int_equal(call(f, KB_KUBE_APPLY, &JOB, body), KB_OK);
    assert_string_equal(kb_kube_version(f->reply.object), version);
    KB_AUTO_JSON json_t *merge = json_pack("{s:{s:{s:s}}}", "metadata", "annotations", "k", "v");
    assert_int_equal(call(f, KB_KUBE_PATCH_MERGE, &JOB, merge), KB_OK);
    KB_AUTO_JSON json_t *json_patch =
        json_pack("[{s:s, s:s, s:s}, {s:s, s:s}]", "op", "test", "path", "/metadata/annotations/k", "value",
                  "v", "op", "remove", "path", "/metadata/annotations/k");
    assert_int_equal(call(f, KB_KUBE_PATCH_JSON, &JOB, json_patch), KB_OK);
    assert_int_equal(call(f, KB_KUBE_PATCH_JSON, &JOB, json_patch), KB_ERR_FORMAT);
    assert_int_equal(f->reply.fault, KB_KUBE_INVALID);
    assert_false(f->err.retryable);
    kb_kube_request request = {.verb = KB_KUBE_DELETE, .ref = JOB, .only_uid = "another"};
    assert_int_equal(kb_kube_call(f->client, &request, &f->reply, &f->err), KB_TEMPORARY_FAILURE);
    assert_int_equal(f->reply.fault, KB_KUBE_CONFLICT);
    request.only_uid = uid;
    assert_int_equal(kb_kube_call(f->client, &request, &f->reply, &f->err), KB_OK);
    assert_int_equal(kb_fake_api_count(f->api, &KB_KUBE_JOBS), 0);
}

static void kb_kube_call_replace_needs_the_version(void **state)
{
    fixture *f = *state;
    KB_AUTO_JSON json_t *stored = kb_fake_api_put(f->api, &KB_KUBE_JOBS, job("a"));
    KB_AUTO_JSON json_t *body = json_deep_copy(stored);
    json_object_set_new(json_object_get(body, "spec"), "parallelism", json_integer(2));
    assert_int_equal(call(f, KB_KUBE_REPLACE, &JOB, body), KB_OK);
    assert_int_equal(call(f, KB_KUBE_REPLACE, &JOB, body), KB_TEMPORARY_FAILURE);
    assert_int_equal(f->reply.fault, KB_KUBE_CONFLICT);
    assert_true(f->err.retryable);
}

static void kb_kube_call_apply_to_another_uid_is_a_conflict(void **state)
{
    fixture *f = *state;
    json_decref(kb_fake_api_put(f->api, &KB_KUBE_JOBS, job("a")));
    KB_AUTO_JSON json_t *body = job("a");
    json_object_set_new(json_object_get(body, "metadata"), "uid", json_string("of one that is gone"));
    const kb_kube_request request = {.verb = KB_KUBE_APPLY, .ref = JOB, .body = body, .is_forced = true};
    assert_int_equal(kb_kube_call(f->client, &request, &f->reply, &f->err), KB_TEMPORARY_FAILURE);
    assert_int_equal(f->reply.fault, KB_KUBE_CONFLICT);
    kb_fake_api_remove(f->api, &KB_KUBE_JOBS, "ns", "a");
    assert_int_equal(kb_kube_call(f->client, &request, &f->reply, &f->err), KB_TEMPORARY_FAILURE);
    assert_int_equal(f->reply.fault, KB_KUBE_CONFLICT);
}

static void kb_kube_list_goes_through_all_pages(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 1203; i++) {
        KB_AUTOFREE char *name = kb_asprintf("job-%d", i);
        json_decref(kb_fake_api_put(f->api, &KB_KUBE_JOBS, job(name)));
    }
    assert_int_equal(kb_kube_list(f->client, &JOBS, "app=x", NULL, &f->reply, &f->err), KB_OK);
    assert_int_equal(json_array_size(f->reply.object), 1203);
    assert_string_equal(kb_kube_text(json_array_get(f->reply.object, 7), "kind", NULL), "Job");
    assert_string_equal(kb_kube_text(json_array_get(f->reply.object, 7), "apiVersion", NULL), "batch/v1");
    assert_int_equal(kb_fake_api_requests(f->api, "GET", "limit=500"), 3);
    assert_int_equal(kb_kube_list(f->client, &JOBS, "app=y", NULL, &f->reply, &f->err), KB_OK);
    assert_int_equal(json_array_size(f->reply.object), 0);
}

static void kb_kube_list_expired_token_starts_again(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 600; i++) {
        KB_AUTOFREE char *name = kb_asprintf("job-%d", i);
        json_decref(kb_fake_api_put(f->api, &KB_KUBE_JOBS, job(name)));
    }
    kb_fake_fault expired = {
        .part = "continue=", .times = 3, .action = KB_FAKE_REPLY, .status = 410, .reason = "Expired"};
    kb_fake_api_fail(f->api, &expired);
    assert_int_equal(kb_kube_list(f->client, &JOBS, NULL, NULL, &f->reply, &f->err), KB_OK);
    assert_int_equal(json_array_size(f->reply.object), 600);
    expired.times = 100;
    kb_fake_api_fail(f->api, &expired);
    assert_int_equal(kb_kube_list(f->client, &JOBS, NULL, NULL, &f->reply, &f->err), KB_ERR_NOT_FOUND);
    assert_int_equal(f->reply.http_status, 410);
}

static void kb_kube_call_faults_have_their_class(void **state)
{
    fixture *f = *state;
    static const struct {
        kb_fake_fault fault;
        kb_kube_class expected;
        const char *text;
    } CASES[] = {
        {{.action = KB_FAKE_REPLY,
          .status = 403,
          .reason = "Forbidden",
          .message = "jobs.batch \"a\" is forbidden"},
         KB_KUBE_DENIED,
         "cannot get Job ns/a: HTTP 403 Forbidden: jobs.batch \"a\" is forbidden"},
        {{.action = KB_FAKE_REPLY, .status = 503, .reason = "ServiceUnavailable"},
         KB_KUBE_SERVER,
         "HTTP 503"},
        /* Twice: curl itself tries again when a kept connection turns out to be dead. */
        {{.times = 2, .action = KB_FAKE_DROP_BEFORE}, KB_KUBE_SERVER, "cannot get Job ns/a"},
        {{.action = KB_FAKE_RAW, .status = 200, .message = "<html>"}, KB_KUBE_SERVER, "not JSON"},
        {{.action = KB_FAKE_RAW, .status = 502, .message = "bad gateway"}, KB_KUBE_SERVER, "bad gateway"},
        {{.action = KB_FAKE_RAW, .status = 404, .message = "404 page not found"},
         KB_KUBE_GONE,
         "page not found"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        kb_fake_api_heal(f->api);
        kb_fake_api_fail(f->api, &CASES[i].fault);
        assert_int_not_equal(call(f, KB_KUBE_GET, &JOB, NULL), KB_OK);
        assert_int_equal(f->reply.fault, CASES[i].expected);
        assert_non_null(strstr(kb_error_text(&f->err), CASES[i].text));
        assert_null(strstr(kb_error_text(&f->err), "token-1"));
    }
}

static void kb_kube_call_lost_reply_shows_at_the_second_try(void **state)
{
    fixture *f = *state;
    KB_AUTO_JSON json_t *body = job("a");
    const kb_fake_fault lost = {.method = "POST", .action = KB_FAKE_DROP_AFTER};
    kb_fake_api_fail(f->api, &lost);
    assert_int_equal(call(f, KB_KUBE_CREATE, &JOBS, body), KB_TEMPORARY_FAILURE);
    assert_int_equal(f->reply.fault, KB_KUBE_SERVER);
    /* The client itself does not repeat a write. */
    assert_int_equal(kb_fake_api_requests(f->api, "POST", NULL), 1);
    assert_int_equal(call(f, KB_KUBE_CREATE, &JOBS, body), KB_ERR_EXISTS);
    assert_int_equal(kb_fake_api_count(f->api, &KB_KUBE_JOBS), 1);
}

static void kb_kube_call_throttled_holds_up_the_whole_client(void **state)
{
    fixture *f = *state;
    const kb_fake_fault busy = {
        .action = KB_FAKE_REPLY, .status = 429, .reason = "TooManyRequests", .retry_after_s = 1};
    kb_fake_api_fail(f->api, &busy);
    assert_int_equal(call(f, KB_KUBE_GET, &JOB, NULL), KB_TEMPORARY_FAILURE);
    assert_int_equal(f->reply.fault, KB_KUBE_THROTTLED);
    assert_int_equal(f->reply.retry_after_ms, 1000);
    const int64_t before_ms = kb_clock_boot_ms();
    const kb_kube_request exempt = {.verb = KB_KUBE_GET, .ref = JOB, .is_exempt = true};
    assert_int_equal(kb_kube_call(f->client, &exempt, &f->reply, &f->err), KB_ERR_NOT_FOUND);
    assert_int_equal(call(f, KB_KUBE_GET, &JOB, NULL), KB_ERR_NOT_FOUND);
    assert_true(kb_clock_boot_ms() - before_ms >= 900);
}

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

static void kb_kube_call_writes_nothing_without_the_lease(void **state)
{
    fixture *f = *state;
    kb_kube_client_set_gate(f->client, never, NULL);
    KB_AUTO_JSON json_t *body = job("a");
    static const kb_kube_verb WRITES[] = {KB_KUBE_CREATE,     KB_KUBE_REPLACE,     KB_KUBE_APPLY,
                                          KB_KUBE_PATCH_JSON, KB_KUBE_PATCH_MERGE, KB_KUBE_DELETE};
    for (size_t i = 0; i < KB_ARRAY_LEN(WRITES); i++) {
        assert_int_equal(call(f, WRITES[i], WRITES[i] == KB_KUBE_CREATE ? &JOBS : &JOB, body),
                         KB_TEMPORARY_FAILURE);
        assert_int_equal(f->reply.fault, KB_KUBE_NOT_LEADER);
    }
    assert_int_equal(kb_fake_api_writes(f->api), 0);
    assert_int_equal(call(f, KB_KUBE_GET, &JOB, NULL), KB_ERR_NOT_FOUND);
    const kb_kube_request ungated = {.verb = KB_KUBE_CREATE, .ref = JOBS, .body = body, .is_ungated = true};
    assert_int_equal(kb_kube_call(f->client, &ungated, &f->reply, &f->err), KB_OK);
}

static void kb_kube_call_stopped_client_sends_only_what_is_exempt(void **state)
{
    fixture *f = *state;
    kb_stop *stop = NULL;
    assert_int_equal(kb_stop_new(&stop, &f->err), KB_OK);
    kb_kube_client *client = NULL;
    const kb_kube_client_options options = {.access = f->access, .stop = stop};
    assert_int_equal(kb_kube_client_new(&options, &client, &f->err), KB_OK);
    kb_stop_set(stop, 0);
    kb_kube_request request = {.verb = KB_KUBE_GET, .ref = JOB};
    assert_int_equal(kb_kube_call(client, &request, &f->reply, &f->err), KB_ERR_STOPPED);
    assert_int_equal(f->reply.fault, KB_KUBE_STOPPED);
    request.is_exempt = true;
    assert_int_equal(kb_kube_call(client, &request, &f->reply, &f->err), KB_ERR_NOT_FOUND);
    kb_kube_client_free(client);
    kb_stop_free(stop);
}

static void kb_kube_call_rotated_token_is_found_at_once(void **state)
{
    fixture *f = *state;
    char *dir = kb_temp_dir_new();
    KB_AUTOFREE char *path = kb_temp_path(dir, "token");
    assert_int_equal(kb_file_write(path, "token-1\n", 8, &f->err), KB_OK);
    kb_kube_access *access = NULL;
    kb_kube_client *client = NULL;
    const kb_kube_access_options from = {.server = kb_fake_api_url(f->api), .token = {.file = path}};
    assert_int_equal(kb_kube_access_new(&from, &access, &f->err), KB_OK);
    const kb_kube_client_options options = {.access = access};
    assert_int_equal(kb_kube_client_new(&options, &client, &f->err), KB_OK);
    assert_int_equal(kb_kube_get(client, &JOB, &f->reply, &f->err), KB_ERR_NOT_FOUND);
    kb_fake_api_set_token(f->api, "token-2");
    assert_int_equal(kb_file_write(path, "token-2", 7, &f->err), KB_OK);
    assert_int_equal(kb_kube_get(client, &JOB, &f->reply, &f->err), KB_ERR_NOT_FOUND);
    /* Empty for a moment: the old one stays. */
    assert_int_equal(kb_file_write(path, "", 0, &f->err), KB_OK);
    kb_kube_access_refresh(access);
    assert_int_equal(kb_kube_get(client, &JOB, &f->reply, &f->err), KB_ERR_NOT_FOUND);
    kb_fake_api_set_token(f->api, "token-3");
    assert_int_equal(kb_kube_get(client, &JOB, &f->reply, &f->err), KB_TEMPORARY_FAILURE);
    assert_int_equal(f->reply.fault, KB_KUBE_DENIED);
    kb_kube_client_free(client);
    kb_kube_access_free(access);
    kb_temp_dir_free(dir);
}

static void kb_capabilities_from_versions(void **state)
{
    (void)state;
    static const struct {
        const char *minor;
        const char *flags; /* v1 ttl zones field cel failure replacement */
    } CASES[] = {{"20", "0000000"}, {"21", "1100000"}, {"22+", "1110000"},
                 {"24", "1110000"}, {"25", "1111100"}, {"26", "1111110"},
                 {"28", "1111110"}, {"29", "1111111"}, {"34+", "1111111"}};
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_JSON json_t *version = json_pack("{s:s, s:s}", "major", "1", "minor", CASES[i].minor);
        kb_capabilities caps;
        assert_int_equal(kb_capabilities_from(version, NULL, &caps, &err), KB_OK);
        KB_AUTOFREE char *flags =
            kb_asprintf("%d%d%d%d%d%d%d", caps.has_cron_job_v1, caps.has_ttl_after_finished,
                        caps.has_cron_schedules_in_zones, caps.has_time_zone_field, caps.has_cel,
                        caps.has_pod_failure_policy, caps.has_pod_replacement_policy);
        assert_string_equal(flags, CASES[i].flags);
    }
    KB_AUTO_ERROR(err);
    KB_AUTO_JSON json_t *bad = json_pack("{s:s}", "major", "one");
    kb_capabilities caps;
    assert_int_equal(kb_capabilities_from(bad, NULL, &caps, &err), KB_ERR_FORMAT);
}

static void kb_capabilities_read_asks_the_server(void **state)
{
    fixture *f = *state;
    kb_capabilities caps;
    kb_fake_api_set_minor(f->api, "27");
    assert_int_equal(kb_capabilities_read(f->client, &caps, &f->err), KB_OK);
    assert_int_equal(caps.minor, 27);
    assert_true(caps.has_cron_job_v1 && caps.has_pod_failure_policy && !caps.has_pod_replacement_policy);
}

static void kb_bucket_take_burst_then_rate(void **state)
{
    (void)state;
    kb_bucket *bucket = kb_bucket_new(50, 100, 1000);
    for (int i = 0; i < 100; i++)
        assert_int_equal(kb_bucket_take(bucket, 1000), 0);
    assert_false(kb_bucket_take_try(bucket, 1000));
    assert_int_equal(kb_bucket_take(bucket, 1000), 20);
    assert_int_equal(kb_bucket_take(bucket, 1000), 40);
    assert_int_equal(kb_bucket_take(bucket, 1060), 0);
    assert_true(kb_bucket_take_try(bucket, 1080));
    /* A long pause gives no more than the burst. */
    for (int i = 0; i < 100; i++)
        assert_int_equal(kb_bucket_take(bucket, 1000000), 0);
    assert_int_equal(kb_bucket_take(bucket, 1000000), 20);
    kb_bucket_free(bucket);
}

int main(void)
{
#define WITH_API(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_kube_path_names_each_kind_of_place),
        cmocka_unit_test(kb_kube_classify_follows_the_table),
        WITH_API(kb_kube_call_life_of_an_object),
        WITH_API(kb_kube_call_replace_needs_the_version),
        WITH_API(kb_kube_call_apply_to_another_uid_is_a_conflict),
        WITH_API(kb_kube_list_goes_through_all_pages),
        WITH_API(kb_kube_list_expired_token_starts_again),
        WITH_API(kb_kube_call_faults_have_their_class),
        WITH_API(kb_kube_call_lost_reply_shows_at_the_second_try),
        WITH_API(kb_kube_call_throttled_holds_up_the_whole_client),
        WITH_API(kb_kube_call_writes_nothing_without_the_lease),
        WITH_API(kb_kube_call_stopped_client_sends_only_what_is_exempt),
        WITH_API(kb_kube_call_rotated_token_is_found_at_once),
        cmocka_unit_test(kb_capabilities_from_versions),
        WITH_API(kb_capabilities_read_asks_the_server),
        cmocka_unit_test(kb_bucket_take_burst_then_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

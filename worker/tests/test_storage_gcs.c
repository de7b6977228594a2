#include "worker/storage/storage_gcs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/tests/cloud_fixture.h"

#define ATTEMPT "00112233445566778899aabbccddeeff"
#define MD5_OF_ABC "kAFQmDzST7DWlj99KOF/cg=="
#define OBJECT(md5, size) \
    "{\"name\":\"p/k\",\"size\":\"" size "\",\"timeCreated\":\"2024-01-01T00:00:00.5Z\",\"md5Hash\":\"" md5 \
    "\"}"
#define REASON(word) "{\"error\":{\"code\":0,\"message\":\"canary\",\"errors\":[{\"reason\":\"" word "\"}]}}"
#define STEPS_MAX 5

typedef struct reply {
    const char *status, *body;
} reply;

/* A store whose service answers by a script; the first request is the one for a token. */
typedef struct scripted {
    kb_config_gcs config;
    char *replies[STEPS_MAX + 1];
    kb_http_step steps[STEPS_MAX + 1];
    kb_http_script *script;
    kb_storage *storage;
} scripted;

static void scripted_open(scripted *s, const reply *replies, size_t count, const char *project)
{
    KB_AUTO_ERROR(err);
    memset(s, 0, sizeof *s);
    s->replies[0] = cloud_reply("200 OK", "", "{\"access_token\":\"tok\",\"expires_in\":3600}");
    for (size_t i = 0; i < count; i++)
        s->replies[i + 1] = cloud_reply(replies[i].status, "", replies[i].body);
    for (size_t i = 0; i <= count; i++)
        s->steps[i] = (kb_http_step){.reply = s->replies[i]};
    s->script = kb_http_script_new(s->steps, count + 1);
    s->config = (kb_config_gcs){
        .bucket = (char *)(uintptr_t)"buck",
        .endpoint = (char *)(uintptr_t)kb_http_script_url(s->script),
        .prefix = (char *)(uintptr_t)"p",
        .allow_http = true,
    };
    const kb_gcs_options options = {
        .config = &s->config,
        .owned_net = cloud_net(),
        .segment_buffer_bytes = 1 << 20,
        .project = project,
        .metadata_url = kb_http_script_url(s->script),
    };
    if (kb_storage_open_gcs(&options, &s->storage, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
}

static void scripted_done(scripted *s)
{
    kb_storage_free(s->storage);
    kb_http_script_free(s->script);
    for (size_t i = 0; i <= STEPS_MAX; i++)
        free(s->replies[i]);
}

typedef struct outcome_case {
    const char *what;
    reply replies[STEPS_MAX];
    size_t count;
    kb_code code;
    const char *says;
} outcome_case;

/* All replies were asked for, and none more: the token's is the first. */
static void check_outcome(const outcome_case *c, scripted *s, kb_code code, const kb_error *err)
{
    unsigned requests = kb_http_script_requests(s->script);
    if (code != c->code || requests != c->count + 1 || strstr(kb_error_text(err), c->says) == NULL ||
        strstr(kb_error_text(err), "canary") != NULL)
        fail_msg("%s: code %d after %u requests: %s", c->what, (int)code, requests, kb_error_text(err));
}

static void put_outcomes_match(void **state)
{
    (void)state;
    static const outcome_case cases[] = {
        {"made", {{"200 OK", OBJECT(MD5_OF_ABC, "3")}}, 1, KB_OK, ""},
        {"there", {{"412 Failed", REASON("conditionNotMet")}}, 1, KB_ERR_EXISTS, "'k' is there already"},
        {"lost reply, ours",
         {{"503 Busy", ""}, {"412 Failed", REASON("conditionNotMet")}, {"200 OK", OBJECT(MD5_OF_ABC, "3")}},
         3,
         KB_OK,
         ""},
        {"lost reply, other bytes",
         {{"503 Busy", ""}, {"412 Failed", ""}, {"200 OK", OBJECT("AAAAAAAAAAAAAAAAAAAAAA==", "3")}},
         3,
         KB_ERR_EXISTS,
         ""},
        {"lost reply, other size",
         {{"503 Busy", ""}, {"412 Failed", ""}, {"200 OK", OBJECT(MD5_OF_ABC, "4")}},
         3,
         KB_ERR_EXISTS,
         ""},
        {"stored otherwise",
         {{"200 OK", OBJECT("AAAAAAAAAAAAAAAAAAAAAA==", "3")}},
         1,
         KB_STORAGE_IO_ERROR,
         "other bytes"},
        {"answered nonsense", {{"200 OK", "<canary>"}}, 1, KB_STORAGE_IO_ERROR, ""},
        {"denied",
         {{"403 No", REASON("forbidden")}},
         1,
         KB_STORAGE_ACCESS_DENIED,
         "Access denied to GCS bucket 'buck': cannot write 'p/k': 403 forbidden; hint: give the identity"},
        {"no bucket",
         {{"404 No", REASON("notFound")}},
         1,
         KB_CONFIG_INVALID,
         "there is no bucket 'buck' in Google Cloud Storage; hint:"},
        {"too fast",
         {{"403 No", REASON("rateLimitExceeded")}, {"200 OK", OBJECT(MD5_OF_ABC, "3")}},
         2,
         KB_OK,
         ""},
        {"throttled", {{"429 No", ""}, {"200 OK", OBJECT(MD5_OF_ABC, "3")}}, 2, KB_OK, ""},
        {"expired",
         {{"401 No", REASON("authError")},
          {"200 OK", "{\"access_token\":\"new\",\"expires_in\":3600}"},
          {"200 OK", OBJECT(MD5_OF_ABC, "3")}},
         3,
         KB_OK,
         ""},
        {"expired for ever",
         {{"401 No", REASON("authError")},
          {"200 OK", "{\"access_token\":\"new\",\"expires_in\":3600}"},
          {"401 No", REASON("authError")}},
         3,
         KB_STORAGE_ACCESS_DENIED,
         "401 authError"},
        {"elsewhere", {{"308 Resume", ""}}, 1, KB_CONFIG_INVALID, "redirects are not followed"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        KB_CLEANUP(scripted_done) scripted s;
        scripted_open(&s, cases[i].replies, cases[i].count, NULL);
        kb_code code = kb_storage_put_if_absent(s.storage, "k", kb_view_of("abc", 3), &err);
        check_outcome(&cases[i], &s, code, &err);
        static const char *const wanted[] = {
            "POST /upload/storage/v1/b/buck/o?uploadType=multipart&ifGenerationMatch=0&fields=",
            "Authorization: Bearer tok\r\n",
            "Content-Type: multipart/related; boundary=",
            "{\"name\":\"p/k\",\"contentType\":\"application/octet-stream\",\"md5Hash\":\"" MD5_OF_ABC
            "\"}\r\n",
            "\r\n\r\nabc\r\n--",
            NULL};
        cloud_expect(s.script, 1, wanted);
    }
}

static void get_outcomes_match(void **state)
{
    (void)state;
    static const outcome_case cases[] = {
        {"read", {{"200 OK", "abc"}}, 1, KB_OK, ""},
        {"absent in a bucket that is there",
         {{"404 No", ""}, {"200 OK", "{\"kind\":\"x\"}"}},
         2,
         KB_ERR_NOT_FOUND,
         "there is no 'k'"},
        {"absent bucket",
         {{"404 No", ""}, {"404 No", ""}},
         2,
         KB_CONFIG_INVALID,
         "there is no bucket 'buck'"},
        {"bucket may not be listed",
         {{"404 No", ""}, {"403 No", REASON("forbidden")}},
         2,
         KB_STORAGE_ACCESS_DENIED,
         "list permission"},
        {"too large", {{"200 OK", "01234567890"}}, 1, KB_ERR_TOO_LARGE, ""},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_BLOB(blob);
        KB_CLEANUP(scripted_done) scripted s;
        scripted_open(&s, cases[i].replies, cases[i].count, NULL);
        kb_code code = kb_storage_get(s.storage, "k", 10, &blob, &err);
        check_outcome(&cases[i], &s, code, &err);
        static const char *const wanted[] = {"GET /storage/v1/b/buck/o/p%2Fk?alt=media HTTP/1.1\r\n", NULL};
        cloud_expect(s.script, 1, wanted);
    }
}

static void a_bucket_that_asks_for_a_project_gets_it(void **state)
{
    (void)state;
    static const reply replies[] = {{"400 Bad", REASON("required")}, {"200 OK", "abc"}};
    for (int i = 0; i < 2; i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_BLOB(blob);
        KB_CLEANUP(scripted_done) scripted s;
        scripted_open(&s, replies, 2, i == 0 ? "payer" : NULL);
        kb_code code = kb_storage_get(s.storage, "k", 10, &blob, &err);
        assert_int_equal(code, i == 0 ? KB_OK : KB_CONFIG_INVALID);
        static const char *const wanted[] = {"x-goog-user-project: payer\r\n", NULL};
        if (i == 0)
            cloud_expect(s.script, 2, wanted);
        assert_null(strstr(kb_http_script_request(s.script, 1), "x-goog-user-project"));
    }
}

static void remove_outcomes_match(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        reply replies[3];
        kb_remove_outcome outcome;
    } cases[] = {
        {"gone", {{"200 OK", "{}"}, {"204 No Content", ""}, {"500", ""}}, KB_REMOVE_GONE},
        {"bucket not told", {{"403 No", ""}, {"204 No Content", ""}, {"500", ""}}, KB_REMOVE_GONE},
        {"versions",
         {{"200 OK", "{\"versioning\":{\"enabled\":true}}"}, {"204 No Content", ""}, {"500", ""}},
         KB_REMOVE_HIDDEN},
        {"soft delete",
         {{"200 OK", "{\"softDeletePolicy\":{\"retentionDurationSeconds\":\"604800\"}}"},
          {"204 No Content", ""},
          {"500", ""}},
         KB_REMOVE_HIDDEN},
        {"soft delete off",
         {{"200 OK",
           "{\"softDeletePolicy\":{\"retentionDurationSeconds\":\"0\"},\"versioning\":{\"enabled\":false}}"},
          {"204 No Content", ""},
          {"500", ""}},
         KB_REMOVE_GONE},
        {"absent", {{"200 OK", "{}"}, {"404 No", ""}, {"500", ""}}, KB_REMOVE_ABSENT},
        {"retention",
         {{"200 OK", "{}"}, {"403 No", REASON("retentionPolicyNotMet")}, {"500", ""}},
         KB_REMOVE_HELD},
        {"hold",
         {{"200 OK", "{}"}, {"403 No", REASON("objectUnderActiveHold")}, {"500", ""}},
         KB_REMOVE_HELD},
        {"not allowed", {{"200 OK", "{}"}, {"403 No", REASON("forbidden")}, {"500", ""}}, KB_REMOVE_HELD},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        KB_CLEANUP(scripted_done) scripted s;
        static const char *const keys[] = {"k"};
        kb_remove_outcome outcome;
        scripted_open(&s, cases[i].replies, 3, NULL);
        kb_code code = kb_storage_remove_many(s.storage, keys, 1, &outcome, &err);
        if (code != KB_OK || outcome != cases[i].outcome)
            fail_msg("%s: code %d, outcome %d: %s", cases[i].what, (int)code, (int)outcome,
                     kb_error_text(&err));
    }
}

static void a_listing_in_a_circle_ends(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    static const reply replies[] = {{"200 OK", "{\"nextPageToken\":\"a+b\"}"}};
    KB_CLEANUP(scripted_done) scripted s;
    scripted_open(&s, replies, 1, NULL);
    assert_int_equal(kb_storage_list(s.storage, "b/", NULL, NULL, &err), KB_STORAGE_IO_ERROR);
    assert_non_null(strstr(kb_error_text(&err), "circle"));
    static const char *const wanted[] = {"&prefix=p%2Fb%2F&pageToken=a%2Bb HTTP/1.1\r\n", NULL};
    cloud_expect(s.script, 2, wanted);
}

static void an_upload_goes_out_whole(void **state)
{
    (void)state;
    enum { LEN = 1300 * 1000 };
    KB_AUTO_ERROR(err);
    static const reply replies[] = {{"200 OK", OBJECT("", "1300032")}};
    KB_AUTOFREE uint8_t *data = kb_calloc(1, LEN);
    KB_CLEANUP(scripted_done) scripted s;
    scripted_open(&s, replies, 1, NULL);
    kb_upload *upload = NULL;
    assert_int_equal(kb_upload_begin(s.storage, "k", ATTEMPT, &upload, &err), KB_OK);
    assert_int_equal(kb_upload_append(upload, data, 1000, &err), KB_OK);
    assert_int_equal(kb_upload_append(upload, data, LEN - 1000, &err), KB_OK);
    assert_int_equal(kb_http_script_requests(s.script), 0);
    if (kb_upload_complete(upload, data, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    kb_upload_free(upload);
    assert_int_equal(kb_http_script_requests(s.script), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_outcomes_match),
        cmocka_unit_test(get_outcomes_match),
        cmocka_unit_test(a_bucket_that_asks_for_a_project_gets_it),
        cmocka_unit_test(remove_outcomes_match),
        cmocka_unit_test(a_listing_in_a_circle_ends),
        cmocka_unit_test(an_upload_goes_out_whole),
    };
    return cmocka_run_group_tests_name("storage_gcs", tests, NULL, NULL);
}

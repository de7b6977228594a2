#include "worker/storage/storage_azure.h"

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
#define KEY "c2VjcmV0LWNhbmFyeQ=="
#define MD5_OF_ABC "kAFQmDzST7DWlj99KOF/cg=="

#define PLAIN(status) {.reply = "HTTP/1.1 " status "\r\nContent-Length: 0\r\n\r\n"}
#define CODED(status, code) \
    {.reply = "HTTP/1.1 " status "\r\nx-ms-error-code: " code "\r\nContent-Length: 0\r\n\r\n"}
#define BODY3(more, body) {.reply = "HTTP/1.1 200 OK\r\n" more "Content-Length: 3\r\n\r\n" body}
#define LOOK(more) \
    {.reply = "HTTP/1.1 200 OK\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n" more \
              "Content-Length: 3\r\n\r\n"}

/* A store whose service answers by a script. */
typedef struct scripted {
    kb_config_azure config;
    kb_http_script *script;
    kb_storage *storage;
} scripted;

static void scripted_open(scripted *s, const kb_http_step *steps, size_t count)
{
    KB_AUTO_ERROR(err);
    s->script = kb_http_script_new(steps, count);
    s->config = (kb_config_azure){
        .account_name = (char *)(uintptr_t)"acc",
        .container_name = (char *)(uintptr_t)"con",
        .endpoint = (char *)(uintptr_t)kb_http_script_url(s->script),
        .prefix = (char *)(uintptr_t)"p",
        .allow_http = true,
        .account_key = {.value = kb_secret_new(KEY, strlen(KEY))},
    };
    const kb_azure_options options = {.config = &s->config, .owned_net = cloud_net()};
    if (kb_storage_open_azure(&options, &s->storage, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
}

static void scripted_done(scripted *s)
{
    kb_storage_free(s->storage);
    kb_http_script_free(s->script);
    kb_secret_free(s->config.account_key.value);
}

/* What a run of one function came to. */
typedef struct outcome_case {
    const char *what;
    kb_http_step steps[4];
    size_t count;
    kb_code code;
    unsigned requests;
    const char *says;
} outcome_case;

static void check_outcome(const outcome_case *c, scripted *s, kb_code code, const kb_error *err)
{
    unsigned requests = kb_http_script_requests(s->script);
    if (code != c->code || requests != c->requests || strstr(kb_error_text(err), c->says) == NULL ||
        strstr(kb_error_text(err), KEY) != NULL)
        fail_msg("%s: code %d after %u requests: %s", c->what, (int)code, requests, kb_error_text(err));
}

static void put_outcomes_match(void **state)
{
    (void)state;
    static const outcome_case cases[] = {
        {"made", {PLAIN("201 Created")}, 1, KB_OK, 1, ""},
        {"there", {CODED("409 Conflict", "BlobAlreadyExists")}, 1, KB_ERR_EXISTS, 1, "'k' is there already"},
        {"there, told by 412", {CODED("412 Failed", "ConditionNotMet")}, 1, KB_ERR_EXISTS, 1, ""},
        {"there and immutable", {CODED("409 Conflict", "BlobImmutableDueToPolicy")}, 1, KB_ERR_EXISTS, 1, ""},
        {"there, may only create", {CODED("403 No", "UnauthorizedBlobOverwrite")}, 1, KB_ERR_EXISTS, 1, ""},
        {"lost reply, ours",
         {PLAIN("500 Oops"), CODED("409 Conflict", "BlobAlreadyExists"), BODY3("", "abc")},
         3,
         KB_OK,
         3,
         ""},
        {"lost reply, not ours",
         {PLAIN("500 Oops"), CODED("409 Conflict", "BlobAlreadyExists"), BODY3("", "abd")},
         3,
         KB_ERR_EXISTS,
         3,
         ""},
        {"lost connection, ours",
         {{.close = true}, CODED("409 Conflict", "BlobAlreadyExists"), BODY3("", "abc")},
         3,
         KB_OK,
         3,
         ""},
        {"damaged on the way", {CODED("400 Bad", "Md5Mismatch"), PLAIN("201 Created")}, 2, KB_OK, 2, ""},
        {"denied",
         {CODED("403 No", "AuthorizationPermissionMismatch")},
         1,
         KB_STORAGE_ACCESS_DENIED,
         1,
         "Access denied to Azure container 'con': cannot write 'p/k' in account 'acc': 403 "
         "AuthorizationPermissionMismatch; hint: give the identity the role"},
        {"refused key, asked twice",
         {CODED("403 No", "AuthenticationFailed")},
         1,
         KB_STORAGE_ACCESS_DENIED,
         2,
         "check the key"},
        {"no container",
         {CODED("404 No", "ContainerNotFound")},
         1,
         KB_CONFIG_INVALID,
         1,
         "there is no container 'con' in Azure account 'acc'; hint:"},
        {"elsewhere",
         {{.reply = "HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: "
                    "0\r\n\r\n"}},
         1,
         KB_CONFIG_INVALID,
         1,
         "redirects are not followed"},
        {"throttled", {CODED("503 Busy", "ServerBusy"), PLAIN("201 Created")}, 2, KB_OK, 2, ""},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        KB_CLEANUP(scripted_done) scripted s;
        scripted_open(&s, cases[i].steps, cases[i].count);
        kb_code code = kb_storage_put_if_absent(s.storage, "k", kb_view_of("abc", 3), &err);
        check_outcome(&cases[i], &s, code, &err);
        static const char *const wanted[] = {
            "PUT /con/p/k HTTP/1.1\r\n",     "If-None-Match: *\r\n",
            "x-ms-blob-type: BlockBlob\r\n", "Content-MD5: " MD5_OF_ABC "\r\n",
            "Authorization: SharedKey acc:", NULL};
        cloud_expect(s.script, 0, wanted);
    }
}

static void get_outcomes_match(void **state)
{
    (void)state;
    static const outcome_case cases[] = {
        {"read", {BODY3("", "abc")}, 1, KB_OK, 1, ""},
        {"absent", {CODED("404 No", "BlobNotFound")}, 1, KB_ERR_NOT_FOUND, 1, "there is no 'k'"},
        {"404 of nobody knows what", {PLAIN("404 No")}, 1, KB_CONFIG_INVALID, 1, "404"},
        {"no container", {CODED("404 No", "ContainerNotFound")}, 1, KB_CONFIG_INVALID, 1, "no container"},
        {"damaged, then well",
         {BODY3("Content-MD5: " MD5_OF_ABC "\r\n", "abd"), BODY3("Content-MD5: " MD5_OF_ABC "\r\n", "abc")},
         2,
         KB_OK,
         2,
         ""},
        {"short, then well",
         {{.reply = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", .close = true}, BODY3("", "abc")},
         2,
         KB_OK,
         2,
         ""},
        {"too large",
         {{.reply = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n01234567890"}},
         1,
         KB_ERR_TOO_LARGE,
         1,
         ""},
        {"denied by the network",
         {CODED("403 No", "AuthorizationFailure")},
         1,
         KB_STORAGE_ACCESS_DENIED,
         1,
         "network rules"},
        {"expired token", {CODED("401 No", "InvalidAuthenticationInfo"), BODY3("", "abc")}, 2, KB_OK, 2, ""},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_BLOB(blob);
        KB_CLEANUP(scripted_done) scripted s;
        scripted_open(&s, cases[i].steps, cases[i].count);
        kb_code code = kb_storage_get(s.storage, "k", 10, &blob, &err);
        check_outcome(&cases[i], &s, code, &err);
        if (code == KB_OK)
            assert_string_equal((const char *)blob.data, "abc");
    }
}

static void a_clock_that_is_off_is_corrected_once(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {
        {.reply = "HTTP/1.1 403 No\r\nDate: Fri, 01 Jan 2100 12:00:00 GMT\r\nx-ms-error-code: "
                  "AuthenticationFailed\r\nContent-Length: 0\r\n\r\n"},
        PLAIN("201 Created"),
    };
    KB_AUTO_ERROR(err);
    KB_CLEANUP(scripted_done) scripted s;
    scripted_open(&s, steps, 2);
    assert_int_equal(kb_storage_put_if_absent(s.storage, "k", kb_view_of("abc", 3), &err), KB_OK);
    static const char *const wanted[] = {"x-ms-date: Fri, 01 Jan 2100 12:00:0", NULL};
    cloud_expect(s.script, 1, wanted);
}

static void remove_outcomes_match(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        kb_http_step steps[2];
        kb_remove_outcome outcome;
    } cases[] = {
        {"gone", {LOOK(""), PLAIN("202 Accepted")}, KB_REMOVE_GONE},
        {"absent", {CODED("404 No", "BlobNotFound"), PLAIN("500 Unasked")}, KB_REMOVE_ABSENT},
        {"absent meanwhile", {LOOK(""), CODED("404 No", "BlobNotFound")}, KB_REMOVE_ABSENT},
        {"soft delete",
         {LOOK(""),
          {.reply = "HTTP/1.1 202 OK\r\nx-ms-delete-type-permanent: false\r\nContent-Length: 0\r\n\r\n"}},
         KB_REMOVE_HIDDEN},
        {"versions", {LOOK("x-ms-version-id: 1\r\n"), PLAIN("202 Accepted")}, KB_REMOVE_HIDDEN},
        {"leased", {LOOK(""), CODED("412 No", "LeaseIdMissing")}, KB_REMOVE_HELD},
        {"immutable", {LOOK(""), CODED("409 No", "BlobImmutableDueToPolicy")}, KB_REMOVE_HELD},
        {"not allowed", {LOOK(""), CODED("403 No", "AuthorizationPermissionMismatch")}, KB_REMOVE_HELD},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        KB_CLEANUP(scripted_done) scripted s;
        static const char *const keys[] = {"k"};
        kb_remove_outcome outcome;
        scripted_open(&s, cases[i].steps, 2);
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
    KB_AUTOFREE char *reply = cloud_reply(
        "200 OK", "", "<EnumerationResults><Blobs/><NextMarker>m&amp;1</NextMarker></EnumerationResults>");
    const kb_http_step step = {.reply = reply};
    KB_CLEANUP(scripted_done) scripted s;
    scripted_open(&s, &step, 1);
    assert_int_equal(kb_storage_list(s.storage, "b/", NULL, NULL, &err), KB_STORAGE_IO_ERROR);
    assert_non_null(strstr(kb_error_text(&err), "circle"));
    static const char *const wanted[] = {"&prefix=p%2Fb%2F&marker=m%261 HTTP/1.1\r\n", NULL};
    cloud_expect(s.script, 1, wanted);
}

/* Two blocks, the head and the list: 4 requests, then what the case adds. */
static void upload_outcomes_match(void **state)
{
    (void)state;
    enum { LEN = 1500 * 1024 };
    static const struct {
        const char *what;
        kb_http_step last[2];
        kb_code code;
    } cases[] = {
        {"published", {PLAIN("201 Created"), PLAIN("500 Unasked")}, KB_OK},
        {"blocks gone", {CODED("400 Bad", "InvalidBlockList"), CODED("404 No", "BlobNotFound")}, KB_FENCED},
        {"somebody else's", {CODED("409 No", "BlobAlreadyExists"), LOOK("")}, KB_ERR_EXISTS},
    };
    KB_AUTOFREE uint8_t *data = kb_calloc(1, LEN);
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        KB_CLEANUP(scripted_done) scripted s;
        const kb_http_step steps[] = {PLAIN("201 Created"), PLAIN("201 Created"), PLAIN("201 Created"),
                                      cases[i].last[0], cases[i].last[1]};
        scripted_open(&s, steps, KB_ARRAY_LEN(steps));
        kb_storage_limit_part_bytes(s.storage, 1);
        kb_upload *upload = NULL;
        assert_int_equal(kb_upload_begin(s.storage, "k", ATTEMPT, &upload, &err), KB_OK);
        assert_int_equal(kb_upload_append(upload, data, LEN, &err), KB_OK);
        kb_code code = kb_upload_complete(upload, data, &err);
        kb_upload_free(upload);
        if (code != cases[i].code)
            fail_msg("%s: code %d: %s", cases[i].what, (int)code, kb_error_text(&err));
        static const char *const block[] = {"PUT /con/p/k?comp=block&blockid=ABEiM0RVZneImaq7zN3u%2F",
                                            "Content-MD5: ", NULL};
        static const char *const list[] = {"PUT /con/p/k?comp=blocklist HTTP/1.1\r\n", "If-None-Match: *\r\n",
                                           "<BlockList><Uncommitted>ABEiM0RVZneImaq7zN3u/", NULL};
        cloud_expect(s.script, 0, block);
        cloud_expect(s.script, 2, block);
        cloud_expect(s.script, 3, list);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_outcomes_match),
        cmocka_unit_test(get_outcomes_match),
        cmocka_unit_test(a_clock_that_is_off_is_corrected_once),
        cmocka_unit_test(remove_outcomes_match),
        cmocka_unit_test(a_listing_in_a_circle_ends),
        cmocka_unit_test(upload_outcomes_match),
    };
    return cmocka_run_group_tests_name("storage_azure", tests, NULL, NULL);
}

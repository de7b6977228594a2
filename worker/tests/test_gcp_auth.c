#include "worker/auth/gcp_auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "common/testing/temp_dir.h"
#include "worker/tests/cloud_fixture.h"

#define NOW INT64_C(1700000000000)

typedef struct fixture {
    char *dir, *path; /* of the account's file */
    kb_http_script *script;
    char *replies[4];
    kb_http_step steps[4];
    size_t count;
    kb_store_net *net;
    kb_cred_provider *provider;
    int64_t wall_ms, boot_ms;
    kb_clock clock;
} fixture;

static int64_t boot_now(void *ctx)
{
    return ((fixture *)ctx)->boot_ms;
}

static int64_t wall_now(void *ctx)
{
    return ((fixture *)ctx)->wall_ms;
}

static int setup(void **state)
{
    fixture *f = kb_calloc(1, sizeof *f);
    f->dir = kb_temp_dir_new();
    f->path = kb_temp_path(f->dir, "account.json");
    f->net = cloud_net();
    f->wall_ms = NOW;
    f->boot_ms = 1000;
    f->clock = (kb_clock){boot_now, wall_now, f};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    kb_cred_provider_free(f->provider);
    kb_store_net_free(f->net);
    if (f->script != NULL)
        kb_http_script_free(f->script);
    for (size_t i = 0; i < f->count; i++)
        free(f->replies[i]);
    kb_temp_dir_free(f->dir);
    free(f->path);
    free(f);
    return 0;
}

static void add_reply(fixture *f, const char *status, const char *body)
{
    f->replies[f->count] = cloud_reply(status, "", body);
    f->steps[f->count] = (kb_http_step){.reply = f->replies[f->count]};
    f->count++;
}

static const char *serve(fixture *f)
{
    f->script = kb_http_script_new(f->steps, f->count);
    return kb_http_script_url(f->script);
}

static void write_file(const char *path, const char *text)
{
    KB_AUTO_ERROR(err);
    assert_int_equal(kb_file_write(path, text, strlen(text), &err), KB_OK);
}

/* The account's file, with the test key; `id` is its private_key_id. */
static void write_service_account(fixture *f, const char *url, const char *id)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE uint8_t *pem = NULL;
    size_t len = 0;
    assert_int_equal(kb_file_read("common/tests/data/rsa-pkcs8.pem", 65536, &pem, &len, &err), KB_OK);
    KB_AUTO_STRBUF(text, 65536);
    kb_strbuf_appendf(&text,
                      "{\"type\":\"service_account\",\"client_email\":\"me@x\",\"private_key_id\":\"%s\","
                      "\"token_uri\":\"%s/token\",\"private_key\":\"",
                      id, url);
    for (size_t i = 0; i < len; i++)
        kb_strbuf_appends(&text, pem[i] == '\n' ? "\\n" : (char[]){(char)pem[i], '\0'});
    kb_strbuf_appends(&text, "\"}");
    write_file(f->path, kb_strbuf_view(&text));
}

static void open_provider(fixture *f, const char *metadata_url)
{
    const kb_gcp_auth_options options = {
        .service_account_path = metadata_url == NULL ? f->path : NULL,
        .allow_local_http = true,
        .tokens = f->net->tokens,
        .metadata = f->net->metadata,
        .clock = &f->clock,
        .metadata_url = metadata_url,
    };
    f->provider = kb_gcp_auth_new(&options);
}

static kb_cred *get_cred(fixture *f)
{
    KB_AUTO_ERROR(err);
    kb_cred *cred = NULL;
    if (kb_cred_get(f->provider, &cred, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    return cred;
}

/* A part of the assertion in the nth request, decoded. Owned. */
static char *assertion_part(fixture *f, unsigned n, unsigned part)
{
    KB_AUTO_ERROR(err);
    const char *at = strstr(kb_http_script_request(f->script, n), "&assertion=");
    assert_non_null(at);
    at += strlen("&assertion=");
    for (unsigned i = 0; i < part; i++)
        at += strcspn(at, ".") + 1;
    size_t len = strcspn(at, "."), out_len = 0;
    uint8_t *out = kb_malloc(KB_BASE64_DATA_SIZE(len) + 1);
    assert_int_equal(kb_base64url_decode(at, len, out, &out_len, &err), KB_OK);
    out[out_len] = '\0';
    return (char *)out;
}

static void service_account_sends_a_signed_assertion(void **state)
{
    fixture *f = *state;
    add_reply(f, "200 OK", "{\"access_token\":\"ya29.x\",\"expires_in\":3600,\"token_type\":\"Bearer\"}");
    const char *url = serve(f);
    write_service_account(f, url, "key-1");
    open_provider(f, NULL);
    KB_CLEANUP(kb_cred_unref_at) kb_cred *cred = get_cred(f);
    assert_string_equal(kb_secret_view(kb_cred_view(cred)->token), "ya29.x");
    assert_int_equal(kb_cred_view(cred)->expires_ms, NOW + 3600000);
    static const char *const wanted[] = {
        "POST /token HTTP/1.1\r\n", "Content-Type: application/x-www-form-urlencoded\r\n",
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=", NULL};
    cloud_expect(f->script, 0, wanted);
    KB_AUTOFREE char *head = assertion_part(f, 0, 0);
    KB_AUTOFREE char *claims = assertion_part(f, 0, 1);
    KB_AUTOFREE char *expected = kb_asprintf("{\"iss\":\"me@x\",\"scope\":\"https://www.googleapis.com/auth/"
                                             "devstorage.read_write\",\"aud\":\"%s/token\","
                                             "\"iat\":1700000000,\"exp\":1700003600}",
                                             url);
    assert_string_equal(head, "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":\"key-1\"}");
    assert_string_equal(claims, expected);
}

static void tokens_are_renewed_before_their_end_with_the_file_read_again(void **state)
{
    fixture *f = *state;
    add_reply(f, "200 OK", "{\"access_token\":\"one\",\"expires_in\":3600}");
    add_reply(f, "200 OK", "{\"access_token\":\"two\",\"expires_in\":3600}");
    const char *url = serve(f);
    write_service_account(f, url, "key-1");
    open_provider(f, NULL);
    KB_CLEANUP(kb_cred_unref_at) kb_cred *first = get_cred(f);
    write_service_account(f, url, "key-2");
    f->wall_ms += 54 * 60 * 1000;
    f->boot_ms += 54 * 60 * 1000;
    KB_CLEANUP(kb_cred_unref_at) kb_cred *same = get_cred(f);
    assert_ptr_equal(first, same);
    f->wall_ms += 2 * 60 * 1000;
    f->boot_ms += 2 * 60 * 1000;
    KB_CLEANUP(kb_cred_unref_at) kb_cred *second = get_cred(f);
    assert_string_equal(kb_secret_view(kb_cred_view(second)->token), "two");
    KB_AUTOFREE char *head = assertion_part(f, 1, 0);
    assert_non_null(strstr(head, "key-2"));
}

static void a_failed_renewal_goes_on_with_the_token_that_still_works(void **state)
{
    fixture *f = *state;
    KB_AUTO_ERROR(err);
    add_reply(f, "200 OK", "{\"access_token\":\"one\",\"expires_in\":3600}");
    add_reply(f, "400 Bad Request", "{\"error\":\"invalid_grant\"}");
    write_service_account(f, serve(f), "k");
    open_provider(f, NULL);
    KB_CLEANUP(kb_cred_unref_at) kb_cred *first = get_cred(f);
    f->wall_ms += 56 * 60 * 1000;
    f->boot_ms += 56 * 60 * 1000;
    KB_CLEANUP(kb_cred_unref_at) kb_cred *same = get_cred(f);
    assert_ptr_equal(first, same);
    kb_cred_refused(f->provider, same);
    kb_cred *none = NULL;
    assert_int_equal(kb_cred_get(f->provider, &none, &err), KB_STORAGE_ACCESS_DENIED);
    assert_non_null(strstr(kb_error_text(&err), "invalid_grant"));
    assert_null(strstr(kb_error_text(&err), "BEGIN"));
}

static void external_account_exchanges_and_impersonates(void **state)
{
    fixture *f = *state;
    KB_AUTOFREE char *token_path = kb_temp_path(f->dir, "token");
    write_file(token_path, "{\"t\":\"subject.token\"}");
    add_reply(f, "200 OK", "{\"access_token\":\"federated\",\"expires_in\":3600,\"token_type\":\"Bearer\"}");
    add_reply(f, "200 OK", "{\"accessToken\":\"own\",\"expireTime\":\"2023-11-14T23:13:20Z\"}");
    const char *url = serve(f);
    KB_AUTOFREE char *account =
        kb_asprintf("{\"type\":\"external_account\",\"audience\":\"//iam/"
                    "p\",\"subject_token_type\":\"jwt\",\"token_url\":\"%s/s\","
                    "\"service_account_impersonation_url\":\"%s/"
                    "i:generateAccessToken\",\"credential_source\":{\"file\":\"%s\","
                    "\"format\":{\"type\":\"json\",\"subject_token_field_name\":\"t\"}}}",
                    url, url, token_path);
    write_file(f->path, account);
    open_provider(f, NULL);
    KB_CLEANUP(kb_cred_unref_at) kb_cred *cred = get_cred(f);
    assert_string_equal(kb_secret_view(kb_cred_view(cred)->token), "own");
    assert_int_equal(kb_cred_view(cred)->expires_ms, NOW + 3600000);
    static const char *const exchange[] = {
        "POST /s HTTP/1.1\r\n",
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&audience=%2F%2Fiam%2Fp&scope=",
        "auth%2Fcloud-platform&", "&subject_token_type=jwt&subject_token=subject.token", NULL};
    static const char *const impersonation[] = {"POST /i:generateAccessToken HTTP/1.1\r\n",
                                                "Authorization: Bearer federated\r\n",
                                                "devstorage.read_write\"],\"lifetime\":\"3600s\"}", NULL};
    cloud_expect(f->script, 0, exchange);
    cloud_expect(f->script, 1, impersonation);
}

static void external_account_with_a_url_source_asks_it_with_its_headers(void **state)
{
    fixture *f = *state;
    add_reply(f, "200 OK", "subject.token\n");
    add_reply(f, "200 OK", "{\"access_token\":\"federated\",\"expires_in\":3600}");
    const char *url = serve(f);
    KB_AUTOFREE char *account =
        kb_asprintf("{\"type\":\"external_account\",\"audience\":\"a\",\"subject_token_type\":\"jwt\","
                    "\"token_url\":\"%s/s\","
                    "\"credential_source\":{\"url\":\"%s/source?x=1\",\"headers\":{\"Metadata\":\"True\"}}}",
                    url, url);
    write_file(f->path, account);
    open_provider(f, NULL);
    KB_CLEANUP(kb_cred_unref_at) kb_cred *cred = get_cred(f);
    assert_string_equal(kb_secret_view(kb_cred_view(cred)->token), "federated");
    static const char *const source[] = {"GET /source?x=1 HTTP/1.1\r\n", "Metadata: True\r\n", NULL};
    static const char *const exchange[] = {"&subject_token=subject.token", "devstorage.read_write", NULL};
    cloud_expect(f->script, 0, source);
    cloud_expect(f->script, 1, exchange);
}

static void metadata_server_is_asked_when_no_file_is_named(void **state)
{
    fixture *f = *state;
    add_reply(f, "200 OK", "{\"access_token\":\"meta\",\"expires_in\":3599,\"token_type\":\"Bearer\"}");
    open_provider(f, serve(f));
    KB_CLEANUP(kb_cred_unref_at) kb_cred *cred = get_cred(f);
    assert_string_equal(kb_secret_view(kb_cred_view(cred)->token), "meta");
    static const char *const wanted[] = {
        "GET /computeMetadata/v1/instance/service-accounts/default/token HTTP/1.1\r\n",
        "Metadata-Flavor: Google\r\n", NULL};
    cloud_expect(f->script, 0, wanted);
}

static void metadata_server_without_an_account_is_missing_credentials(void **state)
{
    fixture *f = *state;
    KB_AUTO_ERROR(err);
    add_reply(f, "404 Not Found", "");
    open_provider(f, serve(f));
    kb_cred *none = NULL;
    assert_int_equal(kb_cred_get(f->provider, &none, &err), KB_STORAGE_CREDENTIALS_MISSING);
    assert_non_null(strstr(kb_error_text(&err), "service_account_path"));
}

static void a_file_that_is_missing_or_wrong_is_final(void **state)
{
    fixture *f = *state;
    open_provider(f, NULL);
    for (int i = 0; i < 2; i++) {
        KB_AUTO_ERROR(err);
        kb_cred *none = NULL;
        assert_int_equal(kb_cred_get(f->provider, &none, &err), KB_STORAGE_CREDENTIALS_MISSING);
        assert_non_null(strstr(kb_error_text(&err), f->path));
        write_file(f->path,
                   "{\"type\":\"service_account\",\"client_email\":\"e\",\"private_key\":\"canary\"}");
    }
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(service_account_sends_a_signed_assertion),
        CASE(tokens_are_renewed_before_their_end_with_the_file_read_again),
        CASE(a_failed_renewal_goes_on_with_the_token_that_still_works),
        CASE(external_account_exchanges_and_impersonates),
        CASE(external_account_with_a_url_source_asks_it_with_its_headers),
        CASE(metadata_server_is_asked_when_no_file_is_named),
        CASE(metadata_server_without_an_account_is_missing_credentials),
        CASE(a_file_that_is_missing_or_wrong_is_final),
    };
    return cmocka_run_group_tests_name("gcp_auth", tests, NULL, NULL);
}

#include "worker/auth/gcp_account.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

#define SERVICE "\"type\":\"service_account\",\"client_email\":\"me@x\",\"private_key\":\"canary\""
#define EXTERNAL \
    "\"type\":\"external_account\",\"audience\":\"//iam/x\",\"subject_token_type\":\"jwt\"," \
    "\"token_url\":\"https://sts.googleapis.com/v1/token\""

static kb_view view_of(const char *text)
{
    return kb_view_of(text, strlen(text));
}

static void kb_gcp_account_parse_of_a_service_account_fills_it(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_gcp_account_done) kb_gcp_account a = {.is_external = true};
    const char *text = "{" SERVICE ",\"private_key_id\":\"k1\",\"other\":{\"a\":[1]},\"universe\":null}";
    assert_int_equal(kb_gcp_account_parse(view_of(text), false, &a, &err), KB_OK);
    assert_false(a.is_external);
    assert_string_equal(a.client_email, "me@x");
    assert_string_equal(a.private_key_id, "k1");
    assert_string_equal(kb_secret_view(a.private_key), "canary");
    assert_string_equal(a.token_uri, "https://oauth2.googleapis.com/token");
}

static void kb_gcp_account_parse_of_an_external_account_fills_it(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_gcp_account_done) kb_gcp_account a = {.is_external = false};
    const char *text =
        "{" EXTERNAL ",\"service_account_impersonation_url\":\"https://i/x\",\"credential_source\":"
        "{\"url\":\"http://169.254.169.254/t\",\"headers\":{\"Metadata\":\"true\"},"
        "\"format\":{\"type\":\"json\",\"subject_token_field_name\":\"access_token\"}}}";
    if (kb_gcp_account_parse(view_of(text), false, &a, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    assert_true(a.is_external);
    assert_string_equal(a.source_url, "http://169.254.169.254/t");
    assert_string_equal(a.source_field, "access_token");
    assert_string_equal(kb_http_headers_get(&a.source_headers, "metadata"), "true");
    assert_string_equal(a.impersonation_url, "https://i/x");
}

static void kb_gcp_account_parse_bad_cases_are_refused_without_a_value(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", ""},
        {"[]", ""},
        {"{}", "type: expected"},
        {"{\"type\":\"authorized_user\",\"refresh_token\":\"canary\"}", "type: expected"},
        {"{\"type\":\"service_account\",\"private_key\":\"canary\"}", "client_email is missing"},
        {"{\"type\":\"service_account\",\"client_email\":\"a\"}", "private_key is missing"},
        {"{" SERVICE ",\"token_uri\":\"http://oauth2.googleapis.com/token\"}", "token_uri: expected"},
        {"{" SERVICE ",\"token_uri\":\"http://127.0.0.1/token\"}", "token_uri: expected"},
        {"{" SERVICE ",\"token_uri\":\"https://u:canary@h/\"}", "token_uri: expected"},
        {"{" EXTERNAL "}", "file or url"},
        {"{" EXTERNAL ",\"credential_source\":{\"file\":\"a\",\"url\":\"https://b\"}}", "file or url"},
        {"{" EXTERNAL ",\"credential_source\":{\"executable\":{\"command\":\"canary\"}}}", "never run"},
        {"{" EXTERNAL ",\"credential_source\":{\"file\":\"a\",\"executable\":{\"command\":\"x\"}}}",
         "never run"},
        {"{" EXTERNAL ",\"credential_source\":{\"environment_id\":\"aws1\"}}", "AWS"},
        {"{" EXTERNAL ",\"credential_source\":{\"url\":\"http://10.0.0.1/canary\"}}",
         "credential_source.url"},
        {"{" EXTERNAL ",\"credential_source\":{\"file\":\"a\",\"format\":{\"type\":\"xml\"}}}",
         "format.type"},
        {"{" EXTERNAL ",\"credential_source\":{\"file\":\"a\",\"format\":{\"type\":\"json\"}}}",
         "field_name"},
        {"{" EXTERNAL ",\"credential_source\":{\"url\":\"https://a\",\"headers\":{\"A b\":\"c\"}}}",
         "headers"},
        {"{" EXTERNAL ",\"credential_source\":{\"url\":\"https://a\",\"headers\":{\"A\":\"c\\nB: d\"}}}",
         "headers"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        kb_gcp_account a = {.is_external = false};
        kb_code code = kb_gcp_account_parse(view_of(cases[i].text), false, &a, &err);
        if (code != KB_ERR_FORMAT || strstr(kb_error_text(&err), cases[i].says) == NULL ||
            strstr(kb_error_text(&err), "canary") != NULL)
            fail_msg("%zu: %d %s", i, (int)code, kb_error_text(&err));
    }
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_gcp_account_done) kb_gcp_account local = {.is_external = false};
    const char *allowed = "{" SERVICE ",\"token_uri\":\"http://127.0.0.1:9/token\"}";
    assert_int_equal(kb_gcp_account_parse(view_of(allowed), true, &local, &err), KB_OK);
}

static void kb_gcp_subject_token_cases_match(void **state)
{
    (void)state;
    static const struct {
        const char *text, *field, *token;
    } cases[] = {
        {"a.b.c\n", NULL, "a.b.c"},
        {"{\"x\":1,\"t\":\"a.b\"}", "t", "a.b"},
        {"", NULL, NULL},
        {" \n", NULL, NULL},
        {"canary canary", NULL, NULL},
        {"{\"t\":1}", "t", NULL},
        {"{\"u\":\"canary\"}", "t", NULL},
        {"canary", "t", NULL},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        KB_CLEANUP(kb_secret_free_at) kb_secret *token = NULL;
        kb_code code = kb_gcp_subject_token(view_of(cases[i].text), cases[i].field, &token, &err);
        assert_int_equal(code, cases[i].token != NULL ? KB_OK : KB_ERR_FORMAT);
        if (cases[i].token != NULL)
            assert_string_equal(kb_secret_view(token), cases[i].token);
        else
            assert_null(strstr(kb_error_text(&err), "canary"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_gcp_account_parse_of_a_service_account_fills_it),
        cmocka_unit_test(kb_gcp_account_parse_of_an_external_account_fills_it),
        cmocka_unit_test(kb_gcp_account_parse_bad_cases_are_refused_without_a_value),
        cmocka_unit_test(kb_gcp_subject_token_cases_match),
    };
    return cmocka_run_group_tests_name("gcp_account", tests, NULL, NULL);
}

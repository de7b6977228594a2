#include "worker/auth/oauth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/testing/http_script.h"

#define NOW INT64_C(1700000000000)

static kb_view view_of(const char *text)
{
    return kb_view_of(text, strlen(text));
}

static void kb_oauth_parse_good_cases_match(void **state)
{
    (void)state;
    static const struct {
        const char *body, *token;
        int64_t expires_ms;
    } cases[] = {
        {"{\"access_token\":\"t.1\",\"expires_in\":3599,\"token_type\":\"Bearer\"}", "t.1", NOW + 3599000},
        {"{\"access_token\":\"t\",\"expires_in\":\"60\",\"ext\":[1,{}]}", "t", NOW + 60000},
        {"{\"expires_on\":\"1700000100\",\"access_token\":\"t\"}", "t", INT64_C(1700000100000)},
        {"{\"expires_in\":\"10\",\"expires_on\":1700009999,\"access_token\":\"t\"}", "t", NOW + 10000},
        {"{\"accessToken\":\"t\",\"expireTime\":\"2023-11-14T22:15:00Z\"}", "t", INT64_C(1700000100000)},
        {"{\"access_token\":\"t\",\"expires_in\":null}", "t", NOW + 300000},
        {"{\"access_token\":\"t\",\"token_type\":\"bearer\"}", "t", NOW + 300000},
        {"{\"access_token\":\"t\",\"expires_in\":9000000000}", "t", NOW + INT64_C(366) * 24 * 3600 * 1000},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        kb_oauth_token token = {NULL, 0};
        if (kb_oauth_parse(view_of(cases[i].body), NOW, &token, &err) != KB_OK)
            fail_msg("%zu: %s", i, kb_error_text(&err));
        assert_string_equal(kb_secret_view(token.token), cases[i].token);
        assert_int_equal(token.expires_ms, cases[i].expires_ms);
        kb_secret_free(token.token);
    }
}

static void kb_oauth_parse_bad_cases_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "[]",
        "{}",
        "{\"access_token\":\"\"}",
        "{\"access_token\":\"a b\"}",
        "{\"access_token\":\"a\\r\\nX: y\"}",
        "{\"access_token\":1}",
        "{\"access_token\":\"t\"} x",
        "{\"access_token\":\"t\",\"access_token\":\"u\"}",
        "{\"access_token\":\"t\",\"expires_in\":-1}",
        "{\"access_token\":\"t\",\"expires_in\":\"soon\"}",
        "{\"access_token\":\"t\",\"token_type\":\"MAC\"}",
        "{\"access_token\":\"t\",\"expires_on\":\"99999999999999999\"}",
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        kb_oauth_token token = {NULL, 0};
        if (kb_oauth_parse(view_of(cases[i]), NOW, &token, &err) == KB_OK)
            fail_msg("%zu was taken", i);
        assert_null(token.token);
    }
}

static void kb_oauth_refusal_tells_words_only(void **state)
{
    (void)state;
    static const struct {
        const char *body, *refusal;
    } cases[] = {
        {"{\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: Invalid secret canary\"}",
         "invalid_client AADSTS7000215"},
        {"{\"error\":\"canary-0f3\",\"error_description\":\"canary\"}", ""},
        {"{\"error\":{\"code\":403,\"message\":\"canary\",\"status\":\"PERMISSION_DENIED\"}}",
         "PERMISSION_DENIED"},
        {"<html>canary", ""},
        {"", ""},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        char refusal[KB_OAUTH_REFUSAL_SIZE];
        kb_oauth_refusal(view_of(cases[i].body), refusal);
        assert_string_equal(refusal, cases[i].refusal);
    }
}

static void kb_oauth_is_safe_url_cases_match(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        bool anywhere, locally;
    } cases[] = {
        {"https://login.microsoftonline.com/x", true, true},
        {"https://[::1]:8/x?y", true, true},
        {"http://127.0.0.1:8/x", false, true},
        {"http://localhost/x", false, true},
        {"http://[::1]/x", false, true},
        {"http://169.254.169.254/metadata", false, true},
        {"http://169.254.169.254.evil.com/", false, false},
        {"http://127.0.0.1.evil.com/", false, false},
        {"http://localhost.evil.com/", false, false},
        {"http://10.0.0.1/", false, false},
        {"https://user:pw@host/", false, false},
        {"http://127.0.0.1@evil.com/", false, false},
        {"https://", false, false},
        {"file:///etc/passwd", false, false},
        {"https://a\nb/", false, false},
        {"https://a\\b/", false, false},
        {"http://[::1/", false, false},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        if (kb_oauth_is_safe_url(cases[i].url, false) != cases[i].anywhere ||
            kb_oauth_is_safe_url(cases[i].url, true) != cases[i].locally)
            fail_msg("%s", cases[i].url);
    }
}

static void kb_oauth_form_add_encodes(void **state)
{
    (void)state;
    KB_CLEANUP(kb_oauth_form_done) kb_strbuf form = KB_STRBUF_INIT(1000);
    kb_oauth_form_add(&form, "a", "b c&d=e+f/~-._");
    kb_oauth_form_add(&form, "u", "\xc5\xbe");
    assert_string_equal(kb_strbuf_view(&form), "a=b%20c%26d%3De%2Bf%2F~-._&u=%C5%BE");
}

static kb_code fetch(const kb_http_step *steps, size_t count, unsigned *ret_requests, kb_error *err)
{
    kb_http_script *script = kb_http_script_new(steps, count);
    KB_CLEANUP(kb_http_free_at) kb_http *http = NULL;
    const kb_http_options options = {.allow_http = true};
    assert_int_equal(kb_http_new(&options, &http, err), KB_OK);
    const kb_http_retry_options retry_options = {
        .http = http, .base_ms = 1, .cap_ms = 2, .max_tries = 3, .unreachable = KB_STORAGE_UNREACHABLE};
    KB_CLEANUP(kb_http_retry_free_at) kb_http_retry *retry = kb_http_retry_new(&retry_options);
    const kb_oauth_request request = {.what = "token endpoint",
                                      .method = "POST",
                                      .url = kb_http_script_url(script),
                                      .body = view_of("secret=canary"),
                                      .hint = "do this"};
    kb_oauth_token token = {NULL, 0};
    kb_code code = kb_oauth_fetch(retry, kb_clock_system(), &request, &token, err);
    kb_secret_free(token.token);
    *ret_requests = kb_http_script_requests(script);
    kb_http_script_free(script);
    return code;
}

static void kb_oauth_fetch_outcomes_match(void **state)
{
    (void)state;
    static const kb_http_step good[] = {
        {.reply = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"},
        {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"access_token\":\"t\"}"},
    };
    static const kb_http_step refused[] = {
        {.reply = "HTTP/1.1 400 No\r\nContent-Length: 27\r\n\r\n{\"error\":\"invalid_request\"} "},
    };
    static const kb_http_step nonsense[] = {
        {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary"},
    };
    static const kb_http_step elsewhere[] = {
        {.reply = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"},
    };
    static const kb_http_step down[] = {{.reset = true}};
    static const struct {
        const kb_http_step *steps;
        size_t count;
        kb_code code;
        unsigned requests;
        const char *says;
    } cases[] = {
        {good, 2, KB_OK, 2, ""},
        {refused, 1, KB_STORAGE_ACCESS_DENIED, 1, "refused: 400 invalid_request; hint: do this"},
        {nonsense, 1, KB_STORAGE_ACCESS_DENIED, 1, "without a usable token"},
        {elsewhere, 1, KB_STORAGE_ACCESS_DENIED, 1, "refused: 302"},
        {down, 1, KB_STORAGE_UNREACHABLE, 3, "token endpoint"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        unsigned requests = 0;
        kb_code code = fetch(cases[i].steps, cases[i].count, &requests, &err);
        if (code != cases[i].code || requests != cases[i].requests ||
            strstr(kb_error_text(&err), cases[i].says) == NULL ||
            strstr(kb_error_text(&err), "canary") != NULL)
            fail_msg("%zu: %d, %u requests: %s", i, (int)code, requests, kb_error_text(&err));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_oauth_parse_good_cases_match),
        cmocka_unit_test(kb_oauth_parse_bad_cases_are_refused),
        cmocka_unit_test(kb_oauth_refusal_tells_words_only),
        cmocka_unit_test(kb_oauth_is_safe_url_cases_match),
        cmocka_unit_test(kb_oauth_form_add_encodes),
        cmocka_unit_test(kb_oauth_fetch_outcomes_match),
    };
    return cmocka_run_group_tests_name("oauth", tests, NULL, NULL);
}

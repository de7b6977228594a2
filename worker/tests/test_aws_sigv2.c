#include "worker/auth/aws_sigv2.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/crypto_mac.h"
#include "common/base/encode.h"
#include "common/base/mem.h"

/* The account of the examples in the Amazon S3 documentation. */
#define ID "AKIAIOSFODNN7EXAMPLE"
#define SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

static void sign_adds_date_token_and_authorization(void **state)
{
    (void)state;
    kb_secret *secret = kb_secret_new(SECRET, strlen(SECRET)), *token = kb_secret_new("tok", 3);
    kb_cred *cred = kb_cred_new(&(kb_cred_fields){.id = ID, .secret = secret, .token = token});
    KB_AUTO_HEADERS(headers);
    kb_http_headers_set(&headers, "Content-MD5", "bQ==");
    const kb_sigv2_request request = {.method = "PUT", .resource = "/b/k", .headers = &headers};
    kb_sigv2_sign(&request, 1175024202000, cred, &headers);
    assert_string_equal(kb_http_headers_get(&headers, "Date"), "Tue, 27 Mar 2007 19:36:42 GMT");
    assert_string_equal(kb_http_headers_get(&headers, "X-Amz-Security-Token"), "tok");
    assert_memory_equal(kb_http_headers_get(&headers, "Authorization"), "AWS " ID ":", 25);
    KB_AUTO_STRBUF(text, 4096);
    kb_sigv2_string_to_sign(&request, &text);
    assert_string_equal(kb_strbuf_view(&text),
                        "PUT\nbQ==\n\nTue, 27 Mar 2007 19:36:42 GMT\nx-amz-security-token:tok\n/b/k");
    kb_cred_unref(cred);
    kb_secret_free(secret);
    kb_secret_free(token);
}

static void string_to_sign_has_subresources_only(void **state)
{
    (void)state;
    static const kb_sigv4_param params[] = {
        {"uploadId", "x"}, {"prefix", "p"}, {"partNumber", "2"}, {"acl", ""}, {"marker", "m"}};
    KB_AUTO_HEADERS(headers);
    kb_http_headers_set(&headers, "Date", "D");
    kb_http_headers_set(&headers, "X-Amz-B", "2");
    kb_http_headers_set(&headers, "x-amz-a", "1");
    const kb_sigv2_request request = {
        .method = "GET", .resource = "/b/", .params = params, .param_count = 5, .headers = &headers};
    KB_AUTO_STRBUF(text, 4096);
    kb_sigv2_string_to_sign(&request, &text);
    assert_string_equal(kb_strbuf_view(&text),
                        "GET\n\n\nD\nx-amz-a:1\nx-amz-b:2\n/b/?acl&partNumber=2&uploadId=x");
}

/* The four documented examples have dates in "+0000", which we never send: the string is given. */
static void signature_of_the_documented_examples_is_theirs(void **state)
{
    (void)state;
    static const struct {
        const char *string, *signature;
    } table[] = {
        {"GET\n\n\nTue, 27 Mar 2007 19:36:42 +0000\n/johnsmith/photos/puppy.jpg",
         "bWq2s1WEIj+Ydj0vQ697zp+IXMU="},
        {"PUT\n\nimage/jpeg\nTue, 27 Mar 2007 21:15:45 +0000\n/johnsmith/photos/puppy.jpg",
         "MyyxeRY7whkBe+bq8fHCL/2kKUg="},
        {"GET\n\n\nTue, 27 Mar 2007 19:42:41 +0000\n/johnsmith/", "htDYFYduRNen8P9ZfE/s9SuKy0U="},
        {"GET\n\n\nTue, 27 Mar 2007 19:44:46 +0000\n/johnsmith/?acl", "c2WLPFtWHVgbEmeEG93a4cG37dM="},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        uint8_t mac[KB_SHA1_SIZE];
        char text[KB_BASE64_TEXT_SIZE(KB_SHA1_SIZE)];
        kb_hmac_sha1(SECRET, strlen(SECRET), table[i].string, strlen(table[i].string), mac);
        (void)kb_base64_encode(mac, sizeof mac, text);
        assert_string_equal(text, table[i].signature);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sign_adds_date_token_and_authorization),
        cmocka_unit_test(string_to_sign_has_subresources_only),
        cmocka_unit_test(signature_of_the_documented_examples_is_theirs),
    };
    return cmocka_run_group_tests_name("aws_sigv2", tests, NULL, NULL);
}

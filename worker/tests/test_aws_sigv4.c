#include "worker/auth/aws_sigv4.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"

/* The account and bucket of the examples in the Amazon S3 API Reference. */
#define ID "AKIAIOSFODNN7EXAMPLE"
#define SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define HOST "examplebucket.s3.amazonaws.com"
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

typedef struct example {
    const char *method, *path, *payload;
    kb_sigv4_param params[2];
    size_t param_count;
    struct {
        const char *name, *value;
    } headers[3];
    const char *canonical_sha256, *signature;
} example;

static kb_cred *example_cred(void)
{
    kb_secret *secret = kb_secret_new(SECRET, strlen(SECRET));
    kb_cred *cred = kb_cred_new(&(kb_cred_fields){.id = ID, .secret = secret});
    kb_secret_free(secret);
    return cred;
}

static void sign_of_the_documented_examples_gives_their_signatures(void **state)
{
    (void)state;
    static const example table[] = {
        {"GET",
         "/test.txt",
         "",
         {{NULL, NULL}},
         0,
         {{"Range", "bytes=0-9"}},
         "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972",
         "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
        {"PUT",
         "/test%24file.text",
         "Welcome to Amazon S3.",
         {{NULL, NULL}},
         0,
         {{"Date", "Fri, 24 May 2013 00:00:00 GMT"}, {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
         "9e0e90d9c76de8fa5b200d8c849cd5b8dc7a3be3951ddb7f6a76b4158342019d",
         "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
        {"GET",
         "/",
         "",
         {{"lifecycle", ""}},
         1,
         {{NULL, NULL}},
         "9766c798316ff2757b517bc739a67f6213b4ab36dd5da2f94eaebf79c77395ca",
         "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
        {"GET",
         "/",
         "",
         {{"prefix", "J"}, {"max-keys", "2"}},
         2,
         {{NULL, NULL}},
         "df57d21db20da04d7fa30298dd4488ba3a2b47ca3a489c74750e0f1e7df1b9b7",
         "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
    };
    kb_cred *cred = example_cred();
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        const example *e = &table[i];
        KB_AUTO_HEADERS(headers);
        kb_http_headers_set(&headers, "Host", HOST);
        for (size_t k = 0; k < KB_ARRAY_LEN(e->headers) && e->headers[k].name != NULL; k++)
            kb_http_headers_set(&headers, e->headers[k].name, e->headers[k].value);
        uint8_t hash[KB_SHA256_SIZE];
        char hex[KB_SHA256_HEX_SIZE];
        kb_sha256(e->payload, strlen(e->payload), hash);
        kb_hex_encode(hash, sizeof hash, hex);
        kb_sigv4_request request = {.method = e->method,
                                    .path = e->path,
                                    .params = e->params,
                                    .param_count = e->param_count,
                                    .headers = &headers,
                                    .payload_sha256 = hex};
        kb_sigv4_scope scope = {.region = "us-east-1", .service = "s3"};
        kb_sigv4_time(1369353600000, scope.time);
        assert_string_equal(scope.time, "20130524T000000Z");
        kb_sigv4_sign(&request, &scope, cred, &headers);
        const char *authorization = kb_http_headers_get(&headers, "authorization");
        const char *signature = strstr(authorization, "Signature=");
        assert_non_null(signature);
        assert_string_equal(signature + strlen("Signature="), e->signature);
        assert_non_null(strstr(authorization, "Credential=" ID "/20130524/us-east-1/s3/aws4_request, "));
    }
    kb_cred_unref(cred);
}

static void string_to_sign_holds_the_hash_of_the_canonical_request(void **state)
{
    (void)state;
    KB_AUTO_HEADERS(headers);
    kb_http_headers_set(&headers, "Host", HOST);
    kb_http_headers_set(&headers, "Range", "bytes=0-9");
    kb_http_headers_set(&headers, "x-amz-content-sha256", EMPTY);
    kb_http_headers_set(&headers, "x-amz-date", "20130524T000000Z");
    kb_sigv4_request request = {
        .method = "GET", .path = "/test.txt", .headers = &headers, .payload_sha256 = EMPTY};
    kb_sigv4_scope scope = {.region = "us-east-1", .service = "s3"};
    kb_sigv4_time(1369353600000, scope.time);
    KB_AUTO_STRBUF(canonical, 4096);
    KB_AUTO_STRBUF(names, 4096);
    KB_AUTO_STRBUF(text, 4096);
    kb_sigv4_canonical_request(&request, &canonical, &names);
    kb_sigv4_string_to_sign(kb_strbuf_view(&canonical), &scope, &text);
    assert_string_equal(kb_strbuf_view(&canonical),
                        "GET\n/test.txt\n\nhost:" HOST "\nrange:bytes=0-9\n"
                        "x-amz-content-sha256:" EMPTY "\nx-amz-date:20130524T000000Z\n\n"
                        "host;range;x-amz-content-sha256;x-amz-date\n" EMPTY);
    assert_string_equal(kb_strbuf_view(&text),
                        "AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n"
                        "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972");
}

static void canonical_request_folds_blanks_and_sorts_headers(void **state)
{
    (void)state;
    KB_AUTO_HEADERS(headers);
    kb_http_headers_set(&headers, "My-B", "  a   b \t c  ");
    kb_http_headers_set(&headers, "my-a", "");
    kb_http_headers_set(&headers, "Host", "h");
    kb_sigv4_request request = {
        .method = "GET", .path = "/a%20b", .headers = &headers, .payload_sha256 = EMPTY};
    KB_AUTO_STRBUF(canonical, 4096);
    KB_AUTO_STRBUF(names, 4096);
    kb_sigv4_canonical_request(&request, &canonical, &names);
    assert_string_equal(kb_strbuf_view(&canonical),
                        "GET\n/a%20b\n\nhost:h\nmy-a:\nmy-b:a b c\n\nhost;my-a;my-b\n" EMPTY);
}

static void query_is_encoded_and_then_sorted(void **state)
{
    (void)state;
    static const kb_sigv4_param params[] = {
        {"prefix", "a/b c+%"}, {"list-type", "2"}, {"uploads", ""}, {"A", "\xc3\xa4"}, {"a", "~-._"}};
    KB_AUTO_STRBUF(out, 4096);
    kb_sigv4_query(params, KB_ARRAY_LEN(params), &out);
    assert_string_equal(kb_strbuf_view(&out), "A=%C3%A4&a=~-._&list-type=2&prefix=a%2Fb%20c%2B%25&uploads=");
}

static void encode_keeps_what_rfc_3986_leaves_free(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool keep_slash;
        const char *expected;
    } table[] = {
        {"azAZ09-._~", false, "azAZ09-._~"},
        {"a/b", true, "a/b"},
        {"a/b", false, "a%2Fb"},
        {" !\"#$%&'()*+,:;<=>?@[]^`{|}", false,
         "%20%21%22%23%24%25%26%27%28%29%2A%2B%2C%3A%3B%3C%3D%3E%3F%40%5B%5D%5E%60%7B%7C%7D"},
        {"\x7f\x01\xff", true, "%7F%01%FF"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        KB_AUTO_STRBUF(out, 4096);
        kb_sigv4_encode(table[i].text, table[i].keep_slash, &out);
        assert_string_equal(kb_strbuf_view(&out), table[i].expected);
    }
}

/* "method\tpath\tquery\tregion\ttime\theaders\tpayload hash": the other half is in e2e/test_sigv4.py. */
static int sign_lines(void)
{
    char *line = NULL;
    size_t capacity = 0;
    kb_cred *cred = example_cred();
    while (getline(&line, &capacity, stdin) > 0) {
        line[strcspn(line, "\n")] = '\0';
        char *at = line, *fields[6];
        for (size_t i = 0; i < KB_ARRAY_LEN(fields); i++)
            fields[i] = strsep(&at, "\t");
        kb_sigv4_param params[32];
        size_t count = 0;
        for (char *item; (item = strsep(&fields[2], "\x1f")) != NULL && item[0] != '\0';) {
            char *value = strchr(item, '\x1e');
            *value = '\0';
            params[count++] = (kb_sigv4_param){item, value + 1};
        }
        KB_AUTO_HEADERS(headers);
        for (char *item; (item = strsep(&fields[4], "\x1f")) != NULL && item[0] != '\0';) {
            char *value = strchr(item, '\x1e');
            *value = '\0';
            kb_http_headers_set(&headers, item, value + 1);
        }
        KB_AUTO_STRBUF(path, 65536);
        kb_sigv4_encode(fields[1], true, &path);
        kb_sigv4_request request = {.method = fields[0],
                                    .path = kb_strbuf_view(&path),
                                    .params = params,
                                    .param_count = count,
                                    .headers = &headers,
                                    .payload_sha256 = fields[5]};
        kb_sigv4_scope scope = {.region = fields[3], .service = "s3"};
        snprintf(scope.time, sizeof scope.time, "%s", at);
        kb_sigv4_sign(&request, &scope, cred, &headers);
        printf("%s\n", kb_http_headers_get(&headers, "Authorization"));
    }
    free(line);
    kb_cred_unref(cred);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "sign") == 0)
        return sign_lines();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sign_of_the_documented_examples_gives_their_signatures),
        cmocka_unit_test(string_to_sign_holds_the_hash_of_the_canonical_request),
        cmocka_unit_test(canonical_request_folds_blanks_and_sorts_headers),
        cmocka_unit_test(query_is_encoded_and_then_sorted),
        cmocka_unit_test(encode_keeps_what_rfc_3986_leaves_free),
    };
    return cmocka_run_group_tests_name("aws_sigv4", tests, NULL, NULL);
}

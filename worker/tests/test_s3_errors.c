#include "worker/storage/s3_errors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/storage/s3_list.h"

#define NOW_MS 1700000000000
#define ERROR(code, more) "<Error><Code>" code "</Code><Message>said so</Message>" more "</Error>"

static kb_cred *cred_that_ends(int64_t in_ms)
{
    kb_secret *secret = kb_secret_new("canary-secret", 13), *token = kb_secret_new("canary-token", 12);
    kb_cred *cred = kb_cred_new(&(kb_cred_fields){.id = "ID",
                                                  .secret = secret,
                                                  .token = token,
                                                  .expires_ms = in_ms != 0 ? NOW_MS + in_ms : 0,
                                                  .source = "the test"});
    kb_secret_free(secret);
    kb_secret_free(token);
    return cred;
}

static kb_http_verdict judge(int status, const char *body, const char *date, const kb_cred *cred,
                             const char *verb, kb_error *err)
{
    kb_http_response response = {.status = status};
    if (date != NULL)
        kb_http_headers_set(&response.headers, "Date", date);
    kb_s3_error error;
    kb_s3_error_parse(body, strlen(body), &error);
    const kb_s3_context context = {.verb = verb,
                                   .bucket = "bucket-1",
                                   .endpoint = "https://host",
                                   .what = "s3://bucket-1/key",
                                   .region = "eu-1",
                                   .cred = cred,
                                   .now_ms = NOW_MS};
    kb_http_verdict verdict = kb_s3_judge(&response, &error, &context, err);
    kb_s3_error_done(&error);
    kb_http_response_done(&response);
    return verdict;
}

static void judge_knows_what_a_refusal_means(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
        kb_http_verdict verdict;
        kb_code code;
        const char *says;
    } table[] = {
        {404, ERROR("NoSuchKey", ""), KB_HTTP_ANSWER, KB_ERR_NOT_FOUND, "NoSuchKey"},
        {404, "", KB_HTTP_ANSWER, KB_ERR_NOT_FOUND, "404"},
        {404, ERROR("NoSuchUpload", ""), KB_HTTP_ANSWER, KB_ERR_NOT_FOUND, ""},
        {404, ERROR("NoSuchBucket", ""), KB_HTTP_FATAL, KB_CONFIG_INVALID, "bucket-1"},
        {412, ERROR("PreconditionFailed", ""), KB_HTTP_ANSWER, KB_ERR_EXISTS, ""},
        {412, "", KB_HTTP_ANSWER, KB_ERR_EXISTS, ""},
        {409, ERROR("ConditionalRequestConflict", ""), KB_HTTP_TRANSIENT, KB_STORAGE_UNREACHABLE, ""},
        {409, "", KB_HTTP_TRANSIENT, KB_STORAGE_UNREACHABLE, ""},
        {500, ERROR("InternalError", ""), KB_HTTP_TRANSIENT, KB_STORAGE_UNREACHABLE, "said so"},
        {503, "<html>", KB_HTTP_TRANSIENT, KB_STORAGE_UNREACHABLE, "503"},
        {400, ERROR("RequestTimeout", ""), KB_HTTP_TRANSIENT, KB_STORAGE_UNREACHABLE, ""},
        {400, ERROR("BadDigest", ""), KB_HTTP_TRANSIENT, KB_STORAGE_UNREACHABLE, ""},
        {501, ERROR("NotImplemented", ""), KB_HTTP_ANSWER, KB_ERR_UNSUPPORTED, ""},
        {507, ERROR("XMinioStorageFull", ""), KB_HTTP_FATAL, KB_STORAGE_FULL, ""},
        {403, ERROR("AccessDenied", ""), KB_HTTP_FATAL, KB_STORAGE_ACCESS_DENIED, "grant s3:PutObject"},
        {403, "", KB_HTTP_EXPIRED, KB_STORAGE_ACCESS_DENIED, "Access denied to S3 bucket 'bucket-1'"},
        {401, "", KB_HTTP_EXPIRED, KB_STORAGE_ACCESS_DENIED, ""},
        {403, ERROR("SignatureDoesNotMatch", ""), KB_HTTP_EXPIRED, KB_STORAGE_ACCESS_DENIED, "secret key"},
        {403, ERROR("InvalidAccessKeyId", ""), KB_HTTP_EXPIRED, KB_STORAGE_ACCESS_DENIED, "access key id"},
        {400, ERROR("ExpiredToken", ""), KB_HTTP_EXPIRED, KB_STORAGE_ACCESS_DENIED,
         "renew the session token"},
        {403, ERROR("RequestTimeTooSkewed", ""), KB_HTTP_SKEWED, KB_CONFIG_INVALID, "clock"},
        {301, ERROR("PermanentRedirect", ""), KB_HTTP_FATAL, KB_CONFIG_INVALID, "storage.region"},
        {307, "", KB_HTTP_FATAL, KB_CONFIG_INVALID, "storage.endpoint"},
        {400, ERROR("AuthorizationHeaderMalformed", "<Region>us-9</Region>"), KB_HTTP_FATAL,
         KB_CONFIG_INVALID, "storage.region: us-9"},
        {400, ERROR("InvalidArgument", ""), KB_HTTP_FATAL, KB_CONFIG_INVALID, "InvalidArgument: said so"},
    };
    kb_cred *cred = cred_that_ends(0);
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        KB_AUTO_ERROR(err);
        kb_http_verdict verdict = judge(table[i].status, table[i].body, NULL, cred, "PutObject", &err);
        if (verdict != table[i].verdict || err.code != table[i].code ||
            strstr(kb_error_text(&err), table[i].says) == NULL)
            fail_msg("case %zu: verdict %d, %s", i, (int)verdict, kb_error_text(&err));
    }
    kb_cred_unref(cred);
}

static void judge_of_denied_with_a_token_near_its_end_renews(void **state)
{
    (void)state;
    static const struct {
        int64_t ends_in_ms;
        kb_http_verdict verdict;
    } table[] = {
        {0, KB_HTTP_FATAL}, {3600000, KB_HTTP_FATAL}, {60000, KB_HTTP_EXPIRED}, {-1, KB_HTTP_EXPIRED}};
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        KB_AUTO_ERROR(err);
        kb_cred *cred = cred_that_ends(table[i].ends_in_ms);
        assert_int_equal(judge(403, ERROR("AccessDenied", ""), NULL, cred, "GetObject", &err),
                         table[i].verdict);
        assert_non_null(strstr(kb_error_text(&err), "s3:ListBucket"));
        kb_cred_unref(cred);
    }
}

static void judge_of_a_bodyless_refusal_looks_at_the_clock(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    assert_int_equal(judge(403, "", "Tue, 14 Nov 2023 23:13:20 GMT", NULL, "HeadObject", &err),
                     KB_HTTP_SKEWED);
    assert_non_null(strstr(kb_error_text(&err), "3600 s ahead"));
    assert_int_equal(judge(403, "", "Tue, 14 Nov 2023 22:13:20 GMT", NULL, "HeadObject", &err),
                     KB_HTTP_EXPIRED);
}

static void judge_never_repeats_a_secret(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "<Error><Code>AccessDenied</Code><Message>you sent canary-secret</Message></Error>",
        "<Error><Code>AccessDenied</Code><Message>bad token canary-token.</Message></Error>",
        "<Error><Code>canary-token</Code><Message>x</Message></Error>",
    };
    kb_cred *cred = cred_that_ends(0);
    for (size_t i = 0; i < KB_ARRAY_LEN(bodies); i++) {
        KB_AUTO_ERROR(err);
        (void)judge(403, bodies[i], NULL, cred, "PutObject", &err);
        assert_non_null(strstr(kb_error_text(&err), "Access denied"));
        assert_null(strstr(kb_error_text(&err), "canary"));
    }
    kb_cred_unref(cred);
}

/* ---- listings ---- */

static void listing_parse_reads_entries_and_where_to_go_on(void **state)
{
    (void)state;
    static const char xml[] =
        "<?xml version=\"1.0\"?><ListBucketResult><Name>b</Name><Prefix>p</Prefix>"
        "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
        "<NextContinuationToken>abc=</NextContinuationToken>"
        "<Contents><Key>p/a+b%2Bc</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified><Size>42</Size>"
        "<Owner><ID>x</ID></Owner></Contents>"
        "<CommonPrefixes><Prefix>p/d/</Prefix></CommonPrefixes></ListBucketResult>";
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_s3_listing_done) kb_s3_listing listing = {0};
    if (kb_s3_listing_parse(xml, sizeof xml - 1, &listing, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    assert_int_equal(listing.count, 2);
    assert_string_equal(listing.entries[0].key, "p/a b+c");
    assert_int_equal(listing.entries[0].info.size_bytes, 42);
    assert_int_equal(listing.entries[0].info.mtime_ms, NOW_MS);
    assert_false(listing.entries[0].is_folder);
    assert_string_equal(listing.entries[1].key, "p/d/");
    assert_true(listing.entries[1].is_folder);
    assert_true(listing.is_truncated);
    assert_string_equal(listing.next, "abc=");
}

static void listing_parse_refuses_broken_entries(void **state)
{
    (void)state;
    static const char *const table[] = {
        "",
        "<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>1x</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>1</Size><LastModified>now</LastModified></Contents>"
        "</ListBucketResult>",
        "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>a%2</Key><Size>1</Size></Contents>"
        "</ListBucketResult>",
        "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>%00</Key><Size>1</Size></Contents>"
        "</ListBucketResult>",
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        KB_AUTO_ERROR(err);
        kb_s3_listing listing = {0};
        assert_int_equal(kb_s3_listing_parse(table[i], strlen(table[i]), &listing, &err), KB_ERR_FORMAT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(judge_knows_what_a_refusal_means),
        cmocka_unit_test(judge_of_denied_with_a_token_near_its_end_renews),
        cmocka_unit_test(judge_of_a_bodyless_refusal_looks_at_the_clock),
        cmocka_unit_test(judge_never_repeats_a_secret),
        cmocka_unit_test(listing_parse_reads_entries_and_where_to_go_on),
        cmocka_unit_test(listing_parse_refuses_broken_entries),
    };
    return cmocka_run_group_tests_name("s3_errors", tests, NULL, NULL);
}

#include "worker/auth/aws_cred.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/testing/http_script.h"
#include "common/testing/temp_dir.h"
#include "worker/auth/aws_cred_parse.h"

#define ANSWER "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
#define JSON \
    "{\"Code\":\"Success\",\"AccessKeyId\":\"ASIA1\",\"SecretAccessKey\":\"s/+1\",\"Token\":\"t==\"," \
    "\"Expiration\":\"2030-01-01T00:00:00Z\"}"
#define STS \
    "<R xmlns=\"x\"><Credentials><AccessKeyId>ASIA2</AccessKeyId><SecretAccessKey>s2</SecretAccessKey>" \
    "<SessionToken>t2</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration></Credentials></R>"

static const char *const variables[] = {"AWS_ACCESS_KEY_ID",
                                        "AWS_SECRET_ACCESS_KEY",
                                        "AWS_SESSION_TOKEN",
                                        "AWS_ROLE_ARN",
                                        "AWS_WEB_IDENTITY_TOKEN_FILE",
                                        "AWS_ENDPOINT_URL_STS",
                                        "AWS_SHARED_CREDENTIALS_FILE",
                                        "AWS_PROFILE",
                                        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                                        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                                        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
                                        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                                        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
                                        "AWS_EC2_METADATA_DISABLED",
                                        "AWS_REGION",
                                        "AWS_DEFAULT_REGION"};

typedef struct fixture {
    kb_http *http;
    kb_http_retry *retry;
    kb_secret_source none;
    kb_aws_cred_options options;
    char *dir;
} fixture;

static int setup(void **state)
{
    KB_AUTO_ERROR(err);
    fixture *f = kb_calloc(1, sizeof *f);
    for (size_t i = 0; i < KB_ARRAY_LEN(variables); i++)
        unsetenv(variables[i]);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    f->dir = kb_temp_dir_new();
    setenv("HOME", f->dir, 1);
    const kb_http_options options = {.allow_http = true, .direct = true};
    assert_int_equal(kb_http_new(&options, &f->http, &err), KB_OK);
    f->retry = kb_http_retry_new(&(kb_http_retry_options){
        .http = f->http, .max_tries = 2, .base_ms = 1, .cap_ms = 2, .unreachable = KB_STORAGE_UNREACHABLE});
    f->options = (kb_aws_cred_options){.access_key = &f->none,
                                       .secret_key = &f->none,
                                       .session_token = &f->none,
                                       .region = "eu-west-1",
                                       .tokens = f->retry,
                                       .metadata = f->retry};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    kb_http_retry_free(f->retry);
    kb_http_free(f->http);
    kb_temp_dir_free(f->dir);
    free(f);
    return 0;
}

static char *file_of(fixture *f, const char *name, const char *text)
{
    KB_AUTO_ERROR(err);
    char *path = kb_asprintf("%s/%s", f->dir, name);
    assert_int_equal(kb_file_write(path, text, strlen(text), &err), KB_OK);
    return path;
}

/* Fetches; the id, or the code in text. Owned by the caller. */
static char *id_of(fixture *f, kb_code expected, const char *says)
{
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_cred_unref_at) kb_cred *cred = NULL;
    KB_CLEANUP(kb_cred_provider_free_at) kb_cred_provider *provider = kb_aws_cred_new(&f->options);
    kb_code code = kb_cred_get(provider, &cred, &err);
    if (code != expected || strstr(kb_error_text(&err), says) == NULL)
        fail_msg("got %d: %s", (int)code, kb_error_text(&err));
    return code == KB_OK ? kb_strdup(kb_cred_view(cred)->id) : NULL;
}

static void assert_id(fixture *f, const char *id)
{
    KB_AUTOFREE char *found = id_of(f, KB_OK, "");
    assert_string_equal(found, id);
}

static void assert_fails(fixture *f, kb_code code, const char *says)
{
    (void)id_of(f, code, says);
}

static void nothing_configured_is_missing(void **state)
{
    assert_fails(*state, KB_STORAGE_CREDENTIALS_MISSING, "AWS_ACCESS_KEY_ID");
}

static void configuration_wins_and_is_read_anew(void **state)
{
    fixture *f = *state;
    setenv("AWS_ACCESS_KEY_ID", "env", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "env", 1);
    kb_secret_source id = {.file = file_of(f, "id", "first\n")},
                     secret = {.file = file_of(f, "secret", "s\n")};
    f->options.access_key = &id;
    assert_fails(f, KB_CONFIG_INVALID, "belong together");
    f->options.secret_key = &secret;
    assert_id(f, "first");
    free(file_of(f, "id", "second\n"));
    assert_id(f, "second");
    unlink(secret.file);
    assert_fails(f, KB_CONFIG_INVALID, secret.file);
    free(id.file);
    free(secret.file);
}

static void environment_needs_both(void **state)
{
    setenv("AWS_ACCESS_KEY_ID", "env", 1);
    assert_fails(*state, KB_STORAGE_CREDENTIALS_MISSING, "AWS_SECRET_ACCESS_KEY is not");
    setenv("AWS_SECRET_ACCESS_KEY", "s", 1);
    assert_id(*state, "env");
}

static void web_identity_asks_the_sts(void **state)
{
    fixture *f = *state;
    static const kb_http_step steps[] = {{.reply = ANSWER STS, .close = true},
                                         {.reply = "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"}};
    kb_http_script *script = kb_http_script_new(steps, 2);
    KB_AUTOFREE char *token = file_of(f, "token", "web&token\n");
    setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token, 1);
    setenv("AWS_ENDPOINT_URL_STS", kb_http_script_url(script), 1);
    assert_id(f, "ASIA2");
    const char *seen = kb_http_script_request(script, 0);
    assert_non_null(strstr(seen, "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&"));
    assert_non_null(strstr(seen, "WebIdentityToken=web%26token"));
    assert_fails(f, KB_STORAGE_ACCESS_DENIED, "arn:aws:iam::1:role/r");
    kb_http_script_free(script);
}

static void web_identity_of_the_configuration_needs_both(void **state)
{
    fixture *f = *state;
    f->options.role_arn = "arn";
    assert_fails(f, KB_CONFIG_INVALID, "belong together");
    f->options.web_identity_token_file = "/nonexistent/token";
    assert_fails(f, KB_STORAGE_CREDENTIALS_MISSING, "/nonexistent/token");
}

static void shared_file_gives_the_profile(void **state)
{
    fixture *f = *state;
    KB_AUTOFREE char *path = file_of(f, "shared",
                                     "# mine\n[default]\naws_access_key_id = one\naws_secret_access_key=s\n"
                                     "[other]\r\naws_access_key_id=two\r\naws_secret_access_key = s=2 \r\n");
    setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
    assert_id(f, "one");
    setenv("AWS_PROFILE", "other", 1);
    assert_id(f, "two");
    setenv("AWS_PROFILE", "third", 1);
    assert_fails(f, KB_STORAGE_CREDENTIALS_MISSING, "third");
}

static void container_endpoint_gets_the_token_of_its_file(void **state)
{
    fixture *f = *state;
    static const kb_http_step steps[] = {{.reply = ANSWER JSON, .close = true},
                                         {.reply = ANSWER "{}", .close = true}};
    kb_http_script *script = kb_http_script_new(steps, 2);
    KB_AUTOFREE char *token = file_of(f, "pod-token", "secret-pod-token\n");
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", kb_http_script_url(script), 1);
    setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token, 1);
    assert_id(f, "ASIA1");
    assert_non_null(strstr(kb_http_script_request(script, 0), "\r\nAuthorization: secret-pod-token\r\n"));
    assert_fails(f, KB_STORAGE_ACCESS_DENIED, "container");
    kb_http_script_free(script);
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/", 1);
    assert_fails(f, KB_CONFIG_INVALID, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
}

static void instance_metadata_is_asked_by_version_2(void **state)
{
    fixture *f = *state;
    static const kb_http_step steps[] = {{.reply = ANSWER "imds-token", .close = true},
                                         {.reply = ANSWER "my-role\n", .close = true},
                                         {.reply = ANSWER JSON, .close = true}};
    kb_http_script *script = kb_http_script_new(steps, 3);
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", kb_http_script_url(script), 1);
    unsetenv("AWS_EC2_METADATA_DISABLED");
    assert_id(f, "ASIA1");
    assert_memory_equal(kb_http_script_request(script, 0), "PUT /latest/api/token ", 22);
    assert_non_null(strstr(kb_http_script_request(script, 1), "X-aws-ec2-metadata-token: imds-token\r\n"));
    assert_memory_equal(kb_http_script_request(script, 2),
                        "GET /latest/meta-data/iam/security-credentials/my-role ", 55);
    kb_http_script_free(script);
}

static void region_comes_from_the_first_that_has_one(void **state)
{
    (void)state;
    KB_AUTOFREE char *standard = kb_aws_region(NULL, NULL);
    assert_string_equal(standard, "us-east-1");
    setenv("AWS_DEFAULT_REGION", "eu-2", 1);
    KB_AUTOFREE char *second = kb_aws_region("", NULL);
    assert_string_equal(second, "eu-2");
    setenv("AWS_REGION", "eu-1", 1);
    KB_AUTOFREE char *first = kb_aws_region(NULL, NULL);
    assert_string_equal(first, "eu-1");
    KB_AUTOFREE char *own = kb_aws_region("own", NULL);
    assert_string_equal(own, "own");
}

static void is_container_url_knows_its_hosts(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        bool is_fine;
    } table[] = {
        {"https://any.example/x", true},
        {"http://127.0.0.1:80/x", true},
        {"http://127.9.9.9/x", true},
        {"http://localhost:1/", true},
        {"http://[::1]/", true},
        {"http://169.254.170.2/x", true},
        {"http://169.254.170.23/v1", true},
        {"http://[fd00:ec2::23]/v1", true},
        {"http://169.254.170.24/", false},
        {"http://169.254.170.2.evil.example/", false},
        {"http://127.0.0.1.evil.example/", false},
        {"http://localhost.evil/", false},
        {"http://127.0.0.1@evil.example/", false},
        {"ftp://127.0.0.1/", false},
        {"", false},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        if (kb_aws_is_container_url(table[i].url) != table[i].is_fine)
            fail_msg("%s", table[i].url);
    }
}

static void parsers_refuse_what_they_do_not_know(void **state)
{
    (void)state;
    static const char *const json[] = {
        "",
        "[]",
        "{}",
        "{\"AccessKeyId\":\"a\"}",
        "{\"AccessKeyId\":1}",
        "{\"AccessKeyId\":\"a b\",\"SecretAccessKey\":\"s\"}",
        "{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"s\",\"Expiration\":\"soon\"}",
        "{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"s\",\"Token\":\"x\\r\\ny\"}"};
    static const char *const xml[] = {"", "<R/>", "<AccessKeyId>a</AccessKeyId>",
                                      "<AccessKeyId>a<b/></AccessKeyId>"};
    for (size_t i = 0; i < KB_ARRAY_LEN(json); i++) {
        KB_AUTO_ERROR(err);
        kb_cred *cred = NULL;
        assert_int_equal(kb_aws_parse_json(json[i], strlen(json[i]), "x", &cred, &err), KB_ERR_FORMAT);
    }
    for (size_t i = 0; i < KB_ARRAY_LEN(xml); i++) {
        KB_AUTO_ERROR(err);
        kb_cred *cred = NULL;
        assert_int_equal(kb_aws_parse_sts(xml[i], strlen(xml[i]), &cred, &err), KB_ERR_FORMAT);
    }
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(nothing_configured_is_missing),
        CASE(configuration_wins_and_is_read_anew),
        CASE(environment_needs_both),
        CASE(web_identity_asks_the_sts),
        CASE(web_identity_of_the_configuration_needs_both),
        CASE(shared_file_gives_the_profile),
        CASE(container_endpoint_gets_the_token_of_its_file),
        CASE(instance_metadata_is_asked_by_version_2),
        CASE(region_comes_from_the_first_that_has_one),
        CASE(is_container_url_knows_its_hosts),
        CASE(parsers_refuse_what_they_do_not_know),
    };
    return cmocka_run_group_tests_name("aws_cred", tests, NULL, NULL);
}

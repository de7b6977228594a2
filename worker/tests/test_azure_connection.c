#include "worker/auth/azure_connection.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

static void kb_azure_connection_parse_good_cases_match(void **state)
{
    (void)state;
    const struct {
        const char *text, *account, *endpoint, *key, *sas;
    } cases[] = {
        {"DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5PQ==;EndpointSuffix=core.windows.net",
         "acc", "https://acc.blob.core.windows.net", "a2V5PQ==", NULL},
        {"accountname=acc;ACCOUNTKEY=a2V5;", "acc", "https://acc.blob.core.windows.net", "a2V5", NULL},
        {"BlobEndpoint=http://127.0.0.1:10000/dev/;AccountName=dev;AccountKey=a2V5\n", "dev",
         "http://127.0.0.1:10000/dev", "a2V5", NULL},
        {"BlobEndpoint=https://acc.blob.core.windows.net/;QueueEndpoint=https://q;"
         "SharedAccessSignature=?sv=1&sig=a%2Fb%3D",
         "acc", "https://acc.blob.core.windows.net", NULL, "sv=1&sig=a%2Fb%3D"},
        {"BlobEndpoint=http://localhost:1/dev;SharedAccessSignature=s=1", "dev", "http://localhost:1/dev",
         NULL, "s=1"},
        {"AccountName=a;AccountKey=k;DefaultEndpointsProtocol=http;EndpointSuffix=x.y", "a",
         "http://a.blob.x.y", "k", NULL},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        KB_CLEANUP(kb_azure_connection_done) kb_azure_connection c = KB_AZURE_CONNECTION_INIT;
        KB_CLEANUP(kb_secret_free_at) kb_secret *text = kb_secret_new(cases[i].text, strlen(cases[i].text));
        if (kb_azure_connection_parse(text, &c, &err) != KB_OK)
            fail_msg("%zu: %s", i, kb_error_text(&err));
        assert_string_equal(c.account, cases[i].account);
        assert_string_equal(c.endpoint, cases[i].endpoint);
        assert_int_equal(c.account_key != NULL, cases[i].key != NULL);
        assert_int_equal(c.sas != NULL, cases[i].sas != NULL);
        if (c.account_key != NULL)
            assert_string_equal(kb_secret_view(c.account_key), cases[i].key);
        if (c.sas != NULL)
            assert_string_equal(kb_secret_view(c.sas), cases[i].sas);
    }
}

static void kb_azure_connection_parse_bad_cases_fail_without_a_value(void **state)
{
    (void)state;
    const char *const cases[] = {
        "",
        "canary",
        "AccountName=canary",
        "AccountKey=canary",
        "AccountName=a;AccountKey=canary;SharedAccessSignature=canary",
        "AccountName=a;AccountKey=canary;AccountKey=canary",
        "AccountName=a;AccountKey=canary;DefaultEndpointsProtocol=canary",
        "AccountName=a;AccountKey=canary;BlobEndpoint=canary",
        "AccountName=a;AccountKey=canary;BlobEndpoint=https://user:canary@host",
        "UseDevelopmentStorage=true",
        "BlobEndpoint=https://127.0.0.1;AccountKey=canary",
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        kb_azure_connection c = KB_AZURE_CONNECTION_INIT;
        KB_CLEANUP(kb_secret_free_at) kb_secret *text = kb_secret_new(cases[i], strlen(cases[i]));
        assert_int_equal(kb_azure_connection_parse(text, &c, &err), KB_CONFIG_INVALID);
        assert_null(strstr(kb_error_text(&err), "canary"));
        assert_null(c.account);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_azure_connection_parse_good_cases_match),
        cmocka_unit_test(kb_azure_connection_parse_bad_cases_fail_without_a_value),
    };
    return cmocka_run_group_tests_name("azure_connection", tests, NULL, NULL);
}

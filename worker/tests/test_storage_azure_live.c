/*
 * Against a real service: KB_TEST_AZURE_ENDPOINT (URL of the account), KB_TEST_AZURE_ACCOUNT,
 * KB_TEST_AZURE_KEY; without them every test is skipped. The container is made anew.
 */
#include "worker/storage/storage_azure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "worker/storage/azure_call.h"
#include "worker/tests/conformance_storage.h"

#define ATTEMPT "00112233445566778899aabbccddeeff"
#define OTHER_ATTEMPT "ffeeddccbbaa99887766554433221100"

static kb_config_azure config;
static char container_name[64];

static void fill_config(void)
{
    const char *key = getenv("KB_TEST_AZURE_KEY");
    snprintf(container_name, sizeof container_name, "kb-test-%d", (int)getpid());
    config = (kb_config_azure){
        .account_name = getenv("KB_TEST_AZURE_ACCOUNT"),
        .container_name = container_name,
        .endpoint = getenv("KB_TEST_AZURE_ENDPOINT"),
        .allow_http = true,
        .prefix = (char *)(uintptr_t)"pre/fix",
    };
    config.account_key.value = kb_secret_new(key, strlen(key));
}

static kb_store_net *new_net(void)
{
    KB_AUTO_ERROR(err);
    kb_store_net *net = NULL;
    const kb_store_net_options options = {.allow_http = true};
    if (kb_store_net_new(&options, &net, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    return net;
}

static void container_request(const char *method)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_RESPONSE(response);
    KB_CLEANUP(kb_azure_container_done) kb_azure_container container = {.net = new_net()};
    const kb_azure_auth_options auth = {
        .config = &config, .tokens = container.net->tokens, .metadata = container.net->metadata};
    assert_int_equal(kb_azure_auth_new(&auth, &container.auth, &err), KB_OK);
    container.name = kb_strdup(container_name);
    container.url = kb_asprintf("%s/%s", kb_azure_auth_endpoint(container.auth), container_name);
    const kb_azure_call call = {.container = &container,
                                .purpose = KB_AZURE_LOOK,
                                .verb = "make",
                                .method = method,
                                .query = "restype=container"};
    if (kb_azure_call_run(&call, &response, NULL, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
}

static kb_storage *open_store(void)
{
    KB_AUTO_ERROR(err);
    kb_storage *storage = NULL;
    const kb_azure_options options = {.config = &config, .owned_net = new_net()};
    if (kb_storage_open_azure(&options, &storage, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    return storage;
}

static int setup(void **state)
{
    fill_config();
    container_request("PUT");
    *state = open_store();
    return 0;
}

static int teardown(void **state)
{
    kb_storage_free(*state);
    container_request("DELETE");
    kb_secret_free(config.account_key.value);
    return 0;
}

/* ---- what only Azure has ---- */

static void uploads_of_two_attempts_to_one_key_do_not_mix(void **state)
{
    KB_AUTO_ERROR(err);
    size_t len = 20 * 1024 * 1024;
    KB_AUTOFREE uint8_t *one = kb_malloc(len);
    KB_AUTOFREE uint8_t *two = kb_malloc(len);
    KB_AUTOFREE uint8_t *got = kb_malloc(len + KB_UPLOAD_HEAD_BYTES);
    KB_CLEANUP(kb_upload_free_at) kb_upload *first = NULL;
    KB_CLEANUP(kb_upload_free_at) kb_upload *second = NULL;
    memset(one, 1, len);
    memset(two, 2, len);
    assert_int_equal(kb_upload_begin(*state, "mix/a", ATTEMPT, &first, &err), KB_OK);
    assert_int_equal(kb_upload_begin(*state, "mix/a", OTHER_ATTEMPT, &second, &err), KB_OK);
    assert_int_equal(kb_upload_append(first, one, len, &err), KB_OK);
    assert_int_equal(kb_upload_append(second, two, len, &err), KB_OK);
    assert_int_equal(kb_upload_complete(first, one, &err), KB_OK);
    assert_int_equal(kb_upload_complete(second, two, &err), KB_ERR_EXISTS);
    assert_int_equal(kb_storage_get_range(*state, "mix/a", 0, got, len + KB_UPLOAD_HEAD_BYTES, &err), KB_OK);
    assert_memory_equal(got, one, KB_UPLOAD_HEAD_BYTES);
    assert_memory_equal(got + KB_UPLOAD_HEAD_BYTES, one, len);
}

static void errors_name_container_and_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *key, *container;
        kb_code code;
        const char *says;
    } cases[] = {
        {"d3Jvbmc=", NULL, KB_STORAGE_ACCESS_DENIED, "Access denied to Azure container"},
        {"not base64 canary", NULL, KB_STORAGE_CREDENTIALS_MISSING, "account key is not base64"},
        {NULL, "kb-absent", KB_CONFIG_INVALID, "there is no container 'kb-absent'"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        kb_config_azure wrong = config;
        KB_CLEANUP(kb_secret_free_at)
        kb_secret *key = cases[i].key != NULL ? kb_secret_new(cases[i].key, strlen(cases[i].key)) : NULL;
        if (key != NULL)
            wrong.account_key.value = key;
        if (cases[i].container != NULL)
            wrong.container_name = (char *)(uintptr_t)cases[i].container;
        kb_storage *storage = NULL;
        const kb_azure_options options = {.config = &wrong, .owned_net = new_net()};
        assert_int_equal(kb_storage_open_azure(&options, &storage, &err), KB_OK);
        KB_AUTO_BLOB(blob);
        assert_int_equal(kb_storage_get(storage, "a", 100, &blob, &err), cases[i].code);
        if (strstr(kb_error_text(&err), cases[i].says) == NULL ||
            strstr(kb_error_text(&err), "canary") != NULL)
            fail_msg("%s", kb_error_text(&err));
        kb_storage_free(storage);
    }
}

int main(void)
{
    if (getenv("KB_TEST_AZURE_ENDPOINT") == NULL) {
        printf("skipped: KB_TEST_AZURE_ENDPOINT is not set\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uploads_of_two_attempts_to_one_key_do_not_mix),
        cmocka_unit_test(errors_name_container_and_remedy),
    };
    int failed = kb_conformance_storage("azure", setup, teardown);
    return failed + cmocka_run_group_tests_name("azure only", tests, setup, teardown);
}

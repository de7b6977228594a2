/*
 * The conformance suite against a real service: KB_TEST_GCS is a location as --path takes it, the credentials
 * are in the environment. Without it nothing is tested. The bucket has to be there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/contract/config_location.h"
#include "worker/storage/storage_open.h"
#include "worker/tests/conformance_storage.h"

static kb_config_storage config;

static kb_storage *open_store(const kb_config_storage *of)
{
    KB_AUTO_ERROR(err);
    kb_storage *storage = NULL;
    const kb_storage_env env = {0};
    if (kb_storage_open(of, &env, KB_FS_WRITE, &storage, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    return storage;
}

static int setup(void **state)
{
    KB_AUTO_ERROR(err);
    kb_config_storage_init(&config);
    if (kb_config_storage_parse_path(getenv("KB_TEST_GCS"), &config, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    config.gcs.allow_http = true;
    config.ca_file = kb_strdup_opt(getenv("KB_TEST_CA_FILE"));
    *state = open_store(&config);
    return 0;
}

static int teardown(void **state)
{
    kb_storage_free(*state);
    kb_config_storage_done(&config);
    return 0;
}

static void reading_from_a_missing_bucket_names_it(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BLOB(blob);
    kb_config_storage wrong = config;
    char bucket[] = "kb-absent";
    wrong.gcs.bucket = bucket;
    KB_CLEANUP(kb_storage_free_at) kb_storage *storage = open_store(&wrong);
    assert_int_equal(kb_storage_get(storage, "a", 10, &blob, &err), KB_CONFIG_INVALID);
    assert_non_null(strstr(kb_error_text(&err), "there is no bucket 'kb-absent'"));
}

static void reading_without_a_key_that_counts_is_denied(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BLOB(blob);
    kb_config_storage wrong = config;
    char path[] = "/nonexistent/key.json";
    wrong.gcs.service_account_path = path;
    KB_CLEANUP(kb_storage_free_at) kb_storage *storage = open_store(&wrong);
    assert_int_equal(kb_storage_get(storage, "a", 10, &blob, &err), KB_STORAGE_CREDENTIALS_MISSING);
    assert_non_null(strstr(kb_error_text(&err), path));
}

int main(void)
{
    if (getenv("KB_TEST_GCS") == NULL) {
        puts("KB_TEST_GCS is not set: nothing to test");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading_from_a_missing_bucket_names_it),
        cmocka_unit_test(reading_without_a_key_that_counts_is_denied),
    };
    int failed = kb_conformance_storage("storage_gcs", setup, teardown);
    return failed + cmocka_run_group_tests_name("gcs only", tests, setup, teardown);
}

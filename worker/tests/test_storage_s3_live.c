/*
 * The conformance suite against a real S3 server, which e2e/test_stores.py starts: KB_TEST_S3 is a location
 * as
 * --path takes it, the credentials are in the environment. Without it nothing is tested.
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

static int setup(void **state)
{
    KB_AUTO_ERROR(err);
    kb_config_storage_init(&config);
    kb_storage *storage = NULL;
    const kb_storage_env env = {0};
    if (kb_config_storage_parse_path(getenv("KB_TEST_S3"), &config, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    config.s3.allow_http = true;
    if (!config.s3.has_path_style)
        config.s3.path_style = config.s3.endpoint != NULL;
    config.s3.part_size_bytes = 5 << 20;
    if (getenv("KB_TEST_S3_V2") != NULL)
        config.s3.signature_version = KB_CONFIG_SIGNATURE_V2;
    config.ca_file = kb_strdup_opt(getenv("KB_TEST_CA_FILE"));
    if (kb_storage_open(&config, &env, KB_FS_WRITE, &storage, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    *state = storage;
    return 0;
}

static int teardown(void **state)
{
    kb_storage_free(*state);
    kb_config_storage_done(&config);
    return 0;
}

int main(void)
{
    if (getenv("KB_TEST_S3") == NULL) {
        puts("KB_TEST_S3 is not set: nothing to test");
        return 0;
    }
    return kb_conformance_storage("storage_s3", setup, teardown);
}

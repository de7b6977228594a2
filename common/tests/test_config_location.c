#include "common/contract/config_location.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/base/mem.h"
#include "common/contract/config_fields.h"
#include "common/data/schema_print.h"

/* The printed block behind its backend; what is the same for all is left out. */
static const struct {
    const char *location;
    const char *printed; /* how the printed block begins */
} good_cases[] = {
    {"/data", "backend: filesystem\npath: /data\n"},
    {"data/x", "backend: filesystem\npath: data/x\n"},
    {"file:///data/x y", "backend: filesystem\npath: \"/data/x y\"\n"},
    {"s3://b", "backend: s3\nbucket: b\npath_style: false\n"},
    {"s3://b/", "backend: s3\nbucket: b\npath_style: false\n"},
    {"s3://b/p/q?region=eu&endpoint=http://h:9000&path_style=false",
     "backend: s3\nbucket: b\nregion: eu\nendpoint: \"http://h:9000\"\nprefix: p/q\npath_style: false\n"},
    {"s3://b?path_style=true", "backend: s3\nbucket: b\npath_style: true\n"},
    {"azure://a/c", "backend: azure\naccount_name: a\ncontainer_name: c\nuse_workload_identity: false\n"},
    {"azure://a/c/p/q", "backend: azure\naccount_name: a\ncontainer_name: c\n"},
    {"azure://a/c?endpoint=https://h/a",
     "backend: azure\naccount_name: a\ncontainer_name: c\nuse_workload_identity: false\n"
     "use_managed_identity: false\nendpoint: \"https://h/a\"\nallow_http: false\n"},
    {"gs://b/p/q?endpoint=http://h:1&allow_http=true",
     "backend: gcs\nbucket: b\nendpoint: \"http://h:1\"\nallow_http: true\nprefix: p/q\n"},
    {"gs://b/p", "backend: gcs\nbucket: b\nallow_http: false\nprefix: p\n"},
};

static void kb_config_storage_parse_path_each_scheme_fills_its_block(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(good_cases); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_STRBUF(text, 4096);
        kb_config_storage storage;
        kb_config_storage_init(&storage);
        assert_int_equal(kb_config_storage_parse_path(good_cases[i].location, &storage, &err), KB_OK);
        assert_true(storage.block.is_given);
        kb_schema_print(&kb_config_storage_schema, &storage, 0, &text);
        if (strncmp(kb_strbuf_view(&text), good_cases[i].printed, strlen(good_cases[i].printed)) != 0)
            fail_msg("case %zu: %s", i, kb_strbuf_view(&text));
        kb_config_storage_done(&storage);
    }
}

static void kb_config_storage_parse_path_other_forms_are_usage_errors(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "ftp://x",
        "file://host/x",
        "file://",
        "s3://",
        "s3:///p",
        "s3://b?regoin=x",
        "s3://b?path_style=1",
        "s3://b?",
        "azure://",
        "azure://a",
        "azure://a/",
        "azure:///c",
        "gs://",
        "gs:///p",
        "S3://b",
        "gs://b?x=1",
        "gs://b?",
        "azure://a/c?sig=canary",
        "gs://b?allow_http=1",
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        kb_config_storage storage;
        kb_config_storage_init(&storage);
        assert_int_equal(kb_config_storage_parse_path(cases[i], &storage, &err), KB_USAGE_ERROR);
        assert_non_null(strstr(kb_error_text(&err), "--path"));
        assert_null(strstr(kb_error_text(&err), "canary"));
        kb_config_storage_done(&storage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_config_storage_parse_path_each_scheme_fills_its_block),
        cmocka_unit_test(kb_config_storage_parse_path_other_forms_are_usage_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

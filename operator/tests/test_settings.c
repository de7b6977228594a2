#include "operator/model/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"

#define IMAGE "\"image\":{\"repository\":\"r/w\",\"tag\":\"1\"}"

static void kb_settings_parse_image_only_gives_defaults(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_settings settings;
    assert_int_equal(kb_settings_parse("{" IMAGE "}", &settings, &err), KB_OK);
    assert_string_equal(settings.image, "r/w:1");
    assert_string_equal(settings.pull_policy, "IfNotPresent");
    assert_string_equal(settings.account, "kafka-backup-worker");
    assert_int_equal(settings.grace_seconds, 120);
    assert_string_equal(kb_tree_text(settings.resources, "limits", "memory", NULL), "2Gi");
    assert_null(settings.log_level);
    assert_true(kb_settings_serves(&settings, "anywhere"));
    kb_settings_done(&settings);
}

static void kb_settings_parse_wrong_document_is_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {"",
                                       "[]",
                                       "{}",
                                       "{\"image\":{\"repository\":\"r\"}}",
                                       "{\"image\":{\"repository\":\"r\",\"tag\":\"latest\"}}",
                                       "{" IMAGE ",\"resources\":[]}"};
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTO_ERROR(err);
        kb_settings settings;
        assert_int_equal(kb_settings_parse(rows[i], &settings, &err), KB_CONFIG_INVALID);
    }
}

static void kb_settings_serves_hardened_install_only_listed(void **state)
{
    (void)state;
    static const struct {
        const char *json, *name_space;
        bool serves;
    } rows[] = {
        {"{" IMAGE ",\"clusterWideWorkloads\":false,\"releaseNamespace\":\"rel\"}", "rel", true},
        {"{" IMAGE ",\"clusterWideWorkloads\":false,\"releaseNamespace\":\"rel\"}", "a", false},
        {"{" IMAGE ",\"clusterWideWorkloads\":false,\"workloadNamespaces\":[\"a\"]}", "a", true},
        {"{" IMAGE ",\"watchNamespaces\":[\"a\"]}", "a", true},
        {"{" IMAGE ",\"watchNamespaces\":[\"a\"]}", "b", false},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTO_ERROR(err);
        kb_settings settings;
        assert_int_equal(kb_settings_parse(rows[i].json, &settings, &err), KB_OK);
        assert_true(kb_settings_serves(&settings, rows[i].name_space) == rows[i].serves);
        kb_settings_done(&settings);
    }
}

static void kb_settings_parse_digest_tag_is_joined_by_at(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_settings settings;
    assert_int_equal(
        kb_settings_parse(
            "{\"image\":{\"repository\":\"r\",\"tag\":\"sha256:ab\"},\"serviceAccount\":{\"name\":\"\"}}",
            &settings, &err),
        KB_OK);
    assert_string_equal(settings.image, "r@sha256:ab");
    assert_string_equal(settings.account, "kafka-backup-worker");
    kb_settings_done(&settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_settings_parse_image_only_gives_defaults),
        cmocka_unit_test(kb_settings_parse_wrong_document_is_refused),
        cmocka_unit_test(kb_settings_serves_hardened_install_only_listed),
        cmocka_unit_test(kb_settings_parse_digest_tag_is_joined_by_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

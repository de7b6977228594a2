#include "operator/kube/kube_config.h"

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
#include "common/base/secret.h"
#include "common/testing/temp_dir.h"
#include "operator/tests/fake_clock.h"

static kb_code parse(const char *text, const char *dir, kb_kube_access **access, kb_error *err)
{
    return kb_kube_config_parse(kb_view_of(text, strlen(text)), dir, "config", NULL, access, err);
}

#define HEAD "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
#define CONTEXTS \
    "contexts: [{name: other, context: {}}, {name: c, context: {cluster: k, user: u, namespace: ns}}]\n"
#define CLUSTERS \
    "clusters: [{name: k, cluster: {server: 'https://[::1]:6443/', certificate-authority-data: Q0E=}}]\n"
#define WHOLE(user) HEAD CONTEXTS CLUSTERS "users: [{name: u, user: {" user "}}]\n"

static void kb_kube_config_parse_takes_what_the_context_names(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_kube_access_free_at) kb_kube_access *access = NULL;
    assert_int_equal(
        parse(WHOLE("token: 'a${HOME}b', client-certificate-data: Q0VSVA==, client-key-data: S0VZ"), "/d",
              &access, &err),
        KB_OK);
    assert_string_equal(kb_kube_access_namespace(access), "ns");
    KB_CLEANUP(kb_kube_login_unref_at) const kb_kube_login *login = kb_kube_access_login(access);
    assert_string_equal(login->server, "https://[::1]:6443");
    assert_string_equal(kb_secret_view(login->token), "a${HOME}b");
    assert_int_equal(login->ca.len, 2);
    assert_memory_equal(login->ca.data, "CA", 2);
    uint8_t *data = NULL;
    size_t len = 0;
    assert_int_equal(kb_file_read(login->client_key_file, 100, &data, &len, &err), KB_OK);
    assert_int_equal(len, 3);
    assert_memory_equal(data, "KEY", 3);
    free(data);
}

static void kb_kube_config_parse_refuses_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
    } CASES[] = {
        {WHOLE("exec: {command: x}"), "config: user.exec is not supported"},
        {WHOLE("auth-provider: {name: x}"), "config: user.auth-provider is not supported"},
        {WHOLE("username: x, password: y"), "config: user.username is not supported"},
        {WHOLE("as: x"), "config: user.as is not supported"},
        {WHOLE("client-certificate-data: Q0VSVA=="), "a client certificate needs a key"},
        {WHOLE("client-certificate-data: '!'"), "client-certificate-data"},
        {WHOLE("tokenFile: missing"), "cannot open '/d/missing'"},
        {HEAD CONTEXTS CLUSTERS "users: []\n", "config: there is no user named 'u'"},
        {HEAD "contexts: []\n", "config: there is no context named 'c'"},
        {"kind: Config\n", "config: current-context is not set"},
        {HEAD CONTEXTS "users: [{name: u, user: {}}]\nclusters: [{name: k, cluster: {server: 'https://h', "
                       "insecure-skip-tls-verify: true}}]\n",
         "config: cluster.insecure-skip-tls-verify is not supported"},
        {HEAD CONTEXTS
         "users: [{name: u, user: {}}]\nclusters: [{name: k, cluster: {server: 'http://h:1'}}]\n",
         "'http://h:1' is not encrypted"},
        {HEAD CONTEXTS "users: [{name: u, user: {}}]\nclusters: [{name: k, cluster: {server: 'ftp://h'}}]\n",
         "'ftp://h' is not an https:// URL"},
        {HEAD CONTEXTS "users: [{name: u, user: {}}]\nclusters: [{name: k, cluster: {}}]\n",
         "no API server is named"},
        {"a: [\n", "config"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        KB_AUTO_ERROR(err);
        kb_kube_access *access = NULL;
        assert_int_not_equal(parse(CASES[i].text, "/d", &access, &err), KB_OK);
        if (strstr(kb_error_text(&err), CASES[i].expected) == NULL)
            assert_string_equal(kb_error_text(&err), CASES[i].expected);
        assert_null(access);
    }
}

static void kb_kube_config_load_relative_names_count_from_its_folder(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_temp_dir_free_at) char *dir = kb_temp_dir_new();
    KB_AUTOFREE char *config = kb_temp_path(dir, "config");
    KB_AUTOFREE char *token = kb_temp_path(dir, "token");
    static const char TEXT[] = WHOLE("tokenFile: token");
    assert_int_equal(kb_file_write(config, TEXT, sizeof TEXT - 1, &err), KB_OK);
    assert_int_equal(kb_file_write(token, "first \n", 7, &err), KB_OK);
    KB_CLEANUP(kb_kube_access_free_at) kb_kube_access *access = NULL;
    assert_int_equal(kb_kube_config_load(config, NULL, &access, &err), KB_OK);
    KB_CLEANUP(kb_kube_login_unref_at) const kb_kube_login *login = kb_kube_access_login(access);
    assert_string_equal(kb_secret_view(login->token), "first");
}

/* ---- kube_access in a pod ---- */

static void kb_kube_access_in_cluster_follows_its_files(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_fake_clock clock;
    kb_fake_clock_init(&clock);
    KB_CLEANUP(kb_temp_dir_free_at) char *dir = kb_temp_dir_new();
    KB_AUTOFREE char *token = kb_temp_path(dir, "token");
    KB_AUTOFREE char *ca = kb_temp_path(dir, "ca.crt");
    KB_AUTOFREE char *name_space = kb_temp_path(dir, "namespace");
    assert_int_equal(kb_file_write(token, "one", 3, &err), KB_OK);
    assert_int_equal(kb_file_write(ca, "CA1", 3, &err), KB_OK);
    assert_int_equal(kb_file_write(name_space, "mine\n", 5, &err), KB_OK);
    setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
    setenv("KUBERNETES_SERVICE_PORT", "443", 1);
    KB_CLEANUP(kb_kube_access_free_at) kb_kube_access *access = NULL;
    assert_int_equal(kb_kube_access_in_cluster(dir, &clock.clock, &access, &err), KB_OK);
    assert_string_equal(kb_kube_access_namespace(access), "mine");
    KB_CLEANUP(kb_kube_login_unref_at) const kb_kube_login *first = kb_kube_access_login(access);
    assert_string_equal(first->server, "https://[fd00::1]:443");
    /* Not looked at before its time. */
    assert_int_equal(kb_file_write(token, "two", 3, &err), KB_OK);
    KB_CLEANUP(kb_kube_login_unref_at) const kb_kube_login *second = kb_kube_access_login(access);
    assert_string_equal(kb_secret_view(second->token), "one");
    kb_fake_clock_move(&clock, KB_KUBE_ACCESS_CHECK_MS);
    KB_CLEANUP(kb_kube_login_unref_at) const kb_kube_login *third = kb_kube_access_login(access);
    assert_string_equal(kb_secret_view(third->token), "two");
    assert_int_equal(third->generation, first->generation);
    /* Empty or gone for a moment. */
    assert_int_equal(kb_file_write(token, " \n", 2, &err), KB_OK);
    assert_int_equal(unlink(ca), 0);
    kb_kube_access_refresh(access);
    KB_CLEANUP(kb_kube_login_unref_at) const kb_kube_login *fourth = kb_kube_access_login(access);
    assert_string_equal(kb_secret_view(fourth->token), "two");
    assert_memory_equal(fourth->ca.data, "CA1", 3);
    assert_int_equal(kb_file_write(ca, "CA2", 3, &err), KB_OK);
    kb_kube_access_refresh(access);
    KB_CLEANUP(kb_kube_login_unref_at) const kb_kube_login *fifth = kb_kube_access_login(access);
    assert_memory_equal(fifth->ca.data, "CA2", 3);
    assert_int_not_equal(fifth->generation, first->generation);
    assert_string_equal(kb_secret_view(first->token), "one");
}

static void kb_kube_access_in_cluster_outside_of_a_pod_says_so(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_kube_access *access = NULL;
    unsetenv("KUBERNETES_SERVICE_HOST");
    unsetenv("KUBECONFIG");
    assert_int_equal(kb_kube_config_load(NULL, NULL, &access, &err), KB_CONFIG_INVALID);
    assert_non_null(strstr(kb_error_text(&err), "not in a pod"));
    setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1", 1);
    setenv("KUBERNETES_SERVICE_PORT", "443", 1);
    assert_int_not_equal(kb_kube_access_in_cluster("/nowhere", NULL, &access, &err), KB_OK);
    assert_non_null(strstr(kb_error_text(&err), "/nowhere/namespace"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_kube_config_parse_takes_what_the_context_names),
        cmocka_unit_test(kb_kube_config_parse_refuses_by_name),
        cmocka_unit_test(kb_kube_config_load_relative_names_count_from_its_folder),
        cmocka_unit_test(kb_kube_access_in_cluster_follows_its_files),
        cmocka_unit_test(kb_kube_access_in_cluster_outside_of_a_pod_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "operator/ctrl/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/base/mem.h"

/* "NAME=value" of the test that runs. */
static const char *const *environment;

static const char *get_env(const char *name)
{
    const size_t len = strlen(name);
    for (const char *const *at = environment; at != NULL && *at != NULL; at++) {
        if (strncmp(*at, name, len) == 0 && (*at)[len] == '=')
            return *at + len + 1;
    }
    return NULL;
}

static kb_code parse(const char *const *args, kb_operator_options *options, kb_error *err)
{
    char *argv[16] = {kb_strdup("operator")};
    int argc = 1;
    for (; args != NULL && *args != NULL; args++)
        argv[argc++] = kb_strdup(*args);
    const kb_code code = kb_operator_options_parse(argc, argv, get_env, options, err);
    for (int i = 0; i < argc; i++)
        kb_free_at(&argv[i]);
    return code;
}

static void kb_operator_options_parse_nothing_gives_the_defaults(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    environment = NULL;
    KB_CLEANUP(kb_operator_options_done) kb_operator_options options = {0};
    assert_int_equal(parse(NULL, &options, &err), KB_OK);
    assert_int_equal(options.concurrency, 4);
    assert_true(options.qps == 50.0 && options.burst == 100.0);
    assert_true(options.leader_election);
    assert_int_equal(options.lease_duration_ms, 15000);
    assert_int_equal(options.renew_deadline_ms, 10000);
    assert_int_equal(options.retry_period_ms, 2000);
    assert_int_equal(options.metrics_port, 8080);
    assert_int_equal(options.health_port, 8081);
    assert_string_equal(options.metrics_path, "/metrics");
    assert_int_equal(options.log_level, KB_LOG_INFO);
    assert_null(options.kubeconfig);
    assert_int_equal(options.watch_namespace_count, 0);
    assert_false(options.self_check || options.help || options.version);
}

static void kb_operator_options_parse_flags_win_over_variables(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    static const char *const ENV[] = {"KB_CONCURRENCY=2",
                                      "KB_NAMESPACE=mine",
                                      "KB_LOG_FORMAT=json",
                                      "KB_METRICS_PORT=",
                                      "RUST_LOG=kube=warn,debug",
                                      "KB_WATCH_NAMESPACES=a, b,,c",
                                      NULL};
    static const char *const ARGS[] = {"--concurrency",       "8", "--leader-election=false", "--self-check",
                                       "--lease-duration=1m", NULL};
    environment = ENV;
    KB_CLEANUP(kb_operator_options_done) kb_operator_options options = {0};
    assert_int_equal(parse(ARGS, &options, &err), KB_OK);
    assert_int_equal(options.concurrency, 8);
    assert_string_equal(options.name_space, "mine");
    assert_int_equal(options.log_format, KB_LOG_JSON);
    assert_int_equal(options.log_level, KB_LOG_WARN);
    assert_int_equal(options.metrics_port, 8080);
    assert_false(options.leader_election);
    assert_true(options.self_check);
    assert_int_equal(options.lease_duration_ms, 60000);
    assert_int_equal(options.watch_namespace_count, 3);
    assert_string_equal(options.watch_namespaces[1], "b");
    assert_string_equal(options.watch_namespaces[2], "c");
}

static void kb_operator_options_parse_wrong_values_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *arg, *variable, *expected;
    } CASES[] = {
        {"--concurrency=0", NULL, "--concurrency: '0' is not a number from 1 to 64"},
        {"--qps=nan", NULL, "--qps: 'nan' is not a number"},
        {"--lease-duration=15 s", NULL, "--lease-duration: '15 s' is not a time"},
        {"--health-port=65536", NULL, "--health-port: '65536' is not a number from 0 to 65535"},
        {"--log-level=loud", NULL, "--log-level: 'loud' is not error, warn, info, debug or trace"},
        {"--leader-election=maybe", NULL, "--leader-election: 'maybe' is not true or false"},
        {"--renew-deadline=15s", NULL, "must last longer"},
        {"--metrics-port=8081", NULL, "are the same"},
        {"--metrics-path=metrics", NULL, "must begin with '/'"},
        {"--nothing=1", NULL, "unknown flag '--nothing'"},
        {"stray", NULL, "unexpected argument 'stray'"},
        {"--kubeconfig", NULL, "--kubeconfig needs a value"},
        {NULL, "KB_BURST=few", "KB_BURST: 'few' is not a number"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        KB_AUTO_ERROR(err);
        const char *const env[] = {CASES[i].variable, NULL};
        const char *const args[] = {CASES[i].arg, NULL};
        environment = env;
        kb_operator_options options = {0};
        assert_int_equal(parse(args, &options, &err), KB_USAGE_ERROR);
        assert_non_null(strstr(kb_error_text(&err), CASES[i].expected));
        environment = NULL;
    }
}

static void kb_operator_options_help_names_every_flag(void **state)
{
    (void)state;
    KB_AUTOFREE char *help = kb_operator_options_help();
    assert_non_null(strstr(help, "--worker-settings"));
    assert_non_null(strstr(help, "--retry-period      how often the Lease is looked at (2s)"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_operator_options_parse_nothing_gives_the_defaults),
        cmocka_unit_test(kb_operator_options_parse_flags_win_over_variables),
        cmocka_unit_test(kb_operator_options_parse_wrong_values_are_named),
        cmocka_unit_test(kb_operator_options_help_names_every_flag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

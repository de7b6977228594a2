#include "common/contract/run_env.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/testing/temp_dir.h"

/* ctx: "NAME=value" texts, ended by NULL. */
static const char *fake_env(void *ctx, const char *name)
{
    for (const char *const *entry = ctx; *entry != NULL; entry++) {
        size_t len = strlen(name);
        if (strncmp(*entry, name, len) == 0 && (*entry)[len] == '=')
            return *entry + len + 1;
    }
    return NULL;
}

static kb_code read_env(const char **entries, kb_run_env *env, kb_error *err)
{
    return kb_run_env_read(env, fake_env, entries, err);
}

static void kb_run_env_read_all_variables_are_taken(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_run_env env;
    const char *entries[] = {
        "KB_JOB_NAME=j",
        "KB_JOB_UID=ju",
        "KB_POD_NAME=p",
        "KB_POD_UID=pu",
        "KB_NAMESPACE=n",
        "KB_CR_UID=cu",
        "KB_STAMP=20250131-235959",
        "KB_MEMORY_LIMIT=256Mi",
        "KB_CONFIG_SHA256=E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
        "KB_LOG_LEVEL=debug",
        "KB_TERMINATION_LOG=/t",
        "RUST_LOG=warn",
        NULL};
    assert_int_equal(read_env(entries, &env, &err), KB_OK);
    assert_string_equal(env.job_name, "j");
    assert_string_equal(env.job_uid, "ju");
    assert_string_equal(env.pod_name, "p");
    assert_string_equal(env.pod_uid, "pu");
    assert_string_equal(env.namespace, "n");
    assert_string_equal(env.cr_uid, "cu");
    assert_string_equal(env.stamp, "20250131-235959");
    assert_true(env.memory_limit_bytes == 256LL * 1024 * 1024);
    assert_string_equal(env.config_sha256,
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_string_equal(env.log_level, "debug");
    assert_string_equal(env.termination_log, "/t");
    assert_string_equal(env.rust_log, "warn");
    kb_run_env_done(&env);
}

static void kb_run_env_read_empty_counts_as_unset(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_run_env env;
    const char *entries[] = {
        "KB_JOB_NAME=", "KB_STAMP=", "KB_MEMORY_LIMIT=", "KB_CONFIG_SHA256=", "KB_LOG_LEVEL=", NULL};
    assert_int_equal(read_env(entries, &env, &err), KB_OK);
    assert_null(env.job_name);
    assert_null(env.stamp);
    assert_int_equal(env.memory_limit_bytes, 0);
    assert_null(env.config_sha256);
    assert_null(env.log_level);
    assert_null(env.termination_log);
    kb_run_env_done(&env);
}

static void kb_run_env_read_job_name_brings_the_termination_log(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_run_env env;
    const char *entries[] = {"KB_JOB_NAME=j", NULL};
    assert_int_equal(read_env(entries, &env, &err), KB_OK);
    assert_string_equal(env.termination_log, "/dev/termination-log");
    kb_run_env_done(&env);
}

static void kb_run_env_read_wrong_forms_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *entry;
        const char *name;
    } cases[] = {
        {"KB_STAMP=now", "KB_STAMP"},           {"KB_STAMP=20251331-000000", "KB_STAMP"},
        {"KB_MEMORY_LIMIT=x", "KB_MEMORY"},     {"KB_MEMORY_LIMIT=-1", "KB_MEMORY"},
        {"KB_MEMORY_LIMIT=0", "KB_MEMORY"},     {"KB_MEMORY_LIMIT=1.5Gi", "KB_MEMORY"},
        {"KB_MEMORY_LIMIT=12Xi", "KB_MEMORY"},  {"KB_MEMORY_LIMIT=9999999999Ti", "KB_MEMORY"},
        {"KB_CONFIG_SHA256=ab", "KB_CONFIG_S"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        kb_run_env env;
        const char *entries[] = {cases[i].entry, NULL};
        assert_int_equal(read_env(entries, &env, &err), KB_CONFIG_INVALID);
        assert_non_null(strstr(kb_error_text(&err), cases[i].name));
    }
}

static void kb_run_env_memory_bytes_units_are_understood(void **state)
{
    (void)state;
    static const struct {
        const char *entry;
        int64_t bytes;
    } cases[] = {
        {"KB_MEMORY_LIMIT=1000", 1000},     {"KB_MEMORY_LIMIT=2Ki", 2048},
        {"KB_MEMORY_LIMIT=3Gi", 3LL << 30}, {"KB_MEMORY_LIMIT=1Ti", 1LL << 40},
        {"KB_MEMORY_LIMIT=2k", 2000},       {"KB_MEMORY_LIMIT=500M", 500000000},
        {"KB_MEMORY_LIMIT=2G", 2000000000}, {"KB_MEMORY_LIMIT=1T", 1000000000000},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        kb_run_env env;
        const char *entries[] = {cases[i].entry, NULL};
        assert_int_equal(read_env(entries, &env, &err), KB_OK);
        assert_true(kb_run_env_memory_bytes(&env, "/nonexistent") == cases[i].bytes);
        kb_run_env_done(&env);
    }
}

static void kb_run_env_log_level_order_is_flag_env_config_rust_info(void **state)
{
    (void)state;
    const kb_log_level from_config = KB_LOG_WARN;
    static const struct {
        const char *flag, *env, *rust;
        bool has_config;
        unsigned verbose;
        kb_log_level level;
    } cases[] = {
        {"error", "debug", "trace", true, 0, KB_LOG_ERROR},
        {NULL, "debug", "trace", true, 0, KB_LOG_DEBUG},
        {NULL, NULL, "trace", true, 0, KB_LOG_WARN},
        {NULL, NULL, "trace", false, 0, KB_LOG_TRACE},
        {NULL, NULL, "lib=x,kafka_backup=debug,warn", false, 0, KB_LOG_DEBUG},
        {NULL, NULL, "INFO,h2=error", false, 0, KB_LOG_INFO},
        {NULL, NULL, "off", false, 0, KB_LOG_INFO},
        {NULL, NULL, NULL, false, 0, KB_LOG_INFO},
        {NULL, NULL, NULL, false, 1, KB_LOG_DEBUG},
        {NULL, NULL, NULL, false, 9, KB_LOG_TRACE},
        {"warn", NULL, NULL, false, 1, KB_LOG_INFO},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        char *level_text = kb_strdup_opt(cases[i].env), *rust = kb_strdup_opt(cases[i].rust);
        kb_run_env env = {.log_level = level_text, .rust_log = rust};
        kb_log_level level = KB_LOG_ERROR;
        assert_int_equal(kb_run_env_log_level(&env, cases[i].flag, cases[i].has_config ? &from_config : NULL,
                                              cases[i].verbose, &level, &err),
                         KB_OK);
        assert_int_equal(level, cases[i].level);
        kb_run_env_done(&env);
    }
}

static void kb_run_env_log_level_wrong_words_are_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_run_env env = {0};
    kb_log_level level = KB_LOG_INFO;
    assert_int_equal(kb_run_env_log_level(&env, "loud", NULL, 0, &level, &err), KB_USAGE_ERROR);
    env.log_level = kb_strdup("loud");
    assert_int_equal(kb_run_env_log_level(&env, NULL, NULL, 0, &level, &err), KB_CONFIG_INVALID);
    kb_run_env_done(&env);
}

static void write_text(const char *dir, const char *name, const char *text)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *path = kb_temp_path(dir, name);
    assert_int_equal(kb_file_write(path, text, strlen(text), &err), KB_OK);
}

static void kb_run_env_memory_bytes_cgroup_limit_is_used(void **state)
{
    (void)state;
    static const struct {
        const char *v2, *v1;
        int64_t bytes;
    } cases[] = {
        {"268435456\n", NULL, 268435456},      {"max\n", NULL, KB_DEFAULT_MEMORY_BYTES},
        {NULL, "134217728\n", 134217728},      {NULL, "9223372036854771712\n", KB_DEFAULT_MEMORY_BYTES},
        {NULL, NULL, KB_DEFAULT_MEMORY_BYTES},
    };
    const kb_run_env env = {0};
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_CLEANUP(kb_temp_dir_free_at) char *dir = kb_temp_dir_new();
        KB_AUTOFREE char *memory = kb_temp_path(dir, "memory");
        assert_int_equal(mkdir(memory, 0700), 0);
        if (cases[i].v2 != NULL)
            write_text(dir, "memory.max", cases[i].v2);
        if (cases[i].v1 != NULL)
            write_text(dir, "memory/memory.limit_in_bytes", cases[i].v1);
        assert_true(kb_run_env_memory_bytes(&env, dir) == cases[i].bytes);
    }
    assert_true(kb_run_env_memory_bytes(&env, NULL) > 0);
}

static void kb_run_env_threads_cgroup_quota_is_rounded_up(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int at_most;
    } cases[] = {
        {"50000 100000\n", 1}, {"100000 100000\n", 1}, {"150000 100000\n", 2}, {"max 100000\n", 1 << 20}};
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_CLEANUP(kb_temp_dir_free_at) char *dir = kb_temp_dir_new();
        write_text(dir, "cpu.max", cases[i].text);
        int threads = kb_run_env_threads(dir);
        assert_true(threads >= 1 && threads <= cases[i].at_most);
    }
    assert_true(kb_run_env_threads(NULL) >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_run_env_read_all_variables_are_taken),
        cmocka_unit_test(kb_run_env_read_empty_counts_as_unset),
        cmocka_unit_test(kb_run_env_read_job_name_brings_the_termination_log),
        cmocka_unit_test(kb_run_env_read_wrong_forms_are_refused_by_name),
        cmocka_unit_test(kb_run_env_memory_bytes_units_are_understood),
        cmocka_unit_test(kb_run_env_log_level_order_is_flag_env_config_rust_info),
        cmocka_unit_test(kb_run_env_log_level_wrong_words_are_refused),
        cmocka_unit_test(kb_run_env_memory_bytes_cgroup_limit_is_used),
        cmocka_unit_test(kb_run_env_threads_cgroup_quota_is_rounded_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "common/contract/run_env.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/file.h"
#include "common/base/mem.h"

#define KB_CGROUP_ROOT "/sys/fs/cgroup"
#define KB_CGROUP_FILE_MAX_BYTES 4096
/* Version 1 writes "no limit" as the largest multiple of the page size; nothing real is as large. */
#define KB_NO_LIMIT_BYTES (1LL << 60)

/* ---- variables ---- */

static const char *get_variable(kb_get_env get, void *ctx, const char *name)
{
    const char *value = get != NULL ? get(ctx, name) : getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static bool parse_bytes(const char *text, int64_t *ret_bytes)
{
    static const struct {
        const char *suffix;
        int64_t factor;
    } units[] = {
        {"", 1},     {"Ki", 1LL << 10}, {"Mi", 1LL << 20},   {"Gi", 1LL << 30},      {"Ti", 1LL << 40},
        {"k", 1000}, {"M", 1000000},    {"G", 1000000000LL}, {"T", 1000000000000LL},
    };
    size_t digits = strspn(text, "0123456789");
    int64_t number = 0;
    if (digits == 0 || !kb_parse_i64_len(text, digits, &number))
        return false;
    for (size_t i = 0; i < KB_ARRAY_LEN(units); i++) {
        int64_t bytes = 0;
        if (strcmp(text + digits, units[i].suffix) != 0)
            continue;
        if (__builtin_mul_overflow(number, units[i].factor, &bytes) || bytes == 0)
            return false;
        *ret_bytes = bytes;
        return true;
    }
    return false;
}

static kb_code check_values(kb_run_env *env, const char *memory_limit, kb_error *err)
{
    int64_t ignored = 0;
    if (env->stamp != NULL && kb_stamp_parse(env->stamp, strlen(env->stamp), &ignored, err) != KB_OK)
        return kb_fail(err, KB_CONFIG_INVALID, "KB_STAMP: expected YYYYMMDD-HHMMSS, got '%.60s'", env->stamp);
    if (memory_limit != NULL && !parse_bytes(memory_limit, &env->memory_limit_bytes))
        return kb_fail(err, KB_CONFIG_INVALID,
                       "KB_MEMORY_LIMIT: expected a number of bytes, or with Ki, Mi or Gi, got '%.60s'",
                       memory_limit);
    if (env->config_sha256 == NULL)
        return KB_OK;
    size_t len = strlen(env->config_sha256);
    for (char *c = env->config_sha256; *c != '\0'; c++)
        *c = (char)(*c >= 'A' && *c <= 'F' ? *c | 0x20 : *c);
    if (len != 64 || strspn(env->config_sha256, "0123456789abcdef") != len)
        return kb_fail(err, KB_CONFIG_INVALID, "KB_CONFIG_SHA256: expected 64 hexadecimal digits");
    return KB_OK;
}

kb_code kb_run_env_read(kb_run_env *ret_env, kb_get_env get, void *ctx, kb_error *err)
{
    kb_run_env env = {0};
    const struct {
        const char *name;
        char **to;
    } variables[] = {
        {"KB_JOB_NAME", &env.job_name},   {"KB_JOB_UID", &env.job_uid},
        {"KB_POD_NAME", &env.pod_name},   {"KB_POD_UID", &env.pod_uid},
        {"KB_NAMESPACE", &env.namespace}, {"KB_CR_UID", &env.cr_uid},
        {"KB_STAMP", &env.stamp},         {"KB_CONFIG_SHA256", &env.config_sha256},
        {"KB_LOG_LEVEL", &env.log_level}, {"KB_TERMINATION_LOG", &env.termination_log},
        {"RUST_LOG", &env.rust_log},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(variables); i++)
        *variables[i].to = kb_strdup_opt(get_variable(get, ctx, variables[i].name));
    if (env.termination_log == NULL && env.job_name != NULL)
        env.termination_log = kb_strdup("/dev/termination-log");
    kb_code code = check_values(&env, get_variable(get, ctx, "KB_MEMORY_LIMIT"), err);
    if (code != KB_OK) {
        kb_run_env_done(&env);
        return code;
    }
    *ret_env = env;
    return KB_OK;
}

void kb_run_env_done(kb_run_env *env)
{
    free(env->job_name);
    free(env->job_uid);
    free(env->pod_name);
    free(env->pod_uid);
    free(env->namespace);
    free(env->cr_uid);
    free(env->stamp);
    free(env->config_sha256);
    free(env->log_level);
    free(env->rust_log);
    free(env->termination_log);
    *env = (kb_run_env){0};
}

/* ---- log level ---- */

/* RUST_LOG is "level" or a list as in "info,lib=warn": the first item that is a level word, else of
 * "a=level". */
static bool rust_level(const char *text, kb_log_level *ret_level)
{
    for (const char *item = text; item != NULL; item = strchr(item, ',')) {
        item += *item == ',';
        size_t len = strcspn(item, ",");
        const char *equals = memchr(item, '=', len);
        const char *word = equals != NULL ? equals + 1 : item;
        KB_AUTOFREE char *level = kb_strndup(word, len - (size_t)(word - item));
        for (char *c = level; *c != '\0'; c++)
            *c = (char)(*c >= 'A' && *c <= 'Z' ? *c | 0x20 : *c);
        if (kb_log_level_parse(level, ret_level))
            return true;
    }
    return false;
}

kb_code kb_run_env_log_level(const kb_run_env *env, const char *flag_level, const kb_log_level *config_level,
                             unsigned verbose, kb_log_level *ret_level, kb_error *err)
{
    static const char expected[] = "expected error, warn, info, debug or trace";
    kb_log_level level = KB_LOG_INFO;
    if (flag_level != NULL) {
        if (!kb_log_level_parse(flag_level, &level))
            return kb_fail(err, KB_USAGE_ERROR, "--log-level: %s, got '%.60s'", expected, flag_level);
    } else if (env->log_level != NULL) {
        if (!kb_log_level_parse(env->log_level, &level))
            return kb_fail(err, KB_CONFIG_INVALID, "KB_LOG_LEVEL: %s, got '%.60s'", expected, env->log_level);
    } else if (config_level != NULL) {
        level = *config_level;
    } else if (env->rust_log == NULL || !rust_level(env->rust_log, &level)) {
        level = KB_LOG_INFO;
    }
    for (; verbose > 0 && level < KB_LOG_TRACE; verbose--)
        level = (kb_log_level)(level + 1);
    *ret_level = level;
    return KB_OK;
}

/* ---- what the machine grants ---- */

/* Content of a small file below the root, NULL when there is none. Owned. */
static char *read_cgroup(const char *root, const char *file)
{
    KB_AUTO_ERROR(ignored);
    KB_AUTOFREE char *path = kb_asprintf("%s/%s", root != NULL ? root : KB_CGROUP_ROOT, file);
    uint8_t *data = NULL;
    size_t len = 0;
    if (kb_file_read(path, KB_CGROUP_FILE_MAX_BYTES, &data, &len, &ignored) != KB_OK)
        return NULL;
    char *text = (char *)data;
    text[strcspn(text, "\n")] = '\0';
    return text;
}

static bool read_cgroup_number(const char *root, const char *file, int64_t *ret_value)
{
    KB_AUTOFREE char *text = read_cgroup(root, file);
    return text != NULL && kb_parse_i64(text, ret_value);
}

int64_t kb_run_env_memory_bytes(const kb_run_env *env, const char *cgroup_root)
{
    static const char *const files[] = {"memory.max", "memory/memory.limit_in_bytes"};
    if (env->memory_limit_bytes > 0)
        return env->memory_limit_bytes;
    for (size_t i = 0; i < KB_ARRAY_LEN(files); i++) {
        int64_t limit = 0;
        if (read_cgroup_number(cgroup_root, files[i], &limit) && limit > 0 && limit < KB_NO_LIMIT_BYTES)
            return limit;
    }
    return KB_DEFAULT_MEMORY_BYTES;
}

/* Quota and period of the CPU controller in either version; false without a limit. */
static bool read_cpu_quota(const char *root, int64_t *ret_quota, int64_t *ret_period)
{
    KB_AUTOFREE char *text = read_cgroup(root, "cpu.max");
    if (text != NULL) {
        size_t len = strcspn(text, " ");
        return text[len] == ' ' && kb_parse_i64_len(text, len, ret_quota) &&
               kb_parse_i64(text + len + 1, ret_period);
    }
    return read_cgroup_number(root, "cpu/cpu.cfs_quota_us", ret_quota) &&
           read_cgroup_number(root, "cpu/cpu.cfs_period_us", ret_period);
}

int kb_run_env_threads(const char *cgroup_root)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    int cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int64_t quota = 0, period = 0;
    if (read_cpu_quota(cgroup_root, &quota, &period) && quota > 0 && period > 0) {
        int64_t granted = quota / period + (quota % period != 0);
        if (granted < cpus)
            cpus = (int)granted;
    }
    return cpus > 0 ? cpus : 1;
}

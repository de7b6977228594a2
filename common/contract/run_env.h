/*
 * run_env - the environment variables of a run, and what the machine grants it.
 *
 * An empty variable counts as unset. Read once in main; the texts are copies. Threads: immutable afterwards.
 */
#ifndef KB_COMMON_CONTRACT_RUN_ENV_H
#define KB_COMMON_CONTRACT_RUN_ENV_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/log.h"

#define KB_DEFAULT_MEMORY_BYTES (512LL * 1024 * 1024)

/* Looks a variable up; NULL when it is unset. */
typedef const char *(*kb_get_env)(void *ctx, const char *name);

typedef struct kb_run_env {
    char *job_name, *job_uid, *pod_name, *pod_uid, *namespace, *cr_uid; /* KB_*; NULL = unset */
    char *stamp;                                                        /* KB_STAMP, of the right form */
    int64_t memory_limit_bytes; /* KB_MEMORY_LIMIT: bytes, also with Ki, Mi, Gi, Ti, k, M, G, T; 0 = unset */
    char *config_sha256;        /* KB_CONFIG_SHA256, lower-case hex */
    char *log_level;            /* KB_LOG_LEVEL */
    char *rust_log;             /* RUST_LOG as it is */
    char *termination_log; /* KB_TERMINATION_LOG, else /dev/termination-log under KB_JOB_NAME, else NULL */
} kb_run_env;

/* Reads the variables; get NULL means getenv. Fails with KB_CONFIG_INVALID naming a variable of a wrong form.
 */
kb_code kb_run_env_read(kb_run_env *ret_env, kb_get_env get, void *ctx, kb_error *err) KB_CHECK;
void kb_run_env_done(kb_run_env *env);

/*
 * The log level: flag_level (NULL = no flag) > KB_LOG_LEVEL > config_level (logging.level as given in the
 * file, NULL = not given) > first level word of RUST_LOG > info; then `verbose` steps more (-v), at most
 * trace. RUST_LOG without a level word counts as unset. Fails with KB_USAGE_ERROR for the flag,
 * KB_CONFIG_INVALID for the others, naming where the word stands.
 */
kb_code kb_run_env_log_level(const kb_run_env *env, const char *flag_level, const kb_log_level *config_level,
                             unsigned verbose, kb_log_level *ret_level, kb_error *err) KB_CHECK;

/*
 * limits.memory_bytes when the file has none: KB_MEMORY_LIMIT, else the limit of the cgroup (version 2 or 1),
 * else KB_DEFAULT_MEMORY_BYTES. cgroup_root NULL = /sys/fs/cgroup.
 */
int64_t kb_run_env_memory_bytes(const kb_run_env *env, const char *cgroup_root);
/* limits.threads when the file has none: CPUs of the cgroup rounded up, at most those of the affinity, at
 * least 1. */
int kb_run_env_threads(const char *cgroup_root);

#endif

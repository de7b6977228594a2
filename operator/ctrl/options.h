/*
 * options - the flags of the operator and their twins in the environment (KB_ + upper-case flag).
 *
 * "--flag=value", "--flag value", and for switches "--flag" alone. A flag wins over its variable; an empty
 * variable counts as unset. RUST_LOG is accepted when no log level is given: the first level in it counts.
 * Pure: reads argv and what it is handed as the environment, nothing else.
 */
#ifndef KB_OPERATOR_CTRL_OPTIONS_H
#define KB_OPERATOR_CTRL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/log.h"

typedef struct kb_operator_options {
    char *kubeconfig; /* all texts are owned; NULL: not given */
    char *name_space; /* of the release: --namespace */
    char *pod_name;
    char *worker_settings; /* JSON, see model/settings.h */
    char *lease_name;
    char *metrics_path;
    char **watch_namespaces; /* owned */
    size_t watch_namespace_count;
    int64_t concurrency;
    double qps, burst;
    kb_log_level log_level;
    kb_log_format log_format;
    bool leader_election;
    int64_t lease_duration_ms, renew_deadline_ms, retry_period_ms;
    uint16_t metrics_port, health_port; /* 0: none */
    bool self_check, help, version;
} kb_operator_options;

/* The value of an environment variable, NULL when unset. */
typedef const char *(*kb_get_env_fn)(const char *name);

/* Fails with KB_USAGE_ERROR naming the flag or variable and what was expected. */
kb_code kb_operator_options_parse(int argc, char **argv, kb_get_env_fn get_env,
                                  kb_operator_options *ret_options, kb_error *err) KB_CHECK;
void kb_operator_options_done(kb_operator_options *options);
/* The text of --help; owned by the caller. */
char *kb_operator_options_help(void) __attribute__((returns_nonnull));

#endif

#include "operator/ctrl/options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"

#define HELP_MAX 65536

typedef enum option_kind { TEXT, TEXTS, NUMBER, REAL, SWITCH, DURATION, PORT, LEVEL, FORMAT } option_kind;

typedef struct option_row {
    const char *flag;
    option_kind kind;
    size_t offset; /* in kb_operator_options */
    int64_t min, max;
    const char *fallback; /* NULL: none */
    const char *help;
} option_row;

#define AT(member) offsetof(kb_operator_options, member)
static const option_row ROWS[] = {
    {"kubeconfig", TEXT, AT(kubeconfig), 0, 0, NULL,
     "file to reach the API server; without it the pod's account"},
    {"namespace", TEXT, AT(name_space), 0, 0, NULL, "namespace of the release; without it the pod's"},
    {"pod-name", TEXT, AT(pod_name), 0, 0, NULL, "name of this pod, for the Lease and Events"},
    {"watch-namespaces", TEXTS, AT(watch_namespaces), 0, 0, NULL,
     "namespaces to serve, by commas; without: all"},
    {"worker-settings", TEXT, AT(worker_settings), 0, 0, NULL, "JSON: the chart's values for workers"},
    {"concurrency", NUMBER, AT(concurrency), 1, 64, "4", "reconcile threads"},
    {"qps", REAL, AT(qps), 1, 10000, "50", "requests per second to the API server"},
    {"burst", REAL, AT(burst), 1, 100000, "100", "requests at once"},
    {"leader-election", SWITCH, AT(leader_election), 0, 0, "true", "work only while holding the Lease"},
    {"lease-name", TEXT, AT(lease_name), 0, 0, "kafka-backup-operator", "name of the Lease"},
    {"lease-duration", DURATION, AT(lease_duration_ms), 1000, 3600000, "15s", "how long the Lease holds"},
    {"renew-deadline", DURATION, AT(renew_deadline_ms), 500, 3600000, "10s", "when a leader gives up"},
    {"retry-period", DURATION, AT(retry_period_ms), 100, 3600000, "2s", "how often the Lease is looked at"},
    {"metrics-port", PORT, AT(metrics_port), 0, 65535, "8080", "metrics and health; 0: none"},
    {"metrics-path", TEXT, AT(metrics_path), 0, 0, "/metrics", "path of the metrics"},
    {"health-port", PORT, AT(health_port), 0, 65535, "8081", "/healthz and /readyz; 0: none"},
    {"log-level", LEVEL, AT(log_level), 0, 0, NULL, "error, warn, info (default), debug, trace"},
    {"log-format", FORMAT, AT(log_format), 0, 0, "text", "text or json"},
    {"self-check", SWITCH, AT(self_check), 0, 0, "false", "check API, CRDs and rights, print, exit"},
    {"version", SWITCH, AT(version), 0, 0, "false", "print the version"},
    {"help", SWITCH, AT(help), 0, 0, "false", "print this"},
};

static char *variable_of(const option_row *row)
{
    char *name = kb_asprintf("KB_%s", row->flag);
    for (char *c = name; *c != '\0'; c++) {
        if (*c >= 'a' && *c <= 'z')
            *c = (char)(*c - 'a' + 'A');
        else if (*c == '-')
            *c = '_';
    }
    return name;
}

/* ---- values ---- */

static void set_text(char **to, const char *value)
{
    free(*to);
    *to = value[0] != '\0' ? kb_strdup(value) : NULL;
}

static void clear_texts(kb_operator_options *options)
{
    for (size_t i = 0; i < options->watch_namespace_count; i++)
        free(options->watch_namespaces[i]);
    free(options->watch_namespaces);
    options->watch_namespaces = NULL;
    options->watch_namespace_count = 0;
}

static void set_texts(kb_operator_options *options, const char *value)
{
    size_t capacity = 0;
    clear_texts(options);
    while (*value != '\0') {
        value += strspn(value, ", ");
        const size_t len = strcspn(value, ", ");
        if (len == 0)
            break;
        options->watch_namespaces = kb_grow(options->watch_namespaces, options->watch_namespace_count,
                                            &capacity, sizeof *options->watch_namespaces);
        options->watch_namespaces[options->watch_namespace_count++] = kb_strndup(value, len);
        value += len;
    }
}

/* "15s", "500ms", "2m", "1h", or seconds. */
static bool parse_duration(const char *value, int64_t *ret_ms)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } UNITS[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    const size_t digits = strspn(value, "0123456789");
    int64_t number;
    if (digits == 0 || digits > 9 || !kb_parse_i64_len(value, digits, &number))
        return false;
    for (size_t i = 0; i < KB_ARRAY_LEN(UNITS); i++) {
        if (strcmp(value + digits, UNITS[i].unit) == 0) {
            *ret_ms = number * UNITS[i].ms;
            return true;
        }
    }
    return false;
}

static bool parse_switch(const char *value, bool *ret_value)
{
    const bool is_on = strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
    if (!is_on && strcmp(value, "false") != 0 && strcmp(value, "0") != 0)
        return false;
    *ret_value = is_on;
    return true;
}

static bool parse_real(const char *value, const option_row *row, double *ret_value)
{
    char *end = NULL;
    const double number = strtod(value, &end);
    if (end == value || *end != '\0' || !isfinite(number) || number < (double)row->min ||
        number > (double)row->max)
        return false;
    *ret_value = number;
    return true;
}

static bool parse_whole(const char *value, const option_row *row, int64_t *ret_value)
{
    int64_t number;
    const bool is_read =
        row->kind == DURATION ? parse_duration(value, &number) : kb_parse_i64(value, &number);
    if (!is_read || number < row->min || number > row->max)
        return false;
    *ret_value = number;
    return true;
}

static char *expected_of(const option_row *row)
{
    switch (row->kind) {
    case NUMBER:
    case PORT:
    case REAL:
        return kb_asprintf("a number from %lld to %lld", (long long)row->min, (long long)row->max);
    case DURATION:
        return kb_asprintf("a time from %lldms to %llds such as 15s", (long long)row->min,
                           (long long)row->max / 1000);
    case SWITCH:
        return kb_strdup("true or false");
    case LEVEL:
        return kb_strdup("error, warn, info, debug or trace");
    case FORMAT:
        return kb_strdup("text or json");
    case TEXT:
    case TEXTS:
        break;
    }
    return kb_strdup("a text");
}

static bool set_value(kb_operator_options *options, const option_row *row, const char *value)
{
    void *to = (char *)options + row->offset;
    int64_t number = 0;
    switch (row->kind) {
    case TEXT:
        set_text(to, value);
        return true;
    case TEXTS:
        set_texts(options, value);
        return true;
    case NUMBER:
    case DURATION:
        return parse_whole(value, row, to);
    case PORT:
        if (!parse_whole(value, row, &number))
            return false;
        *(uint16_t *)to = (uint16_t)number;
        return true;
    case REAL:
        return parse_real(value, row, to);
    case SWITCH:
        return parse_switch(value, to);
    case LEVEL:
        return kb_log_level_parse(value, to);
    case FORMAT:
        return kb_log_format_parse(value, to);
    }
    return false;
}

static kb_code take_value(kb_operator_options *options, const option_row *row, const char *source,
                          const char *value, kb_error *err)
{
    if (set_value(options, row, value))
        return KB_OK;
    KB_AUTOFREE char *expected = expected_of(row);
    return kb_fail(err, KB_USAGE_ERROR, "%s: '%.200s' is not %s", source, value, expected);
}

/* ---- sources ---- */

/* "info,h2=warn": the first level. Anything else leaves the level alone. */
static void take_rust_log(kb_operator_options *options, const char *value)
{
    KB_AUTOFREE char *first = kb_strndup(value, strcspn(value, ","));
    const char *equals = strrchr(first, '=');
    kb_log_level level;
    if (kb_log_level_parse(equals != NULL ? equals + 1 : first, &level))
        options->log_level = level;
}

static kb_code take_environment(kb_operator_options *options, kb_get_env_fn get_env, kb_error *err)
{
    const char *rust_log = get_env("RUST_LOG");
    if (rust_log != NULL)
        take_rust_log(options, rust_log);
    for (size_t i = 0; i < KB_ARRAY_LEN(ROWS); i++) {
        KB_AUTOFREE char *name = variable_of(&ROWS[i]);
        const char *value = get_env(name);
        if (value == NULL || value[0] == '\0')
            continue;
        const kb_code code = take_value(options, &ROWS[i], name, value, err);
        if (code != KB_OK)
            return code;
    }
    return KB_OK;
}

static const option_row *find_row(const char *flag, size_t len)
{
    for (size_t i = 0; i < KB_ARRAY_LEN(ROWS); i++) {
        if (strlen(ROWS[i].flag) == len && strncmp(ROWS[i].flag, flag, len) == 0)
            return &ROWS[i];
    }
    return NULL;
}

static kb_code take_arguments(kb_operator_options *options, int argc, char **argv, kb_error *err)
{
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0)
            return kb_fail(err, KB_USAGE_ERROR, "unexpected argument '%.200s'; hint: --help", argv[i]);
        const char *flag = argv[i] + 2;
        const size_t len = strcspn(flag, "=");
        const option_row *row = find_row(flag, len);
        if (row == NULL)
            return kb_fail(err, KB_USAGE_ERROR, "unknown flag '--%.*s'; hint: --help", (int)len, flag);
        const char *value = flag[len] == '=' ? flag + len + 1 : NULL;
        if (value == NULL && row->kind == SWITCH)
            value = "true";
        if (value == NULL && ++i < argc)
            value = argv[i];
        if (value == NULL)
            return kb_fail(err, KB_USAGE_ERROR, "--%s needs a value", row->flag);
        KB_AUTOFREE char *source = kb_asprintf("--%s", row->flag);
        const kb_code code = take_value(options, row, source, value, err);
        if (code != KB_OK)
            return code;
    }
    return KB_OK;
}

static kb_code check(const kb_operator_options *options, kb_error *err)
{
    if (options->renew_deadline_ms >= options->lease_duration_ms ||
        options->retry_period_ms >= options->renew_deadline_ms)
        return kb_fail(
            err, KB_USAGE_ERROR,
            "the lease must last longer than --renew-deadline, and that longer than --retry-period");
    if (options->metrics_port != 0 && options->metrics_port == options->health_port)
        return kb_fail(err, KB_USAGE_ERROR, "--metrics-port and --health-port are the same");
    if (options->metrics_path == NULL || options->metrics_path[0] != '/')
        return kb_fail(err, KB_USAGE_ERROR, "--metrics-path must begin with '/'");
    return KB_OK;
}

kb_code kb_operator_options_parse(int argc, char **argv, kb_get_env_fn get_env,
                                  kb_operator_options *ret_options, kb_error *err)
{
    KB_CLEANUP(kb_operator_options_done) kb_operator_options options = {.log_level = KB_LOG_INFO};
    kb_code code = KB_OK;
    for (size_t i = 0; i < KB_ARRAY_LEN(ROWS) && code == KB_OK; i++) {
        if (ROWS[i].fallback != NULL)
            code = take_value(&options, &ROWS[i], ROWS[i].flag, ROWS[i].fallback, err);
    }
    if (code == KB_OK)
        code = take_environment(&options, get_env, err);
    if (code == KB_OK)
        code = take_arguments(&options, argc, argv, err);
    if (code == KB_OK)
        code = check(&options, err);
    if (code != KB_OK)
        return code;
    *ret_options = options;
    options = (kb_operator_options){0};
    return KB_OK;
}

void kb_operator_options_done(kb_operator_options *options)
{
    for (size_t i = 0; i < KB_ARRAY_LEN(ROWS); i++) {
        if (ROWS[i].kind == TEXT)
            set_text((char **)(void *)((char *)options + ROWS[i].offset), "");
    }
    clear_texts(options);
}

char *kb_operator_options_help(void)
{
    KB_AUTO_STRBUF(text, HELP_MAX);
    kb_strbuf_appends(&text, "kafka-backup-operator [--flag=value ...]\n\n");
    for (size_t i = 0; i < KB_ARRAY_LEN(ROWS); i++) {
        const option_row *row = &ROWS[i];
        const bool has_default = row->fallback != NULL && row->kind != SWITCH;
        kb_strbuf_appendf(&text, "  --%-17s %s%s%s%s\n", row->flag, row->help, has_default ? " (" : "",
                          has_default ? row->fallback : "", has_default ? ")" : "");
    }
    kb_strbuf_appends(&text, "\nEvery flag can be given as a variable, too: --log-level is KB_LOG_LEVEL.\n");
    return kb_strbuf_take(&text);
}

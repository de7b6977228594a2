#include "worker/cmd/run_context.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/contract/config_fields.h"
#include "common/contract/config_support.h"
#include "common/contract/exit_codes.h"
#include "common/contract/version.h"
#include "worker/catalog/layout.h"
#include "worker/catalog/lineage.h"

#define KB_MAX_HANDLES 4

/* ---- opening ---- */

static kb_code set_log(const kb_run_context *run, kb_error *err)
{
    const kb_config_logging *logging = &run->config->logging;
    kb_log_level configured = (kb_log_level)logging->level;
    kb_log_level level;
    if (kb_run_env_log_level(&run->env, run->flags->log_level, logging->level_is_given ? &configured : NULL,
                             run->flags->verbose, &level, err) != KB_OK)
        return err->code;
    kb_log_set_level(level);
    kb_log_format format = (kb_log_format)logging->format;
    if (run->flags->log_format != NULL && !kb_log_format_parse(run->flags->log_format, &format))
        return kb_fail(err, KB_USAGE_ERROR, "--log-format: expected logfmt or json, got '%s'",
                       run->flags->log_format);
    kb_log_set_format(format);
    kb_log_set_field("command", run->flags->command_name);
    kb_log_set_field("job", run->env.job_name);
    return KB_OK;
}

static void log_notes(const kb_problems *notes)
{
    for (size_t i = 0; i < notes->count; i++) {
        KB_AUTOFREE char *text = kb_problem_text(notes, &notes->items[i]);
        kb_log(notes->items[i].severity == KB_SEVERITY_NOTE ? KB_LOG_INFO : KB_LOG_WARN, text);
    }
}

static kb_code load_config(kb_run_context *run, kb_error *err)
{
    const kb_flags *flags = run->flags;
    kb_config_options options = {
        .path = flags->config,
        .command = flags->command,
        .allow_unknown = flags->allow_unknown,
        .allow_unset_env = flags->allow_unset_env,
        .storage_path = flags->path,
        .backup_id = flags->backup_id,
        .config_sha256 = run->env.config_sha256,
    };
    KB_CLEANUP(kb_problems_done) kb_problems notes;
    kb_problems_init(&notes, flags->config);
    kb_code code = kb_worker_config_load(&options, &notes, &run->config, err);
    if (code == KB_OK)
        code = set_log(run, err);
    log_notes(&notes);
    if (code != KB_OK)
        return code;
    return kb_worker_config_check_supported(run->config, flags->command, false, err);
}

static void set_limits(kb_run_context *run)
{
    const kb_config_limits *limits = &run->config->limits;
    run->memory_bytes = (uint64_t)(limits->memory_bytes > 0 ? limits->memory_bytes
                                                            : kb_run_env_memory_bytes(&run->env, NULL));
    run->threads = (uint32_t)(limits->threads > 0 ? limits->threads : kb_run_env_threads(NULL));
}

static void make_progress(kb_run_context *run)
{
    kb_progress_options options = {
        .operation = run->flags->command_name,
        .worker_version = KB_VERSION,
        .job_name = run->env.job_name,
        .job_uid = run->env.job_uid,
        .pod_name = run->env.pod_name,
    };
    run->progress = kb_progress_new(&options);
    run->report_file = kb_report_file_new(run->env.termination_log);
}

/* A run that was refused before it could be observed leaves a report as well. */
static void end_report(kb_run_context *run)
{
    const kb_reporter_options options = {
        .progress = run->progress, .file = run->report_file, .status = run->report_status};
    KB_AUTO_ERROR(ignored);
    if (run->reporter == NULL && kb_reporter_start(&options, &run->reporter, &ignored) != KB_OK)
        return;
    kb_reporter_stop(KB_TAKE(run->reporter));
    kb_report_status_stop(KB_TAKE(run->report_status));
}

/*
 * Under the operator the report goes to the custom resource, too. Without a token (the account is shared with
 * the operator) the termination message carries it alone.
 */
static kb_code open_status(kb_run_context *run, kb_error *err)
{
    const kb_config_resource *resource = &run->config->resource;
    if (!resource->block.is_given || run->env.cr_uid == NULL)
        return KB_OK;
    if (resource->uid == NULL || strcmp(resource->uid, run->env.cr_uid) != 0)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "resource.uid is not KB_CR_UID; this configuration belongs to another object");
    KB_AUTO_ERROR(cause);
    kb_kube_access *access = NULL;
    if (kb_kube_access_in_cluster(NULL, NULL, &access, &cause) != KB_OK) {
        kb_log(KB_LOG_INFO, "no status is written: there is no way to the API server", KB_ERRTEXT(&cause));
        return KB_OK;
    }
    const kb_report_status_options options = {
        .owned_access = access,
        .kind = resource->kind,
        .plural = resource->plural,
        .name_space = resource->namespace,
        .name = resource->name,
        .uid = resource->uid,
    };
    return kb_report_status_start(&options, &run->report_status, err);
}

static kb_code open_run(kb_run_context *run, kb_error *err)
{
    if (load_config(run, err) != KB_OK || kb_stop_new(&run->stop, err) != KB_OK ||
        kb_stop_on_signals(run->stop, err) != KB_OK || open_status(run, err) != KB_OK)
        return err->code;
    set_limits(run);
    return KB_OK;
}

kb_code kb_run_context_open(const kb_flags *flags, kb_run_context *ret_run, kb_error *err)
{
    KB_CLEANUP(kb_run_context_done) kb_run_context run = {.flags = flags};
    if (kb_run_env_read(&run.env, NULL, NULL, err) != KB_OK)
        return err->code;
    make_progress(&run);
    kb_code code = open_run(&run, err);
    if (code != KB_OK) {
        kb_progress_finish(run.progress, KB_RUN_FAILED, kb_exit_code(code, 0), kb_exit_reason(code),
                           kb_error_text(err));
        end_report(&run);
        return code;
    }
    *ret_run = run;
    run = (kb_run_context){0};
    return KB_OK;
}

void kb_run_context_done(kb_run_context *run)
{
    kb_httpd_stop(run->httpd);
    kb_reporter_stop(run->reporter);
    kb_report_status_stop(run->report_status);
    if (run->run_metrics != NULL)
        kb_run_metrics_free(run->run_metrics);
    if (run->metrics != NULL)
        kb_metrics_free(run->metrics);
    if (run->report_file != NULL)
        kb_report_file_free(run->report_file);
    if (run->progress != NULL)
        kb_progress_free(run->progress);
    if (run->stop != NULL)
        kb_stop_free(run->stop);
    kb_worker_config_free(run->config);
    kb_run_env_done(&run->env);
    *run = (kb_run_context){0};
}

/* ---- observing ---- */

static const char *backend_name(const kb_worker_config *config)
{
    return config->storage.backend != KB_CONFIG_NO_STORAGE ? kb_config_backend_name(config->storage.backend)
                                                           : "";
}

static const char *algorithm_name(const kb_worker_config *config)
{
    static const char *const names[] = {
        [KB_CONFIG_COMPRESSION_NONE] = "none",
        [KB_CONFIG_COMPRESSION_ZSTD] = "zstd",
        [KB_CONFIG_COMPRESSION_LZ4] = "lz4",
    };
    return names[config->backup.compression];
}

static kb_code start_httpd(kb_run_context *run, kb_error *err)
{
    const kb_config_metrics *config = &run->config->metrics;
    kb_httpd_options options = {
        .bind_address = config->bind_address,
        .port = (uint16_t)config->port,
        .metrics_path = config->path,
        .metrics = run->metrics,
        .progress = kb_reporter_progress,
        .ctx = run->progress,
    };
    /* Without a file it is a look at a store by hand: nobody scrapes it, and its port may be in use. */
    bool is_wanted = config->enabled && run->flags->config != NULL;
    return is_wanted ? kb_httpd_start(&options, &run->httpd, err) : KB_OK;
}

const char *kb_run_context_lineage(const kb_run_context *run)
{
    if (run->flags->command == KB_COMMAND_PRUNE && run->flags->backup_id != NULL)
        return run->flags->backup_id;
    return kb_worker_config_lineage(run->config);
}

kb_code kb_run_context_observe(kb_run_context *run, kb_run_kind kind, const char *backup_id,
                               const char *restore_id, kb_error *err)
{
    kb_log_set_field("backup", backup_id);
    kb_log_set_field("restore", restore_id);
    kb_progress_set_text(run->progress, KB_REPORT_BACKUP_ID, backup_id);
    if (restore_id != NULL)
        kb_progress_set_text(run->progress, KB_REPORT_RESTORE_ID, restore_id);
    const char *lineage = kb_run_context_lineage(run);
    if (lineage != NULL)
        kb_progress_set_text(run->progress, KB_REPORT_LINEAGE, lineage);
    run->metrics = kb_metrics_new();
    kb_run_metrics_options metrics = {
        .kind = kind,
        .command = run->flags->command_name,
        .version = KB_VERSION,
        .backup_id = backup_id,
        .lineage = lineage,
        .restore_id = restore_id,
        .algorithm = algorithm_name(run->config),
        .backend = backend_name(run->config),
        .max_partition_labels = (uint32_t)run->config->metrics.max_partition_labels,
    };
    run->run_metrics = kb_run_metrics_new(run->metrics, &metrics);
    kb_reporter_options reporter = {
        .progress = run->progress,
        .file = run->report_file,
        .status = run->report_status,
        .metrics = run->run_metrics,
    };
    if (kb_reporter_start(&reporter, &run->reporter, err) != KB_OK)
        return err->code;
    return start_httpd(run, err);
}

/* ---- what commands open ---- */

/* The label of a store's circuit: its host, or what stands for it. */
static const char *store_endpoint(const kb_config_storage *storage)
{
    const char *endpoint = storage->backend == KB_CONFIG_S3      ? storage->s3.endpoint
                           : storage->backend == KB_CONFIG_AZURE ? storage->azure.endpoint
                                                                 : storage->gcs.endpoint;
    if (endpoint == NULL)
        return kb_config_backend_name(storage->backend);
    const char *host = strstr(endpoint, "://");
    return host != NULL ? host + 3 : endpoint;
}

/* Events come from any thread, while requests are under way. */
static void on_store_event(void *ctx, kb_http_event event)
{
    kb_run_context *run = ctx;
    const char *endpoint = store_endpoint(&run->config->storage);
    if (event == KB_HTTP_EVENT_OPEN)
        kb_log(KB_LOG_WARN, "the store does not answer: requests wait", KB_STR("endpoint", endpoint));
    if (event == KB_HTTP_EVENT_CLOSED)
        kb_log(KB_LOG_INFO, "the store answers again", KB_STR("endpoint", endpoint));
    if (run->run_metrics == NULL)
        return;
    if (event == KB_HTTP_EVENT_OPEN || event == KB_HTTP_EVENT_CLOSED) {
        kb_metric_set(kb_run_metrics_circuit(run->run_metrics, endpoint), event == KB_HTTP_EVENT_OPEN);
        return;
    }
    kb_run_metrics_add_retry(run->run_metrics, event == KB_HTTP_EVENT_RETRY_READ ? KB_RETRY_STORAGE_READ
                                                                                 : KB_RETRY_STORAGE_WRITE);
    kb_run_metrics_store_error(run->run_metrics, KB_CLASS_STORE_TRANSIENT);
}

kb_code kb_run_context_storage(kb_run_context *run, kb_fs_mode mode, kb_storage **ret_storage, kb_error *err)
{
    return kb_run_context_store(run, &run->config->storage, mode, ret_storage, err);
}

kb_code kb_run_context_store(kb_run_context *run, const kb_config_storage *block, kb_fs_mode mode,
                             kb_storage **ret_storage, kb_error *err)
{
    const kb_worker_config *config = run->config;
    /* A backup finishes what it has begun; a restore has little to write, a reader nothing. */
    static const int64_t restore_grace_ms = 5000;
    int64_t grace_ms = mode == KB_FS_CREATE  ? config->limits.shutdown_grace_secs * 1000
                       : mode == KB_FS_WRITE ? restore_grace_ms
                                             : 0;
    const kb_storage_env env = {
        .trust_dir = config->trust_dir,
        .circuit_breaker = &config->circuit_breaker,
        .stop = run->stop,
        .stop_grace_ms = grace_ms,
        .on_event = on_store_event,
        .event_ctx = run,
    };
    return kb_storage_open(block, &env, mode, ret_storage, err);
}

kb_code kb_run_context_find_backup(kb_run_context *run, kb_storage *storage, kb_error *err)
{
    const char *name = run->config->backup_id;
    KB_AUTOFREE char *prefix = kb_layout_backup_prefix(name);
    KB_CLEANUP(kb_list_page_done) kb_list_page page = KB_LIST_PAGE_INIT;
    const kb_list_options options = {.prefix = prefix, .by_folder = true, .max_entries = 1};
    KB_AUTOFREE char *newest = NULL;
    if (kb_storage_list_page(storage, &options, &page, err) != KB_OK)
        return err->code;
    if (page.count > 0 || page.next != NULL)
        return KB_OK;
    if (kb_lineage_newest(storage, name, &newest, err) != KB_OK)
        return err->code;
    if (newest == NULL)
        return KB_OK;
    kb_log(KB_LOG_INFO, "the newest complete backup of the lineage is read", KB_STR("lineage", name),
           KB_STR("backup", newest));
    free(run->config->backup_id);
    run->config->backup_id = KB_TAKE(newest);
    return KB_OK;
}

static const char *source_text(const kb_secret_source *source)
{
    return source->value != NULL ? kb_secret_view(source->value) : NULL;
}

static void fill_security(kb_kafka_options *to, const kb_config_security *from)
{
    static const kb_kafka_protocol protocols[] = {
        [KB_CONFIG_PLAINTEXT] = KB_KAFKA_PLAINTEXT,
        [KB_CONFIG_SSL] = KB_KAFKA_SSL,
        [KB_CONFIG_SASL_PLAINTEXT] = KB_KAFKA_SASL_PLAINTEXT,
        [KB_CONFIG_SASL_SSL] = KB_KAFKA_SASL_SSL,
    };
    static const kb_kafka_mechanism mechanisms[] = {
        [KB_CONFIG_NO_SASL] = KB_KAFKA_NO_SASL,
        [KB_CONFIG_PLAIN] = KB_KAFKA_PLAIN,
        [KB_CONFIG_SCRAM_SHA_256] = KB_KAFKA_SCRAM_SHA_256,
        [KB_CONFIG_SCRAM_SHA_512] = KB_KAFKA_SCRAM_SHA_512,
        [KB_CONFIG_GSSAPI] = KB_KAFKA_GSSAPI,
    };
    to->protocol = protocols[from->security_protocol];
    to->mechanism = mechanisms[from->sasl_mechanism];
    to->sasl_username = source_text(&from->sasl_username);
    to->sasl_username_file = from->sasl_username.file;
    to->sasl_password = from->sasl_password.value;
    to->sasl_password_file = from->sasl_password.file;
    to->kerberos_service_name = from->sasl_kerberos_service_name;
    to->kerberos_keytab_path = from->sasl_keytab_path;
    to->ssl_ca_file = from->ssl_ca_location;
    to->ssl_certificate_file = from->ssl_certificate_location;
    to->ssl_key_file = from->ssl_key_location;
    to->ssl_key_password_file = from->ssl_key_password.file;
    to->ssl_client_auth_optional = from->ssl_client_auth_optional;
}

kb_code kb_run_context_kafka(const kb_run_context *run, const kb_config_kafka *kafka, kb_run_kafka *ret_kafka,
                             kb_error *err)
{
    KB_CLEANUP(kb_run_kafka_done) kb_run_kafka result = {.servers = kb_config_kafka_servers(kafka)};
    const kb_config_connection *connection = &kafka->connection;
    result.options = (kb_kafka_options){
        .bootstrap_servers = result.servers,
        .trust_dir = run->config->trust_dir,
        .tcp_keepalive = connection->tcp_keepalive,
        .keepalive_time_secs = (int)connection->keepalive_time_secs,
        .keepalive_interval_secs = (int)connection->keepalive_interval_secs,
        .tcp_nodelay = connection->tcp_nodelay,
        .client_id = kafka->client_id,
        .client_rack = kafka->client_rack,
        .reconnect_backoff_max_ms = run->config->circuit_breaker.reset_timeout_secs * 1000,
    };
    fill_security(&result.options, &kafka->security);
    if (kb_kafka_options_check(&result.options, err) != KB_OK)
        return err->code;
    *ret_kafka = result;
    result = (kb_run_kafka){0};
    return KB_OK;
}

void kb_run_kafka_done(kb_run_kafka *kafka)
{
    free(kafka->servers);
    *kafka = (kb_run_kafka){0};
}

void kb_run_print(const void *text, size_t len)
{
    const char *at = text;
    while (len > 0) {
        ssize_t written = write(STDOUT_FILENO, at, len);
        if (written <= 0)
            return; /* whoever reads it has gone; the exit code still tells the outcome */
        at += written;
        len -= (size_t)written;
    }
}

/* ---- the end ---- */

static kb_run_state final_state(int exit_code, kb_code code, bool findings)
{
    if (code == KB_OK)
        return findings ? KB_RUN_DONE_WITH_FINDINGS : KB_RUN_SUCCEEDED;
    return exit_code == KB_EXIT_SIGINT || exit_code == KB_EXIT_SIGTERM ? KB_RUN_INTERRUPTED : KB_RUN_FAILED;
}

static void log_end(kb_code code, const kb_error *err, int exit_code, const char *reason)
{
    bool interrupted = exit_code == KB_EXIT_SIGINT || exit_code == KB_EXIT_SIGTERM;
    if (code != KB_OK)
        kb_log(interrupted ? KB_LOG_WARN : KB_LOG_ERROR, interrupted ? "run interrupted" : "run failed",
               KB_STR("reason", reason), KB_INT("code", exit_code), KB_ERRTEXT(err));
    else
        kb_log(KB_LOG_INFO, "run is done", KB_STR("reason", reason[0] != '\0' ? reason : NULL),
               KB_INT("code", exit_code));
}

int kb_run_context_finish(kb_run_context *run, kb_code code, kb_error *err, int findings_code)
{
    kb_finding finding;
    bool findings = code == KB_OK && kb_progress_first_finding(run->progress, &finding);
    int exit_code = findings ? findings_code : kb_exit_code(code, kb_stop_reason(run->stop));
    const char *reason = findings ? kb_finding_name(finding) : kb_exit_reason(code);
    log_end(code, err, exit_code, reason);
    if (run->run_metrics != NULL)
        kb_metric_set(run->run_metrics->exit_code, exit_code);
    kb_progress_finish(run->progress, final_state(exit_code, code, findings), exit_code,
                       reason[0] != '\0' ? reason : NULL, code != KB_OK ? kb_error_text(err) : NULL);
    end_report(run);
    if (run->httpd != NULL && run->config->metrics.keep_alive_seconds > 0)
        (void)kb_stop_wait(run->stop, run->config->metrics.keep_alive_seconds * 1000);
    kb_log_flush();
    return exit_code;
}

#include "common/contract/config_access.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/contract/config_check.h"

#define KB_ADDRESS_MAX_BYTES 512

typedef struct kb_access {
    const kb_worker_config *config;
    const char *path; /* of the block */
    kb_problems *problems;
} kb_access;

/* Adds a problem at block.key. */
static void report(const kb_access *at, kb_severity severity, const char *key, const char *fmt, ...)
    KB_PRINTF(4, 5);

static void report(const kb_access *at, kb_severity severity, const char *key, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, fmt);
    int len = vasprintf(&text, fmt, args);
    va_end(args);
    if (len < 0)
        kb_out_of_memory();
    KB_AUTOFREE char *path = kb_asprintf("%s.%s", at->path, key);
    kb_config_problem(at->config, at->problems, severity, path, "%s", text);
    free(text);
}

#define fail(at, key, ...) report((at), KB_SEVERITY_ERROR, (key), __VA_ARGS__)
#define warn(at, key, ...) report((at), KB_SEVERITY_WARNING, (key), __VA_ARGS__)

static const kb_yaml_node *node_of(const kb_access *at, const char *key)
{
    KB_AUTOFREE char *path = kb_asprintf("%s.%s", at->path, key);
    return kb_yaml_find(at->config->tree, path);
}

/* ---- addresses ---- */

static bool is_port(const char *text)
{
    int64_t port = 0;
    return text[0] != '-' && kb_parse_i64(text, &port) && port >= 1 && port <= 65535;
}

/* host:port or [IPv6]:port; no scheme, no user, no white space. */
static bool is_address(const char *text)
{
    size_t len = strlen(text);
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text || len > KB_ADDRESS_MAX_BYTES || !is_port(colon + 1))
        return false;
    size_t host_len = (size_t)(colon - text);
    if (text[0] == '[')
        return host_len > 2 && colon[-1] == ']' &&
               strspn(text + 1, "0123456789abcdefABCDEF:.%") == host_len - 2;
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    return strspn(text, allowed) == host_len;
}

static void check_servers(const kb_access *at, const kb_config_kafka *kafka)
{
    const kb_yaml_node *node = node_of(at, "bootstrap_servers");
    if (kafka->bootstrap_servers.count == 0 &&
        (node == NULL || node->kind == KB_YAML_SEQUENCE || kb_yaml_is_null(node)))
        fail(at, "bootstrap_servers", "expected at least one host:port");
    for (size_t i = 0; i < kafka->bootstrap_servers.count; i++) {
        if (!is_address(kafka->bootstrap_servers.items[i]))
            fail(at, "bootstrap_servers", "expected host:port or [address]:port, got '%.100s'",
                 kafka->bootstrap_servers.items[i]);
    }
}

/* ---- login and certificates ---- */

/* 0 when the file (or directory) can be read. */
static int access_file_errno(const char *file)
{
    return access(file, R_OK) == 0 ? 0 : errno;
}

static void check_file(const kb_access *at, const char *key, const char *file)
{
    int number = file != NULL ? access_file_errno(file) : 0;
    if (number != 0)
        fail(at, key, "cannot read '%s': %s", file, kb_errno_text(number));
}

static void check_sasl(const kb_access *at, const kb_config_security *security)
{
    bool has_sasl = security->security_protocol == KB_CONFIG_SASL_PLAINTEXT ||
                    security->security_protocol == KB_CONFIG_SASL_SSL;
    bool has_password =
        security->sasl_mechanism != KB_CONFIG_NO_SASL && security->sasl_mechanism != KB_CONFIG_GSSAPI;
    const kb_yaml_node *mechanism = node_of(at, "security.sasl_mechanism");
    if (!has_sasl) {
        if (security->sasl_mechanism != KB_CONFIG_NO_SASL)
            warn(at, "security.sasl_mechanism",
                 "is not used: security_protocol is not SASL_PLAINTEXT or SASL_SSL");
        return;
    }
    if (security->sasl_mechanism == KB_CONFIG_NO_SASL && kb_yaml_is_null(mechanism))
        fail(at, "security.sasl_mechanism",
             "is required under SASL: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or GSSAPI");
    if (has_password && !kb_secret_source_is_given(&security->sasl_username))
        fail(at, "security.sasl_username", "is required for this mechanism (or sasl_username_file)");
    if (has_password && !kb_secret_source_is_given(&security->sasl_password))
        fail(at, "security.sasl_password", "is required for this mechanism (or sasl_password_file)");
    check_file(at, "security.sasl_keytab_path", security->sasl_keytab_path);
    check_file(at, "security.sasl_krb5_config_path", security->sasl_krb5_config_path);
}

static void check_certificates(const kb_access *at, const kb_config_security *security)
{
    const char *certificate = security->ssl_certificate_location, *key = security->ssl_key_location;
    check_file(at, "security.ssl_ca_location", security->ssl_ca_location);
    if (certificate == NULL && key == NULL)
        return;
    if (certificate == NULL || key == NULL) {
        const char *missing =
            certificate == NULL ? "security.ssl_certificate_location" : "security.ssl_key_location";
        fail(at, missing, "certificate and key are given together, or neither");
        return;
    }
    if (security->ssl_client_auth_optional && access_file_errno(certificate) == ENOENT &&
        access_file_errno(key) == ENOENT)
        return;
    check_file(at, "security.ssl_certificate_location", certificate);
    check_file(at, "security.ssl_key_location", key);
}

static void check_tls_use(const kb_access *at, const kb_config_security *security)
{
    bool has_tls =
        security->security_protocol == KB_CONFIG_SSL || security->security_protocol == KB_CONFIG_SASL_SSL;
    if (!has_tls && (security->ssl_ca_location != NULL || security->ssl_certificate_location != NULL))
        warn(at, "security.security_protocol", "is without TLS, so the certificates are not used");
}

void kb_config_check_kafka(const kb_worker_config *config, const kb_config_kafka *kafka, const char *path,
                           kb_problems *problems)
{
    const kb_access place = {config, path, problems};
    check_servers(&place, kafka);
    check_sasl(&place, &kafka->security);
    check_certificates(&place, &kafka->security);
    check_tls_use(&place, &kafka->security);
}

/* ---- storage ---- */

static void need(const kb_access *at, const char *key, const char *value)
{
    const kb_yaml_node *node = node_of(at, key);
    bool is_reported = node != NULL && (node->has_error || node->kind != KB_YAML_SCALAR);
    if (value == NULL && !is_reported)
        fail(at, key, "is required");
}

static void check_endpoint(const kb_access *at, const char *endpoint, bool allow_http)
{
    if (endpoint == NULL)
        return;
    bool is_http = strncmp(endpoint, "http://", 7) == 0;
    if (!is_http && strncmp(endpoint, "https://", 8) != 0) {
        fail(at, "endpoint", "expected a URL that begins with https://");
        return;
    }
    if (is_http && !allow_http)
        fail(at, "endpoint", "is http:// without allow_http: true");
    /* It would be printed and logged with the URL. */
    if (strchr(endpoint, '@') != NULL)
        fail(at, "endpoint", "must not hold a user or password; hint: give credentials by their own keys");
}

static void check_prefix(const kb_access *at, const char *prefix)
{
    if (prefix != NULL && (prefix[0] == '/' || strstr(prefix, "//") != NULL))
        fail(at, "prefix", "must not begin with '/' or contain '//'");
}

static void check_s3(const kb_access *at, const kb_config_s3 *s3)
{
    need(at, "bucket", s3->bucket);
    check_endpoint(at, s3->endpoint, s3->allow_http);
    check_prefix(at, s3->prefix);
    if (kb_secret_source_is_given(&s3->access_key) != kb_secret_source_is_given(&s3->secret_key))
        fail(at, "access_key", "access_key and secret_key are given together, or neither");
    if ((s3->role_arn != NULL) != (s3->web_identity_token_file != NULL))
        fail(at, "role_arn", "role_arn and web_identity_token_file are given together, or neither");
}

static void check_azure(const kb_access *at, const kb_config_azure *azure)
{
    const bool sources[] = {
        kb_secret_source_is_given(&azure->account_key),
        kb_secret_source_is_given(&azure->sas_token),
        kb_secret_source_is_given(&azure->connection_string),
        kb_secret_source_is_given(&azure->client_secret),
        azure->use_workload_identity || azure->federated_token_file != NULL,
        azure->use_managed_identity,
    };
    unsigned count = 0;
    for (size_t i = 0; i < KB_ARRAY_LEN(sources); i++)
        count += sources[i];
    if (count > 1)
        fail(at, "backend",
             "more than one way to log in is given; hint: keep one of account_key, sas_token, "
             "connection_string, client_secret, use_workload_identity, use_managed_identity");
    if (!kb_secret_source_is_given(&azure->connection_string))
        need(at, "account_name", azure->account_name);
    need(at, "container_name", azure->container_name);
    check_endpoint(at, azure->endpoint, azure->allow_http);
    check_prefix(at, azure->prefix);
}

static void check_gcs(const kb_access *at, const kb_config_gcs *gcs)
{
    need(at, "bucket", gcs->bucket);
    check_endpoint(at, gcs->endpoint, gcs->allow_http);
    check_prefix(at, gcs->prefix);
    check_file(at, "service_account_path", gcs->service_account_path);
}

void kb_config_check_storage(const kb_worker_config *config, const kb_config_storage *storage,
                             const char *path, kb_problems *problems)
{
    const kb_access place = {config, path, problems};
    bool is_top = strcmp(path, "storage") == 0;
    check_file(&place, "ca_file", storage->ca_file);
    switch ((kb_config_backend)storage->backend) {
    case KB_CONFIG_FILESYSTEM:
        need(&place, "path", storage->filesystem_path);
        break;
    case KB_CONFIG_S3:
        check_s3(&place, &storage->s3);
        break;
    case KB_CONFIG_AZURE:
        check_azure(&place, &storage->azure);
        break;
    case KB_CONFIG_GCS:
        check_gcs(&place, &storage->gcs);
        break;
    case KB_CONFIG_CONFIGMAP:
        if (is_top)
            fail(&place, "backend",
                 "configmap is for offsets.store only: it holds offset snapshots, not backups");
        break;
    case KB_CONFIG_NO_STORAGE:
    case KB_CONFIG_MEMORY:
        break; /* reported when the block was read */
    }
}

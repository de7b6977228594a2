#include "worker/kafka/kafka_handle.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_trust.h"

#define KB_RDKAFKA_ERRSTR_BYTES 512 /* what the library fills at most */
#define KB_RECONNECT_BACKOFF_MS 250
#define KB_RECONNECT_BACKOFF_MAX_MS 10000
#define KB_REQUEST_TIMEOUT_MS 60000
#define KB_CONNECT_TIMEOUT_MS 10000
#define KB_AUTH_RETRY_MS 5000
#define KB_OPTION_STRINGS 13

/* The newest trouble; broker and text are owned. */
typedef struct trouble {
    int number;
    char *broker; /* "host:port"; NULL when it concerns all */
    char *text;
    int64_t at_ms;
} trouble;

struct kb_kafka_handle {
    rd_kafka_t *rk;
    kb_kafka_options *options;
    void *user;
    bool (*on_own_error)(void *user, int error_number, const char *text);
    void (*on_statistics)(void *user, const char *json, size_t len);
    int64_t auth_retry_ms;
    _Atomic int64_t refused_since_ms; /* boot clock; 0: not refused */
    pthread_mutex_t lock;             /* guards all below */
    trouble last;
    int64_t secrets_read_ms;
    unsigned transport_errors;
    int64_t throttled_ms;
};

/* ---- options ---- */

typedef struct options_copy {
    kb_kafka_options options; /* first: kb_kafka_options * is an options_copy * */
    char *strings[KB_OPTION_STRINGS];
    kb_secret *password;
} options_copy;

kb_kafka_options *kb_kafka_options_copy(const kb_kafka_options *options)
{
    options_copy *copy = kb_calloc(1, sizeof *copy);
    copy->options = *options;
    copy->password = kb_secret_copy(options->sasl_password);
    copy->options.sasl_password = copy->password;
    const char **members[KB_OPTION_STRINGS] = {
        &copy->options.bootstrap_servers,
        &copy->options.sasl_username,
        &copy->options.sasl_username_file,
        &copy->options.sasl_password_file,
        &copy->options.kerberos_service_name,
        &copy->options.kerberos_keytab_path,
        &copy->options.ssl_ca_file,
        &copy->options.ssl_certificate_file,
        &copy->options.ssl_key_file,
        &copy->options.ssl_key_password_file,
        &copy->options.trust_dir,
        &copy->options.client_id,
        &copy->options.client_rack,
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(members); i++) {
        copy->strings[i] = kb_strdup_opt(*members[i]);
        *members[i] = copy->strings[i];
    }
    return &copy->options;
}

void kb_kafka_options_free(kb_kafka_options *owned_options)
{
    if (owned_options == NULL)
        return;
    options_copy *copy = (options_copy *)owned_options;
    for (size_t i = 0; i < KB_ARRAY_LEN(copy->strings); i++)
        free(copy->strings[i]);
    kb_secret_free(copy->password);
    free(copy);
}

/* ---- trouble ---- */

static bool is_refusal(int number)
{
    return kb_kafka_classify(number).code == KB_KAFKA_AUTHENTICATION_FAILED;
}

/* "sasl_ssl://host:port/1: text (after 3ms in state X)" into broker and text; without a broker all is text.
 */
static trouble trouble_parse(int number, const char *reason)
{
    trouble made = {number, NULL, NULL, kb_clock_boot_ms()};
    const char *start = strstr(reason, "://");
    start = start != NULL && memchr(reason, ' ', (size_t)(start - reason)) == NULL ? start + 3 : reason;
    const char *slash = strchr(start, '/');
    const char *text = slash != NULL ? strstr(slash, ": ") : NULL;
    if (text != NULL && memchr(start, ' ', (size_t)(slash - start)) == NULL &&
        memchr(slash, ' ', (size_t)(text - slash)) == NULL) {
        made.broker = kb_strndup(start, (size_t)(slash - start));
        text += 2;
    } else {
        text = reason;
    }
    const char *suffix = strstr(text, " (after ");
    made.text = suffix != NULL ? kb_strndup(text, (size_t)(suffix - text)) : kb_strdup(text);
    return made;
}

static void trouble_done(trouble *t)
{
    free(t->broker);
    free(t->text);
    *t = (trouble){0, NULL, NULL, 0};
}

/* What a secret is now: from its file when there is one. NULL when it cannot be read or there is none. */
static kb_secret *secret_now(const char *file, const char *text, const kb_secret *secret)
{
    KB_AUTO_ERROR(err);
    kb_secret *now = NULL;
    if (file == NULL)
        return text != NULL ? kb_secret_new(text, strlen(text)) : kb_secret_copy(secret);
    if (kb_kafka_read_secret(file, &now, &err) != KB_OK) {
        kb_log_limited(KB_LOG_WARN, "cannot read Kafka credentials", KB_ERRTEXT(&err));
        return NULL;
    }
    return now;
}

/* Hands the credentials of the files, if any, to the library; it uses them for its next connection. */
static void credentials_refresh(kb_kafka_handle *handle)
{
    const kb_kafka_options *o = handle->options;
    if (o->sasl_username_file == NULL && o->sasl_password_file == NULL)
        return;
    KB_CLEANUP(kb_secret_free_at) kb_secret *name = secret_now(o->sasl_username_file, o->sasl_username, NULL);
    KB_CLEANUP(kb_secret_free_at)
    kb_secret *password = secret_now(o->sasl_password_file, NULL, o->sasl_password);
    if (name == NULL || password == NULL)
        return;
    rd_kafka_error_t *error =
        rd_kafka_sasl_set_credentials(handle->rk, kb_secret_view(name), kb_secret_view(password));
    if (error != NULL)
        rd_kafka_error_destroy(error);
}

static void trouble_note(kb_kafka_handle *handle, trouble *moved_trouble)
{
    bool refused = is_refusal(moved_trouble->number);
    pthread_mutex_lock(&handle->lock);
    if (!refused)
        handle->transport_errors++;
    /* A message about all brokers says less than what one of them said before. */
    bool is_vague = moved_trouble->broker == NULL && handle->last.broker != NULL;
    if (!is_vague) {
        trouble_done(&handle->last);
        handle->last = *moved_trouble;
        *moved_trouble = (trouble){0, NULL, NULL, 0};
    }
    handle->secrets_read_ms = kb_clock_boot_ms();
    pthread_mutex_unlock(&handle->lock);
    trouble_done(moved_trouble);
    int64_t none = 0;
    if (refused)
        atomic_compare_exchange_strong(&handle->refused_since_ms, &none, kb_clock_boot_ms());
    credentials_refresh(handle);
}

/* ---- callbacks of the library ---- */

static void on_error(rd_kafka_t *rk, int number, const char *reason, void *opaque)
{
    (void)rk;
    kb_kafka_handle *handle = opaque;
    if (handle->on_own_error != NULL && handle->on_own_error(handle->user, number, reason))
        return;
    trouble t = trouble_parse(number, reason);
    kb_log(KB_LOG_DEBUG, "Kafka client trouble", KB_STR("broker", t.broker), KB_STR("err", t.text),
           KB_STR("code", kb_kafka_error_name(number)));
    trouble_note(handle, &t);
}

static void on_throttle(rd_kafka_t *rk, const char *broker, int32_t broker_id, int throttle_ms, void *opaque)
{
    (void)rk;
    (void)broker_id;
    kb_kafka_handle *handle = opaque;
    if (throttle_ms <= 0)
        return;
    kb_log_limited(KB_LOG_DEBUG, "broker throttles", KB_STR("broker", broker));
    pthread_mutex_lock(&handle->lock);
    handle->throttled_ms = kb_clock_boot_ms();
    pthread_mutex_unlock(&handle->lock);
}

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    enum { SYSLOG_WARNING = 4 };
    kb_log(level <= SYSLOG_WARNING ? KB_LOG_DEBUG : KB_LOG_TRACE, "librdkafka", KB_STR("code", facility),
           KB_STR("err", text));
}

static int on_statistics(rd_kafka_t *rk, char *json, size_t len, void *opaque)
{
    (void)rk;
    const kb_kafka_handle *handle = opaque;
    handle->on_statistics(handle->user, json, len);
    return 0; /* the library frees it */
}

/* The library has no settings for the keep-alive times, so its sockets are made here. */
static int on_socket(int domain, int type, int protocol, void *opaque)
{
    const kb_kafka_handle *handle = opaque;
    int fd = socket(domain, type | SOCK_CLOEXEC, protocol);
    if (fd < 0 || !handle->options->tcp_keepalive)
        return fd;
    int idle = handle->options->keepalive_time_secs;
    int interval = handle->options->keepalive_interval_secs;
    int on = 1;
    /* Best effort: a system that refuses them still has a working connection. */
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (idle > 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    if (interval > 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    return fd;
}

/* ---- configuration ---- */

static kb_code set(rd_kafka_conf_t *conf, const char *name, const char *value, kb_error *err)
{
    char reason[KB_RDKAFKA_ERRSTR_BYTES] = "";
    if (value == NULL || rd_kafka_conf_set(conf, name, value, reason, sizeof reason) == RD_KAFKA_CONF_OK)
        return KB_OK;
    return kb_fail(err, KB_CONFIG_INVALID, "Kafka client setting %s: %s", name, reason);
}

static kb_code set_ms(rd_kafka_conf_t *conf, const char *name, int64_t value_ms, int64_t default_ms,
                      kb_error *err)
{
    int64_t ms = value_ms > 0 ? value_ms : default_ms;
    KB_AUTOFREE char *text = kb_asprintf("%lld", (long long)(ms < 3600000 ? ms : 3600000));
    return set(conf, name, text, err);
}

static kb_code set_connection(rd_kafka_conf_t *conf, const kb_kafka_options *o, kb_error *err)
{
    static const char *const PROTOCOLS[] = {"plaintext", "ssl", "sasl_plaintext", "sasl_ssl"};
    int64_t backoff_max =
        o->reconnect_backoff_max_ms > 0 ? o->reconnect_backoff_max_ms : KB_RECONNECT_BACKOFF_MAX_MS;
    int64_t backoff = backoff_max < KB_RECONNECT_BACKOFF_MS ? backoff_max : KB_RECONNECT_BACKOFF_MS;
    kb_code code = set(conf, "bootstrap.servers", o->bootstrap_servers, err);
    if (code == KB_OK)
        code = set(conf, "security.protocol", PROTOCOLS[o->protocol], err);
    if (code == KB_OK)
        code = set(conf, "client.id", o->client_id != NULL ? o->client_id : "kafka-backup", err);
    if (code == KB_OK)
        code = set(conf, "client.rack", o->client_rack, err);
    if (code == KB_OK)
        code = set(conf, "socket.keepalive.enable", o->tcp_keepalive ? "true" : "false", err);
    if (code == KB_OK)
        code = set(conf, "socket.nagle.disable", o->tcp_nodelay ? "true" : "false", err);
    if (code == KB_OK)
        code = set_ms(conf, "reconnect.backoff.ms", backoff, backoff, err);
    if (code == KB_OK)
        code = set_ms(conf, "reconnect.backoff.max.ms", backoff_max, backoff_max, err);
    if (code == KB_OK)
        code = set_ms(conf, "socket.timeout.ms", o->request_timeout_ms, KB_REQUEST_TIMEOUT_MS, err);
    if (code == KB_OK)
        code = set_ms(conf, "socket.connection.setup.timeout.ms", KB_CONNECT_TIMEOUT_MS,
                      KB_CONNECT_TIMEOUT_MS, err);
    /* The library would report its own metrics to brokers that ask for them. */
    if (code == KB_OK)
        code = set(conf, "enable.metrics.push", "false", err);
    /* Producers would create the topics that they are asked to write to. */
    if (code == KB_OK)
        code = set(conf, "allow.auto.create.topics", "false", err);
    if (code == KB_OK && kb_log_is_enabled(KB_LOG_TRACE))
        code = set(conf, "debug", "broker,topic,metadata,admin", err);
    return code;
}

static kb_code set_client_certificate(rd_kafka_conf_t *conf, const kb_kafka_options *o, kb_error *err)
{
    bool has_certificate = false;
    kb_code code = kb_kafka_has_client_certificate(o, &has_certificate, err);
    if (code != KB_OK || !has_certificate)
        return code;
    code = set(conf, "ssl.certificate.location", o->ssl_certificate_file, err);
    if (code == KB_OK)
        code = set(conf, "ssl.key.location", o->ssl_key_file, err);
    if (code != KB_OK || o->ssl_key_password_file == NULL)
        return code;
    KB_CLEANUP(kb_secret_free_at) kb_secret *password = NULL;
    code = kb_kafka_read_secret(o->ssl_key_password_file, &password, err);
    return code == KB_OK ? set(conf, "ssl.key.password", kb_secret_view(password), err) : code;
}

static kb_code set_tls(rd_kafka_conf_t *conf, const kb_kafka_options *o, kb_error *err)
{
    if (o->protocol != KB_KAFKA_SSL && o->protocol != KB_KAFKA_SASL_SSL)
        return KB_OK;
    KB_AUTOFREE char *extra = NULL;
    kb_code code = o->trust_dir != NULL ? kb_kafka_trust_dir_pem(o->trust_dir, &extra, err) : KB_OK;
    const char *anchors = o->ssl_ca_file;
    /* Certificates given as text replace the library's default store, so that one has to be named then. */
    if (anchors == NULL && extra != NULL)
        anchors = kb_kafka_system_bundle();
    if (code == KB_OK)
        code = set(conf, "ssl.ca.location", anchors, err);
    if (code == KB_OK)
        code = set(conf, "ssl.ca.pem", extra, err);
    if (code == KB_OK)
        code = set(conf, "enable.ssl.certificate.verification", "true", err);
    if (code == KB_OK)
        code = set(conf, "ssl.endpoint.identification.algorithm", "https", err);
    return code == KB_OK ? set_client_certificate(conf, o, err) : code;
}

static kb_code set_sasl(rd_kafka_conf_t *conf, const kb_kafka_options *o, kb_error *err)
{
    static const char *const MECHANISMS[] = {NULL, "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI"};
    if (o->protocol != KB_KAFKA_SASL_PLAINTEXT && o->protocol != KB_KAFKA_SASL_SSL)
        return KB_OK;
    kb_code code = set(conf, "sasl.mechanism", MECHANISMS[o->mechanism], err);
    if (code != KB_OK)
        return code;
    if (o->mechanism == KB_KAFKA_GSSAPI) {
        code = set(conf, "sasl.kerberos.service.name", o->kerberos_service_name, err);
        return code == KB_OK ? set(conf, "sasl.kerberos.keytab", o->kerberos_keytab_path, err) : code;
    }
    KB_CLEANUP(kb_secret_free_at) kb_secret *name = secret_now(o->sasl_username_file, o->sasl_username, NULL);
    KB_CLEANUP(kb_secret_free_at)
    kb_secret *password = secret_now(o->sasl_password_file, NULL, o->sasl_password);
    if (name == NULL || password == NULL)
        return kb_fail(err, KB_CONFIG_INVALID, "security: %s is missing or cannot be read",
                       name == NULL ? "sasl_username" : "sasl_password");
    code = set(conf, "sasl.username", kb_secret_view(name), err);
    return code == KB_OK ? set(conf, "sasl.password", kb_secret_view(password), err) : code;
}

static kb_code set_all(rd_kafka_conf_t *conf, kb_kafka_handle *handle, const kb_kafka_handle_spec *spec,
                       kb_error *err)
{
    rd_kafka_conf_set_opaque(conf, handle);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_throttle_cb(conf, on_throttle);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_socket_cb(conf, on_socket);
    if (spec->on_statistics != NULL)
        rd_kafka_conf_set_stats_cb(conf, on_statistics);
    if (spec->on_delivery != NULL)
        rd_kafka_conf_set_dr_msg_cb(conf, spec->on_delivery);
    kb_code code = set_connection(conf, handle->options, err);
    if (code == KB_OK)
        code = set_tls(conf, handle->options, err);
    if (code == KB_OK)
        code = set_sasl(conf, handle->options, err);
    for (size_t i = 0; code == KB_OK && i < spec->property_count; i++)
        code = set(conf, spec->properties[i].name, spec->properties[i].value, err);
    return code;
}

/* ---- the handle ---- */

kb_code kb_kafka_handle_new(const kb_kafka_options *options, const kb_kafka_handle_spec *spec,
                            kb_kafka_handle **ret_handle, kb_error *err)
{
    kb_code code = kb_kafka_options_check(options, err);
    if (code != KB_OK)
        return code;
    kb_kafka_handle *handle = kb_calloc(1, sizeof *handle);
    handle->options = kb_kafka_options_copy(options);
    handle->user = spec->user;
    handle->on_own_error = spec->on_own_error;
    handle->on_statistics = spec->on_statistics;
    handle->auth_retry_ms = options->auth_retry_ms > 0 ? options->auth_retry_ms : KB_AUTH_RETRY_MS;
    pthread_mutex_init(&handle->lock, NULL);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    code = set_all(conf, handle, spec, err);
    if (code == KB_OK) {
        char reason[KB_RDKAFKA_ERRSTR_BYTES] = "";
        handle->rk = rd_kafka_new(spec->type, conf, reason, sizeof reason);
        if (handle->rk != NULL)
            conf = NULL; /* the library's now */
        else
            code = kb_fail(err, KB_CONFIG_INVALID, "cannot make a Kafka client: %s", reason);
    }
    if (conf != NULL)
        rd_kafka_conf_destroy(conf);
    if (code != KB_OK) {
        kb_kafka_handle_free(handle);
        return code;
    }
    *ret_handle = handle;
    return KB_OK;
}

void kb_kafka_handle_free(kb_kafka_handle *owned_handle)
{
    if (owned_handle == NULL)
        return;
    if (owned_handle->rk != NULL)
        rd_kafka_destroy(owned_handle->rk);
    trouble_done(&owned_handle->last);
    pthread_mutex_destroy(&owned_handle->lock);
    kb_kafka_options_free(owned_handle->options);
    free(owned_handle);
}

rd_kafka_t *kb_kafka_handle_rk(const kb_kafka_handle *handle)
{
    return handle->rk;
}

void *kb_kafka_handle_user(const kb_kafka_handle *handle)
{
    return handle->user;
}

const kb_kafka_options *kb_kafka_handle_options(const kb_kafka_handle *handle)
{
    return handle->options;
}

int kb_kafka_handle_serve(kb_kafka_handle *handle, int timeout_ms)
{
    return rd_kafka_poll(handle->rk, timeout_ms);
}

void kb_kafka_handle_note_success(kb_kafka_handle *handle)
{
    if (atomic_load_explicit(&handle->refused_since_ms, memory_order_relaxed) != 0)
        atomic_store(&handle->refused_since_ms, 0);
}

bool kb_kafka_handle_is_refused(kb_kafka_handle *handle)
{
    return atomic_load(&handle->refused_since_ms) != 0;
}

kb_code kb_kafka_handle_check(kb_kafka_handle *handle, kb_error *err)
{
    int64_t since_ms = atomic_load_explicit(&handle->refused_since_ms, memory_order_relaxed);
    if (since_ms == 0)
        return KB_OK;
    int64_t now_ms = kb_clock_boot_ms();
    if (now_ms - since_ms >= KB_KAFKA_AUTH_TRIES * handle->auth_retry_ms)
        return kb_kafka_handle_fail(handle, RD_KAFKA_RESP_ERR__AUTHENTICATION, "using Kafka", err);
    pthread_mutex_lock(&handle->lock);
    bool is_due = now_ms - handle->secrets_read_ms >= handle->auth_retry_ms;
    if (is_due)
        handle->secrets_read_ms = now_ms;
    pthread_mutex_unlock(&handle->lock);
    if (is_due)
        credentials_refresh(handle);
    return KB_OK;
}

void kb_kafka_handle_state(kb_kafka_handle *handle, kb_kafka_state *ret_state)
{
    int64_t since_ms = atomic_load(&handle->refused_since_ms);
    int64_t tries = since_ms != 0 ? 1 + (kb_clock_boot_ms() - since_ms) / handle->auth_retry_ms : 0;
    pthread_mutex_lock(&handle->lock);
    const trouble *last = &handle->last;
    char *text = NULL;
    if (last->text != NULL)
        text = last->broker != NULL ? kb_asprintf("%s: %s", last->broker, last->text) : kb_strdup(last->text);
    *ret_state = (kb_kafka_state){
        .last_error = text,
        .last_error_ms = last->at_ms,
        .auth_failures = (unsigned)tries,
        .transport_errors = handle->transport_errors,
        .throttled_ms = handle->throttled_ms,
    };
    pthread_mutex_unlock(&handle->lock);
}

kb_code kb_kafka_handle_fail(kb_kafka_handle *handle, int error_number, const char *what, kb_error *err)
{
    pthread_mutex_lock(&handle->lock);
    trouble t = {handle->last.number, kb_strdup_opt(handle->last.broker), kb_strdup_opt(handle->last.text),
                 0};
    pthread_mutex_unlock(&handle->lock);
    const char *broker = t.broker != NULL ? t.broker : handle->options->bootstrap_servers;
    const char *text = t.text != NULL ? t.text : rd_kafka_err2str((rd_kafka_resp_err_t)error_number);
    bool tls = handle->options->protocol == KB_KAFKA_SSL || handle->options->protocol == KB_KAFKA_SASL_SSL;
    kb_code code;
    if (t.text != NULL && t.number == RD_KAFKA_RESP_ERR__SSL)
        code = kb_fail(err, KB_KAFKA_AUTHENTICATION_FAILED,
                       "%s: TLS connection to Kafka broker %s failed: %s; hint: check ssl_ca_location, the "
                       "client's certificate and key, and trust_dir",
                       what, broker, text);
    else if (is_refusal(t.number) || is_refusal(error_number))
        code = kb_fail(err, KB_KAFKA_AUTHENTICATION_FAILED,
                       "%s: SASL authentication failed at Kafka broker %s: %s; hint: check sasl_mechanism, "
                       "sasl_username and sasl_password",
                       what, broker, text);
    else
        code = kb_fail_retryable(err, KB_KAFKA_UNREACHABLE,
                                 "%s: Failed to connect to Kafka broker %s: %s; hint: check "
                                 "bootstrap_servers, security_protocol%s and that the brokers can be reached",
                                 what, broker, text,
                                 tls ? " (TLS is asked for, the listener may be PLAINTEXT)" : "");
    trouble_done(&t);
    return code;
}

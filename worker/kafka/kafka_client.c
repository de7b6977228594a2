#include "worker/kafka/kafka_client.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_handle.h"
#include "worker/kafka/kafka_trust.h"

#define KB_METADATA_SLICE_MS 250 /* how late a stop or a refusal may be noticed */
#define KB_FEATURES_BYTES 512

const char *kb_kafka_library_version(void)
{
    return rd_kafka_version_str();
}

void kb_kafka_state_done(kb_kafka_state *state)
{
    free(state->last_error);
    *state = (kb_kafka_state){0};
}

void kb_kafka_cluster_done(kb_kafka_cluster *cluster)
{
    free(cluster->cluster_id);
    *cluster = (kb_kafka_cluster){0};
}

static bool library_has(const char *feature)
{
    char features[KB_FEATURES_BYTES] = "";
    size_t size = sizeof features;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_res_t result = rd_kafka_conf_get(conf, "builtin.features", features, &size);
    rd_kafka_conf_destroy(conf);
    if (result != RD_KAFKA_CONF_OK)
        return false;
    size_t len = strlen(feature);
    for (const char *at = features; (at = strstr(at, feature)) != NULL; at += len)
        if ((at == features || at[-1] == ',') && (at[len] == ',' || at[len] == '\0'))
            return true;
    return false;
}

static kb_code check_sasl(const kb_kafka_options *options, kb_error *err)
{
    static const char *const FEATURES[] = {NULL, "sasl_plain", "sasl_scram", "sasl_scram", "sasl_gssapi"};
    static const char *const NAMES[] = {NULL, "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI"};
    if (options->protocol != KB_KAFKA_SASL_PLAINTEXT && options->protocol != KB_KAFKA_SASL_SSL)
        return KB_OK;
    if (options->mechanism == KB_KAFKA_NO_SASL)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "security.sasl_mechanism is missing, and security_protocol asks for SASL");
    if (!library_has(FEATURES[options->mechanism]))
        return kb_fail(err, KB_CONFIG_INVALID,
                       "security.sasl_mechanism %s: this build of the worker cannot do it; hint: use PLAIN, "
                       "SCRAM-SHA-256 or SCRAM-SHA-512",
                       NAMES[options->mechanism]);
    if (options->mechanism == KB_KAFKA_GSSAPI)
        return KB_OK;
    if (options->sasl_username == NULL && options->sasl_username_file == NULL)
        return kb_fail(err, KB_CONFIG_INVALID, "security.sasl_username is missing");
    if (options->sasl_password == NULL && options->sasl_password_file == NULL)
        return kb_fail(err, KB_CONFIG_INVALID, "security.sasl_password is missing");
    return KB_OK;
}

static kb_code check_secret_file(const char *path, kb_error *err)
{
    KB_CLEANUP(kb_secret_free_at) kb_secret *secret = NULL;
    return path == NULL ? KB_OK : kb_kafka_read_secret(path, &secret, err);
}

kb_code kb_kafka_options_check(const kb_kafka_options *options, kb_error *err)
{
    if (options->bootstrap_servers == NULL || options->bootstrap_servers[0] == '\0')
        return kb_fail(err, KB_CONFIG_INVALID, "bootstrap_servers is missing");
    kb_code code = check_sasl(options, err);
    if (code == KB_OK)
        code = check_secret_file(options->sasl_username_file, err);
    if (code == KB_OK)
        code = check_secret_file(options->sasl_password_file, err);
    if (code != KB_OK || (options->protocol != KB_KAFKA_SSL && options->protocol != KB_KAFKA_SASL_SSL))
        return code;
    if (options->ssl_ca_file != NULL && access(options->ssl_ca_file, R_OK) != 0)
        return kb_fail(err, KB_CONFIG_INVALID, "ssl_ca_location: cannot read '%s'", options->ssl_ca_file);
    bool has_certificate = false;
    code = kb_kafka_has_client_certificate(options, &has_certificate, err);
    if (code == KB_OK && has_certificate)
        code = check_secret_file(options->ssl_key_password_file, err);
    return code;
}

/* ---- the first connection ---- */

static kb_kafka_cluster cluster_of(rd_kafka_t *rk, const struct rd_kafka_metadata *metadata)
{
    kb_kafka_cluster cluster = {NULL, metadata->broker_cnt, rd_kafka_controllerid(rk, KB_METADATA_SLICE_MS)};
    char *id = rd_kafka_clusterid(rk, KB_METADATA_SLICE_MS);
    if (id != NULL) {
        cluster.cluster_id = kb_strdup(id);
        rd_kafka_mem_free(rk, id);
    }
    return cluster;
}

/* One connection with fresh secrets: waits for metadata, a refusal, the deadline or the stop token. */
static kb_code try_once(const kb_kafka_options *options, int64_t deadline_ms, kb_stop *stop,
                        kb_kafka_cluster *ret_cluster, kb_error *err)
{
    kb_kafka_handle_spec spec = {.type = RD_KAFKA_CONSUMER};
    kb_kafka_handle *handle = NULL;
    kb_code code = kb_kafka_handle_new(options, &spec, &handle, err);
    if (code != KB_OK)
        return code;
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t number = RD_KAFKA_RESP_ERR__TRANSPORT;
    bool is_stopped = false;
    while (true) {
        int64_t left_ms = deadline_ms - kb_clock_boot_ms();
        is_stopped = stop != NULL && kb_stop_requested(stop);
        if (left_ms <= 0 || is_stopped || kb_kafka_handle_is_refused(handle))
            break;
        int slice_ms = left_ms < KB_METADATA_SLICE_MS ? (int)left_ms : KB_METADATA_SLICE_MS;
        number = rd_kafka_metadata(kb_kafka_handle_rk(handle), 0, NULL, &metadata, slice_ms);
        if (number == RD_KAFKA_RESP_ERR_NO_ERROR)
            break;
        kb_kafka_handle_serve(handle, 0);
    }
    if (metadata != NULL) {
        *ret_cluster = cluster_of(kb_kafka_handle_rk(handle), metadata);
        rd_kafka_metadata_destroy(metadata);
    } else if (is_stopped) {
        code = kb_fail(err, KB_ERR_STOPPED, "stopped while connecting to Kafka");
    } else {
        code = kb_kafka_handle_fail(handle, number, "connecting", err);
    }
    kb_kafka_handle_free(handle);
    return code;
}

static bool wait_for_retry(int64_t ms, kb_stop *stop)
{
    if (stop != NULL)
        return kb_stop_wait(stop, ms);
    struct timespec pause = {ms / 1000, (long)(ms % 1000) * 1000000};
    (void)nanosleep(&pause, NULL);
    return false;
}

kb_code kb_kafka_connect(const kb_kafka_options *options, int64_t deadline_ms, kb_stop *stop,
                         kb_kafka_cluster *ret_cluster, kb_error *err)
{
    int64_t pause_ms = options->auth_retry_ms > 0 ? options->auth_retry_ms : 5000;
    kb_kafka_cluster cluster = {0};
    kb_code code = KB_OK;
    for (int i = 0; i < KB_KAFKA_AUTH_TRIES; i++) {
        code = try_once(options, deadline_ms, stop, &cluster, err);
        bool is_last = i + 1 == KB_KAFKA_AUTH_TRIES || kb_clock_boot_ms() + pause_ms >= deadline_ms;
        if (code != KB_KAFKA_AUTHENTICATION_FAILED || is_last)
            break;
        if (wait_for_retry(pause_ms, stop))
            return kb_fail(err, KB_ERR_STOPPED, "stopped while connecting to Kafka");
    }
    if (code != KB_OK)
        return code;
    if (ret_cluster != NULL)
        *ret_cluster = cluster;
    else
        kb_kafka_cluster_done(&cluster);
    return KB_OK;
}

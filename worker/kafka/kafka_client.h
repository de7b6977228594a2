/*
 * kafka_client - what all Kafka handles of ours share: configuration, trust, credentials, error classes, the
 * first connection and the answer to "what was the last trouble?".
 *
 * Options are a plain struct whose strings are borrowed for the call only. Secrets given as files are read
 * when a handle is made and again whenever a broker refuses or drops the connection; certificates and trust
 * anchors are read when a handle is made, so whoever gets a 77 from a running handle makes a new one. Host
 * and chain verification cannot be turned off. The log of the library goes to kb_log at debug and trace.
 * librdkafka's types do not leave this folder. Threads: all functions may be called from any thread.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_CLIENT_H
#define KB_WORKER_KAFKA_KAFKA_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/secret.h"
#include "common/sync/wait.h"
#include "worker/kafka/kafka_error.h"

typedef enum kb_kafka_protocol {
    KB_KAFKA_PLAINTEXT,
    KB_KAFKA_SSL,
    KB_KAFKA_SASL_PLAINTEXT,
    KB_KAFKA_SASL_SSL
} kb_kafka_protocol;

typedef enum kb_kafka_mechanism {
    KB_KAFKA_NO_SASL,
    KB_KAFKA_PLAIN,
    KB_KAFKA_SCRAM_SHA_256,
    KB_KAFKA_SCRAM_SHA_512,
    KB_KAFKA_GSSAPI
} kb_kafka_mechanism;

/* The Kafka block of the configuration (worker.md 5). Zero and NULL mean "not given" unless said otherwise.
 */
typedef struct kb_kafka_options {
    const char *bootstrap_servers; /* "host:port,[::1]:9092"; required */
    kb_kafka_protocol protocol;
    kb_kafka_mechanism mechanism; /* KB_KAFKA_NO_SASL under SASL_*: refused */
    const char *sasl_username;
    const char *sasl_username_file;
    const kb_secret *sasl_password;
    const char *sasl_password_file;
    const char *kerberos_service_name;
    const char *kerberos_keytab_path;
    const char *ssl_ca_file;          /* NULL: the system store */
    const char *ssl_certificate_file; /* with ssl_key_file, or neither */
    const char *ssl_key_file;
    const char *ssl_key_password_file;
    bool ssl_client_auth_optional; /* certificate and key both missing on disk: no client certificate */
    const char *trust_dir;         /* its *.crt and *.pem are added to the anchors; may be absent or empty */
    bool tcp_keepalive;
    int keepalive_time_secs;     /* 0: the system's */
    int keepalive_interval_secs; /* 0: the system's */
    bool tcp_nodelay;
    const char *client_id;            /* NULL: kafka-backup */
    const char *client_rack;          /* NULL: always the leader */
    int64_t reconnect_backoff_max_ms; /* circuit_breaker.reset_timeout_secs; 0: 10000 */
    int64_t request_timeout_ms;       /* of one request on the wire; 0: 60000 */
    int64_t auth_retry_ms;            /* between tries after a refusal; 0: 5000 */
} kb_kafka_options;

#define KB_KAFKA_AUTH_TRIES 3

/* The newest trouble of a handle. */
typedef struct kb_kafka_state {
    char *last_error;       /* owned; NULL when there was none: "host:port: Connect failed: refused" */
    int64_t last_error_ms;  /* boot clock */
    unsigned auth_failures; /* refusals (SASL or TLS) since the last success, at most one per auth_retry_ms */
    unsigned transport_errors; /* lost or refused connections since the handle was made */
    int64_t throttled_ms;      /* boot clock of the newest throttle notice; 0: none */
} kb_kafka_state;
void kb_kafka_state_done(kb_kafka_state *state);

/*
 * Checks the options without any connection: 78 for a mechanism that is missing, unknown or not built into
 * the library, one-sided certificate and key, files that are missing or not readable.
 */
kb_code kb_kafka_options_check(const kb_kafka_options *options, kb_error *err) KB_CHECK;

typedef struct kb_kafka_cluster {
    char *cluster_id; /* owned; NULL when the cluster has none */
    int broker_count;
    int controller_id;
} kb_kafka_cluster;
void kb_kafka_cluster_done(kb_kafka_cluster *cluster);

/*
 * Connects, waits for metadata, says precisely what is wrong otherwise, and disconnects:
 *   77 KafkaAuthenticationFailed "SASL authentication failed ..." or "TLS ...", after KB_KAFKA_AUTH_TRIES
 * tries auth_retry_ms apart, files read again before each; 75 KafkaUnreachable "Failed to connect to Kafka
 * broker host:port: ..." at the deadline (boot clock ms); 78 ConfigInvalid for options that cannot work;
 * KB_ERR_STOPPED. ret_cluster may be NULL; stop may be NULL.
 */
kb_code kb_kafka_connect(const kb_kafka_options *options, int64_t deadline_ms, kb_stop *stop,
                         kb_kafka_cluster *ret_cluster, kb_error *err) KB_CHECK;

/* "2.8.0", of the library in use. Static. */
const char *kb_kafka_library_version(void);

#endif

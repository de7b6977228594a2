/*
 * kafka_handle - one rd_kafka_t of ours: configured, with its credentials and its last trouble. For this
 * folder only.
 *
 * The library's opaque of every handle is its kb_kafka_handle. Threads: any; kb_kafka_handle_serve runs the
 * library's callbacks in the calling thread.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_HANDLE_H
#define KB_WORKER_KAFKA_KAFKA_HANDLE_H

#include "common/base/error.h"
#include "worker/kafka/kafka_client.h"
#include "worker/kafka/rdkafka_api.h"

typedef struct kb_kafka_handle kb_kafka_handle;

typedef struct kb_kafka_property {
    const char *name;
    char *value; /* owned by whoever made the list */
} kb_kafka_property;

/* Settings beyond those of kb_kafka_options. */
typedef struct kb_kafka_handle_spec {
    rd_kafka_type_t type;
    const kb_kafka_property *properties;
    size_t property_count;
    void (*on_delivery)(rd_kafka_t *rk, const rd_kafka_message_t *message, void *handle);
    /* Asked first about errors that come while the user's own queues are served; true: it was the user's. */
    bool (*on_own_error)(void *user, int error_number, const char *text);
    /* The library's statistics (JSON), when the property statistics.interval.ms asks for them. */
    void (*on_statistics)(void *user, const char *json, size_t len);
    void *user;
} kb_kafka_handle_spec;

kb_code kb_kafka_handle_new(const kb_kafka_options *options, const kb_kafka_handle_spec *spec,
                            kb_kafka_handle **ret_handle, kb_error *err) KB_CHECK;
/* Waits for the library's threads; NULL is fine. */
void kb_kafka_handle_free(kb_kafka_handle *owned_handle);

rd_kafka_t *kb_kafka_handle_rk(const kb_kafka_handle *handle);
void *kb_kafka_handle_user(const kb_kafka_handle *handle);
/* The copy of the options that the handle was made with; lives as long as the handle. */
const kb_kafka_options *kb_kafka_handle_options(const kb_kafka_handle *handle);

/* Runs what waits on the main queue: errors, throttling, deliveries. Returns the number of events. */
int kb_kafka_handle_serve(kb_kafka_handle *handle, int timeout_ms);
/* Some broker answered: earlier refusals are forgotten. Cheap. */
void kb_kafka_handle_note_success(kb_kafka_handle *handle);
/* 77 when refusals have lasted for KB_KAFKA_AUTH_TRIES tries; reads secrets again in between. */
kb_code kb_kafka_handle_check(kb_kafka_handle *handle, kb_error *err) KB_CHECK;
void kb_kafka_handle_state(kb_kafka_handle *handle, kb_kafka_state *ret_state);
/* Whether a broker refused us since the last success. */
bool kb_kafka_handle_is_refused(kb_kafka_handle *handle);

/* The error for a refusal (77) or a lost connection (75) by the last trouble; `what` was being done. */
kb_code kb_kafka_handle_fail(kb_kafka_handle *handle, int error_number, const char *what, kb_error *err);

/* A copy of all strings, to be freed by kb_kafka_options_free. */
kb_kafka_options *kb_kafka_options_copy(const kb_kafka_options *options) __attribute__((returns_nonnull));
void kb_kafka_options_free(kb_kafka_options *owned_options);

#endif

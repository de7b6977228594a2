/*
 * store_net - the connections of one store behind HTTP: to the store, to token endpoints, to metadata
 * services.
 *
 * Store and token endpoints share trust, proxy and limits; only the store has a circuit breaker. Metadata
 * services are asked without a proxy, over plain HTTP, with one second to connect and three tries (worker.md,
 * 15). Threads: any number may use a kb_store_net at once.
 */
#ifndef KB_WORKER_STORAGE_STORE_NET_H
#define KB_WORKER_STORAGE_STORE_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/net/http.h"
#include "common/net/http_retry.h"
#include "common/sync/breaker.h"
#include "common/sync/wait.h"

/* Texts are copied, the rest is borrowed for the life of the kb_store_net. 0 and NULL mean the default. */
typedef struct kb_store_net_options {
    const char *ca_file;
    const char *trust_dir;
    bool allow_http;
    size_t max_connections;     /* 16 */
    int64_t request_timeout_ms; /* without a byte moved: 60000 */
    kb_breaker_options breaker; /* zeroed: 5 failures, 60 s, 2 successes */
    kb_stop *stop;
    int64_t stop_grace_ms;
    void (*on_event)(void *ctx, kb_http_event event); /* of calls to the store */
    void *event_ctx;
} kb_store_net_options;

typedef struct kb_store_net {
    kb_http_retry *store;    /* calls to the store itself */
    kb_http_retry *tokens;   /* token endpoints: as the store, without the breaker */
    kb_http_retry *metadata; /* instance metadata: direct, quick, three tries */
    kb_breaker *breaker;
    kb_http *http;   /* of store and tokens */
    kb_http *direct; /* of metadata */
} kb_store_net;

/* Fails with KB_CONFIG_INVALID when a named file cannot be read. Owned by the caller. */
kb_code kb_store_net_new(const kb_store_net_options *options, kb_store_net **ret_net, kb_error *err) KB_CHECK;
/* No call may be under way. NULL is fine. */
void kb_store_net_free(kb_store_net *owned_net);
void kb_store_net_free_at(kb_store_net **at);

#endif

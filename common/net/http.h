/*
 * http - one HTTP exchange, on libcurl; the only user of curl.
 *
 * A kb_http is a set of connections to any hosts that share trust, proxy and time limits. An exchange sends
 * one request and reads one answer of any status; it never repeats, follows a redirect, or compresses. Every
 * stage has a time limit of its own and is named when it fails: resolve, connect, TLS, first byte, stall.
 * There is no limit on a whole transfer. TLS 1.2 and up, chain and host name always verified; anchors are
 * ca_file (or ca_pem), else the system's, plus those of trust_dir, read anew for each connection. Threads:
 * any number may call kb_http_exchange at once; each waits for a free connection slot. Request and response
 * belong to the caller.
 */
#ifndef KB_COMMON_NET_HTTP_H
#define KB_COMMON_NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/sync/wait.h"

typedef struct kb_http kb_http;

/* All texts are copied; 0 and NULL mean the default. */
typedef struct kb_http_options {
    const char *ca_file;          /* instead of the system's anchors */
    kb_view ca_pem;               /* the same, as PEM text */
    const char *trust_dir;        /* its *.crt and *.pem are anchors, too; may be absent */
    const char *client_cert_file; /* PEM; with client_key_file, or neither */
    const char *client_key_file;
    bool allow_http;        /* http:// URLs are refused without it */
    bool direct;            /* no proxy: metadata services */
    size_t max_connections; /* exchanges at once (16); more wait */
    int64_t resolve_ms;     /* 10000 */
    int64_t connect_ms;     /* 10000 for each address of the host, all together at most about twice that */
    int64_t tls_ms;         /* 10000 */
    int64_t first_byte_ms;  /* 60000, from the end of the request */
    int64_t stall_ms;       /* 60000 without a byte moved, either way */
} kb_http_options;

/* Fails with KB_CONFIG_INVALID when a named file cannot be read. */
kb_code kb_http_new(const kb_http_options *options, kb_http **ret_http, kb_error *err) KB_CHECK;
/* No exchange may be under way. NULL is fine. */
void kb_http_free(kb_http *owned_http);
void kb_http_free_at(kb_http **at);

/* ---- headers ---- */

typedef struct kb_http_header {
    char *name;
    char *value;
} kb_http_header;

/* An owned list, in the order of adding. Values are wiped when they are freed: some are credentials. */
typedef struct kb_http_headers {
    kb_http_header *items;
    size_t count;
    size_t capacity;
} kb_http_headers;
#define KB_HTTP_HEADERS_INIT {NULL, 0, 0}
#define KB_AUTO_HEADERS(name) KB_CLEANUP(kb_http_headers_done) kb_http_headers name = KB_HTTP_HEADERS_INIT

/* Copies; replaces an equal name (case is ignored). */
void kb_http_headers_set(kb_http_headers *headers, const char *name, const char *value);
/* The value of the first header of that name (case is ignored); NULL when there is none. Borrowed. */
const char *kb_http_headers_get(const kb_http_headers *headers, const char *name);
void kb_http_headers_done(kb_http_headers *headers);

/* ---- requests ---- */

struct kb_http_response;

/*
 * Takes the body of an answer with status 200 to 299 as it arrives; other bodies always go to the response.
 * on_start (may be NULL) sees status and headers before the first byte. An error of either ends the exchange
 * with that error.
 */
typedef struct kb_http_sink {
    void *ctx;
    kb_code (*on_start)(void *ctx, const struct kb_http_response *response, kb_error *err);
    kb_code (*on_data)(void *ctx, const void *data, size_t len, kb_error *err);
} kb_http_sink;

/* Everything is borrowed for the exchange. */
typedef struct kb_http_request {
    const char *method;             /* "GET", "HEAD", "PUT", "POST", "PATCH", "DELETE" */
    const char *url;                /* percent-encoded; sent as it is. No user part */
    const kb_http_headers *headers; /* may be NULL. A "Host" here replaces the URL's */
    const kb_view *body; /* parts sent one after the other; PUT, POST and PATCH always have a body */
    size_t body_count;
    const kb_http_sink *sink; /* NULL: the body is kept in the response */
    size_t max_body_bytes;    /* of a kept body with status 2xx (1 MiB); more is KB_ERR_TOO_LARGE */
    int64_t first_byte_ms;    /* 0 = the client's; negative = none */
    int64_t stall_ms;         /* the same; negative for a watch that may be silent */
    kb_stop *stop;            /* NULL: cannot be stopped */
    int64_t stop_grace_ms;    /* how long the exchange may still go on after the stop; 0 = ends at once */
} kb_http_request;

/* Bodies of answers other than 2xx are kept up to here, and cut silently. */
#define KB_HTTP_ERROR_BODY_BYTES 65536

/* What ended an exchange that has no whole answer. */
typedef enum kb_http_failure {
    KB_HTTP_NO_FAILURE,
    KB_HTTP_RESOLVE,    /* name not found, or no answer in time */
    KB_HTTP_CONNECT,    /* refused, unreachable or no answer in time */
    KB_HTTP_TLS,        /* handshake broken off or not done in time */
    KB_HTTP_UNTRUSTED,  /* certificate not verified: not retryable */
    KB_HTTP_FIRST_BYTE, /* sent, and no answer began in time */
    KB_HTTP_STALL,      /* no byte moved in time */
    KB_HTTP_BROKEN,     /* connection lost, body shorter than announced, or not HTTP */
    KB_HTTP_REFUSED, /* the sink's error, a body too large, a bad URL, or a client certificate that fails */
    KB_HTTP_STOPPED
} kb_http_failure;

typedef struct kb_http_response {
    int status; /* 0: none came */
    kb_http_headers headers;
    char *body; /* kept body, followed by a NUL; "" at least when the exchange succeeded */
    size_t body_len;
    uint64_t received; /* bytes of the body that arrived, given to the sink or kept */
    kb_http_failure failure;
    bool sent; /* the request may have reached the server */
} kb_http_response;
#define KB_HTTP_RESPONSE_INIT {.status = 0}
#define KB_AUTO_RESPONSE(name) KB_CLEANUP(kb_http_response_done) kb_http_response name = KB_HTTP_RESPONSE_INIT

/* Frees the content; the struct can be used again. */
void kb_http_response_done(kb_http_response *response);
const char *kb_http_response_header(const kb_http_response *response, const char *name);

/*
 * Sends the request and reads the whole answer. KB_OK for every status. Otherwise response->failure says what
 * happened and what did arrive is in *response: KB_ERR_STOPPED, KB_CONFIG_INVALID (certificate not verified,
 * bad URL), KB_ERR_TOO_LARGE, the sink's error, or a retryable KB_TEMPORARY_FAILURE naming stage and host.
 * *response is initialised, and emptied first.
 */
kb_code kb_http_exchange(kb_http *http, const kb_http_request *request, kb_http_response *response,
                         kb_error *err) KB_CHECK;

#endif

/*
 * httpd - the one HTTP server of both programs: metrics, health and progress, read only.
 *
 * GET and HEAD of the metrics path, /healthz, /readyz and /progress; every other path is 404, every other
 * method 405. One thread of its own serves all connections; their number, their idle time and the size of a
 * request are bounded. Handlers run in that thread and must not block. Whoever starts it decides how long it
 * lives (metrics.keep_alive_seconds is the caller's).
 */
#ifndef KB_COMMON_OBS_HTTPD_H
#define KB_COMMON_OBS_HTTPD_H

#include <stdint.h>

#include "common/base/error.h"
#include "common/base/strbuf.h"
#include "common/obs/metrics.h"

/* Largest body of a reply; a handler's body beyond it gives 500. */
#define KB_HTTPD_BODY_MAX (64u << 20)

typedef struct kb_httpd kb_httpd;

/* Writes the body and returns the HTTP status (200, 500, ...). */
typedef int (*kb_httpd_fn)(void *ctx, kb_strbuf *body);

typedef struct kb_httpd_options {
    const char *bind_address; /* IPv4 or IPv6 literal ("0.0.0.0", "::", "[::1]"); NULL = 0.0.0.0 */
    uint16_t port;            /* 0 = any free one, see kb_httpd_port */
    const char *metrics_path; /* begins with '/'; NULL = /metrics */
    kb_metrics *metrics;      /* NULL = no metrics path; must outlive the server */
    kb_httpd_fn healthz;      /* NULL = always 200 "ok" */
    kb_httpd_fn readyz;       /* NULL = 404 */
    kb_httpd_fn progress;     /* JSON; NULL = 404 */
    void *ctx;                /* of the three */
} kb_httpd_options;

/*
 * Binds and starts. KB_CONFIG_INVALID naming address and port when the address cannot be parsed or bound, or
 * when the metrics path is not a path or one of the other three.
 */
kb_code kb_httpd_start(const kb_httpd_options *options, kb_httpd **ret_httpd, kb_error *err) KB_CHECK;
/* The port that is bound. */
uint16_t kb_httpd_port(const kb_httpd *httpd);
/* Stops, waits for the thread and frees. NULL is fine. */
void kb_httpd_stop(kb_httpd *owned_httpd);

#endif

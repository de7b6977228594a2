/*
 * http_script - an HTTP server that answers by a script, good or bad; for tests.
 *
 * Each request, on whatever connection, takes the next step; the last step serves all that follow. Threads:
 * one for each connection; the functions below belong to the test's.
 */
#ifndef KB_COMMON_TESTING_HTTP_SCRIPT_H
#define KB_COMMON_TESTING_HTTP_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kb_http_script kb_http_script;

typedef struct kb_http_step {
    const char *reply;  /* sent as it is; NULL: nothing, the connection is closed */
    bool close;         /* after the reply */
    bool reset;         /* closed by RST */
    bool stall;         /* after the reply, until the test ends */
    int64_t delay_ms;   /* before the reply */
    const char *reply2; /* sent 50 ms after the reply */
} kb_http_step;

/* Listens on a free port of 127.0.0.1. The steps are borrowed. */
kb_http_script *kb_http_script_new(const kb_http_step *steps, size_t count);
void kb_http_script_free(kb_http_script *owned_script);
/* "http://127.0.0.1:12345". Borrowed. */
const char *kb_http_script_url(const kb_http_script *script);
/* How many requests came, and on how many connections. */
unsigned kb_http_script_requests(kb_http_script *script);
unsigned kb_http_script_connections(kb_http_script *script);
/* The nth request (0 = first), head and body as they came. Borrowed; "" when there was none. */
const char *kb_http_script_request(kb_http_script *script, unsigned n);

#endif

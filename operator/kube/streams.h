/*
 * streams - long GETs from the API server side by side on one libcurl multi loop.
 *
 * A stream hands over its body as it arrives and ends once, by the server, by a failure, or by its time
 * limit; closing it ends it without a word. Nothing is repeated here. TLS as in net/http: 1.2 or newer, chain
 * and host name always verified. Threads: all calls from the thread of the loop, except kb_streams_wake.
 */
#ifndef KB_OPERATOR_KUBE_STREAMS_H
#define KB_OPERATOR_KUBE_STREAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/net/kube_access.h"

typedef struct kb_streams kb_streams;
typedef struct kb_stream kb_stream;

typedef struct kb_stream_end {
    int http_status;        /* 0: nothing was received */
    bool is_complete;       /* the whole answer came; else `error` says what happened */
    const char *error;      /* borrowed; "" when complete */
    int64_t retry_after_ms; /* what the server asked for, 0: nothing */
} kb_stream_end;

typedef struct kb_stream_options {
    const kb_kube_login *login; /* borrowed for the call */
    const char *target;         /* path and query; copied */
    const char *user_agent;     /* copied */
    int64_t max_ms;             /* of the whole stream */
    /* A part of the body. An error ends the stream: its text is that of the end. */
    kb_code (*on_data)(void *ctx, int http_status, kb_view part, kb_error *err);
    /* The end; the stream is gone when this is called, and others may be opened in here. */
    void (*on_end)(void *ctx, const kb_stream_end *end);
    void *ctx;
} kb_stream_options;

kb_code kb_streams_new(kb_streams **ret_streams, kb_error *err) KB_CHECK;
/* Closes what is open. */
void kb_streams_free(kb_streams *owned_streams);
/* Begins one; owned by the loop. */
kb_code kb_streams_open(kb_streams *streams, const kb_stream_options *options, kb_stream **ret_stream,
                        kb_error *err) KB_CHECK;
/* Ends one without a call of on_end. Not from within its on_data. */
void kb_streams_close(kb_streams *streams, kb_stream *owned_stream);
/* Waits at most wait_ms for something to happen and handles it. */
kb_code kb_streams_run(kb_streams *streams, int64_t wait_ms, kb_error *err) KB_CHECK;
/* Ends a wait, from any thread. */
void kb_streams_wake(kb_streams *streams);

#endif

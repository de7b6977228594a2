/*
 * aws_sigv4 - AWS Signature Version 4 in headers, as three pure stages and one function that does all.
 *
 * For S3 the path is encoded once and signed as it is sent. All headers of the request are signed, and the
 * payload's SHA-256 is one of them. Source: "Authenticating Requests (AWS Signature Version 4)" of the Amazon
 * S3 API Reference. Threads: pure functions.
 */
#ifndef KB_WORKER_AUTH_AWS_SIGV4_H
#define KB_WORKER_AUTH_AWS_SIGV4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/crypto.h"
#include "common/base/strbuf.h"
#include "common/net/http.h"
#include "worker/auth/cred.h"

#define KB_SHA256_HEX_SIZE (2 * KB_SHA256_SIZE + 1)
/* "20130524T000000Z" and its NUL. */
#define KB_SIGV4_TIME_SIZE 17

/* One query parameter, not yet encoded. */
typedef struct kb_sigv4_param {
    const char *name;
    const char *value;
} kb_sigv4_param;

typedef struct kb_sigv4_request {
    const char *method;
    const char *path; /* encoded, begins with '/' */
    const kb_sigv4_param *params;
    size_t param_count;
    const kb_http_headers *headers; /* all of these are signed; "Host" is needed */
    const char *payload_sha256;     /* hex */
} kb_sigv4_request;

typedef struct kb_sigv4_scope {
    const char *region;
    const char *service;           /* "s3", "sts" */
    char time[KB_SIGV4_TIME_SIZE]; /* of the request */
} kb_sigv4_scope;

/* RFC 3986: all but letters, digits and -._~ become %XX; '/' stays where keep_slash says so. */
void kb_sigv4_encode(const char *text, bool keep_slash, kb_strbuf *to);
/* "a=1&b=" encoded and sorted: the query of both canonical request and URL. */
void kb_sigv4_query(const kb_sigv4_param *params, size_t count, kb_strbuf *to);
/* Fills scope->time. */
void kb_sigv4_time(int64_t wall_ms, char to[KB_SIGV4_TIME_SIZE]);

/* Stage 1. *signed_headers gets "host;x-amz-date". */
void kb_sigv4_canonical_request(const kb_sigv4_request *request, kb_strbuf *to, kb_strbuf *signed_headers);
/* Stage 2. */
void kb_sigv4_string_to_sign(const char *canonical_request, const kb_sigv4_scope *scope, kb_strbuf *to);
/* Stage 3: hex. */
void kb_sigv4_signature(const kb_secret *secret_key, const kb_sigv4_scope *scope, const char *string_to_sign,
                        char to[KB_SHA256_HEX_SIZE]);

/*
 * Adds X-Amz-Date, X-Amz-Content-Sha256 (for service "s3"), X-Amz-Security-Token and Authorization to
 * `headers`, which request->headers is as well. scope->time is set already.
 */
void kb_sigv4_sign(const kb_sigv4_request *request, const kb_sigv4_scope *scope, const kb_cred *cred,
                   kb_http_headers *headers);

#endif

/*
 * aws_sigv2 - the signature that S3 had before version 4, for old stores only.
 *
 * HMAC-SHA-1 over method, Content-MD5, Content-Type, Date, the x-amz- headers and the resource; the payload
 * is not signed, Content-MD5 stands for it. Source: "Signing and authenticating REST requests (AWS signature
 * version 2)" of the Amazon S3 documentation. Threads: pure functions.
 */
#ifndef KB_WORKER_AUTH_AWS_SIGV2_H
#define KB_WORKER_AUTH_AWS_SIGV2_H

#include "worker/auth/aws_sigv4.h"

typedef struct kb_sigv2_request {
    const char *method;
    const char *resource; /* "/bucket/encoded/key", in either style of addresses */
    const kb_sigv4_param *params;
    size_t param_count;
    const kb_http_headers *headers; /* "Date" is needed */
} kb_sigv2_request;

/* "Tue, 27 Mar 2007 19:36:42 GMT" and its NUL. */
#define KB_HTTP_DATE_SIZE 30
void kb_http_date(int64_t wall_ms, char to[KB_HTTP_DATE_SIZE]);

void kb_sigv2_string_to_sign(const kb_sigv2_request *request, kb_strbuf *to);
/* Adds Date, X-Amz-Security-Token and Authorization to `headers`, which request->headers is as well. */
void kb_sigv2_sign(const kb_sigv2_request *request, int64_t wall_ms, const kb_cred *cred,
                   kb_http_headers *headers);

#endif

/*
 * s3_client - signed requests to one S3 bucket: addresses, credentials, clock, errors.
 *
 * A request names an object (or the bucket), its query and its body; the client makes the URL (path or
 * virtual-hosted style), signs it anew for each try, and turns refusals into our codes. "Not found" is
 * certain: a HEAD, whose answers have no body, is asked again as GET until some answer has shown that the
 * bucket is there. Threads: any number at once.
 */
#ifndef KB_WORKER_STORAGE_S3_CLIENT_H
#define KB_WORKER_STORAGE_S3_CLIENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "worker/auth/aws_sigv4.h"
#include "worker/auth/cred.h"
#include "worker/storage/storage.h"
#include "worker/storage/store_net.h"

/* Texts are copied, the rest is borrowed for the life of the client. */
typedef struct kb_s3_options {
    const char *bucket;
    const char *prefix; /* NULL = none */
    const char *region;
    const char *endpoint; /* NULL = AWS */
    bool path_style;
    bool allow_http;
    bool is_v2; /* old stores: Signature Version 2, listing by marker */
    kb_store_net *net;
    kb_cred_provider *creds; /* a cache */
    const kb_clock *clock;   /* NULL = the machine's */
} kb_s3_options;

typedef struct kb_s3 {
    char *base;     /* "https://host[:port]" of the bucket's own address */
    char *host;     /* of base, without the scheme: the Host header */
    char *root;     /* "/bucket" in path style, else "" */
    char *endpoint; /* for messages: "https://host" */
    char *bucket, *prefix, *region;
    char *place; /* "s3://bucket/prefix" */
    bool is_v2;
    kb_store_net *net;
    kb_http_retry *hasty; /* two tries, no breaker: for what is best effort */
    kb_cred_provider *creds;
    const kb_clock *clock;
    atomic_llong skew_ms; /* server's clock - ours, as far as corrected */
    atomic_bool is_bucket_seen;
} kb_s3;

/* Fails with KB_CONFIG_INVALID naming the bad setting. Sends nothing. */
kb_code kb_s3_new(const kb_s3_options *options, kb_s3 **ret_s3, kb_error *err) KB_CHECK;
void kb_s3_free(kb_s3 *owned_s3);

typedef struct kb_s3_request {
    const char *verb; /* "PutObject", for messages */
    const char *method;
    const char *name; /* of the object, not encoded; NULL: the bucket */
    const kb_sigv4_param *params;
    size_t param_count;
    kb_view body;
    bool has_md5;             /* send Content-MD5 */
    bool if_none_match;       /* only if the key is free */
    const char *content_type; /* NULL: none */
    /* The element that a good answer is made of: anything else in a 2xx answer is a failure. NULL: any. */
    const char *expect;
    size_t max_body_bytes;
    const kb_http_sink *sink;
    bool is_hasty;
} kb_s3_request;

/*
 * KB_OK: 2xx. Else KB_ERR_NOT_FOUND (key or upload), KB_ERR_EXISTS (condition failed), KB_ERR_UNSUPPORTED, or
 * an error that ends the run. *ret_maybe_applied (may be NULL): an earlier try may have done it already.
 */
kb_code kb_s3_send(kb_s3 *s3, const kb_s3_request *request, kb_http_response *response,
                   bool *ret_maybe_applied, kb_error *err) KB_CHECK;
/* Exactly len (> 0) bytes. KB_ERR_NOT_FOUND, KB_ERR_FORMAT (the object ends before). */
kb_code kb_s3_get_range(kb_s3 *s3, const char *name, uint64_t offset, void *to, size_t len,
                        kb_error *err) KB_CHECK;
/* KB_ERR_NOT_FOUND. */
kb_code kb_s3_head(kb_s3 *s3, const char *name, kb_object_info *ret_info, kb_error *err) KB_CHECK;

/* The time of the server by its last answer's Date; asks it. */
kb_code kb_s3_now(kb_s3 *s3, int64_t *ret_now_ms, kb_error *err) KB_CHECK;

#endif

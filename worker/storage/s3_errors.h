/*
 * s3_errors - what an S3 server's refusal means, and the words for it.
 *
 * S3 says a status and, in the body, a code; HEAD answers have no body. One table turns both into what to do
 * and which end of a run it is. Threads: pure functions.
 */
#ifndef KB_WORKER_STORAGE_S3_ERRORS_H
#define KB_WORKER_STORAGE_S3_ERRORS_H

#include "common/base/error.h"
#include "common/net/http_retry.h"
#include "worker/auth/cred.h"

/* The <Error> of a body; texts are owned, "" when absent. */
typedef struct kb_s3_error {
    char *code;
    char *message;
    char *region; /* the right one, where the server tells */
} kb_s3_error;
void kb_s3_error_done(kb_s3_error *error);
/* Reads a body that may be an <Error> document; anything else leaves all texts empty. */
void kb_s3_error_parse(const char *body, size_t len, kb_s3_error *ret_error);

/* Where and what, for the message; borrowed. */
typedef struct kb_s3_context {
    const char *verb; /* "PutObject": the action that a policy grants */
    const char *bucket;
    const char *endpoint;
    const char *what;    /* "s3://bucket/key" */
    const char *region;  /* ours */
    const kb_cred *cred; /* used for the request */
    int64_t now_ms;      /* wall clock */
} kb_s3_context;

/*
 * Judges an answer that is no success. Answers that a caller understands are KB_HTTP_ANSWER with the code:
 * KB_ERR_NOT_FOUND (the key or the upload; not the bucket), KB_ERR_EXISTS (412), KB_ERR_UNSUPPORTED (501).
 */
kb_http_verdict kb_s3_judge(const kb_http_response *response, const kb_s3_error *error,
                            const kb_s3_context *context, kb_error *err);

#endif

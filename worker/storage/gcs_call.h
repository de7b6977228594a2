/*
 * gcs_call - one request to a bucket of Google Cloud Storage (JSON API), authorised, retried and judged.
 *
 * Errors name the verb, the object, the bucket, the service's reason, and a remedy. Threads: any number may
 * call with one kb_gcs_bucket at once.
 */
#ifndef KB_WORKER_STORAGE_GCS_CALL_H
#define KB_WORKER_STORAGE_GCS_CALL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/auth/cred.h"
#include "worker/storage/store_net.h"

#define KB_GCS_REASON_SIZE 64

typedef struct kb_gcs_bucket {
    kb_store_net *net;            /* owned */
    kb_cred_provider *creds;      /* owned */
    char *name;                   /* owned */
    char *endpoint;               /* "https://host", owned */
    char *project;                /* that pays when the bucket asks for one; NULL = none; owned */
    atomic_bool sends_project;    /* it asked */
    atomic_bool is_there;         /* the bucket answered, so that a 404 is an object's */
    _Atomic int64_t server_ahead; /* ms that the service's clock was ahead of ours in its last answer */
    atomic_bool has_answered;     /* server_ahead is known */
} kb_gcs_bucket;

/* Frees what it owns. */
void kb_gcs_bucket_done(kb_gcs_bucket *bucket);

/* Which refusals are an answer that the caller understands. */
typedef enum kb_gcs_purpose {
    KB_GCS_READ,   /* 404 of the object, 416 */
    KB_GCS_CREATE, /* 412 */
    KB_GCS_REMOVE, /* 404 of the object; 403 and 412 of a retention policy or hold */
    KB_GCS_LOOK    /* nothing */
} kb_gcs_purpose;

/* Borrowed for the call. */
typedef struct kb_gcs_call {
    kb_gcs_bucket *bucket;
    kb_gcs_purpose purpose;
    const char *verb; /* "write", "read": for messages */
    const char *method;
    bool is_upload;     /* to /upload/storage/v1 */
    const char *object; /* its name; for messages only when is_upload; NULL = the bucket */
    bool is_collection; /* the objects of the bucket, not the bucket itself */
    const char *query;  /* NULL = none */
    const char *content_type;
    const kb_view *body;
    size_t body_count;
    size_t max_body_bytes; /* of the answer */
} kb_gcs_call;

/* KB_OK: the answer, of any status that the purpose lists. *ret_attempt may be NULL. */
kb_code kb_gcs_call_run(const kb_gcs_call *call, kb_http_response *response, kb_http_attempt *ret_attempt,
                        kb_error *err) KB_CHECK;
/* The same for exactly `len` (> 0) bytes from offset. */
kb_code kb_gcs_call_range(const kb_gcs_call *call, uint64_t offset, void *to, size_t len,
                          kb_http_response *response, kb_error *err) KB_CHECK;
/*
 * After a 404 for an object: whether it is the object that is missing. Asks once for the bucket, unless that
 * has answered before; a bucket that is missing is KB_CONFIG_INVALID.
 */
kb_code kb_gcs_check_bucket(kb_gcs_bucket *bucket, kb_error *err) KB_CHECK;

#endif

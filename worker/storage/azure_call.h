/*
 * azure_call - one request to a container of Azure Blob Storage, authorised, retried and judged.
 *
 * Errors name the verb, the object, the container and the account, the service's error code, and a remedy.
 * Threads: any number may call with one kb_azure_container at once.
 */
#ifndef KB_WORKER_STORAGE_AZURE_CALL_H
#define KB_WORKER_STORAGE_AZURE_CALL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/auth/azure_auth.h"
#include "worker/storage/store_net.h"

typedef struct kb_azure_container {
    kb_store_net *net;            /* owned */
    kb_azure_auth *auth;          /* owned */
    char *name;                   /* of the container; owned */
    char *url;                    /* of the container; owned */
    _Atomic int64_t signs_ahead;  /* ms that signatures' dates are ahead of our clock */
    _Atomic int64_t server_ahead; /* ms that the service's clock was ahead of ours in its last answer */
    atomic_bool has_answered;     /* server_ahead is known */
} kb_azure_container;

/* Frees what it owns. */
void kb_azure_container_done(kb_azure_container *container);

/* Which refusals are an answer that the caller understands. */
typedef enum kb_azure_purpose {
    KB_AZURE_READ,   /* 404 of the blob, 416 */
    KB_AZURE_CREATE, /* the blob is taken, however that is said; blocks that are gone */
    KB_AZURE_REMOVE, /* 404; 409 and 412: held by a lease, a policy, a snapshot */
    KB_AZURE_LOOK    /* at the container: nothing */
} kb_azure_purpose;

/* Borrowed for the call; at most two parts of a body. */
typedef struct kb_azure_call {
    kb_azure_container *container;
    kb_azure_purpose purpose;
    const char *verb; /* "write", "read": for messages */
    const char *method;
    const char *blob;        /* name of the blob; NULL = the container itself */
    const char *query;       /* NULL = none */
    kb_http_headers headers; /* owned by the caller */
    kb_view body[2];
    size_t body_count;
    size_t max_body_bytes; /* of the answer */
} kb_azure_call;

/* KB_OK: the answer, of any status that the purpose lists. *ret_attempt may be NULL. */
kb_code kb_azure_call_run(const kb_azure_call *call, kb_http_response *response, kb_http_attempt *ret_attempt,
                          kb_error *err) KB_CHECK;
/* The same for exactly `len` (> 0) bytes from offset. */
kb_code kb_azure_call_range(const kb_azure_call *call, uint64_t offset, void *to, size_t len,
                            kb_http_response *response, kb_error *err) KB_CHECK;
/* The service's error code in an answer, "" when there is none. Borrowed from it. */
const char *kb_azure_error_code(const kb_http_response *response);

#endif

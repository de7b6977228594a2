/*
 * kube_client - one request to the API server, with the rules of operator.md section 2.
 *
 * Keeps the rate (50/s, burst 100; lists and `is_exempt` requests do not count), waits out a Retry-After of
 * 429 for the whole client, reads the token again after 401 and then retries once, sends no write unless the
 * gate says that the lease is held, and reads at most KB_KUBE_RESPONSE_MAX bytes of JSON of depth 64. It does
 * not repeat anything else: a caller's next pass finds out by name what an unknown write did. Requests and
 * answers are never logged. Threads: any; each call waits in its own thread.
 * API: https://kubernetes.io/docs/reference/using-api/api-concepts/
 */
#ifndef KB_OPERATOR_KUBE_KUBE_CLIENT_H
#define KB_OPERATOR_KUBE_KUBE_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/net/kube_access.h"
#include "common/sync/wait.h"
#include "operator/kube/kube_metrics.h"
#include "operator/kube/kube_types.h"

#define KB_KUBE_FIELD_MANAGER "kafka-backup-operator"
#define KB_KUBE_RESPONSE_MAX (64u << 20)
#define KB_KUBE_PAGE_LIMIT 500
#define KB_KUBE_CONNECT_MS 5000
#define KB_KUBE_REQUEST_MS 30000

typedef struct kb_kube_client kb_kube_client;

typedef struct kb_kube_client_options {
    kb_kube_access *access; /* borrowed */
    kb_stop *stop;          /* borrowed; not that of SIGTERM: set when work in progress is to be cut off, too;
                               waits end then, and only is_exempt requests are sent */
    double qps;             /* 0: 50 */
    double burst;           /* 0: 100 */
    const char *user_agent; /* copied */
    const kb_clock *clock;  /* NULL: the system's; borrowed */
    kb_kube_metrics *metrics;  /* NULL: none; borrowed */
    bool (*may_write)(void *); /* NULL: always; false: writes end as KB_KUBE_NOT_LEADER, nothing is sent */
    void *may_write_ctx;
} kb_kube_client_options;

typedef enum kb_kube_verb {
    KB_KUBE_GET,
    KB_KUBE_CREATE,      /* POST to the collection; ref.name NULL */
    KB_KUBE_REPLACE,     /* PUT; the body carries the resourceVersion it is based on */
    KB_KUBE_APPLY,       /* server-side apply; body complete with apiVersion, kind, metadata.name */
    KB_KUBE_PATCH_JSON,  /* RFC 6902 */
    KB_KUBE_PATCH_MERGE, /* RFC 7386 */
    KB_KUBE_DELETE       /* background propagation */
} kb_kube_verb;

typedef struct kb_kube_request {
    kb_kube_verb verb;
    kb_kube_ref ref;
    const json_t *body;       /* borrowed; NULL for GET and DELETE */
    bool is_forced;           /* APPLY: takes fields from other managers */
    const char *only_uid;     /* DELETE: only this object (precondition); NULL: any */
    const char *only_version; /* DELETE: only this resourceVersion; NULL: any */
    const char *query;        /* more of it, encoded, without '?': "fieldSelector=..."; NULL: none */
    bool is_exempt;           /* not counted by the rate, not held up by 429, sent while stopping */
    bool is_ungated;          /* a write that needs no lease: the Lease itself */
    int64_t timeout_ms;       /* 0: KB_KUBE_REQUEST_MS */
} kb_kube_request;

/* What came back; filled whether the call succeeded or not. Initialise with KB_KUBE_REPLY_INIT. */
typedef struct kb_kube_reply {
    kb_kube_class fault;    /* KB_KUBE_FINE on success */
    int http_status;        /* 0: nothing was received */
    json_t *object;         /* owned; the body of a success: the object, a list, or a Status */
    char *reason;           /* owned; the server's word for a failure ("AlreadyExists"), "" when none */
    char *message;          /* owned; its sentence, "" when none */
    int64_t retry_after_ms; /* THROTTLED and some SERVER: what the server asked for; else 0 */
} kb_kube_reply;
#define KB_KUBE_REPLY_INIT {KB_KUBE_FINE, 0, NULL, NULL, NULL, 0}
#define KB_AUTO_KUBE_REPLY(name) \
    __attribute__((cleanup(kb_kube_reply_done))) kb_kube_reply name = KB_KUBE_REPLY_INIT
void kb_kube_reply_done(kb_kube_reply *reply);

kb_code kb_kube_client_new(const kb_kube_client_options *options, kb_kube_client **ret_client,
                           kb_error *err) KB_CHECK;
void kb_kube_client_free(kb_kube_client *owned_client);
/* For a cleanup attribute: frees *at. */
void kb_kube_client_free_at(kb_kube_client **at);
/* Sets who is asked before a write; before other threads use the client. */
void kb_kube_client_set_gate(kb_kube_client *client, bool (*may_write)(void *ctx), void *ctx);

/*
 * Sends one request. On failure the code is that of the class (kb_kube_class_code), the error text says verb,
 * object and the server's reason and message, and reply->fault decides. reply's old content is released.
 */
kb_code kb_kube_call(kb_kube_client *client, const kb_kube_request *request, kb_kube_reply *reply,
                     kb_error *err) KB_CHECK;

/* GET of one object; the same as kb_kube_call with that verb. */
kb_code kb_kube_get(kb_kube_client *client, const kb_kube_ref *ref, kb_kube_reply *reply,
                    kb_error *err) KB_CHECK;

/*
 * All objects of a collection, page by page (410 of a page: from the start again, at most three times, then
 * the error). selectors may be NULL. On success reply->object is an array; items get the list's apiVersion
 * and kind, which the server leaves out.
 */
kb_code kb_kube_list(kb_kube_client *client, const kb_kube_ref *ref, const char *label_selector,
                     const char *field_selector, kb_kube_reply *reply, kb_error *err) KB_CHECK;

/* GET of a path that is no resource ("/version", "/apis/batch"). */
kb_code kb_kube_get_path(kb_kube_client *client, const char *path, kb_kube_reply *reply,
                         kb_error *err) KB_CHECK;

#endif

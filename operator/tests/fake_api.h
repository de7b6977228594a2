/*
 * fake_api - an API server in the process, for tests: objects, lists by page, watches, writes, and faults.
 *
 * Serves HTTP on a free port of 127.0.0.1. Keeps what the operator relies on: resourceVersions, uids,
 * generations, the status subresource, preconditions, server-side apply (merged, with one manager for the
 * whole object), continue tokens, watch events and bookmarks. It knows no schema and runs no controller.
 * Threads: any.
 */
#ifndef KB_OPERATOR_TESTS_FAKE_API_H
#define KB_OPERATOR_TESTS_FAKE_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/net/kube_access.h"
#include "operator/kube/kube_types.h"

typedef struct kb_fake_api kb_fake_api;

typedef enum kb_fake_action {
    KB_FAKE_REPLY,       /* status, reason, message, retry_after_s */
    KB_FAKE_RAW,         /* `message` as the whole body, with this status */
    KB_FAKE_DROP_BEFORE, /* the connection is cut, nothing was done */
    KB_FAKE_DROP_AFTER,  /* done, and then cut without an answer */
    KB_FAKE_DELAY        /* delay_ms, then as usual */
} kb_fake_action;

/* What happens to requests that match: method (NULL: any) and a part of path and query (NULL: any). */
typedef struct kb_fake_fault {
    const char *method;
    const char *part;
    unsigned skip;  /* so many matching requests are left alone first */
    unsigned times; /* then so many are hit; 0: one */
    kb_fake_action action;
    int status;
    const char *reason;  /* static */
    const char *message; /* static */
    int retry_after_s;
    int delay_ms;
} kb_fake_fault;

kb_fake_api *kb_fake_api_new(void);
void kb_fake_api_free(kb_fake_api *owned_api);
/* "http://127.0.0.1:PORT"; borrowed. */
const char *kb_fake_api_url(const kb_fake_api *api);
/* A login by constant token "token-1", which is what the server wants at first. */
kb_kube_access *kb_fake_api_access(const kb_fake_api *api);
/* Only this token is good from now on; everything else gets 401. */
void kb_fake_api_set_token(kb_fake_api *api, const char *token);
/* Of /version; "34" at first. */
void kb_fake_api_set_minor(kb_fake_api *api, const char *minor);

void kb_fake_api_fail(kb_fake_api *api, const kb_fake_fault *fault);
void kb_fake_api_heal(kb_fake_api *api);
/* The resource is not served (404) until it is shown again: a CRD that is not installed. */
void kb_fake_api_hide(kb_fake_api *api, const char *plural, bool is_hidden);

/* Writes an object as somebody else would: creates or replaces, and gives a new reference of what is stored.
 */
json_t *kb_fake_api_put(kb_fake_api *api, const kb_kube_resource *resource, json_t *owned_object);
void kb_fake_api_remove(kb_fake_api *api, const kb_kube_resource *resource, const char *name_space,
                        const char *name);
/* A new reference, NULL when absent. */
json_t *kb_fake_api_get(kb_fake_api *api, const kb_kube_resource *resource, const char *name_space,
                        const char *name);
size_t kb_fake_api_count(kb_fake_api *api, const kb_kube_resource *resource);

/* Watches and continue tokens from before now get 410. */
void kb_fake_api_compact(kb_fake_api *api);
/* Sends a bookmark on every watch. */
void kb_fake_api_bookmark(kb_fake_api *api);
/* Ends all watches that are open: in good order, or in the middle of the connection. */
void kb_fake_api_cut(kb_fake_api *api, bool is_abrupt);
/* Sends bytes as they are on every open watch of the resource. Copied. */
void kb_fake_api_send_raw(kb_fake_api *api, const char *plural, const char *bytes);
/* Watches that are open now. */
size_t kb_fake_api_watches(kb_fake_api *api);

/* Requests so far whose method is this (NULL: any) and whose path and query hold the part (NULL: any). */
size_t kb_fake_api_requests(kb_fake_api *api, const char *method, const char *part);
/* Requests but GET, that is writes, since the start. */
size_t kb_fake_api_writes(kb_fake_api *api);

#endif

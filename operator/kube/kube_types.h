/*
 * kube_types - names of resources and of what goes wrong with them, shared by client, watch and store.
 *
 * A fault's class decides what to do next (operator.md section 2, table of error classes); its reason and
 * message are the server's words for people. Objects are jansson values. Threads: pure.
 */
#ifndef KB_OPERATOR_KUBE_KUBE_TYPES_H
#define KB_OPERATOR_KUBE_KUBE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/base/error.h"
#include "common/base/strbuf.h"

/* jansson value that is released at the end of its scope. */
#define KB_AUTO_JSON __attribute__((cleanup(kb_json_decref_at)))
void kb_json_decref_at(json_t **at);

typedef struct kb_kube_resource {
    const char *group;   /* "" for core */
    const char *version; /* "v1" */
    const char *plural;  /* "jobs" */
    const char *kind;    /* "Job" */
    bool is_cluster_wide;
} kb_kube_resource;

/* The resources that the operator knows. Static. */
extern const kb_kube_resource KB_KUBE_BACKUPS;
extern const kb_kube_resource KB_KUBE_RESTORES;
extern const kb_kube_resource KB_KUBE_OFFSET_RESETS;
extern const kb_kube_resource KB_KUBE_OFFSET_ROLLBACKS;
extern const kb_kube_resource KB_KUBE_JOBS;
extern const kb_kube_resource KB_KUBE_CRON_JOBS;         /* batch/v1 */
extern const kb_kube_resource KB_KUBE_CRON_JOBS_V1BETA1; /* Kubernetes 1.20 */
extern const kb_kube_resource KB_KUBE_PODS;
extern const kb_kube_resource KB_KUBE_CONFIG_MAPS;
extern const kb_kube_resource KB_KUBE_SERVICE_ACCOUNTS;
extern const kb_kube_resource KB_KUBE_ROLES;
extern const kb_kube_resource KB_KUBE_ROLE_BINDINGS;
extern const kb_kube_resource KB_KUBE_EVENTS;
extern const kb_kube_resource KB_KUBE_LEASES;

/* What a request is about; everything borrowed. */
typedef struct kb_kube_ref {
    const kb_kube_resource *resource;
    const char *name_space;  /* NULL: cluster-wide, or all namespaces of a list */
    const char *name;        /* NULL: the collection */
    const char *subresource; /* "status"; NULL: the object itself */
} kb_kube_ref;

/* "/apis/batch/v1/namespaces/ns/jobs/name/status"; parts are percent-encoded. Owned by the caller. */
char *kb_kube_path(const kb_kube_ref *ref) __attribute__((returns_nonnull));
/* "Job team-a/nightly-1" for texts. Owned by the caller. */
char *kb_kube_describe(const kb_kube_ref *ref) __attribute__((returns_nonnull));
/* "batch/v1" or "v1". Owned by the caller. */
char *kb_kube_api_version(const kb_kube_resource *resource) __attribute__((returns_nonnull));

/* Appends "&name=value" with the value percent-encoded; nothing when value is NULL or "". */
void kb_kube_append_query(kb_strbuf *url, const char *name, const char *value);

typedef enum kb_kube_class {
    KB_KUBE_FINE,
    KB_KUBE_GONE,       /* 404, 410: drop the key, or list again */
    KB_KUBE_CONFLICT,   /* 409 but AlreadyExists; an apply with a uid of another object */
    KB_KUBE_EXISTS,     /* 409 AlreadyExists of a create */
    KB_KUBE_DENIED,     /* 401 after the retry, 403: verb and resource are in the fault */
    KB_KUBE_INVALID,    /* 400, 413, 415, 422 and other 4xx: a bug or an unsupported field */
    KB_KUBE_THROTTLED,  /* 429 */
    KB_KUBE_SERVER,     /* 5xx, reset, time-out, no route: the result of a write is unknown */
    KB_KUBE_NOT_LEADER, /* not sent: the lease is not ours (any more) */
    KB_KUBE_STOPPED,    /* not sent: the client is stopping */
    KB_KUBE_CLASS_COUNT
} kb_kube_class;

/* "conflict" and so on, for logs and metrics. Static. */
const char *kb_kube_class_name(kb_kube_class fault_class);

/* The class of an HTTP status, with the reason of the Status body ("" when there is none). */
kb_kube_class kb_kube_classify(int http_status, const char *reason);

/*
 * The code that goes with a class: GONE KB_ERR_NOT_FOUND, EXISTS KB_ERR_EXISTS, STOPPED KB_ERR_STOPPED,
 * INVALID KB_ERR_FORMAT, all others KB_TEMPORARY_FAILURE.
 */
kb_code kb_kube_class_code(kb_kube_class fault_class);

/* The string at a path of object members ("metadata", "uid", NULL); NULL when absent or no string. Borrowed.
 */
const char *kb_kube_text(const json_t *object, ...) __attribute__((sentinel));
/* The value at a path of members, NULL when absent. Borrowed. */
json_t *kb_kube_at(const json_t *object, ...) __attribute__((sentinel));
/* metadata fields, "" when absent. Borrowed. */
const char *kb_kube_name(const json_t *object);
const char *kb_kube_namespace(const json_t *object);
const char *kb_kube_uid(const json_t *object);
const char *kb_kube_version(const json_t *object); /* resourceVersion: opaque, compared for equality only */
/* The owner reference with controller=true, NULL when there is none. Borrowed. */
const json_t *kb_kube_controller(const json_t *object);

#endif

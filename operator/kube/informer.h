/*
 * informer - keeps object stores up to date: list, then watch, for as long as the operator runs.
 *
 * One thread with one libcurl multi loop drives all streams (one for each resource, or for each namespace of
 * a resource). It follows operator.md section 2: pages of 500, bookmarks, time-outs with a hard local limit,
 * resume at the last resourceVersion after a cut, a fresh list after 410, back-off with jitter, bounded
 * sizes. A malformed object is skipped, counted and logged. Changes are told after the store has them.
 * Threads: add before start; the callbacks run in the informer thread and must not block; the rest from any
 * thread.
 */
#ifndef KB_OPERATOR_KUBE_INFORMER_H
#define KB_OPERATOR_KUBE_INFORMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/strbuf.h"
#include "common/net/kube_access.h"
#include "common/sync/wait.h"
#include "operator/kube/kube_metrics.h"
#include "operator/kube/kube_types.h"
#include "operator/kube/object_store.h"

typedef struct kb_informers kb_informers;
typedef struct kb_informer kb_informer;

/* Borrowed objects; old_object NULL: added; new_object NULL: deleted. */
typedef void (*kb_informer_fn)(void *ctx, const json_t *old_object, const json_t *new_object);

typedef struct kb_informer_options {
    const kb_kube_resource *resource; /* borrowed, static */
    const char *const *namespaces;    /* copied */
    size_t namespace_count;           /* 0: one stream over the whole cluster */
    const char *label_selector;       /* copied; NULL: none */
    /* What to keep of an object: a new value with metadata.{name,namespace,uid,resourceVersion} at least.
     * NULL: all but metadata.managedFields. */
    json_t *(*project)(const json_t *object);
    bool is_compact;          /* keep objects as text: kb_object_store_new_compact */
    kb_informer_fn on_change; /* NULL: none */
    void *ctx;
} kb_informer_options;

typedef struct kb_informers_options {
    kb_kube_access *access;   /* borrowed */
    kb_stop *stop;            /* borrowed */
    const char *user_agent;   /* copied */
    const kb_clock *clock;    /* NULL: the system's */
    kb_kube_metrics *metrics; /* NULL: none */
    void (*beat)(void *ctx);  /* called at least once in 10 s; NULL: none */
    void *beat_ctx;
    int64_t backoff_base_ms; /* 0: 200 */
    int64_t backoff_cap_ms;  /* 0: 30000 */
} kb_informers_options;

kb_informers *kb_informers_new(const kb_informers_options *options) __attribute__((returns_nonnull));
/* Adds one; owned by the set. Before kb_informers_start. */
kb_informer *kb_informers_add(kb_informers *informers, const kb_informer_options *options)
    __attribute__((returns_nonnull));
kb_code kb_informers_start(kb_informers *informers, kb_error *err) KB_CHECK;
/* Ends the thread if it runs (the stop token need not be set) and frees all. */
void kb_informers_free(kb_informers *owned_informers);

/*
 * True when every stream has been listed at least once and its last list did not fail; otherwise `why` gets a
 * line for each that has not ("kafkabackups: the server does not know this resource; are the CRDs
 * installed?").
 */
bool kb_informers_is_synced(kb_informers *informers, kb_strbuf *why);
/* Waits for it at most timeout_ms. */
bool kb_informers_wait_synced(kb_informers *informers, int64_t timeout_ms);

kb_object_store *kb_informer_store(kb_informer *informer);
/* The reply of an own write (borrowed) goes through `project` into the store: kb_object_store_own_write. */
bool kb_informer_own_write(kb_informer *informer, const json_t *object, const char *based_on);

#endif

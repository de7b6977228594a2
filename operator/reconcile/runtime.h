/*
 * runtime - what the reconcilers share: client, stores, settings, and what is remembered between passes.
 *
 * What is remembered makes passes cheaper or their answers quicker and may be lost at any time: objects that
 * were confirmed a short while ago, Events that were read, the fault of the pass before. Threads: any.
 */
#ifndef KB_OPERATOR_RECONCILE_RUNTIME_H
#define KB_OPERATOR_RECONCILE_RUNTIME_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "operator/ctrl/controller.h"
#include "operator/ctrl/events.h"
#include "operator/kube/capabilities.h"
#include "operator/kube/informer.h"
#include "operator/kube/kube_client.h"
#include "operator/model/settings.h"
#include "operator/reconcile/series.h"
#include "operator/reconcile/snapshot.h"

/* How long an object that was confirmed to exist is not asked for again. */
#define KB_CONFIRMED_MS 600000

/* What is remembered of one CR. */
typedef struct kb_memory {
    char *uid;                  /* of the object that it is about */
    int64_t applied_generation; /* of its CronJob; -1 = not applied since the start */
    kb_kube_class fault;        /* of the last pass */
    char *fault_text;
    unsigned faults;      /* in a row */
    json_t *events;       /* that were read last */
    int64_t events_at_ms; /* boot clock; 0 = never */
    int64_t config_maps_at_ms;
    int64_t collected_since_ms; /* since when a name we need is held by an object that is being collected */
} kb_memory;

typedef struct kb_runtime {
    kb_kube_client *client; /* borrowed, as are the following */
    kb_controller *controller;
    kb_events *events;
    const kb_settings *settings;
    kb_kube_metrics *metrics; /* NULL: none */
    const kb_clock *clock;
    kb_series *series; /* NULL: none */
    kb_informer *resources[KB_KIND_COUNT], *jobs, *cron_jobs, *pods;
    pthread_mutex_t mutex; /* for all below */
    kb_capabilities caps;
    kb_map *memories;  /* "KafkaBackup/namespace/name": kb_memory */
    kb_map *confirmed; /* "ConfigMap/namespace/name": boot time as text */
    kb_map *deleted;   /* UIDs of Jobs whose deletion was seen */
    kb_map *accounts;  /* "namespace/name": metadata of a ServiceAccount, with the boot time in `at` */
} kb_runtime;

typedef struct kb_runtime_options {
    kb_kube_client *client;
    kb_events *events;
    const kb_settings *settings;
    kb_kube_metrics *metrics;
    kb_metrics *registry;  /* NULL: no series of CRs */
    const kb_clock *clock; /* NULL: the machine's */
    kb_capabilities caps;
} kb_runtime_options;

kb_runtime *kb_runtime_new(const kb_runtime_options *options) __attribute__((returns_nonnull));
void kb_runtime_free(kb_runtime *owned_runtime);

kb_capabilities kb_runtime_caps(kb_runtime *runtime);
void kb_runtime_set_caps(kb_runtime *runtime, const kb_capabilities *caps);

/* The static resource of a kind. */
const kb_kube_resource *kb_runtime_resource(kb_kind kind);

/* A copy of what is remembered of an object with this UID (another UID: fresh). Give it back by store. */
kb_memory kb_runtime_recall(kb_runtime *runtime, kb_kind kind, const char *name_space, const char *name,
                            const char *uid);
/* Takes the memory; drops it when owned_memory is NULL. */
void kb_runtime_remember(kb_runtime *runtime, kb_kind kind, const char *name_space, const char *name,
                         kb_memory *owned_memory);
void kb_memory_done(kb_memory *memory);

/* Whether an object was confirmed to exist a short while ago; confirming it. */
bool kb_runtime_is_confirmed(kb_runtime *runtime, const char *kind, const char *name_space, const char *name);
void kb_runtime_confirm(kb_runtime *runtime, const char *kind, const char *name_space, const char *name,
                        bool exists);

/* metadata of an account that was read a short while ago (a new reference); NULL when it has to be read. */
json_t *kb_runtime_known_account(kb_runtime *runtime, const char *name_space, const char *account);
void kb_runtime_know_account(kb_runtime *runtime, const char *name_space, const char *account,
                             const json_t *metadata);

void kb_runtime_note_deleted_job(kb_runtime *runtime, const char *uid);
bool kb_runtime_saw_job_deleted(kb_runtime *runtime, const char *uid);

#endif

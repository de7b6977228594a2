/*
 * lease - leader election by a coordination.k8s.io/v1 Lease (operator.md section 10).
 *
 * A candidate times the holder by its own monotonic clock since it last saw the Lease change, so clocks of
 * machines need not agree. Whoever holds it may write while its last renewal is younger than renew_deadline;
 * when that has passed, the elector reports the loss once and the program ends. Deciding is a pure function;
 * a thread carries it out. Threads: kb_elector functions from any thread.
 */
#ifndef KB_OPERATOR_KUBE_LEASE_H
#define KB_OPERATOR_KUBE_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "operator/kube/kube_client.h"
#include "operator/kube/kube_metrics.h"

/* What the elector remembers between two looks; zeroed memory is the start. */
typedef struct kb_lease_memory {
    char *seen_version;       /* owned; resourceVersion last seen, NULL: none */
    int64_t seen_at_ms;       /* boot clock, when it changed last */
    int64_t seen_duration_ms; /* leaseDurationSeconds of it */
    bool is_held;             /* our last write succeeded */
    int64_t renewed_at_ms;    /* boot clock before the request that renewed last was sent */
} kb_lease_memory;

typedef enum kb_lease_action {
    KB_LEASE_WAIT,    /* held by somebody who may be alive */
    KB_LEASE_CREATE,  /* there is none: POST */
    KB_LEASE_ACQUIRE, /* free, or the holder has not renewed for its duration: PUT */
    KB_LEASE_RENEW,   /* ours: PUT */
    KB_LEASE_LOST     /* was ours and is not any more, or could not be renewed in time */
} kb_lease_action;

typedef struct kb_lease_times {
    int64_t duration_ms;       /* 15000 */
    int64_t renew_deadline_ms; /* 10000 */
    int64_t retry_ms;          /* 2000 */
} kb_lease_times;

/*
 * What to do now. lease: as just read, NULL when there is none. Updates memory->seen_*. Pure apart from that.
 */
kb_lease_action kb_lease_decide(kb_lease_memory *memory, const json_t *lease, const char *identity,
                                const kb_lease_times *times, int64_t now_boot_ms);
/* The body to send: based on `lease` (NULL for CREATE), with the transitions counted. A new value. */
json_t *kb_lease_body(const json_t *lease, const char *name_space, const char *name, const char *identity,
                      const kb_lease_times *times, int64_t now_wall_ms);
void kb_lease_memory_done(kb_lease_memory *memory);

typedef struct kb_elector kb_elector;

typedef struct kb_elector_options {
    kb_kube_client *client;   /* borrowed */
    const char *name_space;   /* all copied */
    const char *name;         /* NULL: "kafka-backup-operator" */
    const char *identity;     /* NULL: "<pod or host name>_<random>" */
    kb_lease_times times;     /* zeros: the defaults */
    const kb_clock *clock;    /* NULL: the system's */
    kb_kube_metrics *metrics; /* NULL: none */
    void (*on_lead)(void *);  /* became leader; once */
    void (*on_lost)(void *);  /* is not leader any more; once, writes are closed already */
    void (*beat)(void *);     /* at least once in 10 s; NULL: none */
    void *ctx;                /* of the three */
} kb_elector_options;

/* Starts the thread. */
kb_code kb_elector_start(const kb_elector_options *options, kb_elector **ret_elector, kb_error *err) KB_CHECK;
/* True while the lease is held and its last renewal is younger than the deadline. For the client's gate. */
bool kb_elector_may_write(void *elector);
bool kb_elector_is_leader(const kb_elector *elector);
/* Ends the thread; clears the holder when the lease is ours, so that a standby takes over at once. Frees. */
void kb_elector_stop(kb_elector *owned_elector);

#endif

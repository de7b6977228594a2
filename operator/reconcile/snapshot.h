/*
 * snapshot - all that a decision about one object may look at, gathered before it.
 *
 * Objects are jansson values as the informers keep them; nothing here is changed by deciding. A snapshot that
 * holds less (an Event that was not read, an account that is not known) only makes a decision wait. Threads:
 * belongs to one pass.
 */
#ifndef KB_OPERATOR_RECONCILE_SNAPSHOT_H
#define KB_OPERATOR_RECONCILE_SNAPSHOT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "operator/kube/kube_types.h"
#include "operator/model/kinds.h"

typedef enum kb_account_state {
    KB_ACCOUNT_UNKNOWN, /* not looked at, which is as good as present */
    KB_ACCOUNT_ABSENT,
    KB_ACCOUNT_PRESENT
} kb_account_state;

typedef struct kb_snapshot {
    kb_kind kind;
    json_t *object; /* the CR. References are owned by the snapshot, here and below */

    json_t *cron_job;           /* of the CR's name and owned by it; NULL = none */
    bool is_cron_job_foreign;   /* another owner holds the name */
    int64_t applied_generation; /* metadata.generation of the CronJob after our last apply; -1 = none since
                                   the start of this process */
    json_t *jobs;               /* array: Jobs of the CR and of its CronJob */
    json_t *pods;               /* array: their pods */
    json_t *events;             /* array: Events about a Job that does not start, and about its pods */
    bool is_active_job_gone;    /* the server was asked for status.activeJob (bounded kinds: the Job) and says
                                   404, or it is being deleted */
    bool was_deletion_seen;     /* its deletion was seen, not just its absence */
    json_t *config_maps;        /* array: run configurations of the CR; NULL = not looked at */

    kb_account_state account;
    bool is_account_allowed; /* carries the label of worker accounts */
    json_t *account_notes;   /* its annotations; NULL = none */

    json_t *backups;                       /* array: KafkaBackups of the namespace */
    json_t *restores, *resets, *rollbacks; /* the same of the other kinds; only for the offset kinds */
    json_t *same_name;                     /* array: KafkaBackups of the same name in other namespaces */

    kb_kube_class last_fault;    /* of the pass before this one; KB_KUBE_FINE = it succeeded */
    const char *last_fault_text; /* borrowed; what was refused, NULL = nothing */
    int64_t next_retry_ms;       /* wall clock; when a refused write was to be repeated, 0 = none */
} kb_snapshot;

/* Drops all references. */
void kb_snapshot_done(kb_snapshot *snapshot);

#endif

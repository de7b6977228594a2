/*
 * preflight - everything that can be known before the first write, checked and listed (worker.md 8.2).
 *
 * All checks run; what they find is in `checks`. What they learn on the way is kept for the work that
 * follows: which topics are to be created or purged, where each partition's restore starts, which of them
 * hold records of earlier attempts. Threads: one at a time.
 */
#ifndef KB_WORKER_RESTORE_PREFLIGHT_H
#define KB_WORKER_RESTORE_PREFLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/kafka/kafka_admin.h"
#include "worker/restore/checks.h"
#include "worker/restore/plan.h"
#include "worker/restore/settings.h"
#include "worker/restore/start_object.h"
#include "worker/restore/target_view.h"

/* What is to be done with a target topic. */
typedef struct kb_topic_decision {
    bool create;
    bool purge;
    bool is_resumed; /* the start object speaks of this very topic */
    bool is_ours;    /* made by this restore: configs are held now and set at the end */
    bool is_prefix;  /* it holds nothing, or the beginning of our stream */
    bool has_records;
} kb_topic_decision;

typedef struct kb_preflight {
    const kb_restore_settings *settings;
    const kb_restore_plan *plan;
    kb_kafka_admin *admin;
    const char *target_cluster_id; /* may be NULL */
    const uint8_t *backup_sha256;
    kb_checks *checks;
    kb_restore_past past;
    kb_target_view view;
    kb_topic_decision *decisions; /* as the plan's topics */
    int64_t *starts;              /* h, as the plan's targets; -1: not known yet */
    int64_t *committed;           /* transactional: records that earlier attempts committed; else NULL */
    bool start_applies;           /* the stored start object is still that of all targets */
    bool is_complete;             /* all of it was restored before: there is nothing to do */
    bool is_resumed;              /* a start object or records of earlier attempts are there */
} kb_preflight;

void kb_preflight_done(kb_preflight *preflight);

/*
 * Reads the past and the target, and runs all checks. The first members up to checks are set by the caller.
 * Fails only when something could not be asked; refusals are in checks.
 */
kb_code kb_preflight_run(kb_preflight *preflight, const char *restore_id, kb_error *err) KB_CHECK;

/* The final value of a config of a topic that we create; NULL: the broker's default. */
const char *kb_restore_topic_config(const kb_restore_topic *topic, const char *name);

#endif

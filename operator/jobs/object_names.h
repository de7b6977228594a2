/*
 * object_names - names, labels and annotations of everything the operator makes (crds.md 3.1 and 10).
 *
 * A name is a function of what it is for, so making the same thing twice meets itself. All results are owned
 * by the caller. Threads: pure.
 */
#ifndef KB_OPERATOR_JOBS_OBJECT_NAMES_H
#define KB_OPERATOR_JOBS_OBJECT_NAMES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "operator/model/kinds.h"

#define KB_MANAGED_BY "kafka-backup-operator"
#define KB_WORKER_NAME "kafka-backup-worker"
#define KB_SNAPSHOT_CONFIG_MAP "offset-snapshots"

#define KB_LABEL_NAME "app.kubernetes.io/name"
#define KB_LABEL_COMPONENT "app.kubernetes.io/component"
#define KB_LABEL_MANAGED_BY "app.kubernetes.io/managed-by"
#define KB_LABEL_KIND "kafka.oso.sh/kind"
#define KB_LABEL_CR "kafka.oso.sh/name"
#define KB_LABEL_UID "kafka.oso.sh/uid"
#define KB_LABEL_WORKER "kafka.oso.sh/worker" /* on accounts: "allowed" */

/* On Jobs and pod templates. */
#define KB_NOTE_GENERATION "kafka.oso.sh/generation"
#define KB_NOTE_CONFIG "kafka.oso.sh/config-sha256"
#define KB_NOTE_STAMP "kafka.oso.sh/stamp"
#define KB_NOTE_TRIGGER "kafka.oso.sh/trigger"
/* On Jobs: which data-relevant part and which retention block they run with. */
#define KB_NOTE_SPEC_HASH "kafka.oso.sh/spec-hash"
#define KB_NOTE_RETENTION "kafka.oso.sh/retention"
#define KB_NOTE_RECORDED "kafka.oso.sh/recorded"
/* On Jobs that the operator ends: the reason, and the sentence. */
#define KB_NOTE_END_REASON "kafka.oso.sh/end-reason"
#define KB_NOTE_END_MESSAGE "kafka.oso.sh/end-message"
/* On CronJobs: SHA-256 of what was rendered. */
#define KB_NOTE_DIGEST "kafka.oso.sh/digest"
/* On custom resources. */
#define KB_NOTE_LEDGER "kafka.oso.sh/ledger"
#define KB_NOTE_TRIGGER_BACKUP "kafka.oso.sh/trigger-backup"
#define KB_NOTE_PAUSE "kafka.oso.sh/pause-reconciliation"

#define KB_LIMIT_CRON_JOB 52
#define KB_LIMIT_JOB 63
#define KB_LIMIT_OBJECT 253

char *kb_name_cron_job(const char *cr);
char *kb_name_one_shot_job(const char *cr, int64_t generation);
char *kb_name_trigger_job(const char *cr, const char *value);
/* retention_hash: kb_spec_retention_hash. */
char *kb_name_prune_job(const char *cr, const char *retention_hash);
/* `<cr>-restore`, `<cr>-offset-reset`; operation: of a KafkaOffsetRollback, else NULL. */
char *kb_name_bounded_job(kb_kind kind, const char *cr, const char *operation);
/* `<cr>-<component>-<8 hex of content>`; sha256 is the hex digest of the content. */
char *kb_name_config_map(kb_kind kind, const char *cr, const char *sha256);
/* The binding of a worker account. */
char *kb_name_binding(const char *account);

/*
 * The slot in the name of a scheduled Job: the number after the last '-' of `<cron job>-<number>`, 8 digits
 * minutes or 10 digits seconds since 1970. False for any other name.
 */
bool kb_name_slot(const char *job, const char *cron_job, int64_t *ret_unix_secs)
    __attribute__((warn_unused_result));
/* `<cr>-YYYYMMDD-HHMMSS` of a moment. */
char *kb_name_backup_id(const char *cr, int64_t unix_secs);
/* The KafkaBackup that an id is named after: the id without its stamp; NULL when it has none. */
char *kb_name_backup_of_id(const char *backup_id);
/* Stamps chosen by the operator never end in 00 seconds, so that they cannot meet a slot. */
void kb_name_stamp(int64_t unix_secs, char to[16]);

/* Labels of what belongs to a CR; its metadata names it. */
json_t *kb_labels_of(kb_kind kind, const json_t *object);
/* An owner reference to it as controller. */
json_t *kb_owner_reference(kb_kind kind, const json_t *object);
/* Whether the controller of `child` is `object`, by UID. */
bool kb_is_controlled_by(const json_t *child, const json_t *object);

#endif

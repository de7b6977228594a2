/*
 * cronjob_builder - the CronJob of a scheduled KafkaBackup, and what its schedule means (crds.md 3.3).
 *
 * Threads: pure, apart from reading time zone files.
 */
#ifndef KB_OPERATOR_JOBS_CRONJOB_BUILDER_H
#define KB_OPERATOR_JOBS_CRONJOB_BUILDER_H

#include <jansson.h>

#include "operator/ctrl/cron.h"
#include "operator/jobs/job_builder.h"

/* A slot may start this much later; then it is missed. */
#define KB_STARTING_DEADLINE_SECS 3600

/* A schedule, understood. */
typedef struct kb_schedule {
    kb_cron cron;
    kb_tzfile *zone;    /* owned */
    char *expression;   /* owned; as the CronJob gets it */
    char *time_zone;    /* owned; field timeZone of the CronJob; NULL: the server has none */
    const char *reason; /* InvalidSchedule, InvalidTimeZone, TimeZoneUnsupported; NULL = usable. Static */
    char *message;      /* owned; with a reason */
} kb_schedule;

/* Reads schedule and timeZone of a spec that has a schedule; *ret_schedule is always valid to free. */
void kb_schedule_read(const kb_backup_spec *backup, const kb_capabilities *caps, kb_schedule *ret_schedule);
void kb_schedule_done(kb_schedule *schedule);

/*
 * The CronJob, with the digest of what was rendered in its annotation; owned by the caller. is_suspended is
 * spec.suspend or a pause.
 */
json_t *kb_cron_job_object(const kb_pod_input *input, const kb_capabilities *caps,
                           const kb_schedule *schedule, bool is_suspended) __attribute__((returns_nonnull));

#endif

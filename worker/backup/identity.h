/*
 * identity - the id of the backup that this run makes (worker.md 7.1).
 *
 * `{stamp}` in the configured id becomes YYYYMMDD-HHMMSS UTC: the stamp that the environment gives, else the
 * slot that the Job's name tells, else that of a backup which this Job has begun, else the start second,
 * never with seconds 00 (slots lie there) and never one in use.
 */
#ifndef KB_WORKER_BACKUP_IDENTITY_H
#define KB_WORKER_BACKUP_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"

typedef struct kb_identity_options {
    const char *backup_id; /* as configured; of a lineage "name-{stamp}" */
    const char *stamp;     /* KB_STAMP or NULL */
    const char *job_name;  /* KB_JOB_NAME or NULL */
    const char *cron_job;  /* resource.cronJob or NULL */
    int64_t now_ms;        /* wall clock */
    /* Whether a backup of that id exists already; NULL: none does. */
    kb_code (*is_used)(void *ctx, const char *id, bool *ret_used, kb_error *err);
    /* The backup of the lineage that an earlier attempt of this Job has begun, owned; NULL: none. May be
     * NULL. */
    kb_code (*find_own)(void *ctx, char **ret_id, kb_error *err);
    void *ctx;
} kb_identity_options;

/* *ret_id is owned by the caller. Errors: KB_CONFIG_INVALID for an illegal id or stamp, and those of the two
 * questions. */
kb_code kb_identity_make(const kb_identity_options *options, char **ret_id, kb_error *err) KB_CHECK;

/*
 * How long a scheduled run waits before it begins, so that schedules of the same minute do not all start at
 * once: up to the slot (ms since 1970) and a share of jitter_ms that is fixed by owner and lineage. 0 when
 * that time has passed, or the slot is not near.
 */
int64_t kb_identity_start_delay_ms(const char *owner, const char *lineage, int64_t slot_ms, int64_t jitter_ms,
                                   int64_t now_ms);

#endif

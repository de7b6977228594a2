/*
 * retention - which complete backups of a lineage may go, by number and by age. Pure: no clock, no store.
 *
 * A backup may go when it is not among the newest ones that are to be kept, or is too old. Ages are taken by
 * the store's clock alone, from the moment at which a backup became complete there; the clocks of workers
 * play no part in it. What counts as newest is taken twice, by the time in the id and by the store's time,
 * and a backup that is among the newest either way stays: a run whose clock was years ahead makes nothing
 * older. The newest backup never goes, nor one that an open or sealed backup builds on. Threads: pure
 * functions.
 */
#ifndef KB_WORKER_CATALOG_RETENTION_H
#define KB_WORKER_CATALOG_RETENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* Without a rule nothing goes; with both a backup goes by either. */
typedef struct kb_retention_policy {
    bool has_backups;
    int64_t backups; /* at least 1 */
    bool has_max_age_days;
    int64_t max_age_days; /* at least 1 */
} kb_retention_policy;

/* A good backup: complete, its hashes hold, not marked. */
typedef struct kb_retention_backup {
    int64_t stamp_ms;     /* the time in its id */
    int64_t completed_ms; /* when its manifest.json appeared, by the store's clock */
    bool is_base;         /* of an open or sealed backup */
} kb_retention_backup;

typedef enum kb_retention_verdict {
    KB_RETENTION_NEWEST,  /* stays: the newest */
    KB_RETENTION_BASE,    /* stays: an open or sealed backup builds on it */
    KB_RETENTION_KEPT,    /* stays: within the rules */
    KB_RETENTION_SURPLUS, /* goes: enough newer ones */
    KB_RETENTION_EXPIRED, /* goes: too old */
} kb_retention_verdict;

bool kb_retention_is_victim(kb_retention_verdict verdict);
/* "newest", "base of an open backup", "retention", "surplus", "expired". Static. */
const char *kb_retention_verdict_name(kb_retention_verdict verdict);

/* KB_CONFIG_INVALID when a rule is below 1: "keep none" is never meant. */
kb_code kb_retention_check(const kb_retention_policy *policy, kb_error *err) KB_CHECK;
/*
 * One verdict for each backup, in any order. now_ms by the store's clock. A policy that kb_retention_check
 * would refuse lets nothing go.
 */
void kb_retention_decide(const kb_retention_policy *policy, int64_t now_ms,
                         const kb_retention_backup *backups, size_t count,
                         kb_retention_verdict *ret_verdicts);

#endif

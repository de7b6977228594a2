#include "worker/catalog/retention.h"

#include <inttypes.h>

#define KB_DAY_MS INT64_C(86400000)

bool kb_retention_is_victim(kb_retention_verdict verdict)
{
    return verdict == KB_RETENTION_SURPLUS || verdict == KB_RETENTION_EXPIRED;
}

const char *kb_retention_verdict_name(kb_retention_verdict verdict)
{
    switch (verdict) {
    case KB_RETENTION_NEWEST:
        return "newest";
    case KB_RETENTION_BASE:
        return "base of an open backup";
    case KB_RETENTION_SURPLUS:
        return "surplus";
    case KB_RETENTION_EXPIRED:
        return "expired";
    case KB_RETENTION_KEPT:
    default:
        return "retention";
    }
}

kb_code kb_retention_check(const kb_retention_policy *policy, kb_error *err)
{
    if (policy->has_backups && policy->backups < 1)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "retention.backups is %" PRId64 ", at least 1 is needed; hint: remove it to keep all",
                       policy->backups);
    if (policy->has_max_age_days && policy->max_age_days < 1)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "retention.max_age_days is %" PRId64
                       ", at least 1 is needed; hint: remove it to keep all",
                       policy->max_age_days);
    return KB_OK;
}

static bool is_newer_by_stamp(const kb_retention_backup *a, const kb_retention_backup *b)
{
    return a->stamp_ms > b->stamp_ms;
}

static bool is_newer_in_store(const kb_retention_backup *a, const kb_retention_backup *b)
{
    if (a->completed_ms != b->completed_ms)
        return a->completed_ms > b->completed_ms;
    return is_newer_by_stamp(a, b);
}

/* How many are newer: the smaller of both ways to look at it, so that a doubt keeps. */
static int64_t rank_of(const kb_retention_backup *backups, size_t count, size_t at)
{
    int64_t by_stamp = 0;
    int64_t in_store = 0;
    for (size_t i = 0; i < count; i++) {
        by_stamp += is_newer_by_stamp(&backups[i], &backups[at]) ? 1 : 0;
        in_store += is_newer_in_store(&backups[i], &backups[at]) ? 1 : 0;
    }
    return by_stamp < in_store ? by_stamp : in_store;
}

/* Without overflow, whatever the times are. A time to come is no age. */
static bool is_older(int64_t completed_ms, int64_t now_ms, int64_t days)
{
    if (completed_ms >= now_ms)
        return false;
    uint64_t age_ms = (uint64_t)now_ms - (uint64_t)completed_ms;
    return age_ms / (uint64_t)KB_DAY_MS >= (uint64_t)days;
}

static kb_retention_verdict decide_one(const kb_retention_policy *policy, int64_t now_ms,
                                       const kb_retention_backup *backup, int64_t rank)
{
    if (rank == 0)
        return KB_RETENTION_NEWEST;
    if (backup->is_base)
        return KB_RETENTION_BASE;
    if (policy->has_backups && rank >= policy->backups)
        return KB_RETENTION_SURPLUS;
    if (policy->has_max_age_days && is_older(backup->completed_ms, now_ms, policy->max_age_days))
        return KB_RETENTION_EXPIRED;
    return KB_RETENTION_KEPT;
}

void kb_retention_decide(const kb_retention_policy *policy, int64_t now_ms,
                         const kb_retention_backup *backups, size_t count, kb_retention_verdict *ret_verdicts)
{
    KB_AUTO_ERROR(refused);
    static const kb_retention_policy keep_all = {0};
    if (kb_retention_check(policy, &refused) != KB_OK)
        policy = &keep_all;
    for (size_t i = 0; i < count; i++)
        ret_verdicts[i] = decide_one(policy, now_ms, &backups[i], rank_of(backups, count, i));
}

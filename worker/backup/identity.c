#include "worker/backup/identity.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "worker/catalog/layout.h"

static const char KB_STAMP_MARK[] = "{stamp}";
#define KB_SLOT_RANGE_MS (7LL * 24 * 3600 * 1000)
#define KB_STAMP_TRIES 120

static char *fill_in(const char *template, const char *stamp)
{
    const char *mark = strstr(template, KB_STAMP_MARK);
    return kb_asprintf("%.*s%s%s", (int)(mark - template), template, stamp, mark + sizeof KB_STAMP_MARK - 1);
}

/* The scheduled time in a CronJob's Job name: minutes (8 digits) or seconds (10 digits) since 1970; -1 when
 * there is none. */
static int64_t slot_of_job(const char *job_name, const char *cron_job, int64_t now_ms)
{
    if (job_name == NULL || cron_job == NULL)
        return -1;
    size_t prefix = strlen(cron_job);
    if (strncmp(job_name, cron_job, prefix) != 0 || job_name[prefix] != '-')
        return -1;
    const char *digits = job_name + prefix + 1;
    size_t len = strlen(digits);
    int64_t number;
    if ((len != 8 && len != 10) || strspn(digits, "0123456789") != len || !kb_parse_i64(digits, &number))
        return -1;
    int64_t ms = number * (len == 8 ? 60000 : 1000);
    int64_t distance = ms > now_ms ? ms - now_ms : now_ms - ms;
    return distance <= KB_SLOT_RANGE_MS ? ms : -1;
}

/* The first free start second from now on; a scheduled slot has seconds 00, so a manual start never has. */
static kb_code first_free(const kb_identity_options *options, char **ret_id, kb_error *err)
{
    int64_t second = options->now_ms / 1000;
    for (int tries = 0; tries < KB_STAMP_TRIES; tries++, second++) {
        if (second % 60 == 0)
            second++;
        char stamp[KB_STAMP_SIZE];
        kb_stamp_format(second * 1000, stamp);
        KB_AUTOFREE char *id = fill_in(options->backup_id, stamp);
        bool used = false;
        if (options->is_used != NULL && options->is_used(options->ctx, id, &used, err) != KB_OK)
            return err->code;
        if (!used) {
            *ret_id = KB_TAKE(id);
            return KB_OK;
        }
    }
    return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "no free backup id for '%s' in the next %d seconds",
                             options->backup_id, KB_STAMP_TRIES);
}

static kb_code choose(const kb_identity_options *options, char **ret_id, kb_error *err)
{
    if (strstr(options->backup_id, KB_STAMP_MARK) == NULL) {
        *ret_id = kb_strdup(options->backup_id);
        return KB_OK;
    }
    if (options->stamp != NULL) {
        int64_t ms;
        if (kb_stamp_parse(options->stamp, strlen(options->stamp), &ms, err) != KB_OK)
            return kb_wrap_as(err, KB_CONFIG_INVALID, "KB_STAMP '%s'", options->stamp);
        *ret_id = fill_in(options->backup_id, options->stamp);
        return KB_OK;
    }
    int64_t slot = slot_of_job(options->job_name, options->cron_job, options->now_ms);
    if (slot < 0 && options->find_own != NULL) {
        if (options->find_own(options->ctx, ret_id, err) != KB_OK)
            return err->code;
        if (*ret_id != NULL)
            return KB_OK;
    }
    if (slot < 0)
        return first_free(options, ret_id, err);
    char stamp[KB_STAMP_SIZE];
    kb_stamp_format(slot, stamp);
    *ret_id = fill_in(options->backup_id, stamp);
    return KB_OK;
}

kb_code kb_identity_make(const kb_identity_options *options, char **ret_id, kb_error *err)
{
    KB_AUTOFREE char *id = NULL;
    if (choose(options, &id, err) != KB_OK)
        return err->code;
    if (kb_layout_check_new_id(id, KB_BACKUP_ID_MAX, "backup_id", err) != KB_OK)
        return err->code;
    *ret_id = KB_TAKE(id);
    return KB_OK;
}

int64_t kb_identity_start_delay_ms(const char *owner, const char *lineage, int64_t slot_ms, int64_t jitter_ms,
                                   int64_t now_ms)
{
    if (jitter_ms <= 0)
        return 0;
    KB_AUTOFREE char *name = kb_asprintf("%s %s", owner, lineage);
    uint8_t hash[KB_SHA256_SIZE];
    kb_sha256(name, strlen(name), hash);
    uint64_t number = 0;
    for (size_t i = 0; i < sizeof number; i++)
        number = number << 8 | hash[i];
    int64_t delay_ms = slot_ms + (int64_t)(number % (uint64_t)jitter_ms) - now_ms;
    return delay_ms > 0 && delay_ms <= jitter_ms ? delay_ms : 0;
}

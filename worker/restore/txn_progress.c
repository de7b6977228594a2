#include "worker/restore/txn_progress.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_committed.h"
#include "worker/kafka/kafka_range.h"
#include "worker/restore/txn_delivery.h"

#define KB_READ_DEADLINE_MS 120000
#define KB_SETTLE_LOOK_MS 100

/* ---- the counts ---- */

static const char *topic_name(const kb_preflight *pf, size_t target)
{
    return pf->plan->topics[pf->plan->targets[target].topic].name;
}

static kb_code take_count(kb_preflight *pf, size_t target, const kb_kafka_group_offset *found,
                          const char *group, kb_error *err)
{
    char plan_sha256[2 * KB_SHA256_SIZE + 1];
    kb_hex_encode(pf->plan->sha256, KB_SHA256_SIZE, plan_sha256);
    if (found->error_number == KB_KAFKA_ERROR_UNKNOWN_TOPIC_OR_PARTITION)
        return KB_OK; /* an absent topic has no progress */
    if (found->error_number != 0)
        return kb_kafka_fail(err, found->error_number, NULL,
                             "reading the progress of %s/%" PRId32 " in group '%s'", found->topic,
                             found->partition, group);
    if (found->offset < 0)
        return KB_OK;
    if (found->metadata == NULL || strcmp(found->metadata, plan_sha256) != 0)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "group '%s' holds the progress of another plan for %s/%" PRId32
                       "; hint: use the settings that the restore was begun with, or another "
                       "restore.restore_id",
                       group, found->topic, found->partition);
    pf->committed[target] = found->offset;
    return KB_OK;
}

kb_code kb_txn_progress_read(kb_preflight *pf, const char *restore_id, bool stable, kb_error *err)
{
    size_t count = pf->plan->target_count;
    KB_AUTOFREE kb_kafka_group_offset *found = kb_calloc(count + 1, sizeof *found);
    KB_AUTOFREE char *group = kb_txn_group(restore_id);
    free(pf->committed);
    pf->committed = kb_calloc(count + 1, sizeof *pf->committed);
    for (size_t i = 0; i < count; i++) {
        pf->committed[i] = -1;
        found[i] =
            (kb_kafka_group_offset){.topic = topic_name(pf, i), .partition = pf->plan->targets[i].partition};
    }
    kb_kafka_call call = kb_restore_call(pf->settings->stop);
    kb_code code = kb_kafka_committed(pf->settings->kafka, group, stable, found, count, &call, err);
    for (size_t i = 0; i < count; i++) {
        if (code == KB_OK)
            code = take_count(pf, i, &found[i], group, err);
        free(found[i].metadata);
    }
    return code;
}

/* ---- targets without progress ---- */

static bool note_record(void *ctx, const kb_source_record *record)
{
    int64_t *found = ctx;
    *found = record->offset;
    return false;
}

typedef struct txn_check {
    kb_preflight *pf;
    kb_kafka_reader *reader;
    const kb_kafka_offset_query *stable_ends; /* of the targets that exist, by target */
} txn_check;

/* The first record that is committed and ours or somebody's; -1: none. Aborted ones do not count. */
static kb_code first_record(const txn_check *c, size_t target, int64_t from, int64_t *ret_offset,
                            kb_error *err)
{
    int64_t found = -1;
    kb_kafka_range range = {
        .topic = topic_name(c->pf, target),
        .partition = c->pf->plan->targets[target].partition,
        .from = from,
        .to = c->stable_ends[target].offset,
        .deadline_ms = kb_clock_boot_ms() + KB_READ_DEADLINE_MS,
        .stop = c->pf->settings->stop,
    };
    if (range.from < range.to &&
        kb_kafka_read_range(c->reader, &range, note_record, &found, NULL, err) != KB_OK)
        return kb_wrap(err, "looking whether %s/%" PRId32 " is empty", range.topic, range.partition);
    *ret_offset = found;
    return KB_OK;
}

static void refuse(kb_preflight *pf, size_t target, int64_t offset)
{
    kb_topic_decision *decision = &pf->decisions[pf->plan->targets[target].topic];
    decision->is_prefix = false;
    decision->has_records = true;
    if (pf->settings->config->restore.purge_topics && !pf->past.has_start) {
        decision->purge = true;
        return;
    }
    kb_checks_refuse(pf->checks, KB_TARGET_NOT_EMPTY, "contents",
                     "%s/%" PRId32 " is not empty: it holds a record at offset %" PRId64
                     ", and no progress of this restore is recorded for it%s",
                     topic_name(pf, target), pf->plan->targets[target].partition, offset,
                     pf->past.has_start ? " (its group expired or was deleted)" : "");
}

static kb_code check_target(const txn_check *c, size_t i, kb_error *err)
{
    kb_preflight *pf = c->pf;
    const kb_target_offsets *offsets = &pf->view.targets[i];
    kb_topic_decision *decision = &pf->decisions[pf->plan->targets[i].topic];
    bool append = pf->settings->config->restore.target_policy == KB_CONFIG_TARGET_APPEND;
    if (offsets->log_start < 0)
        return KB_OK;
    const kb_start_target *recorded =
        decision->is_resumed
            ? kb_start_object_find(&pf->past.start, topic_name(pf, i), pf->plan->targets[i].partition)
            : NULL;
    pf->starts[i] = append ? offsets->end : offsets->log_start;
    if (recorded != NULL)
        pf->starts[i] = recorded->start_offset;
    if (pf->committed[i] >= 0) {
        decision->has_records = decision->has_records || pf->committed[i] > 0;
        return KB_OK;
    }
    int64_t from = recorded != NULL && recorded->start_offset > offsets->log_start ? recorded->start_offset
                                                                                   : offsets->log_start;
    int64_t found = -1;
    if (append && recorded == NULL)
        return KB_OK;
    if (first_record(c, i, from, &found, err) != KB_OK)
        return err->code;
    if (found >= 0)
        refuse(pf, i, found);
    return KB_OK;
}

static kb_code read_stable_ends(kb_preflight *pf, kb_kafka_offset_query *by_target, kb_error *err)
{
    size_t count = 0;
    KB_AUTOFREE kb_kafka_offset_query *queries = kb_calloc(pf->plan->target_count + 1, sizeof *queries);
    KB_AUTOFREE size_t *places = kb_calloc(pf->plan->target_count + 1, sizeof *places);
    for (size_t i = 0; i < pf->plan->target_count; i++) {
        if (pf->view.targets[i].log_start < 0)
            continue;
        places[count] = i;
        queries[count++] =
            (kb_kafka_offset_query){.topic = topic_name(pf, i), .partition = pf->plan->targets[i].partition};
    }
    kb_kafka_call call = kb_restore_call(pf->settings->stop);
    if (count > 0 && kb_kafka_admin_list_offsets(pf->admin, KB_KAFKA_OFFSET_LAST_STABLE, queries, count,
                                                 &call, err) != KB_OK)
        return kb_wrap(err, "reading the offsets of the target partitions");
    for (size_t i = 0; i < count; i++) {
        if (queries[i].error_number != 0)
            return kb_kafka_fail(err, queries[i].error_number, NULL, "reading the offsets of %s/%" PRId32,
                                 queries[i].topic, queries[i].partition);
        by_target[places[i]] = queries[i];
    }
    return KB_OK;
}

kb_code kb_txn_progress_check(kb_preflight *pf, const char *restore_id, kb_error *err)
{
    kb_code code = kb_txn_progress_read(pf, restore_id, false, err);
    if (code == KB_CONFIG_INVALID) {
        kb_checks_refuse_error(pf->checks, "contents", err);
        kb_error_done(err);
        return KB_OK;
    }
    if (code != KB_OK)
        return code;
    KB_CLEANUP(kb_kafka_reader_free_at) kb_kafka_reader *reader = NULL;
    kb_kafka_reader_options options = {0};
    KB_AUTOFREE kb_kafka_offset_query *ends = kb_calloc(pf->plan->target_count + 1, sizeof *ends);
    if (read_stable_ends(pf, ends, err) != KB_OK ||
        kb_kafka_reader_new(pf->settings->kafka, &options, &reader, err) != KB_OK)
        return err->code;
    /* The progress of a restore that has ended is gone with its group. */
    bool has_progress = false;
    for (size_t i = 0; i < pf->plan->target_count; i++)
        has_progress = has_progress || pf->committed[i] >= 0;
    pf->is_complete = pf->past.is_done && pf->start_applies && !has_progress;
    if (pf->is_complete)
        return KB_OK;
    txn_check c = {pf, reader, ends};
    for (size_t i = 0; i < pf->plan->target_count; i++) {
        if (check_target(&c, i, err) != KB_OK)
            return err->code;
        pf->is_resumed = pf->is_resumed || pf->committed[i] >= 0;
    }
    return KB_OK;
}

/* The first target whose last record is not visible yet; target_count: none. */
static size_t first_unsettled(const kb_preflight *pf, const kb_target_state *targets,
                              const kb_kafka_offset_query *ends)
{
    size_t i = 0;
    while (i < pf->plan->target_count &&
           (targets[i].last_offset < 0 || ends[i].offset > targets[i].last_offset))
        i++;
    return i;
}

kb_code kb_txn_progress_settle(kb_preflight *pf, const kb_target_state *targets, kb_error *err)
{
    int64_t deadline_ms = kb_clock_boot_ms() + pf->settings->config->limits.no_progress_secs * 1000;
    KB_AUTOFREE kb_kafka_offset_query *ends = kb_calloc(pf->plan->target_count + 1, sizeof *ends);
    if (kb_target_view_refresh(pf->admin, pf->plan, pf->settings->stop, &pf->view, err) != KB_OK)
        return kb_wrap(err, "verifying the restored topics");
    for (;;) {
        if (read_stable_ends(pf, ends, err) != KB_OK)
            return err->code;
        size_t i = first_unsettled(pf, targets, ends);
        if (i == pf->plan->target_count)
            break;
        if (kb_clock_boot_ms() >= deadline_ms)
            return kb_fail_retryable(err, KB_NO_PROGRESS,
                                     "the last transaction on %s/%" PRId32 " is not visible after %" PRId64
                                     " s: readers of committed records see it up to offset %" PRId64
                                     ", written is %" PRId64 "; hint: another producer's open transaction on "
                                     "that topic holds it back",
                                     topic_name(pf, i), pf->plan->targets[i].partition,
                                     pf->settings->config->limits.no_progress_secs, ends[i].offset,
                                     targets[i].last_offset);
        kb_progress_set_waiting(pf->settings->progress,
                                "the last transaction on %s/%" PRId32 " to become visible", topic_name(pf, i),
                                pf->plan->targets[i].partition);
        kb_progress_touch(pf->settings->progress);
        if (kb_stop_wait(pf->settings->stop, KB_SETTLE_LOOK_MS))
            return kb_fail(err, KB_ERR_STOPPED, "stopped while the last transactions become visible");
    }
    kb_progress_set_waiting(pf->settings->progress, NULL);
    return KB_OK;
}

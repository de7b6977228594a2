#include "worker/restore/restore.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/catalog/layout.h"
#include "worker/catalog/object_source.h"
#include "worker/restore/contents.h"
#include "worker/restore/group_step.h"
#include "worker/restore/pipeline.h"
#include "worker/restore/preflight.h"
#include "worker/restore/stability.h"
#include "worker/restore/topics.h"
#include "worker/restore/txn_delivery.h"
#include "worker/restore/txn_progress.h"

#define KB_CONNECT_MS 60000
#define KB_FIRST_START 1

typedef struct restore_run {
    const kb_restore_settings *settings;
    kb_run_metrics *metrics;
    kb_backup *backup;
    uint8_t backup_sha256[KB_SHA256_SIZE];
    kb_kafka_cluster cluster;
    kb_kafka_admin *admin;
    kb_checks checks;
    kb_restore_plan *plan;
    char *restore_id;
    kb_preflight preflight;
    uint32_t attempt;
    kb_fence *fence;
    kb_target_state *targets;
    int64_t *max_message_bytes;
    kb_restore_memory memory;
    kb_txn_delivery *txn;
    kb_start_object start; /* written by this attempt */
    kb_group_step groups;
} restore_run;

static void run_done(restore_run *r)
{
    kb_group_step_done(&r->groups);
    kb_txn_delivery_free(r->txn);
    kb_start_object_done(&r->start);
    kb_fence_free(r->fence);
    for (size_t i = 0; r->targets != NULL && i < r->plan->target_count; i++)
        kb_landed_done(&r->targets[i].landed);
    free(r->targets);
    free(r->max_message_bytes);
    kb_preflight_done(&r->preflight);
    free(r->restore_id);
    kb_restore_plan_free(r->plan);
    kb_checks_done(&r->checks);
    kb_kafka_admin_free(r->admin);
    kb_kafka_cluster_done(&r->cluster);
    kb_backup_free(r->backup);
}

void kb_restore_summary_done(kb_restore_summary *summary)
{
    free(summary->restore_id);
    free(summary->backup_id);
    *summary = (kb_restore_summary){0};
}

/* ---- index and plan ---- */

static kb_code hash_object(kb_storage *storage, const char *key, uint8_t to[KB_SHA256_SIZE], kb_error *err)
{
    KB_CLEANUP(kb_object_source_free_at) kb_object_source *source = NULL;
    if (kb_object_source_open(storage, key, KB_BACKUP_JSON_MAX_BYTES, &source, err) != KB_OK ||
        kb_object_source_drain(source, err) != KB_OK)
        return err->code;
    kb_object_source_sha256(source, to);
    return KB_OK;
}

static kb_code open_backup(restore_run *r, kb_error *err)
{
    const kb_restore_settings *settings = r->settings;
    kb_catalog_state state;
    if (kb_catalog_open(settings->storage, settings->backup_id, &settings->open, &r->backup, &state, err) !=
            KB_OK ||
        KB_FAILPOINT("manifest.read", err) != KB_OK)
        return err->code;
    KB_AUTOFREE char *key = r->backup->foreign ? kb_layout_manifest_key(settings->backup_id)
                                               : kb_layout_backup_json_key(settings->backup_id);
    if (hash_object(settings->storage, key, r->backup_sha256, err) != KB_OK)
        return kb_wrap(err, "hashing '%s'", key);
    return KB_OK;
}

static kb_code connect(restore_run *r, kb_error *err)
{
    const kb_restore_settings *settings = r->settings;
    int64_t limit_ms = settings->config->limits.no_progress_secs * 1000;
    int64_t wait_ms = limit_ms < KB_CONNECT_MS ? limit_ms : KB_CONNECT_MS;
    if (kb_kafka_connect(settings->kafka, kb_clock_boot_ms() + wait_ms, settings->stop, &r->cluster, err) !=
        KB_OK)
        return err->code;
    return kb_kafka_admin_new(settings->kafka, settings->breaker, &r->admin, err);
}

static kb_code make_plan(restore_run *r, kb_error *err)
{
    const kb_restore_settings *settings = r->settings;
    if (kb_restore_plan_make(r->backup, settings->config, r->cluster.cluster_id, &r->checks, &r->plan, err) !=
            KB_OK ||
        kb_restore_id_of(settings->config, r->plan, &r->restore_id, err) != KB_OK)
        return err->code;
    if (settings->on_identified != NULL &&
        settings->on_identified(settings->ctx, r->restore_id, &r->metrics, err) != KB_OK)
        return err->code;
    int64_t records = 0;
    for (size_t u = 0; u < r->plan->unit_count; u++)
        records += kb_restore_unit_records(r->plan, &r->plan->units[u]);
    kb_progress_set_work(settings->progress, records);
    kb_progress_set_totals(settings->progress, (int32_t)r->plan->topic_count, (int32_t)r->plan->target_count);
    kb_log(KB_LOG_INFO, "restore planned", KB_STR("backup", r->backup->backup_id),
           KB_INT("topics", r->plan->topic_count), KB_INT("partitions", r->plan->target_count),
           KB_INT("records", records));
    return KB_OK;
}

static kb_code run_preflight(restore_run *r, kb_error *err)
{
    kb_progress_set_state(r->settings->progress, KB_RUN_PREFLIGHT);
    r->preflight = (kb_preflight){
        .settings = r->settings,
        .plan = r->plan,
        .admin = r->admin,
        .target_cluster_id = r->cluster.cluster_id,
        .backup_sha256 = r->backup_sha256,
        .checks = &r->checks,
    };
    r->groups = (kb_group_step){
        .settings = r->settings,
        .plan = r->plan,
        .admin = r->admin,
        .metrics = r->metrics,
        .restore_id = r->restore_id,
        .cluster_id = r->cluster.cluster_id,
    };
    if (kb_group_step_prepare(&r->groups, err) != KB_OK)
        return err->code;
    if (kb_preflight_run(&r->preflight, r->restore_id, err) != KB_OK ||
        (!r->preflight.is_complete && kb_group_step_check(&r->groups, &r->checks, err) != KB_OK))
        return kb_wrap(err, "preflight");
    return kb_checks_end(&r->checks, r->settings->progress, err);
}

/* ---- this attempt ---- */

static kb_code take_attempt(restore_run *r, kb_error *err)
{
    const kb_preflight *pf = &r->preflight;
    KB_AUTOFREE const char **creating = kb_calloc(r->plan->topic_count + 1, sizeof *creating);
    kb_attempt attempt = {
        .restore_id = r->restore_id,
        .last_attempt = pf->past.last_attempt,
        .holder = r->settings->holder,
        .creating = creating,
    };
    for (size_t t = 0; t < r->plan->topic_count; t++)
        if (pf->decisions[t].create)
            creating[attempt.creating_count++] = r->plan->topics[t].name;
    uint8_t id[KB_ATTEMPT_ID_SIZE];
    if (kb_random_bytes(id, sizeof id, err) != KB_OK)
        return err->code;
    kb_hex_encode(id, sizeof id, attempt.attempt_id);
    if (kb_attempt_take(r->settings->storage, &attempt, &r->attempt, err) != KB_OK)
        return err->code;
    kb_progress_set_flag(r->settings->progress, KB_REPORT_FENCED, r->attempt > 0);
    kb_progress_set_number(r->settings->progress, KB_REPORT_ATTEMPT, r->attempt > 0 ? r->attempt : 1);
    if (r->attempt == 0)
        return KB_OK;
    return kb_fence_start(r->settings->storage, r->restore_id, r->attempt, &r->fence, err);
}

/* A topic that we made begins at 0; one that was found empty, or was just emptied, at its log start. */
static void fix_starts(restore_run *r)
{
    kb_preflight *pf = &r->preflight;
    for (size_t i = 0; i < r->plan->target_count; i++) {
        const kb_topic_decision *decision = &pf->decisions[r->plan->targets[i].topic];
        if (decision->create)
            pf->starts[i] = 0;
        else if (decision->purge || pf->starts[i] < 0)
            pf->starts[i] = pf->view.targets[i].log_start;
    }
}

static kb_code write_start(restore_run *r, kb_error *err)
{
    kb_preflight *pf = &r->preflight;
    if (pf->start_applies)
        return KB_OK;
    const kb_config_restore *config = &r->settings->config->restore;
    r->start = (kb_start_object){
        .n = pf->past.has_start ? pf->past.start.n + 1 : KB_FIRST_START,
        .restore_id = kb_strdup(r->restore_id),
        .backup_id = kb_strdup(r->backup->backup_id),
        .delivery = kb_strdup(config->delivery == KB_CONFIG_TRANSACTIONAL ? "transactional" : "idempotent"),
    };
    kb_start_object *start = &r->start;
    memcpy(start->backup_sha256, r->backup_sha256, KB_SHA256_SIZE);
    memcpy(start->plan_sha256, r->plan->sha256, KB_SHA256_SIZE);
    for (size_t i = 0; i < r->plan->target_count; i++) {
        size_t t = r->plan->targets[i].topic;
        const kb_target_topic *topic = &pf->view.topics[t];
        kb_start_target target = {
            .partition = r->plan->targets[i].partition,
            .start_offset = pf->starts[i],
            .created = pf->decisions[t].is_ours,
        };
        kb_start_object_add(start, r->plan->topics[t].name, topic->has_id ? topic->id : NULL, &target);
    }
    if (r->attempt == 0 && config->checkpoint_state == NULL) {
        kb_log(KB_LOG_WARN, "the store cannot be written and restore.checkpoint_state is not given: a later "
                            "attempt has to guess where this one began");
        return KB_OK;
    }
    return kb_start_object_write(r->settings->storage, start,
                                 r->attempt == 0 ? config->checkpoint_state : NULL, err);
}

static void set_targets(restore_run *r)
{
    const kb_preflight *pf = &r->preflight;
    r->targets = kb_calloc(r->plan->target_count + 1, sizeof *r->targets);
    r->max_message_bytes = kb_calloc(r->plan->topic_count + 1, sizeof *r->max_message_bytes);
    for (size_t i = 0; i < r->plan->target_count; i++) {
        const kb_restore_target *target = &r->plan->targets[i];
        r->targets[i].topic = r->plan->topics[target->topic].name;
        r->targets[i].partition = target->partition;
        r->targets[i].log_append = pf->view.topics[target->topic].log_append;
        r->targets[i].start = pf->starts[i];
    }
    for (size_t t = 0; t < r->plan->topic_count; t++)
        r->max_message_bytes[t] = pf->view.topics[t].max_message_bytes;
}

static bool is_transactional(const restore_run *r)
{
    return r->settings->config->restore.delivery == KB_CONFIG_TRANSACTIONAL;
}

/* Nothing of an earlier attempt can commit after this, so what the group says then is the truth. */
static kb_code take_over_transactions(restore_run *r, kb_error *err)
{
    const kb_config_restore *config = &r->settings->config->restore;
    set_targets(r);
    kb_txn_options options = {
        .kafka = r->settings->kafka,
        .plan = r->plan,
        .targets = r->targets,
        .max_message_bytes = r->max_message_bytes,
        .restore_id = r->restore_id,
        .batch_records = config->produce_batch_size,
        .request_timeout_ms = config->produce_timeout_ms,
        .queue_bytes = r->memory.queue_bytes / (int64_t)r->memory.units,
        .progress = r->settings->progress,
    };
    if (kb_txn_delivery_new(&options, r->memory.units, &r->txn, err) != KB_OK ||
        kb_txn_progress_read(&r->preflight, r->restore_id, true, err) != KB_OK)
        return err->code;
    for (size_t i = 0; i < r->plan->target_count; i++) {
        int64_t committed = r->preflight.committed[i] > 0 ? r->preflight.committed[i] : 0;
        r->targets[i].landed.count = committed;
        r->targets[i].committed = committed;
    }
    return KB_OK;
}

static kb_code prepare_targets(restore_run *r, kb_error *err)
{
    kb_preflight *pf = &r->preflight;
    if (kb_restore_topics_create(pf, err) != KB_OK || kb_restore_topics_purge(pf, err) != KB_OK)
        return err->code;
    fix_starts(r);
    if (write_start(r, err) != KB_OK || KB_FAILPOINT("start.after", err) != KB_OK)
        return err->code;
    if (is_transactional(r))
        return take_over_transactions(r, err);
    if (pf->is_resumed && kb_stability_wait(pf, r->fence, err) != KB_OK)
        return err->code;
    set_targets(r);
    return pf->is_resumed ? kb_contents_read(pf, r->targets, err) : KB_OK;
}

/* ---- the end ---- */

static kb_code verify_target(const restore_run *r, size_t i, kb_error *err)
{
    const kb_target_state *target = &r->targets[i];
    const kb_target_offsets *offsets = &r->preflight.view.targets[i];
    if (offsets->error_number != 0)
        return kb_kafka_fail(err, offsets->error_number, NULL, "verifying the end of %s/%" PRId32,
                             target->topic, target->partition);
    /* Each commit takes an offset: there only the last report can be compared. */
    if (is_transactional(r) ? offsets->end > target->last_offset
                            : offsets->end == target->start + target->next)
        return KB_OK;
    return kb_fail(err, KB_TARGET_DIVERGED,
                   "%s/%" PRId32 " ends at offset %" PRId64 " after %" PRId64
                   " records were restored from offset %" PRId64 " on: it should end at %" PRId64,
                   target->topic, target->partition, offsets->end, target->next, target->start,
                   target->start + target->next);
}

/* Compares the ends of all that is done; *ready says which topics are whole. */
static kb_code verify(restore_run *r, bool *ready, int64_t *records, kb_error *err)
{
    kb_preflight *pf = &r->preflight;
    if (kb_target_view_refresh(r->admin, r->plan, NULL, &pf->view, err) != KB_OK)
        return kb_wrap(err, "verifying the restored topics");
    kb_code code = KB_OK;
    for (size_t t = 0; t < r->plan->topic_count; t++)
        ready[t] = true;
    for (size_t i = 0; i < r->plan->target_count; i++) {
        KB_AUTO_ERROR(difference);
        size_t t = r->plan->targets[i].topic;
        bool whole = r->targets[i].is_done && verify_target(r, i, &difference) == KB_OK;
        ready[t] = ready[t] && whole;
        records[t] += r->targets[i].next;
        if (difference.code != KB_OK && code == KB_OK) {
            code = difference.code;
            kb_error_move(err, &difference);
        }
    }
    return code;
}

/* So that another run of a restore that is complete finds nothing to do. */
static void mark_done(const restore_run *r, int64_t records)
{
    KB_AUTO_ERROR(err);
    const kb_start_object *start = r->preflight.start_applies ? &r->preflight.past.start : &r->start;
    if (r->attempt > 0 && kb_restore_done_write(r->settings->storage, start, records, &err) != KB_OK)
        kb_log(KB_LOG_WARN, "the end of the restore could not be recorded", KB_ERRTEXT(&err));
}

/* The last step: until here every attempt finds what is done in the group. */
static kb_code forget_progress(restore_run *r, kb_error *err)
{
    KB_AUTOFREE char *group = kb_txn_group(r->restore_id);
    kb_kafka_call call = kb_restore_call(NULL);
    kb_txn_delivery_free(KB_TAKE(r->txn));
    if (kb_kafka_admin_delete_group(r->admin, group, &call, err) == KB_OK)
        return KB_OK;
    kb_log(KB_LOG_WARN, "the group of the restore's progress is left behind", KB_STR("group", group),
           KB_ERRTEXT(err));
    kb_error_done(err);
    return KB_OK;
}

static kb_code finish(restore_run *r, kb_code produced, kb_restore_summary *summary, kb_error *err)
{
    kb_progress_set_state(r->settings->progress, KB_RUN_FINISHING);
    KB_AUTOFREE bool *ready = kb_calloc(r->plan->topic_count + 1, sizeof *ready);
    KB_AUTOFREE int64_t *records = kb_calloc(r->plan->topic_count + 1, sizeof *records);
    KB_AUTO_ERROR(own);
    kb_code code = KB_OK;
    if (produced == KB_OK && is_transactional(r))
        code = kb_txn_progress_settle(&r->preflight, r->targets, &own);
    if (code == KB_OK)
        code = verify(r, ready, records, &own);
    if (code == KB_OK || code == KB_TARGET_DIVERGED) {
        KB_AUTO_ERROR(release);
        kb_code released = kb_restore_topics_release(&r->preflight, ready, &release);
        if (code == KB_OK && released != KB_OK) {
            code = released;
            kb_error_move(&own, &release);
        }
    }
    if (code == KB_OK && produced == KB_OK)
        kb_progress_clear_held_topics(r->settings->progress);
    for (size_t t = 0; t < r->plan->topic_count; t++) {
        kb_progress_add_topic(r->settings->progress, r->plan->topics[t].name, records[t]);
        summary->records += records[t];
    }
    if (produced == KB_OK && code != KB_OK)
        kb_error_move(err, &own);
    if (produced != KB_OK || code != KB_OK)
        return produced != KB_OK ? produced : code;
    if (kb_group_step_move(&r->groups, r->preflight.starts, &r->preflight.view, err) != KB_OK)
        return err->code;
    mark_done(r, summary->records);
    return is_transactional(r) ? forget_progress(r, err) : KB_OK;
}

static kb_code produce(restore_run *r, kb_restore_summary *summary, kb_error *err)
{
    kb_progress_set_state(r->settings->progress, KB_RUN_RUNNING);
    kb_restore_work work = {
        .settings = r->settings,
        .metrics = r->metrics,
        .plan = r->plan,
        .targets = r->targets,
        .max_message_bytes = r->max_message_bytes,
        .restore_id = r->restore_id,
        .fence = r->fence,
        .memory = r->memory,
        .txn = r->txn,
    };
    for (size_t i = 0; i < r->plan->target_count; i++)
        summary->resumed += r->targets[i].landed.count;
    kb_code code = kb_restore_pipeline_run(&work, err);
    if (code == KB_FENCED || code == KB_INTERRUPTED)
        return code;
    return finish(r, code, summary, err);
}

static kb_code plan_memory(restore_run *r, kb_error *err)
{
    size_t units = (size_t)r->settings->config->restore.max_concurrent_partitions;
    if (is_transactional(r) && units > KB_TXN_IDS)
        units = KB_TXN_IDS;
    if (r->plan->unit_count > 0 && units > r->plan->unit_count)
        units = r->plan->unit_count;
    return kb_restore_memory_plan(r->settings->memory_bytes, units, &r->memory, err);
}

static void report_complete(const restore_run *r, kb_restore_summary *summary)
{
    summary->records = r->preflight.past.done_records;
    summary->resumed = summary->records;
    kb_progress_add_resumed(r->settings->progress, summary->records);
    kb_progress_add_found(r->settings->progress, summary->records, 0);
    kb_log(KB_LOG_INFO, "all of it was restored before", KB_INT("records", summary->records));
}

static kb_code run(restore_run *r, kb_restore_summary *summary, kb_error *err)
{
    if (open_backup(r, err) != KB_OK || connect(r, err) != KB_OK || make_plan(r, err) != KB_OK)
        return err->code;
    summary->restore_id = kb_strdup(r->restore_id);
    summary->backup_id = kb_strdup(r->backup->backup_id);
    summary->topics = (int64_t)r->plan->topic_count;
    summary->partitions = (int64_t)r->plan->target_count;
    summary->dry_run = r->settings->dry_run;
    if (run_preflight(r, err) != KB_OK || r->settings->dry_run)
        return err->code;
    if (r->preflight.is_complete) {
        report_complete(r, summary);
        return KB_OK;
    }
    if (plan_memory(r, err) != KB_OK || take_attempt(r, err) != KB_OK)
        return err->code;
    r->groups.can_write = r->attempt > 0;
    if (kb_group_step_save(&r->groups, err) != KB_OK || prepare_targets(r, err) != KB_OK)
        return err->code;
    summary->attempt = r->attempt;
    return produce(r, summary, err);
}

kb_code kb_restore_run(const kb_restore_settings *settings, kb_restore_summary *ret_summary, kb_error *err)
{
    KB_CLEANUP(run_done) restore_run r = {.settings = settings};
    KB_CLEANUP(kb_restore_summary_done) kb_restore_summary summary = {0};
    kb_code code = run(&r, &summary, err);
    if (code == KB_ERR_STOPPED)
        return kb_wrap_as(err, KB_INTERRUPTED, "stopped");
    if (code != KB_OK)
        return code;
    *ret_summary = summary;
    summary = (kb_restore_summary){0};
    return KB_OK;
}

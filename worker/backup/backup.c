#include "worker/backup/backup.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/backup/base.h"
#include "worker/backup/groups.h"
#include "worker/backup/lineage_lock.h"
#include "worker/backup/pipeline.h"
#include "worker/backup/plan.h"
#include "worker/backup/resume.h"
#include "worker/backup/seal.h"
#include "worker/catalog/catalog.h"
#include "worker/catalog/reuse.h"

#define KB_CONNECT_DEADLINE_MS 60000

typedef struct backup_run {
    const kb_backup_settings *settings;
    kb_journal *journal;
    kb_breaker *breaker;
    kb_kafka_admin *admin;
    kb_kafka_cluster cluster;
    kb_topic_facts *facts;
    kb_base base;          /* empty without one */
    char *lineage_cluster; /* of the newest backup of the lineage; NULL = unknown */
    bool is_idle;          /* there was nothing new to back up */
} backup_run;

static void backup_run_done(backup_run *run)
{
    free(run->facts);
    free(run->lineage_cluster);
    kb_base_done(&run->base);
    kb_kafka_admin_free(run->admin);
    kb_breaker_free(run->breaker);
    kb_kafka_cluster_done(&run->cluster);
    kb_journal_free(run->journal);
}

static void on_waiting(void *ctx, const kb_holder *holder, const char *since)
{
    backup_run *run = ctx;
    kb_progress_set_state(run->settings->progress, KB_RUN_WAITING_FOR_LOCK);
    kb_progress_set_waiting(run->settings->progress, "the backup is held by %s %s since %s", holder->host,
                            holder->pod_name[0] != '\0' ? holder->pod_name : holder->job_name, since);
    kb_progress_touch(run->settings->progress);
    kb_log_limited(KB_LOG_WARN, "waiting for another attempt that holds the backup",
                   KB_STR("host", holder->host), KB_STR("pod", holder->pod_name), KB_INT("pid", holder->pid),
                   KB_STR("since", since));
}

static kb_code enter_lineage(backup_run *run, kb_error *err)
{
    const kb_backup_settings *settings = run->settings;
    const kb_lineage_lock lock = {
        .settings = settings,
        .require_conditional_put = settings->config->storage.s3.require_conditional_put,
        .lock_wait_ms = settings->config->limits.lock_wait_secs * 1000,
        .on_waiting = on_waiting,
        .on_waiting_ctx = run,
    };
    if (settings->lineage == NULL)
        return KB_OK;
    kb_progress_set_text(settings->progress, KB_REPORT_LINEAGE, settings->lineage);
    if (kb_lineage_enter(&lock, &run->lineage_cluster, err) != KB_OK)
        return err->code;
    kb_progress_set_waiting(settings->progress, NULL);
    kb_progress_set_state(settings->progress, KB_RUN_PREFLIGHT);
    return KB_OK;
}

static kb_code open_journal(backup_run *run, kb_error *err)
{
    const kb_backup_settings *settings = run->settings;
    kb_journal_options options = {
        .storage = settings->storage,
        .backup_id = settings->backup_id,
        .holder = &settings->holder,
        .require_conditional_put = settings->config->storage.s3.require_conditional_put,
        .lock_wait_ms = settings->config->limits.lock_wait_secs * 1000,
        .stop = settings->stop,
        .on_waiting = on_waiting,
        .on_waiting_ctx = run,
    };
    return kb_journal_new(&options, &run->journal, err);
}

static kb_code connect(backup_run *run, kb_error *err)
{
    const kb_backup_settings *settings = run->settings;
    const kb_config_circuit_breaker *breaker = &settings->config->circuit_breaker;
    if (run->admin != NULL)
        return KB_OK;
    int64_t limit_ms = settings->config->limits.no_progress_secs * 1000;
    int64_t wait_ms = limit_ms < KB_CONNECT_DEADLINE_MS ? limit_ms : KB_CONNECT_DEADLINE_MS;
    if (kb_kafka_connect(settings->kafka, kb_clock_boot_ms() + wait_ms, settings->stop, &run->cluster, err) !=
        KB_OK)
        return err->code;
    if (breaker->enabled)
        run->breaker = kb_breaker_new(&(kb_breaker_options){
            .failure_threshold = (unsigned)breaker->failure_threshold,
            .reset_timeout_ms = breaker->reset_timeout_secs * 1000,
            .success_threshold = (unsigned)breaker->success_threshold,
        });
    return kb_kafka_admin_new(settings->kafka, run->breaker, &run->admin, err);
}

/* ---- names that differ only in case ---- */

static int by_name_ignoring_case(const void *a, const void *b)
{
    return strcasecmp(*(const char *const *)a, *(const char *const *)b);
}

/* Two such topics would share a folder on a store that does not tell them apart. */
static kb_code check_case(const backup_run *run, kb_error *err)
{
    const kb_backup *backup = kb_journal_backup(run->journal);
    KB_AUTOFREE const char **names = kb_calloc(backup->topic_count, sizeof *names);
    for (size_t i = 0; i < backup->topic_count; i++)
        names[i] = backup->topics[i].name;
    qsort(names, backup->topic_count, sizeof *names, by_name_ignoring_case);
    for (size_t i = 1; i < backup->topic_count; i++) {
        if (strcasecmp(names[i - 1], names[i]) != 0)
            continue;
        bool sensitive = false;
        if (kb_storage_is_case_sensitive(run->settings->storage, backup->backup_id, &sensitive, err) != KB_OK)
            return err->code;
        if (!sensitive)
            return kb_fail(
                err, KB_CONFIG_INVALID,
                "topics '%s' and '%s' differ only in case, and the storage %s does not tell them apart; "
                "hint: back them up to different storage",
                names[i - 1], names[i], kb_storage_describe(run->settings->storage));
        return KB_OK;
    }
    return KB_OK;
}

/* ---- getting hold of the backup ---- */

/* The lineage's newest backup and this run must be of one cluster, whoever owns it. */
static kb_code check_cluster(const backup_run *run, kb_error *err)
{
    if (run->lineage_cluster == NULL || run->cluster.cluster_id == NULL ||
        strcmp(run->lineage_cluster, run->cluster.cluster_id) == 0)
        return KB_OK;
    return kb_fail(err, KB_FOREIGN_BACKUP,
                   "lineage '%s' is of cluster %s, source.bootstrap_servers lead to cluster %s; hint: use "
                   "another lineage",
                   run->settings->lineage, run->lineage_cluster, run->cluster.cluster_id);
}

static kb_code make_plan(backup_run *run, kb_backup **ret_plan, bool *ret_has_news, kb_error *err)
{
    kb_base_done(&run->base);
    return kb_backup_plan_make(run->settings, run->admin, run->cluster.cluster_id, &run->base, ret_plan,
                               ret_has_news, err);
}

/*
 * The plan is durable and names a base. Prune writes its mark and then looks for plans, we write the plan and
 * then look for the mark: at least one sees the other. Once there is progress, this was done.
 */
static kb_code settle_base(backup_run *run, kb_error *err)
{
    const kb_backup *backup = kb_journal_backup(run->journal);
    while (backup->base != NULL && !kb_journal_has_progress(run->journal)) {
        bool leaving = false;
        if (kb_base_is_leaving(run->settings->storage, backup->base, &leaving, err) != KB_OK)
            return err->code;
        if (!leaving)
            break;
        kb_log(KB_LOG_INFO, "the base is on its way out, planning anew", KB_STR("base", backup->base));
        KB_AUTO_BACKUP kb_backup *plan = NULL;
        bool has_news = false;
        if (make_plan(run, &plan, &has_news, err) != KB_OK ||
            kb_journal_replan(run->journal, KB_TAKE(plan), err) != KB_OK)
            return err->code;
        backup = kb_journal_backup(run->journal);
    }
    if (backup->base == NULL || run->base.backup != NULL)
        return KB_OK;
    return kb_base_open(&run->base, run->settings->storage, backup->base, err);
}

static kb_code begin(backup_run *run, kb_error *err)
{
    KB_AUTO_BACKUP kb_backup *plan = NULL;
    bool has_news = false;
    if (connect(run, err) != KB_OK || check_cluster(run, err) != KB_OK ||
        make_plan(run, &plan, &has_news, err) != KB_OK)
        return err->code;
    if (run->settings->only_news && !has_news) {
        run->is_idle = true;
        return KB_OK;
    }
    if (kb_journal_begin(run->journal, KB_TAKE(plan), err) != KB_OK)
        return err->code;
    return settle_base(run, err);
}

static kb_code take_over(backup_run *run, kb_error *err)
{
    if (kb_backup_plan_check(kb_journal_backup(run->journal), run->settings->config, err) != KB_OK ||
        connect(run, err) != KB_OK)
        return err->code;
    const kb_backup *backup = kb_journal_backup(run->journal);
    if (backup->cluster_id != NULL && run->cluster.cluster_id != NULL &&
        strcmp(backup->cluster_id, run->cluster.cluster_id) != 0)
        return kb_fail(
            err, KB_FOREIGN_BACKUP,
            "the open backup '%s' is of cluster %s, source.bootstrap_servers lead to cluster %s; hint: use "
            "another backup_id",
            backup->backup_id, backup->cluster_id, run->cluster.cluster_id);
    if (kb_journal_take_over(run->journal, err) != KB_OK)
        return err->code;
    kb_log(KB_LOG_INFO, "continuing an open backup", KB_INT("attempt", kb_journal_attempt(run->journal)));
    return settle_base(run, err);
}

/* FRESH and OPEN become owned; SEALED and COMPLETE stay for the caller. Another attempt may be faster: then
 * look again. */
static kb_code get_hold(backup_run *run, bool *ret_resumed, kb_error *err)
{
    for (;;) {
        if (kb_journal_wait(run->journal, err) != KB_OK)
            return err->code;
        kb_progress_set_waiting(run->settings->progress, NULL);
        kb_journal_state state = kb_journal_state_of(run->journal);
        kb_code code = KB_OK;
        if (state == KB_JOURNAL_FRESH)
            code = begin(run, err);
        else if (state == KB_JOURNAL_OPEN)
            code = take_over(run, err);
        if (code == KB_ERR_EXISTS) {
            kb_error_done(err);
            continue;
        }
        *ret_resumed = state == KB_JOURNAL_OPEN;
        return code;
    }
}

/* ---- the run ---- */

static int64_t count_work(const kb_backup *backup, int64_t *ret_done, int32_t *ret_partitions,
                          int32_t *ret_settled)
{
    int64_t total = 0;
    for (size_t t = 0; t < backup->topic_count; t++) {
        for (size_t p = 0; p < backup->topics[t].listed_count; p++) {
            const kb_partition_entry *partition = &backup->topics[t].partitions[p];
            total += partition->cut - partition->from;
            *ret_done += partition->to - partition->from;
            ++*ret_partitions;
            *ret_settled += partition->done ? 1 : 0;
        }
    }
    return total;
}

static void tell_finding(kb_progress *progress, kb_finding finding, const kb_finding_entry *entry)
{
    kb_progress_add_finding(progress, finding, entry->topic, entry->partition, "%s",
                            entry->detail != NULL ? entry->detail : "");
    if (finding == KB_FINDING_DISCONTINUITY)
        kb_progress_add_discontinuity(progress);
}

static void tell_findings(kb_progress *progress, const kb_backup *backup)
{
    for (size_t i = 0; i < backup->skipped_count; i++)
        kb_progress_skip_topic(progress, backup->skipped[i].name);
    for (size_t i = 0; i < backup->finding_count; i++) {
        const kb_finding_entry *entry = &backup->findings[i];
        kb_finding finding;
        if (kb_finding_parse(entry->reason, &finding))
            tell_finding(progress, finding, entry);
    }
}

static kb_code tell_segment(void *ctx, const kb_topic_entry *topic, const kb_partition_entry *partition,
                            const kb_segment_entry *segment, kb_error *err)
{
    (void)topic, (void)partition, (void)err;
    const backup_run *run = ctx;
    kb_progress *progress = run->settings->progress;
    kb_progress_add_found(progress, segment->count, segment->bytes);
    kb_progress_add_raw_bytes(progress, segment->raw_bytes);
    kb_progress_add_segment(progress);
    if (run->settings->metrics != NULL)
        kb_metric_add(run->settings->metrics->segments_reused, 1);
    return KB_OK;
}

static void tell_gap_list(const backup_run *run, const char *topic, const kb_partition_entry *from,
                          size_t first, size_t end)
{
    for (size_t g = first; g < end; g++)
        kb_progress_add_gap(run->settings->progress, topic, from->partition, from->gaps[g].start,
                            from->gaps[g].end);
}

/* Gaps of earlier attempts, and those that come with what is reused. */
static void tell_gaps(const backup_run *run, const kb_topic_entry *topic, const kb_partition_entry *own)
{
    tell_gap_list(run, topic->name, own, 0, own->gap_count);
    if (own->reuse_up_to < 0 || run->base.backup == NULL)
        return;
    const kb_partition_entry *base = kb_backup_find_partition(run->base.backup, topic->name, own->partition);
    if (base == NULL)
        return;
    kb_reuse_range range = kb_reuse_range_of(base, own->log_start, own->reuse_up_to);
    tell_gap_list(run, topic->name, base, range.first_gap, range.end_gap);
}

static void tell_all_gaps(const backup_run *run)
{
    const kb_backup *backup = kb_journal_backup(run->journal);
    for (size_t t = 0; t < backup->topic_count; t++)
        for (size_t p = 0; p < backup->topics[t].listed_count; p++)
            tell_gaps(run, &backup->topics[t], &backup->topics[t].partitions[p]);
}

/* What the base gives counts as done. */
static void tell_reused(backup_run *run)
{
    KB_AUTO_ERROR(err);
    kb_progress_set_text(run->settings->progress, KB_REPORT_BASE, kb_journal_backup(run->journal)->base);
    if (run->base.backup != NULL &&
        kb_reuse_visit(kb_journal_backup(run->journal), run->base.backup, tell_segment, run, &err) != KB_OK)
        kb_log(KB_LOG_WARN, "reused segments could not be counted", KB_ERRTEXT(&err));
}

/* What the journal holds already: of earlier attempts, or adopted. */
static void tell_start(backup_run *run)
{
    const kb_backup *backup = kb_journal_backup(run->journal);
    kb_progress *progress = run->settings->progress;
    int64_t done = 0;
    int32_t partitions = 0, settled = 0;
    int64_t total = count_work(backup, &done, &partitions, &settled);
    kb_progress_set_number(progress, KB_REPORT_ATTEMPT, kb_journal_attempt(run->journal));
    kb_progress_set_flag(progress, KB_REPORT_CONDITIONAL_PUT, backup->conditional_put);
    kb_progress_set_totals(progress, (int32_t)backup->topic_count, partitions);
    kb_progress_set_work(progress, total);
    kb_progress_add_work_found(progress, done);
    for (int32_t i = 0; i < settled; i++)
        kb_progress_partition_done(progress);
    tell_findings(progress, backup);
    kb_backup_totals totals;
    KB_AUTO_ERROR(err);
    if (kb_backup_totals_of(backup, &totals, &err) == KB_OK)
        kb_progress_add_found(progress, totals.records, totals.stored_bytes);
    tell_reused(run);
    tell_all_gaps(run);
    if (run->settings->metrics != NULL) {
        kb_run_metrics_set_snapshot(run->settings->metrics, total, total - done);
        kb_metric_add(run->settings->metrics->topics_skipped, backup->skipped_count);
    }
    kb_progress_set_state(progress, KB_RUN_RUNNING);
    kb_log(KB_LOG_INFO, "backup is running", KB_INT("topics", backup->topic_count),
           KB_INT("partitions", partitions), KB_INT("offsets", total), KB_INT("done", done));
}

/* Ends ownership cleanly, so that the next attempt need not wait; safety does not rest on it. */
static void release(const backup_run *run)
{
    KB_AUTO_ERROR(err);
    if (run->journal == NULL || kb_journal_state_of(run->journal) != KB_JOURNAL_OWNED ||
        kb_journal_is_fenced(run->journal))
        return;
    if (kb_journal_release(run->journal, &err) != KB_OK)
        kb_log(KB_LOG_WARN, "the open backup could not be released; the next attempt may have to wait",
               KB_ERRTEXT(&err));
}

static kb_code read_and_seal(backup_run *run, bool resumed, kb_backup **ret_backup, kb_error *err)
{
    const kb_backup_settings *settings = run->settings;
    if (check_case(run, err) != KB_OK ||
        kb_backup_groups_take(settings, run->journal, run->breaker, err) != KB_OK ||
        (resumed && kb_resume_adopt(settings, run->journal, run->admin, err) != KB_OK))
        return err->code;
    if (kb_backup_plan_facts(kb_journal_backup(run->journal), run->admin, settings->stop, &run->facts, err) !=
        KB_OK)
        return err->code;
    tell_start(run);
    if (kb_pipeline_run(settings, run->journal, run->admin, run->base.backup, run->facts, err) != KB_OK)
        return err->code;
    kb_progress_set_state(settings->progress, KB_RUN_FINISHING);
    return kb_seal_backup(settings->storage, run->journal, run->base.backup, settings->generator, ret_backup,
                          err);
}

/* Somebody else's seal, or our own before a kill: the rest needs no Kafka. */
static kb_code finish_sealed(backup_run *run, kb_backup **ret_backup, kb_error *err)
{
    kb_progress_set_state(run->settings->progress, KB_RUN_FINISHING);
    KB_AUTO_BACKUP kb_backup *backup = kb_journal_take_backup(run->journal);
    if (kb_seal_finish(run->settings->storage, &backup, err) != KB_OK)
        return err->code;
    kb_log(KB_LOG_INFO, "finished a backup that an earlier attempt had sealed");
    *ret_backup = KB_TAKE(backup);
    return KB_OK;
}

/* Complete already, and by our own Job: it ends as it ended. */
static kb_code open_complete(backup_run *run, kb_backup **ret_backup, kb_error *err)
{
    kb_catalog_open_options options = {0};
    kb_catalog_state state;
    kb_log(KB_LOG_INFO, "the backup is complete already, by an earlier attempt of this job");
    return kb_catalog_open(run->settings->storage, run->settings->backup_id, &options, ret_backup, &state,
                           err);
}

kb_code kb_backup_run(const kb_backup_settings *settings, kb_backup **ret_backup, kb_error *err)
{
    KB_CLEANUP(backup_run_done) backup_run run = {.settings = settings};
    bool resumed = false;
    kb_progress_set_state(settings->progress, KB_RUN_PREFLIGHT);
    if (enter_lineage(&run, err) != KB_OK)
        return err->code;
    if (open_journal(&run, err) != KB_OK || get_hold(&run, &resumed, err) != KB_OK) {
        release(&run);
        return err->code;
    }
    *ret_backup = NULL;
    if (run.is_idle)
        return KB_OK;
    kb_journal_state state = kb_journal_state_of(run.journal);
    if (state == KB_JOURNAL_COMPLETE || state == KB_JOURNAL_SEALED) {
        kb_code code = state == KB_JOURNAL_SEALED ? finish_sealed(&run, ret_backup, err)
                                                  : open_complete(&run, ret_backup, err);
        if (code == KB_OK)
            tell_findings(settings->progress, *ret_backup);
        return code;
    }
    if (read_and_seal(&run, resumed, ret_backup, err) != KB_OK) {
        release(&run);
        return err->code;
    }
    return KB_OK;
}

#include "worker/backup/plan_reuse.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/contract/exit_codes.h"
#include "worker/backup/continuity.h"
#include "worker/catalog/reuse.h"

/* A log that is shorter than the base is looked at for so long: its leader may be catching up. */
#define KB_TRUNCATED_WAIT_MS 30000
#define KB_TRUNCATED_LOOK_MS 2000
#define KB_ASK_DEADLINE_MS 60000

typedef struct reuse_item {
    kb_topic_entry *topic;
    kb_partition_entry *partition;
    kb_reuse_facts facts;
    kb_reuse_verdict verdict;
} reuse_item;

typedef struct reuse_run {
    const kb_backup_settings *settings;
    kb_kafka_admin *admin;
    const kb_base *base;
    reuse_item *items;
    size_t count;
} reuse_run;

static void run_done(reuse_run *run)
{
    free(run->items);
}

/* Unreadable configs count as compacted. */
static bool is_compacted(const kb_topic_entry *topic)
{
    const char *policy = kb_topic_config(topic, "cleanup.policy");
    return policy == NULL || strstr(policy, "compact") != NULL;
}

static void add_items(reuse_run *run, kb_topic_entry *topic)
{
    const kb_topic_entry *base_topic = kb_backup_find_topic(run->base->backup, topic->name);
    bool compacted = is_compacted(topic);
    for (size_t p = 0; p < topic->listed_count; p++) {
        kb_partition_entry *partition = &topic->partitions[p];
        const kb_partition_entry *base =
            base_topic != NULL ? kb_topic_find_partition(base_topic, partition->partition) : NULL;
        run->items[run->count++] = (reuse_item){
            .topic = topic,
            .partition = partition,
            .facts = {topic, partition, base_topic, base, compacted, true},
        };
    }
}

static void make_items(reuse_run *run, kb_backup *plan)
{
    size_t count = 0;
    for (size_t t = 0; t < plan->topic_count; t++)
        count += plan->topics[t].listed_count;
    run->items = kb_calloc(count, sizeof *run->items);
    for (size_t t = 0; t < plan->topic_count; t++)
        add_items(run, &plan->topics[t]);
}

/* Only what would be reused is looked up in the listing. */
static void judge(reuse_run *run, reuse_item *item)
{
    item->verdict = kb_reuse_judge(&item->facts);
    if (item->verdict != KB_REUSE_PROBE)
        return;
    item->facts.objects_stand = kb_base_objects_stand(run->base, item->facts.base_topic, item->facts.base,
                                                      item->partition->log_start);
    item->verdict = kb_reuse_judge(&item->facts);
}

/* ---- logs shorter than the base ---- */

static size_t find_truncated(const reuse_run *run, reuse_item **to)
{
    size_t count = 0;
    for (size_t i = 0; i < run->count; i++)
        if (run->items[i].verdict == KB_REUSE_TRUNCATED)
            to[count++] = &run->items[i];
    return count;
}

static kb_code read_ends(reuse_run *run, reuse_item *const *items, size_t count, kb_error *err)
{
    KB_AUTOFREE kb_kafka_offset_query *queries = kb_calloc(count, sizeof *queries);
    for (size_t i = 0; i < count; i++)
        queries[i] = (kb_kafka_offset_query){.topic = items[i]->topic->name,
                                             .partition = items[i]->partition->partition};
    kb_kafka_call call = {.deadline_ms = kb_clock_boot_ms() + KB_ASK_DEADLINE_MS,
                          .stop = run->settings->stop};
    if (kb_kafka_admin_list_offsets(run->admin, KB_KAFKA_OFFSET_LAST_STABLE, queries, count, &call, err) !=
        KB_OK)
        return kb_wrap(err, "reading the ends of logs that are shorter than the base");
    for (size_t i = 0; i < count; i++) {
        kb_partition_entry *partition = items[i]->partition;
        if (queries[i].error_number != 0 || queries[i].offset <= partition->cut)
            continue;
        partition->cut = queries[i].offset;
        if (partition->high_watermark < partition->cut)
            partition->high_watermark = partition->cut;
        judge(run, items[i]);
    }
    return KB_OK;
}

static kb_code wait_for_truncated(reuse_run *run, kb_error *err)
{
    KB_AUTOFREE reuse_item **shorter = kb_calloc(run->count, sizeof(reuse_item *));
    int64_t until_ms = kb_clock_boot_ms() + KB_TRUNCATED_WAIT_MS;
    size_t count;
    while ((count = find_truncated(run, shorter)) > 0 && kb_clock_boot_ms() < until_ms) {
        kb_log_limited(KB_LOG_WARN, "logs are shorter than the base, looking again",
                       KB_INT("partitions", count), KB_STR("topic", shorter[0]->topic->name),
                       KB_INT("partition", shorter[0]->partition->partition),
                       KB_INT("offset", shorter[0]->partition->cut));
        if (kb_stop_wait(run->settings->stop, KB_TRUNCATED_LOOK_MS))
            return kb_fail(err, KB_ERR_STOPPED,
                           "stopped while looking at logs that are shorter than the base");
        kb_progress_touch(run->settings->progress);
        if (read_ends(run, shorter, count, err) != KB_OK)
            return err->code;
    }
    return KB_OK;
}

/* ---- records at the probes ---- */

static kb_code probe(reuse_run *run, kb_error *err)
{
    KB_AUTOFREE kb_continuity_item *asked = kb_calloc(run->count, sizeof *asked);
    KB_AUTOFREE reuse_item **owners = kb_calloc(run->count, sizeof(reuse_item *));
    size_t count = 0;
    for (size_t i = 0; i < run->count; i++) {
        reuse_item *item = &run->items[i];
        if (item->verdict != KB_REUSE_PROBE)
            continue;
        owners[count] = item;
        asked[count++] = (kb_continuity_item){
            .topic = item->topic->name,
            .partition = item->partition->partition,
            .log_start = item->partition->log_start,
            .probes = item->facts.base->probes,
            .probe_count = item->facts.base->probe_count,
        };
    }
    const kb_continuity_options options = {
        .kafka = run->settings->kafka,
        .stop = run->settings->stop,
        .progress = run->settings->progress,
        .no_progress_ms = run->settings->config->limits.no_progress_secs * 1000,
    };
    if (kb_continuity_ask(&options, asked, count, err) != KB_OK)
        return err->code;
    for (size_t i = 0; i < count; i++)
        owners[i]->verdict = kb_reuse_judge_probes(asked[i].answers, asked[i].probe_count);
    return KB_OK;
}

/* ---- the plan ---- */

static void add_discontinuity(kb_backup *plan, const reuse_item *item, int32_t partition, char *owned_detail)
{
    KB_AUTOFREE char *detail = owned_detail;
    kb_backup_add_finding(plan, kb_finding_name(KB_FINDING_DISCONTINUITY), item->topic->name, partition,
                          detail);
    kb_log(KB_LOG_WARN, "the log does not continue the base; it is read in full",
           KB_STR("topic", item->topic->name), KB_INT("partition", partition), KB_STR("reason", detail));
}

static void note_verdict(kb_backup *plan, const char *base_id, const reuse_item *item)
{
    switch (item->verdict) {
    case KB_REUSE_RECREATED:
        if (item->topic->state == KB_TOPIC_RECREATED)
            return;
        item->topic->state = KB_TOPIC_RECREATED;
        add_discontinuity(plan, item, -1,
                          kb_asprintf("the topic was created anew since backup '%s'", base_id));
        return;
    case KB_REUSE_TRUNCATED:
        add_discontinuity(plan, item, item->partition->partition,
                          kb_asprintf("the log was truncated or created anew: it ends at %" PRId64
                                      ", backup '%s' holds it up to %" PRId64,
                                      item->partition->cut, base_id, item->facts.base->to));
        return;
    case KB_REUSE_DIVERGED:
        add_discontinuity(plan, item, item->partition->partition,
                          kb_asprintf("the log diverged: it holds other records than backup '%s'", base_id));
        return;
    case KB_REUSE_MISSING:
    case KB_REUSE_UNPROVEN:
    case KB_REUSE_UNFINISHED:
        kb_log(KB_LOG_WARN, "nothing of the base is reused for a partition; it is read in full",
               KB_STR("topic", item->topic->name), KB_INT("partition", item->partition->partition),
               KB_STR("reason", kb_reuse_verdict_name(item->verdict)));
        return;
    case KB_REUSE_PROBE:
    case KB_REUSE_CONTINUOUS:
    case KB_REUSE_NO_BASE:
    case KB_REUSE_RETENTION_GAP:
    case KB_REUSE_COMPACTED:
    case KB_REUSE_NOT_COMPARED:
    case KB_REUSE_VERDICT_COUNT:
        return;
    }
}

static void decide_all(const reuse_run *run, kb_backup *plan, bool *ret_has_news)
{
    const kb_config_backup *config = &run->settings->config->backup;
    size_t continued = 0;
    *ret_has_news = false;
    for (size_t i = 0; i < run->count; i++) {
        const reuse_item *item = &run->items[i];
        const kb_reuse_rules rules = {
            .segment_max_bytes = config->segment_max_bytes,
            .segment_max_records = config->segment_max_records.is_set ? config->segment_max_records.value : 0,
            .full_start = item->partition->from,
            .keep_late_start = config->start_offset.kind == KB_CONFIG_LATEST,
        };
        kb_reuse_plan decided = kb_reuse_decide(&item->facts, item->verdict, &rules);
        item->partition->from = decided.from;
        item->partition->to = decided.position;
        item->partition->reuse_up_to = decided.reuse_up_to;
        *ret_has_news = *ret_has_news || decided.has_news;
        continued += item->verdict == KB_REUSE_CONTINUOUS ? 1 : 0;
        note_verdict(plan, run->base->backup->backup_id, item);
    }
    kb_log(KB_LOG_INFO, "compared with the base", KB_STR("base", run->base->backup->backup_id),
           KB_INT("partitions", run->count), KB_INT("continued", continued));
}

kb_code kb_plan_reuse(const kb_backup_settings *settings, kb_kafka_admin *admin, kb_base *base,
                      kb_backup *plan, bool *ret_has_news, kb_error *err)
{
    KB_CLEANUP(run_done) reuse_run run = {.settings = settings, .admin = admin, .base = base};
    if (kb_base_list(base, settings->storage, err) != KB_OK)
        return err->code;
    make_items(&run, plan);
    for (size_t i = 0; i < run.count; i++)
        judge(&run, &run.items[i]);
    if (wait_for_truncated(&run, err) != KB_OK || probe(&run, err) != KB_OK)
        return err->code;
    kb_text_set(&plan->base, base->backup->backup_id);
    plan->depth = base->backup->depth + 1;
    decide_all(&run, plan, ret_has_news);
    return KB_OK;
}

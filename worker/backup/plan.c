#include "worker/backup/plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/glob.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/contract/exit_codes.h"
#include "worker/backup/plan_reuse.h"
#include "worker/backup/topic_select.h"

#define KB_PLAN_DEADLINE_MS 120000
/* A topic that was just created may be unknown to the broker that we ask. */
#define KB_UNKNOWN_TOPIC_MS 3000

static const char KB_ISOLATION[] = "read_committed";

static kb_kafka_call make_call(kb_stop *stop)
{
    return (kb_kafka_call){
        .deadline_ms = kb_clock_boot_ms() + KB_PLAN_DEADLINE_MS,
        .unknown_wait_ms = KB_UNKNOWN_TOPIC_MS,
        .stop = stop,
    };
}

/* ---- topics ---- */

static kb_topic_rules rules_of(const kb_worker_config *config)
{
    const kb_config_topics *topics = &config->source.topics;
    const kb_config_backup *backup = &config->backup;
    return (kb_topic_rules){
        .include = (const char *const *)topics->include.items,
        .include_count = topics->include.count,
        .exclude = (const char *const *)topics->exclude.items,
        .exclude_count = topics->exclude.count,
        .include_internal = backup->include_internal_topics,
        .internal = (const char *const *)backup->internal_topics.items,
        .internal_count = backup->internal_topics.count,
        .warn_missing = backup->on_missing_topic == KB_CONFIG_ON_TOPIC_WARN,
        .warn_unauthorized = backup->on_unauthorized_topic == KB_CONFIG_ON_TOPIC_WARN,
    };
}

static bool names_all_topics(const kb_topic_rules *rules)
{
    for (size_t i = 0; i < rules->include_count; i++)
        if (!kb_glob_is_literal(rules->include[i]) || rules->include[i][0] == '~')
            return false;
    return rules->include_count > 0;
}

static kb_topic_seen *seen_of(const kb_kafka_metadata *metadata)
{
    kb_topic_seen *seen = kb_calloc(metadata->topic_count, sizeof *seen);
    for (size_t i = 0; i < metadata->topic_count; i++) {
        const kb_kafka_topic *topic = &metadata->topics[i];
        seen[i] = (kb_topic_seen){
            .name = topic->name,
            .internal = topic->is_internal,
            .unauthorized = topic->error_number == KB_KAFKA_ERROR_TOPIC_AUTHORIZATION_FAILED,
            .missing = topic->error_number == KB_KAFKA_ERROR_UNKNOWN_TOPIC_OR_PARTITION,
        };
        if (topic->error_number != 0 && !seen[i].unauthorized && !seen[i].missing)
            seen[i].error = kb_kafka_error_name(topic->error_number);
    }
    return seen;
}

static void add_topic(kb_backup *plan, const kb_kafka_topic *found)
{
    kb_topic_entry *topic = kb_backup_add_topic(plan, found->name);
    topic->has_topic_id = found->has_id;
    memcpy(topic->topic_id, found->id, sizeof topic->topic_id);
    topic->partition_count = (int32_t)found->partition_count;
    topic->replication_factor = found->replication_factor;
    topic->state = KB_TOPIC_OK;
    topic->max_record_bytes = 0;
    for (size_t i = 0; i < found->partition_count; i++)
        (void)kb_topic_add_partition(topic, found->partitions[i].id);
}

static void add_skipped(kb_backup *plan, const kb_topic_selection *selection)
{
    for (size_t i = 0; i < selection->skipped_count; i++) {
        const kb_topic_skip *skip = &selection->skipped[i];
        kb_backup_add_skipped(plan, skip->name, skip->reason);
        kb_backup_add_finding(plan, kb_finding_name(KB_FINDING_TOPICS_SKIPPED), skip->name, -1, skip->reason);
        kb_log(KB_LOG_WARN, "topic is left out", KB_STR("topic", skip->name), KB_STR("reason", skip->reason));
    }
}

static kb_code choose_topics(const kb_backup_settings *settings, kb_kafka_admin *admin, kb_backup *plan,
                             kb_error *err)
{
    kb_topic_rules rules = rules_of(settings->config);
    bool named = names_all_topics(&rules);
    kb_kafka_call call = make_call(settings->stop);
    KB_CLEANUP(kb_kafka_metadata_done) kb_kafka_metadata metadata = {0};
    if (kb_kafka_admin_metadata(admin, named ? rules.include : NULL, named ? rules.include_count : 0, &call,
                                &metadata, err) != KB_OK)
        return kb_wrap(err, "reading the metadata of the topics");
    KB_AUTOFREE kb_topic_seen *seen = seen_of(&metadata);
    KB_CLEANUP(kb_topic_selection_done) kb_topic_selection selection = {0};
    if (kb_topic_select(&rules, seen, metadata.topic_count, &selection, err) != KB_OK)
        return err->code;
    for (size_t i = 0; i < selection.chosen_count; i++)
        add_topic(plan, &metadata.topics[selection.chosen[i]]);
    add_skipped(plan, &selection);
    return KB_OK;
}

/* ---- configs ---- */

static kb_code describe(const kb_backup *plan, kb_kafka_admin *admin, kb_stop *stop,
                        kb_kafka_configs **ret_array, kb_error *err)
{
    KB_AUTOFREE const char **names = kb_calloc(plan->topic_count, sizeof *names);
    for (size_t i = 0; i < plan->topic_count; i++)
        names[i] = plan->topics[i].name;
    kb_kafka_call call = make_call(stop);
    if (kb_kafka_admin_describe_topic_configs(admin, names, plan->topic_count, &call, ret_array, err) !=
        KB_OK)
        return kb_wrap(err, "reading the configs of the topics");
    return KB_OK;
}

static void keep_configs(kb_topic_entry *topic, const kb_kafka_configs *configs)
{
    for (size_t i = 0; i < configs->count; i++) {
        const kb_kafka_config *config = &configs->items[i];
        bool always = strcmp(config->name, "cleanup.policy") == 0;
        if (config->value != NULL && (always || config->source == KB_KAFKA_CONFIG_TOPIC))
            kb_topic_set_config(topic, config->name, config->value);
    }
    const kb_kafka_config *type = kb_kafka_configs_find(configs, "message.timestamp.type");
    if (type != NULL)
        kb_text_set(&topic->timestamp_type, type->value);
}

static kb_code read_configs(kb_backup *plan, kb_kafka_admin *admin, kb_stop *stop, kb_error *err)
{
    kb_kafka_configs *configs = NULL;
    if (describe(plan, admin, stop, &configs, err) != KB_OK)
        return err->code;
    for (size_t i = 0; i < plan->topic_count; i++) {
        if (configs[i].error_number != 0)
            kb_log(KB_LOG_WARN, "topic configs cannot be read; they will not be in the backup",
                   KB_STR("topic", plan->topics[i].name), KB_STR("err", configs[i].error_text));
        keep_configs(&plan->topics[i], &configs[i]);
    }
    kb_kafka_configs_free(configs, plan->topic_count);
    return KB_OK;
}

static kb_topic_facts facts_of(const kb_kafka_configs *configs)
{
    kb_topic_facts facts = {.compacted = true, .delete_retention_ms = -1};
    const kb_kafka_config *policy = kb_kafka_configs_find(configs, "cleanup.policy");
    if (policy != NULL && policy->value != NULL)
        facts.compacted = strstr(policy->value, "compact") != NULL;
    const kb_kafka_config *retention = kb_kafka_configs_find(configs, "delete.retention.ms");
    if (retention != NULL && retention->value != NULL &&
        !kb_parse_i64(retention->value, &facts.delete_retention_ms))
        facts.delete_retention_ms = -1;
    return facts;
}

kb_code kb_backup_plan_facts(const kb_backup *plan, kb_kafka_admin *admin, kb_stop *stop,
                             kb_topic_facts **ret_facts, kb_error *err)
{
    kb_kafka_configs *configs = NULL;
    if (describe(plan, admin, stop, &configs, err) != KB_OK)
        return err->code;
    kb_topic_facts *facts = kb_calloc(plan->topic_count, sizeof *facts);
    for (size_t i = 0; i < plan->topic_count; i++)
        facts[i] = facts_of(&configs[i]);
    kb_kafka_configs_free(configs, plan->topic_count);
    *ret_facts = facts;
    return KB_OK;
}

/* ---- the cut ---- */

static size_t count_partitions(const kb_backup *plan)
{
    size_t count = 0;
    for (size_t t = 0; t < plan->topic_count; t++)
        count += plan->topics[t].listed_count;
    return count;
}

typedef struct offset_table {
    kb_kafka_offset_query *start, *end, *stable; /* in the order of the plan's partitions */
    size_t count;
} offset_table;

static void offset_table_done(offset_table *table)
{
    free(table->start);
    free(table->end);
    free(table->stable);
}

static kb_kafka_offset_query *make_queries(const kb_backup *plan, size_t count)
{
    kb_kafka_offset_query *queries = kb_calloc(count, sizeof *queries);
    size_t n = 0;
    for (size_t t = 0; t < plan->topic_count; t++)
        for (size_t i = 0; i < plan->topics[t].listed_count; i++)
            queries[n++] = (kb_kafka_offset_query){
                .topic = plan->topics[t].name,
                .partition = plan->topics[t].partitions[i].partition,
            };
    return queries;
}

static kb_code ask(kb_kafka_admin *admin, kb_kafka_offset_kind kind, kb_kafka_offset_query *queries,
                   size_t count, kb_stop *stop, kb_error *err)
{
    kb_kafka_call call = make_call(stop);
    if (kb_kafka_admin_list_offsets(admin, kind, queries, count, &call, err) != KB_OK)
        return kb_wrap(err, "reading the offsets of the partitions");
    for (size_t i = 0; i < count; i++)
        if (queries[i].error_number != 0)
            return kb_kafka_fail(err, queries[i].error_number, NULL, "reading the offsets of %s/%" PRId32,
                                 queries[i].topic, queries[i].partition);
    return KB_OK;
}

/* Log start first and last stable offset last: a record that is deleted or written in between hurts nobody.
 */
static kb_code read_offsets(kb_backup *plan, kb_kafka_admin *admin, kb_stop *stop, offset_table *table,
                            kb_error *err)
{
    table->count = count_partitions(plan);
    table->start = make_queries(plan, table->count);
    table->end = make_queries(plan, table->count);
    table->stable = make_queries(plan, table->count);
    if (ask(admin, KB_KAFKA_OFFSET_EARLIEST, table->start, table->count, stop, err) != KB_OK ||
        ask(admin, KB_KAFKA_OFFSET_LATEST, table->end, table->count, stop, err) != KB_OK)
        return err->code;
    plan->cut_time = kb_clock_wall_ms();
    return ask(admin, KB_KAFKA_OFFSET_LAST_STABLE, table->stable, table->count, stop, err);
}

/* Where a full reading starts; partitions that a specific start does not name start at the earliest. Only the
 * first backup of a lineage starts at the latest: later ones would be empty. */
static int64_t start_offset(const kb_config_start_offset *start, bool is_first, const char *topic,
                            const kb_partition_entry *partition)
{
    if (start->kind == KB_CONFIG_LATEST && is_first)
        return partition->cut;
    int64_t from = partition->log_start;
    for (size_t i = 0; start->kind == KB_CONFIG_SPECIFIC && i < start->count; i++)
        if (strcmp(start->entries[i].topic, topic) == 0 &&
            start->entries[i].partition == partition->partition)
            from = start->entries[i].offset;
    return from < partition->cut ? from : partition->cut;
}

static kb_code set_cut(const kb_backup_settings *settings, kb_kafka_admin *admin, bool is_first,
                       kb_backup *plan, kb_error *err)
{
    KB_CLEANUP(offset_table_done) offset_table table = {0};
    if (read_offsets(plan, admin, settings->stop, &table, err) != KB_OK)
        return err->code;
    int64_t lag = 0;
    size_t n = 0;
    for (size_t t = 0; t < plan->topic_count; t++) {
        for (size_t i = 0; i < plan->topics[t].listed_count; i++, n++) {
            kb_partition_entry *partition = &plan->topics[t].partitions[i];
            partition->log_start = table.start[n].offset;
            partition->cut = table.stable[n].offset;
            /* Records may have come between the two questions: the end is never below the stable end. */
            partition->high_watermark =
                table.end[n].offset > partition->cut ? table.end[n].offset : partition->cut;
            lag += partition->high_watermark - partition->cut;
            partition->from = start_offset(&settings->config->backup.start_offset, is_first,
                                           plan->topics[t].name, partition);
            partition->to = partition->from;
        }
    }
    kb_progress_set_number(settings->progress, KB_REPORT_LSO_LAG, lag);
    if (settings->metrics != NULL)
        kb_metric_set(settings->metrics->lso_lag, (double)lag);
    if (lag > 0)
        kb_log(KB_LOG_INFO, "transactions are open: what they hold is not in this backup",
               KB_INT("lso_lag", lag));
    return KB_OK;
}

/* ---- the whole ---- */

static const char *codec_name(const kb_worker_config *config)
{
    switch ((kb_config_compression)config->backup.compression) {
    case KB_CONFIG_COMPRESSION_NONE:
        return "none";
    case KB_CONFIG_COMPRESSION_ZSTD:
        return "zstd";
    case KB_CONFIG_COMPRESSION_LZ4:
        return "lz4";
    }
    return "zstd";
}

/* The header x-source-cluster is part of the own block and so only written with it. */
static const char *source_header(const kb_worker_config *config)
{
    return config->backup.include_offset_headers ? config->backup.source_cluster_id : NULL;
}

static kb_backup *plan_head(const kb_backup_settings *settings, const char *cluster_id)
{
    kb_backup *plan = kb_backup_new(settings->backup_id);
    plan->created_at = kb_clock_wall_ms();
    kb_text_set(&plan->lineage, settings->lineage);
    kb_text_set(&plan->owner, settings->owner);
    kb_text_set(&plan->cluster_id, cluster_id);
    kb_text_set(&plan->compression, codec_name(settings->config));
    kb_text_set(&plan->content.isolation, KB_ISOLATION);
    kb_text_set(&plan->content.source_cluster_header, source_header(settings->config));
    plan->content.offset_headers = settings->config->backup.include_offset_headers;
    plan->level = (int32_t)settings->config->backup.compression_level;
    return plan;
}

/* The partition's log must have grown, or anything else be there that the base does not have. */
static bool has_records(const kb_backup *plan)
{
    for (size_t t = 0; t < plan->topic_count; t++)
        for (size_t p = 0; p < plan->topics[t].listed_count; p++)
            if (plan->topics[t].partitions[p].cut > plan->topics[t].partitions[p].from)
                return true;
    return false;
}

static kb_code use_base(const kb_backup_settings *settings, kb_kafka_admin *admin, kb_base *base,
                        kb_backup *plan, bool *ret_has_news, kb_error *err)
{
    if (base->backup == NULL) {
        *ret_has_news = has_records(plan);
        return KB_OK;
    }
    return kb_plan_reuse(settings, admin, base, plan, ret_has_news, err);
}

static kb_code choose_base(const kb_backup_settings *settings, const kb_backup *plan, kb_base *base,
                           bool *ret_is_first, kb_error *err)
{
    *ret_is_first = true;
    if (settings->lineage == NULL)
        return KB_OK;
    bool has_complete = false;
    if (kb_base_select(base, settings->storage, settings->lineage, &plan->content, &has_complete, err) !=
        KB_OK)
        return err->code;
    *ret_is_first = !has_complete;
    if (settings->full)
        kb_base_done(base);
    return KB_OK;
}

kb_code kb_backup_plan_make(const kb_backup_settings *settings, kb_kafka_admin *admin, const char *cluster_id,
                            kb_base *base, kb_backup **ret_plan, bool *ret_has_news, kb_error *err)
{
    KB_AUTO_BACKUP kb_backup *plan = plan_head(settings, cluster_id);
    bool is_first = true;
    if (choose_topics(settings, admin, plan, err) != KB_OK ||
        choose_base(settings, plan, base, &is_first, err) != KB_OK)
        return err->code;
    if (plan->topic_count > 0 && (read_configs(plan, admin, settings->stop, err) != KB_OK ||
                                  set_cut(settings, admin, is_first, plan, err) != KB_OK))
        return err->code;
    if (use_base(settings, admin, base, plan, ret_has_news, err) != KB_OK)
        return err->code;
    *ret_plan = KB_TAKE(plan);
    return KB_OK;
}

static bool is_same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static const char *shown(const char *text)
{
    return text != NULL ? text : "none";
}

kb_code kb_backup_plan_check(const kb_backup *plan, const kb_worker_config *config, kb_error *err)
{
    static const char hint[] = "hint: use the settings that the backup was begun with, or another backup_id";
    if (!is_same_text(plan->compression, codec_name(config)))
        return kb_fail(err, KB_CONFIG_INVALID,
                       "backup.compression: the open backup '%s' was begun with %s, not %s; %s",
                       plan->backup_id, plan->compression, codec_name(config), hint);
    if (plan->content.offset_headers != config->backup.include_offset_headers)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "backup.include_offset_headers: the open backup '%s' was begun with another value; %s",
                       plan->backup_id, hint);
    if (!is_same_text(plan->content.source_cluster_header, source_header(config)))
        return kb_fail(err, KB_CONFIG_INVALID,
                       "backup.source_cluster_id: the open backup '%s' was begun with %s; %s",
                       plan->backup_id, shown(plan->content.source_cluster_header), hint);
    kb_topic_rules rules = rules_of(config);
    for (size_t i = 0; i < plan->topic_count; i++)
        if (!kb_topic_is_named(&rules, plan->topics[i].name))
            return kb_fail(err, KB_CONFIG_INVALID,
                           "source.topics: the open backup '%s' holds topic '%s', which is not selected; %s",
                           plan->backup_id, plan->topics[i].name, hint);
    return KB_OK;
}

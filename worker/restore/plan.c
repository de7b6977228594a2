#include "worker/restore/plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/contract/names.h"
#include "common/data/json_write.h"
#include "worker/catalog/layout.h"
#include "worker/restore/topic_pattern.h"

#define KB_PLAN_TEXT_MAX ((size_t)256 << 20)
#define KB_ID_HASH_DIGITS 8
#define KB_UID_DIGITS 8

/* ---- which topics ---- */

static bool has_literal(const kb_backup *backup, const kb_topic_pattern *pattern)
{
    return kb_backup_find_topic(backup, kb_topic_pattern_text(pattern)) != NULL;
}

static void check_includes(const kb_backup *backup, const kb_topic_patterns *include, kb_checks *checks)
{
    for (size_t i = 0; i < include->count; i++)
        if (kb_topic_pattern_is_literal(include->items[i]) && !has_literal(backup, include->items[i]))
            kb_checks_refuse(checks, KB_TOPIC_NOT_FOUND, "selection", "Topic '%s' not found in backup '%s'",
                             kb_topic_pattern_text(include->items[i]), backup->backup_id);
}

static kb_code select_topics(const kb_backup *backup, const kb_config_topics *rules, bool *ret_chosen,
                             kb_checks *checks, kb_error *err)
{
    KB_CLEANUP(kb_topic_patterns_done) kb_topic_patterns include = {0};
    KB_CLEANUP(kb_topic_patterns_done) kb_topic_patterns exclude = {0};
    if (kb_topic_patterns_init(&include, rules->include.items, rules->include.count, err) != KB_OK ||
        kb_topic_patterns_init(&exclude, rules->exclude.items, rules->exclude.count, err) != KB_OK)
        return kb_wrap(err, "target.topics");
    check_includes(backup, &include, checks);
    size_t count = 0;
    for (size_t i = 0; i < backup->topic_count; i++) {
        const char *name = backup->topics[i].name;
        ret_chosen[i] = (include.count == 0 || kb_topic_patterns_match(&include, name)) &&
                        !kb_topic_patterns_match(&exclude, name);
        count += ret_chosen[i] ? 1 : 0;
    }
    if (count == 0 && checks->refused == 0)
        kb_checks_refuse(checks, KB_CONFIG_INVALID, "selection",
                         "target.topics selects none of the %zu topics of backup '%s'", backup->topic_count,
                         backup->backup_id);
    return KB_OK;
}

/* ---- targets ---- */

static const char *target_name(const kb_config_restore *config, const char *source)
{
    const char *mapped = kb_string_map_get(&config->topic_mapping, source);
    return mapped != NULL ? mapped : source;
}

static int32_t target_partition(const kb_config_restore *config, int32_t source)
{
    for (size_t i = 0; i < config->partition_mapping.count; i++)
        if (config->partition_mapping.keys[i] == source)
            return (int32_t)config->partition_mapping.values[i];
    return source;
}

static bool is_selected(const kb_config_restore *config, int32_t partition)
{
    for (size_t i = 0; i < config->source_partitions.count; i++)
        if (config->source_partitions.items[i] == partition)
            return true;
    return config->source_partitions.count == 0;
}

static const kb_config_repartition_entry *repartition_of(const kb_config_restore *config, const char *topic)
{
    for (size_t i = 0; i < config->repartitioning.count; i++)
        if (strcmp(config->repartitioning.items[i].target_topic, topic) == 0)
            return &config->repartitioning.items[i];
    return NULL;
}

static kb_restore_topic *add_target_topic(kb_restore_plan *plan, const kb_config_restore *config,
                                          const char *name, kb_map *by_name)
{
    size_t *known = kb_map_gets(by_name, name);
    if (known != NULL)
        return &plan->topics[*known];
    size_t *index = kb_malloc(sizeof *index);
    *index = plan->topic_count;
    kb_map_puts(by_name, name, index);
    plan->topics = kb_grow(plan->topics, plan->topic_count, &plan->topic_capacity, sizeof *plan->topics);
    kb_restore_topic *topic = &plan->topics[plan->topic_count++];
    *topic = (kb_restore_topic){.name = kb_strdup(name), .replication_factor = -1, .route = KB_ROUTE_FIXED};
    const kb_config_repartition_entry *entry = repartition_of(config, name);
    if (entry != NULL) {
        topic->route = entry->strategy == KB_CONFIG_MURMUR2 ? KB_ROUTE_MURMUR2 : KB_ROUTE_AUTOMATIC;
        topic->partition_count = (int32_t)entry->target_partitions;
    }
    return topic;
}

/* Partitions that a restored topic has for this source: what it had, and room for every mapped one. */
static int32_t partitions_needed(const kb_config_restore *config, const kb_topic_entry *source)
{
    int32_t count = source->partition_count > 0 ? source->partition_count : 0;
    for (size_t i = 0; i < source->listed_count; i++) {
        int32_t partition = source->partitions[i].partition;
        int32_t target = target_partition(config, partition);
        if (is_selected(config, partition) && target >= count)
            count = target + 1;
        if (source->partition_count <= 0 && partition >= count)
            count = partition + 1;
    }
    return count > 0 ? count : 1;
}

static void add_source_topic(kb_restore_topic *topic, const kb_config_restore *config,
                             const kb_topic_entry *source)
{
    topic->sources =
        kb_grow(topic->sources, topic->source_count, &topic->source_capacity, sizeof(const kb_topic_entry *));
    topic->sources[topic->source_count++] = source;
    if (topic->route == KB_ROUTE_FIXED) {
        int32_t needed = partitions_needed(config, source);
        topic->partition_count = needed > topic->partition_count ? needed : topic->partition_count;
    }
    if (source->replication_factor > topic->replication_factor)
        topic->replication_factor = source->replication_factor;
    bool known = source->max_record_bytes >= 0 && (topic->max_record_bytes >= 0 || topic->source_count == 1);
    if (!known)
        topic->max_record_bytes = -1;
    else if (source->max_record_bytes > topic->max_record_bytes)
        topic->max_record_bytes = source->max_record_bytes;
}

static int compare_topics(const void *a, const void *b)
{
    return strcmp(((const kb_restore_topic *)a)->name, ((const kb_restore_topic *)b)->name);
}

static void add_topics(kb_restore_plan *plan, const kb_config_restore *config, const bool *chosen,
                       kb_checks *checks)
{
    KB_CLEANUP(kb_map_free_at) kb_map *by_name = kb_map_new(free);
    for (size_t i = 0; i < plan->backup->topic_count; i++) {
        if (!chosen[i])
            continue;
        const kb_topic_entry *source = &plan->backup->topics[i];
        const char *name = target_name(config, source->name);
        if (!kb_layout_is_topic_name(kb_view_of(name, strlen(name)))) {
            kb_checks_refuse(checks, KB_CONFIG_INVALID, "selection",
                             "topic '%s' cannot be restored as '%s': not a legal topic name", source->name,
                             name);
            continue;
        }
        add_source_topic(add_target_topic(plan, config, name, by_name), config, source);
    }
    if (plan->topic_count > 0)
        qsort(plan->topics, plan->topic_count, sizeof *plan->topics, compare_topics);
}

static void add_targets(kb_restore_plan *plan)
{
    size_t count = 0;
    for (size_t t = 0; t < plan->topic_count; t++)
        count += (size_t)plan->topics[t].partition_count;
    plan->targets = kb_calloc(count > 0 ? count : 1, sizeof *plan->targets);
    for (size_t t = 0; t < plan->topic_count; t++) {
        plan->topics[t].first_target = plan->target_count;
        for (int32_t p = 0; p < plan->topics[t].partition_count; p++)
            plan->targets[plan->target_count++] = (kb_restore_target){t, p};
    }
}

/* ---- configs of created topics ---- */

static void set_config(kb_restore_topic *topic, const char *name, const char *value)
{
    size_t at = 0;
    while (at < topic->config_count && strcmp(topic->configs[at].name, name) < 0)
        at++;
    if (at < topic->config_count && strcmp(topic->configs[at].name, name) == 0) {
        kb_text_set(&topic->configs[at].value, value);
        return;
    }
    topic->configs =
        kb_grow(topic->configs, topic->config_count, &topic->config_capacity, sizeof *topic->configs);
    memmove(&topic->configs[at + 1], &topic->configs[at],
            (topic->config_count - at) * sizeof *topic->configs);
    topic->configs[at] = (kb_config_pair){kb_strdup(name), kb_strdup(value)};
    topic->config_count++;
}

/* Numbers of brokers of the source cluster mean nothing on another one. */
static bool is_bound_to_cluster(const char *config)
{
    return strcmp(config, "leader.replication.throttled.replicas") == 0 ||
           strcmp(config, "follower.replication.throttled.replicas") == 0;
}

static void add_configs(kb_restore_topic *topic, const kb_config_restore *config)
{
    for (size_t s = 0; config->restore_configs && s < topic->source_count; s++)
        for (size_t i = 0; i < topic->sources[s]->config_count; i++) {
            const kb_config_pair *pair = &topic->sources[s]->configs[i];
            if (pair->value != NULL && !is_bound_to_cluster(pair->name))
                set_config(topic, pair->name, pair->value);
        }
    for (size_t i = 0; i < config->config_overrides.count; i++)
        set_config(topic, config->config_overrides.keys[i], config->config_overrides.values[i]);
    if (config->default_replication_factor.is_set)
        topic->replication_factor = (int32_t)config->default_replication_factor.value;
}

/* ---- sources ---- */

static void judge_segments(const kb_restore_plan *plan, kb_restore_source *source)
{
    const kb_partition_entry *partition = source->partition;
    source->verdicts = kb_calloc(partition->segment_count > 0 ? partition->segment_count : 1, 1);
    bool has_any = false;
    for (size_t i = 0; i < partition->segment_count; i++) {
        const kb_segment_entry *segment = &partition->segments[i];
        /* Only we write true bounds; others store those of the first and the last record. */
        kb_window_verdict verdict = kb_window_is_open(&plan->window) ? KB_WINDOW_ALL : KB_WINDOW_SOME;
        if (!plan->backup->foreign)
            verdict = kb_window_judge(&plan->window, segment->min_ts, segment->max_ts);
        else if (plan->backup->has_overlap)
            verdict = KB_WINDOW_SOME; /* some of its records may have been delivered before */
        source->verdicts[i] = (uint8_t)verdict;
        if (verdict == KB_WINDOW_NONE)
            continue;
        if (!has_any)
            source->first_segment = i;
        has_any = true;
        source->last_segment = i;
        if (verdict == KB_WINDOW_ALL)
            source->sure_records += segment->count;
        else
            source->maybe_records += segment->count;
    }
}

static void add_sources(kb_restore_plan *plan, const kb_config_restore *config)
{
    for (size_t t = 0; t < plan->topic_count; t++) {
        const kb_restore_topic *topic = &plan->topics[t];
        for (size_t s = 0; s < topic->source_count; s++) {
            const kb_topic_entry *from = topic->sources[s];
            for (size_t i = 0; i < from->listed_count; i++) {
                int32_t partition = from->partitions[i].partition;
                if (!is_selected(config, partition))
                    continue;
                plan->sources =
                    kb_grow(plan->sources, plan->source_count, &plan->source_capacity, sizeof *plan->sources);
                kb_restore_source *source = &plan->sources[plan->source_count++];
                *source = (kb_restore_source){
                    .topic = from,
                    .partition = &from->partitions[i],
                    .target_topic = t,
                    .target_partition =
                        topic->route == KB_ROUTE_FIXED ? target_partition(config, partition) : -1,
                };
                judge_segments(plan, source);
            }
        }
    }
}

/* ---- units ---- */

static kb_restore_unit *add_unit(kb_restore_plan *plan, size_t topic, size_t first_target,
                                 size_t target_count)
{
    plan->units = kb_grow(plan->units, plan->unit_count, &plan->unit_capacity, sizeof *plan->units);
    kb_restore_unit *unit = &plan->units[plan->unit_count++];
    *unit = (kb_restore_unit){
        .topic = topic,
        .route = plan->topics[topic].route,
        .first_target = first_target,
        .target_count = target_count,
    };
    return unit;
}

static void feed(kb_restore_unit *unit, size_t source)
{
    unit->sources = kb_grow(unit->sources, unit->source_count, &unit->source_capacity, sizeof *unit->sources);
    unit->sources[unit->source_count++] = source;
}

/* Sources are in the order of target topic, source topic and partition, so units get theirs in order. */
static void add_units(kb_restore_plan *plan)
{
    size_t source = 0;
    for (size_t t = 0; t < plan->topic_count; t++) {
        const kb_restore_topic *topic = &plan->topics[t];
        size_t count = (size_t)topic->partition_count;
        size_t first_unit = plan->unit_count;
        if (topic->route != KB_ROUTE_FIXED)
            (void)add_unit(plan, t, topic->first_target, count);
        for (size_t p = 0; topic->route == KB_ROUTE_FIXED && p < count; p++)
            (void)add_unit(plan, t, topic->first_target + p, 1);
        for (; source < plan->source_count && plan->sources[source].target_topic == t; source++) {
            int32_t partition = plan->sources[source].target_partition;
            feed(&plan->units[first_unit + (partition >= 0 ? (size_t)partition : 0)], source);
        }
    }
}

static void check_merges(const kb_restore_plan *plan, const kb_config_restore *config, kb_checks *checks)
{
    for (size_t u = 0; u < plan->unit_count && !config->allow_merge; u++) {
        const kb_restore_unit *unit = &plan->units[u];
        if (unit->route != KB_ROUTE_FIXED || unit->source_count < 2)
            continue;
        const kb_restore_source *a = &plan->sources[unit->sources[0]];
        const kb_restore_source *b = &plan->sources[unit->sources[1]];
        kb_checks_refuse(checks, KB_CONFIG_INVALID, "merge",
                         "%zu sources (%s/%" PRId32 ", %s/%" PRId32 ", ...) would be merged into %s/%" PRId32
                         "; hint: set restore.allow_merge, or map them apart",
                         unit->source_count, a->topic->name, a->partition->partition, b->topic->name,
                         b->partition->partition, plan->topics[unit->topic].name,
                         plan->targets[unit->first_target].partition);
    }
}

static void check_repartitioning(const kb_restore_plan *plan, const kb_config_restore *config,
                                 kb_checks *checks)
{
    for (size_t i = 0; i < config->repartitioning.count; i++) {
        const char *name = config->repartitioning.items[i].target_topic;
        bool found = false;
        for (size_t t = 0; t < plan->topic_count && !found; t++)
            found = strcmp(plan->topics[t].name, name) == 0;
        if (!found)
            kb_checks_warn(checks, "selection",
                           "restore.repartitioning names '%s', which is no target of this restore", name);
    }
}

/* ---- the hash ---- */

static const char *route_name(kb_restore_route route)
{
    static const char *const names[] = {"fixed", "murmur2", "automatic"};
    return names[route];
}

static void put_optional(kb_json_writer *w, const char *name, bool is_set, int64_t value)
{
    if (is_set)
        kb_json_field_i64(w, name, value);
    else
        kb_json_field_null(w, name);
}

/* Sources are in the order of their target topics: *next is the first that was not written. */
static void put_topic(kb_json_writer *w, const kb_restore_plan *plan, size_t t, size_t *next)
{
    const kb_restore_topic *topic = &plan->topics[t];
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "topic", topic->name);
    kb_json_field_i64(w, "partitions", topic->partition_count);
    kb_json_field_text(w, "route", route_name(topic->route));
    kb_json_put_name(w, "sources");
    kb_json_put_begin_array(w);
    for (; *next < plan->source_count && plan->sources[*next].target_topic == t; ++*next) {
        const kb_restore_source *source = &plan->sources[*next];
        kb_json_put_begin_array(w);
        kb_json_put_text(w, source->topic->name);
        kb_json_put_i64(w, source->partition->partition);
        kb_json_put_i64(w, source->target_partition);
        kb_json_put_end_array(w);
    }
    kb_json_put_end_array(w);
    kb_json_put_end_object(w);
}

static kb_code hash_plan(kb_restore_plan *plan, const kb_config_restore *config, const char *cluster_id,
                         kb_error *err)
{
    KB_AUTO_STRBUF(text, KB_PLAN_TEXT_MAX);
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *w = kb_json_writer_new(KB_JSON_COMPACT, &text);
    kb_json_put_begin_object(w);
    kb_json_field_i64(w, "version", 1);
    kb_json_field_text(w, "backup", plan->backup->backup_id);
    kb_json_field_text(w, "targetCluster", cluster_id);
    kb_json_field_text(w, "delivery",
                       config->delivery == KB_CONFIG_TRANSACTIONAL ? "transactional" : "idempotent");
    put_optional(w, "windowStart", plan->window.has_start, plan->window.start);
    put_optional(w, "windowEnd", plan->window.has_end, plan->window.end);
    kb_json_field_bool(w, "stripHeaders", plan->strip_own_block);
    kb_json_field_bool(w, "addHeaders", plan->add_restore_headers);
    kb_json_field_bool(w, "zeroBecomesOne", plan->zero_becomes_one);
    kb_json_field_bool(w, "overlapSkipped", plan->backup->has_overlap);
    kb_json_put_name(w, "targets");
    kb_json_put_begin_array(w);
    size_t next_source = 0;
    for (size_t t = 0; t < plan->topic_count; t++)
        put_topic(w, plan, t, &next_source);
    kb_json_put_end_array(w);
    kb_json_put_end_object(w);
    if (kb_json_writer_finish(w, err) != KB_OK)
        return kb_wrap(err, "hashing the plan");
    kb_sha256(text.data, text.len, plan->sha256);
    return KB_OK;
}

/* ---- the whole ---- */

kb_code kb_restore_plan_make(const kb_backup *backup, const kb_worker_config *config,
                             const char *target_cluster_id, kb_checks *checks, kb_restore_plan **ret_plan,
                             kb_error *err)
{
    const kb_config_restore *restore = &config->restore;
    KB_CLEANUP(kb_restore_plan_free_at) kb_restore_plan *plan = kb_calloc(1, sizeof *plan);
    *plan = (kb_restore_plan){
        .backup = backup,
        .window = {restore->time_window_start.is_set, restore->time_window_end.is_set,
                   restore->time_window_start.value, restore->time_window_end.value},
        .strip_own_block = restore->strip_offset_headers,
        .add_restore_headers = restore->include_original_offset_header ||
                               restore->consumer_group_strategy == KB_CONFIG_GROUP_HEADER_BASED,
        .zero_becomes_one = restore->timestamp_zero == KB_CONFIG_ZERO_ONE,
    };
    KB_AUTOFREE bool *chosen = kb_calloc(backup->topic_count > 0 ? backup->topic_count : 1, sizeof *chosen);
    if (select_topics(backup, &config->target.topics, chosen, checks, err) != KB_OK)
        return err->code;
    add_topics(plan, restore, chosen, checks);
    for (size_t t = 0; t < plan->topic_count; t++)
        add_configs(&plan->topics[t], restore);
    add_targets(plan);
    add_sources(plan, restore);
    add_units(plan);
    check_merges(plan, restore, checks);
    check_repartitioning(plan, restore, checks);
    if (hash_plan(plan, restore, target_cluster_id, err) != KB_OK)
        return err->code;
    *ret_plan = KB_TAKE(plan);
    return KB_OK;
}

static void topic_done(kb_restore_topic *topic)
{
    for (size_t i = 0; i < topic->config_count; i++) {
        free(topic->configs[i].name);
        free(topic->configs[i].value);
    }
    free(topic->configs);
    free(topic->sources);
    free(topic->name);
}

void kb_restore_plan_free(kb_restore_plan *owned_plan)
{
    if (owned_plan == NULL)
        return;
    for (size_t i = 0; i < owned_plan->topic_count; i++)
        topic_done(&owned_plan->topics[i]);
    for (size_t i = 0; i < owned_plan->source_count; i++)
        free(owned_plan->sources[i].verdicts);
    for (size_t i = 0; i < owned_plan->unit_count; i++)
        free(owned_plan->units[i].sources);
    free(owned_plan->topics);
    free(owned_plan->sources);
    free(owned_plan->targets);
    free(owned_plan->units);
    free(owned_plan);
}

void kb_restore_plan_free_at(kb_restore_plan **at)
{
    kb_restore_plan_free(*at);
}

static char *default_id(const kb_worker_config *config, const kb_restore_plan *plan)
{
    const kb_config_resource *resource = &config->resource;
    if (resource->namespace != NULL && resource->name != NULL && resource->uid != NULL) {
        KB_AUTOFREE char *base = kb_asprintf("%s-%s", resource->namespace, resource->name);
        KB_AUTOFREE char *suffix = kb_asprintf("-%.*s", KB_UID_DIGITS, resource->uid);
        return kb_name_child(base, suffix, KB_RESTORE_ID_MAX);
    }
    char hex[2 * KB_SHA256_SIZE + 1];
    kb_hex_encode(plan->sha256, sizeof plan->sha256, hex);
    KB_AUTOFREE char *suffix = kb_asprintf("-%.*s", KB_ID_HASH_DIGITS, hex);
    return kb_name_child(plan->backup->backup_id, suffix, KB_RESTORE_ID_MAX);
}

kb_code kb_restore_id_of(const kb_worker_config *config, const kb_restore_plan *plan, char **ret_id,
                         kb_error *err)
{
    const char *given = config->restore.restore_id;
    KB_AUTOFREE char *id = given != NULL ? kb_strdup(given) : default_id(config, plan);
    if (kb_layout_check_new_id(id, KB_RESTORE_ID_MAX, "restore.restore_id", err) != KB_OK)
        return err->code;
    *ret_id = KB_TAKE(id);
    return KB_OK;
}

int64_t kb_restore_unit_records(const kb_restore_plan *plan, const kb_restore_unit *unit)
{
    int64_t count = 0;
    for (size_t i = 0; i < unit->source_count; i++)
        count += plan->sources[unit->sources[i]].sure_records + plan->sources[unit->sources[i]].maybe_records;
    return count;
}

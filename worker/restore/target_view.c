#include "worker/restore/target_view.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/mem.h"

#define KB_CALL_DEADLINE_MS 120000

kb_kafka_call kb_restore_call(kb_stop *stop)
{
    return (kb_kafka_call){.deadline_ms = kb_clock_boot_ms() + KB_CALL_DEADLINE_MS, .stop = stop};
}

static void topic_done(kb_target_topic *topic)
{
    for (size_t i = 0; i < topic->override_count; i++) {
        free(topic->overrides[i].name);
        free(topic->overrides[i].value);
    }
    free(topic->overrides);
    free(topic->configs_error);
}

void kb_target_view_done(kb_target_view *view)
{
    for (size_t i = 0; i < view->topic_count; i++)
        topic_done(&view->topics[i]);
    free(view->topics);
    free(view->targets);
    *view = (kb_target_view){0};
}

const char *kb_target_override(const kb_target_topic *topic, const char *name)
{
    for (size_t i = 0; i < topic->override_count; i++)
        if (strcmp(topic->overrides[i].name, name) == 0)
            return topic->overrides[i].value;
    return NULL;
}

/* ---- metadata ---- */

static void take_partitions(const kb_restore_plan *plan, size_t t, const kb_kafka_topic *found,
                            kb_target_view *view)
{
    kb_target_topic *topic = &view->topics[t];
    topic->partition_count = (int32_t)found->partition_count;
    for (size_t i = 0; i < found->partition_count; i++) {
        const kb_kafka_partition *partition = &found->partitions[i];
        if (partition->replica_count > topic->replica_count)
            topic->replica_count = partition->replica_count;
        if (partition->id < plan->topics[t].partition_count)
            view->targets[plan->topics[t].first_target + (size_t)partition->id].isr_count =
                partition->isr_count;
    }
}

static kb_code read_metadata(kb_kafka_admin *admin, const kb_restore_plan *plan, kb_stop *stop,
                             kb_target_view *view, kb_error *err)
{
    KB_AUTOFREE const char **names = kb_calloc(plan->topic_count + 1, sizeof *names);
    for (size_t t = 0; t < plan->topic_count; t++)
        names[t] = plan->topics[t].name;
    kb_kafka_call call = kb_restore_call(stop);
    KB_CLEANUP(kb_kafka_metadata_done) kb_kafka_metadata metadata = {0};
    if (kb_kafka_admin_metadata(admin, names, plan->topic_count, &call, &metadata, err) != KB_OK)
        return kb_wrap(err, "reading the metadata of the target topics");
    view->broker_count = metadata.cluster.broker_count;
    for (size_t t = 0; t < plan->topic_count; t++) {
        kb_target_topic *topic = &view->topics[t];
        const kb_kafka_topic *found = kb_kafka_metadata_find(&metadata, plan->topics[t].name);
        int error = found != NULL ? found->error_number : KB_KAFKA_ERROR_UNKNOWN_TOPIC_OR_PARTITION;
        topic->exists = error == 0;
        topic->error_number = error == KB_KAFKA_ERROR_UNKNOWN_TOPIC_OR_PARTITION ? 0 : error;
        if (!topic->exists)
            continue;
        topic->has_id = found->has_id;
        memcpy(topic->id, found->id, sizeof topic->id);
        take_partitions(plan, t, found, view);
    }
    return KB_OK;
}

/* ---- offsets ---- */

static size_t add_queries(const kb_restore_plan *plan, const kb_target_view *view,
                          kb_kafka_offset_query *queries, size_t *places)
{
    size_t count = 0;
    for (size_t i = 0; i < plan->target_count; i++) {
        const kb_target_topic *topic = &view->topics[plan->targets[i].topic];
        if (!topic->exists || plan->targets[i].partition >= topic->partition_count)
            continue;
        places[count] = i;
        queries[count++] = (kb_kafka_offset_query){
            .topic = plan->topics[plan->targets[i].topic].name,
            .partition = plan->targets[i].partition,
        };
    }
    return count;
}

static kb_code read_offsets(kb_kafka_admin *admin, const kb_restore_plan *plan, kb_stop *stop,
                            kb_target_view *view, kb_error *err)
{
    KB_AUTOFREE kb_kafka_offset_query *queries = kb_calloc(plan->target_count + 1, sizeof *queries);
    KB_AUTOFREE size_t *places = kb_calloc(plan->target_count + 1, sizeof *places);
    for (size_t i = 0; i < plan->target_count; i++) {
        view->targets[i].log_start = -1;
        view->targets[i].end = -1;
        view->targets[i].error_number = 0;
    }
    /* The start first: what retention removes in between only makes the range of the two larger. */
    for (int round = 0; round < 2; round++) {
        size_t count = add_queries(plan, view, queries, places);
        kb_kafka_call call = kb_restore_call(stop);
        kb_kafka_offset_kind kind = round == 0 ? KB_KAFKA_OFFSET_EARLIEST : KB_KAFKA_OFFSET_LATEST;
        if (count > 0 && kb_kafka_admin_list_offsets(admin, kind, queries, count, &call, err) != KB_OK)
            return kb_wrap(err, "reading the offsets of the target partitions");
        for (size_t i = 0; i < count; i++) {
            kb_target_offsets *offsets = &view->targets[places[i]];
            if (queries[i].error_number != 0)
                offsets->error_number = queries[i].error_number;
            else if (round == 0)
                offsets->log_start = queries[i].offset;
            else
                offsets->end = queries[i].offset;
        }
    }
    return KB_OK;
}

/* ---- configs ---- */

static int64_t number_of(const kb_kafka_configs *configs, const char *name)
{
    const kb_kafka_config *config = kb_kafka_configs_find(configs, name);
    int64_t number;
    if (config == NULL || config->value == NULL || !kb_parse_i64(config->value, &number))
        return KB_CONFIG_NUMBER_UNKNOWN;
    return number;
}

static bool says(const kb_kafka_configs *configs, const char *name, const char *word)
{
    const kb_kafka_config *config = kb_kafka_configs_find(configs, name);
    return config != NULL && config->value != NULL && strstr(config->value, word) != NULL;
}

static void take_configs(kb_target_topic *topic, const kb_kafka_configs *configs)
{
    topic->has_configs = configs->error_number == 0;
    kb_text_set(&topic->configs_error, configs->error_text);
    topic->max_message_bytes = number_of(configs, "max.message.bytes");
    topic->min_insync_replicas = number_of(configs, "min.insync.replicas");
    topic->retention_ms = number_of(configs, "retention.ms");
    topic->timestamp_before_ms = number_of(configs, "message.timestamp.before.max.ms");
    topic->timestamp_after_ms = number_of(configs, "message.timestamp.after.max.ms");
    topic->timestamp_difference_ms = number_of(configs, "message.timestamp.difference.max.ms");
    topic->log_append = says(configs, "message.timestamp.type", "LogAppendTime");
    topic->is_compacted = says(configs, "cleanup.policy", "compact");
    for (size_t i = 0; i < configs->count; i++) {
        const kb_kafka_config *config = &configs->items[i];
        if (config->source != KB_KAFKA_CONFIG_TOPIC)
            continue;
        topic->overrides = kb_grow(topic->overrides, topic->override_count, &topic->override_capacity,
                                   sizeof *topic->overrides);
        topic->overrides[topic->override_count++] =
            (kb_config_pair){kb_strdup(config->name), kb_strdup_opt(config->value)};
    }
}

static kb_code read_configs(kb_kafka_admin *admin, const kb_restore_plan *plan, kb_stop *stop,
                            kb_target_view *view, kb_error *err)
{
    KB_AUTOFREE const char **names = kb_calloc(plan->topic_count + 1, sizeof *names);
    KB_AUTOFREE size_t *places = kb_calloc(plan->topic_count + 1, sizeof *places);
    size_t count = 0;
    for (size_t t = 0; t < plan->topic_count; t++) {
        if (!view->topics[t].exists)
            continue;
        places[count] = t;
        names[count++] = plan->topics[t].name;
    }
    if (count == 0)
        return KB_OK;
    kb_kafka_configs *array = NULL;
    kb_kafka_call call = kb_restore_call(stop);
    if (kb_kafka_admin_describe_topic_configs(admin, names, count, &call, &array, err) != KB_OK)
        return kb_wrap(err, "reading the configs of the target topics");
    for (size_t i = 0; i < count; i++)
        take_configs(&view->topics[places[i]], &array[i]);
    kb_kafka_configs_free(array, count);
    return KB_OK;
}

/* Nice to know; a cluster that does not tell is no reason to fail. */
static void read_broker(kb_kafka_admin *admin, kb_stop *stop, kb_target_view *view)
{
    KB_AUTO_ERROR(ignored);
    kb_kafka_configs *one = NULL;
    kb_kafka_call call = kb_restore_call(stop);
    view->replica_lag_ms = KB_CONFIG_NUMBER_UNKNOWN;
    view->default_replication = KB_CONFIG_NUMBER_UNKNOWN;
    view->default_min_insync = KB_CONFIG_NUMBER_UNKNOWN;
    if (kb_kafka_admin_describe_broker_configs(admin, &call, &one, &ignored) != KB_OK)
        return;
    view->replica_lag_ms = number_of(one, "replica.lag.time.max.ms");
    view->default_replication = number_of(one, "default.replication.factor");
    view->default_min_insync = number_of(one, "min.insync.replicas");
    kb_kafka_configs_free(one, 1);
}

/* ---- the whole ---- */

static void set_unknown(kb_target_topic *topic)
{
    topic->max_message_bytes = KB_CONFIG_NUMBER_UNKNOWN;
    topic->min_insync_replicas = KB_CONFIG_NUMBER_UNKNOWN;
    topic->retention_ms = KB_CONFIG_NUMBER_UNKNOWN;
    topic->timestamp_before_ms = KB_CONFIG_NUMBER_UNKNOWN;
    topic->timestamp_after_ms = KB_CONFIG_NUMBER_UNKNOWN;
    topic->timestamp_difference_ms = KB_CONFIG_NUMBER_UNKNOWN;
}

kb_code kb_target_view_read(kb_kafka_admin *admin, const kb_restore_plan *plan, kb_stop *stop,
                            kb_target_view *ret_view, kb_error *err)
{
    KB_CLEANUP(kb_target_view_done) kb_target_view view = {0};
    view.topics = kb_calloc(plan->topic_count + 1, sizeof *view.topics);
    view.targets = kb_calloc(plan->target_count + 1, sizeof *view.targets);
    view.topic_count = plan->topic_count;
    for (size_t t = 0; t < plan->topic_count; t++)
        set_unknown(&view.topics[t]);
    read_broker(admin, stop, &view);
    if (plan->topic_count > 0 && (read_metadata(admin, plan, stop, &view, err) != KB_OK ||
                                  read_configs(admin, plan, stop, &view, err) != KB_OK ||
                                  read_offsets(admin, plan, stop, &view, err) != KB_OK))
        return err->code;
    *ret_view = view;
    view = (kb_target_view){0};
    return KB_OK;
}

kb_code kb_target_view_refresh(kb_kafka_admin *admin, const kb_restore_plan *plan, kb_stop *stop,
                               kb_target_view *view, kb_error *err)
{
    if (read_metadata(admin, plan, stop, view, err) != KB_OK)
        return err->code;
    return read_offsets(admin, plan, stop, view, err);
}

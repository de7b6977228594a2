#include "worker/kafka/kafka_admin.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

/* ---- results ---- */

void kb_kafka_metadata_done(kb_kafka_metadata *metadata)
{
    for (size_t i = 0; i < metadata->topic_count; i++) {
        free(metadata->topics[i].name);
        free(metadata->topics[i].partitions);
    }
    free(metadata->topics);
    kb_kafka_cluster_done(&metadata->cluster);
    *metadata = (kb_kafka_metadata){0};
}

const kb_kafka_topic *kb_kafka_metadata_find(const kb_kafka_metadata *metadata, const char *name)
{
    size_t low = 0;
    size_t high = metadata->topic_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, metadata->topics[middle].name);
        if (order == 0)
            return &metadata->topics[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

void kb_kafka_configs_free(kb_kafka_configs *owned_array, size_t count)
{
    if (owned_array == NULL)
        return;
    for (size_t i = 0; i < count; i++) {
        kb_kafka_configs *configs = &owned_array[i];
        for (size_t c = 0; c < configs->count; c++) {
            free(configs->items[c].name);
            free(configs->items[c].value);
        }
        free(configs->items);
        free(configs->error_text);
    }
    free(owned_array);
}

const kb_kafka_config *kb_kafka_configs_find(const kb_kafka_configs *configs, const char *name)
{
    for (size_t i = 0; i < configs->count; i++)
        if (strcmp(configs->items[i].name, name) == 0)
            return &configs->items[i];
    return NULL;
}

/* ---- operations ---- */

void kb_kafka_admin_free(kb_kafka_admin *owned_admin)
{
    if (owned_admin != NULL)
        owned_admin->ops->free(owned_admin);
}

void kb_kafka_admin_free_at(kb_kafka_admin **at)
{
    kb_kafka_admin_free(*at);
}

kb_code kb_kafka_admin_metadata(kb_kafka_admin *admin, const char *const *topics, size_t count,
                                const kb_kafka_call *call, kb_kafka_metadata *ret_metadata, kb_error *err)
{
    return admin->ops->metadata(admin, topics, count, call, ret_metadata, err);
}

kb_code kb_kafka_admin_list_offsets(kb_kafka_admin *admin, kb_kafka_offset_kind kind,
                                    kb_kafka_offset_query *queries, size_t count, const kb_kafka_call *call,
                                    kb_error *err)
{
    return admin->ops->list_offsets(admin, kind, queries, count, call, err);
}

kb_code kb_kafka_admin_describe_topic_configs(kb_kafka_admin *admin, const char *const *topics, size_t count,
                                              const kb_kafka_call *call, kb_kafka_configs **ret_array,
                                              kb_error *err)
{
    return admin->ops->describe_topic_configs(admin, topics, count, call, ret_array, err);
}

kb_code kb_kafka_admin_describe_broker_configs(kb_kafka_admin *admin, const kb_kafka_call *call,
                                               kb_kafka_configs **ret_one, kb_error *err)
{
    return admin->ops->describe_broker_configs(admin, call, ret_one, err);
}

kb_code kb_kafka_admin_create_topics(kb_kafka_admin *admin, kb_kafka_new_topic *topics, size_t count,
                                     bool validate_only, const kb_kafka_call *call, kb_error *err)
{
    return admin->ops->create_topics(admin, topics, count, validate_only, call, err);
}

kb_code kb_kafka_admin_alter_topic_configs(kb_kafka_admin *admin, kb_kafka_alter *alters, size_t count,
                                           const kb_kafka_call *call, kb_error *err)
{
    return admin->ops->alter_topic_configs(admin, alters, count, call, err);
}

kb_code kb_kafka_admin_delete_records(kb_kafka_admin *admin, kb_kafka_delete_records *deletes, size_t count,
                                      const kb_kafka_call *call, kb_error *err)
{
    return admin->ops->delete_records(admin, deletes, count, call, err);
}

kb_code kb_kafka_admin_delete_group(kb_kafka_admin *admin, const char *group, const kb_kafka_call *call,
                                    kb_error *err)
{
    return admin->ops->delete_group(admin, group, call, err);
}

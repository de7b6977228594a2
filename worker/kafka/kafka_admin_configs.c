#include "worker/kafka/kafka_admin_configs.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/kafka/kafka_admin_live.h"

/* A topic has some forty configs, so an answer about all topics of a large cluster is cut into pieces. */
#define KB_DESCRIBE_TOPICS 500

typedef struct resources {
    rd_kafka_ConfigResource_t **list;
    size_t count;
} resources;

static void resources_done(resources *r)
{
    rd_kafka_ConfigResource_destroy_array(r->list, r->count);
    free(r->list);
}

static const rd_kafka_ConfigResource_t *find_resource(const rd_kafka_ConfigResource_t **list, size_t count,
                                                      size_t hint, const char *name)
{
    if (hint < count && strcmp(rd_kafka_ConfigResource_name(list[hint]), name) == 0)
        return list[hint];
    for (size_t i = 0; i < count; i++)
        if (strcmp(rd_kafka_ConfigResource_name(list[i]), name) == 0)
            return list[i];
    return NULL;
}

static char *resource_error_text(const rd_kafka_ConfigResource_t *resource, int error_number)
{
    const char *text = resource != NULL ? rd_kafka_ConfigResource_error_string(resource) : NULL;
    if (error_number == 0)
        return NULL;
    return kb_strdup(text != NULL ? text : rd_kafka_err2str((rd_kafka_resp_err_t)error_number));
}

static int resource_error(const rd_kafka_ConfigResource_t *resource)
{
    return resource != NULL ? (int)rd_kafka_ConfigResource_error(resource)
                            : (int)RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT;
}

/* ---- describing ---- */

static void send_describe(void *ctx, rd_kafka_t *rk, const rd_kafka_AdminOptions_t *options,
                          rd_kafka_queue_t *queue)
{
    resources *r = ctx;
    rd_kafka_DescribeConfigs(rk, r->list, r->count, options, queue);
}

static kb_kafka_config_source source_of(rd_kafka_ConfigSource_t source)
{
    switch (source) {
    case RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG:
        return KB_KAFKA_CONFIG_TOPIC;
    case RD_KAFKA_CONFIG_SOURCE_DYNAMIC_BROKER_CONFIG:
    case RD_KAFKA_CONFIG_SOURCE_DYNAMIC_DEFAULT_BROKER_CONFIG:
    case RD_KAFKA_CONFIG_SOURCE_STATIC_BROKER_CONFIG:
        return KB_KAFKA_CONFIG_BROKER;
    case RD_KAFKA_CONFIG_SOURCE_DEFAULT_CONFIG:
        return KB_KAFKA_CONFIG_DEFAULT;
    case RD_KAFKA_CONFIG_SOURCE_UNKNOWN_CONFIG:
    case RD_KAFKA_CONFIG_SOURCE__CNT:
    default:
        return KB_KAFKA_CONFIG_UNKNOWN;
    }
}

static int compare_configs(const void *a, const void *b)
{
    const kb_kafka_config *left = a;
    const kb_kafka_config *right = b;
    return strcmp(left->name, right->name);
}

static void take_configs(kb_kafka_configs *to, const rd_kafka_ConfigResource_t *resource)
{
    free(to->error_text);
    *to = (kb_kafka_configs){.error_number = resource_error(resource)};
    to->error_text = resource_error_text(resource, to->error_number);
    if (to->error_number != 0)
        return;
    size_t count = 0;
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resource, &count);
    to->items = kb_calloc(count > 0 ? count : 1, sizeof(kb_kafka_config));
    to->count = count;
    for (size_t i = 0; i < count; i++) {
        bool is_sensitive = rd_kafka_ConfigEntry_is_sensitive(entries[i]) == 1;
        to->items[i] = (kb_kafka_config){
            .name = kb_strdup(rd_kafka_ConfigEntry_name(entries[i])),
            .value = is_sensitive ? NULL : kb_strdup_opt(rd_kafka_ConfigEntry_value(entries[i])),
            .source = source_of(rd_kafka_ConfigEntry_source(entries[i])),
            .is_sensitive = is_sensitive,
        };
    }
    qsort(to->items, count, sizeof(kb_kafka_config), compare_configs);
}

static kb_code describe_round(kb_kafka_live *live, rd_kafka_ResourceType_t type, const char *const *names,
                              kb_kafka_configs *to, kb_kafka_rounds *rounds, kb_error *err)
{
    resources asked = {kb_calloc(rounds->count, sizeof(rd_kafka_ConfigResource_t *)), 0};
    for (; asked.count < rounds->count; asked.count++)
        asked.list[asked.count] = rd_kafka_ConfigResource_new(type, names[rounds->pending[asked.count]]);
    kb_kafka_request request = {
        .what = type == RD_KAFKA_RESOURCE_TOPIC ? "reading topic configs" : "reading broker configs",
        .op = RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS,
        .send = send_describe,
        .ctx = &asked,
    };
    rd_kafka_event_t *event = NULL;
    kb_code code = kb_kafka_live_ask(live, &request, rounds->call, &event, err);
    size_t count = asked.count;
    resources_done(&asked);
    if (code != KB_OK)
        return code;
    size_t got = 0;
    const rd_kafka_ConfigResource_t **list =
        rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &got);
    for (size_t i = 0; i < count; i++) {
        size_t index = rounds->pending[i];
        take_configs(&to[index], find_resource(list, got, i, names[index]));
        kb_kafka_rounds_answer(rounds, i, to[index].error_number);
    }
    rd_kafka_event_destroy(event);
    return KB_OK;
}

static kb_code describe(kb_kafka_live *live, rd_kafka_ResourceType_t type, const char *const *names,
                        size_t count, const kb_kafka_call *call, kb_kafka_configs *to, kb_error *err)
{
    kb_code code = KB_OK;
    kb_kafka_rounds rounds;
    kb_kafka_rounds_init(&rounds, call, count);
    if (count > 0)
        do
            code = describe_round(live, type, names, to, &rounds, err);
        while (code == KB_OK && kb_kafka_rounds_again(&rounds));
    kb_kafka_rounds_done(&rounds);
    return code;
}

kb_code kb_kafka_live_describe_topic_configs(kb_kafka_admin *admin, const char *const *topics, size_t count,
                                             const kb_kafka_call *call, kb_kafka_configs **ret_array,
                                             kb_error *err)
{
    kb_kafka_configs *array = kb_calloc(count > 0 ? count : 1, sizeof *array);
    kb_code code = KB_OK;
    for (size_t at = 0; code == KB_OK && at < count; at += KB_DESCRIBE_TOPICS) {
        size_t piece = count - at < KB_DESCRIBE_TOPICS ? count - at : KB_DESCRIBE_TOPICS;
        code = describe(kb_kafka_live_of(admin), RD_KAFKA_RESOURCE_TOPIC, topics + at, piece, call,
                        array + at, err);
    }
    if (code != KB_OK) {
        kb_kafka_configs_free(array, count);
        return code;
    }
    *ret_array = array;
    return KB_OK;
}

kb_code kb_kafka_live_describe_broker_configs(kb_kafka_admin *admin, const kb_kafka_call *call,
                                              kb_kafka_configs **ret_one, kb_error *err)
{
    kb_kafka_live *live = kb_kafka_live_of(admin);
    const struct rd_kafka_metadata *metadata = NULL;
    kb_code code = kb_kafka_live_metadata(live, false, call, &metadata, err);
    if (code != KB_OK)
        return code;
    int32_t id = metadata->broker_cnt > 0 ? metadata->brokers[0].id : metadata->orig_broker_id;
    rd_kafka_metadata_destroy(metadata);
    KB_AUTOFREE char *text = kb_asprintf("%d", (int)id);
    const char *const names[1] = {text};
    kb_kafka_configs *one = kb_calloc(1, sizeof *one);
    code = describe(live, RD_KAFKA_RESOURCE_BROKER, names, 1, call, one, err);
    if (code != KB_OK) {
        kb_kafka_configs_free(one, 1);
        return code;
    }
    *ret_one = one;
    return KB_OK;
}

/* ---- altering ---- */

static void send_alter(void *ctx, rd_kafka_t *rk, const rd_kafka_AdminOptions_t *options,
                       rd_kafka_queue_t *queue)
{
    resources *r = ctx;
    rd_kafka_IncrementalAlterConfigs(rk, r->list, r->count, options, queue);
}

static kb_code alter_of(const kb_kafka_alter *from, rd_kafka_ConfigResource_t **ret_resource, kb_error *err)
{
    rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, from->topic);
    for (size_t i = 0; i < from->config_count; i++) {
        const kb_kafka_setting *setting = &from->configs[i];
        rd_kafka_AlterConfigOpType_t op =
            setting->value != NULL ? RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET : RD_KAFKA_ALTER_CONFIG_OP_TYPE_DELETE;
        rd_kafka_error_t *error =
            rd_kafka_ConfigResource_add_incremental_config(resource, setting->name, op, setting->value);
        if (error == NULL)
            continue;
        kb_code code = kb_fail(err, KB_CONFIG_INVALID, "altering topic '%s': setting %s: %s", from->topic,
                               setting->name, rd_kafka_error_string(error));
        rd_kafka_error_destroy(error);
        rd_kafka_ConfigResource_destroy(resource);
        return code;
    }
    *ret_resource = resource;
    return KB_OK;
}

static void take_alter(kb_kafka_alter *to, const rd_kafka_ConfigResource_t *resource)
{
    free(to->error_text);
    to->error_number = resource_error(resource);
    to->error_text = resource_error_text(resource, to->error_number);
}

static kb_code alter_round(kb_kafka_live *live, kb_kafka_alter *alters, kb_kafka_rounds *rounds,
                           kb_error *err)
{
    resources asked = {kb_calloc(rounds->count, sizeof(rd_kafka_ConfigResource_t *)), 0};
    kb_code code = KB_OK;
    for (; code == KB_OK && asked.count < rounds->count; asked.count += code == KB_OK)
        code = alter_of(&alters[rounds->pending[asked.count]], &asked.list[asked.count], err);
    kb_kafka_request request = {.what = "altering topic configs",
                                .op = RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS,
                                .send = send_alter,
                                .ctx = &asked};
    rd_kafka_event_t *event = NULL;
    if (code == KB_OK)
        code = kb_kafka_live_ask(live, &request, rounds->call, &event, err);
    resources_done(&asked);
    if (code != KB_OK)
        return code;
    size_t got = 0;
    const rd_kafka_ConfigResource_t **list = rd_kafka_IncrementalAlterConfigs_result_resources(
        rd_kafka_event_IncrementalAlterConfigs_result(event), &got);
    size_t count = rounds->count;
    for (size_t i = 0; i < count; i++) {
        kb_kafka_alter *alter = &alters[rounds->pending[i]];
        take_alter(alter, find_resource(list, got, i, alter->topic));
        kb_kafka_rounds_answer(rounds, i, alter->error_number);
    }
    rd_kafka_event_destroy(event);
    return KB_OK;
}

kb_code kb_kafka_live_alter_topic_configs(kb_kafka_admin *admin, kb_kafka_alter *alters, size_t count,
                                          const kb_kafka_call *call, kb_error *err)
{
    kb_code code = KB_OK;
    kb_kafka_rounds rounds;
    for (size_t i = 0; i < count; i++) {
        alters[i].error_number = 0;
        alters[i].error_text = NULL;
    }
    kb_kafka_rounds_init(&rounds, call, count);
    if (count > 0)
        do
            code = alter_round(kb_kafka_live_of(admin), alters, &rounds, err);
        while (code == KB_OK && kb_kafka_rounds_again(&rounds));
    kb_kafka_rounds_done(&rounds);
    return code;
}

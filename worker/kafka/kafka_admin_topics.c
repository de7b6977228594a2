#include "worker/kafka/kafka_admin_topics.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_admin_live.h"

#define KB_RDKAFKA_ERRSTR_BYTES 512

/* ---- metadata ---- */

static int compare_topics(const void *a, const void *b)
{
    const kb_kafka_topic *left = a;
    const kb_kafka_topic *right = b;
    return strcmp(left->name, right->name);
}

static void topic_clear(kb_kafka_topic *topic)
{
    char *name = topic->name;
    free(topic->partitions);
    *topic = (kb_kafka_topic){.name = name};
}

static void set_id(kb_kafka_topic *topic, const rd_kafka_Uuid_t *uuid)
{
    if (uuid == NULL)
        return;
    uint64_t parts[2] = {(uint64_t)rd_kafka_Uuid_most_significant_bits(uuid),
                         (uint64_t)rd_kafka_Uuid_least_significant_bits(uuid)};
    topic->has_id = parts[0] != 0 || parts[1] != 0;
    for (size_t i = 0; i < KB_KAFKA_TOPIC_ID_BYTES; i++)
        topic->id[i] = (uint8_t)(parts[i / 8] >> (8 * (7 - i % 8)));
}

static int compare_partitions(const void *a, const void *b)
{
    const kb_kafka_partition *left = a;
    const kb_kafka_partition *right = b;
    return (left->id > right->id) - (left->id < right->id);
}

static void set_partitions(kb_kafka_topic *topic, const rd_kafka_TopicPartitionInfo_t **infos, size_t count)
{
    topic->partitions = kb_calloc(count > 0 ? count : 1, sizeof(kb_kafka_partition));
    topic->partition_count = count;
    for (size_t i = 0; i < count; i++) {
        size_t replicas = 0;
        size_t isr = 0;
        (void)rd_kafka_TopicPartitionInfo_replicas(infos[i], &replicas);
        (void)rd_kafka_TopicPartitionInfo_isr(infos[i], &isr);
        const rd_kafka_Node_t *leader = rd_kafka_TopicPartitionInfo_leader(infos[i]);
        topic->partitions[i] = (kb_kafka_partition){
            .id = rd_kafka_TopicPartitionInfo_partition(infos[i]),
            .leader = leader != NULL ? rd_kafka_Node_id(leader) : -1,
            .replica_count = (int)replicas,
            .isr_count = (int)isr,
        };
    }
    qsort(topic->partitions, count, sizeof(kb_kafka_partition), compare_partitions);
    topic->replication_factor = count > 0 ? topic->partitions[0].replica_count : 0;
}

/* Takes over one answer; NULL is a topic that the broker did not mention. */
static void take_description(kb_kafka_topic *topic, const rd_kafka_TopicDescription_t *description)
{
    topic_clear(topic);
    if (description == NULL) {
        topic->error_number = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        return;
    }
    const rd_kafka_error_t *error = rd_kafka_TopicDescription_error(description);
    if (error != NULL && rd_kafka_error_code(error) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        topic->error_number = rd_kafka_error_code(error);
        return;
    }
    size_t count = 0;
    const rd_kafka_TopicPartitionInfo_t **infos = rd_kafka_TopicDescription_partitions(description, &count);
    topic->is_internal = rd_kafka_TopicDescription_is_internal(description) != 0;
    set_id(topic, rd_kafka_TopicDescription_topic_id(description));
    set_partitions(topic, infos, count);
}

typedef struct describe_ctx {
    const char **names;
    size_t count;
} describe_ctx;

static void send_describe(void *ctx, rd_kafka_t *rk, const rd_kafka_AdminOptions_t *options,
                          rd_kafka_queue_t *queue)
{
    const describe_ctx *describe = ctx;
    rd_kafka_TopicCollection_t *topics =
        rd_kafka_TopicCollection_of_topic_names(describe->names, describe->count);
    rd_kafka_DescribeTopics(rk, topics, options, queue);
    rd_kafka_TopicCollection_destroy(topics);
}

/* Asks for the pending topics in one request. */
static kb_code describe_round(kb_kafka_live *live, const kb_kafka_metadata *metadata, int32_t broker_id,
                              kb_kafka_rounds *rounds, kb_error *err)
{
    kb_kafka_topic *topics = metadata->topics;
    KB_AUTOFREE const char **names = kb_calloc(rounds->count, sizeof(char *));
    for (size_t i = 0; i < rounds->count; i++)
        names[i] = topics[rounds->pending[i]].name;
    describe_ctx ctx = {names, rounds->count};
    kb_kafka_request request = {.what = "asking for metadata of topics",
                                .op = RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
                                .has_broker = broker_id >= 0,
                                .broker_id = broker_id,
                                .send = send_describe,
                                .ctx = &ctx};
    rd_kafka_event_t *event = NULL;
    kb_code code = kb_kafka_live_ask(live, &request, rounds->call, &event, err);
    if (code != KB_OK)
        return code;
    size_t got = 0;
    const rd_kafka_TopicDescription_t **descriptions =
        rd_kafka_DescribeTopics_result_topics(rd_kafka_event_DescribeTopics_result(event), &got);
    size_t asked = rounds->count;
    for (size_t i = 0; i < asked; i++) {
        kb_kafka_topic *topic = &topics[rounds->pending[i]];
        take_description(topic, i < got ? descriptions[i] : NULL);
        kb_kafka_rounds_answer(rounds, i, topic->error_number);
    }
    rd_kafka_event_destroy(event);
    return KB_OK;
}

/* Sorted and without repeats: the library refuses a name that comes twice. */
static void set_names(kb_kafka_metadata *to, const char *const *topics, size_t count,
                      const struct rd_kafka_metadata *all)
{
    size_t total = topics != NULL ? count : (size_t)all->topic_cnt;
    to->topics = kb_calloc(total > 0 ? total : 1, sizeof(kb_kafka_topic));
    for (size_t i = 0; i < total; i++)
        to->topics[i].name = kb_strdup(topics != NULL ? topics[i] : all->topics[i].topic);
    qsort(to->topics, total, sizeof(kb_kafka_topic), compare_topics);
    for (size_t i = 0; i < total; i++) {
        bool is_repeat = i > 0 && strcmp(to->topics[to->topic_count - 1].name, to->topics[i].name) == 0;
        if (is_repeat)
            free(to->topics[i].name);
        else
            to->topics[to->topic_count++] = to->topics[i];
    }
}

static void set_cluster(kb_kafka_live *live, const struct rd_kafka_metadata *from, kb_kafka_cluster *to)
{
    enum { CACHED_MS = 1000 }; /* both were in the answer that has just come */
    *to = (kb_kafka_cluster){NULL, from->broker_cnt, rd_kafka_controllerid(live->rk, CACHED_MS)};
    char *id = rd_kafka_clusterid(live->rk, CACHED_MS);
    if (id == NULL)
        return;
    to->cluster_id = kb_strdup(id);
    rd_kafka_mem_free(live->rk, id);
}

/* Who to ask when the controller is none of the brokers, where the library would wait for it; -1: it is one.
 */
static int32_t stand_in_of(const struct rd_kafka_metadata *all, int controller_id)
{
    for (int i = 0; i < all->broker_cnt; i++)
        if (all->brokers[i].id == controller_id)
            return -1;
    return all->broker_cnt > 0 ? all->brokers[0].id : -1;
}

kb_code kb_kafka_live_get_metadata(kb_kafka_admin *admin, const char *const *topics, size_t count,
                                   const kb_kafka_call *call, kb_kafka_metadata *ret_metadata, kb_error *err)
{
    kb_kafka_live *live = kb_kafka_live_of(admin);
    const struct rd_kafka_metadata *all = NULL;
    kb_code code = kb_kafka_live_metadata(live, topics == NULL, call, &all, err);
    if (code != KB_OK)
        return code;
    kb_kafka_metadata metadata = {0};
    set_cluster(live, all, &metadata.cluster);
    set_names(&metadata, topics, count, all);
    int32_t broker_id = stand_in_of(all, metadata.cluster.controller_id);
    rd_kafka_metadata_destroy(all);
    kb_kafka_rounds rounds;
    kb_kafka_rounds_init(&rounds, call, metadata.topic_count);
    if (metadata.topic_count > 0)
        do
            code = describe_round(live, &metadata, broker_id, &rounds, err);
        while (code == KB_OK && kb_kafka_rounds_again(&rounds));
    kb_kafka_rounds_done(&rounds);
    if (code != KB_OK) {
        kb_kafka_metadata_done(&metadata);
        return code;
    }
    *ret_metadata = metadata;
    return KB_OK;
}

/* ---- partitions without a leader ---- */

static int why_leaderless(const kb_kafka_metadata *metadata, const kb_kafka_leaderless *item)
{
    const kb_kafka_topic *topic = kb_kafka_metadata_find(metadata, item->topic);
    if (topic == NULL)
        return RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    if (topic->error_number != 0)
        return topic->error_number;
    bool has_partition = item->partition >= 0 && (size_t)item->partition < topic->partition_count;
    return has_partition ? RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
}

kb_code kb_kafka_live_explain(kb_kafka_admin *admin, kb_kafka_leaderless *items, size_t count,
                              const kb_kafka_call *call, kb_error *err)
{
    enum { EXPLAIN_MS = 5000 }; /* errors that may pass are asked again by the caller */
    int64_t soon_ms = kb_clock_boot_ms() + EXPLAIN_MS;
    kb_kafka_call short_call = *call;
    short_call.unknown_wait_ms = 0;
    short_call.deadline_ms = call->deadline_ms < soon_ms ? call->deadline_ms : soon_ms;
    KB_AUTOFREE const char **names = kb_calloc(count, sizeof(char *));
    for (size_t i = 0; i < count; i++)
        names[i] = items[i].topic;
    kb_kafka_metadata metadata = {0};
    kb_code code = kb_kafka_live_get_metadata(admin, names, count, &short_call, &metadata, err);
    for (size_t i = 0; code == KB_OK && i < count; i++)
        items[i].error_number = why_leaderless(&metadata, &items[i]);
    kb_kafka_metadata_done(&metadata);
    return code;
}

/* ---- creation ---- */

typedef struct create_ctx {
    rd_kafka_NewTopic_t **topics;
    size_t count;
} create_ctx;

static void send_create(void *ctx, rd_kafka_t *rk, const rd_kafka_AdminOptions_t *options,
                        rd_kafka_queue_t *queue)
{
    const create_ctx *create = ctx;
    rd_kafka_CreateTopics(rk, create->topics, create->count, options, queue);
}

static kb_code new_topic_of(const kb_kafka_new_topic *from, rd_kafka_NewTopic_t **ret_topic, kb_error *err)
{
    char reason[KB_RDKAFKA_ERRSTR_BYTES] = "";
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(from->name, from->partition_count,
                                                       from->replication_factor, reason, sizeof reason);
    if (topic == NULL)
        return kb_fail(err, KB_CONFIG_INVALID, "creating topic '%s': %s", from->name, reason);
    for (size_t i = 0; i < from->config_count; i++) {
        if (rd_kafka_NewTopic_set_config(topic, from->configs[i].name, from->configs[i].value) == 0)
            continue;
        rd_kafka_NewTopic_destroy(topic);
        return kb_fail(err, KB_CONFIG_INVALID, "creating topic '%s': setting %s", from->name,
                       from->configs[i].name);
    }
    *ret_topic = topic;
    return KB_OK;
}

static void take_result(kb_kafka_new_topic *topic, const rd_kafka_topic_result_t *result)
{
    const char *text = result != NULL ? rd_kafka_topic_result_error_string(result) : NULL;
    topic->error_number =
        result != NULL ? rd_kafka_topic_result_error(result) : RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT;
    free(topic->error_text);
    topic->error_text = NULL;
    if (topic->error_number != 0)
        topic->error_text =
            kb_strdup(text != NULL ? text : rd_kafka_err2str((rd_kafka_resp_err_t)topic->error_number));
}

static const rd_kafka_topic_result_t *find_result(const rd_kafka_topic_result_t **results, size_t count,
                                                  size_t hint, const char *name)
{
    if (hint < count && strcmp(rd_kafka_topic_result_name(results[hint]), name) == 0)
        return results[hint];
    for (size_t i = 0; i < count; i++)
        if (strcmp(rd_kafka_topic_result_name(results[i]), name) == 0)
            return results[i];
    return NULL;
}

static kb_code create_ask(kb_kafka_live *live, const create_ctx *ctx, bool validate_only,
                          const kb_kafka_call *call, rd_kafka_event_t **ret_event, kb_error *err)
{
    create_ctx send = *ctx;
    kb_kafka_request request = {
        .what = validate_only ? "checking whether topics can be created" : "creating topics",
        .op = RD_KAFKA_ADMIN_OP_CREATETOPICS,
        .validate_only = validate_only,
        .send = send_create,
        .ctx = &send,
    };
    return kb_kafka_live_ask(live, &request, call, ret_event, err);
}

static kb_code create_round(kb_kafka_live *live, kb_kafka_new_topic *topics, bool validate_only,
                            kb_kafka_rounds *rounds, kb_error *err)
{
    KB_AUTOFREE rd_kafka_NewTopic_t **made = kb_calloc(rounds->count, sizeof(rd_kafka_NewTopic_t *));
    create_ctx ctx = {made, 0};
    kb_code code = KB_OK;
    for (; code == KB_OK && ctx.count < rounds->count; ctx.count += code == KB_OK)
        code = new_topic_of(&topics[rounds->pending[ctx.count]], &made[ctx.count], err);
    rd_kafka_event_t *event = NULL;
    if (code == KB_OK)
        code = create_ask(live, &ctx, validate_only, rounds->call, &event, err);
    rd_kafka_NewTopic_destroy_array(made, ctx.count);
    if (code != KB_OK)
        return code;
    size_t got = 0;
    const rd_kafka_topic_result_t **results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &got);
    size_t asked = rounds->count;
    for (size_t i = 0; i < asked; i++) {
        kb_kafka_new_topic *topic = &topics[rounds->pending[i]];
        take_result(topic, find_result(results, got, i, topic->name));
        kb_kafka_rounds_answer(rounds, i, topic->error_number);
    }
    rd_kafka_event_destroy(event);
    return KB_OK;
}

kb_code kb_kafka_live_create_topics(kb_kafka_admin *admin, kb_kafka_new_topic *topics, size_t count,
                                    bool validate_only, const kb_kafka_call *call, kb_error *err)
{
    kb_code code = KB_OK;
    kb_kafka_rounds rounds;
    for (size_t i = 0; i < count; i++) {
        topics[i].error_number = 0;
        topics[i].error_text = NULL;
    }
    kb_kafka_rounds_init(&rounds, call, count);
    if (count > 0)
        do
            code = create_round(kb_kafka_live_of(admin), topics, validate_only, &rounds, err);
        while (code == KB_OK && kb_kafka_rounds_again(&rounds));
    kb_kafka_rounds_done(&rounds);
    return code;
}

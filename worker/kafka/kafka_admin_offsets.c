#include "worker/kafka/kafka_admin_offsets.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/kafka/kafka_admin_live.h"
#include "worker/kafka/kafka_admin_topics.h"

/* ---- offsets ---- */

static void send_list_offsets(void *ctx, rd_kafka_t *rk, const rd_kafka_AdminOptions_t *options,
                              rd_kafka_queue_t *queue)
{
    rd_kafka_ListOffsets(rk, ctx, options, queue);
}

static int64_t spec_of(kb_kafka_offset_kind kind, const kb_kafka_offset_query *query)
{
    switch (kind) {
    case KB_KAFKA_OFFSET_EARLIEST:
        return RD_KAFKA_OFFSET_SPEC_EARLIEST;
    case KB_KAFKA_OFFSET_LATEST:
    case KB_KAFKA_OFFSET_LAST_STABLE:
        return RD_KAFKA_OFFSET_SPEC_LATEST;
    case KB_KAFKA_OFFSET_TIMESTAMP:
        break;
    }
    return query->timestamp > 0 ? query->timestamp : 0;
}

static bool is_of(const kb_kafka_offset_query *query, const rd_kafka_topic_partition_t *partition)
{
    return query->partition == partition->partition && strcmp(query->topic, partition->topic) == 0;
}

/* Answers come in the order of the questions; should they ever not, they are looked for. */
static const rd_kafka_ListOffsetsResultInfo_t *find_info(const rd_kafka_ListOffsetsResultInfo_t **infos,
                                                         size_t count, size_t hint,
                                                         const kb_kafka_offset_query *query)
{
    if (hint < count && is_of(query, rd_kafka_ListOffsetsResultInfo_topic_partition(infos[hint])))
        return infos[hint];
    for (size_t i = 0; i < count; i++)
        if (is_of(query, rd_kafka_ListOffsetsResultInfo_topic_partition(infos[i])))
            return infos[i];
    return NULL;
}

static void take_info(kb_kafka_offset_query *query, kb_kafka_offset_kind kind,
                      const rd_kafka_ListOffsetsResultInfo_t *info)
{
    query->offset = -1;
    query->at_timestamp = -1;
    query->error_number = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    if (info == NULL)
        return;
    const rd_kafka_topic_partition_t *partition = rd_kafka_ListOffsetsResultInfo_topic_partition(info);
    query->error_number = partition->err;
    if (partition->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    query->offset = partition->offset >= 0 ? partition->offset : -1;
    query->at_timestamp = rd_kafka_ListOffsetsResultInfo_timestamp(info);
    /* A partition that was asked while it changed its leader: no offset and no error. */
    if (query->offset < 0 && kind != KB_KAFKA_OFFSET_TIMESTAMP)
        query->error_number = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
}

/* When the library knows no leader at all it says nothing about the single partitions. */
static kb_code offsets_explain(kb_kafka_live *live, kb_kafka_offset_query *queries, kb_kafka_rounds *rounds,
                               kb_error *err)
{
    size_t count = rounds->count;
    KB_AUTOFREE kb_kafka_leaderless *items = kb_calloc(count, sizeof *items);
    for (size_t i = 0; i < count; i++) {
        const kb_kafka_offset_query *query = &queries[rounds->pending[i]];
        items[i] = (kb_kafka_leaderless){query->topic, query->partition, 0};
    }
    kb_code code = kb_kafka_live_explain(&live->admin, items, count, rounds->call, err);
    for (size_t i = 0; code == KB_OK && i < count; i++) {
        kb_kafka_offset_query *query = &queries[rounds->pending[i]];
        query->offset = -1;
        query->at_timestamp = -1;
        query->error_number = items[i].error_number;
        kb_kafka_rounds_answer(rounds, i, query->error_number);
    }
    return code;
}

static kb_code offsets_round(kb_kafka_live *live, kb_kafka_offset_kind kind, kb_kafka_offset_query *queries,
                             kb_kafka_rounds *rounds, kb_error *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)rounds->count);
    for (size_t i = 0; i < rounds->count; i++) {
        const kb_kafka_offset_query *query = &queries[rounds->pending[i]];
        rd_kafka_topic_partition_list_add(list, query->topic, query->partition)->offset =
            spec_of(kind, query);
    }
    kb_kafka_request request = {
        .what = "listing offsets",
        .op = RD_KAFKA_ADMIN_OP_LISTOFFSETS,
        .is_committed = kind == KB_KAFKA_OFFSET_LAST_STABLE,
        .may_lack_leaders = true,
        .send = send_list_offsets,
        .ctx = list,
    };
    rd_kafka_event_t *event = NULL;
    kb_code code = kb_kafka_live_ask(live, &request, rounds->call, &event, err);
    rd_kafka_topic_partition_list_destroy(list);
    if (code != KB_OK)
        return code;
    if (event == NULL)
        return offsets_explain(live, queries, rounds, err);
    size_t got = 0;
    const rd_kafka_ListOffsetsResultInfo_t **infos =
        rd_kafka_ListOffsets_result_infos(rd_kafka_event_ListOffsets_result(event), &got);
    size_t asked = rounds->count;
    for (size_t i = 0; i < asked; i++) {
        kb_kafka_offset_query *query = &queries[rounds->pending[i]];
        take_info(query, kind, find_info(infos, got, i, query));
        kb_kafka_rounds_answer(rounds, i, query->error_number);
    }
    rd_kafka_event_destroy(event);
    return KB_OK;
}

kb_code kb_kafka_live_list_offsets(kb_kafka_admin *admin, kb_kafka_offset_kind kind,
                                   kb_kafka_offset_query *queries, size_t count, const kb_kafka_call *call,
                                   kb_error *err)
{
    kb_code code = KB_OK;
    kb_kafka_rounds rounds;
    kb_kafka_rounds_init(&rounds, call, count);
    if (count > 0)
        do
            code = offsets_round(kb_kafka_live_of(admin), kind, queries, &rounds, err);
        while (code == KB_OK && kb_kafka_rounds_again(&rounds));
    kb_kafka_rounds_done(&rounds);
    return code;
}

/* ---- deletion of records ---- */

static void send_delete_records(void *ctx, rd_kafka_t *rk, const rd_kafka_AdminOptions_t *options,
                                rd_kafka_queue_t *queue)
{
    rd_kafka_DeleteRecords_t *one = ctx;
    rd_kafka_DeleteRecords(rk, &one, 1, options, queue);
}

static void take_deletion(kb_kafka_delete_records *to, const rd_kafka_topic_partition_list_t *results)
{
    const rd_kafka_topic_partition_t *found =
        rd_kafka_topic_partition_list_find(results, to->topic, to->partition);
    to->error_number = found != NULL ? (int)found->err : (int)RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    to->log_start = to->error_number == 0 ? found->offset : -1;
}

static kb_code delete_explain(kb_kafka_live *live, kb_kafka_delete_records *deletes, kb_kafka_rounds *rounds,
                              kb_error *err)
{
    size_t count = rounds->count;
    KB_AUTOFREE kb_kafka_leaderless *items = kb_calloc(count, sizeof *items);
    for (size_t i = 0; i < count; i++) {
        const kb_kafka_delete_records *one = &deletes[rounds->pending[i]];
        items[i] = (kb_kafka_leaderless){one->topic, one->partition, 0};
    }
    kb_code code = kb_kafka_live_explain(&live->admin, items, count, rounds->call, err);
    for (size_t i = 0; code == KB_OK && i < count; i++) {
        kb_kafka_delete_records *one = &deletes[rounds->pending[i]];
        one->log_start = -1;
        one->error_number = items[i].error_number;
        kb_kafka_rounds_answer(rounds, i, one->error_number);
    }
    return code;
}

static kb_code delete_round(kb_kafka_live *live, kb_kafka_delete_records *deletes, kb_kafka_rounds *rounds,
                            kb_error *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)rounds->count);
    for (size_t i = 0; i < rounds->count; i++) {
        const kb_kafka_delete_records *one = &deletes[rounds->pending[i]];
        rd_kafka_topic_partition_list_add(list, one->topic, one->partition)->offset =
            one->before >= 0 ? one->before : RD_KAFKA_OFFSET_END;
    }
    rd_kafka_DeleteRecords_t *ctx = rd_kafka_DeleteRecords_new(list);
    rd_kafka_topic_partition_list_destroy(list);
    kb_kafka_request request = {.what = "deleting records",
                                .op = RD_KAFKA_ADMIN_OP_DELETERECORDS,
                                .may_lack_leaders = true,
                                .send = send_delete_records,
                                .ctx = ctx};
    rd_kafka_event_t *event = NULL;
    kb_code code = kb_kafka_live_ask(live, &request, rounds->call, &event, err);
    rd_kafka_DeleteRecords_destroy(ctx);
    if (code != KB_OK)
        return code;
    if (event == NULL)
        return delete_explain(live, deletes, rounds, err);
    const rd_kafka_topic_partition_list_t *results =
        rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event));
    size_t asked = rounds->count;
    for (size_t i = 0; i < asked; i++) {
        kb_kafka_delete_records *one = &deletes[rounds->pending[i]];
        take_deletion(one, results);
        kb_kafka_rounds_answer(rounds, i, one->error_number);
    }
    rd_kafka_event_destroy(event);
    return KB_OK;
}

kb_code kb_kafka_live_delete_records(kb_kafka_admin *admin, kb_kafka_delete_records *deletes, size_t count,
                                     const kb_kafka_call *call, kb_error *err)
{
    kb_code code = KB_OK;
    kb_kafka_rounds rounds;
    kb_kafka_rounds_init(&rounds, call, count);
    if (count > 0)
        do
            code = delete_round(kb_kafka_live_of(admin), deletes, &rounds, err);
        while (code == KB_OK && kb_kafka_rounds_again(&rounds));
    kb_kafka_rounds_done(&rounds);
    return code;
}

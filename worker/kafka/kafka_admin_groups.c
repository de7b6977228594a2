#include "worker/kafka/kafka_admin_groups.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "worker/kafka/kafka_admin_live.h"

/* ---- committed offsets ---- */

static void send_list(void *ctx, rd_kafka_t *rk, const rd_kafka_AdminOptions_t *options,
                      rd_kafka_queue_t *queue)
{
    rd_kafka_ListConsumerGroupOffsets_t *one = ctx;
    rd_kafka_ListConsumerGroupOffsets(rk, &one, 1, options, queue);
}

static void take_offset(kb_kafka_group_offset *to, const rd_kafka_topic_partition_list_t *found,
                        int error_number)
{
    const rd_kafka_topic_partition_t *one =
        found != NULL ? rd_kafka_topic_partition_list_find(found, to->topic, to->partition) : NULL;
    free(to->metadata);
    to->metadata = NULL;
    to->offset = -1;
    to->error_number = error_number;
    if (error_number != 0 || one == NULL)
        return;
    to->error_number = one->err;
    if (one->err != RD_KAFKA_RESP_ERR_NO_ERROR || one->offset < 0)
        return;
    to->offset = one->offset;
    to->metadata = kb_strndup(one->metadata_size > 0 ? one->metadata : "", one->metadata_size);
}

static int group_error(const rd_kafka_group_result_t *const *groups, size_t count)
{
    /* The library answers with one result for the one group. */
    if (count != 1)
        return RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE;
    const rd_kafka_error_t *error = rd_kafka_group_result_error(groups[0]);
    return error != NULL ? (int)rd_kafka_error_code(error) : 0;
}

static kb_code offsets_round(kb_kafka_live *live, const char *group, bool stable,
                             kb_kafka_group_offset *offsets, kb_kafka_rounds *rounds, kb_error *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)rounds->count);
    for (size_t i = 0; i < rounds->count; i++)
        rd_kafka_topic_partition_list_add(list, offsets[rounds->pending[i]].topic,
                                          offsets[rounds->pending[i]].partition);
    rd_kafka_ListConsumerGroupOffsets_t *one = rd_kafka_ListConsumerGroupOffsets_new(group, list);
    rd_kafka_topic_partition_list_destroy(list);
    kb_kafka_request request = {
        .what = "reading the offsets of a group",
        .op = RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS,
        .requires_stable = stable,
        .send = send_list,
        .ctx = one,
    };
    rd_kafka_event_t *event = NULL;
    kb_code code = kb_kafka_live_ask(live, &request, rounds->call, &event, err);
    rd_kafka_ListConsumerGroupOffsets_destroy(one);
    if (code != KB_OK)
        return code;
    size_t got = 0;
    const rd_kafka_group_result_t **groups = rd_kafka_ListConsumerGroupOffsets_result_groups(
        rd_kafka_event_ListConsumerGroupOffsets_result(event), &got);
    int error_number = group_error(groups, got);
    const rd_kafka_topic_partition_list_t *found =
        error_number == 0 ? rd_kafka_group_result_partitions(groups[0]) : NULL;
    size_t asked = rounds->count;
    for (size_t i = 0; i < asked; i++) {
        kb_kafka_group_offset *offset = &offsets[rounds->pending[i]];
        take_offset(offset, found, error_number);
        kb_kafka_rounds_answer(rounds, i, offset->error_number);
    }
    rd_kafka_event_destroy(event);
    return KB_OK;
}

kb_code kb_kafka_live_group_offsets(kb_kafka_admin *admin, const char *group, bool stable,
                                    kb_kafka_group_offset *offsets, size_t count, const kb_kafka_call *call,
                                    kb_error *err)
{
    kb_code code = KB_OK;
    kb_kafka_rounds rounds;
    kb_kafka_rounds_init(&rounds, call, count);
    if (count > 0)
        do
            code = offsets_round(kb_kafka_live_of(admin), group, stable, offsets, &rounds, err);
        while (code == KB_OK && kb_kafka_rounds_again(&rounds));
    kb_kafka_rounds_done(&rounds);
    return code == KB_OK ? KB_OK : kb_wrap(err, "group '%s'", group);
}

/* ---- deletion ---- */

static void send_delete(void *ctx, rd_kafka_t *rk, const rd_kafka_AdminOptions_t *options,
                        rd_kafka_queue_t *queue)
{
    rd_kafka_DeleteGroup_t *one = ctx;
    rd_kafka_DeleteGroups(rk, &one, 1, options, queue);
}

static kb_code delete_round(kb_kafka_live *live, const char *group, kb_kafka_rounds *rounds, int *ret_number,
                            kb_error *err)
{
    rd_kafka_DeleteGroup_t *one = rd_kafka_DeleteGroup_new(group);
    kb_kafka_request request = {
        .what = "deleting a group", .op = RD_KAFKA_ADMIN_OP_DELETEGROUPS, .send = send_delete, .ctx = one};
    rd_kafka_event_t *event = NULL;
    kb_code code = kb_kafka_live_ask(live, &request, rounds->call, &event, err);
    rd_kafka_DeleteGroup_destroy(one);
    if (code != KB_OK)
        return code;
    size_t got = 0;
    const rd_kafka_group_result_t **groups =
        rd_kafka_DeleteGroups_result_groups(rd_kafka_event_DeleteGroups_result(event), &got);
    *ret_number = group_error(groups, got);
    rd_kafka_event_destroy(event);
    kb_kafka_rounds_answer(rounds, 0, *ret_number);
    return KB_OK;
}

kb_code kb_kafka_live_delete_group(kb_kafka_admin *admin, const char *group, const kb_kafka_call *call,
                                   kb_error *err)
{
    kb_code code = KB_OK;
    int number = 0;
    kb_kafka_rounds rounds;
    kb_kafka_rounds_init(&rounds, call, 1);
    do
        code = delete_round(kb_kafka_live_of(admin), group, &rounds, &number, err);
    while (code == KB_OK && kb_kafka_rounds_again(&rounds));
    kb_kafka_rounds_done(&rounds);
    if (code != KB_OK)
        return kb_wrap(err, "group '%s'", group);
    if (number == 0 || number == RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND)
        return KB_OK;
    return kb_kafka_fail(err, number, NULL, "deleting group '%s'", group);
}

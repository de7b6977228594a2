#include "worker/kafka/kafka_admin_groups.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "worker/kafka/kafka_admin_live.h"

static int group_error(const rd_kafka_group_result_t *const *groups, size_t count)
{
    /* The library answers with one result for the one group. */
    if (count != 1)
        return RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE;
    const rd_kafka_error_t *error = rd_kafka_group_result_error(groups[0]);
    return error != NULL ? (int)rd_kafka_error_code(error) : 0;
}

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

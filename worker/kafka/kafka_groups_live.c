#include "worker/kafka/kafka_groups_live.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "worker/kafka/kafka_admin_live.h"

#define KB_GROUPS_SLICE_MS 100
#define KB_GROUPS_TRY_MS 15000
#define KB_GROUPS_PARALLEL 64
#define KB_GROUPS_BACKOFF_MS 100
#define KB_GROUPS_BACKOFF_MAX_MS 2000
#define KB_MEMBERS_TEXT_MAX 4096
#define KB_RDKAFKA_ERRSTR_BYTES 512

typedef struct groups_live {
    kb_kafka_groups groups; /* first */
    kb_kafka_admin *admin;  /* for requests that are not for one group */
} groups_live;

static kb_kafka_live *live_of(kb_kafka_groups *groups)
{
    return kb_kafka_live_of(((groups_live *)groups)->admin);
}

static void groups_free(kb_kafka_groups *owned_groups)
{
    groups_live *live = (groups_live *)owned_groups;
    kb_kafka_admin_free(live->admin);
    free(live);
}

/* ---- list ---- */

static kb_group_state state_of(rd_kafka_consumer_group_state_t state)
{
    switch (state) {
    case RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY:
        return KB_GROUP_STATE_EMPTY;
    case RD_KAFKA_CONSUMER_GROUP_STATE_DEAD:
        return KB_GROUP_STATE_ABSENT;
    case RD_KAFKA_CONSUMER_GROUP_STATE_PREPARING_REBALANCE:
    case RD_KAFKA_CONSUMER_GROUP_STATE_COMPLETING_REBALANCE:
    case RD_KAFKA_CONSUMER_GROUP_STATE_STABLE:
        return KB_GROUP_STATE_ACTIVE;
    case RD_KAFKA_CONSUMER_GROUP_STATE_UNKNOWN:
    case RD_KAFKA_CONSUMER_GROUP_STATE__CNT:
        break;
    }
    return KB_GROUP_STATE_UNKNOWN;
}

static void send_list(void *ctx, rd_kafka_t *rk, const rd_kafka_AdminOptions_t *options,
                      rd_kafka_queue_t *queue)
{
    (void)ctx;
    rd_kafka_ListConsumerGroups(rk, options, queue);
}

static void take_listings(const rd_kafka_ListConsumerGroups_result_t *result, kb_group_infos *infos)
{
    size_t count = 0;
    const rd_kafka_ConsumerGroupListing_t **listed = rd_kafka_ListConsumerGroups_result_valid(result, &count);
    for (size_t i = 0; i < count; i++) {
        kb_group_info *info = kb_group_infos_add(infos, rd_kafka_ConsumerGroupListing_group_id(listed[i]));
        rd_kafka_consumer_group_state_t state = rd_kafka_ConsumerGroupListing_state(listed[i]);
        /* The states that only the new protocol has are not known to the library by name. */
        info->state = state_of(state);
        free(info->state_text);
        info->state_text = info->state != KB_GROUP_STATE_UNKNOWN
                               ? kb_strdup(rd_kafka_consumer_group_state_name(state))
                               : NULL;
    }
}

/* The first error of a broker; 0 when all could be asked. */
static int take_failures(const rd_kafka_ListConsumerGroups_result_t *result, kb_group_infos *infos)
{
    size_t count = 0;
    const rd_kafka_error_t **errors = rd_kafka_ListConsumerGroups_result_errors(result, &count);
    infos->failures = count;
    if (count == 0)
        return 0;
    infos->failure = kb_strdup(rd_kafka_error_string(errors[0]));
    return rd_kafka_error_code(errors[0]);
}

static kb_code list_once(kb_kafka_live *live, const kb_kafka_call *call, kb_group_infos *infos,
                         int *ret_number, kb_error *err)
{
    kb_kafka_request request = {
        .what = "listing groups", .op = RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS, .send = send_list};
    rd_kafka_event_t *event = NULL;
    if (kb_kafka_live_ask(live, &request, call, &event, err) != KB_OK)
        return err->code;
    const rd_kafka_ListConsumerGroups_result_t *result = rd_kafka_event_ListConsumerGroups_result(event);
    take_listings(result, infos);
    *ret_number = take_failures(result, infos);
    rd_kafka_event_destroy(event);
    return KB_OK;
}

static kb_code groups_list(kb_kafka_groups *groups, const kb_kafka_call *call, kb_group_infos *ret_infos,
                           kb_error *err)
{
    kb_group_infos infos = {0};
    kb_kafka_rounds rounds;
    kb_kafka_rounds_init(&rounds, call, 1);
    kb_code code;
    do {
        int number = 0;
        kb_group_infos_done(&infos);
        code = list_once(live_of(groups), call, &infos, &number, err);
        if (code == KB_OK)
            kb_kafka_rounds_answer(&rounds, 0, number);
    } while (code == KB_OK && kb_kafka_rounds_again(&rounds));
    kb_kafka_rounds_done(&rounds);
    if (code == KB_OK)
        *ret_infos = infos;
    else
        kb_group_infos_done(&infos);
    return code;
}

/* ---- members ---- */

static void send_describe(void *ctx, rd_kafka_t *rk, const rd_kafka_AdminOptions_t *options,
                          rd_kafka_queue_t *queue)
{
    const char *group = ctx;
    rd_kafka_DescribeConsumerGroups(rk, &group, 1, options, queue);
}

static void take_members(const rd_kafka_ConsumerGroupDescription_t *described, kb_group_info *info)
{
    KB_AUTO_STRBUF(text, KB_MEMBERS_TEXT_MAX);
    size_t count = rd_kafka_ConsumerGroupDescription_member_count(described);
    for (size_t i = 0; i < count && i < KB_GROUP_MEMBERS_SHOWN; i++) {
        const rd_kafka_MemberDescription_t *member = rd_kafka_ConsumerGroupDescription_member(described, i);
        const char *host = rd_kafka_MemberDescription_host(member);
        kb_strbuf_appendf(&text, "%s%s (%s)", i > 0 ? ", " : "", rd_kafka_MemberDescription_client_id(member),
                          host != NULL ? host : "");
    }
    /* The new protocol's groups look dead to this request; the listing knows better. */
    kb_group_state state = state_of(rd_kafka_ConsumerGroupDescription_state(described));
    if (info->state == KB_GROUP_STATE_UNKNOWN && state != KB_GROUP_STATE_ABSENT)
        info->state = state;
    if (count == 0 || text.failed)
        return;
    free(info->members);
    info->members = kb_strbuf_take(&text);
    info->member_count = count;
}

static kb_code groups_describe(kb_kafka_groups *groups, kb_group_info *info, const kb_kafka_call *call,
                               kb_error *err)
{
    kb_kafka_request request = {.what = "describing a group",
                                .op = RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
                                .send = send_describe,
                                .ctx = info->group};
    rd_kafka_event_t *event = NULL;
    if (kb_kafka_live_ask(live_of(groups), &request, call, &event, err) != KB_OK)
        return err->code;
    size_t count = 0;
    const rd_kafka_ConsumerGroupDescription_t **described = rd_kafka_DescribeConsumerGroups_result_groups(
        rd_kafka_event_DescribeConsumerGroups_result(event), &count);
    if (count == 1 && rd_kafka_ConsumerGroupDescription_error(described[0]) == NULL)
        take_members(described[0], info);
    rd_kafka_event_destroy(event);
    return KB_OK;
}

/* ---- one request for each group, many at once ---- */

typedef enum group_step { STEP_READ, STEP_WRITE, STEP_ERASE, STEP_DONE } group_step;

typedef struct group_task {
    kb_group_entry *entry;
    group_step step;
    bool wants_again; /* the answer of this round may be another one later */
} group_task;

typedef struct group_batch {
    kb_kafka_live *live;
    const kb_groups_call *call;
    group_task *tasks;
    size_t count;
    kb_kafka_handle *handle; /* of one round */
    rd_kafka_queue_t *queue;
    size_t in_flight;
} group_batch;

/*
 * The library's code for offsets of a group reaches for "the" group of the handle when a coordinator has
 * moved, so the handle has one. It never joins: nothing is subscribed.
 */
static kb_code open_handle(group_batch *batch, const char *group, kb_error *err)
{
    kb_kafka_property properties[] = {
        {"group.id", kb_strdup(group)},
        {"enable.auto.commit", kb_strdup("false")},
    };
    kb_kafka_handle_spec spec = {
        .type = RD_KAFKA_CONSUMER,
        .properties = properties,
        .property_count = KB_ARRAY_LEN(properties),
    };
    kb_code code =
        kb_kafka_handle_new(kb_kafka_handle_options(batch->live->handle), &spec, &batch->handle, err);
    for (size_t i = 0; i < KB_ARRAY_LEN(properties); i++)
        free(properties[i].value);
    if (code != KB_OK)
        return kb_wrap(err, "making a Kafka client");
    batch->queue = rd_kafka_queue_new(kb_kafka_handle_rk(batch->handle));
    return KB_OK;
}

static void close_handle(group_batch *batch)
{
    if (batch->queue != NULL)
        rd_kafka_queue_destroy(batch->queue);
    batch->queue = NULL;
    kb_kafka_handle_free(batch->handle);
    batch->handle = NULL;
}

static int64_t left_of(const group_batch *batch)
{
    int64_t left = batch->call->base.deadline_ms - kb_clock_boot_ms();
    return left > 0 ? left : 0;
}

static kb_code make_options(const group_batch *batch, group_task *task, rd_kafka_AdminOptions_t **ret_options,
                            kb_error *err)
{
    static const rd_kafka_admin_op_t ops[] = {
        [STEP_READ] = RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS,
        [STEP_WRITE] = RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS,
        [STEP_ERASE] = RD_KAFKA_ADMIN_OP_DELETECONSUMERGROUPOFFSETS,
    };
    char reason[KB_RDKAFKA_ERRSTR_BYTES] = "";
    int64_t left = left_of(batch);
    int timeout_ms = left < KB_GROUPS_TRY_MS ? (int)(left > 0 ? left : 1) : KB_GROUPS_TRY_MS;
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(kb_kafka_handle_rk(batch->handle), ops[task->step]);
    rd_kafka_resp_err_t number =
        rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, reason, sizeof reason);
    if (number == RD_KAFKA_RESP_ERR_NO_ERROR && task->step == STEP_READ) {
        rd_kafka_error_t *error = rd_kafka_AdminOptions_set_require_stable_offsets(options, 1);
        number = error != NULL ? rd_kafka_error_code(error) : RD_KAFKA_RESP_ERR_NO_ERROR;
        rd_kafka_error_destroy(error);
    }
    rd_kafka_AdminOptions_set_opaque(options, task);
    if (number != RD_KAFKA_RESP_ERR_NO_ERROR) {
        rd_kafka_AdminOptions_destroy(options);
        return kb_fail(err, KB_ERR_INTERNAL, "options of a group request: %s", reason);
    }
    *ret_options = options;
    return KB_OK;
}

static bool is_of_step(const kb_group_place *place, group_step step)
{
    return (place->offset == KB_GROUP_NO_OFFSET) == (step == STEP_ERASE);
}

static rd_kafka_topic_partition_list_t *make_places(const group_task *task)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)task->entry->count);
    for (size_t i = 0; i < task->entry->count; i++) {
        const kb_group_place *place = &task->entry->places[i];
        if (!is_of_step(place, task->step))
            continue;
        rd_kafka_topic_partition_t *to =
            rd_kafka_topic_partition_list_add(list, place->topic, place->partition);
        if (task->step == STEP_ERASE)
            continue;
        to->offset = place->offset;
        if (place->metadata != NULL && place->metadata[0] != '\0') {
            to->metadata = kb_strdup(place->metadata); /* the library frees it */
            to->metadata_size = strlen(place->metadata);
        }
    }
    return list;
}

static void send_read(const group_batch *batch, const group_task *task,
                      const rd_kafka_AdminOptions_t *options)
{
    rd_kafka_ListConsumerGroupOffsets_t *one =
        rd_kafka_ListConsumerGroupOffsets_new(task->entry->group, NULL);
    rd_kafka_ListConsumerGroupOffsets(kb_kafka_handle_rk(batch->handle), &one, 1, options, batch->queue);
    rd_kafka_ListConsumerGroupOffsets_destroy(one);
}

static void send_change(const group_batch *batch, const group_task *task,
                        const rd_kafka_AdminOptions_t *options)
{
    rd_kafka_t *rk = kb_kafka_handle_rk(batch->handle);
    rd_kafka_topic_partition_list_t *list = make_places(task);
    if (task->step == STEP_WRITE) {
        rd_kafka_AlterConsumerGroupOffsets_t *one =
            rd_kafka_AlterConsumerGroupOffsets_new(task->entry->group, list);
        rd_kafka_AlterConsumerGroupOffsets(rk, &one, 1, options, batch->queue);
        rd_kafka_AlterConsumerGroupOffsets_destroy(one);
    } else {
        rd_kafka_DeleteConsumerGroupOffsets_t *one =
            rd_kafka_DeleteConsumerGroupOffsets_new(task->entry->group, list);
        rd_kafka_DeleteConsumerGroupOffsets(rk, &one, 1, options, batch->queue);
        rd_kafka_DeleteConsumerGroupOffsets_destroy(one);
    }
    rd_kafka_topic_partition_list_destroy(list);
}

static kb_code send_task(group_batch *batch, group_task *task, kb_error *err)
{
    rd_kafka_AdminOptions_t *options = NULL;
    if (make_options(batch, task, &options, err) != KB_OK)
        return err->code;
    if (task->step == STEP_READ)
        send_read(batch, task, options);
    else
        send_change(batch, task, options);
    rd_kafka_AdminOptions_destroy(options);
    batch->in_flight++;
    return KB_OK;
}

/* ---- answers ---- */

static const rd_kafka_group_result_t *result_of(const rd_kafka_event_t *event, group_step step)
{
    size_t count = 0;
    const rd_kafka_group_result_t **results = NULL;
    rd_kafka_event_t *asked = (rd_kafka_event_t *)(uintptr_t)event;
    if (step == STEP_READ)
        results = rd_kafka_ListConsumerGroupOffsets_result_groups(
            rd_kafka_event_ListConsumerGroupOffsets_result(asked), &count);
    else if (step == STEP_WRITE)
        results = rd_kafka_AlterConsumerGroupOffsets_result_groups(
            rd_kafka_event_AlterConsumerGroupOffsets_result(asked), &count);
    else
        results = rd_kafka_DeleteConsumerGroupOffsets_result_groups(
            rd_kafka_event_DeleteConsumerGroupOffsets_result(asked), &count);
    return count == 1 ? results[0] : NULL;
}

static bool may_pass(int error_number)
{
    kb_kafka_verdict verdict = kb_kafka_classify(error_number);
    return verdict.retryable && verdict.code != KB_TOPIC_NOT_FOUND;
}

static void take_read(group_task *task, const rd_kafka_topic_partition_list_t *list)
{
    kb_group_entry_clear(task->entry);
    for (int i = 0; list != NULL && i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *from = &list->elems[i];
        if (from->err == RD_KAFKA_RESP_ERR_NO_ERROR && from->offset < 0)
            continue;
        KB_AUTOFREE char *metadata =
            from->metadata_size > 0 ? kb_strndup(from->metadata, from->metadata_size) : kb_strdup("");
        kb_group_place *place =
            kb_group_entry_put(task->entry, from->topic, from->partition,
                               from->err == 0 ? from->offset : KB_GROUP_NO_OFFSET, metadata);
        place->error_number = from->err;
        task->wants_again = task->wants_again || may_pass(from->err);
    }
}

static void take_change(group_task *task, const rd_kafka_topic_partition_list_t *list)
{
    for (size_t i = 0; i < task->entry->count; i++) {
        kb_group_place *place = &task->entry->places[i];
        if (!is_of_step(place, task->step))
            continue;
        const rd_kafka_topic_partition_t *got =
            list != NULL
                ? rd_kafka_topic_partition_list_find((rd_kafka_topic_partition_list_t *)(uintptr_t)list,
                                                     place->topic, place->partition)
                : NULL;
        place->error_number = got != NULL ? (int)got->err : (int)RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE;
        task->wants_again = task->wants_again || may_pass(place->error_number);
    }
}

static int answer_error(const rd_kafka_event_t *event, const rd_kafka_group_result_t *result)
{
    int number = rd_kafka_event_error((rd_kafka_event_t *)(uintptr_t)event);
    if (number != 0)
        return number;
    if (result == NULL)
        return RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE;
    const rd_kafka_error_t *error = rd_kafka_group_result_error(result);
    return error != NULL ? (int)rd_kafka_error_code(error) : 0;
}

static group_step next_step(const group_task *task)
{
    if (task->step == STEP_WRITE)
        for (size_t i = 0; i < task->entry->count; i++)
            if (is_of_step(&task->entry->places[i], STEP_ERASE))
                return STEP_ERASE;
    return STEP_DONE;
}

static group_step first_change(const kb_group_entry *entry)
{
    for (size_t i = 0; i < entry->count; i++)
        if (is_of_step(&entry->places[i], STEP_WRITE))
            return STEP_WRITE;
    return entry->count > 0 ? STEP_ERASE : STEP_DONE;
}

/* Takes an answer; sends the group's next request, or tells that it is done. */
static kb_code take_event(group_batch *batch, rd_kafka_event_t *event, kb_error *err)
{
    group_task *task = rd_kafka_event_opaque(event);
    batch->in_flight--;
    const rd_kafka_group_result_t *result =
        rd_kafka_event_error(event) == 0 ? result_of(event, task->step) : NULL;
    int number = answer_error(event, result);
    /* A group that is not there has no offsets. */
    if (number == RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND && task->step != STEP_WRITE)
        number = 0;
    kb_group_entry_fail(task->entry, number, number != 0 ? rd_kafka_event_error_string(event) : NULL);
    task->wants_again = may_pass(number);
    const rd_kafka_topic_partition_list_t *list =
        result != NULL ? rd_kafka_group_result_partitions(result) : NULL;
    if (number == 0 && task->step == STEP_READ)
        take_read(task, list);
    else if (number == 0 && result != NULL)
        take_change(task, list);
    if (task->wants_again && left_of(batch) > 0)
        return KB_OK;
    kb_kafka_handle_note_success(batch->handle);
    task->wants_again = false;
    task->step = number == 0 ? next_step(task) : STEP_DONE;
    if (task->step != STEP_DONE)
        return send_task(batch, task, err);
    return batch->call->on_done != NULL ? batch->call->on_done(batch->call->ctx, task->entry, err) : KB_OK;
}

/* Waits for one event at most. */
static kb_code serve(group_batch *batch, kb_error *err)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(batch->queue, KB_GROUPS_SLICE_MS);
    (void)kb_kafka_handle_serve(batch->handle, 0);
    kb_code code = KB_OK;
    if (event != NULL && rd_kafka_event_opaque(event) != NULL)
        code = take_event(batch, event, err);
    rd_kafka_event_destroy(event);
    if (code != KB_OK)
        return code;
    if (batch->call->base.stop != NULL && kb_stop_requested(batch->call->base.stop))
        return kb_fail(err, KB_ERR_STOPPED, "stopped while asking the coordinators of groups");
    return event == NULL ? kb_kafka_handle_check(batch->handle, err) : KB_OK;
}

/* Sends for every task that is not done. */
static kb_code run_round(group_batch *batch, kb_error *err)
{
    size_t parallel = batch->call->parallelism > 0 ? batch->call->parallelism : KB_GROUPS_PARALLEL;
    size_t next = 0;
    kb_code code = KB_OK;
    while (code == KB_OK && (next < batch->count || batch->in_flight > 0)) {
        if (next < batch->count && batch->in_flight < parallel) {
            group_task *task = &batch->tasks[next++];
            task->wants_again = false;
            if (task->step != STEP_DONE)
                code = send_task(batch, task, err);
            continue;
        }
        code = serve(batch, err);
    }
    return code;
}

static size_t count_open(const group_batch *batch)
{
    size_t open = 0;
    for (size_t i = 0; i < batch->count; i++)
        open += batch->tasks[i].step != STEP_DONE ? 1 : 0;
    return open;
}

static void pause_batch(const group_batch *batch, kb_backoff *backoff)
{
    int64_t wait_ms = kb_backoff_next(backoff);
    struct timespec pause = {wait_ms / 1000, (long)(wait_ms % 1000) * 1000000};
    if (batch->call->base.stop != NULL)
        (void)kb_stop_wait(batch->call->base.stop, wait_ms);
    else
        (void)nanosleep(&pause, NULL);
}

static kb_code run_batch(group_batch *batch, kb_error *err)
{
    kb_backoff backoff;
    kb_backoff_init(&backoff, KB_GROUPS_BACKOFF_MS, KB_GROUPS_BACKOFF_MAX_MS, NULL, NULL);
    kb_code code = KB_OK;
    /* Each round has a handle of its own: what the last one knew of coordinators may be what was wrong. */
    while (code == KB_OK && count_open(batch) > 0) {
        code = open_handle(batch, batch->tasks[0].entry->group, err);
        if (code == KB_OK)
            code = run_round(batch, err);
        close_handle(batch);
        batch->in_flight = 0;
        if (code == KB_OK && count_open(batch) > 0)
            pause_batch(batch, &backoff);
    }
    return code;
}

static kb_code run_set(kb_kafka_groups *groups, kb_group_set *set, bool is_read, const kb_groups_call *call,
                       kb_error *err)
{
    if (set->count == 0)
        return KB_OK;
    KB_AUTOFREE group_task *tasks = kb_calloc(set->count, sizeof *tasks);
    for (size_t i = 0; i < set->count; i++) {
        kb_group_entry *entry = &set->groups[i];
        tasks[i] = (group_task){entry, is_read ? STEP_READ : first_change(entry), false};
        kb_group_entry_fail(entry, 0, NULL);
    }
    group_batch batch = {.live = live_of(groups), .call = call, .tasks = tasks, .count = set->count};
    return run_batch(&batch, err);
}

static kb_code groups_committed(kb_kafka_groups *groups, kb_group_set *set, const kb_groups_call *call,
                                kb_error *err)
{
    return run_set(groups, set, true, call, err);
}

static kb_code groups_commit(kb_kafka_groups *groups, kb_group_set *set, const kb_groups_call *call,
                             kb_error *err)
{
    return run_set(groups, set, false, call, err);
}

static const kb_kafka_groups_ops LIVE_OPS = {
    .free = groups_free,
    .list = groups_list,
    .describe = groups_describe,
    .committed = groups_committed,
    .commit = groups_commit,
};

kb_code kb_kafka_groups_new(const kb_kafka_options *options, kb_breaker *breaker,
                            kb_kafka_groups **ret_groups, kb_error *err)
{
    kb_kafka_admin *admin = NULL;
    if (kb_kafka_admin_new(options, breaker, &admin, err) != KB_OK)
        return err->code;
    groups_live *live = kb_calloc(1, sizeof *live);
    live->groups.ops = &LIVE_OPS;
    live->admin = admin;
    *ret_groups = &live->groups;
    return KB_OK;
}

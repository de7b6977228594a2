#include "worker/kafka/kafka_committed.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_handle.h"

#define KB_COMMITTED_TRY_MS 5000
#define KB_COMMITTED_BACKOFF_MS 100
#define KB_COMMITTED_BACKOFF_MAX_MS 2000

static kb_code handle_new(const kb_kafka_options *options, const char *group, bool stable,
                          kb_kafka_handle **ret_handle, kb_error *err)
{
    kb_kafka_property properties[] = {
        {"group.id", kb_strdup(group)},
        /* The library asks for stable offsets when it reads committed records only. */
        {"isolation.level", kb_strdup(stable ? "read_committed" : "read_uncommitted")},
        {"enable.auto.commit", kb_strdup("false")},
    };
    kb_kafka_handle_spec spec = {
        .type = RD_KAFKA_CONSUMER,
        .properties = properties,
        .property_count = KB_ARRAY_LEN(properties),
    };
    kb_code code = kb_kafka_handle_new(options, &spec, ret_handle, err);
    for (size_t i = 0; i < KB_ARRAY_LEN(properties); i++)
        free(properties[i].value);
    return code == KB_OK ? KB_OK : kb_wrap(err, "making a Kafka client");
}

static void take(kb_kafka_group_offset *to, const rd_kafka_topic_partition_t *from)
{
    free(to->metadata);
    to->metadata = NULL;
    to->offset = -1;
    to->error_number = from->err;
    if (from->err != RD_KAFKA_RESP_ERR_NO_ERROR || from->offset < 0)
        return;
    to->offset = from->offset;
    to->metadata = from->metadata_size > 0 ? kb_strndup(from->metadata, from->metadata_size) : kb_strdup("");
}

/* The first transient error of a partition, else 0; *list has answers for all offsets, in their order. */
static int take_all(kb_kafka_group_offset *offsets, const rd_kafka_topic_partition_list_t *list)
{
    int transient = 0;
    for (int i = 0; i < list->cnt; i++) {
        take(&offsets[i], &list->elems[i]);
        kb_kafka_verdict verdict = kb_kafka_classify(offsets[i].error_number);
        if (verdict.retryable && verdict.code != KB_TOPIC_NOT_FOUND && transient == 0)
            transient = offsets[i].error_number;
    }
    return transient;
}

static rd_kafka_topic_partition_list_t *make_list(const kb_kafka_group_offset *offsets, size_t count)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);
    for (size_t i = 0; i < count; i++)
        rd_kafka_topic_partition_list_add(list, offsets[i].topic, offsets[i].partition);
    return list;
}

static kb_code ask(kb_kafka_handle *handle, const char *group, kb_kafka_group_offset *offsets, size_t count,
                   const kb_kafka_call *call, kb_error *err)
{
    KB_AUTOFREE char *what = kb_asprintf("reading the offsets of group '%s'", group);
    kb_backoff backoff;
    kb_backoff_init(&backoff, KB_COMMITTED_BACKOFF_MS, KB_COMMITTED_BACKOFF_MAX_MS, NULL, NULL);
    while (true) {
        int64_t left_ms = call->deadline_ms - kb_clock_boot_ms();
        rd_kafka_topic_partition_list_t *list = make_list(offsets, count);
        int64_t try_ms = left_ms < KB_COMMITTED_TRY_MS ? left_ms : KB_COMMITTED_TRY_MS;
        int number = rd_kafka_committed(kb_kafka_handle_rk(handle), list, try_ms > 0 ? (int)try_ms : 1);
        (void)kb_kafka_handle_serve(handle, 0);
        int item = number == 0 ? take_all(offsets, list) : 0;
        rd_kafka_topic_partition_list_destroy(list);
        if (number == 0 && (item == 0 || left_ms <= 0))
            return KB_OK;
        if (number != 0 && (!kb_kafka_classify(number).retryable || left_ms <= 0))
            return kb_kafka_handle_is_refused(handle) ? kb_kafka_handle_fail(handle, number, what, err)
                                                      : kb_kafka_fail(err, number, NULL, "%s", what);
        if (kb_kafka_handle_check(handle, err) != KB_OK)
            return kb_wrap(err, "%s", what);
        if (call->stop != NULL && kb_backoff_wait(&backoff, call->stop))
            return kb_fail(err, KB_ERR_STOPPED, "stopped while %s", what);
    }
}

kb_code kb_kafka_committed(const kb_kafka_options *options, const char *group, bool stable,
                           kb_kafka_group_offset *offsets, size_t count, const kb_kafka_call *call,
                           kb_error *err)
{
    if (count == 0)
        return KB_OK;
    kb_kafka_handle *handle = NULL;
    if (handle_new(options, group, stable, &handle, err) != KB_OK)
        return err->code;
    kb_code code = ask(handle, group, offsets, count, call, err);
    kb_kafka_handle_free(handle);
    return code;
}

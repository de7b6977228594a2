#include "worker/kafka/kafka_txn.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_writer_private.h"

#define KB_TXN_PAUSE_MS 100
#define KB_TXN_SLICE_MS 50

static int left_ms(int64_t deadline_ms)
{
    enum { LONGEST_MS = 3600000 };
    int64_t left = deadline_ms - kb_clock_boot_ms();
    if (left <= 0)
        return 0;
    return left < LONGEST_MS ? (int)left : LONGEST_MS;
}

/* One of the library's transaction calls; ctx is the caller's. NULL on success. */
typedef rd_kafka_error_t *(*txn_step)(rd_kafka_t *rk, void *ctx, int timeout_ms);

static kb_code txn_failure(kb_kafka_writer *writer, const char *what, rd_kafka_error_t *owned_error,
                           kb_error *err)
{
    rd_kafka_resp_err_t number = rd_kafka_error_code(owned_error);
    KB_AUTOFREE char *text = kb_strdup(rd_kafka_error_string(owned_error));
    bool needs_abort = rd_kafka_error_txn_requires_abort(owned_error) != 0;
    rd_kafka_error_destroy(owned_error);
    if (kb_kafka_classify(number).class_ == KB_KAFKA_CLASS_FENCED)
        return kb_kafka_fail(err, number, text, "%s: another producer has taken over the transactional id",
                             what);
    if (needs_abort) {
        writer->needs_abort = true;
        return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "%s: the transaction has to be aborted: %s (%s)",
                                 what, text, kb_kafka_error_name(number));
    }
    if (kb_kafka_handle_is_refused(writer->handle))
        return kb_kafka_handle_fail(writer->handle, number, what, err);
    return kb_kafka_fail(err, number, text, "%s", what);
}

/* Calls step again while the library says that this may help and there is time. */
static kb_code txn_run(kb_kafka_writer *writer, const char *what, txn_step step, void *ctx,
                       int64_t deadline_ms, kb_error *err)
{
    static const struct timespec PAUSE = {0, KB_TXN_PAUSE_MS * 1000000L};
    while (true) {
        rd_kafka_error_t *error = step(writer->rk, ctx, left_ms(deadline_ms));
        (void)kb_kafka_handle_serve(writer->handle, 0);
        if (error == NULL) {
            kb_kafka_handle_note_success(writer->handle);
            return KB_OK;
        }
        bool is_last = !rd_kafka_error_is_retriable(error) || left_ms(deadline_ms) == 0;
        if (is_last)
            return txn_failure(writer, what, error, err);
        rd_kafka_error_destroy(error);
        kb_code code = kb_kafka_handle_check(writer->handle, err);
        if (code != KB_OK)
            return kb_wrap(err, "%s", what);
        (void)nanosleep(&PAUSE, NULL);
    }
}

static rd_kafka_error_t *step_init(rd_kafka_t *rk, void *ctx, int timeout_ms)
{
    (void)ctx;
    enum { SLICE_MS = 5000 }; /* so that refusals are seen in between; the library goes on where it was */
    return rd_kafka_init_transactions(rk, timeout_ms < SLICE_MS ? timeout_ms : SLICE_MS);
}

kb_code kb_kafka_writer_txn_init(kb_kafka_writer *writer, int64_t deadline_ms, kb_error *err)
{
    return txn_run(writer, "taking over the transactional id", step_init, NULL, deadline_ms, err);
}

kb_code kb_kafka_writer_txn_begin(kb_kafka_writer *writer, kb_error *err)
{
    rd_kafka_error_t *error = rd_kafka_begin_transaction(writer->rk);
    if (error != NULL)
        return txn_failure(writer, "beginning a transaction", error, err);
    writer->needs_abort = false;
    writer->is_purged = false;
    return KB_OK;
}

typedef struct offsets_ctx {
    rd_kafka_topic_partition_list_t *list;
    rd_kafka_consumer_group_metadata_t *group;
} offsets_ctx;

static rd_kafka_error_t *step_offsets(rd_kafka_t *rk, void *ctx, int timeout_ms)
{
    const offsets_ctx *offsets = ctx;
    return rd_kafka_send_offsets_to_transaction(rk, offsets->list, offsets->group, timeout_ms);
}

kb_code kb_kafka_writer_txn_offsets(kb_kafka_writer *writer, const char *group,
                                    const kb_kafka_txn_offset *offsets, size_t count, int64_t deadline_ms,
                                    kb_error *err)
{
    offsets_ctx ctx = {rd_kafka_topic_partition_list_new((int)count),
                       rd_kafka_consumer_group_metadata_new(group)};
    for (size_t i = 0; i < count; i++) {
        rd_kafka_topic_partition_t *to =
            rd_kafka_topic_partition_list_add(ctx.list, offsets[i].topic, offsets[i].partition);
        to->offset = offsets[i].offset;
        if (offsets[i].metadata == NULL)
            continue;
        /* The list frees it by the library's free, which is libc's in a static build and beside it. */
        to->metadata = kb_strdup(offsets[i].metadata);
        to->metadata_size = strlen(offsets[i].metadata);
    }
    kb_code code = txn_run(writer, "adding offsets to the transaction", step_offsets, &ctx, deadline_ms, err);
    rd_kafka_consumer_group_metadata_destroy(ctx.group);
    rd_kafka_topic_partition_list_destroy(ctx.list);
    return code;
}

static rd_kafka_error_t *step_commit(rd_kafka_t *rk, void *ctx, int timeout_ms)
{
    (void)ctx;
    return rd_kafka_commit_transaction(rk, timeout_ms);
}

kb_code kb_kafka_writer_txn_commit(kb_kafka_writer *writer, int64_t deadline_ms, kb_error *err)
{
    kb_code code = kb_kafka_writer_flush(writer, deadline_ms, NULL, err);
    if (code != KB_OK)
        return kb_wrap(err, "committing a transaction");
    return txn_run(writer, "committing a transaction", step_commit, NULL, deadline_ms, err);
}

static rd_kafka_error_t *step_abort(rd_kafka_t *rk, void *ctx, int timeout_ms)
{
    (void)ctx;
    return rd_kafka_abort_transaction(rk, timeout_ms);
}

kb_code kb_kafka_writer_txn_abort(kb_kafka_writer *writer, int64_t deadline_ms, kb_error *err)
{
    kb_kafka_writer_purge(writer);
    while (kb_kafka_writer_count(writer) > 0 && left_ms(deadline_ms) > 0)
        (void)kb_kafka_handle_serve(writer->handle, KB_TXN_SLICE_MS);
    kb_code code = txn_run(writer, "aborting a transaction", step_abort, NULL, deadline_ms, err);
    if (code == KB_OK)
        writer->needs_abort = false;
    return code;
}

bool kb_kafka_writer_needs_abort(const kb_kafka_writer *writer)
{
    return writer->needs_abort;
}

#include "worker/kafka/kafka_range.h"

#include "common/base/clock.h"

#define KB_RANGE_SLICE_MS 100

/* The one stream of a range. */
typedef struct range_state {
    const kb_kafka_range *range;
    bool (*on_record)(void *ctx, const kb_source_record *record);
    void *ctx;
    int64_t reached;
    bool is_done;
    kb_code code;
    kb_error *err;
} range_state;

static bool range_on_record(void *owner, const kb_source_record *record)
{
    range_state *state = owner;
    if (state->is_done)
        return false;
    if (record->offset >= state->range->to) {
        state->reached = record->offset;
        state->is_done = true;
        return false;
    }
    bool go_on = state->on_record(state->ctx, record);
    state->reached = record->offset + 1;
    state->is_done = !go_on || state->reached >= state->range->to;
    return !state->is_done;
}

static void range_on_eof(void *owner, int64_t offset)
{
    range_state *state = owner;
    if (state->is_done)
        return;
    state->reached = offset;
    state->is_done = true;
}

static void range_on_error(void *owner, const kb_kafka_stream_error *error)
{
    range_state *state = owner;
    state->is_done = true;
    state->code = error->retryable ? kb_fail_retryable(state->err, error->code, "%s", error->text)
                                   : kb_fail(state->err, error->code, "%s", error->text);
}

/* KB_OK when the stream is done, or why it cannot go on. */
static kb_code range_wait(kb_kafka_reader *reader, range_state *state)
{
    static const kb_kafka_reader_events EVENTS = {range_on_record, range_on_eof, range_on_error};
    const kb_kafka_range *range = state->range;
    while (!state->is_done) {
        if (range->stop != NULL && kb_stop_requested(range->stop))
            return kb_fail(state->err, KB_ERR_STOPPED, "stopped while reading %s/%d", range->topic,
                           (int)range->partition);
        if (kb_clock_boot_ms() >= range->deadline_ms) {
            kb_kafka_state now;
            kb_kafka_reader_state(reader, &now);
            kb_fail_retryable(state->err, KB_NO_PROGRESS, "%s/%d: nothing came after offset %lld in time%s%s",
                              range->topic, (int)range->partition, (long long)state->reached,
                              now.last_error != NULL ? ": " : "",
                              now.last_error != NULL ? now.last_error : "");
            kb_kafka_state_done(&now);
            return KB_NO_PROGRESS;
        }
        kb_code code = kb_kafka_reader_poll(reader, KB_RANGE_SLICE_MS, &EVENTS, state->err);
        if (code != KB_OK)
            return code;
    }
    return state->code;
}

kb_code kb_kafka_read_range(kb_kafka_reader *reader, const kb_kafka_range *range,
                            bool (*on_record)(void *ctx, const kb_source_record *record), void *ctx,
                            int64_t *ret_reached, kb_error *err)
{
    if (kb_kafka_reader_count(reader) != 0)
        return kb_fail(err, KB_ERR_INTERNAL, "reading a range of %s/%d with a reader that is busy",
                       range->topic, (int)range->partition);
    range_state state = {
        .range = range,
        .on_record = on_record,
        .ctx = ctx,
        .reached = range->from,
        .is_done = range->from >= range->to,
        .err = err,
    };
    if (!state.is_done) {
        kb_code code =
            kb_kafka_reader_start(reader, range->topic, range->partition, range->from, &state, err);
        if (code == KB_OK)
            code = range_wait(reader, &state);
        kb_kafka_reader_stop(reader, range->topic, range->partition);
        if (code != KB_OK)
            return code;
    }
    if (ret_reached != NULL)
        *ret_reached = state.reached;
    return KB_OK;
}

#include "worker/kafka/kafka_admin_live.h"

#include <stdlib.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_admin_configs.h"
#include "worker/kafka/kafka_admin_groups.h"
#include "worker/kafka/kafka_admin_offsets.h"
#include "worker/kafka/kafka_admin_topics.h"

#define KB_ADMIN_SLICE_MS 100 /* how late a stop or a refusal may be noticed */
#define KB_ADMIN_TRY_MS 15000 /* of one request; then it is sent again, to another broker where it may be */
#define KB_ADMIN_BACKOFF_MS 100
#define KB_ADMIN_BACKOFF_MAX_MS 2000
#define KB_RDKAFKA_ERRSTR_BYTES 512

static const kb_kafka_admin_ops LIVE_OPS;

static void live_free(kb_kafka_admin *owned_admin)
{
    kb_kafka_live *live = kb_kafka_live_of(owned_admin);
    kb_kafka_handle_free(live->handle);
    free(live);
}

static const kb_kafka_admin_ops LIVE_OPS = {
    .free = live_free,
    .metadata = kb_kafka_live_get_metadata,
    .list_offsets = kb_kafka_live_list_offsets,
    .describe_topic_configs = kb_kafka_live_describe_topic_configs,
    .describe_broker_configs = kb_kafka_live_describe_broker_configs,
    .create_topics = kb_kafka_live_create_topics,
    .alter_topic_configs = kb_kafka_live_alter_topic_configs,
    .delete_records = kb_kafka_live_delete_records,
    .delete_group = kb_kafka_live_delete_group,
};

kb_code kb_kafka_admin_new(const kb_kafka_options *options, kb_breaker *breaker, kb_kafka_admin **ret_admin,
                           kb_error *err)
{
    /* A consumer without a group: it never creates topics, and starts less than a producer. */
    kb_kafka_handle_spec spec = {.type = RD_KAFKA_CONSUMER};
    kb_kafka_handle *handle = NULL;
    kb_code code = kb_kafka_handle_new(options, &spec, &handle, err);
    if (code != KB_OK)
        return kb_wrap(err, "making a Kafka admin client");
    kb_kafka_live *live = kb_calloc(1, sizeof *live);
    *live = (kb_kafka_live){{&LIVE_OPS}, handle, kb_kafka_handle_rk(handle), breaker};
    *ret_admin = &live->admin;
    return KB_OK;
}

/* ---- waiting ---- */

static int64_t left_of(const kb_kafka_call *call)
{
    int64_t left = call->deadline_ms - kb_clock_boot_ms();
    return left > 0 ? left : 0;
}

/* True when the stop token was set. */
static bool pause_for(const kb_kafka_call *call, int64_t ms)
{
    int64_t left = left_of(call);
    int64_t wait_ms = ms < left ? ms : left;
    if (call->stop != NULL)
        return kb_stop_wait(call->stop, wait_ms);
    struct timespec pause = {wait_ms / 1000, (long)(wait_ms % 1000) * 1000000};
    (void)nanosleep(&pause, NULL);
    return false;
}

static kb_code stopped(const char *what, kb_error *err)
{
    return kb_fail(err, KB_ERR_STOPPED, "stopped while %s", what);
}

/* Waits until the breaker lets a call through. */
static kb_code breaker_wait(kb_kafka_live *live, const char *what, const kb_kafka_call *call, kb_error *err)
{
    while (live->breaker != NULL && !kb_breaker_allow(live->breaker, kb_clock_boot_ms())) {
        if (left_of(call) == 0)
            return kb_fail_retryable(err, KB_KAFKA_UNREACHABLE,
                                     "%s: too many failures in a row, the circuit to Kafka is open", what);
        int64_t wait_ms = kb_breaker_wait_ms(live->breaker, kb_clock_boot_ms());
        if (pause_for(call, wait_ms > 0 ? wait_ms : KB_ADMIN_SLICE_MS))
            return stopped(what, err);
    }
    return KB_OK;
}

static void breaker_tell(kb_kafka_live *live, int error_number)
{
    if (live->breaker == NULL)
        return;
    /* An answer is an answer, also a refusal: the circuit is about brokers that cannot be reached. */
    if (kb_kafka_classify(error_number).class_ == KB_KAFKA_CLASS_TRANSIENT)
        kb_breaker_on_failure(live->breaker, kb_clock_boot_ms());
    else
        kb_breaker_on_success(live->breaker, kb_clock_boot_ms());
}

static kb_code ask_failure(kb_kafka_live *live, int error_number, const char *text, const char *what,
                           kb_error *err)
{
    bool is_connection = kb_kafka_classify(error_number).code == KB_KAFKA_UNREACHABLE;
    kb_kafka_state state;
    kb_kafka_handle_state(live->handle, &state);
    bool is_explained = state.last_error != NULL;
    kb_kafka_state_done(&state);
    if (is_connection && (is_explained || kb_kafka_handle_is_refused(live->handle)))
        return kb_kafka_handle_fail(live->handle, error_number, what, err);
    return kb_kafka_fail(err, error_number, text, "%s", what);
}

/* ---- one request ---- */

static kb_code options_new(kb_kafka_live *live, const kb_kafka_request *request, const kb_kafka_call *call,
                           rd_kafka_AdminOptions_t **ret_options, kb_error *err)
{
    char reason[KB_RDKAFKA_ERRSTR_BYTES] = "";
    int64_t left = left_of(call);
    int timeout_ms = left < KB_ADMIN_TRY_MS ? (int)(left > 0 ? left : 1) : KB_ADMIN_TRY_MS;
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(live->rk, request->op);
    rd_kafka_resp_err_t number =
        rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, reason, sizeof reason);
    if (number == RD_KAFKA_RESP_ERR_NO_ERROR && request->validate_only)
        number = rd_kafka_AdminOptions_set_validate_only(options, 1, reason, sizeof reason);
    if (number == RD_KAFKA_RESP_ERR_NO_ERROR && request->has_broker)
        number = rd_kafka_AdminOptions_set_broker(options, request->broker_id, reason, sizeof reason);
    bool has_operation_time =
        request->op == RD_KAFKA_ADMIN_OP_CREATETOPICS || request->op == RD_KAFKA_ADMIN_OP_DELETERECORDS;
    if (number == RD_KAFKA_RESP_ERR_NO_ERROR && has_operation_time)
        number = rd_kafka_AdminOptions_set_operation_timeout(options, timeout_ms, reason, sizeof reason);
    if (number == RD_KAFKA_RESP_ERR_NO_ERROR && request->is_committed) {
        rd_kafka_error_t *error =
            rd_kafka_AdminOptions_set_isolation_level(options, RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED);
        number = error != NULL ? rd_kafka_error_code(error) : RD_KAFKA_RESP_ERR_NO_ERROR;
        rd_kafka_error_destroy(error);
    }
    if (number != RD_KAFKA_RESP_ERR_NO_ERROR) {
        rd_kafka_AdminOptions_destroy(options);
        return kb_fail(err, KB_ERR_INTERNAL, "%s: %s", request->what, reason);
    }
    *ret_options = options;
    return KB_OK;
}

/* Sends once and waits for the event. The library answers by the time-out of the options. */
static kb_code ask_once(kb_kafka_live *live, const kb_kafka_request *request, const kb_kafka_call *call,
                        rd_kafka_event_t **ret_event, kb_error *err)
{
    rd_kafka_AdminOptions_t *options = NULL;
    kb_code code = options_new(live, request, call, &options, err);
    if (code != KB_OK)
        return code;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(live->rk);
    request->send(request->ctx, live->rk, options, queue);
    rd_kafka_event_t *event = NULL;
    while (event == NULL && code == KB_OK) {
        event = rd_kafka_queue_poll(queue, KB_ADMIN_SLICE_MS);
        (void)kb_kafka_handle_serve(live->handle, 0);
        if (event == NULL && call->stop != NULL && kb_stop_requested(call->stop))
            code = stopped(request->what, err);
        if (event == NULL && code == KB_OK)
            code = kb_kafka_handle_check(live->handle, err);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    if (code == KB_OK)
        *ret_event = event;
    return code;
}

kb_code kb_kafka_live_ask(kb_kafka_live *live, const kb_kafka_request *request, const kb_kafka_call *call,
                          rd_kafka_event_t **ret_event, kb_error *err)
{
    kb_backoff backoff;
    kb_backoff_init(&backoff, KB_ADMIN_BACKOFF_MS, KB_ADMIN_BACKOFF_MAX_MS, NULL, NULL);
    while (true) {
        rd_kafka_event_t *event = NULL;
        kb_code code = breaker_wait(live, request->what, call, err);
        if (code == KB_OK)
            code = ask_once(live, request, call, &event, err);
        if (code != KB_OK)
            return code;
        int number = rd_kafka_event_error(event);
        breaker_tell(live, number);
        if (number == 0) {
            kb_kafka_handle_note_success(live->handle);
            *ret_event = event;
            return KB_OK;
        }
        if (number == RD_KAFKA_RESP_ERR__NOENT && request->may_lack_leaders) {
            rd_kafka_event_destroy(event);
            *ret_event = NULL;
            return KB_OK;
        }
        if (!kb_kafka_classify(number).retryable || left_of(call) == 0) {
            code = ask_failure(live, number, rd_kafka_event_error_string(event), request->what, err);
            rd_kafka_event_destroy(event);
            return code;
        }
        rd_kafka_event_destroy(event);
        if (pause_for(call, kb_backoff_next(&backoff)))
            return stopped(request->what, err);
    }
}

kb_code kb_kafka_live_metadata(kb_kafka_live *live, bool all_topics, const kb_kafka_call *call,
                               const struct rd_kafka_metadata **ret_metadata, kb_error *err)
{
    static const char WHAT[] = "asking for metadata";
    enum { SLICE_MS = 1000 };
    kb_code code = breaker_wait(live, WHAT, call, err);
    while (code == KB_OK) {
        int64_t left = left_of(call);
        /* Without a connection the call takes all of its time: small slices. With one it needs time to
         * answer. */
        int slice_ms = !all_topics && left > SLICE_MS
                           ? SLICE_MS
                           : (int)(left < KB_ADMIN_TRY_MS ? left : KB_ADMIN_TRY_MS);
        rd_kafka_resp_err_t number =
            rd_kafka_metadata(live->rk, all_topics ? 1 : 0, NULL, ret_metadata, slice_ms > 0 ? slice_ms : 1);
        (void)kb_kafka_handle_serve(live->handle, 0);
        breaker_tell(live, number);
        if (number == RD_KAFKA_RESP_ERR_NO_ERROR) {
            kb_kafka_handle_note_success(live->handle);
            return KB_OK;
        }
        if (!kb_kafka_classify(number).retryable || left_of(call) == 0)
            return ask_failure(live, number, NULL, WHAT, err);
        if (call->stop != NULL && kb_stop_requested(call->stop))
            return stopped(WHAT, err);
        code = kb_kafka_handle_check(live->handle, err);
        if (code == KB_OK)
            code = breaker_wait(live, WHAT, call, err);
    }
    return code;
}

/* ---- rounds ---- */

void kb_kafka_rounds_init(kb_kafka_rounds *rounds, const kb_kafka_call *call, size_t total)
{
    *rounds = (kb_kafka_rounds){.call = call, .started_ms = kb_clock_boot_ms(), .count = total};
    kb_backoff_init(&rounds->backoff, KB_ADMIN_BACKOFF_MS, KB_ADMIN_BACKOFF_MAX_MS, NULL, NULL);
    rounds->pending = kb_calloc(total > 0 ? total : 1, sizeof(size_t));
    for (size_t i = 0; i < total; i++)
        rounds->pending[i] = i;
}

void kb_kafka_rounds_answer(kb_kafka_rounds *rounds, size_t at, int error_number)
{
    kb_kafka_verdict verdict = kb_kafka_classify(error_number);
    if (!verdict.retryable)
        return;
    int64_t waited_ms = kb_clock_boot_ms() - rounds->started_ms;
    if (verdict.code == KB_TOPIC_NOT_FOUND && waited_ms >= rounds->call->unknown_wait_ms)
        return;
    rounds->pending[rounds->again_count++] = rounds->pending[at];
}

bool kb_kafka_rounds_again(kb_kafka_rounds *rounds)
{
    rounds->count = rounds->again_count;
    rounds->again_count = 0;
    if (rounds->count == 0 || left_of(rounds->call) == 0)
        return false;
    /* When stopped the items keep their errors: the caller looks at its token anyway. */
    return !pause_for(rounds->call, kb_backoff_next(&rounds->backoff));
}

void kb_kafka_rounds_done(kb_kafka_rounds *rounds)
{
    free(rounds->pending);
}

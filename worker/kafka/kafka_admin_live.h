/*
 * kafka_admin_live - the Kafka admin interface over librdkafka: asking, waiting, asking again. For this
 * folder only.
 *
 * Here are the object and the loop around one request; kafka_admin_topics, _offsets and _configs have the
 * operations. Threads: as kafka_admin.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_ADMIN_LIVE_H
#define KB_WORKER_KAFKA_KAFKA_ADMIN_LIVE_H

#include "common/sync/breaker.h"
#include "worker/kafka/kafka_admin.h"
#include "worker/kafka/kafka_handle.h"

typedef struct kb_kafka_live {
    kb_kafka_admin admin; /* first */
    kb_kafka_handle *handle;
    rd_kafka_t *rk; /* the handle's */
    kb_breaker *breaker;
} kb_kafka_live;

static inline kb_kafka_live *kb_kafka_live_of(kb_kafka_admin *admin)
{
    return (kb_kafka_live *)admin;
}

/* One request of librdkafka's admin API. */
typedef struct kb_kafka_request {
    const char *what; /* "listing offsets" */
    rd_kafka_admin_op_t op;
    bool is_committed; /* ListOffsets: read_committed */
    bool validate_only;
    bool has_broker; /* broker_id is asked, not the controller */
    int32_t broker_id;
    bool may_lack_leaders; /* the event may be NULL: no partition has a leader, or none is known to us */
    void (*send)(void *ctx, rd_kafka_t *rk, const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *queue);
    void *ctx;
} kb_kafka_request;

/* Sends until it is answered as a whole. *ret_event is owned: rd_kafka_event_destroy, which takes NULL. */
kb_code kb_kafka_live_ask(kb_kafka_live *live, const kb_kafka_request *request, const kb_kafka_call *call,
                          rd_kafka_event_t **ret_event, kb_error *err) KB_CHECK;

/* The same around rd_kafka_metadata: of all topics or of none. *ret_metadata: rd_kafka_metadata_destroy. */
kb_code kb_kafka_live_metadata(kb_kafka_live *live, bool all_topics, const kb_kafka_call *call,
                               const struct rd_kafka_metadata **ret_metadata, kb_error *err) KB_CHECK;

/*
 * Which items are to be asked again: those whose error may pass. A round over items is
 *     kb_kafka_rounds rounds; init; do { ask for what is pending } while (kb_kafka_rounds_again(...));
 */
typedef struct kb_kafka_rounds {
    const kb_kafka_call *call;
    int64_t started_ms;
    kb_backoff backoff;
    size_t *pending; /* indexes of the items to ask for now; owned */
    size_t count;
    size_t again_count; /* of these: to be asked again */
} kb_kafka_rounds;

/* All `total` items are pending. */
void kb_kafka_rounds_init(kb_kafka_rounds *rounds, const kb_kafka_call *call, size_t total);
/* The answer for pending[at] was error_number; to be told in ascending order of `at`. */
void kb_kafka_rounds_answer(kb_kafka_rounds *rounds, size_t at, int error_number);
/* Whether there is another round; waits before it. Not when the stop token is set. */
bool kb_kafka_rounds_again(kb_kafka_rounds *rounds);
void kb_kafka_rounds_done(kb_kafka_rounds *rounds);

#endif

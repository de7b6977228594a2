#include "worker/kafka/kafka_reader.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_handle.h"
#include "worker/kafka/kafka_probe.h"

#define KB_BATCH_RECORDS 512 /* taken from a stream's queue at once */
#define KB_FETCH_WAIT_MS 10
#define KB_QUEUE_BYTES ((int64_t)4 << 20)
#define KB_FETCH_PARTITION_BYTES ((int64_t)1 << 20)
#define KB_FETCH_BYTES ((int64_t)16 << 20)
#define KB_MAX_MESSAGE_BYTES ((int64_t)160 << 20)
#define KB_UNKNOWN_WAIT_MS 30000
/* The library keeps some hundred bytes for each record besides its content: small ones are limited by number.
 */
#define KB_QUEUE_RECORD_BYTES 256
/* The library's defaults for the next two are 1,000,000 and a second of pause when a queue is full. */
#define KB_LIBRARY_MESSAGE_BYTES ((int64_t)1000000)
#define KB_QUEUE_BACKOFF_MS 5
/* A silent stream is looked at after this time, then less and less often. */
#define KB_SILENCE_MS 5000
#define KB_SILENCE_MAX_MS 60000
#define KB_PROBE_MS 5000
#define KB_RECEIVE_OVERHEAD_BYTES 65536 /* of an answer around its records */

typedef struct stream {
    char *topic;
    rd_kafka_topic_t *handle;
    rd_kafka_queue_t *queue;
    int32_t partition;
    void *owner;
    int64_t position; /* the next offset to hand out */
    int64_t previous; /* of the last record that came, handed out or not; -1 before the first */
    bool is_repeating;
    bool is_held;
    bool is_ended; /* stopped; freed at the end of the poll */
    bool is_at_end;
    int64_t silent_since_ms;
    int64_t silence_ms; /* until the next look */
    rd_kafka_message_t **batch;
    size_t batch_at, batch_count;
    int gone_number; /* why the stream has to end, found while its queue was served; 0: it has not */
    char *gone_text;
} stream;

struct kb_kafka_reader {
    kb_kafka_handle *handle;
    bool read_uncommitted;
    int wake_fd;
    stream **streams;
    size_t count, capacity, next;
    size_t live_count;
    stream *served;           /* whose queue is being served */
    kb_kafka_header *headers; /* scratch */
    size_t header_capacity;
};

/* ---- making and freeing ---- */

static int64_t or_default(int64_t value, int64_t default_value)
{
    return value > 0 ? value : default_value;
}

static char *number_text(int64_t value)
{
    enum { LIBRARY_MAX = 2147483647 };
    return kb_asprintf("%lld", (long long)(value < LIBRARY_MAX ? value : LIBRARY_MAX));
}

static kb_kafka_stream_problem problem_of(int number);

/*
 * That a topic is not there is not told by a message of the stream's queue, but by an error that the library
 * reports while the queue is served.
 */
static bool on_own_error(void *user, int number, const char *text)
{
    kb_kafka_reader *reader = user;
    stream *s = reader->served;
    if (s == NULL || s->gone_number != 0 || problem_of(number) == KB_KAFKA_STREAM_OTHER)
        return false;
    s->gone_number = number;
    free(s->gone_text);
    s->gone_text = kb_strdup(text);
    return true;
}

static kb_code handle_new(const kb_kafka_options *options, kb_kafka_reader *reader,
                          const kb_kafka_reader_options *ro, kb_error *err)
{
    int64_t queue = or_default(ro->queue_bytes_per_partition, KB_QUEUE_BYTES);
    int64_t answer = or_default(ro->fetch_bytes, KB_FETCH_BYTES);
    int64_t partition = or_default(ro->fetch_bytes_per_partition, KB_FETCH_PARTITION_BYTES);
    int64_t receive = or_default(ro->max_message_bytes, KB_MAX_MESSAGE_BYTES);
    receive = (receive > answer ? receive : answer) + KB_RECEIVE_OVERHEAD_BYTES;
    kb_kafka_property properties[] = {
        {"isolation.level", kb_strdup(ro->read_uncommitted ? "read_uncommitted" : "read_committed")},
        {"auto.offset.reset", kb_strdup("error")},
        {"enable.partition.eof", kb_strdup("true")},
        {"check.crcs", kb_strdup("true")},
        {"enable.auto.commit", kb_strdup("false")},
        {"fetch.wait.max.ms", number_text(or_default(ro->fetch_wait_max_ms, KB_FETCH_WAIT_MS))},
        {"fetch.message.max.bytes", number_text(partition)},
        {"message.max.bytes",
         number_text(answer < KB_LIBRARY_MESSAGE_BYTES ? answer : KB_LIBRARY_MESSAGE_BYTES)},
        {"fetch.max.bytes", number_text(answer)},
        {"receive.message.max.bytes", number_text(receive)},
        {"queued.max.messages.kbytes", number_text(queue / 1024 > 0 ? queue / 1024 : 1)},
        {"queued.min.messages", number_text(1000 + queue / KB_QUEUE_RECORD_BYTES)},
        {"fetch.queue.backoff.ms", number_text(KB_QUEUE_BACKOFF_MS)},
        {"topic.metadata.propagation.max.ms",
         number_text(or_default(ro->unknown_wait_ms, KB_UNKNOWN_WAIT_MS))},
    };
    kb_kafka_handle_spec spec = {
        .type = RD_KAFKA_CONSUMER,
        .properties = properties,
        .property_count = KB_ARRAY_LEN(properties),
        .on_own_error = on_own_error,
        .user = reader,
    };
    kb_code code = kb_kafka_handle_new(options, &spec, &reader->handle, err);
    for (size_t i = 0; i < KB_ARRAY_LEN(properties); i++)
        free(properties[i].value);
    return code;
}

kb_code kb_kafka_reader_new(const kb_kafka_options *options, const kb_kafka_reader_options *reader_options,
                            kb_kafka_reader **ret_reader, kb_error *err)
{
    KB_CLEANUP(kb_kafka_reader_free_at) kb_kafka_reader *reader = kb_calloc(1, sizeof *reader);
    reader->read_uncommitted = reader_options->read_uncommitted;
    reader->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (reader->wake_fd < 0)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "eventfd: %s", kb_errno_text(errno));
    kb_code code = handle_new(options, reader, reader_options, err);
    if (code != KB_OK)
        return kb_wrap(err, "making a Kafka reader");
    *ret_reader = KB_TAKE(reader);
    return KB_OK;
}

static void batch_drop(stream *s)
{
    for (; s->batch_at < s->batch_count; s->batch_at++)
        rd_kafka_message_destroy(s->batch[s->batch_at]);
}

static void stream_free(stream *s)
{
    batch_drop(s);
    rd_kafka_queue_destroy(s->queue);
    rd_kafka_topic_destroy(s->handle);
    free(s->batch);
    free(s->gone_text);
    free(s->topic);
    free(s);
}

static void stream_end(kb_kafka_reader *reader, stream *s)
{
    if (s->is_ended)
        return;
    s->is_ended = true;
    reader->live_count--;
    (void)rd_kafka_consume_stop(s->handle, s->partition);
}

/* Frees the ended streams; never while a poll walks over them. */
static void reap(kb_kafka_reader *reader)
{
    size_t kept = 0;
    for (size_t i = 0; i < reader->count; i++) {
        if (reader->streams[i]->is_ended)
            stream_free(reader->streams[i]);
        else
            reader->streams[kept++] = reader->streams[i];
    }
    reader->count = kept;
}

void kb_kafka_reader_free(kb_kafka_reader *owned_reader)
{
    if (owned_reader == NULL)
        return;
    for (size_t i = 0; i < owned_reader->count; i++)
        stream_end(owned_reader, owned_reader->streams[i]);
    reap(owned_reader);
    kb_kafka_handle_free(owned_reader->handle);
    if (owned_reader->wake_fd >= 0)
        (void)close(owned_reader->wake_fd);
    free(owned_reader->streams);
    free(owned_reader->headers);
    free(owned_reader);
}

void kb_kafka_reader_free_at(kb_kafka_reader **at)
{
    kb_kafka_reader_free(*at);
}

/* ---- streams ---- */

static stream *find(const kb_kafka_reader *reader, const char *topic, int32_t partition)
{
    for (size_t i = 0; i < reader->count; i++) {
        stream *s = reader->streams[i];
        if (!s->is_ended && s->partition == partition && strcmp(s->topic, topic) == 0)
            return s;
    }
    return NULL;
}

kb_code kb_kafka_reader_start(kb_kafka_reader *reader, const char *topic, int32_t partition, int64_t offset,
                              void *owner, kb_error *err)
{
    if (offset < 0)
        return kb_fail(err, KB_ERR_INTERNAL, "reading %s/%d from offset %lld", topic, (int)partition,
                       (long long)offset);
    if (find(reader, topic, partition) != NULL)
        return kb_fail(err, KB_ERR_EXISTS, "%s/%d is being read already", topic, (int)partition);
    rd_kafka_t *rk = kb_kafka_handle_rk(reader->handle);
    rd_kafka_topic_t *handle = rd_kafka_topic_new(rk, topic, NULL);
    if (handle == NULL)
        return kb_kafka_fail(err, rd_kafka_last_error(), NULL, "reading topic '%s'", topic);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    static const uint64_t ONE = 1;
    rd_kafka_queue_io_event_enable(queue, reader->wake_fd, &ONE, sizeof ONE);
    if (rd_kafka_consume_start_queue(handle, partition, offset, queue) != 0) {
        rd_kafka_resp_err_t number = rd_kafka_last_error();
        rd_kafka_queue_destroy(queue);
        rd_kafka_topic_destroy(handle);
        return kb_kafka_fail(err, number, NULL, "reading %s/%d from offset %lld", topic, (int)partition,
                             (long long)offset);
    }
    stream *s = kb_calloc(1, sizeof *s);
    s->topic = kb_strdup(topic);
    s->handle = handle;
    s->queue = queue;
    s->partition = partition;
    s->owner = owner;
    s->position = offset;
    s->previous = -1;
    s->silent_since_ms = kb_clock_boot_ms();
    s->silence_ms = KB_SILENCE_MS;
    s->batch = kb_calloc(KB_BATCH_RECORDS, sizeof(rd_kafka_message_t *));
    reader->streams = kb_grow(reader->streams, reader->count, &reader->capacity, sizeof(stream *));
    reader->streams[reader->count++] = s;
    reader->live_count++;
    return KB_OK;
}

void kb_kafka_reader_stop(kb_kafka_reader *reader, const char *topic, int32_t partition)
{
    stream *s = find(reader, topic, partition);
    if (s != NULL)
        stream_end(reader, s);
}

void kb_kafka_reader_hold(kb_kafka_reader *reader, const char *topic, int32_t partition, bool is_held)
{
    stream *s = find(reader, topic, partition);
    if (s == NULL)
        return;
    s->is_held = is_held;
    s->silent_since_ms = kb_clock_boot_ms();
}

size_t kb_kafka_reader_count(const kb_kafka_reader *reader)
{
    return reader->live_count;
}

void kb_kafka_reader_wake(kb_kafka_reader *reader)
{
    uint64_t one = 1;
    ssize_t written = write(reader->wake_fd, &one, sizeof one);
    (void)written; /* full means that it is awake */
}

void kb_kafka_reader_state(kb_kafka_reader *reader, kb_kafka_state *ret_state)
{
    kb_kafka_handle_state(reader->handle, ret_state);
}

/* ---- what comes out of a queue ---- */

/* Source: record format v2: the value is followed by the number of headers, a varint, also when it is zero.
 */
static bool has_no_headers(const rd_kafka_message_t *message)
{
    /* Only batches of format v2 have a leader epoch, and only a value that is there tells where it ends: an
     * empty one points to a constant of the library. */
    return message->payload != NULL && message->len > 0 && rd_kafka_message_leader_epoch(message) >= 0 &&
           ((const uint8_t *)message->payload)[message->len] == 0;
}

static size_t take_headers(kb_kafka_reader *reader, const rd_kafka_message_t *message)
{
    rd_kafka_headers_t *headers = NULL;
    if (has_no_headers(message) || rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    size_t count = rd_kafka_header_cnt(headers);
    if (count > reader->header_capacity) {
        reader->headers = kb_realloc(reader->headers, count, sizeof *reader->headers);
        reader->header_capacity = count;
    }
    for (size_t i = 0; i < count; i++) {
        kb_kafka_header *to = &reader->headers[i];
        size_t len = 0;
        /* By index is by array access: not quadratic. */
        (void)rd_kafka_header_get_all(headers, i, &to->name, &to->value, &len);
        to->name_len = strlen(to->name);
        to->value_len = to->value != NULL ? (int32_t)len : -1;
    }
    return count;
}

static kb_timestamp_type timestamp_type_of(rd_kafka_timestamp_type_t type)
{
    if (type == RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME)
        return KB_TIMESTAMP_LOG_APPEND;
    return type == RD_KAFKA_TIMESTAMP_CREATE_TIME ? KB_TIMESTAMP_CREATE : KB_TIMESTAMP_NONE;
}

/*
 * Whether the record at `offset` is the stream's next. One below the position is a repeat after a seek of the
 * library; falling back once more before the repeat is over is no order at all.
 */
static kb_code check_order(stream *s, int64_t offset, bool *ret_is_next, kb_error *err)
{
    int64_t previous = s->previous;
    s->previous = offset;
    if (offset >= s->position) {
        s->is_repeating = false;
        *ret_is_next = true;
        return KB_OK;
    }
    *ret_is_next = false;
    if (previous >= 0 && offset <= previous) {
        if (s->is_repeating)
            return kb_fail_retryable(err, KB_TEMPORARY_FAILURE,
                                     "%s/%d: records came out of order: offset %lld after %lld", s->topic,
                                     (int)s->partition, (long long)offset, (long long)previous);
        s->is_repeating = true;
        kb_log_limited(KB_LOG_DEBUG, "records repeated by the Kafka client are dropped",
                       KB_STR("topic", s->topic), KB_INT("partition", s->partition));
    }
    return KB_OK;
}

static kb_code hand_out_record(kb_kafka_reader *reader, stream *s, const rd_kafka_message_t *message,
                               const kb_kafka_reader_events *events, bool *ret_go_on, kb_error *err)
{
    bool is_next = false;
    *ret_go_on = true;
    kb_code code = check_order(s, message->offset, &is_next, err);
    if (code != KB_OK || !is_next)
        return code;
    rd_kafka_timestamp_type_t type = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    int64_t timestamp = rd_kafka_message_timestamp(message, &type);
    kb_source_record record = {
        .offset = message->offset,
        .timestamp = type != RD_KAFKA_TIMESTAMP_NOT_AVAILABLE ? timestamp : -1,
        .timestamp_type = timestamp_type_of(type),
        .key = message->key,
        .key_len = message->key != NULL ? (int32_t)message->key_len : -1,
        .value = message->payload,
        .value_len = message->payload != NULL ? (int32_t)message->len : -1,
        .header_count = take_headers(reader, message),
    };
    record.headers = reader->headers;
    s->position = message->offset + 1;
    s->is_at_end = false;
    *ret_go_on = events->on_record(s->owner, &record);
    return KB_OK;
}

static kb_kafka_stream_problem problem_of(int number)
{
    switch (number) {
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
    case RD_KAFKA_RESP_ERR__LOG_TRUNCATION:
        return KB_KAFKA_STREAM_OUT_OF_RANGE;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID:
    case KB_KAFKA_ERROR_INCONSISTENT_TOPIC_ID:
        return KB_KAFKA_STREAM_TOPIC_GONE;
    case RD_KAFKA_RESP_ERR__BAD_MSG:
    case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
    case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
        return KB_KAFKA_STREAM_BAD_DATA;
    default:
        break;
    }
    return kb_kafka_classify(number).class_ == KB_KAFKA_CLASS_PERMISSION ? KB_KAFKA_STREAM_ACCESS
                                                                         : KB_KAFKA_STREAM_OTHER;
}

static void hand_out_error(kb_kafka_reader *reader, stream *s, int number, const char *text,
                           const kb_kafka_reader_events *events)
{
    kb_kafka_verdict verdict = kb_kafka_classify(number);
    kb_kafka_stream_error error = {
        .problem = problem_of(number),
        .code = verdict.code,
        .retryable = verdict.retryable,
        .error_number = number,
        .position = s->position,
    };
    if (error.problem == KB_KAFKA_STREAM_OTHER && verdict.retryable) {
        kb_log_limited(KB_LOG_DEBUG, "Kafka client retries a fetch", KB_STR("topic", s->topic),
                       KB_INT("partition", s->partition), KB_STR("err", text));
        return; /* the library goes on at the same offset */
    }
    KB_AUTOFREE char *full =
        kb_asprintf("%s/%d at offset %lld: %s (%s)", s->topic, (int)s->partition, (long long)s->position,
                    text != NULL ? text : "", kb_kafka_error_name(number));
    error.text = full;
    stream_end(reader, s);
    events->on_error(s->owner, &error);
}

static void hand_out_end(stream *s, int64_t offset, const kb_kafka_reader_events *events)
{
    if (offset < s->position)
        return; /* an end from before a repeat */
    s->position = offset;
    s->is_at_end = true;
    events->on_eof(s->owner, offset);
}

static kb_code hand_out(kb_kafka_reader *reader, stream *s, const rd_kafka_message_t *message,
                        const kb_kafka_reader_events *events, bool *ret_go_on, kb_error *err)
{
    *ret_go_on = true;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
        return hand_out_record(reader, s, message, events, ret_go_on, err);
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
        hand_out_end(s, message->offset, events);
    else
        hand_out_error(reader, s, message->err, rd_kafka_message_errstr(message), events);
    return KB_OK;
}

/* ---- polling ---- */

static bool is_ready(const stream *s)
{
    return !s->is_ended && !s->is_held;
}

/* One batch of one stream. *count grows by what was taken from the queue. */
static kb_code serve_stream(kb_kafka_reader *reader, stream *s, const kb_kafka_reader_events *events,
                            size_t *count, bool *ret_go_on, kb_error *err)
{
    *ret_go_on = true;
    if (s->batch_at == s->batch_count) {
        reader->served = s;
        ssize_t got = rd_kafka_consume_batch_queue(s->queue, 0, s->batch, KB_BATCH_RECORDS);
        reader->served = NULL;
        s->batch_at = 0;
        s->batch_count = got > 0 ? (size_t)got : 0;
    }
    if (s->batch_count == 0 && s->gone_number != 0)
        hand_out_error(reader, s, s->gone_number, s->gone_text, events);
    if (s->batch_count == 0)
        return KB_OK;
    kb_kafka_handle_note_success(reader->handle);
    s->silent_since_ms = kb_clock_boot_ms();
    s->silence_ms = KB_SILENCE_MS;
    kb_code code = KB_OK;
    while (code == KB_OK && *ret_go_on && s->batch_at < s->batch_count && is_ready(s)) {
        rd_kafka_message_t *message = s->batch[s->batch_at++];
        code = hand_out(reader, s, message, events, ret_go_on, err);
        rd_kafka_message_destroy(message);
        (*count)++;
    }
    return code;
}

/* One batch of each stream, beginning after the one that was served last. */
static kb_code serve_all(kb_kafka_reader *reader, const kb_kafka_reader_events *events, size_t *count,
                         bool *ret_go_on, kb_error *err)
{
    size_t streams = reader->count; /* those that callbacks add come next time */
    *ret_go_on = true;
    for (size_t i = 0; i < streams && *ret_go_on; i++) {
        stream *s = reader->streams[reader->next++ % streams];
        if (!is_ready(s))
            continue;
        kb_code code = serve_stream(reader, s, events, count, ret_go_on, err);
        if (code != KB_OK)
            return code;
    }
    return KB_OK;
}

static void wait_for_news(kb_kafka_reader *reader, int timeout_ms)
{
    struct pollfd at = {.fd = reader->wake_fd, .events = POLLIN};
    (void)poll(&at, 1, timeout_ms);
}

static void clear_news(kb_kafka_reader *reader)
{
    uint64_t count;
    ssize_t got = read(reader->wake_fd, &count, sizeof count);
    (void)got; /* empty means that there was no news */
}

/* A stream that has been silent below the end, while nothing was wrong, may have nothing left. */
static bool is_suspicious(const kb_kafka_reader *reader, const stream *s, int64_t now_ms)
{
    if (!is_ready(s) || s->is_at_end || now_ms - s->silent_since_ms < s->silence_ms)
        return false;
    kb_kafka_state state = {0};
    kb_kafka_handle_state(reader->handle, &state);
    bool is_calm = state.last_error == NULL || state.last_error_ms < s->silent_since_ms;
    kb_kafka_state_done(&state);
    return is_calm;
}

/* Refused metadata never reaches a stream's queue: the library goes on asking in silence. */
static int refusal_of(kb_kafka_reader *reader, const stream *s)
{
    enum { METADATA_MS = 3000 };
    const struct rd_kafka_metadata *metadata = NULL;
    int number = rd_kafka_metadata(kb_kafka_handle_rk(reader->handle), 0, s->handle, &metadata, METADATA_MS);
    if (number != 0)
        return 0;
    if (metadata->topic_cnt > 0)
        number = metadata->topics[0].err;
    rd_kafka_metadata_destroy(metadata);
    return problem_of(number) == KB_KAFKA_STREAM_ACCESS ? number : 0;
}

/* The end of the partition when nothing lies between the stream's position and it; else the position. */
static int64_t end_behind_silence(kb_kafka_reader *reader, const stream *s)
{
    KB_AUTO_ERROR(err);
    int64_t end = s->position;
    kb_kafka_probe probe = {
        .options = kb_kafka_handle_options(reader->handle),
        .read_uncommitted = reader->read_uncommitted,
        .topic = s->topic,
        .partition = s->partition,
        .position = s->position,
        .deadline_ms = kb_clock_boot_ms() + KB_PROBE_MS,
    };
    return kb_kafka_probe_end(&probe, &end, &err) == KB_OK ? end : s->position;
}

static void look_at_silence(kb_kafka_reader *reader, const kb_kafka_reader_events *events)
{
    int64_t now_ms = kb_clock_boot_ms();
    for (size_t i = 0; i < reader->count; i++) {
        stream *s = reader->streams[i];
        if (!is_suspicious(reader, s, now_ms))
            continue;
        s->silent_since_ms = now_ms;
        s->silence_ms = s->silence_ms * 2 < KB_SILENCE_MAX_MS ? s->silence_ms * 2 : KB_SILENCE_MAX_MS;
        int refusal = refusal_of(reader, s);
        int64_t end = refusal == 0 ? end_behind_silence(reader, s) : s->position;
        if (refusal != 0)
            hand_out_error(reader, s, refusal, rd_kafka_err2str((rd_kafka_resp_err_t)refusal), events);
        else if (end > s->position)
            hand_out_end(s, end, events);
        return; /* one in a poll: it takes its time */
    }
}

kb_code kb_kafka_reader_poll(kb_kafka_reader *reader, int timeout_ms, const kb_kafka_reader_events *events,
                             kb_error *err)
{
    size_t count = 0;
    bool go_on = true;
    (void)kb_kafka_handle_serve(reader->handle, 0);
    clear_news(reader);
    kb_code code = serve_all(reader, events, &count, &go_on, err);
    if (code == KB_OK && count == 0 && timeout_ms > 0) {
        wait_for_news(reader, timeout_ms);
        code = serve_all(reader, events, &count, &go_on, err);
    }
    if (code == KB_OK && count == 0)
        look_at_silence(reader, events);
    reap(reader);
    return code == KB_OK ? kb_kafka_handle_check(reader->handle, err) : code;
}

/* Against a real broker: KB_TEST_KAFKA=host:port of a plaintext listener; without it every test is skipped.
 */
#include "worker/tests/kafka_fixture.h"

#include <time.h>

#include "common/base/clock.h"
#include "worker/kafka/kafka_probe.h"
#include "worker/kafka/rdkafka_api.h"

#define TIME_2020 INT64_C(1577836800000)

static const kb_kafka_reader_options DEFAULT_READER = {.fetch_wait_max_ms = 10};
static const kb_kafka_writer_options DEFAULT_WRITER = {.linger_ms = 5};

static void fill(const char *topic, int count)
{
    kb_kafka_options options = live_options();
    sent out;
    sent_open(&out, &options, &DEFAULT_WRITER, topic, 0);
    for (int i = 0; i < count; i++)
        sent_text(&out, TIME_2020 + i, "key", "value");
    sent_flush(&out);
    assert_int_equal(out.delivered_count, count);
    sent_close(&out);
}

static int64_t probe_end(const char *topic, int64_t position)
{
    KB_AUTO_ERROR(err);
    kb_kafka_options options = live_options();
    kb_kafka_probe probe = {
        .options = &options, .topic = topic, .position = position, .deadline_ms = in_ms(4000)};
    int64_t end = -1;
    assert_ok(kb_kafka_probe_end(&probe, &end, &err));
    return end;
}

static rd_kafka_t *plain_producer(void)
{
    char reason[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    assert_int_equal(
        rd_kafka_conf_set(conf, "bootstrap.servers", getenv("KB_TEST_KAFKA"), reason, sizeof reason), 0);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason);
    assert_non_null(rk);
    return rk;
}

static void plain_send(rd_kafka_t *rk, const char *topic, const char *key, const char *value)
{
    size_t len = value != NULL ? strlen(value) : 0;
    char *key_copy = kb_strdup(key);
    void *value_copy = value != NULL ? kb_strdup(value) : NULL;
    assert_int_equal(rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(0),
                                       RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                       RD_KAFKA_V_KEY(key_copy, strlen(key)),
                                       RD_KAFKA_V_VALUE(value_copy, len), RD_KAFKA_V_END),
                     0);
    free(key_copy);
    free(value_copy);
}

static void delete_topic(const char *topic)
{
    rd_kafka_t *rk = plain_producer();
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_DeleteTopic_t *deletion = rd_kafka_DeleteTopic_new(topic);
    rd_kafka_DeleteTopics(rk, &deletion, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 10000);
    assert_non_null(event);
    rd_kafka_event_destroy(event);
    rd_kafka_DeleteTopic_destroy(deletion);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
}

static void probe_end_with_something_to_fetch_concludes_nothing(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *topic = new_name("probe");
    KB_AUTOFREE char *id = new_name("probe-id");
    create_topic(live_admin, topic, 1, NULL, 0);
    fill(topic, 10);
    assert_int_equal(probe_end(topic, 0), 0);
    assert_int_equal(probe_end(topic, 10), 10);
    assert_int_equal(probe_end(topic, 12), 12);
    /* Aborted records are fetched, though nobody gets them: what lies behind them is not known yet. */
    kb_kafka_writer_options wo = {.transactional_id = id};
    sent out;
    sent_open(&out, &options, &wo, topic, 0);
    assert_ok(kb_kafka_writer_txn_init(out.writer, in_ms(60000), &err));
    assert_ok(kb_kafka_writer_txn_begin(out.writer, &err));
    for (int i = 0; i < 5000; i++)
        sent_text(&out, TIME_2020, "k", "aborted");
    sent_flush(&out);
    assert_ok(kb_kafka_writer_txn_abort(out.writer, in_ms(30000), &err));
    assert_int_equal(probe_end(topic, 10), 10);
    assert_int_equal(probe_end("no-such-topic", 10), 10);
    sent_close(&out);
}

static void reader_tail_compacted_away_reaches_the_end(void **state)
{
    (void)state;
    NEED_BROKER();
    static const kb_kafka_setting CONFIGS[] = {
        {"cleanup.policy", "compact"},  {"segment.ms", "200"},          {"min.cleanable.dirty.ratio", "0"},
        {"delete.retention.ms", "0"},   {"min.compaction.lag.ms", "0"}, {"max.compaction.lag.ms", "100"},
        {"file.delete.delay.ms", "100"}};
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *topic = new_name("compacted");
    create_topic(live_admin, topic, 1, CONFIGS, KB_ARRAY_LEN(CONFIGS));
    rd_kafka_t *rk = plain_producer();
    for (int i = 0; i < 50; i++) {
        plain_send(rk, topic, "a", "1");
        plain_send(rk, topic, "b", "2");
    }
    assert_int_equal(rd_kafka_flush(rk, 10000), 0);
    static const struct timespec PAUSE = {0, 400000000};
    for (int i = 0; i < 3; i++) {
        (void)nanosleep(&PAUSE, NULL);
        plain_send(rk, topic, "b", NULL);
        assert_int_equal(rd_kafka_flush(rk, 10000), 0);
    }
    rd_kafka_destroy(rk);
    int64_t end = offset_of(live_admin, KB_KAFKA_OFFSET_LAST_STABLE, topic, 0);
    for (int i = 0; i < 10; i++) {
        (void)nanosleep(&PAUSE, NULL);
        (void)nanosleep(&PAUSE, NULL);
        seen got = SEEN_INIT;
        read_all(&options, &DEFAULT_READER, topic, 0, 0, end, &got);
        assert_int_equal(got.eof_offset, end);
        seen_done(&got);
    }
}

static void reader_topic_deleted_while_read_is_gone(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *topic = new_name("doomed");
    create_topic(live_admin, topic, 1, NULL, 0);
    fill(topic, 10);
    kb_kafka_reader *reader = NULL;
    seen got = SEEN_INIT;
    assert_ok(kb_kafka_reader_new(&options, &DEFAULT_READER, &reader, &err));
    assert_ok(kb_kafka_reader_start(reader, topic, 0, 0, &got, &err));
    assert_ok(read_until(reader, &got, 10, 10000, &err));
    assert_int_equal(got.count, 10);
    delete_topic(topic);
    assert_ok(read_until(reader, &got, 11, 60000, &err));
    assert_int_equal(got.error_count, 1);
    assert_int_equal(got.error.problem, KB_KAFKA_STREAM_TOPIC_GONE);
    kb_kafka_reader_free(reader);
    seen_done(&got);
}

static void reader_topic_made_anew_while_read(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *topic = new_name("anew");
    create_topic(live_admin, topic, 1, NULL, 0);
    fill(topic, 10);
    kb_kafka_reader *reader = NULL;
    seen got = SEEN_INIT;
    assert_ok(kb_kafka_reader_new(&options, &DEFAULT_READER, &reader, &err));
    assert_ok(kb_kafka_reader_start(reader, topic, 0, 0, &got, &err));
    assert_ok(read_until(reader, &got, 10, 10000, &err));
    delete_topic(topic);
    create_topic(live_admin, topic, 1, NULL, 0);
    fill(topic, 15);
    assert_ok(read_until(reader, &got, 15, 20000, &err));
    kb_kafka_reader_free(reader);
    seen_done(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probe_end_with_something_to_fetch_concludes_nothing),
        cmocka_unit_test(reader_tail_compacted_away_reaches_the_end),
        cmocka_unit_test(reader_topic_deleted_while_read_is_gone),
        cmocka_unit_test(reader_topic_made_anew_while_read),
    };
    cmocka_set_test_filter(getenv("KB_TEST_FILTER"));
    return cmocka_run_group_tests_name("kafka_live_topics", tests, live_setup, live_teardown);
}

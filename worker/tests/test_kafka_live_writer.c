/* Against a real broker: KB_TEST_KAFKA=host:port of a plaintext listener; without it every test is skipped.
 */
#include "worker/tests/kafka_fixture.h"

#include <unistd.h>

#define TIME_2020 INT64_C(1577836800000)

static const kb_kafka_reader_options DEFAULT_READER = {.fetch_wait_max_ms = 10};
static const kb_kafka_writer_options DEFAULT_WRITER = {.linger_ms = 5};

static void assert_bytes(const void *data, int32_t len, const char *wanted)
{
    if (wanted == NULL) {
        assert_int_equal(len, -1);
        return;
    }
    assert_int_equal(len, strlen(wanted));
    assert_memory_equal(data, wanted, strlen(wanted));
}

static void writer_future_timestamp_refused_ends_the_writer(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = live_options();
    static const kb_kafka_setting CONFIGS[] = {{"message.timestamp.after.max.ms", "3600000"}};
    KB_AUTOFREE char *topic = new_name("future");
    create_topic(live_admin, topic, 1, CONFIGS, 1);
    sent out;
    sent_open(&out, &options, &DEFAULT_WRITER, topic, 0);
    sent_text(&out, INT64_C(4102444800000), "k", "2100");
    assert_fails(kb_kafka_writer_flush(out.writer, in_ms(20000), NULL, &err), KB_CONFIG_INVALID);
    assert_text(&err, topic);
    assert_int_equal(out.lost_code, KB_CONFIG_INVALID);
    kb_out_record record = {.timestamp = TIME_2020, .key_len = -1, .value_len = -1};
    assert_fails(kb_kafka_writer_send(out.target, &record, NULL, &err), KB_CONFIG_INVALID);
    sent_close(&out);
    assert_int_equal(offset_of(live_admin, KB_KAFKA_OFFSET_LATEST, topic, 0), 0);
}

static void writer_far_timestamps_kept(void **state)
{
    (void)state;
    NEED_BROKER();
    static const kb_kafka_setting CONFIGS[] = {{"message.timestamp.after.max.ms", "9223372036854775807"}};
    static const int64_t TIMES[] = {1, INT64_C(4102444800000), -1, 2, TIME_2020};
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *topic = new_name("times");
    create_topic(live_admin, topic, 1, CONFIGS, 1);
    sent out;
    sent_open(&out, &options, &DEFAULT_WRITER, topic, 0);
    for (size_t i = 0; i < KB_ARRAY_LEN(TIMES); i++)
        sent_text(&out, TIMES[i], "k", "v");
    sent_flush(&out);
    sent_close(&out);
    seen got = SEEN_INIT;
    read_all(&options, &DEFAULT_READER, topic, 0, 0, (int64_t)KB_ARRAY_LEN(TIMES), &got);
    for (size_t i = 0; i < KB_ARRAY_LEN(TIMES); i++)
        assert_int_equal(got.list[i].r.timestamp, TIMES[i]);
    seen_done(&got);
}

static void writer_send_timestamp_zero_refused(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = live_options();
    sent out;
    sent_open(&out, &options, &DEFAULT_WRITER, "any", 0);
    kb_out_record record = {.timestamp = 0, .key_len = -1, .value_len = -1};
    assert_fails(kb_kafka_writer_send(out.target, &record, NULL, &err), KB_TIMESTAMP_ZERO);
    sent_close(&out);
}

static void writer_record_above_topic_limit_leaves_no_gap(void **state)
{
    (void)state;
    NEED_BROKER();
    static const kb_kafka_setting CONFIGS[] = {{"max.message.bytes", "20000"}};
    KB_AUTO_ERROR(err);
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *topic = new_name("toolarge");
    create_topic(live_admin, topic, 1, CONFIGS, 1);
    kb_kafka_writer_options wo = {.batch_bytes = 10000, .max_message_bytes = 1 << 20};
    sent out;
    sent_open(&out, &options, &wo, topic, 0);
    static char value[50000];
    for (int i = 0; i < 200; i++) {
        kb_out_record record = {
            .timestamp = TIME_2020, .key_len = -1, .value = value, .value_len = i == 100 ? 50000 : 1000};
        if (kb_kafka_writer_send(out.target, &record, NULL, &err) != KB_OK)
            break;
    }
    assert_fails(kb_kafka_writer_flush(out.writer, in_ms(20000), NULL, &err), KB_CONFIG_INVALID);
    while (kb_kafka_writer_count(out.writer) > 0) {
        assert_fails(kb_kafka_writer_poll(out.writer, 500, &err), KB_CONFIG_INVALID);
    }
    sent_close(&out);
    assert_int_equal(offset_of(live_admin, KB_KAFKA_OFFSET_LATEST, topic, 0), 100);
}

static void writer_topic_that_does_not_exist_is_not_made(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *topic = new_name("absent");
    sent out;
    sent_open(&out, &options, &DEFAULT_WRITER, topic, 0);
    sent_text(&out, TIME_2020, "k", "v");
    kb_code code = kb_kafka_writer_flush(out.writer, in_ms(40000), NULL, &err);
    assert_int_equal(code, KB_TOPIC_NOT_FOUND);
    sent_close(&out);
}

static void reader_aborted_transactions_skipped_and_end_is_past_the_markers(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *topic = new_name("txn");
    KB_AUTOFREE char *id = new_name("txn-id");
    create_topic(live_admin, topic, 1, NULL, 0);
    kb_kafka_writer_options wo = {.transactional_id = id};
    sent out;
    sent_open(&out, &options, &wo, topic, 0);
    assert_ok(kb_kafka_writer_txn_init(out.writer, in_ms(60000), &err));
    static const bool COMMITS[] = {true, false, true, false};
    for (size_t i = 0; i < KB_ARRAY_LEN(COMMITS); i++) {
        assert_ok(kb_kafka_writer_txn_begin(out.writer, &err));
        for (int r = 0; r < 10; r++)
            sent_text(&out, TIME_2020, "k", COMMITS[i] ? "committed" : "aborted");
        sent_flush(&out);
        if (COMMITS[i]) {
            kb_kafka_txn_offset offset = {topic, 0, (int64_t)(i + 1) * 10, "plan"};
            assert_ok(kb_kafka_writer_txn_offsets(out.writer, id, &offset, 1, in_ms(30000), &err));
            assert_ok(kb_kafka_writer_txn_commit(out.writer, in_ms(30000), &err));
        } else {
            assert_ok(kb_kafka_writer_txn_abort(out.writer, in_ms(30000), &err));
        }
    }
    /* 4 x (10 records and a marker); markers are written after the reply to the end of a transaction. */
    for (int tries = 0; tries < 100 && offset_of(live_admin, KB_KAFKA_OFFSET_LAST_STABLE, topic, 0) < 44;
         tries++)
        usleep(50000);
    assert_int_equal(offset_of(live_admin, KB_KAFKA_OFFSET_LATEST, topic, 0), 44);
    assert_int_equal(offset_of(live_admin, KB_KAFKA_OFFSET_LAST_STABLE, topic, 0), 44);
    seen got = SEEN_INIT;
    read_all(&options, &DEFAULT_READER, topic, 0, 0, 44, &got);
    assert_int_equal(got.count, 20);
    assert_int_equal(got.eof_offset, 44);
    assert_int_equal(got.list[10].r.offset, 22);
    for (size_t i = 0; i < got.count; i++)
        assert_bytes(got.list[i].r.value, got.list[i].r.value_len, "committed");
    seen_done(&got);
    kb_kafka_reader_options uncommitted = {.read_uncommitted = true};
    read_all(&options, &uncommitted, topic, 0, 0, 44, &got);
    assert_int_equal(got.count, 40);
    seen_done(&got);
    /* An open transaction holds back the last stable offset. */
    assert_ok(kb_kafka_writer_txn_begin(out.writer, &err));
    sent_text(&out, TIME_2020, "k", "open");
    sent_flush(&out);
    assert_int_equal(offset_of(live_admin, KB_KAFKA_OFFSET_LATEST, topic, 0), 45);
    assert_int_equal(offset_of(live_admin, KB_KAFKA_OFFSET_LAST_STABLE, topic, 0), 44);
    read_all(&options, &DEFAULT_READER, topic, 0, 40, 44, &got);
    assert_int_equal(got.count, 0);
    assert_int_equal(got.eof_offset, 44);
    seen_done(&got);
    /* Another producer with the id fences this one and aborts what it left. */
    sent other;
    sent_open(&other, &options, &wo, topic, 0);
    assert_ok(kb_kafka_writer_txn_init(other.writer, in_ms(60000), &err));
    assert_int_equal(offset_of(live_admin, KB_KAFKA_OFFSET_LAST_STABLE, topic, 0), 46);
    kb_code code = kb_kafka_writer_txn_commit(out.writer, in_ms(10000), &err);
    assert_int_equal(code, KB_FENCED);
    sent_close(&other);
    sent_close(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writer_future_timestamp_refused_ends_the_writer),
        cmocka_unit_test(writer_far_timestamps_kept),
        cmocka_unit_test(writer_send_timestamp_zero_refused),
        cmocka_unit_test(writer_record_above_topic_limit_leaves_no_gap),
        cmocka_unit_test(writer_topic_that_does_not_exist_is_not_made),
        cmocka_unit_test(reader_aborted_transactions_skipped_and_end_is_past_the_markers),
    };
    cmocka_set_test_filter(getenv("KB_TEST_FILTER"));
    return cmocka_run_group_tests_name("kafka_live_writer", tests, live_setup, live_teardown);
}

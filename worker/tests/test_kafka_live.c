/* Against a real broker: KB_TEST_KAFKA=host:port of a plaintext listener; without it every test is skipped.
 */
#include "worker/tests/kafka_fixture.h"

#include <stdio.h>

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

static bool count_up(void *ctx, const kb_source_record *record)
{
    (void)record;
    ++*(size_t *)ctx;
    return true;
}

static void reader_null_and_empty_keys_and_values_told_apart(void **state)
{
    (void)state;
    NEED_BROKER();
    static const struct {
        const char *key, *value;
        int64_t timestamp;
    } CASES[] = {
        {NULL, NULL, TIME_2020},
        {"", NULL, 1},
        {NULL, "", 86400000},
        {"", "", TIME_2020 + 1},
        {"k", "", TIME_2020 - 1},
        {"", "v", TIME_2020},
        {"k", "v", INT64_C(1700000000000)},
        {"a\x01", "b\xff", -1},
    };
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *topic = new_name("nulls");
    create_topic(live_admin, topic, 1, NULL, 0);
    sent out;
    sent_open(&out, &options, &DEFAULT_WRITER, topic, 0);
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++)
        sent_text(&out, CASES[i].timestamp, CASES[i].key, CASES[i].value);
    sent_flush(&out);
    assert_true(out.is_dense);
    assert_int_equal(out.first_offset, 0);
    sent_close(&out);
    seen got = SEEN_INIT;
    read_all(&options, &DEFAULT_READER, topic, 0, 0, (int64_t)KB_ARRAY_LEN(CASES), &got);
    assert_int_equal(got.count, KB_ARRAY_LEN(CASES));
    assert_int_equal(got.eof_offset, KB_ARRAY_LEN(CASES));
    for (size_t i = 0; i < got.count; i++) {
        const kb_source_record *r = &got.list[i].r;
        assert_bytes(r->key, r->key_len, CASES[i].key);
        assert_bytes(r->value, r->value_len, CASES[i].value);
        assert_int_equal(r->timestamp, CASES[i].timestamp);
        assert_int_equal(r->timestamp_type, KB_TIMESTAMP_CREATE);
        assert_int_equal(r->offset, i);
        assert_int_equal(r->header_count, 0);
    }
    seen_done(&got);
}

static void reader_headers_with_repeats_nulls_and_empties_kept(void **state)
{
    (void)state;
    NEED_BROKER();
    static const kb_kafka_header HEADERS[] = {
        {"a", 1, "1", 1}, {"a", 1, "2", 1},  {"n", 1, NULL, -1}, {"e", 1, "", 0},
        {"", 0, "x", 1},  {"", 0, NULL, -1}, {"e", 1, NULL, 0},
    };
    enum { MANY = 5000 };
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *topic = new_name("headers");
    create_topic(live_admin, topic, 1, NULL, 0);
    sent out;
    sent_open(&out, &options, &DEFAULT_WRITER, topic, 0);
    kb_out_record record = {.timestamp = TIME_2020,
                            .key = "k",
                            .key_len = 1,
                            .value_len = -1,
                            .headers = HEADERS,
                            .header_count = KB_ARRAY_LEN(HEADERS)};
    sent_record(&out, &record);
    KB_AUTOFREE kb_kafka_header *many = kb_calloc(MANY, sizeof *many);
    char names[MANY][6];
    for (size_t i = 0; i < MANY; i++) {
        (void)snprintf(names[i], sizeof names[i], "%05zu", i);
        many[i] = (kb_kafka_header){names[i], 5, names[i], 5};
    }
    record = (kb_out_record){.timestamp = TIME_2020,
                             .key_len = -1,
                             .value = "v",
                             .value_len = 1,
                             .headers = many,
                             .header_count = MANY};
    sent_record(&out, &record);
    sent_text(&out, TIME_2020, "plain", "");
    sent_flush(&out);
    sent_close(&out);
    seen got = SEEN_INIT;
    read_all(&options, &DEFAULT_READER, topic, 0, 0, 3, &got);
    assert_int_equal(got.count, 3);
    assert_int_equal(got.list[0].r.header_count, KB_ARRAY_LEN(HEADERS));
    for (size_t i = 0; i < KB_ARRAY_LEN(HEADERS); i++) {
        const kb_kafka_header *h = &got.list[0].headers[i];
        assert_int_equal(h->name_len, HEADERS[i].name_len);
        assert_memory_equal(h->name, HEADERS[i].name, h->name_len);
        assert_int_equal(h->value_len, HEADERS[i].value_len);
        if (h->value_len > 0)
            assert_memory_equal(h->value, HEADERS[i].value, (size_t)h->value_len);
    }
    assert_int_equal(got.list[1].r.header_count, MANY);
    assert_memory_equal(got.list[1].headers[MANY - 1].value, "04999", 5);
    assert_int_equal(got.list[2].r.header_count, 0);
    seen_done(&got);
}

static void reader_large_records_read_whole(void **state)
{
    (void)state;
    NEED_BROKER();
    static const size_t SIZES[] = {10 << 20, 100, 50 << 20, 3 << 20};
    static const kb_kafka_setting CONFIGS[] = {{"max.message.bytes", "104857600"}};
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *topic = new_name("large");
    create_topic(live_admin, topic, 1, CONFIGS, 1);
    kb_kafka_writer_options wo = {.max_message_bytes = 60 << 20};
    sent out;
    sent_open(&out, &options, &wo, topic, 0);
    KB_AUTOFREE char *value = kb_malloc(50 << 20);
    for (size_t i = 0; i < (50 << 20); i++)
        value[i] = (char)(i * 2654435761u >> 13);
    for (size_t i = 0; i < KB_ARRAY_LEN(SIZES); i++) {
        kb_out_record record = {
            .timestamp = TIME_2020, .key_len = -1, .value = value, .value_len = (int32_t)SIZES[i]};
        sent_record(&out, &record);
    }
    sent_flush(&out);
    assert_int_equal(out.delivered_count, KB_ARRAY_LEN(SIZES));
    sent_close(&out);
    seen got = SEEN_INIT;
    read_all(&options, &DEFAULT_READER, topic, 0, 0, (int64_t)KB_ARRAY_LEN(SIZES), &got);
    assert_int_equal(got.count, KB_ARRAY_LEN(SIZES));
    for (size_t i = 0; i < got.count; i++) {
        assert_int_equal(got.list[i].r.value_len, SIZES[i]);
        assert_memory_equal(got.list[i].r.value, value, SIZES[i]);
    }
    seen_done(&got);
}

static void reader_batch_above_receive_limit_says_so(void **state)
{
    (void)state;
    NEED_BROKER();
    static const kb_kafka_setting CONFIGS[] = {{"max.message.bytes", "104857600"}};
    KB_AUTO_ERROR(err);
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *topic = new_name("oversize");
    create_topic(live_admin, topic, 1, CONFIGS, 1);
    kb_kafka_writer_options wo = {.max_message_bytes = 60 << 20};
    sent out;
    sent_open(&out, &options, &wo, topic, 0);
    KB_AUTOFREE char *value = kb_calloc(1, 20 << 20);
    kb_out_record record = {.timestamp = TIME_2020, .key_len = -1, .value = value, .value_len = 20 << 20};
    sent_record(&out, &record);
    sent_flush(&out);
    sent_close(&out);
    kb_kafka_reader_options ro = {.fetch_bytes = 1 << 20, .max_message_bytes = 2 << 20};
    kb_kafka_reader *reader = NULL;
    seen got = SEEN_INIT;
    assert_ok(kb_kafka_reader_new(&options, &ro, &reader, &err));
    assert_ok(kb_kafka_reader_start(reader, topic, 0, 0, &got, &err));
    assert_ok(read_until(reader, &got, 1, 3000, &err));
    kb_kafka_state now;
    kb_kafka_reader_state(reader, &now);
    assert_non_null(strstr(now.last_error, "receive.message.max.bytes"));
    kb_kafka_state_done(&now);
    kb_kafka_reader_free(reader);
    seen_done(&got);
}

static void reader_log_append_time_is_the_brokers(void **state)
{
    (void)state;
    NEED_BROKER();
    static const kb_kafka_setting CONFIGS[] = {{"message.timestamp.type", "LogAppendTime"}};
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *topic = new_name("append");
    create_topic(live_admin, topic, 1, CONFIGS, 1);
    sent out;
    sent_open(&out, &options, &DEFAULT_WRITER, topic, 0);
    int64_t before = kb_clock_wall_ms();
    sent_text(&out, TIME_2020, "k", "v");
    sent_flush(&out);
    sent_close(&out);
    seen got = SEEN_INIT;
    read_all(&options, &DEFAULT_READER, topic, 0, 0, 1, &got);
    assert_int_equal(got.list[0].r.timestamp_type, KB_TIMESTAMP_LOG_APPEND);
    assert_true(got.list[0].r.timestamp >= before - 1000 && got.list[0].r.timestamp < before + 60000);
    seen_done(&got);
}

static void reader_position_below_log_start_is_out_of_range(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = live_options();
    kb_kafka_call call = call_for(30000);
    KB_AUTOFREE char *topic = new_name("deleted");
    create_topic(live_admin, topic, 1, NULL, 0);
    fill(topic, 100);
    kb_kafka_delete_records deletion = {.topic = topic, .partition = 0, .before = 40};
    assert_ok(kb_kafka_admin_delete_records(live_admin, &deletion, 1, &call, &err));
    assert_int_equal(deletion.error_number, 0);
    assert_int_equal(deletion.log_start, 40);
    assert_int_equal(offset_of(live_admin, KB_KAFKA_OFFSET_EARLIEST, topic, 0), 40);
    static const int64_t STARTS[] = {0, 39, 101, 5000};
    for (size_t i = 0; i < KB_ARRAY_LEN(STARTS); i++) {
        seen got = SEEN_INIT;
        read_all(&options, &DEFAULT_READER, topic, 0, STARTS[i], 100, &got);
        assert_int_equal(got.error_count, 1);
        assert_int_equal(got.error.problem, KB_KAFKA_STREAM_OUT_OF_RANGE);
        assert_int_equal(got.error.position, STARTS[i]);
        assert_int_equal(got.count, 0);
        seen_done(&got);
    }
    seen got = SEEN_INIT;
    read_all(&options, &DEFAULT_READER, topic, 0, 40, 100, &got);
    assert_int_equal(got.count, 60);
    seen_done(&got);
    deletion.before = -1;
    assert_ok(kb_kafka_admin_delete_records(live_admin, &deletion, 1, &call, &err));
    assert_int_equal(deletion.log_start, 100);
}

static void reader_start_again_inside_the_error_callback_works(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = live_options();
    kb_kafka_call call = call_for(30000);
    KB_AUTOFREE char *topic = new_name("again");
    create_topic(live_admin, topic, 1, NULL, 0);
    fill(topic, 100);
    kb_kafka_delete_records deletion = {.topic = topic, .partition = 0, .before = 40};
    assert_ok(kb_kafka_admin_delete_records(live_admin, &deletion, 1, &call, &err));
    kb_kafka_reader *reader = NULL;
    seen got = SEEN_INIT;
    assert_ok(kb_kafka_reader_new(&options, &DEFAULT_READER, &reader, &err));
    assert_ok(kb_kafka_reader_start(reader, topic, 0, 0, &got, &err));
    assert_fails(kb_kafka_reader_start(reader, topic, 0, 0, &got, &err), KB_ERR_EXISTS);
    assert_ok(read_until(reader, &got, 100, 10000, &err));
    assert_int_equal(got.error_count, 1);
    assert_int_equal(kb_kafka_reader_count(reader), 0);
    got.error_count = 0;
    assert_ok(kb_kafka_reader_start(reader, topic, 0, 40, &got, &err));
    assert_ok(read_until(reader, &got, 100, 10000, &err));
    assert_int_equal(got.count, 60);
    /* Stop in the middle and read a part again: nothing of the old stream comes. */
    kb_kafka_reader_stop(reader, topic, 0);
    assert_ok(kb_kafka_reader_start(reader, topic, 0, 90, &got, &err));
    got.eof_offset = -1;
    assert_ok(read_until(reader, &got, 100, 10000, &err));
    assert_int_equal(got.count, 70);
    assert_int_equal(got.list[60].r.offset, 90);
    kb_kafka_reader_free(reader);
    seen_done(&got);
}

static void reader_unknown_topic_is_gone(void **state)
{
    (void)state;
    NEED_BROKER();
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *topic = new_name("never");
    kb_kafka_reader_options ro = {.unknown_wait_ms = 1000};
    seen got = SEEN_INIT;
    read_all(&options, &ro, topic, 0, 0, 1, &got);
    assert_int_equal(got.error_count, 1);
    assert_int_equal(got.error.problem, KB_KAFKA_STREAM_TOPIC_GONE);
    seen_done(&got);
    KB_AUTOFREE char *small = new_name("one");
    create_topic(live_admin, small, 1, NULL, 0);
    read_all(&options, &ro, small, 7, 0, 1, &got);
    assert_int_equal(got.error.problem, KB_KAFKA_STREAM_TOPIC_GONE);
    seen_done(&got);
}

static void reader_empty_topic_is_at_its_end(void **state)
{
    (void)state;
    NEED_BROKER();
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *topic = new_name("empty");
    create_topic(live_admin, topic, 1, NULL, 0);
    seen got = SEEN_INIT;
    read_all(&options, &DEFAULT_READER, topic, 0, 0, 0, &got);
    assert_int_equal(got.eof_offset, 0);
    seen_done(&got);
}

static void reader_hold_keeps_one_stream_back(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *first = new_name("held");
    KB_AUTOFREE char *second = new_name("free");
    create_topic(live_admin, first, 1, NULL, 0);
    create_topic(live_admin, second, 1, NULL, 0);
    fill(first, 2000);
    fill(second, 2000);
    kb_kafka_reader *reader = NULL;
    seen one = SEEN_INIT;
    seen two = SEEN_INIT;
    assert_ok(kb_kafka_reader_new(&options, &DEFAULT_READER, &reader, &err));
    assert_ok(kb_kafka_reader_start(reader, first, 0, 0, &one, &err));
    assert_ok(kb_kafka_reader_start(reader, second, 0, 0, &two, &err));
    kb_kafka_reader_hold(reader, first, 0, true);
    assert_ok(read_until(reader, &two, 2000, 10000, &err));
    assert_int_equal(two.count, 2000);
    assert_int_equal(one.count, 0);
    kb_kafka_reader_hold(reader, first, 0, false);
    /* One record at a time: a poll that was told to return goes on with the next one. */
    one.stop_after = 1;
    for (size_t i = 1; i < 700; i++) {
        while (one.count < i)
            assert_ok(kb_kafka_reader_poll(reader, 50, &SEEN_EVENTS, &err));
        assert_int_equal(one.count, i);
    }
    one.stop_after = 0;
    assert_ok(read_until(reader, &one, 2000, 10000, &err));
    assert_int_equal(one.count, 2000);
    for (size_t i = 0; i < one.count; i++)
        assert_int_equal(one.list[i].r.offset, i);
    kb_kafka_reader_free(reader);
    seen_done(&one);
    seen_done(&two);
}

static void range_pieces_of_a_partition_read(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = live_options();
    KB_AUTOFREE char *topic = new_name("range");
    create_topic(live_admin, topic, 1, NULL, 0);
    fill(topic, 1000);
    kb_kafka_reader *reader = NULL;
    assert_ok(kb_kafka_reader_new(&options, &DEFAULT_READER, &reader, &err));
    static const struct {
        int64_t from, to;
        size_t count;
        int64_t reached;
    } CASES[] = {{0, 1, 1, 1}, {990, 1000, 10, 1000}, {990, 2000, 10, 1000},
                 {5, 5, 0, 5}, {1000, 1001, 0, 1000}, {1, 900, 899, 900}};
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        size_t count = 0;
        int64_t reached = -1;
        kb_kafka_range range = {topic, 0, CASES[i].from, CASES[i].to, in_ms(10000), NULL};
        assert_ok(kb_kafka_read_range(reader, &range, count_up, &count, &reached, &err));
        assert_int_equal(count, CASES[i].count);
        assert_int_equal(reached, CASES[i].reached);
    }
    size_t count = 0;
    kb_kafka_range range = {topic, 0, 1005, 1010, in_ms(10000), NULL};
    assert_fails(kb_kafka_read_range(reader, &range, count_up, &count, NULL, &err), KB_ERR_NOT_FOUND);
    kb_kafka_reader_free(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reader_null_and_empty_keys_and_values_told_apart),
        cmocka_unit_test(reader_headers_with_repeats_nulls_and_empties_kept),
        cmocka_unit_test(reader_large_records_read_whole),
        cmocka_unit_test(reader_batch_above_receive_limit_says_so),
        cmocka_unit_test(reader_log_append_time_is_the_brokers),
        cmocka_unit_test(reader_position_below_log_start_is_out_of_range),
        cmocka_unit_test(reader_start_again_inside_the_error_callback_works),
        cmocka_unit_test(reader_unknown_topic_is_gone),
        cmocka_unit_test(reader_empty_topic_is_at_its_end),
        cmocka_unit_test(reader_hold_keeps_one_stream_back),
        cmocka_unit_test(range_pieces_of_a_partition_read),
    };
    cmocka_set_test_filter(getenv("KB_TEST_FILTER"));
    return cmocka_run_group_tests_name("kafka_live", tests, live_setup, live_teardown);
}

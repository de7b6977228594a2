/* Against a real broker: KB_TEST_KAFKA=host:port of a plaintext listener; without it every test is skipped.
 */
#include "worker/tests/kafka_fixture.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "common/base/log.h"
#include "worker/kafka/kafka_probe.h"
#include "worker/kafka/rdkafka_api.h"

#define TIME_2020 INT64_C(1577836800000)

static const char *broker;
static kb_kafka_admin *admin;

static int group_setup(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    broker = getenv("KB_TEST_KAFKA");
    kb_log_level level = KB_LOG_WARN;
    const char *wanted = getenv("KB_LOG_LEVEL");
    if (wanted != NULL && kb_log_level_parse(wanted, &level))
        kb_log_set_level(level);
    if (broker == NULL || broker[0] == '\0')
        return 0;
    kb_kafka_options options = options_for(broker);
    return kb_kafka_admin_new(&options, NULL, &admin, &err) == KB_OK ? 0 : -1;
}

static int group_teardown(void **state)
{
    (void)state;
    kb_kafka_admin_free(admin);
    return 0;
}

#define NEED_BROKER() \
    if (admin == NULL) \
    skip()

static kb_kafka_options options_here(void)
{
    return options_for(broker);
}

static const kb_kafka_reader_options DEFAULT_READER = {.fetch_wait_max_ms = 10};
static const kb_kafka_writer_options DEFAULT_WRITER = {.linger_ms = 5};

/* ---- records ---- */

static void assert_bytes(const void *data, int32_t len, const char *wanted)
{
    if (wanted == NULL) {
        assert_int_equal(len, -1);
        return;
    }
    assert_int_equal(len, strlen(wanted));
    assert_memory_equal(data, wanted, strlen(wanted));
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
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("nulls");
    create_topic(admin, topic, 1, NULL, 0);
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
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("headers");
    create_topic(admin, topic, 1, NULL, 0);
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
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("large");
    create_topic(admin, topic, 1, CONFIGS, 1);
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
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("oversize");
    create_topic(admin, topic, 1, CONFIGS, 1);
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
    print_message("oversize: events %u, state: %s\n", got.error_count, now.last_error);
    kb_kafka_state_done(&now);
    kb_kafka_reader_free(reader);
    seen_done(&got);
}

static void reader_log_append_time_is_the_brokers(void **state)
{
    (void)state;
    NEED_BROKER();
    static const kb_kafka_setting CONFIGS[] = {{"message.timestamp.type", "LogAppendTime"}};
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("append");
    create_topic(admin, topic, 1, CONFIGS, 1);
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

static void writer_future_timestamp_refused_ends_the_writer(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("future");
    create_topic(admin, topic, 1, NULL, 0);
    sent out;
    sent_open(&out, &options, &DEFAULT_WRITER, topic, 0);
    sent_text(&out, INT64_C(4102444800000), "k", "2100");
    assert_fails(kb_kafka_writer_flush(out.writer, in_ms(20000), NULL, &err), KB_CONFIG_INVALID);
    print_message("future: %s\n", kb_error_text(&err));
    assert_text(&err, topic);
    assert_int_equal(out.lost_code, KB_CONFIG_INVALID);
    kb_out_record record = {.timestamp = TIME_2020, .key_len = -1, .value_len = -1};
    assert_fails(kb_kafka_writer_send(out.target, &record, NULL, &err), KB_CONFIG_INVALID);
    sent_close(&out);
    assert_int_equal(offset_of(admin, KB_KAFKA_OFFSET_LATEST, topic, 0), 0);
}

static void writer_far_timestamps_kept(void **state)
{
    (void)state;
    NEED_BROKER();
    static const kb_kafka_setting CONFIGS[] = {{"message.timestamp.after.max.ms", "9223372036854775807"}};
    static const int64_t TIMES[] = {1, INT64_C(4102444800000), -1, 2, TIME_2020};
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("times");
    create_topic(admin, topic, 1, CONFIGS, 1);
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
    kb_kafka_options options = options_here();
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
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("toolarge");
    create_topic(admin, topic, 1, CONFIGS, 1);
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
    print_message("too large: %s\n", kb_error_text(&err));
    while (kb_kafka_writer_count(out.writer) > 0) {
        assert_fails(kb_kafka_writer_poll(out.writer, 500, &err), KB_CONFIG_INVALID);
        print_message("count %zu lost %zu\n", kb_kafka_writer_count(out.writer), out.lost_count);
    }
    sent_close(&out);
    assert_int_equal(offset_of(admin, KB_KAFKA_OFFSET_LATEST, topic, 0), 100);
}

static void writer_topic_that_does_not_exist_is_not_made(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("absent");
    sent out;
    sent_open(&out, &options, &DEFAULT_WRITER, topic, 0);
    sent_text(&out, TIME_2020, "k", "v");
    int64_t start = kb_clock_boot_ms();
    kb_code code = kb_kafka_writer_flush(out.writer, in_ms(40000), NULL, &err);
    print_message("absent topic: %d after %lld ms: %s\n", (int)code, (long long)(kb_clock_boot_ms() - start),
                  kb_error_text(&err));
    assert_int_equal(code, KB_TOPIC_NOT_FOUND);
    sent_close(&out);
}

/* ---- transactions ---- */

static void reader_aborted_transactions_skipped_and_end_is_past_the_markers(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("txn");
    KB_AUTOFREE char *id = new_name("txn-id");
    create_topic(admin, topic, 1, NULL, 0);
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
    /* 4 x (10 records and a marker) */
    assert_int_equal(offset_of(admin, KB_KAFKA_OFFSET_LATEST, topic, 0), 44);
    assert_int_equal(offset_of(admin, KB_KAFKA_OFFSET_LAST_STABLE, topic, 0), 44);
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
    assert_int_equal(offset_of(admin, KB_KAFKA_OFFSET_LATEST, topic, 0), 45);
    assert_int_equal(offset_of(admin, KB_KAFKA_OFFSET_LAST_STABLE, topic, 0), 44);
    read_all(&options, &DEFAULT_READER, topic, 0, 40, 44, &got);
    assert_int_equal(got.count, 0);
    assert_int_equal(got.eof_offset, 44);
    seen_done(&got);
    /* Another producer with the id fences this one and aborts what it left. */
    sent other;
    sent_open(&other, &options, &wo, topic, 0);
    assert_ok(kb_kafka_writer_txn_init(other.writer, in_ms(60000), &err));
    assert_int_equal(offset_of(admin, KB_KAFKA_OFFSET_LAST_STABLE, topic, 0), 46);
    kb_code code = kb_kafka_writer_txn_commit(out.writer, in_ms(10000), &err);
    print_message("fenced: %s\n", kb_error_text(&err));
    assert_int_equal(code, KB_FENCED);
    sent_close(&other);
    sent_close(&out);
}

/* ---- positions ---- */

static void fill(const char *topic, int count)
{
    kb_kafka_options options = options_here();
    sent out;
    sent_open(&out, &options, &DEFAULT_WRITER, topic, 0);
    for (int i = 0; i < count; i++)
        sent_text(&out, TIME_2020 + i, "key", "value");
    sent_flush(&out);
    assert_int_equal(out.delivered_count, count);
    sent_close(&out);
}

static void reader_position_below_log_start_is_out_of_range(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = options_here();
    kb_kafka_call call = call_for(30000);
    KB_AUTOFREE char *topic = new_name("deleted");
    create_topic(admin, topic, 1, NULL, 0);
    fill(topic, 100);
    kb_kafka_delete_records deletion = {.topic = topic, .partition = 0, .before = 40};
    assert_ok(kb_kafka_admin_delete_records(admin, &deletion, 1, &call, &err));
    assert_int_equal(deletion.error_number, 0);
    assert_int_equal(deletion.log_start, 40);
    assert_int_equal(offset_of(admin, KB_KAFKA_OFFSET_EARLIEST, topic, 0), 40);
    static const int64_t STARTS[] = {0, 39, 101, 5000};
    for (size_t i = 0; i < KB_ARRAY_LEN(STARTS); i++) {
        seen got = SEEN_INIT;
        int64_t start = kb_clock_boot_ms();
        read_all(&options, &DEFAULT_READER, topic, 0, STARTS[i], 100, &got);
        print_message("out of range after %lld ms: %s\n", (long long)(kb_clock_boot_ms() - start),
                      got.error_text);
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
    assert_ok(kb_kafka_admin_delete_records(admin, &deletion, 1, &call, &err));
    assert_int_equal(deletion.log_start, 100);
}

static void reader_start_again_inside_the_error_callback_works(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = options_here();
    kb_kafka_call call = call_for(30000);
    KB_AUTOFREE char *topic = new_name("again");
    create_topic(admin, topic, 1, NULL, 0);
    fill(topic, 100);
    kb_kafka_delete_records deletion = {.topic = topic, .partition = 0, .before = 40};
    assert_ok(kb_kafka_admin_delete_records(admin, &deletion, 1, &call, &err));
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
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("never");
    kb_kafka_reader_options ro = {.unknown_wait_ms = 1000};
    seen got = SEEN_INIT;
    int64_t start = kb_clock_boot_ms();
    read_all(&options, &ro, topic, 0, 0, 1, &got);
    print_message("unknown topic after %lld ms: %s\n", (long long)(kb_clock_boot_ms() - start),
                  got.error_text);
    assert_int_equal(got.error_count, 1);
    assert_int_equal(got.error.problem, KB_KAFKA_STREAM_TOPIC_GONE);
    seen_done(&got);
    KB_AUTOFREE char *small = new_name("one");
    create_topic(admin, small, 1, NULL, 0);
    read_all(&options, &ro, small, 7, 0, 1, &got);
    print_message("unknown partition: %s\n", got.error_text);
    assert_int_equal(got.error.problem, KB_KAFKA_STREAM_TOPIC_GONE);
    seen_done(&got);
}

static void reader_start_latency_and_empty_topic(void **state)
{
    (void)state;
    NEED_BROKER();
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("empty");
    create_topic(admin, topic, 1, NULL, 0);
    seen got = SEEN_INIT;
    int64_t start = kb_clock_boot_ms();
    read_all(&options, &DEFAULT_READER, topic, 0, 0, 0, &got);
    print_message("empty topic: eof %lld after %lld ms\n", (long long)got.eof_offset,
                  (long long)(kb_clock_boot_ms() - start));
    assert_int_equal(got.eof_offset, 0);
    seen_done(&got);
}

static void reader_hold_keeps_one_stream_back(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *first = new_name("held");
    KB_AUTOFREE char *second = new_name("free");
    create_topic(admin, first, 1, NULL, 0);
    create_topic(admin, second, 1, NULL, 0);
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

static bool count_up(void *ctx, const kb_source_record *record)
{
    (void)record;
    ++*(size_t *)ctx;
    return true;
}

static void range_pieces_of_a_partition_read(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("range");
    create_topic(admin, topic, 1, NULL, 0);
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
        int64_t start = kb_clock_boot_ms();
        assert_ok(kb_kafka_read_range(reader, &range, count_up, &count, &reached, &err));
        print_message("range %lld-%lld: %lld ms\n", (long long)range.from, (long long)range.to,
                      (long long)(kb_clock_boot_ms() - start));
        assert_int_equal(count, CASES[i].count);
        assert_int_equal(reached, CASES[i].reached);
    }
    size_t count = 0;
    kb_kafka_range range = {topic, 0, 1005, 1010, in_ms(10000), NULL};
    assert_fails(kb_kafka_read_range(reader, &range, count_up, &count, NULL, &err), KB_ERR_NOT_FOUND);
    kb_kafka_reader_free(reader);
}

/* ---- admin ---- */

static void admin_thousands_of_partitions_answered_in_batches(void **state)
{
    (void)state;
    NEED_BROKER();
    enum { TOPICS = 50, PARTITIONS = 20 };
    KB_AUTO_ERROR(err);
    kb_kafka_new_topic *topics = kb_calloc(TOPICS, sizeof *topics);
    const char *names[TOPICS];
    KB_AUTOFREE char *base = new_name("bulk");
    for (size_t i = 0; i < TOPICS; i++) {
        names[i] = kb_asprintf("%s-%02zu", base, i);
        topics[i] =
            (kb_kafka_new_topic){.name = names[i], .partition_count = PARTITIONS, .replication_factor = 1};
    }
    kb_kafka_call call = call_for(60000);
    assert_ok(kb_kafka_admin_create_topics(admin, topics, TOPICS, true, &call, &err));
    int64_t start = kb_clock_boot_ms();
    assert_ok(kb_kafka_admin_create_topics(admin, topics, TOPICS, false, &call, &err));
    print_message("create %d: %lld ms\n", TOPICS, (long long)(kb_clock_boot_ms() - start));
    for (size_t i = 0; i < TOPICS; i++)
        assert_int_equal(topics[i].error_number, 0);
    assert_ok(kb_kafka_admin_create_topics(admin, topics, 1, false, &call, &err));
    assert_int_equal(topics[0].error_number, KB_KAFKA_ERROR_TOPIC_ALREADY_EXISTS);
    free(topics[0].error_text);
    free(topics);
    call.unknown_wait_ms = 10000;
    kb_kafka_metadata metadata;
    start = kb_clock_boot_ms();
    assert_ok(kb_kafka_admin_metadata(admin, names, TOPICS, &call, &metadata, &err));
    print_message("metadata: %lld ms\n", (long long)(kb_clock_boot_ms() - start));
    assert_int_equal(metadata.topic_count, TOPICS);
    assert_non_null(metadata.cluster.cluster_id);
    assert_true(metadata.cluster.broker_count >= 1);
    for (size_t i = 0; i < TOPICS; i++) {
        assert_int_equal(metadata.topics[i].partition_count, PARTITIONS);
        assert_true(metadata.topics[i].has_id);
        assert_false(metadata.topics[i].is_internal);
        assert_true(metadata.topics[i].partitions[PARTITIONS - 1].leader >= 0);
    }
    assert_ptr_equal(kb_kafka_metadata_find(&metadata, names[7]), &metadata.topics[7]);
    kb_kafka_metadata_done(&metadata);
    kb_kafka_offset_query *queries = kb_calloc((size_t)TOPICS * PARTITIONS, sizeof *queries);
    for (size_t i = 0; i < (size_t)TOPICS * PARTITIONS; i++)
        queries[i] =
            (kb_kafka_offset_query){.topic = names[i / PARTITIONS], .partition = (int32_t)(i % PARTITIONS)};
    for (int kind = KB_KAFKA_OFFSET_EARLIEST; kind <= KB_KAFKA_OFFSET_LAST_STABLE; kind++) {
        start = kb_clock_boot_ms();
        assert_ok(kb_kafka_admin_list_offsets(admin, (kb_kafka_offset_kind)kind, queries,
                                              (size_t)TOPICS * PARTITIONS, &call, &err));
        print_message("list offsets %d: %lld ms\n", kind, (long long)(kb_clock_boot_ms() - start));
        for (size_t i = 0; i < (size_t)TOPICS * PARTITIONS; i++) {
            assert_int_equal(queries[i].error_number, 0);
            assert_int_equal(queries[i].offset, 0);
        }
    }
    free(queries);
    kb_kafka_configs *configs = NULL;
    start = kb_clock_boot_ms();
    assert_ok(kb_kafka_admin_describe_topic_configs(admin, names, TOPICS, &call, &configs, &err));
    print_message("configs: %lld ms\n", (long long)(kb_clock_boot_ms() - start));
    for (size_t i = 0; i < TOPICS; i++)
        assert_string_equal(kb_kafka_configs_find(&configs[i], "cleanup.policy")->value, "delete");
    kb_kafka_configs_free(configs, TOPICS);
    for (size_t i = 0; i < TOPICS; i++)
        free((char *)(uintptr_t)names[i]);
}

static void admin_unknown_topics_are_answers(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *topic = new_name("real");
    KB_AUTOFREE char *absent = new_name("unreal");
    create_topic(admin, topic, 2, NULL, 0);
    const char *const names[] = {topic, absent, topic};
    kb_kafka_call call = call_for(20000);
    kb_kafka_metadata metadata;
    int64_t start = kb_clock_boot_ms();
    assert_ok(kb_kafka_admin_metadata(admin, names, 3, &call, &metadata, &err));
    print_message("metadata with an absent topic: %lld ms\n", (long long)(kb_clock_boot_ms() - start));
    assert_int_equal(metadata.topic_count, 2);
    assert_int_equal(kb_kafka_metadata_find(&metadata, topic)->error_number, 0);
    assert_int_equal(kb_kafka_metadata_find(&metadata, absent)->error_number, 3);
    kb_kafka_metadata_done(&metadata);
    kb_kafka_offset_query queries[] = {{.topic = topic, .partition = 0},
                                       {.topic = absent, .partition = 0},
                                       {.topic = topic, .partition = 9},
                                       {.topic = topic, .partition = 1}};
    start = kb_clock_boot_ms();
    kb_code code = kb_kafka_admin_list_offsets(admin, KB_KAFKA_OFFSET_LATEST, queries, 4, &call, &err);
    print_message("offsets with an absent topic: %d after %lld ms: %s; %d %d %d %d\n", (int)code,
                  (long long)(kb_clock_boot_ms() - start), kb_error_text(&err), queries[0].error_number,
                  queries[1].error_number, queries[2].error_number, queries[3].error_number);
    assert_int_equal(code, KB_OK);
    assert_int_equal(queries[0].error_number, 0);
    assert_int_not_equal(queries[1].error_number, 0);
    assert_int_equal(queries[3].error_number, 0);
    kb_kafka_configs *configs = NULL;
    assert_ok(kb_kafka_admin_describe_topic_configs(admin, names, 2, &call, &configs, &err));
    assert_int_equal(configs[0].error_number, 0);
    assert_int_equal(configs[1].error_number, 3);
    kb_kafka_configs_free(configs, 2);
    assert_ok(kb_kafka_admin_metadata(admin, NULL, 0, &call, &metadata, &err));
    assert_non_null(kb_kafka_metadata_find(&metadata, topic));
    kb_kafka_metadata_done(&metadata);
}

static void admin_configs_tell_overrides_and_alter_changes_them(void **state)
{
    (void)state;
    NEED_BROKER();
    static const kb_kafka_setting CONFIGS[] = {{"retention.ms", "-1"}, {"cleanup.policy", "compact"}};
    static const kb_kafka_setting CHANGES[] = {{"retention.ms", "1234567"}, {"cleanup.policy", NULL}};
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *topic = new_name("configs");
    create_topic(admin, topic, 1, CONFIGS, 2);
    const char *const names[] = {topic};
    kb_kafka_call call = call_for(20000);
    kb_kafka_configs *configs = NULL;
    assert_ok(kb_kafka_admin_describe_topic_configs(admin, names, 1, &call, &configs, &err));
    size_t overrides = 0;
    for (size_t i = 0; i < configs->count; i++)
        overrides += configs->items[i].source == KB_KAFKA_CONFIG_TOPIC;
    assert_int_equal(overrides, 2);
    assert_string_equal(kb_kafka_configs_find(configs, "cleanup.policy")->value, "compact");
    kb_kafka_configs_free(configs, 1);
    kb_kafka_alter alter = {.topic = topic, .configs = CHANGES, .config_count = 2};
    assert_ok(kb_kafka_admin_alter_topic_configs(admin, &alter, 1, &call, &err));
    assert_int_equal(alter.error_number, 0);
    assert_ok(kb_kafka_admin_describe_topic_configs(admin, names, 1, &call, &configs, &err));
    assert_string_equal(kb_kafka_configs_find(configs, "retention.ms")->value, "1234567");
    assert_string_equal(kb_kafka_configs_find(configs, "cleanup.policy")->value, "delete");
    kb_kafka_configs_free(configs, 1);
    static const kb_kafka_setting BAD[] = {{"retention.ms", "soon"}};
    alter = (kb_kafka_alter){.topic = topic, .configs = BAD, .config_count = 1};
    assert_ok(kb_kafka_admin_alter_topic_configs(admin, &alter, 1, &call, &err));
    assert_int_equal(kb_kafka_classify(alter.error_number).code, KB_CONFIG_INVALID);
    free(alter.error_text);
    kb_kafka_configs *of_broker = NULL;
    assert_ok(kb_kafka_admin_describe_broker_configs(admin, &call, &of_broker, &err));
    assert_non_null(kb_kafka_configs_find(of_broker, "replica.lag.time.max.ms"));
    kb_kafka_configs_free(of_broker, 1);
    kb_kafka_new_topic bad = {.name = topic, .partition_count = 1, .replication_factor = 50};
    assert_ok(kb_kafka_admin_create_topics(admin, &bad, 1, true, &call, &err));
    print_message("refused creation: %d %s\n", bad.error_number, bad.error_text);
    assert_int_not_equal(bad.error_number, 0);
    free(bad.error_text);
}

/* ---- what the interface has no word for ---- */

/* A producer of the plain kind: no producer id, so that nothing makes the cleaner keep an empty last batch.
 */
static rd_kafka_t *plain_producer(void)
{
    char reason[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    assert_int_equal(rd_kafka_conf_set(conf, "bootstrap.servers", broker, reason, sizeof reason), 0);
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

static void reader_topic_deleted_while_read_is_gone(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("doomed");
    create_topic(admin, topic, 1, NULL, 0);
    fill(topic, 10);
    kb_kafka_reader *reader = NULL;
    seen got = SEEN_INIT;
    assert_ok(kb_kafka_reader_new(&options, &DEFAULT_READER, &reader, &err));
    assert_ok(kb_kafka_reader_start(reader, topic, 0, 0, &got, &err));
    assert_ok(read_until(reader, &got, 10, 10000, &err));
    assert_int_equal(got.count, 10);
    delete_topic(topic);
    int64_t start = kb_clock_boot_ms();
    assert_ok(read_until(reader, &got, 11, 60000, &err));
    print_message("deleted topic noticed after %lld ms: %s\n", (long long)(kb_clock_boot_ms() - start),
                  got.error_text);
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
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("anew");
    create_topic(admin, topic, 1, NULL, 0);
    fill(topic, 10);
    kb_kafka_reader *reader = NULL;
    seen got = SEEN_INIT;
    assert_ok(kb_kafka_reader_new(&options, &DEFAULT_READER, &reader, &err));
    assert_ok(kb_kafka_reader_start(reader, topic, 0, 0, &got, &err));
    assert_ok(read_until(reader, &got, 10, 10000, &err));
    delete_topic(topic);
    create_topic(admin, topic, 1, NULL, 0);
    fill(topic, 15);
    int64_t start = kb_clock_boot_ms();
    assert_ok(read_until(reader, &got, 15, 20000, &err));
    print_message("topic made anew: after %lld ms: %zu records, errors %u: %s\n",
                  (long long)(kb_clock_boot_ms() - start), got.count, got.error_count,
                  got.error_text != NULL ? got.error_text : "");
    kb_kafka_reader_free(reader);
    seen_done(&got);
}

/* ---- silence ---- */

static int64_t probe_end(const char *topic, int64_t position)
{
    KB_AUTO_ERROR(err);
    kb_kafka_options options = options_here();
    kb_kafka_probe probe = {
        .options = &options, .topic = topic, .position = position, .deadline_ms = in_ms(4000)};
    int64_t end = -1;
    assert_ok(kb_kafka_probe_end(&probe, &end, &err));
    return end;
}

static void probe_end_with_something_to_fetch_concludes_nothing(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("probe");
    KB_AUTOFREE char *id = new_name("probe-id");
    create_topic(admin, topic, 1, NULL, 0);
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

/* ---- compaction ---- */

static void reader_tail_compacted_away_reaches_the_end(void **state)
{
    (void)state;
    NEED_BROKER();
    static const kb_kafka_setting CONFIGS[] = {
        {"cleanup.policy", "compact"},  {"segment.ms", "200"},          {"min.cleanable.dirty.ratio", "0"},
        {"delete.retention.ms", "0"},   {"min.compaction.lag.ms", "0"}, {"max.compaction.lag.ms", "100"},
        {"file.delete.delay.ms", "100"}};
    kb_kafka_options options = options_here();
    KB_AUTOFREE char *topic = new_name("compacted");
    create_topic(admin, topic, 1, CONFIGS, KB_ARRAY_LEN(CONFIGS));
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
    int64_t end = offset_of(admin, KB_KAFKA_OFFSET_LAST_STABLE, topic, 0);
    for (int i = 0; i < 10; i++) {
        (void)nanosleep(&PAUSE, NULL);
        (void)nanosleep(&PAUSE, NULL);
        seen got = SEEN_INIT;
        int64_t start = kb_clock_boot_ms();
        read_all(&options, &DEFAULT_READER, topic, 0, 0, end, &got);
        print_message("compacted: %zu records, last %lld, eof %lld of %lld after %lld ms\n", got.count,
                      got.count > 0 ? (long long)got.list[got.count - 1].r.offset : -1,
                      (long long)got.eof_offset, (long long)end, (long long)(kb_clock_boot_ms() - start));
        assert_int_equal(got.eof_offset, end);
        seen_done(&got);
    }
}

int main(void)
{
    cmocka_set_test_filter(getenv("KB_TEST_FILTER"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reader_null_and_empty_keys_and_values_told_apart),
        cmocka_unit_test(reader_headers_with_repeats_nulls_and_empties_kept),
        cmocka_unit_test(reader_large_records_read_whole),
        cmocka_unit_test(reader_batch_above_receive_limit_says_so),
        cmocka_unit_test(reader_log_append_time_is_the_brokers),
        cmocka_unit_test(writer_future_timestamp_refused_ends_the_writer),
        cmocka_unit_test(writer_far_timestamps_kept),
        cmocka_unit_test(writer_send_timestamp_zero_refused),
        cmocka_unit_test(writer_record_above_topic_limit_leaves_no_gap),
        cmocka_unit_test(writer_topic_that_does_not_exist_is_not_made),
        cmocka_unit_test(reader_aborted_transactions_skipped_and_end_is_past_the_markers),
        cmocka_unit_test(reader_position_below_log_start_is_out_of_range),
        cmocka_unit_test(reader_start_again_inside_the_error_callback_works),
        cmocka_unit_test(reader_unknown_topic_is_gone),
        cmocka_unit_test(reader_topic_deleted_while_read_is_gone),
        cmocka_unit_test(reader_topic_made_anew_while_read),
        cmocka_unit_test(reader_start_latency_and_empty_topic),
        cmocka_unit_test(reader_hold_keeps_one_stream_back),
        cmocka_unit_test(range_pieces_of_a_partition_read),
        cmocka_unit_test(admin_thousands_of_partitions_answered_in_batches),
        cmocka_unit_test(admin_unknown_topics_are_answers),
        cmocka_unit_test(admin_configs_tell_overrides_and_alter_changes_them),
        cmocka_unit_test(probe_end_with_something_to_fetch_concludes_nothing),
        cmocka_unit_test(reader_tail_compacted_away_reaches_the_end),
    };
    return cmocka_run_group_tests_name("kafka_live", tests, group_setup, group_teardown);
}

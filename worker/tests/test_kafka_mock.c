/* Against the library's mock cluster: errors of brokers, moving leaders, lost brokers. */
#include "worker/tests/kafka_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#include "worker/kafka/rdkafka_api.h"

#include <librdkafka/rdkafka_mock.h>

#define TIME_2020 INT64_C(1577836800000)
#define BROKERS 3
/* Source: Kafka protocol, API keys. */
enum {
    API_PRODUCE = 0,
    API_FETCH = 1,
    API_LIST_OFFSETS = 2,
    API_METADATA = 3,
    API_VERSIONS = 18,
    API_LEADER_EPOCH = 23
};

static rd_kafka_t *owner;
static rd_kafka_mock_cluster_t *cluster;

static int mock_setup(void **state)
{
    (void)state;
    char reason[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    owner = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason);
    cluster = owner != NULL ? rd_kafka_mock_cluster_new(owner, BROKERS) : NULL;
    return cluster != NULL ? 0 : -1;
}

static int mock_teardown(void **state)
{
    (void)state;
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(owner);
    return 0;
}

static kb_kafka_options mock_options(void)
{
    return options_for(rd_kafka_mock_cluster_bootstraps(cluster));
}

static void make_topic(const char *topic, int partitions)
{
    assert_int_equal(rd_kafka_mock_topic_create(cluster, topic, partitions, BROKERS), 0);
}

static void send_many(sent *out, int count)
{
    for (int i = 0; i < count; i++)
        sent_text(out, TIME_2020 + i, "key", "value");
}

static void fill(const char *topic, int count)
{
    kb_kafka_options options = mock_options();
    kb_kafka_writer_options wo = {.batch_records = 10};
    sent out;
    sent_open(&out, &options, &wo, topic, 0);
    send_many(&out, count);
    sent_flush(&out);
    assert_int_equal(out.delivered_count, count);
    sent_close(&out);
}

static void assert_ascending(const seen *got, size_t count)
{
    assert_int_equal(got->count, count);
    for (size_t i = 0; i < got->count; i++)
        assert_int_equal(got->list[i].r.offset, i);
}

static void connect_tells_cluster(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_kafka_options options = mock_options();
    kb_kafka_cluster found;
    assert_ok(kb_kafka_connect(&options, in_ms(10000), NULL, &found, &err));
    assert_int_equal(found.broker_count, BROKERS);
    assert_non_null(found.cluster_id);
    kb_kafka_cluster_done(&found);
}

static void writer_transient_produce_errors_leave_offsets_dense(void **state)
{
    (void)state;
    static const rd_kafka_resp_err_t ERRORS[] = {
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR};
    kb_kafka_options options = mock_options();
    KB_AUTOFREE char *topic = new_name("produce");
    make_topic(topic, 1);
    kb_kafka_writer_options wo = {.batch_records = 10};
    sent out;
    sent_open(&out, &options, &wo, topic, 0);
    rd_kafka_mock_push_request_errors_array(cluster, API_PRODUCE, KB_ARRAY_LEN(ERRORS), ERRORS);
    send_many(&out, 200);
    sent_flush(&out);
    assert_int_equal(out.delivered_count, 200);
    assert_int_equal(out.lost_count, 0);
    assert_true(out.is_dense);
    assert_int_equal(out.first_offset, 0);
    sent_close(&out);
    rd_kafka_mock_clear_request_errors(cluster, API_PRODUCE);
    seen got = SEEN_INIT;
    kb_kafka_reader_options ro = {0};
    read_all(&options, &ro, topic, 0, 0, 200, &got);
    assert_ascending(&got, 200);
    seen_done(&got);
}

static void writer_permission_lost_ends_the_writer_with_77(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_kafka_options options = mock_options();
    KB_AUTOFREE char *topic = new_name("denied");
    make_topic(topic, 1);
    kb_kafka_writer_options wo = {.batch_records = 10};
    sent out;
    sent_open(&out, &options, &wo, topic, 0);
    send_many(&out, 20);
    sent_flush(&out);
    rd_kafka_mock_push_request_errors(cluster, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    sent_text(&out, TIME_2020, "k", "v");
    assert_fails(kb_kafka_writer_flush(out.writer, in_ms(10000), NULL, &err), KB_KAFKA_ACCESS_DENIED);
    assert_text(&err, topic);
    assert_int_equal(out.lost_code, KB_KAFKA_ACCESS_DENIED);
    sent_close(&out);
    rd_kafka_mock_clear_request_errors(cluster, API_PRODUCE);
}

static void writer_purge_gives_every_record_its_delivery(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_kafka_options options = mock_options();
    KB_AUTOFREE char *topic = new_name("purge");
    make_topic(topic, 1);
    kb_kafka_writer_options wo = {.linger_ms = 60000, .batch_records = 100000};
    sent out;
    sent_open(&out, &options, &wo, topic, 0);
    send_many(&out, 500);
    assert_int_equal(kb_kafka_writer_count(out.writer), 500);
    kb_kafka_writer_purge(out.writer);
    int64_t deadline_ms = in_ms(10000);
    while (kb_kafka_writer_count(out.writer) > 0 && kb_clock_boot_ms() < deadline_ms)
        assert_ok(kb_kafka_writer_poll(out.writer, 50, &err));
    assert_int_equal(out.delivered_count + out.lost_count, 500);
    kb_out_record record = {.timestamp = TIME_2020, .key_len = -1, .value_len = -1};
    assert_fails(kb_kafka_writer_send(out.target, &record, NULL, &err), KB_TEMPORARY_FAILURE);
    sent_close(&out);
}

static void *nudge_later(void *writer)
{
    kb_kafka_writer_nudge(writer);
    return NULL;
}

static void writer_nudge_sends_what_lingers(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_kafka_options options = mock_options();
    KB_AUTOFREE char *topic = new_name("nudge");
    make_topic(topic, 1);
    kb_kafka_writer_options wo = {.linger_ms = 60000};
    sent out;
    sent_open(&out, &options, &wo, topic, 0);
    send_many(&out, 10);
    sent_flush(&out); /* connected */
    send_many(&out, 10);
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, nudge_later, out.writer), 0);
    int64_t deadline_ms = in_ms(20000);
    while (kb_kafka_writer_count(out.writer) > 0 && kb_clock_boot_ms() < deadline_ms)
        assert_ok(kb_kafka_writer_poll(out.writer, 20000, &err));
    pthread_join(other, NULL);
    assert_int_equal(out.delivered_count, 20);
    assert_true(kb_clock_boot_ms() < deadline_ms);
    sent_close(&out);
}

static void writer_full_queue_pushes_back(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_kafka_options options = mock_options();
    KB_AUTOFREE char *topic = new_name("full");
    make_topic(topic, 1);
    static char value[100000];
    kb_kafka_writer_options wo = {.queue_bytes = 1 << 20, .linger_ms = 60000, .max_message_bytes = 200000};
    sent out;
    sent_open(&out, &options, &wo, topic, 0);
    kb_out_record record = {
        .timestamp = TIME_2020, .key_len = -1, .value = value, .value_len = (int32_t)sizeof value};
    kb_code code = KB_OK;
    size_t taken = 0;
    while (taken < 100 && (code = kb_kafka_writer_send(out.target, &record, NULL, &err)) == KB_OK)
        taken++;
    assert_int_equal(code, KB_ERR_TOO_LARGE);
    assert_true(err.retryable);
    assert_in_range(taken, 5, 12);
    sent_flush(&out);
    assert_int_equal(out.delivered_count, taken);
    record.value_len = -1;
    record.key = value;
    record.key_len = 100000;
    assert_ok(kb_kafka_writer_send(out.target, &record, NULL, &err));
    sent_close(&out);
}

static void writer_second_target_of_a_partition_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_kafka_options options = mock_options();
    kb_kafka_writer_options wo = {0};
    sent out;
    sent_open(&out, &options, &wo, "twice", 3);
    kb_kafka_target *target = NULL;
    assert_fails(kb_kafka_writer_target(out.writer, "twice", 3, NULL, &target, &err), KB_ERR_EXISTS);
    assert_ok(kb_kafka_writer_target(out.writer, "twice", 0, NULL, &target, &err));
    sent_close(&out);
}

static void reader_transient_fetch_errors_lose_and_repeat_nothing(void **state)
{
    (void)state;
    static const rd_kafka_resp_err_t ERRORS[] = {
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
        RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,      RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,     RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART};
    kb_kafka_options options = mock_options();
    KB_AUTOFREE char *topic = new_name("fetch");
    make_topic(topic, 1);
    fill(topic, 300);
    rd_kafka_mock_push_request_errors_array(cluster, API_FETCH, KB_ARRAY_LEN(ERRORS), ERRORS);
    seen got = SEEN_INIT;
    kb_kafka_reader_options ro = {.fetch_bytes_per_partition = 1000};
    read_all(&options, &ro, topic, 0, 0, 300, &got);
    assert_int_equal(got.error_count, 0);
    assert_ascending(&got, 300);
    seen_done(&got);
    rd_kafka_mock_clear_request_errors(cluster, API_FETCH);
}

static void reader_leader_moves_while_read_lose_and_repeat_nothing(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_kafka_options options = mock_options();
    KB_AUTOFREE char *topic = new_name("moves");
    make_topic(topic, 1);
    fill(topic, 2000);
    kb_kafka_reader_options ro = {.fetch_bytes_per_partition = 1000, .queue_bytes_per_partition = 4096};
    kb_kafka_reader *reader = NULL;
    seen got = SEEN_INIT;
    assert_ok(kb_kafka_reader_new(&options, &ro, &reader, &err));
    assert_ok(kb_kafka_reader_start(reader, topic, 0, 0, &got, &err));
    int64_t deadline_ms = in_ms(60000);
    size_t next_move = 100;
    int32_t leader = 1;
    while (got.eof_offset < 2000 && kb_clock_boot_ms() < deadline_ms) {
        assert_ok(kb_kafka_reader_poll(reader, 50, &SEEN_EVENTS, &err));
        if (got.count >= next_move) {
            next_move += 400;
            leader = leader % BROKERS + 1;
            assert_int_equal(rd_kafka_mock_partition_set_leader(cluster, topic, 0, leader), 0);
        }
    }
    assert_int_equal(got.error_count, 0);
    assert_ascending(&got, 2000);
    kb_kafka_reader_free(reader);
    seen_done(&got);
}

static void reader_brokers_down_tells_and_goes_on_when_they_are_back(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_kafka_options options = mock_options();
    options.reconnect_backoff_max_ms = 500;
    KB_AUTOFREE char *topic = new_name("down");
    make_topic(topic, 1);
    fill(topic, 100);
    kb_kafka_reader_options ro = {0};
    kb_kafka_reader *reader = NULL;
    seen got = SEEN_INIT;
    assert_ok(kb_kafka_reader_new(&options, &ro, &reader, &err));
    for (int32_t id = 1; id <= BROKERS; id++)
        assert_int_equal(rd_kafka_mock_broker_set_down(cluster, id), 0);
    assert_ok(kb_kafka_reader_start(reader, topic, 0, 0, &got, &err));
    assert_ok(read_until(reader, &got, 100, 1000, &err));
    assert_int_equal(got.count, 0);
    kb_kafka_state now;
    kb_kafka_reader_state(reader, &now);
    assert_non_null(now.last_error);
    assert_non_null(strstr(now.last_error, "127.0.0.1:"));
    assert_true(now.transport_errors > 0);
    assert_int_equal(now.auth_failures, 0);
    kb_kafka_state_done(&now);
    for (int32_t id = 1; id <= BROKERS; id++)
        assert_int_equal(rd_kafka_mock_broker_set_up(cluster, id), 0);
    assert_ok(read_until(reader, &got, 100, 30000, &err));
    assert_ascending(&got, 100);
    kb_kafka_reader_free(reader);
    seen_done(&got);
}

static void reader_topic_access_refused_ends_the_stream(void **state)
{
    (void)state;
    kb_kafka_options options = mock_options();
    KB_AUTOFREE char *topic = new_name("secret");
    make_topic(topic, 1);
    fill(topic, 10);
    rd_kafka_mock_push_request_errors(cluster, API_FETCH, 1, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    seen got = SEEN_INIT;
    kb_kafka_reader_options ro = {0};
    read_all(&options, &ro, topic, 0, 0, 10, &got);
    assert_int_equal(got.error_count, 1);
    assert_int_equal(got.error.problem, KB_KAFKA_STREAM_ACCESS);
    assert_int_equal(got.error.code, KB_KAFKA_ACCESS_DENIED);
    assert_non_null(strstr(got.error_text, topic));
    seen_done(&got);
    rd_kafka_mock_clear_request_errors(cluster, API_FETCH);
}

static void reader_asks_for_no_group_and_no_coordinator(void **state)
{
    (void)state;
    static const int ALLOWED[] = {API_FETCH, API_LIST_OFFSETS, API_METADATA, API_VERSIONS, API_LEADER_EPOCH};
    kb_kafka_options options = mock_options();
    KB_AUTOFREE char *topic = new_name("groupless");
    make_topic(topic, 1);
    fill(topic, 10);
    rd_kafka_mock_start_request_tracking(cluster);
    seen got = SEEN_INIT;
    kb_kafka_reader_options ro = {0};
    read_all(&options, &ro, topic, 0, 0, 10, &got);
    seen_done(&got);
    size_t count = 0;
    rd_kafka_mock_request_t **requests = rd_kafka_mock_get_requests(cluster, &count);
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        int key = rd_kafka_mock_request_api_key(requests[i]);
        bool is_allowed = false;
        for (size_t a = 0; a < KB_ARRAY_LEN(ALLOWED); a++)
            is_allowed = is_allowed || ALLOWED[a] == key;
        if (!is_allowed)
            fail_msg("a request of API key %d", key);
    }
    rd_kafka_mock_request_destroy_array(requests, count);
    rd_kafka_mock_stop_request_tracking(cluster);
}

static size_t requests_of(int api_key)
{
    size_t count = 0;
    size_t found = 0;
    rd_kafka_mock_request_t **requests = rd_kafka_mock_get_requests(cluster, &count);
    for (size_t i = 0; i < count; i++)
        found += rd_kafka_mock_request_api_key(requests[i]) == api_key;
    rd_kafka_mock_request_destroy_array(requests, count);
    return found;
}

static void list_offsets_one_request_for_each_leader(void **state)
{
    (void)state;
    enum { PARTITIONS = 60 };
    KB_AUTO_ERROR(err);
    kb_kafka_options options = mock_options();
    KB_AUTOFREE char *topic = new_name("offsets");
    make_topic(topic, PARTITIONS);
    fill(topic, 30);
    kb_kafka_admin *admin = NULL;
    assert_ok(kb_kafka_admin_new(&options, NULL, &admin, &err));
    kb_kafka_offset_query queries[PARTITIONS];
    for (int32_t p = 0; p < PARTITIONS; p++)
        queries[p] = (kb_kafka_offset_query){.topic = topic, .partition = p};
    kb_kafka_call call = call_for(20000);
    rd_kafka_mock_start_request_tracking(cluster);
    assert_ok(kb_kafka_admin_list_offsets(admin, KB_KAFKA_OFFSET_LATEST, queries, PARTITIONS, &call, &err));
    assert_in_range(requests_of(API_LIST_OFFSETS), 1, BROKERS);
    rd_kafka_mock_stop_request_tracking(cluster);
    for (int32_t p = 0; p < PARTITIONS; p++) {
        assert_int_equal(queries[p].error_number, 0);
        assert_int_equal(queries[p].offset, p == 0 ? 30 : 0);
    }
    kb_kafka_admin_free(admin);
}

static void list_offsets_transient_errors_asked_again(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_kafka_options options = mock_options();
    KB_AUTOFREE char *topic = new_name("again");
    make_topic(topic, 1);
    fill(topic, 5);
    kb_kafka_admin *admin = NULL;
    assert_ok(kb_kafka_admin_new(&options, NULL, &admin, &err));
    rd_kafka_mock_push_request_errors(cluster, API_LIST_OFFSETS, 2,
                                      RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                                      RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE);
    kb_kafka_offset_query query = {.topic = topic, .partition = 0};
    kb_kafka_call call = call_for(20000);
    assert_ok(kb_kafka_admin_list_offsets(admin, KB_KAFKA_OFFSET_EARLIEST, &query, 1, &call, &err));
    assert_int_equal(query.error_number, 0);
    assert_int_equal(query.offset, 0);
    rd_kafka_mock_push_request_errors(cluster, API_LIST_OFFSETS, 1,
                                      RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    assert_ok(kb_kafka_admin_list_offsets(admin, KB_KAFKA_OFFSET_EARLIEST, &query, 1, &call, &err));
    assert_int_equal(query.error_number, 29);
    rd_kafka_mock_clear_request_errors(cluster, API_LIST_OFFSETS);
    kb_kafka_admin_free(admin);
}

static void metadata_topic_errors_are_in_the_topic(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_kafka_options options = mock_options();
    KB_AUTOFREE char *good = new_name("good");
    KB_AUTOFREE char *bad = new_name("bad");
    make_topic(good, 4);
    make_topic(bad, 1);
    rd_kafka_mock_topic_set_error(cluster, bad, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    kb_kafka_admin *admin = NULL;
    assert_ok(kb_kafka_admin_new(&options, NULL, &admin, &err));
    const char *const names[] = {good, bad};
    kb_kafka_call call = call_for(20000);
    kb_kafka_metadata metadata;
    assert_ok(kb_kafka_admin_metadata(admin, names, 2, &call, &metadata, &err));
    assert_int_equal(metadata.cluster.broker_count, BROKERS);
    const kb_kafka_topic *topic = kb_kafka_metadata_find(&metadata, good);
    assert_int_equal(topic->error_number, 0);
    assert_int_equal(topic->partition_count, 4);
    assert_int_equal(topic->replication_factor, BROKERS);
    assert_int_equal(topic->partitions[3].id, 3);
    assert_int_equal(kb_kafka_metadata_find(&metadata, bad)->error_number, 29);
    assert_null(kb_kafka_metadata_find(&metadata, "absent"));
    kb_kafka_metadata_done(&metadata);
    rd_kafka_mock_topic_set_error(cluster, bad, RD_KAFKA_RESP_ERR_NO_ERROR);
    kb_kafka_admin_free(admin);
}

static void admin_breaker_opens_while_no_broker_answers(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_kafka_options options = options_for("127.0.0.1:1");
    kb_breaker_options bo = {.failure_threshold = 2, .reset_timeout_ms = 60000, .success_threshold = 1};
    kb_breaker *breaker = kb_breaker_new(&bo);
    kb_kafka_admin *admin = NULL;
    assert_ok(kb_kafka_admin_new(&options, breaker, &admin, &err));
    kb_kafka_call call = call_for(4000);
    kb_kafka_metadata metadata;
    assert_fails(kb_kafka_admin_metadata(admin, NULL, 0, &call, &metadata, &err), KB_KAFKA_UNREACHABLE);
    call = call_for(300);
    assert_fails(kb_kafka_admin_metadata(admin, NULL, 0, &call, &metadata, &err), KB_KAFKA_UNREACHABLE);
    kb_kafka_admin_free(admin);
    kb_breaker_free(breaker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_tells_cluster),
        cmocka_unit_test(writer_transient_produce_errors_leave_offsets_dense),
        cmocka_unit_test(writer_permission_lost_ends_the_writer_with_77),
        cmocka_unit_test(writer_purge_gives_every_record_its_delivery),
        cmocka_unit_test(writer_nudge_sends_what_lingers),
        cmocka_unit_test(writer_full_queue_pushes_back),
        cmocka_unit_test(writer_second_target_of_a_partition_refused),
        cmocka_unit_test(reader_transient_fetch_errors_lose_and_repeat_nothing),
        cmocka_unit_test(reader_leader_moves_while_read_lose_and_repeat_nothing),
        cmocka_unit_test(reader_brokers_down_tells_and_goes_on_when_they_are_back),
        cmocka_unit_test(reader_topic_access_refused_ends_the_stream),
        cmocka_unit_test(reader_asks_for_no_group_and_no_coordinator),
        cmocka_unit_test(list_offsets_one_request_for_each_leader),
        cmocka_unit_test(list_offsets_transient_errors_asked_again),
        cmocka_unit_test(metadata_topic_errors_are_in_the_topic),
        cmocka_unit_test(admin_breaker_opens_while_no_broker_answers),
    };
    cmocka_set_test_filter(getenv("KB_TEST_FILTER"));
    return cmocka_run_group_tests_name("kafka_mock", tests, mock_setup, mock_teardown);
}

/*
 * Against a real broker with ACLs: KB_TEST_KAFKA=host:port of a listener that may do all,
 * KB_TEST_KAFKA_ACL=host:port of one with SASL PLAIN, where the user reader (password reader-secret) may do
 * nothing. Without them all is skipped.
 */
#include "worker/tests/kafka_fixture.h"

#define TIME_2020 INT64_C(1577836800000)

static kb_secret *password;
static char *topic;
static kb_kafka_admin *outsider;

static kb_kafka_options outsider_options(void)
{
    kb_kafka_options options = options_for(getenv("KB_TEST_KAFKA_ACL"));
    options.protocol = KB_KAFKA_SASL_PLAINTEXT;
    options.mechanism = KB_KAFKA_PLAIN;
    options.sasl_username = "reader";
    options.sasl_password = password;
    return options;
}

static int acl_setup(void **state)
{
    KB_AUTO_ERROR(err);
    password = kb_secret_new("reader-secret", 13);
    if (getenv("KB_TEST_KAFKA_ACL") == NULL || live_setup(state) != 0 || live_admin == NULL)
        return 0;
    topic = new_name("closed");
    create_topic(live_admin, topic, 2, NULL, 0);
    kb_kafka_options options = outsider_options();
    return kb_kafka_admin_new(&options, NULL, &outsider, &err) == KB_OK ? 0 : -1;
}

static int acl_teardown(void **state)
{
    kb_kafka_admin_free(outsider);
    kb_secret_free(password);
    free(topic);
    return live_teardown(state);
}

static void admin_without_permission_gets_29_for_each_item(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    const char *const names[] = {topic};
    kb_kafka_call call = call_for(20000);
    call.unknown_wait_ms = 10000;
    kb_kafka_metadata metadata;
    assert_ok(kb_kafka_admin_metadata(outsider, names, 1, &call, &metadata, &err));
    assert_int_equal(metadata.topics[0].error_number, KB_KAFKA_ERROR_TOPIC_AUTHORIZATION_FAILED);
    kb_kafka_metadata_done(&metadata);
    kb_kafka_offset_query query = {.topic = topic, .partition = 0};
    assert_ok(kb_kafka_admin_list_offsets(outsider, KB_KAFKA_OFFSET_LATEST, &query, 1, &call, &err));
    assert_int_equal(query.error_number, KB_KAFKA_ERROR_TOPIC_AUTHORIZATION_FAILED);
    kb_kafka_configs *configs = NULL;
    assert_ok(kb_kafka_admin_describe_topic_configs(outsider, names, 1, &call, &configs, &err));
    assert_int_equal(configs->error_number, KB_KAFKA_ERROR_TOPIC_AUTHORIZATION_FAILED);
    kb_kafka_configs_free(configs, 1);
    kb_kafka_delete_records deletion = {.topic = topic, .partition = 0, .before = -1};
    assert_ok(kb_kafka_admin_delete_records(outsider, &deletion, 1, &call, &err));
    assert_int_equal(deletion.error_number, KB_KAFKA_ERROR_TOPIC_AUTHORIZATION_FAILED);
    KB_AUTOFREE char *name = new_name("mine");
    kb_kafka_new_topic creation = {.name = name, .partition_count = 1, .replication_factor = -1};
    assert_ok(kb_kafka_admin_create_topics(outsider, &creation, 1, true, &call, &err));
    assert_int_equal(kb_kafka_classify(creation.error_number).code, KB_KAFKA_ACCESS_DENIED);
    free(creation.error_text);
}

static void reader_without_permission_is_refused(void **state)
{
    (void)state;
    NEED_BROKER();
    kb_kafka_options options = outsider_options();
    kb_kafka_reader_options ro = {0};
    seen got = SEEN_INIT;
    read_all(&options, &ro, topic, 0, 0, 1, &got);
    assert_int_equal(got.error_count, 1);
    assert_int_equal(got.error.problem, KB_KAFKA_STREAM_ACCESS);
    assert_int_equal(got.error.code, KB_KAFKA_ACCESS_DENIED);
    assert_non_null(strstr(got.error_text, topic));
    seen_done(&got);
}

static void writer_without_permission_is_refused(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = outsider_options();
    kb_kafka_writer_options wo = {0};
    sent out;
    sent_open(&out, &options, &wo, topic, 0);
    sent_text(&out, TIME_2020, "k", "v");
    assert_fails(kb_kafka_writer_flush(out.writer, in_ms(20000), NULL, &err), KB_KAFKA_ACCESS_DENIED);
    sent_close(&out);
    kb_kafka_writer_options txn = {.transactional_id = "refused"};
    sent_open(&out, &options, &txn, topic, 0);
    assert_fails(kb_kafka_writer_txn_init(out.writer, in_ms(20000), &err), KB_KAFKA_ACCESS_DENIED);
    sent_close(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(admin_without_permission_gets_29_for_each_item),
        cmocka_unit_test(reader_without_permission_is_refused),
        cmocka_unit_test(writer_without_permission_is_refused),
    };
    return cmocka_run_group_tests_name("kafka_acl", tests, acl_setup, acl_teardown);
}

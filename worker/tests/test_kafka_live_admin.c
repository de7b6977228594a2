/* Against a real broker: KB_TEST_KAFKA=host:port of a plaintext listener; without it every test is skipped.
 */
#include "worker/tests/kafka_fixture.h"

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
    assert_ok(kb_kafka_admin_create_topics(live_admin, topics, TOPICS, true, &call, &err));
    assert_ok(kb_kafka_admin_create_topics(live_admin, topics, TOPICS, false, &call, &err));
    for (size_t i = 0; i < TOPICS; i++)
        assert_int_equal(topics[i].error_number, 0);
    assert_ok(kb_kafka_admin_create_topics(live_admin, topics, 1, false, &call, &err));
    assert_int_equal(topics[0].error_number, KB_KAFKA_ERROR_TOPIC_ALREADY_EXISTS);
    free(topics[0].error_text);
    free(topics);
    call.unknown_wait_ms = 10000;
    kb_kafka_metadata metadata;
    assert_ok(kb_kafka_admin_metadata(live_admin, names, TOPICS, &call, &metadata, &err));
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
        assert_ok(kb_kafka_admin_list_offsets(live_admin, (kb_kafka_offset_kind)kind, queries,
                                              (size_t)TOPICS * PARTITIONS, &call, &err));
        for (size_t i = 0; i < (size_t)TOPICS * PARTITIONS; i++) {
            assert_int_equal(queries[i].error_number, 0);
            assert_int_equal(queries[i].offset, 0);
        }
    }
    free(queries);
    kb_kafka_configs *configs = NULL;
    assert_ok(kb_kafka_admin_describe_topic_configs(live_admin, names, TOPICS, &call, &configs, &err));
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
    create_topic(live_admin, topic, 2, NULL, 0);
    const char *const names[] = {topic, absent, topic};
    kb_kafka_call call = call_for(20000);
    kb_kafka_metadata metadata;
    assert_ok(kb_kafka_admin_metadata(live_admin, names, 3, &call, &metadata, &err));
    assert_int_equal(metadata.topic_count, 2);
    assert_int_equal(kb_kafka_metadata_find(&metadata, topic)->error_number, 0);
    assert_int_equal(kb_kafka_metadata_find(&metadata, absent)->error_number, 3);
    kb_kafka_metadata_done(&metadata);
    kb_kafka_offset_query queries[] = {{.topic = topic, .partition = 0},
                                       {.topic = absent, .partition = 0},
                                       {.topic = topic, .partition = 9},
                                       {.topic = topic, .partition = 1}};
    kb_code code = kb_kafka_admin_list_offsets(live_admin, KB_KAFKA_OFFSET_LATEST, queries, 4, &call, &err);
    assert_int_equal(code, KB_OK);
    assert_int_equal(queries[0].error_number, 0);
    assert_int_not_equal(queries[1].error_number, 0);
    assert_int_equal(queries[3].error_number, 0);
    kb_kafka_configs *configs = NULL;
    assert_ok(kb_kafka_admin_describe_topic_configs(live_admin, names, 2, &call, &configs, &err));
    assert_int_equal(configs[0].error_number, 0);
    assert_int_equal(configs[1].error_number, 3);
    kb_kafka_configs_free(configs, 2);
    assert_ok(kb_kafka_admin_metadata(live_admin, NULL, 0, &call, &metadata, &err));
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
    create_topic(live_admin, topic, 1, CONFIGS, 2);
    const char *const names[] = {topic};
    kb_kafka_call call = call_for(20000);
    kb_kafka_configs *configs = NULL;
    assert_ok(kb_kafka_admin_describe_topic_configs(live_admin, names, 1, &call, &configs, &err));
    size_t overrides = 0;
    for (size_t i = 0; i < configs->count; i++)
        overrides += configs->items[i].source == KB_KAFKA_CONFIG_TOPIC;
    assert_int_equal(overrides, 2);
    assert_string_equal(kb_kafka_configs_find(configs, "cleanup.policy")->value, "compact");
    kb_kafka_configs_free(configs, 1);
    kb_kafka_alter alter = {.topic = topic, .configs = CHANGES, .config_count = 2};
    assert_ok(kb_kafka_admin_alter_topic_configs(live_admin, &alter, 1, &call, &err));
    assert_int_equal(alter.error_number, 0);
    /* The controller answers; the broker that describes learns of it a moment later. */
    for (int tries = 0;; tries++) {
        assert_ok(kb_kafka_admin_describe_topic_configs(live_admin, names, 1, &call, &configs, &err));
        if (strcmp(kb_kafka_configs_find(configs, "retention.ms")->value, "-1") != 0 || tries == 100)
            break;
        kb_kafka_configs_free(configs, 1);
        static const struct timespec PAUSE = {0, 100000000};
        (void)nanosleep(&PAUSE, NULL);
    }
    assert_string_equal(kb_kafka_configs_find(configs, "retention.ms")->value, "1234567");
    assert_string_equal(kb_kafka_configs_find(configs, "cleanup.policy")->value, "delete");
    kb_kafka_configs_free(configs, 1);
    static const kb_kafka_setting BAD[] = {{"retention.ms", "soon"}};
    alter = (kb_kafka_alter){.topic = topic, .configs = BAD, .config_count = 1};
    assert_ok(kb_kafka_admin_alter_topic_configs(live_admin, &alter, 1, &call, &err));
    assert_int_equal(kb_kafka_classify(alter.error_number).code, KB_CONFIG_INVALID);
    free(alter.error_text);
    kb_kafka_configs *of_broker = NULL;
    assert_ok(kb_kafka_admin_describe_broker_configs(live_admin, &call, &of_broker, &err));
    assert_non_null(kb_kafka_configs_find(of_broker, "replica.lag.time.max.ms"));
    kb_kafka_configs_free(of_broker, 1);
    kb_kafka_new_topic bad = {.name = topic, .partition_count = 1, .replication_factor = 50};
    assert_ok(kb_kafka_admin_create_topics(live_admin, &bad, 1, true, &call, &err));
    assert_int_not_equal(bad.error_number, 0);
    free(bad.error_text);
}

static void list_offsets_only_absent_partitions_answered_at_once(void **state)
{
    (void)state;
    NEED_BROKER();
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *topic = new_name("small");
    KB_AUTOFREE char *absent = new_name("absent");
    create_topic(live_admin, topic, 1, NULL, 0);
    kb_kafka_call call = call_for(20000);
    kb_kafka_offset_query queries[] = {{.topic = absent, .partition = 0}, {.topic = topic, .partition = 9}};
    int64_t start_ms = kb_clock_boot_ms();
    for (int kind = KB_KAFKA_OFFSET_EARLIEST; kind <= KB_KAFKA_OFFSET_LAST_STABLE; kind++) {
        assert_ok(
            kb_kafka_admin_list_offsets(live_admin, (kb_kafka_offset_kind)kind, queries, 2, &call, &err));
        for (size_t i = 0; i < KB_ARRAY_LEN(queries); i++) {
            assert_int_equal(kb_kafka_classify(queries[i].error_number).code, KB_TOPIC_NOT_FOUND);
            assert_int_equal(queries[i].offset, -1);
        }
    }
    kb_kafka_delete_records deletion = {.topic = absent, .partition = 0, .before = -1};
    assert_ok(kb_kafka_admin_delete_records(live_admin, &deletion, 1, &call, &err));
    assert_int_equal(kb_kafka_classify(deletion.error_number).code, KB_TOPIC_NOT_FOUND);
    assert_true(kb_clock_boot_ms() - start_ms < 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(admin_thousands_of_partitions_answered_in_batches),
        cmocka_unit_test(admin_unknown_topics_are_answers),
        cmocka_unit_test(list_offsets_only_absent_partitions_answered_at_once),
        cmocka_unit_test(admin_configs_tell_overrides_and_alter_changes_them),
    };
    cmocka_set_test_filter(getenv("KB_TEST_FILTER"));
    return cmocka_run_group_tests_name("kafka_live_admin", tests, live_setup, live_teardown);
}

/*
 * Against a real broker with SASL_SSL and SCRAM-SHA-512, user admin with password admin-secret:
 * KB_TEST_KAFKA_SECURE=host:port, KB_TEST_KAFKA_CA=file, KB_TEST_KAFKA=host:port of its plaintext listener.
 * Without them every test is skipped.
 */
#include "worker/tests/kafka_fixture.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/log.h"

static const char *secure, *ca_file, *plain;
static kb_secret *good_password, *bad_password;
static char directory[] = "/tmp/kb-kafka-secure-XXXXXX";

static int group_setup(void **state)
{
    (void)state;
    secure = getenv("KB_TEST_KAFKA_SECURE");
    ca_file = getenv("KB_TEST_KAFKA_CA");
    plain = getenv("KB_TEST_KAFKA");
    kb_log_level level = KB_LOG_WARN;
    const char *wanted = getenv("KB_LOG_LEVEL");
    if (wanted != NULL && kb_log_level_parse(wanted, &level))
        kb_log_set_level(level);
    good_password = kb_secret_new("admin-secret", 12);
    bad_password = kb_secret_new("wrong", 5);
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static int group_teardown(void **state)
{
    (void)state;
    kb_secret_free(good_password);
    kb_secret_free(bad_password);
    KB_AUTOFREE char *command = kb_asprintf("rm -rf '%s'", directory);
    return system(command);
}

#define NEED_SECURE_BROKER() \
    if (secure == NULL || ca_file == NULL || plain == NULL) \
    skip()

static kb_kafka_options secure_options(void)
{
    kb_kafka_options options = options_for(secure);
    options.protocol = KB_KAFKA_SASL_SSL;
    options.mechanism = KB_KAFKA_SCRAM_SHA_512;
    options.sasl_username = "admin";
    options.sasl_password = good_password;
    options.ssl_ca_file = ca_file;
    options.auth_retry_ms = 200;
    return options;
}

static char *in_directory(const char *name, const char *content)
{
    KB_AUTO_ERROR(err);
    char *path = kb_asprintf("%s/%s", directory, name);
    if (content != NULL)
        assert_ok(kb_file_write(path, content, strlen(content), &err));
    return path;
}

/* A certificate that signed nothing. */
static char *strange_ca(void)
{
    char *path = in_directory("strange.crt", NULL);
    KB_AUTOFREE char *command = kb_asprintf(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=strange "
        "-keyout '%s.key' -out '%s' 2>/dev/null",
        path, path);
    assert_int_equal(system(command), 0);
    return path;
}

static void assert_connects(const kb_kafka_options *options)
{
    KB_AUTO_ERROR(err);
    kb_kafka_cluster cluster;
    assert_ok(kb_kafka_connect(options, in_ms(20000), NULL, &cluster, &err));
    assert_non_null(cluster.cluster_id);
    assert_int_equal(cluster.broker_count, 1);
    kb_kafka_cluster_done(&cluster);
}

static void assert_refused(const kb_kafka_options *options, kb_code code, const char *text)
{
    KB_AUTO_ERROR(err);
    kb_code got = kb_kafka_connect(options, in_ms(6000), NULL, NULL, &err);
    assert_int_equal(got, code);
    assert_text(&err, text);
    assert_null(strstr(kb_error_text(&err), "admin-secret"));
}

static void connect_with_good_credentials_succeeds(void **state)
{
    (void)state;
    NEED_SECURE_BROKER();
    kb_kafka_options options = secure_options();
    assert_connects(&options);
    KB_AUTOFREE char *password_file = in_directory("password", "admin-secret\n");
    options.sasl_password = NULL;
    options.sasl_password_file = password_file;
    assert_connects(&options);
}

static void connect_wrong_password_is_77_after_three_tries(void **state)
{
    (void)state;
    NEED_SECURE_BROKER();
    kb_kafka_options options = secure_options();
    options.sasl_password = bad_password;
    assert_refused(&options, KB_KAFKA_AUTHENTICATION_FAILED, "SASL authentication failed");
    options = secure_options();
    options.mechanism = KB_KAFKA_PLAIN;
    assert_refused(&options, KB_KAFKA_AUTHENTICATION_FAILED, "SASL authentication failed");
}

static void connect_unknown_ca_is_77(void **state)
{
    (void)state;
    NEED_SECURE_BROKER();
    KB_AUTOFREE char *strange = strange_ca();
    kb_kafka_options options = secure_options();
    options.ssl_ca_file = strange;
    assert_refused(&options, KB_KAFKA_AUTHENTICATION_FAILED, "TLS connection to Kafka broker 127.0.0.1");
    options.ssl_ca_file = NULL; /* the system store does not know it either */
    assert_refused(&options, KB_KAFKA_AUTHENTICATION_FAILED, "TLS connection to Kafka broker 127.0.0.1");
}

static void connect_trust_dir_adds_anchors(void **state)
{
    (void)state;
    NEED_SECURE_BROKER();
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *strange = strange_ca();
    KB_AUTOFREE char *trust = in_directory("trust", NULL);
    KB_AUTOFREE char *copy = kb_asprintf("%s/lab.pem", trust);
    KB_AUTOFREE char *empty = kb_asprintf("%s/empty.crt", trust);
    KB_AUTOFREE uint8_t *pem = NULL;
    size_t len = 0;
    kb_kafka_options options = secure_options();
    options.trust_dir = trust;
    assert_connects(&options); /* absent */
    assert_int_equal(mkdir(trust, 0700), 0);
    assert_connects(&options); /* empty */
    assert_ok(kb_file_read(ca_file, 1 << 20, &pem, &len, &err));
    assert_ok(kb_file_write(copy, pem, len, &err));
    assert_ok(kb_file_write(empty, "", 0, &err));
    options.ssl_ca_file = NULL; /* system store and trust_dir */
    assert_connects(&options);
    options.ssl_ca_file = strange; /* file and trust_dir */
    assert_connects(&options);
    assert_ok(kb_file_write(empty, "no certificate", 14, &err));
    assert_refused(&options, KB_CONFIG_INVALID, "empty.crt");
}

static void connect_wrong_host_name_is_77(void **state)
{
    (void)state;
    NEED_SECURE_BROKER();
    /* The same address in a spelling that the certificate does not have. */
    KB_AUTOFREE char *other = kb_asprintf("127.1%s", strchr(secure, ':'));
    kb_kafka_options options = secure_options();
    options.bootstrap_servers = other;
    assert_refused(&options, KB_KAFKA_AUTHENTICATION_FAILED, "TLS connection to Kafka broker 127.1:");
}

static void connect_wrong_protocol_or_port_says_what_happened(void **state)
{
    (void)state;
    NEED_SECURE_BROKER();
    kb_kafka_options options = secure_options();
    options.bootstrap_servers = plain; /* TLS to a plaintext listener */
    KB_AUTO_ERROR(err);
    kb_code code = kb_kafka_connect(&options, in_ms(3000), NULL, NULL, &err);
    assert_int_not_equal(code, KB_OK);
    options = options_for(secure); /* plaintext to a TLS listener */
    assert_refused(&options, KB_KAFKA_UNREACHABLE, "security.protocol");
    options = options_for("127.0.0.1:1");
    assert_refused(&options, KB_KAFKA_UNREACHABLE, "Failed to connect to Kafka broker 127.0.0.1:1: ");
    options = options_for("no-such-host.invalid:9092");
    assert_refused(&options, KB_KAFKA_UNREACHABLE, "no-such-host.invalid:9092");
}

static void reader_password_file_changed_while_refused_recovers(void **state)
{
    (void)state;
    NEED_SECURE_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options admin_options = options_for(plain);
    kb_kafka_admin *admin = NULL;
    assert_ok(kb_kafka_admin_new(&admin_options, NULL, &admin, &err));
    KB_AUTOFREE char *topic = new_name("secure");
    create_topic(admin, topic, 1, NULL, 0);
    KB_AUTOFREE char *password_file = in_directory("rotated", "old");
    kb_kafka_options options = secure_options();
    options.sasl_password = NULL;
    options.sasl_password_file = password_file;
    options.auth_retry_ms = 3000;
    kb_kafka_reader_options ro = {0};
    kb_kafka_reader *reader = NULL;
    seen got = SEEN_INIT;
    assert_ok(kb_kafka_reader_new(&options, &ro, &reader, &err));
    assert_ok(kb_kafka_reader_start(reader, topic, 0, 0, &got, &err));
    assert_ok(read_until(reader, &got, 0, 800, &err));
    assert_int_equal(got.eof_count, 0);
    kb_kafka_state now;
    kb_kafka_reader_state(reader, &now);
    assert_true(now.auth_failures >= 1);
    kb_kafka_state_done(&now);
    free(in_directory("rotated", "admin-secret"));
    assert_ok(read_until(reader, &got, 0, 12000, &err));
    assert_int_equal(got.eof_offset, 0);
    kb_kafka_reader_free(reader);
    seen_done(&got);
    kb_kafka_admin_free(admin);
}

static void reader_wrong_password_ends_with_77(void **state)
{
    (void)state;
    NEED_SECURE_BROKER();
    KB_AUTO_ERROR(err);
    kb_kafka_options options = secure_options();
    options.sasl_password = bad_password;
    kb_kafka_reader_options ro = {0};
    kb_kafka_reader *reader = NULL;
    seen got = SEEN_INIT;
    assert_ok(kb_kafka_reader_new(&options, &ro, &reader, &err));
    assert_ok(kb_kafka_reader_start(reader, "any", 0, 0, &got, &err));
    assert_fails(read_until(reader, &got, 0, 10000, &err), KB_KAFKA_AUTHENTICATION_FAILED);
    kb_kafka_reader_free(reader);
    kb_kafka_admin *admin = NULL;
    kb_kafka_call call = call_for(10000);
    kb_kafka_metadata metadata;
    assert_ok(kb_kafka_admin_new(&options, NULL, &admin, &err));
    assert_fails(kb_kafka_admin_metadata(admin, NULL, 0, &call, &metadata, &err),
                 KB_KAFKA_AUTHENTICATION_FAILED);
    kb_kafka_admin_free(admin);
    seen_done(&got);
}

int main(void)
{
    cmocka_set_test_filter(getenv("KB_TEST_FILTER"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_with_good_credentials_succeeds),
        cmocka_unit_test(connect_wrong_password_is_77_after_three_tries),
        cmocka_unit_test(connect_unknown_ca_is_77),
        cmocka_unit_test(connect_trust_dir_adds_anchors),
        cmocka_unit_test(connect_wrong_host_name_is_77),
        cmocka_unit_test(connect_wrong_protocol_or_port_says_what_happened),
        cmocka_unit_test(reader_password_file_changed_while_refused_recovers),
        cmocka_unit_test(reader_wrong_password_ends_with_77),
    };
    return cmocka_run_group_tests_name("kafka_secure", tests, group_setup, group_teardown);
}

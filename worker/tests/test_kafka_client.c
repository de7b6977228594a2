#include "worker/tests/kafka_fixture.h"

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/testing/temp_dir.h"
#include "worker/kafka/kafka_trust.h"

/* ---- classes ---- */

static void classify_every_number_of_the_table_has_its_class(void **state)
{
    (void)state;
    static const struct {
        int number;
        kb_kafka_class class_;
        kb_code code;
    } CASES[] = {
        {0, KB_KAFKA_CLASS_NONE, KB_OK},
        {3, KB_KAFKA_CLASS_TRANSIENT, KB_TOPIC_NOT_FOUND},
        {5, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {6, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {7, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {9, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {13, KB_KAFKA_CLASS_TRANSIENT, KB_KAFKA_UNREACHABLE},
        {14, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {15, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {16, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {19, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {20, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {41, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {56, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {72, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {74, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {75, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {78, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {88, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {89, KB_KAFKA_CLASS_TRANSIENT, KB_TEMPORARY_FAILURE},
        {100, KB_KAFKA_CLASS_TRANSIENT, KB_TOPIC_NOT_FOUND},
        {103, KB_KAFKA_CLASS_TRANSIENT, KB_TOPIC_NOT_FOUND},
        {29, KB_KAFKA_CLASS_PERMISSION, KB_KAFKA_ACCESS_DENIED},
        {30, KB_KAFKA_CLASS_PERMISSION, KB_KAFKA_ACCESS_DENIED},
        {31, KB_KAFKA_CLASS_PERMISSION, KB_KAFKA_ACCESS_DENIED},
        {53, KB_KAFKA_CLASS_PERMISSION, KB_KAFKA_ACCESS_DENIED},
        {58, KB_KAFKA_CLASS_PERMISSION, KB_KAFKA_AUTHENTICATION_FAILED},
        {10, KB_KAFKA_CLASS_CONFIGURATION, KB_CONFIG_INVALID},
        {17, KB_KAFKA_CLASS_CONFIGURATION, KB_CONFIG_INVALID},
        {32, KB_KAFKA_CLASS_CONFIGURATION, KB_CONFIG_INVALID},
        {37, KB_KAFKA_CLASS_CONFIGURATION, KB_CONFIG_INVALID},
        {38, KB_KAFKA_CLASS_CONFIGURATION, KB_CONFIG_INVALID},
        {40, KB_KAFKA_CLASS_CONFIGURATION, KB_CONFIG_INVALID},
        {44, KB_KAFKA_CLASS_CONFIGURATION, KB_CONFIG_INVALID},
        {76, KB_KAFKA_CLASS_CONFIGURATION, KB_CONFIG_INVALID},
        {87, KB_KAFKA_CLASS_CONFIGURATION, KB_CONFIG_INVALID},
        {47, KB_KAFKA_CLASS_FENCED, KB_FENCED},
        {90, KB_KAFKA_CLASS_FENCED, KB_FENCED},
        {1, KB_KAFKA_CLASS_OTHER, KB_ERR_NOT_FOUND},
        {36, KB_KAFKA_CLASS_OTHER, KB_ERR_EXISTS},
        {9999, KB_KAFKA_CLASS_OTHER, KB_TEMPORARY_FAILURE},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        kb_kafka_verdict verdict = kb_kafka_classify(CASES[i].number);
        assert_int_equal(verdict.class_, CASES[i].class_);
        assert_int_equal(verdict.code, CASES[i].code);
        assert_int_equal(verdict.retryable, CASES[i].class_ == KB_KAFKA_CLASS_TRANSIENT);
    }
}

static void fail_text_names_context_and_error(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    assert_int_equal(kb_kafka_fail(&err, 29, NULL, "reading %s/%d", "orders", 3), KB_KAFKA_ACCESS_DENIED);
    assert_text(&err, "reading orders/3: ");
    assert_text(&err, "TOPIC_AUTHORIZATION_FAILED");
    assert_false(err.retryable);
    assert_int_equal(kb_kafka_fail(&err, 6, "own text", "x"), KB_TEMPORARY_FAILURE);
    assert_text(&err, "x: own text (NOT_LEADER_FOR_PARTITION)");
    assert_true(err.retryable);
}

/* ---- options ---- */

static kb_kafka_options sasl_options(void)
{
    static kb_secret *password;
    if (password == NULL)
        password = kb_secret_new("p", 1);
    kb_kafka_options options = options_for("127.0.0.1:1");
    options.protocol = KB_KAFKA_SASL_PLAINTEXT;
    options.mechanism = KB_KAFKA_SCRAM_SHA_256;
    options.sasl_username = "u";
    options.sasl_password = password;
    return options;
}

static void check_bad_options(const kb_kafka_options *options, const char *text)
{
    KB_AUTO_ERROR(err);
    assert_fails(kb_kafka_options_check(options, &err), KB_CONFIG_INVALID);
    assert_text(&err, text);
}

static void options_check_what_cannot_work_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_kafka_options options = sasl_options();
    assert_ok(kb_kafka_options_check(&options, &err));
    options.mechanism = KB_KAFKA_NO_SASL;
    check_bad_options(&options, "sasl_mechanism is missing");
    options = sasl_options();
    options.sasl_username = NULL;
    check_bad_options(&options, "sasl_username is missing");
    options = sasl_options();
    options.sasl_password = NULL;
    check_bad_options(&options, "sasl_password is missing");
    options.sasl_password_file = "/nonexistent/password";
    check_bad_options(&options, "/nonexistent/password");
    options = options_for("");
    check_bad_options(&options, "bootstrap_servers is missing");
    options = options_for("127.0.0.1:1");
    options.protocol = KB_KAFKA_SSL;
    assert_ok(kb_kafka_options_check(&options, &err));
    options.ssl_ca_file = "/nonexistent/ca";
    check_bad_options(&options, "/nonexistent/ca");
    options.ssl_ca_file = NULL;
    options.ssl_certificate_file = "/nonexistent/cert";
    check_bad_options(&options, "only valid together");
    options.ssl_key_file = "/nonexistent/key";
    check_bad_options(&options, "/nonexistent/cert");
    options.ssl_client_auth_optional = true;
    assert_ok(kb_kafka_options_check(&options, &err));
    options.ssl_key_file = "/etc/passwd"; /* one alone is there */
    check_bad_options(&options, "/nonexistent/cert");
}

static void options_check_gssapi_accepted_only_where_built_in(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_kafka_options options = sasl_options();
    options.mechanism = KB_KAFKA_GSSAPI;
    kb_code code = kb_kafka_options_check(&options, &err);
    if (code != KB_OK) {
        assert_int_equal(code, KB_CONFIG_INVALID);
        assert_text(&err, "GSSAPI");
    }
}

/* ---- files ---- */

static void read_secret_one_trailing_newline_removed(void **state)
{
    (void)state;
    static const struct {
        const char *content, *secret;
    } CASES[] = {
        {"secret", "secret"}, {"secret\n", "secret"}, {"secret\n\n", "secret\n"}, {" s ", " s "}, {"", ""}};
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_temp_dir_free_at) char *dir = kb_temp_dir_new();
    KB_AUTOFREE char *path = kb_asprintf("%s/secret", dir);
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        KB_CLEANUP(kb_secret_free_at) kb_secret *secret = NULL;
        assert_ok(kb_file_write(path, CASES[i].content, strlen(CASES[i].content), &err));
        assert_ok(kb_kafka_read_secret(path, &secret, &err));
        assert_string_equal(kb_secret_view(secret), CASES[i].secret);
    }
}

static void trust_dir_pem_takes_crt_and_pem_in_order(void **state)
{
    (void)state;
    static const char A[] = "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----";
    static const char B[] = "-----BEGIN CERTIFICATE-----\nB\n-----END CERTIFICATE-----\n";
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_temp_dir_free_at) char *dir = kb_temp_dir_new();
    char *pem = NULL;
    assert_ok(kb_kafka_trust_dir_pem("/nonexistent/dir", &pem, &err));
    assert_null(pem);
    assert_ok(kb_kafka_trust_dir_pem(dir, &pem, &err));
    assert_null(pem);
    KB_AUTOFREE char *second = kb_asprintf("%s/b.crt", dir);
    KB_AUTOFREE char *first = kb_asprintf("%s/a.pem", dir);
    KB_AUTOFREE char *other = kb_asprintf("%s/c.key", dir);
    assert_ok(kb_file_write(second, B, strlen(B), &err));
    assert_ok(kb_file_write(first, A, strlen(A), &err));
    assert_ok(kb_file_write(other, "secret", 6, &err));
    assert_ok(kb_kafka_trust_dir_pem(dir, &pem, &err));
    KB_AUTOFREE char *wanted = kb_asprintf("%s\n%s\n", A, B);
    assert_string_equal(pem, wanted);
    free(pem);
    assert_ok(kb_file_write(first, "no certificate", 14, &err));
    assert_fails(kb_kafka_trust_dir_pem(dir, &pem, &err), KB_CONFIG_INVALID);
    assert_text(&err, "a.pem");
}

/* ---- connecting ---- */

/* A listener that accepts and then does one thing. */
typedef struct bad_broker {
    int fd;
    char *address;
    const char *answer; /* sent at once; NULL: nothing is ever said */
    size_t answer_len;
    pthread_t thread;
} bad_broker;

static void *bad_broker_run(void *arg)
{
    bad_broker *b = arg;
    int kept[64];
    size_t count = 0;
    while (count < KB_ARRAY_LEN(kept)) {
        int fd = accept(b->fd, NULL, NULL);
        if (fd < 0)
            break;
        kept[count++] = fd;
        if (b->answer != NULL)
            (void)send(fd, b->answer, b->answer_len, MSG_NOSIGNAL);
    }
    for (size_t i = 0; i < count; i++)
        (void)close(kept[i]);
    return NULL;
}

static void bad_broker_start(bad_broker *b, const char *answer, size_t len)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    b->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(b->fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(b->fd, 16), 0);
    assert_int_equal(getsockname(b->fd, (struct sockaddr *)&at, &size), 0);
    b->address = kb_asprintf("127.0.0.1:%d", ntohs(at.sin_port));
    b->answer = answer;
    b->answer_len = len;
    assert_int_equal(pthread_create(&b->thread, NULL, bad_broker_run, b), 0);
}

static void bad_broker_end(bad_broker *b)
{
    (void)shutdown(b->fd, SHUT_RDWR);
    (void)pthread_join(b->thread, NULL);
    (void)close(b->fd);
    free(b->address);
}

static void connect_broker_that_cannot_be_used_is_75_in_time(void **state)
{
    (void)state;
    static const char OVERSIZE[] = "\x7f\xff\xff\xff\x00\x00\x00\x01";
    static const char GARBAGE[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    static const struct {
        const char *answer;
        size_t len;
    } CASES[] = {{NULL, 0}, {OVERSIZE, 8}, {GARBAGE, 28}};
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        KB_AUTO_ERROR(err);
        bad_broker b;
        bad_broker_start(&b, CASES[i].answer, CASES[i].len);
        kb_kafka_options options = options_for(b.address);
        int64_t start_ms = kb_clock_boot_ms();
        assert_fails(kb_kafka_connect(&options, in_ms(1500), NULL, NULL, &err), KB_KAFKA_UNREACHABLE);
        assert_text(&err, "Failed to connect to Kafka broker");
        assert_text(&err, b.address);
        assert_true(err.retryable);
        assert_true(kb_clock_boot_ms() - start_ms < 5000);
        bad_broker_end(&b);
    }
}

static void connect_refused_names_broker_and_reason(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_kafka_options options = options_for("127.0.0.1:1");
    assert_fails(kb_kafka_connect(&options, in_ms(1000), NULL, NULL, &err), KB_KAFKA_UNREACHABLE);
    assert_text(&err, "Failed to connect to Kafka broker 127.0.0.1:1: ");
    assert_text(&err, "refused");
}

static void connect_stop_token_ends_it(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_stop_free_at) kb_stop *stop = NULL;
    assert_ok(kb_stop_new(&stop, &err));
    kb_stop_set(stop, 15);
    kb_kafka_options options = options_for("127.0.0.1:1");
    assert_fails(kb_kafka_connect(&options, in_ms(60000), stop, NULL, &err), KB_ERR_STOPPED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classify_every_number_of_the_table_has_its_class),
        cmocka_unit_test(fail_text_names_context_and_error),
        cmocka_unit_test(options_check_what_cannot_work_refused),
        cmocka_unit_test(options_check_gssapi_accepted_only_where_built_in),
        cmocka_unit_test(read_secret_one_trailing_newline_removed),
        cmocka_unit_test(trust_dir_pem_takes_crt_and_pem_in_order),
        cmocka_unit_test(connect_broker_that_cannot_be_used_is_75_in_time),
        cmocka_unit_test(connect_refused_names_broker_and_reason),
        cmocka_unit_test(connect_stop_token_ends_it),
    };
    cmocka_set_test_filter(getenv("KB_TEST_FILTER"));
    return cmocka_run_group_tests_name("kafka_client", tests, NULL, NULL);
}

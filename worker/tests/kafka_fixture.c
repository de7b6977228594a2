#include "worker/tests/kafka_fixture.h"

#include <stdio.h>
#include <unistd.h>

#include "common/base/log.h"

/* ---- reading ---- */

static void *copy(const void *data, int32_t len)
{
    if (len < 0)
        return NULL;
    char *made = kb_malloc((size_t)len + 1);
    if (len > 0)
        memcpy(made, data, (size_t)len);
    made[len] = '\0';
    return made;
}

static bool seen_on_record(void *owner, const kb_source_record *record)
{
    seen *s = owner;
    s->list = kb_grow(s->list, s->count, &s->capacity, sizeof(seen_record));
    seen_record *to = &s->list[s->count++];
    to->r = *record;
    to->r.key = copy(record->key, record->key_len);
    to->r.value = copy(record->value, record->value_len);
    to->headers = kb_calloc(record->header_count + 1, sizeof(kb_kafka_header));
    for (size_t i = 0; i < record->header_count; i++) {
        to->headers[i] = record->headers[i];
        to->headers[i].name = copy(record->headers[i].name, (int32_t)record->headers[i].name_len);
        to->headers[i].value = copy(record->headers[i].value, record->headers[i].value_len);
    }
    to->r.headers = to->headers;
    return s->stop_after == 0 || s->count < s->stop_after;
}

static void seen_on_eof(void *owner, int64_t offset)
{
    seen *s = owner;
    s->eof_offset = offset;
    s->eof_count++;
}

static void seen_on_error(void *owner, const kb_kafka_stream_error *error)
{
    seen *s = owner;
    s->error_count++;
    s->error = *error;
    s->error.text = NULL;
    free(s->error_text);
    s->error_text = kb_strdup(error->text);
}

const kb_kafka_reader_events SEEN_EVENTS = {seen_on_record, seen_on_eof, seen_on_error};

static void free_const(const void *owned)
{
    void *pointer;
    memcpy(&pointer, &owned, sizeof pointer);
    free(pointer);
}

void seen_done(seen *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free_const(s->list[i].r.key);
        free_const(s->list[i].r.value);
        for (size_t h = 0; h < s->list[i].r.header_count; h++) {
            free_const(s->list[i].headers[h].name);
            free_const(s->list[i].headers[h].value);
        }
        free(s->list[i].headers);
    }
    free(s->list);
    free(s->error_text);
    *s = (seen)SEEN_INIT;
}

kb_kafka_options options_for(const char *bootstrap_servers)
{
    return (kb_kafka_options){
        .bootstrap_servers = bootstrap_servers, .tcp_keepalive = true, .tcp_nodelay = true};
}

int64_t in_ms(int64_t ms)
{
    return kb_clock_boot_ms() + ms;
}

kb_kafka_call call_for(int64_t ms)
{
    return (kb_kafka_call){.deadline_ms = in_ms(ms), .unknown_wait_ms = 0};
}

char *new_name(const char *what)
{
    static unsigned count;
    return kb_asprintf("%s-%d-%lld-%u", what, (int)getpid(), (long long)kb_clock_wall_ms(), count++);
}

kb_code read_until(kb_kafka_reader *reader, seen *s, int64_t end, int64_t ms, kb_error *err)
{
    int64_t deadline_ms = in_ms(ms);
    while (s->eof_offset < end && s->error_count == 0 && kb_clock_boot_ms() < deadline_ms) {
        kb_code code = kb_kafka_reader_poll(reader, 50, &SEEN_EVENTS, err);
        if (code != KB_OK)
            return code;
    }
    return KB_OK;
}

void read_all(const kb_kafka_options *options, const kb_kafka_reader_options *reader_options,
              const char *topic, int32_t partition, int64_t from, int64_t end, seen *s)
{
    KB_AUTO_ERROR(err);
    kb_kafka_reader *reader = NULL;
    assert_ok(kb_kafka_reader_new(options, reader_options, &reader, &err));
    assert_ok(kb_kafka_reader_start(reader, topic, partition, from, s, &err));
    assert_ok(read_until(reader, s, end, 30000, &err));
    kb_kafka_reader_free(reader);
}

/* ---- a real broker ---- */

kb_kafka_admin *live_admin;

int live_setup(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_log_level level = KB_LOG_WARN;
    const char *wanted = getenv("KB_LOG_LEVEL");
    if (wanted != NULL && kb_log_level_parse(wanted, &level))
        kb_log_set_level(level);
    const char *broker = getenv("KB_TEST_KAFKA");
    if (broker == NULL || broker[0] == '\0')
        return 0;
    kb_kafka_options options = live_options();
    return kb_kafka_admin_new(&options, NULL, &live_admin, &err) == KB_OK ? 0 : -1;
}

int live_teardown(void **state)
{
    (void)state;
    kb_kafka_admin_free(live_admin);
    live_admin = NULL;
    return 0;
}

kb_kafka_options live_options(void)
{
    return options_for(getenv("KB_TEST_KAFKA"));
}

/* ---- admin ---- */

void create_topic(kb_kafka_admin *admin, const char *name, int partitions, const kb_kafka_setting *configs,
                  size_t config_count)
{
    KB_AUTO_ERROR(err);
    kb_kafka_call call = call_for(60000);
    kb_kafka_new_topic topic = {.name = name,
                                .partition_count = partitions,
                                .replication_factor = -1,
                                .configs = configs,
                                .config_count = config_count};
    assert_ok(kb_kafka_admin_create_topics(admin, &topic, 1, false, &call, &err));
    if (topic.error_number != 0)
        fail_msg("creating %s: %s", name, topic.error_text);
    call.unknown_wait_ms = 30000;
    kb_kafka_metadata metadata;
    const char *const names[1] = {name};
    assert_ok(kb_kafka_admin_metadata(admin, names, 1, &call, &metadata, &err));
    assert_int_equal(metadata.topics[0].error_number, 0);
    kb_kafka_metadata_done(&metadata);
}

int64_t offset_of(kb_kafka_admin *admin, kb_kafka_offset_kind kind, const char *topic, int32_t partition)
{
    KB_AUTO_ERROR(err);
    kb_kafka_call call = call_for(30000);
    call.unknown_wait_ms = 10000;
    kb_kafka_offset_query query = {.topic = topic, .partition = partition};
    assert_ok(kb_kafka_admin_list_offsets(admin, kind, &query, 1, &call, &err));
    assert_int_equal(query.error_number, 0);
    return query.offset;
}

/* ---- writing ---- */

static void sent_on_delivered(void *owner, void *record_opaque, const kb_kafka_delivery *delivery)
{
    sent *s = owner;
    (void)record_opaque;
    if (delivery->code != KB_OK) {
        s->lost_count++;
        s->lost_code = delivery->code;
        return;
    }
    if (s->delivered_count++ == 0)
        s->first_offset = delivery->offset;
    else if (delivery->offset != s->last_offset + 1)
        s->is_dense = false;
    s->last_offset = delivery->offset;
}

void sent_open(sent *s, const kb_kafka_options *options, const kb_kafka_writer_options *writer_options,
               const char *topic, int32_t partition)
{
    KB_AUTO_ERROR(err);
    static const kb_kafka_writer_events EVENTS = {sent_on_delivered};
    *s = (sent){.is_dense = true, .first_offset = -1, .last_offset = -1};
    assert_ok(kb_kafka_writer_new(options, writer_options, &EVENTS, &s->writer, &err));
    assert_ok(kb_kafka_writer_target(s->writer, topic, partition, s, &s->target, &err));
}

void sent_record(sent *s, const kb_out_record *record)
{
    KB_AUTO_ERROR(err);
    kb_code code;
    while ((code = kb_kafka_writer_send(s->target, record, NULL, &err)) == KB_ERR_TOO_LARGE)
        assert_ok(kb_kafka_writer_poll(s->writer, 100, &err));
    assert_ok(code);
}

void sent_text(sent *s, int64_t timestamp, const char *key, const char *value)
{
    kb_out_record record = {
        .timestamp = timestamp,
        .key = key,
        .key_len = key != NULL ? (int32_t)strlen(key) : -1,
        .value = value,
        .value_len = value != NULL ? (int32_t)strlen(value) : -1,
    };
    sent_record(s, &record);
}

void sent_flush(sent *s)
{
    KB_AUTO_ERROR(err);
    assert_ok(kb_kafka_writer_flush(s->writer, in_ms(30000), NULL, &err));
}

void sent_close(sent *s)
{
    kb_kafka_writer_free(s->writer);
    s->writer = NULL;
}

/*
 * kafka_fixture - what the tests of worker/kafka share: clients of one cluster, records in memory, reading
 * all.
 */
#ifndef KB_WORKER_TESTS_KAFKA_FIXTURE_H
#define KB_WORKER_TESTS_KAFKA_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_admin.h"
#include "worker/kafka/kafka_range.h"
#include "worker/kafka/kafka_reader.h"
#include "worker/kafka/kafka_txn.h"
#include "worker/kafka/kafka_writer.h"

#define assert_ok(call) \
    do { \
        kb_code got_ = (call); \
        if (got_ != KB_OK) \
            fail_msg("%s: code %d: %s", #call, (int)got_, kb_error_text(&err)); \
    } while (0)
#define assert_fails(call, wanted) \
    do { \
        kb_code got_ = (call); \
        if (got_ != (wanted)) \
            fail_msg("%s: code %d, not " #wanted ": %s", #call, (int)got_, kb_error_text(&err)); \
    } while (0)
#define assert_text(error, part) \
    do { \
        if (strstr(kb_error_text(error), (part)) == NULL) \
            fail_msg("\"%s\" is not in \"%s\"", (part), kb_error_text(error)); \
    } while (0)

/* A record that was read, copied; all owned by its list. */
typedef struct seen_record {
    kb_source_record r;
    kb_kafka_header *headers;
} seen_record;

/* What came out of one stream. */
typedef struct seen {
    seen_record *list;
    size_t count, capacity;
    int64_t eof_offset; /* of the last one; -1 before */
    unsigned eof_count;
    unsigned error_count;
    kb_kafka_stream_error error; /* the last; text is NULL */
    char *error_text;
    size_t stop_after; /* on_record says false for this record and later ones; 0: never */
} seen;
#define SEEN_INIT {.eof_offset = -1}
void seen_done(seen *s);
extern const kb_kafka_reader_events SEEN_EVENTS;

/* Set-up for tests against the broker of KB_TEST_KAFKA; NEED_BROKER skips a test when there is none. */
extern kb_kafka_admin *live_admin;
int live_setup(void **state);
int live_teardown(void **state);
kb_kafka_options live_options(void);
#define NEED_BROKER() \
    if (live_admin == NULL) \
    skip()

kb_kafka_options options_for(const char *bootstrap_servers);
int64_t in_ms(int64_t ms);
kb_kafka_call call_for(int64_t ms);
/* A name that no other test of this run or of another one has. Owned by the caller. */
char *new_name(const char *what);
/* Polls until the stream is at `end`, has an error, or ms have passed. */
kb_code read_until(kb_kafka_reader *reader, seen *s, int64_t end, int64_t ms, kb_error *err);
/* Opens a reader, reads one partition from `from` until its end is at `end`, closes. */
void read_all(const kb_kafka_options *options, const kb_kafka_reader_options *reader_options,
              const char *topic, int32_t partition, int64_t from, int64_t end, seen *s);
void create_topic(kb_kafka_admin *admin, const char *name, int partitions, const kb_kafka_setting *configs,
                  size_t config_count);
int64_t offset_of(kb_kafka_admin *admin, kb_kafka_offset_kind kind, const char *topic, int32_t partition);

/* A writer whose deliveries are counted and checked for order. */
typedef struct sent {
    kb_kafka_writer *writer;
    kb_kafka_target *target;
    size_t delivered_count, lost_count;
    int64_t first_offset, last_offset;
    kb_code lost_code;
    bool is_dense; /* each offset was one above the one before */
} sent;
void sent_open(sent *s, const kb_kafka_options *options, const kb_kafka_writer_options *writer_options,
               const char *topic, int32_t partition);
void sent_record(sent *s, const kb_out_record *record);
void sent_text(sent *s, int64_t timestamp, const char *key, const char *value);
void sent_flush(sent *s);
void sent_close(sent *s);

#endif

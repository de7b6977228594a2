/*
 * segment_fixture - what the tests of worker/segment share: objects in memory, golden files, frames by hand.
 */
#ifndef KB_WORKER_TESTS_SEGMENT_FIXTURE_H
#define KB_WORKER_TESTS_SEGMENT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/crc.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "worker/segment/frame.h"
#include "worker/segment/segment_format.h"
#include "worker/segment/segment_reader.h"
#include "worker/segment/segment_writer.h"

#define GOLD_KEY "orders-20250101-000000/topics/orders/partition=0/segment-00000000000000000042.bin.zst"
#define GOLD_DIGEST "bfce2323b3f363f8c02cf665247174063c76d1cddea8e42245f730be741dca86"
#define GOLD_SHA256 "61a1f8343b4a914d7588ad69d3fe9f5df1ee48ef4450c7c5b3fb4a6712a0c16c"
#define GOLD_TIME INT64_C(1700000000000)

#define assert_ok(call) \
    do { \
        kb_code ok_code_ = (call); \
        if (ok_code_ != KB_OK) \
            print_error("%s\n", kb_error_text(&err)); \
        assert_int_equal(ok_code_, KB_OK); \
    } while (0)

/* An object in memory: a sink to write it and a source to read it. */
typedef struct test_object {
    uint8_t *data;
    size_t len;
    size_t append_count;
    size_t get_count;
    size_t fail_append_at; /* 1 = the first */
    kb_code complete_code;
    bool is_complete;
    bool is_aborted;
} test_object;

static inline void test_object_done(test_object *object)
{
    free(object->data);
    *object = (test_object){0};
}
#define AUTO_OBJECT(name) KB_CLEANUP(test_object_done) test_object name = {0}

static inline void test_object_put(test_object *object, const void *bytes, size_t len)
{
    object->data = kb_realloc(object->data, object->len + len, 1);
    kb_put_bytes(object->data + object->len, bytes, len);
    object->len += len;
}

static inline kb_code test_append(void *ctx, const void *bytes, size_t len, kb_error *err)
{
    static const uint8_t hole[KB_SEGMENT_HEADER_BYTES];
    test_object *object = ctx;
    if (++object->append_count == object->fail_append_at)
        return kb_fail(err, KB_STORAGE_FULL, "test: full");
    if (object->len == 0)
        test_object_put(object, hole, sizeof hole);
    test_object_put(object, bytes, len);
    return KB_OK;
}

static inline kb_code test_complete(void *ctx, const uint8_t header[KB_SEGMENT_HEADER_BYTES], kb_error *err)
{
    test_object *object = ctx;
    if (object->complete_code != KB_OK)
        return kb_fail(err, object->complete_code, "test: refused");
    memcpy(object->data, header, KB_SEGMENT_HEADER_BYTES);
    object->is_complete = true;
    return KB_OK;
}

static inline void test_abort(void *ctx)
{
    test_object *object = ctx;
    assert_false(object->is_aborted);
    object->is_aborted = true;
}

static inline kb_segment_sink test_sink(test_object *object)
{
    return (kb_segment_sink){object, test_append, test_complete, test_abort};
}

static inline kb_code test_get_range(void *ctx, uint64_t offset, void *to, size_t len, kb_error *err)
{
    test_object *object = ctx;
    object->get_count++;
    if (offset > object->len || len > object->len - offset)
        return kb_fail(err, KB_ERR_FORMAT, "test: asked for bytes beyond the end");
    memcpy(to, object->data + offset, len);
    return KB_OK;
}

static inline kb_segment_source test_source(test_object *object)
{
    return (kb_segment_source){object, object->len, test_get_range};
}

static inline void test_load(test_object *object, const char *path)
{
    KB_AUTO_ERROR(err);
    assert_ok(kb_file_read(path, 1 << 20, &object->data, &object->len, &err));
}

/* Puts header and footer around what the object holds. */
static inline void test_wrap_body(test_object *object, const kb_segment_header *header)
{
    uint8_t *whole = kb_malloc(object->len + KB_SEGMENT_MIN_BYTES);
    kb_segment_header_encode(header, whole);
    kb_put_bytes(whole + KB_SEGMENT_HEADER_BYTES, object->data, object->len);
    size_t end = KB_SEGMENT_HEADER_BYTES + object->len;
    kb_segment_footer_encode(kb_crc32(0, whole, end), whole + end);
    free(object->data);
    object->data = whole;
    object->len = end + KB_SEGMENT_FOOTER_BYTES;
}

/* Makes the CRC right again after a change. */
static inline void test_fix_crc(test_object *object)
{
    size_t end = object->len - KB_SEGMENT_FOOTER_BYTES;
    kb_segment_footer_encode(kb_crc32(0, object->data, end), object->data + end);
}

static inline void test_put_record(test_object *area, const kb_record_in *record)
{
    KB_AUTO_ERROR(err);
    size_t size = 0;
    assert_ok(kb_record_encoded_size(record, NULL, &size, &err));
    KB_AUTOFREE uint8_t *bytes = kb_malloc(size);
    assert_ptr_equal(kb_record_encode(bytes, record, NULL), bytes + size);
    test_object_put(area, bytes, size);
}

/* The three records of the golden files. */
static inline size_t test_gold_records(kb_record_in to[3])
{
    static const int64_t number[2] = {42, GOLD_TIME};
    static const kb_header_in headers[] = {{"h", 1, "x", 1},
                                           {"n", 1, NULL, -1},
                                           {"x-original-offset", 17, &number[0], 8},
                                           {"x-original-timestamp", 20, &number[1], 8}};
    to[0] = (kb_record_in){.timestamp = GOLD_TIME,
                           .offset = 42,
                           .key = "k",
                           .key_len = 1,
                           .value = "v1",
                           .value_len = 2,
                           .headers = headers,
                           .header_count = 4};
    to[1] = (kb_record_in){.timestamp = GOLD_TIME + 1, .offset = 44, .key_len = -1, .value_len = -1};
    to[2] = (kb_record_in){.timestamp = -1, .offset = 45, .key = "", .value = ""};
    return 3;
}

/* Random numbers that are the same in every run. */
static inline uint32_t test_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}

#endif

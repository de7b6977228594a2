#include "worker/segment/frame_index.h"

#include "worker/tests/segment_fixture.h"

#define AUTO_INDEX(name) KB_CLEANUP(kb_frame_index_done) kb_frame_index name = {0}
/* In gold-frames.bin. */
#define INDEX_AT 175
#define INDEX_LEN (479 - 8 - INDEX_AT)
#define HEAD_AT KB_INDEX_FRAME_HEAD_BYTES
#define ENTRY_AT(i) (HEAD_AT + 160 + 56 * (i))

static void load_gold_index(test_object *frame)
{
    AUTO_OBJECT(gold);
    test_load(&gold, "worker/tests/data/gold-frames.bin");
    assert_int_equal(gold.len, 479);
    test_object_put(frame, gold.data + INDEX_AT, INDEX_LEN);
}

static void fix_index_crc(test_object *frame)
{
    uint8_t *crc = frame->data + frame->len - 12;
    kb_put_u32(crc, kb_crc32(0, frame->data + HEAD_AT, frame->len - HEAD_AT - KB_INDEX_TAIL_BYTES));
}

static void kb_frame_index_decode_golden_fields_are_read(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(frame);
    AUTO_INDEX(index);
    load_gold_index(&frame);
    assert_ok(kb_frame_index_decode(frame.data, frame.len, &index, &err));
    assert_int_equal(index.flags, 0);
    assert_int_equal(index.partition, 0);
    assert_int_equal(index.from, 40);
    assert_int_equal(index.to, 46);
    assert_int_equal(index.min_timestamp, -1);
    assert_int_equal(index.max_timestamp, GOLD_TIME + 1);
    assert_int_equal(index.raw_bytes, 0xad);
    assert_int_equal(index.data_bytes, INDEX_AT - 32);
    assert_int_equal(index.max_total_len, 0x6d);
    for (uint8_t i = 0; i < KB_ID_BYTES; i++) {
        assert_int_equal(index.attempt_id[i], i);
        assert_int_equal(index.topic_id[i], 0x10 + i);
    }
    uint8_t key_hash[KB_KEY_HASH_BYTES];
    kb_frame_index_key_hash(GOLD_KEY, key_hash);
    assert_memory_equal(index.key_hash, key_hash, sizeof key_hash);
    char hex[KB_DIGEST_HEX_SIZE];
    kb_digest_hex(&index.digest, hex);
    assert_string_equal(hex, GOLD_DIGEST);
    assert_int_equal(index.entry_count, 2);
    assert_int_equal(index.record_count, 3);
    assert_int_equal(index.entries[0].position, 32);
    assert_int_equal(index.entries[0].record_count, 2);
    assert_int_equal(index.entries[1].position, 147);
    assert_int_equal(index.entries[1].first_offset, 45);
    assert_int_equal(index.entries[1].max_timestamp, -1);
}

static void kb_frame_index_encode_golden_index_is_reproduced(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(frame);
    AUTO_INDEX(index);
    load_gold_index(&frame);
    assert_ok(kb_frame_index_decode(frame.data, frame.len, &index, &err));
    assert_int_equal(kb_frame_index_encoded_size(2), INDEX_LEN);
    uint8_t encoded[INDEX_LEN];
    kb_frame_index_encode(&index, encoded);
    assert_memory_equal(encoded, frame.data, INDEX_LEN);
}

static void kb_frame_index_decode_bad_field_is_refused(void **state)
{
    (void)state;
    const struct {
        size_t at;
        uint64_t value;
        size_t len;
    } cases[] = {
        {0, 0x184D2A5A, 4},                   /* another skippable frame */
        {4, INDEX_LEN, 4},                    /* L before the payload */
        {HEAD_AT, 'k', 1},                    /* magic */
        {HEAD_AT + 8, 2, 2},                  /* version */
        {HEAD_AT + 8, 0, 2},                  /**/
        {HEAD_AT + 10, 159, 2},               /* head length */
        {HEAD_AT + 10, 0, 2},                 /**/
        {HEAD_AT + 10, 65535, 2},             /**/
        {HEAD_AT + 12, 55, 2},                /* entry length */
        {HEAD_AT + 12, 0, 2},                 /**/
        {HEAD_AT + 12, 112, 2},               /**/
        {HEAD_AT + 16, 0, 4},                 /* entry count */
        {HEAD_AT + 16, 1, 4},                 /**/
        {HEAD_AT + 16, 3, 4},                 /**/
        {HEAD_AT + 16, UINT32_MAX, 4},        /**/
        {HEAD_AT + 20, UINT32_MAX, 4},        /* partition -1 */
        {HEAD_AT + 24, UINT64_MAX, 8},        /* from -1 */
        {HEAD_AT + 24, 43, 8},                /* from above the first offset */
        {HEAD_AT + 24, 46, 8},                /* from = to */
        {HEAD_AT + 32, 45, 8},                /* to = the last offset */
        {HEAD_AT + 40, 0, 8},                 /* minimum time */
        {HEAD_AT + 48, 0, 8},                 /* maximum time */
        {HEAD_AT + 56, 0xae, 8},              /* bytes of record area */
        {HEAD_AT + 64, 144, 8},               /* bytes of data frames */
        {ENTRY_AT(0), 33, 8},                 /* position */
        {ENTRY_AT(1), 148, 8},                /**/
        {ENTRY_AT(0) + 8, 114, 4},            /* compressed length */
        {ENTRY_AT(0) + 8, 0, 4},              /**/
        {ENTRY_AT(1) + 8, 29, 4},             /**/
        {ENTRY_AT(1) + 12, 31, 4},            /* uncompressed length */
        {ENTRY_AT(1) + 12, 29, 4},            /* less than a record */
        {ENTRY_AT(0) + 16, 39, 8},            /* first offset below from */
        {ENTRY_AT(0) + 16, 45, 8},            /* above the last */
        {ENTRY_AT(0) + 24, 42, 8},            /* two records in one offset */
        {ENTRY_AT(0) + 24, 45, 8},            /* overlaps the next frame */
        {ENTRY_AT(1) + 16, 44, 8},            /**/
        {ENTRY_AT(0) + 32, INT64_MAX, 8},     /* minimum above maximum */
        {ENTRY_AT(0) + 40, GOLD_TIME + 2, 8}, /* beyond the head's maximum */
        {ENTRY_AT(0) + 48, 0, 4},             /* record count */
        {ENTRY_AT(0) + 48, 4, 4},             /**/
        {ENTRY_AT(0) + 48, UINT32_MAX, 4},    /**/
        {INDEX_LEN - 16, 1, 4},               /* L behind the payload */
        {INDEX_LEN - 8, 'k', 1},              /* magic at the end */
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        AUTO_OBJECT(frame);
        AUTO_INDEX(index);
        load_gold_index(&frame);
        memcpy(frame.data + cases[i].at, &cases[i].value, cases[i].len);
        fix_index_crc(&frame);
        if (kb_frame_index_decode(frame.data, frame.len, &index, &err) != KB_ERR_FORMAT)
            fail_msg("case %zu was accepted", i);
    }
}

static void kb_frame_index_decode_flipped_or_cut_is_refused(void **state)
{
    (void)state;
    AUTO_OBJECT(frame);
    load_gold_index(&frame);
    for (size_t bit = 0; bit < 8 * frame.len; bit++) {
        KB_AUTO_ERROR(err);
        AUTO_INDEX(index);
        frame.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(kb_frame_index_decode(frame.data, frame.len, &index, &err), KB_ERR_FORMAT);
        frame.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t len = 0; len < frame.len; len++) {
        KB_AUTO_ERROR(err);
        AUTO_INDEX(index);
        KB_AUTOFREE uint8_t *copy = kb_malloc(len);
        kb_put_bytes(copy, frame.data, len);
        assert_int_equal(kb_frame_index_decode(copy, len, &index, &err), KB_ERR_FORMAT);
    }
}

/* A later writer may append fields to head and entries. */
static void kb_frame_index_decode_longer_head_and_entries_are_stepped_over(void **state)
{
    (void)state;
    enum { HEAD_MORE = 8, ENTRY_MORE = 4 };
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(gold);
    AUTO_OBJECT(frame);
    AUTO_INDEX(index);
    load_gold_index(&gold);
    test_object_put(&frame, gold.data, ENTRY_AT(0));
    test_object_put(&frame, "headmore", HEAD_MORE);
    for (size_t i = 0; i < 2; i++) {
        test_object_put(&frame, gold.data + ENTRY_AT(i), KB_INDEX_ENTRY_BYTES);
        test_object_put(&frame, "more", ENTRY_MORE);
    }
    test_object_put(&frame, gold.data + ENTRY_AT(2), KB_INDEX_TAIL_BYTES);
    uint32_t payload_len = (uint32_t)frame.len - HEAD_AT;
    kb_put_u32(frame.data + 4, payload_len);
    kb_put_u32(frame.data + frame.len - KB_INDEX_TAIL_BYTES, payload_len);
    kb_put_u16(frame.data + HEAD_AT + 10, 160 + HEAD_MORE);
    kb_put_u16(frame.data + HEAD_AT + 12, 56 + ENTRY_MORE);
    fix_index_crc(&frame);
    assert_ok(kb_frame_index_decode(frame.data, frame.len, &index, &err));
    assert_int_equal(index.entry_count, 2);
    assert_int_equal(index.entries[1].position, 147);
}

static void kb_frame_index_check_disagreement_is_refused(void **state)
{
    (void)state;
    const struct {
        kb_segment_header header;
        uint64_t body_bytes;
        kb_code expected;
    } cases[] = {
        {{KB_CODEC_ZSTD, 3, 42, 45}, 439, KB_OK},         {{KB_CODEC_ZSTD, 2, 42, 45}, 439, KB_ERR_FORMAT},
        {{KB_CODEC_ZSTD, 4, 42, 45}, 439, KB_ERR_FORMAT}, {{KB_CODEC_ZSTD, 3, 41, 45}, 439, KB_ERR_FORMAT},
        {{KB_CODEC_ZSTD, 3, 42, 46}, 439, KB_ERR_FORMAT}, {{KB_CODEC_ZSTD, 3, 42, 45}, 440, KB_ERR_FORMAT},
        {{KB_CODEC_ZSTD, 3, 42, 45}, 438, KB_ERR_FORMAT}, {{KB_CODEC_ZSTD, 3, 42, 45}, 0, KB_ERR_FORMAT},
    };
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(frame);
    AUTO_INDEX(index);
    load_gold_index(&frame);
    assert_ok(kb_frame_index_decode(frame.data, frame.len, &index, &err));
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++)
        assert_int_equal(kb_frame_index_check(&index, &cases[i].header, cases[i].body_bytes, frame.len, &err),
                         cases[i].expected);
}

static void kb_frame_index_tail_tells_length(void **state)
{
    (void)state;
    AUTO_OBJECT(frame);
    load_gold_index(&frame);
    uint32_t payload_len = 0;
    uint8_t *tail = frame.data + frame.len - KB_INDEX_TAIL_BYTES;
    assert_true(kb_frame_index_tail(tail, &payload_len));
    assert_int_equal(payload_len, INDEX_LEN - 8);
    tail[15] ^= 1;
    assert_false(kb_frame_index_tail(tail, &payload_len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_frame_index_decode_golden_fields_are_read),
        cmocka_unit_test(kb_frame_index_encode_golden_index_is_reproduced),
        cmocka_unit_test(kb_frame_index_decode_bad_field_is_refused),
        cmocka_unit_test(kb_frame_index_decode_flipped_or_cut_is_refused),
        cmocka_unit_test(kb_frame_index_decode_longer_head_and_entries_are_stepped_over),
        cmocka_unit_test(kb_frame_index_check_disagreement_is_refused),
        cmocka_unit_test(kb_frame_index_tail_tells_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

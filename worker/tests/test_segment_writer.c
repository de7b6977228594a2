#include "worker/segment/segment_writer.h"

#include "common/base/encode.h"
#include "worker/tests/segment_fixture.h"

#define AUTO_FRAME(name) KB_CLEANUP(kb_frame_free_at) kb_frame *name = kb_frame_new(1024)
#define AUTO_ENCODER(name) KB_CLEANUP(kb_frame_encoder_free_at) kb_frame_encoder *name = NULL
#define AUTO_WRITER(name) KB_CLEANUP(kb_segment_writer_free_at) kb_segment_writer *name = NULL

static kb_segment_writer_opts gold_opts(test_object *object)
{
    kb_segment_writer_opts opts = {
        .sink = test_sink(object), .key = GOLD_KEY, .codec = KB_CODEC_ZSTD, .from = 40, .verify = true};
    for (uint8_t i = 0; i < KB_ID_BYTES; i++) {
        opts.attempt_id[i] = i;
        opts.topic_id[i] = (uint8_t)(0x10 + i);
    }
    return opts;
}

static void fill_frame(kb_frame *frame, const kb_record_in *records, size_t count, kb_codec codec)
{
    KB_AUTO_ERROR(err);
    AUTO_ENCODER(encoder);
    const kb_frame_encoder_opts opts = {.codec = codec, .verify = true};
    assert_ok(kb_frame_encoder_new(&opts, &encoder, &err));
    kb_frame_reset(frame);
    bool is_full = false;
    for (size_t i = 0; i < count; i++)
        assert_ok(kb_frame_append(frame, &records[i], NULL, &is_full, &err));
    assert_ok(kb_frame_seal(encoder, frame, &err));
}

static void write_gold(test_object *object, const kb_segment_writer_opts *opts, kb_segment_info *info)
{
    KB_AUTO_ERROR(err);
    AUTO_FRAME(frame);
    AUTO_WRITER(writer);
    writer = kb_segment_writer_new(opts);
    kb_record_in records[3];
    test_gold_records(records);
    fill_frame(frame, records, 2, opts->codec);
    assert_ok(kb_segment_writer_append(writer, frame, &err));
    fill_frame(frame, records + 2, 1, opts->codec);
    assert_ok(kb_segment_writer_append(writer, frame, &err));
    assert_int_equal(kb_segment_writer_raw_bytes(writer), 0xad);
    assert_null(kb_segment_writer_info(writer));
    assert_ok(kb_segment_writer_finish(writer, 46, info, &err));
    assert_non_null(kb_segment_writer_info(writer));
    assert_true(object->is_complete);
}

static void check_sha256(const test_object *object, const kb_segment_info *info)
{
    KB_AUTOFREE uint8_t *turned = kb_malloc(object->len);
    kb_put_bytes(kb_put_bytes(turned, object->data + 32, object->len - 32), object->data, 32);
    uint8_t hash[KB_SHA256_SIZE];
    kb_sha256(turned, object->len, hash);
    assert_memory_equal(hash, info->sha256, sizeof hash);
    assert_memory_equal(object->data, info->header, sizeof info->header);
    assert_memory_equal(object->data + object->len - 8, info->footer, sizeof info->footer);
    assert_int_equal(object->len, info->bytes);
}

static void kb_segment_writer_finish_golden_frames_match_vector(void **state)
{
    (void)state;
    AUTO_OBJECT(object);
    AUTO_OBJECT(gold);
    test_load(&gold, "worker/tests/data/gold-frames.bin");
    const kb_segment_writer_opts opts = gold_opts(&object);
    kb_segment_info info;
    write_gold(&object, &opts, &info);
    assert_int_equal(info.start, 42);
    assert_int_equal(info.end, 45);
    assert_int_equal(info.from, 40);
    assert_int_equal(info.to, 46);
    assert_int_equal(info.count, 3);
    assert_int_equal(info.min_timestamp, -1);
    assert_int_equal(info.max_timestamp, GOLD_TIME + 1);
    assert_int_equal(info.raw_bytes, 0xad);
    char hex[KB_DIGEST_HEX_SIZE];
    kb_digest_hex(&info.digest, hex);
    assert_string_equal(hex, GOLD_DIGEST);
    check_sha256(&object, &info);
    assert_memory_equal(object.data, gold.data, 32);
    /* Compressed bytes depend on the version of libzstd; with the one of the vector all bytes are equal. */
    if (object.len == gold.len && memcmp(object.data, gold.data, 175) == 0) {
        assert_memory_equal(object.data, gold.data, gold.len);
        kb_hex_encode(info.sha256, sizeof info.sha256, hex);
        assert_string_equal(hex, GOLD_SHA256);
    }
}

static void kb_segment_writer_finish_codec_none_matches_vector(void **state)
{
    (void)state;
    AUTO_OBJECT(object);
    AUTO_OBJECT(gold);
    test_load(&gold, "worker/tests/data/gold-none.bin");
    kb_segment_writer_opts opts = gold_opts(&object);
    opts.codec = KB_CODEC_NONE;
    kb_segment_info info;
    write_gold(&object, &opts, &info);
    assert_int_equal(object.len, gold.len);
    assert_memory_equal(object.data, gold.data, gold.len);
    check_sha256(&object, &info);
}

static void kb_segment_writer_finish_codec_lz4_has_prefix_and_block(void **state)
{
    (void)state;
    AUTO_OBJECT(object);
    kb_segment_writer_opts opts = gold_opts(&object);
    opts.codec = KB_CODEC_LZ4;
    kb_segment_info info;
    write_gold(&object, &opts, &info);
    assert_int_equal(object.data[5], KB_CODEC_LZ4);
    assert_memory_equal(object.data + 32, "\xad\0\0\0", 4);
    check_sha256(&object, &info);
}

static void kb_segment_writer_append_wrong_frame_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(object);
    AUTO_FRAME(frame);
    AUTO_FRAME(open_frame);
    AUTO_WRITER(writer);
    kb_record_in records[3];
    test_gold_records(records);
    const kb_segment_writer_opts opts = gold_opts(&object);
    writer = kb_segment_writer_new(&opts);
    bool is_full = false;
    assert_ok(kb_frame_append(open_frame, &records[0], NULL, &is_full, &err));
    assert_int_equal(kb_segment_writer_append(writer, open_frame, &err), KB_ERR_INTERNAL);
    fill_frame(frame, records, 1, KB_CODEC_NONE);
    assert_int_equal(kb_segment_writer_append(writer, frame, &err), KB_ERR_INTERNAL);
    fill_frame(frame, records + 1, 1, KB_CODEC_ZSTD);
    assert_ok(kb_segment_writer_append(writer, frame, &err));
    assert_int_equal(kb_segment_writer_append(writer, frame, &err), KB_ERR_INTERNAL);
    records[0].offset = 39;
    fill_frame(frame, records, 1, KB_CODEC_ZSTD);
    assert_int_equal(kb_segment_writer_append(writer, frame, &err), KB_ERR_INTERNAL);
    kb_segment_info info;
    assert_int_equal(kb_segment_writer_finish(writer, 44, &info, &err), KB_ERR_INTERNAL);
    assert_ok(kb_segment_writer_finish(writer, 45, &info, &err));
    assert_int_equal(kb_segment_writer_finish(writer, 45, &info, &err), KB_ERR_INTERNAL);
}

static void kb_segment_writer_finish_without_records_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(object);
    {
        AUTO_WRITER(writer);
        const kb_segment_writer_opts opts = gold_opts(&object);
        writer = kb_segment_writer_new(&opts);
        kb_segment_info info;
        assert_int_equal(kb_segment_writer_finish(writer, 46, &info, &err), KB_ERR_INTERNAL);
        assert_false(object.is_aborted);
    }
    assert_true(object.is_aborted);
}

/* Every call of the sink fails once: the error comes through, and the upload is aborted. */
static void kb_segment_writer_sink_error_passes_and_aborts(void **state)
{
    (void)state;
    for (size_t nth = 1; nth <= 4; nth++) {
        KB_AUTO_ERROR(err);
        AUTO_OBJECT(object);
        object.fail_append_at = nth;
        {
            AUTO_FRAME(frame);
            AUTO_WRITER(writer);
            const kb_segment_writer_opts opts = gold_opts(&object);
            writer = kb_segment_writer_new(&opts);
            kb_record_in records[3];
            kb_code code = KB_OK;
            for (size_t i = 0; i < 2 && code == KB_OK; i++) {
                test_gold_records(records);
                fill_frame(frame, &records[i], 1, KB_CODEC_ZSTD);
                code = kb_segment_writer_append(writer, frame, &err);
            }
            kb_segment_info info;
            if (code == KB_OK)
                code = kb_segment_writer_finish(writer, 46, &info, &err);
            assert_int_equal(code, KB_STORAGE_FULL);
            assert_null(kb_segment_writer_info(writer));
        }
        assert_true(object.is_aborted);
        assert_false(object.is_complete);
    }
}

static void kb_segment_writer_finish_key_taken_still_tells_info(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_OBJECT(object);
    object.complete_code = KB_ERR_EXISTS;
    {
        AUTO_FRAME(frame);
        AUTO_WRITER(writer);
        const kb_segment_writer_opts opts = gold_opts(&object);
        writer = kb_segment_writer_new(&opts);
        kb_record_in records[3];
        fill_frame(frame, records, test_gold_records(records), KB_CODEC_ZSTD);
        assert_ok(kb_segment_writer_append(writer, frame, &err));
        kb_segment_info info;
        assert_int_equal(kb_segment_writer_finish(writer, 46, &info, &err), KB_ERR_EXISTS);
        const kb_segment_info *ours = kb_segment_writer_info(writer);
        assert_non_null(ours);
        assert_int_equal(ours->bytes, object.len);
        assert_int_equal(ours->header[5], KB_CODEC_ZSTD);
    }
    assert_true(object.is_aborted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_segment_writer_finish_golden_frames_match_vector),
        cmocka_unit_test(kb_segment_writer_finish_codec_none_matches_vector),
        cmocka_unit_test(kb_segment_writer_finish_codec_lz4_has_prefix_and_block),
        cmocka_unit_test(kb_segment_writer_append_wrong_frame_is_refused),
        cmocka_unit_test(kb_segment_writer_finish_without_records_is_refused),
        cmocka_unit_test(kb_segment_writer_sink_error_passes_and_aborts),
        cmocka_unit_test(kb_segment_writer_finish_key_taken_still_tells_info),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

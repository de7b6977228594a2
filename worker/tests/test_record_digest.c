#include "worker/segment/record_digest.h"

#include "common/base/encode.h"
#include "worker/tests/segment_fixture.h"

static void kb_digest_add_carries_through_all_limbs(void **state)
{
    (void)state;
    const struct {
        const char *a;
        const char *b;
        const char *sum;
    } cases[] = {
        {"0000000000000000000000000000000000000000000000000000000000000000",
         "bfce2323b3f363f8c02cf665247174063c76d1cddea8e42245f730be741dca86",
         "bfce2323b3f363f8c02cf665247174063c76d1cddea8e42245f730be741dca86"},
        {"00000000000000000000000000000000000000000000000000000000000000ff",
         "0000000000000000000000000000000000000000000000000000000000000001",
         "0000000000000000000000000000000000000000000000000000000000000100"},
        {"0fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
         "0000000000000000000000000000000000000000000000000000000000000001",
         "1000000000000000000000000000000000000000000000000000000000000000"},
        {"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
         "0000000000000000000000000000000000000000000000000000000000000002",
         "0000000000000000000000000000000000000000000000000000000000000001"},
        {"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
         "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
         "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        kb_digest a;
        kb_digest b;
        char hex[KB_DIGEST_HEX_SIZE];
        assert_ok(kb_digest_parse(cases[i].a, 64, &a, &err));
        assert_ok(kb_digest_parse(cases[i].b, 64, &b, &err));
        uint8_t stored[KB_DIGEST_BYTES];
        kb_digest_store(&b, stored);
        kb_digest by_hash = a;
        kb_digest_add_hash(&by_hash, stored);
        kb_digest_add(&a, &b);
        kb_digest_hex(&a, hex);
        assert_string_equal(hex, cases[i].sum);
        assert_true(kb_digest_is_equal(&a, &by_hash));
    }
}

static void kb_digest_parse_bad_text_is_refused(void **state)
{
    (void)state;
    const char *const cases[] = {
        "",
        "00",
        "bfce2323b3f363f8c02cf665247174063c76d1cddea8e42245f730be741dca8",
        "bfce2323b3f363f8c02cf665247174063c76d1cddea8e42245f730be741dca860",
        "gfce2323b3f363f8c02cf665247174063c76d1cddea8e42245f730be741dca86",
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        kb_digest digest;
        assert_int_equal(kb_digest_parse(cases[i], strlen(cases[i]), &digest, &err), KB_ERR_FORMAT);
    }
}

static void hash_in(kb_record_hasher *hasher, const kb_record_in *record, const kb_own_block_opts *own,
                    kb_own_block_mode mode, uint8_t to[KB_SHA256_SIZE])
{
    KB_AUTO_ERROR(err);
    size_t size = 0;
    assert_ok(kb_record_encoded_size(record, own, &size, &err));
    KB_AUTOFREE uint8_t *bytes = kb_malloc(size);
    kb_record_encode(bytes, record, own);
    kb_cursor cursor = kb_cursor_of(bytes, size);
    kb_record_view view;
    assert_ok(kb_record_decode(&cursor, &view, &err));
    assert_true(kb_record_hash(hasher, &view, mode, to));
}

static void kb_record_hash_golden_records_sum_to_digest(void **state)
{
    (void)state;
    KB_CLEANUP(kb_record_hasher_free_at) kb_record_hasher *hasher = kb_record_hasher_new();
    kb_record_in records[3];
    kb_digest sum = KB_DIGEST_ZERO;
    for (size_t i = 0; i < test_gold_records(records); i++) {
        KB_AUTO_ERROR(err);
        uint8_t hash[KB_SHA256_SIZE];
        uint8_t probe[KB_SHA256_SIZE];
        hash_in(hasher, &records[i], NULL, KB_OWN_BLOCK_NONE, hash);
        assert_ok(kb_record_hash_in(hasher, &records[i], probe, &err));
        assert_memory_equal(hash, probe, sizeof hash);
        kb_digest_add_hash(&sum, hash);
    }
    char hex[KB_DIGEST_HEX_SIZE];
    kb_digest_hex(&sum, hex);
    assert_string_equal(hex, GOLD_DIGEST);
}

/* The own block does not count, so a backup with and one without bookkeeping headers compare. */
static void kb_record_hash_own_block_is_left_out(void **state)
{
    (void)state;
    static const size_t value_lens[] = {0, 1, 100, 4000, 4096, 5000, 100000};
    const kb_own_block_opts options[] = {{NULL, 0}, {"cluster", 7}};
    const kb_header_in headers[] = {{"a", 1, "1", 1}, {"x-original-offset", 17, "7", 1}};
    KB_CLEANUP(kb_record_hasher_free_at) kb_record_hasher *hasher = kb_record_hasher_new();
    KB_AUTOFREE char *value = kb_calloc(100000, 1);
    for (size_t i = 0; i < KB_ARRAY_LEN(value_lens); i++) {
        for (size_t j = 0; j < KB_ARRAY_LEN(options); j++) {
            const kb_record_in record = {.timestamp = 1,
                                         .offset = 7,
                                         .value = value,
                                         .value_len = (int32_t)value_lens[i],
                                         .key_len = -1,
                                         .headers = headers,
                                         .header_count = 2};
            uint8_t plain[KB_SHA256_SIZE];
            uint8_t stripped[KB_SHA256_SIZE];
            uint8_t whole[KB_SHA256_SIZE];
            hash_in(hasher, &record, NULL, KB_OWN_BLOCK_NONE, plain);
            hash_in(hasher, &record, &options[j], KB_OWN_BLOCK_PRESENT, stripped);
            assert_memory_equal(plain, stripped, sizeof plain);
            hash_in(hasher, &record, &options[j], KB_OWN_BLOCK_BY_FORM, stripped);
            assert_memory_equal(plain, stripped, sizeof plain);
            hash_in(hasher, &record, NULL, KB_OWN_BLOCK_BY_FORM, stripped);
            assert_memory_equal(plain, stripped, sizeof plain);
            hash_in(hasher, &record, &options[j], KB_OWN_BLOCK_NONE, whole);
            assert_memory_not_equal(plain, whole, sizeof plain);
        }
    }
}

static void kb_record_hash_missing_own_block_is_told(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_record_hasher_free_at) kb_record_hasher *hasher = kb_record_hasher_new();
    AUTO_OBJECT(area);
    const kb_record_in record = {.offset = 7};
    test_put_record(&area, &record);
    kb_cursor cursor = kb_cursor_of(area.data, area.len);
    kb_record_view view;
    assert_ok(kb_record_decode(&cursor, &view, &err));
    uint8_t hash[KB_SHA256_SIZE];
    assert_false(kb_record_hash(hasher, &view, KB_OWN_BLOCK_PRESENT, hash));
}

static void kb_record_hash_bytes_after_headers_do_not_count(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_record_hasher_free_at) kb_record_hasher *hasher = kb_record_hasher_new();
    AUTO_OBJECT(area);
    const kb_record_in record = {.offset = 7};
    test_put_record(&area, &record);
    test_object_put(&area, "tail", 4);
    kb_put_u32(area.data, (uint32_t)(area.len - KB_RECORD_LEN_BYTES));
    kb_cursor cursor = kb_cursor_of(area.data, area.len);
    kb_record_view view;
    assert_ok(kb_record_decode(&cursor, &view, &err));
    uint8_t hash[KB_SHA256_SIZE];
    uint8_t plain[KB_SHA256_SIZE];
    assert_true(kb_record_hash(hasher, &view, KB_OWN_BLOCK_NONE, hash));
    assert_ok(kb_record_hash_in(hasher, &record, plain, &err));
    assert_memory_equal(hash, plain, sizeof hash);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_digest_add_carries_through_all_limbs),
        cmocka_unit_test(kb_digest_parse_bad_text_is_refused),
        cmocka_unit_test(kb_record_hash_golden_records_sum_to_digest),
        cmocka_unit_test(kb_record_hash_own_block_is_left_out),
        cmocka_unit_test(kb_record_hash_missing_own_block_is_told),
        cmocka_unit_test(kb_record_hash_bytes_after_headers_do_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

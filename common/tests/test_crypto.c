#include "common/base/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"

/* Vectors of FIPS 180-4. */
static const struct {
    const char *text;
    const char *hash;
} hash_cases[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static void assert_hash(const uint8_t hash[KB_SHA256_SIZE], const char *expected)
{
    char hex[2 * KB_SHA256_SIZE + 1];
    kb_hex_encode(hash, KB_SHA256_SIZE, hex);
    assert_string_equal(hex, expected);
}

static void kb_sha256_cases_match(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(hash_cases); i++) {
        uint8_t hash[KB_SHA256_SIZE];
        kb_sha256(hash_cases[i].text, strlen(hash_cases[i].text), hash);
        assert_hash(hash, hash_cases[i].hash);
    }
}

static void kb_sha256_update_in_parts_equals_whole(void **state)
{
    (void)state;
    KB_CLEANUP(kb_sha256_free_at) kb_sha256_ctx *ctx = kb_sha256_new();
    for (size_t i = 0; i < KB_ARRAY_LEN(hash_cases); i++) {
        uint8_t hash[KB_SHA256_SIZE];
        kb_sha256_reset(ctx);
        for (const char *at = hash_cases[i].text; *at != '\0'; at++)
            kb_sha256_update(ctx, at, 1);
        kb_sha256_final(ctx, hash);
        assert_hash(hash, hash_cases[i].hash);
    }
}

static void kb_sha256_million_of_a_matches(void **state)
{
    (void)state;
    KB_AUTOFREE char *text = kb_malloc(1000000);
    memset(text, 'a', 1000000);
    uint8_t hash[KB_SHA256_SIZE];
    kb_sha256(text, 1000000, hash);
    assert_hash(hash, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void kb_random_bytes_twice_differ(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    uint8_t a[16] = {0};
    uint8_t b[16] = {0};
    assert_int_equal(kb_random_bytes(a, sizeof a, &err), KB_OK);
    assert_int_equal(kb_random_bytes(b, sizeof b, &err), KB_OK);
    assert_memory_not_equal(a, b, sizeof a);
    assert_int_equal(kb_random_bytes(a, 0, &err), KB_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_sha256_cases_match),
        cmocka_unit_test(kb_sha256_update_in_parts_equals_whole),
        cmocka_unit_test(kb_sha256_million_of_a_matches),
        cmocka_unit_test(kb_random_bytes_twice_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

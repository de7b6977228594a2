#include "common/base/crypto_mac.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/file.h"
#include "common/base/mem.h"

static void assert_hex(const uint8_t *bytes, size_t len, const char *expected)
{
    KB_AUTOFREE char *hex = kb_malloc(2 * len + 1);
    kb_hex_encode(bytes, len, hex);
    assert_string_equal(hex, expected);
}

/* Vectors of RFC 4231: cases 1, 2, 3 and 6. */
static void kb_hmac_sha256_vectors_match(void **state)
{
    (void)state;
    uint8_t fill_0b[20], fill_aa[131], fill_dd[50];
    memset(fill_0b, 0x0b, sizeof fill_0b);
    memset(fill_aa, 0xaa, sizeof fill_aa);
    memset(fill_dd, 0xdd, sizeof fill_dd);
    const char *long_key = "Test Using Larger Than Block-Size Key - Hash Key First";
    const struct {
        const void *key;
        size_t key_len;
        const void *data;
        size_t len;
        const char *mac;
    } cases[] = {
        {fill_0b, 20, "Hi There", 8, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {"Jefe", 4, "what do ya want for nothing?", 28,
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {fill_aa, 20, fill_dd, 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
        {fill_aa, 131, long_key, strlen(long_key),
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        uint8_t mac[KB_SHA256_SIZE];
        kb_hmac_sha256(cases[i].key, cases[i].key_len, cases[i].data, cases[i].len, mac);
        assert_hex(mac, sizeof mac, cases[i].mac);
    }
}

/* Vectors of RFC 1321. */
static void kb_md5_vectors_match(void **state)
{
    (void)state;
    const struct {
        const char *text, *hash;
    } cases[] = {
        {"", "d41d8cd98f00b204e9800998ecf8427e"},
        {"abc", "900150983cd24fb0d6963f7d28e17f72"},
        {"message digest", "f96b697d7cb7938d525a2f31aaf161d0"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        uint8_t hash[KB_MD5_SIZE];
        kb_md5(cases[i].text, strlen(cases[i].text), hash);
        assert_hex(hash, sizeof hash, cases[i].hash);
    }
    char text[KB_MD5_TEXT_SIZE];
    kb_md5_text("test", 4, text);
    assert_string_equal(text, "CY9rzUYh03PK3k6DJie09g==");
    const kb_view parts[] = {{(const uint8_t *)"te", 2}, {NULL, 0}, {(const uint8_t *)"st", 2}};
    kb_md5_text_of(parts, KB_ARRAY_LEN(parts), text);
    assert_string_equal(text, "CY9rzUYh03PK3k6DJie09g==");
}

static kb_secret *read_key(const char *name)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *path = kb_asprintf("common/tests/data/%s", name);
    KB_AUTOFREE uint8_t *data = NULL;
    size_t len = 0;
    if (kb_file_read(path, 65536, &data, &len, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    return kb_secret_new(data, len);
}

/* By "openssl dgst -sha256 -sign". */
static const char signature_of_abc[] =
    "4158c35bf3da9703a91187eb3686229264045a615a9f1d59858b4c09625042c7762de4dcb6d45907db3ffd91749b803eec7ed6b6"
    "45a608768b384b8e0db8a4d520c527640ee80cf799d3a6006ec9a0ce8aef02d2d78634146d21cd55f82d0ce2e0e47005f8aa1010"
    "b42fb2d838d450001f6d10778f2f6fa89f85495f6ed7e7c5";

static void kb_rsa_sha256_sign_by_both_forms_of_a_key_matches_openssl(void **state)
{
    (void)state;
    const char *const names[] = {"rsa-pkcs1.pem", "rsa-pkcs8.pem"};
    for (size_t i = 0; i < KB_ARRAY_LEN(names); i++) {
        KB_AUTO_ERROR(err);
        KB_CLEANUP(kb_secret_free_at) kb_secret *key = read_key(names[i]);
        KB_AUTOFREE uint8_t *signature = NULL;
        size_t len = 0;
        assert_int_equal(kb_rsa_sha256_sign(key, "abc", 3, &signature, &len, &err), KB_OK);
        assert_hex(signature, len, signature_of_abc);
    }
}

static void kb_rsa_sha256_sign_by_an_unusable_key_fails_without_showing_it(void **state)
{
    (void)state;
    const char *const names[] = {"rsa-encrypted.pem", "ec.pem", "config-full.yaml"};
    for (size_t i = 0; i < KB_ARRAY_LEN(names); i++) {
        KB_AUTO_ERROR(err);
        KB_CLEANUP(kb_secret_free_at) kb_secret *key = read_key(names[i]);
        KB_AUTOFREE uint8_t *signature = NULL;
        size_t len = 0;
        assert_int_equal(kb_rsa_sha256_sign(key, "abc", 3, &signature, &len, &err), KB_ERR_FORMAT);
        assert_null(strstr(kb_error_text(&err), "BEGIN"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_hmac_sha256_vectors_match),
        cmocka_unit_test(kb_md5_vectors_match),
        cmocka_unit_test(kb_rsa_sha256_sign_by_both_forms_of_a_key_matches_openssl),
        cmocka_unit_test(kb_rsa_sha256_sign_by_an_unusable_key_fails_without_showing_it),
    };
    return cmocka_run_group_tests_name("crypto_mac", tests, NULL, NULL);
}

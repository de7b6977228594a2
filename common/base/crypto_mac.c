#include "common/base/crypto_mac.h"

/* MD5's low-level functions cannot fail, also where a provider forbids MD5 as a signature's digest. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/md5.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"

#define KB_HMAC_BLOCK_BYTES 64
#define KB_RSA_MIN_BITS 1024

void kb_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len, uint8_t to[KB_SHA256_SIZE])
{
    uint8_t block[KB_HMAC_BLOCK_BYTES] = {0}, inner[KB_SHA256_SIZE];
    if (key_len > sizeof block)
        kb_sha256(key, key_len, block);
    else if (key_len > 0)
        memcpy(block, key, key_len);
    KB_CLEANUP(kb_sha256_free_at) kb_sha256_ctx *ctx = kb_sha256_new();
    for (size_t i = 0; i < sizeof block; i++)
        block[i] ^= 0x36;
    kb_sha256_update(ctx, block, sizeof block);
    kb_sha256_update(ctx, data, len);
    kb_sha256_final(ctx, inner);
    for (size_t i = 0; i < sizeof block; i++)
        block[i] ^= 0x36 ^ 0x5c;
    kb_sha256_reset(ctx);
    kb_sha256_update(ctx, block, sizeof block);
    kb_sha256_update(ctx, inner, sizeof inner);
    kb_sha256_final(ctx, to);
    kb_wipe(block, sizeof block);
}

void kb_hmac_sha1(const void *key, size_t key_len, const void *data, size_t len, uint8_t to[KB_SHA1_SIZE])
{
    unsigned written = 0;
    if (key_len > INT_MAX || HMAC(EVP_sha1(), key, (int)key_len, data, len, to, &written) == NULL)
        abort(); /* only without memory, or in a build that cannot have this module */
}

void kb_md5(const void *data, size_t len, uint8_t to[KB_MD5_SIZE])
{
    MD5_CTX state;
    (void)MD5_Init(&state);
    (void)MD5_Update(&state, data, len);
    (void)MD5_Final(to, &state);
}

void kb_md5_text(const void *data, size_t len, char to[KB_MD5_TEXT_SIZE])
{
    const kb_view part = {data, len};
    kb_md5_text_of(&part, 1, to);
}

void kb_md5_text_of(const kb_view *parts, size_t count, char to[KB_MD5_TEXT_SIZE])
{
    uint8_t hash[KB_MD5_SIZE];
    MD5_CTX state;
    (void)MD5_Init(&state);
    for (size_t i = 0; i < count; i++)
        (void)MD5_Update(&state, parts[i].data, parts[i].len);
    (void)MD5_Final(hash, &state);
    (void)kb_base64_encode(hash, sizeof hash, to);
}

static void free_bio(BIO **bio)
{
    BIO_free(*bio);
}

static void free_key(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}

static void free_digest(EVP_MD_CTX **ctx)
{
    EVP_MD_CTX_free(*ctx);
}

/* An encrypted key must fail, not ask the terminal. */
static int no_password(char *buf, int size, int is_writing, void *ctx)
{
    (void)buf, (void)size, (void)is_writing, (void)ctx;
    return -1;
}

static EVP_PKEY *read_key(const kb_secret *pem_key)
{
    size_t len = kb_secret_len(pem_key);
    if (len == 0 || len > INT_MAX)
        return NULL;
    KB_CLEANUP(free_bio) BIO *bio = BIO_new_mem_buf(kb_secret_view(pem_key), (int)len);
    if (bio == NULL)
        kb_out_of_memory();
    return PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
}

kb_code kb_rsa_sha256_sign(const kb_secret *pem_key, const void *data, size_t len, uint8_t **ret_signature,
                           size_t *ret_len, kb_error *err)
{
    KB_CLEANUP(free_key) EVP_PKEY *key = read_key(pem_key);
    if (key == NULL)
        return kb_fail(err, KB_ERR_FORMAT, "the private key is not a PEM key without a password");
    if (EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA || EVP_PKEY_get_bits(key) < KB_RSA_MIN_BITS)
        return kb_fail(err, KB_ERR_FORMAT, "the private key is not an RSA key of at least %d bits",
                       KB_RSA_MIN_BITS);
    KB_CLEANUP(free_digest) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (ctx == NULL)
        kb_out_of_memory();
    size_t size = 0;
    bool is_ready = EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
                    EVP_DigestSignUpdate(ctx, data, len) == 1 && EVP_DigestSignFinal(ctx, NULL, &size) == 1;
    KB_AUTOFREE uint8_t *signature = is_ready ? kb_malloc(size) : NULL;
    if (!is_ready || EVP_DigestSignFinal(ctx, signature, &size) != 1)
        return kb_fail(err, KB_ERR_FORMAT, "the private key cannot sign");
    *ret_signature = KB_TAKE(signature);
    *ret_len = size;
    return KB_OK;
}

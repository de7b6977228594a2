#include "common/base/crypto.h"

/*
 * The low-level functions: no allocation, no failure, and 15 to 20 ns less per hash than a reused EVP_MD_CTX
 * with a fetched EVP_MD (120 bytes: 132 ns against 148, 1 KiB: 599 against 618; OpenSSL 3.0 with SHA
 * instructions). They are deprecated since 3.0 but part of its ABI.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdlib.h>

#include "common/base/mem.h"

struct kb_sha256_ctx {
    SHA256_CTX state;
};

void kb_sha256(const void *data, size_t len, uint8_t to[KB_SHA256_SIZE])
{
    SHA256_CTX state;
    (void)SHA256_Init(&state);
    (void)SHA256_Update(&state, data, len);
    (void)SHA256_Final(to, &state);
}

kb_sha256_ctx *kb_sha256_new(void)
{
    kb_sha256_ctx *ctx = kb_malloc(sizeof *ctx);
    kb_sha256_reset(ctx);
    return ctx;
}

void kb_sha256_free(kb_sha256_ctx *owned_ctx)
{
    free(owned_ctx);
}

void kb_sha256_free_at(kb_sha256_ctx **at)
{
    kb_sha256_free(*at);
    *at = NULL;
}

void kb_sha256_reset(kb_sha256_ctx *ctx)
{
    (void)SHA256_Init(&ctx->state);
}

void kb_sha256_update(kb_sha256_ctx *ctx, const void *data, size_t len)
{
    (void)SHA256_Update(&ctx->state, data, len);
}

void kb_sha256_final(kb_sha256_ctx *ctx, uint8_t to[KB_SHA256_SIZE])
{
    (void)SHA256_Final(to, &ctx->state);
}

kb_code kb_random_bytes(void *to, size_t len, kb_error *err)
{
    uint8_t *at = to;
    while (len > 0) {
        size_t part = len < 1 << 20 ? len : 1 << 20; /* RAND_bytes counts in int */
        if (RAND_bytes(at, (int)part) != 1)
            return kb_fail(err, KB_ERR_INTERNAL, "no random bytes: %s",
                           ERR_reason_error_string(ERR_get_error()));
        at += part;
        len -= part;
    }
    return KB_OK;
}

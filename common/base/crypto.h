/*
 * crypto - SHA-256 and random bytes, the only user of OpenSSL's libcrypto here.
 *
 * SHA-256 runs once per Kafka record, so its path allocates nothing and cannot fail. Threads: a kb_sha256_ctx
 * belongs to one thread at a time; the rest may be called from any thread.
 */
#ifndef KB_COMMON_BASE_CRYPTO_H
#define KB_COMMON_BASE_CRYPTO_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

#define KB_SHA256_SIZE 32

typedef struct kb_sha256_ctx kb_sha256_ctx;

/* SHA-256 of data. */
void kb_sha256(const void *data, size_t len, uint8_t to[KB_SHA256_SIZE]);

/* An empty incremental hash; owned by the caller. */
kb_sha256_ctx *kb_sha256_new(void) __attribute__((returns_nonnull));
void kb_sha256_free(kb_sha256_ctx *owned_ctx);
/* For a cleanup attribute: frees *at. */
void kb_sha256_free_at(kb_sha256_ctx **at);
/* Makes it empty again; a reused context costs nothing. */
void kb_sha256_reset(kb_sha256_ctx *ctx);
void kb_sha256_update(kb_sha256_ctx *ctx, const void *data, size_t len);
/* The hash of all that was added. Call kb_sha256_reset before the next update. */
void kb_sha256_final(kb_sha256_ctx *ctx, uint8_t to[KB_SHA256_SIZE]);

/* Fills `to` with bytes fit for keys and unguessable names. Fails with KB_ERR_INTERNAL. */
kb_code kb_random_bytes(void *to, size_t len, kb_error *err) KB_CHECK;

#endif

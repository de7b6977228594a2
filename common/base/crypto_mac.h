/*
 * crypto_mac - what signing requests needs beside SHA-256: HMAC, MD5 (Content-MD5 only), RSA signatures.
 *
 * MD5 proves nothing against an attacker; stores ask for it to find damage on the way. Threads: pure
 * functions.
 */
#ifndef KB_COMMON_BASE_CRYPTO_MAC_H
#define KB_COMMON_BASE_CRYPTO_MAC_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"
#include "common/base/crypto.h"
#include "common/base/error.h"
#include "common/base/secret.h"

#define KB_MD5_SIZE 16
/* Base64 of an MD5 and its NUL: the value of a Content-MD5 header. */
#define KB_MD5_TEXT_SIZE 25

/* HMAC-SHA-256 (RFC 2104) of data with a key of any length. */
void kb_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                    uint8_t to[KB_SHA256_SIZE]);

#define KB_SHA1_SIZE 20
/* HMAC-SHA-1: for protocols that know no better. */
void kb_hmac_sha1(const void *key, size_t key_len, const void *data, size_t len, uint8_t to[KB_SHA1_SIZE]);

/* MD5 (RFC 1321) of data. */
void kb_md5(const void *data, size_t len, uint8_t to[KB_MD5_SIZE]);
/* The same in the form of a Content-MD5 header (RFC 1864). */
void kb_md5_text(const void *data, size_t len, char to[KB_MD5_TEXT_SIZE]);
/* The same of several parts, one after the other. */
void kb_md5_text_of(const kb_view *parts, size_t count, char to[KB_MD5_TEXT_SIZE]);

/*
 * RSASSA-PKCS1-v1_5 with SHA-256 (RS256 of RFC 7518) by a private key in PEM (PKCS#8 or PKCS#1, without a
 * password). *ret_signature is owned. Fails with KB_ERR_FORMAT when the key cannot be used; the text never
 * holds any of it.
 */
kb_code kb_rsa_sha256_sign(const kb_secret *pem_key, const void *data, size_t len, uint8_t **ret_signature,
                           size_t *ret_len, kb_error *err) KB_CHECK;

#endif

/*
 * record_digest - the hash of one record and the order-free sum over many.
 *
 * r is the record from its timestamp field on, without its own block (header count reduced) and without bytes
 * after the last header. The record digest is the sum modulo 2^256 of SHA-256(r) as big-endian numbers, so
 * digests of ranges add up. Threads: kb_digest functions are pure; a hasher belongs to one thread at a time.
 */
#ifndef KB_WORKER_SEGMENT_RECORD_DIGEST_H
#define KB_WORKER_SEGMENT_RECORD_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/crypto.h"
#include "common/base/error.h"
#include "worker/segment/segment_format.h"

/* A number of 256 bits, limb[0] the lowest. */
typedef struct kb_digest {
    uint64_t limb[4];
} kb_digest;
#define KB_DIGEST_ZERO {{0, 0, 0, 0}}
#define KB_DIGEST_BYTES 32
#define KB_DIGEST_HEX_SIZE 65

void kb_digest_add(kb_digest *to, const kb_digest *other);
void kb_digest_add_hash(kb_digest *to, const uint8_t hash[KB_SHA256_SIZE]);
bool kb_digest_is_equal(const kb_digest *a, const kb_digest *b);
/* Big-endian, as the index and backup.json have it. */
void kb_digest_store(const kb_digest *digest, uint8_t to[KB_DIGEST_BYTES]);
kb_digest kb_digest_load(const uint8_t from[KB_DIGEST_BYTES]);
/* 64 lower-case digits and a NUL. */
void kb_digest_hex(const kb_digest *digest, char to[KB_DIGEST_HEX_SIZE]);
/* Exactly 64 digits. Fails with KB_ERR_FORMAT. */
kb_code kb_digest_parse(const char *text, size_t len, kb_digest *ret_digest, kb_error *err) KB_CHECK;

typedef struct kb_record_hasher kb_record_hasher;
kb_record_hasher *kb_record_hasher_new(void) __attribute__((returns_nonnull));
void kb_record_hasher_free(kb_record_hasher *owned_hasher);
void kb_record_hasher_free_at(kb_record_hasher **at);
/*
 * SHA-256(r). False when the mode is KB_OWN_BLOCK_PRESENT and the record has none (the hash is then that of
 * the whole record). The record must not have been stripped before.
 */
bool kb_record_hash(kb_record_hasher *hasher, const kb_record_view *record, kb_own_block_mode mode,
                    uint8_t to[KB_SHA256_SIZE]);
/* SHA-256(r) of a record that was never stored (a probe). Fails with KB_RECORD_INVALID, KB_TEMPORARY_FAILURE.
 */
kb_code kb_record_hash_in(kb_record_hasher *hasher, const kb_record_in *record, uint8_t to[KB_SHA256_SIZE],
                          kb_error *err) KB_CHECK;

#endif

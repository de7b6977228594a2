#include "worker/segment/record_digest.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"

static uint64_t load_be64(const uint8_t *from)
{
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return __builtin_bswap64(value);
}

void kb_digest_add(kb_digest *to, const kb_digest *other)
{
    unsigned __int128 sum = 0;
    for (size_t i = 0; i < KB_ARRAY_LEN(to->limb); i++) {
        sum += (unsigned __int128)to->limb[i] + other->limb[i];
        to->limb[i] = (uint64_t)sum;
        sum >>= 64;
    }
}

void kb_digest_add_hash(kb_digest *to, const uint8_t hash[KB_SHA256_SIZE])
{
    kb_digest other = kb_digest_load(hash);
    kb_digest_add(to, &other);
}

bool kb_digest_is_equal(const kb_digest *a, const kb_digest *b)
{
    return memcmp(a->limb, b->limb, sizeof a->limb) == 0;
}

void kb_digest_store(const kb_digest *digest, uint8_t to[KB_DIGEST_BYTES])
{
    for (size_t i = 0; i < KB_ARRAY_LEN(digest->limb); i++)
        to = kb_put_u64(to, __builtin_bswap64(digest->limb[3 - i]));
}

kb_digest kb_digest_load(const uint8_t from[KB_DIGEST_BYTES])
{
    return (kb_digest){{load_be64(from + 24), load_be64(from + 16), load_be64(from + 8), load_be64(from)}};
}

void kb_digest_hex(const kb_digest *digest, char to[KB_DIGEST_HEX_SIZE])
{
    uint8_t bytes[KB_DIGEST_BYTES];
    kb_digest_store(digest, bytes);
    kb_hex_encode(bytes, sizeof bytes, to);
}

kb_code kb_digest_parse(const char *text, size_t len, kb_digest *ret_digest, kb_error *err)
{
    if (len != 2 * KB_DIGEST_BYTES)
        return kb_fail(err, KB_ERR_FORMAT, "a digest has 64 hex digits, not %zu characters", len);
    uint8_t bytes[KB_DIGEST_BYTES];
    kb_code code = kb_hex_decode(text, len, bytes, err);
    if (code != KB_OK)
        return code;
    *ret_digest = kb_digest_load(bytes);
    return KB_OK;
}

/*
 * A record without own block is hashed where it lies, in one call. With one, the header count in its middle
 * is another; a short record is then copied and hashed in one call, since each further call costs more than
 * the copy.
 */
#define SCRATCH_BYTES 4096

struct kb_record_hasher {
    kb_sha256_ctx *sha;
    uint8_t scratch[SCRATCH_BYTES];
};

kb_record_hasher *kb_record_hasher_new(void)
{
    kb_record_hasher *hasher = kb_malloc(sizeof *hasher);
    hasher->sha = kb_sha256_new();
    return hasher;
}

void kb_record_hasher_free(kb_record_hasher *owned_hasher)
{
    if (owned_hasher == NULL)
        return;
    kb_sha256_free(owned_hasher->sha);
    free(owned_hasher);
}

void kb_record_hasher_free_at(kb_record_hasher **at)
{
    kb_record_hasher_free(*at);
    *at = NULL;
}

bool kb_record_hash(kb_record_hasher *hasher, const kb_record_view *record, kb_own_block_mode mode,
                    uint8_t to[KB_SHA256_SIZE])
{
    kb_own_block block = {0, 0};
    if (mode != KB_OWN_BLOCK_NONE)
        block = kb_own_block_find(record);
    size_t headers_at = (size_t)(record->headers - record->raw);
    size_t kept_len = headers_at + record->headers_len - block.len;
    if (block.header_count == 0) {
        kb_sha256(record->raw, kept_len, to);
        return mode != KB_OWN_BLOCK_PRESENT;
    }
    uint8_t count[sizeof(uint16_t)];
    size_t count_at = headers_at - sizeof count;
    kb_put_u16(count, (uint16_t)(record->header_count - block.header_count));
    if (kept_len <= SCRATCH_BYTES) {
        memcpy(hasher->scratch, record->raw, kept_len);
        memcpy(hasher->scratch + count_at, count, sizeof count);
        kb_sha256(hasher->scratch, kept_len, to);
        return true;
    }
    kb_sha256_reset(hasher->sha);
    kb_sha256_update(hasher->sha, record->raw, count_at);
    kb_sha256_update(hasher->sha, count, sizeof count);
    kb_sha256_update(hasher->sha, record->headers, record->headers_len - block.len);
    kb_sha256_final(hasher->sha, to);
    return true;
}

kb_code kb_record_hash_in(kb_record_hasher *hasher, const kb_record_in *record, uint8_t to[KB_SHA256_SIZE],
                          kb_error *err)
{
    size_t size;
    kb_code code = kb_record_encoded_size(record, NULL, &size, err);
    if (code != KB_OK)
        return code;
    KB_AUTOFREE uint8_t *large = NULL;
    uint8_t *bytes = hasher->scratch;
    if (size > SCRATCH_BYTES)
        bytes = large = kb_try_malloc(size);
    if (bytes == NULL)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory to hash a record of %zu bytes", size);
    kb_record_encode(bytes, record, NULL);
    kb_sha256(bytes + KB_RECORD_LEN_BYTES, size - KB_RECORD_LEN_BYTES, to);
    return KB_OK;
}

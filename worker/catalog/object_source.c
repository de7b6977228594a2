#include "worker/catalog/object_source.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"

#define CHUNK_BYTES ((size_t)1 << 20)
/* Enough for the last field in any reasonable white space; its hash is known only when the end is. */
#define TAIL_BYTES ((size_t)512)
#define HEX_BYTES ((size_t)2 * KB_SHA256_SIZE)

struct kb_object_source {
    kb_storage *storage; /* NULL: memory */
    char *key;
    kb_view memory;
    uint64_t size;
    uint64_t at;
    uint8_t *chunk;
    kb_sha256_ctx *plain;
    kb_sha256_ctx *masked; /* all but the tail */
    uint8_t tail[TAIL_BYTES];
    size_t tail_len;
};

static kb_object_source *new_source(void)
{
    kb_object_source *source = kb_calloc(1, sizeof *source);
    source->plain = kb_sha256_new();
    source->masked = kb_sha256_new();
    return source;
}

kb_code kb_object_source_open(kb_storage *storage, const char *key, size_t max_bytes,
                              kb_object_source **ret_source, kb_error *err)
{
    kb_object_info info;
    kb_code code = kb_storage_head(storage, key, &info, err);
    if (code != KB_OK)
        return code;
    if (info.size_bytes > max_bytes)
        return kb_fail(err, KB_ERR_TOO_LARGE, "'%s' has %llu bytes, more than the limit of %zu", key,
                       (unsigned long long)info.size_bytes, max_bytes);
    kb_object_source *source = new_source();
    source->storage = storage;
    source->key = kb_strdup(key);
    source->size = info.size_bytes;
    source->chunk = kb_malloc(CHUNK_BYTES);
    *ret_source = source;
    return KB_OK;
}

kb_object_source *kb_object_source_of(kb_view text)
{
    kb_object_source *source = new_source();
    source->memory = text;
    source->size = text.len;
    return source;
}

void kb_object_source_free(kb_object_source *owned_source)
{
    if (owned_source == NULL)
        return;
    kb_sha256_free(owned_source->plain);
    kb_sha256_free(owned_source->masked);
    free(owned_source->chunk);
    free(owned_source->key);
    free(owned_source);
}

void kb_object_source_free_at(kb_object_source **at)
{
    kb_object_source_free(*at);
    *at = NULL;
}

/* Hashes a chunk, but keeps back the last TAIL_BYTES of all that came so far. */
static void hash_chunk(kb_object_source *source, const uint8_t *data, size_t len)
{
    kb_sha256_update(source->plain, data, len);
    if (len >= TAIL_BYTES) {
        kb_sha256_update(source->masked, source->tail, source->tail_len);
        kb_sha256_update(source->masked, data, len - TAIL_BYTES);
        memcpy(source->tail, data + len - TAIL_BYTES, TAIL_BYTES);
        source->tail_len = TAIL_BYTES;
        return;
    }
    size_t excess = source->tail_len + len > TAIL_BYTES ? source->tail_len + len - TAIL_BYTES : 0;
    kb_sha256_update(source->masked, source->tail, excess);
    memmove(source->tail, source->tail + excess, source->tail_len - excess);
    source->tail_len -= excess;
    memcpy(source->tail + source->tail_len, data, len);
    source->tail_len += len;
}

kb_code kb_object_source_next(void *ctx, kb_view *ret_chunk, kb_error *err)
{
    kb_object_source *source = ctx;
    uint64_t left = source->size - source->at;
    size_t len = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
    if (len == 0) {
        *ret_chunk = kb_view_of("", 0);
        return KB_OK;
    }
    const uint8_t *data = source->chunk;
    if (source->storage == NULL) {
        data = source->memory.data + source->at;
    } else {
        kb_code code =
            kb_storage_get_range(source->storage, source->key, source->at, source->chunk, len, err);
        if (code != KB_OK)
            return code;
    }
    source->at += len;
    hash_chunk(source, data, len);
    *ret_chunk = kb_view_of(data, len);
    return KB_OK;
}

kb_code kb_object_source_drain(kb_object_source *source, kb_error *err)
{
    kb_view chunk = {NULL, 1};
    kb_code code = KB_OK;
    while (code == KB_OK && chunk.len > 0)
        code = kb_object_source_next(source, &chunk, err);
    return code;
}

uint64_t kb_object_source_size(const kb_object_source *source)
{
    return source->size;
}

void kb_object_source_sha256(kb_object_source *source, uint8_t to[KB_SHA256_SIZE])
{
    kb_sha256_final(source->plain, to);
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Steps back over white space and then over exactly `text`; false when it is not there. */
static bool step_back(const uint8_t *tail, size_t *at, const char *text)
{
    while (*at > 0 && is_space(tail[*at - 1]))
        (*at)--;
    size_t len = strlen(text);
    if (*at < len || memcmp(tail + *at - len, text, len) != 0)
        return false;
    *at -= len;
    return true;
}

/* Where the 64 digits of the last field begin in the end of a text. */
static bool find_digits(const uint8_t *tail, size_t len, size_t *ret_at)
{
    size_t at = len;
    if (!step_back(tail, &at, "}") || !step_back(tail, &at, "\"") || at < HEX_BYTES + 1)
        return false;
    at -= HEX_BYTES;
    size_t digits = at;
    if (tail[--at] != '"' || !step_back(tail, &at, ":") || !step_back(tail, &at, "\"sha256\""))
        return false;
    *ret_at = digits;
    return true;
}

kb_code kb_object_source_check_self_hash(kb_object_source *source, kb_error *err)
{
    size_t at = 0;
    if (!find_digits(source->tail, source->tail_len, &at))
        return kb_fail(err, KB_ERR_FORMAT, "the last field is not \"sha256\" with 64 digits");
    char stored[HEX_BYTES];
    memcpy(stored, source->tail + at, HEX_BYTES);
    memset(source->tail + at, '0', HEX_BYTES);
    kb_sha256_update(source->masked, source->tail, source->tail_len);
    uint8_t hash[KB_SHA256_SIZE];
    kb_sha256_final(source->masked, hash);
    char expected[HEX_BYTES + 1];
    kb_hex_encode(hash, sizeof hash, expected);
    if (memcmp(stored, expected, HEX_BYTES) != 0)
        return kb_fail(err, KB_ERR_FORMAT, "its sha256 does not hold: the content was changed or damaged");
    return KB_OK;
}

kb_code kb_self_hash_write(char *text, size_t len, kb_error *err)
{
    size_t skip = len > TAIL_BYTES ? len - TAIL_BYTES : 0;
    size_t at = 0;
    if (!find_digits((const uint8_t *)text + skip, len - skip, &at))
        return kb_fail(err, KB_ERR_INTERNAL, "a JSON text to be hashed has no \"sha256\" at its end");
    memset(text + skip + at, '0', HEX_BYTES);
    uint8_t hash[KB_SHA256_SIZE];
    kb_sha256(text, len, hash);
    char digits[HEX_BYTES + 1];
    kb_hex_encode(hash, sizeof hash, digits);
    memcpy(text + skip + at, digits, HEX_BYTES);
    return KB_OK;
}

kb_code kb_self_hash_check(const char *text, size_t len, kb_error *err)
{
    __attribute__((cleanup(kb_object_source_free_at))) kb_object_source *source =
        kb_object_source_of(kb_view_of(text, len));
    kb_code code = kb_object_source_drain(source, err);
    return code == KB_OK ? kb_object_source_check_self_hash(source, err) : code;
}

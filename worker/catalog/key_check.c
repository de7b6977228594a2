#include "worker/catalog/key_check.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

#define KEY_HASH_BYTES 16

typedef struct key_hashes {
    uint8_t (*hashes)[KEY_HASH_BYTES];
    size_t count;
    size_t capacity;
} key_hashes;

static void key_hashes_done(key_hashes *keys)
{
    free(keys->hashes);
}

static void hash_key(const char *key, uint8_t to[KEY_HASH_BYTES])
{
    uint8_t hash[KB_SHA256_SIZE];
    kb_sha256(key, strlen(key), hash);
    memcpy(to, hash, KEY_HASH_BYTES);
}

/* Calls fn for each key until it returns true. */
typedef bool (*key_fn)(void *ctx, const char *key);

static bool walk_partition(const kb_backup *backup, const kb_topic_entry *topic,
                           const kb_partition_entry *partition, key_fn fn, void *ctx)
{
    for (size_t i = 0; i < partition->segment_count; i++) {
        KB_AUTOFREE char *key = kb_segment_key(backup, topic, partition, &partition->segments[i]);
        if (fn(ctx, key))
            return true;
    }
    return false;
}

static void walk_keys(const kb_backup *backup, key_fn fn, void *ctx)
{
    for (size_t t = 0; t < backup->topic_count; t++)
        for (size_t p = 0; p < backup->topics[t].listed_count; p++)
            if (walk_partition(backup, &backup->topics[t], &backup->topics[t].partitions[p], fn, ctx))
                return;
}

static bool add_hash(void *ctx, const char *key)
{
    key_hashes *keys = ctx;
    keys->hashes = kb_grow(keys->hashes, keys->count, &keys->capacity, sizeof *keys->hashes);
    hash_key(key, keys->hashes[keys->count++]);
    return false;
}

typedef struct key_search {
    const uint8_t *hash;
    char *found;
} key_search;

static bool is_searched(void *ctx, const char *key)
{
    key_search *search = ctx;
    uint8_t hash[KEY_HASH_BYTES];
    hash_key(key, hash);
    if (memcmp(hash, search->hash, KEY_HASH_BYTES) != 0)
        return false;
    search->found = kb_strdup(key);
    return true;
}

static int compare_hashes(const void *a, const void *b)
{
    return memcmp(a, b, KEY_HASH_BYTES);
}

kb_code kb_backup_check_keys(const kb_backup *backup, kb_error *err)
{
    key_hashes keys KB_CLEANUP(key_hashes_done) = {NULL, 0, 0};
    walk_keys(backup, add_hash, &keys);
    if (keys.count > 1)
        qsort(keys.hashes, keys.count, sizeof *keys.hashes, compare_hashes);
    for (size_t i = 1; i < keys.count; i++) {
        if (compare_hashes(keys.hashes[i - 1], keys.hashes[i]) != 0)
            continue;
        key_search search = {keys.hashes[i], NULL};
        walk_keys(backup, is_searched, &search);
        KB_AUTOFREE char *key = search.found;
        return kb_fail(err, KB_ERR_FORMAT, "key '%s' stands there twice", key != NULL ? key : "?");
    }
    return KB_OK;
}

#include "common/base/map.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/base/mem.h"

/*
 * Entries lie in an array in the order of their first put; `slots` is an open-addressed table of their
 * positions + 1. A removed entry keeps its place (key NULL) until the next rebuild, and its slot too, so that
 * probing goes on past it.
 */
typedef struct entry {
    char *key; /* owned; NULL when removed */
    size_t key_len;
    uint64_t hash;
    void *value;
} entry;

struct kb_map {
    void (*value_free)(void *owned_value);
    uint64_t secret[2];
    entry *entries;
    size_t entry_count; /* with removed ones */
    size_t entry_capacity;
    size_t live_count;
    uint32_t *slots;
    size_t slot_count; /* a power of two, 0 before the first put */
};

static uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

/* SipHash-1-3: short keys fast, and no way to make keys collide without the secret. */
static uint64_t hash_key(const kb_map *map, const void *key, size_t len)
{
    uint64_t v[4] = {map->secret[0] ^ 0x736f6d6570736575U, map->secret[1] ^ 0x646f72616e646f6dU,
                     map->secret[0] ^ 0x6c7967656e657261U, map->secret[1] ^ 0x7465646279746573U};
    const uint8_t *at = key;
    uint64_t last = (uint64_t)len << 56;
    for (; len >= 8; len -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    for (size_t i = 0; i < len; i++)
        last |= (uint64_t)at[i] << (8 * i);
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

kb_map *kb_map_new(void (*value_free)(void *owned_value))
{
    kb_map *map = kb_calloc(1, sizeof *map);
    map->value_free = value_free;
    /* Without random bytes only the protection against chosen keys is lost. */
    (void)!getrandom(map->secret, sizeof map->secret, GRND_NONBLOCK);
    return map;
}

static void free_value(const kb_map *map, void *owned_value)
{
    if (map->value_free != NULL && owned_value != NULL)
        map->value_free(owned_value);
}

void kb_map_clear(kb_map *map)
{
    for (size_t i = 0; i < map->entry_count; i++) {
        entry *e = &map->entries[i];
        if (e->key == NULL)
            continue;
        free(e->key);
        free_value(map, e->value);
    }
    map->entry_count = 0;
    map->live_count = 0;
    if (map->slot_count > 0)
        memset(map->slots, 0, map->slot_count * sizeof *map->slots);
}

void kb_map_free(kb_map *owned_map)
{
    if (owned_map == NULL)
        return;
    kb_map_clear(owned_map);
    free(owned_map->entries);
    free(owned_map->slots);
    free(owned_map);
}

void kb_map_free_at(kb_map **at)
{
    kb_map_free(*at);
    *at = NULL;
}

size_t kb_map_count(const kb_map *map)
{
    return map->live_count;
}

static entry *find(const kb_map *map, const void *key, size_t key_len, uint64_t hash)
{
    if (map->live_count == 0)
        return NULL;
    size_t mask = map->slot_count - 1;
    for (size_t slot = (size_t)hash & mask; map->slots[slot] != 0; slot = (slot + 1) & mask) {
        entry *e = &map->entries[map->slots[slot] - 1];
        if (e->key != NULL && e->hash == hash && e->key_len == key_len &&
            (key_len == 0 || memcmp(e->key, key, key_len) == 0))
            return e;
    }
    return NULL;
}

void *kb_map_get(const kb_map *map, const void *key, size_t key_len)
{
    const entry *e = find(map, key, key_len, hash_key(map, key, key_len));
    return e != NULL ? e->value : NULL;
}

bool kb_map_has(const kb_map *map, const void *key, size_t key_len)
{
    return find(map, key, key_len, hash_key(map, key, key_len)) != NULL;
}

static void put_slot(kb_map *map, size_t position)
{
    size_t mask = map->slot_count - 1;
    size_t slot = (size_t)map->entries[position].hash & mask;
    while (map->slots[slot] != 0)
        slot = (slot + 1) & mask;
    map->slots[slot] = (uint32_t)(position + 1);
}

/* Drops removed entries and makes the table so large that it is at most half full for a while. */
static void rebuild(kb_map *map)
{
    size_t kept = 0;
    for (size_t i = 0; i < map->entry_count; i++) {
        if (map->entries[i].key != NULL)
            map->entries[kept++] = map->entries[i];
    }
    map->entry_count = kept;
    size_t wanted = 16;
    while (wanted < (kept + 1) * 3)
        wanted *= 2;
    if (wanted > UINT32_MAX) /* positions are 32 bits wide */
        kb_out_of_memory();
    free(map->slots);
    map->slots = kb_calloc(wanted, sizeof *map->slots);
    map->slot_count = wanted;
    for (size_t i = 0; i < kept; i++)
        put_slot(map, i);
}

void kb_map_put(kb_map *map, const void *key, size_t key_len, void *owned_value)
{
    uint64_t hash = hash_key(map, key, key_len);
    entry *old = find(map, key, key_len, hash);
    if (old != NULL) {
        void *replaced = old->value;
        old->value = owned_value;
        if (replaced != owned_value)
            free_value(map, replaced);
        return;
    }
    if ((map->entry_count + 1) * 3 > map->slot_count * 2)
        rebuild(map);
    map->entries = kb_grow(map->entries, map->entry_count, &map->entry_capacity, sizeof *map->entries);
    char *copy = kb_strndup(key_len > 0 ? key : "", key_len);
    map->entries[map->entry_count] = (entry){copy, key_len, hash, owned_value};
    put_slot(map, map->entry_count);
    map->entry_count++;
    map->live_count++;
}

bool kb_map_remove(kb_map *map, const void *key, size_t key_len)
{
    entry *e = find(map, key, key_len, hash_key(map, key, key_len));
    if (e == NULL)
        return false;
    char *owned_key = KB_TAKE(e->key);
    void *owned_value = KB_TAKE(e->value);
    map->live_count--;
    free(owned_key);
    free_value(map, owned_value);
    return true;
}

void *kb_map_gets(const kb_map *map, const char *key)
{
    return kb_map_get(map, key, strlen(key));
}

void kb_map_puts(kb_map *map, const char *key, void *owned_value)
{
    kb_map_put(map, key, strlen(key), owned_value);
}

bool kb_map_removes(kb_map *map, const char *key)
{
    return kb_map_remove(map, key, strlen(key));
}

bool kb_map_next(const kb_map *map, kb_map_iter *iter)
{
    while (iter->next < map->entry_count) {
        const entry *e = &map->entries[iter->next++];
        if (e->key == NULL)
            continue;
        iter->key = e->key;
        iter->key_len = e->key_len;
        iter->value = e->value;
        return true;
    }
    return false;
}

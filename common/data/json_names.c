#include "common/data/json_names.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

#define KB_FIRST_SLOTS 64
#define KB_KEPT_SLOTS 4096

static uint64_t fold(uint64_t x, uint64_t y)
{
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)x * y;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t load_word(const uint8_t *from, size_t len)
{
    uint64_t word = 0;
    memcpy(&word, from, len < sizeof word ? len : sizeof word);
    return word;
}

static kb_json_hash hash_name(const uint64_t key[2], kb_view name)
{
    /* Odd constants from the binary expansion of the golden ratio and of the square root of 2. */
    const uint64_t k1 = 0x9e3779b97f4a7c15u, k2 = 0x6a09e667f3bcc909u;
    uint64_t a = key[0] ^ name.len;
    uint64_t b = key[1] + name.len;
    const uint8_t *at = name.data;
    size_t left = name.len;
    while (left > 0) {
        uint64_t word = load_word(at, left);
        a = fold(a ^ word, k1 ^ key[1]);
        b = fold((b << 31 | b >> 33) + word, k2 ^ key[0]) + word;
        size_t step = left < sizeof word ? left : sizeof word;
        at += step;
        left -= step;
    }
    return (kb_json_hash){fold(a ^ k2, b ^ k1) | 1, fold(b ^ key[0], k1) ^ a};
}

static bool is_same(const kb_json_hash *x, const kb_json_hash *y)
{
    return x->a == y->a && x->b == y->b;
}

/* The slot of hash: where it stands, or the free one where it belongs. */
static kb_json_hash *find_slot(kb_json_hash *table, size_t slots, const kb_json_hash *hash)
{
    size_t at = (size_t)(hash->b & (slots - 1));
    while (table[at].a != 0 && !is_same(&table[at], hash))
        at = (at + 1) & (slots - 1);
    return &table[at];
}

/* Moves the old entries into a table of `slots`. */
static bool rehash(kb_json_names *names, const kb_json_hash *old, size_t old_count, size_t slots)
{
    kb_json_hash *table = names->table;
    bool is_new = slots > names->allocated || old == table;
    if (is_new) {
        table = kb_try_malloc(slots * sizeof *table);
        if (table == NULL)
            return false;
    }
    memset(table, 0, slots * sizeof *table);
    for (size_t i = 0; i < old_count; i++) {
        if (old[i].a != 0)
            *find_slot(table, slots, &old[i]) = old[i];
    }
    if (is_new) {
        free(names->table);
        names->allocated = slots;
    }
    names->table = table;
    names->slots = slots;
    return true;
}

static kb_json_added add_to_few(kb_json_names *names, const kb_json_hash *hash)
{
    for (size_t i = 0; i < names->count; i++) {
        if (is_same(&names->few[i], hash))
            return KB_JSON_DUPLICATE;
    }
    names->few[names->count++] = *hash;
    return KB_JSON_ADDED;
}

kb_json_added kb_json_names_add(kb_json_names *names, const uint64_t key[2], kb_view name)
{
    kb_json_hash hash = hash_name(key, name);
    if (names->slots == 0 && names->count < KB_JSON_NAMES_INLINE)
        return add_to_few(names, &hash);
    if (names->slots == 0 && !rehash(names, names->few, names->count, KB_FIRST_SLOTS))
        return KB_JSON_NO_MEMORY;
    if (names->count >= names->slots / 2 && !rehash(names, names->table, names->slots, names->slots * 2))
        return KB_JSON_NO_MEMORY;
    kb_json_hash *slot = find_slot(names->table, names->slots, &hash);
    if (slot->a != 0)
        return KB_JSON_DUPLICATE;
    *slot = hash;
    names->count++;
    return KB_JSON_ADDED;
}

void kb_json_names_clear(kb_json_names *names)
{
    names->count = 0;
    names->slots = 0;
    if (names->allocated > KB_KEPT_SLOTS) {
        free(names->table);
        names->table = NULL;
        names->allocated = 0;
    }
}

void kb_json_names_done(kb_json_names *names)
{
    free(names->table);
    memset(names, 0, sizeof *names);
}

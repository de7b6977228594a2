#include "worker/restore/route.h"

#include <string.h>

#define KB_MURMUR_SEED 0x9747b28cu
#define KB_MURMUR_M 0x5bd1e995u
#define KB_MURMUR_R 24

int32_t kb_murmur2(const void *key, size_t len)
{
    const uint8_t *at = key;
    uint32_t h = KB_MURMUR_SEED ^ (uint32_t)len;
    size_t words = len / 4;
    for (size_t i = 0; i < words; i++, at += 4) {
        uint32_t k;
        memcpy(&k, at, sizeof k);
        k *= KB_MURMUR_M;
        k ^= k >> KB_MURMUR_R;
        k *= KB_MURMUR_M;
        h *= KB_MURMUR_M;
        h ^= k;
    }
    size_t left = len % 4;
    if (left > 2)
        h ^= (uint32_t)at[2] << 16;
    if (left > 1)
        h ^= (uint32_t)at[1] << 8;
    if (left > 0) {
        h ^= at[0];
        h *= KB_MURMUR_M;
    }
    h ^= h >> 13;
    h *= KB_MURMUR_M;
    h ^= h >> 15;
    return (int32_t)h;
}

size_t kb_route_pick(kb_restore_route route, size_t target_count, const void *key, int32_t key_len,
                     kb_route_state *state)
{
    if (route == KB_ROUTE_FIXED)
        return 0;
    if (route == KB_ROUTE_AUTOMATIC || key_len < 0)
        return (size_t)(state->turn++ % target_count);
    uint32_t hash = (uint32_t)kb_murmur2(key, (size_t)key_len) & 0x7fffffffu;
    return hash % target_count;
}

#include "common/base/crc.h"

#include <zlib.h>

uint32_t kb_crc32(uint32_t seed, const void *data, size_t len)
{
    /* zlib answers 0 to a null pointer, whatever the seed is. */
    if (len == 0)
        return seed;
    return (uint32_t)crc32_z(seed, data, len);
}

uint32_t kb_crc32_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b)
{
    return (uint32_t)crc32_combine(crc_a, crc_b, (z_off_t)len_b);
}

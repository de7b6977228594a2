/*
 * crc - CRC-32 (IEEE 802.3, the one of gzip and zip), the only user of zlib.
 *
 * Threads: pure functions.
 */
#ifndef KB_COMMON_BASE_CRC_H
#define KB_COMMON_BASE_CRC_H

#include <stddef.h>
#include <stdint.h>

/* The CRC of what `seed` covers followed by data; seed 0 starts. */
uint32_t kb_crc32(uint32_t seed, const void *data, size_t len);
/* The CRC of A followed by B, from the CRC of each and the length of B in bytes. */
uint32_t kb_crc32_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b);

#endif

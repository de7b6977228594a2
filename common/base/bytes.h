/*
 * bytes - borrowed byte ranges and bounded little-endian reading and writing.
 *
 * kb_view is a pointer and a length that belong to somebody else. kb_cursor reads from a view; a read beyond
 * the end sets `failed`, returns zeros and stays failed, so that a parser checks once per structure.
 */
#ifndef KB_COMMON_BASE_BYTES_H
#define KB_COMMON_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct kb_view {
    const uint8_t *data;
    size_t len;
} kb_view;

typedef struct kb_cursor {
    const uint8_t *at;
    size_t left;
    bool failed;
} kb_cursor;

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the formats are read and written in place");

static inline kb_view kb_view_of(const void *data, size_t len)
{
    return (kb_view){data, len};
}

static inline kb_cursor kb_cursor_of(const void *data, size_t len)
{
    return (kb_cursor){data, len, false};
}

/* The next len bytes, or NULL (and failed) when fewer are left. */
static inline const uint8_t *kb_cursor_take(kb_cursor *c, size_t len)
{
    if (c->failed || len > c->left) {
        c->failed = true;
        return NULL;
    }
    const uint8_t *p = c->at;
    c->at += len;
    c->left -= len;
    return p;
}

#define KB_CURSOR_READ(name, type) \
    static inline type kb_cursor_##name(kb_cursor *c) \
    { \
        type value = 0; \
        const uint8_t *p = kb_cursor_take(c, sizeof value); \
        if (p != NULL) \
            memcpy(&value, p, sizeof value); \
        return value; \
    }
KB_CURSOR_READ(u8, uint8_t)
KB_CURSOR_READ(u16, uint16_t)
KB_CURSOR_READ(u32, uint32_t)
KB_CURSOR_READ(u64, uint64_t)
KB_CURSOR_READ(i32, int32_t)
KB_CURSOR_READ(i64, int64_t)
#undef KB_CURSOR_READ

/* Writers for memory whose size was checked by the caller; each returns the position after what it wrote. */
#define KB_PUT(name, type) \
    static inline uint8_t *kb_put_##name(uint8_t *to, type value) \
    { \
        memcpy(to, &value, sizeof value); \
        return to + sizeof value; \
    }
KB_PUT(u16, uint16_t)
KB_PUT(u32, uint32_t)
KB_PUT(u64, uint64_t)
KB_PUT(i32, int32_t)
KB_PUT(i64, int64_t)
#undef KB_PUT

static inline uint8_t *kb_put_bytes(uint8_t *to, const void *bytes, size_t len)
{
    if (len > 0)
        memcpy(to, bytes, len);
    return to + len;
}

#endif

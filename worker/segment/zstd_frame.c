#include "worker/segment/zstd_frame.h"

#include "common/base/bytes.h"

#define FRAME_MAGIC 0xFD2FB528u
#define SKIPPABLE_MAGIC 0x184D2A50u
#define SKIPPABLE_MASK 0xFFFFFFF0u

static uint64_t window_of(uint8_t descriptor)
{
    uint64_t base = (uint64_t)1 << (10 + (descriptor >> 3));
    return base + base / 8 * (descriptor & 7);
}

/* A little-endian number of 0, 1, 2, 4 or 8 bytes. */
static uint64_t take_number(kb_cursor *c, size_t len)
{
    uint64_t number = 0;
    const uint8_t *from = kb_cursor_take(c, len);
    if (from != NULL)
        memcpy(&number, from, len);
    return number;
}

static kb_code decode_data_head(kb_cursor c, kb_zstd_head *head, kb_error *err)
{
    static const uint8_t dictionary_lens[] = {0, 1, 2, 4};
    static const uint8_t size_lens[] = {0, 2, 4, 8};
    uint8_t descriptor = kb_cursor_u8(&c);
    bool is_single = (descriptor & 0x20) != 0;
    size_t size_len = size_lens[descriptor >> 6];
    if (is_single && size_len == 0)
        size_len = 1;
    if (!is_single)
        head->window_size = window_of(kb_cursor_u8(&c));
    uint64_t dictionary = take_number(&c, dictionary_lens[descriptor & 3]);
    head->has_content_size = size_len > 0;
    head->content_size = take_number(&c, size_len);
    if (c.failed)
        return kb_fail(err, KB_ERR_FORMAT, "zstd frame is cut off in its head");
    if (size_len == 2)
        head->content_size += 256;
    if (is_single)
        head->window_size = head->content_size;
    if ((descriptor & 0x08) != 0)
        return kb_fail(err, KB_ERR_FORMAT, "zstd frame has a reserved bit set");
    if (dictionary != 0)
        return kb_fail(err, KB_ERR_FORMAT, "zstd frame needs dictionary %llu",
                       (unsigned long long)dictionary);
    if (head->window_size > (uint64_t)1 << KB_ZSTD_WINDOW_LOG_MAX)
        return kb_fail(err, KB_ERR_FORMAT, "zstd frame needs a window of %llu bytes, more than 2^%d",
                       (unsigned long long)head->window_size, KB_ZSTD_WINDOW_LOG_MAX);
    return KB_OK;
}

kb_code kb_zstd_head_decode(const uint8_t *data, size_t len, kb_zstd_head *ret_head, kb_error *err)
{
    kb_cursor c = kb_cursor_of(data, len);
    kb_zstd_head head = {0};
    uint32_t magic = kb_cursor_u32(&c);
    if (!c.failed && (magic & SKIPPABLE_MASK) == SKIPPABLE_MAGIC) {
        head.is_skippable = true;
        head.skippable_len = kb_cursor_u32(&c);
        if (c.failed)
            return kb_fail(err, KB_ERR_FORMAT, "skippable zstd frame is cut off in its head");
        *ret_head = head;
        return KB_OK;
    }
    if (c.failed || magic != FRAME_MAGIC)
        return kb_fail(err, KB_ERR_FORMAT, "has bytes that are no zstd frame");
    kb_code code = decode_data_head(c, &head, err);
    if (code != KB_OK)
        return code;
    *ret_head = head;
    return KB_OK;
}

/*
 * zstd_frame - looks at the head of a zstd frame before a decoder sees it. Pure.
 *
 * libzstd takes more than a segment may hold (frames of its old formats, dictionaries, any window in one-shot
 * decoding), so its users here ask first. Source: RFC 8878, 3.1.1 and 3.1.2.
 */
#ifndef KB_WORKER_SEGMENT_ZSTD_FRAME_H
#define KB_WORKER_SEGMENT_ZSTD_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

#define KB_ZSTD_WINDOW_LOG_MAX 27
/* Magic, descriptor, window, dictionary id and content size at their longest. */
#define KB_ZSTD_HEAD_MAX_BYTES 18

typedef struct kb_zstd_head {
    bool is_skippable;
    uint32_t skippable_len; /* bytes after the 8 of a skippable frame's head */
    bool has_content_size;
    uint64_t content_size;
    uint64_t window_size;
} kb_zstd_head;

/*
 * Decodes the head of the frame that `data` starts with; data holds KB_ZSTD_HEAD_MAX_BYTES or all that is
 * left. Fails with KB_ERR_FORMAT: no frame, cut off, reserved bit, dictionary, window above 2^27.
 */
kb_code kb_zstd_head_decode(const uint8_t *data, size_t len, kb_zstd_head *ret_head, kb_error *err) KB_CHECK;

#endif

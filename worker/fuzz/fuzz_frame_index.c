/* The frame index: as it is, and with its lengths and CRC made right. What is accepted must encode again. */
#include <stdlib.h>
#include <string.h>

#include "common/base/crc.h"
#include "common/base/mem.h"
#include "worker/segment/frame_index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_decode(const uint8_t *frame, size_t len)
{
    KB_AUTO_ERROR(err);
    kb_frame_index index = {0};
    if (kb_frame_index_decode(frame, len, &index, &err) != KB_OK)
        return;
    size_t encoded_len = kb_frame_index_encoded_size(index.entry_count);
    KB_AUTOFREE uint8_t *encoded = kb_malloc(encoded_len);
    kb_frame_index_encode(&index, encoded);
    kb_frame_index again = {0};
    if (encoded_len > len || kb_frame_index_decode(encoded, encoded_len, &again, &err) != KB_OK ||
        again.record_count != index.record_count || again.to != index.to)
        abort();
    const kb_segment_header header = {KB_CODEC_ZSTD, index.record_count, index.from, index.to};
    (void)!kb_frame_index_check(&index, &header, index.data_bytes + len, len, &err);
    kb_frame_index_done(&index);
    kb_frame_index_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_decode(data, size);
    if (size < KB_INDEX_FRAME_HEAD_BYTES + KB_INDEX_TAIL_BYTES)
        return 0;
    KB_AUTOFREE uint8_t *copy = kb_malloc(size);
    memcpy(copy, data, size);
    uint32_t payload_len = (uint32_t)(size - KB_INDEX_FRAME_HEAD_BYTES);
    uint8_t *tail = copy + size - KB_INDEX_TAIL_BYTES;
    kb_put_u32(copy + 4, payload_len);
    uint8_t *at = kb_put_u32(tail, payload_len);
    kb_put_u32(at, kb_crc32(0, copy + KB_INDEX_FRAME_HEAD_BYTES, payload_len - KB_INDEX_TAIL_BYTES));
    try_decode(copy, size);
    return 0;
}

#include "worker/segment/index_load.h"

/* Finds the index frame from the end. *ret_len is 0 when there is none. */
static kb_code find_index(kb_body *body, uint64_t size, size_t *ret_len, kb_error *err)
{
    *ret_len = 0;
    if (size < KB_SEGMENT_MIN_BYTES + kb_frame_index_encoded_size(0))
        return KB_OK;
    uint8_t tail[KB_INDEX_TAIL_BYTES];
    kb_code code = kb_body_copy(body, size - KB_SEGMENT_FOOTER_BYTES - sizeof tail, sizeof tail, tail, err);
    uint32_t payload_len;
    if (code != KB_OK || !kb_frame_index_tail(tail, &payload_len))
        return code;
    if (payload_len > KB_INDEX_MAX_BYTES ||
        payload_len > size - KB_SEGMENT_MIN_BYTES - KB_INDEX_FRAME_HEAD_BYTES)
        return kb_fail(err, KB_ERR_FORMAT, "frame index states a length of %u bytes", payload_len);
    *ret_len = KB_INDEX_FRAME_HEAD_BYTES + (size_t)payload_len;
    return KB_OK;
}

kb_code kb_index_load(kb_body *body, const kb_segment_header *header, bool *ret_present,
                      kb_frame_index *ret_index, kb_error *err)
{
    uint64_t size = body->source.size;
    size_t len = 0;
    kb_code code = KB_OK;
    *ret_present = false;
    if (header->codec == KB_CODEC_ZSTD)
        code = find_index(body, size, &len, err);
    if (code != KB_OK || len == 0)
        return code;
    uint64_t end = size - KB_SEGMENT_FOOTER_BYTES;
    kb_body_seek(body, end - len, end);
    kb_view view;
    code = kb_body_peek(body, len, &view, err);
    if (code == KB_OK)
        code = kb_frame_index_decode(view.data, len, ret_index, err);
    if (code != KB_OK)
        return code;
    code = kb_frame_index_check(ret_index, header, end - KB_SEGMENT_HEADER_BYTES, len, err);
    if (code != KB_OK) {
        kb_frame_index_done(ret_index);
        return code;
    }
    *ret_present = true;
    return KB_OK;
}

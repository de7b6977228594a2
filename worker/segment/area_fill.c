#include "worker/segment/area_fill.h"

#include <stdlib.h>

#include "common/base/mem.h"

#define AREA_BYTES KB_FRAME_TARGET_BYTES
/* An area that is this much larger than needed, after a great record, is given back. */
#define AREA_KEEP_BYTES ((size_t)4 << 20)

void kb_area_fill_start(kb_area_fill *fill, size_t max_area_bytes)
{
    fill->max_area_bytes = max_area_bytes;
    fill->is_ended = false;
    fill->carry_len = 0;
    fill->has_pending = false;
}

void kb_area_fill_done(kb_area_fill *fill)
{
    free(fill->carry);
    *fill = (kb_area_fill){0};
}

kb_code kb_area_reserve(kb_area *area, size_t needed, size_t max_bytes, kb_error *err)
{
    if (needed > max_bytes)
        return kb_fail(err, KB_MEMORY_TOO_SMALL,
                       "%zu bytes of records must be held at once, the memory limit leaves %zu; hint: raise "
                       "limits.memory_bytes",
                       needed, max_bytes);
    if (area->len == 0 && area->capacity > AREA_KEEP_BYTES && needed < area->capacity / 4) {
        kb_free_at(&area->data);
        area->capacity = 0;
    }
    if (needed <= area->capacity)
        return KB_OK;
    uint8_t *moved = area->len > 0 ? realloc(area->data, needed) : kb_try_malloc(needed);
    if (moved == NULL)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for %zu bytes of records", needed);
    if (area->len == 0)
        free(area->data);
    area->data = moved;
    area->capacity = needed;
    return KB_OK;
}

/* ---- from bytes ---- */

/*
 * Bytes of whole records at the beginning. *ret_needed: the size of the first incomplete one as far as it is
 * known. A length that cannot be ends the search and counts as complete.
 */
static size_t whole_bytes(const uint8_t *data, size_t len, size_t *ret_needed)
{
    size_t at = 0;
    *ret_needed = KB_RECORD_LEN_BYTES;
    while (len - at >= KB_RECORD_LEN_BYTES) {
        kb_cursor c = kb_cursor_of(data + at, KB_RECORD_LEN_BYTES);
        uint32_t total_len = kb_cursor_u32(&c);
        if (total_len < KB_RECORD_MIN_BYTES || total_len > KB_RECORD_MAX_BYTES)
            return len;
        if (len - at - KB_RECORD_LEN_BYTES < total_len) {
            *ret_needed = KB_RECORD_LEN_BYTES + (size_t)total_len;
            break;
        }
        at += KB_RECORD_LEN_BYTES + total_len;
    }
    return at;
}

static kb_code read_up_to(kb_area_fill *fill, kb_area_stream *stream, kb_area *area, size_t limit,
                          kb_error *err)
{
    while (!fill->is_ended && area->len < limit) {
        size_t len = 0;
        kb_code code = kb_area_stream_read(stream, area->data + area->len, limit - area->len, &len, err);
        if (code != KB_OK)
            return code;
        fill->is_ended = len == 0;
        area->len += len;
    }
    return KB_OK;
}

static kb_code keep_carry(kb_area_fill *fill, const uint8_t *data, size_t len, kb_error *err)
{
    fill->carry_len = len;
    if (len == 0)
        return KB_OK;
    if (len > fill->carry_capacity) {
        kb_free_at(&fill->carry);
        fill->carry_capacity = 0;
        fill->carry = kb_try_malloc(len);
        if (fill->carry == NULL)
            return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for %zu bytes of a record", len);
        fill->carry_capacity = len;
    }
    kb_put_bytes(fill->carry, data, len);
    return KB_OK;
}

static kb_code begin_area(kb_area_fill *fill, kb_area *area, size_t limit, kb_error *err)
{
    area->len = 0;
    kb_code code = kb_area_reserve(area, limit, fill->max_area_bytes, err);
    if (code != KB_OK)
        return code;
    kb_put_bytes(area->data, fill->carry, fill->carry_len);
    area->len = fill->carry_len;
    fill->carry_len = 0;
    return KB_OK;
}

kb_code kb_area_fill_stream(kb_area_fill *fill, kb_area_stream *stream, kb_area *area, bool *ret_has,
                            kb_error *err)
{
    size_t limit = AREA_BYTES < fill->max_area_bytes ? AREA_BYTES : fill->max_area_bytes;
    if (limit < fill->carry_len)
        limit = fill->carry_len;
    kb_code code = begin_area(fill, area, limit, err);
    size_t whole = 0;
    size_t needed = 0;
    while (code == KB_OK) {
        code = read_up_to(fill, stream, area, limit, err);
        if (code != KB_OK)
            return code;
        whole = whole_bytes(area->data, area->len, &needed);
        if (whole > 0 || fill->is_ended)
            break;
        limit = needed < 2 * limit ? needed : 2 * limit;
        code = kb_area_reserve(area, limit, fill->max_area_bytes, err);
    }
    if (code == KB_OK && !fill->is_ended) {
        code = keep_carry(fill, area->data + whole, area->len - whole, err);
        area->len = whole;
    }
    if (code != KB_OK)
        return code;
    *ret_has = area->len > 0;
    return KB_OK;
}

/* ---- from JSON ---- */

static kb_code next_json_record(kb_area_fill *fill, kb_segment_json *json, kb_error *err)
{
    if (fill->has_pending || fill->is_ended)
        return KB_OK;
    bool has = false;
    kb_code code = kb_segment_json_next(json, &fill->pending, &has, err);
    if (code != KB_OK)
        return code;
    fill->has_pending = has;
    fill->is_ended = !has;
    return KB_OK;
}

kb_code kb_area_fill_json(kb_area_fill *fill, kb_segment_json *json, kb_area *area, bool *ret_has,
                          kb_error *err)
{
    area->len = 0;
    for (;;) {
        kb_code code = next_json_record(fill, json, err);
        if (code != KB_OK)
            return code;
        if (!fill->has_pending)
            break;
        size_t size = 0;
        if (kb_record_encoded_size(&fill->pending, NULL, &size, err) != KB_OK)
            return kb_wrap_as(err, KB_ERR_FORMAT, "cannot hold");
        if (area->len > 0 && area->len + size > AREA_BYTES)
            break;
        size_t room = size > AREA_BYTES || AREA_BYTES > fill->max_area_bytes ? size : AREA_BYTES;
        code = kb_area_reserve(area, area->len > 0 ? area->len + size : room, fill->max_area_bytes, err);
        if (code != KB_OK)
            return code;
        kb_record_encode(area->data + area->len, &fill->pending, NULL);
        area->len += size;
        fill->has_pending = false;
    }
    *ret_has = area->len > 0;
    return KB_OK;
}

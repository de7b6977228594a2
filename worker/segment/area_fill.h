/*
 * area_fill - cuts a stream of record area, or of JSON records, into areas of whole records.
 *
 * What is left of a record at the end of an area is carried to the next. An area is about one MiB; it grows
 * for a larger record as its bytes arrive, never because a length says so. Threads: one at a time.
 */
#ifndef KB_WORKER_SEGMENT_AREA_FILL_H
#define KB_WORKER_SEGMENT_AREA_FILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/segment/area_stream.h"
#include "worker/segment/segment_json.h"
#include "worker/segment/segment_reader.h"

typedef struct kb_area_fill {
    size_t max_area_bytes;
    bool is_ended;
    uint8_t *carry; /* owned */
    size_t carry_len;
    size_t carry_capacity;
    kb_record_in pending; /* JSON: read, but for the next area */
    bool has_pending;
} kb_area_fill;

/* Forgets the carry; its memory stays. */
void kb_area_fill_start(kb_area_fill *fill, size_t max_area_bytes);
void kb_area_fill_done(kb_area_fill *fill);

/*
 * Makes room for `needed` bytes; the first area->len are kept. Fails with KB_MEMORY_TOO_SMALL beyond
 * max_bytes, KB_TEMPORARY_FAILURE without memory.
 */
kb_code kb_area_reserve(kb_area *area, size_t needed, size_t max_bytes, kb_error *err) KB_CHECK;
/*
 * The next records. Bytes that are no records come out too, at the end of an area: decoding finds them.
 * *ret_has is false at the end.
 */
kb_code kb_area_fill_stream(kb_area_fill *fill, kb_area_stream *stream, kb_area *area, bool *ret_has,
                            kb_error *err) KB_CHECK;
kb_code kb_area_fill_json(kb_area_fill *fill, kb_segment_json *json, kb_area *area, bool *ret_has,
                          kb_error *err) KB_CHECK;

#endif

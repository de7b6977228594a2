/*
 * segment_json - records of a legacy segment: an uncompressed JSON array (storage-format.md 3.2).
 *
 * Reads record by record in the memory of one record, and is as strict as for every other JSON of a backup.
 * Errors are KB_ERR_FORMAT, KB_ERR_TOO_LARGE (a string beyond max_string_bytes) and those of the source.
 * Threads: one at a time.
 */
#ifndef KB_WORKER_SEGMENT_SEGMENT_JSON_H
#define KB_WORKER_SEGMENT_SEGMENT_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/data/json_read.h"
#include "worker/segment/segment_format.h"

/* Such an object is refused beyond this size. */
#define KB_SEGMENT_JSON_MAX_BYTES ((uint64_t)256 << 20)

typedef struct kb_segment_json kb_segment_json;

/* Owned by the caller. max_string_bytes: of one base64 text. */
kb_segment_json *kb_segment_json_new(kb_json_source source, void *ctx, size_t max_string_bytes)
    __attribute__((returns_nonnull));
void kb_segment_json_free(kb_segment_json *owned_json);
void kb_segment_json_free_at(kb_segment_json **at);
/*
 * The next record; what it points to is valid until the next call. *ret_has is false at the end of the text,
 * when nothing but white space follows the array. Offsets are not compared with each other here.
 */
kb_code kb_segment_json_next(kb_segment_json *json, kb_record_in *ret_record, bool *ret_has,
                             kb_error *err) KB_CHECK;

#endif

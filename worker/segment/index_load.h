/*
 * index_load - finds the frame index of a segment from its end and decodes it.
 *
 * Threads: as the body.
 */
#ifndef KB_WORKER_SEGMENT_INDEX_LOAD_H
#define KB_WORKER_SEGMENT_INDEX_LOAD_H

#include <stdbool.h>

#include "common/base/error.h"
#include "worker/segment/frame_index.h"
#include "worker/segment/segment_body.h"

/*
 * *ret_present is false when the segment (of at least KB_SEGMENT_MIN_BYTES) has no index; else *ret_index is
 * owned and agrees with itself and the header. Moves the body. Fails with KB_ERR_FORMAT when the index is
 * damaged, and as the source.
 */
kb_code kb_index_load(kb_body *body, const kb_segment_header *header, bool *ret_present,
                      kb_frame_index *ret_index, kb_error *err) KB_CHECK;

#endif

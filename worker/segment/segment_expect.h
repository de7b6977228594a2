/*
 * segment_expect - compares what a segment says of itself with what its backup says of it.
 *
 * Everything that is not known is not compared. Errors: KB_ERR_FORMAT. Threads: pure functions.
 */
#ifndef KB_WORKER_SEGMENT_SEGMENT_EXPECT_H
#define KB_WORKER_SEGMENT_SEGMENT_EXPECT_H

#include "common/base/error.h"
#include "worker/segment/segment_reader.h"

/* Count, first and last offset. */
kb_code kb_expect_check_header(const kb_segment_expect *expect, const kb_segment_header *header,
                               kb_error *err) KB_CHECK;
/* Fails when a sound index belongs to another segment than the one that the backup lists under this key. */
kb_code kb_expect_check_identity(const kb_segment_expect *expect, const kb_frame_index *index,
                                 kb_error *err) KB_CHECK;
/* Flags, size of the record area, timestamps, digest. */
kb_code kb_expect_check_index(const kb_segment_expect *expect, const kb_frame_index *index,
                              kb_error *err) KB_CHECK;

#endif

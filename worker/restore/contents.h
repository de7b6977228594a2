/*
 * contents - what the target partitions hold, compared with the streams that they would receive.
 *
 * Threads: one at a time.
 */
#ifndef KB_WORKER_RESTORE_CONTENTS_H
#define KB_WORKER_RESTORE_CONTENTS_H

#include "common/base/error.h"
#include "worker/restore/preflight.h"
#include "worker/restore/sink.h"

/*
 * For the preflight: sets starts, is_prefix, has_records and purge; refusals go to the checks. Fails when the
 * target cannot be read.
 */
kb_code kb_contents_check(kb_preflight *preflight, const char *restore_id, kb_error *err) KB_CHECK;

/* After the target came to rest: counts and samples of what is there now, by the view, for the target states.
 * KB_TARGET_DIVERGED when a partition ends before its start. */
kb_code kb_contents_read(const kb_preflight *preflight, kb_target_state *targets, kb_error *err) KB_CHECK;

#endif

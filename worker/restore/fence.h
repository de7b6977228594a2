/*
 * fence - looks whether a later attempt of the same restore exists.
 *
 * Every 10 s the attempt objects are listed. A higher number than ours, or no successful look for 30 s of the
 * boot clock, means that nothing more may be handed to the Kafka client. Threads: start and free from one
 * thread, kb_fence_check from any.
 */
#ifndef KB_WORKER_RESTORE_FENCE_H
#define KB_WORKER_RESTORE_FENCE_H

#include "common/base/error.h"
#include "worker/storage/storage.h"

#define KB_FENCE_LOOK_MS 10000
#define KB_FENCE_VALID_MS 30000

typedef struct kb_fence kb_fence;

/* n: the number of this attempt. Looks once before it returns. */
kb_code kb_fence_start(kb_storage *storage, const char *restore_id, uint32_t n, kb_fence **ret_fence,
                       kb_error *err) KB_CHECK;
/* NULL is fine. */
void kb_fence_free(kb_fence *owned_fence);
void kb_fence_free_at(kb_fence **at);
/* KB_FENCED when this attempt must not write any more. NULL (no fence) is fine. */
kb_code kb_fence_check(kb_fence *fence, kb_error *err) KB_CHECK;

#endif

/*
 * azure_leftovers - blobs that have blocks and were never published, found and discarded.
 *
 * Azure has no request that discards blocks. Publishing an empty blob does; it is removed at once, and only
 * that one (If-Match). Where the container's policies may forbid the removal nothing is done: unpublished
 * blocks are invisible, vanish after a week, and conditional writes hold without it. The functions are the
 * driver's (storage_driver.h). Threads: as kb_storage.
 */
#ifndef KB_WORKER_STORAGE_AZURE_LEFTOVERS_H
#define KB_WORKER_STORAGE_AZURE_LEFTOVERS_H

#include "worker/storage/storage.h"

kb_code kb_azure_list_leftovers(void *state, const char *prefix, kb_leftover_fn fn, void *ctx,
                                kb_error *err) KB_CHECK;
kb_code kb_azure_abort_leftover(void *state, const kb_leftover *leftover, kb_error *err) KB_CHECK;
kb_code kb_azure_abort_leftovers(void *state, const char *prefix, size_t *ret_count, kb_error *err) KB_CHECK;

#endif

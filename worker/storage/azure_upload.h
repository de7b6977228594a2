/*
 * azure_upload - an upload to Azure: blocks as they fill, the first one last.
 *
 * The functions are the driver's of the same names (storage_driver.h). Threads: an upload belongs to one
 * thread at a time.
 */
#ifndef KB_WORKER_STORAGE_AZURE_UPLOAD_H
#define KB_WORKER_STORAGE_AZURE_UPLOAD_H

#include "worker/storage/storage.h"

kb_code kb_azure_upload_begin(void *state, const char *key, const char *attempt_id_hex, void **ret_upload,
                              kb_error *err) KB_CHECK;
kb_code kb_azure_upload_append(void *upload, const void *data, size_t len, kb_error *err) KB_CHECK;
kb_code kb_azure_upload_complete(void *upload, const uint8_t head[KB_UPLOAD_HEAD_BYTES],
                                 kb_error *err) KB_CHECK;
/* Leaves staged blocks alone: removing them would also remove those of another attempt at the same key. */
void kb_azure_upload_free(void *owned_upload);

#endif

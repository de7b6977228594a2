/*
 * azure_store - the parts of the Azure driver: what storage_azure.c, azure_upload.c and azure_leftovers.c
 * share.
 *
 * Threads: as kb_storage.
 */
#ifndef KB_WORKER_STORAGE_AZURE_STORE_H
#define KB_WORKER_STORAGE_AZURE_STORE_H

#include "worker/storage/azure_call.h"
#include "worker/storage/storage_driver.h"

#define KB_AZURE_BLOCK_BYTES ((size_t)8 * 1024 * 1024)
#define KB_AZURE_SMALLEST_BLOCK_BYTES ((size_t)1024 * 1024)
#define KB_AZURE_LIST_BYTES ((size_t)64 * 1024 * 1024)

typedef struct kb_azure_store {
    kb_azure_container container;
    char *prefix;            /* owned; NULL = none */
    atomic_int is_versioned; /* -1 = not known */
    size_t block_bytes;
} kb_azure_store;

extern const kb_storage_driver kb_azure_driver;

/* A call for the blob of a key; *ret_name owns the name that the call borrows. */
kb_azure_call kb_azure_store_call(kb_azure_store *store, kb_azure_purpose purpose, const char *verb,
                                  const char *method, const char *key, char **ret_name);
/* KB_ERR_NOT_FOUND for a key. */
kb_code kb_azure_store_absent(const kb_azure_store *store, const char *key, kb_error *err);

/* One conditional Put Blob of at most two parts. KB_ERR_EXISTS: *ret_attempt says whether it may be ours. */
kb_code kb_azure_store_put(kb_azure_store *store, const char *key, const kb_view *parts, size_t count,
                           kb_http_attempt *ret_attempt, kb_error *err) KB_CHECK;

#endif

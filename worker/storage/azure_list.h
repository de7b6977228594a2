/*
 * azure_list - the answer of List Blobs, read.
 *
 * Source: Azure Blob Storage REST reference, "List Blobs". Threads: pure function.
 */
#ifndef KB_WORKER_STORAGE_AZURE_LIST_H
#define KB_WORKER_STORAGE_AZURE_LIST_H

#include "worker/storage/storage.h"

/*
 * Reads a page. prefix is the store's; *ret_page is owned, its `next` is the marker of the next page. Fails
 * with KB_ERR_FORMAT.
 */
kb_code kb_azure_list_parse(const char *xml, size_t len, const char *prefix, kb_list_page *ret_page,
                            kb_error *err) KB_CHECK;

#endif

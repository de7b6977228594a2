/*
 * storage_gcs - a bucket of Google Cloud Storage as a store, by its JSON API.
 *
 * Every object is one conditional upload (ifGenerationMatch=0) with its MD5: the service takes no
 * precondition on parts, so an upload is held in memory and sent at once (storage-format.md, 7.3). Threads:
 * as kb_storage.
 */
#ifndef KB_WORKER_STORAGE_STORAGE_GCS_H
#define KB_WORKER_STORAGE_STORAGE_GCS_H

#include "common/contract/worker_config.h"
#include "worker/storage/storage.h"
#include "worker/storage/store_net.h"

/* Everything but net is borrowed for the life of the store. */
typedef struct kb_gcs_options {
    const kb_config_gcs *config;
    kb_store_net *owned_net;
    size_t segment_buffer_bytes;  /* that an upload is expected to hold */
    const char *application_file; /* GOOGLE_APPLICATION_CREDENTIALS; NULL = unset */
    const char *project;          /* GOOGLE_CLOUD_PROJECT; NULL = unset */
    const char *metadata_url;     /* NULL: that of every machine of Google Cloud */
} kb_gcs_options;

/* Asks nobody yet. Fails with KB_CONFIG_INVALID; net is freed then, too. */
kb_code kb_storage_open_gcs(const kb_gcs_options *options, kb_storage **ret_storage, kb_error *err) KB_CHECK;

#endif

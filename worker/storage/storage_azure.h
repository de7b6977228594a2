/*
 * storage_azure - Azure Blob Storage as a store: block blobs in one container.
 *
 * Small objects are one conditional Put Blob. Larger ones go out in blocks of 8 MiB as they fill; block 0,
 * the 32-byte header, is staged last, then a conditional Put Block List publishes (storage-format.md, 7.3).
 * Block ids are of one upload alone. Unfinished blocks are invisible and vanish after a week by themselves;
 * an abort, which a takeover asks for, publishes an empty blob and removes it, unless the container forbids
 * removing. Threads: as kb_storage.
 */
#ifndef KB_WORKER_STORAGE_STORAGE_AZURE_H
#define KB_WORKER_STORAGE_STORAGE_AZURE_H

#include "common/contract/worker_config.h"
#include "worker/auth/azure_auth.h"
#include "worker/storage/storage.h"
#include "worker/storage/store_net.h"

/* Everything but net is borrowed for the life of the store. */
typedef struct kb_azure_options {
    const kb_config_azure *config;
    kb_store_net *owned_net;
    kb_azure_env env;
    const char *metadata_url; /* NULL: that of every machine of Azure */
} kb_azure_options;

/* Asks nobody yet. Fails with KB_CONFIG_INVALID or KB_STORAGE_CREDENTIALS_MISSING; net is freed then, too. */
kb_code kb_storage_open_azure(const kb_azure_options *options, kb_storage **ret_storage,
                              kb_error *err) KB_CHECK;

#endif

/*
 * storage_open - the store that a configuration names.
 *
 * The one place that knows all drivers. Threads: pure but for the opened store.
 */
#ifndef KB_WORKER_STORAGE_STORAGE_OPEN_H
#define KB_WORKER_STORAGE_STORAGE_OPEN_H

#include "common/contract/worker_config.h"
#include "common/sync/wait.h"
#include "worker/storage/storage.h"
#include "worker/storage/storage_fs.h"
#include "worker/storage/store_net.h"

/* What stores behind a network need of the run around them; borrowed for the life of the store. */
typedef struct kb_storage_env {
    const char *trust_dir;                            /* NULL = none */
    const kb_config_circuit_breaker *circuit_breaker; /* NULL = default */
    kb_stop *stop;                                    /* NULL: cannot be stopped */
    int64_t stop_grace_ms;
    void (*on_event)(void *ctx, kb_http_event event); /* may be NULL */
    void *event_ctx;
} kb_storage_env;

/* The options of a kb_store_net for this block; allow_http is the store's own setting. */
kb_store_net_options kb_storage_net_options(const kb_config_storage *config, const kb_storage_env *env,
                                            bool allow_http);

/*
 * Opens the store of `config`, which outlives it. A directory is looked at; a store behind a network is not
 * asked before its first use. Fails with KB_CONFIG_INVALID, or as kb_storage_open_filesystem.
 */
kb_code kb_storage_open(const kb_config_storage *config, const kb_storage_env *env, kb_fs_mode mode,
                        kb_storage **ret_storage, kb_error *err) KB_CHECK;

#endif

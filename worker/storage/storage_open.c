#include "worker/storage/storage_open.h"

#include <stdlib.h>

#include "worker/auth/azure_auth.h"
#include "worker/storage/storage_azure.h"
#include "worker/storage/storage_gcs.h"
#include "worker/storage/storage_s3.h"

kb_store_net_options kb_storage_net_options(const kb_config_storage *config, const kb_storage_env *env,
                                            bool allow_http)
{
    kb_store_net_options options = {
        .ca_file = config->ca_file,
        .trust_dir = env->trust_dir,
        .allow_http = allow_http,
        .max_connections = (size_t)config->max_connections,
        .request_timeout_ms = config->request_timeout_secs * 1000,
        .stop = env->stop,
        .stop_grace_ms = env->stop_grace_ms,
        .on_event = env->on_event,
        .event_ctx = env->event_ctx,
    };
    const kb_config_circuit_breaker *breaker = env->circuit_breaker;
    if (breaker == NULL)
        return options;
    options.breaker = (kb_breaker_options){
        /* Switched off, it counts further than any run goes. */
        .failure_threshold = breaker->enabled ? (unsigned)breaker->failure_threshold : UINT32_MAX,
        .reset_timeout_ms = breaker->reset_timeout_secs * 1000,
        .success_threshold = (unsigned)breaker->success_threshold,
    };
    return options;
}

static kb_code new_net(const kb_config_storage *config, const kb_storage_env *env, bool allow_http,
                       kb_store_net **ret_net, kb_error *err)
{
    const kb_store_net_options options = kb_storage_net_options(config, env, allow_http);
    return kb_store_net_new(&options, ret_net, err);
}

static kb_code open_azure(const kb_config_storage *config, const kb_storage_env *env,
                          kb_storage **ret_storage, kb_error *err)
{
    kb_azure_options options = {.config = &config->azure, .env = kb_azure_env_read()};
    kb_code code = new_net(config, env, config->azure.allow_http, &options.owned_net, err);
    return code != KB_OK ? code : kb_storage_open_azure(&options, ret_storage, err);
}

/* NULL when it is unset or empty. */
static const char *env_value(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static kb_code open_gcs(const kb_config_storage *config, const kb_storage_env *env, kb_storage **ret_storage,
                        kb_error *err)
{
    kb_gcs_options options = {
        .config = &config->gcs,
        .segment_buffer_bytes = (size_t)config->segment_buffer_bytes,
        .application_file = env_value("GOOGLE_APPLICATION_CREDENTIALS"),
        .project = env_value("GOOGLE_CLOUD_PROJECT"),
    };
    kb_code code = new_net(config, env, config->gcs.allow_http, &options.owned_net, err);
    return code != KB_OK ? code : kb_storage_open_gcs(&options, ret_storage, err);
}

kb_code kb_storage_open(const kb_config_storage *config, const kb_storage_env *env, kb_fs_mode mode,
                        kb_storage **ret_storage, kb_error *err)
{
    switch (config->backend) {
    case KB_CONFIG_FILESYSTEM:
        return kb_storage_open_filesystem(config->filesystem_path, mode, ret_storage, err);
    case KB_CONFIG_S3:
        return kb_storage_open_s3(config, env, ret_storage, err);
    case KB_CONFIG_AZURE:
        return open_azure(config, env, ret_storage, err);
    case KB_CONFIG_GCS:
        return open_gcs(config, env, ret_storage, err);
    default:
        break;
    }
    return kb_fail(err, KB_CONFIG_INVALID,
                   "storage: a storage block is required; hint: give storage in the file%s",
                   mode == KB_FS_READ ? ", or --path" : "");
}

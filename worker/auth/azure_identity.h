/*
 * azure_identity - bearer tokens for Azure Storage: as an application at Entra ID, by a client secret or a
 * federated token, or as a managed identity at the metadata service.
 *
 * Sources: Microsoft identity platform, "client credentials flow"; "How to use managed identities on a VM";
 * App Service, "REST endpoint reference". Threads: a provider is called by one thread at a time.
 */
#ifndef KB_WORKER_AUTH_AZURE_IDENTITY_H
#define KB_WORKER_AUTH_AZURE_IDENTITY_H

#include "worker/auth/azure_auth.h"

/* As kb_azure_auth_options; env is copied as a struct, its texts are borrowed. */
typedef struct kb_azure_identity_options {
    const kb_config_azure *config;
    const kb_azure_env *env;
    kb_http_retry *tokens, *metadata;
    const kb_clock *clock;
    const char *metadata_url;
} kb_azure_identity_options;

/* Client id and tenant id come from the file, absent ones from the environment. KB_CONFIG_INVALID without. */
kb_code kb_azure_application_new(const kb_azure_identity_options *options, bool is_federated,
                                 kb_cred_provider **ret_provider, kb_error *err) KB_CHECK;
kb_code kb_azure_managed_identity_new(const kb_azure_identity_options *options,
                                      kb_cred_provider **ret_provider, kb_error *err) KB_CHECK;

#endif

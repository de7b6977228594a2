/*
 * azure_auth - how a request to Azure Storage is authorised: SharedKey, SAS, or a bearer token.
 *
 * Exactly one way is in use: account key, SAS, connection string, client secret, workload identity, managed
 * identity; none given means workload identity where the environment names a token file, else managed
 * identity (worker.md, 15). What comes from files is read again at each renewal. Threads: any number may use
 * a kb_azure_auth at once.
 */
#ifndef KB_WORKER_AUTH_AZURE_AUTH_H
#define KB_WORKER_AUTH_AZURE_AUTH_H

#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/contract/worker_config.h"
#include "common/net/http.h"
#include "common/net/http_retry.h"
#include "worker/auth/cred.h"

/* The version of the service's interface that is asked for. */
#define KB_AZURE_API_VERSION "2020-10-02"

/* Variables of the environment; NULL = unset or empty. */
typedef struct kb_azure_env {
    const char *client_id;            /* AZURE_CLIENT_ID */
    const char *tenant_id;            /* AZURE_TENANT_ID */
    const char *federated_token_file; /* AZURE_FEDERATED_TOKEN_FILE */
    const char *authority_host;       /* AZURE_AUTHORITY_HOST */
    const char *identity_endpoint;    /* IDENTITY_ENDPOINT, of App Service and Container Apps */
    const char *identity_header;      /* IDENTITY_HEADER */
} kb_azure_env;
/* Borrows from the process's environment. */
kb_azure_env kb_azure_env_read(void);

/* Everything is borrowed for the life of the kb_azure_auth, but env, which is copied as a struct. */
typedef struct kb_azure_auth_options {
    const kb_config_azure *config;
    kb_azure_env env;
    kb_http_retry *tokens;    /* for token endpoints */
    kb_http_retry *metadata;  /* for instance metadata */
    const kb_clock *clock;    /* NULL: the machine's */
    const char *metadata_url; /* NULL: http://169.254.169.254 */
} kb_azure_auth_options;

typedef struct kb_azure_auth kb_azure_auth;

/* Asks nobody yet. Fails with KB_CONFIG_INVALID or KB_STORAGE_CREDENTIALS_MISSING. */
kb_code kb_azure_auth_new(const kb_azure_auth_options *options, kb_azure_auth **ret_auth,
                          kb_error *err) KB_CHECK;
void kb_azure_auth_free(kb_azure_auth *owned_auth); /* NULL is fine */
void kb_azure_auth_free_at(kb_azure_auth **at);

/* Account name, and URL of the blob service without a trailing '/'. Borrowed. */
const char *kb_azure_auth_account(const kb_azure_auth *auth);
const char *kb_azure_auth_endpoint(const kb_azure_auth *auth);
/* The cache that kb_azure_authorize's sets come from. Borrowed. */
kb_cred_provider *kb_azure_auth_provider(const kb_azure_auth *auth);

/*
 * Adds x-ms-date, x-ms-version and what authorises the request, which is otherwise complete; now_ms is the
 * server's time. With a SAS the request's URL is replaced: *ret_url then owns the new one (a secret: wipe
 * it), else it is left alone.
 */
kb_code kb_azure_authorize(const kb_azure_auth *auth, const kb_cred *cred, int64_t now_ms,
                           kb_http_request *request, kb_http_headers *headers, char **ret_url,
                           kb_error *err) KB_CHECK;

#endif

/*
 * azure_connection - connection strings of Azure Storage: "AccountName=a;AccountKey=k;EndpointSuffix=s;...".
 *
 * Threads: pure functions.
 */
#ifndef KB_WORKER_AUTH_AZURE_CONNECTION_H
#define KB_WORKER_AUTH_AZURE_CONNECTION_H

#include "common/base/error.h"
#include "common/base/secret.h"

/* Everything is owned. Exactly one of account_key and sas is given. */
typedef struct kb_azure_connection {
    char *account;
    char *endpoint; /* of the blob service, without a trailing '/' */
    kb_secret *account_key;
    kb_secret *sas; /* without a leading '?' */
} kb_azure_connection;
#define KB_AZURE_CONNECTION_INIT {NULL, NULL, NULL, NULL}

/*
 * Names are compared without regard to case; those we have no use for are skipped. Without BlobEndpoint the
 * endpoint is PROTOCOL://ACCOUNT.blob.SUFFIX (https, core.windows.net); without AccountName the account is
 * the first part of its host. Fails with KB_CONFIG_INVALID, never showing a value.
 */
kb_code kb_azure_connection_parse(const kb_secret *text, kb_azure_connection *ret_connection,
                                  kb_error *err) KB_CHECK;
void kb_azure_connection_done(kb_azure_connection *connection);

/* The account that a blob endpoint names: the first part of its host, or with an IP address or localhost the
 * first part of its path. NULL when there is none. Owned by the caller. */
char *kb_azure_account_of(const char *endpoint);

#endif

/*
 * azure_sharedkey - the SharedKey signature of Azure Storage, as pure functions.
 *
 * Source: "Authorize with Shared Key" of the Azure Storage REST reference, the form of versions 2015-02-21
 * and later. Threads: pure functions.
 */
#ifndef KB_WORKER_AUTH_AZURE_SHAREDKEY_H
#define KB_WORKER_AUTH_AZURE_SHAREDKEY_H

#include <stddef.h>

#include "common/base/error.h"
#include "common/base/secret.h"

typedef struct kb_azure_header {
    const char *name, *value;
} kb_azure_header;

typedef struct kb_azure_request {
    const char *method;
    const char *path;  /* as sent: percent-encoded, begins with '/' */
    const char *query; /* as sent, without '?'; NULL = none */
    const kb_azure_header *headers;
    size_t header_count;
} kb_azure_request;

/* What the signature covers. Owned by the caller. Fails with KB_ERR_FORMAT when the query cannot be decoded.
 */
kb_code kb_azure_string_to_sign(const kb_azure_request *request, const char *account, char **ret_text,
                                kb_error *err) KB_CHECK;
/*
 * The value of the Authorization header, a secret. key: the account's key in base64; KB_ERR_FORMAT when it is
 * not.
 */
kb_code kb_azure_sharedkey(const kb_azure_request *request, const char *account, const kb_secret *key,
                           kb_secret **ret_authorization, kb_error *err) KB_CHECK;

#endif

/*
 * gcp_account - the JSON files that say who one is at Google: a service account's key, or an external account
 * (workload identity federation).
 *
 * Source: Google's AIP-4112 and AIP-4117. Threads: pure function.
 */
#ifndef KB_WORKER_AUTH_GCP_ACCOUNT_H
#define KB_WORKER_AUTH_GCP_ACCOUNT_H

#include <stdbool.h>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/secret.h"
#include "common/net/http.h"

#define KB_GCP_ACCOUNT_MAX ((size_t)64 * 1024)

/* Everything is owned; NULL = not given. */
typedef struct kb_gcp_account {
    bool is_external;
    /* Service account. */
    char *client_email;
    char *private_key_id;
    kb_secret *private_key;
    char *token_uri;
    /* External account. */
    char *audience;
    char *subject_token_type;
    char *token_url;
    char *impersonation_url;
    char *workforce_project;
    char *source_file;
    char *source_url;
    kb_http_headers source_headers;
    char *source_field; /* of the JSON that the source holds; NULL: it is the token itself */
    char *quota_project;
} kb_gcp_account;

/*
 * Fails with KB_ERR_FORMAT: not JSON, another type, something missing, an executable source, an endpoint that
 * is not https (allow_local_http: http to this machine is one, too). The text never holds a value.
 */
kb_code kb_gcp_account_parse(kb_view json, bool allow_local_http, kb_gcp_account *ret_account,
                             kb_error *err) KB_CHECK;
void kb_gcp_account_done(kb_gcp_account *account);

/* The text at one field of a JSON object, or with `field` NULL the whole, trimmed: a token of an external
 * source. Fails with KB_ERR_FORMAT. */
kb_code kb_gcp_subject_token(kb_view text, const char *field, kb_secret **ret_token, kb_error *err) KB_CHECK;

#endif

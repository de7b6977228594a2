/*
 * gcp_auth - bearer tokens for Google Cloud Storage.
 *
 * The first source that is present wins: service_account_path, GOOGLE_APPLICATION_CREDENTIALS, the metadata
 * server (worker.md, 15). A file is read again at each renewal. Sources: RFC 7523 as Google uses it ("Using
 * OAuth 2.0 for Server to Server Applications"), RFC 8693 (token exchange), IAM Credentials API
 * (generateAccessToken), "About VM metadata". Threads: any.
 */
#ifndef KB_WORKER_AUTH_GCP_AUTH_H
#define KB_WORKER_AUTH_GCP_AUTH_H

#include "common/base/clock.h"
#include "common/net/http_retry.h"
#include "worker/auth/cred.h"

/* Everything is borrowed for the life of the provider. */
typedef struct kb_gcp_auth_options {
    const char *service_account_path; /* NULL = not given */
    const char *application_file;     /* GOOGLE_APPLICATION_CREDENTIALS; NULL = unset */
    bool allow_local_http;            /* token endpoints of this machine may be http: */
    kb_http_retry *tokens;
    kb_http_retry *metadata;
    const kb_clock *clock;    /* NULL: the machine's */
    const char *metadata_url; /* NULL: http://metadata.google.internal */
} kb_gcp_auth_options;

/* A cache of sets whose `token` is the bearer token. Owned by the caller. */
kb_cred_provider *kb_gcp_auth_new(const kb_gcp_auth_options *options) __attribute__((returns_nonnull));

#endif

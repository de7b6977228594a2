/*
 * aws_cred - credentials for S3, by the chain of worker.md 15.
 *
 * The first source that is present wins: keys of the configuration (values or files, read anew each time),
 * environment, web identity by STS, shared credentials file and profile, container endpoint, instance
 * metadata (version 2 only). One that is present and fails ends the run. Threads: as cred.h.
 */
#ifndef KB_WORKER_AUTH_AWS_CRED_H
#define KB_WORKER_AUTH_AWS_CRED_H

#include "common/data/schema.h"
#include "common/net/http_retry.h"
#include "worker/auth/cred.h"

/* Borrowed for the life of the provider; texts may be NULL. */
typedef struct kb_aws_cred_options {
    const kb_secret_source *access_key, *secret_key, *session_token;
    const char *role_arn;                /* together with web_identity_token_file */
    const char *web_identity_token_file; /* read anew each time */
    const char *region;                  /* of the STS */
    kb_http_retry *tokens;               /* STS and https container endpoints */
    kb_http_retry *metadata;             /* instance metadata and http container endpoints: direct */
    const kb_clock *clock;               /* NULL = the machine's */
} kb_aws_cred_options;

/* The chain, not cached. */
kb_cred_provider *kb_aws_cred_new(const kb_aws_cred_options *options) __attribute__((returns_nonnull));

/*
 * The region: `configured`, AWS_REGION, AWS_DEFAULT_REGION, the instance's (asked only when it looks like
 * one), else us-east-1. Owned by the caller.
 */
char *kb_aws_region(const char *configured, kb_http_retry *metadata) __attribute__((returns_nonnull));

/* Whether container credentials may be asked for there: https, or http to loopback and the container
 * services. */
bool kb_aws_is_container_url(const char *url);

#endif

/*
 * aws_cred_parse - what the sources of AWS credentials answer: JSON, XML of the STS, INI files.
 *
 * Error texts never hold any of it. Threads: pure functions.
 */
#ifndef KB_WORKER_AUTH_AWS_CRED_PARSE_H
#define KB_WORKER_AUTH_AWS_CRED_PARSE_H

#include "worker/auth/cred.h"

/* {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"} of container endpoint and instance metadata. */
kb_code kb_aws_parse_json(const char *json, size_t len, const char *source, kb_cred **ret_cred,
                          kb_error *err) KB_CHECK;
/* The answer of AssumeRoleWithWebIdentity. */
kb_code kb_aws_parse_sts(const char *xml, size_t len, kb_cred **ret_cred, kb_error *err) KB_CHECK;
/* The profile's keys in a shared credentials file. KB_ERR_NOT_FOUND: it has none. */
kb_code kb_aws_parse_profile(const char *text, size_t len, const char *profile, kb_cred **ret_cred,
                             kb_error *err) KB_CHECK;

#endif

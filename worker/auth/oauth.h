/*
 * oauth - asking a token endpoint or metadata service for an access token, and reading its answer.
 *
 * Sources: RFC 6749 section 5, and the answers of Entra ID, Azure's and Google's metadata services, Google's
 * STS and IAM, which differ in the names of their fields. Error texts hold the endpoint's error code and
 * never more of its answer: endpoints may echo what they were sent. Threads: pure functions but for
 * kb_oauth_fetch, which any number may call at once.
 */
#ifndef KB_WORKER_AUTH_OAUTH_H
#define KB_WORKER_AUTH_OAUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/secret.h"
#include "common/base/strbuf.h"
#include "common/net/http.h"
#include "common/net/http_retry.h"

#define KB_OAUTH_BODY_MAX ((size_t)256 * 1024)
#define KB_OAUTH_REFUSAL_SIZE 160

typedef struct kb_oauth_token {
    kb_secret *token;   /* owned */
    int64_t expires_ms; /* wall clock */
} kb_oauth_token;

/*
 * Reads access_token (or accessToken) with expires_in, expires_on (as number or text) or expireTime. Without
 * any of these the token counts as good for five minutes. Fails with KB_ERR_FORMAT.
 */
kb_code kb_oauth_parse(kb_view body, int64_t now_wall_ms, kb_oauth_token *ret_token, kb_error *err) KB_CHECK;
/* The error code in a refusal, "invalid_client AADSTS7000215" say; "" when there is none that is safe to
 * show.
 */
void kb_oauth_refusal(kb_view body, char to[KB_OAUTH_REFUSAL_SIZE]);

/* Appends name=value in the form application/x-www-form-urlencoded. */
void kb_oauth_form_add(kb_strbuf *form, const char *name, const char *value);
/* Frees the content of a buffer that holds secrets. */
void kb_oauth_form_done(kb_strbuf *form);

/* Everything is borrowed for the call. */
typedef struct kb_oauth_request {
    const char *what; /* "token endpoint https://host of ...", for messages */
    const char *method;
    const char *url;
    const kb_http_headers *headers; /* may be NULL */
    kb_view body;
    const char *hint; /* what the user can do when it refuses */
} kb_oauth_request;

/*
 * Fails with KB_STORAGE_ACCESS_DENIED when the endpoint refuses or answers nonsense, else as
 * kb_http_retry_run.
 */
kb_code kb_oauth_fetch(kb_http_retry *retry, const kb_clock *clock, const kb_oauth_request *request,
                       kb_oauth_token *ret_token, kb_error *err) KB_CHECK;
/* The same for a service that answers with any text: *ret_body is owned. */
kb_code kb_oauth_fetch_text(kb_http_retry *retry, const kb_oauth_request *request, kb_secret **ret_body,
                            kb_error *err) KB_CHECK;

/*
 * Whether a URL is https with a host and without a user part; http counts when may_be_local and the host is
 * loopback, localhost or 169.254.0.0/16.
 */
bool kb_oauth_is_safe_url(const char *url, bool may_be_local);
/* A secret may go into a header: printable ASCII, not empty, no space. */
bool kb_oauth_is_token(const char *text, size_t len);

#endif

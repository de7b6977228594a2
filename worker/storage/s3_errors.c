#include "worker/storage/s3_errors.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "worker/storage/xml_scan.h"

#define KB_S3_MESSAGE_BYTES 300
/* The server's clock and ours: S3 refuses from 15 minutes on. */
#define KB_S3_SKEW_MS (15LL * 60 * 1000)

typedef enum kb_s3_class {
    KB_S3_BY_STATUS,
    KB_S3_TRANSIENT,
    KB_S3_CREDENTIALS, /* may have been replaced: fetch anew once */
    KB_S3_CLOCK,
    KB_S3_DENIED,
    KB_S3_ABSENT,
    KB_S3_BUCKET,
    KB_S3_REGION,
    KB_S3_FULL,
    KB_S3_UNSUPPORTED
} kb_s3_class;

static const struct {
    const char *code;
    kb_s3_class class;
} codes[] = {
    {"AccessDenied", KB_S3_DENIED},
    {"AccountProblem", KB_S3_DENIED},
    {"AllAccessDisabled", KB_S3_DENIED},
    {"AuthorizationHeaderMalformed", KB_S3_REGION},
    {"BadDigest", KB_S3_TRANSIENT},
    {"ConditionalRequestConflict", KB_S3_TRANSIENT},
    {"ExpiredToken", KB_S3_CREDENTIALS},
    {"ExpiredTokenException", KB_S3_CREDENTIALS},
    {"IllegalLocationConstraintException", KB_S3_REGION},
    {"IncompleteBody", KB_S3_TRANSIENT},
    {"InternalError", KB_S3_TRANSIENT},
    {"InvalidAccessKeyId", KB_S3_CREDENTIALS},
    {"InvalidBucketName", KB_S3_BUCKET},
    {"InvalidToken", KB_S3_CREDENTIALS},
    {"InvalidTokenId", KB_S3_CREDENTIALS},
    {"NoSuchBucket", KB_S3_BUCKET},
    {"NoSuchKey", KB_S3_ABSENT},
    {"NoSuchUpload", KB_S3_ABSENT},
    {"NotImplemented", KB_S3_UNSUPPORTED},
    {"OperationAborted", KB_S3_TRANSIENT},
    {"PermanentRedirect", KB_S3_REGION},
    {"QuotaExceeded", KB_S3_FULL},
    {"RequestExpired", KB_S3_CLOCK},
    {"RequestTimeTooSkewed", KB_S3_CLOCK},
    {"RequestTimeout", KB_S3_TRANSIENT},
    {"ServiceUnavailable", KB_S3_TRANSIENT},
    {"SignatureDoesNotMatch", KB_S3_CREDENTIALS},
    {"SlowDown", KB_S3_TRANSIENT},
    {"TemporaryRedirect", KB_S3_REGION},
    {"TokenRefreshRequired", KB_S3_CREDENTIALS},
    {"XAmzContentSHA256Mismatch", KB_S3_TRANSIENT},
    {"XMinioStorageFull", KB_S3_FULL},
};

/* ---- the body ---- */

void kb_s3_error_done(kb_s3_error *error)
{
    free(error->code);
    free(error->message);
    free(error->region);
    *error = (kb_s3_error){NULL, NULL, NULL};
}

static kb_code take_field(void *ctx, const char *path, const char *text, size_t len, kb_error *err)
{
    (void)err;
    kb_s3_error *error = ctx;
    char **to = strcmp(path, "Error/Code") == 0      ? &error->code
                : strcmp(path, "Error/Message") == 0 ? &error->message
                : strcmp(path, "Error/Region") == 0  ? &error->region
                                                     : NULL;
    if (to != NULL) {
        free(*to);
        *to = kb_strndup(text, len < KB_S3_MESSAGE_BYTES ? len : KB_S3_MESSAGE_BYTES);
    }
    return KB_OK;
}

void kb_s3_error_parse(const char *body, size_t len, kb_s3_error *ret_error)
{
    *ret_error = (kb_s3_error){NULL, NULL, NULL};
    KB_AUTO_ERROR(ignored);
    if (body != NULL && kb_xml_scan(body, len, take_field, ret_error, &ignored) != KB_OK)
        kb_s3_error_done(ret_error);
    if (ret_error->code == NULL)
        ret_error->code = kb_strdup("");
    if (ret_error->message == NULL)
        ret_error->message = kb_strdup("");
    if (ret_error->region == NULL)
        ret_error->region = kb_strdup("");
}

/* ---- what it means ---- */

static kb_s3_class class_of_code(const char *code)
{
    for (size_t i = 0; i < KB_ARRAY_LEN(codes); i++) {
        if (strcmp(codes[i].code, code) == 0)
            return codes[i].class;
    }
    return KB_S3_BY_STATUS;
}

static bool is_clock_off(const kb_http_response *response, int64_t now_ms)
{
    const char *date = kb_http_response_header(response, "Date");
    int64_t server_ms = 0;
    if (date == NULL || !kb_http_parse_date(date, &server_ms))
        return false;
    return server_ms - now_ms > KB_S3_SKEW_MS || now_ms - server_ms > KB_S3_SKEW_MS;
}

static bool is_near_its_end(const kb_s3_context *context)
{
    int64_t ends = context->cred != NULL ? kb_cred_view(context->cred)->expires_ms : 0;
    return ends != 0 && context->now_ms > ends - KB_CRED_RENEW_BEFORE_MS;
}

/* A 403 without a body (HEAD) may be any of them. */
static kb_s3_class class_of_forbidden(const kb_http_response *response, const kb_s3_context *context,
                                      bool has_code)
{
    if (!has_code && is_clock_off(response, context->now_ms))
        return KB_S3_CLOCK;
    return !has_code || is_near_its_end(context) ? KB_S3_CREDENTIALS : KB_S3_DENIED;
}

static kb_s3_class classify(const kb_http_response *response, const kb_s3_error *error,
                            const kb_s3_context *context)
{
    bool has_code = error->code[0] != '\0';
    kb_s3_class class = class_of_code(error->code);
    if (class == KB_S3_DENIED)
        return class_of_forbidden(response, context, true);
    if (class != KB_S3_BY_STATUS)
        return class;
    switch (response->status) {
    case 301:
    case 307:
    case 308:
        return KB_S3_REGION;
    case 401:
        return KB_S3_CREDENTIALS;
    case 403:
        return class_of_forbidden(response, context, has_code);
    case 404:
        return KB_S3_ABSENT;
    case 409:
        return KB_S3_TRANSIENT;
    case 501:
        return KB_S3_UNSUPPORTED;
    default:
        break;
    }
    return kb_http_judge_status(response->status) == KB_HTTP_TRANSIENT ? KB_S3_TRANSIENT : KB_S3_BY_STATUS;
}

/* ---- words ---- */

/* A server that sends our own secret back does not get it into a log. */
static bool holds_secret(const char *text, const kb_cred *cred)
{
    const kb_cred_fields *fields = cred != NULL ? kb_cred_view(cred) : NULL;
    if (fields == NULL)
        return false;
    return (fields->secret != NULL && kb_secret_len(fields->secret) > 0 &&
            strstr(text, kb_secret_view(fields->secret)) != NULL) ||
           (fields->token != NULL && kb_secret_len(fields->token) > 0 &&
            strstr(text, kb_secret_view(fields->token)) != NULL);
}

/* "403 AccessDenied: Access Denied." */
static char *said(const kb_http_response *response, const kb_s3_error *error, const kb_s3_context *context)
{
    bool hide = holds_secret(error->message, context->cred) || holds_secret(error->code, context->cred);
    if (hide || error->code[0] == '\0')
        return kb_asprintf("%d", response->status);
    return kb_asprintf("%d %s%s%s", response->status, error->code, error->message[0] != '\0' ? ": " : "",
                       error->message);
}

static const char *denied_hint(const kb_s3_error *error, const kb_s3_context *context)
{
    if (strcmp(error->code, "SignatureDoesNotMatch") == 0)
        return "the secret key does not belong to the access key id, or the region is not the endpoint's";
    if (strcmp(error->code, "InvalidAccessKeyId") == 0)
        return "the access key id is not known there";
    if (strncmp(error->code, "Expired", 7) == 0 || strncmp(error->code, "InvalidToken", 12) == 0 ||
        strcmp(error->code, "TokenRefreshRequired") == 0)
        return "renew the session token";
    if (strcmp(context->verb, "GetObject") == 0 || strcmp(context->verb, "HeadObject") == 0)
        return "s3:GetObject is needed, and s3:ListBucket: without it a missing object is answered with 403, "
               "too";
    return NULL;
}

static void fail_denied(const kb_s3_error *error, const kb_s3_context *context, const char *text,
                        kb_error *err)
{
    const char *source = context->cred != NULL ? kb_cred_view(context->cred)->source : NULL;
    const char *hint = denied_hint(error, context);
    KB_AUTOFREE char *grant = kb_asprintf("grant s3:%s", context->verb);
    (void)kb_fail(err, KB_STORAGE_ACCESS_DENIED,
                  "Access denied to S3 bucket '%s': %s of %s at %s with credentials from %s: %s; hint: %s",
                  context->bucket, context->verb, context->what, context->endpoint,
                  source != NULL ? source : "nowhere", text, hint != NULL ? hint : grant);
}

static void fail_region(const kb_http_response *response, const kb_s3_error *error,
                        const kb_s3_context *context, const char *text, kb_error *err)
{
    const char *told = kb_http_response_header(response, "x-amz-bucket-region");
    if (told == NULL && error->region[0] != '\0')
        told = error->region;
    (void)kb_fail(
        err, KB_CONFIG_INVALID,
        "S3 bucket '%s' is not served by %s in region '%s': %s of %s: %s; hint: set storage.region%s%s, "
        "or storage.endpoint",
        context->bucket, context->endpoint, context->region, context->verb, context->what, text,
        told != NULL ? ": " : "", told != NULL ? told : "");
}

static void fail_clock(const kb_http_response *response, const kb_s3_context *context, const char *text,
                       kb_error *err)
{
    const char *date = kb_http_response_header(response, "Date");
    int64_t server_ms = 0, off_s = 0;
    if (date != NULL && kb_http_parse_date(date, &server_ms))
        off_s = (server_ms - context->now_ms) / 1000;
    (void)kb_fail(
        err, KB_CONFIG_INVALID,
        "S3 bucket '%s' at %s: %s of %s: %s; the server's clock is %lld s ahead of this machine's; hint: "
        "set the clock",
        context->bucket, context->endpoint, context->verb, context->what, text, (long long)off_s);
}

static kb_http_verdict fail_fatal(kb_code code, const kb_s3_context *context, const char *text,
                                  const char *hint, kb_error *err)
{
    (void)kb_fail(err, code, "S3 bucket '%s' at %s: %s of %s: %s%s%s", context->bucket, context->endpoint,
                  context->verb, context->what, text, hint != NULL ? "; hint: " : "",
                  hint != NULL ? hint : "");
    return KB_HTTP_FATAL;
}

static kb_http_verdict answer(kb_code code, const kb_s3_context *context, const char *text, kb_error *err)
{
    (void)kb_fail(err, code, "%s of %s: %s", context->verb, context->what, text);
    return KB_HTTP_ANSWER;
}

kb_http_verdict kb_s3_judge(const kb_http_response *response, const kb_s3_error *error,
                            const kb_s3_context *context, kb_error *err)
{
    KB_AUTOFREE char *text = said(response, error, context);
    if (response->status == 412)
        return answer(KB_ERR_EXISTS, context, text, err);
    switch (classify(response, error, context)) {
    case KB_S3_TRANSIENT:
        (void)kb_fail_retryable(err, KB_STORAGE_UNREACHABLE, "%s of %s at %s: %s", context->verb,
                                context->what, context->endpoint, text);
        return KB_HTTP_TRANSIENT;
    case KB_S3_CREDENTIALS:
        fail_denied(error, context, text, err);
        return KB_HTTP_EXPIRED;
    case KB_S3_DENIED:
        fail_denied(error, context, text, err);
        return KB_HTTP_FATAL;
    case KB_S3_CLOCK:
        fail_clock(response, context, text, err);
        return KB_HTTP_SKEWED;
    case KB_S3_REGION:
        fail_region(response, error, context, text, err);
        return KB_HTTP_FATAL;
    case KB_S3_ABSENT:
        return answer(KB_ERR_NOT_FOUND, context, text, err);
    case KB_S3_UNSUPPORTED:
        return answer(KB_ERR_UNSUPPORTED, context, text, err);
    case KB_S3_BUCKET:
        return fail_fatal(KB_CONFIG_INVALID, context, text, "storage.bucket and storage.endpoint name it",
                          err);
    case KB_S3_FULL:
        return fail_fatal(KB_STORAGE_FULL, context, text, NULL, err);
    case KB_S3_BY_STATUS:
        break;
    }
    return fail_fatal(KB_CONFIG_INVALID, context, text, NULL, err);
}

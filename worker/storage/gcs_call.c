#include "worker/storage/gcs_call.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/crypto_mac.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "worker/storage/gcs_json.h"
#include "worker/storage/object_page.h"

#define KB_URL_MAX_BYTES ((size_t)64 * 1024)
#define KB_LOOK_BYTES ((size_t)1024 * 1024)

/* A call on its way. */
typedef struct run {
    const kb_gcs_call *call;
    char *what; /* "GET gs://bucket/object" */
    char *url;
    kb_cred *used;
} run;

static void run_done(run *r)
{
    free(r->what);
    free(r->url);
    kb_cred_unref(r->used);
}

void kb_gcs_bucket_done(kb_gcs_bucket *bucket)
{
    kb_cred_provider_free(bucket->creds);
    kb_store_net_free(bucket->net);
    free(bucket->name);
    free(bucket->endpoint);
    free(bucket->project);
}

/* ---- refusals ---- */

static bool is_one_of(const char *reason, const char *const *reasons, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(reason, reasons[i]) == 0)
            return true;
    }
    return false;
}
#define IS_ONE_OF(reason, list) is_one_of((reason), (list), KB_ARRAY_LEN(list))

static bool is_expected(kb_gcs_purpose purpose, int status, const char *reason)
{
    static const char *const held[] = {"retentionPolicyNotMet", "objectUnderActiveHold", "conditionNotMet",
                                       "objectRetentionNotMet", "objectUnderRetention"};
    switch (purpose) {
    case KB_GCS_READ:
        return status == 404 || status == 416;
    case KB_GCS_CREATE:
        return status == 412;
    case KB_GCS_REMOVE:
        return status == 404 || ((status == 403 || status == 412) && IS_ONE_OF(reason, held));
    case KB_GCS_LOOK:
        break;
    }
    return false;
}

static const char *hint_for(int status, const char *reason)
{
    static const char *const payer[] = {"userProjectMissing", "requesterPays"};
    if (IS_ONE_OF(reason, payer))
        return "the requester pays: set GOOGLE_CLOUD_PROJECT to the project that shall pay";
    if (status == 401)
        return "check the service account's key or federation, and the clock";
    if (status == 403)
        return "give the identity the role Storage Object Admin on the bucket (list permission is needed, "
               "too), and check perimeters and billing";
    if (status >= 300 && status < 400)
        return "redirects are not followed: check the endpoint";
    return "check bucket, prefix and endpoint";
}

static kb_code fail_no_bucket(const kb_gcs_bucket *bucket, kb_error *err)
{
    return kb_fail(err, KB_CONFIG_INVALID,
                   "there is no bucket '%s' in Google Cloud Storage; hint: check bucket, or create it",
                   bucket->name);
}

static void describe_refusal(const run *r, int status, const char *reason, kb_error *err)
{
    const kb_gcs_call *call = r->call;
    bool is_access = status == 401 || status == 403;
    bool is_object = call->object != NULL;
    if (status == 404) {
        (void)fail_no_bucket(call->bucket, err);
        return;
    }
    (void)kb_fail(err, is_access ? KB_STORAGE_ACCESS_DENIED : KB_CONFIG_INVALID,
                  "%s GCS bucket '%s': cannot %s %s%s%s: %d%s%s; hint: %s",
                  is_access ? "Access denied to" : "Refused by", call->bucket->name, call->verb,
                  is_object ? "'" : "", is_object ? call->object : "it", is_object ? "'" : "", status,
                  reason[0] != '\0' ? " " : "", reason, hint_for(status, reason));
}

/* ---- judging ---- */

static void note_answer(kb_gcs_bucket *bucket, const kb_http_response *response)
{
    const char *date = kb_http_response_header(response, "Date");
    int64_t server_ms = 0;
    if (date == NULL || !kb_http_parse_date(date, &server_ms))
        return;
    /* Dates are whole seconds, cut. */
    atomic_store(&bucket->server_ahead, server_ms + 500 - kb_clock_wall_ms());
    atomic_store(&bucket->has_answered, true);
}

/* x-goog-hash: crc32c=...,md5=... of the whole object. */
static bool is_damaged(const kb_http_response *response)
{
    char md5[KB_MD5_TEXT_SIZE];
    const char *hashes = kb_http_response_header(response, "x-goog-hash");
    const char *told = hashes != NULL ? strstr(hashes, "md5=") : NULL;
    if (response->status != 200 || told == NULL || response->body == NULL ||
        response->received != response->body_len)
        return false;
    kb_md5_text(response->body, response->body_len, md5);
    return strncmp(told + 4, md5, strlen(md5)) != 0;
}

static bool asks_for_project(const run *r, const kb_http_response *response, const char *reason)
{
    static const char *const reasons[] = {"required", "userProjectMissing", "requesterPays"};
    kb_gcs_bucket *bucket = r->call->bucket;
    if (response->status != 400 || bucket->project == NULL || !IS_ONE_OF(reason, reasons))
        return false;
    return !atomic_exchange(&bucket->sends_project, true);
}

static kb_http_verdict judge(void *ctx, const kb_http_attempt *attempt, const kb_http_response *response,
                             kb_error *err)
{
    static const char *const rates[] = {"rateLimitExceeded", "userRateLimitExceeded", "backendError"};
    const run *r = ctx;
    char reason[KB_GCS_REASON_SIZE] = "";
    (void)attempt;
    note_answer(r->call->bucket, response);
    kb_http_verdict verdict = kb_http_judge_status(response->status);
    if (verdict != KB_HTTP_ANSWER)
        kb_gcs_reason(kb_view_of(response->body, response->body_len), reason);
    if (verdict == KB_HTTP_ANSWER && !is_damaged(response)) {
        atomic_store(&r->call->bucket->is_there, true);
        return verdict;
    }
    if (verdict == KB_HTTP_ANSWER) {
        (void)kb_fail_retryable(err, KB_STORAGE_UNREACHABLE, "%s: bytes were damaged on the way (MD5)",
                                r->what);
        return KB_HTTP_TRANSIENT;
    }
    if (verdict == KB_HTTP_TRANSIENT || (response->status == 403 && IS_ONE_OF(reason, rates)) ||
        asks_for_project(r, response, reason)) {
        (void)kb_fail_retryable(err, KB_STORAGE_UNREACHABLE, "%s: %d %s", r->what, response->status, reason);
        return KB_HTTP_TRANSIENT;
    }
    if (is_expected(r->call->purpose, response->status, reason))
        return KB_HTTP_ANSWER;
    describe_refusal(r, response->status, reason, err);
    return response->status == 401 ? KB_HTTP_EXPIRED : KB_HTTP_FATAL;
}

/* ---- running ---- */

static kb_code prepare(void *ctx, const kb_http_attempt *attempt, kb_http_request *request,
                       kb_http_headers *headers, kb_error *err)
{
    run *r = ctx;
    kb_gcs_bucket *bucket = r->call->bucket;
    (void)attempt, (void)request;
    kb_cred_unref(r->used);
    r->used = NULL;
    kb_code code = kb_cred_get(bucket->creds, &r->used, err);
    if (code != KB_OK)
        return code;
    KB_AUTOFREE char *bearer = kb_asprintf("Bearer %s", kb_secret_view(kb_cred_view(r->used)->token));
    kb_http_headers_set(headers, "Authorization", bearer);
    kb_wipe(bearer, strlen(bearer));
    if (r->call->content_type != NULL)
        kb_http_headers_set(headers, "Content-Type", r->call->content_type);
    if (atomic_load(&bucket->sends_project))
        kb_http_headers_set(headers, "x-goog-user-project", bucket->project);
    return KB_OK;
}

static kb_code renew(void *ctx, kb_error *err)
{
    const run *r = ctx;
    (void)err;
    kb_cred_refused(r->call->bucket->creds, r->used);
    return KB_OK;
}

static kb_code run_init(run *r, const kb_gcs_call *call, kb_http_call *ret_http_call, kb_error *err)
{
    const kb_gcs_bucket *bucket = call->bucket;
    KB_AUTO_STRBUF(url, KB_URL_MAX_BYTES);
    kb_strbuf_appendf(&url, "%s%s/storage/v1/b/", bucket->endpoint, call->is_upload ? "/upload" : "");
    kb_url_append(&url, bucket->name, "");
    if (call->is_upload || call->object != NULL || call->is_collection)
        kb_strbuf_appends(&url, "/o");
    if (!call->is_upload && call->object != NULL) {
        kb_strbuf_appendc(&url, '/');
        kb_url_append(&url, call->object, "");
    }
    if (call->query != NULL)
        kb_strbuf_appendf(&url, "?%s", call->query);
    kb_code code = kb_strbuf_check(&url, "the URL of an object", err);
    if (code != KB_OK)
        return code;
    r->url = kb_strbuf_take(&url);
    r->what = kb_asprintf("%s gs://%s%s%s", call->method, bucket->name, call->object != NULL ? "/" : "",
                          call->object != NULL ? call->object : "");
    *ret_http_call = (kb_http_call){
        .what = r->what,
        .request = {.method = call->method,
                    .url = r->url,
                    .body = call->body,
                    .body_count = call->body_count,
                    .max_body_bytes = call->max_body_bytes},
        .ctx = r,
        .prepare = prepare,
        .judge = judge,
        .renew = renew,
    };
    return KB_OK;
}

kb_code kb_gcs_call_run(const kb_gcs_call *call, kb_http_response *response, kb_http_attempt *ret_attempt,
                        kb_error *err)
{
    KB_CLEANUP(run_done) run r = {.call = call};
    kb_http_call http_call;
    kb_code code = run_init(&r, call, &http_call, err);
    if (code == KB_OK)
        code = kb_http_retry_run(call->bucket->net->store, &http_call, response, ret_attempt, err);
    return code;
}

kb_code kb_gcs_call_range(const kb_gcs_call *call, uint64_t offset, void *to, size_t len,
                          kb_http_response *response, kb_error *err)
{
    KB_CLEANUP(run_done) run r = {.call = call};
    kb_http_call http_call;
    kb_code code = run_init(&r, call, &http_call, err);
    if (code == KB_OK)
        code = kb_http_retry_get_range(call->bucket->net->store, &http_call, offset, to, len, response, NULL,
                                       err);
    return code;
}

kb_code kb_gcs_check_bucket(kb_gcs_bucket *bucket, kb_error *err)
{
    if (atomic_load(&bucket->is_there))
        return KB_OK;
    KB_AUTO_RESPONSE(response);
    const kb_gcs_call call = {
        .bucket = bucket,
        .purpose = KB_GCS_LOOK,
        .verb = "list",
        .method = "GET",
        .is_collection = true,
        .query = "maxResults=1&fields=kind",
        .max_body_bytes = KB_LOOK_BYTES,
    };
    return kb_gcs_call_run(&call, &response, NULL, err);
}

#include "worker/storage/azure_call.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto_mac.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "worker/storage/object_page.h"

#define KB_URL_MAX_BYTES ((size_t)64 * 1024)
#define KB_ERROR_CODE_MAX 64
/* The service refuses dates that are more than 15 minutes off. */
#define KB_SKEW_MS (14 * 60 * 1000)

/* A call on its way. */
typedef struct run {
    const kb_azure_call *call;
    char *what;       /* "GET azure://account/container/blob" */
    char *url;        /* without credentials */
    char *signed_url; /* with a SAS; a secret */
    kb_cred *used;
} run;

static void run_done(run *r)
{
    free(r->what);
    free(r->url);
    if (r->signed_url != NULL)
        kb_wipe(r->signed_url, strlen(r->signed_url));
    free(r->signed_url);
    kb_cred_unref(r->used);
}

void kb_azure_container_done(kb_azure_container *container)
{
    kb_azure_auth_free(container->auth);
    kb_store_net_free(container->net);
    free(container->name);
    free(container->url);
}

/* ---- refusals ---- */

const char *kb_azure_error_code(const kb_http_response *response)
{
    const char *code = kb_http_response_header(response, "x-ms-error-code");
    size_t len = code != NULL ? strlen(code) : 0;
    if (len == 0 || len > KB_ERROR_CODE_MAX)
        return "";
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)code[i]))
            return "";
    }
    return code;
}

static bool is_one_of(const char *code, const char *const *codes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(code, codes[i]) == 0)
            return true;
    }
    return false;
}
#define IS_ONE_OF(code, list) is_one_of((code), (list), KB_ARRAY_LEN(list))

/* Whether a status other than success is one that the purpose expects. */
static bool is_expected(kb_azure_purpose purpose, int status, const char *code)
{
    static const char *const absent[] = {"BlobNotFound", "ResourceNotFound"};
    /* A taken name is also told by what protects its blob, and to those who may only create, by 403. */
    static const char *const taken[] = {
        "BlobAlreadyExists",     "BlobImmutableDueToPolicy", "UnauthorizedBlobOverwrite", "ConditionNotMet",
        "TargetConditionNotMet", "LeaseIdMissing",           "InvalidBlockList",          "BlobArchived"};
    static const char *const held[] = {"BlobImmutableDueToPolicy", "LeaseIdMissing", "SnapshotsPresent",
                                       "ConditionNotMet", "PendingCopyOperation"};
    switch (purpose) {
    case KB_AZURE_READ:
        return status == 416 || (status == 404 && IS_ONE_OF(code, absent));
    case KB_AZURE_CREATE:
        return (status == 400 || status == 403 || status == 409 || status == 412) && IS_ONE_OF(code, taken);
    case KB_AZURE_REMOVE:
        return (status == 404 && IS_ONE_OF(code, absent)) ||
               ((status == 409 || status == 412) && IS_ONE_OF(code, held));
    case KB_AZURE_LOOK:
        break;
    }
    return false;
}

static const char *hint_for(int status, const char *code)
{
    static const char *const network[] = {"AuthorizationFailure", "AuthorizationSourceIPMismatch",
                                          "AuthorizationProtocolMismatch", "PublicAccessNotPermitted"};
    static const char *const key[] = {"KeyBasedAuthenticationNotPermitted", "AuthenticationFailed",
                                      "InvalidAuthenticationInfo"};
    if (IS_ONE_OF(code, key))
        return "check the key, token or SAS, its end, the account name and the clock";
    if (IS_ONE_OF(code, network))
        return "check the role or SAS, and the network rules of the storage account";
    if (status == 401 || status == 403)
        return "give the identity the role Storage Blob Data Contributor on the container; a SAS needs "
               "the permissions rcwdl";
    if (status >= 300 && status < 400)
        return "redirects are not followed: check the endpoint";
    return "check account_name, container_name and endpoint";
}

static void describe_refusal(const run *r, int status, const char *code, kb_error *err)
{
    const kb_azure_call *call = r->call;
    const kb_azure_container *container = call->container;
    bool is_access = status == 401 || status == 403;
    if (strcmp(code, "ContainerNotFound") == 0) {
        (void)kb_fail(err, KB_CONFIG_INVALID,
                      "there is no container '%s' in Azure account '%s'; hint: check container_name and "
                      "account_name, or create it",
                      container->name, kb_azure_auth_account(container->auth));
        return;
    }
    (void)kb_fail(err, is_access ? KB_STORAGE_ACCESS_DENIED : KB_CONFIG_INVALID,
                  "%s Azure container '%s': cannot %s %s%s%s in account '%s': %d%s%s; hint: %s",
                  is_access ? "Access denied to" : "Refused by", container->name, call->verb,
                  call->blob != NULL ? "'" : "", call->blob != NULL ? call->blob : "it",
                  call->blob != NULL ? "'" : "", kb_azure_auth_account(container->auth), status,
                  code[0] != '\0' ? " " : "", code, hint_for(status, code));
}

/* ---- judging ---- */

static void note_clock(kb_azure_container *container, const kb_http_response *response)
{
    const char *date = kb_http_response_header(response, "Date");
    int64_t server_ms = 0;
    if (date == NULL || !kb_http_parse_date(date, &server_ms))
        return;
    /* Dates are whole seconds, cut. */
    atomic_store(&container->server_ahead, server_ms + 500 - kb_clock_wall_ms());
    atomic_store(&container->has_answered, true);
}

static bool is_skewed(const kb_azure_container *container)
{
    int64_t off = atomic_load(&container->server_ahead) - atomic_load(&container->signs_ahead);
    return off > KB_SKEW_MS || off < -KB_SKEW_MS;
}

static bool is_damaged(const kb_http_response *response)
{
    char md5[KB_MD5_TEXT_SIZE];
    const char *told = kb_http_response_header(response, "Content-MD5");
    if (response->status != 200 || told == NULL || response->body == NULL || response->body_len == 0 ||
        response->received != response->body_len)
        return false;
    kb_md5_text(response->body, response->body_len, md5);
    return strcmp(md5, told) != 0;
}

static kb_http_verdict judge_credentials(const run *r, const kb_http_response *response, const char *code,
                                         kb_error *err)
{
    kb_azure_container *container = r->call->container;
    describe_refusal(r, response->status, code, err);
    int64_t end_ms = r->used != NULL ? kb_cred_view(r->used)->expires_ms : 0;
    bool is_ending = end_ms > 0 && kb_clock_wall_ms() > end_ms - KB_CRED_RENEW_BEFORE_MS;
    bool is_doubt = is_ending || response->status == 401 || strcmp(code, "AuthenticationFailed") == 0 ||
                    strcmp(code, "InvalidAuthenticationInfo") == 0;
    if (!is_doubt)
        return KB_HTTP_FATAL;
    if (!is_skewed(container))
        return KB_HTTP_EXPIRED;
    (void)kb_wrap_as(err, KB_CONFIG_INVALID, "the clocks are %lld s apart",
                     (long long)(atomic_load(&container->server_ahead) / 1000));
    return KB_HTTP_SKEWED;
}

static kb_http_verdict judge(void *ctx, const kb_http_attempt *attempt, const kb_http_response *response,
                             kb_error *err)
{
    const run *r = ctx;
    const char *code = kb_azure_error_code(response);
    (void)attempt;
    note_clock(r->call->container, response);
    kb_http_verdict verdict = kb_http_judge_status(response->status);
    if (verdict == KB_HTTP_ANSWER && !is_damaged(response))
        return verdict;
    if (verdict == KB_HTTP_ANSWER || strcmp(code, "Md5Mismatch") == 0) {
        (void)kb_fail_retryable(err, KB_STORAGE_UNREACHABLE, "%s: bytes were damaged on the way (MD5)",
                                r->what);
        return KB_HTTP_TRANSIENT;
    }
    if (verdict == KB_HTTP_TRANSIENT) {
        (void)kb_fail_retryable(err, KB_STORAGE_UNREACHABLE, "%s: %d %s", r->what, response->status, code);
        return verdict;
    }
    if (is_expected(r->call->purpose, response->status, code))
        return KB_HTTP_ANSWER;
    if (response->status == 401 || response->status == 403 || strcmp(code, "InvalidAuthenticationInfo") == 0)
        return judge_credentials(r, response, code, err);
    describe_refusal(r, response->status, code, err);
    return KB_HTTP_FATAL;
}

/* ---- running ---- */

static kb_code prepare(void *ctx, const kb_http_attempt *attempt, kb_http_request *request,
                       kb_http_headers *headers, kb_error *err)
{
    run *r = ctx;
    kb_azure_container *container = r->call->container;
    (void)attempt;
    kb_cred_unref(r->used);
    r->used = NULL;
    kb_code code = kb_cred_get(kb_azure_auth_provider(container->auth), &r->used, err);
    if (code != KB_OK)
        return code;
    const kb_http_headers *own = &r->call->headers;
    for (size_t i = 0; i < own->count; i++)
        kb_http_headers_set(headers, own->items[i].name, own->items[i].value);
    if (r->signed_url != NULL)
        kb_wipe(r->signed_url, strlen(r->signed_url));
    free(KB_TAKE(r->signed_url));
    request->url = r->url;
    return kb_azure_authorize(container->auth, r->used,
                              kb_clock_wall_ms() + atomic_load(&container->signs_ahead), request, headers,
                              &r->signed_url, err);
}

static kb_code renew(void *ctx, kb_error *err)
{
    const run *r = ctx;
    (void)err;
    kb_cred_refused(kb_azure_auth_provider(r->call->container->auth), r->used);
    return KB_OK;
}

static void correct_clock(void *ctx, int64_t offset_ms)
{
    const run *r = ctx;
    atomic_store(&r->call->container->signs_ahead, offset_ms);
}

static kb_code run_init(run *r, const kb_azure_call *call, kb_http_call *ret_http_call, kb_error *err)
{
    const kb_azure_container *container = call->container;
    KB_AUTO_STRBUF(url, KB_URL_MAX_BYTES);
    kb_strbuf_appends(&url, container->url);
    if (call->blob != NULL) {
        kb_strbuf_appendc(&url, '/');
        kb_url_append(&url, call->blob, "/");
    }
    if (call->query != NULL)
        kb_strbuf_appendf(&url, "?%s", call->query);
    kb_code code = kb_strbuf_check(&url, "the URL of a blob", err);
    if (code != KB_OK)
        return code;
    *r = (run){.call = call, .url = kb_strbuf_take(&url)};
    r->what =
        kb_asprintf("%s azure://%s/%s%s%s", call->method, kb_azure_auth_account(container->auth),
                    container->name, call->blob != NULL ? "/" : "", call->blob != NULL ? call->blob : "");
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
        .correct_clock = correct_clock,
    };
    return KB_OK;
}

kb_code kb_azure_call_run(const kb_azure_call *call, kb_http_response *response, kb_http_attempt *ret_attempt,
                          kb_error *err)
{
    KB_CLEANUP(run_done) run r = {.call = call};
    kb_http_call http_call;
    kb_code code = run_init(&r, call, &http_call, err);
    if (code == KB_OK)
        code = kb_http_retry_run(call->container->net->store, &http_call, response, ret_attempt, err);
    return code;
}

kb_code kb_azure_call_range(const kb_azure_call *call, uint64_t offset, void *to, size_t len,
                            kb_http_response *response, kb_error *err)
{
    KB_CLEANUP(run_done) run r = {.call = call};
    kb_http_call http_call;
    kb_code code = run_init(&r, call, &http_call, err);
    if (code == KB_OK)
        code = kb_http_retry_get_range(call->container->net->store, &http_call, offset, to, len, response,
                                       NULL, err);
    return code;
}
